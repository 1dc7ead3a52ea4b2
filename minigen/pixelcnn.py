"""Chapter 3: an autoregressive prior over maps of codes, PixelCNN.

p(codes) = Π p(code at position n | the codes before it), positions in reading order.
Sources: van den Oord et al. 2016, *Pixel Recurrent Neural Networks*, §3.4 (masks); van den Oord et
al. 2016, *Conditional Image Generation with PixelCNN Decoders* (labels).
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigen.common import Batches, as_tensor, counted, evaluating, filled, one_cycle
from minigen.common import generator as seeded
from minigen.inputs import described, in_range, is_whole, labels, number, tensor, whole, wholes


def causal_mask(size: int, kind: str) -> Tensor:
    """Which taps of a size×size kernel may be used: those above, and to the left in the middle row.

    Kind "A" leaves the centre out (first layer: a position must not see itself), kind "B" keeps it.
    Shapes: → (size, size) floats 0 and 1. Raises: ValueError for an even size or another kind.
    """
    if not is_whole(size) or size % 2 == 0 or size < 1:
        raise ValueError(f"a causal kernel has a centre, so its size is odd; got {described(size)}")
    if kind not in ("A", "B"):
        raise ValueError(f"a mask is of kind 'A' or 'B'; got {kind!r}")
    middle = size // 2
    mask = torch.zeros(size, size)
    mask[:middle] = 1
    mask[middle, : middle + (kind == "B")] = 1
    return mask


class MaskedConv2d(nn.Conv2d):
    """A convolution that sees only what comes before (kind "A") or up to (kind "B") each position.

    Shapes: (B, c_in, H, W) → (B, c_out, H, W).
    """

    mask: Tensor

    def __init__(self, c_in: int, c_out: int, size: int, kind: str):
        mask = causal_mask(size, kind)
        wholes(c_in=c_in, c_out=c_out)
        super().__init__(c_in, c_out, size, padding=size // 2)
        self.register_buffer("mask", mask, persistent=False)
        taps = size * (size // 2) + size // 2 + (kind == "B")
        with torch.no_grad():
            self.weight.mul_(math.sqrt(size * size / max(1, taps)))  # fewer taps, so larger ones

    def forward(self, x: Tensor) -> Tensor:
        tensor(x, "x", ("B", self.in_channels, "H", "W"), like=self.weight)
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)


class _Block(nn.Module):
    """Residual block of a masked convolution and a 1×1; each position is normalised by itself.

    So no later one leaks in. Shapes: h (B, dim, H, W), label (B, dim, 1, 1) → (B, dim, H, W).
    """

    def __init__(self, dim: int, dropout: float):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.conv1, self.conv2 = MaskedConv2d(dim, dim, 3, "B"), nn.Conv2d(dim, dim, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, label: Tensor) -> Tensor:
        u = self.conv1(F.silu(_per_position(self.norm1, h) + label))
        u = self.dropout(F.silu(_per_position(self.norm2, u)))
        return h + self.conv2(u)


def _per_position(norm: nn.LayerNorm, h: Tensor) -> Tensor:
    """The channels of each position normalised, (B, dim, H, W) → the same."""
    return norm(h.movedim(1, -1)).movedim(-1, 1)


class PixelCNN(nn.Module):
    """Logits of every code at every position, given the codes before it (and a label, if passed).

    The first kernel is 7×7, which on a 4×4 map reaches every earlier position, so there is no blind
    spot. The last layer starts at zero: an untrained model gives every code the probability 1/K.
    Shapes: codes (B, grid, grid) int64, y (B,) integers; logits (B, K, grid, grid).
    Raises: ValueError for codes of another grid or outside 0 … K − 1, for labels outside
    0 … num_classes − 1.
    """

    def __init__(self, num_codes: int, dim: int = 64, blocks: int = 4, grid: int = 4,
                 num_classes: int = 0, dropout: float = 0.1):
        super().__init__()
        wholes(num_codes=num_codes, dim=dim, blocks=blocks, grid=grid)
        whole(num_classes, "num_classes", 0)
        number(dropout, "dropout", 0, 1)
        self.config = dict(num_codes=num_codes, dim=dim, blocks=blocks, grid=grid,
                           num_classes=num_classes, dropout=dropout)
        self.num_codes = num_codes
        self.grid = grid
        self.num_classes = num_classes
        self.embedding = nn.Embedding(num_codes, dim)
        self.position = nn.Parameter(0.02 * torch.randn(dim, grid, grid))
        self.label = nn.Embedding(num_classes + 1, dim)     # the last row stands for "no label"
        self.first = MaskedConv2d(dim, dim, 7, "A")
        self.blocks = nn.ModuleList(_Block(dim, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Conv2d(dim, num_codes, 1)
        for p in self.head.parameters():
            nn.init.zeros_(p)

    def forward(self, codes: Tensor, y: Tensor | None = None) -> Tensor:
        tensor(codes, "codes", ("B", self.grid, self.grid), integers=True)
        in_range(codes, 0, self.num_codes - 1, "codes")
        embedded = self.embedding(codes.long()).movedim(-1, 1)       # (B, dim, grid, grid)
        return self.logits_of(embedded, y)

    def logits_of(self, embedded: Tensor, y: Tensor | None = None) -> Tensor:
        """Logits from embedded codes (B, dim, grid, grid): the part that can be differentiated."""
        place = self.position
        tensor(embedded, "embedded codes", ("B", *place.shape), like=place)
        if y is None:
            y = torch.full((len(embedded),), self.num_classes, device=embedded.device)
        elif not self.num_classes:
            raise ValueError("this PixelCNN was built without classes: it takes no labels y")
        else:
            y = labels(y, len(embedded), self.num_classes, what="maps")
        label = self.label(y)[:, :, None, None]                      # (B, dim, 1, 1)
        h = self.first(embedded) + self.position                     # (B, dim, grid, grid)
        for block in self.blocks:
            h = block(h, label)
        return self.head(F.silu(_per_position(self.norm, h)))        # (B, K, grid, grid)


def bits_per_image(logits: Tensor, codes: Tensor) -> Tensor:
    """−log2 p(codes), summed over the map, averaged over the batch; uniform codes cost H·W·log2 K.

    Shapes: logits (B, K, H, W), codes (B, H, W) → a scalar.
    """
    filled(tensor(logits, "logits", ("B", "K", "H", "W")), "logits")
    tensor(codes, "codes", (len(logits), *logits.shape[2:]), integers=True)
    codes = in_range(codes, 0, logits.shape[1] - 1, "codes").long()
    return F.cross_entropy(logits, codes, reduction="sum") / len(codes) / math.log(2)


def sample_codes(model: PixelCNN, n: int, y: Tensor | Sequence[int] | None = None,
                 prefix: Tensor | None = None, temperature: float = 1.0, seed: int = 0) -> Tensor:
    """n maps of codes, one position after another: H·W passes of the model, in eval mode.

    prefix: (n, P) codes of the first P positions in reading order, kept as they are.
    temperature: logits are divided by it; below 1 likely codes become likelier.
    Shapes: → (n, grid, grid) int64.
    Raises: ValueError for a temperature ≤ 0 or a prefix that does not fit.
    """
    whole(n, "n")
    number(temperature, "temperature", positive=True)
    grid, positions = model.grid, model.grid**2
    generator, device = seeded(seed), next(model.parameters()).device
    codes = torch.zeros(n, positions, dtype=torch.long, device=device)
    known = 0                                    # positions that are given
    if prefix is not None:
        at_most = f"at most {positions}"
        known = tensor(prefix, "prefix", (n, at_most), integers=True).shape[1]
        if known > positions:
            raise ValueError(f"prefix must be ({n}, {at_most}); got {tuple(prefix.shape)}")
        in_range(prefix, 0, model.num_codes - 1, "codes of the prefix")
        codes[:, :known] = prefix.to(device)
    if y is not None:
        y = labels(as_tensor(y, "labels"), n, what="maps").to(device)
    with evaluating(model):
        for position in range(known, positions):
            logits = model(codes.view(n, grid, grid), y).flatten(2)  # (n, K, positions)
            p = (logits[:, :, position] / temperature).softmax(1).cpu()
            drawn = torch.multinomial(p, 1, generator=generator)     # (n, 1)
            codes[:, position] = drawn.squeeze(1).to(device)
    return codes.view(n, grid, grid)


class PixelCNNStep(NamedTuple):
    """A step of `train_pixelcnn`: its number (from 1) and the bits an image of its batch costs."""

    step: int
    bits: float


def train_pixelcnn(model: PixelCNN, data: Batches, *, steps: int, lr: float = 2e-3,
                   label_dropout: float = 0.2, seed: int = 0) -> Iterator[PixelCNNStep]:
    """Train on batches (codes,) or (codes, y) by maximum likelihood; yields `PixelCNNStep`s.

    label_dropout: the share of batches that go without their labels, so that the model can also
    draw without one.
    Raises: ValueError where `data` ends before `steps`, and for settings that cannot be.
    """
    number(label_dropout, "label_dropout", 0, 1)
    optimiser = torch.optim.AdamW(model.parameters(), lr=number(lr, "lr", 0), weight_decay=0.01)
    schedule = one_cycle(optimiser, lr, steps)
    generator, device = seeded(seed), next(model.parameters()).device
    model.train()
    for step, (codes, *y) in counted(data, steps):
        codes = codes.to(device)
        keep = y and torch.rand((), generator=generator) >= label_dropout
        logits = model(codes, y[0].to(device) if keep else None)     # (B, K, grid, grid)
        bits = bits_per_image(logits, codes)
        optimiser.zero_grad()
        (bits * math.log(2)).backward()                              # in nats
        optimiser.step()
        schedule.step()
        yield PixelCNNStep(step, bits.item())
