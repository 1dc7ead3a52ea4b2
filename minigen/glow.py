"""Excursion 1: Glow, a normalising flow of images at several scales.

Its layers keep the contract of `minigen.flows`: `forward(x)` → (z, logdet), `inverse(z)` → x.
Source: Kingma & Dhariwal 2018, *Glow: Generative Flow with Invertible 1×1 Convolutions*.
"""

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigen.flows import ActNorm, Flow, bounded
from minigen.inputs import refuse, tensor, whole, wholes


class Squeeze(nn.Module):
    """Every 2×2 pixels become one place of four times as many channels. log|det| = 0.

    Shapes: (N, C, H, W) → (N, 4·C, H/2, W/2), (N,). Source: Dinh et al. 2017, §3.6.
    Raises: ValueError for an odd height or width.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        tensor(x, "x", ("N", "C", "H", "W"))
        if x.shape[2] % 2 or x.shape[3] % 2:
            refuse("height and width", "even, to be squeezed", f"{x.shape[2]}×{x.shape[3]}",
                   "cut or enlarge the images")
        return F.pixel_unshuffle(x, 2), x.new_zeros(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        tensor(z, "z", ("N", "C", "H", "W"))
        if z.shape[1] % 4:
            refuse("the channels", "a multiple of 4, to be spread again", z.shape[1])
        return F.pixel_shuffle(z, 2)


class Invertible1x1(nn.Module):
    """A 1×1 convolution by an invertible matrix: it mixes the channels of each place.

    W = P L (U + diag(sign · e^log_diagonal)),   log|det| = H·W Σ log_diagonal

    P is a fixed permutation, L has ones on its diagonal, U nothing: so W stays invertible whatever
    is learned, and its determinant costs a sum. Both triangles lie in one matrix.
    weight: the W to start from; a random rotation without.
    Shapes: (N, channels, H, W) → the same, (N,). Source: Kingma & Dhariwal 2018, §3.2, Eq. 10.
    Raises: ValueError for a weight that is singular.
    """

    permutation: Tensor
    sign: Tensor

    def __init__(self, channels: int, weight: Tensor | None = None):
        super().__init__()
        self.channels = whole(channels, "channels")
        if weight is None:
            weight = torch.linalg.qr(torch.randn(channels, channels))[0]
        else:
            _require_invertible(tensor(weight, "weight", (channels, channels)))
        permutation, lower, upper = torch.linalg.lu(weight.detach())
        diagonal = upper.diagonal()
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", diagonal.sign())
        self.triangles = nn.Parameter(lower.tril(-1) + upper.triu(1))
        self.log_diagonal = nn.Parameter(diagonal.abs().log())

    def factors(self) -> tuple[Tensor, Tensor]:
        """L and U + diag(…). Shapes: (channels, channels) twice."""
        one = torch.eye(self.channels, dtype=self.sign.dtype, device=self.sign.device)
        diagonal = torch.diag(self.sign * self.log_diagonal.exp())
        return self.triangles.tril(-1) + one, self.triangles.triu(1) + diagonal

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        tensor(x, "x", ("N", self.channels, "H", "W"), like=self.sign)
        lower, upper = self.factors()
        weight = self.permutation @ lower @ upper
        places = x.shape[2] * x.shape[3]
        logdet = (places * self.log_diagonal.sum()).expand(len(x))
        return F.conv2d(x, weight[:, :, None, None]), logdet

    def inverse(self, z: Tensor) -> Tensor:
        tensor(z, "z", ("N", self.channels, "H", "W"), like=self.sign)
        lower, upper = self.factors()
        half_way = torch.linalg.solve_triangular(
            lower, self.permutation.T, upper=False, unitriangular=True)
        weight = torch.linalg.solve_triangular(upper, half_way, upper=True)
        return F.conv2d(z, weight[:, :, None, None])


def _require_invertible(weight: Tensor) -> None:
    values = torch.linalg.svdvals(weight.detach())          # falling
    if not float(values[-1]) > len(values) * torch.finfo(weight.dtype).eps * float(values[0]):
        raise ValueError("weight must be invertible; this matrix is singular (its smallest "
                         f"singular value is {float(values[-1]):.1e} of {float(values[0]):.1e})")


def halves(channels: int) -> int:
    """Half of the channels. Raises: ValueError for an odd number."""
    if whole(channels, "channels") % 2:
        refuse("channels", "even: one half stays and says what happens to the other", channels,
               "a Squeeze before makes four of each")
    return channels // 2


def _zero(conv: nn.Conv2d) -> nn.Conv2d:
    """The convolution, started at zero."""
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


class Coupling(nn.Module):
    """Affine coupling of images: the first half of the channels stays, the other half moves.

    z_b = x_b e^s + t,   (s, t) a convolutional network of x_a,   log|det| = Σ s

    The network's last layer starts at zero: the layer begins as the identity.
    Shapes: (N, channels, H, W) → the same, (N,). Source: Kingma & Dhariwal 2018, §3.3, Table 1.
    Raises: ValueError for an odd number of channels.
    """

    def __init__(self, channels: int, width: int = 64):
        super().__init__()
        half = halves(channels)
        self.channels = channels
        whole(width, "width")
        self.network = nn.Sequential(
            nn.Conv2d(half, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 1), nn.ReLU(),
            _zero(nn.Conv2d(width, channels, 3, padding=1)))

    def scale_and_shift(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        """s and t. Shapes: (N, channels / 2, H, W) → the same twice."""
        raw, shift = self.network(kept).chunk(2, dim=1)
        return bounded(raw), shift

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        like = next(self.network.parameters())
        kept, moved = tensor(x, "x", ("N", self.channels, "H", "W"), like=like).chunk(2, dim=1)
        log_scale, shift = self.scale_and_shift(kept)
        z = torch.cat([kept, moved * log_scale.exp() + shift], dim=1)
        return z, log_scale.flatten(1).sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        like = next(self.network.parameters())
        kept, moved = tensor(z, "z", ("N", self.channels, "H", "W"), like=like).chunk(2, dim=1)
        log_scale, shift = self.scale_and_shift(kept)
        return torch.cat([kept, (moved - shift) * (-log_scale).exp()], dim=1)


class Split(Coupling):
    """The learned prior of the half that is finished: N(mean(x_a), e^2·log_std(x_a)).

    x_b has the density of that Gaussian exactly when (x_b − mean) / e^log_std is standard normal:
    so the prior is one more coupling, with one convolution, s = −log_std and t = −mean / e^log_std.
    Shapes: (N, channels, H, W) → the same, (N,). Source: Kingma & Dhariwal 2018, §2, §3; the code.
    """

    def __init__(self, channels: int):
        nn.Module.__init__(self)
        half = halves(channels)
        self.channels = channels
        self.network = nn.Sequential(_zero(nn.Conv2d(half, channels, 3, padding=1)))


class Glow(Flow):
    """Levels of a `Squeeze` and `depth` times (`ActNorm`, `Invertible1x1`, `Coupling`).

    After each level but the last half of the channels is finished and leaves (`Split`); the other
    half goes on at half the resolution. x are images dequantised to [0, 1), of D = C·size² numbers;
    z are D numbers for N(0, I), the coarsest level's first: `sizes` says how many are each level's.
    Shapes: x (N, channels, size, size); z (N, D).
    Source: Kingma & Dhariwal 2018, Fig. 2; Dinh et al. 2017, §3.6.
    Raises: ValueError for a size that cannot be halved `levels` times.
    """

    def __init__(self, size: int = 16, channels: int = 3, levels: int = 3, depth: int = 6,
                 width: int = 64):
        wholes(size=size, channels=channels, levels=levels, depth=depth)
        if size % 2**levels:
            refuse("size", f"a multiple of 2^levels = {2**levels}, to be squeezed {levels} times",
                   size)
        steps: list[nn.Module] = []
        shape = (channels, size, size)
        sizes = []
        for level in range(levels):
            layers: list[nn.Module] = [Squeeze()]
            inner = 4 * shape[0]
            for _ in range(depth):
                layers += [ActNorm(inner), Invertible1x1(inner), Coupling(inner, width)]
            steps.append(Flow([*layers, Split(inner)] if level < levels - 1 else layers, shape))
            shape = (inner // 2, shape[1] // 2, shape[2] // 2)
            sizes.append(shape[0] * shape[1] * shape[2])
        super().__init__(steps, (channels, size, size))
        self.config = dict(size=size, channels=channels, levels=levels, depth=depth, width=width)
        sizes[-1] *= 2                                    # nothing leaves the last level
        self.sizes = sizes[::-1]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        tensor(x, "x", ("N", *self.shape), like=next(self.parameters()))
        logdet, finished = x.new_zeros(len(x)), []
        *early, last = self.layers
        for level in early:
            x, change = level(x)
            x, done = x.chunk(2, dim=1)
            finished.append(done.flatten(1))
            logdet = logdet + change
        x, change = last(x)
        return torch.cat([x.flatten(1), *finished[::-1]], dim=1), logdet + change

    def inverse(self, z: Tensor) -> Tensor:
        tensor(z, "z", ("N", self.dims), like=next(self.parameters()))
        x, *finished = z.split(self.sizes, dim=1)
        side = self.shape[1] >> len(self.layers)
        x = x.view(len(z), -1, side, side)
        level: Any
        for level, done in itertools.zip_longest(reversed(self.layers), finished):
            x = level.inverse(x)
            if done is not None:
                x = torch.cat([x, done.view_as(x)], dim=1)
        return x
