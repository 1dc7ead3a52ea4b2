"""The committed notebooks are what the sources make; every chapter keeps the course's manners."""

import html
import re
import shutil
import subprocess
import sys
from collections import Counter

import build_notebooks as build
import course
import nbformat
import pytest

from minigen.checks import exercises

STEMS = build.stems()
EDITIONS = {stem: build.editions(stem) for stem in STEMS}


def stored(stem, folder="notebooks"):
    return nbformat.read(build.ROOT / folder / f"{stem}.ipynb", 4)


def code_cells(stem):
    return [c for c in stored(stem).cells if c.cell_type == "code"]


def test_every_source_has_its_notebooks_and_the_reverse():
    for folder in ("notebooks", "solutions"):
        assert sorted(p.stem for p in (build.ROOT / folder).glob("*.ipynb")) == STEMS


@pytest.mark.parametrize("stem", STEMS)
def test_committed_notebooks_are_what_the_sources_make(stem):
    assert build.stale(stem) == [], "run `make notebooks`"


@pytest.mark.parametrize("stem", STEMS)
def test_students_see_no_solution_and_teachers_see_all(stem):
    solution, student = EDITIONS[stem]
    answers = [c for c in student.cells if c.metadata.get("nbgrader", {}).get("solution")]
    assert 4 <= len(answers) <= 8
    assert all(c.source.rstrip().endswith("raise NotImplementedError") for c in answers)
    assert not any("SOLUTION" in c.source for c in student.cells)
    solved = [c for c in solution.cells if c.metadata.get("nbgrader", {}).get("solution")]
    ids = [[c.metadata["nbgrader"]["grade_id"] for c in cells] for cells in (solved, answers)]
    assert ids[0] == ids[1]
    assert not any("NotImplementedError" in c.source for c in solved)


@pytest.mark.parametrize("stem", STEMS)
def test_each_exercise_has_its_check_stars_minutes_and_hint(stem):
    cells = stored(stem).cells
    for i, cell in enumerate(cells):
        grading = cell.metadata.get("nbgrader", {})
        if not grading.get("solution"):
            continue
        name = grading["grade_id"]
        test = cells[i + 1].metadata["nbgrader"]
        assert test["grade"] and test["locked"] and test["points"] >= 1
        assert test["grade_id"] == f"check-{name}"
        assert cells[i + 1].source.strip() == f"check({name})"
        assert cells[i + 1].outputs[0].text == f"{name}: not attempted yet.\n"
        above = cells[i - 1].source
        assert re.search(rf"### Exercise x?\d+\.\d+ · `{name}` · ★+ · \d+ minutes", above)
        assert "<summary>Hint</summary>" in above


@pytest.mark.parametrize("stem", STEMS)
def test_the_board_has_a_chapters_exercises_in_its_order(stem):
    marks = [c.metadata.get("nbgrader", {}) for c in EDITIONS[stem][1].cells]
    names = [m["grade_id"] for m in marks if m.get("solution")]
    assert list(exercises().values())[STEMS.index(stem)] == names


@pytest.mark.parametrize("stem", STEMS)
def test_executed_in_order_and_without_error(stem):
    cells = code_cells(stem)
    assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1))
    assert not any(o.output_type == "error" for c in cells for o in c.outputs)


@pytest.mark.parametrize("stem", STEMS)
def test_what_github_and_other_people_can_read(stem):
    nb = stored(stem)
    assert "widgets" not in nb.metadata and nb.metadata.kernelspec.name == "python3"
    text = (build.ROOT / "notebooks" / f"{stem}.ipynb").read_text(encoding="utf-8")
    words = [str(build.without_pictures(o)) for c in code_cells(stem) for o in c.outputs]
    words += [c.source for c in nb.cells]
    assert not any(re.search(r"/(home|root|tmp|work|Users)/|[A-Z]:\\\\Users", w) for w in words)
    assert course.repository() in text
    assert not re.search(r"\{\{\w+\}\}", text), "an address that was not stamped"
    assert len(text) < 3e6


