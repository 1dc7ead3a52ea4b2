"""Excursion 1's samplers, checked step by step: when and where they ask, and where they go."""

from typing import Any

import torch
from torch import Tensor

from minigen.checks.compare import Answer, Wrong, expect, value_of
from minigen.checks.flows_paths import same

# in one step some mistakes do not show, so it is not the first
CASES = (((5, 2), torch.float32, 4), ((2, 3, 4, 4), torch.float64, 3), ((3, 2), torch.float32, 1),
         ((4, 2), torch.float64, 10))


class _Velocity:
    """A velocity that depends on place and time, and keeps the questions it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Tensor, float]] = []

    def __call__(self, x: Tensor, t: Any) -> Tensor:
        one = t.numel() == 1 if isinstance(t, Tensor) else isinstance(t, int | float)
        if not isinstance(x, Tensor) or not one:
            raise Wrong("velocity takes a place x, a tensor, and a time t, one number: "
                        "velocity(x, t).")
        self.asked.append((x.detach().clone(), float(t)))
        return _flow(x, float(t))


def _flow(x: Tensor, t: float) -> Tensor:
    return 0.8 * torch.cos(1.3 * x + t) + (0.5 + t) ** 2


def euler(answer: Answer) -> None:
    for shape, dtype, steps in CASES:
        velocity, x1 = _Velocity(), torch.randn(shape, dtype=dtype)
        start = x1.clone()
        got = answer(velocity, x1, steps)
        _is_a_list(got, start, steps)
        if len(velocity.asked) != steps:
            raise Wrong(f"Euler's method asks once a step, so {steps} times in {steps} steps; "
                        f"yours asked {len(velocity.asked)} times.")
        _times([t for _, t in velocity.asked], steps)
        for i, (x, _) in enumerate(velocity.asked):
            here, t = value_of(got[i]), 1 - i / steps
            _asked_here(x, here, start, i)
            v = _flow(here, t)
            mistakes = {} if steps == 1 else _wrong_moves(here, v, t, steps)
            if i:
                mistakes["Every step begins where the last one ended: yours begin at x1."] = (
                    start - v / steps)
            expect(value_of(got[i + 1]), here - v / steps, _what(i, steps), mistakes, _tol(dtype))


def heun(answer: Answer) -> None:
    for shape, dtype, steps in CASES:
        velocity, x1 = _Velocity(), torch.randn(shape, dtype=dtype)
        start = x1.clone()
        got = answer(velocity, x1, steps)
        _is_a_list(got, start, steps)
        _asked_twice(len(velocity.asked), steps)
        first, second = velocity.asked[::2], velocity.asked[1::2]
        _times([t for _, t in first], steps, "first ")
        _second_times([t for _, t in second], steps)
        for i in range(steps):
            here, t, s = value_of(got[i]), 1 - i / steps, 1 - (i + 1) / steps
            _asked_here(first[i][0], here, start, i)
            v = _flow(here, t)
            end = here - v / steps
            _asked_there(second[i][0], here, v, start, steps)
            there = _flow(end, s)
            want = here - (v + there) / 2 / steps
            mistakes = {}
            if steps > 1:
                mistakes = (_wrong_means(here, v, there, steps)
                            | _wrong_moves(here, (v + there) / 2, t, steps))
            if i:
                mistakes["Every step begins where the last one ended: yours begin at x1."] = (
                    start - (v + there) / 2 / steps)
            expect(value_of(got[i + 1]), want, _what(i, steps), mistakes, _tol(dtype))


def _what(i: int, steps: int) -> str:
    return f"step {i + 1} of {steps}, from state {i} of the list to the next,"


def _tol(dtype: torch.dtype) -> float:
    return 1e-6 if dtype == torch.float64 else 1e-4   # times may be of torch.linspace, in float32


def _is_a_list(got: Any, start: Tensor, steps: int) -> None:
    if got is None:
        raise Wrong("Your function returned None. Is there a `return`?")
    if isinstance(got, Tensor):
        raise Wrong("Your function returned one tensor: return the list of all states, x1 first.")
    if not isinstance(got, list) or not all(isinstance(x, Tensor) for x in got):
        raise Wrong("Return a list of tensors: x1 first, the data last.")
    if len(got) == steps:
        raise Wrong(f"{steps} steps make {steps + 1} states, x1 among them; yours are {steps}. "
                    "Does the list begin with x1, and is the last step in it?")
    if len(got) != steps + 1:
        raise Wrong(f"x1 and {steps} steps make {steps + 1} states; yours are {len(got)}.")
    if len({x.data_ptr() for x in got}) < len(got):
        raise Wrong("Several states are one and the same tensor, either unmoved or changed in "
                    "place: every step makes a new one.")
    for x in got:
        if x.dtype != start.dtype:
            raise Wrong(f"A state has the type {x.dtype}; x1 has {start.dtype}: keep it.")
    if not same(got[0], start):
        if same(got[-1], start):
            raise Wrong("The list is the wrong way round: x1 first, the data last.")
        raise Wrong("The list's first state is not x1 as it was given.")


def _times(asked: list[float], steps: int, which: str = "") -> None:
    """Raise `Wrong` unless each step's (first) question was asked where it begins."""
    want = [1 - i / steps for i in range(steps)]
    if _alike(asked, want):
        return
    if max(asked) > 1.001 or min(asked) < -0.001:
        raise Wrong(f"velocity takes times in [0, 1]; yours asked at t = {asked[0]:.4g} first, and "
                    f"at {asked[-1]:.4g} last.")
    gaps = max(1, steps - 1)
    for words, value in {
        "Your times rise, beginning at 0: t falls from 1 to 0.": [1 - t for t in want],
        "Your times rise: t falls from 1 to 0.": want[::-1],
        "You asked at the end of each step: ask where you stand, at t = 1 − i / steps.":
            [t - 1 / steps for t in want],
        "You asked in the middle of each step: ask where you stand, at t = 1 − i / steps.":
            [t - 0.5 / steps for t in want],
        ("Your times reach 0, where the last step ends: it begins one step before, so there are "
         "`steps` gaps from 1 to 0, not steps − 1."): [1 - i / gaps for i in range(steps)],
        "You asked at t = 1 every time: t falls by 1 / steps a step.": [1.0] * steps,
        "You asked at t = 0 every time: t falls from 1 by 1 / steps a step.": [0.0] * steps,
    }.items():
        if _alike(asked, value):
            raise Wrong(words)
    raise Wrong(f"In {steps} steps the {which}questions are asked at t = {_listed(want)}; yours at "
                f"{_listed(asked)}.")


