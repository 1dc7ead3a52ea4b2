"""Excursion 3's exercises, answered: what stands in below an exercise until a learner's passes."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from minigen.gan import discriminator_loss, generator_loss

Map = Callable[[Tensor], Tensor]                       # picture → measurement, or back
Views = Callable[[Tensor], tuple[Tensor, Tensor]]      # x_t → (x0, eps)
Down = Callable[[Tensor, Tensor], Tensor]              # (x0, eps) → the next, less noisy x
Denoise = Callable[[Tensor, int], Tensor]              # (x_t, T) → a clean picture
Optimiser = torch.optim.Optimizer


def psnr(x: Tensor, y: Tensor) -> Tensor:
    error = (x - y).square().flatten(1).mean(1)                          # (B,)
    return 10 * torch.log10(4 / error)


def wiener(y: Tensor, mean: Tensor, cov: Tensor, variance: float) -> Tensor:
    noisy = cov + variance * torch.eye(len(cov), dtype=cov.dtype)        # (D, D)
    return mean + (y - mean) @ torch.linalg.solve(noisy, cov)


def consistent(x: Tensor, y: Tensor, forward: Map, back: Map) -> Tensor:
    return x + back(y - forward(x))


def dps_step(guess: Views, x: Tensor, y: Tensor, forward: Map, down: Down, scale: float) -> Tensor:
    x = x.detach().requires_grad_()
    x0, eps = guess(x)
    far = (y - forward(x0)).flatten(1).norm(dim=1).sum()                 # each image's own
    (slope,) = torch.autograd.grad(far, x)
    return down(x0, eps).detach() - scale * slope


def gram(features: Tensor) -> Tensor:
    flat = features.flatten(2)                                           # (B, C, H·W)
    return flat @ flat.mT / flat.shape[2]


def adain(content: Tensor, style: Tensor, eps: float = 1e-5) -> Tensor:
    def moments(x: Tensor) -> tuple[Tensor, Tensor]:
        mean = x.mean((2, 3), keepdim=True)                              # (B, C, 1, 1)
        return mean, ((x - mean).square().mean((2, 3), keepdim=True) + eps).sqrt()

    (mean, deviation), (mean_style, deviation_style) = moments(content), moments(style)
    return deviation_style * (content - mean) / deviation + mean_style


def pix2pix_step(generator: nn.Module, judge: nn.Module, opt_g: Optimiser, opt_d: Optimiser,
                 drawing: Tensor, face: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    fake = generator(drawing)
    real_logits = judge(torch.cat([drawing, face], 1))
    fake_logits = judge(torch.cat([drawing, fake.detach()], 1))
    d_loss = discriminator_loss(real_logits, fake_logits, "hinge")
    opt_d.zero_grad()
    d_loss.backward()
    opt_d.step()

    adversarial = generator_loss(judge(torch.cat([drawing, fake], 1)), "hinge")
    g_loss = (fake - face).abs().mean() + weight * adversarial
    opt_g.zero_grad()
    g_loss.backward()
    opt_g.step()
    return d_loss.detach(), g_loss.detach()


def sdedit(denoise: Denoise, x: Tensor, noise: Tensor, alpha_bar: Tensor,
           strength: float) -> Tensor:
    steps = round(strength * len(alpha_bar))
    if steps == 0:
        return x
    if strength == 1:
        return denoise(noise, steps)
    left = alpha_bar[steps - 1]
    return denoise(left**0.5 * x + (1 - left) ** 0.5 * noise, steps)
