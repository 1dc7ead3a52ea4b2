"""The paper's tables at small scale: `python -m minigen reproduce table1`. `minigen.paper.tables` says what each cell is.

A table's results lie in one JSON file, written after every cell, so that a run which was stopped goes on where it was.
What is comparable with the paper is the order of the rows, not the values: other images, other sizes, minutes of training.
"""

import json
import os
import statistics
import time
from pathlib import Path

import torch
from tqdm.auto import tqdm

from minigen import disk, stops
from minigen.engine.settings import MANY, check_number
from minigen.errors import DataError
from minigen.files import data_path, in_clone, write_text
from minigen.names import near
from minigen.paper.tables import TABLES

DIGITS = {"l1": 3, "perceptual": 3, "loss": 4, "obedience": 3, "diversity": 3, "parameters": 0}       # 1 for the others


def results_file(name, out=None):
    """Where a table's results are written: `out`, or NAME.json in data/reproduce of a clone.

    An installed package is left as it is: then they go to reproduce/ in MINIGEN_HOME, or where
    that is not set to runs/reproduce/ here.
    """
    if out is not None:
        return Path(out)
    if in_clone():
        return _shipped(name)
    home = os.environ.get("MINIGEN_HOME")
    return (Path(home).expanduser() if home else Path("runs")) / "reproduce" / f"{name}.json"


def _shipped(name):
    """The results that come with the course."""
    return data_path("pretrained").parent / "reproduce" / f"{name}.json"


def read(name, out=None):
    """The cells measured so far: [{row, seed, steps, seconds, …columns}].

    Without `out`, and before anything is written, those that come with the course.
    Raises: DataError for a file that is no such list.
    """
    path = results_file(name, out)
    if out is None and not path.exists():
        path = _shipped(name)
    if not path.exists():
        return []
    measured = TABLES[name].columns if name in TABLES else ()
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        cells, kinds = told["cells"], dict(row=str, seed=int, steps=int, options=str)
        whole = isinstance(cells, list) and told.get("table", name) == name and (bool(cells) or "table" in told) and all(
            isinstance(c[k], kind) for c in cells for k, kind in kinds.items()) and all(
            isinstance(c.get(column), int | float) and abs(c[column]) < 1e300 for c in cells for column in measured)
    except OSError as e:
        raise DataError(disk.sentence_of(e, f"'{path}' could not be read", "choose another --out")) from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        whole = False
    if not whole:
        raise DataError(f"{path.name} is not a results file of `reproduce {name}`; choose another --out, or move it away.")
    return cells


def reproduce(name, seeds=(0, 1, 2), steps=None, out=None, rows=None):
    """Measure the cells of a table that its file lacks, writing the file after each; yields every new cell.

    steps: how much goes into a cell, in the table's unit (training steps, or images drawn). rows: only these.
    Cells measured with other steps are refused, since one table should mean one training length.
    Raises: DataError for an unknown table or row, or a file with cells of other steps.
    """
    if name not in TABLES:
        raise DataError(f"There is no table '{name}' to reproduce{near(name, TABLES) or '.'} There "
                        f"are {', '.join(TABLES)}.")
    table, path = TABLES[name], results_file(name, out)
    steps, rows = table.steps if steps is None else steps, list(table.rows) if rows is None else rows
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= MANY:
        raise DataError(f"A cell needs at least one of its {table.unit}, a whole number; got {steps!r}.")
    if table.unit == "images" and steps < 128:
        raise DataError(f"A cell needs at least 128 images, or there is no distance of 64 features; got {steps}.")
    seeds = [check_number("a seed", s, int, 0, 2**32) for s in seeds]
    if unknown := [r for r in rows if r not in table.rows]:
        raise DataError(f"{name} has no row '{unknown[0]}'; it has {', '.join(table.rows)}.")
    if path.is_dir() or not path.name:
        raise DataError(f"'{path}' could not be read: a folder stands where a file is needed; choose another --out.")
    read(name, out)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name[:200]}.lock")
    with disk.held(lock, f"Another process is measuring into '{path}': wait for it, or name another file with --out."):
        try:
            yield from _measure(name, seeds, steps, out, rows)
        finally:
            lock.unlink(missing_ok=True)


def _measure(name, seeds, steps, out, rows):
    table, path = TABLES[name], results_file(name, out)
    cells, stamp = read(name, out), _stamp(path)
    if other := {c["steps"] for c in cells} - {steps}:
        raise DataError(f"{path.name} holds cells of {other.pop()} {table.unit}, not {steps}; name another file with --out.")
    if changed := [c["row"] for c in cells if c["options"] != str(table.rows.get(c["row"]))]:
        raise DataError(f"{path.name} was measured with another definition of '{changed[0]}'; move it away to start anew.")
    done = {(c["row"], c["seed"]) for c in cells}
    wanted = [(row, seed) for seed in dict.fromkeys(seeds) for row in rows if (row, seed) not in done]
    for row, seed in tqdm(wanted, desc=name, unit="cell", disable=not wanted):
        stops.check()
        start = time.time()
        cell = _measured_elsewhere(table, row, seed, steps) if out is None else None
        if cell is None:
            values = table.cell(seed, steps, **table.rows[row])
            cell = dict(row=row, seed=seed, steps=steps, seconds=round(time.time() - start), options=str(table.rows[row])) | {
                k: round(v, 4) for k, v in values.items()}
        cells.append(cell)
        command = f"python -m minigen reproduce {name}" + (f" --steps {steps}" if steps != table.steps else "")
        if _stamp(path) != stamp:
            raise DataError(f"'{path}' was changed or has appeared meanwhile and was left as it is: name another with --out.")
        told = dict(table=name, command=command, torch=torch.__version__.split("+")[0], cells=cells)
        write_text(path, json.dumps(told, indent=1) + "\n")
        stamp = _stamp(path)
        yield cell


def _stamp(path):
    """What tells whether a file is the one that was there: None where there is none."""
    try:
        found = path.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns
    except OSError:
        return None


def _measured_elsewhere(table, row, seed, steps):
    """The same cell from another table's committed results, under this row's name; None where there is none."""
    for name, other in TABLES.items():
        if other is not table and other.cell is table.cell:
            for cell in read(name):
                if (cell["options"], cell["seed"], cell["steps"]) == (str(table.rows[row]), seed, steps):
                    return cell | dict(row=row)
    return None


def as_text(name, out=None):
    """The table measured so far, mean ± deviation over seeds, and the paper's values beside it."""
    table, cells = TABLES[name], read(name, out)
    width = max(map(len, table.rows))
    lines = [table.title, " " * width + "".join(f"{c.replace('_', ' '):>16}" for c in table.columns) + "   seeds   the paper"]
    for row in table.rows:
        mine = [c for c in cells if c["row"] == row]
        line = f"{row:<{width}}"
        for column in table.columns:
            values = [c[column] for c in mine]
            digits = DIGITS.get(column, 1)
            text = f"{statistics.mean(values):.{digits}f}" if values else "–"
            if len(values) > 1:
                text += f" ± {statistics.stdev(values):.{digits}f}"
            line += f"{text:>16}"
        lines.append(line + f"{len(mine):>8}   {table.paper.get(row, '–')}")
    return "\n".join([*lines, table.note])
