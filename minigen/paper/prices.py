"""Cells of chapter 2's table: one small VAE at the price of a nat that is asked for."""

import torch

from minigen import metrics, vae
from minigen.common import generator as seeded
from minigen.data import ToyFaces, batches
from minigen.gaussian import GaussianMixture

WIDTH, BATCH, RATE = 48, 32, 3e-3                 # what chapter 2 trains
DISTANCES = ("redrawn", "drawn", "mixture")       # the columns that are Fréchet distances


def trained(seed: int, steps: int, beta: float) -> vae.VAE:
    """The VAE that chapter 2 trains before the learner, at the price `beta`."""
    torch.manual_seed(seed)
    model = vae.VAE(width=WIDTH, squares=True)
    data = batches(ToyFaces(8192, seed=0).images(), batch_size=BATCH, seed=seed)
    for _ in vae.train_vae(model, data, steps=steps, beta=beta, lr=RATE, seed=seed):
        pass
    return model.eval()


@torch.no_grad()
def measured(model: vae.VAE, seed: int) -> dict[str, float]:
    """Rate, distortion and active units on 2,000 test faces; Fréchet distances of 2,000 pictures.

    Of test faces redrawn, of draws from N(0, I), and of draws from 40 Gaussians fitted to the codes
    of the training faces.
    """
    test, generator = ToyFaces(2000, seed=2).images(), seeded(seed + 100)
    mean, logvar = model.encode(test)
    x_hat = model.decode(vae.reparameterise(mean, logvar, generator))
    terms = vae.vae_loss(test, x_hat, mean, logvar)
    faces = ToyFaces(8192, seed=0).images()
    codes = torch.cat([model.encode(x)[0] for x in faces.split(512)])
    fitted = GaussianMixture(codes, 40, seed=seed).sample(2000, seed=seed + 100)
    return dict(
        rate=terms.rate.item(), distortion=terms.distortion.item(),
        used=int(vae.active_units(mean).sum()),
        redrawn=metrics.toy_frechet(model.decode(mean)),
        drawn=metrics.toy_frechet(vae.sample(model, 2000, seed=seed + 100)),
        mixture=metrics.toy_frechet(model.decode(fitted)))


def price_cell(seed: int, steps: int, beta: float) -> dict[str, float]:
    """Train at a price and measure: `trained`, then `measured`."""
    return measured(trained(seed, steps, beta), seed)
