"""A rolled-up line in the plane: the smallest data set with a shape.

For looking at a diffusion model from above.
"""

import math

import torch
from torch import Tensor

from minigen.common import generator as seeded
from minigen.inputs import number, whole


def swiss_roll(
    n: int, turns: float = 1.75, radius: float = 2.0, std: float = 0.04, seed: int = 0
) -> Tensor:
    """n points on a spiral of `turns` turns that ends at `radius`, with a little noise.

    Shapes: (n, 2).
    """
    whole(n, "n")
    number(turns, "turns", positive=True)
    number(radius, "radius", positive=True)
    number(std, "std", 0)
    generator = seeded(seed)
    # the root: about as many points on each piece of the line
    share = 0.15 + 0.85 * torch.rand(n, generator=generator).sqrt()
    angle = 2 * math.pi * turns * share
    line = radius * share[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    return line + std * torch.randn(n, 2, generator=generator)
