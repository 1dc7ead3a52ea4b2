"""Excursion 1's loss, checked: where on the path the model is asked, and what it is to answer."""

from typing import Any

import torch
from torch import Tensor, nn

from minigen.checks.compare import Answer, Wrong, expect, value_of


class _Model(nn.Module):
    """A small velocity, which keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(0.4)), nn.Parameter(torch.tensor(-0.3))
        self.asked: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        if not isinstance(x, Tensor) or not isinstance(t, Tensor):
            raise Wrong("model takes two tensors, the places x and the times t: model(x, 999 * t).")
        if t.shape != (len(x),):
            raise Wrong(f"model takes one time for each row, shape ({len(x)},); it was given the "
                        f"shape {tuple(t.shape)}.")
        self.asked.append((x.detach().clone(), t.detach().clone()))
        return self.a * x + self.b * (1 + t[:, None] / 500)


def flow_loss(answer: Answer) -> None:
    # in the first there are as many rows as numbers, where times meet the wrong axis unseen
    for shape in ((4, 4), (6, 2), (3, 5)):
        x0, eps = torch.randn(shape) + 0.5, torch.randn(shape)
        t = 0.05 + 0.9 * torch.rand(shape[0])
        model = _Model()
        got = answer(model, x0, eps, t)
        if got is None:
            raise Wrong("Your function returned None. Is there a `return`?")
        place = (1 - t[:, None]) * x0 + t[:, None] * eps
        _asked_at(answer, model, x0, eps, t, place)
        out = model(place, 999 * t)
        want = (out - (eps - x0)).square().mean()
        mistakes = _mistakes_of_loss(out.detach(), x0, eps, place)
        expect(value_of(got), want.detach(), f"the shape {shape}", mistakes)
        _gradients(got, want, model)


def _asked_at(answer: Answer, model: _Model, x0: Tensor, eps: Tensor, t: Tensor, place: Tensor
              ) -> None:
    """Raise `Wrong` unless the model was asked once, at the right places and times."""
    if len(model.asked) != 1:
        raise Wrong(f"The model is asked once; yours asked it {len(model.asked)} times.")
    x, told = model.asked[0]
    if not same(told, 999 * t):
        raise Wrong(_wrong_time(told, t))
    if same(x, place):
        return
    again = _Model()
    answer(again, x0, eps, t)
    if not again.asked or not torch.equal(again.asked[0][0], x):
        raise Wrong("You drew something of your own: the noise eps and the times t are given.")
    for words, value in _mistakes_of_place(x0, eps, t).items():
        if same(x, value):
            raise Wrong(words)
    if x.shape != place.shape:
        raise Wrong(f"The places that the model was shown have the shape {tuple(x.shape)}; "
                    f"{tuple(place.shape)} is wanted.")
    raise Wrong("The model was not shown the places on the path, (1 − t) x0 + t eps.", named=False)


def _wrong_time(told: Tensor, t: Tensor) -> str:
    for words, value in {
        "The model wants times from 0 to 999: 999 is missing.": t,
        "The model was told 1 − t: it wants 999 t.": 1 - t,
        "Time runs the other way: the model was told 999 (1 − t).": 999 * (1 - t),
        "Times end at 999: you multiplied by 1000.": 1000 * t,
        "You divided by 999: the model wants 999 t.": t / 999,
    }.items():
        if same(told, value):
            return words
    whole = same(told.double().round(), told)
    if whole and float((told - 999 * t).abs().max()) <= 1:
        return "The times were rounded: the model takes 999 t as it is, with its fractions."
    if len(t) > 1 and bool((told == told[0]).all()):
        return "Every row has its own time: the model was told one and the same for all."
    return (f"The model was told the times {[round(float(v), 3) for v in told[:3]]} …; "
            f"999 t is {[round(float(v), 3) for v in 999 * t[:3]]} ….")


def _mistakes_of_place(x0: Tensor, eps: Tensor, t: Tensor) -> dict[str, Tensor]:
    s = t[:, None]
    mistakes = {
        "t and 1 − t are swapped: at t = 0 there is the picture, at t = 1 the noise.":
            s * x0 + (1 - s) * eps,
        "The model was shown the pictures themselves: it is asked on the path.": x0,
        "The model was shown the noise itself: it is asked on the path.": eps,
        "The model was shown the velocity: it is asked on the path.": eps - x0,
        "1 − t is missing before x0.": x0 + s * eps,
        "t is missing before eps.": (1 - s) * x0 + eps,
        "The noise is added: a plus.": (1 - s) * x0 - s * eps,
        "No roots: the path is straight, (1 − t) x0 + t eps.":
            (1 - s).sqrt() * x0 + s.sqrt() * eps,
        "Those are a diffusion's roots: the path is straight, (1 − t) x0 + t eps.":
            (1 - s**2).sqrt() * x0 + s * eps,
        "On the path t is in [0, 1]: 999 belongs only into what the model is told.":
            (1 - 999 * s) * x0 + 999 * s * eps,
        "The picture is missing: (1 − t) x0 + …": s * eps,
        "The noise is missing: + t eps.": (1 - s) * x0,
        "Every row has its own t: you took their mean.":
            (1 - t.mean()) * x0 + t.mean() * eps,
        "Every row has its own t: you took the first for all.": (1 - t[0]) * x0 + t[0] * eps,
    }
    if x0.shape[0] == x0.shape[1]:
        mistakes["t was lined up with the columns: it belongs to the rows, t[:, None]."] = (
            (1 - t) * x0 + t * eps)
    return mistakes


def _mistakes_of_loss(out: Tensor, x0: Tensor, eps: Tensor, place: Tensor) -> dict[str, Tensor]:
    error = out - (eps - x0)
    square = error.square()
    return {
        "The velocity points from the picture to the noise, eps − x0: you took x0 − eps.":
            (out - (x0 - eps)).square().mean(),
        "The target is the velocity, eps − x0: you took the noise.": (out - eps).square().mean(),
        "The target is the velocity, eps − x0: you took the picture.": (out - x0).square().mean(),
        "The target is the velocity, eps − x0: you took the place on the path.":
            (out - place).square().mean(),
        "The target is the velocity, eps − x0: you took eps + x0.":
            (out - (eps + x0)).square().mean(),
        "The target is missing.": out.square().mean(),
        "You summed the squares: take the mean.": square.sum(),
        # of the first shape that is asked, the sum of the rows' means too
        "You summed along one axis: take the mean of all numbers.": square.sum(1).mean(),
        "You took the mean of each row: one number for all.": square.mean(1),
        "You summed each row: one number, the mean of all.": square.sum(1),
        "You summed each column: one number, the mean of all.": square.sum(0),
        "You took the mean of each column: one number for all.": square.mean(0),
        "Those are the squared errors: take their mean.": square,
        "That is the absolute error: square it.": error.abs().mean(),
        "The square is missing.": error.mean(),
        "You squared the mean: square first, then the mean.": error.mean().square(),
        "That is the root of the mean: leave the squares.": square.mean().sqrt(),
        "There is no ½ in this loss.": square.mean() / 2,
    }


def _gradients(got: Any, want: Tensor, model: _Model) -> None:
    """The loss trains the model: the gradient that reaches it is the right one."""
    if not isinstance(got, Tensor) or not got.requires_grad:
        raise Wrong("The value is right, but no gradient comes back: no detach, no .item(), no "
                    "torch.no_grad() on the way.")
    weights = [model.a, model.b]
    mine = torch.autograd.grad(got, weights, allow_unused=True, materialize_grads=True)
    slopes = torch.autograd.grad(want, weights)
    if not all(torch.allclose(a, b, rtol=1e-3, atol=1e-4)
               for a, b in zip(mine, slopes, strict=True)):
        raise Wrong("The value is right, but not the gradient that reaches the model's weights: "
                    "something on its way is detached.")


def same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors hold the same numbers, up to rounding."""
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=1e-5, atol=1e-5)
