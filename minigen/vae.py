"""Chapter 2: variational autoencoders. The ELBO, a convolutional VAE, and its training loop.

Sources: Kingma & Welling 2014 (ELBO, reparameterisation), Higgins et al. 2017 (β), Alemi et al.
2018 (rate and distortion), Burda et al. 2016 (active units, importance-weighted bound), Sohn et al.
2015 (conditional).
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from minigen.common import (
    Batches,
    as_tensor,
    counted,
    evaluating,
    filled,
    one_cycle,
    stages_of,
    with_label,
)
from minigen.common import generator as seeded
from minigen.inputs import alike, images, labels, number, tensor, whole, wholes
from minigen.squares import SquareDecoder, SquareEncoder


def kl_standard_normal(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mean, exp logvar) ‖ N(0, I)) of each item, in nats: ½ Σ (mean² + e^logvar − 1 − logvar).

    Shapes: (B, …) twice → (B,). Source: Kingma & Welling 2014, appendix B.
    Raises: ValueError where the two differ in shape (they would broadcast).
    """
    alike(mean, logvar, "mean", "logvar")
    tensor(mean, "mean", ("B", "D", ...))
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).flatten(1).sum(1)


def reparameterise(mean: Tensor, logvar: Tensor,
                   generator: torch.Generator | None = None) -> Tensor:
    """z = mean + e^(logvar/2) ε with ε ~ N(0, I): a sample through which gradients flow.

    Shapes: any, equal → the same.
    """
    alike(mean, logvar, "mean", "logvar")
    # drawn on the CPU: the same numbers on every device
    eps = torch.randn(mean.shape, generator=generator, dtype=mean.dtype).to(mean.device)
    return mean + (0.5 * logvar).exp() * eps


class Terms(NamedTuple):
    """The VAE's loss and its two terms, means over the batch.

    The distortion is ½ the squared error of an image, the rate is in nats.
    """

    loss: Tensor
    distortion: Tensor
    rate: Tensor


def vae_loss(x: Tensor, x_hat: Tensor, mean: Tensor, logvar: Tensor, beta: float = 1.0) -> Terms:
    """loss = distortion + β · rate, to be minimised.

    distortion = ½ ‖x − x̂‖², summed over the image: −log p(x|z) of a Gaussian of variance 1,
    without its constant; rate = KL(q(z|x) ‖ N(0, I)), what it costs to send z. With β = 1 this is
    the negative ELBO. A Gaussian of variance β instead of 1 gives the same loss divided by β:
    choosing β is choosing how much pixel noise to believe in.

    Shapes: x, x_hat (B, C, H, W); mean, logvar (B, D).
    Source: Kingma & Welling 2014, Eq. 3; Higgins 2017, Eq. 4.
    Raises: ValueError where the two images differ in shape (they would broadcast).
    """
    alike(x, x_hat, "the image", "its reconstruction")
    number(beta, "beta", 0)
    images(x, ("B", ...), "the image", 10.0)
    filled(tensor(mean, "mean", (len(x), "D", ...)), "mean")
    distortion = 0.5 * (x - x_hat).square().flatten(1).sum(1).mean()
    rate = kl_standard_normal(mean, logvar).mean()
    return Terms(distortion + beta * rate, distortion, rate)


def active_units(mean: Tensor, threshold: float = 0.01) -> Tensor:
    """Which latent dimensions the encoder uses: those whose mean varies over the data.

    They are those of a variance above `threshold`.
    Shapes: mean (N, D) of the whole set → (D,) booleans. Source: Burda et al. 2016, §5.
    """
    tensor(mean, "mean", ("N", "D"))
    number(threshold, "threshold", 0)
    if len(mean) < 2:
        raise ValueError("a variance over the data needs at least two images")
    return mean.var(0) > threshold


