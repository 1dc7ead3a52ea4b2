"""Checks of chapter 6's exercises."""

import math

import torch
from torch import Tensor

from minigen import ddim
from minigen.checks import ddim_answers as right
from minigen.checks import ddim_loop as loop
from minigen.checks.compare import Answer, Wrong, expect, value_of
from minigen.checks.ddim_answers import (  # noqa: F401  (found by name: minigen.checks.yours)
    ddim_loop,
    ddim_move,
    guided_eps,
    keep_known,
    middle_guess,
    on_the_arc,
    trailing,
    two_at_once,
)
from minigen.inputs import is_whole

ANEW = "You drew new noise: the same ε goes back in, nothing is random here."


def check_ddim_move(answer: Answer) -> None:
    for ab, prev in ((0.2, 0.5), (0.7, 0.9), (0.4, 1.0)):
        xt, eps = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
        x0 = (xt - (1 - ab) ** 0.5 * eps) / ab**0.5
        rootless = (xt - (1 - ab) * eps) / ab
        mistakes = {
            "That is the guess of x0: noise it again, to the level of ab_prev.": x0,
            "You noised the guess back to the level it came from, which gives xt.": xt,
            "All roots are missing: √ᾱ and √(1 − ᾱ) are the scales.":
                prev * rootless + (1 - prev) * eps,
            "The roots are missing in the guess.":
                prev**0.5 * rootless + (1 - prev) ** 0.5 * eps,
            "The roots are missing in the second line.": prev * x0 + (1 - prev) * eps,
            "You used xt where the guess of x0 belongs.": prev**0.5 * xt + (1 - prev) ** 0.5 * eps,
            "The noise is missing: the guess is noised again, with ε.": prev**0.5 * x0,
            "The noise goes back in with a plus.": prev**0.5 * x0 - (1 - prev) ** 0.5 * eps,
            "The noise is taken off xt in the guess: a minus.":
                prev**0.5 * (xt + (1 - ab) ** 0.5 * eps) / ab**0.5 + (1 - prev) ** 0.5 * eps,
            "ab and ab_prev are swapped.":
                ab**0.5 * (xt - (1 - prev) ** 0.5 * eps) / prev**0.5 + (1 - ab) ** 0.5 * eps,
            "The guess is noised with the scale of ab: its level is ab_prev now.":
                prev**0.5 * x0 + (1 - ab) ** 0.5 * eps,
            "The guess is scaled by √ab: its level is ab_prev now.":
                ab**0.5 * x0 + (1 - prev) ** 0.5 * eps,
            "The guess is missing its division by √ᾱ.":
                prev**0.5 * x0 * ab**0.5 + (1 - prev) ** 0.5 * eps,
        }
        got = answer(xt.clone(), eps.clone(), ab, prev)
        again = answer(xt.clone(), eps.clone(), ab, prev)
        tensors = isinstance(got, Tensor) and isinstance(again, Tensor)
        if tensors and not torch.equal(got.nan_to_num(), again.nan_to_num()):
            raise Wrong(ANEW)
        if prev == 1.0:                       # some of these are right at the last step
            mistakes = {}
        expect(got, right.ddim_move(xt, eps, ab, prev), f"ᾱ from {ab} to {prev}", mistakes)


def check_trailing(answer: Answer) -> None:
    for T, steps in ((1000, 10), (1000, 4), (12, 12), (100, 1)):
        got = answer(T, steps)
        if got is None:
            raise Wrong("Your function returned None. Is there a `return`?")
        if not isinstance(got, list):
            raise Wrong(f"Your function returned a {type(got).__name__}; a list of integers is "
                        "wanted.")
        if not all(map(is_whole, got)):
            raise Wrong("The list holds something else than integers: // divides and drops the "
                        "remainder.")
        got = [int(t) for t in got]
        want, stride = ddim.timesteps(T, steps), T // steps
        for meaning, value in {
            "The list rises: sampling starts with the most noise.": want[::-1],
            "One too many each: time steps end at T − 1.": [t + 1 for t in want],
            "That is the leading spacing, which never sees the step with the most noise.":
                list(range(0, T, stride))[::-1],
            "That is the leading spacing, and it rises.": list(range(0, T, stride)),
            "Those are all the steps there are: take every (T / steps)-th.":
                list(range(T - 1, -1, -1)),
        }.items():
            if got == value and got != want:
                raise Wrong(meaning)
        if len(got) != len(want):
            raise Wrong(f"For T = {T} and {steps} steps your list has {len(got)} entries.")
        if got != want:
            raise Wrong(f"For T = {T} and {steps} steps your list begins {got[:3]}; {want[:3]} is "
                        "wanted.")