def _second_times(asked: list[float], steps: int) -> None:
    want = [1 - (i + 1) / steps for i in range(steps)]
    if _alike(asked, want):
        return
    for words, shift in {
        "The second question is asked at the end of the step; you asked at its beginning again.": 1,
        "The second question is asked at the end of the step; you asked in its middle.": 0.5,
        "The second question is asked at the end of the step; you asked one step later.": -1,
        "The second question is asked at the end of the step, a smaller t; yours was larger.": 2,
    }.items():
        if _alike(asked, [t + shift / steps for t in want]):
            raise Wrong(words)
    raise Wrong(f"In {steps} steps the second questions are asked at t = {_listed(want)}; yours at "
                f"{_listed(asked)}.")


def _alike(a: list[float], b: list[float]) -> bool:
    return len(a) == len(b) and all(abs(p - q) < 1e-5 for p, q in zip(a, b, strict=True))


def _listed(times: list[float]) -> str:
    return ", ".join(f"{t:.3g}" for t in times[:4]) + (" …" if len(times) > 4 else "")


def _asked_twice(n: int, steps: int) -> None:
    if n == 2 * steps:
        return
    told = (f"Heun's method asks twice a step, so {2 * steps} times in {steps} steps; yours asked "
            f"{n} times.")
    if n == steps:
        told += " One question a step is Euler's."
    if n == 2 * steps - 1:
        told += " Here there is a velocity at t = 0 too: the last step is like the others."
    raise Wrong(told)


