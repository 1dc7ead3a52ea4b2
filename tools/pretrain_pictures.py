"""Recipes of excursion 3's weights, which `tools/pretrain.py` runs: what enlarges, and pix2pix."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from pretrain_text import Card, run
from torch import Tensor

from minigen import (
    ddpm,
    ivqvae,
    measurements,
    metrics,
    packing,
    perceptual,
    translation,
    unet,
    upscaling,
)
from minigen.data import ToyFaces, batches
from minigen.files import data_path, save_weights

OUT = data_path("pretrained")
FACES = 20_000         # that what repairs in one run learns from
REPAIRED = 2000        # faces that it is measured on
TEST = 500             # and those that a network which enlarges by diffusion is measured on
SMALL: dict[str, Any] = dict(width=16, multipliers=(1, 2, 4), blocks=1, attention_at=8)


def _rounded(model: Any) -> Any:
    """The model as it will be when it is read back from 8-bit weights."""
    model.load_state_dict(packing.unpacked(packing.packed(model.state_dict())))
    return model.eval()


def _quality(x: Tensor, got: Tensor) -> Card:
    got = got.clamp(-1, 1)
    return dict(psnr=round(float(measurements.psnr(x, got).mean()), 2),
                ssim=round(float(measurements.ssim(x, got).mean()), 4),
                toy_frechet=round(metrics.toy_frechet(F.avg_pool2d(got, got.shape[-1] // 32)), 2))


def _repairing(
    name: str, damage: Callable[[Tensor], Tensor], steps: int, batch_size: int, seed: int,
    lr: float, judged: bool = False, pairs: bool = False, **options: Any
) -> Card:
    """A U-Net that repairs in one run, and what it makes of faces it has not seen."""
    torch.manual_seed(seed)
    network: Any = unet.UNet(size=32, **SMALL)
    if judged:
        options["judge"] = ivqvae.PatchDiscriminator(width=32, layers=2, channels=3 + 3 * pairs)
    faces = batches(ToyFaces(FACES, seed=0).images(), batch_size=batch_size, seed=seed)
    training = translation.train_repair(network, ((damage(x), x) for (x,) in faces), steps=steps,
                                        lr=lr, pairs=pairs, **options)
    minutes = run(name, training, steps)
    network = _rounded(network)
    x = ToyFaces(REPAIRED, seed=2).images()
    with torch.no_grad():
        got = torch.cat([translation.repaired(network, damage(b)) for b in x.split(250)])
    card: Card = dict(
        steps=steps, batch_size=batch_size, seed=seed, lr=lr, cpu_minutes=minutes,
        data=f"{FACES:,} ToyFaces 32×32, seed 0", **_quality(x, got))
    save_weights(OUT / f"{name}.safetensors", network, bits=8, **card)
    return card


def _shrunk_and_enlarged(x: Tensor) -> Tensor:
    return upscaling.larger(F.avg_pool2d(x, 4), 32)


def upscaler_l2(steps: int = 2500, batch_size: int = 64, seed: int = 0, lr: float = 2e-3) -> Card:
    """8×8 to 32×32 in one run, by squared error."""
    return _repairing("upscaler_l2", _shrunk_and_enlarged, steps, batch_size, seed, lr)


def upscaler_gan(steps: int = 2500, batch_size: int = 64, seed: int = 0, lr: float = 1e-3) -> Card:
    """The same with a perceptual distance and a judge: SRGAN."""
    return _repairing("upscaler_gan", _shrunk_and_enlarged, steps, batch_size, seed, lr,
                      judged=True, perceptual=perceptual.ToyPerceptual())


def pix2pix_(steps: int = 2500, batch_size: int = 64, seed: int = 0, lr: float = 1e-3) -> Card:
    """From a line drawing to a face, with a judge of pairs."""
    return _repairing("pix2pix", translation.outlines, steps, batch_size, seed, lr, judged=True,
                      pairs=True, squared=False)


def _diffusion(
    name: str, size: int, factor: int, most: float, faces: int, steps: int, batch_size: int,
    seed: int, lr: float, decay: float
) -> Card:
    torch.manual_seed(seed)
    model: Any = upscaling.PictureUNet(size=size, prediction="x0", schedule="cosine", **SMALL)
    average: Any = ddpm.ema(model, decay)
    x = ToyFaces(faces, seed=0, size=size).images()
    data = upscaling.enlarging_batches(
        batches(x, batch_size=batch_size, seed=seed), factor, most, seed)
    training = ddpm.train_ddpm(model, data, ddpm.diffusion_of(model), steps=steps, lr=lr,
                               average=average, seed=seed)
    minutes = run(name, training, steps)
    model = _rounded(average.module)
    test = ToyFaces(TEST, seed=2, size=size).images()
    got = upscaling.enlarge(model, F.avg_pool2d(test, factor))
    card: Card = dict(
        prediction="x0", schedule="cosine", steps=steps, batch_size=batch_size, seed=seed, lr=lr,
        average_decay=decay, data=f"{faces:,} ToyFaces {size}×{size}, seed 0", factor=factor,
        most_noise=most, cpu_minutes=minutes, **_quality(test, got))
    save_weights(OUT / f"{name}.safetensors", model, bits=8, **card)
    return card


def upscaler_sr3(
    steps: int = 9000, batch_size: int = 64, seed: int = 0, lr: float = 2e-3, decay: float = 0.999,
    faces: int = 20_000
) -> Card:
    """8×8 to 32×32 by diffusion."""
    return _diffusion("upscaler_sr3", 32, 4, 0.0, faces, steps, batch_size, seed, lr, decay)


def cascade(
    steps: int = 3000, batch_size: int = 16, seed: int = 0, lr: float = 2e-3, decay: float = 0.999,
    faces: int = 8000
) -> Card:
    """32×32 to 64×64 by diffusion, trained on noisy conditions: the second stage of a cascade."""
    return _diffusion("cascade", 64, 2, 0.4, faces, steps, batch_size, seed, lr, decay)


RECIPES = {"upscaler_l2": upscaler_l2, "upscaler_gan": upscaler_gan, "upscaler_sr3": upscaler_sr3,
           "cascade": cascade, "pix2pix": pix2pix_}
