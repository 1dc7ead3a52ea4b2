"""Chapter 5's two loops, checked: one step of training, and the whole way of sampling."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from minigen.checks.compare import Answer, Wrong, expect, value_of
from minigen.ddpm import prediction_of
from minigen.diffusion import Diffusion, linear_betas


class _Spy(nn.Module):
    """A small network that keeps what it was asked."""

    def __init__(self, prediction: str | None = None):
        super().__init__()
        self.prediction = prediction
        self.a, self.b = nn.Parameter(torch.tensor(0.4)), nn.Parameter(torch.tensor(0.1))
        self.asked: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, t: Tensor, y: None = None) -> Tensor:
        if not isinstance(t, Tensor) or t.is_floating_point():
            raise Wrong("The network takes t as a tensor of integers, one for each of the batch.")
        if t.shape not in ((1,), (len(x),)):
            raise Wrong(f"The network takes one t for each of the batch, shape ({len(x)},); it was "
                        f"given {tuple(t.shape)}.")
        self.asked.append((x.detach().clone(), t.clone()))
        time = t.view(-1, *[1] * (x.ndim - 1)) / 50
        return self.a * x + self.b * time


def _asked_once(spy: _Spy, d: Diffusion, x0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(x_t, t, ε) of the one call, if they are as Algorithm 1 wants them."""
    if len(spy.asked) != 1:
        raise Wrong(f"In one step the network is asked once; yours asked {len(spy.asked)} times.")
    xt, t = spy.asked[0]
    if len(t) == 1 or bool((t == t[0]).all()):
        raise Wrong("One t for the whole batch: every image has its own, shape (len(x0),).")
    if int(t.max()) < d.T - 1 or int(t.min()) > 0:
        raise Wrong(f"In {len(t)} draws t reached from {int(t.min())} to {int(t.max())}: all of 0 "
                    f"to {d.T - 1} belong to it.")
    if abs(float(t.float().mean()) - (d.T - 1) / 2) > 0.08 * d.T:
        raise Wrong("Every t should be equally likely: torch.randint.")
    if torch.equal(xt, x0):
        raise Wrong("The network was shown the clean images: noise them first, "
                    "diffusion.add_noise.")
    signal, noise = d.scales(t, x0)
    eps = (xt - signal * x0) / noise
    if torch.allclose(eps, eps[:1].expand_as(eps), atol=1e-3):
        raise Wrong("The whole batch was given the same noise: every image has its own.")
    if _not_normal(eps):
        if not _not_normal((xt - noise * x0) / signal):
            raise Wrong("Signal and noise are swapped in the noised images.")
        if float(eps.min()) > -0.01:
            raise Wrong("The noise is never negative: torch.randn, not torch.rand.")
        raise Wrong("The network was not shown √ᾱ x0 + √(1 − ᾱ) ε with a standard normal ε, at "
                    "the t it was told.")
    return xt, t, eps


def _not_normal(eps: Tensor) -> bool:
    return abs(float(eps.mean())) > 0.1 or abs(float(eps.std()) - 1) > 0.1


def training_step(answer: Answer) -> None:
    d = Diffusion(linear_betas(50, 0.01, 0.3))
    for shape in ((3000, 2), (1000, 1, 2, 2)):
        spy, x0 = _Spy(), 2 * torch.randn(shape) + 1
        optimiser = torch.optim.SGD(spy.parameters(), lr=0.1)
        start = copy.deepcopy(spy)
        for p in spy.parameters():
            p.grad = torch.ones_like(p)           # left over from an earlier step
        got = answer(spy, optimiser, d, x0.clone(), torch.Generator().manual_seed(1))
        xt, t, eps = _asked_once(spy, d, x0)
        out = start(xt, t)
        want = (out - eps).square().mean()
        _expect_loss(got, out.detach(), x0, xt, eps)
        slopes = torch.autograd.grad(want, list(start.parameters()))
        moved = [p.detach() - 0.1 * s for p, s in zip(start.parameters(), slopes, strict=True)]
        now = list(spy.parameters())
        if _alike(now, list(start.parameters())):
            raise Wrong("The loss is right, but the weights did not move: loss.backward(), then "
                        "optimiser.step(), and zero_grad before both.")
        if _alike(now, [p - 0.1 for p in moved]):
            raise Wrong("The gradients of the step before were still there: "
                        "optimiser.zero_grad().")
        if not _alike(now, moved):
            raise Wrong("The weights did not move by one step of the optimiser down the gradient "
                        "of the loss.")
    _repeatable(answer, d)


def _expect_loss(got: Any, out: Tensor, x0: Tensor, xt: Tensor, eps: Tensor) -> None:
    if isinstance(got, Tensor) and got.requires_grad:
        raise Wrong("Return a number, loss.item(): the tensor would keep the whole graph alive.")
    want = (out - eps).square().mean()
    mistakes = {
        "You summed the squares: take the mean.": (out - eps).square().sum(),
        "You summed over each image: take the mean of all.": want * eps[0].numel(),
        "The target is the noise that was added: you took the clean images.":
            (out - x0).square().mean(),
        "The target is the noise that was added: you took the noised images.":
            (out - xt).square().mean(),
        "That is the absolute error: square it.": (out - eps).abs().mean(),
        "The square is missing.": (out - eps).mean(),
        "That is the root of the mean: leave the squares.": want.sqrt(),
    }
    try:
        expect(got, float(want), "the loss that is returned", mistakes, tol=1e-3)
    except Wrong as e:
        if not str(e).startswith("For the loss"):
            raise
        raise Wrong(f"{e} Is the target the very ε that was added to the images?") from None


