"""Chapter 3's exercises, answered: what stands in below an exercise until a learner's passes."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def nearest_index(z: Tensor, codebook: Tensor) -> Tensor:
    return (codebook.square().sum(1) - 2 * z @ codebook.T).argmin(1)


def straight_through(z_e: Tensor, z_q: Tensor) -> Tensor:
    return z_e + (z_q - z_e).detach()


def vq_loss(z_e: Tensor, e: Tensor, beta: float = 0.25) -> Tensor:
    return F.mse_loss(e, z_e.detach()) + beta * F.mse_loss(z_e, e.detach())


def quantize(z: Tensor, codebook: Tensor, beta: float = 0.25) -> tuple[Tensor, Tensor, Tensor]:
    rows = z.movedim(1, -1)                                          # (B, H, W, C)
    indices = nearest_index(rows.flatten(0, 2), codebook).view(rows.shape[:3])
    e = codebook[indices].movedim(-1, 1)                             # (B, C, H, W)
    return straight_through(z, e), indices, vq_loss(z, e, beta)


def ema_update(
    count: Tensor, total: Tensor, z: Tensor, indices: Tensor, decay: float = 0.99
) -> tuple[Tensor, Tensor, Tensor]:
    chosen = F.one_hot(indices, len(count)).to(z.dtype)
    count = decay * count + (1 - decay) * chosen.sum(0)
    total = decay * total + (1 - decay) * chosen.T @ z
    return count, total, total / count[:, None]


def mask(size: int, kind: str) -> Tensor:
    before = size * size // 2                                        # in reading order
    return (torch.arange(size * size).view(size, size) < before + (kind == "B")).float()


def bits(logits: Tensor, codes: Tensor) -> Tensor:
    return F.cross_entropy(logits, codes, reduction="sum") / len(codes) / math.log(2)


def draw_codes(
    model: nn.Module, given: Tensor, grid: int = 4, y: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    n, known = given.shape
    codes = torch.zeros(n, grid * grid, dtype=torch.long)
    codes[:, :known] = given
    for place in range(known, grid * grid):
        with torch.no_grad():
            logits = model(codes.view(n, grid, grid), y).flatten(2)  # (n, K, places)
        p = logits[:, :, place].softmax(1)
        codes[:, place] = torch.multinomial(p, 1, generator=generator).squeeze(1)
    return codes.view(n, grid, grid)
