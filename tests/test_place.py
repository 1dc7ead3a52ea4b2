import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from minigen import disk
from minigen.data import PreparedImages, place, prepare
from minigen.errors import DataError
from tests.test_sources import make_folder


@pytest.fixture
def photos(tmp_path):
    return make_folder(tmp_path / "photos", ["a.png", "b.png"])


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def meanwhile(monkeypatch, act):
    """Do something between the writing and the renaming."""
    from minigen.data import preparing

    write = preparing._write
    monkeypatch.setattr(preparing, "_write", lambda *a: (write(*a), act())[0])


@pytest.mark.parametrize("what", ["folder with a file", "empty folder", "file", "link"])
def test_what_appears_meanwhile_is_left_alone(tmp_path, photos, monkeypatch, what):
    out = tmp_path / "out"

    def appear():
        if what == "file":
            out.write_text("mine")
        elif what == "link":
            os.symlink("nowhere", out)
        else:
            out.mkdir()
            if what != "empty folder":
                (out / "thesis.txt").write_text("mine")

    meanwhile(monkeypatch, appear)
    for overwrite in (False, True):
        with pytest.raises(
            DataError, match=r"'.*out' has appeared meanwhile|exists already|holds other things"
        ):
            prepare(photos, out, 16, overwrite=overwrite)
        assert os.path.lexists(out) and not (out / "images.npy").exists()
        assert what != "file" or out.read_text() == "mine"
        assert what != "folder with a file" or (out / "thesis.txt").read_text() == "mine"
    assert names(tmp_path) == ["out", "photos"]


def test_of_two_at_once_one_wins_and_the_other_is_told(tmp_path, photos):
    def run(k):
        try:
            return prepare(photos, tmp_path / "out", 16 + k)["size"]
        except DataError as e:
            return str(e)

    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(run, range(4)))
    (winner,) = [g for g in got if isinstance(g, int)]
    assert all("meanwhile" in g or "exists already" in g for g in got if isinstance(g, str))
    assert PreparedImages(tmp_path / "out").manifest["size"] == winner and names(tmp_path) == [
        "out",
        "photos",
    ]


def test_a_folder_is_not_cleared_by_another_run_before_it_is_held(tmp_path, photos, monkeypatch):
    """Between the making of its lock file and the lock another run may look for what is free."""
    out, lock = tmp_path / "out", disk.lock

    def looked_at_first(handle):
        monkeypatch.setattr(disk, "lock", lock)
        place._clear_killed(out)
        return lock(handle)

    monkeypatch.setattr(disk, "lock", looked_at_first)
    assert prepare(photos, out, 16)["size"] == 16
    assert names(tmp_path) == ["out", "photos"]


def test_what_was_killed_while_it_began_is_cleared_a_minute_later(tmp_path, photos):
    for name, age in (("aaaaaaaa", 3), ("bbbbbbbb", 90)):
        left = tmp_path / f".out{disk.MARK}{name}"
        left.mkdir()
        (left / place.EARLY).touch()
        os.utime(left, (time.time() - age,) * 2)
    prepare(photos, tmp_path / "out", 16)
    assert names(tmp_path) == [f".out{disk.MARK}aaaaaaaa", "out", "photos"]


@pytest.mark.parametrize("what", ["another file", "another set", "gone", "changed"])
def test_overwrite_replaces_only_what_stood_there_when_it_was_asked(
    tmp_path, photos, monkeypatch, what
):
    out = tmp_path / "out"
    prepare(photos, out, 16)

    def change():
        if what == "another file":
            (out / "thesis.txt").write_text("mine")
        elif what == "gone":
            out.rename(tmp_path / "elsewhere")
        elif what == "changed":
            (out / "manifest.json").write_text("{}")
        else:
            out.rename(tmp_path / "elsewhere")
            monkeypatch.undo()
            prepare(photos, out, 24)

    meanwhile(monkeypatch, change)
    with pytest.raises(DataError):
        prepare(photos, out, 32, overwrite=True)
    if what == "another set":
        assert PreparedImages(out).manifest["size"] == 24
    elif what == "gone":
        assert not out.exists() and PreparedImages(tmp_path / "elsewhere").manifest["size"] == 16
    else:
        assert (out / "images.npy").exists() and (
            what == "changed" or (out / "thesis.txt").read_text() == "mine"
        )
    assert not [n for n in names(tmp_path) if n.startswith(".")]


def test_a_file_that_comes_between_look_and_renaming_brings_the_folder_back(
    tmp_path, photos, monkeypatch
):
    out = tmp_path / "out"
    prepare(photos, out, 16)
    look, looks = place.only_ours, []

    def only_ours(folder):
        mark = look(folder)
        looks.append(folder)
        if len(looks) == 2:  # after the last look before the renaming
            (out / "thesis.txt").write_text("mine")
        return mark

    monkeypatch.setattr(place, "only_ours", only_ours)
    with pytest.raises(DataError):
        prepare(photos, out, 32, overwrite=True)
    kept = [p for p in tmp_path.rglob("thesis.txt")]
    assert (
        len(kept) == 1
        and kept[0].read_text() == "mine"
        and (kept[0].parent / "images.npy").exists()
    )


