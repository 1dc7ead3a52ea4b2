"""Chapter 4: IVQ-VAE, the paper's autoencoder. VQ-VAE with residual blocks, attention, and a mixed loss.

Source: Liu, Chen, Gao 2026, §2 (Eqs. 1 to 15, Algorithm 1), after Esser et al. 2021 (VQGAN).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from minigen.common import counted, group_norm, one_cycle, several
from minigen.gan import discriminator_loss, generator_loss
from minigen.inputs import alike, images, is_whole, number, refuse, tensor, whole, wholes
from minigen.vqvae import Tokenizer, VectorQuantizer, perplexity, start_codebook

# Arguments of IVQVAE: the paper's model at 256×256, and one for 32×32 faces that a laptop trains.
PRESETS = {
    "paper": dict(size=256, width=128, multipliers=(1, 1, 2, 2, 4, 4, 4), attention_at=16, num_codes=16384, code_dim=4,
                  decay=None, revive_below=0.0),
    "small": dict(size=32, width=16, multipliers=(1, 2, 4, 8), attention_at=8, num_codes=512, code_dim=4),
}


class ResidualBlock(nn.Module):
    """h + Conv3×3(Swish(GroupNorm(h))); where the width changes, h goes through a 1×1 convolution.

    residual=False leaves the sum out and keeps the layers (Table 7). Shapes: (B, c_in, H, W) → (B, c_out, H, W).
    Source: Eq. 2; the shortcut is the course's decision, the paper names none.
    """

    def __init__(self, c_in, c_out, residual=True):
        super().__init__()
        wholes(c_in=c_in, c_out=c_out)
        self.body = nn.Sequential(group_norm(c_in), nn.SiLU(), nn.Conv2d(c_in, c_out, 3, 1, 1))
        self.shortcut = (nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)) if residual else None

    def forward(self, h):
        tensor(h, "h", ("B", self.body[2].in_channels, "H", "W"), like=self.body[2].weight)
        return self.body(h) if self.shortcut is None else self.shortcut(h) + self.body(h)


class Attention(nn.Module):
    """h + Conv1×1(W V) with W = softmax(Q Kᵀ / √C): every place looks at every other.

    Q, K, V are 1×1 convolutions of the group-normalised map. `weights(h)` gives W for pictures.
    Shapes: (B, C, H, W) → the same; weights (B, heads, H·W, H·W), rows sum to 1. Source: Eqs. 8 to 10.
    """

    def __init__(self, channels, num_heads=1):
        super().__init__()
        if whole(channels, "channels") % whole(num_heads, "num_heads"):
            raise ValueError(f"num_heads must divide the {channels} channels; got {num_heads}")
        self.num_heads = num_heads
        self.norm, self.qkv = group_norm(channels), nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def _qkv(self, h):
        tensor(h, "h", ("B", self.qkv.in_channels, "H", "W"), like=self.qkv.weight)
        split = (len(h), 3, self.num_heads, h.shape[1] // self.num_heads, h.shape[2] * h.shape[3])
        return self.qkv(self.norm(h)).view(split).transpose(-1, -2).unbind(1)

    def forward(self, h):
        mixed = F.scaled_dot_product_attention(*self._qkv(h))
        return h + self.out(mixed.transpose(-1, -2).reshape(h.shape))

    def weights(self, h):
        q, k, _ = self._qkv(h)
        return (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)


def _stage(c_in, c_out, attend, residual):
    blocks = [ResidualBlock(c_in, c_out, residual), ResidualBlock(c_out, c_out, residual)]
    return blocks + [Attention(c_out)] if attend else blocks


def _check(size, width, multipliers, attention_at, code_dim):
    """The compression f. Raises: ValueError for an autoencoder that cannot be built so."""
    wholes(size=size, code_dim=code_dim)
    whole(attention_at or 0, "attention_at", 0)
    if whole(width, "width") < 4:
        raise ValueError(f"width must be at least 4 (group normalisation); got {width}")
    f = 2 ** (len(several(multipliers, "multipliers")) - 1)
    if size % f:
        raise ValueError(f"{len(multipliers)} stages compress by {f}, which does not divide the size {size}")
    return f


class Encoder(nn.Module):
    """Image → z_e: Conv3×3; a stage of two residual blocks for each multiplier, halved after all but the last; 1×1 to code_dim.

    With n multipliers the compression is f = 2^(n − 1). A stage of resolution `attention_at` ends with attention; where no
    stage has it, as 16 at f = 8, there is none. Group norm and Swish before the 1×1 are the course's decision.
    Shapes: (B, 3, size, size) → (B, code_dim, size / f, size / f). Source: Eqs. 1 to 4.
    """

    def __init__(self, size, width, multipliers, attention_at, code_dim, residual=True):
        super().__init__()
        _check(size, width, multipliers, attention_at, code_dim)
        channels, layers, resolution = width, [nn.Conv2d(3, width, 3, 1, 1)], size
        for i, m in enumerate(multipliers):
            layers += _stage(channels, width * m, resolution == attention_at, residual)
            channels = width * m
            if i < len(multipliers) - 1:
                layers.append(nn.Conv2d(channels, channels, 3, 2, 1))
                resolution //= 2
        self.body = nn.Sequential(*layers, group_norm(channels), nn.SiLU(), nn.Conv2d(channels, code_dim, 1))

    def forward(self, x):
        return self.body(tensor(x, "images", ("B", 3, "H", "W"), like=self.body[0].weight))


class Decoder(nn.Module):
    """z_q → image, the encoder in reverse: 1×1; stages, doubled by nearest neighbour + Conv3×3 between them; Conv3×3, tanh.

    Shapes: (B, code_dim, size / f, size / f) → (B, 3, size, size) in (-1, 1). Source: Eqs. 5 to 7.
    """

    def __init__(self, size, width, multipliers, attention_at, code_dim, residual=True):
        super().__init__()
        _check(size, width, multipliers, attention_at, code_dim)
        channels, resolution = width * multipliers[-1], size // 2 ** (len(multipliers) - 1)
        layers = [nn.Conv2d(code_dim, channels, 1)]
        for i, m in enumerate(reversed(multipliers)):
            layers += _stage(channels, width * m, resolution == attention_at, residual)
            channels = width * m
            if i < len(multipliers) - 1:
                layers += [nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(channels, channels, 3, 1, 1)]
                resolution *= 2
        self.body = nn.Sequential(*layers, group_norm(channels), nn.SiLU(), nn.Conv2d(channels, 3, 3, 1, 1), nn.Tanh())

    def forward(self, z):
        first = self.body[0]
        return self.body(tensor(z, "z", ("B", first.in_channels, "H", "W"), like=first.weight))


class IVQVAE(Tokenizer):
    """The improved VQ-VAE: `Encoder`, `VectorQuantizer`, `Decoder`, and the statistics of its latents.

    Shapes: x (B, 3, size, size) in [-1, 1]; z_e, z_q (B, code_dim, grid, grid); indices (B, grid, grid); grid = size / f.
    Raises: ValueError for a size that the compression does not divide. Source: Liu, Chen, Gao 2026, §2.
    """

    def __init__(self, size=32, width=16, multipliers=(1, 2, 4, 8), attention_at=8, num_codes=512, code_dim=4, beta=0.25,
                 decay=0.99, revive_below=0.05, residual=True):
        super().__init__()
        self.f = _check(size, width, multipliers, attention_at, code_dim)
        self.config = dict(size=size, width=width, multipliers=tuple(multipliers), attention_at=attention_at, num_codes=num_codes,
                           code_dim=code_dim, beta=beta, decay=decay, revive_below=revive_below, residual=residual)
        shape = (size, width, multipliers, attention_at, code_dim, residual)
        self.grid, self.encoder, self.decoder = size // self.f, Encoder(*shape), Decoder(*shape)
        self.quantizer = VectorQuantizer(num_codes, code_dim, beta, decay, revive_below=revive_below)
        self.register_buffer("latent_mean", torch.zeros(code_dim))
        self.register_buffer("latent_std", torch.ones(code_dim))

    def encode(self, x):
        """z_e, before quantisation."""
        return self.encoder(images(x, ("B", 3, self.config["size"], self.config["size"])))

    def decode(self, z_q):
        return self.decoder(z_q)

    @torch.no_grad()
    def measure_latents(self, x):
        """Store mean and standard deviation of each channel of z_q over images x, which stage 2 needs."""
        z_q = self.quantizer.embed(self.encode_indices(x)).movedim(1, 0).flatten(1)
        self.latent_mean.copy_(z_q.mean(1)), self.latent_std.copy_(z_q.std(1).clamp_min(1e-6))

    def normalise(self, z):
        """Latents with mean 0 and deviation 1 in each channel, for stage 2."""
        tensor(z, "z", ("B", self.quantizer.dim, "H", "W"))
        return (z - self.latent_mean[:, None, None]) / self.latent_std[:, None, None]

    def denormalise(self, z):
        tensor(z, "z", ("B", self.quantizer.dim, "H", "W"))
        return z * self.latent_std[:, None, None] + self.latent_mean[:, None, None]


class PatchDiscriminator(nn.Module):
    """Judges overlapping patches: a map of logits instead of one. Strided 4×4 convolutions, group norm, leaky ReLU.

    A logit sees a patch of 16, 34 or 70 pixels with 1, 2 or 3 layers (and, through the norm's statistics, a little of
    everything). layers=3, width=64 is VQGAN's, with 2.8 M parameters. Shapes: (B, 3, H, W) → (B, 1, h, w).
    Source: Isola et al. 2017, §3.2.2; the paper's Dis is not described.
    """

    def __init__(self, width=64, layers=3):
        super().__init__()
        wholes(width=width, layers=layers)
        self.config = dict(width=width, layers=layers)
        body, channels = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2)], width
        for i in range(1, layers + 1):
            c_out = width * min(2**i, 8)
            body += [nn.Conv2d(channels, c_out, 4, 2 if i < layers else 1, 1, bias=False), group_norm(c_out), nn.LeakyReLU(0.2)]
            channels = c_out
        self.body = nn.Sequential(*body, nn.Conv2d(channels, 1, 4, 1, 1))

    def forward(self, x):
        least = 3 * 2 ** self.config["layers"]
        if min(images(x, like=self.body[0].weight).shape[2:]) < least:
            refuse("images", f"of {least} pixels and more for so many layers", tuple(x.shape))
        return self.body(x)


class Losses(NamedTuple):
    """The autoencoder's loss and its parts; the parts are before weighting."""

    total: torch.Tensor
    l1: torch.Tensor
    perceptual: torch.Tensor
    adversarial: torch.Tensor
    vq: torch.Tensor


