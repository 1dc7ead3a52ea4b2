"""What can be passed wrongly, told in one sentence: the thing, the wanted, what came, the way out.

Each function raises a ValueError or answers with the checked value. They import nothing but torch.
Values are looked at only where that is cheap, and never while torch.compile traces.
"""

import math
import numbers
from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

BYTES = "bytes become floats in [-1, 1] by minigen.data.from_uint8(x), x / 127.5 - 1"
LARGEST = 2.0  # in a network's images: room for some noise added to [-1, 1], none for bytes
Shape = Sequence[Any]  # numbers, letters for any, ... for the rest


def described(x: object) -> str:
    """What was passed, in few words."""
    if isinstance(x, torch.Tensor):
        return f"a tensor of shape {tuple(x.shape)}"
    plain = x is None or isinstance(x, bool | int | float | str | list | tuple | dict)
    return repr(x) if plain and len(repr(x)) < 50 else type(x).__name__


def refuse(name: str, wanted: str, got: object, way_out: str = "") -> NoReturn:
    """Raise the sentence."""
    raise ValueError(f"{name} must be {wanted}; got {got}{way_out and ': '}{way_out}")


def is_whole(x: object) -> bool:
    """Whether x is an integer, Python's or numpy's; True and 3.0 are not."""
    return isinstance(x, numbers.Integral) and not isinstance(x, bool)


def is_number(x: Any) -> bool:
    """Whether x is one finite real number, or a tensor of one."""
    single = isinstance(x, torch.Tensor) and x.numel() == 1 and not x.is_complex()
    return (single or isinstance(x, numbers.Real)) and math.isfinite(x)


def whole(x: Any, name: str, least: int = 1, most: float = math.inf) -> int:
    """x as an int from `least` to `most`."""
    if not is_whole(x) or not least <= x <= most:
        bound = f"at least {least}" if most == math.inf else f"{least} to {most}"
        refuse(name, f"a whole number, {bound}", described(x))
    return int(x)


def wholes(least: int = 1, **values: Any) -> None:
    """Sizes, widths, depths by name, each at least `least`."""
    for name, x in values.items():
        whole(x, name, least)


def number(
    x: Any, name: str, least: float = -math.inf, most: float = math.inf, positive: bool = False
) -> float:
    """x, a finite number within its bounds."""
    if not is_number(x) or not least <= x <= most or (positive and x <= 0):
        bound = f", at least {least}" if most == math.inf else f", {least} to {most}"
        wanted = "a finite number" + (bound if least > -math.inf else "")
        refuse(name, "positive and finite" if positive else wanted, described(x))
    return x


def tensor(
    x: Any, name: str, shape: Shape | None = None, integers: bool = False, like: Any = None
) -> Tensor:
    """x, a tensor of floats (or integers) of a shape: numbers, letters for any, … for the rest.

    like: a weight of the network, whose device and (outside autocast) type x must have.
    """
    kind = "integers" if integers else "floating point"
    if not isinstance(x, torch.Tensor):
        refuse(name, f"a tensor, {kind}", described(x), "torch.as_tensor makes one")
    other = x.is_complex() or x.dtype == torch.bool
    if x.is_floating_point() == integers or (integers and other):
        way_out = "x.long()" if integers else f"{BYTES}; others by x.float()"
        refuse(name, kind, str(x.dtype), way_out)
    if shape is not None and not _fits(x.shape, shape):
        batch = shape[-1:] != (...,) and _fits((1, *x.shape), shape)
        way_out = "x[None] makes a batch of one" if batch else ""
        if x.ndim == len(shape) == 4 and x.shape[1] == shape[1] == 3:
            way_out = f"torch.nn.functional.interpolate(x, {shape[2]}) changes the shape"
        want = ", ".join("…" if s is ... else str(s) for s in shape)
        refuse(name, f"({want})", str(tuple(x.shape)), way_out)
    if like is not None and x.device != like.device:
        refuse(name, f"on {like.device}, as the network is", str(x.device))
    if like is not None and x.dtype != like.dtype and not torch.is_autocast_enabled(x.device.type):
        refuse(name, f"{like.dtype}, as the weights are", str(x.dtype), f"x.to({like.dtype})")
    return x


def _fits(got: Sequence[int], shape: Shape) -> bool:
    if shape and shape[-1] is ...:
        got, shape = got[: len(shape) - 1], shape[:-1]
    pairs = zip(got, shape, strict=False)
    return len(got) == len(shape) and not [n for n, s in pairs if n != s and not isinstance(s, str)]


def _seen(x: Tensor) -> bool:
    """Whether x has values to look at, here and now; while a CUDA graph is recorded it has none."""
    recorded = x.is_cuda and torch.cuda.is_current_stream_capturing()
    return not (torch.compiler.is_compiling() or x.is_meta or recorded) and x.numel() > 0


def images(
    x: Any, shape: Shape = ("B", 3, "H", "W"), name: str = "images", largest: float = LARGEST,
    like: Any = None,
) -> Tensor:
    """x, clean images in [-1, 1], none beyond ±largest; NaN passes, which training tells itself."""
    if _seen(tensor(x, name, shape, like=like)):
        low, high = x.detach().min(), x.detach().max()
        if low < -largest or high > largest:
            reach = f"these reach from {low:.2f} to {high:.2f}"
            raise ValueError(f"{name} must lie in [-1, 1]; {reach} ({BYTES})")
    return x


def in_range(x: Tensor, low: float, high: float, name: str, wanted: str | None = None) -> Tensor:
    """x, a tensor with every value from `low` to `high`."""
    if _seen(x):
        least, most = x.detach().min().item(), x.detach().max().item()
        if not (low <= least and most <= high):
            refuse(name, wanted or f"{low} to {high}", f"{least} to {most}")
    return x


def alike(a: Any, b: Any, name: str, other: str) -> None:
    """Two tensors of floats of one shape; two shapes would broadcast, unseen."""
    if tensor(a, name).shape != tensor(b, other).shape:
        shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
        raise ValueError(f"{name} and {other} differ in shape: {shapes}")


def labels(
    y: Any, count: int, classes: int | None = None, null: bool = False, what: str = "images"
) -> Tensor:
    """y (count,) as int64: 0 … classes − 1, where `null` also `classes`, which stands for none."""
    if not isinstance(y, torch.Tensor) or tuple(y.shape) != (count,):
        no_tensor = f"{described(y)}, no tensor (torch.tensor)"
        got = tuple(y.shape) if isinstance(y, torch.Tensor) else no_tensor
        raise ValueError(f"one label for each of the {count} {what} is wanted; got {got}")
    tensor(y, "labels", integers=True)
    if classes is not None:
        wanted = f"0 to {classes - 1}" + (f", or {classes} for none" if null else "")
        in_range(y, 0, classes - 1 + null, "labels", wanted)
    return y.long()


def times(t: Any, count: int | None = None, T: int | None = None) -> Tensor:
    """Time steps t (count,) or (1,): integers 0 … T − 1, or for a network numbers 0 to 9,999."""
    rows = len(t) if isinstance(t, torch.Tensor) and t.ndim == 1 else -1
    if rows not in (1, max(rows, 0) if count is None else count):
        wanted = f"a tensor of shape ({'B' if count is None else count},) or (1,)"
        refuse("time steps t", wanted, described(t), "torch.tensor([t]) is one step for all")
    if T is None and not (t.is_complex() or t.dtype == torch.bool):
        return in_range(t, 0, 9_999, "time steps")
    tensor(t, "time steps", integers=True)
    return in_range(t, 0, (T or 10_000) - 1, "time steps").long()