class ConvEncoder(nn.Module):
    """Strided 4×4 convolutions from an image down to a 4×4 map, and a 3×3 one on top.

    The last one lets the places of the map talk to each other.
    Shapes: (B, in_channels, size, size) → (B, channels, 4, 4).
    """

    def __init__(self, width: int = 32, size: int = 32, in_channels: int = 3):
        super().__init__()
        whole(in_channels, "in_channels")
        _check_width(width)
        counts = [in_channels, *(width * 2**i for i in range(stages_of(size)))]
        self.in_channels, self.channels = in_channels, counts[-1]
        layers: list[nn.Module] = []
        for c_in, c_out in itertools.pairwise(counts):
            layers += [nn.Conv2d(c_in, c_out, 4, 2, 1), nn.GroupNorm(8, c_out), nn.SiLU()]
        top = [nn.Conv2d(counts[-1], counts[-1], 3, 1, 1), nn.GroupNorm(8, counts[-1]), nn.SiLU()]
        self.body = nn.Sequential(*layers, *top)

    def forward(self, x: Tensor) -> Tensor:
        tensor(x, "x", ("B", self.in_channels, "H", "W"), like=self.body[0].weight)
        return self.body(x)                      # halved stage by stage, (B, channels, 4, 4)


class ConvDecoder(nn.Module):
    """The encoder in reverse: a 3×3 convolution, transposed ones, tanh.

    Shapes: (B, channels, 4, 4) → (B, 3, size, size).
    """

    def __init__(self, width: int = 32, size: int = 32):
        super().__init__()
        _check_width(width)
        counts = [width * 2**i for i in reversed(range(stages_of(size)))]
        self.channels = counts[0]
        layers: list[nn.Module] = [
            nn.Conv2d(counts[0], counts[0], 3, 1, 1), nn.GroupNorm(8, counts[0]), nn.SiLU()]
        for c_in, c_out in itertools.pairwise(counts):
            layers += [nn.ConvTranspose2d(c_in, c_out, 4, 2, 1), nn.GroupNorm(8, c_out), nn.SiLU()]
        self.body = nn.Sequential(*layers, nn.ConvTranspose2d(counts[-1], 3, 4, 2, 1), nn.Tanh())

    def forward(self, h: Tensor) -> Tensor:
        tensor(h, "h", ("B", self.channels, "H", "W"), like=self.body[0].weight)
        return self.body(h)                      # doubled stage by stage, (B, 3, size, size)


def _check_width(width: int) -> None:
    if whole(width, "width") % 8:
        raise ValueError(f"width must be a multiple of 8 (group normalisation); got {width}")


