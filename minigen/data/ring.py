"""Eight Gaussians on a ring: the smallest data set on which a generator can be seen to lose modes."""

import math

import torch

from minigen.common import filled, generator
from minigen.inputs import number, tensor, whole, wholes


def ring_of_gaussians(n, modes=8, radius=2.0, std=0.05, seed=0):
    """n points of a mixture of `modes` equal Gaussians on a circle. Shapes: (n, 2)."""
    wholes(n=n, modes=modes)
    number(radius, "radius", positive=True)
    number(std, "std", 0)
    g = generator(seed)
    angle = torch.randint(modes, (n,), generator=g) * (2 * math.pi / modes)
    return radius * torch.stack([angle.cos(), angle.sin()], 1) + std * torch.randn(n, 2, generator=g)


def count_modes(points, modes=8, radius=2.0, std=0.05, least=0.01):
    """How many modes of `ring_of_gaussians` hold at least the share `least` of the points, within 4 std of a centre.

    Returns: (modes covered, share of the points that lie on any mode).
    """
    filled(tensor(points, "points", ("N", 2)), "points")
    whole(modes, "modes")
    number(radius, "radius", positive=True)
    number(std, "std", 0)
    number(least, "least", 0, 1)
    angle = torch.arange(modes) * (2 * math.pi / modes)
    centres = radius * torch.stack([angle.cos(), angle.sin()], 1)
    distance, nearest = torch.cdist(points.float(), centres).min(1)
    on_mode = distance < 4 * std
    share = torch.bincount(nearest[on_mode], minlength=modes) / len(points)
    return int((share >= least).sum()), float(on_mode.float().mean())
