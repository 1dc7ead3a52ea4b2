"""The package's docstrings, plain text with `code`, as the reStructuredText that Sphinx wants."""

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import links

LABEL = re.compile(r"(Shapes|Raises|Returns|Sources?|Measured|[a-z_]+):\s")
LITERAL = re.compile(r"^\s|\S {2,}\S|^>>> ")      # indented, aligned in columns, an example


def process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Sphinx asks this for every docstring; `lines` is changed in place."""
    lines[:] = restructured("\n".join(lines)).split("\n")


def restructured(text: str) -> str:
    """Paragraphs flow, labels ("Shapes: …") begin new ones, what is aligned stays as it is."""
    parts = [part for part in re.split(r"\n\s*\n", text.strip("\n")) if part.strip()]
    return "\n\n".join(_part(part) for part in parts) + "\n"


def _part(part: str) -> str:
    lines = part.split("\n")
    if any(LITERAL.search(line) for line in lines):
        return "\n".join([".. code-block:: text", "", *(f"   {line}" for line in lines)])
    flowing = [lines[0]]
    for line in lines[1:]:
        if LABEL.match(line):
            flowing.append(line)
        else:
            flowing[-1] += " " + line
    return "\n\n".join(f"\\ {_escaped(line)}" for line in flowing)


def _escaped(line: str) -> str:
    """What reStructuredText would take for marks, escaped, outside `code`."""
    pieces = line.split("`")
    if len(pieces) % 2 == 0:                      # a lone backtick is a letter
        return re.sub(r"([\\*|_`])", r"\\\1", line)
    for k, piece in enumerate(pieces):
        if k % 2:
            pieces[k] = f"\\ ``{piece}``\\ "
        else:
            pieces[k] = re.sub(r"([\\*|_])", r"\\\1", piece).replace("::", ":\\:")
    return "".join(pieces)


def skip(app: Any, what: str, name: str, obj: Any, skipped: bool, options: Any) -> bool | None:
    """Leave out a named tuple's fields, of which Python says "Alias for field number 0"."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def linkcode_resolve(domain: str, info: dict[str, str]) -> str | None:
    """Where the source of a function or class is published, with its lines."""
    found: Any = importlib.import_module(info["module"])
    for name in info["fullname"].split("."):
        found = getattr(found, name, None)
    try:
        path = Path(inspect.getsourcefile(inspect.unwrap(found)) or "")
        lines, first = inspect.getsourcelines(found)
    except TypeError:                             # a constant has no lines of its own
        return None
    if not path.is_relative_to(links.ROOT):
        return None
    file = path.relative_to(links.ROOT).as_posix()
    return f"{links.on_github(file)}#L{first}-L{first + len(lines) - 1}"
