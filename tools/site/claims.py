"""What the paper claims and what small experiments saw: every reproduced table, drawn."""

import html
import statistics
from pathlib import Path
from typing import NamedTuple

import paper_map

from minigen.paper import reproduce
from minigen.paper.tables import TABLES, Table
from minigen.plots import COLOURS, panels

HERE = Path(__file__).resolve().parent


class Claim(NamedTuple):
    """One row of a table is better than another; theirs: the paper's two values, columns: ours."""

    words: str
    table: str
    better: str
    worse: str
    theirs: tuple[float, float]
    columns: tuple[str, ...] = ("frechet",)


BOTH = ("frechet", "loss")
SMALL, LARGE = "f = 8 (4×4 map)", "f = 4 (8×8 map)"
CLAIMS = (
    Claim("more compression, smaller L1", "table1", SMALL, LARGE, (.062, .068), ("l1",)),
    Claim("more compression, smaller perceptual distance", "table1", SMALL, LARGE, (.132, .157),
          ("perceptual",)),
    Claim("more compression, smaller Fréchet distance", "table1", SMALL, LARGE, (18.93, 48.67)),
    Claim("residual sums beat attention", "table7", "residual only", "attention only",
          (68.31, 97.26)),
    Claim("the mixed loss beats residual sums", "table7", "mixed loss only", "residual only",
          (36.57, 68.31)),
    Claim("all three beat the mixed loss alone", "table7", "all", "mixed loss only", (9.64, 36.57)),
    Claim("16 tokens beat 4", "table2", "1×1 (16 tokens)", "2×2 (4 tokens)", (9.64, 14.38), BOTH),
    Claim("4 tokens beat 1", "table2", "2×2 (4 tokens)", "4×4 (1 token)", (14.38, 19.85), BOTH),
    Claim("100 steps beat 50", "table3", "DDIM 100", "DDIM 50", (16.83, 37.98)),
    Claim("500 steps beat 100", "table3", "DDIM 500", "DDIM 100", (9.64, 16.83)),
    Claim("fusion helps alone", "table8", "fusion", "neither", (31.37, 64.96), BOTH),
    Claim("multi-resolution helps alone", "table8", "multi-resolution", "neither", (24.52, 64.96),
          BOTH),
    Claim("multi-resolution beats fusion", "table8", "multi-resolution", "fusion", (24.52, 31.37),
          BOTH),
    Claim("both beat fusion", "table8", "both", "fusion", (9.64, 31.37), BOTH),
    Claim("both beat multi-resolution", "table8", "both", "multi-resolution", (9.64, 24.52), BOTH),
    Claim("concat beats add", "table9", "concat", "add", (48.53, 64.96), BOTH),
    Claim("adaptive beats concat", "table9", "adaptive", "concat", (9.64, 48.53), BOTH),
)
# Student's t, two-sided, 95 %, by the number of seeds
BEYOND_CHANCE = {3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571}
NAMES = {"frechet": "toy Fréchet distance", "l1": "L1", "loss": "test loss", "ms": "ms an image",
         "perceptual": "perceptual distance"}


def values(table: str, row: str, column: str) -> dict[int, float]:
    """A column of a row as it comes with the course, by seed."""
    return {c["seed"]: c[column] for c in reproduce.read(table) if c["row"] == row}


def verdict(claim: Claim, column: str) -> tuple[float, float, str]:
    """(mean of worse − better within the seeds, its standard error, what may be said)."""
    better, worse = (values(claim.table, row, column) for row in (claim.better, claim.worse))
    gains = [worse[seed] - better[seed] for seed in sorted(better.keys() & worse.keys())]
    gain, error = statistics.mean(gains), statistics.stdev(gains) / len(gains) ** 0.5
    if len(gains) not in BEYOND_CHANCE or abs(gain) <= BEYOND_CHANCE[len(gains)] * error:
        return gain, error, "cannot be told"
    return gain, error, "holds" if gain > 0 else "does not hold"


