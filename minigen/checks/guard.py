"""What a learner's function must leave as it was: its arguments, modules, and torch's settings.

Every call of an answer by a check is watched. Tensors, arrays and lists that it is given (in lists,
tuples and dicts too) keep their values, modules their weights, their mode and their requires_grad,
torch its default type and its grad mode. What an optimiser holds that is given too may move. A
check that wants something changed says so: `@changes("counts")`, by the parameter's name.
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from minigen.checks.compare import Answer, Changed, Wrong

Look = Callable[[], str | None]  # looks again: what was done to a thing, or None
NEW = "work on a new tensor"
CHANGED = "Your function changed "
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")


def changes(*names: str) -> Callable[[Answer], Answer]:
    """Beside a check: parameters of its exercise whose values the answer may change in place."""
    def noted(check: Answer) -> Answer:
        check.may_change = names  # type: ignore[attr-defined]
        return check

    return noted


class Watch:
    """A learner's function, to be called in its place, and what its calls left changed."""

    def __init__(self, answer: Answer, course: Answer | None = None, free: Sequence[str] = ()):
        """course: the course's answer, whose parameters count where the learner renamed some."""
        self.answer, self.free = answer, free
        self.names, self.wanted = _parameters(answer), _parameters(course)
        self.calls = 0
        self.found: list[tuple[int, str]] = []  # (in which call, the sentence)

    def function(self) -> Answer:
        """What the check calls. A class is left as it is: nothing of it is run here."""
        if isinstance(self.answer, type):
            return self.answer

        @functools.wraps(self.answer)
        def watched(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            looks = list(self._looks(args, kwargs))
            dtype, grad = torch.get_default_dtype(), torch.is_grad_enabled()
            try:
                return self.answer(*args, **kwargs)
            finally:
                told = [look() for look in looks] + [_settings(dtype, grad)]
                self.found += [(self.calls, words) for words in told if words]

        return watched

    def _looks(self, args: tuple, kwargs: dict[str, Any]) -> Iterator[Look]:
        given = [(self._name(i), i, a) for i, a in enumerate(args)]
        given += [(key, -1, a) for key, a in kwargs.items()]
        moving = {id(p) for _, _, a in given for p in _held_by_optimisers(a)}
        for name, i, value in given:
            course = self.wanted[i] if 0 <= i < len(self.wanted) else name
            free = name in self.free or course in self.free
            yield from _looks_at(value, name, free, moving)

    def _name(self, i: int) -> str:
        for names in (self.names, self.wanted):
            if i < len(names):
                return names[i]
        return f"its {ORDINALS[i]} argument" if i < len(ORDINALS) else f"its argument {i + 1}"

    def verdict(self, wrong: Wrong | None) -> Wrong | None:
        """What the learner is told, given what the check found.

        A wrong value comes first; but one that has no name, and that may come of what an earlier
        call changed, gives way. That something was changed is said once.
        """
        found = self.found
        if isinstance(wrong, Changed):
            found = [(call, words) for call, words in found if not words.startswith(CHANGED)]
        if not found:
            return wrong
        first, sentence = found[0]
        if wrong is None or (not wrong.named and first < self.calls):
            return Wrong(sentence)
        return Wrong(f"{wrong} And: {sentence[0].lower()}{sentence[1:]}")


def _parameters(function: Any) -> list[str]:
    """The names of a function's positional parameters, as far as they have some."""
    try:
        every = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    names = []
    for p in every:
        if p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            break
        names.append(p.name)
    return names


def _settings(dtype: torch.dtype, grad: bool) -> str | None:
    """Put torch's settings back, and say which an answer left changed."""
    now = torch.get_default_dtype()
    if now != dtype:
        torch.set_default_dtype(dtype)
        return (f"Your function leaves torch's default type at {now}: give the type to the tensors "
                "that need it, dtype=….")
    if torch.is_grad_enabled() != grad:
        torch.set_grad_enabled(grad)
        return ("Your function leaves gradients switched off: with torch.no_grad(): ends with its "
                "block." if grad else "Your function leaves gradients switched on.")
    return None


def _held_by_optimisers(value: Any) -> Iterator[Tensor]:
    if isinstance(value, torch.optim.Optimizer):
        for group in value.param_groups:
            yield from group["params"]
    elif isinstance(value, list | tuple):
        for v in value:
            yield from _held_by_optimisers(v)
    elif isinstance(value, dict):
        yield from _held_by_optimisers(list(value.values()))


def _looks_at(value: Any, name: str, free: bool, moving: set[int]) -> Iterator[Look]:
    """Ways to see later what was done to one argument and to what is in it."""
    if isinstance(value, nn.Module):
        yield _module(value, name)
        if not free:
            parts = value.named_parameters(), value.named_buffers()
            trained = any(id(p) in moving for p in value.parameters())
            for key, t in [pair for part in parts for pair in part]:
                # in training, batch norm's buffers move beside the weights
                if id(t) not in moving and not (trained and not isinstance(t, nn.Parameter)):
                    yield _tensor(t, f"{key} of {name}", "a forward pass leaves weights alone")
    elif free:
        return
    elif isinstance(value, Tensor):
        if id(value) not in moving:
            yield _tensor(value, name, NEW)
    elif isinstance(value, np.ndarray):
        before = value.copy()
        yield lambda: None if np.array_equal(value, before) else _changed(name, "work on a copy")
    elif isinstance(value, list | tuple):
        yield _entries(value, name)
        for i, v in enumerate(value):
            yield from _looks_at(v, f"{name}[{i}]", False, moving)
    elif isinstance(value, dict):
        yield _entries(value, name)
        for k, v in value.items():
            yield from _looks_at(v, f"{name}[{k!r}]", False, moving)
    elif type(value).__module__.startswith("minigen."):  # such as Diffusion and its tables
        for k, v in getattr(value, "__dict__", {}).items():
            if isinstance(v, Tensor):
                yield _tensor(v, f"{name}.{k}", NEW)


def _changed(name: str, instead: str) -> str:
    return f"{CHANGED}{name}, which it was given: {instead}."


def _tensor(t: Tensor, name: str, instead: str) -> Look:
    before, learns = t.detach().clone(), t.requires_grad

    def look() -> str | None:
        now = t.detach()
        if now.shape != before.shape or now.dtype != before.dtype:
            return _changed(name, instead)
        same = (now == before) | ((now != now) & (before != before))  # NaN stays NaN
        if not bool(same.all()):
            return _changed(name, instead)
        if t.requires_grad != learns and t.is_leaf:
            return (f"Your function leaves requires_grad={t.requires_grad} on {name}, which was "
                    f"given with {learns}.")
        return None

    return look


def _module(module: nn.Module, name: str) -> Look:
    modes = {key: m.training for key, m in module.named_modules()}
    flags = {key: p.requires_grad for key, p in module.named_parameters()}

    def look() -> str | None:
        now = {key: m.training for key, m in module.named_modules()}
        if other := [key for key in modes if now.get(key) != modes[key]]:
            was, left = ("train", "eval") if modes[other[0]] else ("eval", "train")
            whole = name if "" in other else f"{other[0]} of {name}"
            return (f"Your function leaves {whole} in {left} mode; it came in {was} mode: put it "
                    "back before you return.")
        for key, p in module.named_parameters():
            if key in flags and p.requires_grad != flags[key]:
                return (f"Your function leaves requires_grad={p.requires_grad} on the weights of "
                        f"{name}: give them back as they came, {flags[key]}.")
        return None

    return look


def _entries(value: list | tuple | dict, name: str) -> Look:
    def listed() -> list[Any]:
        if isinstance(value, dict):
            return [part for pair in value.items() for part in pair]
        return list(value)

    def same(a: Any, b: Any) -> bool:
        return a is b or (isinstance(a, int | float | str) and isinstance(b, int | float | str)
                          and a == b)

    before = listed()

    def look() -> str | None:
        now = listed()
        if len(now) == len(before) and all(map(same, now, before)):
            return None
        return _changed(name, f"make a new {type(value).__name__}")

    return look
