"""Excursion 1's exercises, answered: what stands in below an exercise until a learner's passes."""

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

Network = Callable[[Tensor], tuple[Tensor, Tensor]]
Velocity = Callable[[Tensor, float], Tensor]


def log_of_density(z: Tensor, logdet: Tensor) -> Tensor:
    return -0.5 * (z**2 + math.log(2 * math.pi)).sum(1) + logdet


def couple(x: Tensor, mask: Tensor, network: Network) -> tuple[Tensor, Tensor]:
    s, t = network(x * mask)
    s, t = s * (1 - mask), t * (1 - mask)
    return x * s.exp() + t, s.sum(1)


def uncouple(z: Tensor, mask: Tensor, network: Network) -> Tensor:
    s, t = network(z * mask)
    s, t = s * (1 - mask), t * (1 - mask)
    return (z - t) * (-s).exp()


def bits_of(log_p: Any, dims: int, levels: int) -> Any:
    return -log_p / (dims * math.log(2)) + math.log2(levels)


def flow_loss(model: Callable[[Tensor, Tensor], Tensor], x0: Tensor, eps: Tensor, t: Tensor
              ) -> Tensor:
    share = t[:, None]
    x = (1 - share) * x0 + share * eps
    return (model(x, 999 * t) - (eps - x0)).square().mean()


def euler(velocity: Velocity, x1: Tensor, steps: int) -> list[Tensor]:
    states = [x1]
    for i in range(steps):
        v = velocity(states[-1], 1 - i / steps)
        states.append(states[-1] - v / steps)
    return states


def heun(velocity: Velocity, x1: Tensor, steps: int) -> list[Tensor]:
    states = [x1]
    for i in range(steps):
        here, t, s = states[-1], 1 - i / steps, 1 - (i + 1) / steps
        v = velocity(here, t)
        there = velocity(here - v / steps, s)
        states.append(here - (v + there) / 2 / steps)
    return states
