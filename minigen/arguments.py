"""argparse as the course speaks: what is wrong in one sentence, with the near word."""

import argparse
import re
import shutil
import textwrap
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from minigen.errors import DataError, say
from minigen.names import listed, near

PROGRAM = "python -m minigen"
Kind = dict[str, Any]  # what argparse's add_argument takes for an option of a kind
EXAMPLES = "examples:\n"
WIDEST = 100  # longer lines are hard to read


class _Help(argparse.HelpFormatter):
    """Descriptions fill the terminal; examples too long for it go on in a next line."""

    def __init__(self, prog: str) -> None:
        columns = min(shutil.get_terminal_size().columns, WIDEST)
        super().__init__(prog, max_help_position=20, width=columns - 2)

    def _format_usage(self, *args: Any) -> str:
        width, self._width = self._width, 10_000
        text = " ".join(super()._format_usage(*args).split())
        self._width = width
        whole = re.sub(r"\[[^]]*\]", lambda found: found[0].replace(" ", "\0"), text)
        filled = textwrap.fill(
            whole, width, subsequent_indent="    ", break_on_hyphens=False, break_long_words=False)
        return filled.replace("\0", " ") + "\n\n"

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if not text.startswith(EXAMPLES):
            return super()._fill_text(text, width, indent)
        lines = text.removeprefix(EXAMPLES).splitlines()
        return EXAMPLES + "\n".join(f"  {_broken(line, width - 2)}" for line in lines)


def _broken(command: str, width: int) -> str:
    """A command in lines as a shell takes them: broken before an option, with a \\ at the end."""
    lines = [""]
    for part in re.split(" (?=--)", command):
        if lines[-1] and len(f"{lines[-1]} {part}") > width - 2:
            lines[-1] += " \\"
            lines.append(f"    {part}")
        else:
            lines[-1] += f" {part}" if lines[-1] else part
    return "\n  ".join(lines)


class Parser(argparse.ArgumentParser):
    """argparse's, but what is wrong becomes a `DataError`, and no option may be abbreviated.

    examples: what may stand behind the command, line by line; its help ends with them.
    """

    def __init__(self, prog: str, examples: Iterable[str] = (), **options: Any) -> None:
        self.examples = [f"{prog} {line}".rstrip() for line in examples]
        end = EXAMPLES + "\n".join(self.examples) if examples else None
        super().__init__(prog, epilog=end, formatter_class=_Help, allow_abbrev=False, **options)

    def _print_message(self, message: str, file: Any = None) -> None:
        """A help reaches any terminal too."""
        say(message.rstrip("\n"), file)

    def error(self, message: str) -> NoReturn:
        start = "the following arguments are required: "
        if message.startswith(start) and self.examples:
            needed = message.removeprefix(start)
            name = self.prog.removeprefix(f"{PROGRAM} ")
            raise DataError(f"{name} needs {needed}, as in: {self.examples[0]}")
        more = "" if message.endswith("?") else f" ({self.prog} --help tells more)."
        raise DataError(message.removeprefix("argument ") + more)


def refuse_unknown(
    parser: argparse.ArgumentParser,
    words: Iterable[str],
    commands: Mapping[str, argparse.ArgumentParser] | None = None,
) -> None:
    """Look at every word before argparse does: it tells first what is missing, and no near word."""
    options = [name for a in parser._actions for name in a.option_strings]
    rest = iter(words)
    for word in rest:
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
            refuse_unknown(commands[word], rest)
            return


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _typed(convert: Callable[[str], Any], wanted: str) -> Callable[[str], Any]:
    """An option's type that says what was wanted."""

    def read(text: str) -> Any:
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


def choice(*names: str) -> Kind:
    """The kind of an option that is one of some names."""

    def known(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"{listed(names)}; got '{text}'{near(text, names)}")
        return text

    return dict(type=known, metavar="|".join(names))


def option(
    parser: argparse.ArgumentParser,
    name: str,
    kind: Kind,
    text: str,
    default: Any = None,
    **more: Any,
) -> None:
    """Add an option of a kind (`WHOLE`, `PATH`, …) with its meaning; its default is told behind."""
    if kind is not SWITCH:
        more["default"] = default
        if default not in (None, ""):
            text += f" (default {written(default)})"
    parser.add_argument(name, help=text, **kind, **more)


def written(value: object) -> str:
    """A value as a person writes it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
