"""Grade students' notebooks: python tools/grade.py SUBMISSIONS

    python tools/grade.py submitted/            # a folder, nbgrader's submitted/ too, or notebooks
    python tools/grade.py submitted/ --out grades --jobs 2

From each notebook it takes the answers (the functions named as exercises) and the imports they
use, runs each in a process of its own against minigen's checks, with a time limit, without files or
network, and writes OUT/grades.csv and a page of feedback for each submission, OUT/feedback/*.md.
Nothing else of a notebook is run or counts: no other cell, no output, no points in its metadata.

An answer is Python that runs on this computer. What is refused, limited and compared here keeps out
what students try; it is no wall against an expert who aims at this very program. So read the code
of answers that are marked "look at it", and grade strangers' work in a container.
"""

import argparse
import csv
import html
import io
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import answers
import examiner

from minigen.checks.chapters import exercises
from minigen.errors import say
from minigen.files import write_text

ROOT = Path(__file__).resolve().parent.parent
LOOK = ("refused", "tampered", "time", "gone", "broken")  # outcomes for a person to look at
KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT", "VIRTUAL_ENV", "PYTHONHOME")


@dataclass
class Grade:
    """How one exercise of a submission went."""

    outcome: str
    said: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass
class Report:
    """A submission: its name and what came out, by exercise."""

    name: str
    grades: dict[str, Grade] = field(default_factory=dict)
    seconds: float = 0.0
    problem: str = ""  # why there is nothing to grade

    def notes(self) -> list[str]:
        """What a person should look at, and why."""
        out = [self.problem] if self.problem else []
        for name, grade in self.grades.items():
            if grade.outcome in LOOK:
                out.append(f"{name}: look at it: {words(grade)}")
            out += [f"{name}: {note}" for note in grade.notes]
        return out


def worth(by: str) -> dict[str, int]:
    """{exercise: points} of the course's own notebooks: what the cell says, or its stars."""
    found = dict.fromkeys((n for names in exercises().values() for n in names), 1)
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            marks, text = cell["metadata"].get("nbgrader", {}), "".join(cell["source"])
            if by == "points" and marks.get("grade"):
                found[marks["grade_id"].removeprefix("check-")] = marks["points"]
            elif by == "stars":
                heads = re.findall(r"^### Exercise x?[\d.]+ · `?(\w+)`? · (★+)", text, re.M)
                found |= {name: len(stars) for name, stars in heads}
    return found


def submissions(given: list[Path]) -> Iterator[tuple[str, Path | None]]:
    """(name, notebook), or None for a student's folder that has no notebook; names are unique."""
    seen: set[str] = set()

    def unique(name: str) -> str:
        new, k = name, 1
        while new.casefold() in seen:
            k += 1
            new = f"{name}-{k}"
        seen.add(new.casefold())
        return new

    for path in given:
        if path.is_dir():
            books = sorted(b for b in _notebooks(path) if not _hidden(b.relative_to(path)))
            for book in books:
                yield unique(book.relative_to(path).with_suffix("").as_posix()), book
            for folder in sorted(path.iterdir()):
                hidden = folder.name.startswith(".")
                if folder.is_dir() and not hidden and not any(folder in b.parents for b in books):
                    yield unique(folder.name), None
        else:
            yield unique(path.stem), path


def _notebooks(folder: Path) -> Iterator[Path]:
    for inside, _, files in os.walk(folder):
        yield from (Path(inside) / file for file in files if file.endswith(".ipynb"))


def _hidden(path: Path) -> bool:
    """Such as what lies in .ipynb_checkpoints."""
    return any(part.startswith(".") for part in path.parts)


def environment(home: str) -> dict[str, str]:
    """What an examining process sees of this one's variables, and a home of its own."""
    env = {k: v for k, v in os.environ.items() if k in KEPT}
    own = dict.fromkeys(("HOME", "USERPROFILE", "MINIGEN_HOME", "TMPDIR", "TEMP", "TMP"), home)
    return env | own | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "PYTHONUTF8": "1",
                        "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(ROOT)}


def ask(job: dict[str, Any], wait: float) -> bytes:
    """What the examiner writes about a job; it is stopped after `wait` seconds at the latest."""
    with tempfile.TemporaryDirectory(prefix="minigen-grade-", ignore_cleanup_errors=True) as home:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "tools" / "examiner.py")], cwd=home, env=environment(home),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            return process.communicate(json.dumps(job).encode(), timeout=wait)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            return process.communicate()[0]


