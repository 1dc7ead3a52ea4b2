"""Chapter 2: two networks of a VAE on squares of pixels, quick enough to train in half a minute.

An image is cut into 8×8 squares, and the pixels of each become the channels of one place. Every
convolution then works on 8×8 places or fewer, where it costs little.
Source: Shi et al. 2016 (the squares put together again: sub-pixel convolution).
"""

from torch import nn

from minigen.inputs import described, is_whole, refuse, whole

SIDE = 8                                         # squares side by side


def _side(size: int) -> int:
    """How many pixels wide a square is. Raises: ValueError for a size that is no multiple of 8."""
    if not is_whole(size) or size < SIDE or size % SIDE:
        refuse("size", f"a multiple of {SIDE}", described(size))
    return size // SIDE


def _checked(width: int) -> int:
    if whole(width, "width") % 8:
        raise ValueError(f"width must be a multiple of 8 (group normalisation); got {width}")
    return width


def _block(c_in: int, c_out: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(c_in, c_out, 3, stride, 1), nn.GroupNorm(8, c_out), nn.SiLU()]


class SquareEncoder(nn.Sequential):
    """Squares of pixels as channels, then two 3×3 convolutions down to a 4×4 map.

    Shapes: (B, in_channels, size, size) → (B, channels, 4, 4), channels = 2 · width.
    """

    def __init__(self, width: int = 48, size: int = 32, in_channels: int = 3):
        pixels = _side(size) ** 2 * whole(in_channels, "in_channels")
        super().__init__(nn.PixelUnshuffle(_side(size)), *_block(pixels, _checked(width)),
                         *_block(width, 2 * width, stride=2))
        self.channels = 2 * width


class SquareDecoder(nn.Sequential):
    """A normalised 4×4 map, spread to 8×8, two 3×3 convolutions, and channels as squares of pixels.

    The norm at the start keeps a code that is unlike all others from being drawn as glare.
    Shapes: (B, channels, 4, 4) → (B, 3, size, size), channels = 2 · width.
    """

    def __init__(self, width: int = 48, size: int = 32):
        pixels = 3 * _side(size) ** 2
        wide = 2 * _checked(width)
        super().__init__(
            nn.GroupNorm(8, wide), nn.SiLU(),
            nn.Conv2d(wide, 4 * width, 3, 1, 1), nn.PixelShuffle(2),        # 4×4 → 8×8
            nn.GroupNorm(8, width), nn.SiLU(), *_block(width, width),
            nn.Conv2d(width, pixels, 3, 1, 1), nn.PixelShuffle(_side(size)), nn.Tanh())
        self.channels = wide
