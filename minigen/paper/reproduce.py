"""The paper's tables at small scale: `python -m minigen reproduce table1`.

`minigen.paper.tables` says what each cell is. A table's results lie in one JSON file, written after
every cell, so that a run which was stopped goes on where it was. What is comparable with the paper
is the order of the rows, not the values: other images, other sizes, minutes of training.
"""

import json
import math
import os
import re
import statistics
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm.auto import tqdm

from minigen import disk, stops
from minigen.engine.settings import MANY, check_number
from minigen.errors import DataError
from minigen.files import data_path, write_text
from minigen.names import how_many, listed, near
from minigen.paper.tables import DIGITS, TABLES, Table

WIDE = 94                                         # letters a line of a notebook's output holds

Cell = dict[str, Any]                             # row, seed, steps, seconds, options, columns


class Plan(NamedTuple):
    """What `reproduce` is asked for.

    source: the file that the cells there are were read from. path: where new ones go. asked: all
    pairs (row, seed); wanted: those that are not measured yet.
    """

    name: str
    steps: int
    source: Path
    path: Path
    cells: list[Cell]
    asked: list[tuple[str, int]]
    wanted: list[tuple[str, int]]


def results_file(name: str, out: Path | str | None = None) -> Path:
    """Where a table's new results are written: `out`, or NAME.json in runs/reproduce.

    Where MINIGEN_HOME is set, in reproduce/ there. What comes with the course is left as it is,
    unless `out` names it.
    """
    if out is not None:
        return Path(out)
    home = os.environ.get("MINIGEN_HOME")
    return (Path(home).expanduser() if home else Path("runs")) / "reproduce" / f"{name}.json"


def measured_file(name: str, out: Path | str | None = None) -> Path:
    """Where a table's results are read: `results_file`, or before that is there the course's."""
    path = results_file(name, out)
    return path if out is not None or path.exists() else _shipped(name)


def table_of(word: str) -> str:
    """The table that a person means: "table3", or just "3".

    Raises: DataError for none, with the near one and the list.
    """
    for name in (word, f"table{word}"):
        if name in TABLES:
            return name
    order = sorted(TABLES, key=lambda name: (_number(name) or math.inf, name))
    number = _number(word)
    same = [name for name in order if _number(name) == number]
    beside = [name for name in order if number and _number(name) in (number - 1, number + 1)]
    guess, known = near(word, same or beside) or ".", listed(order, "and")
    raise DataError(f"There is no table '{word}' to reproduce{guess} There are {known}.")


def _number(name: str) -> int | None:
    """3 of "table3_pixels"."""
    found = re.search("[0-9]{1,9}", name)
    return int(found[0]) if found else None


def _shipped(name: str) -> Path:
    """The results that come with the course."""
    return data_path("pretrained").parent / "reproduce" / f"{name}.json"


def read(name: str, out: Path | str | None = None) -> list[Cell]:
    """The cells measured so far: [{row, seed, steps, seconds, …columns}].

    Without `out` those that come with the course, whatever was measured since.
    Raises: DataError for a file that is no such list.
    """
    path = _shipped(name) if out is None else Path(out)
    if not path.exists():
        return []
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        whole = _whole(record, name)
    except OSError as e:
        sentence = disk.sentence_of(e, f"'{path}' could not be read", "choose another --out")
        raise DataError(sentence) from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        whole = False
    if not whole:
        raise DataError(f"{path.name} is not a results file of `reproduce {name}`; choose another "
                        "--out, or move it away.")
    return record["cells"]


def _whole(record: Any, name: str) -> bool:
    """Whether what a file holds are cells of this table; what is none may raise anything."""
    cells = record["cells"]
    if not isinstance(cells, list) or record.get("table", name) != name:
        return False
    if not cells and "table" not in record:
        return False
    kinds = dict(row=str, seed=int, steps=int, options=str)
    columns = TABLES[name].columns if name in TABLES else ()
    return all(
        all(isinstance(c[k], kind) for k, kind in kinds.items())
        and all(isinstance(c.get(k), int | float) and abs(c[k]) < 1e300 for k in columns)
        for c in cells)


def plan(
    name: str, seeds: Sequence[int] = (0, 1, 2), steps: int | None = None,
    out: Path | str | None = None, rows: Sequence[str] | None = None,
) -> Plan:
    """What there is of a table, and what is to be measured. Arguments, errors: as `reproduce`'s."""
    name = table_of(name)
    table, path = TABLES[name], results_file(name, out)
    steps = table.steps if steps is None else steps
    rows = list(table.rows) if rows is None else rows
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= MANY:
        raise DataError(f"A cell needs at least one of its {table.unit}, a whole number; got "
                        f"{steps!r}.")
    if table.unit in ("images", "captions") and steps < 128:
        raise DataError(f"A cell needs at least 128 {table.unit}, or there is no distance of 64 "
                        f"features; got {steps}.")
    seeds = [check_number("seeds", s, int, 0, 2**32) for s in seeds]
    if unknown := [r for r in rows if r not in table.rows]:
        raise DataError(f"{name} has no row '{unknown[0]}'; it has {', '.join(table.rows)}.")
    if path.is_dir() or not path.name:
        raise DataError(f"'{path}' could not be read: a folder stands where a file is needed; "
                        "choose another --out.")
    if below := [p for p in path.parents if p.is_file()]:
        raise DataError(f"'{path}' could not be written: '{below[0]}' is a file; choose another "
                        "--out.")
    source = measured_file(name, out)
    cells = read(name, source)
    if other := {c["steps"] for c in cells} - {steps}:
        raise DataError(f"{source.name} holds cells of {other.pop()} {table.unit}, not {steps}; "
                        "name another file with --out.")
    if changed := [c["row"] for c in cells if c["options"] != str(table.rows.get(c["row"]))]:
        raise DataError(f"{source.name} was measured with another definition of '{changed[0]}'; "
                        "move it away to start anew.")
    done = {(c["row"], c["seed"]) for c in cells}
    asked = [(row, seed) for seed in dict.fromkeys(seeds) for row in rows]
    wanted = [pair for pair in asked if pair not in done]
    return Plan(name, steps, source, path, cells, asked, wanted)


