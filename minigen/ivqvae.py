"""Chapter 4: IVQ-VAE, the paper's autoencoder: residual blocks, attention, and a mixed loss.

Source: Liu, Chen, Gao 2026, §2 (Eqs. 1 to 15, Algorithm 1), after Esser et al. 2021 (VQGAN).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigen.common import Attention, Batches, counted, group_norm, one_cycle, several
from minigen.gan import discriminator_loss, generator_loss
from minigen.inputs import alike, images, is_whole, number, refuse, tensor, whole, wholes
from minigen.vqvae import Tokenizer, VectorQuantizer, perplexity, start_codebook

# Arguments of IVQVAE: the paper's model at 256×256, and one for 32×32 faces that a laptop trains.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": dict(size=256, width=128, multipliers=(1, 1, 2, 2, 4, 4, 4), attention_at=16,
                  num_codes=16384, code_dim=4, decay=None, revive_below=0.0),
    "small": dict(size=32, width=16, multipliers=(1, 2, 4, 8), attention_at=8, num_codes=512,
                  code_dim=4),
}


class ResidualBlock(nn.Module):
    """h + Conv3×3(Swish(GroupNorm(h))); where the width changes, h goes through a 1×1 convolution.

    residual=False leaves the sum out and keeps the layers (Table 7).
    Shapes: (B, c_in, H, W) → (B, c_out, H, W). Source: Eq. 2; the shortcut is the course's own.
    """

    def __init__(self, c_in: int, c_out: int, residual: bool = True):
        super().__init__()
        wholes(c_in=c_in, c_out=c_out)
        self.body = nn.Sequential(group_norm(c_in), nn.SiLU(), nn.Conv2d(c_in, c_out, 3, 1, 1))
        self.shortcut: nn.Module | None = None
        if residual:
            self.shortcut = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)

    def forward(self, h: Tensor) -> Tensor:
        tensor(h, "h", ("B", self.body[2].in_channels, "H", "W"), like=self.body[2].weight)
        return self.body(h) if self.shortcut is None else self.shortcut(h) + self.body(h)


def _stage(c_in: int, c_out: int, attend: bool, residual: bool) -> list[nn.Module]:
    blocks = [ResidualBlock(c_in, c_out, residual), ResidualBlock(c_out, c_out, residual)]
    return [*blocks, Attention(c_out)] if attend else [*blocks]


def _check(size, width, multipliers, attention_at, code_dim) -> int:
    """The compression f. Raises: ValueError for an autoencoder that cannot be built so."""
    wholes(size=size, code_dim=code_dim)
    whole(attention_at or 0, "attention_at", 0)
    if whole(width, "width") < 4:
        raise ValueError(f"width must be at least 4 (group normalisation); got {width}")
    stages = len(several(multipliers, "multipliers"))
    f = 2 ** (stages - 1)
    if size % f:
        raise ValueError(f"{stages} stages compress by {f}, which does not divide the size {size}")
    return f


class Encoder(nn.Module):
    """Image → z_e: Conv3×3; a stage of two residual blocks for each multiplier; 1×1 to code_dim.

    Halved after each stage but the last: f = 2^(n − 1) for n multipliers. A stage of resolution
    `attention_at`, if any, ends with attention. Norm and Swish before the 1×1 are the course's own.
    Shapes: (B, 3, size, size) → (B, code_dim, size / f, size / f). Source: Eqs. 1 to 4.
    """

    def __init__(self, size: int, width: int, multipliers: Sequence[int], attention_at: int,
                 code_dim: int, residual: bool = True):
        super().__init__()
        _check(size, width, multipliers, attention_at, code_dim)
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 1, 1)]
        channels = width
        for i, m in enumerate(multipliers):
            layers += _stage(channels, width * m, size // 2**i == attention_at, residual)
            channels = width * m
            if i < len(multipliers) - 1:
                layers.append(nn.Conv2d(channels, channels, 3, 2, 1))
        layers += [group_norm(channels), nn.SiLU(), nn.Conv2d(channels, code_dim, 1)]
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(tensor(x, "images", ("B", 3, "H", "W"), like=self.body[0].weight))


class Decoder(nn.Module):
    """z_q → image, the encoder in reverse; nearest-neighbour doubling and Conv3×3 between stages.

    Shapes: (B, code_dim, size / f, size / f) → (B, 3, size, size) in (-1, 1). Source: Eqs. 5 to 7.
    """

    def __init__(self, size: int, width: int, multipliers: Sequence[int], attention_at: int,
                 code_dim: int, residual: bool = True):
        super().__init__()
        f = _check(size, width, multipliers, attention_at, code_dim)
        self.config: dict = dict(size=size, width=width, multipliers=tuple(multipliers),
                                 attention_at=attention_at, code_dim=code_dim, residual=residual)
        channels = width * multipliers[-1]
        layers: list[nn.Module] = [nn.Conv2d(code_dim, channels, 1)]
        for i, m in enumerate(reversed(multipliers)):
            layers += _stage(channels, width * m, size // f * 2**i == attention_at, residual)
            channels = width * m
            if i < len(multipliers) - 1:
                layers.append(nn.Upsample(scale_factor=2, mode="nearest"))
                layers.append(nn.Conv2d(channels, channels, 3, 1, 1))
        layers += [group_norm(channels), nn.SiLU(), nn.Conv2d(channels, 3, 3, 1, 1), nn.Tanh()]
        self.body = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        tensor(z, "z", ("B", self.body[0].in_channels, "H", "W"), like=self.body[0].weight)
        return self.body(z)


class IVQVAE(Tokenizer):
    """The improved VQ-VAE: `Encoder`, `VectorQuantizer`, `Decoder`, and its latents' statistics.

    Shapes: x (B, 3, size, size) in [-1, 1]; z_e, z_q (B, code_dim, grid, grid); indices
    (B, grid, grid); grid = size / f.
    Raises: ValueError for a size that the compression does not divide. Source: §2.
    """
    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, size: int = 32, width: int = 16, multipliers: Sequence[int] = (1, 2, 4, 8),
                 attention_at: int = 8, num_codes: int = 512, code_dim: int = 4, beta: float = 0.25,
                 decay: float | None = 0.99, revive_below: float = 0.05, residual: bool = True):
        super().__init__()
        self.f = _check(size, width, multipliers, attention_at, code_dim)
        self.grid = size // self.f
        self.config: dict = dict(size=size, width=width, multipliers=tuple(multipliers),
                           attention_at=attention_at, num_codes=num_codes, code_dim=code_dim,
                           beta=beta, decay=decay, revive_below=revive_below, residual=residual)
        self.encoder = Encoder(size, width, multipliers, attention_at, code_dim, residual)
        self.decoder = Decoder(size, width, multipliers, attention_at, code_dim, residual)
        self.quantizer = VectorQuantizer(num_codes, code_dim, beta, decay,
                                         revive_below=revive_below)
        self.register_buffer("latent_mean", torch.zeros(code_dim))
        self.register_buffer("latent_std", torch.ones(code_dim))

    def encode(self, x: Tensor) -> Tensor:
        """z_e, before quantisation."""
        return self.encoder(images(x, ("B", 3, self.config["size"], self.config["size"])))

    def decode(self, z_q: Tensor) -> Tensor:
        return self.decoder(z_q)

    @torch.no_grad()
    def measure_latents(self, x: Tensor) -> None:
        """Store mean and deviation of each channel of z_q over images x, which stage 2 needs."""
        z_q = self.quantizer.embed(self.encode_indices(x)).movedim(1, 0).flatten(1)  # (C, N·grid²)
        self.latent_mean.copy_(z_q.mean(1))
        self.latent_std.copy_(z_q.std(1).clamp_min(1e-6))

    def normalise(self, z: Tensor) -> Tensor:
        """Latents with mean 0 and deviation 1 in each channel, for stage 2."""
        tensor(z, "z", ("B", self.quantizer.dim, "H", "W"))
        return (z - self.latent_mean[:, None, None]) / self.latent_std[:, None, None]

    def denormalise(self, z: Tensor) -> Tensor:
        tensor(z, "z", ("B", self.quantizer.dim, "H", "W"))
        return z * self.latent_std[:, None, None] + self.latent_mean[:, None, None]


class PatchDiscriminator(nn.Module):
    """Judges overlapping patches, a logit each: strided 4×4 convolutions, group norm, leaky ReLU.

    A logit sees a patch of 16, 34 or 70 pixels with 1, 2 or 3 layers (and, through the norm's
    statistics, a little of everything). layers=3, width=64 is VQGAN's, with 2.8 M parameters.
    Shapes: (B, channels, H, W) → (B, 1, h, w). Source: Isola et al. 2017, §3.2.2; not in the paper.
    """

    def __init__(self, width: int = 64, layers: int = 3, channels: int = 3):
        super().__init__()
        wholes(width=width, layers=layers, channels=channels)
        self.config = dict(width=width, layers=layers, channels=channels)
        body, channels = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)], width
        for i in range(1, layers + 1):
            c_out, stride = width * min(2**i, 8), 2 if i < layers else 1
            conv = nn.Conv2d(channels, c_out, 4, stride, 1, bias=False)
            body += [conv, group_norm(c_out), nn.LeakyReLU(0.2)]
            channels = c_out
        self.body = nn.Sequential(*body, nn.Conv2d(channels, 1, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        images(x, ("B", self.config["channels"], "H", "W"), like=self.body[0].weight)
        if min(x.shape[2:]) < (least := 3 * 2 ** self.config["layers"]):
            refuse("images", f"of {least} pixels and more for so many layers", str(tuple(x.shape)))
        return self.body(x)                      # (B, 1, h, w)


class Losses(NamedTuple):
    """The autoencoder's loss and its parts; the parts are before weighting."""

    total: Tensor
    l1: Tensor
    perceptual: Tensor
    adversarial: Tensor
    vq: Tensor


