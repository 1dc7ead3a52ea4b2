"""Where a file of the repository is on the site: links of READMEs and notebooks, rewritten."""

import os
import posixpath
import re
import urllib.parse
from pathlib import Path

import course

ROOT = course.ROOT
# files that are pages, and the README's headings, which have become pages of their own
PAGES = {
    "README.md": "index.md", "data/README.md": "data.md", "data/pretrained/README.md": "weights.md",
    "data/rehearsal/README.md": "rehearsal.md", "CHANGELOG.md": "changelog.md",
}
HEADINGS = {
    "chapters": "index.md#chapters", "from-the-paper-to-the-code": "map.md",
    "installing-by-hand": "start.md#installing-by-hand",
}
# code is left alone; then the target of a link or a picture
LINK = re.compile(r"(```.*?```|`[^`\n]*`)|(?<=\]\()([^()\s]+)(?=\))", re.S)


def published() -> list[str]:
    """The chapters and excursions whose notebook is there."""
    return [s for s in course.everything() if (ROOT / "notebooks" / f"{s}.ipynb").exists()]


def module_page(path: str) -> str:
    """minigen/engine/loop.py is described in api/minigen.engine.loop.md."""
    name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return f"api/{name}.md"


def documented(path: str) -> bool:
    """Whether a file is a module with a page. The checks have none: they tell the answers."""
    parts = path.split("/")
    inside = parts[0] == "minigen" and path.endswith(".py") and "checks" not in parts
    return inside and parts[-1] != "__main__.py" and (ROOT / path).is_file()


def on_github(path: str) -> str:
    """A file or a folder of the repository, where it is published."""
    kind = "tree" if (ROOT / path).is_dir() else "blob"
    return f"{course.repository()}/{kind}/main/{urllib.parse.quote(path)}"


def place_of(path: str, heading: str = "") -> str:
    """A file of the repository: its page in the site's source, or its address on GitHub."""
    path = path.rstrip("/")
    if path == "README.md" and heading:
        return HEADINGS.get(heading, f"{on_github(path)}#{heading}")
    stem = posixpath.basename(path).rsplit(".")[0]
    if stem in course.everything() and path.startswith("notebooks/"):
        return f"chapters/{stem}.ipynb"
    if stem in course.everything() and path.startswith("solutions/"):
        return f"solutions/{stem}.md"
    if path in PAGES:
        return PAGES[path]
    if documented(path):
        return module_page(path)
    if path.startswith("data/") and path.endswith(".png"):
        return path                             # pictures are copied as they lie
    return on_github(path)


def relinked(text: str, file: str, page: str) -> str:
    """A text out of `file` (a path in the repository) as it stands in `page` of the site.

    Raises: ValueError for a link to a file that is not there.
    """

    def new(match: re.Match[str]) -> str:
        target = match[2]
        if match[1] or re.match(r"[a-z]+:", target):
            return match[0]
        path, _, heading = target.partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(file), path)) if path else file
        if not (ROOT / path).exists():
            raise ValueError(f"{file} links to '{target}', which is not there")
        return from_page(place_of(path, heading), page)

    return LINK.sub(new, text)


def from_page(place: str, page: str) -> str:
    """A place in the site's source, or an address, as a link in `page`."""
    if place.startswith("http"):
        return place
    path, mark, heading = place.partition("#")
    path = os.path.relpath(path, posixpath.dirname(page) or ".").replace(os.sep, "/")
    return path + mark + heading


def section(text: str, heading: str) -> str:
    """What stands below a heading of a README, up to the next of its rank.

    Raises: ValueError where there is no such heading.
    """
    found = re.search(rf"^(#+) {re.escape(heading)}\n(.*?)(?=^\1 |\Z)", text, re.M | re.S)
    if not found:
        raise ValueError(f"README.md has no heading '{heading}'")
    return found[2].strip() + "\n"


def read(path: str) -> str:
    """A text file of the repository."""
    return Path(ROOT, path).read_text(encoding="utf-8")
