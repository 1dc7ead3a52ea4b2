"""Chapter 8: FFTD made ready for sampling. What depends on time and label alone is computed once.

A sampling run visits time steps that are known before it begins. What norms and gates do at each of
them is here one product for all steps, kept as a table, where `FFTD` reads two million weights for
it in every step. The other weights are laid out once for all the products to come.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from minigen.common import class_rows, evaluating
from minigen.engine.packed import PackedLinear, TokenConv
from minigen.fftd import FFTD
from minigen.fusion import AdaptiveFusion, AddFusion, to_map, to_tokens
from minigen.inputs import refuse, times

Two = Callable[[Tensor, Tensor], Tensor]


class SamplingFFTD:
    """A trained FFTD for the time steps and labels of one run: the same predictions, faster.

    at: the time steps that will be asked for, such as `ddim.timesteps(T, steps)`. labels: the
    classes that will be; the null label always belongs to them. To be called in the network's
    place, by samplers and by `Guided`, without gradients. After a further training of the network
    it is to be made anew. The table takes 4 · (6 · depth + 2) · dim bytes a step and label.
    Shapes, called: z (B, C, grid, grid), t (1,) or (B,), y (B,) or None → as z.
    Raises: ValueError for another network than an FFTD; for a t or a label that is not in the
    table.
    """

    def __init__(self, model: FFTD, at: Sequence[float], labels: Sequence[int] = ()):
        if type(model) is not FFTD:
            refuse("model", "an FFTD", type(model).__name__)
        self.model, self.num_classes = model, model.num_classes
        self.prediction, self.schedule = model.prediction, model.schedule
        null = [model.num_classes or None]                      # None: a network without classes
        self.steps = {t: k for k, t in enumerate(dict.fromkeys(map(float, at)))}
        self.labels = {y: k for k, y in enumerate(dict.fromkeys([*labels, *null]))}
        down, up = cast(Any, model.down), cast(Any, model.up)
        with evaluating(model):
            self.table = self._table()
            side = model.config["grid"] // model.config["patch"]
            sides = [side // 2**level for level in model.level_of]          # of each block's map
            self.blocks = [_block(b, n) for b, n in zip(model.blocks, sides, strict=True)]
            self.links = [_fusion(link, sides[k]) for k, link in enumerate(model.links)]
            self.down = [TokenConv(conv, side // 2**k) for k, conv in enumerate(down)]
            self.up = [TokenConv(conv, side // 2 ** (k + 1), before=double)
                       for k, (double, conv) in enumerate(up)]
            self.last = PackedLinear(model.last.weight, model.last.bias)

    def _table(self) -> Tensor:
        """Shift, scale and gate of all norms, 1 + scale in the scale's place.

        Shapes: (steps, labels, 6 · depth + 2, dim).
        """
        model = self.model
        t = torch.tensor(list(self.steps), device=model.embed.weight.device)
        columns = []
        for y in self.labels:
            rows = None if y is None else torch.full_like(t, y, dtype=torch.long)
            c = F.silu(model.condition(t, rows))                            # (steps, D)
            norms = [norm(c).view(len(c), 6, -1) for norm in model.norms]   # (steps, 6, D) each
            of_blocks = [norms[level] + block.table
                         for level, block in zip(model.level_of, model.blocks, strict=True)]
            columns.append(torch.cat([*of_blocks, model.last_norm(c).view(len(c), 2, -1)], 1))
        table = torch.stack(columns, 1)
        scales = [6 * i + k for i in range(len(model.blocks)) for k in (1, 4)] + [-1]
        table[:, :, scales] += 1
        return table

    def _told(self, z: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        """The table's rows for a batch, one if all are the same: (1 or B, 6 · depth + 2, dim)."""
        rows = class_rows(y, self.num_classes, t, len(z))
        steps = _places(self.steps, times(t, len(z)).tolist(), "t", "time steps")
        labels = _places(self.labels, [None] if rows is None else rows.tolist(), "y", "labels")
        if len({*steps}) == len({*labels}) == 1:
            return self.table[steps[0], labels[0]][None]
        return self.table[steps, labels]

    @torch.no_grad()
    def __call__(self, z: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        model = self.model
        model._check(z)
        told = self._told(z, t, y)
        x = to_tokens(model.embed(z)) + model.get_buffer("positions0")      # (B, L, D)
        outputs: list[Tensor] = []
        before = 0
        for i, (block, level) in enumerate(zip(self.blocks, model.level_of, strict=True)):
            if level != before:
                x = self.down[before](x) if level > before else self.up[level](x)
                x = x + model.get_buffer(f"positions{level}")
            partner = len(self.blocks) - 1 - i
            if partner < len(self.links):
                x = self.links[partner](outputs[partner], x)
            x = block(x, told[:, 6 * i : 6 * i + 6])
            outputs.append(x)
            before = level
        x = self.last(_modulated(x, told[:, -2], told[:, -1]))
        return F.pixel_shuffle(to_map(x), model.config["patch"])


def _places(known: dict, asked: list, name: str, what: str) -> list[int]:
    if missing := [value for value in asked if value not in known]:
        refuse(name, f"one of the {len(known)} {what} this network was made ready for", missing[0])
    return [known[value] for value in asked]


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LN(x) · scale + shift. Shapes: (B, L, D); (1 or B, D) twice."""
    if len(shift) == 1:
        return F.layer_norm(x, x.shape[-1:], scale[0], shift[0], 1e-6)
    h = F.layer_norm(x, x.shape[-1:], eps=1e-6)
    return torch.addcmul(shift[:, None], h, scale[:, None])


def _block(block: Any, n: int) -> Two:
    """`Block.forward` on an n×n map. Shapes: x (B, L, D), told (1 or B, 6, D) → (B, L, D)."""
    qkv, out = _packed(block.qkv), _packed(block.out)
    first, second = _packed(block.feed_forward[0], "gelu"), _packed(block.feed_forward[3])
    heads, fuse = block.heads, _fusion(block.fuse, n)

    def forward(x: Tensor, told: Tensor) -> Tensor:
        b1, a1, g1, b2, a2, g2 = told.unbind(1)                             # (1 or B, D)
        batch, length, dim = x.shape
        parts = qkv(_modulated(x, b1, a1)).view(batch, length, 3, heads, -1)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)                    # (B, heads, L, d)
        mixed = F.scaled_dot_product_attention(q, k, v)
        attended = out(mixed.transpose(1, 2).reshape(batch, length, dim))
        x1 = torch.addcmul(x, g1[:, None], attended)
        return fuse(x1, second(first(_modulated(x1, b2, a2))).mul_(g2[:, None]))

    return forward


def _packed(layer: Any, activation: str = "none") -> PackedLinear:
    return PackedLinear(layer.weight, layer.bias, activation)


def _fusion(fusion: Any, n: int) -> Two:
    """A fusion's forward on an n×n map; s is multiplied into the linear map."""
    if isinstance(fusion, AddFusion):
        return torch.add
    scale = fusion.s if isinstance(fusion, AdaptiveFusion) else 1
    linear = PackedLinear(scale * fusion.linear.weight, scale * fusion.linear.bias)
    if not isinstance(fusion, AdaptiveFusion):
        return lambda x1, x2: linear(torch.cat([x1, x2], -1))
    first, second = _packed(fusion.channel[0], "silu"), _packed(fusion.channel[2])
    spatial = [TokenConv(fusion.spatial[k], n, activation)
               for k, activation in ((0, "silu"), (2, "silu"), (4, "none"))]
    norm1, norm2 = fusion.norm1, fusion.norm2

    def forward(x1: Tensor, x2: Tensor) -> Tensor:
        both = torch.cat([x1, x2], -1)                                      # (B, L, 2D)
        w_channel = second(first(torch.cat([both.mean(1), both.amax(1)], -1))).sigmoid_()
        w_spatial = functools.reduce(lambda h, conv: conv(h), spatial, both).sigmoid()
        fused = linear(both).addcmul_(w_channel[:, None], norm1(x1))
        return fused.addcmul_(w_spatial, norm2(x2))

    return forward
