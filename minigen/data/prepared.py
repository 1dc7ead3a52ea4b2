"""`PreparedImages` reads what `prepare` wrote: one uint8 memory map of images with a manifest."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minigen import disk
from minigen.errors import DataError

FORMAT = "minigen-images-1"
Manifest = dict[str, Any]


def to_uint8(x: Tensor) -> Tensor:
    """Images in [-1, 1] to bytes, rounded: round(127.5 (x + 1)). Shapes: any."""
    return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def from_uint8(x: Tensor | np.ndarray) -> Tensor:
    """Bytes to float32 in [-1, 1]: x / 127.5 − 1. Shapes: any."""
    return torch.as_tensor(x).float() / 127.5 - 1


def digest_of(manifest: Manifest) -> str:
    """SHA-256 of a manifest, the field that holds it left out."""
    fields = {k: v for k, v in manifest.items() if k != "sha256"}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def read_manifest(path: str | Path) -> Manifest:
    """The manifest of a prepared folder, its fields checked.

    Raises: DataError for any other file.
    """
    require_prepared(path)
    try:
        manifest = json.loads((Path(path) / "manifest.json").read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise ValueError(f"its format is {manifest['format']!r}, not {FORMAT!r}")
        wanted = dict(count=int, size=int, classes=list, files=list, pixels_sha256=str, resize=dict)
        if wrong := [k for k, kind in wanted.items() if not isinstance(manifest[k], kind)]:
            raise ValueError(f"its '{wrong[0]}' is a {type(manifest[wrong[0]]).__name__}")
        if len(manifest["files"]) != manifest["count"]:
            listed = len(manifest["files"])
            raise ValueError(f"it speaks of {manifest['count']} images and lists {listed}")
        known = {None, *manifest["classes"]}
        if strange := [f["class"] for f in manifest["files"] if f["class"] not in known]:
            raise ValueError(f"the class {strange[0]!r} is none of its classes")
        if manifest["classes"] and any(f["class"] is None for f in manifest["files"]):
            raise ValueError("it has classes, and images without one")
        str(manifest["resize"]["kernel"])
        if manifest.get("sha256", digest_of(manifest)) != digest_of(manifest):
            raise ValueError("it was changed: it does not have the digest it carries")
        return manifest
    except KeyError as e:
        raise DataError(f"The manifest of '{path}' has no field {e}: {_anew(path)}") from None
    except OSError as e:
        raise DataError(disk.sentence_of(e)) from None
    except (ValueError, TypeError, RecursionError) as e:
        raise DataError(_no_folder(path, e)) from None


def require_prepared(path: str | Path) -> None:
    """Raise DataError unless `path` is a folder that holds the two files of `prepare`."""
    if not os.path.exists(path):
        raise DataError(f"There is no folder '{path}': {_anew(path)} makes one.")
    if not os.path.isdir(path):
        raise DataError(f"'{path}' is a file, no folder of `prepare`: {_anew('FOLDER')} makes one.")
    for name in ("manifest.json", "images.npy"):
        if not os.path.exists(Path(path) / name):
            raise DataError(f"'{path}' is no folder of `prepare` (it lacks {name}): {_anew(path)} "
                            "makes one.")


def _no_folder(path: str | Path, why: object) -> str:
    return f"'{path}' is no whole folder of prepared images ({why}): {_anew(path)}"


def _anew(path: str | Path) -> str:
    place = "data/NAME" if str(path) == "." else path
    return f"python -m minigen prepare SOURCE --out {place}"


class PreparedImages(torch.utils.data.Dataset):
    """The memory map of a folder written by `prepare`: only the images asked for are read.

    `data[i]` is (image, class index, -1 without classes), `data[[3, 5]]` a batch of them. There are
    `data.labels`, `data.classes` and `data.manifest`; `data.verify()` compares every pixel with the
    manifest's digest.

    Shapes: image (3, S, S), float32 in [-1, 1]; labels (N,), integers.
    Raises: DataError where the folder, its manifest or its images are missing or do not belong
        together.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path = Path(path)
        self.manifest = read_manifest(path)
        try:
            self._map = np.load(path / "images.npy", mmap_mode="r", allow_pickle=False)
        except Exception as e:  # a damaged header makes numpy raise what it likes
            raise DataError(_no_folder(path, f"images.npy: {e}")) from None
        n, size = self.manifest["count"], self.manifest["size"]
        shape = getattr(self._map, "shape", "no array")
        if shape != (n, size, size, 3) or self._map.dtype != np.uint8:
            raise DataError(f"'{path}': the manifest speaks of {n} images of {size}×{size}, "
                            f"images.npy holds {shape}; prepare it again.")
        self.classes = self.manifest["classes"]
        index = {c: i for i, c in enumerate(self.classes)}
        labels = [index.get(f["class"], -1) for f in self.manifest["files"]]
        self.labels = torch.tensor(labels, dtype=torch.long)

    # a DataLoader's worker opens the map itself; a copy would hold every image
    def __reduce__(self) -> tuple:
        return PreparedImages, (self.path,)

    def __len__(self) -> int:
        return len(self._map)

    def __getitem__(self, i: Any) -> tuple[Tensor, Tensor]:
        pixels = torch.from_numpy(np.array(self._map[i]))
        return from_uint8(pixels.movedim(-1, -3)), self.labels[i]

    def verify(self) -> None:
        """Raise DataError unless the pixels have the SHA-256 that the manifest names.

        Reads all of them once.
        """
        digest = hashlib.sha256()
        for first in range(0, len(self._map), 256):
            part = np.ascontiguousarray(self._map[first : first + 256])
            digest.update(part.data)
        if digest.hexdigest() != self.manifest["pixels_sha256"]:
            raise DataError(f"The pixels of '{self.path}' are not those that were prepared (their "
                            f"SHA-256 is another): {_anew(self.path)}")
