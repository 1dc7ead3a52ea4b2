"""The course as a site that needs no network: built from what is committed, nothing is run.

    python tools/site/make.py build/site

The pages are written into a temporary folder and given to Sphinx, for which a warning is an error.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

import api  # noqa: E402
import chapters  # noqa: E402
import claims  # noqa: E402
import course  # noqa: E402
import glossary  # noqa: E402
import links  # noqa: E402
import nbformat  # noqa: E402
import paper_map  # noqa: E402
import references  # noqa: E402
import teachers  # noqa: E402

MARK = "objects.inv"                              # Sphinx leaves one in every site
PLAYGROUND = HERE / "playground" / "build.py"
# READMEs that are pages as they stand: (file, page)
CARDS = tuple((file, page) for file, page in links.PAGES.items() if page != "index.md")


def write(source: Path, play: bool) -> None:
    """All pages of the site, as Sphinx reads them. play: whether they link to a playground."""
    for folder in ("chapters", "solutions", "api", "data", "extra/pictures"):
        (source / folder).mkdir(parents=True)
    pictures, words, uses = source / "extra" / "pictures", [], []
    stems = links.published()
    for stem in stems:
        text, found = chapters.chapter(stem, pictures, play)
        words += found
        _put(source / "chapters" / f"{stem}.ipynb", text)
        _put(source / "solutions" / f"{stem}.md", chapters.solutions(stem))
        uses += references.uses(stem, prose(stem))
    made = {
        "glossary.md": glossary.page(words), "references.md": references.page(uses),
        "map.md": paper_map.page(), "claims.md": claims.page(pictures),
        "teachers.md": teachers.page(stems), "index.md": front(stems, play),
        "start.md": gathered("start.md", "I have a laptop", "I have a GPU", "Using the parts",
                             "Installing by hand"),
        "results.md": gathered("results.md", "How good the models are", "How fast they learn"),
        "solutions/index.md": solutions_index(stems),
    }
    for name, text in (made | api.pages()).items():
        _put(source / name, text)
    for file, page in CARDS:
        _put(source / page, links.relinked(links.read(file), file, page))
    for picture in (links.ROOT / "data").rglob("*.png"):
        there = source / picture.relative_to(links.ROOT)
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, there)


def _put(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def prose(stem: str) -> list[str]:
    """The prose cells of a chapter."""
    book = nbformat.read(links.ROOT / "notebooks" / f"{stem}.ipynb", 4)
    return [cell.source for cell in book.cells if cell.cell_type == "markdown"]


def gathered(page: str, *headings: str) -> str:
    """Sections of the README as a page; its title is in pages/."""
    text, out = links.read("README.md"), [(HERE / "pages" / page).read_text(encoding="utf-8")]
    for heading in headings:
        body = re.sub(r"^#(#+ )", r"\1", links.section(text, heading), flags=re.M)
        out.append(f"## {heading}\n\n{links.relinked(body, 'README.md', page)}")
    return "\n".join(out)


def front(stems: list[str], play: bool) -> str:
    """The first page: pages/index.md with the chapters and the picture of the README filled in."""
    text = (HERE / "pages" / "index.md").read_text(encoding="utf-8")
    picture = re.search(r"^!\[[^\]]+\]\(data/[^)]+\)$", links.read("README.md"), re.M)
    assert picture, "README.md begins with a picture"
    fill = {
        "picture": picture[0], "hours": str(course.hours()),
        "chapters": "\n".join(card(stem) for stem in stems if stem in course.CHAPTERS),
        "excursions": "\n".join(card(stem) for stem in stems if stem in course.EXCURSIONS),
        "count": str(len(course.CHAPTERS)),
        "play": ('<p><a href="playground/index.html">Play with the models in your browser</a>: '
                 "nothing is installed.</p>") if play else "",
        "list of chapters": "\n".join(f"chapters/{s}" for s in stems if s in course.CHAPTERS),
        "list of excursions": "\n".join(f"chapters/{s}" for s in stems if s in course.EXCURSIONS),
        "repository": course.repository(),
    }
    return re.sub(r"\{\{(.+?)\}\}", lambda m: fill[m[1]], text)


def card(stem: str) -> str:
    """A chapter in the list of the front page."""
    c = course.everything()[stem]
    return (f"- [{course.number(stem)} · {c.title}](chapters/{stem}.ipynb)  \n  "
            f"{c.about[0].upper()}{c.about[1:]}. *{c.read} minutes; [Colab]({course.colab(stem)})*")


def solutions_index(stems: list[str]) -> str:
    lines = ["# Solutions", "", "The solved exercises, a page a chapter. Try first: a hint is "
             "folded below every exercise, and `check` names the mistake.", "", "```{toctree}",
             ":maxdepth: 1", ""]
    return "\n".join([*lines, *stems, "```", ""])


def build(out: Path, play: bool) -> None:
    """Write the site into `out`, replacing a site there.

    Raises: FileExistsError for a folder that is no site; CalledProcessError where Sphinx warns.
    """
    if out.exists() and any(out.iterdir()) and not (out / MARK).exists():
        raise FileExistsError(f"'{out}' is not empty and no site; name another folder.")
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / "source", Path(folder) / "site"
        write(source, play)
        settings = ["-c", str(HERE), "-d", f"{folder}/doctrees",
                    "-D", f"html_extra_path={source / 'extra'}"]
        sphinx = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
        subprocess.run([*sphinx, *settings, str(source), str(made)], check=True)
        if play:
            subprocess.run([sys.executable, str(PLAYGROUND), str(made)], check=True)
        shutil.rmtree(out, ignore_errors=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(made, out)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, nargs="?", default=links.ROOT / "build" / "site")
    parser.add_argument("--no-playground", action="store_true", help="leave it out")
    asked = parser.parse_args(words)
    try:
        build(asked.out, PLAYGROUND.exists() and not asked.no_playground)
    except FileExistsError as e:
        print(e, file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as e:
        print(f"The site was not built: {' '.join(map(str, e.cmd[:3]))} … said why above.",
              file=sys.stderr)
        return 1
    print(f"{len(list(asked.out.rglob('*.html')))} pages: open {asked.out / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
