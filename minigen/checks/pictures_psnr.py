"""Excursion 3's PSNR, checked: the peak, the mean, the logarithm, one number for each picture."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from minigen.checks import pictures_answers as right
from minigen.checks.compare import Answer
from minigen.checks.text_cases import judge

# in the first all axes but one are equally long, where a wrong one fits too
SHAPES = ((3, 3, 4, 3), (4, 1, 2, 6), (2, 3, 5, 4))


def _blurred(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Pictures, and others that differ by more from one picture to the next, and are brighter."""
    x = 1.2 * torch.rand(shape, dtype=dtype) - 0.7
    far = torch.linspace(0.05, 0.25, shape[0], dtype=dtype).view(-1, 1, 1, 1)
    return x, x + far * (1.7 * torch.rand(shape, dtype=dtype) - 0.4)


def _db(error: Tensor, peak: float | Tensor = 2.0, times: float = 10.0) -> Tensor:
    return times * torch.log10(peak**2 / error)


def psnr(answer: Answer) -> None:
    cases = [_blurred(shape, torch.float64 if i == 1 else torch.float32)
             for i, shape in enumerate(SHAPES)]
    judge(answer, cases, right.psnr, _MISTAKES_OF_PSNR,
          lambda x, y: f"pictures of shape {tuple(x.shape)}")


def _of(f: Callable[[Tensor], Tensor]) -> Answer:
    """A mistake that depends on the mean squared error of each picture alone."""
    return lambda x, y: f((x - y).square().flatten(1).mean(1))


def _by(f: Callable[[Tensor], Tensor]) -> Answer:
    """A mistake that depends on the squared errors alone."""
    return lambda x, y: f((x - y).square())


OWN = ("The peak is how wide the range is in which pictures may lie, [-1, 1]: 2; you took it from "
       "the pictures themselves.")
BATCH = "Each picture has its own PSNR: you averaged over the batch."
SOME = ("The mean goes over all numbers of a picture, its channels, rows and columns: you left "
        "some of these axes, or averaged along another.")
