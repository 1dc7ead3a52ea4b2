"""Cells of chapter 5's tables: what a U-Net in pixels predicts, and where it loses what."""

import functools
from typing import Any

import torch
from torch import Tensor

from minigen import ddim, ddpm, details, metrics, unet
from minigen.common import generator as seeded
from minigen.data import ATTRIBUTES, ToyFaces, batches, draw_faces
from minigen.files import load_weights
from minigen.perceptual import ToyPerceptual

DRAWN = 500                                       # images of a cell


def pixels_cell(seed: int, steps: int, detail: float = 0.0, **options: Any) -> dict[str, float]:
    """Train one small U-Net on 20,000 faces, 16 at a time, and draw 500 with 25 DDIM steps.

    detail: the weight of the second loss, `details.detail_loss`.
    Measured: Fréchet distance, and how far the mean colour is off in the worst of red, green, blue.
    """
    torch.manual_seed(seed)
    model = unet.UNet(**unet.PRESETS["small"], **options)
    diffusion, average = ddpm.diffusion_of(model), ddpm.ema(model, 0.998)
    faces = ToyFaces(20_000, seed=0).images()
    data = batches(faces, batch_size=16, seed=seed)
    for _ in ddpm.train_ddpm(
            model, data, diffusion, steps=steps, lr=1e-3, average=average, seed=seed,
            loss=details.detail_loss(ToyPerceptual(), detail)):
        pass
    noise = torch.randn(DRAWN, 3, 32, 32, generator=seeded(seed + 100))
    averaged = average.module.eval()
    x = ddpm.last(ddim.ddim_sample(averaged, diffusion, noise, steps=25, clip=(-1, 1)))
    x = x.clamp(-1, 1)
    off = (x.mean((0, 2, 3)) - faces.mean((0, 2, 3))).abs().max()
    return dict(frechet=metrics.toy_frechet(x), colour_off=float(off))


def origins_cell(
    seed: int, images: int, model: str | None = None, ratio: float | None = None,
    mixture: bool = False,
) -> dict[str, float]:
    """Faces that a U-Net draws beginning at real ones, noised to `ratio` times the signal.

    ratio None: from pure noise. model None: real faces. mixture: real faces again, but each
    attribute as often as the classifier reads it off the network's.
    Measured: mean red, toy Fréchet distance, and the share of faces whose every attribute the
    classifier reads with more than 0.9.
    """
    x = _begun(model, ratio, images, seed)
    if mixture:
        pool, read = ToyFaces(50_000, seed=2000 + seed), metrics.predict_attributes(x)
        weights = torch.ones(len(pool))
        for name, values in ATTRIBUTES.items():
            wanted, there = (torch.bincount(labels, minlength=len(values)).float()
                             for labels in (read[name], pool[name]))
            weights *= (wanted / there)[pool[name]]
        x = draw_faces(pool.labels[torch.multinomial(weights, images, generator=seeded(seed))])
    classifier = metrics.attribute_classifier()
    with torch.no_grad():
        surest = [torch.stack([v.softmax(1).amax(1) for v in classifier(part).values()]).amin(0)
                  for part in x.split(64)]
    clear = (torch.cat(surest) > 0.9).float().mean()
    return dict(red=float(x[:, 0].mean()), frechet=metrics.toy_frechet(x), clear=float(clear))


@functools.cache                                  # two rows begin with the same faces
def _begun(model: str | None, ratio: float | None, images: int, seed: int) -> Tensor:
    x = ToyFaces(images, seed=1000 + seed).images()
    return x if model is None else _from_level(load_weights(unet.UNet, model), x, ratio, seed)


@torch.no_grad()
def _from_level(net: Any, x: Tensor, ratio: float | None, seed: int) -> Tensor:
    """DDIM, fifty calls from pure noise and as many fewer from below as its t is less."""
    diffusion, generator = ddpm.diffusion_of(net), seeded(seed)
    top = diffusion.T - 1
    noise = torch.randn(x.shape, generator=generator)
    if ratio is None:
        x = noise
    else:
        top = int((diffusion.snr.rsqrt() - ratio).abs().argmin())
        x = diffusion.add_noise(x, torch.tensor([top]), noise)
    times = list(range(top, -1, -(diffusion.T // 50)))
    for t, following in zip(times, [*times[1:], -1], strict=True):
        x0, eps, _ = ddpm.guess(net, diffusion, x, t, clip=(-1, 1))
        x = ddim.ddim_step(diffusion, x0, eps, t, following)
    return x.clamp(-1, 1)
