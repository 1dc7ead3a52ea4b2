"""Excursion 1's coupling layer, checked: what its network sees, and what becomes of the answer."""

from typing import Any

import torch
from torch import Tensor, nn

from minigen.checks import flows_answers as right
from minigen.checks.compare import Answer, Wrong, expect, value_of
from minigen.checks.flows_paths import same

# in the first there are as many rows as numbers, where a wrong axis fits too; of two numbers only
# one moves, and some mistakes cannot be told apart
CASES = ((5, (1, 0, 0, 1, 0)), (4, (0, 1)), (3, (1, 0)), (1, (0, 1, 0)))


class _Network(nn.Module):
    """Answers with s and t that are 0 nowhere, and depend on all it is shown; keeps what it saw."""

    def __init__(self, dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, dim, dim) / dim**0.5)
        signs = torch.tensor([1.0, -1.0]).repeat(dim)[:dim]      # some stretch, some shrink
        self.bias = nn.Parameter(signs * (0.3 + torch.rand(2, 1, dim)))
        self.asked: list[Tensor] = []

    def forward(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        dim = self.weight.shape[1]
        if not isinstance(kept, Tensor) or kept.ndim != 2 or kept.shape[1] != dim:
            what = tuple(kept.shape) if isinstance(kept, Tensor) else type(kept).__name__
            raise Wrong("network takes one tensor in the shape of the whole, with zeros at the "
                        f"places that move: (N, {dim}). It was given {what}.")
        self.asked.append(kept.detach().clone())
        s, t = torch.tanh(kept @ self.weight + self.bias)
        return s, t


def _shown(network: _Network, x: Tensor, mask: Tensor, name: str) -> None:
    """Raise `Wrong` unless the network was asked, and about nothing but what stays."""
    if not network.asked:
        raise Wrong("The network was not asked: s, t = network(…) says how to move.")
    for seen in network.asked:
        if same(seen, x * mask):
            continue
        if same(seen, x):
            raise Wrong(f"The network was shown all of {name}: it may see only what stays, "
                        f"{name} * mask.")
        if same(seen, x * (1 - mask)):
            raise Wrong("The network was shown the half that moves: where the mask is 1, "
                        f"{name} stays, and that is what it may see.")
        if seen.shape != x.shape:
            raise Wrong(f"For {len(x)} rows the network was shown {len(seen)}: show it "
                        f"{name} * mask.")
        raise Wrong(f"The network was shown something else than what stays, {name} * mask.")


def _drawn(n: int, places: tuple[int, ...]) -> tuple[Tensor, Tensor, _Network]:
    """x, mask and network."""
    return torch.randn(n, len(places)) + 0.2, torch.tensor(places).float(), _Network(len(places))


def couple(answer: Answer) -> None:
    for n, places in CASES:
        x, mask, network = _drawn(n, places)
        given = f"x of shape {tuple(x.shape)} and the mask {list(places)}"
        got = answer(x, mask, network)
        _two(got, x)
        _shown(network, x, mask, "x")
        s, t = (v.detach() for v in network(x * mask))
        want = [v.detach() for v in right.couple(x, mask, network)]
        expect(value_of(got[0]), want[0], f"{given}, z:", _mistakes_of_z(x, mask, s, t))
        mistakes = {} if len(places) == 2 else _mistakes_of_logdet(mask, s, t, x)
        expect(value_of(got[1]), want[1], f"{given}, logdet:", mistakes)
        _gradients(answer, x, mask, network)


def _two(got: Any, x: Tensor) -> None:
    if got is None:
        raise Wrong("Your function returned None. Is there a `return`?")
    if not isinstance(got, tuple | list) or len(got) != 2:
        raise Wrong("Return two things: z, and the log-determinant of each row.")
    first, second = (tuple(v.shape) if isinstance(v, Tensor) else None for v in got)
    if second == tuple(x.shape) and first in ((), (len(x),)):
        raise Wrong("Return z first, the log-determinants second.")


def _mistakes_of_z(x: Tensor, mask: Tensor, s: Tensor, t: Tensor) -> dict[str, Tensor]:
    moves = 1 - mask
    ms, mt = s * moves, t * moves
    return {
        "s and t count only where the mask is 0: you moved what stays as well.": x * s.exp() + t,
        "s counts only where the mask is 0: you scaled what stays.": x * s.exp() + mt,
        "t counts only where the mask is 0: you shifted what stays.": x * ms.exp() + t,
        "You moved what stays, and kept what moves: s and t count where the mask is 0.":
            x * (s * mask).exp() + t * mask,
        "exp is missing: the factor is e^s.": mask * x + moves * (x * s + t),
        "exp is missing: the factor is e^s, which is 1 where s is 0.": x * ms + mt,
        "The factor is e^s: you took e^−s.": x * (-ms).exp() + mt,
        "t is added: you took it off.": x * ms.exp() - mt,
        "Scale first, then shift: you shifted before.": (x + mt) * ms.exp(),
        "That is the inverse: it takes back what the layer does.": (x - mt) * (-ms).exp(),
        "t is missing.": x * ms.exp(),
        "s is missing: the factor e^s.": x + mt,
        "s and t are swapped: the network answers with s first.": x * mt.exp() + ms,
        "What stays is lost: where the mask is 1, z is x.": moves * (x * s.exp() + t),
        "Only what stays is left: the rest is moved, not dropped.": x * mask,
        "x * mask is for the network: what is scaled is all of x.": x * mask * ms.exp() + mt,
        "x is counted twice: z = x e^s + t.": x + x * ms.exp() + mt,
        "Nothing is moved: that is x.": x,
        "You added e^s: it is a factor.": x + moves * (s.exp() + t),
    }


def _mistakes_of_logdet(mask: Tensor, s: Tensor, t: Tensor, x: Tensor) -> dict[str, Tensor]:
    moves = 1 - mask
    ms = s * moves
    mistakes = {
        "The log-determinant sums s where the mask is 0 only: what stays is not stretched.":
            s.sum(1),
        "The log-determinant sums s of what moves: you summed it where the mask is 1.":
            (s * mask).sum(1),
        "The logarithm of e^s is s: you summed the e^s.": (moves * s.exp()).sum(1),
        "The logarithm of e^s is s: you summed the e^s, which are 1 where the mask is 1.":
            ms.exp().sum(1),
        "That is the determinant: its logarithm is wanted, the sum of the s.": ms.sum(1).exp(),
        "The log-determinant has the wrong sign: couple stretches by e^s.": -ms.sum(1),
        "The log-determinant is a sum: you took the mean.": ms.mean(1),
        "The log-determinant is a sum: you took the mean of what moves.":
            ms.sum(1) / moves.sum(),
        "t shifts and stretches nothing: only s counts for the log-determinant.":
            (ms + t * moves).sum(1),
        "t shifts and stretches nothing: you summed it in place of s.": (t * moves).sum(1),
        "Keep the sign of s: a negative one shrinks.": ms.abs().sum(1),
        "s is the logarithm already: you took another.": (moves * s.abs().log()).sum(1),
        "The log-determinant is one number a row: add up its s, sum(1).": ms,
        "The log-determinant has the shape (N,): no keepdim.": ms.sum(1, keepdim=True),
        "The log-determinant of a coupling layer is not 0: it is the sum of the s.":
            torch.zeros(len(x)),
    }
    if len(x) > 1:
        mistakes |= {
            "Each row has its own log-determinant: sum over the numbers of a row, sum(1).":
                ms.sum(),
            "Each row has its own log-determinant: no mean over the rows.": ms.sum(1).mean(),
            "Each row has its own log-determinant: you took the mean of all.": ms.mean(),
            "You summed over the rows, sum(0): over the numbers of each row, sum(1).": ms.sum(0),
        }
    return mistakes


def _gradients(answer: Answer, x: Tensor, mask: Tensor, network: _Network) -> None:
    """The layer is trained, and what lies before it too: both are reached as they should be."""
    leaf = x.clone().requires_grad_()
    leaves = {"network's weights": network.weight, "x": leaf}
    along = torch.randn_like(x), torch.randn(len(x))
    answers = answer(leaf, mask, network), right.couple(leaf, mask, network)
    for what, got, want, way in zip(("z", "logdet"), *answers, along, strict=True):
        if not got.requires_grad:
            raise Wrong(f"{what} is right, but no gradient comes back from it: no detach, no "
                        ".item(), no torch.no_grad() on the way.")
        for name, x0 in leaves.items():
            mine, course = (torch.autograd.grad((v * way).sum(), x0, retain_graph=True,
                                                materialize_grads=True)[0] for v in (got, want))
            if not torch.allclose(mine, course, rtol=1e-3, atol=1e-4):
                raise Wrong(f"{what} is right, but not the gradient that it sends to the {name}: "
                            "something on the way is detached.")


def uncouple(answer: Answer) -> None:
    for n, places in CASES:
        z, mask, network = _drawn(n, places)
        given = f"z of shape {tuple(z.shape)} and the mask {list(places)}"
        got = answer(z, mask, network)
        if got is None:
            raise Wrong("Your function returned None. Is there a `return`?")
        if isinstance(got, tuple | list):
            raise Wrong("Return x alone: the way back needs no log-determinant.")
        _shown(network, z, mask, "z")
        s, t = (v.detach() for v in network(z * mask))
        want = right.uncouple(z, mask, network).detach()
        expect(value_of(got), want, given, _mistakes_of_x(z, mask, s, t))


def _mistakes_of_x(z: Tensor, mask: Tensor, s: Tensor, t: Tensor) -> dict[str, Tensor]:
    moves = 1 - mask
    ms, mt = s * moves, t * moves
    return {
        "The wrong order: t was added last, so it is taken off first.": z * (-ms).exp() - mt,
        "t is taken off: you added it.": (z + mt) * (-ms).exp(),
        "The scale is undone by e^−s: you took e^s.": (z - mt) * ms.exp(),
        "t is taken off before the scale is undone: you added it, and after.":
            z * (-ms).exp() + mt,
        "That is the layer itself, forwards: undo it.": z * ms.exp() + mt,
        "Take t off first, and undo the scale by e^−s: here it is the other way round in both.":
            z * ms.exp() - mt,
        "Only the shift is undone: the scale e^s too.": z - mt,
        "Only the scale is undone: the shift t too.": z * (-ms).exp(),
        "exp is missing: undo the factor e^s.": mask * z + moves * (z - t) / s,
        "exp is missing: you multiplied by −s in place of e^−s.":
            mask * z - moves * (z - t) * s,
        "exp is missing: you multiplied by −s in place of e^−s, 0 at what stays.":
            -(z - mt) * ms,
        "exp is missing: you multiplied by s, and undo means e^−s.":
            mask * z + moves * (z - t) * s,
        "s and t count only where the mask is 0: you moved what stays as well.":
            (z - t) * (-s).exp(),
        "s counts only where the mask is 0: you scaled what stays.": (z - mt) * (-s).exp(),
        "t counts only where the mask is 0: you shifted what stays.": (z - t) * (-ms).exp(),
        "You moved what stayed, and kept what was moved: s and t count where the mask is 0.":
            (z - t * mask) * (-s * mask).exp(),
        "s and t are swapped: the network answers with s first.": (z - ms) * (-mt).exp(),
        "What stays is lost: where the mask is 1, x is z.": moves * (z - t) * (-s).exp(),
        "Only what stays is left: the rest is moved back, not dropped.": z * mask,
        "z * mask is for the network: what is moved back is all of z.":
            (z * mask - mt) * (-ms).exp(),
        "Nothing is moved: that is z.": z,
    }
