"""What is measured of each cell, and the rule of two and a half minutes and twice."""

import subprocess
import sys
import types

import build_notebooks as build
import cell_times
import nbformat
import psutil
import pytest
from cell_times import Cell

SOURCE = """# burns half a second
import time
end = time.process_time() + 0.5
while time.process_time() < end:
    pass"""


def test_a_watch_tells_work_from_waiting():
    cells = [nbformat.v4.new_code_cell(s) for s in (SOURCE, "import time\ntime.sleep(0.5)")]
    _, (worked, waited) = build.execute(nbformat.v4.new_notebook(cells=cells), build.ROOT)
    assert (worked.number, waited.number) == (0, 1) and worked.source == "# burns half a second"
    assert worked.seconds >= 0.5 and 0.45 < worked.processor < 1
    assert waited.seconds >= 0.5 and waited.processor < 0.45


def test_what_is_kept_is_read_back_and_the_slowest_come_first(tmp_path, monkeypatch):
    monkeypatch.setattr(cell_times, "KEPT", tmp_path / "build")
    assert cell_times.slowest(["01_x"]) == "No chapter has been built here: make notebooks"
    first = [Cell(1, 2.0, 1.5, 'print("a, b")'), Cell(3, 9.0, 0.5, "wait()")]
    cell_times.keep("01_x", first)
    cell_times.keep("02_y", [Cell(7, 4.0, 4.0, "work()")])
    assert cell_times.kept("01_x") == first
    lines = cell_times.slowest(["01_x", "02_y", "03_z"], shown=2).splitlines()
    assert [line.split("  ")[-1] for line in lines[1:]] == [
        "02_y, cell 7: work()", '01_x, cell 1: print("a, b")', "01_x, all 2 cells",
        "02_y, all 1 cells"]
    assert lines[3].split()[:2] == ["11.0", "2.0"]


@pytest.mark.parametrize(("alone", "beside", "words"), [
    (100, 190, ""), (151, 151, "more than 2.5 minutes"), (50, 101, "more than 2 times as long"),
    (160, 330, "more than 2.5 minutes, more than 2 times as long")])
def test_the_rule(alone, beside, words):
    said = cell_times.too_slow(alone, beside)
    assert said.startswith(words) and bool(said) == bool(words)


def test_the_core_is_given_back(monkeypatch):
    started = []

    class Noted(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            started.append(self)

    monkeypatch.setattr(cell_times.subprocess, "Popen", Noted)
    with pytest.raises(KeyError), cell_times.a_core_taken():
        assert started[0].poll() is None
        raise KeyError
    assert started[0].returncode is not None


def test_each_chapter_runs_alone_and_beside(monkeypatch, capsys):
    times, beside = iter([50.0, 60.0, 40.0, 90.0]), []

    def seconds_of(stem):
        beside.append((stem, bool(taken)))
        return next(times)

    taken = []

    class Taken:
        def __enter__(self):
            taken.append(1)

        def __exit__(self, *_):
            taken.pop()

    monkeypatch.setattr(cell_times, "seconds_of", seconds_of)
    monkeypatch.setattr(cell_times, "a_core_taken", Taken)
    monkeypatch.setattr(cell_times.sys, "argv", ["cell_times.py", "01_gan", "02_vae"])
    with pytest.raises(SystemExit) as end:
        cell_times.main()
    assert end.value.code
    assert beside == [("01_gan", False), ("01_gan", True), ("02_vae", False), ("02_vae", True)]
    _, first, second = capsys.readouterr().out.splitlines()
    assert first.split()[-1] == "1.20" and second.endswith("more than 2 times as long with a core "
                                                           "taken")


def test_it_gets_two_cores_or_says_that_it_has_more(monkeypatch):
    given = []
    monkeypatch.setattr(cell_times, "cores", lambda: 2 if given else 8)
    monkeypatch.setattr(cell_times.os, "sched_getaffinity", lambda pid: {3, 1, 7}, raising=False)
    monkeypatch.setattr(cell_times.os, "sched_setaffinity", lambda *a: given.append(a),
                        raising=False)
    assert cell_times.on_two_cores() == "" and given == [(0, [1, 3])]
    assert cell_times.on_two_cores() == "" and len(given) == 1
    given.clear()
    monkeypatch.delattr(cell_times.os, "sched_setaffinity")
    assert cell_times.on_two_cores().endswith("and this is measured on 8.")


def test_what_a_cell_starts_is_counted_too():
    code = "import time\nwhile time.process_time() < 1: pass"
    parent = subprocess.Popen([sys.executable, "-c", "import subprocess, sys\n"
                               f"subprocess.run([sys.executable, '-c', {code!r} + "
                               "'\\nprint(1, flush=True)\\ntime.sleep(60)'])"],
                              stdout=subprocess.PIPE)
    try:
        parent.stdout.readline()
        provisioner = types.SimpleNamespace(pid=parent.pid)
        client = types.SimpleNamespace(km=types.SimpleNamespace(provisioner=provisioner))
        assert 1 <= cell_times.of_kernel(client) < 3
    finally:
        for process in [*psutil.Process(parent.pid).children(), psutil.Process(parent.pid)]:
            process.kill()
        parent.wait()
        parent.stdout.close()
