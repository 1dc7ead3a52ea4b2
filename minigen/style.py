"""Excursion 3: style transfer. Style is what a network's features do on average over the places.

The statistics, the losses, and pixels moved until they fit; `minigen.style_decoder` needs one pass.
Sources: Gatys, Ecker, Bethge 2016 (Gram matrices); Huang, Belongie 2017 (AdaIN).
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from minigen.common import generator as seeded
from minigen.inputs import images, number, refuse, tensor, whole
from minigen.perceptual import ToyPerceptual

Features = Callable[[Tensor], list[Tensor]]      # pictures → maps (B, C, H, W), finest first
Statistic = Callable[[Tensor], Tensor]           # a map → what style is told by, such as `gram`


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
        check_pair(a, b, "what is found", "its target", places=True)
        apart, size = ((t.square().flatten(1).sum(1)) for t in (a - b, b))
        shares.append(apart / size.clamp_min(1e-12))
    return torch.stack(shares).mean(0)


def check_pair(a: Tensor, b: Tensor, name: str, other: str, places: bool = False) -> None:
    """As many channels, and a row for each row or one for all; else they broadcast, unseen.

    places: whether all axes after the first have to agree. Raises: ValueError.
    """
    axes = slice(1, None if places else 2)
    if a.ndim != b.ndim or a.shape[axes] != b.shape[axes] or len(b) not in (1, len(a)):
        raise ValueError(f"{name} and {other} do not fit: {tuple(a.shape)} and {tuple(b.shape)}; "
                         f"as many channels {'and places ' if places else ''}are wanted, and a row "
                         "for each row or one for all")


def style_loss(
    maps: Sequence[Tensor], targets: Sequence[Tensor], statistic: Statistic = gram
) -> Tensor:
    """How far the Gram matrices of maps are from those of a style: the mean over the layers of

    ‖G − A‖² / ‖A‖², a share, so that layers count alike however many channels they have. (Gatys et
    al. divide by 4 C² (H W)² instead, and give each layer a weight.)
    statistic: another in the place of `gram`, such as yours.
    Shapes: maps (B, C, H, W) a layer; targets (B or 1, C, C), `gram` of the style's maps → (B,).
    Source: Gatys et al. 2016, Eqs. 4, 5.
    """
    return _mean_share([statistic(h) for h in maps], targets)


def content_loss(h: Tensor, target: Tensor) -> Tensor:
    """How far a map is from the content's, place by place: ‖F − P‖² / ‖P‖².

    (Gatys et al. have ½ ‖F − P‖².) Shapes: (B, C, H, W), (B or 1, C, H, W) → (B,).
    Source: Gatys et al. 2016, Eq. 1.
    """
    return _mean_share([h], [target])


class Repainted(NamedTuple):
    """One step of `restyled`: its number (from 1), the pictures, and the mean of each loss."""

    step: int
    x: Tensor
    content: float
    style: float


def restyled(
    content: Tensor, style: Tensor, features: Features = toy_maps, *, steps: int = 12,
    weight: float = 50.0, layer: int = 4, smooth: float = 2.0, noise: float = 0.0, seed: int = 0,
    statistic: Statistic = gram
) -> Iterator[Repainted]:
    """Pixels moved until they have the content of one picture and the style of another.

    min over x of content_loss + weight · style_loss + smooth · (squares of the differences of
    neighbours), a mean over the picture; x = tanh of free numbers, so that it stays in [-1, 1].
    A step is five iterations of L-BFGS for the whole batch. It begins with the content, or with a
    share `noise` of chance in it.
    layer: whose map (from 1) tells the content, 0 for none; the style is told by all, through the
    `statistic` of each.
    Shapes: content (B, 3, H, W), style (B or 1, 3, any, any) in [-1, 1]; a step's x as content.
    Sources: Gatys et al. 2016, Eq. 7 and §2.3; smoothness as in Johnson et al. 2016, §3.2.
    """
    images(content, name="content")
    check_pair(content, images(style, name="style"), "content", "style")
    whole(steps, "steps")
    number(weight, "weight", 0)
    number(smooth, "smooth", 0)
    chance = torch.rand(content.shape, generator=seeded(seed)).to(content) * 2 - 1
    start = content.detach().lerp(chance, number(noise, "noise", 0, 1)).clamp(-1, 1)
    free = torch.atanh(0.95 * start).requires_grad_()    # tanh is flat near ±1
    with torch.no_grad():
        there = features(content)
        kept = there[whole(layer, "layer", 0, len(there)) - 1]
        wanted = [statistic(h) for h in features(style)]
    optimiser = torch.optim.LBFGS([free], max_iter=5, history_size=20,
                                  line_search_fn="strong_wolfe")

    def losses() -> tuple[Tensor, Tensor, Tensor]:
        x = free.tanh()
        maps = features(x)
        like = content_loss(maps[layer - 1], kept) * (layer > 0)
        rough = x.diff(dim=2).square().mean((1, 2, 3)) + x.diff(dim=3).square().mean((1, 2, 3))
        return like, style_loss(maps, wanted, statistic), smooth * rough

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
    check_pair(content, style, "content", "style")
    (mean, deviation), (mean_style, deviation_style) = moments(content, eps), moments(style, eps)
    return deviation_style * (content - mean) / deviation + mean_style


def moments_loss(maps: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """How far means and deviations of maps are from those of a style's maps: a share a layer.

    The mean over the layers of (‖Δμ‖² + ‖Δσ‖²) / (‖μ‖² + ‖σ‖²). Shapes: maps (B, C, H, W), targets
    (B or 1, C, any, any) → (B,). Source: Huang & Belongie 2017, Eq. 13, which has no denominators.
    """
    a, b = ([torch.cat(moments(h), 1) for h in layers] for layers in (maps, targets))
    return _mean_share(a, b)