def run(found: dict[str, answers.Answer], args: argparse.Namespace) -> dict[str, Grade]:
    """{exercise: how it went} for the answers that may run."""
    todo = [{"name": name, "source": a.source} for name, a in found.items() if a.source]
    job = {"seconds": args.seconds, "total": args.total, "memory": args.memory, "seed": args.seed}
    if not todo:
        return {}
    if examiner.FORKS:
        out = ask(job | {"exercises": todo}, args.total + 120)
        rows = [json.loads(line) for line in out.decode().splitlines()]
        went = {row["name"]: Grade(row["outcome"], row["said"]) for row in rows}
        return {e["name"]: went.get(e["name"], Grade("gone", "no word came back")) for e in todo}
    went, end = {}, time.monotonic() + args.total  # no forks: a whole process for each exercise
    for e in todo:
        left = min(examiner.SLACK * args.seconds, end - time.monotonic())
        nonce, start = secrets.token_hex(16), time.monotonic()
        out = ask(job | {"exercises": [e], "nonce": nonce}, left + 30) if left > 0 else b""
        outcome, said = examiner.verdict_of(out, nonce) if left > 0 else ("late", "")
        if outcome == "gone" and time.monotonic() - start > left:
            outcome = "time"
        went[e["name"]] = Grade(outcome, said)
    return went


def graded(name: str, path: Path | None, args: argparse.Namespace) -> Report:
    """A submission from its file to its report."""
    start, report = time.monotonic(), Report(name)
    board = exercises()
    try:
        if path is None:
            raise answers.Unreadable("there is no notebook in it")
        cells = answers.read(path)
        found = answers.taken(cells, [n for names in board.values() for n in names])
    except answers.Unreadable as e:
        report.problem = str(e)
        return report
    except Exception as e:  # whatever a hostile file does, the others are graded
        report.problem = f"the grader could not take it apart ({type(e).__name__})"
        return report
    ids = {grade_id for _, grade_id in cells}  # a helper may be called as another chapter's answer
    chapters = ([names for names in board.values() if ids & set(names)]
                or [names for names in board.values() if any(n in found for n in names)])
    if not chapters:
        report.problem = "there is no exercise of the course in it"
    went = run(found, args)
    for exercise in (n for names in chapters for n in names):
        answer = found.get(exercise)
        if answer is None:
            grade = Grade("missing")
        elif answer.refused:
            broken = "is no Python" in answer.refused
            grade = Grade("broken" if broken else "refused", answer.refused)
        else:
            grade = went.get(exercise, Grade("missing"))
        grade.notes = answer.notes if answer else []
        report.grades[exercise] = grade
    report.seconds = time.monotonic() - start
    return report


def words(grade: Grade) -> str:
    """An outcome in a sentence."""
    said = grade.said
    if grade.outcome == "wrong":
        said = re.sub(r"^\w+: (not yet\. )?", "", said)
    if "raised NameError" in said:
        said += (". Only imports and the answer's own cell are taken: what an answer needs has to "
                 "stand there")
    return {
        "passed": "Passed.", "wrong": said, "empty": "Not attempted.",
        "missing": "There is no answer in the notebook.", "broken": f"Not run: {said}.",
        "refused": f"Not run, for a teacher to look at: {said}.",
        "time": "Stopped: it took too long. Is there a loop without an end?",
        "late": "Not run: the exercises before it used up the submission's time.",
        "gone": f"Its process ended without a verdict ({said}): out of memory, or a crash.",
        "tampered": f"No points: {said}.",
    }[grade.outcome]


def plain(text: str, most: int = 600) -> str:
    """Text of a student in a page of Markdown: one line, no markup, not endless."""
    text = " ".join(text.encode(errors="replace").decode().split())
    text = text if len(text) <= most else text[:most] + " …"
    return re.sub(r"([\\`*_\[\]|#!~])", r"\\\1", html.escape(text, quote=False))


