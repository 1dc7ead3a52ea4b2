"""Excursion 3's exercises, answered: what stands in below an exercise until a learner's passes."""

from torch import Tensor


def gram(features: Tensor) -> Tensor:
    flat = features.flatten(2)                                           # (B, C, H·W)
    return flat @ flat.mT / flat.shape[2]


def adain(content: Tensor, style: Tensor, eps: float = 1e-5) -> Tensor:
    def moments(x: Tensor) -> tuple[Tensor, Tensor]:
        mean = x.mean((2, 3), keepdim=True)                              # (B, C, 1, 1)
        return mean, ((x - mean).square().mean((2, 3), keepdim=True) + eps).sqrt()

    (mean, deviation), (mean_style, deviation_style) = moments(content), moments(style)
    return deviation_style * (content - mean) / deviation + mean_style
