import errno
import os

import pytest

from minigen import disk
from minigen.errors import DataError


def test_what_another_process_holds_is_told_and_free_again_when_it_is_killed(
    tmp_path, held_by_another
):
    path = tmp_path / "lock"
    process = held_by_another(path)
    assert not disk.is_free(path)
    with pytest.raises(DataError, match="taken"), disk.held(path, "taken"):
        pass
    process.kill()
    process.wait()
    assert disk.is_free(path)
    with disk.held(path):
        assert not disk.is_free(path)
    assert disk.is_free(path)


@pytest.mark.parametrize("removes", [True, False])
def test_a_lock_that_is_to_go_goes_even_after_an_error(tmp_path, monkeypatch, removes):
    monkeypatch.setattr(disk, "REMOVES_OPEN_FILES", removes)
    with pytest.raises(ZeroDivisionError), disk.held(tmp_path / "lock", remove=True):
        assert not disk.is_free(tmp_path / "lock")
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_a_lock_whose_last_holder_removes_it_just_now_is_made_anew(tmp_path, monkeypatch):
    path, really, asked = tmp_path / "lock", disk.lock, []

    def lock(file):
        if not asked:
            path.unlink()
        asked.append(file)
        return really(file)

    monkeypatch.setattr(disk, "lock", lock)
    with disk.held(path):
        assert len(asked) == 2 and path.exists() and asked[0].closed and not asked[1].closed
    assert asked[1].closed


def test_a_disk_whose_files_have_no_lasting_number_is_waited_for_no_longer(tmp_path, monkeypatch):
    monkeypatch.setattr(disk.os.path, "samestat", lambda a, b: False)
    with disk.held(tmp_path / "lock", remove=True):
        assert not disk.is_free(tmp_path / "lock")
    assert not list(tmp_path.iterdir())


def test_leftovers_are_cleared_and_nothing_else(tmp_path):
    keep = [
        ".a.txt.short",
        ".b.txt.abcd1234",
        "a.txt.abcd1234",
        ".a.txt.minigen-abcd1234.more",
        ".a.txt.minigen-ABCD1234",
        ".a.txt.20251126",
        ".a.txt.original",
    ]
    for name in [*keep, ".a.txt.minigen-abcd1234", ".a.txt.minigen-___x0y_1"]:
        (tmp_path / name).write_text("x")
    (tmp_path / ".a.txt.minigen-dir_1234").mkdir()
    os.symlink(tmp_path / keep[0], tmp_path / ".a.txt.minigen-link1234")
    disk.clear_leftovers(tmp_path, "a.txt")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        [*keep, ".a.txt.minigen-dir_1234", ".a.txt.minigen-link1234"]
    )


def test_a_leftover_that_is_being_written_stays(tmp_path, held_by_another):
    held_by_another(tmp_path / ".a.txt.minigen-abcd1234")
    disk.clear_leftovers(tmp_path, "a.txt")
    assert (tmp_path / ".a.txt.minigen-abcd1234").exists()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "disk is full; make room"),
        (errno.EACCES, "permission denied; allow it"),
        (errno.ENAMETOOLONG, "too long; choose a shorter"),
        (errno.EISDIR, "a folder stands where a file"),
        (errno.ENOTDIR, "a file stands where a folder"),
        (errno.EIO, "Input/output error; choose another place"),
    ],
)
def test_an_error_of_the_system_in_one_sentence(number, words):
    sentence = disk.sentence_of(OSError(number, os.strerror(number), "some/file"))
    assert (
        "'some/file'" in sentence
        and words in sentence
        and sentence.endswith(".")
        and "\n" not in sentence
    )


def test_an_error_without_a_name_or_number():
    assert "A file could not be used: strange" in disk.sentence_of(OSError("strange"))
    assert "OSError" in disk.sentence_of(OSError())