def page(pictures: Path) -> str:
    """The page, and its charts in `pictures`."""
    known = [name for name in TABLES if reproduce.read(name)]
    paper = [name for name in known if TABLES[name].paper]
    parts = [(HERE / "pages" / "claims.md").read_text(encoding="utf-8"), _verdicts()]
    parts += [_told(name, pictures) for name in sorted(paper)]
    parts += ["## Beyond the paper",
              "Tables that the paper does not have, measured and kept alike."]
    parts += [_told(name, pictures, "###") for name in known if name not in paper]
    return "\n\n".join(parts) + "\n"


def _verdicts() -> str:
    lines = ["| claim | the paper | ours | verdict |", "|---|---|---|---|"]
    for claim in CLAIMS:
        table = f"Table {claim.table.removeprefix('table')}"
        for k, column in enumerate(claim.columns):
            gain, error, said = verdict(claim, column)
            ours = [statistics.mean(values(claim.table, row, column).values())
                    for row in (claim.better, claim.worse)]
            digits = 1 if column == "frechet" else 4
            seen = (f"{NAMES[column]} {ours[0]:.{digits}f} against {ours[1]:.{digits}f}; gain "
                    f"{gain:.{digits}f} ± {error:.{digits}f}").replace(" -", " −")
            theirs = f"{claim.theirs[0]:g} against {claim.theirs[1]:g}" if k == 0 else "as above"
            words = f"{table}: {claim.words}" if k == 0 else "… by the loss"
            lines.append(f"| {words} | {theirs} | {seen} | **{said}** |")
    return "\n".join(lines)


def _told(name: str, pictures: Path, rank: str = "##") -> str:
    """A table: its note, its chart, its values, the command that measures it."""
    table = TABLES[name]
    chart(name, table).savefig(pictures / f"{name}.svg", metadata={"Date": None})
    columns = ", ".join(_named(c) for c in _drawn(table))
    words = html.escape(f"{table.title}: a row for each variant and a dot for each seed; "
                        f"{columns}. The table below has the values.")
    where = paper_map.told_in(name)
    source = f"`python -m minigen reproduce {name}`" + (f" · {where}" if where else "")
    return "\n\n".join([
        f"{rank} {table.title}",
        f'<img class="figure dark-light" src="pictures/{name}.svg" alt="{words}">',
        _values(name, table), *table.note.split("\n"), source])


def _values(name: str, table: Table) -> str:
    head = ["", *(_named(c) for c in table.columns), *(["the paper"] if table.paper else [])]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in table.rows:
        cells = [row]
        for column in table.columns:
            seen = list(values(name, row, column).values())
            cells.append(reproduce._value(column, seen))
        if table.paper:
            cells.append(table.paper.get(row, "–"))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _named(column: str) -> str:
    return NAMES.get(column, column.replace("_", " "))


def _drawn(table: Table) -> list[str]:
    return [c for c in table.columns if c != "parameters"]


def chart(name: str, table: Table):
    """Dots: a row for each variant, a panel for each column, two panels a line.

    Narrow, so that a telephone need not shrink it much.
    """
    columns, rows = _drawn(table), list(table.rows)
    wide = min(2, len(columns))
    high = -(-len(columns) // wide)
    fig, axes = panels(high, wide, height=0.7 + 0.24 * len(rows), width=4.8)
    for k, ax in enumerate(axes.flat):
        if k >= len(columns):
            ax.remove()
            continue
        seen = [list(values(name, row, columns[k]).values()) for row in rows]
        for y, row in enumerate(seen):
            ax.plot(row, [y] * len(row), "o", ms=5, alpha=0.75, color=COLOURS[0])
        low, most = (f(v for row in seen for v in row) for f in (min, max))
        if low > 0 and most > 30 * low:
            ax.set_xscale("log")
        ax.set_yticks(range(len(rows)), rows if k % wide == 0 else [""] * len(rows), fontsize=8)
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.set_xlabel(_named(columns[k]), fontsize=9)
        ax.grid(axis="y", alpha=0.3)
    return fig
