"""Chapter 6's loop, checked: which times it visits, what it asks, what it makes of the answers."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from minigen.checks.compare import Answer, Wrong, expect, value_of
from minigen.checks.ddim_answers import Guess, step_noise
from minigen.diffusion import linear_betas

TIMES = [39, 29, 19, 4, 1]  # strides that differ


def _guess(asked: list[Any]) -> Guess:
    """A network's two views, which keeps the times that it was asked at."""
    def guess(x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        whole = isinstance(t, int) or (isinstance(t, Tensor) and t.numel() == 1
                                       and not t.is_floating_point())
        if not isinstance(x, Tensor) or not whole:
            raise Wrong("guess takes the noisy picture x and its time t, a whole number.")
        asked.append(int(t))
        return 0.6 * torch.sin(x), torch.cos(x) * (1 + int(t) / 40)

    return guess


def _draws() -> Callable[[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(3)
    return lambda x: torch.randn(x.shape, generator=generator, dtype=x.dtype)


def _walk(
    ab: Tensor, x: Tensor, times: Sequence[int], eta: float, last: bool = True,
    before: Callable[[int, int | None], int | None] = lambda t, s: s, first: bool = False,
    scale: Callable[[Any], Any] = lambda sigma: sigma, room: bool = True, whole: bool = False,
    roots: bool = True, back: bool = False, end: int | None = None, noise: bool = True,
) -> list[Tensor]:
    """The states of the loop, and of its variants that go wrong.

    scale: what the noise's σ is taken for; where `whole`, the σ under the root as well.
    """
    guess, draw, states = _guess([]), _draws(), [x]
    power = 0.5 if roots else 1.0
    for t, s in zip(times, [*times[1:], end], strict=True):
        if s is None and not last:
            break
        s = before(t, s)
        now, then = ab[t], torch.tensor(1.0) if s is None else ab[s]
        x0, eps = guess(x if first else states[-1], t)
        sigma = step_noise(now, then, eta)
        kept = scale(sigma) if whole else sigma
        left = (1 - then - (kept**2 if room else 0)).clamp_min(0)
        new = then**power * (states[-1] if back else x0) + left**power * eps
        drawn = noise and eta > 0 and s is not None
        states.append(new + scale(sigma) * draw(x) if drawn else new)
    return states


def check(answer: Answer) -> None:
    alpha_bar = (1 - linear_betas(40, 0.01, 0.3)).cumprod(0)
    for shape, times, eta in (((4, 3), TIMES, 0.0), ((2, 3, 2, 2), TIMES, 0.7),
                              ((3, 2), [39], 0.0), ((3, 2), list(range(39, -1, -1)), 1.0)):
        asked: list[Any] = []
        x = torch.randn(shape)
        states = _walk(alpha_bar, x, times, eta)
        mistakes = {} if len(times) == 1 else _mistakes(alpha_bar, x, times, eta)
        got = answer(_guess(asked), alpha_bar.clone(), x.clone(), list(times), eta, _draws())
        _is_a_list(got, len(times))
        if asked != list(times):
            _wrong_times(asked, list(times))
        expect(value_of(got[0]), x, "the list's first entry, xT itself,")
        what = f"the last of {len(times)} steps with η = {eta}"
        expect(value_of(got[-1]), states[-1], what, mistakes, tol=1e-3)
        for k, (mine, want) in enumerate(zip(got, states, strict=True)):
            expect(value_of(mine), want, f"the state after {k} steps", tol=1e-3)


def _is_a_list(got: Any, steps: int) -> None:
    if got is None:
        raise Wrong("Your function returned None. Is there a `return`?")
    if isinstance(got, Tensor):
        raise Wrong("Your function returned one tensor: return the list of all states, xT first, "
                    "the picture last.")
    if not isinstance(got, list) or not all(isinstance(s, Tensor) for s in got):
        raise Wrong("Return a list of tensors: xT first, the picture last.")
    if len(got) == steps:
        raise Wrong(f"{steps} steps lead from xT to the picture, so the list has {steps + 1} "
                    f"states; yours has {steps}. Does it begin with xT, and is the last step, to "
                    "the clean image, made?")
    if len(got) != steps + 1:
        raise Wrong(f"{steps} steps and the start make {steps + 1} states; yours has {len(got)}.")
    if len(got) > 1 and len({s.data_ptr() for s in got}) < len(got):
        raise Wrong("All states are one tensor, changed in place: every step makes a new one.")


def _wrong_times(asked: list[int], times: list[int]) -> None:
    if asked == times[::-1]:
        raise Wrong("You walk up the list: it falls already, and sampling begins with its first "
                    "entry.")
    if len(asked) == 2 * len(times):
        raise Wrong("guess is asked once a step: keep both of its answers, x0, eps = guess(x, t).")
    if asked and asked == [*times[1:], asked[-1]]:
        raise Wrong("guess is asked at the time where x is, t, not at the one it goes to.")
    raise Wrong(f"For the times {times} your loop asked guess at {asked[:6]}: each of the list "
                "once, in order.")


def _mistakes(ab: Tensor, x: Tensor, times: Sequence[int], eta: float) -> dict[str, Tensor]:
    ways: dict[str, dict[str, Any]] = {
        "The last step leads to the clean image, where ᾱ is 1; yours ends at the noise of t = 0.":
            dict(end=0),
        "The earlier time is the next entry of the list, not t − 1.":
            dict(before=lambda t, s: None if s is None else t - 1),
        "The earlier time is the next entry of the list: the strides differ.":
            dict(before=lambda t, s: None if t < 10 else t - 10),
        "ᾱ of the earlier time belongs into the step: you took ᾱ at t.":
            dict(before=lambda t, s: None if s is None else t),
        "Every step begins where the last one ended: you asked at xT each time.":
            dict(first=True),
        "The roots are missing: √ᾱ and √(1 − ᾱ − σ²).": dict(roots=False),
        "You used the noisy x where the guess of x0 belongs.": dict(back=True),
    }
    if eta > 0:
        ways |= {
            "σ² is missing under the root: what is drawn anew takes the place of old noise.":
                dict(room=False),
            "The new noise, σ times draw(x), is missing.": dict(noise=False),
            "The new noise is scaled by σ², not by σ.": dict(scale=lambda s: s**2),
            "σ is used where σ² belongs, and the other way round: you have σ² as σ.":
                dict(scale=lambda s: s**2, whole=True),
            "The new noise's σ has η in it.": dict(scale=lambda s: s / eta),
            "σ has η in it.": dict(scale=lambda s: s / eta, whole=True),
        }
    return {words: _walk(ab, x, times, eta, **way)[-1] for words, way in ways.items()}
