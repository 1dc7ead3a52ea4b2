"""Cells of excursion 1's table: FFTDs of width 64 as flows over latents of ToyFaces."""

import copy
import functools
from typing import Any

import torch
from torch import Tensor

from minigen import ddpm, fftd, latents, metrics
from minigen import flow_matching as fm
from minigen.common import generator as seeded
from minigen.data import batches
from minigen.paper import transformer

# columns: Euler's steps
STEPS = {"1 step": 1} | {f"{n} steps": n for n in (2, 3, 5, 10, 50)}
DRAWN = 2000                                      # images of a value
NOISE = 200                                       # seeds of the noise that reflow begins with


def flow_cell(
    seed: int, steps: int, law: str = "uniform", rounds: int = 1, reflowed: bool = False
) -> dict[str, float]:
    """Train a flow as `beyond` trains its diffusions; draw 2,000 faces in six ways.

    rounds: how many times `steps` it is trained for. reflowed: after `steps` it goes on for as many
    on pairs of its own making, 20,000 of them, 20 Euler steps each.
    Measured: toy Fréchet distance with 1, 2, 3, 5, 10 and 50 steps.
    """
    model = _flow(seed, rounds * steps, law)
    tokenizer, z, _ = transformer.tokens()
    if reflowed:
        noise = torch.randn(z.shape, generator=seeded(seed + NOISE))
        model = _followed(model, fm.reflow(model, noise), steps, seed, law=law, pairs=True)
    values = {}
    for column, count in STEPS.items():
        noise = torch.randn(DRAWN, *z.shape[1:], generator=seeded(seed + 100))
        drawn = ddpm.last(fm.euler_sample(model, noise, steps=count))
        values[column] = metrics.toy_frechet(latents.decode(tokenizer, drawn))
    return values


@functools.lru_cache(maxsize=1)
def _flow(seed: int, steps: int, law: str) -> Any:
    torch.manual_seed(seed)
    _, z, _ = transformer.tokens()
    model = fftd.FFTD(**transformer.TINY, prediction="velocity")
    return _followed(model, (z,), steps, seed, law=law)


def _followed(model: Any, data: tuple[Tensor, ...], steps: int, seed: int, **options: Any) -> Any:
    """The running average of a flow's weights after a training; the model given stays as it is."""
    model = copy.deepcopy(model)
    average = ddpm.ema(model, 0.99)
    for _ in fm.train_flow_matching(
            model, batches(*data, batch_size=128, seed=seed), steps=steps, lr=2e-3,
            average=average, seed=seed, **options):
        pass
    return average.module.eval()
