"""Chapter 4's training step in small: two networks, and the step, right or wrong in one way."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigen.checks.ivqvae_answers import balance

LAMBDA = 0.25
Reduce = Callable[[Tensor], Tensor]


class Tiny(nn.Module):
    """An autoencoder of thirteen numbers that counts how often it is run."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(0.7))
        self.last = nn.Conv2d(3, 3, 1)
        self.runs = 0

    def forward(self, x: Tensor) -> tuple[Tensor, SimpleNamespace]:
        self.runs += 1
        return self.last(self.a * x), SimpleNamespace(loss=(self.a - 2).square())


class World(NamedTuple):
    """Two networks, their optimisers, a batch."""

    model: Tiny
    judge: nn.Module
    optimisers: tuple[torch.optim.Optimizer, torch.optim.Optimizer]
    x: Tensor

    @classmethod
    def fresh(cls, seed: int) -> "World":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model, x = Tiny(), torch.rand(4, 3, 4, 4) * 2 - 1
            top = nn.Conv2d(4, 1, 1)
            nn.init.normal_(top.weight, std=2.0)             # logits on both sides of ±1
            judge = nn.Sequential(nn.Conv2d(3, 4, 2, 2), nn.Tanh(), top)
        for p in (*model.parameters(), *judge.parameters()):
            p.grad = torch.full_like(p, 0.5)          # left over from an earlier step
        optimisers = (torch.optim.SGD(model.parameters(), lr=0.1),
                      torch.optim.SGD(judge.parameters(), lr=0.2))
        return cls(model, judge, optimisers, x)


def distance(x: Tensor, y: Tensor) -> Tensor:
    return 3 * (x - y).square().mean((1, 2, 3))


class After(NamedTuple):
    """What a step leaves behind: the three numbers, and both networks' weights in a row."""

    numbers: Tensor
    model: Tensor
    judge: Tensor

    def like(self, other: "After") -> bool:
        return all(torch.allclose(a, b, rtol=1e-4, atol=1e-6)
                   for a, b in zip(self, other, strict=True))


def row(net: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def hinge(real: Tensor, fake: Tensor, of: Reduce = torch.mean) -> Tensor:
    return 0.5 * (of(F.relu(1 - real)) + of(F.relu(1 + fake)))


def weighed(l1: Tensor, p: Tensor, g: Tensor, vq: Tensor, w: Tensor) -> Tensor:
    return l1 + p + LAMBDA * balance(l1 + p, g, w) * g + (1 - LAMBDA) * vq


def stepped(
    seed: int, judged: bool, total: Callable[..., Tensor] = weighed, sign: float = -1.0,
    square: bool = False, clear: str = "both", move: Sequence[int] = (0, 1), first: int = 0,
    d_loss: Callable[[Tensor, Tensor], Tensor] = hinge, anew: bool = False,
    swapped: bool = False, l1_of: Reduce = torch.mean, p_of: Reduce = torch.mean,
    g_of: Reduce = torch.mean
) -> After:
    """The step, or one that goes wrong in one way."""
    model, judge, optimisers, x = World.fresh(seed)
    optimisers = optimisers[::-1] if swapped else optimisers
    x_hat, quantized = model(x)
    error = (x_hat - x).square() if square else (x_hat - x).abs()
    l1, p = l1_of(error), p_of(distance(x_hat, x))
    g = loss_d = torch.zeros(())

    def judges_step() -> Tensor:
        seen = model(x)[0] if anew else x_hat
        loss = d_loss(judge(x), judge(seen.detach()))
        if clear not in ("model", "early"):
            optimisers[1].zero_grad()
        loss.backward()
        if 1 in move:
            optimisers[1].step()
        return loss

    if judged and first == 1:
        loss_d = judges_step()
    if judged:
        g = sign * g_of(judge(x_hat))
    if clear != "judge":
        optimisers[0].zero_grad()
    if clear == "early":
        optimisers[1].zero_grad()
    loss = total(l1, p, g, quantized.loss, model.last.weight) if judged else (
        l1 + p + (1 - LAMBDA) * quantized.loss)
    loss.backward()
    if 0 in move:
        optimisers[0].step()
    if judged and first == 0:
        loss_d = judges_step()
    numbers = torch.stack([l1, g, loss_d]).detach()
    return After(numbers, row(model), row(judge))
