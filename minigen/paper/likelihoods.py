"""Cells of excursion 1's second table: what a face costs by each model, in bits per dimension."""

import math

import torch
from torch import Tensor

from minigen import ddpm, flows, glow, pixelcnn, unet, vae, vlb, vqvae
from minigen.common import generator as seeded
from minigen.data import ToyFaces
from minigen.data.levels import dequantise, shrunk
from minigen.files import load_weights

TRAINED_ON = 20_000


def likelihood_cell(seed: int, images: int, model: str, size: int = 32) -> dict[str, float]:
    """Bits per dimension of so many unseen faces of size×size, on 256 levels.

    model: "gaussian" or "glow", whose densities are exact; "vae" or "unet", bounds from above;
    "tokens", what a PixelCNN pays for the VQ-VAE's sixteen tokens and nothing for what they lose.
    """
    x = shrunk(ToyFaces(images, seed=1000 + seed).images(), size)
    with torch.no_grad():
        return dict(bits=COSTS[model](x, seed))


def gaussian_bits(known: Tensor, x: Tensor, seed: int) -> Tensor:
    """Bits per dimension of x under mean and full covariance of the known, both dequantised.

    Shapes: (M, C, H, W), (N, C, H, W) on 256 levels → (N,).
    """
    y = dequantise(known, seeded(seed)).flatten(1).double()
    mean = y.mean(0)
    root = torch.linalg.cholesky((y - mean).T @ (y - mean) / len(y))
    far = torch.linalg.solve_triangular(
        root, (dequantise(x, seeded(seed + 1)).flatten(1).double() - mean).T, upper=False)
    volume = root.diagonal().log().sum() + y.shape[1] / 2 * math.log(2 * math.pi)
    return flows.bits(-0.5 * far.square().sum(0) - volume, y.shape[1])


def _gaussian(x: Tensor, seed: int) -> float:
    known = shrunk(ToyFaces(TRAINED_ON, seed=0).images(), x.shape[-1])
    return float(gaussian_bits(known, x, seed).mean())


def _glow(x: Tensor, seed: int) -> float:
    return float(flows.bits_per_dim(load_weights(glow.Glow, "glow"), x, seed).mean())


def _vae(x: Tensor, seed: int) -> float:
    """Rate, and the code length of each value under N(x̂, σ²), one σ for all, the best."""
    model = load_weights(vae.VAE, "vae")
    mean, logvar = model.encode(x)
    z = mean + (logvar / 2).exp() * torch.randn(mean.shape, generator=seeded(seed))
    x_hat = model.decode(z)
    variance = (x - x_hat).square().mean()
    nats = -vlb.discretised_log_likelihood(x, x_hat, variance).flatten(1).sum(1)
    rate = vae.kl_standard_normal(mean, logvar)
    return float((nats + rate).mean() / (x[0].numel() * math.log(2)))


def _unet(x: Tensor, seed: int) -> float:
    """All terms of the bound, for the first four faces: each takes a thousand runs."""
    model = load_weights(unet.UNet, "unet")
    terms = vlb.bits_per_dim(model, ddpm.diffusion_of(model), x[:4], "small", seeded(seed))
    return float(terms.sum())


def _tokens(x: Tensor, seed: int) -> float:
    tokenizer = load_weights(vqvae.VQVAE, "vqvae")
    prior = load_weights(pixelcnn.PixelCNN, "pixelcnn")
    codes = tokenizer.encode_indices(x)
    return float(pixelcnn.bits_per_image(prior(codes), codes).mean()) / x[0].numel()


COSTS = {"gaussian": _gaussian, "glow": _glow, "vae": _vae, "unet": _unet, "tokens": _tokens}
