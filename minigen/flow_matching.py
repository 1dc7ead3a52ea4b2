"""Excursion 1: flow matching. Straight paths from data to noise, and the velocity along them.

Time t goes from 0, the data, to 1, the noise; a network is told 999 t, so that the networks of
diffusion serve here as they are, with prediction="velocity". Sources: Lipman et al. 2023; Liu,
Gong, Liu 2023 (rectified flow); Esser et al. 2024 (logit-normal times).
"""

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm.auto import tqdm

from minigen.common import Batches, counted, evaluating, filled, one_cycle
from minigen.common import generator as seeded
from minigen.ddpm import (
    SCALE,
    Denoiser,
    ask,
    check_diffusion,
    check_sampling,
    last,
    prediction_of,
)
from minigen.diffusion import Diffusion
from minigen.inputs import (
    alike,
    described,
    images,
    in_range,
    number,
    refuse,
    tensor,
    whole,
)

LONGEST = 999.0  # what a network is told at t = 1, the last time step of a diffusion


def between(x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """x_t = (1 − t) x_0 + t ε, a point of the straight path from data to noise.

    Shapes: x0, eps (B, …), t (B,) or (1,) in [0, 1]. Source: Liu, Gong, Liu 2023, Eq. 1.
    """
    alike(x0, eps, "x0", "eps")
    share = _shares(t, x0)
    return (1 - share) * x0 + share * eps


def draw_times(n: int, law: str = "uniform", generator: torch.Generator | None = None) -> Tensor:
    """n times in (0, 1). "logit-normal": 1 / (1 + exp(−z)), z ~ N(0, 1), so mostly the middle.

    Shapes: (n,). Source: Esser et al. 2024, §3.1. Raises: ValueError for another law.
    """
    whole(n, "n")
    if law == "uniform":
        return torch.rand(n, generator=generator)
    if law == "logit-normal":
        return torch.randn(n, generator=generator).sigmoid()
    raise ValueError(f"law must be 'uniform' or 'logit-normal'; got {described(law)}")


def velocity(model: Denoiser, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
    """The velocity that a network, or any function, sees at x and t: model(x, 999 t, y).

    Shapes: x (B, …), t (B,) or (1,) in [0, 1] → as x.
    Raises: ValueError for a network that was made to predict something else.
    """
    prediction_of(model, "velocity")
    _shares(t, x)
    return ask(model, x, LONGEST * t, y)


def marks(steps: int) -> list[float]:
    """The times of so many equal steps, from 1 down to 0, both included."""
    return [1 - i / whole(steps, "steps") for i in range(steps)] + [0.0]


def flow_matching_loss(
    model: Denoiser, x0: Tensor, eps: Tensor, t: Tensor, y: Tensor | None = None
) -> Tensor:
    """E ‖v_θ(x_t, t) − (ε − x_0)‖², the mean over all numbers of a batch.

    Its minimum is the mean velocity E[ε − x_0 | x_t] of all paths through x_t.
    Shapes: x0, eps (B, …), t (B,). Source: Lipman et al. 2023, Eqs. 9 and 23 (with time reversed).
    """
    x = between(x0, eps, t)
    return (velocity(model, x, t, y) - (eps - x0)).square().mean()


class FlowStep(NamedTuple):
    """One step of `train_flow_matching`: its number (from 1) and the batch's loss."""

    step: int
    loss: float


def train_flow_matching(
    model: nn.Module, data: Batches, *, steps: int, law: str = "uniform", pairs: bool = False,
    lr: float = 1e-3, average: AveragedModel | None = None, clip: float = 1.0, seed: int = 0
) -> Iterator[FlowStep]:
    """Train a velocity on batches (x,) or (x, y); a `FlowStep` a step.

    pairs: the batches are (x, ε) or (x, ε, y), each x with the noise it belongs to, as `reflow`
    makes them; else every x meets new noise each time.
    law: how times are drawn, as in `draw_times`. The rest is as in `minigen.ddpm.train_ddpm`.
    Raises: ValueError where `data` ends before `steps`.
    """
    if clip != math.inf:
        number(clip, "clip", positive=True)
    optimiser = torch.optim.Adam(model.parameters(), lr=number(lr, "lr", 0))
    schedule = one_cycle(optimiser, lr, steps)
    generator = seeded(seed)
    device = next(model.parameters()).device
    model.train()
    for step, (x0, *rest) in counted(data, steps):
        images(x0, ("B", ...), "x0", SCALE)
        t = draw_times(len(x0), law, generator)
        if pairs and not rest:
            refuse("a batch of pairs", "(x, ε) or (x, ε, y), as reflow makes them", "x alone")
        eps = rest.pop(0) if pairs else torch.randn(x0.shape, generator=generator)
        x0, eps, t, *y = (v.to(device) for v in (x0, eps, t, *rest))
        loss = flow_matching_loss(model, x0, eps, t, *y)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimiser.step()
        schedule.step()
        if average is not None:
            average.update_parameters(model)
        yield FlowStep(step, loss.item())


class Carried(NamedTuple):
    """A state of the flow: the time reached, x there, and the velocity that led to it."""

    t: float
    x: Tensor
    v: Tensor


def euler_sample(
    model: Denoiser, x1: Tensor, y: Tensor | None = None, *, steps: int, batch_size: int = 256,
    progress: bool = False
) -> Iterator[Carried]:
    """From noise at t = 1 to data at t = 0 in equal straight steps: x ← x − v / steps.

    Yields a `Carried` a step; `minigen.ddpm.last` runs to the end. Exact wherever the paths are
    straight. Shapes: x1 (N, …).
    """
    for t, s in _times(x1, y, steps, batch_size, progress):
        with evaluating(model):
            v = _asked(model, x1, t, y, batch_size)
            x1 = x1 + (s - t) * v
        yield Carried(s, x1, v)


def heun_sample(
    model: Denoiser, x1: Tensor, y: Tensor | None = None, *, steps: int, batch_size: int = 256,
    progress: bool = False
) -> Iterator[Carried]:
    """Heun's method: go to the end of the step, ask there too, go again with the mean velocity.

    2 · steps runs of the network, and an error that falls with the square of the step.
    Yields, shapes: as `euler_sample`.
    """
    for t, s in _times(x1, y, steps, batch_size, progress):
        with evaluating(model):
            v = _asked(model, x1, t, y, batch_size)
            there = _asked(model, x1 + (s - t) * v, s, y, batch_size)
            v = (v + there) / 2
            x1 = x1 + (s - t) * v
        yield Carried(s, x1, v)


def straightness(model: Denoiser, x1: Tensor, y: Tensor | None = None, *, steps: int = 50) -> float:
    """How far paths are from straight: E ∫ ‖(x_1 − x_0) − v(x_t, t)‖² dt / E ‖x_1 − x_0‖².

    0 says that one Euler step is as good as many. The path is Euler's with `steps` steps, x_0 its
    end. Shapes: x1 (N, …). Source: Liu, Gong, Liu 2023, §2.2 (there not divided).
    """
    states = list(euler_sample(model, x1, y, steps=steps))
    way = x1 - states[-1].x
    bent = torch.stack([(way - s.v).square().mean() for s in states]).mean()
    return float(bent / way.square().mean())


def reflow(
    model: Denoiser, eps: Tensor, y: Tensor | None = None, *, steps: int = 20,
    batch_size: int = 256
) -> tuple[Tensor, Tensor]:
    """(x_0, ε): noises, each with the sample that a trained flow makes of it.

    Paths between such pairs hardly cross, so a flow trained on them is straighter.
    Shapes: eps (N, …) → two alike. Source: Liu, Gong, Liu 2023, §2.1 and Algorithm 1.
    """
    states = euler_sample(model, eps, y, steps=steps, batch_size=batch_size)
    return last(states), eps


def ideal_velocity(data: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """The mean velocity for data that are exactly these N points: (x − E[x_0 | x]) / t.

    E[x_0 | x_t] = Σ_i w_i x_i with w = softmax_i(−‖x − (1 − t) x_i‖² / (2 t²))

    Shapes: data (N, …), x (B, …), t (B,) or (1,) in (0, 1] → as x. Memory: B·N numbers.
    """
    tensor(x, "x", ("B", "C", ...))
    filled(tensor(data, "data", ("N", *x.shape[1:])), "data")
    share = _shares(t, x).flatten(1)                              # (B or 1, 1)
    if not bool((share > 0).all()):
        refuse("t", "above 0: on the data themselves there is no one velocity", "0")
    flat, points = x.flatten(1), data.flatten(1).to(x)            # (B, D), (N, D)
    # ‖x − (1 − t) x_i‖², less ‖x‖², which the softmax does not see
    far = (1 - share).square() * points.square().sum(1) - 2 * (1 - share) * flat @ points.T
    x0 = torch.softmax(-far / (2 * share.square()), 1) @ points   # (B, D)
    return ((flat - x0) / share).view_as(x)


def from_v(v: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """The velocity that a v-prediction implies: (c v + (2t − 1) x) / c², c² = (1 − t)² + t².

    x_t / c is a diffusion's x of ᾱ = (1 − t)² / c², and v = √ᾱ ε − √(1 − ᾱ) x_0 tells ε − x_0. An
    error of v is one of the velocity, divided by c: both have one optimum, and flow matching weighs
    time t by 1 / c².
    Shapes: v, x (B, …), t (B,) or (1,) → as x.
    """
    alike(v, x, "v", "x")
    share = _shares(t, x)
    c2 = (1 - share).square() + share.square()
    return (c2.sqrt() * v + (2 * share - 1) * x) / c2


def as_flow(model: Denoiser, diffusion: Diffusion) -> Denoiser:
    """A diffusion's network that predicts v, as a velocity for the samplers here. No training.

    It is asked at x / c and at the time step of the same signal-to-noise ratio, between two steps
    where need be, beyond the ends of the schedule at its ends; then `from_v`.
    Raises: ValueError for a network that predicts something else.
    """
    if (predicted := prediction_of(model)) != "v":
        refuse("the network", "one that predicts v", f"one that predicts {predicted}")
    check_diffusion(model, diffusion)
    ratios = diffusion.snr.log().flip(0)                          # rising, from pure noise

    def velocity_of(x: Tensor, told: Tensor, y: Tensor | None = None) -> Tensor:
        t = (told / LONGEST).double().cpu()
        wanted = 2 * ((1 - t).log() - t.log())                    # log SNR, ±∞ at the ends
        above = torch.searchsorted(ratios, wanted).clamp(1, diffusion.T - 1)
        low, high = ratios[above - 1], ratios[above]
        part = ((wanted - low) / (high - low)).clamp(0, 1)
        step = (diffusion.T - above - part).to(x)
        c = ((1 - t).square() + t.square()).sqrt().to(x).view(-1, *[1] * (x.ndim - 1))
        return from_v(ask(model, x / c, step, y), x, told / LONGEST)

    return velocity_of


def _shares(t: Tensor, x: Tensor) -> Tensor:
    """Times in [0, 1], ready to multiply x. Shapes: (B,) or (1,) → (B or 1, 1, …) in x's type."""
    tensor(x, "x", ("B", ...))
    tensor(t, "times t", ("B",))
    if len(t) not in (1, len(x)):
        refuse("times t", f"a tensor of shape ({len(x)},) or (1,)", described(t))
    return in_range(t, 0, 1, "times t").to(x).view(-1, *[1] * (x.ndim - 1))


def _times(
    x1: Tensor, y: Tensor | None, steps: int, batch_size: int, progress: bool
) -> Iterator[tuple[float, float]]:
    """(t, next t) of `steps` equal steps from 1 to 0."""
    whole(steps, "steps")
    check_sampling(x1, y, None, batch_size)
    pairs = list(itertools.pairwise(marks(steps)))
    return iter(tqdm(pairs, desc="sampling", disable=not progress))


def _asked(
    model: Denoiser, x: Tensor, t: float, y: Tensor | None, batch_size: int
) -> Tensor:
    """The velocity at one time, asked for in batches."""
    at = torch.full((1,), t, device=x.device, dtype=x.dtype)
    given = [None] * -(-len(x) // batch_size) if y is None else y.split(batch_size)
    parts = zip(x.split(batch_size), given, strict=True)
    return torch.cat([velocity(model, part, at, label) for part, label in parts])
