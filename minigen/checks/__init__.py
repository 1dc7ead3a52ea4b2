"""Exercises' checks. `check(my_function)` finds the check of that name and says how it went.

Passed, not attempted, or what is wrong. A check is a function `check_NAME` in a module of this
package, one module a chapter; it is imported, and with it the chapter's lesson, when an answer is
checked. With MINIGEN_STRICT=1 whatever has not passed raises `CheckFailed`; that is how solutions
are tested and assignments graded.
"""

import importlib
import inspect
import os
import traceback
from collections.abc import Callable
from typing import Any

import torch

from minigen.checks import board
from minigen.checks.board import progress, record
from minigen.checks.chapters import CHAPTERS, chapter_of, check_of, exercises
from minigen.checks.compare import Wrong
from minigen.checks.guard import Watch
from minigen.errors import say

__all__ = ["CHAPTERS", "CheckFailed", "check", "examine", "exercises", "progress", "yours"]


class CheckFailed(AssertionError):
    """An exercise is not passed (strict mode only)."""


def check(answer: Any) -> None:
    """Check an exercise's function and print one sentence.

    Raises: CheckFailed in strict mode if it is not passed.
    """
    passed, sentence = _verdict(answer)
    if not passed and os.environ.get("MINIGEN_STRICT") == "1":
        raise CheckFailed(sentence)
    say(sentence)


def yours(answer: Callable[..., Any]) -> Callable[..., Any]:
    """The learner's function if it passes its check, else the course's; prints which.

    What follows an exercise works with it: the learner's own part trains, draws and measures.
    The course's is the function of the same name beside the check.
    """
    passed, sentence = _verdict(answer)
    name = getattr(answer, "__name__", "")
    chapter = chapter_of(name)
    if chapter is None:
        raise ValueError(sentence)
    if passed:
        say(f"{name}: yours is used from here on.")
        return answer
    say(f"{name}: the course's is used from here on; yours, once it has passed.")
    return getattr(importlib.import_module(check_of(chapter, name).__module__), name)


def _verdict(answer: Any) -> tuple[bool, str]:
    """(whether the answer passed, the sentence that says so); a pass is put on the board."""
    passed, sentence = examine(answer)
    name = getattr(answer, "__name__", "")
    board.current = chapter_of(name) or board.current
    if passed:
        sentence += record(str(board.current), name)
    return passed, sentence


def examine(answer: Any) -> tuple[bool, str]:
    """(whether an answer passes its check, the sentence that says so); nothing is written."""
    name = getattr(answer, "__name__", None)
    if not callable(answer) or name is None:
        return False, "check takes the function itself, without calling it: check(my_function)."
    chapter = chapter_of(name)
    if chapter is None:
        return False, (f"there is no exercise called {name}; keep the name that the exercise gave "
                       "your function.")
    test = check_of(chapter, name)
    if (getattr(answer, "__module__", None) or "").split(".")[0] == "minigen":
        return False, (f"{name}: this is minigen's own function; define yours in the cell above "
                       "and run that cell.")
    course = getattr(importlib.import_module(test.__module__), name, None)
    watch = Watch(answer, course, getattr(test, "may_change", ()))
    wrong = None
    try:
        with torch.random.fork_rng(devices=[]):
            test(watch.function())
    except NotImplementedError as e:
        if not e.args:  # torch raises it too, with a message: that is an error like any other
            helper = _empty_helper(e, answer)
            return False, (f"{name}: not yet. It calls {helper}, which is not attempted yet."
                           if helper else f"{name}: not attempted yet.")
        wrong = Wrong(_raised(e, answer), named=False)
    except Wrong as e:
        wrong = e
    except Exception as e:  # raised by the learner's code, and told to the learner
        wrong = Wrong(_raised(e, answer), named=False)
    if told := watch.verdict(wrong):
        return False, f"{name}: not yet. {told}"
    return True, f"{name}: passed."


def _empty_helper(error: Exception, answer: Any) -> str | None:
    """The name of the function that raised, where that is not the answer itself."""
    codes = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    own = getattr(inspect.unwrap(answer), "__code__", None)
    return codes[-1].co_name if own in codes[:-1] and codes[-1] is not own else None


def _raised(error: Exception, answer: Any) -> str:
    """What an answer raised, with the line where it did: (line 3 of your function)."""
    code = getattr(inspect.unwrap(answer), "__code__", None)
    where = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        if frame.f_code is code:
            where = f" (line {line - code.co_firstlineno + 1} of your function)"
            break
    return f"Your code raised {type(error).__name__}: {error}{where}"
