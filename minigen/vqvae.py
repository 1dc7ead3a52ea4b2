"""Chapter 3: vector quantisation. Nearest code, straight-through gradient, a codebook learned by gradient or by
running averages, and the VQ-VAE around it. Its prior over codes is `minigen.pixelcnn`.

Sources: van den Oord et al. 2017 (VQ-VAE), Razavi et al. 2019 (running averages), Dhariwal et al. 2020 (revival).
"""

import contextlib
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from minigen.common import counted, filled, generator, one_cycle, taken
from minigen.errors import Diverged
from minigen.inputs import images, in_range, is_number, is_whole, number, tensor, whole
from minigen.vae import ConvDecoder, ConvEncoder

CHUNK = 2**22  # distances held at once: 16 MB of float32
UNUSED = 1e-3  # vectors a step, on running average, below which a code is not moved


@torch.no_grad()
def nearest_code(z, codebook):
    """Index of the nearest code: argmin_k ‖z − e_k‖² = argmin_k (‖e_k‖² − 2 z·e_k), in chunks of rows.

    Computed in float32 (float64 stays) even under autocast: in bfloat16 close codes become one.
    Shapes: z (N, C), codebook (K, C) → (N,) int64. Source: van den Oord 2017, Eq. 1.
    """
    tensor(codebook, "the codebook", ("K", "C"))
    tensor(z, "z", ("N", codebook.shape[1]))
    filled(codebook, "the codebook")
    with torch.autocast(z.device.type, enabled=False):
        wide = torch.float64 if z.dtype == torch.float64 else torch.float32
        z, codebook = z.to(wide), codebook.to(wide)
        square = codebook.square().sum(1)
        rows = max(1, CHUNK // len(codebook))
        return torch.cat([torch.addmm(square, part, codebook.T, alpha=-2).argmin(1) for part in z.split(rows)])


def kmeans(points, k, steps=10, seed=0):
    """Lloyd's algorithm: assign every point to its nearest centre, move each centre to the mean of its points.

    It starts from k points of the data, different ones as far as there are; a centre without points stays where it is.
    Shapes: points (N, C) with N ≥ k → centres (k, C). Source: Lloyd 1982.
    """
    tensor(points, "points", ("N", "C"))
    whole(k, "k")
    whole(steps, "steps", 0)
    if len(points) < k:
        raise ValueError(f"{k} centres need at least {k} points; got {len(points)}")
    shuffled = points[torch.randperm(len(points), generator=generator(seed)).to(points.device)]
    which, place = shuffled.unique(dim=0, return_inverse=True)[1], torch.arange(len(points), device=points.device)
    repeated = place != place.new_full((len(points),), len(points)).scatter_reduce(0, which, place, "amin")[which]
    centres = shuffled[torch.argsort(repeated.int(), stable=True)[:k]]         # first appearances first
    for _ in range(steps):
        counts, sums = count_and_sum(points, nearest_code(points, centres), k)
        centres = torch.where(counts[:, None] > 0, sums / counts[:, None].clamp_min(1), centres)
    return centres


def count_and_sum(z, indices, k):
    """How many vectors each of k codes got, and their sum. Shapes: z (N, C), indices (N,) → (k,), (k, C)."""
    tensor(z, "z", ("N", "C"))
    whole(k, "k")
    tensor(indices, "indices", (len(z),), integers=True)
    indices = in_range(indices, 0, k - 1, "indices").long()
    counts = torch.bincount(indices, minlength=k).to(z.dtype)
    return counts, z.new_zeros(k, z.shape[1]).index_add_(0, indices, z)


def perplexity(indices, num_codes):
    """exp of the entropy of code usage: how many codes are used, in effect. From 1 to num_codes. Shapes: any → a float."""
    filled(tensor(indices, "indices", integers=True), "indices")
    in_range(indices, 0, whole(num_codes, "num_codes") - 1, "indices")
    p = torch.bincount(indices.flatten(), minlength=num_codes).double() / indices.numel()
    return float(torch.exp(-torch.xlogy(p, p).sum()))


class Quantized(NamedTuple):
    """z_q with straight-through gradient (B, C, H, W), indices (B, H, W), and the losses: loss = codebook + β · commitment."""

    z_q: torch.Tensor
    indices: torch.Tensor
    loss: torch.Tensor
    codebook_loss: torch.Tensor
    commitment_loss: torch.Tensor


class VectorQuantizer(nn.Module):
    """Replaces each vector of a map by the nearest of K codes.

    loss = mean (sg[z] − e)² + β mean (z − sg[e])²          (β belongs to the commitment, the second term)
    z_q  = z + sg[e − z]                                     (value e, gradient of z: straight-through)

    decay=None: the codebook is a parameter, moved by the first term. decay=0.99, say: it is the running mean of the
    vectors that chose each code, and the first term is dropped. Forward passes in training mode keep a running count
    `cluster_size` of each code's vectors; with revive_below > 0 a code whose count falls below that share of the
    average count takes the place of a random vector of the batch. eval mode changes nothing.
    Under torch.distributed counts, sums and revivals are shared, so that processes that start alike keep one codebook.

    Shapes: z (B, C, H, W) → `Quantized`. Source: van den Oord 2017, Eqs. 1 to 3, appendix A.1; IVQ-VAE + FFTD, L_vq of Eq. 15.
    Raises: ValueError for a size below 1, a wrong number of channels, NaN or infinity in z.
    """

    def __init__(self, num_codes, dim, beta=0.25, decay=None, eps=1e-5, revive_below=0.0):
        super().__init__()
        if not is_whole(num_codes) or not is_whole(dim) or num_codes < 1 or dim < 1:
            raise ValueError(f"a codebook needs at least one code of at least one number; got num_codes={num_codes}, dim={dim}")
        if decay is not None and not (is_number(decay) and 0 < decay < 1):
            raise ValueError(f"decay must be None or between 0 and 1; got {decay}")
        if not all(is_number(v) and v >= 0 for v in (beta, eps, revive_below)) or revive_below >= 1:
            raise ValueError("beta and eps must be at least 0, and revive_below, a share of the average count, in [0, 1); "
                             f"got beta={beta}, eps={eps}, revive_below={revive_below}")
        self.num_codes, self.dim, self.beta, self.decay = num_codes, dim, beta, decay
        self.eps, self.revive_below = eps, revive_below
        codebook = torch.randn(num_codes, dim)
        if decay is None:
            self.codebook = nn.Parameter(codebook)
        else:
            self.register_buffer("codebook", codebook)
            self.register_buffer("embed_avg", codebook.clone())     # running sum of each code's vectors
        self.register_buffer("cluster_size", torch.ones(num_codes))  # ones, not zeros: zeros would divide by almost nothing
        self._waiting = None

    def forward(self, z):
        flat = self._rows(z)
        indices = nearest_code(flat, self.codebook)
        e = F.embedding(indices, self.codebook).view(*z.shape[:1], *z.shape[2:], self.dim).movedim(-1, 1)
        codebook_loss = F.mse_loss(e, z.detach())                    # before z_q gets its straight-through gradient
        commitment_loss = F.mse_loss(z, e.detach())
        loss = self.beta * commitment_loss + (codebook_loss if self.decay is None else 0)
        if self.training:
            seen = flat.detach().to(self.codebook.dtype), indices
            if self._waiting is None:
                self._update(*seen)
            else:
                self._waiting.append(seen)
        indices = indices.view(len(z), *z.shape[2:])
        return Quantized(z + (e - z).detach(), indices, loss, codebook_loss, commitment_loss)

    @contextlib.contextmanager
    def one_update(self):
        """For a batch in parts: inside the block the codebook stands still, at its end it moves once, as by the whole."""
        self._waiting = []
        try:
            yield
            if self._waiting:
                self._update(*map(torch.cat, zip(*self._waiting, strict=True)))
        finally:
            self._waiting = None

    def embed(self, indices):
        """The codes at integer indices. Shapes: (B, H, W) → (B, C, H, W). Raises: ValueError for an index outside 0 … K − 1."""
        wanted = f"0 to {self.num_codes - 1}, the codebook has {self.num_codes} codes"
        tensor(indices, "indices", ("B", "H", "W"), integers=True)
        in_range(indices, 0, self.num_codes - 1, "indices", wanted)
        return F.embedding(indices.long(), self.codebook).movedim(-1, 1)

    @torch.no_grad()
    def init_codebook(self, z, steps=10, seed=0):
        """Start from the k-means centres of a batch of encoder outputs z (B, C, H, W) with B·H·W ≥ K."""
        centres = kmeans(self._rows(z).to(self.codebook.dtype), self.num_codes, steps, seed)
        if _world() > 1:
            dist.broadcast(centres, 0)
        self._set(slice(None), centres, torch.ones_like(self.cluster_size))

    def _rows(self, z):
        tensor(z, "the map to quantise", ("B", self.dim, "H", "W"))
        if not torch.isfinite(z).all():
            raise Diverged("the map to quantise holds NaN or infinity: the encoder has diverged (a smaller learning rate?)")
        return z.movedim(1, -1).reshape(-1, self.dim)

    @torch.no_grad()
    def _update(self, flat, indices):
        counts, sums = count_and_sum(flat, indices, self.num_codes)
        if _world() > 1:
            dist.all_reduce(counts), dist.all_reduce(sums)
        self.cluster_size.lerp_(counts, 1 - (self.decay or 0.99))
        if self.decay is not None:
            self.embed_avg.lerp_(sums, 1 - self.decay)
            total = self.cluster_size.sum()                          # Laplace smoothing: no count is zero
            smoothed = (self.cluster_size + self.eps) / (total + self.num_codes * self.eps) * total
            used = self.cluster_size > UNUSED                        # a long unused code stays instead of shrinking to 0
            self.codebook.copy_(torch.where(used[:, None], self.embed_avg / smoothed[:, None], self.codebook))
        if self.revive_below > 0:
            average = counts.sum() / self.num_codes
            dead = self.cluster_size < self.revive_below * average
            if dead.any():
                picks = flat[torch.randint(len(flat), (self.num_codes,), device=flat.device)]
                if _world() > 1:
                    dist.broadcast(picks, 0)
                self._set(dead, picks, average.expand(self.num_codes))

    def _set(self, which, vectors, counts):
        """Move codes, and with them what the running averages remember, which would pull them back at once."""
        self.codebook.data[which] = vectors[which]
        self.cluster_size[which] = counts[which]
        if self.decay is not None:
            self.embed_avg[which] = vectors[which] * counts[which, None]


def _world():
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class Tokenizer(nn.Module):
    """What every autoencoder with a codebook can do; a subclass brings `quantizer`, `encode` (x → z_e) and `decode` (z_q → x̂)."""

    def forward(self, x):
        """(x̂, Quantized)"""
        quantized = self.quantizer(self.encode(x))
        return self.decode(quantized.z_q), quantized

    @torch.no_grad()
    def encode_indices(self, x, batch_size=256):
        """Codes of images. Shapes: (N, 3, H, W) → (N, grid, grid) int64."""
        images(x, ("N", 3, "H", "W"))
        return torch.cat([nearest_code(self.quantizer._rows(z), self.quantizer.codebook).view(len(z), *z.shape[2:])
                          for z in map(self.encode, x.split(whole(batch_size, "batch_size")))])

    @torch.no_grad()
    def decode_indices(self, indices, batch_size=256):
        """Images of codes. Shapes: (N, grid, grid) → (N, 3, H, W)."""
        tensor(indices, "indices", ("N", "H", "W"), integers=True)
        parts = indices.split(whole(batch_size, "batch_size"))
        return torch.cat([self.decode(self.quantizer.embed(part)) for part in parts])


class VQVAE(Tokenizer):
    """VQ-VAE: encoder → 1×1 convolution to code_dim → quantizer → 1×1 convolution → decoder; a 4×4 map of codes.

    Shapes: x (B, 3, size, size) in [-1, 1]; z_e, z_q (B, code_dim, 4, 4); indices (B, 4, 4).
    Source: van den Oord et al. 2017, §3.
    """

    def __init__(self, num_codes=512, code_dim=16, width=32, size=32, beta=0.25, decay=0.99, revive_below=0.05):
        super().__init__()
        whole(code_dim, "code_dim")
        self.config = dict(num_codes=num_codes, code_dim=code_dim, width=width, size=size, beta=beta, decay=decay,
                           revive_below=revive_below)
        self.encoder, self.decoder = ConvEncoder(width, size), ConvDecoder(width, size)
        self.to_code = nn.Conv2d(self.encoder.channels, code_dim, 1)
        self.from_code = nn.Conv2d(code_dim, self.decoder.channels, 1)
        self.quantizer = VectorQuantizer(num_codes, code_dim, beta, decay, revive_below=revive_below)

    def encode(self, x):
        """z_e, before quantisation."""
        images(x, ("B", 3, self.config["size"], self.config["size"]), like=self.to_code.weight)
        return self.to_code(self.encoder(x))

    def decode(self, z_q):
        tensor(z_q, "z_q", ("B", self.quantizer.dim, "H", "W"), like=self.from_code.weight)
        return self.decoder(self.from_code(z_q))


def start_codebook(model, data, n):
    """Begin a codebook from the k-means centres of the first n batches; 0 leaves it random.

    Returns: how many batches there were.
    """
    first = taken(data, n) if n else []
    device = next(model.parameters()).device
    if first:
        with torch.no_grad():
            z = torch.cat([model.encode(x.to(device)) for x in first])
        model.quantizer.init_codebook(z)
    return len(first)


class VQVAEStep(NamedTuple):
    """One step of `train_vqvae`: its number (from 1), mean squared error, commitment loss, perplexity of the batch's codes."""

    step: int
    reconstruction: float
    commitment: float
    perplexity: float


def train_vqvae(model, data, *, steps, lr=2e-3, init_batches=4):
    """Train on batches (x,) of `data`; yields a `VQVAEStep` a step. Loss: mean (x − x̂)² + the quantizer's.

    The codebook starts from k-means over the first `init_batches` batches (0: N(0, 1)), which an iterator does not give again.
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
