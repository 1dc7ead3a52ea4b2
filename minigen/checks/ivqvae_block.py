"""Chapter 4's block, checked: a residual block and, behind it, attention."""

from typing import Any

import torch
from torch import Tensor, nn

from minigen.checks import ivqvae_answers as right
from minigen.checks.compare import Answer, expect, require_gradient, unchanged, value_of
from minigen.common import Attention
from minigen.ivqvae import ResidualBlock


def _wrong(h: Tensor, body: Any, shortcut: nn.Module, attention: Attention) -> dict[str, Tensor]:
    """What mistakes give, where they give something of the right shape."""
    summed = shortcut(h) + body(h)
    channels = attention.out.in_channels

    def attend(
        h: Tensor, norm: bool = True, order: tuple[int, int, int] = (0, 1, 2),
        scale: float = channels**-0.5, dim: int = -1, out: bool = True, turned: bool = False,
        back: bool = True, soft: bool = True
    ) -> Tensor:
        parts = attention.qkv(attention.norm(h) if norm else h).flatten(2).mT.chunk(3, -1)
        q, k, v = (parts[i] for i in order)
        w = q @ k.mT * scale
        w = w.softmax(dim) if soft else w
        mixed = (w.mT if turned else w) @ v
        mixed = mixed.mT.reshape(h.shape) if back else mixed.reshape(h.shape)
        return attention.out(mixed) if out else mixed

    bare = body(h)
    mistakes = {
        "The first sum is missing: shortcut(h) + body(h).": bare + attend(bare),
        "The second sum is missing: attention's answer is added to the map it read.":
            attend(summed),
        "Both sums are missing: each part is added to what was there.": attend(bare),
        "The attention is missing.": summed,
        "Attention reads the normalised map: attention.norm.": summed + attend(summed, norm=False),
        "attention.out, the convolution after the mixing, is missing.":
            summed + attend(summed, out=False),
        "Queries and keys are swapped: the first third of qkv are the queries.":
            summed + attend(summed, order=(1, 0, 2)),
        "The weights mix the values, the last third of qkv: you mixed the keys.":
            summed + attend(summed, order=(0, 1, 1)),
        "The order in qkv is q, k, v: you took the values first.":
            summed + attend(summed, order=(1, 2, 0)),
        "The division by √C is missing.": summed + attend(summed, scale=1.0),
        "The softmax is missing.": summed + attend(summed, soft=False),
        "The weights of one query sum to 1: the softmax goes over the keys, the last axis.":
            summed + attend(summed, dim=1),
        "The weights are transposed before they mix the values: w @ v.":
            summed + attend(summed, turned=True),
        ("The mixed values are (B, H·W, C): bring the channels forward again before you give "
         "them the map's shape."): summed + attend(summed, back=False),
        "Attention reads the block's sum: you gave it the body's part alone.":
            summed + attend(bare),
        "Attention's answer is added to the block's sum: you added it to the body's part alone.":
            bare + attend(summed),
    }
    if body[2].in_channels == channels:
        mistakes |= {
            "h goes through the shortcut before the first sum.":
                h + bare + attend(h + bare),
            "Attention comes behind the residual block: you let it read h.":
                summed + attend(h),
            "The order is turned round: first the residual block, then attention.":
                shortcut(h + attend(h)) + body(h + attend(h)),
            "Attention's answer is added to the block's sum: you added it to h.":
                h + attend(summed),
        }
    return mistakes


def check(answer: Answer) -> None:
    for c_in, c_out, side in ((8, 8, 4), (8, 16, 3)):
        block, attention = ResidualBlock(c_in, c_out), Attention(c_out)
        body: Any = block.body
        shortcut = nn.Conv2d(c_in, c_out, 1)
        with torch.no_grad():
            attention.qkv.weight.mul_(4)          # weights that are far from even
        h = torch.randn(2, c_in, side, side + 1)
        given = h.clone().requires_grad_()
        before = given.detach().clone()
        with torch.no_grad():
            want = right.attending_block(h, body, shortcut, attention)
            mistakes = _wrong(h, body, shortcut, attention)
        got = answer(given, body, shortcut, attention)
        expect(value_of(got), want, f"2 maps of {c_in} channels, {c_out} behind", mistakes)
        unchanged({"map": (given.detach(), before)})
        require_gradient(
            got, [given, body[2].weight, attention.qkv.weight, attention.out.weight],
            ["map", "body", "queries, keys and values", "last convolution"])
