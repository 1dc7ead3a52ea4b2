"""Checks of chapter 5's exercises."""

import torch
from torch import Tensor

from minigen.checks import ddpm_loops
from minigen.checks.compare import Answer, Wrong, expect
from minigen.checks.ddpm_answers import (  # noqa: F401  (found by name: minigen.checks.yours)
    alpha_bar,
    ancestral_sample,
    ema_step,
    ideal_x0,
    noised,
    posterior_mean,
    training_step,
    x0_from_eps,
)
from minigen.diffusion import Diffusion, linear_betas


def check_alpha_bar(answer: Answer) -> None:
    for betas in (torch.tensor([0.1, 0.3, 0.2, 0.5]), torch.linspace(1e-4, 0.02, 100)):
        want = torch.cumprod(1 - betas, 0)
        mistakes = {
            "That is the product of the β: multiply the 1 − β.": torch.cumprod(betas, 0),
            "That is a running sum: multiply up, cumprod.": torch.cumsum(1 - betas, 0),
            "That is 1 − a running sum of β: multiply the 1 − β.": 1 - torch.cumsum(betas, 0),
            "You took a square root: the signal's scale is √ᾱ, ᾱ itself is its variance.":
                want.sqrt(),
            "That is α, of one step: multiply up over the steps.": 1 - betas,
            "That is only the last one: every t has its own, cumprod.": want[-1],
            "That is 1 − ᾱ, the noise's share.": 1 - want,
            "One step late: ᾱ at t includes β at t.": torch.cat([torch.ones(1), want[:-1]]),
        }
        expect(answer(betas), want, f"a schedule of {len(betas)} steps", mistakes)


def check_noised(answer: Answer) -> None:
    for shape in ((4, 3, 4, 4), (3, 2, 4, 5)):
        x0, eps, ab = torch.randn(shape), torch.randn(shape), torch.rand(shape[0]) * 0.8 + 0.1
        a = ab[:, None, None, None]
        mistakes = {
            "The roots are missing: ᾱ is a variance, √ᾱ a scale.": a * x0 + (1 - a) * eps,
            "Signal and noise are swapped.": (1 - a).sqrt() * x0 + a.sqrt() * eps,
            "The noise's scale is √(1 − ᾱ), not 1 − √ᾱ.": a.sqrt() * x0 + (1 - a.sqrt()) * eps,
            "The noise's scale is √(1 − ᾱ): its root is missing.": a.sqrt() * x0 + (1 - a) * eps,
            "The signal is not scaled.": x0 + (1 - a).sqrt() * eps,
            "The noise is not scaled.": a.sqrt() * x0 + eps,
            "The noise is missing.": a.sqrt() * x0,
            "You took the noise off: it is added.": a.sqrt() * x0 - (1 - a).sqrt() * eps,
            "That is the noise alone: the picture is missing.": (1 - a).sqrt() * eps,
        }
        if shape[-1] == shape[0]:
            meaning = ("ᾱ was lined up with the last axis: it belongs to the images, "
                       "ab[:, None, None, None].")
            mistakes[meaning] = ab.sqrt() * x0 + (1 - ab).sqrt() * eps
        want = a.sqrt() * x0 + (1 - a).sqrt() * eps
        expect(answer(x0, eps, ab), want, f"images of shape {shape}", mistakes)


def check_posterior_mean(answer: Answer) -> None:
    d = Diffusion(linear_betas(20, 0.01, 0.3))
    for t in (1, 9, 19):
        x0, xt = torch.randn(4, 3).double(), torch.randn(4, 3).double()
        beta, ab, prev = d.betas[t], d.alpha_bar[t], d.alpha_bar_prev[t]
        want = d.posterior(x0, xt, torch.tensor([t]))[0]
        mistakes = {
            "x0 and xt are swapped.": d.posterior(xt, x0, torch.tensor([t]))[0],
            "The factor of xt holds √α of one step, √(1 − β): you took √ᾱ.":
                (prev.sqrt() * beta * x0 + ab.sqrt() * (1 - prev) * xt) / (1 - ab),
            "The factor of x0 holds √ᾱ of the step before, ab_prev.":
                (ab.sqrt() * beta * x0 + (1 - beta).sqrt() * (1 - prev) * xt) / (1 - ab),
            "The division by 1 − ᾱ is missing.": want * (1 - ab),
            "You divided by 1 − ᾱ of the step before: it is ᾱ at t.": want * (1 - ab) / (1 - prev),
            "The roots are missing.": (prev * beta * x0 + (1 - beta) * (1 - prev) * xt) / (1 - ab),
            "The factor of xt holds 1 − ᾱ of the step before, ab_prev: you took ᾱ at t.":
                (prev.sqrt() * beta * x0 + (1 - beta).sqrt() * (1 - ab) * xt) / (1 - ab),
            "The two parts are added: you subtracted.":
                (prev.sqrt() * beta * x0 - (1 - beta).sqrt() * (1 - prev) * xt) / (1 - ab),
            "1 − ᾱ of the step before is missing in the factor of xt.":
                (prev.sqrt() * beta * x0 + (1 - beta).sqrt() * xt) / (1 - ab),
            "Only the factor of x0 was divided by 1 − ᾱ: both are.":
                prev.sqrt() * beta * x0 / (1 - ab) + (1 - beta).sqrt() * (1 - prev) * xt,
            "β is missing in the factor of x0.":
                (prev.sqrt() * x0 + (1 - beta).sqrt() * (1 - prev) * xt) / (1 - ab),
            "That is the mean of the shortcut, √ᾱ x0: xt tells something too.": prev.sqrt() * x0,
        }
        expect(answer(x0, xt, beta, ab, prev), want, f"t = {t} of 20", mistakes)
        got = answer(x0, xt, float(beta), float(ab), float(prev))
        expect(got, want, f"t = {t} of 20, with plain numbers")


