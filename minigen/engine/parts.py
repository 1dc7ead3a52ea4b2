"""Chapter 8: many tensors in parts that are written whole, so that a stopped run goes on.

A folder of parts holds parts.json, which says what they depend on and how many items are asked
for, and part-00000.safetensors, …, each with the digest of its values. Images among them may be
written as files too.
"""

import contextlib
import hashlib
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image, PngImagePlugin
from torch import Tensor
from tqdm.auto import tqdm

from minigen import disk, stops
from minigen.engine.processes import from_first, rank, wait_for_all, world
from minigen.errors import DataError
from minigen.files import read_tensors, replacing, save_tensors, write_text

LOCK, TABLE, MARK = ".parts.lock", "parts.json", "minigen"
NUMBERED = re.compile(r"\d{6,}\.png")


def path_of(folder: Path | str, k: int) -> Path:
    """The file of part k."""
    return Path(folder) / f"part-{k:05d}.safetensors"


def parts(
    folder: Path | str, total: int, size: int, key: dict[str, Any],
    make: Callable[[int, int], dict[str, Tensor]], progress: bool = True,
) -> list[Path]:
    """Fill a folder with part-00000.safetensors …, for items 0 … total in steps of `size`.

    A part is what `make(first, last)` gives, {name: tensor}. Parts that are there and whole are
    kept. With several processes each makes every world-size-th part.
    key: what the parts depend on; a folder of another key, or with other files and no parts, is
    refused. Returns: the paths, in order.
    Raises: DataError for a folder of another run, or one in which another process is writing.
    """
    folder = Path(folder)
    with contextlib.ExitStack() as stack:
        from_first(lambda: stack.enter_context(_claimed(folder, dict(key, part=size), total)))
        paths = [path_of(folder, k) for k in range(-(-total // size))]
        silent = not progress or rank() > 0
        with tqdm(total=total, unit="image", desc=folder.name, disable=silent) as bar:
            for k, path in enumerate(paths):
                stops.raise_pending()
                first, last = k * size, min(total, (k + 1) * size)
                if k % world() == rank() and not _holds(folder, k, last - first):
                    save_tensors(path, make(first, last), run=_run_of(folder), number=str(k))
                bar.update(last - first)
        wait_for_all()
    return paths


@contextlib.contextmanager
def _claimed(folder: Path, key: dict[str, Any], total: int) -> Iterator[None]:
    """The folder, checked and locked, with its parts.json.

    A folder that was made is taken away again where it stays empty.
    """
    made = not folder.exists()
    check_parts(folder, key)
    folder.mkdir(parents=True, exist_ok=True)
    busy = f"Another process is writing to '{folder}': wait for it, or choose another folder."
    try:
        with disk.held(folder / LOCK, busy, remove=True):
            try:
                check_parts(folder, key)         # again, now that nobody else can come between
                write_text(folder / TABLE, json.dumps(dict(key, count=total), sort_keys=True))
                disk.clear_leftovers(folder, "part-?????.safetensors")
                disk.clear_leftovers(folder, "??????.png")
                yield
            except BaseException:
                if made and not any(folder.glob("part-*")):    # nothing was made: no trace
                    (folder / TABLE).unlink(missing_ok=True)
                raise
    finally:
        if made:
            with contextlib.suppress(OSError):            # not empty: it is wanted
                folder.rmdir()


def check_parts(folder: Path | str, key: dict[str, Any]) -> None:
    """Raise DataError unless the folder may hold parts of this key.

    It may where it is new, empty, or holds such parts.
    """
    folder = Path(folder)
    if not folder.exists():
        return
    if not folder.is_dir():
        raise DataError(f"'{folder}' is a file; a folder is wanted: choose another.")
    if not (folder / TABLE).exists():
        names = (p.name for p in folder.iterdir())
        if others := sorted(name for name in names if name != LOCK and disk.MARK not in name):
            raise DataError(f"'{folder}' holds other files (such as '{others[0]}') and no parts: "
                            "choose another folder.")
        return
    before, now = read_table(folder), json.loads(json.dumps(key))
    before.pop("count", None)
    if changed := sorted(k for k in before.keys() | now.keys() if before.get(k) != now.get(k)):
        k = changed[0]
        raise DataError(f"'{folder}' holds parts made with {k}={before.get(k)!r}, not "
                        f"{now.get(k)!r}: choose another folder, or delete that one if they are no "
                        "longer wanted.")


def read_table(folder: Path | str) -> dict[str, Any]:
    """parts.json as a dictionary. Raises: DataError where it is none."""
    path = Path(folder) / TABLE
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        numbers = [table.get(k) for k in ("count", "part")] if isinstance(table, dict) else []
        if not numbers or not all(isinstance(n, int) and n > 0 for n in numbers):
            raise ValueError("an object with the numbers count and part is wanted")
        return table
    except (OSError, ValueError, RecursionError) as e:
        raise DataError(f"'{path}' cannot be read ({e}), so it is not known what the parts beside "
                        "it are: choose another folder, or move these away.") from None


def _run_of(folder: Path | str) -> str:
    """What the parts of a folder depend on, in one number.

    They carry it, so that one of another run is noticed.
    """
    key = {k: v for k, v in read_table(folder).items() if k != "count"}
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def read_part(folder: Path | str, k: int) -> dict[str, Tensor]:
    """The tensors of part k.

    Raises: DataError for one that is missing, torn, changed, or of another run or place.
    """
    path = path_of(folder, k)
    tensors, meta = read_tensors(path, "part")
    if (meta.get("run"), meta.get("number")) != (_run_of(folder), str(k)):
        raise DataError(f"'{path}' is not part {k} of this run: delete it and run again.")
    return tensors


def _holds(folder: Path, k: int, n: int) -> bool:
    """Whether part k is whole and has at least n rows.

    A longer run's last part serves a shorter one.
    """
    try:
        tensors = read_part(folder, k)
    except DataError:
        return False
    return bool(tensors) and all(t.ndim and len(t) >= n for t in tensors.values())


def drawn(folder: Path | str) -> Iterator[Tensor]:
    """Images of a folder of parts one by one, uint8 (3, S, S), as many as its run was asked for.

    Raises: DataError where a part is missing, torn, changed, or holds no images.
    """
    table = read_table(folder)
    count = table["count"]
    for k in range(-(-count // table["part"])):
        images = read_part(folder, k).get("images")
        colours = images is not None and images.ndim == 4 and images.shape[1] == 3
        if images is None or not colours or images.dtype != torch.uint8:
            raise DataError(f"'{path_of(folder, k)}' holds no images: choose another folder.")
        yield from images[:count]
        count -= len(images)


def is_ours(path: Path | str) -> bool:
    """Whether a PNG or zip is one that `export` wrote: it carries a mark."""
    try:
        if Path(path).suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                numbered = all(map(NUMBERED.fullmatch, archive.namelist()))
                return archive.comment == MARK.encode() and numbered
        with Image.open(path, formats=["PNG"]) as image:
            image.load()
            return image.info.get("Software") == MARK
    except Exception:  # torn or foreign: decoders raise what they like
        return False


def check_export(out: Path | str, n: int, png: bool = False, as_zip: bool = False) -> None:
    """Raise DataError where a file stands in the way that `export` did not write."""
    for path in Path(out).iterdir() if Path(out).is_dir() else ():
        picture = png and NUMBERED.fullmatch(path.name) and int(path.stem) < n
        if (picture or (as_zip and path.name == "images.zip")) and not is_ours(path):
            raise DataError(f"'{path}' was not written by minigen and would be replaced: choose "
                            "another --out.")


def export(folder: Path | str, n: int, png: bool = False, as_zip: bool = False) -> None:
    """The folder's images as 000000.png … and images.zip.

    Pictures of an earlier, longer run are taken away.
    """
    folder = Path(folder)
    check_export(folder, n, png, as_zip)
    mark = PngImagePlugin.PngInfo()
    mark.add_text("Software", MARK)
    if as_zip:
        with (replacing(folder / "images.zip") as temporary,
              zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive):
            archive.comment = MARK.encode()
            for k, x in enumerate(drawn(folder)):
                with archive.open(f"{k:06d}.png", "w") as f:
                    Image.fromarray(x.movedim(0, -1).numpy()).save(f, "PNG")
    if png:
        for k, x in enumerate(drawn(folder)):
            with replacing(folder / f"{k:06d}.png") as temporary:
                Image.fromarray(x.movedim(0, -1).numpy()).save(temporary, "PNG", pnginfo=mark)
        for path in folder.iterdir():
            if NUMBERED.fullmatch(path.name) and int(path.stem) >= n and is_ours(path):
                path.unlink()


def remove(folder: Path | str, paths: Iterable[Path]) -> None:
    """Take away parts and their table, and the folder where nothing else is in it."""
    for path in [*paths, Path(folder) / TABLE]:
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):                    # something of somebody's is in it
        Path(folder).rmdir()