def mixed_loss(x: Tensor, x_hat: Tensor, vq: Tensor, perceptual: Callable | None = None,
               discriminator: Callable | None = None, lambda_d: float = 0.05,
               lambda_vq: float = 0.95) -> Losses:
    """L = ‖x̂ − x‖₁ + L_P + λ_d L_G + λ_vq L_vq with λ_d + λ_vq = 1.

    vq: the quantizer's loss. perceptual: a function of (x̂, x), or None to leave L_P out.
    discriminator: or None, as before its start step; then L_G = 0. The paper gives no values of λ;
    with 0.05, λ_d L_G is about as large as L1, which it is to balance.
    Shapes: x, x_hat (B, 3, H, W) → scalars. Source: Eqs. 11 to 15. Raises: ValueError for other λ.
    """
    alike(images(x, name="x"), x_hat, "x", "x_hat")
    total = number(lambda_d, "lambda_d") + number(lambda_vq, "lambda_vq")
    if abs(total - 1) > 1e-6 or min(lambda_d, lambda_vq) < 0:
        raise ValueError("lambda_d + lambda_vq must be 1 (Eq. 15), both at least 0; "
                         f"got {lambda_d} + {lambda_vq}")
    vq = tensor(vq, "vq", ()) if isinstance(vq, Tensor) else number(vq, "vq")
    l1, zero = F.l1_loss(x_hat, x), x.new_zeros(())
    p = perceptual(x_hat, x).mean() if perceptual else zero
    g = generator_loss(discriminator(x_hat), "hinge") if discriminator else zero
    return Losses(l1 + p + lambda_d * g + lambda_vq * vq, l1, p, g, vq)


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last_layer: Tensor,
                    eps: float = 1e-4) -> Tensor:
    """VQGAN's balance: ‖∇ reconstruction‖ / (‖∇ adversarial‖ + eps) at the decoder's last weights.

    At most 10⁴. The paper uses fixed weights, and so does `train_ivqvae`.
    Source: Esser et al. 2021, Eq. 7, with eps and limit of their code.
    """
    for loss in (reconstruction, adversarial):
        if not tensor(loss, "a loss", ()).requires_grad:
            raise ValueError("a loss must depend on the last layer; this one has no gradient")
    wanted, given = (torch.autograd.grad(loss, last_layer, retain_graph=True)[0].norm()
                     for loss in (reconstruction, adversarial))
    return (wanted / (given + eps)).clamp(0, 1e4).detach()


