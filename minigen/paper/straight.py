"""Cells of excursion 1's table: FFTDs of width 64 on latents of ToyFaces, flows and diffusions."""

from typing import Any

import torch
from torch import Tensor

from minigen import ddim, ddpm, fftd, latents, metrics
from minigen import flow_matching as fm
from minigen.common import generator as seeded
from minigen.data import batches
from minigen.paper import transformer

# columns: Euler's steps, for a diffusion DDIM's
STEPS = {"1 step": 1} | {f"{n} steps": n for n in (2, 3, 5, 10, 50)}
DRAWN = 2000                                      # images of a value
NOISE = 200                                       # seeds of the noise that reflow begins with


def straight_cell(
    seed: int, steps: int, prediction: str = "velocity", schedule: str | None = None,
    law: str = "uniform", rounds: int = 1, reflowed: bool = False
) -> dict[str, float]:
    """Train a flow, or a diffusion that predicts "eps" or "v"; draw 2,000 faces in six ways.

    rounds: how many times `steps` a flow is trained for. reflowed: the last of two rounds is on
    pairs of the first's own making, 20,000 of them, 20 Euler steps each.
    Measured: toy Fréchet distance with 1, 2, 3, 5, 10 and 50 steps.
    """
    if prediction == "velocity":
        model = _flow(seed, steps, law, rounds, reflowed)
    else:
        model = transformer.trained(
            seed, steps, **transformer.TINY, prediction=prediction, schedule=schedule)
    tokenizer, z, _ = transformer.tokens()
    values = {}
    for column, count in STEPS.items():
        noise = torch.randn(DRAWN, *z.shape[1:], generator=seeded(seed + 100))
        drawn = _drawn(model, noise, count)
        values[column] = metrics.toy_frechet(latents.decode(tokenizer, drawn))
    return values


def _drawn(model: Any, noise: Tensor, count: int) -> Tensor:
    if model.prediction == "velocity":
        return ddpm.last(fm.euler_sample(model, noise, steps=count))
    return ddpm.last(ddim.ddim_sample(model, ddpm.diffusion_of(model), noise, steps=count))


def _flow(seed: int, steps: int, law: str, rounds: int, reflowed: bool) -> Any:
    torch.manual_seed(seed)
    _, z, _ = transformer.tokens()
    model: Any = fftd.FFTD(**transformer.TINY, prediction="velocity")
    if not reflowed:
        return _followed(model, (z,), rounds * steps, seed, law=law)
    model = _followed(model, (z,), steps, seed, law=law)
    noise = torch.randn(z.shape, generator=seeded(seed + NOISE))
    return _followed(model, fm.reflow(model, noise), steps, seed, law=law, pairs=True)


def _followed(model: Any, data: tuple[Tensor, ...], steps: int, seed: int, **options: Any) -> Any:
    """The running average of a flow's weights after a training."""
    average = ddpm.ema(model, 0.99)
    for _ in fm.train_flow_matching(
            model, batches(*data, batch_size=128, seed=seed), steps=steps, lr=2e-3,
            average=average, seed=seed, **options):
        pass
    return average.module.eval()