class VAE(nn.Module):
    """Convolutional VAE: q(z|x) = N(mean(x), diag e^logvar(x)), p(x|z) a Gaussian around decode(z).

    With num_classes both networks see the label as well: q(z|x, y), p(x|z, y). With `squares` they
    are those of `minigen.squares`, made for a short training.
    Shapes: x (B, 3, size, size) in [-1, 1]; z, mean, logvar (B, latent_dim); y (B,) integers.
    Source: Kingma & Welling 2014; Sohn et al. 2015 for the label.
    """

    def __init__(self, latent_dim: int = 32, width: int = 32, size: int = 32,
                 num_classes: int = 0, squares: bool = False):
        super().__init__()
        whole(latent_dim, "latent_dim")
        whole(num_classes, "num_classes", 0)
        self.config = dict(latent_dim=latent_dim, width=width, size=size, num_classes=num_classes,
                           squares=squares)
        self.latent_dim, self.num_classes = latent_dim, num_classes
        encoder, decoder = ((SquareEncoder, SquareDecoder) if squares
                            else (ConvEncoder, ConvDecoder))
        self.encoder, self.decoder = encoder(width, size, 3 + num_classes), decoder(width, size)
        self.to_latent = nn.Linear(self.encoder.channels * 16, 2 * latent_dim)
        self.from_latent = nn.Linear(latent_dim + num_classes, self.decoder.channels * 16)

    def encode(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z|x).

        The log-variance is kept in [-30, 20], where its exponential is harmless.
        """
        images(x, ("B", 3, self.config["size"], self.config["size"]), like=self.to_latent.weight)
        h = self.encoder(with_label(x, y, self.num_classes))          # (B, channels, 4, 4)
        mean, logvar = self.to_latent(h.flatten(1)).chunk(2, dim=1)   # (B, latent_dim) each
        return mean, logvar.clamp(-30, 20)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """The mean of p(x|z)."""
        tensor(z, "z", ("B", self.latent_dim), like=self.from_latent.weight)
        h = self.from_latent(with_label(z, y, self.num_classes))      # (B, channels · 16)
        return self.decoder(h.view(len(h), self.decoder.channels, 4, 4))

    def forward(self, x: Tensor, y: Tensor | None = None,
                generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """(x̂, mean, logvar), with x̂ decoded from one sample of q(z|x)."""
        mean, logvar = self.encode(x, y)
        z = reparameterise(mean, logvar, generator)
        return self.decode(z, y), mean, logvar


class VAEStep(NamedTuple):
    """One step of `train_vae`: its number (from 1), the loss and its two terms, as in `Terms`."""

    step: int
    loss: float
    distortion: float
    rate: float


def train_vae(model: VAE, data: Batches, *, steps: int, beta: float = 1.0, lr: float = 2e-3,
              warm_up: float = 0.0, seed: int = 0) -> Iterator[VAEStep]:
    """Train on batches (x,) or (x, y) of `data`; yields a `VAEStep` a step.

    The learning rate rises and falls in one cycle up to `lr`. warm_up: over this share of the steps
    β grows from 0 to its value, which gives the decoder time to find a use for z before the rate is
    charged in full (Bowman et al. 2016).
    Raises: ValueError where `data` ends before `steps`, and for settings that cannot be.
    """
    number(warm_up, "warm_up is a share of the steps: it", 0, 1)
    number(beta, "beta", 0)
    optimiser = torch.optim.Adam(model.parameters(), lr=number(lr, "lr", 0))
    schedule = one_cycle(optimiser, lr, steps)
    generator, device = seeded(seed), next(model.parameters()).device
    model.train()
    for step, (x, *y) in counted(data, steps):
        x, y = x.to(device), [label.to(device) for label in y]
        now = beta * min(1.0, step / (warm_up * steps)) if warm_up else beta
        x_hat, mean, logvar = model(x, *y, generator=generator)
        terms = vae_loss(x, x_hat, mean, logvar, now)
        optimiser.zero_grad()
        terms.loss.backward()
        optimiser.step()
        schedule.step()
        yield VAEStep(step, *(t.item() for t in terms))


def sample(model: VAE, n: int, y: Tensor | Sequence[int] | None = None, seed: int = 0,
           batch_size: int = 256) -> Tensor:
    """n images: z ~ N(0, I), decoded, in eval mode.

    They depend on n and the seed, not on the batch size. Shapes: y (n,) integers if conditional →
    (n, 3, size, size).
    """
    wholes(n=n, batch_size=batch_size)
    inputs = [torch.randn(n, model.latent_dim, generator=seeded(seed))]
    if y is not None:
        inputs.append(labels(as_tensor(y, "labels"), n))
    device = next(model.parameters()).device
    with evaluating(model):
        starts = range(0, n, batch_size)
        parts = ([t[i : i + batch_size].to(device) for t in inputs] for i in starts)
        return torch.cat([model.decode(*part).cpu() for part in parts])


def reconstruct(model: VAE, x: Tensor, y: Tensor | None = None) -> Tensor:
    """x̂ decoded from the mean of q(z|x), in eval mode. Shapes: (B, 3, H, W) → the same."""
    with evaluating(model):
        mean, _ = model.encode(x, y)
        return model.decode(mean, y)


@torch.no_grad()
def importance_bound(model: VAE, x: Tensor, y: Tensor | None = None, samples: int = 64,
                     variance: float = 1.0, seed: int = 0) -> Tensor:
    """A lower bound of log p(x) that tightens with `samples`, in nats.

    log 1/K Σ p(x|z_k) p(z_k) / q(z_k|x) over K samples z_k ~ q(z|x)

    One sample gives the ELBO on average. variance: of the decoder's Gaussian, the β the model was
    trained with. With labels it is a bound of log p(x|y).
    Shapes: x (B, 3, H, W), labels y (B,) for a conditional model → (B,).
    Source: Burda et al. 2016, Eq. 8.
    """
    filled(tensor(x, "x", ("B", ...)), "x")
    whole(samples, "samples")
    number(variance, "variance", positive=True)
    mean, logvar = model.encode(x, y)
    generator, logs = seeded(seed), []
    for _ in range(samples):
        z = reparameterise(mean, logvar, generator)
        error = (x - model.decode(z, y)).square().flatten(1).sum(1)    # this and what follows: (B,)
        log_px = -0.5 * (error / variance + x[0].numel() * math.log(2 * math.pi * variance))
        log_prior = -0.5 * (z.square() + math.log(2 * math.pi)).sum(1)
        log_q = -0.5 * ((z - mean).square() / logvar.exp() + logvar + math.log(2 * math.pi)).sum(1)
        logs.append(log_px + log_prior - log_q)
    return torch.logsumexp(torch.stack(logs), 0) - math.log(samples)
