"""`make test` runs everything once, the longest first, and reports what went wrong."""

import sys
import threading
import time

import build_notebooks as build
import course
import pytest
import run_tests
from run_tests import Done, Job


def test_every_test_and_notebook_is_run_once():
    for workers in (1, 2, 4):
        todo = run_tests.jobs(workers, full=False)
        words = [w for job in todo for w in job.words]
        tests = [w for w in words if w.endswith(".py")]
        assert sorted(tests) == sorted(map(str, run_tests.unit_tests()))
        books = [w for w in words if w.endswith(".ipynb")]
        assert sorted(books) == sorted(f"notebooks/{stem}.ipynb" for stem in build.stems())
        assert [job.name for job in todo if job.words[0] != "pytest"] == ["lint", "types"]
        assert not any("slow" in w.split() for w in words)


def test_the_browsers_tests_are_run_elsewhere():
    names = {p.relative_to(run_tests.ROOT / "tests").parts[0] for p in run_tests.unit_tests()}
    assert "browser" not in names and {"engine", "paper", "site", "test_run_tests.py"} <= names


def test_all_of_it_is_the_slow_tests_and_the_solved_notebooks_too():
    todo = run_tests.jobs(2, full=True)
    solved = [job for job in todo if job.name.startswith("solutions/")]
    assert len(solved) == len(build.stems())
    assert all(dict(job.env) == {"MINIGEN_STRICT": "1"} for job in solved)
    units = [job for job in todo if job.name.startswith("unit tests")]
    assert len(units) == 2 and all(job.words[2:4] == ("-m", "slow or not slow") for job in units)


def test_longer_notebooks_begin_earlier():
    minutes = [course.everything()[job.name[10:-6]].run for job in run_tests.books("notebooks")]
    assert minutes == sorted(minutes, reverse=True)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A place whose tests are run in place of the course's."""
    monkeypatch.setattr(run_tests, "ROOT", tmp_path)
    return tmp_path


def test_a_job_of_pytest_is_counted(folder):
    (folder / "test_x.py").write_text(
        "import os\nimport pytest\n"
        "def test_good(): assert os.environ['OMP_NUM_THREADS'] == '1'\n"
        "def test_bad(): assert os.environ['MINE'] == 'no'\n"
        "def test_not(): pytest.skip('not here')\n")
    words = ("pytest", "-q", "-p", "no:cacheprovider", "test_x.py")
    done = run_tests.run(Job("x", words, (("MINE", "yes"),)))
    assert done.code == 1 and done.counts == (1, 1, 1) and "test_bad" in done.output
    assert sorted(name for _, name in done.cases) == [
        "test_x::test_bad", "test_x::test_good", "test_x::test_not"]
    assert run_tests.line(done).startswith("x: 1 passed, 1 failed, 1 skipped in ")


def test_a_job_that_breaks_off_has_failed(folder):
    (folder / "test_x.py").write_text("import os\ndef test_end(): os._exit(3)\n")
    done = run_tests.run(Job("x", ("pytest", "-p", "no:cacheprovider", "test_x.py")))
    assert done.code == 3 and done.counts == (0, 1, 0) and not done.cases


def test_a_job_without_counts_is_clean_or_not(folder):
    (folder / "good.py").write_text("")
    (folder / "bad.py").write_text("import sys\nprint('this line')\nsys.exit(1)\n")
    good, bad = (run_tests.run(Job("lint", (name,))) for name in ("good", "bad"))
    assert run_tests.line(good).startswith("lint: clean in")
    assert run_tests.line(bad).startswith("lint: see above in") and "this line" in bad.output


def test_as_many_at_once_as_there_are_workers_begun_in_order(monkeypatch):
    lock, now, most, begun = threading.Lock(), [0], [0], []

    def run(job):
        with lock:
            begun.append(job.name)
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.05)
        with lock:
            now[0] -= 1
        return job.name

    monkeypatch.setattr(run_tests, "run", run)
    names = [str(k) for k in range(7)]
    assert sorted(run_tests.all_done([Job(n, ()) for n in names], 3)) == names
    assert most == [3] and begun[3:] == names[3:]


def test_what_has_not_begun_does_not_begin_after_ctrl_c(monkeypatch):
    begun = []

    def run(job):
        begun.append(job.name)
        if job.name == "1":
            raise KeyboardInterrupt
        time.sleep(0.2)

    monkeypatch.setattr(run_tests, "run", run)
    with pytest.raises(KeyboardInterrupt):
        list(run_tests.all_done([Job(str(k), ()) for k in range(20)], 2))
    assert len(begun) < 5


@pytest.mark.parametrize("code", [0, 1])
def test_the_counts_the_slowest_and_the_exit_code(monkeypatch, capsys, code):
    first = Done(Job("unit tests 1", ()), code, (2, code, 0), 70.0,
                 [(0.5, "quick"), (66.0, "long")], "the output")
    monkeypatch.setattr(run_tests, "all_done", lambda *_: iter(
        [first, Done(Job("lint", ()), 0, (0, 0, 0), 1.0, [], "")]))
    monkeypatch.setattr(sys, "argv", ["run_tests.py"])
    with pytest.raises(SystemExit) as end:
        run_tests.main()
    assert bool(end.value.code) == bool(code)
    out = capsys.readouterr().out
    assert "the output" in out and "lint: clean in 1 s" in out
    assert out.index("66.0 s  long") < out.index("0.5 s  quick")
    assert out.endswith(f"\n2 passed, {code} failed, 0 skipped\n") and "0.0 minutes" in out
