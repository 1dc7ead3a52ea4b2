"""Chapter 2's exercises, answered: what stands in below an exercise until a learner's passes."""

from typing import Any

import torch
from torch import Tensor


def gaussian_kl(mean: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(dim=1)


def reparameterised(mean: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    return mean + (0.5 * logvar).exp() * eps


def negative_elbo(x: Tensor, x_hat: Tensor, mean: Tensor, logvar: Tensor, beta: float) -> Tensor:
    distortion = 0.5 * (x - x_hat).square().flatten(1).sum(1)
    return (distortion + beta * gaussian_kl(mean, logvar)).mean()


def elbo_step(
    model: Any, optimiser: torch.optim.Optimizer, x: Tensor, beta: float, eps: Tensor
) -> tuple[float, float]:
    mean, logvar = model.encode(x)
    x_hat = model.decode(reparameterised(mean, logvar, eps))
    loss = negative_elbo(x, x_hat, mean, logvar, beta)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item(), gaussian_kl(mean, logvar).mean().item()


def count_active(mean: Tensor, threshold: float = 0.01) -> int:
    return int((mean.var(dim=0) > threshold).sum())


def attribute_direction(z: Tensor, has: Tensor) -> Tensor:
    return z[has].mean(0) - z[~has].mean(0)


def best_guess(images: Tensor, probabilities: Tensor) -> Tensor:
    return (probabilities[:, None, None, None] * images).sum(0)
