"""Excursion 3's repairs, checked: Wiener's filter, and a picture made to fit a measurement."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from minigen.checks import pictures_answers as right
from minigen.checks.compare import Answer, Wrong, expect, value_of
from minigen.checks.text_cases import alike

# pictures and numbers of each; in the first as many of one as of the other, where wrong rows fit
SIZES = ((4, 4, 0.5), (5, 3, 0.04), (2, 6, 2.0))


def _crowd(n: int, dim: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Points, their mean, and a covariance that is far from diagonal and has an inverse."""
    axes = torch.linalg.qr(torch.randn(dim, dim, dtype=dtype)).Q
    spread = torch.linspace(0.3, 2.0, dim, dtype=dtype)
    mean = torch.randn(dim, dtype=dtype) + 1
    return mean + 2 * torch.randn(n, dim, dtype=dtype), mean, (axes * spread) @ axes.T


def wiener(answer: Answer) -> None:
    for case, (n, dim, variance) in enumerate(SIZES):
        y, mean, cov = _crowd(n, dim, torch.float64 if case == 1 else torch.float32)
        expect(value_of(answer(y, mean, cov, variance)), right.wiener(y, mean, cov, variance),
               f"{n} rows of {dim} numbers and the variance {variance:g}",
               _mistakes_of_wiener(y, mean, cov, variance), tol=1e-3)
    _still_pixel(answer, y, mean, cov, variance)


def _still_pixel(answer: Answer, y: Tensor, mean: Tensor, cov: Tensor, variance: float) -> None:
    """Raise `Wrong` where cov itself has to have an inverse: a number that never changes."""
    moves = (torch.arange(len(cov)) != 1).to(cov)
    cov = moves[:, None] * cov * moves
    want = right.wiener(y, mean, cov, variance)
    told = ("Right, as long as cov has an inverse. Where a pixel never changes it has none: only "
            "cov + variance · I is to be inverted.")
    try:
        got = value_of(answer(y, mean, cov, variance))
    except torch.linalg.LinAlgError:
        raise Wrong(told) from None
    if isinstance(got, Tensor) and not alike(got, want):
        raise Wrong(told)
    expect(got, want, "a cov without an inverse")


def _mistakes_of_wiener(y: Tensor, mean: Tensor, cov: Tensor, v: float) -> dict[str, Tensor]:
    n, dim = y.shape
    eye = torch.eye(dim, dtype=cov.dtype)
    d, inverse = y - mean, torch.linalg.inv(cov + v * eye)
    share, own = cov @ inverse, cov.diag()
    batch = y.mean(0)
    mistakes = {
        "The mean is not taken off before the filter: y − mean.": mean + y @ share,
        "The mean is not put back: mean + …": d @ share,
        "The mean is neither taken off nor put back: so everything shrinks towards 0.": y @ share,
        "y − mean is added: you took mean − y, or the filtered part off.": mean - d @ share,
        ("That keeps the noise's share, variance (cov + variance I)⁻¹: the picture's is "
         "cov (cov + variance I)⁻¹."): mean + v * d @ inverse,
        "That is the noise that is taken out: what is left of y is wanted.": d - d @ share,
        "You took a deviation where the variance belongs: it needs no root.":
            mean + d @ (cov @ torch.linalg.inv(cov + math.sqrt(v) * eye)),
        "The variance is squared already: add it as it is.":
            mean + d @ (cov @ torch.linalg.inv(cov + v**2 * eye)),
        ("The variance was added to every entry of cov: to the diagonal only, times "
         "torch.eye(D)."): mean + d @ (cov @ torch.linalg.inv(cov + v)),
        "The identity is added without the variance.":
            mean + d @ (cov @ torch.linalg.inv(cov + eye)),
        "The variance is added to cov: you took it off.":
            mean + d @ (cov @ torch.linalg.inv(cov - v * eye)),
        "Only the diagonal of cov is used: neighbours tell about each other.":
            mean + d * own / (own + v),
        "Each number gets the same share: that is the mean variance alone, without cov.":
            mean + d * own.mean() / (own.mean() + v),
        ("y comes back as it was: the variance is missing in the inverse, cov cov⁻¹ changes "
         "nothing."): y,
        "The inverse is missing: cov (cov + variance I)⁻¹.": mean + d @ cov @ (cov + v * eye),
        "The first cov is missing: cov (cov + variance I)⁻¹.": mean + d @ inverse,
        "The second factor is missing: (cov + variance I)⁻¹.": mean + d @ cov,
        "That is the inverse of cov alone: cov (cov + variance I)⁻¹.":
            mean + d @ torch.linalg.inv(cov),
        "The inverse is taken of the wrong factor: of cov + variance I.":
            mean + d @ torch.linalg.inv(cov) @ (cov + v * eye),
        ("cov was divided entry by entry: a matrix is divided by its inverse, "
         "torch.linalg.solve or inv."): mean + d @ (cov / (cov + v * eye)),
        "cov was divided entry by entry, and the variance is in every one: cov + variance I.":
            mean + d @ (cov / (cov + v)),
        "The entries of the matrix were inverted: a matrix has its own inverse, inv or solve.":
            mean + d @ cov @ (1 / (cov + v * eye)),
        "The factors were multiplied entry by entry: with @.": mean + d @ (cov * inverse),
        "The filter is used twice.": mean + d @ share @ share,
        "The mean is given: you took that of y's rows.": batch + (y - batch) @ share,
        "The mean that is put back is the given one: you put back that of y's rows.":
            batch + d @ share,
        "That is the mean alone.": mean.expand(n, dim),
        "Rows and columns are swapped: (N, D).": (mean + d @ share).T,
    }
    if n == dim:
        mistakes |= {
            ("A row of y is a picture: the matrix stands on its right, (y − mean) @ …, and not on "
             "its left."): mean + share @ d,
            ("The filtered rows have to be turned back, (… @ (y − mean).T).T, before the mean is "
             "added."): mean + (d @ share).T,
            "The mean was lined up with the rows: it belongs to the numbers of each row.":
                mean[:, None] + (y - mean[:, None]) @ share,
        }
    return mistakes