def mixed_loss(x, x_hat, vq, perceptual=None, discriminator=None, lambda_d=0.05, lambda_vq=0.95):
    """L = ‖x̂ − x‖₁ + L_P + λ_d L_G + λ_vq L_vq with λ_d + λ_vq = 1.

    vq: the quantizer's loss. perceptual: a function of (x̂, x), or None to leave L_P out. discriminator: or None, as before
    its start step; then L_G = 0. The paper gives no values of λ; with 0.05, λ_d L_G is about as large as L1, which it is
    to balance.
    Shapes: x, x_hat (B, 3, H, W); result scalars. Source: Eqs. 11 to 15.
    Raises: ValueError where λ_d + λ_vq is not 1.
    """
    alike(images(x, name="x"), x_hat, "x", "x_hat")
    total = number(lambda_d, "lambda_d") + number(lambda_vq, "lambda_vq")
    if abs(total - 1) > 1e-6 or min(lambda_d, lambda_vq) < 0:
        raise ValueError(f"lambda_d + lambda_vq must be 1 (Eq. 15), both at least 0; got {lambda_d} + {lambda_vq}")
    tensor(vq, "vq", ()) if isinstance(vq, torch.Tensor) else number(vq, "vq")
    l1, zero = F.l1_loss(x_hat, x), x.new_zeros(())
    p = perceptual(x_hat, x).mean() if perceptual else zero
    g = generator_loss(discriminator(x_hat), "hinge") if discriminator else zero
    return Losses(l1 + p + lambda_d * g + lambda_vq * vq, l1, p, g, vq)


