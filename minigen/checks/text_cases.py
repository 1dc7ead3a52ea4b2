"""Excursion 2's checks share this: answers in numbers held against mistakes, and gradients.

In one case several mistakes may give the same share or loss; only one gives it in them all.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from minigen.checks.compare import Answer, Wrong, expect, value_of

Mistakes = Sequence[tuple[str, Answer]]  # (the sentence, what is computed in place of the answer)
Values = Sequence[tuple[str, Sequence]]  # (the sentence, what the mistake gives in each case)


def judge(
    answer: Answer, cases: Sequence[tuple], course: Answer, mistakes: Mistakes,
    told: Callable[..., str]
) -> None:
    """Raise `Wrong` unless an answer is right in every case.

    Where a mistake gives the answer's value in all of them, its sentence is the one that is told.
    told: a case in words.
    """
    wanted = [course(*case) for case in cases]
    got = [value_of(answer(*case)) for case in cases]
    values = [(words, [mistake(*case) for case in cases]) for words, mistake in mistakes]
    agree(got, wanted, values, [told(*case) for case in cases])


def agree(got: Sequence, wanted: Sequence, mistakes: Values, told: Sequence[str]) -> None:
    """The same of values: what an answer gave in each case, what was wanted, each case in words."""
    if not all(map(alike, got, wanted)):
        for words, values in mistakes:
            if all(map(alike, got, values)):
                raise Wrong(words)
        _another_number(got, wanted, told)
    for mine, want, given in zip(got, wanted, told, strict=True):
        expect(mine, want, given)


def _another_number(got: Sequence, wanted: Sequence, told: Sequence[str]) -> None:
    """Raise `Wrong` with a number that is wrong, unless all are by one factor, which is told."""
    try:
        mine, want = (torch.tensor([float(v) for v in values]) for values in (got, wanted))
    except (TypeError, ValueError, RuntimeError):
        return
    factors = mine / want
    if not bool(factors.isfinite().all()) or bool((factors - factors[0]).abs().max() < 1e-3):
        return
    for a, b, given in zip(mine.tolist(), want.tolist(), told, strict=True):
        if not alike(a, b):
            raise Wrong(f"For {given} the value is {a:.4g}; {b:.4g} is wanted.", named=False)


def by_sentence(found: Sequence[Mapping[str, Any]]) -> Values:
    """What mistakes give in each case, from a dict a case, as one list for each mistake."""
    return [(words, [case[words] for case in found]) for words in found[0]]


def alike(a: Any, b: Any) -> bool:
    """Whether two values, numbers or tensors, are the same; NaN is like NaN."""
    try:
        x, y = (torch.as_tensor(v, dtype=torch.float64) for v in (a, b))
    except (TypeError, ValueError, RuntimeError):
        return False
    if x.numel() == y.numel() == 1:
        x, y = x.flatten(), y.flatten()
    return x.shape == y.shape and torch.allclose(x, y, rtol=1e-4, atol=1e-4, equal_nan=True)


def same_gradients(answer: Answer, course: Answer, given: Mapping[str, Any]) -> None:
    """Raise `Wrong` unless an answer sends the gradients that it should to what it is given.

    given: {what: argument}, in the order of the parameters; tensors of floats are asked.
    """
    leaves = {name: value.detach().clone().requires_grad_() for name, value in given.items()
              if isinstance(value, Tensor) and value.is_floating_point()}
    args = [leaves.get(name, value) for name, value in given.items()]
    got, want = answer(*args), course(*args)
    if not isinstance(got, Tensor) or not got.requires_grad:
        raise Wrong("The value is right, but no gradient comes back: no detach, no .item(), no "
                    "numpy on the way.")
    along = torch.randn_like(want)
    for name, leaf in leaves.items():
        mine, right = (torch.autograd.grad((value * along).sum(), leaf, retain_graph=True,
                                           allow_unused=True, materialize_grads=True)[0]
                       for value in (got, want))
        if not torch.allclose(mine, right, rtol=1e-3, atol=1e-5):
            raise Wrong(f"The value is right, but not the gradient that reaches the {name}: "
                        "something on its way is detached.")
