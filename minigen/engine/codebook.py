"""Chapter 8: a codebook of thousands of codes: its start, its revival, how much of it is used.

With 16,384 codes and 512 vectors a step a code is chosen once in 32 steps, on average. So what a
code's running mean looks back on, and when a code counts as dead, must depend on the batch.
"""

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from minigen.engine.images import Images
from minigen.engine.loop import generator_of
from minigen.engine.processes import world
from minigen.errors import DataError
from minigen.ivqvae import IVQVAE
from minigen.vqvae import VectorQuantizer

HITS = 5                    # times that an average code is chosen in the steps looked back on
MANY = 2                    # times as many codes as vectors a step: a large codebook


def window(codes: int, vectors: int) -> int:
    """How many steps to look back, for a codebook of which `vectors` are chosen a step."""
    return max(1, math.ceil(HITS * codes / vectors))


def decay_for(decay: float | None, codes: int, vectors: int) -> float | None:
    """The share of a running mean that a step keeps: `decay`, or more where batches are small.

    So a code that is chosen as often as the average is expected five times in the mean. None (a
    codebook that learns by gradients) stays None.
    """
    return None if decay is None else max(decay, 1 - 1 / window(codes, vectors))


class LargeQuantizer(VectorQuantizer):
    """A `VectorQuantizer` with many more codes than a step has vectors, which revives dead ones.

    A code is dead when no vector chose it in `window` steps; of those chosen as often as the
    average 1 in 150 is that unlucky. Dead codes take the places of different vectors of the batch,
    at most as many as there are; the others' turn comes with the next batch.
    """

    steps: Tensor
    last: Tensor

    def __init__(self, like: VectorQuantizer, vectors: int) -> None:
        super().__init__(like.num_codes, like.dim, like.beta, like.decay, like.eps)
        self.load_state_dict(like.state_dict())
        self.window = window(like.num_codes, vectors)
        # no part of the weights: a checkpoint holds them beside
        never = torch.zeros(like.num_codes, dtype=torch.long)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long), persistent=False)
        self.register_buffer("last", never, persistent=False)

    def clock(self) -> dict[str, Tensor]:
        """What revival remembers: the steps, and each code's last choice."""
        return dict(steps=self.steps, last=self.last)

    def set_clock(self, clock: dict[str, Tensor]) -> None:
        """Go on from a `clock`."""
        self.steps.copy_(clock["steps"])
        self.last.copy_(clock["last"])

    @torch.no_grad()
    def _update(self, flat: Tensor, indices: Tensor) -> None:
        super()._update(flat, indices)
        self.steps += 1
        chosen = torch.bincount(indices, minlength=self.num_codes)
        if world() > 1:
            dist.all_reduce(chosen)
        self.last[chosen > 0] = self.steps
        dead = self.last <= self.steps - self.window
        place = dead.cumsum(0) - 1                       # which of the dead, from 0
        dead &= place < len(flat)
        if dead.any():
            order = torch.randperm(len(flat)).to(flat.device)
            picks = flat[order[place.clamp(0, len(flat) - 1)]]
            if world() > 1:
                dist.broadcast(picks, 0)
            average = chosen.sum() / self.num_codes
            self._set(dead, picks, average.expand(self.num_codes))
            self.last[dead] = self.steps


def autoencoder(arguments: dict[str, Any], batch_size: int) -> IVQVAE:
    """An IVQ-VAE whose codebook fits the batch: its running means, and a large one's revival."""
    model = IVQVAE(**arguments)
    quantizer = model.quantizer
    vectors = batch_size * model.grid**2
    quantizer.decay = decay_for(quantizer.decay, quantizer.num_codes, vectors)
    model.config["decay"] = quantizer.decay
    if quantizer.revive_below and quantizer.num_codes > MANY * vectors:
        model.quantizer = LargeQuantizer(quantizer, vectors)
    return model


@torch.no_grad()
def start(model: IVQVAE, images: Images, wanted: int, seed: int, vectors: int) -> None:
    """Start the codebook from k-means over the latents of `wanted` images.

    Every code counts at first as chosen as often as the average of a batch of `vectors`.
    Raises: DataError where that is fewer vectors than codes.
    """
    quantizer, device = model.quantizer, next(model.parameters()).device
    n, codes, places = len(images), quantizer.num_codes, model.grid**2
    chosen = torch.randperm(n, generator=generator_of(seed, "codebook"))[:wanted]
    if len(chosen) * places < codes:
        raise DataError(f"A codebook of {codes} codes starts from at least "
                        f"{math.ceil(codes / places)} images of {places} vectors; "
                        f"--init-images {wanted} of {n} images gives {len(chosen)}: take more, "
                        "or --init-images 0 for a random start.")
    z = torch.cat([model.encode(images(part).to(device)) for part in chosen.split(32)])
    quantizer.init_codebook(z)                                              # z (N, C, grid, grid)
    quantizer.cluster_size.fill_(vectors / codes)
    if quantizer.decay is not None:
        quantizer.embed_avg.copy_(quantizer.codebook * (vectors / codes))


class Use:
    """How much of a codebook is used, over the last `window` steps.

    use: the share of the codes that were chosen at least once; the rest is dead. perplexity: e to
    the entropy of how often each was chosen, the number of codes that would be used alike.
    """

    def __init__(self, codes: int, vectors: int, device: torch.device) -> None:
        self.window = window(codes, vectors)
        self.counts = torch.zeros(codes, device=device)               # running mean
        self.last = torch.zeros(codes, dtype=torch.long, device=device)    # step of the last choice

    @torch.no_grad()
    def note(self, step: int, indices: Tensor) -> dict[str, Tensor]:
        """Count the codes of a step (from 1). Returns: use and perplexity."""
        counts = torch.bincount(indices.flatten(), minlength=len(self.counts)).float()
        if world() > 1:
            dist.all_reduce(counts)
        self.last[counts > 0] = step
        self.counts.lerp_(counts, 1 / self.window)
        p = self.counts / self.counts.sum().clamp_min(1e-12)
        lately = (self.last > 0) & (self.last > step - self.window)
        return dict(use=lately.float().mean(), perplexity=torch.special.entr(p).sum().exp())

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return dict(counts=self.counts, last=self.last)

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.counts.copy_(state["counts"])
        self.last.copy_(state["last"])
