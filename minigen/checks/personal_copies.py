"""Excursion 4's share of copies, checked: how far the nearest picture is, and below which limit."""

import torch
from torch import Tensor

from minigen.checks import personal_answers as right
from minigen.checks.compare import Answer
from minigen.checks.text_cases import judge

# how many of x, of the pictures, of fresh ones; an image's shape, the share. In the second there
# are as many of each
COUNTS = ((40, 6, 14, (3, 2, 2), 0.2), (12, 12, 12, (2, 3), 0.3), (33, 4, 23, (5,), 0.15))


def _apart(a: Tensor, b: Tensor) -> Tensor:
    """Each one's differences from each other's. (N, …), (K, …) → (N, K, …)."""
    return a[:, None] - b[None]


def _rms(a: Tensor, b: Tensor) -> Tensor:
    return _apart(a, b).flatten(2).square().mean(2).sqrt()


def _nearest(a: Tensor, b: Tensor) -> Tensor:
    return _rms(a, b).amin(1)


def _of_limit(far: Tensor, fresh: Tensor, share: float, how: str = "linear") -> Tensor:
    """The share of distances below the limit that others set."""
    limit = torch.quantile(fresh.flatten(), share, interpolation=how)
    return (far < limit).float().mean()


def _by(distance: Answer) -> Answer:
    """The answer with another distance, (N, …) and (K, …) → (N)."""
    return lambda x, p, f, share: _of_limit(distance(x, p), distance(f, p), share)


def _below(limit: Answer) -> Answer:
    """The answer with another limit, of x, the pictures, fresh ones, and the share."""
    return lambda x, p, f, share: (_nearest(x, p) < limit(x, p, f, share)).float().mean()


def _around(pictures: Tensor, sizes: Tensor) -> Tensor:
    """An image for each size, so far off one of the pictures: much in few values, little in all."""
    shape = (len(sizes), *pictures.shape[1:])
    off = torch.randn(shape) * torch.where(torch.rand(shape) < 0.3, 3.0, 0.3)
    size = sizes.view(-1, *[1] * (pictures.ndim - 1))
    return pictures[torch.randint(len(pictures), (len(sizes),))] + size * off


def _looks(n: int, k: int, m: int, shape: tuple[int, ...], share: float) -> tuple:
    """A case without a close call, where distances and their squares set one limit."""
    while True:
        pictures = torch.randn(k, *shape) + 0.5
        fresh = _around(pictures, torch.linspace(0.1, 1.5, m))
        x = _around(pictures, torch.rand(n) * 0.9)
        far, fresh_far = _nearest(x, pictures), _nearest(fresh, pictures)
        limits = torch.stack([torch.quantile(fresh_far, share),
                              torch.quantile(fresh_far.square(), share).sqrt()])
        clear = bool(((far < limits.amin()) | (far > limits.amax())).all())
        if clear and float((far[:, None] - limits).abs().min()) > 2e-3:
            return x, pictures, fresh, share


def copies(answer: Answer) -> None:
    judge(answer, _cases(), right.copies, _WRONG_COUNTS, lambda x, p, f, share: (
        f"{len(x)} images, {len(p)} pictures, {len(f)} fresh ones and the share {share:g}"))


def _cases() -> list[tuple]:
    """Cases in which no two mistakes give the same shares, nor one the right ones."""
    while True:
        cases = [_looks(*sizes) for sizes in COUNTS]
        every = [[f(*case) for case in cases] for _, f in (("", right.copies), *_WRONG_COUNTS)]
        shares = [tuple(round(float(v), 4) for v in values) for values in every
                  if all(not isinstance(v, Tensor) or v.numel() == 1 for v in values)]
        if len(set(shares)) == len(shares):
            return cases


