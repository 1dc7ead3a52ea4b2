"""`prepare` turns any ImageSource into one uint8 memory map with a manifest; `PreparedImages` reads it."""

import errno
import hashlib
import io
import itertools
import json
import os
import shutil
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from tqdm.auto import tqdm

from minigen.data.sources import ImageSource
from minigen.errors import DataError

KERNELS = {"lanczos": Image.Resampling.LANCZOS, "bicubic": Image.Resampling.BICUBIC,
           "bilinear": Image.Resampling.BILINEAR, "box": Image.Resampling.BOX}
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")


def to_uint8(x):
    """Images in [-1, 1] to bytes, rounded: round(127.5 (x + 1)). Shapes: any."""
    return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def from_uint8(x):
    """Bytes to float32 in [-1, 1]: x / 127.5 − 1. Shapes: any."""
    return torch.as_tensor(x).float() / 127.5 - 1


def decode(data, size, kernel="lanczos"):
    """Decode, turn upright, centre-crop to a square and resize with antialiasing (Pillow's filters widen as they shrink).

    Returns: (uint8 array (size, size, 3), (width, height) before). Raises: ValueError with the reason it cannot.
    """
    if not data:
        raise ValueError("no readable bytes")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        image.load()
    except Image.UnidentifiedImageError:
        raise ValueError("not an image") from None
    except Exception as e:  # decoders raise what they like; the reason goes into the manifest
        raise ValueError(f"damaged image ({e or type(e).__name__})") from None
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"{image.mode} pixels of more than 8 bits: convert it to 8 bits a channel")
    image = ImageOps.exif_transpose(image)
    width, height = image.size
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    image = image.convert("RGB").crop((left, top, left + side, top + side))
    return np.asarray(image.resize((size, size), KERNELS[kernel])), (width, height)


def prepare(source, out, size=256, *, split=None, kernel="lanczos", use_classes=True, overwrite=False):
    """Write `out`/images.npy, (N, size, size, 3) uint8, and `out`/manifest.json from a folder, zip or parquet.

    The folder `out` appears only when everything is in it. Files that are no whole image are named, skipped and
    listed. Returns the manifest: count, size, classes, class_counts, splits, resize, skipped, and for every image
    its name, class, split, SHA-256 and original size.

    Raises: DataError for what `ImageSource` refuses, a size under 8, an unknown kernel, an `out` that exists,
        a class or a source without one readable image, a disk without room.
    """
    out = Path(out)
    if size < 8:
        raise DataError(f"size must be at least 8 pixels; got {size}.")
    if kernel not in KERNELS:
        raise DataError(f"kernel must be one of {', '.join(KERNELS)}; got '{kernel}'.")
    if out.exists() and not overwrite:
        raise DataError(f"'{out}' exists already: choose another --out, or pass --overwrite to replace it.")
    if out.exists() and not (out.is_dir() and {p.name for p in out.iterdir()} == {"images.npy", "manifest.json"}):
        raise DataError(f"'{out}' holds other things than prepared images, so it is not overwritten: choose another --out.")
    if out.resolve() in (Path(source).resolve(), *Path(source).resolve().parents):
        raise DataError(f"'{out}' holds the source itself: choose another --out.")
    source = ImageSource(source, split, use_classes)
    temporary = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        need, free = len(source) * size * size * 3, shutil.disk_usage(out.parent).free
        if need > free:
            raise DataError(f"{len(source)} images of {size}×{size} need {need / 1e6:,.1f} MB and the disk of "
                            f"'{out}' has {free / 1e6:,.1f} MB free: make room, or choose a smaller --size.")
        temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
        manifest = _write(source, temporary, size, kernel)
        temporary.chmod(0o755)
        if out.exists():                          # the old set makes way only when the new one is whole
            old = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.old."))
            out.rename(old / out.name)
            temporary.rename(out)
            shutil.rmtree(old)
        else:
            temporary.rename(out)
        return manifest
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DataError(f"The disk of '{out}' is full; nothing was kept. Make room, or choose a smaller --size.") from e
        raise DataError(f"'{out}' could not be written: {e.strerror or e}.") from e
    finally:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)


def _write(source, folder, size, kernel):
    def header(f, n):
        f.seek(0)
        np.lib.format.write_array_header_1_0(f, {"descr": "|u1", "fortran_order": False, "shape": (n, size, size, 3)})

    def load(item):
        try:
            return item, *decode(item.data, size, kernel), None
        except ValueError as e:
            return item, None, None, str(e)

    files, skipped, upscaled, digest = [], [], 0, hashlib.sha256()
    with open(folder / "images.npy", "wb") as f, ThreadPoolExecutor(os.cpu_count()) as pool, \
            tqdm(total=len(source), desc="prepare", unit="image", delay=2) as bar:
        header(f, 0)                              # NumPy leaves room in it for a larger count
        items = iter(source)
        while chunk := list(itertools.islice(items, 64)):
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
    for name in {label for _, label, _ in source._entries if label}:
        if not counts[name]:
            raise DataError(f"The class '{name}' in '{source.path}' has no readable image.")
    manifest = {"format": "minigen-images-1", "count": len(files), "size": size, "classes": source.classes,
                "class_counts": {c: counts[c] for c in source.classes},
                "splits": dict(Counter(e["split"] for e in files if e["split"])),
                "resize": {"kernel": kernel, "antialias": True, "crop": "centre square"}, "upscaled": upscaled,
                "pixels_sha256": digest.hexdigest(), "source": source.path.name, "skipped": skipped, "files": files}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return manifest


class PreparedImages(torch.utils.data.Dataset):
    """The memory map of a folder written by `prepare`: only the images asked for are read.

    `data[i]` is (image (3, S, S) float32 in [-1, 1], class index, -1 without classes); `data[[3, 5]]` a batch;
    `data.labels` (N,); `data.classes`; `data.manifest`.

    Raises: DataError where the folder, its manifest or its images are missing or do not belong together.
    """

    def __init__(self, path):
        self.path = path = Path(path)
        try:
            self.manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
            self._map = np.load(path / "images.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as e:
            raise DataError(f"'{path}' is no whole folder of prepared images ({e}): "
                            f"python -m minigen prepare SOURCE --out {path}") from None
        n, size = self.manifest.get("count"), self.manifest.get("size")
        if self._map.shape != (n, size, size, 3) or self._map.dtype != np.uint8:
            raise DataError(f"'{path}': the manifest speaks of {n} images of {size}×{size}, "
                            f"images.npy holds {self._map.shape}; prepare it again.")
        self.classes = self.manifest["classes"]
        index = {c: i for i, c in enumerate(self.classes)}
        self.labels = torch.tensor([index.get(f["class"], -1) for f in self.manifest["files"]])

    def __reduce__(self):          # a DataLoader's worker opens the map itself; a copy would hold every image
        return PreparedImages, (self.path,)

    def __len__(self):
        return len(self._map)

    def __getitem__(self, i):
        pixels = torch.from_numpy(np.array(self._map[i]))
        return from_uint8(pixels.movedim(-1, -3)), self.labels[i]
