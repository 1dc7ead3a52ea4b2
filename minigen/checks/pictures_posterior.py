"""Excursion 3's step of diffusion posterior sampling, checked: what it is led by, and how far."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from minigen.checks import pictures_answers as right
from minigen.checks.compare import Answer, Wrong, expect, value_of
from minigen.checks.pictures_repair import Scene, scenes

Distance = Callable[[Tensor], Tensor]       # y − forward(x0) → one number


class Views:
    """A network's two views of x_t, which keeps how it was asked."""

    def __init__(self, shape: torch.Size) -> None:
        self.shape = shape
        self.asked: list[tuple[bool, bool]] = []       # (is grad on, does x want a gradient)

    def __call__(self, x: Any) -> tuple[Tensor, Tensor]:
        if not isinstance(x, Tensor) or x.shape != self.shape:
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise Wrong(f"guess takes the noisy pictures x, here of shape {tuple(self.shape)}; it "
                        f"was given {got}.")
        self.asked.append((torch.is_grad_enabled(), x.requires_grad))
        return (0.8 * torch.sin(x) + 0.5 * x.roll(1, -1) * x.roll(1, 1),
                torch.cos(2 * x) - 0.3 * x.roll(1, -2))


def down(x0: Tensor, eps: Tensor) -> Tensor:
    """DDIM's step, without noise, to ᾱ = 0.7."""
    return 0.7**0.5 * x0 + 0.3**0.5 * eps


def _own(z: Tensor) -> Tensor:
    return z.flatten(1).norm(dim=1).sum()


def _along(dim: int) -> Distance:
    return lambda z: z.norm(dim=dim).sum()


def dps_step(answer: Answer) -> None:
    for scene, scale in zip(scenes(), (0.7, 1.3, 0.4, 2.5), strict=True):
        views = Views(scene.x.shape)
        x, y = scene.x, scene.y
        got = _called(answer, views, scene, scale)
        want = right.dps_step(views, x, y, scene.forward, down, scale)
        given = f"pictures of shape {tuple(x.shape)}, {scene.words} and the scale {scale:g}"
        mistakes = _mistakes(views, scene, scale)
        expect(value_of(got), want, given, mistakes)
        if got.requires_grad:
            raise Wrong("The value is right, but it carries a graph, which would grow from step to "
                        "step: detach what you return.")
        again = value_of(_called(answer, views, scene, scale))
        if not torch.allclose(again, want, rtol=1e-4, atol=1e-4):
            raise Wrong("Called again with the same, it gives something else: is there a gradient "
                        "of the first call in x.grad still?", named=False)


def _called(answer: Answer, views: Views, scene: Scene, scale: float) -> Any:
    """What the answer returns. Torch's complaints about gradients are told by their causes."""
    views.asked.clear()
    try:
        return answer(views, scene.x, scene.y, scene.forward, down, scale)
    except NotImplementedError:
        raise
    except RuntimeError as e:
        for sign, words in _told(str(e), views.asked):
            if sign:
                raise Wrong(words) from None
        raise


def _told(error: str, asked: list[tuple[bool, bool]]) -> list[tuple[bool, str]]:
    blind = bool(asked) and "does not require grad" in error
    return [
        (blind and not asked[-1][0],
         "guess was asked with gradients switched off, torch.no_grad(): the slope has to come back "
         "through it to x."),
        (blind and not asked[-1][1],
         "guess was asked about an x that wants no gradient: x = x.detach().requires_grad_() comes "
         "before guess(x)."),
        ("does not require grad" in error,
         "No gradient comes back from the distance to x: something on its way, guess, x0 or "
         "forward, is detached."),
        ("appears to not have been used" in error,
         "The distance does not depend on the tensor whose gradient you ask for: ask for that of "
         "the very x that guess was given."),
        ("only for scalar outputs" in error,
         "A gradient is taken of one number: add the pictures' distances, .sum()."),
    ]


def _slope(views: Views, scene: Scene, distance: Distance = _own, of: str = "x",
           look: str = "x0", through: Callable[[Tensor], Tensor] = lambda x0: x0) -> Tensor:
    """The distance's slope, or another in its place."""
    x = scene.x.detach().requires_grad_()
    x0, eps = views(x)
    if of == "x0":
        x0 = x0.detach().requires_grad_()
    if of == "eps":
        eps = eps.detach().requires_grad_()
    seen = {"x0": x0, "eps": eps, "x": x}[look]
    far = distance(scene.y - scene.forward(through(seen)))
    return torch.autograd.grad(far, {"x": x, "x0": x0, "eps": eps}[of])[0]


