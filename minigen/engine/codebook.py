"""Chapter 8: a codebook of thousands of codes: where it starts, and how much of it is used.

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

HITS = 10                   # times that an average code is chosen in the steps looked back on


def window(codes: int, vectors: int) -> int:
    """How many steps to look back, for a codebook of which `vectors` are chosen a step."""
    return max(1, math.ceil(HITS * codes / vectors))


def decay_for(decay: float | None, codes: int, vectors: int) -> float | None:
    """The share of a running mean that a step keeps: `decay`, or more where batches are small.

    So a code that is chosen as often as the average is expected ten times in the mean, and one with
    no choice is dead, not unlucky. None (a codebook that learns by gradients) stays None.
    """
    return None if decay is None else max(decay, 1 - 1 / window(codes, vectors))


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
