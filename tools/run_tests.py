"""Everything CI checks, one after another, and the counts at the end.

    python tools/run_tests.py           # lint, unit tests (every exercise's solution among them), notebooks against their outputs
    python tools/run_tests.py --slow    # and the tests marked slow, and the solved notebooks in strict mode
"""

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def unit_tests():
    """Every file of tests but those of a browser, which `make test-browser` runs."""
    tests = ROOT / "tests"
    return [p for p in tests.rglob("test_*.py") if "browser" not in p.relative_to(tests).parts]


def start_pytest(folder, name, arguments, **env):
    """Start pytest with its output and report in files of `folder`. Returns: what `finish_pytest` needs."""
    report, log = folder / f"{name}.xml", open(folder / f"{name}.txt", "w+", encoding="utf-8")  # noqa: SIM115
    command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *arguments]
    env = os.environ | env | {"PYTHONUTF8": "1"}    # Windows would write the log in an encoding of its own
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT)
    return name, process, report, log, time.time()


def finish_pytest(run):
    """Wait, print the output, and return (exit code, name, passed, failed, skipped, seconds)."""
    name, process, report, log, start = run
    code = process.wait()
    seconds = time.time() - start
    log.seek(0)
    print(f"\n=== {name}\n{log.read()}", flush=True)
    log.close()
    if not report.exists():
        return code or 1, name, 0, 1, 0, seconds
    suite = ET.parse(report).getroot().find("testsuite")
    total, failed, skipped = (int(suite.get(k)) for k in ("tests", "failures", "skipped"))
    failed += int(suite.get("errors"))
    return code, name, total - failed - skipped, failed, skipped, seconds


def main():
    sys.stdout.reconfigure(errors="replace")        # a terminal that lacks a letter shows a question mark
    full = "--slow" in sys.argv[1:]
    slow = ["-m", "slow or not slow"] if full else []
    stems = sorted(p.stem for p in (ROOT / "notebooks").glob("*.ipynb"))
    lint = subprocess.run([sys.executable, "-m", "ruff", "check", "."], cwd=ROOT).returncode
    with tempfile.TemporaryDirectory() as folder:
        # side by side, one thread each: on two cores that is faster than two threads one after the other
        one, files = dict(OMP_NUM_THREADS="1"), sorted(map(str, unit_tests()))
        both = [start_pytest(Path(folder), f"unit tests {k + 1}", [*slow, *files[k::2]], **one) for k in range(2)]
        rows = [finish_pytest(run) for run in both]
        for where, env in [("notebooks", {}), ("solutions", dict(MINIGEN_STRICT="1"))][: 1 + full]:
            both = [start_pytest(Path(folder), f"{where} {chosen[0][:2]} …", ["--nbval", *(f"{where}/{s}.ipynb" for s in chosen)],
                                 **one, **env) for chosen in (stems[::2], stems[1::2])]
            rows += [finish_pytest(run) for run in both]
    print(f"lint: {'clean' if lint == 0 else 'see above'}")
    for _, name, passed, failed, skipped, seconds in rows:
        print(f"{name}: {passed} passed, {failed} failed, {skipped} skipped in {seconds:.0f} s")
    passed, failed, skipped = (sum(r[i] for r in rows) for i in (2, 3, 4))
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(bool(lint or any(code for code, *_ in rows)))


if __name__ == "__main__":
    main()
