"""Grey levels: images on them, spread over them, and of another size on them again.

Source: Theis et al. 2016, *A note on the evaluation of generative models*, §3.1 (dequantisation).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from minigen.data.prepared import from_uint8, to_uint8
from minigen.inputs import images, in_range, refuse, tensor, whole

LEVELS = 256
FINE = 2**16  # places within a grey level; level + place is exact in float32


def levels_of(x: Tensor) -> Tensor:
    """0 to 255, as float32, of bytes or of images in [-1, 1]. Shapes: (N, C, H, W) → the same.

    Raises: ValueError for images in [-1, 1] that lie between the grey levels.
    """
    if isinstance(x, Tensor) and x.dtype == torch.uint8:
        return tensor(x, "images", ("N", "C", "H", "W"), integers=True).float()
    level = (images(x, ("N", "C", "H", "W")).float() + 1) * 127.5
    nearest = in_range(level.round(), 0, LEVELS - 1, "images", "within [-1, 1]")
    if x.numel() and not float((level - nearest).detach().abs().max()) < 0.01:
        raise ValueError("images must lie on the 256 grey levels, k / 127.5 − 1: "
                         "minigen.data.from_uint8(minigen.data.to_uint8(x)) puts them there")
    return nearest


def dequantise(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Images of 256 grey levels to numbers in [0, 1): (k + u) / 256, u uniform in [0, 1).

    A density may rise without bound on single values; spread evenly over its level, an image has a
    density that can be compared with probabilities (`minigen.flows.bits`). u is a multiple of
    2⁻¹⁶, so that k + u is exact in float32 and `quantise` gives the same image again.
    Shapes: (N, C, H, W), bytes or the course's images in [-1, 1] → the same, float32.
    Source: Theis et al. 2016, §3.1.
    Raises: ValueError for images in [-1, 1] that lie between the grey levels.
    """
    level = levels_of(x)
    # drawn on the CPU: the same numbers on every device
    place = torch.randint(FINE, level.shape, generator=generator).to(level.device)
    return (level + place / FINE) / LEVELS


def quantise(y: Tensor) -> Tensor:
    """Numbers in [0, 1) to the course's images, by the level they lie in: ⌊256 y⌋ / 127.5 − 1.

    What lies outside goes to the nearest level. Shapes: any.
    """
    return (tensor(y, "y") * LEVELS).floor().clamp(0, LEVELS - 1) / 127.5 - 1


def shrunk(x: Tensor, size: int) -> Tensor:
    """Images averaged down to size×size, and put on the 256 grey levels again.

    Shapes: (N, C, S, S) in [-1, 1], S a multiple of size → (N, C, size, size).
    """
    images(x, ("N", "C", "H", "W"))
    whole(size, "size")
    if x.shape[2] != x.shape[3] or x.shape[2] % size:
        refuse("size", "a divisor of the images' height and width, which are equal",
               f"{size} for {x.shape[2]}×{x.shape[3]}")
    return from_uint8(to_uint8(F.avg_pool2d(x, x.shape[2] // size)))


def enlarged(x: Tensor, size: int) -> Tensor:
    """Images brought to size×size by bicubic interpolation, clipped to [-1, 1].

    Shapes: (N, C, H, W) in [-1, 1] → (N, C, size, size).
    """
    images(x, ("N", "C", "H", "W"))
    whole(size, "size")
    return F.interpolate(x, size=size, mode="bicubic", align_corners=False).clamp(-1, 1)
