"""Chapter 5: networks that are told the time step (and a class, if there are any): DDPM's U-Net, and a small one for points.

Source: Ho et al. 2020, §4 and appendix B; the baseline of Liu, Chen, Gao 2026, §5 and Table 4.
"""

import math

import torch
from torch import nn

from minigen.common import group_norm, several
from minigen.inputs import is_whole, labels, number, refuse, tensor, times, told, whole, wholes
from minigen.ivqvae import Attention

# Arguments of UNet: the paper's baseline at 256×256 (its width is not stated; 128 is DDPM's), and one a laptop trains.
PRESETS = {
    "paper": dict(size=256, width=128, multipliers=(1, 2, 2, 4), blocks=2, attention_at=16),
    "small": dict(size=32, width=16, multipliers=(1, 2, 4, 8), blocks=1, attention_at=8),
}


def time_features(t, dim, longest=10_000, count=None):
    """Sines and cosines of t, from one radian a step down to (nearly) one in `longest` steps.

    [cos(t ω_k), sin(t ω_k)] with ω_k = longest^(−k / (dim / 2)), k = 0 … dim / 2 − 1. Computed in float32.
    Shapes: t (B,) integers → (B, dim), dim even. Source: Vaswani et al. 2017, §3.5; order and ω_k as in DiT.
    count: of the images t belongs to.
    Raises: ValueError for a t neither (count,) nor (1,), or outside 0 … 9,999.
    """
    if not is_whole(dim) or dim < 2 or dim % 2:
        refuse("dim", "even, half of it sines, and at least 2", told(dim))
    times(t, count)
    frequencies = torch.exp(torch.arange(dim // 2, device=t.device) * (-math.log(longest) / (dim // 2)))
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], 1)


class TimeBlock(nn.Module):
    """Residual block of two 3×3 convolutions; between them the conditioning vector is added to every pixel.

    The second convolution starts at zero, so the block starts as its shortcut.
    Shapes: h (B, c_in, H, W), vector (B or 1, D) → (B, c_out, H, W). Source: Ho et al. 2020, appendix B.
    """

    def __init__(self, c_in, c_out, condition_dim, dropout=0.0):
        super().__init__()
        wholes(c_in=c_in, c_out=c_out, condition_dim=condition_dim)
        number(dropout, "dropout", 0, 1)
        self.first = nn.Sequential(group_norm(c_in), nn.SiLU(), nn.Conv2d(c_in, c_out, 3, 1, 1))
        self.condition = nn.Sequential(nn.SiLU(), nn.Linear(condition_dim, c_out))
        self.second = nn.Sequential(group_norm(c_out), nn.SiLU(), nn.Dropout(dropout), nn.Conv2d(c_out, c_out, 3, 1, 1))
        self.shortcut = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)
        nn.init.zeros_(self.second[-1].weight), nn.init.zeros_(self.second[-1].bias)

    def forward(self, h, condition):
        first, width = self.first[2], self.condition[1].in_features
        tensor(h, "h", ("B", first.in_channels, "H", "W"), like=first.weight)
        tensor(condition, "condition", ("B", width), like=first.weight)
        if len(condition) not in (1, len(h)):
            refuse("condition", f"of {len(h)} rows, or one", str(len(condition)))
        return self.shortcut(h) + self.second(self.first(h) + self.condition(condition)[:, :, None, None])


def class_rows(y, num_classes, t, count=None):
    """Rows of a label table: y (B,), or the null label where y is None; None without classes.

    Raises: ValueError for labels that do not belong to the images, or to this network.
    """
    if y is None:
        return torch.full((1,), num_classes, device=t.device) if num_classes else None
    if not num_classes:
        raise ValueError("this network was built without classes: it takes no labels y")
    if count is None:
        count = len(t) if len(t) > 1 or not isinstance(y, torch.Tensor) else y.numel()
    return labels(y, count, num_classes, null=True)