_WRONG_COUNTS = (
    ("That is the mean distance from all pictures: the nearest one counts, amin.",
     _by(lambda a, b: _rms(a, b).mean(1))),
    ("That is the distance from the farthest picture: the nearest one counts, amin.",
     _by(lambda a, b: _rms(a, b).amax(1))),
    ("That is the distance from the first picture alone: the nearest of them counts.",
     _by(lambda a, b: _rms(a, b)[:, 0])),
    ("That is the distance from the pictures' mean: the nearest single picture counts.",
     _by(lambda a, b: _rms(a, b.mean(0, keepdim=True))[:, 0])),
    ("The distances are means of absolute differences: the root of the mean square is wanted.",
     _by(lambda a, b: _apart(a, b).flatten(2).abs().mean(2).amin(1))),
    ("The differences cancel: square them before the mean.",
     _by(lambda a, b: _apart(a, b).flatten(2).mean(2).abs().amin(1))),
    ("That is the largest difference of an image: the root of the mean square over all values.",
     _by(lambda a, b: _apart(a, b).flatten(2).abs().amax(2).amin(1))),
    ("Only the first axis of an image was averaged: the distance goes over all values, and "
     "the nearest picture is one for the whole image.",
     _by(lambda a, b: _apart(a, b).square().mean(2).sqrt().amin(1))),
    ("Each channel has looked for a nearest picture of its own: the distance goes over all values.",
     _by(lambda a, b: _apart(a, b)[..., None].flatten(3).square().mean(3).sqrt().amin(1))),
    ("The limit comes from x: it is the quantile of what fresh ones are from the pictures.",
     lambda x, p, f, share: _of_limit(_nearest(x, p), _nearest(x, p), share)),
    ("The limit comes from x and fresh together: of the fresh ones alone.",
     lambda x, p, f, share: _of_limit(
         _nearest(x, p), torch.cat([_nearest(x, p), _nearest(f, p)]), share)),
    ("The quantile is that of 1 − share: few fresh ones lie below the limit.",
     lambda x, p, f, share: right.copies(x, p, f, 1 - share)),
    ("That is the share of those above the limit: below it is a copy, <.",
     lambda x, p, f, share: 1 - right.copies(x, p, f, share)),
    ("Limit and side are both the wrong way round: below the quantile of share.",
     lambda x, p, f, share: 1 - right.copies(x, p, f, 1 - share)),
    ("That is in percent: a share is between 0 and 1.",
     lambda x, p, f, share: 100 * right.copies(x, p, f, share)),
    ("That is the number of copies: divide it by how many x holds.",
     lambda x, p, f, share: len(x) * right.copies(x, p, f, share)),
    ("You divided by the number of fresh ones: by how many x holds.",
     lambda x, p, f, share: len(x) * right.copies(x, p, f, share) / len(f)),
    ("The fresh ones were compared with x: the limit is how far they are from the pictures.",
     lambda x, p, f, share: _of_limit(_nearest(x, p), _nearest(f, x), share)),
    ("x was compared with the fresh ones: how far is it from the pictures?",
     lambda x, p, f, share: _of_limit(_nearest(x, f), _nearest(f, p), share)),
    ("Pictures and fresh ones are swapped: copies are near the pictures.",
     lambda x, p, f, share: right.copies(x, f, p, share)),
    ("x and fresh are swapped: that is the share of the fresh ones.",
     lambda x, p, f, share: right.copies(f, p, x, share)),
    ("You counted the fresh ones that are below the limit: those of x.",
     lambda x, p, f, share: right.copies(f, p, f, share)),
    ("The fresh ones were compared with themselves, where each is at 0: with the pictures.",
     lambda x, p, f, share: 0.0),
    ("The nearest x was looked for, for each picture: the nearest picture, for each of x.",
     _by(lambda a, b: _rms(a, b).amin(0))),
    ("All distances were taken, of every picture: for each image only the nearest one's.",
     _by(lambda a, b: _rms(a, b).flatten())),
    ("The limit is made of all the fresh ones' distances: for each only the nearest picture's.",
     lambda x, p, f, share: _of_limit(_nearest(x, p), _rms(f, p), share)),
    ("The distance is held against share itself: share says which quantile of the fresh ones' "
     "distances is the limit.", _below(lambda x, p, f, share: share)),
    ("The limit is share times the largest distance: a quantile is wanted.",
     _below(lambda x, p, f, share: share * _nearest(f, p).amax())),
    ("The limit is share times the mean distance: a quantile is wanted.",
     _below(lambda x, p, f, share: share * _nearest(f, p).mean())),
    ("The limit is the mean of the fresh ones' distances: the share's quantile of them is wanted.",
     _below(lambda x, p, f, share: _nearest(f, p).mean())),
    ("The limit is the median of the fresh ones' distances: the share's quantile of them.",
     _below(lambda x, p, f, share: _nearest(f, p).median())),
    ("The limit is the smallest of the fresh ones' distances: the share's quantile of them.",
     _below(lambda x, p, f, share: _nearest(f, p).amin())),
    ("The limit is one of the fresh ones' distances: torch.quantile goes on between two of them.",
     lambda x, p, f, share: _of_limit(_nearest(x, p), _nearest(f, p), share, "lower")),
    ("The limit is one of the fresh ones' distances: torch.quantile goes on between two of them.",
     lambda x, p, f, share: _of_limit(_nearest(x, p), _nearest(f, p), share, "higher")),
    ("That is the limit: the share of x that is nearer is wanted.",
     lambda x, p, f, share: torch.quantile(_nearest(f, p), share)),
    ("That is the mean distance: the share of x below the limit is wanted.",
     lambda x, p, f, share: _nearest(x, p).mean()),
    ("Those are the distances: the share of x below the limit is wanted.",
     lambda x, p, f, share: _nearest(x, p)),
    ("One yes or no for each image: take their mean.",
     lambda x, p, f, share: _nearest(x, p) < torch.quantile(_nearest(f, p), share)),
)
