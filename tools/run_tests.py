"""Everything CI checks, as many things at once as there are cores (up to four), and the counts.

    python tools/run_tests.py           # lint, types, unit tests, notebooks against their outputs
    python tools/run_tests.py --slow    # and the tests marked slow, and the solved notebooks

Every exercise's solution is among the unit tests; the solved notebooks run in strict mode.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import course

from minigen.environment import cores

ROOT = Path(__file__).resolve().parent.parent
# one thread each, for two threads on two cores wait for each other; large arrays from memory that
# the process keeps (glibc), for fresh pages at every layer cost as much as the layer; and UTF-8,
# else Windows writes in an encoding of its own
ENV = {"OMP_NUM_THREADS": "1", "PYTHONUTF8": "1", "MALLOC_MMAP_MAX_": "0",
       "MALLOC_TRIM_THRESHOLD_": str(2**32)}
SHOWN = 10  # of the slowest tests and cells


class Job(NamedTuple):
    """What a process of its own does: `python -m` these words."""

    name: str
    words: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()


class Done(NamedTuple):
    """How it went. counts: passed, failed, skipped. cases: (seconds, name) of each test or cell."""

    job: Job
    code: int
    counts: tuple[int, int, int]
    seconds: float
    cases: list[tuple[float, str]]
    output: str


def unit_tests() -> list[Path]:
    """Every file of tests but those of a browser, which `make test-browser` runs."""
    tests = ROOT / "tests"
    return [p for p in tests.rglob("test_*.py") if "browser" not in p.relative_to(tests).parts]


def books(folder: str, **env: str) -> list[Job]:
    """The notebooks of a folder, each a job of its own, the longest of the course's table first."""
    longest_first = sorted(course.everything().items(), key=lambda item: -item[1].run)
    paths = [f"{folder}/{stem}.ipynb" for stem, _ in longest_first]
    return [Job(path, ("pytest", "-q", "--nbval", path), tuple(env.items())) for path in paths]


def jobs(workers: int, full: bool) -> list[Job]:
    """All there is to do. The longest begin first: so all workers end at about the same time."""
    files, parts = sorted(map(str, unit_tests())), max(2, workers)
    slow = ("-m", "slow or not slow") if full else ()
    units = [Job(f"unit tests {k + 1}", ("pytest", "-q", *slow, *files[k::parts]))
             for k in range(parts)]
    solved = books("solutions", MINIGEN_STRICT="1") if full else []
    return [Job("lint", ("ruff", "check", ".")), *units, *solved, *books("notebooks"),
            Job("types", ("mypy",))]


def run(job: Job) -> Done:
    """Do it in `ENV`, and read the report that pytest writes."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        words = [*job.words, *([f"--junitxml={report}"] if job.words[0] == "pytest" else [])]
        env = os.environ | ENV | dict(job.env)
        start = time.monotonic()
        process = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, env=env, text=True,
                                 encoding="utf-8", errors="replace", stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT)
        seconds, counts = time.monotonic() - start, (0, 0, 0)
        cases: list[tuple[float, str]] = []
        if report.exists():
            counts, cases = read(report)
        elif job.words[0] == "pytest":  # it did not come to its end
            counts = (0, 1, 0)
    return Done(job, process.returncode, counts, seconds, cases, process.stdout)


def read(report: Path) -> tuple[tuple[int, int, int], list[tuple[float, str]]]:
    """(passed, failed, skipped) and each test's (seconds, name) from pytest's report."""
    suite = ET.parse(report).getroot()[0]
    total, skipped = int(suite.attrib["tests"]), int(suite.attrib["skipped"])
    failed = int(suite.attrib["failures"]) + int(suite.attrib["errors"])
    cases = [(float(c.attrib["time"]), f"{c.attrib['classname']}::{c.attrib['name']}".lstrip(":"))
             for c in suite.iter("testcase")]
    return (total - failed - skipped, failed, skipped), cases


def all_done(todo: list[Job], workers: int) -> Iterator[Done]:
    """Each job as it ends; so many at once, begun in their order."""
    pool = ThreadPoolExecutor(workers)
    try:
        for future in as_completed([pool.submit(run, job) for job in todo]):
            yield future.result()
    finally:  # Ctrl-C: what has not begun does not begin
        pool.shutdown(cancel_futures=True)


def line(done: Done) -> str:
    """How a job went, in one line."""
    if not any(done.counts):
        return f"{done.job.name}: {'see above' if done.code else 'clean'} in {done.seconds:.0f} s"
    passed, failed, skipped = done.counts
    return (f"{done.job.name}: {passed} passed, {failed} failed, {skipped} skipped "
            f"in {done.seconds:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slow", action="store_true",
                        help="also the tests marked slow, and the solved notebooks")
    args = parser.parse_args()
    # a terminal that lacks a letter shows a question mark
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    workers, start, rows = min(4, cores()), time.monotonic(), []
    for done in all_done(jobs(workers, args.slow), workers):
        print(f"\n=== {done.job.name}\n{done.output}", flush=True)
        rows.append(done)
    cases = sorted((case for done in rows for case in done.cases), reverse=True)
    print("\nthe slowest:", *(f"{seconds:6.1f} s  {name}" for seconds, name in cases[:SHOWN]),
          sep="\n")
    print("", *map(line, rows), sep="\n")
    passed, failed, skipped = (sum(done.counts[k] for done in rows) for k in range(3))
    spent = os.times()  # of the processes that have ended; Windows does not tell, and says 0
    processor = (spent.children_user + spent.children_system) / 60
    print(f"{(time.monotonic() - start) / 60:.1f} minutes"
          + (f", {processor:.1f} of a processor" if processor else ""))
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(any(done.code for done in rows))


if __name__ == "__main__":
    main()
