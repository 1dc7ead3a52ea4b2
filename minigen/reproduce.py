"""The paper's tables at small scale: `python -m minigen reproduce table1`. Every cell of a table is one short training.

A table's results lie in one JSON file, written after every cell, so that a run which was stopped goes on where it was.
What is comparable with the paper is the order of the rows, not the values: other images, other sizes, minutes of training.
"""

import json
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import torch
from tqdm.auto import tqdm

from minigen import ivqvae, metrics
from minigen.data import ToyFaces, batches
from minigen.errors import DataError
from minigen.files import data_path, replacing
from minigen.perceptual import ToyPerceptual

SMALL = dict(size=32, width=16, attention_at=8, num_codes=512, code_dim=4)
PLAIN = SMALL | dict(multipliers=(1, 2, 4, 4))


class Table(NamedTuple):
    """A table to reproduce: rows {name: arguments of `cell`}, the columns measured, and the paper's values beside them."""

    title: str
    cell: callable
    steps: int
    columns: tuple
    rows: dict
    paper: dict
    note: str


def ivqvae_cell(seed, steps, mixed=True, **options):
    """Train one autoencoder on 8,192 ToyFaces and measure it on 2,000 others: a dictionary of the columns."""
    torch.manual_seed(seed)
    model, perceptual = ivqvae.IVQVAE(**options), ToyPerceptual()
    judge = ivqvae.PatchDiscriminator(width=32, layers=2) if mixed else None
    data = batches(ToyFaces(8192, seed=0).images(), batch_size=32, seed=seed)
    for _ in ivqvae.train_ivqvae(model, data, steps=steps, perceptual=perceptual if mixed else None, discriminator=judge,
                                 start=int(0.7 * steps) + 1 if mixed else None, lr=2e-3):
        pass
    test = ToyFaces(2000, seed=2).images()
    codes = model.eval().encode_indices(test)
    x_hat = model.decode_indices(codes)
    with torch.no_grad():
        distance = torch.cat([perceptual(a, b) for a, b in zip(x_hat.split(500), test.split(500), strict=True)]).mean()
    return dict(l1=float((x_hat - test).abs().mean()), perceptual=float(distance), frechet=metrics.toy_frechet(x_hat),
                codes_used=len(codes.unique()))


COLUMNS = ("l1", "perceptual", "frechet", "codes_used")
TABLES = {
    "table1": Table(
        "Table 1: compression and reconstruction", ivqvae_cell, 250, COLUMNS,
        {"f = 4 (8×8 map)": SMALL | dict(multipliers=(1, 2, 4)), "f = 8 (4×4 map)": PLAIN,
         "f = 16 (2×2 map)": SMALL | dict(multipliers=(1, 2, 4, 4, 4))},
        {"f = 4 (8×8 map)": "f = 32: L1 .068, LPIPS .157, rFID 48.67",
         "f = 8 (4×4 map)": "f = 64: L1 .062, LPIPS .132, rFID 18.93",
         "f = 16 (2×2 map)": "f = 128: did not fit"},
        "The paper compresses 256×256 photographs, we 32×32 ToyFaces: rows stand beside each other by the size of the map.\n"
        "Its larger maps: f = 16 (16×16): L1 .075, LPIPS .183, rFID 87.36; f = 8 (32×32): L1 .082, LPIPS .215, rFID none."),
    "table7": Table(
        "Table 7: what each part of IVQ-VAE is worth", ivqvae_cell, 250, COLUMNS,
        {"none": PLAIN | dict(mixed=False, residual=False, attention_at=0),
         "attention only": PLAIN | dict(mixed=False, residual=False),
         "residual only": PLAIN | dict(mixed=False, attention_at=0),
         "mixed loss only": PLAIN | dict(residual=False, attention_at=0), "all but mixed loss": PLAIN | dict(mixed=False),
         "all": PLAIN},
        {"none": "no valid samples", "attention only": "FID 97.26", "residual only": "FID 68.31", "mixed loss only": "FID 36.57",
         "all": "FID 9.64"},
        "The paper's values are FIDs of images *generated* by the whole system on CelebA-HQ; ours are of reconstructions."),
}


def results_file(name, out=None):
    """Where a table's results lie: `out`, or data/reproduce/NAME.json of the clone."""
    if out is not None:
        return Path(out)
    return data_path("pretrained").parent / "reproduce" / f"{name}.json"


def read(name, out=None):
    """The cells measured so far: [{row, seed, steps, seconds, …columns}]. Raises: DataError for a file that is no such list."""
    path = results_file(name, out)
    if not path.exists():
        return []
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        whole = all({"row", "seed", "steps", "options"} <= c.keys() for c in cells)
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise DataError(f"{path.name} is not a results file of `reproduce`; move it away to start anew.")
    return cells


def reproduce(name, seeds=(0, 1, 2), steps=None, out=None, rows=None):
    """Measure the cells of a table that its file lacks, writing the file after each; yields every new cell.

    rows: only these. Cells measured with other steps are refused, since one table should mean one training length.
    Raises: DataError for an unknown table or row, or a file with cells of other steps.
    """
    if name not in TABLES:
        raise DataError(f"There is no table '{name}' to reproduce; there are {', '.join(TABLES)}.")
    table, path = TABLES[name], results_file(name, out)
    steps, rows = table.steps if steps is None else steps, list(table.rows) if rows is None else rows
    if steps < 1:
        raise DataError(f"A cell needs at least one training step; got {steps}.")
    if unknown := [r for r in rows if r not in table.rows]:
        raise DataError(f"{name} has no row '{unknown[0]}'; it has {', '.join(table.rows)}.")
    cells = read(name, out)
    if other := {c["steps"] for c in cells} - {steps}:
        raise DataError(f"{path.name} holds cells of {other.pop()} steps, not {steps}; name another file with --out.")
    if changed := [c["row"] for c in cells if c["options"] != str(table.rows.get(c["row"]))]:
        raise DataError(f"{path.name} was measured with another definition of '{changed[0]}'; move it away to start anew.")
    done = {(c["row"], c["seed"]) for c in cells}
    wanted = [(row, seed) for seed in dict.fromkeys(seeds) for row in rows if (row, seed) not in done]
    for row, seed in tqdm(wanted, desc=name, unit="cell"):
        start = time.time()
        values = table.cell(seed, steps, **table.rows[row])
        cell = dict(row=row, seed=seed, steps=steps, seconds=round(time.time() - start), options=str(table.rows[row])) | {
            k: round(v, 4) for k, v in values.items()}
        cells.append(cell)
        command = f"python -m minigen reproduce {name}" + (f" --steps {steps}" if steps != table.steps else "")
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(dict(table=name, command=command, torch=torch.__version__.split("+")[0], cells=cells),
                                            indent=1) + "\n", encoding="utf-8")
        yield cell


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
            digits = 3 if column in ("l1", "perceptual") else 1
            text = f"{statistics.mean(values):.{digits}f}" if values else "–"
            if len(values) > 1:
                text += f" ± {statistics.stdev(values):.{digits}f}"
            line += f"{text:>16}"
        lines.append(line + f"{len(mine):>8}   {table.paper.get(row, '–')}")
    return "\n".join([*lines, table.note])
