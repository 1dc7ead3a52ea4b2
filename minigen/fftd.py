"""Chapter 7: FFTD, the feature-fused Transformer that denoises latents. Tokens at two resolutions, three kinds of fusion.

Sources: Liu, Chen, Gao 2026, §3 (Eqs. 16 to 25); Peebles & Xie 2023 (DiT); Chen et al. 2024 (PixArt-α).
"""

import torch
import torch.nn.functional as F
from torch import nn

from minigen.inputs import alike, number, refuse, tensor, told, whole, wholes
from minigen.unet import class_rows, time_features

# Arguments of FFTD: the paper's model (dim is found from its parameter counts), and one that a laptop trains.
PRESETS = {
    "paper": dict(latent_channels=4, grid=4, patch=1, dim=320, depth=5, heads=5, levels=2, fusion="adaptive"),
    "small": dict(latent_channels=4, grid=4, patch=1, dim=128, depth=5, heads=4, levels=2, fusion="adaptive"),
}
FUSIONS = ("add", "concat", "adaptive")
TIME_FEATURES = 256


def to_tokens(x):
    """A map's places in reading order. Shapes: (B, D, h, w) → (B, h·w, D)."""
    if not isinstance(x, torch.Tensor) or x.ndim != 4:
        tensor(x, "x", ("B", "D", "H", "W"))
    return x.flatten(2).transpose(1, 2)


def to_map(tokens):
    """The square map of tokens in reading order. Shapes: (B, n², D) → (B, D, n, n)."""
    if not isinstance(tokens, torch.Tensor) or tokens.ndim != 3:
        tensor(tokens, "tokens", ("B", "L", "D"))
    n = round(tokens.shape[1] ** 0.5)
    if n * n != tokens.shape[1]:
        refuse("the number of tokens", "a square", tokens.shape[1])
    return tokens.transpose(1, 2).reshape(len(tokens), tokens.shape[2], n, n)


def positions(dim, n):
    """Fixed position features of an n×n grid: sines and cosines of the column, then of the row.

    Shapes: (n², dim), dim divisible by 4. Source: as in DiT, after Vaswani et al. 2017, §3.5.
    """
    if whole(dim, "dim") % 4 or not whole(n, "n"):
        refuse("dim", "divisible by 4, for sines and cosines of two axes", dim)

    def features(at):
        angles = at.double()[:, None] * 10_000.0 ** (-torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))
        return torch.cat([angles.sin(), angles.cos()], 1)

    row, column = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    return torch.cat([features(column.flatten()), features(row.flatten())], 1).float()


