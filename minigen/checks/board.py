"""What the learner has passed: a small JSON file in the home folder (or in MINIGEN_HOME), and a board of it."""

import json
import os
from pathlib import Path

from minigen.files import replacing


def _file():
    return Path(os.environ.get("MINIGEN_HOME") or Path.home() / ".minigen") / "progress.json"


def _passed():
    try:
        found = json.loads(_file().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        print(f"The progress file {_file().name} cannot be read; delete it to start anew.")
        return {}
    return found if isinstance(found, dict) else {}


def record(chapter, exercise):
    """Note an exercise as passed. Returns: "" or, where it cannot be kept, a sentence that says so."""
    passed = _passed()
    if exercise in passed.get(chapter, []):
        return ""
    passed.setdefault(chapter, []).append(exercise)
    try:
        with replacing(_file()) as temporary:
            temporary.write_text(json.dumps(passed, indent=1), encoding="utf-8")
    except OSError as e:
        return f" (Your progress could not be kept: {e.strerror}.)"
    return ""


def progress():
    """Print the board: every chapter, every exercise, and whether you have passed it."""
    from minigen.checks import exercises

    passed = _passed()
    for chapter, names in exercises().items():
        done = [n for n in names if n in passed.get(chapter, [])]
        print(f"{chapter:<14} {'■' * len(done)}{'□' * (len(names) - len(done))}  {len(done)} of {len(names)}")
        for name in names:
            print(f"    {'passed' if name in done else '·':<8}{name}")