def adaptive_weight(reconstruction, adversarial, last_layer, eps=1e-4):
    """VQGAN's balance: ‖∇ reconstruction‖ / (‖∇ adversarial‖ + eps) at the decoder's last weights, at most 10⁴.

    Source: Esser et al. 2021, Eq. 7, with eps and limit of their code. The paper uses fixed weights, and so does
    `train_ivqvae`.
    """
    for loss in (reconstruction, adversarial):
        if not tensor(loss, "a loss", ()).requires_grad:
            raise ValueError("a loss must depend on the last layer; this one has no gradient")
    size = [torch.autograd.grad(loss, last_layer, retain_graph=True)[0].norm() for loss in (reconstruction, adversarial)]
    return (size[0] / (size[1] + eps)).clamp(0, 1e4).detach()


class IVQVAEStep(NamedTuple):
    """One step of `train_ivqvae`: its number (from 1), every loss by name, and the perplexity of the batch's codes."""

    step: int
    total: float
    l1: float
    perceptual: float
    adversarial: float
    vq: float
    discriminator: float
    perplexity: float


def train_ivqvae(model, data, *, steps, perceptual=None, discriminator=None, start=None, lambda_d=0.05, lambda_vq=0.95, lr=1e-3,
                 init_batches=4):
    """Train on batches (x,) of `data`; yields an `IVQVAEStep` a step. The learning rate follows one cycle up to `lr`.

    discriminator: trained, and its loss used, from step `start` on (1 is the first); before, it judges nothing.
    init_batches: the codebook starts from the k-means centres of so many first batches, which must hold a vector for
        every code; 0 keeps its random start.
    Source: Algorithm 1. Raises: ValueError for a start that never comes, or none, and for data that ends before `steps`.
    """
    if discriminator is not None and not (is_whole(start) and 1 <= start <= whole(steps, "steps")):
        raise ValueError(f"the discriminator starts at a step from 1 to {steps}, the last; got start={start}")
    if discriminator is None and start is not None:
        raise ValueError(f"start={start} without a discriminator: pass one, or leave start out")
    device, opt_d = next(model.parameters()).device, None
    optimiser = torch.optim.Adam(model.parameters(), betas=(0.5, 0.9) if discriminator else (0.9, 0.999))
    schedule = one_cycle(optimiser, lr, steps)           # which gives the rate
    if discriminator is not None:
        opt_d = torch.optim.Adam(discriminator.parameters(), lr=lr, betas=(0.5, 0.9))
    model.train()
    used = start_codebook(model, data, init_batches)
    for step, (x, *_) in counted(data, steps, used):
        x, judge = x.to(device), discriminator if opt_d and step >= start else None
        x_hat, quantized = model(x)
        if judge:
            judge.requires_grad_(False)                  # the autoencoder's step needs no gradient of its weights
        losses = mixed_loss(x, x_hat, quantized.loss, perceptual, judge, lambda_d, lambda_vq)
        optimiser.zero_grad()
        losses.total.backward()
        optimiser.step()
        schedule.step()
        d_loss = torch.zeros(())
        if judge:
            judge.requires_grad_(True)
            d_loss = discriminator_loss(judge(x), judge(x_hat.detach()), "hinge")
            opt_d.zero_grad()
            d_loss.backward()
            opt_d.step()
        yield IVQVAEStep(step, *(v.item() for v in losses), d_loss.item(),
                         perplexity(quantized.indices, model.quantizer.num_codes))
