"""Chapter 4's block, checked: a residual block and, behind it, attention."""

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from minigen.checks import ivqvae_answers as right
from minigen.checks.compare import Answer, Wrong, expect, require_gradient, unchanged, value_of
from minigen.common import Attention
from minigen.ivqvae import ResidualBlock

Cut = Callable[[Tensor], Sequence[Tensor]]  # the answer of qkv -> queries, keys, values


class _Layers(nn.Module):
    """Attention's layers, without what the exercise asks for."""

    def __init__(self, channels: int):
        super().__init__()
        whole = Attention(channels)
        self.norm, self.qkv, self.out = whole.norm, whole.qkv, whole.out

    def forward(self, *_: Any) -> NoReturn:
        raise Wrong("The call attention(…) does what this exercise asks for: write its inside, "
                    "with attention.norm, attention.qkv and attention.out.")

    def weights(self, *_: Any) -> NoReturn:
        raise Wrong("attention.weights(…) is part of what this exercise asks for: write its "
                    "inside, with attention.norm and attention.qkv.")


def _in_rows(x: Tensor) -> Tensor:
    """What has the shape (B, H·W, channels), but mixes channels with places."""
    return x.reshape(len(x), -1, x.shape[1])


# cuts that go wrong, and what they mean
CUTS: list[tuple[str, Cut]] = [
    ("reshape(B, H·W, −1) alone mixes channels with places: .flatten(2), then .transpose(1, 2).",
     lambda x: _in_rows(x).chunk(3, -1)),
    ("reshape(B, H·W, C) alone mixes channels with places: .flatten(2), then .transpose(1, 2).",
     lambda x: [_in_rows(part) for part in x.chunk(3, 1)]),
    ("You cut the places into three, not the channels: .transpose(1, 2) comes between .flatten(2) "
     "and .chunk(3, dim=-1).", lambda x: x.flatten(2).chunk(3, -1)),
    ("Your queries, keys and values are (B, C, H·W), so channels look at channels: attention "
     "wants a row for each place, .transpose(1, 2).", lambda x: x.flatten(2).chunk(3, 1)),
]


def _wrong(
    h: Tensor, body: Any, shortcut: nn.Module, attention: _Layers
) -> list[tuple[str, Tensor]]:
    """What mistakes give, where they give something of the right shape."""
    summed = shortcut(h) + body(h)
    channels = attention.out.in_channels

    def attend(
        h: Tensor, norm: bool = True, order: tuple[int, int, int] = (0, 1, 2),
        scale: float = channels**-0.5, dim: int = -1, out: bool = True, turned: bool = False,
        back: bool = True, soft: bool = True, cut: Cut = lambda x: x.flatten(2).mT.chunk(3, -1)
    ) -> Tensor:
        parts = cut(attention.qkv(attention.norm(h) if norm else h))
        q, k, v = (parts[i] for i in order)
        w = q @ k.mT * scale
        w = w.softmax(dim) if soft else w
        mixed = (w.mT if turned else w) @ v
        mixed = mixed.mT.reshape(h.shape) if back else mixed.reshape(h.shape)
        return attention.out(mixed) if out else mixed

    bare, short, places = body(h), shortcut(h), h.shape[2] * h.shape[3]
    mistakes = [
        ("The first sum is missing: shortcut(h) + body(h).", bare + attend(bare)),
        ("The second sum is missing: attention's answer is added to the map it read.",
         attend(summed)),
        ("Both sums are missing: each part is added to what was there.", attend(bare)),
        ("The attention is missing.", summed),
        ("Attention reads the normalised map: attention.norm.",
         summed + attend(summed, norm=False)),
        ("attention.out, the convolution after the mixing, is missing.",
         summed + attend(summed, out=False)),
        ("Queries and keys are swapped: the first third of qkv are the queries.",
         summed + attend(summed, order=(1, 0, 2))),
        ("The weights mix the values, the last third of qkv: you mixed the keys.",
         summed + attend(summed, order=(0, 1, 1))),
        ("The order in qkv is q, k, v: you took the values first.",
         summed + attend(summed, order=(1, 2, 0))),
        ("The division by √C is missing.", summed + attend(summed, scale=1.0)),
        ("The softmax is missing.", summed + attend(summed, soft=False)),
        ("The weights of one query sum to 1: the softmax goes over the keys, the last axis.",
         summed + attend(summed, dim=1)),
        ("The weights are transposed before they mix the values: w @ v.",
         summed + attend(summed, turned=True)),
        ("The mixed values are (B, H·W, C): bring the channels forward again before you give "
         "them the map's shape.", summed + attend(summed, back=False)),
        ("Attention reads the block's sum: you gave it the body's part alone.",
         summed + attend(bare)),
        ("Attention's answer is added to the block's sum: you added it to the body's part alone.",
         bare + attend(summed)),
        ("Attention's answer is added to the block's sum: you added it to shortcut(h).",
         short + attend(summed)),
        ("Attention's answer is added to the block's sum: you added it to the normalised map.",
         attention.norm(summed) + attend(summed)),
    ]
    for meaning, cut in CUTS:
        # (B, C, H·W) has H·W numbers in a row, (B, 3C, H·W / 3) a third of them
        for scale in (channels**-0.5, places**-0.5, (places / 3) ** -0.5):
            for back in (True, False):
                if cut is not CUTS[2][1] or places % 3 == 0:
                    mixed = attend(summed, scale=scale, cut=cut, back=back)
                    mistakes.append((meaning, summed + mixed))
    if body[2].in_channels == channels:
        twice = short + body(short)
        mistakes += [
            ("h goes through the shortcut before the first sum.",
             h + bare + attend(h + bare)),
            ("The body reads h: you gave it what the shortcut returned.",
             twice + attend(twice)),
            ("Attention comes behind the residual block: you let it read h.",
             summed + attend(h)),
            ("The order is turned round: first the residual block, then attention.",
             shortcut(h + attend(h)) + body(h + attend(h))),
            ("Attention's answer is added to the block's sum: you added it to h.",
             h + attend(summed)),
        ]
    return mistakes


def check(answer: Answer) -> None:
    # 12 places first: they can be cut into three, by mistake
    for c_in, c_out, side in ((8, 8, 3), (8, 16, 4)):
        block, attention = ResidualBlock(c_in, c_out), _Layers(c_out)
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
        what = f"2 maps with {c_in} channels in and {c_out} out"
        value = value_of(got)
        # one sentence may stand for several values: the one that came, if any
        met = {meaning: v for meaning, v in mistakes if isinstance(value, Tensor)
               and value.dtype == v.dtype and value.shape == v.shape
               and torch.allclose(value, v, rtol=1e-4, atol=1e-4)}
        expect(value, want, what, met)
        unchanged({"map": (given.detach(), before)})
        require_gradient(
            got, [given, body[2].weight, attention.qkv.weight, attention.out.weight],
            ["map", "body", "queries, keys and values", "last convolution"])
