"""Write the notebooks from their sources, solutions/NN_name.py and x1_name.py (py:percent).

    python tools/build_notebooks.py             # all chapters
    python tools/build_notebooks.py 01_gan      # one chapter
    python tools/build_notebooks.py --check     # write nothing; exit 1 and name what is stale
    python tools/build_notebooks.py --profile   # write nothing; the slowest cells when last built

It writes solutions/*.ipynb, and notebooks/*.ipynb executed at small scale. The student edition has
`raise NotImplementedError` in place of what stands between ### BEGIN SOLUTION and ### END SOLUTION.
Cells get nbgrader metadata: one with a solution is an answer, one that begins with check( a test,
worth `points` of its cell metadata (1 without). {{repository}} and {{tag}} become what
pyproject.toml says. Each notebook's header, first code cell and last cell come from
tools/course.py. Only outputs that are the same on every run are compared by nbval; cells tagged
nbval-ignore-output are not. How long each cell took is kept in build/cells/.
"""

import argparse
import copy
import hashlib
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import cell_times
import course
import jupytext
import nbformat
import pace
from nbformat import NotebookNode

from minigen.files import write_text

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = re.compile(r"^(\s*)### BEGIN SOLUTION\s*$"), re.compile(r"^\s*### END SOLUTION\s*$")
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
WIDGET = "application/vnd.jupyter.widget-view+json"
PICTURE = re.compile(r"data:image/png;base64,[A-Za-z0-9+/=]*")


class SourceError(ValueError):
    """A chapter's source is not as the builder needs it."""


def stems() -> list[str]:
    """The chapters, and after them the excursions, x1_name."""
    found = (p.stem for p in (ROOT / "solutions").glob("*.py"))
    return sorted(stem for stem in found if re.match(r"(\d\d|x\d)_", stem))


def framed(nb: NotebookNode, stem: str) -> NotebookNode:
    """The chapter with its header below the title, the cell for Colab, and its last cell."""
    title = nb.cells[0]
    if title.cell_type != "markdown" or not title.source.startswith("# "):
        wanted = "must be Markdown that begins with the title, '# …'"
        raise SourceError(f"{stem}: the first cell {wanted}")
    head, _, rest = title.source.partition("\n")
    title.source = f"{head}\n\n{course.header(stem)}\n{rest}"
    nb.cells.insert(1, nbformat.v4.new_code_cell(course.COLAB))
    nb.cells.append(nbformat.v4.new_markdown_cell(course.footer(stem)))
    return nb


def stripped(source: str, where: str) -> str:
    """The student's version of a cell. Raises: SourceError for markers that do not pair."""
    out, inside = [], False
    for line in source.splitlines():
        if m := BEGIN.match(line):
            if inside:
                raise SourceError(f"{where}: BEGIN SOLUTION inside a solution")
            inside = True
            out.append(m[1] + "raise NotImplementedError")
        elif END.match(line):
            if not inside:
                raise SourceError(f"{where}: END SOLUTION without BEGIN SOLUTION")
            inside = False
        elif not inside:
            out.append(line)
    if inside:
        raise SourceError(f"{where}: BEGIN SOLUTION without END SOLUTION")
    return "\n".join(out)


def _nbgrader(cell: NotebookNode) -> dict[str, Any] | None:
    """nbgrader's metadata of an answer or test cell, schema 3; None for any other cell."""
    base = {"schema_version": 3, "task": False}
    if BEGIN.search(cell.source) or any(BEGIN.match(line) for line in cell.source.splitlines()):
        name = re.findall(r"^def (\w+)", cell.source, re.M)[0]
        return base | {"grade": False, "grade_id": name, "locked": False, "solution": True}
    if m := re.match(r"check\((\w+)\)", cell.source):
        points = int(cell.metadata.pop("points", 1))
        name = f"check-{m[1]}"
        return base | {"grade": True, "grade_id": name, "locked": True, "points": points,
                       "solution": False}
    return None


def editions(stem: str) -> tuple[NotebookNode, NotebookNode]:
    """(solution, student) notebooks of a chapter, without outputs."""
    nb = framed(jupytext.read(ROOT / "solutions" / f"{stem}.py", fmt="py:percent"), stem)
    nb.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    nb.nbformat, nb.nbformat_minor = 4, 5
    seen, marks = set(), {"{{repository}}": course.repository(), "{{tag}}": course.tag()}
    for cell in nb.cells:
        for mark, value in marks.items():
            cell.source = cell.source.replace(mark, value)
        # how jupytext keeps the source, no news to a reader
        for key in ("lines_to_next_cell", "cell_marker"):
            cell.metadata.pop(key, None)
        shown = stripped(cell.source, stem) if cell.cell_type == "code" else cell.source
        digest = hashlib.sha256(shown.encode()).hexdigest()
        # an id follows the student's text, so an edit changes one cell's only
        cell["id"] = next(digest[i : i + 8] for i in range(50) if digest[i : i + 8] not in seen)
        seen.add(cell["id"])
        if cell.cell_type == "code" and (grading := _nbgrader(cell)):
            cell.metadata["nbgrader"] = grading
    student = copy.deepcopy(nb)
    for i, cell in enumerate(student.cells):
        if cell.cell_type == "code":
            cell.source = stripped(cell.source, f"{stem}, cell {i}")
    title, _, rest = nb.cells[0].source.partition("\n")
    nb.cells[0].source = f"{title} · solved\n{rest}"  # two tabs of one name are told apart
    return nb, student


