"""New faces from every model of the course, drawn from the weights that come with it.

Source: chapters 0 to 7; the longer-trained models of data/pretrained.
"""

import torch

from minigen import ddim, fftd, gan, ivqvae, latents, pixelcnn, unet, vae, vqvae
from minigen.common import generator
from minigen.data import ToyFaces
from minigen.ddpm import last
from minigen.diffusion import Diffusion
from minigen.files import load_weights
from minigen.gaussian import GaussianModel
from minigen.inputs import whole


def _real(n, seed):
    return ToyFaces(n, seed=21 + seed).images()       # seeds that no model has seen


def _gaussian(n, seed):
    faces = ToyFaces(1024, seed=0).images()           # few enough to find the eigenfaces in a second
    return GaussianModel(faces).sample(n, seed=seed)


def _gan(n, seed):
    return gan.sample(load_weights(gan.Generator, "gan"), n, seed=seed)


def _vae(n, seed):
    return vae.sample(load_weights(vae.VAE, "vae"), n, seed=seed)


def _vqvae(n, seed):
    prior = load_weights(pixelcnn.PixelCNN, "pixelcnn")
    codes = pixelcnn.sample_codes(prior, n, seed=seed)
    return load_weights(vqvae.VQVAE, "vqvae").decode_indices(codes)


def _denoised(model, shape, n, seed, **how):
    rng = generator(seed)
    noise = torch.randn(n, *shape, generator=rng)
    return last(ddim.ddim_sample(model, Diffusion(), noise, steps=100, generator=rng, **how))


def _unet(n, seed):
    model = load_weights(unet.UNet, "unet")
    return _denoised(model, (3, 32, 32), n, seed, eta=1.0, clip=(-1, 1)).clamp(-1, 1)


def _fftd(n, seed):
    model, decoder = load_weights(fftd.FFTD, "fftd"), load_weights(ivqvae.IVQVAE, "ivqvae")
    z = _denoised(model, (4, 4, 4), n, seed)
    return latents.decode(decoder, z, made_with=model.card["tokenizer"])


MODELS = {"real": _real, "Gaussian": _gaussian, "GAN": _gan, "VAE": _vae, "VQ-VAE": _vqvae, "U-Net": _unet, "FFTD": _fftd}


def faces(n=10, seed=0):
    """n faces of every model, and n real ones: {"real": (n, 3, 32, 32) in [-1, 1], "Gaussian": …, … "FFTD": …}.

    The order is the course's. The diffusion models take 100 steps (U-Net with noise, FFTD without), so ten faces of all
    models take some seconds on a laptop. Raises: ValueError for an n or a seed that is no whole number.
    """
    whole(n, "n")
    generator(seed)                                   # a seed that is none, refused before anything is drawn
    return {name: draw(n, seed) for name, draw in MODELS.items()}