class AdaptiveFusion(nn.Module):
    """Joins two streams of tokens with weights read off both: one for each channel, one for each place.

    p         = [mean_l, max_l] of x1‖x2                                       (B, 4D)        Eqs. 18, 19
    w_channel = σ(Linear2(Swish(Linear1(p))))                                  (B, 1, D)      Eq. 20
    w_spatial = σ(Conv3(Swish(Conv2(Swish(Conv1(map of x1‖x2))))))             (B, L, 1)      Eqs. 21, 22
    x_fused   = w_channel · LN(x1) + w_spatial · LN(x2) + s · Linear(x1‖x2)    (B, L, D)      Eqs. 23 to 25

    The course's decisions: p is 4D wide and has a true maximum; Swish between layers, without which two would be one.
    The norms' gains start at 0, s at 1 and Linear at x1 + x2, so a new fusion is a plain sum and learns to differ.
    Shapes: x1, x2 (B, L, D), L a square number. return_weights=True: (x_fused, {name: intermediate}).
    """

    def __init__(self, dim):
        super().__init__()
        if whole(dim, "dim") % 16:
            raise ValueError(f"adaptive fusion divides dim by 16; got {dim}")
        self.channel = nn.Sequential(nn.Linear(4 * dim, dim // 16), nn.SiLU(), nn.Linear(dim // 16, dim))
        self.spatial = nn.Sequential(nn.Conv2d(2 * dim, dim // 4, 3, 1, 1), nn.SiLU(),
                                     nn.Conv2d(dim // 4, dim // 4, 3, 1, 1), nn.SiLU(), nn.Conv2d(dim // 4, 1, 3, 1, 1))
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.linear, self.s = nn.Linear(2 * dim, dim), nn.Parameter(torch.ones(()))
        with torch.no_grad():
            self.linear.weight.copy_(torch.eye(dim).repeat(1, 2)), self.linear.bias.zero_()
            self.norm1.weight.zero_(), self.norm2.weight.zero_()

    def forward(self, x1, x2, return_weights=False):
        both = _joined(x1, x2, self.linear)
        p = torch.cat([both.mean(1), both.amax(1)], -1)
        w_channel = self.channel(p).sigmoid()[:, None]
        w_spatial = to_tokens(self.spatial(to_map(both)).sigmoid())
        x_channel, x_spatial = w_channel * self.norm1(x1), w_spatial * self.norm2(x2)
        x_fused = x_channel + x_spatial + self.s * self.linear(both)
        if not return_weights:
            return x_fused
        return x_fused, dict(p=p, w_channel=w_channel, w_spatial=w_spatial, x_channel=x_channel, x_spatial=x_spatial)


def _joined(x1, x2, linear):
    tensor(x1, "x1", ("B", "L", linear.out_features), like=linear.weight)
    if tensor(x2, "x2").shape != x1.shape:
        alike(x1, x2, "x1", "x2")
    return torch.cat([x1, x2], -1)


class ConcatFusion(nn.Module):
    """Linear(x1‖x2), starting as x1 + x2 (Table 9). Shapes: (B, L, D) twice → (B, L, D)."""

    def __init__(self, dim):
        super().__init__()
        self.linear = nn.Linear(2 * whole(dim, "dim"), dim)
        with torch.no_grad():
            self.linear.weight.copy_(torch.eye(dim).repeat(1, 2)), self.linear.bias.zero_()

    def forward(self, x1, x2):
        return self.linear(_joined(x1, x2, self.linear))


class AddFusion(nn.Module):
    """x1 + x2 (Table 9)."""

    def __init__(self, dim):
        super().__init__()

    def forward(self, x1, x2):
        alike(x1, x2, "x1", "x2")
        return x1 + x2


def modulate(x, shift, scale):
    """The adaptive norm's second half: x̂ (1 + scale) + shift. Shapes: x (B, L, D), shift and scale (B or 1, 1, D)."""
    return torch.addcmul(shift, x, 1 + scale)


def _check_heads(dim, heads, mlp_ratio, dropout):
    wholes(dim=dim, heads=heads, mlp_ratio=mlp_ratio)
    number(dropout, "dropout", 0, 1)
    if dim % heads or dim % 4:
        raise ValueError(f"heads and 4 must divide dim={dim}; got {heads} heads")


class Block(nn.Module):
    """Attention, feed-forward, and a fusion of what the two give; both read their input through the adaptive norm.

    x1 = x + g₁ · MHSA(LN(x)(1 + a₁) + b₁);  x2 = g₂ · FFN(LN(x1)(1 + a₂) + b₂);  out = fuse(x1, x2)

    The six of a, b, g come from time and class; with a plain sum for `fuse` this is a DiT block.
    Shapes: x (B, L, D), six (B or 1, 6, D) → (B, L, D). Source: Liu, Chen, Gao 2026, §3; Peebles & Xie 2023, §3.2.
    """

    def __init__(self, dim, heads, fusion, mlp_ratio=4, dropout=0.0):
        super().__init__()
        _check_heads(dim, heads, mlp_ratio, dropout)
        self.heads, self.dropout = heads, dropout
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.feed_forward = nn.Sequential(nn.Linear(dim, mlp_ratio * dim), nn.GELU(approximate="tanh"), nn.Dropout(dropout),
                                          nn.Linear(mlp_ratio * dim, dim))
        self.fuse = fusion(dim)
        self.table = nn.Parameter(torch.zeros(6, dim))

    def streams(self, x, six):
        """(x1, x2), before they are fused."""
        b1, a1, g1, b2, a2, g2 = (six + self.table).unsqueeze(2).unbind(1)
        h = F.layer_norm(x, x.shape[-1:], eps=1e-6)
        x1 = torch.addcmul(x, g1, self.attend(modulate(h, b1, a1)))
        h = F.layer_norm(x1, x.shape[-1:], eps=1e-6)
        return x1, g2 * self.feed_forward(modulate(h, b2, a2))

    def attend(self, x):
        batch, length, dim = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, dim))

    def forward(self, x, six):
        tensor(x, "x", ("B", "L", self.table.shape[1]), like=self.qkv.weight)
        good = isinstance(six, torch.Tensor) and six.shape[1:] == self.table.shape
        if not good or len(six) not in (1, len(x)):
            refuse("six", f"a tensor ({len(x)} or 1, 6, {self.table.shape[1]})", told(six))
        return self.fuse(*self.streams(x, six))


class FFTD(nn.Module):
    """Noisy latent, time step, label → predicted noise. Patches become tokens; the blocks form a U over resolutions.

    levels: how many resolutions the U has, each half the one before: 2 gives 4-2-2-2-4 for five blocks on a 4×4 grid, 3 gives
        4-2-1-2-4. Going down a 3×3 convolution with stride 2 (Eq. 16), going up nearest ×2 and a convolution (Eq. 17); then
        each block on the right is given the fusion of its input with the output of its partner on the left. levels=1 has no U
        and no such links: with fusion "add" it is DiT, its norm parameters shared.
    fusion: "add", "concat" or "adaptive", in the blocks and in the links (Table 9).
    num_classes > 0 adds a label table with one row more, the null label num_classes; y=None means it.
    Conditioning, which the paper does not describe, is an adaptive norm: one linear map a resolution, shared by its blocks,
    and a small table a block. All gates and the last layer start at zero, so an untrained model answers exactly 0.
    Shapes: z (B, latent_channels, grid, grid), t (B,) or (1,) integers, y (B,) integers → as z. What depends only on t is
    computed once where t is (1,).
    Source: Liu, Chen, Gao 2026, §3, Algorithm 2. Raises: ValueError for sizes that do not divide, an unknown fusion or label,
    a latent of another shape.
    """

    def __init__(self, latent_channels=4, grid=4, patch=1, dim=128, depth=5, heads=4, levels=2, fusion="adaptive", num_classes=0,
                 mlp_ratio=4, dropout=0.0):
        super().__init__()
        if fusion not in FUSIONS:
            raise ValueError(f"fusion must be one of {', '.join(FUSIONS)}; got '{fusion}'")
        wholes(latent_channels=latent_channels, grid=grid, patch=patch, depth=depth, levels=levels)
        whole(num_classes, "num_classes", 0)
        if grid % patch:
            raise ValueError(f"the {grid}×{grid} grid cannot be cut into patches of {patch}×{patch}")
        if levels > (depth + 1) // 2:
            raise ValueError(f"{depth} blocks in a U have 1 to {(depth + 1) // 2} levels; got {levels}")
        if (side := grid // patch) % 2 ** (levels - 1):
            raise ValueError(f"{levels} levels halve {levels - 1} times, which {side}×{side} tokens do not allow")
        _check_heads(dim, heads, mlp_ratio, dropout)
        self.config = dict(latent_channels=latent_channels, grid=grid, patch=patch, dim=dim, depth=depth, heads=heads,
                           levels=levels, fusion=fusion, num_classes=num_classes, mlp_ratio=mlp_ratio, dropout=dropout)
        self.num_classes, self.depth, self.patch = num_classes, depth, patch
        self.level_of = [min(i, depth - 1 - i, levels - 1) for i in range(depth)]
        fuse = {"add": AddFusion, "concat": ConcatFusion, "adaptive": AdaptiveFusion}[fusion]

        self.embed = nn.Conv2d(latent_channels, dim, patch, patch)
        self.time = nn.Sequential(nn.Linear(TIME_FEATURES, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.label = nn.Embedding(num_classes + 1, dim) if num_classes else None
        self.norms = nn.ModuleList(nn.Linear(dim, 6 * dim) for _ in range(levels))
        self.blocks = nn.ModuleList(Block(dim, heads, fuse, mlp_ratio, dropout) for _ in range(depth))
        self.down = nn.ModuleList(nn.Conv2d(dim, dim, 3, 2, 1) for _ in range(levels - 1))
        self.up = nn.ModuleList(nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(dim, dim, 3, 1, 1))
                                for _ in range(levels - 1))
        self.links = nn.ModuleList(fuse(dim) for _ in range(depth // 2 if levels > 1 else 0))
        self.last_norm, self.last = nn.Linear(dim, 2 * dim), nn.Linear(dim, patch**2 * latent_channels)
        for level in range(levels):
            self.register_buffer(f"positions{level}", positions(dim, side // 2**level), persistent=False)
        self._start()

    def _start(self):
        for block in self.blocks:
            for layer in (block.qkv, block.out, block.feed_forward[0], block.feed_forward[3]):
                nn.init.xavier_uniform_(layer.weight), nn.init.zeros_(layer.bias)
        nn.init.xavier_uniform_(self.embed.weight.flatten(1)), nn.init.zeros_(self.embed.bias)
        for layer in (*self.norms, self.last_norm, self.last):
            nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)
        for table in (self.time[0].weight, self.time[2].weight, *([self.label.weight] if self.label else [])):
            nn.init.normal_(table, std=0.02)

    def condition(self, t, y=None, count=None):
        """One vector for time and class; count: of the images, B.

        Shapes: t (B,) or (1,), y (B,) or None → (B or 1, dim).
        """
        vector = self.time(time_features(t, TIME_FEATURES, count=count))
        y = class_rows(y, self.num_classes, t, count)
        return vector if y is None else vector + self.label(y)

    def forward(self, z, t, y=None, trace=None):
        """trace: a list that is given every block's output, as maps, for pictures."""
        channels, grid = self.config["latent_channels"], self.config["grid"]
        tensor(z, "the latents", ("B", channels, grid, grid), like=self.embed.weight)
        c = F.silu(self.condition(t, y, len(z)))
        sixes = [norm(c).view(len(c), 6, -1) for norm in self.norms]
        x, level, lefts = to_tokens(self.embed(z)) + self.positions0, 0, []
        for i, block in enumerate(self.blocks):
            if self.level_of[i] > level:
                x = to_tokens(self.down[level](to_map(x)))
            elif self.level_of[i] < level:
                x = to_tokens(self.up[level - 1](to_map(x)))
            if self.level_of[i] != level:
                level = self.level_of[i]
                x = x + getattr(self, f"positions{level}")
            if self.links and i >= (self.depth + 1) // 2:
                x = self.links[self.depth - 1 - i](lefts[self.depth - 1 - i], x)
            x = block(x, sixes[level])
            lefts.append(x)
            if trace is not None:
                trace.append(to_map(x))
        shift, scale = self.last_norm(c).unsqueeze(1).chunk(2, -1)
        x = self.last(modulate(F.layer_norm(x, x.shape[-1:], eps=1e-6), shift, scale))
        return F.pixel_shuffle(to_map(x), self.patch)