class UNet(nn.Module):
    """Noisy image and time step → predicted noise: down by stages, a middle, and up again over skip connections.

    A stage down is `blocks` residual blocks and a halving. A stage up is a doubling and as many blocks, and each is also
    given what its partner on the way down made. Blocks at resolution `attention_at` are followed by attention.
    num_classes > 0 adds a label table with one row more, the null label num_classes, which stands for "no class";
    y=None means it for the whole batch. learn_variance doubles the output: C channels of noise, C for the variance.
    The last convolution starts at zero, so the untrained network predicts no noise.
    Shapes: x (B, channels, size, size); t (B,) or (1,) integers; y (B,) integers; output as x (or 2·channels).
    Source: Ho et al. 2020, appendix B; class as in Nichol & Dhariwal 2021, §2.
    Raises: ValueError for a size that the stages do not divide, an input of another shape, an unknown label.
    """

    def __init__(self, size=32, width=16, multipliers=(1, 2, 4, 8), blocks=1, attention_at=8, channels=3, num_classes=0,
                 dropout=0.0, learn_variance=False):
        super().__init__()
        if whole(width, "width") < 4 or width % 2:
            raise ValueError("width must be at least 4 (group normalisation) and even (sines of the "
                             f"time); got {width}")
        wholes(size=size, blocks=blocks, channels=channels)
        number(dropout, "dropout", 0, 1)
        wholes(0, attention_at=attention_at or 0, num_classes=num_classes)
        _yes_or_no(learn_variance)
        if size % 2 ** len(several(multipliers, "multipliers")):
            raise ValueError(f"{len(multipliers)} stages halve {len(multipliers)} times, which the size {size} does not allow")
        self.config = dict(size=size, width=width, multipliers=tuple(multipliers), blocks=blocks, attention_at=attention_at,
                           channels=channels, num_classes=num_classes, dropout=dropout, learn_variance=learn_variance)
        self.num_classes = num_classes
        dim, channels_of = 4 * width, [width * m for m in multipliers]

        def block(c_in, c_out, resolution):
            attend = Attention(c_out) if resolution == attention_at else nn.Identity()
            return nn.ModuleList([TimeBlock(c_in, c_out, dim, dropout), attend])

        self.time = nn.Sequential(nn.Linear(width, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.label = nn.Embedding(num_classes + 1, dim) if num_classes else None
        self.first, c, resolution = nn.Conv2d(channels, width, 3, 1, 1), width, size
        self.down, self.shrink, self.grow, self.up = (nn.ModuleList() for _ in range(4))
        for c_out in channels_of:
            self.down.append(nn.ModuleList([block(c_out if i else c, c_out, resolution) for i in range(blocks)]))
            self.shrink.append(nn.Conv2d(c_out, c_out, 3, 2, 1))
            c, resolution = c_out, resolution // 2
        self.middle = nn.ModuleList([block(c, c, resolution), block(c, c, resolution)])
        for c_out in reversed(channels_of):
            resolution *= 2
            self.grow.append(nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(c, c_out, 3, 1, 1)))
            self.up.append(nn.ModuleList([block(2 * c_out, c_out, resolution) for _ in range(blocks)]))
            c = c_out
        self.last = nn.Sequential(group_norm(c), nn.SiLU(), nn.Conv2d(c, channels * (1 + learn_variance), 3, 1, 1))
        nn.init.zeros_(self.last[-1].weight), nn.init.zeros_(self.last[-1].bias)

    def condition(self, t, y=None, count=None):
        """One vector for time and class; count: of the images, B.

        Shapes: t (B,) or (1,), y (B,) or None → (B or 1, 4·width).
        """
        vector = self.time(time_features(t, self.config["width"], count=count))
        y = class_rows(y, self.num_classes, t, count)
        return vector if y is None else vector + self.label(y)

    def forward(self, x, t, y=None):
        size, channels = self.config["size"], self.config["channels"]
        tensor(x, "x", ("B", channels, size, size), like=self.first.weight)
        condition, h, skips = self.condition(t, y, len(x)), self.first(x), []
        for stage, shrink in zip(self.down, self.shrink, strict=True):
            for block, attend in stage:
                h = attend(block(h, condition))
                skips.append(h)
            h = shrink(h)
        for block, attend in self.middle:
            h = attend(block(h, condition))
        for stage, grow in zip(self.up, self.grow, strict=True):
            h = grow(h)
            for block, attend in stage:
                h = attend(block(torch.cat([h, skips.pop()], 1), condition))
        return self.last(h)


def _yes_or_no(learn_variance):
    if learn_variance not in (True, False):
        refuse("learn_variance", "True or False", told(learn_variance))


class PointDenoiser(nn.Module):
    """The smallest network that is told the time: residual layers on vectors, for points in the plane or very small images.

    Shapes: x (B, dim), t (B,) or (1,) integers → (B, dim), or (B, 2·dim) with learn_variance. It starts as zero.
    """

    def __init__(self, dim, width=128, layers=3, learn_variance=False):
        super().__init__()
        wholes(dim=dim, width=width, layers=layers)
        _yes_or_no(learn_variance)
        self.config = dict(dim=dim, width=width, layers=layers, learn_variance=learn_variance)
        self.first, self.time = nn.Linear(dim, width), nn.Linear(64, width)
        self.layers = nn.ModuleList(nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))
                                    for _ in range(layers))
        self.last = nn.Linear(width, dim * (1 + learn_variance))
        nn.init.zeros_(self.last.weight), nn.init.zeros_(self.last.bias)

    def forward(self, x, t, y=None):
        tensor(x, "x", ("B", self.config["dim"]), like=self.first.weight)
        time = self.time(time_features(t, 64, count=len(x)))
        class_rows(y, 0, t)                      # it has no classes, and says so
        h = self.first(x)
        for layer in self.layers:
            h = h + layer(h + time)
        return self.last(h)
