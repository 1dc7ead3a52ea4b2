"""Chapter 5's exercises, answered: what stands in below an exercise until a learner's passes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from minigen.ddpm import prediction_of
from minigen.diffusion import Diffusion


def alpha_bar(betas: Tensor) -> Tensor:
    return torch.cumprod(1 - betas, 0)


def noised(x0: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    ab = ab[:, None, None, None]
    return ab.sqrt() * x0 + (1 - ab).sqrt() * eps


def posterior_mean(x0: Tensor, xt: Tensor, beta: Any, ab: Any, ab_prev: Any) -> Tensor:
    return (ab_prev**0.5 * beta * x0 + (1 - beta) ** 0.5 * (1 - ab_prev) * xt) / (1 - ab)


def x0_from_eps(xt: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return (xt - (1 - ab).sqrt() * eps) / ab.sqrt()


def training_step(
    model: nn.Module, optimiser: torch.optim.Optimizer, diffusion: Diffusion, x0: Tensor,
    generator: torch.Generator | None = None,
) -> float:
    t = torch.randint(diffusion.T, (len(x0),), generator=generator)
    eps = torch.randn(x0.shape, generator=generator)
    loss = (model(diffusion.add_noise(x0, t, eps), t) - eps).square().mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()


def ideal_x0(xt: Tensor, data: Tensor, ab: float) -> Tensor:
    square = torch.cdist(xt, ab**0.5 * data).square()
    return (-square / (2 * (1 - ab))).softmax(1) @ data


def ancestral_sample(
    model: Callable[..., Tensor], diffusion: Diffusion, x: Tensor,
    generator: torch.Generator | None = None, clip: bool = False,
) -> Tensor:
    for t in reversed(range(diffusion.T)):
        at = torch.full((len(x),), t)
        with torch.no_grad():
            output = model(x, at)
        x0 = diffusion.views(output, x, at, prediction_of(model))[0]
        mean, variance = diffusion.posterior(x0.clamp(-1, 1) if clip else x0, x, at)
        x = mean + variance.sqrt() * torch.randn(x.shape, generator=generator)   # 0 at t = 0
    return x


def ema_step(average: Tensor, weights: Tensor, n: int, d_max: float) -> Tensor:
    d = min(d_max, (1 + n) / (10 + n))
    return d * average + (1 - d) * weights
