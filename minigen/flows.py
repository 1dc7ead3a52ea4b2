"""Excursion 1: normalising flows. Invertible layers, exact likelihoods, and their training.

A flow is a chain of invertible layers f that carries data x to z ~ N(0, I). Densities follow by

log p(x) = log N(f(x); 0, I) + log |det ∂f/∂x|

Every layer is a module with `forward(x)` → (z, logdet), logdet (N,) in nats, and `inverse(z)` → x.
Sources: Dinh et al. 2017, *Density estimation using Real NVP*; Kingma & Dhariwal 2018, *Glow*;
Theis et al. 2016, *A note on the evaluation of generative models*, §3.1 (bits of densities).
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from minigen.common import Batches, counted, evaluating, filled, one_cycle, several
from minigen.common import generator as seeded
from minigen.data.levels import LEVELS, dequantise, levels_of, quantise
from minigen.errors import Diverged
from minigen.inputs import described, number, refuse, tensor, whole, wholes


def log_normal(z: Tensor) -> Tensor:
    """log N(z; 0, I) of each item, in nats: −½ Σ (z² + log 2π). Shapes: (N, …) → (N,)."""
    tensor(z, "z", ("N", "D", ...))
    return -0.5 * (z.square() + math.log(2 * math.pi)).flatten(1).sum(1)


def bounded(raw: Tensor, limit: float = 2.0) -> Tensor:
    """A safe logarithm of a scale: limit · tanh(raw / limit), between −limit and limit.

    At 0 it is 0 with slope 1, so a network that starts at zero starts as the identity, and no layer
    stretches or shrinks by more than e^limit: neither direction overflows. (An exponential alone
    has no bound; Glow's code takes sigmoid(raw + 2), which may shrink to nothing, whose inverse
    explodes.) Shapes: any.
    """
    return number(limit, "limit", positive=True) * torch.tanh(raw / limit)


class ActNorm(nn.Module):
    """z = (x − mean) / e^log_std, a mean and a deviation for each channel, learned.

    The first batch in train mode sets them, so that what leaves has mean 0 and deviation 1; whether
    that has happened is the buffer `started`, and is saved with the weights. Before, it is the
    identity. log|det| = −H·W Σ log_std.
    Shapes: (N, channels) or (N, channels, H, W) → the same, (N,).
    Source: Kingma & Dhariwal 2018, §3.1.
    Raises: ValueError where a channel of the first batch does not vary.
    """

    started: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.channels = whole(channels, "channels")
        self.mean = nn.Parameter(torch.zeros(channels))
        self.log_std = nn.Parameter(torch.zeros(channels))
        self.register_buffer("started", torch.tensor(False))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        tensor(x, "x", ("N", self.channels, ...), like=self.mean)
        if self.training and not self.started:
            self.start(x)
        z = (x - _beside(self.mean, x)) / _beside(self.log_std.exp(), x)
        places = x[0, 0].numel()
        return z, (-places * self.log_std.sum()).expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        tensor(z, "z", ("N", self.channels, ...), like=self.mean)
        return z * _beside(self.log_std.exp(), z) + _beside(self.mean, z)

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """Take mean and deviation of each channel from a batch."""
        flat = filled(x, "the first batch").transpose(0, 1).flatten(1)    # (channels, N·H·W)
        std = flat.std(1, correction=0)
        if bool((std == 0).any()):
            raise ValueError("ActNorm starts from a batch in which every channel varies; in this "
                             f"one channel {int((std == 0).nonzero()[0])} is constant")
        self.mean.copy_(flat.mean(1))
        self.log_std.copy_(std.log())
        self.started.fill_(True)


def _beside(per_channel: Tensor, x: Tensor) -> Tensor:
    """(C,) as (1, C, 1, …), with as many axes as x."""
    return per_channel.view(1, -1, *[1] * (x.ndim - 2))


class MaskedCoupling(nn.Module):
    """Affine coupling of vectors: coordinates under the mask stay, and say where the others go.

    z = m x + (1 − m) (x e^s + t),   (s, t) a network of m x,   log|det| = Σ (1 − m) s

    However complicated the network, the inverse needs only its value, never its inverse:
    x = m z + (1 − m) (z − t) e^−s. Its last layer starts at zero: the layer begins as the identity.
    Shapes: mask (D,) of 0 and 1, both there; x (N, D) → (N, D), (N,).
    Source: Dinh et al. 2017, Eqs. 4 to 9.
    """

    mask: Tensor

    def __init__(self, mask: Sequence[int] | Tensor, width: int = 64):
        super().__init__()
        mask = torch.as_tensor(mask).float()
        if mask.ndim != 1 or set(mask.tolist()) != {0.0, 1.0}:
            refuse("mask", "a list of 0 and 1 with both of them", described(mask.tolist()),
                   "a coupling layer keeps some coordinates and moves the others")
        whole(width, "width")
        self.register_buffer("mask", mask)
        last = nn.Linear(width, 2 * len(mask))
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(
            nn.Linear(len(mask), width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), last)

    def scale_and_shift(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        """s and t of what is kept, both zero under the mask. Shapes: (N, D) → (N, D) twice."""
        raw, shift = self.network(kept).chunk(2, dim=1)
        return bounded(raw) * (1 - self.mask), shift * (1 - self.mask)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        tensor(x, "x", ("N", len(self.mask)), like=self.mask)
        log_scale, shift = self.scale_and_shift(x * self.mask)
        return x * log_scale.exp() + shift, log_scale.sum(1)     # under the mask x · e⁰ + 0

    def inverse(self, z: Tensor) -> Tensor:
        tensor(z, "z", ("N", len(self.mask)), like=self.mask)
        log_scale, shift = self.scale_and_shift(z * self.mask)
        return (z - shift) * (-log_scale).exp()


class Flow(nn.Module):
    """A chain of invertible layers from x of a shape to z, and what a chain gives.

    Logarithms of determinants add up. Shapes: x (N, *shape); z as the last layer gives it.
    """

    def __init__(self, layers: Sequence[nn.Module], shape: Sequence[int]):
        super().__init__()
        self.shape = several(shape, "shape")
        self.layers = nn.ModuleList(layers)

    @property
    def dims(self) -> int:
        """D, how many numbers x has."""
        return math.prod(self.shape)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z and log |det ∂z/∂x|. Shapes: (N, *shape) → (N, …), (N,)."""
        tensor(x, "x", ("N", *self.shape), like=next(self.parameters(), None))
        logdet = x.new_zeros(len(x))
        for layer in self.layers:
            x, change = layer(x)
            logdet = logdet + change
        return x, logdet

    def inverse(self, z: Tensor) -> Tensor:
        """x of z: the layers' inverses, last one first."""
        layer: Any
        for layer in reversed(self.layers):
            z = layer.inverse(z)
        return z

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) = log N(z; 0, I) + log |det ∂z/∂x|, in nats. Shapes: (N, *shape) → (N,)."""
        z, logdet = self(x)
        return log_normal(z) + logdet


def real_nvp(dim: int = 2, couplings: int = 8, width: int = 64) -> Flow:
    """A flow of vectors: after an `ActNorm`, masked couplings whose masks alternate, 1010… 0101….

    Source: Dinh et al. 2017, §3.4.
    """
    wholes(couplings=couplings)
    whole(dim, "dim", 2)
    even = [1 - k % 2 for k in range(dim)]
    masks = [even if i % 2 == 0 else [1 - m for m in even] for i in range(couplings)]
    return Flow([ActNorm(dim), *(MaskedCoupling(mask, width) for mask in masks)], (dim,))


def bits(log_prob: Tensor, dims: int, levels: int = LEVELS) -> Tensor:
    """Bits per dimension of a log-density (nats) of dequantised values: −log p / (D ln 2) + log2 K.

    A level is 1/K wide, so an image's D levels have the volume K^−D: the constant. Averaged over
    the noise it is no less than the bits of the model's probability of the image itself. K = 1
    for densities of what has no levels.
    Shapes: any. Source: Theis et al. 2016, §3.1.
    """
    whole(levels, "levels")
    return -tensor(log_prob, "log_prob") / (whole(dims, "dims") * math.log(2)) + math.log2(levels)


def _loss(model: Flow, x: Tensor, generator: torch.Generator) -> Tensor:
    """Bits per dimension of each point, or image, dequantised anew. Shapes: (N, …) → (N,)."""
    if not _takes_images(model):
        return bits(model.log_prob(x.to(_like(model).device)), model.dims, levels=1)
    return bits(model.log_prob(dequantise(x, generator).to(_like(model))), model.dims)


def _takes_images(model: Flow) -> bool:
    return len(model.shape) == 3


def _like(model: Flow) -> Tensor:
    """A tensor of the model's device and type."""
    return next(model.parameters(), torch.empty(0))