def test_a_folder_that_only_looks_prepared_is_not_overwritten(tmp_path, photos):
    own = tmp_path / "own"
    own.mkdir()
    (own / "images.npy").write_bytes(b"my own array")
    (own / "manifest.json").write_text('{"my": "own"}')
    with pytest.raises(DataError, match="not what prepare writes"):
        prepare(photos, own, 16, overwrite=True)
    assert (own / "images.npy").read_bytes() == b"my own array"


def test_what_killed_runs_left_is_cleared_by_the_next(tmp_path, photos, request):
    for k, inside in enumerate(
        (
            ["images.npy", place.HELD],
            [place.HELD, "images.npy", "manifest.json"],
            ["thesis.txt"],
            ["images.npy"],
        )
    ):
        left = tmp_path / f".out.minigen-left000{k}"
        left.mkdir()
        for name in inside:
            (left / name).write_text("x")
    alive = tmp_path / ".out.minigen-alive000"
    alive.mkdir()
    request.getfixturevalue("held_by_another")(alive / place.HELD)
    prepare(photos, tmp_path / "out", 16)
    assert names(tmp_path) == [
        ".out.minigen-alive000",
        ".out.minigen-left0002",
        ".out.minigen-left0003",
        "out",
        "photos",
    ]


def test_a_set_that_a_killed_run_had_put_aside_comes_back(tmp_path, photos):
    prepare(photos, tmp_path / "out", 16)
    aside = tmp_path / ".out.minigen-old-abcd1234"
    aside.mkdir()
    (tmp_path / "out").rename(aside / "out")
    with pytest.raises(DataError, match="exists already"):
        prepare(photos, tmp_path / "out", 32)
    assert PreparedImages(tmp_path / "out").manifest["size"] == 16 and names(tmp_path) == [
        "out",
        "photos",
    ]


def test_a_name_with_brackets_and_one_that_is_long(tmp_path, photos):
    for name in ("out[1]", "x" * 250):
        prepare(photos, tmp_path / name, 16)
        assert prepare(photos, tmp_path / name, 24, overwrite=True)["size"] == 24
    with pytest.raises(DataError, match="the name is too long; nothing was kept"):
        prepare(photos, tmp_path / ("x" * 300), 16)


def test_parents_that_were_made_go_where_nothing_was_written(tmp_path, photos):
    (photos / "a.png").write_text("no image")
    (photos / "b.png").write_text("no image")
    with pytest.raises(DataError, match="no readable image"):
        prepare(photos, tmp_path / "new" / "deep" / "out", 16)
    assert names(tmp_path) == ["photos"]
    with pytest.raises(DataError, match="a file stands where a folder is needed"):
        prepare(make_folder(tmp_path / "good", ["a.png"]), photos / "a.png" / "out", 16)


def test_what_is_being_made_lies_beside_its_place(tmp_path, photos, monkeypatch):
    """A renaming is possible on one disk only."""
    seen = []
    meanwhile(monkeypatch, lambda: seen.extend(names(tmp_path)))
    prepare(photos, tmp_path / "out", 16)
    assert [n.startswith(".out.") for n in seen] == [True, False] and seen[1] == "photos"
    assert oct((tmp_path / "out").stat().st_mode) == oct(
        (tmp_path / "photos").stat().st_mode
    )  # others may read it


def test_folders_of_somebody_elses_with_likely_names_stay(tmp_path, photos):
    for name, inside in (
        (".out.old.2019", "out/wedding.jpg"),
        (".out.mine", place.HELD),
        (".out.minigen-old-20191224", "out/wedding.jpg"),
    ):
        path = tmp_path / name / inside
        path.parent.mkdir(parents=True)
        path.write_text("precious")
    prepare(photos, tmp_path / "out", 16)
    assert (
        len(list(tmp_path.rglob("wedding.jpg"))) == 2
        and (tmp_path / ".out.mine" / place.HELD).exists()
    )


@pytest.mark.parametrize("moment", ["chmod", "rename"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_kill_at_any_moment_leaves_a_way_on(tmp_path, photos, monkeypatch, moment, overwrite):
    out = tmp_path / "out"
    if overwrite:
        prepare(photos, out, 16)
    code = (
        "import os, sys; from minigen.data import place, prepare\n"
        f"place.os.{moment} = lambda *a: os.kill(os.getpid(), 9)\n"
        "prepare(sys.argv[1], sys.argv[2], 24, overwrite=True)"
    )
    subprocess.run([sys.executable, "-c", code, str(photos), str(out)])
    assert prepare(photos, out, 32, overwrite=True)["size"] == 32
    assert names(tmp_path) == ["out", "photos"]


def test_the_folder_one_is_in_is_not_replaced(tmp_path, photos, monkeypatch):
    prepare(photos, tmp_path / "out", 16)
    monkeypatch.chdir(tmp_path / "out")
    for out in (".", "..", tmp_path / "out"):
        with pytest.raises(DataError, match="is the folder you are in, or holds it"):
            prepare(photos, out, 16, overwrite=True)
    assert names(tmp_path) == ["out", "photos"] and names(tmp_path / "out") == [
        "images.npy",
        "manifest.json",
    ]