@pytest.mark.parametrize("stem", STEMS)
def test_every_figure_has_alternative_text(stem):
    shown = [o.data for c in code_cells(stem) for o in c.outputs if "data" in o]
    figures = [data for data in shown if "<img" in data.get("text/html", "")]
    assert len(figures) >= 8
    assert not any("image/png" in data for data in shown), "show() gives a picture its words"
    for data in figures:
        (alt,) = re.findall(r'<img [^>]*alt="([^"]*)"', data["text/html"])
        assert len(alt) > 20 and html.unescape(alt) == data["text/plain"]


@pytest.mark.parametrize("stem", STEMS)
def test_short_cells_more_prose_than_code(stem):
    cells = stored(stem).cells
    code = [c for c in cells if c.cell_type == "code"]
    assert max(len(c.source.splitlines()) for c in code) <= 40
    words = Counter()
    for c in cells:
        words[c.cell_type] += len(c.source.split())
    assert words["markdown"] > words["code"]
    kinds = "".join(c.cell_type[0] for c in cells if not c.metadata.get("nbgrader"))
    assert "cccc" not in kinds, "more than three code cells in a row"


@pytest.mark.parametrize("stem", STEMS)
def test_nothing_waits_to_be_written(stem):
    """A draft marks what is missing by a word in capitals, SOMETEXT or SOMEFIG."""
    draft = re.compile(r"\b[A-Z]{2,}(TEXT|FIG|TODO)\b|\bTODO\b")
    for cell in EDITIONS[stem][0].cells:
        assert not draft.search(cell.source), cell.source[:80]


@pytest.mark.parametrize("stem", STEMS)
def test_controls_are_shown_once(stem):
    """`explore` shows its controls and returns them: without a semicolon they stand there twice."""
    for cell in code_cells(stem):
        if re.search(r"^explore\(", cell.source, re.M):
            assert cell.source.rstrip().endswith(";")
            assert not [o for o in cell.outputs if o.output_type == "execute_result"]


@pytest.mark.parametrize("stem", STEMS)
def test_code_fits_a_notebooks_width(stem):
    """JupyterLab shows about 100 columns at 1,280 pixels."""
    for cell in EDITIONS[stem][0].cells:
        if cell.cell_type == "code":
            wide = [line for line in cell.source.splitlines() if len(line) > 96]
            assert not wide, f"{stem}: {wide[0]}"


@pytest.mark.parametrize("stem", STEMS)
def test_printed_lines_fit(stem):
    """JupyterLab at 1,280 pixels breaks a longer printed line, even inside a word."""
    printed = [o.text for c in code_cells(stem) for o in c.outputs if o.output_type == "stream"]
    wide = [line for text in printed for line in text.splitlines() if len(line) > 94]
    assert not wide, f"{stem}: {len(wide)} lines, first: {wide[0]}"


def paragraphs(markdown):
    """Markdown's paragraphs, less code: blocks between fences and words between backticks."""
    text = re.sub(r"^```.*?^```", "", markdown, flags=re.M | re.S)
    return re.split(r"\n\s*\n", re.sub(r"`[^`\n]*`", "", text))


def odd_dollars(markdown):
    """The first paragraph whose dollar signs do not pair, or None; a meant one is written \\$."""
    return next((p for p in paragraphs(markdown) if p.replace("\\$", "").count("$") % 2), None)


@pytest.mark.parametrize("stem", STEMS)
def test_formulas_are_closed(stem):
    for cell in EDITIONS[stem][0].cells:
        if cell.cell_type == "markdown":
            assert odd_dollars(cell.source) is None


def test_a_formula_left_open_is_found():
    assert odd_dollars("closed $a$\n\nopen $b") == "open $b"
    assert odd_dollars("$$\na\n$$ costs \\$3, `$HOME`\n```\n$x\n```\n") is None


