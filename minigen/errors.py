"""The errors a person can cause and mend, and how a sentence reaches any terminal. Each names the thing and the way out."""

import sys


class DataError(ValueError):
    """Something about the data is not as it must be; `python -m minigen` prints it and exits with 2."""


class Diverged(DataError):
    """A training's numbers have become NaN or infinite."""


def first_line(error):
    """An error's message as one line, its name where it has none: what libraries raise may be long, or empty."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:200]


def say(text, file=None):
    """Print a line; what the terminal's encoding does not have (×, ᾱ, ■ on an old code page) is written as an escape."""
    stream = sys.stdout if file is None else file
    try:
        print(text, file=stream, flush=True)
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        print(str(text).encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