def _mistakes(views: Views, scene: Scene, scale: float) -> dict[str, Tensor]:
    words, x, y, forward, _ = scene
    with torch.no_grad():
        x0, eps = views(x)
        below, far = down(x0, eps), _own(y - forward(x0))
    apart = (y - forward(x0)).flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    slope = _slope(views, scene)
    alone = x.detach().requires_grad_()
    plain = torch.autograd.grad(views(alone)[0].sum(), alone)[0]

    def led(distance: Distance = _own, **how: Any) -> Tensor:
        return below - scale * _slope(views, scene, distance, **how)

    def squares(by: float) -> Distance:
        return lambda z: z.square().sum() / by

    mistakes = {
        ("The slope is taken with respect to x0: it has to go on through the network, to the x "
         "that guess was given."): led(of="x0"),
        "That is the slope of the squared distance: the distance is the norm, its root.":
            led(squares(1)),
        "That is the slope of the squared distance, halved: the distance is the norm, its root.":
            led(squares(2)),
        "That is the slope of the mean squared error: the distance is the norm of each picture.":
            led(lambda z: z.square().mean()),
        ("You took one distance for the whole batch: each picture has its own, "
         ".flatten(1).norm(dim=1)."): led(torch.norm),
        ("You took the mean of the distances, which makes the step smaller the more pictures there "
         "are: add them."): led(lambda z: _own(z) / len(z)),
        "You went up the slope, away from the measurement: a minus.": below + scale * slope,
        "The scale is missing before the slope.": below - slope,
        "The slope is multiplied by the scale: you divided.": below - slope / scale,
        "The scale is there twice.": below - scale**2 * slope,
        "The step goes on from down(x0, eps): yours goes on from x.": x - scale * slope,
        "The step goes on from down(x0, eps): yours goes on from x0.": x0 - scale * slope,
        "forward is applied to x: what is measured is the guess x0.":
            below - scale * _slope(views, scene, look="x"),
        "forward is applied to eps: guess returns x0 first.": led(look="eps"),
        "x0 was corrected before down: the slope is taken off after it.":
            down(x0 - scale * slope, eps),
        "eps was corrected: the slope is taken off what down returns.":
            down(x0, eps + scale * slope),
        "eps was corrected, by the wrong sign too: the slope is taken off what down returns.":
            down(x0, eps - scale * slope),
        "That is DDIM's step alone: − scale · slope is missing.": below,
        "That is the correction alone: it is taken off down(x0, eps).": -scale * slope,
        "That is the slope alone: down(x0, eps) − scale · slope.": scale * slope,
        "x0 and eps are swapped: down(x0, eps).": down(eps, x0) - scale * slope,
        "down is given x: it takes x0 and eps.": down(x, eps) - scale * slope,
        ("That is the sum of the absolute differences (a norm along the channels gives it too, "
         "where there is one): .flatten(1).norm(dim=1), of all numbers of a picture."):
            led(lambda z: z.abs().sum()),
        "That is the mean of the absolute differences: the norm is wanted, of each picture.":
            led(lambda z: z.abs().mean()),
        "The slope was brought to length 1: it is used as it is.":
            below - scale * slope / slope.norm(),
        "Each picture's slope was brought to length 1: it is used as it is.":
            below - scale * slope / slope.flatten(1).norm(dim=1).view(-1, 1, 1, 1),
        "The slope was divided by the distance: the norm's slope is used as it is.":
            below - scale * slope / apart,
        ("The slope is there twice: that of the squared distance, divided by the distance, is two "
         "times the norm's."): below - 2 * scale * slope,
        "Only the sign of the slope is used.": below - scale * slope.sign(),
        "That is the slope of x0 itself: the slope of the distance is wanted.":
            below - scale * plain,
        "y is missing in the distance: y − forward(x0).":
            below - scale * _slope(views, scene._replace(y=0 * y)),
        "y and forward(x0) are added: the distance is of their difference.":
            below - scale * _slope(views, scene._replace(y=-y)),
        "The squares are missing: that is the slope of the sum of all differences.":
            led(torch.sum),
        "The distance itself is taken off: its slope is.": below - scale * far,
        "Each picture's distance itself is taken off: its slope is.": below - scale * apart,
        "x0 was clamped in the distance: it is used as it is.":
            led(through=lambda x0: x0.clamp(-1, 1)),
        "x0 was clamped: it is used as it is.": led(through=lambda x0: x0.clamp(-1, 1)) - below
            + down(x0.clamp(-1, 1), eps),
        "x0 was clamped before down: it is used as it is.":
            down(x0.clamp(-1, 1), eps) - scale * slope,
    }
    if len(x) > 2:                        # of two pictures the mean is the half
        mistakes["That is the slope of the squared distance, averaged over the pictures: the "
                 "distance is the norm, its root, and the pictures' are added."] = (
                     led(squares(len(x))))
    if y.ndim == x.ndim:
        for dim in (2, 3):
            mistakes[f"The norm ran along one axis, {dim}: over all of a picture's numbers, "
                     ".flatten(1).norm(dim=1)."] = led(_along(dim))
    if words == "brightness":
        mistakes["forward is missing: x0 is a picture, and y a measurement."] = (
            below - scale * _bare(views, scene))
    return mistakes


def _bare(views: Views, scene: Scene) -> Tensor:
    """The slope where y is held against x0 itself, which broadcasting lets pass."""
    x = scene.x.detach().requires_grad_()
    return torch.autograd.grad(_own(scene.y - views(x)[0]), x)[0]
