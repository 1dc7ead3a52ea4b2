"""ToyFaces: procedural cartoon faces of any size with known attributes.

Every face is a stack of ellipses and strokes. A shape is given by its signed distance (negative
inside), and its edge is smoothed over one pixel, so the same face can be drawn at 32×32 or 256×256.
Nothing is read from disk.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minigen.common import as_tensor
from minigen.common import generator as seeded
from minigen.errors import DataError
from minigen.inputs import described, is_whole, tensor

# name of the attribute -> its values, in label order
ATTRIBUTES = {
    "background": ("sky", "sand", "mint", "rose", "slate", "cream"),
    "skin": ("porcelain", "peach", "olive", "brown", "umber"),
    "hair": ("black", "chestnut", "blond", "red", "grey"),
    "hair_length": ("short", "medium", "long"),
    "shirt": ("navy", "crimson", "green", "white", "purple"),
    "eyes": ("brown", "blue", "green"),
    "glasses": ("no", "yes"),
    "smile": ("frown", "neutral", "smile"),
    "pose": ("left", "centre", "right"),
}

# the colours of those values, as RGB hexadecimal
PALETTES = {
    "background": ("8fc7e8", "e3c48f", "a9dcc0", "e9b3bd", "6f7f92", "f4ead2"),
    "skin": ("f8d9c4", "eeb894", "c99063", "95603c", "5f3a26"),
    "hair": ("221d20", "6b4128", "e5c25f", "b4452a", "a5a5ab"),
    "shirt": ("27406f", "b02c3f", "3c7d4a", "f2f2f0", "74489a"),
    "eyes": ("5a3418", "2d6fc0", "2f8f5b"),
}

N_JITTER = 8  # unnamed small variations: place, width, eyes, brows, mouth, light


def attribute_values(name: str) -> tuple[str, ...]:
    """The values of an attribute, in label order. Raises: DataError for an unknown one."""
    if not isinstance(name, str) or name not in ATTRIBUTES:
        raise DataError(f"unknown attribute '{name}'; ToyFaces has {', '.join(ATTRIBUTES)}.")
    return ATTRIBUTES[name]


def _check_size(size: Any) -> None:
    if not is_whole(size) or size < 8:
        raise DataError("ToyFaces can be drawn from 8×8 pixels up, a whole number; "
                        f"size={described(size)} was asked for.")


def colour_of(name: str, value: str) -> list[float]:
    """Red, green and blue in [-1, 1] of an attribute's value: colour_of("hair", "red").

    Raises: DataError for an attribute without colours, or a value it does not have.
    """
    if name not in PALETTES:
        raise DataError(f"'{name}' has no colours; {', '.join(PALETTES)} have.")
    if value not in ATTRIBUTES[name]:
        raise DataError(f"{name} has no value '{value}'; it has {', '.join(ATTRIBUTES[name])}.")
    return _colours(name)[ATTRIBUTES[name].index(value)].tolist()


def from_hexadecimal(codes: Sequence[str]) -> Tensor:
    """RGB codes such as "b4452a" as colours. Shapes: K codes → (K, 3) in [-1, 1]."""
    rgb = [[int(code[i : i + 2], 16) for i in (0, 2, 4)] for code in codes]
    return torch.tensor(rgb, dtype=torch.float32) / 127.5 - 1


def _colours(name: str) -> Tensor:
    return from_hexadecimal(PALETTES[name])


def ellipse(x: Tensor, y: Tensor, rx: Tensor | float, ry: Tensor | float) -> Tensor:
    """Signed distance to an ellipse at the origin, to first order (exact for a circle)."""
    k0 = torch.sqrt((x / rx) ** 2 + (y / ry) ** 2)
    k1 = torch.sqrt((x / rx**2) ** 2 + (y / ry**2) ** 2)
    return k0 * (k0 - 1) / k1.clamp_min(1e-6)


def arc(
    x: Tensor, y: Tensor, width: Tensor | float, bend: Tensor | float, thickness: float
) -> Tensor:
    """Signed distance to a stroke along y = bend·x², |x| ≤ width."""
    if torch.is_tensor(width):
        inside = torch.maximum(torch.minimum(x, width), -width)
    else:
        inside = x.clamp(-width, width)
    dy = (y - bend * inside**2) / torch.sqrt(1 + (2 * bend * inside) ** 2)
    return torch.sqrt((x - inside) ** 2 + dy**2) - thickness


def draw_faces(labels: Tensor | Sequence, jitter: Tensor | None = None, size: int = 32) -> Tensor:
    """Draw one face for every row of labels.

    Each shape with signed distance d covers a pixel by clamp(½ − d / pixel, 0, 1).

    Shapes: labels (B, 9) integers, a column for each of `ATTRIBUTES`; jitter (B, 8) in [-1, 1], or
        None for none; result (B, 3, size, size), float32 in [-1, 1].
    Raises: DataError for a size under 8, labels of another shape or outside their table.
    """
    _check_size(size)
    labels = as_tensor(labels, "labels")
    if labels.ndim != 2 or labels.shape[1] != len(ATTRIBUTES):
        raise DataError(f"labels must have shape (B, {len(ATTRIBUTES)}), one column an attribute; "
                        f"got {tuple(labels.shape)}.")
    tensor(labels, "labels", integers=True)
    for column, (name, values) in zip(labels.T, ATTRIBUTES.items(), strict=True):
        if len(column) and not (int(column.min()) >= 0 and int(column.max()) < len(values)):
            wanted = f"0 to {len(values) - 1} ({', '.join(values)})"
            got = f"{int(column.min())} to {int(column.max())}"
            raise DataError(f"the label of '{name}' must be {wanted}; got {got}.")
    B = len(labels)
    j = torch.zeros(B, N_JITTER) if jitter is None else tensor(jitter, "jitter", (B, N_JITTER))
    label = dict(zip(ATTRIBUTES, labels.long().T, strict=True))
    colour = {name: _colours(name)[label[name]].view(B, 3, 1, 1) for name in PALETTES}
    place, place_y, wide, spread, gaze, brow, mouth_w, light = j.float().T.view(N_JITTER, B, 1, 1)
    ordered = ("hair_length", "smile", "pose")
    length, smile, turn = (label[k].view(B, 1, 1).float() - 1 for k in ordered)  # -1, 0 or 1

    pixel = 2 / size
    axis = (torch.arange(size) + 0.5) * pixel - 1
    x, y = axis.view(1, 1, size), axis.view(1, size, 1)
    x = x - 0.05 * place - 0.04 * turn  # from here on: coordinates of the head
    y = y - 0.04 * place_y
    img = colour["background"].expand(B, 3, size, size).clone()

    def paint(rgb: Tensor, distance: Tensor, opacity: Tensor | float = 1.0) -> None:
        cover = (0.5 - distance / pixel).clamp(0, 1) * opacity
        img.lerp_(rgb.expand_as(img), cover.unsqueeze(1).expand_as(img))

    skin, hair = colour["skin"], colour["hair"]
    shade = skin * 0.8 - 0.2  # the same skin, 20 % darker (black is -1)
    rx, ry = 0.47 + 0.03 * wide, 0.56
    fx = x - 0.12 * turn  # coordinates of the features: they turn with the head

    # hair behind the head: a bowl that grows with its length
    drop = 0.28 * (length + 1)
    back = ellipse(x, y + 0.10 - drop / 2, rx + 0.15 + 0.03 * length, 0.64 + drop / 2)
    bowl = torch.maximum(back, y - 0.16 - drop)
    paint(hair, torch.where(length < 0, torch.full_like(back, 9.0), bowl))  # short hair has none
    # neck, shirt, collar
    paint(shade, torch.maximum(x.abs() - 0.19, (y - 0.60).abs() - 0.25))
    paint(colour["shirt"], ellipse(x + 0.04 * turn, y - 1.10, 0.80, 0.42))
    paint(shade, ellipse(x, y - 0.68, 0.20, 0.10))
    # ears, head
    for side in (-1, 1):
        paint(shade, ellipse(x - side * (rx + 0.005), y - 0.04, 0.085, 0.13))
    paint(skin, ellipse(x, y + 0.02, rx, ry))
    # hair in front: the top of a slightly larger head, cut by a parted fringe
    fringe = y + 0.30 - 0.35 * (fx + 0.12) ** 2 - 0.06 * length
    top = ellipse(x, y + 0.09, rx + 0.06 + 0.02 * length, ry + 0.02)
    paint(hair, torch.maximum(top, fringe))

    # eyes, brows, nose, mouth
    apart = 0.20 + 0.015 * spread
    white, black = torch.ones(1, 3, 1, 1), torch.full((1, 3, 1, 1), -0.9)
    for side in (-1, 1):
        ex, ey = fx - side * apart, y - 0.02
        paint(white, ellipse(ex, ey, 0.125, 0.095))
        paint(colour["eyes"], ellipse(ex - 0.03 * gaze - 0.02 * turn, ey, 0.080, 0.085))
        paint(black, ellipse(ex - 0.03 * gaze - 0.02 * turn, ey, 0.036, 0.036))
        paint(hair * 0.9 - 0.1, arc(ex, ey + 0.165 + 0.02 * brow, 0.11, 0.8, 0.022))
    paint(shade, arc(y - 0.15, fx - 0.02 * turn, 0.06, 0.0, 0.030))
    # a mouth is a bowed stroke; a smile is open and shows teeth
    lip = torch.tensor([0.30, -0.62, -0.55]).view(1, 3, 1, 1)
    happy = (smile > 0).float()
    mouth = 0.18 + 0.02 * mouth_w
    bend = torch.where(smile < 0, 3.2, 0.0)
    stroke = arc(fx, y - 0.36 - 0.06 * smile.clamp_max(0), mouth, bend, 0.040)
    paint(lip, stroke, opacity=1 - happy)
    opening = ellipse(fx, y - 0.30, mouth + 0.04, 0.20)
    paint(lip, torch.maximum(opening, 0.30 - y), opacity=happy)
    teeth = torch.maximum(0.315 - y, y - 0.375)
    paint(white, torch.maximum(ellipse(fx, y - 0.30, mouth, 0.16), teeth), opacity=happy)
    # glasses: two rings, and a bar from ear to ear that spares the lenses
    left, right = (ellipse(fx - side * apart, y - 0.02, 0.175, 0.155) for side in (1, -1))
    lenses = torch.minimum(left, right)
    bar = torch.maximum((y + 0.01).abs() - 0.022, x.abs() - rx - 0.02)
    bar = torch.maximum(bar, -lenses)
    rims = torch.minimum(lenses.abs() - 0.024, bar)
    paint(black, rims, opacity=label["glasses"].view(B, 1, 1).float())

    img.add_(0.05 * light.unsqueeze(1))
    return img.clamp_(-1, 1)


def labels_of(**values: str) -> Tensor:
    """One row of labels from attribute values by name.

    What is not named takes the middle of its table. Shapes: (1, 9), integers.

    >>> labels_of(glasses="yes", smile="smile").shape
    torch.Size([1, 9])

    Raises: DataError for an unknown attribute or value.
    """
    if unknown := sorted(values.keys() - ATTRIBUTES.keys()):
        raise DataError(f"unknown attribute '{unknown[0]}'; ToyFaces has {', '.join(ATTRIBUTES)}.")
    row = []
    for name, table in ATTRIBUTES.items():
        usual = table[0] if name == "glasses" else table[len(table) // 2]
        value = values.get(name, usual)
        if value not in table:
            raise DataError(f"'{name}' can be {', '.join(table)}; got '{value}'.")
        row.append(table.index(value))
    return torch.tensor([row])


class ToyFaces(torch.utils.data.Dataset):
    """n random faces; face k depends on `seed` and k only, so a larger set begins with the smaller.

    `faces.labels` is (n, 9), `faces["glasses"]` one column of it, `faces[3]` the pair (image,
    labels), `faces[[3, 5]]` and `faces[:64]` batches of them, and `faces.images()` all images at
    once.

    Shapes: image (3, size, size), float32 in [-1, 1]; labels (9,), integers into the tables of
        `ATTRIBUTES`.
    Raises: DataError for n < 1 or size < 8; IndexError past the end.
    """

    def __init__(self, n: int, size: int = 32, seed: int = 0) -> None:
        if not is_whole(n) or n < 1:
            raise DataError("ToyFaces needs at least one face, a whole number; "
                            f"n={described(n)} was asked for.")
        _check_size(size)
        self.n, self.size, self.seed = n, size, seed
        u = torch.rand(n, len(ATTRIBUTES) + N_JITTER, generator=seeded(seed))
        counts = torch.tensor([len(v) for v in ATTRIBUTES.values()])
        self.labels = (u[:, : len(counts)] * counts).long()
        self.jitter = u[:, len(counts) :] * 2 - 1

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, str):
            attribute_values(i)
            return self.labels[:, list(ATTRIBUTES).index(i)]
        if isinstance(i, int | np.integer) or (torch.is_tensor(i) and i.ndim == 0):
            i = int(i)
            if not -self.n <= i < self.n:
                raise IndexError(f"face {i} of {self.n}")
            face = draw_faces(self.labels[i][None], self.jitter[i][None], self.size)[0]
            return face, self.labels[i]
        if not isinstance(i, slice | list | np.ndarray | torch.Tensor):
            wanted = "a face's number, a slice or a list of numbers"
            raise DataError(f"{wanted} is wanted; got {described(i)}.")
        return self._draw(i), self.labels[i]

    def _draw(self, index: Any) -> Tensor:
        labels, jitter = self.labels[index], self.jitter[index]
        chunk = max(1, 2**18 // self.size**2)  # small enough to stay in the processor's cache
        parts = zip(labels.split(chunk), jitter.split(chunk), strict=True)
        return torch.cat([draw_faces(*part, self.size) for part in parts])

    def images(self) -> Tensor:
        """All images, (n, 3, size, size): 12 kB each at 32×32, so a few thousand fit anywhere."""
        return self._draw(slice(None))

    def describe(self, i: int) -> dict[str, str]:
        """Face i's attributes in words, as a dictionary."""
        if not is_whole(i) or not -self.n <= i < self.n:
            raise IndexError(f"face {described(i)} of {self.n}")
        attributes = zip(ATTRIBUTES.items(), self.labels[i], strict=True)
        return {name: values[int(v)] for (name, values), v in attributes}