def _alike(a: list[Any], b: list[Any]) -> bool:
    return all(torch.allclose(p, q, atol=1e-5) for p, q in zip(a, b, strict=True))


def _repeatable(answer: Answer, d: Diffusion) -> None:
    spy, x0 = _Spy(), torch.randn(64, 2)
    optimiser = torch.optim.SGD(spy.parameters(), lr=0.0)
    generator = torch.Generator().manual_seed(1)
    answer(spy, optimiser, d, x0.clone(), generator)
    answer(spy, optimiser, d, x0.clone(), generator)
    answer(spy, optimiser, d, x0.clone(), torch.Generator().manual_seed(1))
    (x1, t1), (_, t2), (x3, t3) = spy.asked
    if torch.equal(t1, t2):
        raise Wrong("Two steps in a row drew the same t: go on with the generator that is given.")
    if not torch.equal(t1, t3) or not torch.equal(x1, x3):
        raise Wrong("Draw both t and ε with generator=generator: a run can then be repeated.")


def _walked(
    spy: _Spy, d: Diffusion, x: Tensor, clip: bool, noise: str = "root", read: str | None = None,
    steps: Any = None, clip_x: bool = False, guess_only: bool = False
) -> Tensor:
    """Ancestral sampling, and its variants that go wrong."""
    generator = torch.Generator().manual_seed(1)
    for t in reversed(range(d.T)) if steps is None else steps:
        at = torch.full((len(x),), t)
        x0 = d.views(spy(x, at), x, at, read or prediction_of(spy))[0]
        x0 = x0.clamp(-1, 1) if clip and not clip_x else x0
        mean, variance = d.posterior(x0, x, at)
        if noise == "large":
            variance = d.at(d.betas, at, x)
        z = torch.randn(x.shape, generator=generator)
        nothing = torch.zeros_like(variance)
        z = z * {"root": variance.sqrt(), "large": variance.sqrt() * float(t > 0),
                 "variance": variance, "one": nothing + 1, "none": nothing}[noise]
        x = x0 if guess_only else mean + z
        x = x.clamp(-1, 1) if clip_x else x
    return x.detach()


def ancestral_sample(answer: Answer) -> None:
    d = Diffusion(linear_betas(6, 0.1, 0.5))
    for prediction, shape, clip in (
            (None, (5, 2), False), ("v", (4, 1, 3, 3), False), ("eps", (4, 1, 3, 3), True)):
        spy, x = _Spy(prediction), 1.5 * torch.randn(shape)
        want = _walked(spy, d, x, clip)
        mistakes = {
            "No noise was added on the way: a draw is the mean and √variance times noise.":
                _walked(spy, d, x, clip, noise="none"),
            "The noise's scale is the root of the variance.":
                _walked(spy, d, x, clip, noise="variance"),
            "The noise is added without its scale, the root of the variance.":
                _walked(spy, d, x, clip, noise="one"),
            "The variance is β̃, which diffusion.posterior gives beside the mean: you took β.":
                _walked(spy, d, x, clip, noise="large"),
            "t runs up: sampling begins at t = T − 1.":
                _walked(spy, d, x, clip, steps=range(d.T)),
            "The loop stops at t = 1: the step at t = 0 is missing.":
                _walked(spy, d, x, clip, steps=range(d.T - 1, 0, -1)),
            "x became the guess itself: draw from the posterior at the guess.":
                _walked(spy, d, x, clip, guess_only=True),
        }
        if prediction == "v":
            mistakes["This network predicts v, and you read it as ε: give diffusion.views what "
                     "ddpm.prediction_of(model) says."] = _walked(spy, d, x, clip, read="eps")
        if clip:
            mistakes["With clip=True the guess of x0 is kept in [-1, 1]: you left it."] = (
                _walked(spy, d, x, False))
            mistakes["What is clipped is the guess of x0, not x, which may leave the range."] = (
                _walked(spy, d, x, clip, clip_x=True))
        spy.asked.clear()
        got = answer(spy, d, x.clone(), torch.Generator().manual_seed(1), clip)
        given = f"{d.T} steps of a network that predicts {prediction or 'ε'}"
        again = answer(spy, d, x.clone(), torch.Generator().manual_seed(1), clip)
        if isinstance(got, Tensor) and isinstance(again, Tensor) and not torch.equal(got, again):
            raise Wrong("Twice with the same generator, two results: draw the noise with "
                        "torch.randn(x.shape, generator=generator).")
        expect(value_of(got), want, given, mistakes, tol=1e-3)
        if got.requires_grad:
            raise Wrong("The result drags the graph of all steps behind it: ask the network inside "
                        "with torch.no_grad().")
