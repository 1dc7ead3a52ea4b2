"""Cells of excursion 3's tables: damaged ToyFaces restored by every method, and averages."""

import functools
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from minigen import ddpm, measurements, metrics, restoration, translation, upscaling
from minigen.common import evaluating
from minigen.common import generator as seeded
from minigen.data import ToyFaces
from minigen.files import load_weights
from minigen.perceptual import ToyPerceptual
from minigen.unet import UNet

SIGMA = 1.0                                       # of the noise
TAUGHT = 20_000                                   # faces that the Wiener filter knows
STEPS = 50                                        # of a model that was never told of the damage
SCALE = 3.0                                       # ζ of DPS
HOLE = torch.ones(32, 32)
HOLE[8:24, 8:24] = 0

Restore = Callable[[Tensor, int], Tensor]         # whole faces, a seed → what was made of them


def overexposed(x: Tensor) -> Tensor:
    """Too bright by 0.8, and cut off at white."""
    return (x + 0.8).clamp(max=1)


@functools.cache
def statistics() -> tuple[Tensor, Tensor]:
    """Mean and covariance of the pixels of 20,000 ToyFaces. Shapes: (3072,), (3072, 3072)."""
    return metrics.gaussian_statistics(ToyFaces(TAUGHT, seed=0).images().flatten(1))


def noisy(x: Tensor, seed: int) -> Tensor:
    return x + SIGMA * torch.randn(x.shape, generator=seeded(seed))


def _prior() -> tuple[UNet, ddpm.Diffusion]:
    net = load_weights(UNet, "unet")
    return net, ddpm.diffusion_of(net)


def filtered(x: Tensor, seed: int) -> Tensor:
    mean, cov = statistics()
    return restoration.wiener(noisy(x, seed).flatten(1), mean, cov, SIGMA**2).view_as(x)


def mean_of_all(x: Tensor, seed: int) -> Tensor:
    return restoration.denoised(*_prior(), noisy(x, seed), SIGMA)


def draw(x: Tensor, seed: int, which: int = 0) -> Tensor:
    """One of the faces that can lie behind the noise, in 20 steps."""
    g = seeded(seed + 100 * (which + 1))
    return ddpm.last(restoration.denoised_sample(*_prior(), noisy(x, seed), SIGMA, generator=g))


@functools.lru_cache(maxsize=16)
def _drawn(seed: int, images: int, which: int) -> Tensor:
    return draw(faces(seed, images), seed, which)


def faces(seed: int, images: int) -> Tensor:
    """The faces of a cell, on which nothing was trained."""
    return ToyFaces(images, seed=2000 + seed).images()


def _small(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 4)


def bicubic(x: Tensor, seed: int) -> Tensor:
    return upscaling.larger(_small(x), 32)


def one_run(x: Tensor, name: str) -> Tensor:
    """A network's answer in one run."""
    with evaluating(load_weights(UNet, name)) as net:
        return torch.cat([translation.repaired(net, part) for part in x.split(250)])


def by_sr3(x: Tensor, seed: int, steps: int = 20) -> Tensor:
    """A draw, or with one step the network's mean."""
    net = load_weights(upscaling.PictureUNet, "upscaler_sr3")
    return upscaling.enlarge(net, _small(x), steps=steps, seed=seed)


def told_nothing(damage: measurements.Measurement, repeats: int = 1) -> Restore:
    def restore(x: Tensor, seed: int) -> Tensor:
        g = seeded(seed)
        return ddpm.last(restoration.ilvr_sample(
            *_prior(), damage, damage.forward(x), torch.randn(x.shape, generator=g), steps=STEPS,
            repeats=repeats, generator=g))
    return restore


def pulled(forward: Callable[[Tensor], Tensor]) -> Restore:
    def restore(x: Tensor, seed: int) -> Tensor:
        g = seeded(seed)
        return torch.cat([ddpm.last(restoration.dps_sample(
            *_prior(), forward, forward(part), torch.randn(part.shape, generator=g), steps=STEPS,
            scale=SCALE, generator=g)) for part in x.split(125)])
    return restore


_SHRINK, _HOLE, _GREY = measurements.shrink(4), measurements.holes(HOLE), measurements.grey()
METHODS: dict[str, Restore] = {
    "noise, left as it is": noisy,
    "noise, Wiener": filtered,
    "noise, one run": mean_of_all,
    "noise, draw": draw,
    "8 → 32, bicubic": bicubic,
    "8 → 32, L2 loss": lambda x, seed: one_run(bicubic(x, seed), "upscaler_l2"),
    "8 → 32, GAN": lambda x, seed: one_run(bicubic(x, seed), "upscaler_gan"),
    "8 → 32, SR3": by_sr3,
    "8 → 32, SR3, one run": lambda x, seed: by_sr3(x, seed, 1),
    "8 → 32, ILVR": told_nothing(_SHRINK),
    "8 → 32, DPS": pulled(_SHRINK.forward),
    "hole, RePaint": told_nothing(_HOLE),
    "hole, RePaint ×5": told_nothing(_HOLE, 5),
    "hole, DPS": pulled(_HOLE.forward),
    "grey, ILVR": told_nothing(_GREY),
    "grey, DPS": pulled(_GREY.forward),
    "too bright, DPS": pulled(overexposed),
    "outline, pix2pix": lambda x, seed: one_run(translation.outlines(x), "pix2pix"),
}


def restoration_cell(seed: int, images: int, method: str) -> dict[str, float]:
    """Damage so many faces of the test set and restore them.

    Measured: PSNR, SSIM, toy LPIPS (means over the faces), toy Fréchet distance, and the
    processor's milliseconds a face.
    """
    x = faces(seed, images)
    METHODS[method](x[:2], seed)                  # loads what is loaded once
    start = time.process_time()
    got = METHODS[method](x, seed).clamp(-1, 1)
    spent = 1000 * (time.process_time() - start) / images
    return measured(x, got) | dict(time_ms=spent)


def measured(x: Tensor, got: Tensor) -> dict[str, float]:
    """How near, and how like a face. Shapes: (N, 3, 32, 32) twice."""
    with torch.no_grad():
        lpips = ToyPerceptual()(got, x).mean()
    return dict(psnr=float(measurements.psnr(x, got).mean()),
                ssim=float(measurements.ssim(x, got).mean()), lpips=float(lpips),
                frechet=metrics.toy_frechet(got))


def distortion_cell(seed: int, images: int, count: int) -> dict[str, float]:
    """The average of `count` draws behind noisy faces; 0 is the network's own mean, in one run.

    Measured: as `restoration_cell`, without the time.
    """
    x = faces(seed, images)
    drawn = [_drawn(seed, images, k) for k in range(count)]
    got = torch.stack(drawn).mean(0) if count else mean_of_all(x, seed)
    return measured(x, got.clamp(-1, 1))
