import datetime
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from minigen import checks
from minigen.checks import board
from minigen.errors import say

ROOT = Path(__file__).parent.parent
BEFORE = {"00 start here": ["to_unit_range"]}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGEN_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def kept(home):
    return json.loads((home / "progress.json").read_bytes())


@pytest.mark.parametrize(
    "content",
    [
        b"{torn",
        b'{"00 start here": ["to_unit_range"],}',
        b"",
        b"\x00" * 50,
        b"\xff\xfe\x00",
        b"[]",
        b"5",
        b'{"00 start here": 5}',
        b'{"00 start here": [5]}',
        b"[" * 9999,
    ],
)
def test_a_damaged_file_is_moved_aside_under_the_date_and_said(home, content, capsys):
    (home / "progress.json").write_bytes(content)
    board.progress()
    assert (
        "cannot be read" in capsys.readouterr().out
        and (home / "progress.json").read_bytes() == content
    )
    note = board.record("01 GAN", "d_loss")
    aside = home / f"progress-{datetime.date.today().isoformat()}.json"
    assert (
        aside.name in note and aside.read_bytes() == content and kept(home)["01 GAN"] == ["d_loss"]
    )
    (home / "progress.json").write_bytes(content)  # and once more on the same day
    assert (
        f"{aside.stem}-2.json" in board.record("01 GAN", "d_loss") and aside.read_bytes() == content
    )


def test_of_a_file_that_is_wrong_in_one_place_the_rest_counts(home):
    (home / "progress.json").write_text(json.dumps(BEFORE | {"01 GAN": 5}))
    board.record("02 VAE", "bits")
    assert kept(home) == BEFORE | {"02 VAE": ["bits"]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_file_that_an_editor_stored_otherwise_is_read(home, encoding):
    (home / "progress.json").write_text(json.dumps(BEFORE), encoding=encoding)
    assert board.record("01 GAN", "d_loss") == "" and kept(home) == BEFORE | {"01 GAN": ["d_loss"]}


def test_an_unreadable_file_is_moved_aside(home):
    (home / "progress.json").mkdir()  # cannot be read, whoever one is
    (home / "progress.json" / "mine").write_text("x")
    assert "is kept as progress-" in board.record("01 GAN", "d_loss")
    assert len(list(home.glob("progress-*.json/mine"))) == 1 and kept(home) == {
        "01 GAN": ["d_loss"]
    }


def test_two_processes_lose_no_pass(home):
    code = (
        "import sys; from minigen.checks import board\n"
        "for k in range(60): assert board.record('chapter', f'{sys.argv[1]}-{k}') == ''"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, name], cwd=ROOT, env=os.environ)
        for name in "abc"
    ]
    assert [p.wait() for p in started] == [0, 0, 0]
    assert sorted(kept(home)["chapter"]) == sorted(
        f"{name}-{k}" for name in "abc" for k in range(60)
    )


def test_a_pass_that_stands_there_already_changes_nothing(home):
    board.record("01 GAN", "d_loss")
    before = (home / "progress.json").stat().st_mtime_ns
    assert (
        board.record("01 GAN", "d_loss") == ""
        and (home / "progress.json").stat().st_mtime_ns == before
    )


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("MINIGEN_HOME", "~/x")
    monkeypatch.chdir(tmp_path)
    board.record("01 GAN", "d_loss")
    assert (tmp_path / "x" / "progress.json").exists() and not (tmp_path / "~").exists()
    monkeypatch.setenv("MINIGEN_HOME", "")
    board.record("01 GAN", "d_loss")
    assert (tmp_path / ".minigen" / "progress.json").exists()


def test_where_nothing_can_be_kept_it_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("MINIGEN_HOME", str(tmp_path / "file" / "below"))
    assert (
        "Your progress could not be kept: a file stands where a folder is needed"
        in board.record("01 GAN", "d_loss")
    )
    monkeypatch.setenv("MINIGEN_HOME", str(tmp_path / ("x" * 300)))
    assert "could not be kept: the name is too long" in board.record("01 GAN", "d_loss")


