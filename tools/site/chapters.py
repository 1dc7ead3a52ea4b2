"""Notebooks as pages: chapters with their stored outputs, and the solutions apart from them."""

import base64
import copy
import hashlib
import re
from pathlib import Path
from typing import NamedTuple

import course
import glossary
import links
import nbformat

PICTURE = re.compile(r'<img src="data:image/png;base64,([^"]+)"')
# a chapter's toy in the playground; playground/build.py, which has them too, needs more imported
TOYS = {"02_vae": "vae", "03_vqvae": "vqvae", "06_ddim": "ddim", "07_fftd": "fftd",
        "x2_text_to_image": "sentence"}
PLAY = '<a href="../playground/{}.html">Play with it in the browser</a>'
EXERCISE = re.compile(r"^### (Exercise (\S+) · `(\w+)` .*)$", re.M)
SECTION = re.compile(r"^## (\d+)\. ", re.M)


def chapter(stem: str, pictures: Path, play: bool) -> tuple[str, list[glossary.Word]]:
    """A chapter as a notebook for Sphinx, and its words.

    Its pictures become files in `pictures`; play: whether there is a playground to link to.
    """
    file, page = f"notebooks/{stem}.ipynb", f"chapters/{stem}.ipynb"
    book = copy.deepcopy(nbformat.read(links.ROOT / file, 4))
    prose = [cell for cell in book.cells if cell.cell_type == "markdown"]
    texts = [cell.source for cell in prose]
    words = glossary.words_of(stem, texts)
    for cell, text in zip(prose, glossary.marked(stem, texts), strict=True):
        cell.source = with_targets(stem, links.relinked(text, file, page))
    if play and stem in TOYS:
        lines = prose[0].source.split("\n")
        place = next(k for k, line in enumerate(lines) if "colab.research.google" in line)
        lines[place] = f"{PLAY.format(TOYS[stem])} · {lines[place]}"
        prose[0].source = "\n".join(lines)
    for cell in book.cells:
        if cell.cell_type == "code" and "google.colab" in cell.source:
            cell.metadata.tags = ["hide-input"]
            cell.metadata.mystnb = {"code_prompt_show": "Show the cell for Colab",
                                    "code_prompt_hide": "Hide the cell for Colab"}
        for output in cell.get("outputs", []):
            if page_html := output.get("data", {}).get("text/html"):
                output.data["text/html"] = PICTURE.sub(
                    lambda m: _stored(m[1], pictures), "".join(page_html))
    return nbformat.writes(book), words


def _stored(encoded: str, pictures: Path) -> str:
    """A picture written to its own file; the tag's beginning, with the size it will take."""
    png = base64.b64decode(encoded)
    name = f"{hashlib.sha256(png).hexdigest()[:16]}.png"
    (pictures / name).write_bytes(png)
    width, height = (int.from_bytes(png[k : k + 4], "big") for k in (16, 20))
    kind = "figure wide dark-light" if width > 600 else "figure dark-light"
    return (f'<img src="../pictures/{name}" width="{width}" height="{height}" loading="lazy" '
            f'class="{kind}"')


def target(stem: str, kind: str, number: str) -> str:
    """The name of a place: c1-section-2, c1-exercise-1.2."""
    return f"c{course.number(stem)}-{kind}-{number}"


def with_targets(stem: str, text: str) -> str:
    """Names for sections and exercises, so that other pages can lead there."""
    text = SECTION.sub(lambda m: f"({target(stem, 'section', m[1])})=\n{m[0]}", text)
    return EXERCISE.sub(lambda m: f"({target(stem, 'exercise', m[2])})=\n{m[0]}", text)


def solutions(stem: str) -> str:
    """The page of a chapter's solved exercises: each one's heading and code."""
    book = nbformat.read(links.ROOT / "solutions" / f"{stem}.ipynb", 4)
    title = course.everything()[stem].title
    kind = "Excursion" if stem in course.EXCURSIONS else "Chapter"
    lines = [f"# {kind} {course.number(stem)}, {title}: the solved exercises", "",
             "Try first, and read the hints: what you have found yourself stays. An answer may "
             "look otherwise and be as right; `check` decides.", ""]
    heading = None
    for cell in book.cells:
        if cell.cell_type == "markdown":
            heading = EXERCISE.findall(cell.source)[-1:] or heading
        elif cell.metadata.get("nbgrader", {}).get("solution"):
            assert heading, f"{stem}: a solution without an exercise"
            ((words, number, _),) = heading
            back = target(stem, "exercise", number)
            lines += [f"## {words}", "", "```python", _plain(cell.source), "```", "",
                      f"[Back to the exercise](#{back})", ""]
    return "\n".join(lines)


def _plain(source: str) -> str:
    """A solution without the marks that the builder cuts at."""
    lines = [line for line in source.split("\n") if "### BEGIN SOL" not in line]
    return "\n".join(line for line in lines if "### END SOL" not in line).strip()


def exercises(stem: str) -> list[tuple[str, int]]:
    """(name, stars) of a chapter's exercises."""
    book = nbformat.read(links.ROOT / "notebooks" / f"{stem}.ipynb", 4)
    prose = "\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
    return [(name, words.count("★")) for words, _, name in EXERCISE.findall(prose)]


class Section(NamedTuple):
    """A numbered section: the minutes that it announces (0 where it does not), its exercises."""

    number: int
    minutes: int
    exercises: list[str]


def sections(stem: str) -> list[Section]:
    """The numbered sections of a chapter."""
    book = nbformat.read(links.ROOT / "notebooks" / f"{stem}.ipynb", 4)
    prose = "\n\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
    found = []
    for part in re.split(r"^(?=## )", prose, flags=re.M):
        if match := SECTION.match(part):
            minutes = re.match(r"[^\n]*\n\n\*(\d+) minutes", part)
            names = [name for _, _, name in EXERCISE.findall(part)]
            found.append(Section(int(match[1]), int(minutes[1]) if minutes else 0, names))
    return found
