"""Excursion 3: what is left of a picture, y = A x, and how far two pictures are apart.

A damage that is linear has an adjoint Aᵀ, which carries a gradient back, and a pseudo-inverse A⁺,
which gives the smallest picture that would have been measured so.
Sources: Wang et al. 2023 (DDNM), §3.1; Wang, Bovik et al. 2004 (SSIM), Eq. 13.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from minigen.common import as_tensor
from minigen.inputs import alike, images, number, refuse, tensor, whole

LUMA = (0.299, 0.587, 0.114)                  # how bright red, green and blue seem: BT.601
PEAK = 2.0                                    # from −1 to 1
NOISY = 10.0                                  # how far noise may reach; bytes reach further


class Measurement(NamedTuple):
    """A linear damage: A x, Aᵀ y and A⁺ y, with ⟨A x, y⟩ = ⟨x, Aᵀ y⟩ and A A⁺ A = A.

    Shapes: forward (N, C, H, W) → y's; adjoint and back y's → (N, C, H, W).
    """

    forward: Callable[[Tensor], Tensor]
    adjoint: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]


def holes(mask: Tensor) -> Measurement:
    """Only the pixels where mask is 1 are known; the others are measured as 0.

    Shapes: mask (H, W), or any that broadcasts to the pictures.
    Raises: ValueError for other values than 0 and 1, and for pictures that the mask does not fit.
    """
    mask = as_tensor(mask, "mask").float()
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError("a mask holds 1 where a pixel is known and 0 where it is not, and "
                         "nothing else")

    def kept(x: Tensor) -> Tensor:
        tensor(x, "x", ("N", "C", "H", "W"))
        axes = zip(mask.shape[::-1], x.shape[::-1], strict=False)
        if mask.ndim > 4 or any(m not in (1, n) for m, n in axes):
            refuse("the mask", f"of a shape that broadcasts to {tuple(x.shape)}",
                   tuple(mask.shape))
        return x * mask.to(x)

    return Measurement(kept, kept, kept)


def shrink(factor: int) -> Measurement:
    """Each block of factor × factor pixels becomes its mean: a small picture.

    (Aᵀ y) is y / factor² in each pixel of the block, A⁺ y is y itself: nearest neighbours.
    Shapes: (N, C, H, W) → (N, C, H / factor, W / factor).
    Raises: ValueError for a factor that does not divide the size.
    """
    whole(factor, "factor")

    def forward(x: Tensor) -> Tensor:
        tensor(x, "x", ("N", "C", "H", "W"))
        if x.shape[2] % factor or x.shape[3] % factor:
            refuse("factor", f"a divisor of the size {x.shape[2]}×{x.shape[3]}", factor)
        return F.avg_pool2d(x, factor)

    def back(y: Tensor) -> Tensor:
        tensor(y, "y", ("N", "C", "H", "W"))
        return F.interpolate(y, scale_factor=factor, mode="nearest")

    return Measurement(forward, lambda y: back(y) / factor**2, back)


def grey() -> Measurement:
    """Only the brightness is known: 0.299 red + 0.587 green + 0.114 blue.

    Shapes: (N, 3, H, W) → (N, 1, H, W). Source: ITU-R BT.601.
    """
    weights = torch.tensor(LUMA).view(1, 3, 1, 1)

    def forward(x: Tensor) -> Tensor:
        tensor(x, "x", ("N", 3, "H", "W"))
        return (x * weights.to(x)).sum(1, keepdim=True)

    def adjoint(y: Tensor) -> Tensor:
        tensor(y, "y", ("N", 1, "H", "W"))
        return y * weights.to(y)

    return Measurement(forward, adjoint, lambda y: adjoint(y) / float(weights.square().sum()))


def off(forward: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """How far a picture is from what was measured: the root of the mean square of A x − y.

    Shapes: x (N, C, H, W), y as `forward` gives it → (N,).
    """
    gave = forward(x)
    alike(gave, y, "A x", "y")
    return (gave - y).flatten(1).square().mean(1).sqrt()


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """Peak signal-to-noise ratio, 10 log₁₀(2² / mean (x − y)²), in decibels; 2 is the range.

    3 dB are a factor of two in the squared error. Two equal pictures have infinity.
    Shapes: (N, C, H, W) in [-1, 1] twice → (N,).
    """
    alike(images(x, ("N", "C", "H", "W"), "x", NOISY), y, "x", "y")
    return 10 * torch.log10(PEAK**2 / (x - y).flatten(1).square().mean(1))


def ssim(x: Tensor, y: Tensor, size: int = 11, sigma: float = 1.5) -> Tensor:
    """Structural similarity: windows are compared in mean, in contrast and in pattern; 1 if equal.

    (2 μ_x μ_y + c₁)(2 σ_xy + c₂) / ((μ_x² + μ_y² + c₁)(σ_x² + σ_y² + c₂)),  c₁ = 0.01², c₂ = 0.03²

    in Gaussian windows of pictures brought to [0, 1] (black is 0, or the means would say nothing),
    averaged over all windows that lie inside, and over the channels.
    Shapes: (N, C, H, W) in [-1, 1] twice → (N,).
    Source: Wang, Bovik et al. 2004, Eq. 13. Raises: ValueError for pictures below a window's size.
    """
    alike(images(x, ("N", "C", "H", "W"), "x", NOISY), y, "x", "y")
    if whole(size, "size") % 2 == 0:
        refuse("size", "odd, so that a window has a middle", size)
    if min(x.shape[2:]) < size:
        refuse("x and y", f"of {size} pixels and more, a window's size", tuple(x.shape))
    number(sigma, "sigma", positive=True)
    at = torch.arange(size, dtype=x.dtype, device=x.device) - (size - 1) / 2
    line = torch.exp(-at.square() / (2 * sigma**2))
    line = line / line.sum()
    x, y = (x + 1) / 2, (y + 1) / 2

    def mean(z: Tensor) -> Tensor:                                     # of every window
        flat = z.flatten(0, 1)[:, None]                                # (N·C, 1, H, W)
        across = F.conv2d(F.conv2d(flat, line.view(1, 1, 1, -1)), line.view(1, 1, -1, 1))
        return across.view(*z.shape[:2], *across.shape[2:])            # (N, C, h, w)

    mx, my = mean(x), mean(y)
    vx, vy = mean(x * x) - mx.square(), mean(y * y) - my.square()
    both = mean(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    alike_in_mean = (2 * mx * my + c1) / (mx.square() + my.square() + c1)
    alike_in_pattern = (2 * both + c2) / (vx + vy + c2)
    return (alike_in_mean * alike_in_pattern).flatten(1).mean(1)
