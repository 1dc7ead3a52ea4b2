"""Chapter 7's block, checked: its mistakes, each computed, under the sentence that names it."""

from collections.abc import Callable

from torch import Tensor, nn

from minigen.checks.fftd_answers import modulated, multi_head
from minigen.fftd import Block
from minigen.fusion import kind_of

DIM = 16


def woken(fusion: str) -> Block:
    """A block whose every weight is drawn, so that nothing in it is shut."""
    block = Block(DIM, 2, kind_of(fusion))
    for p in block.parameters():
        nn.init.normal_(p, std=0.3)
    return block


def wrong_heads(q: Tensor, k: Tensor, v: Tensor, heads: int) -> dict[str, Tensor]:
    """What mistakes in multi-head attention give."""
    batch, length, dim = q.shape
    each = dim // heads

    def split(a: Tensor) -> Tensor:
        return a.view(batch, length, heads, each).transpose(1, 2)

    def joined(a: Tensor) -> Tensor:
        return a.transpose(1, 2).reshape(batch, length, dim)

    def other(a: Tensor) -> Tensor:
        return a.view(batch, length, each, heads).permute(0, 3, 1, 2)

    def cut(a: Tensor) -> Tensor:
        return a.reshape(batch, heads, length, each)

    def attend(
        q: Tensor, k: Tensor, v: Tensor, scale: float = each**-0.5,
        weigh: Callable[[Tensor], Tensor] = lambda a: a.softmax(-1)
    ) -> Tensor:
        return weigh(scale * q @ k.mT) @ v

    parts = split(q), split(k), split(v)
    mistakes = {
        "The division by the root of a head's width is missing.":
            joined(attend(*parts, scale=1.0)),
        "You multiplied by the root: divide.": joined(attend(*parts, scale=each**0.5)),
        "Divide by the root of a head's width: you took the width itself.":
            joined(attend(*parts, scale=1 / each)),
        "The softmax goes over the keys, the last axis: each query's weights add up to 1.":
            joined(attend(*parts, weigh=lambda a: a.softmax(-2))),
        "The softmax is missing.": joined(attend(*parts, weigh=lambda a: a)),
        "Queries and keys are swapped.": joined(attend(parts[1], parts[0], parts[2])),
        "The weights mix the values: you mixed the keys.":
            joined(attend(parts[0], parts[1], parts[1])),
        "The weights are transposed before they mix the values.":
            joined(attend(*parts, weigh=lambda a: a.softmax(-1).mT)),
        "The softmax ran over all tokens and queries at once.":
            joined(attend(*parts, weigh=lambda a: a.flatten(-2).softmax(-1).view_as(a))),
    }
    if heads > 1:
        mistakes |= {
            "Divide by the root of a head's width, D / heads: you took D.":
                joined(attend(*parts, scale=dim**-0.5)),
            "You used one head: each head looks with its own part of the features.":
                attend(q, k, v, scale=dim**-0.5),
            "You used one head, with the scale of several.": attend(q, k, v),
            "The heads were not brought back behind the tokens before they were joined.":
                attend(*parts).reshape(batch, length, dim),
            "Each head has neighbouring features: split D into (heads, D / heads), in this order.":
                attend(other(q), other(k), other(v)).permute(0, 2, 3, 1).reshape(q.shape),
            "The tokens were cut into heads: split the features, the last axis.":
                attend(cut(q), cut(k), cut(v)).reshape(batch, length, dim),
            "The softmax ran over the heads.": joined(attend(*parts, weigh=lambda a: a.softmax(1))),
        }
    return mistakes


def wrong_blocks(x: Tensor, modulation: Tensor, block: Block) -> dict[str, Tensor]:
    """What mistakes in putting the block together give."""
    b1, a1, g1, b2, a2, g2 = (modulation + block.table).unbind(1)      # (B or 1, D) each

    def attend(h: Tensor, out: bool = True) -> Tensor:
        q, k, v = block.qkv(h).chunk(3, -1)
        mixed = multi_head(q, k, v, block.heads)
        return block.out(mixed) if out else mixed

    first, second = g1[:, None], g2[:, None]
    seen = attend(modulated(x, b1, a1))
    x1 = x + first * seen
    fed = block.feed_forward(modulated(x1, b2, a2))

    def after(x1: Tensor) -> Tensor:
        return block.fuse(x1, second * block.feed_forward(modulated(x1, b2, a2)))

    return {
        "x is missing in x1: attention's answer is added to what was there.": after(first * seen),
        "The first gate is missing.": after(x + seen),
        "The second gate is missing.": block.fuse(x1, fed),
        "The gates are swapped.": block.fuse(
            x + second * seen,
            first * block.feed_forward(modulated(x + second * seen, b2, a2))),
        "The gate weighs what attention gives, not x as well.": after(first * (x + seen)),
        "The feed-forward network reads x1, not x.":
            block.fuse(x1, second * block.feed_forward(modulated(x, b2, a2))),
        "x2 is only the feed-forward network's part: the fusion brings x1 in.":
            block.fuse(x1, x1 + second * fed),
        "The feed-forward network reads the normalised x1: modulated(x1, b2, a2).":
            block.fuse(x1, second * block.feed_forward(x1)),
        "Attention reads the normalised x: modulated(x, b1, a1).": after(x + first * attend(x)),
        "The second norm has its own shift and scale, b2 and a2.":
            block.fuse(x1, second * block.feed_forward(modulated(x1, b1, a1))),
        "Shift and scale are swapped: modulated(x, shift b, scale a).": block.fuse(
            x + first * attend(modulated(x, a1, b1)),
            second * block.feed_forward(
                modulated(x + first * attend(modulated(x, a1, b1)), a2, b2))),
        "block.out, the map after attention, is missing.":
            after(x + first * attend(modulated(x, b1, a1), out=False)),
        "You added the streams: fuse them, block.fuse(x1, x2).": x1 + second * fed,
        "The streams are swapped in the fusion.": block.fuse(second * fed, x1),
    }
