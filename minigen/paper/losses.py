"""Cells of chapter 4's comparison: one small IVQ-VAE, trained with some of its losses.

The weights `ivqvae_l1`, `ivqvae_features` and `ivqvae_judged` are those of seed 0, kept in 8 bits.
"""

import copy
import functools
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from minigen import gan, ivqvae, metrics
from minigen.common import one_cycle, start_codebook
from minigen.data import ToyFaces, batches
from minigen.perceptual import ToyPerceptual

HALF = ivqvae.PRESETS["small"] | dict(width=8)    # half as wide: two minutes instead of six
BATCH, LR, LAMBDA_D = 16, 2e-3, 0.5
FACES, TEST = 20_000, 2000                        # to learn from, and to be measured with
Trained = tuple[ivqvae.IVQVAE, float]             # rounded to 16 bits; CPU-minutes
Run = tuple[ivqvae.IVQVAE, torch.optim.Optimizer, Any, Iterator[tuple[Tensor, ...]]]


def start_of(steps: int) -> int:
    """The judge's first step: it is there for the last two fifths."""
    return steps * 3 // 5 + 1


def losses_cell(
    seed: int, steps: int, features: bool = True, judged: bool = False
) -> dict[str, float]:
    """Train on 20,000 ToyFaces and measure on 2,000 others.

    sharpness: how much neighbouring pixels differ on average, over the same of the real faces.
    """
    model, _ = trained(seed, steps, features, judged)
    test = ToyFaces(TEST, seed=2).images()
    codes = model.encode_indices(test)
    x_hat, perceptual = model.decode_indices(codes), ToyPerceptual()
    pairs = zip(x_hat.split(64), test.split(64), strict=True)
    with torch.no_grad():
        distance = torch.cat([perceptual(a, b) for a, b in pairs]).mean()
    return dict(l1=float((x_hat - test).abs().mean()), perceptual=float(distance),
                frechet=metrics.toy_frechet(x_hat), sharpness=sharpness(x_hat) / sharpness(test))


def sharpness(x: Tensor) -> float:
    """Mean absolute difference of neighbouring pixels. Shapes: (B, C, H, W) → a number."""
    return float((x.diff(dim=2).abs().mean() + x.diff(dim=3).abs().mean()) / 2)


def trained(
    seed: int, steps: int, features: bool, judged: bool, start: int | None = None
) -> Trained:
    """L1 alone; with the perceptual loss (features); or that and, from `start` on, a judge.

    Same seed, same images in the same order; the last two are one network before `start`.
    """
    if features:
        return _forked(seed, steps, start or start_of(steps))[judged]
    if judged:
        raise ValueError("the judged training has the perceptual loss too: features=True")
    run = _run(seed, steps)
    minutes = _train(run, steps)
    return _kept(run[0]), minutes


@functools.lru_cache(maxsize=1)                   # two rows, one after the other, share it
def _forked(seed: int, steps: int, start: int) -> tuple[Trained, Trained]:
    """The common part once, then on from there without a judge, and again with one."""
    perceptual = ToyPerceptual()
    model, optimiser, schedule, data = _run(seed, steps)
    common = _train((model, optimiser, schedule, data), start - 1, perceptual)
    there = [copy.deepcopy(part.state_dict()) for part in (model, optimiser, schedule)]
    data, again = itertools.tee(data)

    rest = steps - start + 1
    minutes = common + _train((model, optimiser, schedule, data), rest, perceptual)
    plain = _kept(model), minutes

    for part, state in zip((model, optimiser, schedule), there, strict=True):
        part.load_state_dict(state)
    torch.manual_seed(seed)
    judge = ivqvae.PatchDiscriminator(width=32, layers=2)
    minutes = common + _train((model, optimiser, schedule, again), rest, perceptual, judge)
    return plain, (_kept(model), minutes)


def _run(seed: int, steps: int) -> Run:
    """A network whose codebook has begun, its optimiser and schedule, its data."""
    torch.manual_seed(seed)
    images = ToyFaces(FACES, seed=0).images()
    model = ivqvae.IVQVAE(**HALF)
    start_codebook(model, batches(images, batch_size=32, seed=seed), 8)
    optimiser = torch.optim.Adam(model.parameters(), betas=(0.5, 0.9))
    data = batches(images, batch_size=BATCH, seed=seed)
    return model, optimiser, one_cycle(optimiser, LR, steps), data


def _train(
    run: Run, steps: int, perceptual: Callable | None = None, judge: nn.Module | None = None
) -> float:
    """Go on for some steps, the judge weighed by `ivqvae.adaptive_weight`; returns CPU-minutes."""
    model, optimiser, schedule, data = run
    opt_d = torch.optim.Adam(judge.parameters(), lr=1e-3, betas=(0.5, 0.9)) if judge else None
    last: Any = model.decoder.body[-2].weight
    began = time.process_time()
    model.train()
    for (x,) in itertools.islice(data, steps):
        x_hat, quantized = model(x)
        rec = (x_hat - x).abs().mean()
        if perceptual:
            rec = rec + perceptual(x_hat, x).mean()
        loss = rec + (1 - LAMBDA_D if judge else 0.95) * quantized.loss
        if judge:
            g = -judge(x_hat).mean()
            loss = loss + LAMBDA_D * ivqvae.adaptive_weight(rec, g, last) * g
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if judge and opt_d:
            d_loss = gan.discriminator_loss(judge(x), judge(x_hat.detach()), "hinge")
            opt_d.zero_grad()
            d_loss.backward()
            opt_d.step()
    return (time.process_time() - began) / 60


def _kept(model: ivqvae.IVQVAE) -> ivqvae.IVQVAE:
    """A copy, rounded to 16 bits: what is measured, and stored."""
    return copy.deepcopy(model).half().float().eval()
