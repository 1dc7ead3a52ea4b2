"""Chapter 5: DDPM. The loss, the training, the running average of weights, and sampling one step at a time.

Sources: Ho et al. 2020 (DDPM); Liu, Chen, Gao 2026, §3.3.
"""

import collections
import itertools
import math
from typing import NamedTuple

import torch
from torch import nn
from tqdm.auto import tqdm

from minigen.diffusion import learned_variance
from minigen.gan import evaluating


def simple_loss(model, diffusion, x0, t, eps, y=None, prediction="eps"):
    """Mean squared error of the network's view of a noised batch, every step weighted alike.

    E ‖ε − ε_θ(√ᾱ_t x_0 + √(1 − ᾱ_t) ε, t, y)‖². Shapes: x0, eps (B, …), t (B,); result a scalar.
    Source: Ho et al. 2020, Eq. 14; Liu, Chen, Gao 2026, Eq. 27.
    """
    output = ask(model, diffusion.add_noise(x0, t, eps), t, y)
    return (output - diffusion.target(x0, eps, t, prediction)).square().mean()


def ask(model, x, t, y=None, channels=1):
    """model(x, t) or model(x, t, y), its answer's shape checked: x's, with `channels` times as many channels."""
    output = model(x, t) if y is None else model(x, t, y)
    want = (len(x), channels * x.shape[1], *x.shape[2:])
    if output.shape != want:
        raise ValueError(f"the model must answer a {tuple(x.shape)} input with the shape {want}; it gave {tuple(output.shape)}")
    return output


def ema(model, decay=0.9999):
    """A running average of a model's weights, d · average + (1 − d) · weights with d = min(decay, (1 + n) / (10 + n)).

    The warm-up, d small at first, lets it forget the untrained weights; a constant 0.9999 would still hold 37 % of them
    after 10,000 steps. (torch's AveragedModel copies the weights at its first update; n is 1 at the
    second.) Call `.update_parameters(model)` after each step and sample from `.module`. Averages of 16-bit
    weights would stand still, so give it a float32 model.
    """
    @torch.no_grad()
    def average(averaged, current, n):
        d = min(decay, (1 + int(n)) / (10 + int(n)))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 - d)
        else:
            torch._foreach_copy_(averaged, current)

    return torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=average, use_buffers=True)


class DDPMStep(NamedTuple):
    """One step of `train_ddpm`: its number (from 1) and the batch's loss."""

    step: int
    loss: float


def train_ddpm(model, data, diffusion, *, steps, loss=simple_loss, lr=1e-3, average=None, clip=1.0, seed=0):
    """Train on batches (x,) or (x, y) of `data`, each image at a random time step; yields a `DDPMStep` a step.

    loss: function (model, diffusion, x0, t, eps, y) → scalar, as `simple_loss`. average: an `ema` to keep up to date.
    clip: longest gradient; longer ones are shortened to it. The learning rate follows one cycle up to `lr`.
    Source: Ho et al. 2020, Algorithm 1; Liu, Chen, Gao 2026, Algorithm 2. Raises: ValueError where `data` ends before `steps`.
    """
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps + 1, pct_start=0.1)
    dice, device = torch.Generator().manual_seed(seed), next(model.parameters()).device
    model.train()
    step = 0
    for step, (x0, *y) in enumerate(itertools.islice(data, steps), start=1):
        t = torch.randint(diffusion.T, (len(x0),), generator=dice)
        eps = torch.randn(x0.shape, generator=dice)
        x0, t, eps, *y = (v.to(device) for v in (x0, t, eps, *y))
        value = loss(model, diffusion, x0, t, eps, *y)
        optimiser.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimiser.step()
        schedule.step()
        if average is not None:
            average.update_parameters(model)
        yield DDPMStep(step, value.item())
    if step < steps:
        raise ValueError(f"the data ended after {step} batches, before step {steps}")


class Denoised(NamedTuple):
    """A state of sampling: the time step just undone (in inversion: reached), x after it, and the guess of x_0 behind it."""

    t: int
    x: torch.Tensor
    x0: torch.Tensor


def draw_like(x, generator=None):
    """Standard normal noise in x's shape. With a list of generators, one for each image, image k depends on its own only."""
    if isinstance(generator, list | tuple):
        if len(generator) != len(x):
            raise ValueError(f"{len(generator)} generators for {len(x)} images: give one, or one for each")
        return torch.stack([torch.randn(x.shape[1:], generator=g, dtype=x.dtype) for g in generator]).to(x.device)
    return torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)


def guess(model, diffusion, x, t, y=None, prediction="eps", clip=None, batch_size=256, channels=1):
    """The model asked in batches: (x_0, ε, rest) at one time step t; clip=(low, high) bounds x_0, and ε follows it.

    rest: the output's further channels where `channels` is 2 (a learned variance), else empty.
    """
    at = torch.full((1,), t, device=x.device)
    labels = [None] * math.ceil(len(x) / batch_size) if y is None else y.split(batch_size)
    parts = [ask(model, part, at, label, channels) for part, label in zip(x.split(batch_size), labels, strict=True)]
    output, rest = torch.cat(parts).split([x.shape[1], (channels - 1) * x.shape[1]], 1)
    x0, eps = diffusion.views(output, x, at, prediction)
    if clip is not None:
        x0 = x0.clamp(*clip)
        eps = diffusion.views(x0, x, at, "x0")[1]
    return x0, eps, rest


def ddpm_sample(model, diffusion, xT, y=None, *, prediction="eps", variance="small", clip=None, generator=None, batch_size=256,
                progress=False):
    """Ancestral sampling from xT ~ N(0, I): all T steps, each a draw from the posterior at the guessed x_0.

    Yields a `Denoised` for t = T − 1 … 0; the last one's x is the sample (`last` runs to it).
    x_{t−1} = μ̃(x̂_0, x_t) + √v z,   v = β̃_t ("small"), β_t ("large"; β̃_1 at the first, as in DDPM's code), or "learned":
    the model answers with 2·C channels and `learned_variance` reads them. No noise is added at t = 0.
    clip: (-1, 1) keeps pixels in their range; the default None is right for latents. generator: for the noise, or a list
    of one for each image. Samples do not depend on batch_size, which only bounds how many the model is given at once.
    Shapes: xT (N, …). Source: Ho et al. 2020, Algorithm 2. Raises: ValueError for labels of another length, an unknown
    variance, a model whose output has the wrong shape.
    """
    if variance not in ("small", "large", "learned"):
        raise ValueError(f"variance must be 'small', 'large' or 'learned'; got '{variance}'")
    check_labels(xT, y)
    large = torch.cat([diffusion.posterior_variance[1:2], diffusion.betas[1:]]) if diffusion.T > 1 else diffusion.betas
    x = xT
    for t in tqdm(range(diffusion.T - 1, -1, -1), desc="sampling", disable=not progress):
        with evaluating(model):
            x0, _, rest = guess(model, diffusion, x, t, y, prediction, clip, batch_size, 2 if variance == "learned" else 1)
            at = torch.full((1,), t)
            mean, v = diffusion.posterior(x0, x, at)
            if variance == "large":
                v = diffusion.at(large, at, x)
            elif variance == "learned":
                v = learned_variance(diffusion, rest, at)
            x = mean + v.sqrt() * draw_like(x, generator) if t > 0 else mean
        yield Denoised(t, x, x0)


def check_labels(xT, y):
    if y is not None and len(y) != len(xT):
        raise ValueError(f"{len(y)} labels for {len(xT)} samples: give one for each")


def last(trajectory):
    """Run a sampler to its end; its final x."""
    return collections.deque(trajectory, maxlen=1).pop().x
