"""The site is whole: built once, without a warning, and every page read as a browser would."""

import functools
import html
import os
import re
import subprocess
import sys
import urllib.parse
from html.parser import HTMLParser
from pathlib import Path

import course
import nbformat
import pytest

ROOT = course.ROOT
sys.path.append(str(ROOT / "tools" / "site"))

import chapters  # noqa: E402
import claims  # noqa: E402
import docstrings  # noqa: E402
import glossary  # noqa: E402
import links  # noqa: E402
import make  # noqa: E402
import references  # noqa: E402
import teachers  # noqa: E402

from minigen.paper.tables import TABLES  # noqa: E402
from tests.conftest import peer  # noqa: E402

STEMS = links.published()
# what a browser fetches by itself; a link that is followed by hand may lead anywhere
FETCHED = {"script": ("src",), "img": ("src", "srcset"), "source": ("src", "srcset"),
           "iframe": ("src",), "video": ("src", "poster"), "audio": ("src",), "object": ("data",),
           "embed": ("src",), "input": ("src",)}
FETCHING_LINKS = {"stylesheet", "preload", "modulepreload", "icon", "manifest", "prefetch"}


class Page(HTMLParser):
    """What a page links to, fetches, shows and can be led to."""

    def __init__(self, path):
        super().__init__()
        self.path, self.names, self.links, self.fetched, self.pictures = path, set(), [], [], []
        self.order = []                           # (exercise heading or link), as they follow
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        self.names |= {a[k] for k in ("id", "name") if a.get(k)}
        if tag == "a" and a.get("href"):
            self.links.append(a["href"])
        self.fetched += [a[k] for k in FETCHED.get(tag, ()) if a.get(k)]
        if tag == "link" and FETCHING_LINKS & set(a.get("rel", "").split()):
            self.fetched.append(a["href"])
        if tag == "img":
            self.pictures.append(a)
        self.fetched += re.findall(r"url\(['\"]?([^)'\"]+)", a.get("style") or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site; SITE=folder takes one that is there.

    make.py fails where Sphinx warns.
    """
    if there := os.environ.get("SITE"):
        return Path(there)
    peer("sphinx")
    peer("myst_nb")
    folder = tmp_path_factory.mktemp("built") / "site"
    command = [sys.executable, ROOT / "tools" / "site" / "make.py", "--no-playground", folder]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    """{path: Page} of every page; the theme leaves a template among its styles."""
    found = (p for p in sorted(site.rglob("*.html")) if p.parent.name != "_static")
    return {p: Page(p) for p in found}


def test_every_chapter_has_its_page_and_its_solutions(site, pages):
    for stem in STEMS:
        assert site / "chapters" / f"{stem}.html" in pages
        assert site / "solutions" / f"{stem}.html" in pages
        text = (site / "index.html").read_text(encoding="utf-8")
        assert f'href="chapters/{stem}.html"' in text
    kinds = ("map", "claims", "results", "glossary", "references", "teachers", "data", "weights",
             "start", "rehearsal", "changelog", "api/index", "api/minigen.engine.loop", "search")
    assert {site / f"{kind}.html" for kind in kinds} <= pages.keys()


def test_every_link_inside_leads_somewhere(site, pages):
    for path, page in pages.items():
        for link in page.links:
            where = urllib.parse.urlsplit(link)
            if where.scheme:
                assert where.scheme in ("http", "https", "mailto"), f"{path}: {link}"
                continue
            name = urllib.parse.unquote(where.path)
            there = (path.parent / name).resolve() if name else path
            assert there.is_file(), f"{path.relative_to(site)} links to {link}"
            if where.fragment and there in pages:
                anchor = urllib.parse.unquote(where.fragment)
                assert anchor in pages[there].names, f"{path.relative_to(site)} links to {link}"


def test_links_into_the_repository_lead_to_files(pages):
    address = f"{course.repository()}/"
    for path, page in pages.items():
        for link in page.links:
            if link.startswith(address) and (m := re.match("(blob|tree)/main/(.+)",
                                                           link[len(address):])):
                file = urllib.parse.unquote(m[2].split("#")[0])
                assert (ROOT / file).exists(), f"{path.name}: {link}"


def test_nothing_is_fetched_from_elsewhere(site, pages):
    for path, page in pages.items():
        for address in page.fetched:
            if address.startswith("data:"):
                continue
            assert not re.match(r"[a-z]+:|//", address), f"{path.relative_to(site)}: {address}"
            file = urllib.parse.unquote(address.split("?")[0].split("#")[0])
            assert (path.parent / file).is_file(), f"{path.relative_to(site)}: {address}"
    for sheet in site.rglob("*.css"):
        text = re.sub(r"/\*.*?\*/", "", sheet.read_text(encoding="utf-8"), flags=re.S)
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", text), sheet.name


def test_every_picture_is_told_in_words(site, pages):
    count = 0
    for path, page in pages.items():
        for picture in page.pictures:
            assert len(picture.get("alt", "")) > 20, f"{path.relative_to(site)}: {picture}"
            count += 1
    assert count > 200


def test_pictures_keep_the_words_of_the_notebooks(site, pages):
    """As many pictures as a chapter's outputs have, with the same words."""
    for stem in STEMS:
        book = nbformat.read(ROOT / "notebooks" / f"{stem}.ipynb", 4)
        outputs = [o.data["text/html"] for c in book.cells for o in c.get("outputs", [])
                   if "text/html" in o.get("data", {})]
        stored = [html.unescape(words) for text in outputs
                  for words in re.findall(r'<img [^>]*?alt="([^"]*)"', "".join(text))]
        page = pages[site / "chapters" / f"{stem}.html"]
        assert [p["alt"] for p in page.pictures if "figure" in p.get("class", "")] == stored


def test_words_lead_to_where_they_are_explained_and_back(site, pages):
    text = (site / "glossary.html").read_text(encoding="utf-8")
    words = [w for stem in STEMS for w in glossary.words_of(stem, make.prose(stem))]
    assert len(words) > 90 and len({w.anchor for w in words}) == len(words)
    home = pages[site / "glossary.html"]
    for w in words:
        there = pages[site / "chapters" / f"{w.stem}.html"]
        assert f"term-{w.anchor}" in home.names and f"word-{w.anchor}" in there.names
        assert f"chapters/{w.stem}.html#word-{w.anchor}" in home.links
        assert f"../glossary.html#term-{w.anchor}" in there.links
        assert w.chinese in text


def test_words_are_sorted_in_both_languages(site):
    text = (site / "glossary.html").read_text(encoding="utf-8")
    english = re.findall(r'<span id="term-[^"]+">([^<]+)</span>', text)
    assert english == sorted(english, key=str.casefold)
    half = text.split('id="id1"')[-1] if 'id="id1"' in text else text.split("中文</h2>")[-1]
    chinese = re.findall(r'<span lang="zh">([^<]+)</span>', text)
    first, second = chinese[: len(english)], chinese[len(english):]
    assert sorted(first) == sorted(second) and half
    assert second == sorted(second, key=glossary.pinyin)
    assert sorted("值半波", key=glossary.pinyin) == list("半波值")      # bàn, bō, zhí


def test_the_phrases_stand_in_the_chapters():
    """A word that is explained in other words: they are there still, and outside formulas."""
    for stem in STEMS:
        cells = make.prose(stem)
        named = {w.english for w in glossary.words_of(stem, cells)}
        for word, phrase in glossary.PHRASES.get(stem.split("_")[0], {}).items():
            assert word in named, f"{stem}: {word}"
            marked = "\n".join(glossary.marked(stem, cells))
            pattern = rf'<a class="word" id="[^"]+" href="[^"]+">{glossary.spaced(phrase)}</a>'
            assert re.search(pattern, marked, re.I), f"{stem}: {phrase}"


def test_every_reproduced_table_is_drawn(site, pages):
    text = (site / "claims.html").read_text(encoding="utf-8")
    words = re.sub(r"<[^>]+>", "", text)
    known = {p.stem for p in (ROOT / "data" / "reproduce").glob("*.json")} & TABLES.keys()
    assert len(known) >= 15
    for name in known:
        assert f'src="pictures/{name}.svg"' in text
        assert (site / "pictures" / f"{name}.svg").stat().st_size > 5000
        assert f"python -m minigen reproduce {name}" in words
        for row in TABLES[name].rows:
            assert len(claims.values(name, row, TABLES[name].columns[0])) >= 3, (name, row)
    assert text.count("<table") == len(known) + 1


def test_the_verdicts_are_those_of_chapter_7():
    """The chapter prints its own: the same rows, rule and words."""
    book = nbformat.read(ROOT / "notebooks" / "07_fftd.ipynb", 4)
    printed = "\n".join("".join(o.get("text", "")) for c in book.cells
                        for o in c.get("outputs", []))
    both = [c for c in claims.CLAIMS if c.columns == claims.BOTH]
    seen = 0
    for claim in both:
        line = re.search(rf"^{re.escape(claim.words)} .*$", printed, re.M)
        assert line, claim.words
        by_distance, by_loss = (claims.verdict(claim, column)[2] for column in claim.columns)
        assert line[0].split("%")[-1].split() == f"{by_distance} {by_loss}".split(), line[0]
        seen += 1
    assert seen == 9


def test_solutions_stand_apart_from_the_exercises(site, pages):
    """A chapter leads to its solutions below its last exercise, and prints none.

    Chapter 0 also names them in its head, where it explains how a chapter works.
    """
    for stem in STEMS:
        text = (site / "chapters" / f"{stem}.html").read_text(encoding="utf-8")
        article = text[text.index("<article"): text.index("</article>")]
        assert "BEGIN SOLUTION" not in article
        heads = [m.start() for m in re.finditer(r"<h[23]>", article)]
        tasks = [m.end() for m in re.finditer(r"<h3>Exercise ", article)]
        assert len(tasks) == len(chapters.exercises(stem))
        spots = [m.start() for m in re.finditer(r'href="\.\./solutions/', article)]
        assert max(spots) > article.index("<h2>Summary") > tasks[-1], stem
        for start in tasks:
            end = min(head for head in heads if head > start)
            assert not any(start < spot < end for spot in spots), stem
        answers = (site / "solutions" / f"{stem}.html").read_text(encoding="utf-8")
        assert "### BEGIN" not in answers and "NotImplementedError" not in answers
        for name, _ in chapters.exercises(stem):
            assert name in answers, f"{stem}: {name}"


def test_references_have_a_doi_or_an_arxiv_address(site, pages):
    uses = [use for stem in STEMS for use in references.uses(stem, make.prose(stem))]
    works = {use.address for use in uses}
    known = [w for w in works if re.match(r"https://(doi\.org/10\.|arxiv\.org/abs/)", w)]
    others = works - set(known)
    assert len(works) > 70 and len(others) <= 4, others
    assert works <= set(pages[site / "references.html"].links)


def test_a_reference_without_a_link_is_refused():
    with pytest.raises(ValueError, match="without a link"):
        references.uses("01_gan", ["### References\n\n- Someone 2020, *Something*."])


def test_a_link_to_nothing_is_refused():
    with pytest.raises(ValueError, match="not there"):
        links.relinked("[x](nowhere.md)", "README.md", "index.md")
    assert links.relinked("`[x](nowhere.md)`", "README.md", "a.md") == "`[x](nowhere.md)`"
    assert links.relinked("[x](notebooks/01_gan.ipynb)", "README.md", "solutions/a.md") == (
        "[x](../chapters/01_gan.ipynb)")


def test_a_folder_that_is_no_site_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    assert make.main([str(tmp_path)]) == 2
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_the_weeks_cover_every_chapter_and_exercise():
    assert [week for week, _, _ in teachers.EIGHT] == list(range(1, 9))
    assert [week for week, _, _ in teachers.FOURTEEN] == list(range(1, 15))
    for stem in course.CHAPTERS:
        parts = [part for _, s, part in teachers.FOURTEEN if s == stem]
        taught = [name for part in parts for s in teachers.within(stem, part)
                  for name in s.exercises]
        assert sorted(taught) == sorted(name for name, _ in chapters.exercises(stem)), stem
        told = sum(s.minutes for s in chapters.sections(stem))
        assert 0.9 * course.CHAPTERS[stem].read <= told <= 1.1 * course.CHAPTERS[stem].read


def test_a_playground_is_linked_from_the_front_and_each_toy_from_its_chapter(tmp_path):
    for stem in links.published():
        text, _ = chapters.chapter(stem, tmp_path, play=True)
        toy = chapters.TOYS.get(stem)
        assert (f"../playground/{toy}.html" in text) == ("../playground/" in text) == bool(toy)
    written = (ROOT / "tools" / "site" / "playground" / "build.py").read_text(encoding="utf-8")
    toys = re.findall(r'Toy\("(\w+)", .+?, "(\w+)",\s+\(', written, re.S)
    assert dict(toys) == {toy: stem for stem, toy in chapters.TOYS.items()}
    assert 'href="playground/index.html"' in make.front(STEMS, play=True)
    assert "playground" not in make.front(STEMS, play=False)


def test_docstrings_become_paragraphs():
    text = "What x_t is: |x|.\n\nminimax:  a\nhinge:    b\n\nOne\nline. `a_b`\nShapes: (B,)."
    made = docstrings.restructured(text)
    assert "\\ What x\\_t is: \\|x\\|." in made and "   hinge:    b" in made
    assert "One line. \\ ``a_b``\\ \n\n\\ Shapes: (B,)." in made


@functools.cache
def workflow():
    return (ROOT / ".github" / "workflows" / "pages.yml").read_text(encoding="utf-8")


def test_the_workflow_publishes_what_make_site_writes():
    assert "make site" in workflow() and "path: build/site" in workflow()
    assert Path(ROOT, "Makefile").read_text(encoding="utf-8").count("build/site") >= 1


def test_the_requirements_are_pinned_and_explained():
    for line in (ROOT / "tools/site/requirements.txt").read_text(encoding="utf-8").splitlines():
        assert line.startswith(("#", "-")) or re.fullmatch(r"[a-z-]+==[\d.]+ +# .+", line), line
    text = (ROOT / "requirements-test.txt").read_text(encoding="utf-8")
    assert "-r tools/site/requirements.txt" in text
