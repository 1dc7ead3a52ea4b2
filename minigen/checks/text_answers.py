"""Excursion 2's exercises, answered: what stands in below an exercise until a learner's passes."""

import itertools
import math
from collections import Counter
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Symbols = tuple[str, ...]
Pair = tuple[str, str]
Prior = Callable[[Tensor, Tensor, Tensor], Tensor]


def bpe_step(words: dict[Symbols, int]) -> tuple[Pair, dict[Symbols, int]]:
    counts: Counter[Pair] = Counter()
    for symbols, count in words.items():
        for pair in itertools.pairwise(symbols):
            counts[pair] += count
    best = min(counts, key=lambda pair: (-counts[pair], pair))
    merged = {}
    for symbols, count in words.items():
        new: list[str] = []
        i = 0
        while i < len(symbols):
            width = 2 if symbols[i : i + 2] == best else 1
            new.append("".join(symbols[i : i + width]))
            i += width
        merged[tuple(new)] = count
    return best, merged


def info_nce(u: Tensor, v: Tensor, scale: Tensor | float) -> Tensor:
    logits = scale * F.normalize(u, dim=1) @ F.normalize(v, dim=1).T     # (N, N)
    own = torch.arange(len(logits))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def recall_at_1(u: Tensor, v: Tensor) -> float:
    nearest = (u @ v.T).argmax(1)
    return float((nearest == torch.arange(len(u))).float().mean())


def read_by_sentences(u: Tensor, v: Tensor) -> Tensor:
    values = F.normalize(v.mean(1), dim=1)                               # (K, D)
    return (u @ values.T).argmax(1)


def cross_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    scores = q @ k.mT / math.sqrt(q.shape[-1])                           # (B, H, L, M)
    return scores.masked_fill(~mask[:, None, None], -math.inf).softmax(-1) @ v


def obeyed(got: Tensor, want: Tensor) -> float:
    told = want >= 0
    return float((got == want)[told].float().mean())


def prior_loss(prior: Prior, image: Tensor, text: Tensor, t: Tensor, eps: Tensor,
               alpha_bar: Tensor) -> Tensor:
    left = alpha_bar[t].to(image.dtype)[:, None]                         # (B, 1)
    x = left.sqrt() * image + (1 - left).sqrt() * eps
    return (prior(x, t, text) - image).square().mean()
