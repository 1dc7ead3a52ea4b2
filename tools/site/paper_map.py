"""From the paper to the code: the README's table, its code and its chapters made links."""

import importlib
import re
from typing import Any

import course
import links
from chapters import target

HEADING = "From the paper to the code"


def rows() -> list[list[str]]:
    """The cells of the README's table: paper, code, notebook, test."""
    table = links.section(links.read("README.md"), HEADING)
    return [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]


def page() -> str:
    """The table as a page: code leads to its description, places to the chapters."""
    head, *body = rows()
    lines = [f"# {HEADING}", "",
             "Liu, Chen and Gao, [*Image Generation Based on Diffusion Model in Latent "
             "Space*](http://www.c-s-a.org.cn/1003-3254/10098.html) (Computer Systems & "
             "Applications, 2026): where each of its equations, algorithms and tables is. What its "
             "tables claim, and what small experiments say of that, is on [a page of its "
             "own](claims.md).", "",
             f"| {' | '.join(head)} |", "|---|---|---|---|"]
    for paper, code, notebook, test in body:
        lines.append(f"| {paper} | {coded(code)} | {placed(notebook)} | {tested(test)} |")
    return "\n".join(lines) + "\n"


def coded(cell: str) -> str:
    """`minigen.ivqvae.Encoder`, `Decoder` as links; the second is in the first one's module."""
    module = ""

    def new(match: re.Match[str]) -> str:
        nonlocal module
        name = re.sub(r"\(.*", "", match[1])
        if name.startswith("minigen."):
            path = name.split(".")
            while len(path) > 1 and not links.documented("/".join(path) + ".py"):
                path.pop()
            module = ".".join(path)
        elif module and name[:1].isupper():
            name = f"{module}.{name}"
        if not name.startswith("minigen."):
            return match[0]
        role = "py:mod" if name == module else "py:obj"
        return f"{{{role}}}`{match[1].partition('(')[0]} <{_home(module, name)}>`"

    return re.sub(r"`([^`]+)`", new, cell)


def _home(module: str, name: str) -> str:
    """Where a function or class is described: in the module that defines it."""
    found: Any = getattr(importlib.import_module(module), name.removeprefix(f"{module}."), None)
    return f"{found.__module__}.{found.__qualname__}" if hasattr(found, "__qualname__") else name


def placed(cell: str) -> str:
    """"chapter 4, §1 and §4" with its sections as links."""
    stems = {course.number(stem): stem for stem in links.published()}
    number, out = "", []
    for part in re.split(r"((?:chapter|excursion) \w+|§\d+)", cell):
        found = re.fullmatch(r"(?:chapter|excursion) (\w+)", part)
        number = found[1] if found else number
        if number not in stems:
            out.append(part)
        elif found:
            out.append(f"[{part}](chapters/{stems[number]}.ipynb)")
        elif part.startswith("§"):
            out.append(f"[{part}](#{target(stems[number], 'section', part[1:])})")
        else:
            out.append(part)
    return "".join(out)


def tested(cell: str) -> str:
    """`tests/test_x.py` as a link to the repository."""
    return re.sub(r"`(tests/[^`]+)`", lambda m: f"[{m[1]}]({links.on_github(m[1])})", cell)


def told_in(table: str) -> str:
    """The chapter and section that a reproduced table belongs to; empty where none is named."""
    for _, code, notebook, _ in rows()[1:]:
        if "reproduce" in code and re.search(rf"\b{table}\b", code):
            return placed(notebook)
    return ""
