"""Chapter 8: the images that are trained on, by index: a folder of `prepare`, or drawn faces."""

import hashlib
import json
import os

import torch
from torch import Tensor

from minigen.data import ATTRIBUTES, PreparedImages, ToyFaces, draw_faces
from minigen.errors import DataError

MOST_FACES = 10_000_000


class Images:
    """Images by index from a prepared folder, or drawn; mirrored where asked.

    `digest` names the pixels, `mark` pixels, labels and classes.

    data: the folder, or "toyfaces:N". `images(indices, flips)` → (B, 3, size, size) in [-1, 1];
    `labels` (N,) or None.
    verify: compare every pixel of a folder with its digest first.
    Raises: DataError for other data, or another size.
    """

    labels: Tensor | None
    folder: PreparedImages | None

    def __init__(self, data: str | os.PathLike, size: int, verify: bool = False) -> None:
        data = str(data)
        self.size, self.folder = size, None
        if data.startswith("toyfaces:"):
            self.n = _count(data)
            self.faces = ToyFaces(self.n, size=size, seed=0)
            self.classes, self.labels = list(ATTRIBUTES["hair"]), self.faces["hair"]
            self.digest = self.mark = f"{data} size {size}"
            return
        self.folder = PreparedImages(data)
        manifest = self.folder.manifest
        self.n, self.classes = len(self.folder), self.folder.classes
        self.labels = self.folder.labels if self.classes else None
        self.digest = self.mark = manifest["pixels_sha256"]
        if self.labels is not None:
            labelling = json.dumps([self.classes, self.labels.tolist()])
            self.mark += f" labels {hashlib.sha256(labelling.encode()).hexdigest()[:16]}"
        if manifest["size"] != size:
            raise DataError(f"'{data}' holds images of {manifest['size']} pixels, the model takes "
                            f"{size}: prepare them again with --size {size}.")
        if verify:
            self.folder.verify()

    def __len__(self) -> int:
        return self.n

    def __call__(self, indices: Tensor, flips: Tensor | None = None) -> Tensor:
        if self.folder is None:
            x = draw_faces(self.faces.labels[indices], self.faces.jitter[indices], self.size)
        else:
            x = self.folder[indices.numpy()][0]
        return x if flips is None else torch.where(flips[:, None, None, None], x.flip(-1), x)


def _count(data: str) -> int:
    """N of "toyfaces:N"."""
    text = data.removeprefix("toyfaces:")
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= MOST_FACES):
        raise DataError("Drawn faces are toyfaces:N with a whole number N from 1 to "
                        f"{MOST_FACES:,}; got '{data}'.")
    return int(text)
