import errno
import json
import sys
import types

import pytest

from minigen.engine import checkpoints, runs
from minigen.errors import DataError

CONFIG = dict(lr=0.1, seed=0, steps=5, out="a", data="b", device="cpu", save_every=2, keep=3)


def begun(out, **changes):
    """A folder with a checkpoint, as a training leaves it."""
    with runs.claimed(out, "line", CONFIG | changes, False):
        checkpoints.save(out, 1, dict(kind="line", run=runs.identity(CONFIG | changes, "line")))
    return out


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_places_and_rhythm_do_not_matter_and_settings_do():
    mine = runs.identity(CONFIG, "line")
    for same in (
        dict(out="x/../a"),
        dict(data="/elsewhere/b"),
        dict(device="cuda"),
        dict(save_every=9),
        dict(steps=7),
    ):
        assert runs.identity(CONFIG | same, "line") == mine
    for other_run in (dict(lr=0.2), dict(seed=1), dict(decay=True)):
        assert runs.identity(CONFIG | other_run, "line") != mine
    assert runs.identity(CONFIG | dict(decay=True), "line") != runs.identity(
        CONFIG | dict(decay=True, steps=7), "line"
    )


def test_a_moved_folder_goes_on_under_any_spelling(tmp_path, monkeypatch):
    begun(tmp_path / "a").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    for out in ("moved", "./moved/", tmp_path / "moved", "x/../moved"):
        (tmp_path / "x").mkdir(exist_ok=True)
        with runs.claimed(out, "line", CONFIG | dict(out=str(out)), True):
            pass


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(lr=0.2), r"trained with lr=0.1, not 0.2.*begin anew in another --out"),
        (dict(seed=1), "seed=0, not 1"),
        (dict(new=3), "new=None, not 3"),
    ],
)
def test_other_settings_are_refused(tmp_path, change, words):
    begun(tmp_path / "a")
    with pytest.raises(DataError, match=words):
        runs.check_folder(tmp_path / "a", "line", CONFIG | change, True)


@pytest.mark.parametrize("content", ["{torn", "[]", "null", "\0", "[" * 9999])
def test_an_unreadable_config_is_named(tmp_path, content):
    begun(tmp_path / "a")
    (tmp_path / "a" / "config.json").write_text(content)
    with pytest.raises(DataError, match=r"config.json' cannot be read"):
        runs.check_folder(tmp_path / "a", "line", CONFIG, True)


@pytest.mark.parametrize(
    "name", ["line.safetensors", "losses.csv", "samples-00000005.png", "failed_batch.json"]
)
def test_files_of_other_origin_are_not_replaced(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(DataError, match=f"holds '{name}' and no checkpoint"):
        runs.check_folder(tmp_path, "line", CONFIG, False)
    assert names(tmp_path) == [name]


def test_a_run_that_fails_before_it_has_anything_leaves_no_trace_and_the_corrected_one_begins(
    tmp_path,
):
    for out in (tmp_path / "new" / "run", tmp_path / "there"):
        if out.name == "there":
            out.mkdir()
        with pytest.raises(DataError), runs.claimed(out, "line", CONFIG, False):
            runs.Log(out)
            raise DataError("a wrong setting")
        assert not out.exists() if out.name == "run" else names(out) == []
        begun(out, lr=0.2)


def test_a_run_that_was_killed_before_its_first_checkpoint_can_be_corrected(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | dict(lr=99, kind="line")))
    (tmp_path / "losses.csv").write_text("step,loss\n1,2\n")
    begun(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["lr"] == 0.1


def test_two_processes_do_not_train_in_one_folder(tmp_path, request):
    begun(tmp_path)
    request.getfixturevalue("held_by_another")(tmp_path / runs.LOCK)
    with (
        pytest.raises(DataError, match="Another process is training in"),
        runs.claimed(tmp_path, "line", CONFIG, True),
    ):
        pass
    assert len(checkpoints.found(tmp_path)) == 1


def test_torn_rows_of_a_log_are_dropped(tmp_path):
    (tmp_path / "losses.csv").write_text(
        "step,loss,rate\n1,2,3\n2,,\n3,4,5,6\n4,5\nx,1,2\n5,6,7\n\0\n6,1"
    )
    log = runs.Log(tmp_path, 5)
    log.write(6, dict(loss=1.0, rate=2.0))
    assert (tmp_path / "losses.csv").read_text().split() == [
        "step,loss,rate",
        "1,2,3",
        "5,6,7",
        "6,1,2",
    ]


def test_rows_after_the_step_it_goes_on_from_are_forgotten_and_a_new_log_is_empty(tmp_path):
    (tmp_path / "losses.csv").write_text("step,loss\n1,2\n2,3\n3,4\n")
    runs.Log(tmp_path, 2)
    assert (tmp_path / "losses.csv").read_text().split() == ["step,loss", "1,2", "2,3"]
    runs.Log(tmp_path)
    assert (tmp_path / "losses.csv").read_text() == ""


def test_a_row_that_does_not_fit_on_the_disk_is_not_half_there(tmp_path, monkeypatch):
    log = runs.Log(tmp_path)
    log.write(1, dict(loss=1.0))
    before = log.path.read_bytes()

    class Full:
        """A file that takes three bytes more and no fourth."""

        def __init__(self, f):
            self.f, self.left = f, 3

        def __getattr__(self, name):
            return getattr(self.f, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.f.close()

        def write(self, data):
            if not self.left:
                raise OSError(errno.ENOSPC, "No space left on device")
            n, self.left = self.left, 0
            return self.f.write(data[:n])

    real = open
    monkeypatch.setattr(runs, "open", lambda *a, **k: Full(real(*a, **k)), raising=False)
    with pytest.raises(OSError, match="No space") as told:
        log.write(2, dict(loss=1.0))
    assert log.path.read_bytes() == before and told.value.filename == str(log.path)


def test_a_run_that_fails_after_it_has_rows_keeps_them(tmp_path):
    with pytest.raises(DataError), runs.claimed(tmp_path / "a", "line", CONFIG, False):
        runs.Log(tmp_path / "a").write(1, dict(loss=1.0))
        raise DataError("diverged")
    assert names(tmp_path / "a") == ["config.json", "losses.csv"]


def test_the_board_forgets_steps_after_the_one_it_goes_on_from(tmp_path, monkeypatch):
    told = []

    class Writer:
        def __init__(self, folder, purge_step):
            told.append((folder, purge_step))

        def add_scalar(self, *row):
            told.append(row)

    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    runs.Log(tmp_path, 4).write(5, dict(loss=2.0))
    assert told == [(str(tmp_path), 5), ("loss", 2.0, 5)]


@pytest.mark.parametrize(
    "content",
    ['{"model_type": "bert"}', "{}", "[]", "text", '{"kind": "other", "seed": 0, "steps": 1}'],
)
def test_a_config_of_somebody_elses_is_not_replaced(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    (tmp_path / "losses.csv").write_text("mine")
    with pytest.raises(DataError, match=r"config.json' is not of such a training"):
        runs.check_folder(tmp_path, "line", CONFIG, False)
    assert (tmp_path / "config.json").read_text() == content and (
        tmp_path / "losses.csv"
    ).read_text() == "mine"


def test_a_log_with_other_columns_is_named(tmp_path):
    (tmp_path / "losses.csv").write_text("step,mine\n1,2\n²,3\n")
    with pytest.raises(DataError, match="has the columns step, mine, not step, loss"):
        runs.Log(tmp_path, 5).write(6, dict(loss=1.0))
