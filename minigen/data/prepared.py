"""`prepare` turns any ImageSource into one uint8 memory map with a manifest; `PreparedImages` reads it."""

import hashlib
import json
import os
import shutil
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from minigen import stops
from minigen.data.pictures import KERNELS, decode
from minigen.data.place import building, check_place
from minigen.data.sources import ImageSource
from minigen.disk import sentence_of
from minigen.errors import DataError

FORMAT = "minigen-images-1"
LARGEST_SIZE = 8192
AT_ONCE = 2**26  # bytes of files, and of pixels, that are worked on at once


def to_uint8(x):
    """Images in [-1, 1] to bytes, rounded: round(127.5 (x + 1)). Shapes: any."""
    return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def from_uint8(x):
    """Bytes to float32 in [-1, 1]: x / 127.5 − 1. Shapes: any."""
    return torch.as_tensor(x).float() / 127.5 - 1


def prepare(source, out, size=256, *, split=None, kernel="lanczos", use_classes=True, image_column=None, label_column=None,
            overwrite=False):
    """Write `out`/images.npy, (N, size, size, 3) uint8, and `out`/manifest.json from a folder, zip or parquet.

    The folder `out` appears only when everything is in it, under a name that nothing had. Files that are no whole image are
    named, skipped and listed. use_classes, image_column, label_column: as `ImageSource` takes them.
    overwrite: what `prepare` wrote to `out` before is replaced, once the new images are whole; nothing else is touched.
    Returns the manifest: count, size, classes, class_counts, splits, resize, notes, skipped, and for every image its name,
    class, split, SHA-256 and original size.

    Raises: DataError for what `ImageSource` refuses, a size that is not 8 to 8192, an unknown kernel, an `out` that exists,
        or that lies in the source, a class or a source without one readable image, a disk without room.
    """
    out = Path(out)
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or not 8 <= size <= LARGEST_SIZE:
        raise DataError(f"size is a whole number up to {LARGEST_SIZE:,} and must be at least 8 pixels; got {size!r}.")
    if kernel not in KERNELS:
        raise DataError(f"kernel must be one of {', '.join(KERNELS)}; got '{kernel}'.")
    before = check_place(out, source, overwrite)
    source, size = ImageSource(source, split, use_classes, image_column, label_column), int(size)
    try:
        with building(out, before) as folder:
            need, free = len(source) * size * size * 3, shutil.disk_usage(folder).free
            if need > free:
                raise DataError(f"{len(source)} images of {size}×{size} need {need / 1e6:,.1f} MB and the disk of "
                                f"'{out}' has {free / 1e6:,.1f} MB free: make room, or choose a smaller --size.")
            return _write(source, folder, size, kernel)
    except OSError as e:
        raise DataError(sentence_of(e, f"'{out}' could not be written", "nothing was kept")) from e


