"""Eight Gaussians on a ring: the smallest data set on which a generator is seen to lose modes."""

import math

import torch
from torch import Tensor

from minigen.common import filled
from minigen.common import generator as seeded
from minigen.inputs import number, tensor, whole, wholes


def ring_of_gaussians(
    n: int, modes: int = 8, radius: float = 2.0, std: float = 0.05, seed: int = 0
) -> Tensor:
    """n points of a mixture of `modes` equal Gaussians on a circle. Shapes: (n, 2)."""
    wholes(n=n, modes=modes)
    number(radius, "radius", positive=True)
    number(std, "std", 0)
    generator = seeded(seed)
    angle = torch.randint(modes, (n,), generator=generator) * (2 * math.pi / modes)
    centres = radius * torch.stack([angle.cos(), angle.sin()], 1)
    return centres + std * torch.randn(n, 2, generator=generator)


def count_modes(
    points: Tensor, modes: int = 8, radius: float = 2.0, std: float = 0.05, least: float = 0.01
) -> tuple[int, float]:
    """How many modes of `ring_of_gaussians` hold at least the share `least` of the points.

    A point lies on a mode within 4 std of its centre. Shapes: points (N, 2).
    Returns: (modes covered, share of the points that lie on any mode).
    """
    filled(tensor(points, "points", ("N", 2)), "points")
    whole(modes, "modes")
    number(radius, "radius", positive=True)
    number(std, "std", 0)
    number(least, "least", 0, 1)
    angle = torch.arange(modes) * (2 * math.pi / modes)
    centres = radius * torch.stack([angle.cos(), angle.sin()], 1)
    distance, nearest = torch.cdist(points.float(), centres).min(1)  # (N,) each
    on_mode = distance < 4 * std
    share = torch.bincount(nearest[on_mode], minlength=modes) / len(points)
    return int((share >= least).sum()), float(on_mode.float().mean())
