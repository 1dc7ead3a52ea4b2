"""Excursion 3's SDEdit, checked: how far it goes up, what it starts from, who takes it down."""

import numbers
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from minigen.checks import pictures_answers as right
from minigen.checks.compare import Answer, Wrong, expect, value_of
from minigen.checks.flows_paths import same

# steps of the schedule, strength, and the pictures' shape; in the third int() cuts off to another
# number, in the fourth a number is rounded up by ceil only; then the two ends, and nearly one
CASES = ((20, 0.3, (3, 2, 3, 3)), (30, 0.8, (2, 3, 4, 2)), (12, 0.65, (1, 3, 2, 2)),
         (26, 0.4, (2, 1, 2, 4)), (10, 1.0, (2, 3, 2, 3)), (16, 0.0, (2, 3, 3, 2)),
         (20, 0.02, (3, 1, 2, 2)))


class _Denoiser:
    """A sampler from time T − 1 down, which keeps what it was asked."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.asked: list[tuple[Tensor, int]] = []

    def __call__(self, x: Any = None, steps: Any = None) -> Tensor:
        if isinstance(steps, Tensor) and steps.ndim == 4:
            raise Wrong("denoise takes the noisy pictures first, T second: denoise(x_t, T).")
        if not isinstance(x, Tensor) or x.shape != self.shape:
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise Wrong(f"denoise takes noisy pictures, here of shape {self.shape}; it was given "
                        f"{got}.")
        steps = steps.item() if isinstance(steps, Tensor) and steps.numel() == 1 else steps
        if not isinstance(steps, numbers.Integral):
            got = "none" if steps is None else f"{steps!r}"
            raise Wrong("denoise takes T, how many steps to go down, a whole number: round(…); it "
                        f"was given {got}.")
        if steps == 0:
            raise Wrong("With T = 0 there is nothing to sample: return x as it is.")
        self.asked.append((x.detach().clone(), int(steps)))
        return torch.sin(2 * x) + int(steps) / 10


def sdedit(answer: Answer) -> None:
    for n, strength, shape in CASES:
        x, noise = torch.randn(2, *shape)
        x = x + 0.5
        # falls all the way to a picture that can be told no more, and not evenly
        alpha_bar = (1 - torch.linspace(0.01, 0.25, n, dtype=torch.float64)).cumprod(0)
        denoise = _Denoiser(shape)
        got = value_of(answer(denoise, x, noise, alpha_bar, strength))
        asked = list(denoise.asked)
        want = right.sdedit(denoise, x, noise, alpha_bar, strength)
        given = f"strength {strength:g} of {n} steps"
        steps = round(strength * n)
        if steps == 0:
            _untouched(got, x, noise, asked, given)
            continue
        if not asked:
            expect(got, want, given, _undrawn(x, noise, alpha_bar, steps))
        if len(asked) > 1:
            raise Wrong(f"For {given} denoise is asked once; yours asked it {len(asked)} times.")
        start = denoise.asked[-1][0]
        _steps(asked[0][1], n, strength, given)
        _start(answer, asked[0][0], start, (x, noise, alpha_bar, strength))
        expect(got, want, given, _results(x, noise, want, start, strength))


def _untouched(got: Any, x: Tensor, noise: Tensor, asked: list, given: str) -> None:
    """Raise `Wrong` unless x came back as it was."""
    if asked:
        raise Wrong(f"With {given}, T = round(strength · len(alpha_bar)) is 0: return x as it is, "
                    f"without denoise. Yours asked it with T = {asked[0][1]}.")
    expect(got, x, given, {"With strength 0 x comes back as it is: you returned the noise.": noise,
                           "With strength 0 x comes back as it is: you added noise.": x + noise})


def _undrawn(x: Tensor, noise: Tensor, alpha_bar: Tensor, steps: int) -> Mapping[str, Tensor]:
    """What may come back where denoise was never asked."""
    left = alpha_bar[steps - 1]
    return {
        "denoise is missing: those are the noisy pictures, from which it goes down.":
            left.sqrt() * x + (1 - left).sqrt() * noise,
        "denoise was not asked, and x came back as it was: only T = 0 leaves it untouched.": x,
        "denoise was not asked: that is the noise.": noise,
    }


def _steps(told: int, n: int, strength: float, given: str) -> None:
    """Raise `Wrong` unless denoise was told the right T."""
    wanted = round(strength * n)
    if told == wanted:
        return
    usual: dict[str, int] = {}
    if (n, strength) == CASES[0][:2]:
        usual = {
            "denoise(x_t, T) goes down from time T − 1 by itself: you gave it T − 1.": wanted - 1,
            "T = round(strength · len(alpha_bar)): yours is one more.": wanted + 1,
            ("The strength is the wrong way round, 1 − strength: the more of it, the less is left "
             "of x."): n - wanted,
            "T depends on the strength: yours is all of the steps.": n,
            "T depends on the strength: yours is 1.": 1,
        }
    elif (n, strength) == CASES[1][:2]:
        usual = {"T is a share of len(alpha_bar): you took one less.": round(strength * (n - 1))}
    elif (n, strength) == CASES[2][:2]:
        usual = {"T is rounded, round(…): int() and // cut off.": int(strength * n)}
    elif (n, strength) == CASES[3][:2]:
        usual = {"T is rounded to the nearest, round(…): you rounded up.": wanted + 1}
    elif strength == 1:
        usual = {"At strength 1 T is all of the steps, len(alpha_bar): yours is one less.": n - 1,
                 "At strength 1 T is all of the steps, len(alpha_bar): yours is 1.": 1}
    for words, value in usual.items():
        if told == value:
            raise Wrong(words)
    raise Wrong(f"For {given} denoise was told T = {told}; {wanted} is wanted.", named=False)


def _start(answer: Answer, told: Tensor, wanted: Tensor, given: tuple) -> None:
    """Raise `Wrong` unless denoise was given the right noisy pictures."""
    x, noise, alpha_bar, strength = given
    if same(told, wanted):
        return
    again = _Denoiser(tuple(x.shape))
    answer(again, *given)
    if not again.asked or not torch.equal(again.asked[0][0], told):
        raise Wrong("You drew noise of your own: noise is given.")
    n, steps = len(alpha_bar), round(strength * len(alpha_bar))
    for words, value in _starts(x, noise, alpha_bar, steps, strength).items():
        if same(told, value):
            raise Wrong(words)
    raise Wrong(f"For strength {strength:g} of {n} steps denoise was not given the right noisy "
                "pictures, √ᾱ x + √(1 − ᾱ) noise.", named=False)


def _starts(x: Tensor, noise: Tensor, alpha_bar: Tensor, steps: int, strength: float
            ) -> Mapping[str, Tensor]:
    """What denoise may be given by mistake."""
    def noised(left: Tensor) -> Tensor:
        return left.sqrt() * x + (1 - left).sqrt() * noise

    left = alpha_bar[steps - 1]
    if strength == 1:
        return {"At strength 1 nothing is left of x: denoise(noise, T).": noised(left),
                "At strength 1 nothing is left of x: you gave denoise x itself.": x,
                "At strength 1 the noise is used as it is: you multiplied it by √(1 − ᾱ).":
                    (1 - left).sqrt() * noise}
    share = torch.tensor(strength)
    return {
        "T steps lead down from time T − 1, so it is alpha_bar[T − 1]: you took alpha_bar[T].":
            noised(alpha_bar[steps]),
        "T steps lead down from time T − 1, so it is alpha_bar[T − 1]: you took alpha_bar[T − 2].":
            noised(alpha_bar[steps - 2]),
        "ᾱ is counted from the clean end: you took alpha_bar[len(alpha_bar) − T].":
            noised(alpha_bar[-steps]),
        "ᾱ is that of time T − 1: you took the last one.": noised(alpha_bar[-1]),
        "ᾱ is that of time T − 1: you took the first one.": noised(alpha_bar[0]),
        "ᾱ is that of time T − 1: you took the mean of the table.": noised(alpha_bar.mean()),
        "alpha_bar is ᾱ already, the product: you multiplied up once more.":
            noised(alpha_bar.cumprod(0)[steps - 1]),
        "The roots are missing: √ᾱ x + √(1 − ᾱ) noise.": left * x + (1 - left) * noise,
        "The root of 1 − ᾱ is missing.": left.sqrt() * x + (1 - left) * noise,
        "The root of ᾱ is missing.": left * x + (1 - left).sqrt() * noise,
        "The root is taken of 1 − ᾱ: you took 1 − √ᾱ.":
            left.sqrt() * x + (1 - left.sqrt()) * noise,
        "x and noise are swapped: √ᾱ x + √(1 − ᾱ) noise.": noised(1 - left),
        "The noise is added: a plus.": left.sqrt() * x - (1 - left).sqrt() * noise,
        "√ᾱ is missing before x.": x + (1 - left).sqrt() * noise,
        "√(1 − ᾱ) is missing before noise.": left.sqrt() * x + noise,
        "Both factors are missing: √ᾱ x + √(1 − ᾱ) noise.": x + noise,
        "denoise was given x without noise.": x,
        "denoise was given the noise alone: only at strength 1 nothing is left of x.": noise,
        "The noise is missing: + √(1 − ᾱ) noise.": left.sqrt() * x,
        "x is missing: √ᾱ x + …": (1 - left).sqrt() * noise,
        "The shares are those of the schedule, ᾱ: you took the strength itself.":
            noised(1 - share),
        "The shares are those of the schedule, ᾱ: you took the strength itself, without roots.":
            (1 - share) * x + share * noise,
        "The shares are those of the schedule, ᾱ: you took the strength itself, as if it were ᾱ.":
            noised(share),
    }


def _results(x: Tensor, noise: Tensor, want: Tensor, start: Tensor, strength: float
             ) -> Mapping[str, Tensor]:
    """What may come back where denoise was asked rightly."""
    mistakes = {
        "x came back as it was: return what denoise makes.": x,
        "You returned what denoise was given: return what it makes.": start,
        "What denoise makes is clamped: return it as it is.": want.clamp(-1, 1),
    }
    if strength < 1:
        mistakes |= {
            "What denoise makes is mixed with x once more: return it as it is.":
                strength * want + (1 - strength) * x,
            "What denoise makes is added to x: return it as it is.": x + want,
        }
    return mistakes