class Scene(NamedTuple):
    """Pictures, what was measured of others, and the way there and back."""

    words: str
    x: Tensor
    y: Tensor
    forward: Answer
    back: Answer


def guarded(f: Answer, name: str, takes: str, shape: torch.Size) -> Answer:
    """A map that takes tensors of one shape only, and says so."""
    def called(z: object) -> Tensor:
        if not isinstance(z, Tensor) or z.shape != shape:
            got = f"shape {tuple(z.shape)}" if isinstance(z, Tensor) else f"a {type(z).__name__}"
            raise Wrong(f"{name} takes a {takes}, here of shape {tuple(shape)}; it was given "
                        f"{got}. forward leads from a picture to its measurement, back the other "
                        "way.")
        return f(z)

    return called


def scenes() -> Iterator[Scene]:
    """In the first a measurement fits a picture's shape by broadcasting; in none is it the same."""
    weights = torch.tensor([0.5, 0.8, 0.2]).view(3, 1, 1)
    hidden = torch.zeros(5, 4, dtype=torch.bool)
    hidden[1:3, :3] = True

    def filled(z: Tensor) -> Tensor:
        out = z.new_zeros(*z.shape[:2], 5, 4)
        out[..., ~hidden] = z
        return out

    for words, shape, forward, back in (
            ("brightness", (3, 3, 3, 4), lambda x: (weights.to(x) * x).sum(1, keepdim=True),
             lambda z: weights.to(z) * z / weights.square().sum()),
            ("a mask", (2, 3, 5, 4), lambda x: x[..., ~hidden], filled),
            ("means of blocks of 2 · 2", (4, 1, 4, 6), lambda x: F.avg_pool2d(x, 2),
             lambda z: z.repeat_interleave(2, 2).repeat_interleave(2, 3)),
            ("means of blocks of 3 · 3", (2, 3, 6, 9), lambda x: F.avg_pool2d(x, 3),
             lambda z: z.repeat_interleave(3, 2).repeat_interleave(3, 3))):
        dtype = torch.float64 if words == "a mask" else torch.float32
        x, other = torch.randn(2, *shape, dtype=dtype) + 0.4
        y = forward(other)
        yield Scene(words, x, y, guarded(forward, "forward", "picture", x.shape),
                    guarded(back, "back", "measurement", y.shape))


def consistent(answer: Answer) -> None:
    for words, x, y, forward, back in scenes():
        expect(value_of(answer(x, y, forward, back)), right.consistent(x, y, forward, back),
               f"pictures of shape {tuple(x.shape)} and {words}",
               _mistakes_of_consistent(x, y, forward, back))


def _mistakes_of_consistent(x: Tensor, y: Tensor, forward: Answer, back: Answer
                            ) -> dict[str, Tensor]:
    told, seen = back(y), back(forward(x))
    mistakes = {
        "That is back(y) alone: what y does not tell is taken from x.": told,
        ("forward(x) is missing: what x has of the measurement is taken away before y's is put in, "
         "y − forward(x)."): x + told,
        "y is missing: you took away what x has of the measurement, and put nothing in.": x - seen,
        "The sign is wrong: x + back(y − forward(x)).": x - told + seen,
        "You went half the way.": x + (told - seen) / 2,
        "You went twice as far.": x + 2 * (told - seen),
        "back(y) is taken away from x: back(y − forward(x)) is added.": x - told,
        "y and forward(x) are added: their difference, y − forward(x), goes back.":
            x + told + seen,
        "That is only what is added to x: x is missing.": told - seen,
        "That is x as it was: y has changed nothing.": x,
        "That is the mean of x and back(y).": (x + told) / 2,
        "That is what x has of the measurement, back(forward(x)): y is missing.": seen,
        "You added what x has of the measurement: y − forward(x) goes back.": x + seen,
        "That is the measurement of x: a picture is wanted.": forward(x),
        "That is the difference of the measurements: it has to go back, and to x.":
            y - forward(x),
        "That is clamped to [-1, 1]: then it fits the measurement no more.":
            (x + told - seen).clamp(-1, 1),
    }
    with_broadcast = y.ndim == x.ndim and y.shape[2:] == x.shape[2:]
    if with_broadcast:
        mistakes |= {
            "back is missing: y − forward(x) is a measurement, and x a picture.":
                x + y - forward(x),
            "back is missing, and what forward takes from x: x + back(y − forward(x)).": x + y,
        }
    return mistakes