def check_x0_from_eps(answer: Answer) -> None:
    x0, eps = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    ab = (torch.rand(3, 1, 1, 1) * 0.8) + 0.1
    xt = ab.sqrt() * x0 + (1 - ab).sqrt() * eps
    mistakes = {
        "You did not divide by √ᾱ.": xt - (1 - ab).sqrt() * eps,
        "You divided by ᾱ: divide by its root.": (xt - (1 - ab).sqrt() * eps) / ab,
        "You multiplied by √ᾱ: divide.": (xt - (1 - ab).sqrt() * eps) * ab.sqrt(),
        "You added the noise: take it off.": (xt + (1 - ab).sqrt() * eps) / ab.sqrt(),
        "The noise's scale is √(1 − ᾱ).": (xt - (1 - ab) * eps) / ab.sqrt(),
        "The noise is taken off without its scale, √(1 − ᾱ).": (xt - eps) / ab.sqrt(),
        "You used √ᾱ for the noise and √(1 − ᾱ) for the picture.":
            (xt - ab.sqrt() * eps) / (1 - ab).sqrt(),
        "Both roots are missing: √ᾱ and √(1 − ᾱ) are the scales.": (xt - (1 - ab) * eps) / ab,
        "Divide all of it by √ᾱ, the noise's part too: brackets are missing.":
            xt - (1 - ab).sqrt() * eps / ab.sqrt(),
        "Divide all of it by √ᾱ, xt too: brackets are missing.":
            xt / ab.sqrt() - (1 - ab).sqrt() * eps,
    }
    expect(answer(xt, eps, ab), x0, "3 noised images", mistakes, tol=1e-3)


def check_training_step(answer: Answer) -> None:
    ddpm_loops.training_step(answer)


def check_ideal_x0(answer: Answer) -> None:
    for ab in (0.9, 0.3):
        data, xt = torch.randn(7, 2), torch.randn(5, 2)
        square = torch.cdist(xt, ab**0.5 * data).square()
        want = (-square / (2 * (1 - ab))).softmax(1) @ data
        far = torch.cdist(xt, data).square()
        mistakes = {
            "The data are not shrunk by √ᾱ before the distance.":
                (-far / (2 * (1 - ab))).softmax(1) @ data,
            "You shrank the data by ᾱ: its root.":
                (-torch.cdist(xt, ab * data).square() / (2 * (1 - ab))).softmax(1) @ data,
            "The distance is not squared.": (-square.sqrt() / (2 * (1 - ab))).softmax(1) @ data,
            "The minus is missing: near points count more.":
                (square / (2 * (1 - ab))).softmax(1) @ data,
            "The 2 below is missing.": (-square / (1 - ab)).softmax(1) @ data,
            "The division by the noise's variance, 1 − ᾱ, is missing.":
                (-square / 2).softmax(1) @ data,
            "You divided by ᾱ: the noise's variance is 1 − ᾱ.":
                (-square / (2 * ab)).softmax(1) @ data,
            "The softmax must go over the data, dim=1.":
                (-square / (2 * (1 - ab))).softmax(0) @ data,
            "You averaged the shrunken data: the weights belong to the data themselves.":
                ab**0.5 * want,
            "That is the nearest point: the mean weighs them all.": data[square.argmin(1)],
        }
        expect(answer(xt, data, ab), want, f"5 places, 7 points, ᾱ = {ab}", mistakes)
    far_away = answer(torch.tensor([[9.0, 9.0]]), torch.tensor([[1.0, 0.0], [0.0, -1.0]]), 0.999)
    if isinstance(far_away, Tensor) and not torch.isfinite(far_away).all():
        raise Wrong("Far from all points and with little noise your result is not finite: exp "
                    "alone rounds to 0, and 0 / 0 is NaN. torch.softmax takes the largest "
                    "exponent off first.")
    expect(far_away, torch.tensor([[1.0, 0.0]]), "a place far from all points, ᾱ = 0.999")


def check_ancestral_sample(answer: Answer) -> None:
    ddpm_loops.ancestral_sample(answer)


def check_ema_step(answer: Answer) -> None:
    average, weights = torch.randn(3, 4), torch.randn(3, 4)
    for n, d_max in ((0, 0.999), (5, 0.999), (100_000, 0.99)):
        warm = (1 + n) / (10 + n)
        d = min(d_max, warm)
        late = min(d_max, (2 + n) / (11 + n))
        mistakes = {
            "d and 1 − d are swapped: d belongs to the old average.":
                (1 - d) * average + d * weights,
            "The warm-up is missing (or you took the larger of the two: min).":
                d_max * average + (1 - d_max) * weights,
            "The limit d_max is missing: the smaller of the two counts.":
                warm * average + (1 - warm) * weights,
            "1 − d is missing before the new weights.": d * average + weights,
            "You counted one too many: n is the number of updates before this one.":
                late * average + (1 - late) * weights,
            "Both parts count with a plus: the new ones are added.":
                d * average - (1 - d) * weights,
        }
        for words, other in (("above you have n.", n / (10 + n)),
                             ("below you have 11 + n.", (1 + n) / (11 + n))):
            other = min(d_max, other)
            meaning = f"The warm-up is (1 + n) / (10 + n): {words}"
            mistakes[meaning] = other * average + (1 - other) * weights
        want = d * average + (1 - d) * weights
        expect(answer(average, weights, n, d_max), want, f"n = {n} and d_max = {d_max}", mistakes)
