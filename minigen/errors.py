"""The errors a person can cause and mend, and how a sentence reaches any terminal.

Each names the thing and the way out.
"""

import sys
from typing import TextIO


class DataError(ValueError):
    """Something is not as it must be; `python -m minigen` prints it and exits with 2."""


class Diverged(DataError):
    """A training's numbers have become NaN or infinite."""


def first_line(error: BaseException) -> str:
    """An error's message as one line, its name where it has none.

    What libraries raise may be long, or empty.
    """
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:200]


def say(text: object, file: TextIO | None = None) -> None:
    """Print a line; what the terminal's encoding lacks is written as an escape.

    Such as ×, ᾱ, ■ on an old code page.
    """
    stream = sys.stdout if file is None else file
    try:
        print(text, file=stream, flush=True)
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        escaped = str(text).encode(encoding, "backslashreplace").decode(encoding)
        print(escaped, file=stream, flush=True)
