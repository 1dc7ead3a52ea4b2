"""Chapter 8's batch in parts, checked: the whole batch's gradient, and never more than a part."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigen.checks.compare import Answer, Wrong, value_of

# (images, the most that the network may have at once)
CASES = ((10, 4), (6, 3), (5, 8), (7, 2))
Loss = Callable[[Tensor, Tensor], Tensor]


def in_parts(net: nn.Module, loss_of: Loss, x: Tensor, y: Tensor, size: int) -> float:
    """The course's answer: the gradient of the whole batch's loss, and that loss."""
    net.zero_grad()
    total = 0.0
    for part, wanted in zip(x.split(size), y.split(size), strict=True):
        loss = loss_of(net(part), wanted) * (len(part) / len(x))
        loss.backward()
        total += loss.item()
    return total


class _Network(nn.Module):
    """A small network that notes every pass through it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
        self.seen: list[int] = []                         # images of each forward pass
        self.open = self.most_open = 0                    # passes that wait for their backward

    def forward(self, x: Tensor) -> Tensor:
        out = self.body(x)
        self.seen.append(len(x))
        if out.requires_grad:
            self.open += 1
            self.most_open = max(self.open, self.most_open)
            out.register_hook(self._closed)
        return out

    def _closed(self, _: Tensor) -> None:
        self.open -= 1


class _After(NamedTuple):
    """What a way of doing it leaves: all gradients as one row, and the loss."""

    gradient: Tensor
    loss: float


def _world(n: int) -> tuple[_Network, Tensor, Tensor]:
    """Network and batch, the same for the same n; gradients of a step before are still there."""
    generator = torch.Generator().manual_seed(n)
    net = _Network()
    for p in net.parameters():
        with torch.no_grad():
            p.copy_(torch.randn(p.shape, generator=generator))
        p.grad = torch.randn(p.shape, generator=generator)
    return net, torch.randn(n, 5, generator=generator), torch.randn(n, 3, generator=generator)


def _loss_of(out: Tensor, y: Tensor) -> Tensor:
    if len(out) != len(y):
        raise Wrong(f"loss_of got {len(out)} outputs and {len(y)} entries of y: cut x and y into "
                    "the same parts.")
    return F.mse_loss(out, y)


def _row(net: nn.Module) -> Tensor:
    grads = [p.grad for p in net.parameters()]
    if any(g is None for g in grads):
        return torch.zeros(sum(p.numel() for p in net.parameters()))
    return torch.cat([g.flatten() for g in grads if g is not None])


def _done(n: int, size: int, weight: str = "share", clear: str = "once", whole: bool = True
          ) -> _After:
    """The same with what people get wrong in it."""
    net, x, y = _world(n)
    parts = [(a, b) for a, b in zip(x.split(size), y.split(size), strict=True)
             if whole or len(a) == size]
    total = 0.0
    if clear == "once":
        net.zero_grad()
    for a, b in parts:
        weights = {"share": len(a) / n, "one": 1.0, "equal": 1 / len(parts),
                   "length": float(len(a)), "size": len(a) / size, "square": 1 / n}
        if clear == "each":
            net.zero_grad()
        loss = _loss_of(net(a), b) * weights[weight]
        loss.backward()
        total += loss.item()
    if clear == "late":
        net.zero_grad()
    return _After(_row(net), total)


WRONG: dict[str, dict[str, Any]] = {
    ("Every part counts alike in yours, but the last one is smaller: a part counts by its share "
     "of the images."): dict(weight="equal"),
    ("The parts' gradients are added up without weights: each part's loss is a mean over its own "
     "images, and the sum is too large."): dict(weight="one"),
    "Weights are shares: the number of images in the part, divided by that of the whole batch.":
        dict(weight="length"),
    "A part's share is of the whole batch, not of `size`.": dict(weight="size"),
    ("Each part's loss is a mean already: dividing it by the number of all images counts one "
     "image of the part."): dict(weight="square"),
    ("Only the last part's gradient is left: zero_grad stands once before the loop, and backward "
     "adds up."): dict(clear="each"),
    "Gradients of the step before are still in there: zero_grad comes first.": dict(clear="never"),
    "The gradients are 0 at the end: zero_grad comes before the first part, not after the last.":
        dict(clear="late"),
    "The images of the last, smaller part are left out.": dict(whole=False),
}


def _run(answer: Answer, n: int, size: int) -> _After:
    net, x, y = _world(n)
    untouched = _row(net)
    try:
        got = answer(net, _loss_of, x, y, size)
    except RuntimeError as e:
        if "second time" not in str(e):
            raise
        raise Wrong("A part went backward twice: call backward on the part's own loss, not on a "
                    "running total.") from None
    when = f"For {n} images, {size} at a time,"
    if got is None:
        raise Wrong("Your function returned None; the loss of the whole batch is wanted.")
    if isinstance(got, Tensor) and got.requires_grad:
        raise Wrong("Return a number, .item(): a tensor would keep the part's graph alive.")
    try:
        loss = float(value_of(got))
    except (TypeError, ValueError, RuntimeError):
        raise Wrong(f"Your function returned a {type(got).__name__}; one number, the loss of the "
                    "whole batch, is wanted.") from None
    if not net.seen:
        raise Wrong("The network was never called: net(part).")
    if max(net.seen) > size:
        raise Wrong(f"{when} the network had {max(net.seen)} at once: there is no room for more "
                    f"than {size}.")
    if net.most_open == 0:
        raise Wrong("The network was called without gradients: take no_grad or detach away.")
    if net.open == len(net.seen):
        raise Wrong("No gradient came: .backward() is missing.")
    if torch.equal(_row(net), untouched):
        raise Wrong("The gradients are still those of the step before: .grad of each weight is "
                    "where they belong.")
    if net.most_open > 1:
        raise Wrong(f"{when} {net.most_open} parts waited for their backward at the same time, as "
                    "much memory as one batch takes: go backward in each part, before the next.")
    return _After(_row(net), loss)


def _same(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-4, atol=1e-6)


def check(answer: Answer) -> None:
    for n, size in CASES:
        got, want = _run(answer, n, size), _done(n, size)
        ways = {meaning: _done(n, size, **how) for meaning, how in WRONG.items()}
        when = f"For {n} images, {size} at a time,"
        if not _same(got.gradient, want.gradient):
            for meaning, way in ways.items():
                if _same(got.gradient, way.gradient) and not _same(way.gradient, want.gradient):
                    raise Wrong(meaning)
            raise Wrong(f"{when} the gradient is not that of the loss of the whole batch.",
                        named=False)
        if abs(got.loss - want.loss) > 1e-4 * abs(want.loss):
            means = _done(n, size, weight="one").loss
            equal = _done(n, size, weight="equal").loss
            if abs(got.loss - means) < 1e-4 * means:
                raise Wrong("The gradient is right, but you returned the sum of the parts' means: "
                            "add what went backward.")
            if abs(got.loss - equal) < 1e-4 * equal:
                raise Wrong("The gradient is right, but you returned the plain mean over the "
                            "parts, and the last is smaller: add what went backward.")
            raise Wrong(f"{when} the gradient is right, but the loss of the whole batch is "
                        f"{want.loss:.4g}; you returned {got.loss:.4g}.", named=False)
