"""Every family of the course, trained within so many seconds of a processor.

The recipes are those of the longer-trained weights (tools/pretrain.py), without labels, brought to
the number of steps that fit: the rates go through their cycle in those, and what else depends on
the length stands below in capitals. One more family is one more function in `FAMILIES`; it takes
the images, a `Clock` and a seed, and returns what draws. `minigen.paper.quality` measures them.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor
from tqdm.auto import tqdm

from minigen import (
    ddpm,
    details,
    fftd,
    gan,
    ivqvae,
    latents,
    ode,
    pixelcnn,
    unet,
    vae,
    vqvae,
)
from minigen.common import generator as seeded
from minigen.data import batches
from minigen.errors import DataError
from minigen.gaussian import GaussianMixture, GaussianModel
from minigen.perceptual import ToyPerceptual

TRIAL = 20                                        # steps timed before a training is planned
SOLVER_STEPS = 20                                 # of second order: about as good as 50 of DDIM
COMPONENTS = 120                                  # of the mixture fitted to a VAE's codes
# Where fewer steps than this fit, batches are halved, at most twice: a cycle of a few dozen steps
# teaches nothing, and batches too small teach badly. (IVQ-VAE in 36 s: 326 steps of 16 images
# reconstruct to a toy Fréchet distance of 716, 522 steps of 8 to 812.)
FEW = 300
# The shares of the time that a tokenizer gets, as in the long recipes, and the encoding at most:
# where that does not suffice for all images, the model of the tokens, which gets the rest, learns
# from fewer.
TOKENIZER, ENCODING = dict(vqvae=1 / 2, ivqvae=2 / 3), 0.1
# How far back a running average of weights reaches, as a share of the steps. It is that of the long
# recipes (as 0.998 in 20,000 steps); their decays themselves would average a short training whole.
AVERAGED = dict(gan=1 / 40, unet=1 / 11, fftd=1 / 8)

Sampler = Callable[[int], Tensor]                 # n → (n, 3, 32, 32)
Model = TypeVar("Model")


class Clock:
    """The processor seconds of one cell, and what was done in them.

    seconds: that there are. left: that are left. steps {part: (training steps, batch size)}.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds, self.steps = seconds, dict[str, tuple[int, int]]()
        self._start = time.process_time()

    @property
    def left(self) -> float:
        return self.seconds - (time.process_time() - self._start)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """What is done inside does not count."""
        start = time.process_time()
        yield
        self._start += time.process_time() - start

    def train(
        self, name: str, begin: Callable[[int, int], tuple[Model, Iterable[Any]]], batch: int,
        seconds: float,
    ) -> Model:
        """The model of a training with as many steps as fit into `seconds`.

        begin(steps, batch): a new model, and its training, as the trainers yield it. batch: the
        recipe's; it is halved, at most twice, as long as fewer than `FEW` steps would fit.
        Raises: DataError where not even two steps fit.
        """
        for size in (batch, batch // 2, batch // 4):
            with self.stopped():
                each = _seconds_a_step(begin(TRIAL, size)[1])
            if seconds / each >= FEW:
                break
        steps = int(seconds / each)
        if steps < 2:
            raise DataError(f"{self.seconds / 60:g} minutes are too few for {name}: a step takes "
                            f"{each:.2f} s, and there are {max(0, seconds):.2f} s for all.")
        model, training = begin(steps, size)
        for _ in tqdm(training, desc=name, total=steps, mininterval=2, leave=False):
            pass
        self.steps[name] = steps, size
        return model


def _seconds_a_step(training: Iterable[Any]) -> float:
    """Processor seconds; the first step is left out, which makes room and begins a codebook."""
    steps = iter(training)
    next(steps)
    start = time.process_time()
    count = sum(1 for _ in steps)
    return (time.process_time() - start) / count


def decay_of(name: str, steps: int) -> float:
    """The decay with which a running average reaches its share of so many steps back."""
    return max(0.0, 1 - 1 / (AVERAGED[name] * steps))


def _gaussian(images: Tensor, clock: Clock, seed: int) -> Sampler:
    """One Gaussian over all pixels: the line to beat, whatever the minutes."""
    model = GaussianModel(images)
    return lambda n: model.sample(n, seed=seed)


def _gan(images: Tensor, clock: Clock, seed: int) -> Sampler:
    def begin(steps, batch):
        torch.manual_seed(seed)
        g, d = gan.Generator(), gan.Discriminator(batch_norm=False)
        average = ddpm.ema(g, decay_of("gan", steps))
        training = gan.train_gan(
            g, d, batches(images, batch_size=batch, seed=seed), steps=steps, lr=1.5e-3,
            betas=(0.0, 0.99), r1=1.0, decay=True, seed=seed)
        return average.module, (average.update_parameters(g) for _ in training)

    model = clock.train("GAN", begin, 32, clock.left)
    return lambda n: gan.sample(model, n, seed=seed)


def _trained_vae(images: Tensor, clock: Clock, seed: int, seconds: float) -> vae.VAE:
    def begin(steps, batch):
        torch.manual_seed(seed)
        model = vae.VAE(width=32)
        data = batches(images, batch_size=batch, seed=seed)
        return model, vae.train_vae(model, data, steps=steps, beta=0.03, lr=2e-3, seed=seed)

    return clock.train("VAE", begin, 64, seconds)


def _vae(images: Tensor, clock: Clock, seed: int) -> Sampler:
    model = _trained_vae(images, clock, seed, clock.left)
    return lambda n: vae.sample(model, n, seed=seed)


@torch.no_grad()
def _mixture_of(model: vae.VAE, images: Tensor, seed: int) -> GaussianMixture:
    codes = torch.cat([model.encode(part)[0] for part in images.split(1000)])
    return GaussianMixture(codes, COMPONENTS, seed=seed)


def _vae_and_mixture(images: Tensor, clock: Clock, seed: int) -> Sampler:
    """What the mixture takes is tried on an untrained VAE; the training gets the rest."""
    with clock.stopped():
        start = time.process_time()
        _mixture_of(vae.VAE(width=32), images, seed)
        fit = time.process_time() - start
    model = _trained_vae(images, clock, seed, clock.left - fit).eval()
    mixture = _mixture_of(model, images, seed)
    return torch.no_grad()(lambda n: model.decode(mixture.sample(n, seed=seed)))


def _encoded(clock: Clock, encode: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """The codes of as many images as its share of the time suffices for, in parts of 1,000."""
    least, parts = clock.left - ENCODING * clock.seconds, []
    for part in images.split(1000):
        parts.append(encode(part))
        if clock.left < least:
            break
    return torch.cat(parts)


def _vqvae_and_pixelcnn(images: Tensor, clock: Clock, seed: int) -> Sampler:
    def begin(steps, batch):
        torch.manual_seed(seed)
        model = vqvae.VQVAE()
        data = batches(images, batch_size=batch, seed=seed)
        return model, vqvae.train_vqvae(model, data, steps=steps, lr=3e-3)

    def begin_prior(steps, batch):
        torch.manual_seed(seed)
        model = pixelcnn.PixelCNN(tokenizer.quantizer.num_codes)
        data = batches(codes, batch_size=batch, seed=seed)
        return model, pixelcnn.train_pixelcnn(model, data, steps=steps, lr=2e-3, seed=seed)

    tokenizer = clock.train("VQ-VAE", begin, 64, TOKENIZER["vqvae"] * clock.seconds).eval()
    codes = _encoded(clock, tokenizer.encode_indices, images)
    prior = clock.train("PixelCNN", begin_prior, 128, clock.left)
    return lambda n: tokenizer.decode_indices(pixelcnn.sample_codes(prior, n, seed=seed))


def denoised(model: Any, shape: tuple[int, ...], n: int, seed: int, clip: Any = None) -> Tensor:
    noise = torch.randn(n, *shape, generator=seeded(seed))
    return ddpm.last(ode.multistep_sample(
        model, ddpm.diffusion_of(model), noise, steps=SOLVER_STEPS, clip=clip, batch_size=64))


def _ivqvae_and_fftd(images: Tensor, clock: Clock, seed: int) -> Sampler:
    def begin(steps, batch):
        torch.manual_seed(seed)
        model = ivqvae.IVQVAE(**ivqvae.PRESETS["small"])
        data = batches(images, batch_size=batch, seed=seed)
        return model, ivqvae.train_ivqvae(
            model, data, steps=steps, lr=2e-3, perceptual=ToyPerceptual(),
            discriminator=ivqvae.PatchDiscriminator(width=32, layers=2),
            start=max(1, int(0.7 * steps)))

    def begin_prior(steps, batch):
        torch.manual_seed(seed)
        model = fftd.FFTD(**fftd.PRESETS["small"], prediction="v", schedule="cosine")
        average = ddpm.ema(model, decay_of("fftd", steps))
        data = batches(z, batch_size=batch, seed=seed)
        return average.module, ddpm.train_ddpm(
            model, data, ddpm.diffusion_of(model), steps=steps, lr=1e-3, average=average,
            seed=seed)

    tokenizer = clock.train("IVQ-VAE", begin, 32, TOKENIZER["ivqvae"] * clock.seconds).eval()
    tokenizer.measure_latents(images[:1000])
    z = _encoded(clock, lambda part: latents.encode(tokenizer, part).z, images)
    prior = clock.train("FFTD", begin_prior, 128, clock.left)
    return lambda n: latents.decode(tokenizer, denoised(prior, z.shape[1:], n, seed))


def _unet(images: Tensor, clock: Clock, seed: int) -> Sampler:
    def begin(steps, batch):
        torch.manual_seed(seed)
        model = unet.UNet(**unet.PRESETS["small"], prediction="v", schedule="cosine")
        average = ddpm.ema(model, decay_of("unet", steps))
        data = batches(images, batch_size=batch, seed=seed)
        return average.module, ddpm.train_ddpm(
            model, data, ddpm.diffusion_of(model), steps=steps, lr=1e-3, average=average,
            seed=seed, loss=details.detail_loss(ToyPerceptual()))

    model = clock.train("U-Net", begin, 16, clock.left)
    return lambda n: denoised(model, (3, 32, 32), n, seed, clip=(-1, 1)).clamp(-1, 1)


# a row of the table: what trains a family on images within a clock's seconds
FAMILIES: dict[str, Callable[[Tensor, Clock, int], Sampler]] = {
    "Gaussian": _gaussian,
    "GAN": _gan,
    "VAE": _vae,
    "VAE + mixture of Gaussians": _vae_and_mixture,
    "VQ-VAE + PixelCNN": _vqvae_and_pixelcnn,
    "IVQ-VAE + FFTD": _ivqvae_and_fftd,
    "U-Net on pixels": _unet,
}
