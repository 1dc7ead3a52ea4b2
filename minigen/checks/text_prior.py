"""Excursion 2's prior, checked: what it is asked about, and what it is to answer."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigen.checks.compare import Answer, Wrong, value_of
from minigen.checks.flows_paths import same
from minigen.checks.text_cases import agree, by_sentence

STEPS = 20                             # of the schedule


class _Prior(nn.Module):
    """A small prior, which keeps what it was asked."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.randn(dim)), nn.Parameter(torch.randn(dim))
        self.dim = dim
        self.asked: list[tuple[Tensor, Tensor, Tensor]] = []

    def forward(self, x: Any, t: Any = None, text: Any = None) -> Tensor:
        if not all(isinstance(v, Tensor) for v in (x, t, text)):
            raise Wrong("prior takes three tensors: the noisy embeddings x, the time steps t and "
                        "the sentences' embeddings: prior(x, t, text).")
        if t.ndim == 2 and text.ndim == 1:
            raise Wrong("The prior takes the time steps second, the sentences third: "
                        "prior(x, t, text).")
        if t.shape != (len(x),):
            raise Wrong(f"prior takes one time step for each row, shape ({len(x)},); it was given "
                        f"the shape {tuple(t.shape)}.")
        self.asked.append((x.detach().clone(), t.detach().clone(), text.detach().clone()))
        return self.a * x + self.b * text + 0.3 * torch.cos(t.to(x.dtype))[:, None]


def prior_loss(answer: Answer) -> None:
    # in the first there are as many rows as numbers, where ᾱ meets the wrong axis unseen
    shapes = ((4, 4), (6, 3), (3, 5))
    values, wanted, mistakes, priors = [], [], [], []
    for shape in shapes:
        image, text, eps = torch.randn(3, *shape)
        image = image + 0.5
        t = 1 + torch.randperm(STEPS - 2)[: shape[0]]
        alpha_bar = (1 - torch.linspace(0.02, 0.3, STEPS)).cumprod(0)
        prior = _Prior(shape[1])
        got = answer(prior, image, text, t, eps, alpha_bar)
        if got is None:
            raise Wrong("Your function returned None. Is there a `return`?")
        left = alpha_bar[t][:, None]
        place = left.sqrt() * image + (1 - left).sqrt() * eps
        _asked_about(answer, prior, (image, text, t, eps, alpha_bar), place)
        out = prior(place, t, text)
        want = (out - image).square().mean()
        values.append(got)
        wanted.append(want)
        priors.append(prior)
        mistakes.append(_mistakes_of_loss(out.detach(), image, text, eps, place, left))
    agree([value_of(v) for v in values], [w.detach() for w in wanted], by_sentence(mistakes),
          [f"the shape {shape}" for shape in shapes])
    for got, want, prior in zip(values, wanted, priors, strict=True):
        _gradients(got, want, prior)


def _asked_about(answer: Answer, prior: _Prior, given: tuple[Tensor, ...], place: Tensor) -> None:
    """Raise `Wrong` unless the prior was asked once, about the right things."""
    image, text, t, eps, alpha_bar = given
    if len(prior.asked) != 1:
        raise Wrong(f"The prior is asked once; yours asked it {len(prior.asked)} times.")
    x, at, told = prior.asked[0]
    if not same(at, t):
        for words, value in {
            "The prior is told the step t itself: you divided it.": t / STEPS,
            "The prior is told the step t: you told it ᾱ at t.": alpha_bar[t],
            "Steps count from 0: t goes in as it is, without + 1.": t + 1,
            "t goes in as it is, without − 1.": t - 1,
            "Time does not run the other way: t goes in as it is.": STEPS - 1 - t,
        }.items():
            if same(at.double(), value.double()):
                raise Wrong(words)
        raise Wrong(f"The prior was told the steps {at.tolist()}; t is {t.tolist()}.")
    if not same(told, text):
        left = alpha_bar[t][:, None]
        for words, value in {
            "The prior is told the sentences: you gave it the pictures, which it has to guess.":
                image,
            "The prior is told the sentences: you gave it the noise.": eps,
            "The sentences' embeddings get no noise: they go in as they are.":
                left.sqrt() * text + (1 - left).sqrt() * eps,
            "x comes first and text last: prior(x, t, text).": place,
        }.items():
            if same(told, value):
                raise Wrong(words)
        raise Wrong("The prior was not told the sentences' embeddings as they are, text.")
    if same(x, place):
        return
    again = _Prior(prior.dim)
    answer(again, *given)
    if not again.asked or not torch.equal(again.asked[0][0], x):
        raise Wrong("You drew something of your own: the noise eps and the steps t are given.")
    for words, value in _mistakes_of_place(image, text, eps, t, alpha_bar).items():
        if same(x, value):
            raise Wrong(words)
    if x.shape != place.shape:
        raise Wrong(f"The noisy embeddings have the shape {tuple(x.shape)}; {tuple(place.shape)} "
                    "is wanted.")
    raise Wrong("The prior was not shown the noisy picture embeddings, √ᾱ image + √(1 − ᾱ) eps.",
                named=False)