def bits_per_dim(model: Flow, x: Tensor, seed: int = 0, batch_size: int = 256) -> Tensor:
    """Bits per dimension of each image, dequantised with the seed's noise, in eval mode.

    Points (N, D) are no levels: theirs are −log2 p(x) / D, and may be negative.
    Shapes: x (N, *shape) → (N,).
    """
    generator = seeded(seed)
    with evaluating(model):
        return torch.cat([_loss(model, p, generator).cpu() for p in _parts(x, batch_size)])


def _parts(x: Tensor, batch_size: int) -> Sequence[Tensor]:
    if not isinstance(x, Tensor):
        refuse("x", "a tensor", described(x), "torch.as_tensor makes one")
    return filled(x, "x").split(whole(batch_size, "batch_size"))


class FlowStep(NamedTuple):
    """One step of `train_flow`: its number (from 1), and bits per dimension of its batch."""

    step: int
    bits: float


def train_flow(model: Flow, data: Batches, *, steps: int, lr: float = 1e-3, clip: float = 1.0,
               seed: int = 0) -> Iterator[FlowStep]:
    """Train on batches (x,) by maximum likelihood; yields a `FlowStep` a step.

    Images are dequantised anew each time. The first batch starts the `ActNorm`s. The learning rate
    follows one cycle up to `lr`. clip: longest gradient; longer ones are shortened to it.
    Raises: ValueError where `data` ends before `steps`; Diverged where the bits are no number.
    """
    number(clip, "clip", positive=True)
    optimiser = torch.optim.Adam(model.parameters(), lr=number(lr, "lr", 0))
    schedule = one_cycle(optimiser, lr, steps)
    generator = seeded(seed)
    model.train()
    for step, (x, *_) in counted(data, steps):
        value = _loss(model, x, generator).mean()
        if not bool(torch.isfinite(value)):
            raise Diverged(f"the flow has diverged: its bits are {value.item()} at step {step}; "
                           "a smaller lr, or clip, helps")
        optimiser.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimiser.step()
        schedule.step()
        yield FlowStep(step, value.item())