class IVQVAEStep(NamedTuple):
    """A step (from 1) of `train_ivqvae`: every loss by name, and the perplexity of its codes."""

    step: int
    total: float
    l1: float
    perceptual: float
    adversarial: float
    vq: float
    discriminator: float
    perplexity: float


def train_ivqvae(model: IVQVAE, data: Batches, *, steps: int, perceptual: Callable | None = None,
                 discriminator: nn.Module | None = None, start: int | None = None,
                 lambda_d: float = 0.05, lambda_vq: float = 0.95, lr: float = 1e-3,
                 init_batches: int = 4) -> Iterator[IVQVAEStep]:
    """Train on batches (x,), the rate in one cycle up to `lr`; yields an `IVQVAEStep` a step.

    discriminator: trained, and its loss used, from step `start` on (1 is the first), not before.
    init_batches: the codebook starts from the k-means centres of so many first batches, which must
        hold a vector for every code; 0 keeps its random start.
    Source: Algorithm 1. Raises: ValueError for a start that never comes, for data that end early.
    """
    if discriminator is None and start is not None:
        raise ValueError(f"start={start} without a discriminator: pass one, or leave start out")
    comes = start is not None and is_whole(start) and 1 <= start <= whole(steps, "steps")
    if discriminator is not None and not comes:
        raise ValueError(f"the discriminator starts at a step from 1 to {steps}, the last; "
                         f"got start={start}")
    betas = (0.5, 0.9) if discriminator is not None else (0.9, 0.999)
    optimiser = torch.optim.Adam(model.parameters(), betas=betas)
    schedule = one_cycle(optimiser, lr, steps)           # which gives the rate
    if discriminator is not None:
        opt_d = torch.optim.Adam(discriminator.parameters(), lr=lr, betas=betas)
    device = next(model.parameters()).device
    model.train()
    for step, (x, *_) in counted(data, steps, start_codebook(model, data, init_batches)):
        x = x.to(device)
        judge = discriminator if start and step >= start else None
        if judge:
            judge.requires_grad_(False)      # the autoencoder's step needs no gradient of it
        x_hat, quantized = model(x)
        losses = mixed_loss(x, x_hat, quantized.loss, perceptual, judge, lambda_d, lambda_vq)
        optimiser.zero_grad()
        losses.total.backward()
        optimiser.step()
        schedule.step()
        d_loss = torch.zeros(())             # the discriminator's step
        if judge:
            judge.requires_grad_(True)
            d_loss = discriminator_loss(judge(x), judge(x_hat.detach()), "hinge")
            opt_d.zero_grad()
            d_loss.backward()
            opt_d.step()
        used = perplexity(quantized.indices, model.quantizer.num_codes)
        values = [*(v.item() for v in losses), d_loss.item(), used]
        yield IVQVAEStep(step, *values)
