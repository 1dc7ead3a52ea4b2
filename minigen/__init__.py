"""minigen: the parts of image generation, one module a chapter.

    data          ToyFaces, Digits, your own images           every chapter
    gaussian      a Gaussian over pixels, eigenfaces          chapter 0
    gan           GAN losses, DCGAN, conditional GAN          chapter 1
    vae           ELBO, convolutional VAE                     chapter 2
    vqvae         codebooks, VQ-VAE                           chapter 3
    pixelcnn      autoregressive prior over codes             chapter 3
    perceptual    LPIPS, and its small-scale stand-in         chapter 4
    ivqvae        the paper's autoencoder and its losses      chapter 4
    reproduce     the paper's tables at small scale           chapter 4 on
    metrics       Fréchet distance, attribute classifier      every chapter
    plots         figures                                     every chapter
    widgets       sliders                                     every chapter
    checks        the exercises' checks, your progress        every chapter
    files         weights as safetensors                      every chapter
    environment   scale switch, device, what is installed     every chapter
"""

from minigen.checks import check, progress
from minigen.environment import device, environment, scale
from minigen.errors import DataError

__version__ = "0.1.0"
__all__ = ["DataError", "check", "device", "environment", "progress", "scale"]
