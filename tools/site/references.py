"""The chapters' references as one list, each work once, with the chapters that use it."""

import re
from typing import NamedTuple

import course
import links

ENTRY = re.compile(r"^- (.+?), \[([^\]]+)\]\((http[^)\s]+)\)(.*)$", re.M)


class Use(NamedTuple):
    """A work as one chapter cites it; note: what of it is used there."""

    work: str
    name: str
    address: str
    note: str
    stem: str


def uses(stem: str, cells: list[str]) -> list[Use]:
    """The references of a chapter.

    Raises: ValueError for a line of the list without a link to the work.
    """
    found = []
    for cell in cells:
        _, heading, listed = cell.partition("### References")
        for line in re.findall(r"^- .*$", listed, re.M):
            match = ENTRY.match(line)
            if not heading or not match:
                raise ValueError(f"{stem}: a reference without a link: {line[:80]}")
            note = match[4].lstrip(":. ").rstrip(".")
            found.append(Use(match[1], match[2], match[3], note, stem))
    return found


def page(found: list[Use]) -> str:
    """All works by author and year: the fullest title that a chapter gives, and who uses what."""
    works: dict[str, list[Use]] = {}
    for use in found:
        works.setdefault(use.address, []).append(use)
    lines = ["# References", "",
             f"{len(works)} works that the chapters stand on, each with the chapters that use it "
             "and what of it they use. The link is the work's DOI or its place on arXiv, where it "
             "has one.", ""]
    for group in sorted(works.values(), key=lambda group: _order(group[0])):
        fullest = max(group, key=lambda use: len(use.work))
        where = "; ".join(_chapter(use) for use in group)
        lines.append(f"- {fullest.work}, [{fullest.name}]({fullest.address}). {where}.")
    return "\n".join(lines) + "\n"


def _order(use: Use) -> tuple[str, str]:
    year = re.search(r"\b(18|19|20)\d\d\b", use.work)
    first = re.split(r"[ ,]", use.work.removeprefix("van den "))[0]
    return first.casefold(), year[0] if year else ""


def _chapter(use: Use) -> str:
    kind = "Excursion" if use.stem in course.EXCURSIONS else "Chapter"
    link = links.place_of(f"notebooks/{use.stem}.ipynb")
    note = f": {use.note}" if use.note else ""
    return f"[{kind} {course.number(use.stem)}]({link}){note}"
