"""minigen: the parts of image generation, one module a chapter.

    data          ToyFaces, Digits, your own images           every chapter
    gaussian      a Gaussian over pixels, eigenfaces          chapter 0
    gan           GAN losses, DCGAN, conditional GAN          chapter 1
    vae           ELBO, convolutional VAE                     chapter 2
    squares       its networks for a short training           chapter 2
    vqvae         codebooks, VQ-VAE                           chapter 3
    pixelcnn      autoregressive prior over codes             chapter 3
    perceptual    LPIPS, and its small-scale stand-in         chapter 4
    ivqvae        the paper's autoencoder and its losses      chapter 4
    diffusion     noise schedules, the forward process        chapter 5
    ddpm          loss, training, ancestral sampling          chapter 5
    unet          the U-Net, told the time                    chapter 5
    vlb           learned variance, bits per dimension        chapter 5
    ddim          few steps, inversion, filling in            chapter 6
    ode           the equation, second-order steps            chapter 6
    guidance      classifier-free guidance                    chapter 6
    latents       images to latents and back                  chapter 7
    fusion        the paper's adaptive fusion, and two others chapter 7
    fftd          the paper's Transformer                     chapter 7
    flows         coupling layers, likelihoods                excursion x1
    glow          a flow of images at several scales          excursion x1
    flow_matching straight paths, velocities, reflow          excursion x1
    captions      sentences about faces, kinds held out       excursion x2
    prompts       words as numbers, sentences read            excursion x2
    clip          pictures and sentences in one space         excursion x2
    text_to_image FFTD told by a sentence, cross-attention    excursion x2
    unclip        DALL-E 2's prior and decoder                excursion x2
    measurements  damages, their adjoints, PSNR, SSIM         excursion x3
    restoration   posteriors: Wiener, ILVR, DPS               excursion x3
    upscaling     SR3, a cascade                              excursion x3
    style         Gram matrices, AdaIN                        excursion x3
    style_decoder pictures of AdaIN's maps, in one pass       excursion x3
    styles        crayon, stained glass, print: drawn         excursion x3
    translation   pix2pix, line drawings, SDEdit              excursion x3
    characters    what no ToyFace ever had; Zuv               excursion x4
    lora          low-rank updates, and their merging         excursion x4
    personalise   a new word, DreamBooth, what is kept        excursion x4
    engine        the two stages on real photographs          chapter 8
    paper         the paper's tables at small scale           chapter 4 on
    gallery       new faces from every model                  chapter 0
    metrics       Fréchet distance, attribute classifier      every chapter
    plots         figures                                     every chapter
    diagrams      networks drawn from their configuration     chapter 5
    widgets       sliders                                     every chapter
    checks        the exercises' checks, your progress        every chapter
    files         weights as safetensors, whole or not        every chapter
    packing       weights in 32, 16 or 8 bits                 every chapter
    rebuilding    a model from what its file holds            every chapter
    room          memory and disk, asked beforehand           chapter 8
    disk          locks, leftovers, errors in a sentence      every chapter
    inputs        what was passed wrongly, in one sentence    every chapter
    common        what several lessons share                  every chapter
    arguments     argparse in sentences, the near word        python -m minigen
    commands      what the command line understands           python -m minigen
    examples      what each command's help ends with          python -m minigen
    sample_command   what `sample` and `fid` do               python -m minigen
    names         the near one of a mistyped name             python -m minigen
    stops         Ctrl-C and SIGTERM, answered alike          chapter 8
    environment   scale switch, device, what is installed     every chapter
"""

from typing import Any

from minigen.environment import device, environment, scale, setup
from minigen.errors import DataError

__version__ = "0.1.0"
__all__ = ["DataError", "check", "device", "environment", "progress", "scale", "setup"]


def __getattr__(name: str) -> Any:
    """`check` and `progress`, found when they are asked for.

    They need torch, and `python -m minigen --help` does not.
    """
    if name not in ("check", "progress"):
        raise AttributeError(f"module 'minigen' has no attribute '{name}'")
    from minigen import checks

    return getattr(checks, name)
