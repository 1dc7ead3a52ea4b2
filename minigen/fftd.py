"""Chapter 7: FFTD, the feature-fused Transformer that denoises latents, a U over resolutions.

Sources: Liu, Chen, Gao 2026, §3 (Eqs. 16 to 25); Peebles & Xie 2023 (DiT); Chen et al. 2024.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigen.common import class_rows, time_features
from minigen.diffusion import check_training
from minigen.fusion import (
    FUSIONS,
    STARTS,
    AdaptiveFusion,
    AddFusion,
    ConcatFusion,
    kind_of,
    to_map,
    to_tokens,
)
from minigen.inputs import described, number, refuse, tensor, whole, wholes

__all__ = [
    "FFTD", "FUSIONS", "PRESETS", "STARTS", "AdaptiveFusion", "AddFusion", "Block", "ConcatFusion",
    "modulate", "positions", "to_map", "to_tokens",
]

# Arguments of FFTD: the paper's (dim is found from its parameter counts), and a laptop's.
_SHARED: dict = dict(latent_channels=4, grid=4, patch=1, depth=5, levels=2, fusion="adaptive")
PRESETS = {"paper": _SHARED | dict(dim=320, heads=5), "small": _SHARED | dict(dim=128, heads=4)}
TIME_FEATURES = 256


def positions(dim: int, n: int) -> Tensor:
    """Fixed position features of an n×n grid: sines and cosines of the column, then of the row.

    Shapes: (n², dim), dim divisible by 4. Source: as in DiT, after Vaswani et al. 2017, §3.5.
    """
    if whole(dim, "dim") % 4 or not whole(n, "n"):
        refuse("dim", "divisible by 4, for sines and cosines of two axes", dim)
    share = torch.arange(dim // 4, dtype=torch.float64) / (dim / 4)
    row, column = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    places = torch.stack([column.flatten(), row.flatten()], 1)          # (n², 2)
    angles = places.double()[:, :, None] * 10_000.0 ** -share           # (n², 2, dim / 4)
    features = torch.cat([angles.sin(), angles.cos()], 2)               # (n², 2, dim / 2)
    return features.flatten(1).float()


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """The adaptive norm's end, x̂ (1 + scale) + shift. Shapes: (B, L, D); (B or 1, 1, D) twice."""
    return torch.addcmul(shift, x, 1 + scale)


def _check_heads(dim: int, heads: int, mlp_ratio: int, dropout: float) -> None:
    wholes(dim=dim, heads=heads, mlp_ratio=mlp_ratio)
    number(dropout, "dropout", 0, 1)
    if dim % heads or dim % 4:
        raise ValueError(f"heads and 4 must divide dim={dim}; got {heads} heads")


class Block(nn.Module):
    """Attention, feed-forward, and a fusion of what the two give, under an adaptive norm.

    x1 = x + g₁ · MHSA(LN(x)(1 + a₁) + b₁);  x2 = g₂ · FFN(LN(x1)(1 + a₂) + b₂);  out = fuse(x1, x2)

    The modulation, all b, a, g, comes from time and class; a plain sum for `fuse` is a DiT block.
    Shapes: x (B, L, D), modulation (B or 1, 6, D) → (B, L, D).
    Source: Liu, Chen, Gao 2026, §3; Peebles & Xie 2023, §3.2.
    """

    def __init__(self, dim: int, heads: int, fusion: Callable[[int], nn.Module], mlp_ratio: int = 4,
                 dropout: float = 0.0):
        super().__init__()
        _check_heads(dim, heads, mlp_ratio, dropout)
        self.heads, self.dropout = heads, dropout
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.feed_forward = nn.Sequential(
            nn.Linear(dim, mlp_ratio * dim), nn.GELU(approximate="tanh"), nn.Dropout(dropout),
            nn.Linear(mlp_ratio * dim, dim))
        self.fuse = fusion(dim)
        self.table = nn.Parameter(torch.zeros(6, dim))

    def streams(self, x: Tensor, modulation: Tensor) -> tuple[Tensor, Tensor]:
        """(x1, x2), before they are fused."""
        b1, a1, g1, b2, a2, g2 = (modulation + self.table).unsqueeze(2).unbind(1)   # (B or 1, 1, D)
        h = F.layer_norm(x, x.shape[-1:], eps=1e-6)
        x1 = torch.addcmul(x, g1, self.attend(modulate(h, b1, a1)))
        h = F.layer_norm(x1, x.shape[-1:], eps=1e-6)
        return x1, g2 * self.feed_forward(modulate(h, b2, a2))

    def attend(self, x: Tensor) -> Tensor:
        """Multi-head self-attention. Shapes: (B, L, D) → (B, L, D)."""
        batch, length, dim = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)             # (B, heads, L, D / heads)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, dim))

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        dim = self.table.shape[1]
        tensor(x, "x", ("B", "L", dim), like=self.qkv.weight)
        shapes = (1, 6, dim), (len(x), 6, dim)
        if not isinstance(modulation, Tensor) or modulation.shape not in shapes:
            refuse("modulation", f"a tensor ({len(x)} or 1, 6, {dim})", described(modulation))
        return self.fuse(*self.streams(x, modulation))


