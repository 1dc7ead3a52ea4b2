"""Everything CI checks, one after another, and the counts at the end.

    python tools/run_tests.py           # lint, unit tests, notebooks against their outputs
    python tools/run_tests.py --slow    # and the tests marked slow, and the solved notebooks

Every exercise's solution is among the unit tests; the solved notebooks run in strict mode.
"""

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
Run = tuple[str, subprocess.Popen, Path, IO[str], float]  # name, process, report, log, start
Row = tuple[int, str, int, int, int, float]  # exit code, name, passed, failed, skipped, seconds


def unit_tests() -> list[Path]:
    """Every file of tests but those of a browser, which `make test-browser` runs."""
    tests = ROOT / "tests"
    return [p for p in tests.rglob("test_*.py") if "browser" not in p.relative_to(tests).parts]


def start_pytest(folder: Path, name: str, arguments: list[str], **env: str) -> Run:
    """Start pytest with its output and report in files of `folder`.

    Returns: what `finish_pytest` needs.
    """
    report = folder / f"{name}.xml"
    log = open(folder / f"{name}.txt", "w+", encoding="utf-8")  # noqa: SIM115 (closed at the end)
    command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *arguments]
    env = os.environ | env | {"PYTHONUTF8": "1"}  # else Windows writes in an encoding of its own
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT)
    return name, process, report, log, time.time()


def finish_pytest(run: Run) -> Row:
    """Wait, print the output, and return (exit code, name, passed, failed, skipped, seconds)."""
    name, process, report, log, start = run
    code = process.wait()
    seconds = time.time() - start
    log.seek(0)
    print(f"\n=== {name}\n{log.read()}", flush=True)
    log.close()
    if not report.exists():
        return code or 1, name, 0, 1, 0, seconds
    suite = ET.parse(report).getroot()[0].attrib
    total, skipped = int(suite["tests"]), int(suite["skipped"])
    failed = int(suite["failures"]) + int(suite["errors"])
    return code, name, total - failed - skipped, failed, skipped, seconds


def side_by_side(folder: Path, runs: list[tuple[str, list[str]]], **env: str) -> list[Row]:
    """Run these, (name, arguments of pytest), at once and wait for all.

    One thread each: on two cores that is faster than two threads one after the other.
    """
    env = env | {"OMP_NUM_THREADS": "1"}
    started = [start_pytest(folder, name, arguments, **env) for name, arguments in runs]
    return [finish_pytest(run) for run in started]


def main() -> None:
    # a terminal that lacks a letter shows a question mark
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    full = "--slow" in sys.argv[1:]
    slow = ["-m", "slow or not slow"] if full else []
    stems = sorted(p.stem for p in (ROOT / "notebooks").glob("*.ipynb"))
    lint, types = (subprocess.run([sys.executable, "-m", *words], cwd=ROOT).returncode
                   for words in (["ruff", "check", "."], ["mypy"]))
    with tempfile.TemporaryDirectory() as folder:
        files = sorted(map(str, unit_tests()))
        both = [(f"unit tests {k + 1}", [*slow, *files[k::2]]) for k in range(2)]
        rows = side_by_side(Path(folder), both)
        for where, env in [("notebooks", {}), ("solutions", dict(MINIGEN_STRICT="1"))][: 1 + full]:
            both = []
            for chosen in (stems[::2], stems[1::2]):
                books = [f"{where}/{stem}.ipynb" for stem in chosen]
                both.append((f"{where} {chosen[0][:2]} …", ["--nbval", *books]))
            rows += side_by_side(Path(folder), both, **env)
    print(f"lint: {'clean' if lint == 0 else 'see above'}")
    print(f"types: {'fit' if types == 0 else 'see above'}")
    for _, name, passed, failed, skipped, seconds in rows:
        print(f"{name}: {passed} passed, {failed} failed, {skipped} skipped in {seconds:.0f} s")
    passed, failed = sum(row[2] for row in rows), sum(row[3] for row in rows)
    skipped = sum(row[4] for row in rows)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(bool(lint or types or any(row[0] for row in rows)))


if __name__ == "__main__":
    main()
