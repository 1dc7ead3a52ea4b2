"""Everything CI checks, one after another, and the counts at the end.

    python tools/run_tests.py           # lint, unit tests, notebooks against their stored outputs, solutions in strict mode
    python tools/run_tests.py --slow    # and the tests marked slow
"""

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def run_pytest(report, arguments, **env):
    """Run pytest and return its exit code and counts (passed, failed, skipped)."""
    command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *arguments]
    code = subprocess.run(command, cwd=ROOT, env=os.environ | env).returncode
    if not report.exists():
        return code, (0, 1, 0)
    suite = ET.parse(report).getroot().find("testsuite")
    total, failed, skipped = (int(suite.get(k)) for k in ("tests", "failures", "skipped"))
    failed += int(suite.get("errors"))
    return code, (total - failed - skipped, failed, skipped)


def main():
    slow = ["-m", "slow or not slow"] if "--slow" in sys.argv[1:] else []
    lint = subprocess.run([sys.executable, "-m", "ruff", "check", "."], cwd=ROOT).returncode
    rows, bad = [], lint != 0
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments, env in (("unit tests", slow, {}),
                                     ("notebooks", ["--nbval", "notebooks/"], {}),
                                     ("solutions, strict", ["--nbval", "solutions/"], {"MINIGEN_STRICT": "1"})):
            print(f"\n=== {name}", flush=True)
            start = time.time()
            code, counts = run_pytest(Path(folder) / "report.xml", arguments, **env)
            (Path(folder) / "report.xml").unlink(missing_ok=True)
            bad |= code != 0
            rows.append((name, *counts, time.time() - start))
    print(f"\nlint: {'clean' if lint == 0 else 'see above'}")
    for name, passed, failed, skipped, seconds in rows:
        print(f"{name}: {passed} passed, {failed} failed, {skipped} skipped in {seconds:.0f} s")
    passed, failed, skipped = (sum(r[i] for r in rows) for i in (1, 2, 3))
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(bad)


if __name__ == "__main__":
    main()
