"""Comparing an answer with the right value, and naming the mistake that people often make."""

import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Answer = Callable[..., Any]  # a learner's function


class Wrong(Exception):
    """An answer is wrong; the message says how.

    named: whether it names the mistake, and not merely says that two values differ.
    """

    def __init__(self, message: str, named: bool = True):
        super().__init__(message)
        self.named = named


class Changed(Wrong):
    """An answer changed what it was given."""


def value_of(got: Any) -> Any:
    """What an answer returned, without its graph where it is a tensor."""
    return got.detach() if isinstance(got, Tensor) else got


def _close(a: Tensor, b: Tensor, tol: float) -> bool:
    return torch.allclose(a.double(), b.double(), rtol=tol, atol=tol, equal_nan=False)


def _is_number(x: object) -> bool:
    real = isinstance(x, numbers.Number) and not isinstance(x, complex)
    return real or (hasattr(x, "item") and getattr(x, "size", 0) == 1)


def expect(
    got: Any,
    want: Tensor | float,
    given: str,
    mistakes: Mapping[str, Tensor] | None = None,
    tol: float = 1e-4,
) -> None:
    """Raise `Wrong` with the most helpful sentence unless `got` equals `want`.

    given: what the function was called with, in words; mistakes: {what it means: the value that
    mistake gives}. The named mistakes are looked for first, then shape and type, then sign and
    factor, then the values.
    """
    if got is None:
        raise Wrong("Your function returned None. Is there a `return`?")
    if isinstance(want, torch.Tensor):
        if want.ndim == 0 and _is_number(got):
            got = torch.as_tensor(float(got), dtype=torch.float64)
        if not isinstance(got, torch.Tensor):
            raise Wrong(f"Your function returned a {type(got).__name__}; a tensor of shape "
                        f"{tuple(want.shape)} is wanted.")
    else:
        if isinstance(got, torch.Tensor) and got.numel() != 1:
            raise Wrong(f"Your function returned a tensor of shape {tuple(got.shape)}; one number "
                        "is wanted.")
        if not isinstance(got, torch.Tensor) and not _is_number(got):
            raise Wrong(f"Your function returned a {type(got).__name__}; one number is wanted.")
        got = torch.as_tensor(float(got), dtype=torch.float64)
        want = torch.as_tensor(want, dtype=torch.float64)
    for meaning, value in (mistakes or {}).items():
        if got.shape == value.shape and _close(got, value, tol) and not (
                got.shape == want.shape and _close(got, want, tol)):
            raise Wrong(meaning)
    if got.shape != want.shape:
        hint = ""
        if want.ndim == 0:
            hint = " Is a mean missing?"
        elif got.ndim and sorted(got.shape) == sorted(want.shape):
            hint = " Are two axes swapped?"
        shapes = f"{tuple(got.shape)}; {tuple(want.shape)} is wanted"
        raise Wrong(f"For {given} the shape is {shapes}.{hint}")
    if want.is_floating_point() and not got.is_floating_point():
        raise Wrong(f"The type is {got.dtype}; {want.dtype} is wanted.")
    if not want.is_floating_point() and got.is_floating_point():
        raise Wrong(f"The type is {got.dtype}; {want.dtype} is wanted: a conversion, "
                    f".to({want.dtype}), is missing.")
    if not torch.isfinite(got.double()).all():
        raise Wrong(f"For {given} the result holds NaN or infinity.", named=False)
    if _close(got, want, tol):
        return
    if _close(got, -want, tol):
        raise Wrong(f"For {given} the sign is the wrong way round.", named=False)
    scale = (got.double() * want.double()).sum() / want.double().square().sum().clamp_min(1e-30)
    if abs(scale) > 1e-6 and _close(got, scale * want.double(), tol):
        raise Wrong(f"For {given} the result is {float(scale):.3g} times what is wanted.",
                    named=False)
    worst = (got.double() - want.double()).abs().flatten().argmax()
    raise Wrong(f"For {given} the value is {float(got.flatten()[worst]):.4g}; "
                f"{float(want.flatten()[worst]):.4g} is wanted.", named=False)


def unchanged(given: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Raise `Wrong` where an answer changed what it was given: {what: (now, before)}."""
    for name, (now, before) in given.items():
        if not torch.equal(now, before):
            raise Changed(f"Your function changed the {name} it was given: work on a new tensor.")


def require_gradient(got: Any, leaves: Sequence[Tensor], names: Sequence[str]) -> None:
    """Raise `Wrong` unless a gradient reaches each of the leaves through the answer, a tensor."""
    if not isinstance(got, torch.Tensor) or not got.requires_grad:
        raise Wrong("The value is right, but no gradient comes back: no detach, no .item(), no "
                    "numpy on the way.")
    slopes = torch.autograd.grad(got.sum(), leaves, retain_graph=True, allow_unused=True)
    for slope, name in zip(slopes, names, strict=True):
        if slope is None or torch.count_nonzero(slope) == 0:
            raise Wrong(f"The value is right, but no gradient reaches the {name}: something on its "
                        "way is detached.")


def require_gradients(
    answer: Answer, given: Mapping[str, Any], learns: Sequence[str] | None = None
) -> None:
    """Call an answer whose value was right with leaves: a gradient must come back through it.

    given: {what: argument}, in the order of the parameters; learns: those that a gradient has to
    reach (default: every tensor of floats among them). So a loss that is a plain number, or that
    is detached somewhere on the way, does not pass:

        expect(value_of(answer(x, y)), want, ...)
        require_gradients(answer, {"first logits": x, "second logits": y})
    """
    if learns is None:
        learns = [k for k, v in given.items() if isinstance(v, Tensor) and v.is_floating_point()]
    mine = {k: v.detach().clone().requires_grad_() if k in learns else v for k, v in given.items()}
    require_gradient(answer(*mine.values()), [mine[k] for k in learns], learns)
