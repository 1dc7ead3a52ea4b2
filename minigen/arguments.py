"""argparse as the course speaks: what is wrong in one sentence, with the near word."""

import argparse
from pathlib import Path

from minigen.errors import DataError
from minigen.names import listed, near

PROGRAM = "python -m minigen"


class Parser(argparse.ArgumentParser):
    """argparse's, but what is wrong becomes a `DataError`, and no option may be abbreviated.

    examples: what may stand behind the command, line by line; its help ends with them.
    """

    def __init__(self, prog, examples=(), **options):
        self.examples = [f"{prog} {line}".rstrip() for line in examples]
        end = "\n  ".join(["examples:", *self.examples]) if examples else None
        plain = argparse.RawDescriptionHelpFormatter       # the examples keep their lines
        super().__init__(prog, epilog=end, formatter_class=plain, allow_abbrev=False, **options)

    def error(self, message):
        start = "the following arguments are required: "
        if message.startswith(start) and self.examples:
            needed = message.removeprefix(start)
            name = self.prog.removeprefix(f"{PROGRAM} ")
            raise DataError(f"{name} needs {needed}, as in: {self.examples[0]}")
        more = "" if message.endswith("?") else f" ({self.prog} --help tells more)."
        raise DataError(message.removeprefix("argument ") + more)


def refuse_unknown(parser, words, commands=()):
    """Look at every word before argparse does: it tells first what is missing, and no near word."""
    options, words = [name for a in parser._actions for name in a.option_strings], iter(words)
    for word in words:
        if word == "--":
            return
        if word.startswith("-") and word != "-" and " " not in word and not _is_number(word):
            if (name := word.split("=")[0]) not in options:
                guess, more = near(name, options) or ".", f"({parser.prog} --help lists them.)"
                raise DataError(f"There is no option '{name}'{guess} {more}")
        elif commands:
            if word not in commands:
                guess, known = near(word, commands) or ".", listed(commands, "and")
                raise DataError(f"There is no command '{word}'{guess} There are {known}.")
            return refuse_unknown(commands[word], words)


def _is_number(word):
    try:
        float(word)
    except ValueError:
        return False
    return True


def _typed(convert, wanted):
    """An option's type that says what was wanted."""
    def read(text):
        try:
            return convert(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{wanted} is wanted; got '{text}'") from None

    return read


WHOLE = dict(type=_typed(int, "a whole number"), metavar="N")
NUMBER = dict(type=_typed(float, "a number"), metavar="X")
PATH = dict(type=Path, metavar="PATH")
NAME = dict(metavar="NAME")
WEIGHTS = dict(metavar="WEIGHTS")
SWITCH = dict(action="store_true")


def choice(*names):
    """The kind of an option that is one of some names."""
    def known(text):
        if text not in names:
            raise argparse.ArgumentTypeError(f"{listed(names)}; got '{text}'{near(text, names)}")
        return text

    return dict(type=known, metavar="|".join(names))


def option(parser, name, kind, text, default=None, **more):
    """Add an option of a kind (`WHOLE`, `PATH`, …) with its meaning; its default is told behind."""
    if kind is not SWITCH:
        more["default"] = default
        text += "" if default in (None, "") else f" (default {told(default)})"
    parser.add_argument(name, help=text, **kind, **more)


def told(value):
    """A value as a person writes it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