def _chunks(source, size):
    """The source's items in lists of at most 64, and of about `AT_ONCE` bytes."""
    chunk, held, most = [], 0, max(1, min(64, AT_ONCE // (3 * size * size)))
    for item in source:
        chunk.append(item)
        held += len(item.data)
        if len(chunk) == most or held > AT_ONCE:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def _write(source, folder, size, kernel):
    def header(f, n):
        f.seek(0)
        np.lib.format.write_array_header_1_0(f, {"descr": "|u1", "fortran_order": False, "shape": (n, size, size, 3)})

    def load(item):
        try:
            if item.problem:
                raise ValueError(item.problem)
            return item, *decode(item.data, size, kernel), None
        except ValueError as e:
            return item, None, None, str(e)

    files, skipped, upscaled, digest = [], [], 0, hashlib.sha256()
    with open(folder / "images.npy", "wb") as f, ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool, \
            tqdm(total=len(source), desc="prepare", unit="image", delay=2) as bar, warnings.catch_warnings():
        warnings.simplefilter("ignore")           # Pillow's name no file; what it refuses is listed below
        header(f, 0)                              # NumPy leaves room in it for a larger count
        for chunk in _chunks(source, size):
            stops.check()
            for item, pixels, shape, why in pool.map(load, chunk):
                bar.update()
                if not why and item.label is None and source.classes:
                    why = "lies beside the class folders"
                if why:
                    skipped.append({"name": item.name, "reason": why})
                    continue
                f.write(pixels.tobytes())
                digest.update(pixels)
                upscaled += min(shape) < size
                files.append({"name": item.name, "class": item.label, "split": item.split,
                              "sha256": hashlib.sha256(item.data).hexdigest(), "width": shape[0], "height": shape[1]})
        header(f, len(files))
        f.flush()
        os.fsync(f.fileno())
    if not files:
        raise DataError(f"'{source.path}' holds no readable image: {skipped[0]['name']}: {skipped[0]['reason']}.")
    counts = Counter(e["class"] for e in files)
    for name in {e.label for e in source._entries if e.label}:
        if not counts[name]:
            raise DataError(f"The class '{name}' in '{source.path}' has no readable image: --classes none ignores the "
                            "classes.")
    manifest = {"format": FORMAT, "count": len(files), "size": size, "classes": source.classes,
                "class_counts": {c: counts[c] for c in source.classes},
                "splits": dict(Counter(e["split"] for e in files if e["split"])),
                "resize": {"kernel": kernel, "antialias": True, "crop": "centre square"}, "upscaled": upscaled,
                "pixels_sha256": digest.hexdigest(), "source": source.path.name, "notes": source.notes,
                "skipped": skipped, "files": files}
    manifest["sha256"] = _digest_of(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return manifest


def _digest_of(manifest):
    """SHA-256 of a manifest without this field."""
    told = {k: v for k, v in manifest.items() if k != "sha256"}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def read_manifest(path):
    """The manifest of a prepared folder, its fields checked. Raises: DataError for any other file."""
    try:
        manifest = json.loads((Path(path) / "manifest.json").read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise ValueError(f"its format is {manifest['format']!r}, not {FORMAT!r}")
        wanted = dict(count=int, size=int, classes=list, files=list, pixels_sha256=str, resize=dict)
        if wrong := [k for k, kind in wanted.items() if not isinstance(manifest[k], kind)]:
            raise ValueError(f"its '{wrong[0]}' is a {type(manifest[wrong[0]]).__name__}")
        if len(manifest["files"]) != manifest["count"]:
            raise ValueError(f"it speaks of {manifest['count']} images and lists {len(manifest['files'])}")
        known = {None, *manifest["classes"]}
        if strange := [f["class"] for f in manifest["files"] if f["class"] not in known]:
            raise ValueError(f"the class {strange[0]!r} is none of its classes")
        if manifest["classes"] and any(f["class"] is None for f in manifest["files"]):
            raise ValueError("it has classes, and images without one")
        str(manifest["resize"]["kernel"])
        if manifest.get("sha256", _digest_of(manifest)) != _digest_of(manifest):
            raise ValueError("it was changed: it does not have the digest it carries")
        return manifest
    except KeyError as e:
        raise DataError(f"The manifest of '{path}' has no field {e}: {_anew(path)}") from None
    except (OSError, ValueError, TypeError, RecursionError) as e:
        raise DataError(f"'{path}' is no whole folder of prepared images ({e}): {_anew(path)}") from None


def _anew(path):
    return f"python -m minigen prepare SOURCE --out {path}"


class PreparedImages(torch.utils.data.Dataset):
    """The memory map of a folder written by `prepare`: only the images asked for are read.

    `data[i]` is (image (3, S, S) float32 in [-1, 1], class index, -1 without classes); `data[[3, 5]]` a batch;
    `data.labels` (N,); `data.classes`; `data.manifest`; `data.verify()` compares every pixel with the manifest's digest.

    Raises: DataError where the folder, its manifest or its images are missing or do not belong together.
    """

    def __init__(self, path):
        self.path = path = Path(path)
        self.manifest = read_manifest(path)
        try:
            self._map = np.load(path / "images.npy", mmap_mode="r", allow_pickle=False)
        except Exception as e:  # a damaged header makes numpy raise what it likes
            raise DataError(f"'{path}' is no whole folder of prepared images (images.npy: {e}): {_anew(path)}") from None
        n, size = self.manifest["count"], self.manifest["size"]
        if not isinstance(self._map, np.ndarray) or self._map.shape != (n, size, size, 3) or self._map.dtype != np.uint8:
            raise DataError(f"'{path}': the manifest speaks of {n} images of {size}×{size}, "
                            f"images.npy holds {getattr(self._map, 'shape', 'no array')}; prepare it again.")
        self.classes = self.manifest["classes"]
        index = {c: i for i, c in enumerate(self.classes)}
        self.labels = torch.tensor([index.get(f["class"], -1) for f in self.manifest["files"]], dtype=torch.long)

    def __reduce__(self):          # a DataLoader's worker opens the map itself; a copy would hold every image
        return PreparedImages, (self.path,)

    def __len__(self):
        return len(self._map)

    def __getitem__(self, i):
        pixels = torch.from_numpy(np.array(self._map[i]))
        return from_uint8(pixels.movedim(-1, -3)), self.labels[i]

    def verify(self):
        """Raise DataError unless the pixels have the SHA-256 that the manifest names. Reads all of them once."""
        digest = hashlib.sha256()
        for first in range(0, len(self._map), 256):
            digest.update(np.ascontiguousarray(self._map[first : first + 256]))
        if digest.hexdigest() != self.manifest["pixels_sha256"]:
            raise DataError(f"The pixels of '{self.path}' are not those that were prepared (their SHA-256 is another): "
                            f"{_anew(self.path)}")