def page(report: Report, points: dict[str, int]) -> str:
    """The feedback of one submission, in Markdown."""
    lines = [f"# {plain(report.name)}", ""]
    if report.problem:
        return "\n".join([*lines, f"Nothing could be graded: {plain(report.problem)}.", ""])
    got, of = total(report, points)
    lines += [f"**{got} of {of} points**", "", "| exercise | points | |", "|---|---|---|"]
    for name, grade in report.grades.items():
        mine = points[name] if grade.outcome == "passed" else 0
        lines.append(f"| `{name}` | {mine} of {points[name]} | {plain(words(grade))} |")
    if notes := [f"- `{n}`: {plain(note)}" for n, g in report.grades.items() for note in g.notes]:
        lines += ["", *notes]
    return "\n".join([*lines, ""])


def total(report: Report, points: dict[str, int]) -> tuple[int, int]:
    """(points, out of how many)"""
    passed = [n for n, g in report.grades.items() if g.outcome == "passed"]
    return sum(points[n] for n in passed), sum(points[n] for n in report.grades)


def safe(cell: Any) -> Any:
    """A cell of the table that no spreadsheet takes for a formula, in letters that can be saved."""
    if not isinstance(cell, str):
        return cell
    cell = " ".join(cell.encode(errors="replace").decode().split())
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@") else cell


def table(reports: list[Report], points: dict[str, int]) -> str:
    """The points of all as CSV: a row a submission, a column an exercise."""
    seen = {n for r in reports for n in r.grades}
    columns = [n for names in exercises().values() for n in names if n in seen]
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["submission", *columns, "points", "of", "seconds", "notes"])
    for r in reports:
        cells: list[Any] = [safe(r.name)]
        for n in columns:
            passed = n in r.grades and r.grades[n].outcome == "passed"
            cells.append(points[n] if passed else 0 if n in r.grades else "")
        notes = safe("; ".join(r.notes()))
        rows.writerow([*cells, *total(r, points), f"{r.seconds:.1f}", notes])
    return out.getvalue()


def file_of(name: str) -> str:
    """A path for a submission's page, whatever its name holds."""
    parts = [re.sub(r"[^\w.\- ]", "_", part) for part in name.split("/")]
    return "/".join(part[:100].strip(". ") or "_" for part in parts) + ".md"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("submissions", nargs="+", type=Path, help="folders or notebooks")
    add = parser.add_argument
    add("--out", type=Path, default=Path("grades"), help="where the table and the pages go")
    add("--by", choices=("points", "stars"), default="points",
        help="what an exercise is worth: the points of its cell, or its stars")
    add("--seconds", type=float, default=20,
        help="processor time of an exercise, three times as much by the clock (20)")
    add("--total", type=float, default=300, help="time limit of a submission (300)")
    add("--memory", type=float, default=2, help="GB an exercise may take (2; Linux only)")
    add("--jobs", type=int, default=1, help="submissions at once (1)")
    add("--seed", type=int, default=0, help="of the numbers that the checks draw (0)")
    args = parser.parse_args(argv)
    for path in args.submissions:
        if not path.exists() and not path.is_symlink():
            parser.error(f"there is no {path}")
    if min(args.seconds, args.total, args.memory, args.jobs) <= 0:
        parser.error("--seconds, --total, --memory and --jobs must be above 0")
    todo = list(submissions(args.submissions))
    if not todo:
        parser.error("there is no notebook in what was given")
    points, reports, start = worth(args.by), [], time.monotonic()
    files: dict[str, int] = {}
    with ThreadPoolExecutor(args.jobs) as pool:
        for report in pool.map(lambda s: graded(s[0], s[1], args), todo):
            got, of = total(report, points)
            note = f" · {report.problem}" if report.problem else ""
            look = sum(g.outcome in LOOK for g in report.grades.values())
            note += f" · {look} to look at" if look else ""
            say(f"{safe(report.name)}: {got} of {of} points, {report.seconds:.1f} s{note}")
            name = file_of(report.name)
            files[name] = files.get(name, 0) + 1
            name = name if files[name] == 1 else f"{name[:-3]}-{files[name]}.md"
            write_text(args.out / "feedback" / name, page(report, points))
            reports.append(report)
    write_text(args.out / "grades.csv", table(reports, points))
    each = (time.monotonic() - start) / len(reports)
    say(f"{len(reports)} submissions, {each:.1f} s each; {args.out / 'grades.csv'} and "
        f"{args.out / 'feedback'}")


if __name__ == "__main__":
    main()
