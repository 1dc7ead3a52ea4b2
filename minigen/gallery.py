"""New faces from every model of the course, drawn from the weights that come with it.

Source: chapters 0 to 7; the longer-trained models of data/pretrained.
"""

from typing import Any

import torch
from torch import Tensor, nn

from minigen import ddim, fftd, gan, ivqvae, latents, pixelcnn, unet, vae, vqvae
from minigen.common import generator as seeded
from minigen.data import ToyFaces
from minigen.ddpm import diffusion_of, last
from minigen.files import load_weights
from minigen.gaussian import GaussianModel
from minigen.inputs import whole


def _real(n: int, seed: int) -> Tensor:
    return ToyFaces(n, seed=21 + seed).images()       # seeds that no model has seen


def _gaussian(n: int, seed: int) -> Tensor:
    faces = ToyFaces(1024, seed=0).images()           # few enough to be fitted in a second
    return GaussianModel(faces).sample(n, seed=seed)


def _gan(n: int, seed: int) -> Tensor:
    return gan.sample(load_weights(gan.Generator, "gan"), n, seed=seed)


def _vae(n: int, seed: int) -> Tensor:
    return vae.sample(load_weights(vae.VAE, "vae"), n, seed=seed)


def _vqvae(n: int, seed: int) -> Tensor:
    prior = load_weights(pixelcnn.PixelCNN, "pixelcnn")
    codes = pixelcnn.sample_codes(prior, n, seed=seed)
    return load_weights(vqvae.VQVAE, "vqvae").decode_indices(codes)


def _denoised(model: nn.Module, shape: tuple[int, ...], n: int, seed: int, **how: Any) -> Tensor:
    generator = seeded(seed)
    xT = torch.randn(n, *shape, generator=generator)
    return last(ddim.ddim_sample(
        model, diffusion_of(model), xT, steps=100, generator=generator, **how))


def _unet(n: int, seed: int) -> Tensor:
    model = load_weights(unet.UNet, "unet")
    return _denoised(model, (3, 32, 32), n, seed, eta=1.0, clip=(-1, 1)).clamp(-1, 1)


def _fftd(n: int, seed: int) -> Tensor:
    model: Any = load_weights(fftd.FFTD, "fftd")
    decoder = load_weights(ivqvae.IVQVAE, "ivqvae")
    z = _denoised(model, (4, 4, 4), n, seed)          # the latents
    return latents.decode(decoder, z, made_with=model.card["tokenizer"])


MODELS = {"real": _real, "Gaussian": _gaussian, "GAN": _gan, "VAE": _vae, "VQ-VAE": _vqvae,
          "U-Net": _unet, "FFTD": _fftd}


def faces(n: int = 10, seed: int = 0) -> dict[str, Tensor]:
    """n faces of every model, and n real ones: {"real": …, "Gaussian": …, … "FFTD": …}.

    The order is the course's. The diffusion models take 100 steps (U-Net with noise, FFTD without),
    so ten faces of all models take some seconds on a laptop.
    Shapes: (n, 3, 32, 32) each, in [-1, 1].
    Raises: ValueError for an n or a seed that is no whole number.
    """
    whole(n, "n")
    seeded(seed)                                      # a seed that is none is refused at once
    return {name: draw(n, seed) for name, draw in MODELS.items()}