def in_words(plan: Plan) -> str:
    """A plan in a sentence or two: how much is there, how much will be measured, and where."""
    there, source = len(plan.asked) - len(plan.wanted), _from_here(plan.source)
    if plan.wanted:
        start = f"{there} of {how_many(len(plan.asked), 'cell')} in {source}; " if there else ""
        return f"{start}{how_many(len(plan.wanted), 'cell')} to measure, into {plan.path}."
    seconds = sum(c.get("seconds", 0) for c in plan.cells if (c["row"], c["seed"]) in plan.asked)
    other = max((c["seed"] for c in plan.cells), default=-1) + 1
    return (f"Read from {source}: {how_many(there, 'cell')}, measured in {seconds:,} s; nothing is "
            f"left to measure. `--seeds {other}` measures another.")


def _from_here(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def reproduce(
    name: str, seeds: Sequence[int] = (0, 1, 2), steps: int | None = None,
    out: Path | str | None = None, rows: Sequence[str] | None = None,
) -> Iterator[Cell]:
    """Measure the cells of a table that its file lacks; yields every new one.

    The file is written after each; it begins with what comes with the course, where `out` is not
    given.
    name: "table3" or "3". steps: how much goes into a cell, in the table's unit (training steps, or
    images drawn). rows: only these. Cells measured with other steps are refused, since one table
    should mean one training length.
    Raises: DataError for an unknown table or row, or a file with cells of other steps.
    """
    asked = (seeds, steps, out, rows)
    first = plan(name, *asked)
    path = first.path
    if not first.wanted:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name[:200]}.lock")
    busy = (f"Another process is measuring into '{path}': wait for it, or name another file with "
            "--out.")
    with disk.held(lock, busy, remove=True):
        # again, now that nobody can come between
        yield from _measure(plan(name, *asked), shared=out is None)


def _measure(plan: Plan, shared: bool) -> Iterator[Cell]:
    """shared: whether a cell may be taken from another table."""
    name, steps, _, path, cells, _, wanted = plan
    table, stamp = TABLES[name], _stamp(path)
    command = f"python -m minigen reproduce {name}"
    command += f" --steps {steps}" if steps != table.steps else ""
    for row, seed in tqdm(wanted, desc=name, unit="cell", disable=not wanted):
        stops.raise_pending()
        start = time.time()
        cell = _measured_elsewhere(table, row, seed, steps) if shared else None
        if cell is None:
            options = table.rows[row]
            values = table.cell(seed, steps, **options)
            seconds = round(time.time() - start)
            cell = dict(row=row, seed=seed, steps=steps, seconds=seconds, options=str(options))
            cell |= {k: round(v, 4) for k, v in values.items()}
        cells.append(cell)
        if _stamp(path) != stamp:
            raise DataError(f"'{path}' was changed or has appeared meanwhile and was left as it "
                            "is: name another with --out.")
        version = torch.__version__.split("+")[0]
        record = dict(table=name, command=command, torch=version, cells=cells)
        write_text(path, json.dumps(record, indent=1) + "\n")
        stamp = _stamp(path)
        yield cell


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What tells whether a file is the one that was there: None where there is none."""
    try:
        found = path.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns
    except OSError:
        return None


def _measured_elsewhere(table: Table, row: str, seed: int, steps: int) -> Cell | None:
    """The same cell from another table's results, under this row's name, or None."""
    wanted = (str(table.rows[row]), seed, steps)
    for name, other in TABLES.items():
        if other is not table and other.cell is table.cell:
            for cell in read(name, measured_file(name)):
                if (cell["options"], cell["seed"], cell["steps"]) == wanted:
                    return cell | dict(row=row)
    return None


def as_text(name: str, out: Path | str | None = None) -> str:
    """The table measured so far, mean ± deviation over seeds, and the paper's values.

    These stand beside ours where a line of 94 letters has room for them, and below otherwise.
    """
    table, cells = TABLES[name], read(name, out)
    rows = [["", *(c.replace("_", " ") for c in table.columns), "seeds"]]
    for row in table.rows:
        mine = [c for c in cells if c["row"] == row]
        rows.append([row, *(_value(c, [m[c] for m in mine]) for c in table.columns),
                     str(len(mine))])
    first, *widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [row[0].ljust(first) + "".join(f"  {text:>{w}}" for text, w
                                           in zip(row[1:], widths, strict=True)) for row in rows]
    if table.paper:
        papers = ["the paper", *(table.paper.get(row, "–") for row in table.rows)]
        beside = [f"{line}   {words}" for line, words in zip(lines, papers, strict=True)]
        if max(map(len, beside)) <= WIDE:
            lines = beside
        else:
            lines.append("The paper's values:")
            lines += [f"  {row:<{first}}  {words}" for row, words in table.paper.items()]
    notes = (textwrap.fill(part, 90) for part in table.note.splitlines())
    return "\n".join([table.title, *lines, *notes])


def _value(column: str, values: list[float]) -> str:
    """Mean ± deviation; a number of parameters is how_many, so it has no deviation."""
    digits = DIGITS.get(column, 1)
    text = f"{statistics.mean(values):.{digits}f}" if values else "–"
    if len(values) > 1 and column != "parameters":
        text += f" ± {statistics.stdev(values):.{digits}f}"
    return text
