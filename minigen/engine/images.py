"""Chapter 8: the images that are trained on, by index: a folder of `prepare`, or drawn faces."""

import hashlib
import json

import torch

from minigen.data import ATTRIBUTES, PreparedImages, ToyFaces, draw_faces
from minigen.errors import DataError

MOST_FACES = 10_000_000


class Images:
    """Images by index from a prepared folder, or drawn; mirrored where asked.

    `digest` names the pixels, `mark` pixels, labels and classes.

    data: the folder, or "toyfaces:N". `images(indices, flips)` → (B, 3, size, size) in [-1, 1]; `labels` (N,) or None.
    verify: compare every pixel of a folder with its digest first. Raises: DataError for other data, or another size.
    """

    def __init__(self, data, size, verify=False):
        self.size, self.folder, data = size, None, str(data)
        if data.startswith("toyfaces:"):
            self.n = _count(data)
            self.faces = ToyFaces(self.n, size=size, seed=0)
            self.digest, self.classes, self.labels = f"{data} size {size}", list(ATTRIBUTES["hair"]), self.faces["hair"]
            self.mark = self.digest
            return
        self.folder = PreparedImages(data)
        manifest = self.folder.manifest
        self.n, self.digest, self.classes = len(self.folder), manifest["pixels_sha256"], self.folder.classes
        self.labels, self.mark = self.folder.labels if self.classes else None, self.digest
        if self.classes:
            told = json.dumps([self.classes, self.labels.tolist()])
            self.mark += f" labels {hashlib.sha256(told.encode()).hexdigest()[:16]}"
        if manifest["size"] != size:
            raise DataError(f"'{data}' holds images of {manifest['size']} pixels, the model takes {size}: "
                            f"prepare them again with --size {size}.")
        if verify:
            self.folder.verify()

    def __len__(self):
        return self.n

    def __call__(self, indices, flips=None):
        if self.folder is None:
            x = draw_faces(self.faces.labels[indices], self.faces.jitter[indices], self.size)
        else:
            x = self.folder[indices.numpy()][0]
        return x if flips is None else torch.where(flips[:, None, None, None], x.flip(-1), x)


def _count(data):
    """N of "toyfaces:N"."""
    text = data.removeprefix("toyfaces:")
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= MOST_FACES):
        raise DataError(f"Drawn faces are toyfaces:N with a whole number N from 1 to {MOST_FACES:,}; got '{data}'.")
    return int(text)