class FFTD(nn.Module):
    """Noisy latent, time step, label → prediction: patches as tokens, blocks as a U.

    levels: how many resolutions the U has, each half the one before: 2 gives 4-2-2-2-4 for five
        blocks on a 4×4 grid. Down goes a 3×3 convolution with stride 2 (Eq. 16), up nearest ×2 and
        a convolution (Eq. 17); then each block on the right is given the fusion of its input with
        its left partner's output. levels=1 has no U and no such links: with fusion "add" it is
        DiT, its norm parameters shared.
    fusion: "add", "concat" or "adaptive", in the blocks and in the links (Table 9).
    fusion_start: how an adaptive fusion begins, "sum" or "norms" (see `AdaptiveFusion`).
    num_classes > 0 adds a label table with one row more, the null label, which y=None means.
    prediction, schedule: as in `UNet`.
    Conditioning, which the paper does not describe, is an adaptive norm: one linear map for each
    resolution and a small table for each block. Gates and last layer start at zero: so does it all.
    Shapes: z (B, latent_channels, grid, grid), t (B,) or (1,) integers, y (B,) integers → as z.
    Source: Liu, Chen, Gao 2026, §3, Algorithm 2. Raises: ValueError for sizes that do not divide,
    an unknown fusion or label, another shape of z.
    """
    card: dict  # what load_weights finds beside the weights

    def __init__(self, latent_channels: int = 4, grid: int = 4, patch: int = 1, dim: int = 128,
                 depth: int = 5, heads: int = 4, levels: int = 2, fusion: str = "adaptive",
                 num_classes: int = 0, mlp_ratio: int = 4, dropout: float = 0.0,
                 prediction: str = "eps", schedule: str | None = None, fusion_start: str = "sum"):
        super().__init__()
        check_training(prediction, schedule)
        fuse = kind_of(fusion, fusion_start)
        wholes(latent_channels=latent_channels, grid=grid, patch=patch, depth=depth, levels=levels)
        whole(num_classes, "num_classes", 0)
        if grid % patch:
            raise ValueError(f"the {grid}×{grid} grid cannot be cut into patches of "
                             f"{patch}×{patch}")
        if levels > (most := (depth + 1) // 2):
            raise ValueError(f"{depth} blocks in a U have 1 to {most} levels; got {levels}")
        if (side := grid // patch) % 2 ** (levels - 1):
            raise ValueError(f"{levels} levels halve {levels - 1} times, which {side}×{side} "
                             "tokens do not allow")
        _check_heads(dim, heads, mlp_ratio, dropout)
        self.config: dict = dict(
            latent_channels=latent_channels, grid=grid, patch=patch, dim=dim, depth=depth,
            heads=heads, levels=levels, fusion=fusion, num_classes=num_classes,
            mlp_ratio=mlp_ratio, dropout=dropout, prediction=prediction, schedule=schedule,
            fusion_start=fusion_start)
        self.num_classes, self.prediction, self.schedule = num_classes, prediction, schedule
        self.level_of = [min(i, depth - 1 - i, levels - 1) for i in range(depth)]
        self.embed = nn.Conv2d(latent_channels, dim, patch, patch)
        self.time = nn.Sequential(nn.Linear(TIME_FEATURES, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.label = nn.Embedding(num_classes + 1, dim) if num_classes else None
        self.norms = nn.ModuleList(nn.Linear(dim, 6 * dim) for _ in range(levels))
        self.blocks = nn.ModuleList(
            Block(dim, heads, fuse, mlp_ratio, dropout) for _ in range(depth))
        self.down = nn.ModuleList(nn.Conv2d(dim, dim, 3, 2, 1) for _ in range(levels - 1))
        self.up = nn.ModuleList(
            nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(dim, dim, 3, 1, 1))
            for _ in range(levels - 1))
        self.links = nn.ModuleList(fuse(dim) for _ in range(depth // 2 if levels > 1 else 0))
        self.last_norm = nn.Linear(dim, 2 * dim)
        self.last = nn.Linear(dim, patch**2 * latent_channels)
        for k in range(levels):
            self.register_buffer(f"positions{k}", positions(dim, side // 2**k), persistent=False)
        self._start()

    def _start(self):
        inner = [(b.qkv, b.out, b.feed_forward[0], b.feed_forward[3]) for b in self.blocks]
        for layer in (*sum(inner, ()), self.embed):
            nn.init.xavier_uniform_(layer.weight.flatten(1))
            nn.init.zeros_(layer.bias)
        for layer in (*self.norms, self.last_norm, self.last):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        for layer in filter(None, (self.time[0], self.time[2], self.label)):
            nn.init.normal_(layer.weight, std=0.02)

    def condition(self, t: Tensor, y: Tensor | None = None, count: int | None = None) -> Tensor:
        """One vector of time and class. Shapes: t (B,) or (1,), y (B,) or None → (B or 1, dim)."""
        vector = self.time(time_features(t, TIME_FEATURES, count=count))
        rows = class_rows(y, self.num_classes, t, count)
        return vector if self.label is None else vector + self.label(rows)

    def forward(self, z: Tensor, t: Tensor, y: Tensor | None = None,
                trace: list[Tensor] | None = None) -> Tensor:
        """trace: a list that is given every block's output, as maps, for pictures."""
        self._check(z)
        return self.through(z, self.condition(t, y, len(z)), trace)

    def _check(self, z: Tensor) -> None:
        channels, grid = self.config["latent_channels"], self.config["grid"]
        tensor(z, "the latents", ("B", channels, grid, grid), like=self.embed.weight)

    def through(self, z: Tensor, condition: Tensor, trace: list[Tensor] | None = None,
                *more: Tensor) -> Tensor:
        """The way from latents to the prediction. condition (B or 1, dim); more: for each block."""
        c = F.silu(condition)                                         # (B or 1, D)
        modulations = [norm(c).view(len(c), 6, -1) for norm in self.norms]    # (B or 1, 6, D) each
        x = to_tokens(self.embed(z)) + self.get_buffer("positions0")  # (B, L, D)
        outputs: list[Tensor] = []                                    # of the blocks so far
        before = 0                                                    # the level x is on
        for i, (block, level) in enumerate(zip(self.blocks, self.level_of, strict=True)):
            if level > before:
                x = to_tokens(self.down[before](to_map(x)))           # (B, L / 4, D)
            elif level < before:
                x = to_tokens(self.up[level](to_map(x)))              # (B, 4·L, D)
            if level != before:
                x = x + self.get_buffer(f"positions{level}")
            partner = len(self.blocks) - 1 - i                        # across the U
            if partner < len(self.links):
                x = self.links[partner](outputs[partner], x)
            x = block(x, modulations[level], *more)
            outputs.append(x)
            before = level
            if trace is not None:
                trace.append(to_map(x))
        shift, scale = self.last_norm(c).unsqueeze(1).chunk(2, -1)    # (B or 1, 1, D)
        h = F.layer_norm(x, x.shape[-1:], eps=1e-6)
        x = self.last(modulate(h, shift, scale))                      # (B, L, patch²·channels)
        return F.pixel_shuffle(to_map(x), self.config["patch"])       # (B, channels, grid, grid)