@pytest.mark.parametrize("stem", STEMS)
def test_every_reference_has_a_link(stem):
    (cell,) = [c for c in EDITIONS[stem][0].cells if "### References" in c.source]
    works = re.findall(r"^- .+$", cell.source.split("### References")[1], re.M)
    assert len(works) >= 3
    for work in works:
        assert len(re.findall(r"\]\(https?://", work)) == 1, work


@pytest.mark.parametrize("stem", STEMS)
def test_links_in_a_chapter_lead_somewhere(stem):
    for cell in EDITIONS[stem][0].cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\((?!http)([^)#]+)", cell.source):
                assert (build.ROOT / "notebooks" / target).is_file(), target


@pytest.mark.parametrize("stem", STEMS)
def test_a_chapter_leads_to_its_neighbours_its_module_and_its_solution(stem):
    cells = EDITIONS[stem][1].cells
    for module in course.everything()[stem].modules:
        assert f"../minigen/{module}" in cells[0].source
    assert f"../solutions/{stem}.ipynb" in cells[-1].source and "try first" in cells[-1].source
    line = list(course.CHAPTERS)
    if stem not in line:                                 # an excursion stands beside the line
        assert f"before this: {course.EXCURSIONS[stem].after}" in cells[0].source
        return
    k = line.index(stem)
    if k + 1 < len(line):
        assert f"({line[k + 1]}.ipynb)" in cells[-1].source
    if k:
        assert f"({line[k - 1]}.ipynb)" in cells[0].source


def test_a_chapter_that_does_not_begin_with_its_title_is_refused(small_course):
    (small_course / "solutions" / "01_x.py").write_text("# %%\nprint(1)\n")
    with pytest.raises(build.SourceError, match="begins with the title"):
        build.editions("01_x")


@pytest.mark.parametrize("stem", STEMS)
def test_the_first_cell_touches_only_colab(stem):
    first = code_cells(stem)[0].source
    assert '"google.colab" in sys.modules' in first and '"--no-deps"' in first
    assert f"git+{course.repository()}" in first


def test_markers_that_do_not_pair_are_refused():
    begin, end = "### BEGIN SOLUTION", "### END SOLUTION"
    for source in (f"{begin}\nx", f"x\n{end}", f"{begin}\n{begin}\n{end}"):
        with pytest.raises(build.SourceError, match="SOLUTION"):
            build.stripped(source, "here")
    source = "def f():\n    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION"
    assert build.stripped(source, "") == "def f():\n    raise NotImplementedError"


SOURCE = '''# %% [markdown]
"""
# A chapter
"""

# %%
def one():
    ### BEGIN SOLUTION
    return 1
    ### END SOLUTION

# %% points=2
check(one)

# %%
print(object())
'''


@pytest.fixture
def small_course(tmp_path, monkeypatch):
    chapter = course.Chapter("A chapter", "", ("gan",), "", 1.0, 10)
    monkeypatch.setattr(course, "CHAPTERS", {"01_x": chapter})
    (tmp_path / "solutions").mkdir()
    shutil.copy(build.ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "solutions" / "01_x.py").write_text(SOURCE)
    monkeypatch.setattr(build, "ROOT", tmp_path)
    return tmp_path


def test_a_changed_source_makes_its_notebooks_stale(small_course):
    assert build.stale("01_x") == ["solutions/01_x.ipynb", "notebooks/01_x.ipynb"]
    for nb, folder in zip(build.editions("01_x"), ("solutions", "notebooks"), strict=True):
        (small_course / folder).mkdir(exist_ok=True)
        (small_course / folder / "01_x.ipynb").write_text(build.text_of(nb))
    assert build.stale("01_x") == []
    source = small_course / "solutions" / "01_x.py"
    source.write_text(SOURCE.replace("return 1", "return 2"))
    assert build.stale("01_x") == ["solutions/01_x.ipynb"]  # the student's edition does not show it
    source.write_text(SOURCE.replace("A chapter", "Another"))
    assert len(build.stale("01_x")) == 2


def test_cell_ids_follow_the_text(small_course):
    before = [c["id"] for c in build.editions("01_x")[0].cells]
    longer = SOURCE.replace("# A chapter", "# A chapter\n\nlonger")
    (small_course / "solutions" / "01_x.py").write_text(longer)
    after = [c["id"] for c in build.editions("01_x")[0].cells]
    assert before[1:] == after[1:] and before[0] != after[0]


def executed(source):
    cells = [nbformat.v4.new_code_cell(s, id=f"c{i}") for i, s in enumerate(source)]
    return build.execute(nbformat.v4.new_notebook(cells=cells), build.ROOT)[0]


def test_twice_executed_and_normalised_is_the_same_to_the_byte():
    source = ["import torch\ntorch.manual_seed(0)\nprint(torch.rand(2))\nprint('two')",
              "from minigen.plots import *\n"
              "show(curves({'a': [1, 2]}), 'A line from one to two, rising.')"]
    texts = [build.text_of(build.normalised(executed(source), "x")) for _ in range(2)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(("source", "words"), [
    ("from tqdm.auto import tqdm\nfor _ in tqdm(range(3)): pass",
     "tag the cell nbval-ignore-output"),
    ("import sys\nprint('x', file=sys.stderr)", "writes to stderr"),
    ("from pathlib import Path\nprint(Path.cwd())", "path of this computer"),
])
def test_outputs_that_may_not_stay(source, words):
    with pytest.raises(build.SourceError, match=words):
        build.normalised(executed([source]), "x")


def test_a_pictures_letters_are_no_path():
    out = nbformat.v4.new_output("display_data", {
        "image/png": "iVBOR/tmp/home/", "text/plain": "a line",
        "text/html": '<img src="data:image/png;base64,iVBOR/tmp/home/" alt="a line">'})
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", id="a", outputs=[out])])
    assert len(build.normalised(nb, "x").cells[0].outputs) == 1
    nb.cells[0].outputs[0].data["text/plain"] = build.tempfile.gettempdir() + "/x"
    with pytest.raises(build.SourceError, match="path of this computer"):
        build.normalised(nb, "x")
    html = f'<img alt="{build.tempfile.gettempdir()}/x">'
    nb.cells[0].outputs[0].data |= {"text/plain": "", "text/html": html}
    with pytest.raises(build.SourceError, match="path of this computer"):
        build.normalised(nb, "x")


SHOWN = """from minigen.plots import curves, show
show(curves({'a': [1, 2]}), 'A line from one to two.')"""


def test_of_a_live_picture_the_still_one_is_stored():
    nb = executed(["""from minigen.plots import curves
from minigen.widgets import explore
still = curves({'a': [0, 1]})
explore(lambda k: curves({'a': [0, k]}), still, 'A line from zero to one.', k=(0, 9, 1));"""])
    nb.cells[0].metadata["tags"] = ["nbval-ignore-output"]
    picture, caption = (o.data for o in build.normalised(nb, "x").cells[0].outputs)
    assert set(picture) == {"text/html", "text/plain"}
    assert 'alt="A line from zero to one."' in picture["text/html"]
    assert caption["text/markdown"] == "*A line from zero to one.*"


def test_nbval_compares_the_words_of_a_picture_and_not_its_pixels(tmp_path):
    nb = build.normalised(executed([SHOWN, SHOWN]), "x")
    for cell in nb.cells:
        data = cell.outputs[0].data
        begins = "data:image/png;base64,iVBOR"
        assert begins in data["text/html"]
        data["text/html"] = data["text/html"].replace(begins, "data:image/png;base64,iVBOQ")
    data["text/html"] = data["text/html"].replace("one to two", "two to one")
    nbformat.write(nb, tmp_path / "x.ipynb")
    command = [sys.executable, "-m", "pytest", "-q", "--nbval", "-c", "pyproject.toml"]
    done = subprocess.run([*command, tmp_path / "x.ipynb"], cwd=build.ROOT, capture_output=True,
                          text=True)
    assert "1 failed, 1 passed" in done.stdout and "Cell 1" in done.stdout, done.stdout[-2000:]