def check_ddim_loop(answer: Answer) -> None:
    loop.check(answer)


def check_middle_guess(answer: Answer) -> None:
    for before, lam, after in ((-4.5, -2.0, 0.0), (-1.0, -0.8, 2.0), (0.5, 1.5, 2.5)):
        x0, old = torch.randn(2, 2, 3, 4, 4)
        slope, step = (x0 - old) / (lam - before), after - lam
        mistakes = {
            "That is the end of the step: its middle is half as far.": x0 + slope * step,
            "You went back: from the guess before to this one, and on.": x0 - slope * step / 2,
            "That starts from the guess before: start from x0, which stands at lam.":
                old + slope * step / 2,
            "The difference alone: it is added to x0.": slope * step / 2,
            "The steps in λ differ: divide by lam − lam_before.": x0 + (x0 - old) * step / 2,
            "The length of this step, lam_next − lam, is missing.": x0 + slope / 2,
            "The two lengths are upside down: the slope is per λ of the step before.":
                x0 + (x0 - old) * (lam - before) / step / 2,
            "As if both steps were equally long: they are not.": x0 + (x0 - old) / 2,
            "That is the mean of both guesses, in the middle of the step before.": (x0 + old) / 2,
            "That is x0 itself, the step of first order.": x0,
        }
        if step == lam - before:              # equal steps: some of these are right
            mistakes = {}
        want = right.middle_guess(x0, old, before, lam, after)
        got = answer(x0, old, before, lam, after)
        expect(got, want, f"λ = {before}, {lam} and {after}", mistakes)


def check_on_the_arc(answer: Answer) -> None:
    for w in (0.5, 0.25, 0.0):
        a, b = torch.randn(48), 2 * torch.randn(48)
        theta = torch.arccos((a @ b) / (a.norm() * b.norm()))
        want = right.on_the_arc(a, b, w)
        cosine = theta.cos()
        by_cosine = torch.sin((1 - w) * cosine) * a + torch.sin(w * cosine) * b
        mistakes = {} if w == 0 else {
            "That is the straight line, whose middle is too short.": (1 - w) * a + w * b,
            "a and b are swapped: w = 0 is a.":
                (torch.sin(w * theta) * a + torch.sin((1 - w) * theta) * b) / torch.sin(theta),
            "The division by sin θ is missing.": want * torch.sin(theta),
            "θ is the arccos of the cosine; you used the cosine itself.":
                by_cosine / torch.sin(cosine),
            "Use sines, not cosines.":
                (torch.cos((1 - w) * theta) * a + torch.cos(w * theta) * b) / torch.cos(theta),
            "Both parts are added: you subtracted.":
                (torch.sin((1 - w) * theta) * a - torch.sin(w * theta) * b) / torch.sin(theta),
            "The result is scaled to length 1: a noise is about √48 long here.":
                want / want.norm(),
            "θ is that of the directions, but the noises themselves are mixed, unscaled.":
                right.on_the_arc(a / a.norm(), b / b.norm(), w),
            "As if θ were a right angle: take the one between a and b.":
                math.cos(w * math.pi / 2) * a + math.sin(w * math.pi / 2) * b,
            "The first noise is missing.": torch.sin(w * theta) * b / torch.sin(theta),
            "The second noise is missing.": torch.sin((1 - w) * theta) * a / torch.sin(theta),
        }
        got = answer(a, b, w)
        if isinstance(got, Tensor) and got.isnan().any():
            raise Wrong("NaN: arccos takes −1 to 1 only. Is a · b divided by both lengths first?")
        expect(got, want, f"two noises and w = {w}", mistakes)


