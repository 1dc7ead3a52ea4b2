"""How good each family becomes in so many minutes of a processor: `bench --quality`.

Every model is trained from nothing on the same 20,000 ToyFaces by one thread, draws 2,000 faces,
and the toy Fréchet distance tells. Minutes are the processor's (`time.process_time`), so that what
else runs takes few of them; but caches and memory are shared, a step takes longer beside others,
and how many fit is found by a trial: the same seed does not give the same digits again. Counted are
training, encoding and fitting a prior; not counted are drawing the data, the trial, drawing
samples, measuring.
`minigen.paper.families` says how each is trained, `minigen.paper.peers` what stands beside them.
"""

import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minigen import disk, metrics, stops
from minigen.data import ToyFaces
from minigen.engine.settings import check_number
from minigen.errors import DataError, say
from minigen.files import write_text
from minigen.names import listed, near
from minigen.paper import peers, reproduce
from minigen.paper.families import FAMILIES, Clock, Sampler

MINUTES = (1.0, 5.0, 20.0)
FACES, SAMPLES = 20_000, metrics.N_SAMPLES
LONGEST = 24 * 60                                 # minutes

# of what is trained here: one more whenever a family or a peer is trained otherwise
RECIPE = 2

Cell = dict[str, Any]                             # family, minutes, seed, frechet, spent, steps


def results_file(out: Path | str | None = None) -> Path:
    """Where results are written: `out`, or quality.json beside those of `reproduce`.

    What comes with the course (data/reproduce/quality.json) was measured on another machine, so it
    is no beginning for this one's.
    """
    return reproduce.results_file("quality", out)


def read(path: Path) -> list[Cell]:
    """The cells in a file; none where there is no file.

    Raises: DataError for a file of something else.
    """
    if not path.exists():
        return []
    kinds = dict(family=str, minutes=int | float, seed=int, frechet=int | float)
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        whole = all(isinstance(c[k], kind) for c in cells for k, kind in kinds.items())
    except (ValueError, KeyError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise DataError(f"'{path}' is no results file of `bench --quality`; choose another --out.")
    return cells


def _made_with() -> dict[str, Any]:
    """What the cells of one file have to have in common."""
    return dict(torch=torch.__version__.split("+")[0], recipe=RECIPE)


def _check_alike(path: Path) -> None:
    """Refuse to add to cells of another torch or recipe."""
    if not path.exists():
        return
    now = _made_with()
    record = json.loads(path.read_text(encoding="utf-8"))
    there = {name: record.get(name) for name in now}
    if there != now:
        told = " and ".join(f"{name} {value}" for name, value in there.items())
        raise DataError(f"'{path}' holds cells of {told}; now it is torch {now['torch']} and "
                        f"recipe {RECIPE}, and one table should mean one of them: choose another "
                        "--out.")


def everyone() -> dict[str, Callable[[Tensor, Clock, int], Sampler]]:
    """The course's families, and other libraries' networks where they are installed."""
    return FAMILIES | peers.installed()


def _measured(family: str, minutes: float, seed: int, images: Tensor) -> Cell:
    clock = Clock(60 * minutes)
    try:
        sample = everyone()[family](images, clock, seed)
    except DataError as e:
        raise DataError(f"{family}, {minutes:g} min: {e}") from None
    spent = (clock.seconds - clock.left) / 60
    frechet = metrics.toy_frechet(sample(SAMPLES))
    return dict(family=family, minutes=minutes, seed=seed, frechet=round(frechet, 2),
                spent=round(spent, 3), steps=clock.steps)


def measure(
    minutes: Sequence[float] = MINUTES, seeds: Sequence[int] = (0,), out: Path | str | None = None,
    families: Sequence[str] | None = None,
) -> Iterator[Cell]:
    """Measure every family, with one thread, and yield every new cell.

    The file is written after each, so that a run which was stopped goes on; what it holds is not
    measured again. minutes: of a processor, for each training. families: only these of `everyone`.
    Raises: DataError for minutes, seeds, a family or a file that cannot be, for cells of another
        torch or recipe, and for too few minutes.
    """
    minutes = [check_number("quality", m, above=0, high=LONGEST) for m in minutes]
    seeds = [check_number("seeds", s, int, 0, 2**32) for s in seeds]
    known = everyone()
    path, families = results_file(out), list(known if families is None else families)
    if unknown := [name for name in families if name not in known]:
        guess, there = near(unknown[0], known) or ".", listed(known, "and")
        raise DataError(f"There is no family '{unknown[0]}'{guess} There are {there}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name[:200]}.lock")
    busy = f"Another process is measuring into '{path}': wait for it, or name another --out."
    threads = torch.get_num_threads()
    with disk.held(lock, busy, remove=True):
        try:
            torch.set_num_threads(1)
            cells, images = read(path), ToyFaces(FACES, seed=0).images()
            _check_alike(path)
            done = {(c["family"], c["minutes"], c["seed"]) for c in cells}
            asked = [(name, m, s) for m in minutes for s in seeds for name in families]
            for cell in (x for x in dict.fromkeys(asked) if x not in done):
                stops.raise_pending()
                cells.append(_measured(*cell, images))
                record = dict(_made_with(), cells=cells)
                write_text(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
                yield cells[-1]
        finally:
            torch.set_num_threads(threads)


def as_text(path: Path) -> str:
    """The table of a file: a family a row, its minutes in columns; mean ± deviation over seeds."""
    cells = read(path)
    minutes = sorted({c["minutes"] for c in cells})
    rows = [["minutes of a processor", *(f"{m:g}" for m in minutes)]]
    for name in dict.fromkeys([*FAMILIES, *(c["family"] for c in cells)]):
        mine = [c for c in cells if c["family"] == name]
        values = [[c["frechet"] for c in mine if c["minutes"] == m] for m in minutes]
        rows += [[name, *map(_mean, values)]] if mine else []
    first, *widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [row[0].ljust(first) + "".join(
        f"  {text:>{w}}" for text, w in zip(row[1:], widths, strict=True)) for row in rows]
    return "\n".join([*lines, f"Toy Fréchet distance of {SAMPLES:,} faces; real ones have 13.9."])


def _mean(values: list[float]) -> str:
    if not values:
        return "–"
    deviation = f" ± {statistics.stdev(values):.0f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.0f}{deviation}"


def report(minutes: Sequence[float], seeds: Sequence[int], out: Path | str | None = None) -> str:
    """Measure what is missing, say every new cell, and return the table of the file."""
    for cell in measure(minutes, seeds, out):
        steps = ", ".join(f"{part}: {n:,} steps of {batch}"
                          for part, (n, batch) in cell["steps"].items())
        say(f"{cell['family']}, {cell['minutes']:g} min, seed {cell['seed']}: {cell['frechet']}"
            + (f" ({steps})" if steps else ""))
    return f"{as_text(results_file(out))}\nThe cells are in {results_file(out)}."