def _mistakes_of_place(image: Tensor, text: Tensor, eps: Tensor, t: Tensor, alpha_bar: Tensor
                       ) -> dict[str, Tensor]:
    def noised(left: Tensor, x: Tensor = image) -> Tensor:
        return left.sqrt() * x + (1 - left).sqrt() * eps

    left = alpha_bar[t][:, None]
    mistakes = {
        "The roots are missing: √ᾱ image + √(1 − ᾱ) eps.": left * image + (1 - left) * eps,
        "The root of 1 − ᾱ is missing.": left.sqrt() * image + (1 - left) * eps,
        "The root of ᾱ is missing.": left * image + (1 - left).sqrt() * eps,
        "The root is taken of 1 − ᾱ: you took 1 − √ᾱ.":
            left.sqrt() * image + (1 - left.sqrt()) * eps,
        "ᾱ and 1 − ᾱ are swapped: at small t there is almost only the picture.":
            noised(1 - left),
        "The noise is added: a plus.": left.sqrt() * image - (1 - left).sqrt() * eps,
        "√ᾱ is missing before image.": image + (1 - left).sqrt() * eps,
        "√(1 − ᾱ) is missing before eps.": left.sqrt() * image + eps,
        "The prior was shown the clean picture embeddings: it has to guess them.": image,
        "The prior was shown the noise alone: + √ᾱ image.": eps,
        "The noise is missing: + √(1 − ᾱ) eps.": left.sqrt() * image,
        "The picture is missing: √ᾱ image + …": (1 - left).sqrt() * eps,
        "The picture's embedding gets the noise: you took the sentence's.": noised(left, text),
        "The prior was shown the sentences in place of noisy pictures.": text,
        "Picture and noise are swapped.": left.sqrt() * eps + (1 - left).sqrt() * image,
        "ᾱ at step t is alpha_bar[t]: you took the step before.":
            noised(alpha_bar[t - 1][:, None]),
        "ᾱ at step t is alpha_bar[t]: you took the step after.":
            noised(alpha_bar[t + 1][:, None]),
        "Every row has its own step: you took the first one's ᾱ for all.": noised(left[0]),
        "Every row has its own step: you took the mean of their ᾱ.": noised(left.mean()),
        "alpha_bar is ᾱ already, the product: you multiplied up once more.":
            noised(alpha_bar.cumprod(0)[t][:, None]),
        "ᾱ is looked up at t: you took the first rows of the table.":
            noised(alpha_bar[: len(t), None]),
    }
    if len(t) == image.shape[1]:
        mistakes["ᾱ was lined up with the numbers of a row: it belongs to the row, "
                 "alpha_bar[t][:, None]."] = noised(alpha_bar[t])
    return mistakes


def _mistakes_of_loss(out: Tensor, image: Tensor, text: Tensor, eps: Tensor, place: Tensor,
                      left: Tensor) -> dict[str, Tensor]:
    error = out - image
    square = error.square()
    velocity = left.sqrt() * eps - (1 - left).sqrt() * image
    return {
        "The prior guesses the clean picture embedding, image: you asked for the noise.":
            F.mse_loss(out, eps),
        "The prior guesses image: you held its answer against the noisy embedding.":
            F.mse_loss(out, place),
        "The prior guesses image: you held its answer against the sentence's embedding.":
            F.mse_loss(out, text),
        "The prior guesses image: you asked for v.": F.mse_loss(out, velocity),
        "The prior guesses image: you asked for eps − image, a flow's velocity.":
            F.mse_loss(out, eps - image),
        "The target is missing.": out.square().mean(),
        "The target is taken off: you added it.": (out + image).square().mean(),
        "You summed the squares: take the mean.": square.sum(),
        "You summed along one axis: take the mean of all numbers.": square.sum(1).mean(),
        "You took the mean of each row: one number for all.": square.mean(1),
        "You summed each row: one number, the mean of all.": square.sum(1),
        "You took the mean of each column: one number for all.": square.mean(0),
        "Those are the squared errors: take their mean.": square,
        "That is the absolute error: square it.": error.abs().mean(),
        "The square is missing.": error.mean(),
        "You squared the mean: square first, then the mean.": error.mean().square(),
        "That is the root of the mean: leave the squares.": square.mean().sqrt(),
        "There is no ½ in this loss.": square.mean() / 2,
        "That is the cosine: the mean squared error is wanted.":
            F.cosine_similarity(out, image, dim=1).mean(),
        "That is 1 − the cosine: the mean squared error is wanted.":
            1 - F.cosine_similarity(out, image, dim=1).mean(),
        "The rows were brought to length 1 before they were compared: compare them as they are.":
            F.mse_loss(F.normalize(out, dim=1), F.normalize(image, dim=1)),
    }


def _gradients(got: Tensor, want: Tensor, prior: _Prior) -> None:
    """The loss trains the prior: the gradient that reaches it is the right one."""
    if not isinstance(got, Tensor) or not got.requires_grad:
        raise Wrong("The value is right, but no gradient comes back: no detach, no .item(), no "
                    "torch.no_grad() on the way.")
    weights = [prior.a, prior.b]
    mine = torch.autograd.grad(got, weights, allow_unused=True, materialize_grads=True)
    slopes = torch.autograd.grad(want, weights)
    if not all(torch.allclose(a, b, rtol=1e-3, atol=1e-5)
               for a, b in zip(mine, slopes, strict=True)):
        raise Wrong("The value is right, but not the gradient that reaches the prior's weights: "
                    "something on its way is detached.")