def check_guided_eps(answer: Answer) -> None:
    c, u = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    for s in (2.0, 0.0, 1.0, 5.0):
        mistakes = {
            ("You started from the conditional prediction, which makes s Ho and Salimans' w: start "
             "from the unconditional one."):
                c + s * (c - u),
            "Conditional and unconditional are swapped.": c + s * (u - c),
            "The scale is missing.": c,
            "You added instead of taking the difference.": u + s * (c + u),
            "Only the difference is left: add it to the unconditional prediction.": s * (c - u),
            "Away from the label: the difference is conditional − unconditional.":
                u - s * (c - u),
            "The unconditional prediction is not taken off: the difference is scaled.": u + s * c,
        }
        if s not in (0.0, 1.0):
            mistakes["You divided by the scale: multiply."] = u + (c - u) / s
            partly = u + s * (c - u)
            partly[:, 3:] = c[:, 3:]
            mistakes["Only the first three channels are guided: latents have four."] = partly
        want = right.guided_eps(c, u, s)
        expect(answer(c, u, s), want, f"scale {s}", mistakes)


def check_two_at_once(answer: Answer) -> None:
    for scales in ((2.5, 3.0), (0.5, 4.0), (0.0, 2.0), (1.0, 1.5, 2.5)):
        u, *answers = torch.randn(len(scales) + 1, 2, 4, 3, 3)
        pairs = list(zip(scales, answers, strict=True))
        total = sum(s * (a - u) for s, a in pairs)
        mean = sum(scales) / len(scales)
        mistakes = {
            "The unconditional prediction is missing: the differences are added to it.": total,
            "You added one unconditional prediction for each label: once is enough.":
                total + len(scales) * u,
            "Nothing is taken off: each label adds its *difference* to the unconditional one.":
                u + sum(s * a for s, a in pairs),
            "The differences are added, not averaged.": u + total / len(scales),
            "Each label has its own scale; you took one for all.":
                u + scales[0] * sum(a - u for _, a in pairs),
            "Each label has its own scale; you took their mean.":
                u + mean * sum(a - u for _, a in pairs),
            "Only the first label counts.": u + scales[0] * (answers[0] - u),
            "Only the last label counts.": u + scales[-1] * (answers[-1] - u),
            "The scales are missing.": u + sum(a - u for _, a in pairs),
            "The labels are averaged first, which is one difference: each has its own scale.":
                u + scales[0] * (sum(answers) / len(answers) - u),
        }
        want = right.two_at_once(u, answers, scales)
        got = answer(u, list(answers), list(scales))
        expect(value_of(got), want, f"the scales {scales}", mistakes)


def check_keep_known(answer: Answer) -> None:
    x, known, noise = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    mask = (torch.rand(1, 1, 4, 4) < 0.5).float()
    mask[..., 0, 0], mask[..., 0, 1] = 1, 0
    for prev in (0.4, 1.0):
        kept = prev**0.5 * known + (1 - prev) ** 0.5 * noise
        mistakes = {
            "The mask is the wrong way round: 1 is to be kept.": torch.where(mask.bool(), x, kept),
            "The known part is clean and the rest is noisy: noise it to the same level.":
                torch.where(mask.bool(), known, x),
            "The known part was noised everywhere: outside the mask x stays.": kept,
            "Outside the mask nothing is left: x stays there.": mask * kept,
            "The roots are missing.":
                torch.where(mask.bool(), prev * known + (1 - prev) * noise, x),
            "The noise's scale is √(1 − ᾱ).":
                torch.where(mask.bool(), prev**0.5 * known + noise, x),
            "Signal and noise have each other's scale.":
                torch.where(mask.bool(), (1 - prev) ** 0.5 * known + prev**0.5 * noise, x),
            "The noise is added: a plus.":
                torch.where(mask.bool(), prev**0.5 * known - (1 - prev) ** 0.5 * noise, x),
            "Both were added up: choose, with the mask.": x + mask * kept,
        }
        want = torch.where(mask.bool(), kept, x)
        got = answer(x, known, mask, prev, noise)
        expect(got, want, f"half the pixels known and ᾱ = {prev}", mistakes)