DECIBELS = "Take the mean of the squares first, then its logarithm: you averaged decibels."
_MISTAKES_OF_PSNR = (
    ("Pictures lie in [-1, 1], so the peak is 2 and its square 4: you took 1.",
     _of(lambda m: _db(m, 1))),
    ("Pictures lie in [-1, 1], so the peak is 2: you took that of bytes, 255.",
     _of(lambda m: _db(m, 255))),
    ("The peak is squared: 2² = 4.", _of(lambda m: _db(m, math.sqrt(2)))),
    ("The 4 is there twice, 16 / error: either the peak is squared twice, or the pictures were "
     "brought to [0, 1], where the peak is 1.", _of(lambda m: _db(m, 4))),
    (OWN, lambda x, y: _db((x - y).square().mean((1, 2, 3)), x.max() - x.min())),
    (OWN, lambda x, y: _db((x - y).square().mean((1, 2, 3)), y.max() - y.min())),
    (OWN, lambda x, y: _db((x - y).square().mean((1, 2, 3)), x.max())),
    (OWN, lambda x, y: _db((x - y).square().mean((1, 2, 3)), y.max())),
    (OWN, lambda x, y: _db((x - y).square().mean((1, 2, 3)),
                           x.amax((1, 2, 3)) - x.amin((1, 2, 3)))),
    (OWN, lambda x, y: _db((x - y).square().mean((1, 2, 3)),
                           y.amax((1, 2, 3)) - y.amin((1, 2, 3)))),
    ("That is the natural logarithm: decibels are made with log10.",
     _of(lambda m: 10 * torch.log(4 / m))),
    ("That is the logarithm to base 2: decibels are made with log10.",
     _of(lambda m: 10 * torch.log2(4 / m))),
    ("The 10 before log10 is missing: a bel has ten decibels.", _of(lambda m: _db(m, times=1))),
    ("20 belongs before log10 where the root of the error is taken, 20 log10(2 / √error): with "
     "the error itself it is 10.", _of(lambda m: _db(m, times=20))),
    ("The root is taken of the error, but not of 2², and the 10 stayed.",
     _of(lambda m: _db(m.sqrt()))),
    ("With the root, 2 / √error, 20 belongs before log10: you kept 10.",
     _of(lambda m: _db(m, times=5))),
    ("A root is missing, or the error is squared once more: it is 10 log10(4 / error) or, with the "
     "error's root, 20 log10(2 / √error).", _of(lambda m: 20 * torch.log10(2 / m))),
    ("It is the wrong way round: 4 / error, which grows as pictures come closer (or a minus was "
     "left).", _of(lambda m: -_db(m))),
    ("One number for each picture, (B,): you took one for the whole batch.",
     _by(lambda d: _db(d.mean()))),
    (BATCH, _by(lambda d: _db(d.mean()).expand(len(d)))),
    (BATCH, _by(lambda d: _db(d.mean(0)))),
    (BATCH, _by(lambda d: _db(d.mean((0, 2, 3))))),
    (BATCH, _by(lambda d: _db(d.mean((0, 1, 2))))),
    (BATCH, _by(lambda d: _db(d.mean((0, 1, 3))))),
    ("One number for each picture, (B,): you averaged the pictures' decibels.",
     _of(lambda m: _db(m).mean())),
    ("You summed the squares of a picture: take their mean.",
     _by(lambda d: _db(d.sum((1, 2, 3))))),
    ("You summed over the channels: take the mean over them too.",
     _by(lambda d: _db(d.mean((2, 3)).sum(1)))),
    ("You summed over rows and columns: take the mean over them too.",
     _by(lambda d: _db(d.mean(1).sum((1, 2))))),
    (SOME, _by(lambda d: _db(d.mean(1)))), (SOME, _by(lambda d: _db(d.mean(2)))),
    (SOME, _by(lambda d: _db(d.mean(3)))), (SOME, _by(lambda d: _db(d.mean((2, 3))))),
    (SOME, _by(lambda d: _db(d.mean((1, 2))))), (SOME, _by(lambda d: _db(d.mean((1, 3))))),
    ("The mean is missing: those are decibels of single numbers.", _by(_db)),
    (DECIBELS, _by(lambda d: _db(d).mean((1, 2, 3)))),
    (DECIBELS, _by(lambda d: _db(d.mean((2, 3))).mean(1))),
    (DECIBELS, _by(lambda d: _db(d.mean(1)).mean((1, 2)))),
    ("The axes of length 1 are still there (keepdim): the shape is (B,).",
     _by(lambda d: _db(d.mean((1, 2, 3), keepdim=True)))),
    ("That is the absolute difference: square it.",
     lambda x, y: _db((x - y).abs().mean((1, 2, 3)))),
    ("That is the mean absolute difference: the root of the mean square is wanted below 2.",
     lambda x, y: _db((x - y).abs().mean((1, 2, 3)).square())),
    ("You squared the mean difference: square first, then the mean.",
     lambda x, y: _db((x - y).mean((1, 2, 3)).square())),
    ("You added the pictures: their difference is wanted.",
     lambda x, y: _db((x + y).square().mean((1, 2, 3)))),
    ("You took the variance of the difference: the mean square, its mean is not taken off.",
     lambda x, y: _db((x - y).flatten(1).var(1))),
    ("You took the variance of the difference: the mean square, its mean is not taken off.",
     lambda x, y: _db((x - y).flatten(1).var(1, correction=0))),
    ("You divided by one number too few: the mean of all squares.",
     _by(lambda d: _db(d.flatten(1).sum(1) / (d[0].numel() - 1)))),
    ("That is the signal-to-noise ratio: the peak, 2, belongs where you have the picture.",
     lambda x, y: _db((x - y).square().mean((1, 2, 3)), x.square().mean((1, 2, 3)).sqrt())),
    ("That is the signal-to-noise ratio: the peak, 2, belongs where you have the picture.",
     lambda x, y: _db((x - y).square().mean((1, 2, 3)), y.square().mean((1, 2, 3)).sqrt())),
    ("That is the mean squared error: its decibels are wanted.", _of(lambda m: m)),
    ("That is the root of the mean squared error: decibels are wanted.", _of(torch.sqrt)),
    ("The logarithm is missing.", _of(lambda m: 4 / m)),
    ("The logarithm is missing.", _of(lambda m: 40 / m)),
)