def _asked_here(x: Tensor, here: Tensor, start: Tensor, i: int) -> None:
    if same(x, here):
        return
    if i and same(x, start):
        raise Wrong("You asked at x1 in every step: ask where the last step ended.")
    raise Wrong(f"In step {i + 1} you asked at another place than the list's state {i}, where you "
                "stand.")


def _asked_there(x: Tensor, here: Tensor, v: Tensor, start: Tensor, steps: int) -> None:
    """Raise `Wrong` unless the second question was asked where Euler's step ends."""
    end = here - v / steps
    if same(x, end):
        return
    for words, place in {
        ("The second question is asked where Euler would take you; you asked again where you "
         "stand."): here,
        "The second question is asked at the end of Euler's step, here − v / steps: you added.":
            here + v / steps,
        "The way to the second question is v / steps: you went all of v.": here - v,
        "The second question is asked at the end of Euler's step: you went half of it.":
            here - v / 2 / steps,
        "The second question is asked where Euler would take you; you asked at x1.": start,
    }.items():
        if same(x, place):
            raise Wrong(words)
    raise Wrong("The second question was not asked where Euler's step ends, here − v / steps.")


def _wrong_moves(here: Tensor, v: Tensor, t: float, steps: int) -> dict[str, Tensor]:
    """Where a step ends that goes wrong with the right velocity; of Heun, with the right mean."""
    mistakes = {
        "You walk from t = 1 to 0, against the velocity: x − v / steps. You added.":
            here + v / steps,
        "A step is 1 / steps long: the division is missing.": here - v,
        "A step is 1 / steps long, and against the velocity: both are missing.": here + v,
        "You multiplied by steps: a step is 1 / steps long.": here - v * steps,
        "There are `steps` steps: you divided by steps + 1.": here - v / (steps + 1),
        "There are `steps` steps: you divided by steps − 1.": here - v / max(1, steps - 1),
        "x is missing: the step is taken off it.": -v / steps,
        "That is v / steps, the way: take it off x.": v / steps,
        "That is the velocity: go from x against it, x − v / steps.": v,
        "Only v is divided by steps: you divided x as well.": (here - v) / steps,
        "Nothing has moved: a state equals the one before.": here,
    }
    if 0.5 < t < 1:                        # at one half it is as if a ½ were there too many
        mistakes["A step is 1 / steps long at all times: you multiplied by t."] = (
            here - t * v / steps)
    return mistakes


def _wrong_means(here: Tensor, v: Tensor, there: Tensor, steps: int) -> dict[str, Tensor]:
    """Where a step ends that makes the wrong thing of two right velocities."""
    end = here - v / steps
    mean = (v + there) / 2
    return {
        ("You went twice as far as the mean of the two velocities: either the ½ is missing, or you "
         "began the second move where Euler's ends."): here - (v + there) / steps,
        "That is Euler's step: the second velocity is not used.": end,
        "Go with the mean of the two velocities: you took the second alone.":
            here - there / steps,
        "Begin again where you stood: you went with the mean from the end of Euler's step.":
            end - mean / steps,
        "Average the two velocities: you averaged the two places.": (here + end) / 2,
        "The mean of the two velocities is half their sum: you took the difference.":
            here - (v - there) / 2 / steps,
        ("The ½ belongs to both velocities: you halved the second alone, either for want of "
         "brackets, or by averaging the ends of two moves in a row."):
            here - (v + there / 2) / steps,
        "The ½ belongs to both velocities: you halved the first alone.":
            here - (v / 2 + there) / steps,
        "Brackets: all of (v + there) / 2 is divided by steps.": here - v - there / 2 / steps,
        "The mean of the two velocities is wanted: you multiplied them.":
            here - v * there / steps,
        "The ½ is there twice: (v + there) / 2.": here - (v + there) / 4 / steps,
    }