def execute(nb: NotebookNode, cwd: Path) -> tuple[NotebookNode, list[cell_times.Cell]]:
    """Run a notebook in place at small scale; returns it and how long its cells took.

    With no progress of anyone's and no inherited matplotlib backend.
    """
    from nbclient import NotebookClient

    watch = cell_times.Watch()
    with tempfile.TemporaryDirectory() as home:
        env = {k: v for k, v in os.environ.items() if k not in ("MPLBACKEND", "MINIGEN_STRICT")}
        env |= {"MINIGEN_SCALE": "small", "MINIGEN_HOME": home}
        client = NotebookClient(
            nb,
            timeout=round(600 * pace.slowness()),
            kernel_name="python3",
            record_timing=False,
            store_widget_state=False,
            extra_arguments=["--log-level=ERROR"],
            resources={"metadata": {"path": str(cwd)}},
            on_cell_execute=watch.begin,
            on_cell_executed=watch.end,
        )
        watch.processor = lambda: cell_times.of_kernel(client)
        client.execute(env=env)
    return nb, watch.cells


def without_pictures(out: NotebookNode) -> dict[str, Any]:
    """An output less its PNG data, whose letters may spell anything, a path included."""
    data = {k: PICTURE.sub("", v) if isinstance(v, str) else v
            for k, v in out.get("data", {}).items() if k != "image/png"}
    return {k: v for k, v in out.items() if k != "data"} | {"data": data}


def normalised(nb: NotebookNode, stem: str) -> NotebookNode:
    """Drop what differs between two runs or means nothing without a kernel.

    Raises: SourceError for what may not stay.
    """
    nb.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    for i, cell in enumerate(nb.cells):
        if cell.cell_type != "code":
            continue
        where = f"{stem}, cell {i}"
        kept: list[NotebookNode] = []
        cell.metadata.pop("execution", None)
        for out in cell.outputs:
            if WIDGET in out.get("data", {}):  # without its kernel a slider is an error message
                if "nbval-ignore-output" not in cell.metadata.get("tags", []):
                    way_out = "tag the cell nbval-ignore-output"
                    raise SourceError(f"{where}: a widget or progress bar; {way_out}")
            elif out.output_type == "stream" and out.name == "stderr":
                raise SourceError(f"{where}: writes to stderr: {out.text[:200]}")
            elif out.output_type == "stream" and kept and kept[-1].output_type == "stream":
                kept[-1].text += out.text
            else:
                kept.append(out)
        cell.outputs = kept
        for secret in (str(ROOT), str(Path.home()), tempfile.gettempdir()):
            if any(secret in str(without_pictures(out)) for out in kept):
                raise SourceError(f"{where}: the output holds a path of this computer")
    nbformat.validate(nb)
    return nb


def text_of(nb: NotebookNode) -> str:
    return nbformat.writes(nb, version=4) + "\n"


def without_outputs(nb: NotebookNode) -> NotebookNode:
    """What a notebook says, less outputs and execution counts."""
    nb = copy.deepcopy(nb)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return nb


def stale(stem: str) -> list[str]:
    """Names of the committed notebooks of a chapter that are not what the source makes."""
    out = []
    for made, folder in zip(editions(stem), ("solutions", "notebooks"), strict=True):
        path = ROOT / folder / f"{stem}.ipynb"
        if not path.exists() or text_of(without_outputs(nbformat.read(path, 4))) != text_of(made):
            out.append(f"{folder}/{stem}.ipynb")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stems", nargs="*", help="chapters, such as 01_gan (default: all)")
    text = "write nothing, exit 1 where something is stale"
    parser.add_argument("--check", action="store_true", help=text)
    text = "write nothing, name the slowest cells of the last builds"
    parser.add_argument("--profile", action="store_true", help=text)
    args = parser.parse_args()
    if unknown := set(args.stems) - set(stems()):
        parser.error(f"no source solutions/{unknown.pop()}.py; there are {', '.join(stems())}")
    chosen = args.stems or stems()
    if args.check:
        old = [name for stem in chosen for name in stale(stem)]
        lines = [f"stale: {name}" for name in old]
        print("\n".join(lines) or "all notebooks are what their sources make")
        sys.exit(bool(old))
    if args.profile:
        print(cell_times.slowest(chosen))
        return
    for stem in chosen:
        solution, student = editions(stem)
        (ROOT / "notebooks").mkdir(exist_ok=True)
        student, cells = execute(student, ROOT / "notebooks")
        student = normalised(student, stem)
        cell_times.keep(stem, cells)
        for nb, folder in ((solution, "solutions"), (student, "notebooks")):
            path = ROOT / folder / f"{stem}.ipynb"
            write_text(path, text_of(nb))
            print(f"wrote {folder}/{stem}.ipynb ({path.stat().st_size / 1e3:.0f} kB)", flush=True)


if __name__ == "__main__":
    main()
