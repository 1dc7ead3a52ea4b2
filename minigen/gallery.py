"""New faces from every model of the course, drawn from the shipped weights: the picture that chapter 0 opens with.

Source: chapters 0 to 7; the longer-trained models of data/pretrained.
"""

import torch

from minigen import ddim, fftd, gan, ivqvae, latents, pixelcnn, unet, vae, vqvae
from minigen.common import generator, last
from minigen.data import ToyFaces
from minigen.diffusion import Diffusion
from minigen.files import load_weights
from minigen.gaussian import GaussianModel
from minigen.inputs import whole


def real(n, seed=7):
    """Faces that no model has seen."""
    return ToyFaces(n, seed=seed + 14).images()
