"""Excursion 3: any style in one pass. A decoder paints what AdaIN makes of a face's features.

Source: Huang, Belongie 2017, at small scale.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from minigen.common import Batches, counted, evaluating, one_cycle
from minigen.data import batches
from minigen.inputs import images, number, refuse, tensor, whole
from minigen.style import adain, check_pair, content_loss, moments_loss, toy_maps


class StyleDecoder(nn.Module):
    """From a map of the ToyFaces classifier back to a picture.

    Convolutions make a flat area flat again, and cartoon faces are flat: so beside the map it sees
    a canvas of its own, learned, on which strokes can begin. (In the paper there is none.)
    layer: which of the five maps; the first layers of the classifier are the encoder, frozen, and
    not part of this. grain: the canvas's channels.
    Shapes: (B, 32 or 64, H / k, W / k) → (B, 3, H, W) in [-1, 1].
    Source: Huang & Belongie 2017, §5.1, at small scale.
    """
    card: dict  # what load_weights finds beside the weights

    def __init__(self, layer: int = 2, width: int = 64, grain: int = 8):
        super().__init__()
        self.config = dict(layer=whole(layer, "layer", 1, 5), width=whole(width, "width", 2),
                           grain=whole(grain, "grain", 0))
        self.layer, self.channels = layer, (32, 32, 64, 64, 64)[layer - 1]
        halvings = (0, 1, 2, 2, 3)[layer - 1]
        self.shrinks = 2**halvings

        def conv(c_in: int, c_out: int) -> nn.Conv2d:
            return nn.Conv2d(c_in, c_out, 3, padding=1, padding_mode="reflect")

        side = 32 // self.shrinks
        self.canvas = nn.Parameter(torch.randn(1, grain, side, side))
        layers = [conv(self.channels + grain, width), nn.ReLU(), conv(width, width), nn.ReLU()]
        for _ in range(halvings):
            layers += [conv(width, width), nn.ReLU(), nn.Upsample(scale_factor=2)]
        layers += [conv(width, width // 2), nn.ReLU(), conv(width // 2, 3), nn.Tanh()]
        self.body = nn.Sequential(*layers)

    def encode(self, x: Tensor) -> Tensor:
        """The map that it decodes. Shapes: (B, 3, H, W), H and W multiples of `shrinks`."""
        images(x)
        if x.shape[2] % self.shrinks or x.shape[3] % self.shrinks or min(x.shape[2:]) < 8:
            wanted = f"of height and width 8 or more, multiples of {self.shrinks}"
            refuse("pictures", wanted, tuple(x.shape))
        return toy_maps(x)[self.layer - 1]

    def forward(self, h: Tensor) -> Tensor:
        batch, _, height, width = tensor(
            h, "h", ("B", self.channels, "H", "W"), like=self.canvas).shape
        side = self.canvas.shape[-1]                     # larger pictures have it several times
        tiles = self.canvas.repeat(batch, 1, -(-height // side), -(-width // side))
        return self.body(torch.cat([h, tiles[:, :, :height, :width]], 1))


class AdaINStep(NamedTuple):
    """One step of `train_adain`: its number (from 1), the loss and its two terms."""

    step: int
    loss: float
    content: float
    style: float


def train_adain(
    decoder: StyleDecoder, data: Batches, *, steps: int, weight: float = 1.0, lr: float = 2e-3
) -> Iterator[AdaINStep]:
    """Train on batches (content, style) of pictures; an `AdaINStep` a step.

    With t = AdaIN(f(c), f(s)) and the picture g(t): content_loss(f(g(t)), t) + weight ·
    moments_loss(all maps of g(t), those of s). Only the decoder g learns. The weight grows from 0
    over the first half of the steps: charged in full from the start, the style paints over the
    face, and no face comes back.
    Source: Huang & Belongie 2017, Eqs. 11 to 13.
    """
    number(weight, "weight", 0)
    optimiser = torch.optim.Adam(decoder.parameters(), lr=number(lr, "lr", 0))
    schedule = one_cycle(optimiser, lr, steps)
    decoder.train()
    for step, (content, style) in counted(data, steps):
        with torch.no_grad():
            target = adain(decoder.encode(content), decoder.encode(style))
            wanted = toy_maps(style)
        maps = toy_maps(decoder(target))
        like = content_loss(maps[decoder.layer - 1], target).mean()
        styled = moments_loss(maps, wanted).mean()
        loss = like + weight * min(1.0, 2 * step / steps) * styled
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        yield AdaINStep(step, loss.item(), like.item(), styled.item())


def style_batches(
    faces: Tensor, styles: Tensor, batch_size: int = 16, seed: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches (content, style), each shuffled by itself, for `train_adain`."""
    pairs = zip(batches(faces, batch_size=batch_size, seed=seed),
                batches(styles, batch_size=batch_size, seed=seed + 1), strict=True)
    for (x,), (s,) in pairs:
        yield x, s


def stylise(
    decoder: StyleDecoder, content: Tensor, style: Tensor, strength: float = 1.0
) -> Tensor:
    """Pictures repainted in one pass: g((1 − a) f(c) + a AdaIN(f(c), f(s))), a the strength.

    Shapes: content (B, 3, H, W), style (B or 1, 3, any, any) in [-1, 1] → as content.
    Raises: ValueError for a strength outside 0 to 1, and for pictures of another kind.
    Source: Huang & Belongie 2017, Eq. 14.
    """
    number(strength, "strength", 0, 1)
    images(content, name="content")
    check_pair(content, images(style, name="style"), "content", "style")
    with evaluating(decoder):
        h = decoder.encode(content)
        return decoder(h.lerp(adain(h, decoder.encode(style)), strength))
