"""Cells of chapter 7's tables: FFTDs of width 64, trained on the latents of ToyFaces."""

import functools
from typing import Any

import torch
from torch import Tensor

from minigen import ddim, ddpm, fftd, ivqvae, latents, metrics
from minigen.common import generator as seeded
from minigen.data import ToyFaces, batches
from minigen.files import load_weights

TINY: dict[str, Any] = dict(dim=64, heads=2)
DRAWN = 1000                                      # images of a cell
# columns of `beyond`: DDIM steps and η
WAYS = {f"{n} steps": (n, 0.0) for n in (5, 10, 20, 50)} | {"50, η = 1": (50, 1.0)}


@functools.cache
def tokens() -> tuple[ivqvae.IVQVAE, Tensor, Tensor]:
    """The longer-trained autoencoder, latents of 20,000 faces, and of 2,000 others."""
    tokenizer = load_weights(ivqvae.IVQVAE, "ivqvae")

    def encoded(n, seed):
        return latents.encode(tokenizer, ToyFaces(n, seed=seed).images()).z

    return tokenizer, encoded(20_000, seed=0), encoded(2000, seed=2)


def trained(seed: int, steps: int, **options: Any) -> Any:
    """The running average of an FFTD's weights after a training on the latents of 20,000 faces."""
    torch.manual_seed(seed)
    _, z, _ = tokens()
    model = fftd.FFTD(**options)
    average = ddpm.ema(model, 0.99)
    data = batches(z, batch_size=128, seed=seed)
    for _ in ddpm.train_ddpm(
            model, data, ddpm.diffusion_of(model), steps=steps, lr=2e-3, average=average,
            seed=seed):
        pass
    return average.module.eval()


def fftd_cell(seed: int, steps: int, **options: Any) -> dict[str, float]:
    """Train one FFTD on the latents of 20,000 faces, draw 1,000 with 50 DDIM steps.

    Measured: Fréchet distance, test loss, parameters.
    """
    model, (tokenizer, z, test) = trained(seed, steps, **options), tokens()
    diffusion, generator = ddpm.diffusion_of(model), seeded(seed + 100)
    t = torch.randint(diffusion.T, (len(test),), generator=generator)
    eps = torch.randn(test.shape, generator=generator)
    with torch.no_grad():
        loss = float(ddpm.simple_loss(model, diffusion, test, t, eps))
    noise = torch.randn(DRAWN, *z.shape[1:], generator=generator)
    drawn = ddpm.last(ddim.ddim_sample(model, diffusion, noise, steps=50))
    return dict(frechet=metrics.toy_frechet(latents.decode(tokenizer, drawn)), loss=loss,
                parameters=sum(p.numel() for p in model.parameters()))


def beyond_cell(seed: int, steps: int, prediction: str, schedule: str) -> dict[str, float]:
    """Train an FFTD to predict this under this schedule; draw 2,000 faces in five ways.

    Measured: toy Fréchet distance with 5, 10, 20 and 50 DDIM steps, and with 50 noisy ones (η = 1).
    """
    model = trained(seed, steps, **TINY, prediction=prediction, schedule=schedule)
    tokenizer, z, _ = tokens()
    diffusion, values = ddpm.diffusion_of(model), {}
    for column, (count, eta) in WAYS.items():
        generator = seeded(seed + 100)
        noise = torch.randn(2000, *z.shape[1:], generator=generator)
        drawn = ddpm.last(ddim.ddim_sample(
            model, diffusion, noise, steps=count, eta=eta, generator=generator))
        values[column] = metrics.toy_frechet(latents.decode(tokenizer, drawn))
    return values
