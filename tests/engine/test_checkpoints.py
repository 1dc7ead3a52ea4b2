import errno
import hashlib
import io
import os

import pytest
import torch

from minigen.engine import checkpoints
from minigen.errors import DataError


def state(value, kind="test"):
    return dict(kind=kind, weights={"w": torch.full((3,), float(value))})


def test_saved_and_read_back_and_the_last_three_are_kept(tmp_path):
    for step in range(1, 6):
        checkpoints.save(tmp_path, step, state(step), keep=3)
    assert [s for s, _ in checkpoints.found(tmp_path)] == [3, 4, 5]
    got = checkpoints.latest(tmp_path, "test")
    assert got["step"] == 5 and torch.equal(got["weights"]["w"], torch.full((3,), 5.0))
    checkpoints.save(tmp_path, 6, state(6), keep=1)
    assert [s for s, _ in checkpoints.found(tmp_path)] == [6]


@pytest.mark.parametrize("harm", ["cut", "flip"])
def test_a_torn_checkpoint_is_named_and_the_one_before_is_used(tmp_path, harm, capsys):
    checkpoints.save(tmp_path, 1, state(1))
    path = checkpoints.save(tmp_path, 2, state(2))
    content = bytearray(path.read_bytes())
    if harm == "cut":
        content = content[: len(content) // 2]
    else:
        content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    assert checkpoints.latest(tmp_path, "test")["step"] == 1
    assert path.name in capsys.readouterr().out


def test_a_foreign_checkpoint_is_refused(tmp_path, capsys):
    checkpoints.save(tmp_path, 1, state(1))
    checkpoints.save(tmp_path, 2, state(2, kind="another"))
    assert checkpoints.latest(tmp_path, "test")["step"] == 1
    assert "belongs to 'another'" in capsys.readouterr().out
    assert checkpoints.latest(tmp_path, "third") is None


def test_nothing_that_runs_code_is_read(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, ("touch pwned",)

    path = checkpoints.save(tmp_path, 1, dict(kind="test", bad=Evil()))
    with pytest.raises(DataError, match=r"no checkpoint .UnpicklingError"):
        checkpoints.load(path)
    assert not os.path.exists("pwned")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_full_disk_leaves_the_last_one_whole(tmp_path, monkeypatch, number):
    first = checkpoints.save(tmp_path, 1, state(1))

    def full(handle):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(checkpoints.os, "fsync", full)
    reason = "disk is full" if number == errno.ENOSPC else "denied"
    with pytest.raises(DataError, match=f"step 2.*{reason}.*{first.name}"):
        checkpoints.save(tmp_path, 2, state(2))
    assert [p for _, p in checkpoints.found(tmp_path)] == [first] == list(tmp_path.iterdir())
    assert checkpoints.latest(tmp_path, "test")["step"] == 1


def test_a_crash_between_writing_and_renaming_leaves_the_one_before(tmp_path, monkeypatch):
    checkpoints.save(tmp_path, 1, state(1))

    def stopped(*a):
        raise KeyboardInterrupt

    monkeypatch.setattr("minigen.files.os.replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(tmp_path, 2, state(2))
    assert checkpoints.latest(tmp_path, "test")["step"] == 1


def test_what_a_killed_run_left_behind_is_cleared_away(tmp_path):
    (tmp_path / ".step-00000001.0123456789abcdef.pt.minigen-abcd_123").write_bytes(b"half")
    path = checkpoints.save(tmp_path, 2, state(2))
    assert list(tmp_path.iterdir()) == [path]


def planted(folder, step, content):
    """A well-named file with other content."""
    path = folder / f"step-{step:08d}.{hashlib.sha256(content).hexdigest()[:16]}.pt"
    path.write_bytes(content)
    return path


def pickled(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("content", [
    b"", b"text", pickled([1, 2]), pickled(torch.zeros(3)), pickled({"kind": "test"}),
    pickled({"kind": "test", "step": 3}), pickled(state(1))])
def test_a_well_named_file_of_another_kind_is_refused_and_the_one_before_used(
    tmp_path, content, capsys
):
    checkpoints.save(tmp_path, 1, state(1))
    path = planted(tmp_path, 2, content)
    assert checkpoints.latest(tmp_path, "test")["step"] == 1
    assert path.name in capsys.readouterr().out


def test_a_checkpoint_of_another_run_is_named_with_the_difference_and_not_deleted(tmp_path, capsys):
    ours, theirs = dict(lr=0.1, seed=0), dict(lr=0.1, seed=1)
    checkpoints.save(tmp_path, 1, state(1) | dict(run=ours))
    foreign = checkpoints.save(tmp_path, 2, state(2) | dict(run=theirs))
    without = checkpoints.save(tmp_path, 3, state(3))
    assert checkpoints.latest(tmp_path, "test", run=ours)["step"] == 1
    out = capsys.readouterr().out
    assert "another run: its seed is 1, here 0" in out and without.name in out
    for step in range(4, 8):
        checkpoints.save(tmp_path, step, state(step) | dict(run=ours), keep=2)
    assert [s for s, _ in checkpoints.found(tmp_path)] == [2, 3, 6, 7] and foreign.exists()


def test_keep_never_deletes_a_later_one(tmp_path):
    for step in (5, 6, 1, 2, 3):
        checkpoints.save(tmp_path, step, state(step), keep=2)
    assert [s for s, _ in checkpoints.found(tmp_path)] == [2, 3, 5, 6]


def test_three_are_kept_by_default_and_the_folder_is_flushed(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(checkpoints, "_flush_folder", flushed.append)
    for step in range(1, 6):
        checkpoints.save(tmp_path, step, state(step))
    assert [s for s, _ in checkpoints.found(tmp_path)] == [3, 4, 5] and flushed == [tmp_path] * 5


def test_files_of_the_user_stay(tmp_path):
    for name in (".step-notes", ".step-00000001.mine.pt.backup", "step-notes.pt"):
        (tmp_path / name).write_text("mine")
    checkpoints.save(tmp_path, 1, state(1), keep=1)
    checkpoints.save(tmp_path, 2, state(2), keep=1)
    assert len(list(tmp_path.iterdir())) == 4
