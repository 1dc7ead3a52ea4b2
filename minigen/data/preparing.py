"""`prepare` turns any ImageSource into one uint8 memory map with a manifest."""

import hashlib
import json
import os
import shutil
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import numpy as np
from tqdm.auto import tqdm

from minigen import stops
from minigen.data.pictures import KERNELS, read_picture
from minigen.data.place import building, check_place
from minigen.data.prepared import FORMAT, Manifest, digest_of
from minigen.data.sources import ImageSource, SourceItem
from minigen.disk import sentence_of
from minigen.errors import DataError
from minigen.inputs import is_whole

LARGEST_SIZE = 8192
AT_ONCE = 2**26  # bytes of files, and of pixels, that are worked on at once
Picture = tuple[np.ndarray, tuple[int, int]]  # pixels, and width and height before


def prepare(
    source: str | Path,
    out: str | Path,
    size: int = 256,
    *,
    split: str | None = None,
    kernel: str = "lanczos",
    use_classes: bool | str | Path = True,
    image_column: str | None = None,
    label_column: str | None = None,
    overwrite: bool = False,
) -> Manifest:
    """Write images.npy and manifest.json into the folder `out` from a folder, zip or parquet.

    `out` appears only when everything is in it, under a name that nothing had. Files that are no
    whole image are named, skipped and listed.
    use_classes, image_column, label_column: as `ImageSource` takes them.
    overwrite: what `prepare` wrote to `out` before is replaced, once the new images are whole;
    nothing else is touched.

    Shapes: images.npy (N, size, size, 3), uint8.
    Returns: the manifest: count, size, classes, class_counts, splits, resize, notes, skipped, and
        for every image its name, class, split, SHA-256 and original size.
    Raises: DataError for what `ImageSource` refuses, a size that is not 8 to 8192, an unknown
        kernel, an `out` that exists, or that lies in the source, a class or a source without one
        readable image, a disk without room.
    """
    out = Path(out)
    if not is_whole(size) or not 8 <= size <= LARGEST_SIZE:
        raise DataError(f"size is a whole number up to {LARGEST_SIZE:,} and must be at least 8 "
                        f"pixels; got {size!r}.")
    if kernel not in KERNELS:
        raise DataError(f"kernel must be one of {', '.join(KERNELS)}; got '{kernel}'.")
    before = check_place(out, source, overwrite)
    images = ImageSource(source, split, use_classes, image_column, label_column)
    size = int(size)
    try:
        with building(out, before) as folder:
            need = len(images) * size * size * 3
            free = shutil.disk_usage(folder).free
            if need > free:
                raise DataError(f"{len(images)} images of {size}×{size} need {need / 1e6:,.1f} MB "
                                f"and the disk of '{out}' has {free / 1e6:,.1f} MB free: make "
                                "room, or choose a smaller --size.")
            return _write(images, folder, size, kernel)
    except OSError as e:
        raise DataError(sentence_of(e, f"'{out}' could not be written", "nothing was kept")) from e


def _chunks(source: ImageSource, size: int) -> Iterator[list[SourceItem]]:
    """The source's items in lists of at most 64, and of about `AT_ONCE` bytes."""
    most = max(1, min(64, AT_ONCE // (3 * size * size)))
    chunk, held = [], 0
    for item in source:
        chunk.append(item)
        held += len(item.data)
        if len(chunk) == most or held > AT_ONCE:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def _load(item: SourceItem, size: int, kernel: str, classes: list[str]) -> Picture | str:
    """The item's picture, or why it has none."""
    if item.problem:
        return item.problem
    try:
        picture = read_picture(item.data, size, kernel)
    except ValueError as e:
        return str(e)
    if item.label is None and classes:
        return "lies beside the class folders"
    return picture


def _write_header(file: IO[bytes], shape: tuple[int, ...]) -> None:
    """The header of images.npy; NumPy leaves room in it for a larger count."""
    about = {"descr": "|u1", "fortran_order": False, "shape": shape}
    file.seek(0)
    np.lib.format.write_array_header_1_0(file, about)


def _write(source: ImageSource, folder: Path, size: int, kernel: str) -> Manifest:
    """Write the images and the manifest. Returns: the manifest."""
    files, skipped = [], []
    upscaled = 0
    digest = hashlib.sha256()
    pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1))
    bar = tqdm(total=len(source), desc="prepare", unit="image", delay=2)
    with open(folder / "images.npy", "wb") as f, pool, bar, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's name no file; what it refuses is listed below
        _write_header(f, (0, size, size, 3))
        for chunk in _chunks(source, size):
            stops.raise_pending()
            pictures = pool.map(lambda x: _load(x, size, kernel, source.classes), chunk)
            for item, picture in zip(chunk, pictures, strict=True):
                bar.update()
                if isinstance(picture, str):
                    skipped.append({"name": item.name, "reason": picture})
                    continue
                pixels, shape = picture
                content = pixels.tobytes()
                f.write(content)
                digest.update(content)
                upscaled += min(shape) < size
                files.append(_record(item, shape))
        _write_header(f, (len(files), size, size, 3))
        f.flush()
        os.fsync(f.fileno())
    if not files:
        name, reason = skipped[0]["name"], skipped[0]["reason"]
        raise DataError(f"'{source.path}' holds no readable image: {name}: {reason}.")
    counts = Counter(e["class"] for e in files)
    for name in {e.label for e in source._entries if e.label}:
        if not counts[name]:
            raise DataError(f"The class '{name}' in '{source.path}' has no readable image: "
                            "--classes none ignores the classes.")
    manifest = {
        "format": FORMAT,
        "count": len(files),
        "size": size,
        "classes": source.classes,
        "class_counts": {c: counts[c] for c in source.classes},
        "splits": dict(Counter(e["split"] for e in files if e["split"])),
        "resize": {"kernel": kernel, "antialias": True, "crop": "centre square"},
        "upscaled": upscaled,
        "pixels_sha256": digest.hexdigest(),
        "source": source.path.name,
        "notes": source.notes,
        "skipped": skipped,
        "files": files,
    }
    manifest["sha256"] = digest_of(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return manifest


def _record(item: SourceItem, shape: tuple[int, int]) -> dict[str, Any]:
    """What the manifest says of one image."""
    return {
        "name": item.name,
        "class": item.label,
        "split": item.split,
        "sha256": hashlib.sha256(item.data).hexdigest(),
        "width": shape[0],
        "height": shape[1],
    }
