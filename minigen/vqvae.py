"""Chapter 3: vector quantisation and the VQ-VAE around it. Its prior is `minigen.pixelcnn`.

Sources: van den Oord et al. 2017 (VQ-VAE), Razavi et al. 2019 (averages), Dhariwal 2020 (revival).
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from minigen.common import Batches, counted, filled, one_cycle, perplexity, start_codebook
from minigen.common import generator as seeded
from minigen.errors import Diverged
from minigen.inputs import images, in_range, is_number, is_whole, number, tensor, whole
from minigen.vae import ConvDecoder, ConvEncoder

CHUNK = 2**22  # distances held at once: 16 MB of float32
UNUSED = 1e-3  # vectors a step, on running average, below which a code is not moved


@torch.no_grad()
def nearest_code(z: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest code: argmin_k ‖z − e_k‖² = argmin_k (‖e_k‖² − 2 z·e_k), row by row.

    Computed in float32 (float64 stays) even under autocast: in bfloat16 close codes become one.
    Shapes: z (N, C), codebook (K, C) → (N,) int64. Source: van den Oord 2017, Eq. 1.
    """
    tensor(codebook, "the codebook", ("K", "C"))
    tensor(z, "z", ("N", codebook.shape[1]))
    filled(codebook, "the codebook")
    with torch.autocast(z.device.type, enabled=False):
        wide = torch.float64 if z.dtype == torch.float64 else torch.float32
        z, codebook = z.to(wide), codebook.to(wide)
        square, columns = codebook.square().sum(1), codebook.T       # (K,), (C, K)
        parts = z.split(max(1, CHUNK // len(codebook)))              # so many rows at once
        return torch.cat([torch.addmm(square, x, columns, alpha=-2).argmin(1) for x in parts])


def kmeans(points: Tensor, k: int, steps: int = 10, seed: int = 0) -> Tensor:
    """Lloyd's algorithm: give every point to its nearest centre, move each to the mean of its own.

    It starts from k points of the data, different ones as far as there are; a centre without points
    stays where it is. Shapes: points (N, C) with N ≥ k → centres (k, C). Source: Lloyd 1982.
    """
    tensor(points, "points", ("N", "C"))
    whole(k, "k")
    whole(steps, "steps", 0)
    if len(points) < k:
        raise ValueError(f"{k} centres need at least {k} points; got {len(points)}")
    shuffled = points[torch.randperm(len(points), generator=seeded(seed)).to(points.device)]
    which = shuffled.unique(dim=0, return_inverse=True)[1]           # equal points, one number
    place = torch.arange(len(points), device=points.device)
    first = torch.full_like(place, len(points)).scatter_reduce(0, which, place, "amin")
    repeated = (place != first[which]).int()                         # to be put behind the others
    centres = shuffled[torch.argsort(repeated, stable=True)[:k]]
    for _ in range(steps):
        counts, sums = count_and_sum(points, nearest_code(points, centres), k)
        centres = torch.where(counts[:, None] > 0, sums / counts[:, None].clamp_min(1), centres)
    return centres


def count_and_sum(z: Tensor, indices: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """How many vectors each of k codes got, and their sum: (N, C) and (N,) → (k,) and (k, C)."""
    tensor(z, "z", ("N", "C"))
    whole(k, "k")
    tensor(indices, "indices", (len(z),), integers=True)
    indices = in_range(indices, 0, k - 1, "indices").long()
    counts = torch.bincount(indices, minlength=k).to(z.dtype)
    return counts, z.new_zeros(k, z.shape[1]).index_add_(0, indices, z)


class Quantized(NamedTuple):
    """z_q (B, C, H, W), indices (B, H, W), losses: loss = codebook_loss + β · commitment_loss."""

    z_q: Tensor
    indices: Tensor
    loss: Tensor
    codebook_loss: Tensor
    commitment_loss: Tensor


class VectorQuantizer(nn.Module):
    """Replaces each vector of a map by the nearest of K codes.

    loss = mean (sg[z] − e)² + β mean (z − sg[e])²   (β belongs to the commitment, the second term)
    z_q  = z + sg[e − z]                              (value e, gradient of z: straight-through)

    decay=None: the codebook is a parameter, moved by the first term. decay=0.99, say: it is the
    running mean of the vectors that chose each code, and the first term is dropped. Forward passes
    in training mode keep a running count `cluster_size` of each code's vectors; with revive_below
    a code whose count falls below that share of the average takes the place of a random vector of
    the batch. eval mode changes nothing. Processes that start alike keep one codebook.

    Shapes: z (B, C, H, W) → `Quantized`.
    Raises: ValueError for a size below 1, a wrong number of channels, NaN or infinity in z.
    Source: van den Oord 2017, Eqs. 1 to 3, appendix A.1; IVQ-VAE + FFTD, L_vq of Eq. 15.
    """

    cluster_size: Tensor
    embed_avg: Tensor

    def __init__(self, num_codes: int, dim: int, beta: float = 0.25, decay: float | None = None,
                 eps: float = 1e-5, revive_below: float = 0.0):
        super().__init__()
        if not is_whole(num_codes) or not is_whole(dim) or num_codes < 1 or dim < 1:
            raise ValueError("a codebook needs at least one code of at least one number; "
                             f"got num_codes={num_codes}, dim={dim}")
        if decay is not None and not (is_number(decay) and 0 < decay < 1):
            raise ValueError(f"decay must be None or between 0 and 1; got {decay}")
        if not all(is_number(v) and v >= 0 for v in (beta, eps, revive_below)) or revive_below >= 1:
            raise ValueError("beta and eps must be at least 0, and revive_below, a share of the "
                             f"average count, in [0, 1); got beta={beta}, eps={eps}, "
                             f"revive_below={revive_below}")
        self.num_codes, self.dim, self.beta, self.decay = num_codes, dim, beta, decay
        self.eps, self.revive_below = eps, revive_below
        codebook = torch.randn(num_codes, dim)
        if decay is None:
            self.codebook = nn.Parameter(codebook)
        else:
            self.register_buffer("codebook", codebook)
            self.register_buffer("embed_avg", codebook.clone())   # running sum of a code's vectors
        self.register_buffer("cluster_size", torch.ones(num_codes))  # zeros divide by nearly 0
        self._waiting: list[tuple[Tensor, Tensor]] | None = None

    def forward(self, z: Tensor) -> Quantized:
        flat = self._rows(z)                                         # (B·H·W, C)
        chosen = nearest_code(flat, self.codebook)                   # (B·H·W,)
        indices = chosen.view(len(z), *z.shape[2:])                  # (B, H, W)
        e = F.embedding(indices, self.codebook).movedim(-1, 1)       # (B, C, H, W)
        codebook_loss = F.mse_loss(e, z.detach())
        commitment_loss = F.mse_loss(z, e.detach())
        loss = self.beta * commitment_loss + (codebook_loss if self.decay is None else 0)
        if self.training:
            vectors = flat.detach().to(self.codebook.dtype)
            if self._waiting is None:
                self._update(vectors, chosen)
            else:
                self._waiting.append((vectors, chosen))
        return Quantized(z + (e - z).detach(), indices, loss, codebook_loss, commitment_loss)

    @contextlib.contextmanager
    def one_update(self) -> Iterator[None]:
        """For a batch in parts: the codebook stands still inside, then moves as by the whole."""
        self._waiting = []
        try:
            yield
            if self._waiting:
                self._update(*map(torch.cat, zip(*self._waiting, strict=True)))
        finally:
            self._waiting = None

    def embed(self, indices: Tensor) -> Tensor:
        """The codes at indices 0 … K − 1, others a ValueError. Shapes: (B, H, W) → (B, C, H, W)."""
        wanted = f"0 to {self.num_codes - 1}, the codebook has {self.num_codes} codes"
        tensor(indices, "indices", ("B", "H", "W"), integers=True)
        in_range(indices, 0, self.num_codes - 1, "indices", wanted)
        return F.embedding(indices.long(), self.codebook).movedim(-1, 1)

    @torch.no_grad()
    def init_codebook(self, z: Tensor, steps: int = 10, seed: int = 0) -> None:
        """Start from the k-means centres of encoder outputs z (B, C, H, W) with B·H·W ≥ K."""
        centres = kmeans(self._rows(z).to(self.codebook.dtype), self.num_codes, steps, seed)
        if _world() > 1:
            dist.broadcast(centres, 0)
        self._set(slice(None), centres, torch.ones_like(self.cluster_size))

    def _rows(self, z: Tensor) -> Tensor:
        tensor(z, "the map to quantise", ("B", self.dim, "H", "W"))
        if not torch.isfinite(z).all():
            raise Diverged("the map to quantise holds NaN or infinity: the encoder has diverged "
                           "(a smaller learning rate?)")
        return z.movedim(1, -1).reshape(-1, self.dim)                # (B·H·W, C)

    @torch.no_grad()
    def _update(self, flat: Tensor, indices: Tensor) -> None:
        counts, sums = count_and_sum(flat, indices, self.num_codes)  # (K,), (K, C)
        if _world() > 1:
            dist.all_reduce(counts)
            dist.all_reduce(sums)
        self.cluster_size.lerp_(counts, 1 - (self.decay or 0.99))
        if self.decay is not None:
            self.embed_avg.lerp_(sums, 1 - self.decay)
            total = self.cluster_size.sum()              # kept by the smoothing: no count is zero
            smoothed = (self.cluster_size + self.eps) / (total + self.num_codes * self.eps) * total
            used = (self.cluster_size > UNUSED)[:, None]  # a long unused code does not shrink to 0
            means = self.embed_avg / smoothed[:, None]
            self.codebook.copy_(torch.where(used, means, self.codebook))
        if self.revive_below > 0:
            average = counts.sum() / self.num_codes
            dead = self.cluster_size < self.revive_below * average
            if dead.any():
                picks = flat[torch.randint(len(flat), (self.num_codes,), device=flat.device)]
                if _world() > 1:
                    dist.broadcast(picks, 0)
                self._set(dead, picks, average.expand(self.num_codes))

    def _set(self, which: slice | Tensor, vectors: Tensor, counts: Tensor) -> None:
        """Move codes, and with them the running averages, which would pull them back at once."""
        self.codebook.data[which] = vectors[which]
        self.cluster_size[which] = counts[which]
        if self.decay is not None:
            self.embed_avg[which] = vectors[which] * counts[which, None]


def _world() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class Tokenizer(nn.Module):
    """What every autoencoder with a codebook can do; a subclass brings the three named first."""

    quantizer: VectorQuantizer
    encode: Callable[[Tensor], Tensor]           # x → z_e
    decode: Callable[[Tensor], Tensor]           # z_q → x̂

    def forward(self, x: Tensor) -> tuple[Tensor, Quantized]:
        quantized = self.quantizer(self.encode(x))
        return self.decode(quantized.z_q), quantized     # x̂ (B, 3, size, size), and codes

    @torch.no_grad()
    def encode_indices(self, x: Tensor, batch_size: int = 256) -> Tensor:
        """Codes of images. Shapes: (N, 3, H, W) → (N, grid, grid) int64."""
        images(x, ("N", 3, "H", "W"))
        q = self.quantizer
        latents = map(self.encode, x.split(whole(batch_size, "batch_size")))  # (B, C, grid, grid)
        codes = [nearest_code(q._rows(z), q.codebook).view(len(z), *z.shape[2:]) for z in latents]
        return torch.cat(codes)

    @torch.no_grad()
    def decode_indices(self, indices: Tensor, batch_size: int = 256) -> Tensor:
        """Images of codes. Shapes: (N, grid, grid) → (N, 3, H, W)."""
        tensor(indices, "indices", ("N", "H", "W"), integers=True)
        parts = indices.split(whole(batch_size, "batch_size"))
        return torch.cat([self.decode(self.quantizer.embed(part)) for part in parts])


class VQVAE(Tokenizer):
    """VQ-VAE: encoder → 1×1 convolution to code_dim → quantizer → 1×1 convolution → decoder.

    Shapes: x (B, 3, size, size) in [-1, 1]; z_e, z_q (B, code_dim, 4, 4); indices (B, 4, 4).
    Source: van den Oord et al. 2017, §3.
    """

    def __init__(self, num_codes: int = 512, code_dim: int = 16, width: int = 32, size: int = 32,
                 beta: float = 0.25, decay: float | None = 0.99, revive_below: float = 0.05):
        super().__init__()
        whole(code_dim, "code_dim")
        self.config = dict(num_codes=num_codes, code_dim=code_dim, width=width, size=size,
                           beta=beta, decay=decay, revive_below=revive_below)
        self.encoder, self.decoder = ConvEncoder(width, size), ConvDecoder(width, size)
        self.to_code = nn.Conv2d(self.encoder.channels, code_dim, 1)
        self.from_code = nn.Conv2d(code_dim, self.decoder.channels, 1)
        self.quantizer = VectorQuantizer(num_codes, code_dim, beta, decay,
                                         revive_below=revive_below)

    def encode(self, x: Tensor) -> Tensor:
        """z_e, before quantisation."""
        images(x, ("B", 3, self.config["size"], self.config["size"]), like=self.to_code.weight)
        return self.to_code(self.encoder(x))     # (B, channels, 4, 4) → (B, code_dim, 4, 4)

    def decode(self, z_q: Tensor) -> Tensor:
        tensor(z_q, "z_q", ("B", self.quantizer.dim, "H", "W"), like=self.from_code.weight)
        return self.decoder(self.from_code(z_q))


class VQVAEStep(NamedTuple):
    """A step (from 1) of `train_vqvae`: mean squared error, commitment, perplexity of its codes."""

    step: int
    reconstruction: float
    commitment: float
    perplexity: float


def train_vqvae(model: VQVAE, data: Batches, *, steps: int, lr: float = 2e-3,
                init_batches: int = 4) -> Iterator[VQVAEStep]:
    """Train on batches (x,) of `data`; yields a `VQVAEStep` a step.

    Loss: mean (x − x̂)² + the quantizer's. The codebook starts from k-means over the first
    `init_batches` batches (0: N(0, 1)), which an iterator does not give again.
    Raises: ValueError where `data` ends before `steps`, and for settings that cannot be.
    """
    optimiser = torch.optim.Adam(model.parameters(), lr=number(lr, "lr", 0))
    schedule = one_cycle(optimiser, lr, steps)
    device = next(model.parameters()).device
    model.train()
    for step, (x, *_) in counted(data, steps, start_codebook(model, data, init_batches)):
        x = x.to(device)
        x_hat, quantized = model(x)
        reconstruction = F.mse_loss(x_hat, x)
        optimiser.zero_grad()
        (reconstruction + quantized.loss).backward()
        optimiser.step()
        schedule.step()
        yield VQVAEStep(step, reconstruction.item(), quantized.commitment_loss.item(),
                        perplexity(quantized.indices, model.quantizer.num_codes))
