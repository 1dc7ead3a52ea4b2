"""What the learner has passed, in a small JSON file, and a board of it.

The file lies in the home folder, or in MINIGEN_HOME where that is set.
"""

import datetime
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

from minigen import disk
from minigen.checks.chapters import exercises
from minigen.errors import DataError, say
from minigen.files import write_text
from minigen.inputs import described, refuse

current: str | None = None  # the chapter of the last check made in this process


def _file() -> Path:
    home = os.environ.get("MINIGEN_HOME")
    folder = Path(home).expanduser() if home else Path.home() / ".minigen"
    return folder / "progress.json"


def _read() -> tuple[dict[str, list[str]], bool]:
    """({chapter: [exercises]}, whether the file is as it should be).

    Of a damaged file, what can be read.
    """
    try:
        found = json.loads(_file().read_bytes())  # whichever UTF it is in
    except FileNotFoundError:
        return {}, True
    except (OSError, ValueError, RuntimeError):
        return {}, False
    if not isinstance(found, dict):
        return {}, False
    good = {chapter: names for chapter, names in found.items() if _are_names(names)}
    return good, good == found


def _are_names(names: Any) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


def record(chapter: str, exercise: str) -> str:
    """Note an exercise as passed.

    A file that cannot be read is moved aside; other processes wait their turn.
    Returns: "" or a sentence: where the old file lies now, or why the pass could not be kept.
    """
    try:
        path = _file()
        path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(100):  # ten seconds
            try:
                with disk.held(path.with_name(".progress.lock")):
                    return _note(path, chapter, exercise)
            except DataError:
                time.sleep(0.1)
        return " (Your progress could not be kept: another process holds its file.)"
    except OSError as e:
        reason = disk.REASONS.get(e.errno) or e.strerror
        return f" (Your progress could not be kept: {reason}.)"
    except RuntimeError as e:  # a home folder that is none
        return f" (Your progress could not be kept: {e}; set MINIGEN_HOME to a folder.)"


def _note(path: Path, chapter: str, exercise: str) -> str:
    passed, whole = _read()
    note = ""
    if not whole:
        aside = _free_name(path, datetime.date.today().isoformat())
        path.rename(aside)
        note = (f" (The progress file could not be read; it is kept as {aside.name}, and a new "
                "one was begun.)")
    elif exercise in passed.get(chapter, []):
        return ""
    names = passed.setdefault(chapter, [])
    if exercise not in names:
        names.append(exercise)
    write_text(path, json.dumps(passed, indent=1))
    return note


def _free_name(path: Path, day: str) -> Path:
    """progress-2026-11-26.json, or -2, -3 … where that exists."""
    for k in range(1, 10_000):
        number = "" if k == 1 else f"-{k}"
        aside = path.with_name(f"{path.stem}-{day}{number}{path.suffix}")
        if not os.path.lexists(aside):
            return aside
    raise FileExistsError(17, "too many files of the day")


def progress(chapter: int | str | None = None) -> None:
    """Print the board: a line for each chapter, and below one of them its exercises, passed or not.

    chapter: which one is opened, such as 5, "05_ddpm" or "x1"; by default that of the last check
    made in this kernel. An excursion has a line once it is opened or begun.
    """
    board = exercises()
    opened = current if chapter is None else _named(chapter, board)
    passed, whole = _read()
    if not whole:
        say("The progress file progress.json cannot be read; the next exercise you pass moves it "
            "aside and begins anew.")
    full, free, dot = "■□·" if _shows("■□·") else "#--"
    widest = max(map(len, board.values()))
    for title, names in board.items():
        done = [n for n in names if n in passed.get(title, [])]
        if title.startswith("x") and not done and title != opened:
            continue
        bar = full * len(done) + free * (len(names) - len(done))
        say(f"{title:<14} {bar:<{widest}}  {len(done)} of {len(names)}")
        if title == opened:
            for name in names:
                say(f"    {'passed' if name in done else dot:<8}{name}")


def _named(chapter: Any, titles: dict[str, list[str]]) -> str:
    """The title that begins with the number of `chapter`: 5, "05_ddpm" and "05 DDPM" are one."""
    number = re.match(r"(?:0?(\d)|(x\d))(?![\d.])", str(chapter))
    for title in titles:
        if number and title[:2] in (f"0{number[1]}", number[2]):
            return title
    last = sum(not title.startswith("x") for title in titles) - 1
    wanted = f"a number from 0 to {last}, or a name such as \"05_ddpm\" or \"x1\""
    refuse("chapter", wanted, described(chapter))


def _shows(text: str) -> bool:
    """Whether the terminal's encoding has these signs."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
        return True
    except UnicodeEncodeError:
        return False
