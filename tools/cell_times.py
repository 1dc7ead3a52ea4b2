"""How long the cells of a chapter take, and whether a laptop whose other core is busy keeps up.

    python tools/cell_times.py              # each chapter alone, then with one core taken
    python tools/cell_times.py 01_gan x1_flows

The rule: a chapter runs in 2½ minutes on two cores with nothing beside it, and in at most twice
its time while something else holds one of them. Exit 1 where it does not. On Linux it gets two
cores and no more; elsewhere with more of them the rule is kept too easily, which is said. Quit what
else is running first. The seconds of every cell at its last build are in build/cells/, and
`python tools/build_notebooks.py --profile` names the slowest.
"""

import argparse
import contextlib
import csv
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from minigen.environment import cores

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "build" / "cells"
SHOWN = 10
MOST_SECONDS, MOST_TIMES = 150, 2  # alone; as long beside a busy core as alone


class Cell(NamedTuple):
    """Seconds by the clock and of the kernel's processor time; source: the cell's first line."""

    number: int
    seconds: float
    processor: float
    source: str


class Watch:
    """What nbclient calls around every cell."""

    def __init__(self) -> None:
        self.cells: list[Cell] = []
        self.processor: Callable[[], float] = time.process_time
        self._start = (0.0, 0.0)

    def begin(self, cell: Any, cell_index: int) -> None:
        self._start = time.monotonic(), self.processor()

    def end(self, cell: Any, cell_index: int, **_: Any) -> None:
        seconds, processor = time.monotonic() - self._start[0], self.processor() - self._start[1]
        first = next(iter(cell.source.splitlines()), "")
        self.cells.append(Cell(cell_index, round(seconds, 2), round(processor, 2), first))


def of_kernel(client: Any) -> float:
    """Processor seconds that the kernel of an nbclient, and what it started, have used so far."""
    import psutil  # comes with ipykernel

    kernel = psutil.Process(client.km.provisioner.pid)
    seconds = 0.0
    for process in [kernel, *kernel.children(recursive=True)]:  # Windows: python.exe is a launcher
        with contextlib.suppress(psutil.NoSuchProcess):         # it has just ended
            used = process.cpu_times()
            seconds += used.user + used.system
    return seconds


def on_two_cores() -> str:
    """Leave this process, and what it starts, two cores; else a sentence that says it has more."""
    if cores() > 2 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    if cores() == 2:
        return ""
    return f"The rule is about two cores, and this is measured on {cores()}."


def keep(stem: str, cells: list[Cell]) -> None:
    """Write build/cells/STEM.csv."""
    KEPT.mkdir(parents=True, exist_ok=True)
    with open(KEPT / f"{stem}.csv", "w", newline="", encoding="utf-8") as f:
        csv.writer(f).writerows([Cell._fields, *cells])


def kept(stem: str) -> list[Cell]:
    """What `keep` wrote; nothing where the chapter has not been built here."""
    path = KEPT / f"{stem}.csv"
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as f:
        return [Cell(int(row["number"]), float(row["seconds"]), float(row["processor"]),
                     row["source"]) for row in csv.DictReader(f)]


def slowest(stems: Iterable[str], shown: int = SHOWN) -> str:
    """Lines that name the cells with the most processor time, and each chapter's sum."""
    found = {stem: cells for stem in stems if (cells := kept(stem))}
    if not found:
        return "No chapter has been built here: make notebooks"
    rows = sorted(((cell, stem) for stem, cells in found.items() for cell in cells),
                  key=lambda row: -row[0].processor)
    lines = ["seconds  of a processor  cell"]
    lines += [f"{c.seconds:7.1f}  {c.processor:14.1f}  {stem}, cell {c.number}: {c.source}"
              for c, stem in rows[:shown]]
    lines += [f"{sum(c.seconds for c in cells):7.1f}  {sum(c.processor for c in cells):14.1f}  "
              f"{stem}, all {len(cells)} cells" for stem, cells in found.items()]
    return "\n".join(lines)


@contextlib.contextmanager
def a_core_taken() -> Iterator[None]:
    """Another process holds one core."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def seconds_of(stem: str) -> float:
    """By the clock, of all cells of the student's notebook."""
    import build_notebooks as build  # here, since it imports this module

    _, cells = build.execute(build.editions(stem)[1], build.ROOT / "notebooks")
    return sum(cell.seconds for cell in cells)


def too_slow(alone: float, beside: float) -> str:
    """What the rule says against these seconds; nothing where they keep it."""
    said = []
    if alone > MOST_SECONDS:
        said.append(f"more than {MOST_SECONDS / 60:g} minutes")
    if beside > MOST_TIMES * alone:
        said.append(f"more than {MOST_TIMES} times as long with a core taken")
    return ", ".join(said)


def main() -> None:
    import build_notebooks as build

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stems", nargs="*", help="chapters, such as 01_gan (default: all)")
    args = parser.parse_args()
    if unknown := set(args.stems) - set(build.stems()):
        parser.error(f"no source solutions/{unknown.pop()}.py; there are "
                     f"{', '.join(build.stems())}")
    broken = False
    if said := on_two_cores():
        print(said)
    print(f"{'':<20}{'alone':>8}{'a core taken':>15}{'times':>8}")
    for stem in args.stems or build.stems():
        alone = seconds_of(stem)
        with a_core_taken():
            beside = seconds_of(stem)
        said = too_slow(alone, beside)
        broken = broken or bool(said)
        print(f"{stem:<20}{alone:>6.0f} s{beside:>13.0f} s{beside / alone:>8.2f}  {said}".rstrip(),
              flush=True)
    sys.exit(broken)


if __name__ == "__main__":
    main()