def test_say_writes_what_the_terminal_has_not_as_escapes(tmp_path):
    with open(tmp_path / "out", "w", encoding="ascii") as f:
        say("16×16 ᾱ", f)
        say("\udce9", f)
    assert (tmp_path / "out").read_text() == "16\\xd716 \\u1fb1\n\\udce9\n"


def board_of(capsys, *chapter):
    board.progress(*chapter)
    return capsys.readouterr().out.splitlines()


def test_the_board_shows_what_was_passed(home, capsys):
    board.record("00 start here", "mean_face")
    lines = board_of(capsys, 0)
    assert lines[0].split() == ["00", "start", "here", "■□□□□□", "1", "of", "6"]
    assert lines[1].split() == ["·", "to_unit_range"]
    assert lines[2].split() == ["passed", "mean_face"]
    assert lines[7].startswith("01 GAN ")
    assert lines[7].index("0 of") == lines[0].index("1 of")  # in one column


def test_the_board_is_a_line_a_chapter_and_one_opened(home, capsys, monkeypatch):
    monkeypatch.setattr(board, "current", None)
    closed = board_of(capsys)
    assert len(closed) == 9 and [line[:2] for line in closed] == [f"0{k}" for k in range(9)]
    opened = board_of(capsys, 5)
    assert len(opened) == 9 + 8 and [line for line in opened if line[0] != " "] == closed
    assert opened[5] == closed[5] and opened[6].split() == ["·", "alpha_bar"]
    for name in ("05_ddpm", "05 DDPM", "5", "05"):
        assert board_of(capsys, name) == opened
    for wrong in (9, -1, "ddpm", "", "15_x", 55, 5.5):
        with pytest.raises(ValueError, match="chapter must be a number from 0 to 8"):
            board.progress(wrong)


def test_the_chapter_of_the_last_check_is_opened(home, capsys, monkeypatch):
    def g_loss(x):
        raise NotImplementedError

    monkeypatch.setattr(board, "current", None)
    checks.check(g_loss)
    capsys.readouterr()
    assert board_of(capsys) == board_of(capsys, 1)
    assert len(board_of(capsys, 2)) == 9 + 7  # another one, where it is named


def test_an_excursion_has_a_line_once_it_is_opened_or_begun(home, capsys, monkeypatch):
    monkeypatch.setattr(board, "current", None)
    closed = board_of(capsys)
    assert not [line for line in closed if line.startswith("x")]
    opened = board_of(capsys, "x1")
    names = checks.exercises()["x1 flows"]
    assert opened[:9] == closed and opened[9].split() == ["x1", "flows", "□" * 7, "0", "of", "7"]
    assert [line.split() for line in opened[10:]] == [["·", name] for name in names]
    assert names == [
        "log_of_density", "couple", "uncouple", "bits_of", "flow_loss", "euler", "heun"]
    for name in ("x1_flows", "x1 flows"):
        assert board_of(capsys, name) == opened
    assert board_of(capsys) == closed  # looking does not begin it
    board.record("x1 flows", "euler")
    begun = board_of(capsys)
    assert begun[:9] == closed and begun[9].split() == ["x1", "flows", "■□□□□□□", "1", "of", "7"]
    assert len(begun) == 10 and begun[9].index("1 of") == closed[0].index("0 of")
    assert ["passed", "euler"] in [line.split() for line in board_of(capsys, "x1")]
    assert len(board_of(capsys, 5)) == 9 + 8 + 1
    for wrong in ("x6", "x", "x11", "x1.5"):
        with pytest.raises(ValueError, match='from 0 to 8, or a name such as "05_ddpm" or "x1"'):
            board.progress(wrong)


def test_an_excursions_last_check_opens_it(home, capsys, monkeypatch):
    def heun(velocity, x1, steps):
        raise NotImplementedError

    monkeypatch.setattr(board, "current", None)
    checks.check(heun)
    assert capsys.readouterr().out == "heun: not attempted yet.\n"
    assert board_of(capsys) == board_of(capsys, "x1") and len(board_of(capsys)) == 9 + 8
