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


class CountingQuantizer(VectorQuantizer):
    """A `VectorQuantizer` that tells how much of it is used; a large one revives its dead codes.

    Looked at are the last `window` steps. A code is in use when a vector chose it in them, and else
    dead; of codes chosen as often as the average 1 in 150 is that unlucky. With many more codes
    than vectors a step, and a `revive_below` that asks for it, the dead take the places of
    different vectors of the batch, at most as many as there are; the others' turn comes with the
    next batch. With fewer codes the rule of `VectorQuantizer` holds.
    """

    steps: Tensor
    last: Tensor
    counts: Tensor

    def __init__(self, like: VectorQuantizer, vectors: int) -> None:
        codes = like.num_codes
        revives = like.revive_below > 0 and codes > MANY * vectors
        theirs = 0.0 if revives else like.revive_below
        super().__init__(codes, like.dim, like.beta, like.decay, like.eps, theirs)
        self.load_state_dict(like.state_dict())
        self.revives = revives
        self.window = window(codes, vectors)
        # no part of the weights: a checkpoint holds them beside
        never = torch.zeros(codes, dtype=torch.long)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long), persistent=False)
        # the step of a code's last choice; below 0: revived then, and not chosen since
        self.register_buffer("last", never, persistent=False)
        self.register_buffer("counts", torch.zeros(codes), persistent=False)     # running mean

    def clock(self) -> dict[str, Tensor]:
        """What a checkpoint holds: the steps, each code's last choice, and how often of late."""
        return dict(steps=self.steps, last=self.last, counts=self.counts)

    def set_clock(self, clock: dict[str, Tensor]) -> None:
        """Go on from a `clock`."""
        for name, mine in self.clock().items():
            mine.copy_(clock[name])

    @torch.no_grad()
    def used(self) -> dict[str, Tensor]:
        """What is used of late, as numbers.

        use: the share of the codes that were chosen. perplexity: e to the entropy of how often each
        was chosen, the number of codes that would be used alike.
        """
        p = self.counts / self.counts.sum().clamp_min(1e-12)
        lately = self.last > (self.steps - self.window).clamp_min(0)
        return dict(use=lately.float().mean(), perplexity=torch.special.entr(p).sum().exp())

    @torch.no_grad()
    def _update(self, flat: Tensor, indices: Tensor) -> None:
        super()._update(flat, indices)
        self.steps += 1
        chosen = torch.bincount(indices, minlength=self.num_codes)
        if world() > 1:
            dist.all_reduce(chosen)
        self.last[chosen > 0] = self.steps
        self.counts.lerp_(chosen.float(), 1 / self.window)
        if self.revives:
            self._revive(flat, chosen.sum() / self.num_codes)

    def _revive(self, flat: Tensor, average: Tensor) -> None:
        dead = self.last.abs() <= self.steps - self.window
        place = dead.cumsum(0) - 1                       # which of the dead, from 0
        dead &= place < len(flat)
        if dead.any():
            order = torch.randperm(len(flat)).to(flat.device)
            picks = flat[order[place.clamp(0, len(flat) - 1)]]
            if world() > 1:
                dist.broadcast(picks, 0)
            self._set(dead, picks, average.expand(self.num_codes))
            self.last[dead] = -self.steps


def autoencoder(arguments: dict[str, Any], batch_size: int) -> IVQVAE:
    """An IVQ-VAE whose codebook fits the batch and counts its use."""
    model = IVQVAE(**arguments)
    quantizer = model.quantizer
    vectors = batch_size * model.grid**2
    quantizer.decay = decay_for(quantizer.decay, quantizer.num_codes, vectors)
    model.config["decay"] = quantizer.decay
    model.quantizer = CountingQuantizer(quantizer, vectors)
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
