"""Excursion 3: style transfer. Style is what a network's features do on average over the places.

Sources: Gatys, Ecker, Bethge 2016 (Gram matrices, pixels optimised); Huang, Belongie 2017 (AdaIN,
one pass through a decoder).
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from minigen.common import Batches, counted, evaluating, one_cycle
from minigen.common import generator as seeded
from minigen.data import batches
from minigen.inputs import images, number, refuse, tensor, whole
from minigen.perceptual import ToyPerceptual

Features = Callable[[Tensor], list[Tensor]]      # pictures → maps (B, C, H, W), finest first


@functools.cache
def _classifier() -> ToyPerceptual:
    return ToyPerceptual()


def toy_maps(x: Tensor) -> list[Tensor]:
    """The five maps of the ToyFaces classifier after each ReLU, not scaled.

    It has seen cartoon faces only, and its group normalisation has taken some of a picture's
    brightness and contrast away: it is small, not VGG.
    Shapes: x (B, 3, H, W) in [-1, 1] → (B, 32, H, W), (B, 32, H/2, W/2), twice (B, 64, H/4, W/4),
        (B, 64, H/8, W/8).
    """
    return _classifier().maps(x)


def gram(features: Tensor) -> Tensor:
    """Gram matrices: how much each two channels are active at the same places.

    G = F Fᵀ / (H W), F the map with its places in a row. Gatys et al. leave the sum as it is and
    divide in the loss; here a picture of another size has matrices of the same magnitude.
    Shapes: (B, C, H, W) → (B, C, C), symmetric. Source: Gatys et al. 2016, Eq. 3.
    """
    flat = tensor(features, "features", ("B", "C", "H", "W")).flatten(2)          # (B, C, H·W)
    return flat @ flat.mT / flat.shape[2]


def _mean_share(found: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """The mean over layers of ‖a − b‖² / ‖b‖²: 0 where they agree, 1 for zeros; (B, …) → (B,)."""
    if not found or len(found) != len(targets):
        refuse("targets", f"one for each of the {len(found)} layers, at least one", len(targets))
    shares = []
    for a, b in zip(found, targets, strict=True):
        _pair(a, b, "what is found", "its target")
        apart, size = ((t.square().flatten(1).sum(1)) for t in (a - b, b))
        shares.append(apart / size.clamp_min(1e-12))
    return torch.stack(shares).mean(0)


def _pair(a: Tensor, b: Tensor, name: str, other: str) -> None:
    """As many channels, and a row for each row or one for all; else they would broadcast, unseen."""
    if a.ndim != b.ndim or a.shape[1] != b.shape[1] or len(b) not in (1, len(a)):
        raise ValueError(f"{name} and {other} do not fit: {tuple(a.shape)} and {tuple(b.shape)}; as "
                         "many channels are wanted, and a row for each row or one for all")


def style_loss(maps: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """How far the Gram matrices of maps are from those of a style: the mean over the layers of

    ‖G − A‖² / ‖A‖², a share, so that layers count alike however many channels they have. (Gatys et
    al. divide by 4 C² (H W)² instead, and give each layer a weight.)
    Shapes: maps (B, C, H, W) a layer; targets (B or 1, C, C), `gram` of the style's maps → (B,).
    Source: Gatys et al. 2016, Eqs. 4, 5.
    """
    return _mean_share([gram(h) for h in maps], targets)


def content_loss(h: Tensor, target: Tensor) -> Tensor:
    """How far a map is from the content's, place by place: ‖F − P‖² / ‖P‖².

    (Gatys et al. have ½ ‖F − P‖².) Shapes: (B, C, H, W) twice → (B,).
    Source: Gatys et al. 2016, Eq. 1.
    """
    tensor(target, "the content's map", ("B", *tensor(h, "a map", ("B", "C", "H", "W")).shape[1:]))
    return _mean_share([h], [target])


class Repainted(NamedTuple):
    """One step of `restyled`: its number (from 1), the pictures, and the mean of each loss."""

    step: int
    x: Tensor
    content: float
    style: float


def restyled(
    content: Tensor, style: Tensor, features: Features = toy_maps, *, steps: int = 12,
    weight: float = 50.0, layer: int = 4, smooth: float = 2.0, noise: float = 0.0, seed: int = 0
) -> Iterator[Repainted]:
    """Pixels moved until they have the content of one picture and the style of another.

    min over x of content_loss + weight · style_loss + smooth · (squares of the differences of
    neighbours), each a mean over its picture; x = tanh of free numbers, so that it stays in [-1, 1].
    A step is five iterations of L-BFGS for the whole batch. It begins with the content, or with a
    share `noise` of chance in it.
    layer: whose map (from 1) tells the content, 0 for none; the style is told by all.
    Shapes: content (B, 3, H, W), style (B or 1, 3, any, any) in [-1, 1]; a step's x as content.
    Sources: Gatys et al. 2016, Eq. 7 and §2.3; smoothness as in Johnson et al. 2016, §3.2.
    """
    images(content, name="content")
    _pair(content, images(style, name="style"), "content", "style")
    whole(steps, "steps")
    number(weight, "weight", 0)
    number(smooth, "smooth", 0)
    chance = torch.rand(content.shape, generator=seeded(seed)).to(content) * 2 - 1
    start = content.detach().lerp(chance, number(noise, "noise", 0, 1)).clamp(-1, 1)
    free = torch.atanh(0.95 * start).requires_grad_()    # tanh is flat near ±1
    with torch.no_grad():
        there = features(content)
        kept = there[whole(layer, "layer", 0, len(there)) - 1]
        wanted = [gram(h) for h in features(style)]
    optimiser = torch.optim.LBFGS([free], max_iter=5, history_size=20,
                                  line_search_fn="strong_wolfe")

    def losses() -> tuple[Tensor, Tensor, Tensor]:
        x = free.tanh()
        maps = features(x)
        like = content_loss(maps[layer - 1], kept) * (layer > 0)
        rough = sum(x.diff(dim=k).square().mean((1, 2, 3)) for k in (2, 3))
        return like, style_loss(maps, wanted), smooth * rough

    def closure() -> Tensor:
        optimiser.zero_grad()
        like, styled, rough = losses()
        total = (like + weight * styled + rough).sum()
        total.backward()
        return total

    for step in range(1, steps + 1):
        optimiser.step(closure)  # type: ignore[arg-type]  # a closure may return a tensor
        with torch.no_grad():
            like, styled, _ = losses()
        yield Repainted(step, free.detach().tanh(), like.mean().item(), styled.mean().item())


def moments(h: Tensor, eps: float = 1e-5) -> tuple[Tensor, Tensor]:
    """Mean and deviation of every channel over the places of its own picture.

    μ = mean x, σ = √(mean (x − μ)² + ε). Shapes: (B, C, H, W) → (B, C, 1, 1) twice.
    """
    tensor(h, "features", ("B", "C", "H", "W"))
    variance, mean = torch.var_mean(h, (2, 3), correction=0, keepdim=True)
    return mean, (variance + number(eps, "eps", 0)).sqrt()


def adain(content: Tensor, style: Tensor, eps: float = 1e-5) -> Tensor:
    """Adaptive instance normalisation: the content's map with the style's means and deviations.

    AdaIN(x, y) = σ(y) (x − μ(x)) / σ(x) + μ(y), over the places, channel by channel.
    Shapes: content (B, C, H, W), style (B or 1, C, any, any) → as content.
    Source: Huang & Belongie 2017, Eq. 8.
    """
    tensor(content, "content", ("B", "C", "H", "W"))
    tensor(style, "style", ("B", "C", "H", "W"))
    _pair(content, style, "content", "style")
    (mean, deviation), (mean_style, deviation_style) = moments(content, eps), moments(style, eps)
    return deviation_style * (content - mean) / deviation + mean_style


class StyleDecoder(nn.Module):
    """From a map of the ToyFaces classifier back to a picture.

    layer: which of the five maps; the first layers of the classifier are the encoder, frozen, and
    not part of this.
    Shapes: (B, 32 or 64, H / k, W / k) → (B, 3, H, W) in [-1, 1].
    Source: Huang & Belongie 2017, §5.1, at small scale.
    """
    card: dict  # what load_weights finds beside the weights

    def __init__(self, layer: int = 2, width: int = 64):
        super().__init__()
        self.config = dict(layer=whole(layer, "layer", 1, 5), width=whole(width, "width", 2))
        self.layer, self.channels = layer, (32, 32, 64, 64, 64)[layer - 1]
        halvings = (0, 1, 2, 2, 3)[layer - 1]
        self.shrinks = 2**halvings

        def conv(c_in: int, c_out: int) -> nn.Conv2d:
            return nn.Conv2d(c_in, c_out, 3, padding=1, padding_mode="reflect")

        layers = [conv(self.channels, width), nn.ReLU(), conv(width, width), nn.ReLU()]
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
        return self.body(tensor(h, "h", ("B", self.channels, "H", "W"), like=self.body[0].weight))


class AdaINStep(NamedTuple):
    """One step of `train_adain`: its number (from 1), the loss and its two terms."""

    step: int
    loss: float
    content: float
    style: float


def moments_loss(maps: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """How far means and deviations of maps are from those of a style's maps: a share a layer.

    The mean over the layers of (‖Δμ‖² + ‖Δσ‖²) / (‖μ‖² + ‖σ‖²). Shapes: maps (B, C, H, W), targets
    (B or 1, C, any, any) → (B,). Source: Huang & Belongie 2017, Eq. 13, which has no denominators.
    """
    a, b = ([torch.cat(moments(h), 1) for h in layers] for layers in (maps, targets))
    return _mean_share(a, b)


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
    _pair(content, images(style, name="style"), "content", "style")
    with evaluating(decoder):
        h = decoder.encode(content)
        return decoder(h.lerp(adain(h, decoder.encode(style)), strength))
