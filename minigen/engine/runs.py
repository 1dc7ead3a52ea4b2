"""Chapter 8: a training's folder: whose it is, who works in it, what it may replace; its log."""

import contextlib
import csv
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minigen import disk
from minigen.engine import checkpoints
from minigen.errors import DataError
from minigen.files import replacing, write_text

PLACES = {"out", "data", "latents", "device"}    # where things lie; digests tell what they are
RHYTHM = {"save_every", "sample_every", "log_every", "keep"}
LOCK = ".training.lock"


def identity(config: dict[str, Any], kind: str | None) -> dict[str, Any]:
    """What the result of a training depends on: its settings, without places and rhythm.

    The number of steps counts where the learning rate depends on it.
    """
    left_out = PLACES | RHYTHM | (set() if config.get("decay") else {"steps"})
    settings = {k: v for k, v in config.items() if k not in left_out}
    return json.loads(json.dumps(settings | {"kind": kind}))      # as it is read from a file


def check_folder(out: Path | str, kind: str, config: dict[str, Any], resume: bool) -> None:
    """Whether a training may use the folder `out`; nothing is written.

    Raises: DataError for a folder with another training or, without `resume`, with one to go on
    from; for settings that differ in anything that matters to the result; for files of other
    origin that the training would replace.
    """
    out, path = Path(out), Path(out) / "config.json"
    if checkpoints.found(out):
        if not resume:
            raise DataError(f"'{out}' holds a training already: go on with --resume, or choose "
                            "another --out.")
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(before, dict):
                raise ValueError("it is no object")
        except (OSError, ValueError, RecursionError) as e:
            raise DataError(f"'{path}' cannot be read ({e}); put it back, or choose another "
                            "--out.") from None
        _require_same(out, identity(before, before.get("kind")), identity(config, kind))
        return
    ours = _is_ours(path, kind)                   # a run that ended before its first checkpoint
    if path.exists() and not ours:
        raise DataError(f"'{path}' is not of such a training, which would replace it: choose "
                        "another --out.")
    names = [f"{kind}.safetensors"]
    if not ours:
        pictures = sorted(p.name for p in out.glob("samples-*.png"))
        names += ["losses.csv", "failed_batch.json", *pictures]
    if existing := [name for name in names if (out / name).exists()]:
        raise DataError(f"'{out}' holds '{existing[0]}' and no checkpoint, and the training would "
                        "replace it: choose another --out, or move the file away.")


def _is_ours(path: Path, kind: str) -> bool:
    """Whether a config.json was written by a training of this kind."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return (isinstance(record, dict) and record.get("kind") == kind
                and "seed" in record and "steps" in record)
    except (OSError, ValueError, RecursionError):
        return False


def _require_same(out: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    changed = [k for k in before.keys() | now.keys() if before.get(k) != now.get(k)]
    if changed:
        k = min(changed, key=str)
        raise DataError(f"'{out}' was trained with {k}={before.get(k)!r}, not {now.get(k)!r}; to "
                        "resume, leave it as it was, or begin anew in another --out.")


@contextlib.contextmanager
def claimed(
    out: Path | str, kind: str, config: dict[str, Any], resume: bool
) -> Iterator[None]:
    """The training's folder, checked, locked against other processes, with its config.json.

    It is left without a trace where the training ends by an error before it has anything to keep.
    """
    out = Path(out)
    check_folder(out, kind, config, resume)
    made = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    busy = f"Another process is training in '{out}': wait for it, or choose another --out."
    try:
        with disk.held(out / LOCK, busy, remove=True):
            check_folder(out, kind, config, resume)   # again, now that nobody can come between
            path = out / "config.json"
            before = path.read_bytes() if path.exists() else None
            write_text(path, json.dumps(dict(config, kind=kind), indent=1) + "\n")
            try:
                yield
            except Exception:
                if not checkpoints.found(out) and not _rows(out / "losses.csv"):
                    (out / "losses.csv").unlink(missing_ok=True)
                    path.unlink() if before is None else path.write_bytes(before)
                raise
    finally:
        if made:
            with contextlib.suppress(OSError):        # not empty: it is wanted
                out.rmdir()


def _rows(path: Path) -> list[dict[str, str]]:
    """The whole rows of a log: a killed or full disk may have torn the last."""
    try:
        with open(path, newline="", encoding="utf-8", errors="replace") as f:
            rows = list(csv.DictReader(line.replace("\0", "") for line in f))
    except (OSError, csv.Error):
        return []
    whole = [r for r in rows if None not in r and None not in r.values() and all(r.values())]
    return [r for r in whole if r.get("step", "").isascii() and r.get("step", "").isdigit()]


class Log:
    """Losses as rows of a CSV file, and in TensorBoard where that is installed.

    Rows after `start` are forgotten.
    """

    def __init__(self, folder: Path | str, start: int = 0) -> None:
        self.path = Path(folder) / "losses.csv"
        rows = [r for r in _rows(self.path) if int(r["step"]) <= start] if start else []
        self.columns = list(rows[0]) if rows else None
        with (replacing(self.path) as temporary,
              open(temporary, "w", newline="", encoding="utf-8") as f):
            if self.columns:
                writer = csv.DictWriter(f, self.columns)
                writer.writeheader()
                writer.writerows(rows)
        self.board: Any
        try:
            from torch.utils.tensorboard import SummaryWriter
            self.board = SummaryWriter(str(folder), purge_step=start + 1)
        except ImportError:
            self.board = None

    def write(self, step: int, values: dict[str, float]) -> None:
        """Add a row, whole or not at all."""
        row = {"step": step} | {k: f"{v:.6g}" for k, v in values.items()}
        text = io.StringIO(newline="")
        if self.columns and set(self.columns) != set(row):
            raise DataError(f"'{self.path}' has the columns {', '.join(self.columns)}, not "
                            f"{', '.join(row)}: move it away.")
        writer = csv.DictWriter(text, self.columns or list(row))
        if self.columns is None:
            self.columns = list(row)
            writer.writeheader()
        writer.writerow(row)
        _append(self.path, text.getvalue().encode())
        if self.board:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)


def _append(path: Path, line: bytes) -> None:
    """Add bytes to a file, or leave it as it was."""
    with open(path, "ab", buffering=0) as f:
        end = f.seek(0, os.SEEK_END)
        try:
            while line:
                line = line[f.write(line) :]
        except OSError as e:
            f.truncate(end)
            e.filename = str(path)
            raise