def sample(model: Flow, n: int, temperature: float = 1.0, seed: int = 0,
           batch_size: int = 256) -> Tensor:
    """n draws: z = T ε with ε ~ N(0, I), carried back, in eval mode; T = 0 is x of z = 0.

    They depend on n and the seed, not on the batch size. A temperature below 1 keeps to the
    likelier images (Kingma & Dhariwal 2018, §5). Shapes: (n, *shape), images in [-1, 1].
    """
    eps = torch.randn(whole(n, "n"), model.dims, generator=seeded(seed))
    return decode(model, number(temperature, "temperature", 0) * eps, batch_size)


@torch.no_grad()
def encode(model: Flow, x: Tensor, batch_size: int = 256) -> Tensor:
    """z of points, or of images, each value in the middle of its grey level; in eval mode.

    Between two z a straight line is a walk through likely images, and a mean difference of z is an
    attribute to add. Shapes: (N, *shape), images in [-1, 1] → (N, D).
    """
    middle = (levels_of(x) + 0.5) / LEVELS if _takes_images(model) else x
    with evaluating(model):
        parts = (part.to(_like(model)) for part in _parts(middle, batch_size))
        return torch.cat([model(part)[0].flatten(1).cpu() for part in parts])


@torch.no_grad()
def decode(model: Flow, z: Tensor, batch_size: int = 256) -> Tensor:
    """Points or images of z, in eval mode; images are put on the grey levels again.

    Shapes: (N, D) → (N, *shape), images in [-1, 1]. decode(encode(x)) is x.
    """
    tensor(z, "z", ("N", model.dims))
    with evaluating(model):
        parts = (part.to(_like(model)) for part in _parts(z, batch_size))
        x = torch.cat([model.inverse(part).cpu() for part in parts])
    return quantise(x) if _takes_images(model) else x
