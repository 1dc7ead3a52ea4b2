"""Checks of chapter 6's exercises."""

import torch

from minigen import ddim
from minigen.checks.compare import Answer, Wrong, expect
from minigen.inputs import is_whole


def check_ddim_move(answer: Answer) -> None:
    for ab, prev in ((0.2, 0.5), (0.7, 0.9), (0.4, 1.0)):
        xt, eps = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
        x0 = (xt - (1 - ab) ** 0.5 * eps) / ab**0.5
        want = prev**0.5 * x0 + (1 - prev) ** 0.5 * eps
        mistakes = {
            "That is the guess of x0: noise it again, to the level of ab_prev.": x0,
            "You noised the guess back to the level it came from, which gives xt.": xt,
            "The roots are missing in the second line.": prev * x0 + (1 - prev) * eps,
            "You used xt where the guess of x0 belongs.": prev**0.5 * xt + (1 - prev) ** 0.5 * eps,
            "You drew new noise: the same ε goes back in, nothing is random here.":
                torch.full_like(xt, float("inf")),
            "ab and ab_prev are swapped.":
                ab**0.5 * (xt - (1 - prev) ** 0.5 * eps) / prev**0.5 + (1 - ab) ** 0.5 * eps,
            "The guess is missing its division by √ᾱ.":
                prev**0.5 * x0 * ab**0.5 + (1 - prev) ** 0.5 * eps,
        }
        got = answer(xt.clone(), eps.clone(), ab, prev)
        again = answer(xt.clone(), eps.clone(), ab, prev)
        tensors = isinstance(got, torch.Tensor) and isinstance(again, torch.Tensor)
        if tensors and not torch.equal(got.nan_to_num(), again.nan_to_num()):
            raise Wrong("You drew new noise: the same ε goes back in, nothing is random here.")
        expect(got, want, f"ᾱ from {ab} to {prev}", mistakes)


def check_step_noise(answer: Answer) -> None:
    for ab, prev, eta in ((0.2, 0.5, 1.0), (0.7, 0.9, 0.5), (0.4, 0.6, 0.0)):
        want = torch.tensor(eta * ((1 - prev) / (1 - ab)) ** 0.5 * (1 - ab / prev) ** 0.5)
        mistakes = {} if eta == 0 else {
            "That is the variance σ²: take the root.": want**2 / eta,
            "That is σ²: take the root.": want**2,
            "η is missing.": want / eta,
            "η goes outside the root.": want / eta * eta**0.5,
            "The first fraction is upside down.":
                torch.tensor(eta * ((1 - ab) / (1 - prev)) ** 0.5 * (1 - ab / prev) ** 0.5),
            "The second factor, √(1 − ᾱ / ᾱ_prev), is missing.":
                torch.tensor(eta * ((1 - prev) / (1 - ab)) ** 0.5),
            "The first factor is missing.": torch.tensor(eta * (1 - ab / prev) ** 0.5),
        }
        expect(answer(ab, prev, eta), want, f"ᾱ from {ab} to {prev}, η = {eta}", mistakes)


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


def check_on_the_arc(answer: Answer) -> None:
    for w in (0.5, 0.25):
        a, b = torch.randn(48), torch.randn(48)
        theta = torch.arccos((a @ b) / (a.norm() * b.norm()))
        want = (torch.sin((1 - w) * theta) * a + torch.sin(w * theta) * b) / torch.sin(theta)
        cosine = theta.cos()
        by_cosine = torch.sin((1 - w) * cosine) * a + torch.sin(w * cosine) * b
        mistakes = {
            "That is the straight line, whose middle is too short.": (1 - w) * a + w * b,
            "a and b are swapped: w = 0 is a.":
                (torch.sin(w * theta) * a + torch.sin((1 - w) * theta) * b) / torch.sin(theta),
            "The division by sin θ is missing.": want * torch.sin(theta),
            "θ is the arccos of the cosine; you used the cosine itself.":
                by_cosine / torch.sin(cosine),
            "Use sines, not cosines.":
                (torch.cos((1 - w) * theta) * a + torch.cos(w * theta) * b) / torch.cos(theta),
        }
        expect(answer(a.clone(), b.clone(), w), want, f"two noises and w = {w}", mistakes)


def check_forget_some(answer: Answer) -> None:
    y, u = torch.arange(5).repeat(20), torch.rand(100)
    for p in (0.3, 0.0, 1.0):
        given, want = y.clone(), torch.where(u < p, 5, y)
        got = answer(given, u.clone(), p, 5)
        if not torch.equal(given, y):
            raise Wrong("Your function changed the labels it was given; the next epoch would find "
                        "them gone. Make a new tensor, torch.where.")
        mistakes = {
            "That drops the wrong ones: drop where u < p.": torch.where(u < p, y, 5),
            "Nothing was dropped.": y,
            "Dropped labels become `null`, which is not 0.": torch.where(u < p, 0, y),
            "Dropped labels become `null`, not −1.": torch.where(u < p, -1, y),
        }
        expect(got, want, f"100 labels and p = {p}", mistakes)


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
        }
        if s not in (0.0, 1.0):
            partly = u + s * (c - u)
            partly[:, 3:] = c[:, 3:]
            mistakes["Only the first three channels are guided: latents have four."] = partly
        expect(answer(c.clone(), u.clone(), s), u + s * (c - u), f"scale {s}", mistakes)


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
            "The roots are missing.":
                torch.where(mask.bool(), prev * known + (1 - prev) * noise, x),
            "The noise's scale is √(1 − ᾱ).":
                torch.where(mask.bool(), prev**0.5 * known + noise, x),
            "Both were added up: choose, with the mask.": x + mask * kept,
        }
        given = x.clone()
        want = torch.where(mask.bool(), kept, x)
        got = answer(given, known.clone(), mask.clone(), prev, noise.clone())
        expect(got, want, f"half the pixels known and ᾱ = {prev}", mistakes)
