"""Chapter 5: networks that are told the time (and a class): DDPM's U-Net, and one for points.

Source: Ho et al. 2020, §4 and appendix B; the baseline of Liu, Chen, Gao 2026, §5 and Table 4.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from minigen.common import Attention, class_rows, group_norm, several, time_features
from minigen.diffusion import check_training
from minigen.inputs import described, number, refuse, tensor, whole, wholes

# Arguments of UNet: the paper's baseline at 256×256 (its width is not stated; 128 is DDPM's), and
# one a laptop trains.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": dict(size=256, width=128, multipliers=(1, 2, 2, 4), blocks=2, attention_at=16),
    "small": dict(size=32, width=16, multipliers=(1, 2, 4, 8), blocks=1, attention_at=8),
}


class TimeBlock(nn.Module):
    """Residual block of two 3×3 convolutions; between them a vector is added to every pixel.

    The second convolution starts at zero, so the block starts as its shortcut.
    Shapes: h (B, c_in, H, W), condition (B or 1, condition_dim) → (B, c_out, H, W).
    Source: Ho et al. 2020, appendix B.
    """

    def __init__(self, c_in: int, c_out: int, condition_dim: int, dropout: float = 0.0):
        super().__init__()
        wholes(c_in=c_in, c_out=c_out, condition_dim=condition_dim)
        number(dropout, "dropout", 0, 1)
        self.first = nn.Sequential(group_norm(c_in), nn.SiLU(), nn.Conv2d(c_in, c_out, 3, 1, 1))
        self.condition = nn.Sequential(nn.SiLU(), nn.Linear(condition_dim, c_out))
        last = nn.Conv2d(c_out, c_out, 3, 1, 1)
        self.second = nn.Sequential(group_norm(c_out), nn.SiLU(), nn.Dropout(dropout), last)
        self.shortcut = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)
        _zero(last)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        first, width = self.first[2], self.condition[1].in_features
        tensor(h, "h", ("B", first.in_channels, "H", "W"), like=first.weight)
        tensor(condition, "condition", ("B", width), like=first.weight)
        if len(condition) not in (1, len(h)):
            refuse("condition", f"of {len(h)} rows, or one", str(len(condition)))
        shift = self.condition(condition)[:, :, None, None]      # (B or 1, c_out, 1, 1)
        between = self.first(h) + shift                          # (B, c_out, H, W)
        return self.shortcut(h) + self.second(between)


def _zero(layer: nn.Module) -> None:
    for p in layer.parameters():
        nn.init.zeros_(p)


class UNet(nn.Module):
    """Noisy image and time step → prediction: down by stages, a middle, up over skips.

    A stage down is `blocks` residual blocks and a halving. A stage up is a doubling and as many
    blocks, and each is also given what its partner on the way down made. Blocks at resolution
    `attention_at` are followed by attention.
    num_classes > 0 adds a label table with one row more, the null label num_classes, which stands
    for "no class"; y=None means it for the whole batch. learn_variance doubles the output: C
    channels of noise, C for the variance. The last convolution starts at zero, so the untrained
    network answers 0.
    prediction, schedule: what it is trained to predict, "eps", "x0" or "v", and on which noise
    schedule. They change nothing here; losses and samplers read them.
    Shapes: x (B, channels, size, size); t (B,) or (1,) integers; y (B,) integers; output as x (or
    2·channels).
    Source: Ho et al. 2020, appendix B; class as in Nichol & Dhariwal 2021, §2.
    Raises: ValueError for a size that the stages do not divide, an input of another shape, an
    unknown label.
    """

    # lists of stages, or of pairs (block, attention): a type checker sees modules in them, no more
    down: Any
    middle: Any
    up: Any

    def __init__(self, size: int = 32, width: int = 16, multipliers: Sequence[int] = (1, 2, 4, 8),
                 blocks: int = 1, attention_at: int | None = 8, channels: int = 3,
                 num_classes: int = 0, dropout: float = 0.0, learn_variance: bool = False,
                 prediction: str = "eps", schedule: str | None = None):
        super().__init__()
        check_training(prediction, schedule)
        if whole(width, "width") < 4 or width % 2:
            raise ValueError("width must be at least 4 (group normalisation) and even (sines of "
                             f"the time); got {width}")
        wholes(size=size, blocks=blocks, channels=channels)
        number(dropout, "dropout", 0, 1)
        wholes(0, attention_at=attention_at or 0, num_classes=num_classes)
        _yes_or_no(learn_variance)
        stages = len(several(multipliers, "multipliers"))
        if size % 2**stages:
            raise ValueError(f"{stages} stages halve {stages} times, which the size {size} does "
                             "not allow")
        self.config: dict = dict(
            size=size, width=width, multipliers=tuple(multipliers), blocks=blocks,
            attention_at=attention_at, channels=channels, num_classes=num_classes,
            dropout=dropout, learn_variance=learn_variance, prediction=prediction,
            schedule=schedule)
        self.num_classes, self.prediction, self.schedule = num_classes, prediction, schedule
        dim = 4 * width
        widths = [width * m for m in multipliers]

        def block(c_in: int, c_out: int, resolution: int) -> nn.ModuleList:
            attend = Attention(c_out) if resolution == attention_at else nn.Identity()
            return nn.ModuleList([TimeBlock(c_in, c_out, dim, dropout), attend])

        self.time = nn.Sequential(nn.Linear(width, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.label = nn.Embedding(num_classes + 1, dim) if num_classes else None
        self.first = nn.Conv2d(channels, width, 3, 1, 1)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        self.grow, self.up = nn.ModuleList(), nn.ModuleList()
        c, resolution = width, size                    # of what the next layer is given
        for c_out in widths:
            stage = [block(c_out if i else c, c_out, resolution) for i in range(blocks)]
            self.down.append(nn.ModuleList(stage))
            self.shrink.append(nn.Conv2d(c_out, c_out, 3, 2, 1))
            c, resolution = c_out, resolution // 2
        self.middle = nn.ModuleList([block(c, c, resolution), block(c, c, resolution)])
        for c_out in reversed(widths):
            resolution *= 2
            doubled = nn.Upsample(scale_factor=2, mode="nearest")
            self.grow.append(nn.Sequential(doubled, nn.Conv2d(c, c_out, 3, 1, 1)))
            stage = [block(2 * c_out, c_out, resolution) for _ in range(blocks)]
            self.up.append(nn.ModuleList(stage))
            c = c_out
        last = nn.Conv2d(c, channels * (1 + learn_variance), 3, 1, 1)
        self.last = nn.Sequential(group_norm(c), nn.SiLU(), last)
        _zero(last)

    def condition(self, t: Tensor, y: Tensor | None = None, count: int | None = None) -> Tensor:
        """One vector for time and class; count: of the images, B.

        Shapes: t (B,) or (1,), y (B,) or None → (B or 1, 4·width).
        """
        vector = self.time(time_features(t, self.config["width"], count=count))
        rows = class_rows(y, self.num_classes, t, count)
        return vector if self.label is None else vector + self.label(rows)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        size, channels = self.config["size"], self.config["channels"]
        tensor(x, "x", ("B", channels, size, size), like=self.first.weight)
        condition = self.condition(t, y, len(x))                   # (B or 1, 4·width)
        return self.through(self.first(x), condition)

    def through(self, h: Tensor, condition: Tensor) -> Tensor:
        """The way down and up, from the first features h (B, width, size, size)."""
        skips = []
        for stage, shrink in zip(self.down, self.shrink, strict=True):
            for block, attend in stage:
                h = attend(block(h, condition))                    # (B, c_out, r, r)
                skips.append(h)
            h = shrink(h)                                          # (B, c_out, r/2, r/2)
        for block, attend in self.middle:
            h = attend(block(h, condition))                        # (B, c, r, r), r the smallest
        for stage, grow in zip(self.up, self.grow, strict=True):
            h = grow(h)                                            # (B, c_out, 2r, 2r)
            for block, attend in stage:
                both = torch.cat([h, skips.pop()], 1)              # (B, 2·c_out, r, r)
                h = attend(block(both, condition))                 # (B, c_out, r, r)
        return self.last(h)                                        # (B, channels, size, size)


def _yes_or_no(learn_variance: bool) -> None:
    if learn_variance not in (True, False):
        refuse("learn_variance", "True or False", described(learn_variance))


class PointDenoiser(nn.Module):
    """The smallest network that is told the time: residual layers on vectors.

    It is for points in the plane or very small images, and starts as zero.
    Shapes: x (B, dim), t (B,) or (1,) integers → (B, dim), or (B, 2·dim) with learn_variance.
    """

    def __init__(self, dim: int, width: int = 128, layers: int = 3, learn_variance: bool = False,
                 prediction: str = "eps", schedule: str | None = None):
        super().__init__()
        check_training(prediction, schedule)
        wholes(dim=dim, width=width, layers=layers)
        _yes_or_no(learn_variance)
        self.config: dict = dict(
            dim=dim, width=width, layers=layers, learn_variance=learn_variance,
            prediction=prediction, schedule=schedule)
        self.prediction, self.schedule = prediction, schedule
        self.first, self.time = nn.Linear(dim, width), nn.Linear(64, width)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width),
                          nn.SiLU(), nn.Linear(2 * width, width))
            for _ in range(layers))
        self.last = nn.Linear(width, dim * (1 + learn_variance))
        _zero(self.last)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        tensor(x, "x", ("B", self.config["dim"]), like=self.first.weight)
        time = self.time(time_features(t, 64, count=len(x)))       # (B or 1, width)
        class_rows(y, 0, t)                                        # it has no classes, and says so
        h = self.first(x)                                          # (B, width)
        for layer in self.layers:
            h = h + layer(h + time)
        return self.last(h)                                        # (B, dim)
