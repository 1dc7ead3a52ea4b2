import subprocess
import sys

import pytest

from minigen.__main__ import main
from tests.test_sources import make_folder


def test_prepare_prints_what_it_did(tmp_path, capsys):
    source = make_folder(tmp_path / "f", ["cat/1.png", "dog/1.png"])
    (source / "cat" / "x.txt").write_text("x")
    assert main(["prepare", str(source), "--size", "16", "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "skipped cat/x.txt: not an image" in out
    assert "2 images of 16×16" in out and "cat 1, dog 1; 1 files skipped; 2 were smaller and were enlarged." in out


@pytest.mark.parametrize(("arguments", "words"), [
    (["prepare", "nowhere", "--out", "x"], "There is no file or folder 'nowhere'"),
    (["prepare", ".", "--out", "x", "--size", "0"], "at least 8 pixels"),
])
def test_one_sentence_and_exit_code_2(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1 and not any(tmp_path.iterdir())


def test_as_a_module():
    done = subprocess.run([sys.executable, "-m", "minigen", "prepare", "nowhere", "--out", "x"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("minigen: ")
