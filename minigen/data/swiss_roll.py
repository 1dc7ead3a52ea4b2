"""A rolled-up line in the plane: the smallest data set with a shape, for looking at a diffusion model from above."""

import math

import torch

from minigen.common import generator
from minigen.inputs import number, whole


def swiss_roll(n, turns=1.75, radius=2.0, std=0.04, seed=0):
    """n points on a spiral of `turns` turns that ends at `radius`, with a little noise. Shapes: (n, 2)."""
    whole(n, "n")
    number(turns, "turns", positive=True)
    number(radius, "radius", positive=True)
    number(std, "std", 0)
    g = generator(seed)
    share = 0.15 + 0.85 * torch.rand(n, generator=g).sqrt()    # the root: about as many points on each piece of the line
    angle = 2 * math.pi * turns * share
    return radius * share[:, None] * torch.stack([angle.cos(), angle.sin()], 1) + std * torch.randn(n, 2, generator=g)
