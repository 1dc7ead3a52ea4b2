"""Exercises' checks. `check(my_function)` finds the check of that name and says passed, not attempted, or what is wrong.

A check is a function `check_NAME` in a module of this package, one module a chapter. With MINIGEN_STRICT=1 whatever
has not passed raises `CheckFailed`; that is how solutions are tested and assignments graded.
"""

import os
import traceback

import torch

from minigen.checks import (
    board,
    ch00_start_here,
    ch01_gan,
    ch02_vae,
    ch03_vqvae,
    ch04_ivqvae,
    ch05_ddpm,
    ch06_ddim,
    ch07_fftd,
    ch08_celebahq,
)
from minigen.checks.board import progress, record
from minigen.checks.compare import Wrong
from minigen.errors import say

CHAPTERS = {"00 start here": ch00_start_here, "01 GAN": ch01_gan, "02 VAE": ch02_vae, "03 VQ-VAE": ch03_vqvae,
            "04 IVQ-VAE": ch04_ivqvae, "05 DDPM": ch05_ddpm, "06 DDIM": ch06_ddim, "07 FFTD": ch07_fftd,
            "08 CelebA-HQ": ch08_celebahq}

__all__ = ["CHAPTERS", "CheckFailed", "check", "exercises", "progress"]


class CheckFailed(AssertionError):
    """An exercise is not passed (strict mode only)."""


def exercises():
    """{chapter: [names of its exercises, in order]}."""
    return {chapter: [n.removeprefix("check_") for n in vars(module) if n.startswith("check_")]
            for chapter, module in CHAPTERS.items()}


def check(answer):
    """Check an exercise's function and print one sentence. Raises: CheckFailed in strict mode if it is not passed."""
    passed, sentence = _verdict(answer)
    if not passed and os.environ.get("MINIGEN_STRICT") == "1":
        raise CheckFailed(sentence)
    say(sentence)


def _verdict(answer):
    name = getattr(answer, "__name__", None)
    if not callable(answer) or name is None:
        return False, "check takes the function itself, without calling it: check(my_function)."
    for chapter, names in exercises().items():
        if name in names:
            test = getattr(CHAPTERS[chapter], f"check_{name}")
            board.current = chapter
            break
    else:
        return False, f"there is no exercise called {name}; keep the name that the exercise gave your function."
    if (getattr(answer, "__module__", None) or "").split(".")[0] == "minigen":
        return False, f"{name}: this is minigen's own function; define yours in the cell above and run that cell."
    try:
        with torch.random.fork_rng(devices=[]):
            test(answer)
    except NotImplementedError as e:
        if e.args:                              # torch raises it too, with a message: that is an error like any other
            return False, f"{name}: not yet. Your code raised {type(e).__name__}: {e}{_line_of(e, answer)}"
        return False, f"{name}: not attempted yet."
    except Wrong as e:
        return False, f"{name}: not yet. {e}"
    except Exception as e:  # raised by the learner's code, and told to the learner
        return False, f"{name}: not yet. Your code raised {type(e).__name__}: {e}{_line_of(e, answer)}"
    return True, f"{name}: passed." + record(chapter, name)


def _line_of(error, answer):
    """ (line 3 of your function) for an error raised in the answer."""
    code = getattr(answer, "__code__", None)
    for frame, line in traceback.walk_tb(error.__traceback__):
        if frame.f_code is code:
            return f" (line {line - code.co_firstlineno + 1} of your function)"
    return ""
