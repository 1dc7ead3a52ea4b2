"""Chapter 7's exercises, answered: what stands in below an exercise until a learner's passes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from minigen.fftd import Block


def standardise(z: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return (z - mean[:, None, None]) / std[:, None, None]


def patchify(z: Tensor, p: int) -> Tensor:
    return F.unfold(z, p, stride=p).transpose(1, 2)


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale[:, None]) + shift[:, None]


def multi_head(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    batch, length, dim = q.shape
    q, k, v = (a.view(batch, length, heads, dim // heads).transpose(1, 2) for a in (q, k, v))
    weights = (q @ k.mT / (dim // heads) ** 0.5).softmax(-1)           # (B, heads, L, L)
    return (weights @ v).transpose(1, 2).reshape(batch, length, dim)


def fftd_block(x: Tensor, modulation: Tensor, block: Block) -> Tensor:
    b1, a1, g1, b2, a2, g2 = (modulation + block.table).unbind(1)      # (B, D) each
    q, k, v = block.qkv(modulated(x, b1, a1)).chunk(3, -1)
    x1 = x + g1[:, None] * block.out(multi_head(q, k, v, block.heads))
    x2 = g2[:, None] * block.feed_forward(modulated(x1, b2, a2))
    return block.fuse(x1, x2)


def levels_of(depth: int, levels: int) -> list[int]:
    return [min(i, depth - 1 - i, levels - 1) for i in range(depth)]


def pooled(x1: Tensor, x2: Tensor) -> Tensor:
    both = torch.cat([x1, x2], -1)
    return torch.cat([both.mean(1), both.amax(1)], -1)


def fused(
    n1: Tensor, n2: Tensor, w_channel: Tensor, w_spatial: Tensor, s: float | Tensor, linear: Tensor
) -> Tensor:
    return w_channel[:, None, :] * n1 + w_spatial[:, :, None] * n2 + s * linear
