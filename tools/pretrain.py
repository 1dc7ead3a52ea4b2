"""Rebuild the weights of data/pretrained from their seeds, and the results table of them.

    python tools/pretrain.py              # everything, in order
    python tools/pretrain.py gan cgan     # some of it

Each recipe is a function here; what it writes carries its command, seed, steps, data and
measurements.
"""

import argparse
import functools
import json
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pretrain_personal
import pretrain_pictures
import pretrain_style
import pretrain_text
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn
from tqdm import trange

from minigen import (
    ddim,
    ddpm,
    details,
    fftd,
    flow_matching,
    flows,
    gan,
    glow,
    guidance,
    ivqvae,
    latents,
    metrics,
    ode,
    pixelcnn,
    text_to_image,
    unet,
    vae,
    vqvae,
)
from minigen.captions import captions
from minigen.common import generator as seeded
from minigen.data import (
    ATTRIBUTES,
    ToyFaces,
    batches,
    draw_faces,
    enlarged,
    shrunk,
)
from minigen.files import (
    data_path,
    load_weights,
    save_tensors,
    save_weights,
    sha256_of,
    write_text,
)
from minigen.gaussian import GaussianMixture, GaussianModel
from minigen.names import listed
from minigen.packing import unpacked
from minigen.paper import likelihoods, losses, sentences, transformer
from minigen.perceptual import ToyPerceptual

OUT = data_path("pretrained")
FACES, TEST = 20_000, 2000  # to learn from, and to be measured with
TRAINING_SET = f"{FACES:,} ToyFaces 32×32, seed 0"
Card = dict[str, Any]  # what a file of weights says of itself


def classifier(steps: int = 1800, batch_size: int = 128, seed: int = 0) -> dict[str, float]:
    """Attribute classifier on endless fresh ToyFaces."""
    torch.manual_seed(seed)
    model = metrics.AttributeClassifier()
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for step in trange(steps, desc="classifier", mininterval=2):
        faces = ToyFaces(batch_size, seed=10_000 + step)
        guesses = model(faces.images())
        losses = [F.cross_entropy(logits, faces[name]) for name, logits in guesses.items()]
        loss = sum(losses[1:], losses[0])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    model.eval()
    test = ToyFaces(4000, seed=3)
    with torch.no_grad():
        right = (model.predict(test.images()) == test.labels).float().mean(0)
    accuracy = {name: round(float(r), 4) for name, r in zip(ATTRIBUTES, right, strict=True)}
    save_weights(OUT / "classifier.safetensors", model, steps=steps, batch_size=batch_size,
                 seed=seed, data="endless ToyFaces 32×32, seeds from 10,000",
                 test_accuracy=accuracy)
    metrics.attribute_classifier.cache_clear()
    reference = ToyFaces(metrics.N_REFERENCE, seed=metrics.REFERENCE_SEED).images()
    mean, cov = metrics.gaussian_statistics(metrics.toy_features(reference))
    save_tensors(OUT / "toy_reference.safetensors", {"mean": mean, "cov": cov})
    return accuracy


def _train_gan(
    name: str, attribute: str | None, steps: int, batch_size: int, seed: int, lr: float = 1.5e-3,
    r1: float = 1.0, average_decay: float = 0.998
) -> Card:
    torch.manual_seed(seed)
    faces = ToyFaces(FACES, seed=0)
    labels = [faces[attribute]] if attribute else []
    classes = len(ATTRIBUTES[attribute]) if attribute else 0
    g = gan.Generator(num_classes=classes)
    d = gan.Discriminator(num_classes=classes, batch_norm=False)
    moving = torch.optim.swa_utils.get_ema_multi_avg_fn(average_decay)
    average = torch.optim.swa_utils.AveragedModel(g, multi_avg_fn=moving, use_buffers=True)
    data = batches(faces.images(), *labels, batch_size=batch_size, seed=seed)
    kept: Any = average.module  # the generator that is kept
    shown = [y[:TEST] for y in labels]
    training = gan.train_gan(
        g, d, data, steps=steps, lr=lr, betas=(0.0, 0.99), r1=r1, decay=True, seed=seed)
    start = time.time()
    bar = trange(steps, desc=name, mininterval=2)
    for s in training:
        average.update_parameters(g)
        bar.update()
        if s.step % 500 == 0:
            bar.set_postfix(d=s.d_loss, g=s.g_loss)
        if s.step % 2000 == 0:
            frechet = metrics.toy_frechet(gan.sample(kept, TEST, *shown))
            print(f"\n{name} step {s.step}: toy Fréchet {frechet:.2f}", flush=True)
    minutes = round((time.time() - start) / 60)
    card: Card = dict(steps=steps, batch_size=batch_size, seed=seed, data=TRAINING_SET, lr=lr,
                      r1=r1, average_decay=average_decay, minutes=minutes)
    y = shown[0] if shown else None
    x = gan.sample(kept, TEST, y, seed=1)
    card["toy_frechet"] = round(metrics.toy_frechet(x), 2)
    if attribute:
        card["obedience"] = round(metrics.obedience(x, attribute, shown[0]), 4)
    save_weights(OUT / f"{name}.safetensors", kept, **card)
    return card


def gan_(steps: int = 20_000, batch_size: int = 32, seed: int = 0) -> Card:
    """DCGAN on ToyFaces; what is kept is the running average of the generator's weights."""
    return _train_gan("gan", None, steps, batch_size, seed)


def cgan(steps: int = 10_000, batch_size: int = 32, seed: int = 0) -> Card:
    """Conditional DCGAN on hair colour."""
    return _train_gan("cgan", "hair", steps, batch_size, seed)


def _steps(
    name: str, training: Iterable[Any], total: int,
    note: Callable[[Any], dict[str, float]] = lambda s: {}
) -> int:
    """Run a training to its end, with a progress bar; returns the minutes it took."""
    start = time.time()
    bar = trange(total, desc=name, mininterval=2)
    for s in training:
        bar.update()
        if s.step % 500 == 0:
            bar.set_postfix(note(s))
    return round((time.time() - start) / 60)


def _rounded(model: Any) -> Any:
    """The model as it will be when it is read back from 16-bit weights.

    So what is measured is what is kept. (Of the few that are kept in 8 bits, which are packed after
    this, it is nearly that: a test compares.)
    """
    return model.half().float().eval()


def _l1(x_hat: Tensor, x: Tensor) -> float:
    return round(float((x_hat - x).abs().mean()), 4)


@torch.no_grad()
def _perceptual(x_hat: Tensor, x: Tensor) -> float:
    """The mean toy perceptual distance."""
    toy = ToyPerceptual()
    pairs = zip(x_hat.split(500), x.split(500), strict=True)
    return round(float(torch.cat([toy(a, b) for a, b in pairs]).mean()), 4)


def _tokens(model: Any, codes: Tensor, x_hat: Tensor) -> Card:
    """What is measured of a tokenizer's codes and reconstructions."""
    return dict(toy_frechet_of_reconstructions=round(metrics.toy_frechet(x_hat), 2),
                codes_used=len(codes.unique()),
                perplexity=round(vqvae.perplexity(codes, model.quantizer.num_codes)))


def _in_parts(faces: ToyFaces) -> Iterator[Tensor]:
    """The faces' images, a thousand at a time."""
    for i in range(0, len(faces), 1000):
        part = slice(i, i + 1000)
        yield draw_faces(faces.labels[part], faces.jitter[part])


def _vae(
    name: str, attribute: str | None, steps: int, batch_size: int, seed: int, width: int,
    beta: float = 0.03, lr: float = 2e-3, faces: int = 20_000, squares: bool = False,
    bits: int = 16
) -> Card:
    torch.manual_seed(seed)
    drawn = ToyFaces(faces, seed=0)
    classes = len(ATTRIBUTES[attribute]) if attribute else 0
    model = vae.VAE(width=width, num_classes=classes, squares=squares)
    labels = [drawn[attribute]] if attribute else []
    data = batches(drawn.images(), *labels, batch_size=batch_size, seed=seed)
    training = vae.train_vae(model, data, steps=steps, beta=beta, lr=lr, seed=seed)
    minutes = _steps(name, training, steps,
                     lambda s: dict(distortion=s.distortion, rate=s.rate))
    test = ToyFaces(TEST, seed=2)
    y: Any = test[attribute] if attribute else None
    x_hat = vae.reconstruct(_rounded(model), test.images(), y)
    samples = vae.sample(model, TEST, y, seed=1)
    card = dict(steps=steps, batch_size=batch_size, seed=seed,
                data=f"{faces:,} ToyFaces 32×32, seed 0", beta=beta, lr=lr, minutes=minutes,
                test_l1=_l1(x_hat, test.images()),
                toy_frechet=round(metrics.toy_frechet(samples), 2))
    if attribute:
        card["obedience"] = round(metrics.obedience(samples, attribute, y), 4)
    save_weights(OUT / f"{name}.safetensors", model, bits=bits, **card)
    return card


def vae_(steps: int = 10_000, batch_size: int = 64, seed: int = 0) -> Card:
    """VAE on ToyFaces."""
    return _vae("vae", None, steps, batch_size, seed, width=32)


def vae_at(
    name: str, beta: float, steps: int = 2000, batch_size: int = 32, seed: int = 0
) -> Card:
    """A small VAE at a price: what chapter 2 trains at 0.03, all but the price alike."""
    return _vae(name, None, steps, batch_size, seed, width=48, beta=beta, lr=3e-3, faces=8192,
                squares=True, bits=8)


def cvae(steps: int = 6000, batch_size: int = 64, seed: int = 0) -> Card:
    """Conditional VAE on hair colour."""
    return _vae("cvae", "hair", steps, batch_size, seed, width=24, beta=0.3)


def vqvae_(steps: int = 12_000, batch_size: int = 64, seed: int = 0, lr: float = 3e-3) -> Card:
    """VQ-VAE on ToyFaces: 4×4 tokens of 512 codes."""
    torch.manual_seed(seed)
    model = vqvae.VQVAE()
    data = batches(ToyFaces(FACES, seed=0).images(), batch_size=batch_size, seed=seed)
    training = vqvae.train_vqvae(model, data, steps=steps, lr=lr)
    minutes = _steps("vqvae", training, steps,
                     lambda s: dict(mse=s.reconstruction, perplexity=s.perplexity))
    test = ToyFaces(TEST, seed=2).images()
    codes = _rounded(model).encode_indices(test)
    x_hat = model.decode_indices(codes)
    card = dict(steps=steps, batch_size=batch_size, seed=seed, data=TRAINING_SET, lr=lr,
                minutes=minutes, test_l1=_l1(x_hat, test), **_tokens(model, codes, x_hat))
    save_weights(OUT / "vqvae.safetensors", model, bits=16, **card)
    return card


def vqvae_brief(
    steps: int = 2700, batch_size: int = 64, seed: int = 0, lr: float = 3e-3
) -> Card:
    """The same VQ-VAE, trained for as many minutes as `ivqvae_judged`: its rival in chapter 4."""
    torch.manual_seed(seed)
    model = vqvae.VQVAE()
    data = batches(ToyFaces(FACES, seed=0).images(), batch_size=batch_size, seed=seed)
    began = time.process_time()
    _steps("vqvae_brief", vqvae.train_vqvae(model, data, steps=steps, lr=lr), steps,
           lambda s: dict(mse=s.reconstruction, perplexity=s.perplexity))
    minutes = (time.process_time() - began) / 60
    test = ToyFaces(TEST, seed=2).images()
    codes = _rounded(model).encode_indices(test)
    x_hat = model.decode_indices(codes)
    card = dict(steps=steps, batch_size=batch_size, seed=seed, data=TRAINING_SET, lr=lr,
                cpu_minutes=round(minutes, 1), test_l1=_l1(x_hat, test),
                test_perceptual=_perceptual(x_hat, test), **_tokens(model, codes, x_hat))
    save_weights(OUT / "vqvae_brief.safetensors", model, bits=8, **card)
    return card


def pixelcnn_(
    steps: int = 12_000, batch_size: int = 128, seed: int = 0, faces: int = 100_000,
    lr: float = 2e-3
) -> Card:
    """PixelCNN over the VQ-VAE's tokens, with and without the hair colour."""
    torch.manual_seed(seed)
    tokens = load_weights(vqvae.VQVAE, OUT / "vqvae.safetensors")
    drawn = ToyFaces(faces, seed=0)
    codes = torch.cat([tokens.encode_indices(images) for images in _in_parts(drawn)])
    model = pixelcnn.PixelCNN(tokens.quantizer.num_codes, num_classes=len(ATTRIBUTES["hair"]))
    data = batches(codes, drawn["hair"], batch_size=batch_size, seed=seed)
    training = pixelcnn.train_pixelcnn(model, data, steps=steps, lr=lr, seed=seed)
    minutes = _steps("pixelcnn", training, steps, lambda s: dict(bits=s.bits))
    test = ToyFaces(TEST, seed=2)
    with torch.no_grad():
        test_codes = tokens.encode_indices(test.images())
        logits = _rounded(model)(test_codes)
        bits = float(pixelcnn.bits_per_image(logits, test_codes))
    samples = tokens.decode_indices(pixelcnn.sample_codes(model, TEST, seed=1))
    asked = tokens.decode_indices(pixelcnn.sample_codes(model, TEST, test["hair"], seed=1))
    card = dict(steps=steps, batch_size=batch_size, seed=seed,
                data=f"tokens of {faces:,} ToyFaces 32×32, seed 0", lr=lr, minutes=minutes,
                test_bits=round(bits, 1), toy_frechet=round(metrics.toy_frechet(samples), 2),
                obedience=round(metrics.obedience(asked, "hair", test["hair"]), 4))
    save_weights(OUT / "pixelcnn.safetensors", model, bits=16, **card)
    return card


def ivqvae_(steps: int = 12_000, batch_size: int = 32, seed: int = 0, lr: float = 2e-3) -> Card:
    """IVQ-VAE, the small preset, with all its losses; the discriminator starts at 70 %."""
    torch.manual_seed(seed)
    model = ivqvae.IVQVAE(**ivqvae.PRESETS["small"])
    discriminator = ivqvae.PatchDiscriminator(width=32, layers=2)
    perceptual = ToyPerceptual()
    images = ToyFaces(FACES, seed=0).images()
    data = batches(images, batch_size=batch_size, seed=seed)
    training = ivqvae.train_ivqvae(
        model, data, steps=steps, lr=lr, perceptual=perceptual, discriminator=discriminator,
        start=max(1, int(0.7 * steps)))
    minutes = _steps("ivqvae", training, steps,
                     lambda s: dict(l1=s.l1, perceptual=s.perceptual, d=s.discriminator))
    _rounded(model).measure_latents(images)
    _rounded(model)
    test = ToyFaces(TEST, seed=2).images()
    codes = model.encode_indices(test)
    x_hat = model.decode_indices(codes)
    with torch.no_grad():
        pairs = zip(x_hat.split(500), test.split(500), strict=True)
        distance = torch.cat([perceptual(a, b) for a, b in pairs]).mean()
    card = dict(steps=steps, batch_size=batch_size, seed=seed, data=TRAINING_SET, lr=lr,
                minutes=minutes, test_l1=_l1(x_hat, test),
                test_perceptual=round(float(distance), 4), **_tokens(model, codes, x_hat))
    save_weights(OUT / "ivqvae.safetensors", model, bits=16, **card)
    return card


def _parts(
    name: str, features: bool, judged: bool, steps: int = 1600, seed: int = 0,
    start: int | None = None
) -> Card:
    """A short training of an IVQ-VAE of half the width with some of its losses.

    All are the same network up to `start`, from where on one is judged. The two with features are
    trained as one up to there, and the second that is asked for finds the first done.
    """
    model, minutes = losses.trained(seed, steps, features, judged, start)
    card: Card = dict(steps=steps, batch_size=losses.BATCH, seed=seed, data=TRAINING_SET,
                      lr=losses.LR)
    if judged:
        card |= dict(start=start or losses.start_of(steps), lambda_d=losses.LAMBDA_D)
    test = ToyFaces(TEST, seed=2).images()
    codes = model.encode_indices(test)
    x_hat = model.decode_indices(codes)
    card |= dict(cpu_minutes=round(minutes, 1), test_l1=_l1(x_hat, test),
                 test_perceptual=_perceptual(x_hat, test), **_tokens(model, codes, x_hat))
    save_weights(OUT / f"{name}.safetensors", model, bits=8, **card)
    return card


def ivqvae_l1(**options: Any) -> Card:
    """IVQ-VAE, a short training with L1 alone: what the other losses are compared with."""
    return _parts("ivqvae_l1", False, False, **options)


def ivqvae_features(**options: Any) -> Card:
    """The same training with the perceptual loss as well."""
    return _parts("ivqvae_features", True, False, **options)


def ivqvae_judged(**options: Any) -> Card:
    """The same with the perceptual loss and, from 60 % on, the discriminator."""
    return _parts("ivqvae_judged", True, True, **options)


def _denoiser(
    name: str, model: Any, data: tuple[Tensor, Tensor], null: int, steps: int, batch_size: int,
    seed: int, lr: float, drop: float, decay: float
) -> tuple[Any, Card]:
    """Train a diffusion model told the hair colour except in a share `drop` of the cases.

    Returns: (its running average, rounded, the beginning of its card).
    """
    generator = seeded(seed)
    average = ddpm.ema(model, decay)
    dropped = ((x, guidance.drop_labels(y, null, drop, generator))
               for x, y in batches(*data, batch_size=batch_size, seed=seed))
    training = ddpm.train_ddpm(model, dropped, ddpm.diffusion_of(model), steps=steps, lr=lr,
                               average=average, seed=seed)
    minutes = _steps(name, training, steps, lambda s: dict(loss=s.loss))
    card = dict(prediction=model.prediction, schedule=model.schedule, steps=steps,
                batch_size=batch_size, seed=seed, lr=lr, labels="hair", label_dropout=drop,
                average_decay=decay, minutes=minutes)
    return _rounded(average.module), card


@torch.no_grad()
def _test_loss(model: Any, x0: Tensor) -> float:
    generator = seeded(1)
    diffusion = ddpm.diffusion_of(model)
    t = torch.randint(diffusion.T, (len(x0),), generator=generator)
    eps = torch.randn(x0.shape, generator=generator)
    parts = zip(x0.split(500), t.split(500), eps.split(500), strict=True)
    losses = [ddpm.simple_loss(model, diffusion, *part) for part in parts]
    return round(float(torch.stack(losses).mean()), 5)


def unet_eps(
    steps: int = 14_000, batch_size: int = 32, seed: int = 0, lr: float = 1e-3,
    drop: float = 0.15, decay: float = 0.999
) -> Card:
    """U-Net on ToyFaces in pixels as in DDPM: it predicts ε, the schedule is linear.

    It is told the hair colour except in one case of seven.
    """
    torch.manual_seed(seed)
    faces, classes = ToyFaces(FACES, seed=0), len(ATTRIBUTES["hair"])
    model = unet.UNet(
        **unet.PRESETS["small"], num_classes=classes, prediction="eps", schedule="linear")
    data = faces.images(), faces["hair"]
    model, card = _denoiser(
        "unet_eps", model, data, classes, steps, batch_size, seed, lr, drop, decay)
    card.update(data=TRAINING_SET, test_loss=_test_loss(model, ToyFaces(TEST, seed=2).images()))
    save_weights(OUT / "unet_eps.safetensors", model, bits=16, **card)
    return card


def _one_of(hair: Tensor, smile: Tensor, generator: torch.Generator) -> Tensor:
    """What each face is told: its hair colour, 0 to 4; its smile, 5 to 7; or nothing, 8."""
    colours = len(ATTRIBUTES["hair"])
    nothing = colours + len(ATTRIBUTES["smile"])
    u = torch.rand(len(hair), generator=generator)
    told = torch.where(u < 0.7, colours + smile, nothing)
    return torch.where(u < 0.4, hair, told)


def unet_(
    steps: int = 22_000, batch_size: int = 16, seed: int = 0, lr: float = 1e-3,
    decay: float = 0.9995, weight: float = 1.0, most_noise: float = 1.0
) -> Card:
    """The course's U-Net: v, the cosine schedule, and a second loss for details.

    It is told the hair colour, or the mouth, or nothing.
    """
    torch.manual_seed(seed)
    faces, generator = ToyFaces(FACES, seed=0), seeded(seed)
    classes = [*ATTRIBUTES["hair"], *ATTRIBUTES["smile"]]
    model = unet.UNet(**unet.PRESETS["small"], num_classes=len(classes), prediction="v",
                      schedule="cosine")
    average = ddpm.ema(model, decay)
    told = ((x, _one_of(hair, smile, generator)) for x, hair, smile in batches(
        faces.images(), faces["hair"], faces["smile"], batch_size=batch_size, seed=seed))
    training = ddpm.train_ddpm(
        model, told, ddpm.diffusion_of(model), steps=steps, lr=lr, average=average, seed=seed,
        loss=details.detail_loss(ToyPerceptual(), weight, most_noise))
    minutes = _steps("unet", training, steps, lambda s: dict(loss=s.loss))
    model = _rounded(average.module)
    card: Card = dict(
        prediction="v", schedule="cosine", steps=steps, batch_size=batch_size, seed=seed, lr=lr,
        average_decay=decay, detail_weight=weight, detail_most_noise=most_noise,
        labels="hair or smile", classes=classes, minutes=minutes, data=TRAINING_SET,
        test_loss=_test_loss(model, ToyFaces(TEST, seed=2).images()))
    save_weights(OUT / "unet.safetensors", model, bits=16, **card)
    return card


def _fftd(
    name: str, prediction: str, schedule: str, steps: int, batch_size: int, seed: int, lr: float,
    drop: float, decay: float, faces: int
) -> Card:
    """FFTD, the small preset, on the IVQ-VAE's latents.

    It is told the hair colour except in one case of seven.
    """
    torch.manual_seed(seed)
    drawn, classes = ToyFaces(faces, seed=0), len(ATTRIBUTES["hair"])
    tokenizer = load_weights(ivqvae.IVQVAE, OUT / "ivqvae.safetensors")
    z = torch.cat([latents.encode(tokenizer, images).z for images in _in_parts(drawn)])
    model = fftd.FFTD(
        **fftd.PRESETS["small"], num_classes=classes, prediction=prediction, schedule=schedule)
    data = z, drawn["hair"]
    model, card = _denoiser(
        name, model, data, classes, steps, batch_size, seed, lr, drop, decay)
    test = latents.encode(tokenizer, ToyFaces(TEST, seed=2).images()).z
    card.update(data=f"latents of {faces:,} ToyFaces 32×32, seed 0",
                tokenizer=latents.fingerprint(tokenizer), test_loss=_test_loss(model, test))
    save_weights(OUT / f"{name}.safetensors", model, bits=16, **card)
    return card


def fftd_eps(
    steps: int = 8000, batch_size: int = 128, seed: int = 0, lr: float = 1e-3,
    drop: float = 0.15, decay: float = 0.999, faces: int = 50_000
) -> Card:
    """The paper's FFTD: it predicts ε, the schedule is linear."""
    return _fftd(
        "fftd_eps", "eps", "linear", steps, batch_size, seed, lr, drop, decay, faces)


def fftd_(
    steps: int = 8000, batch_size: int = 128, seed: int = 0, lr: float = 1e-3,
    drop: float = 0.15, decay: float = 0.999, faces: int = 50_000
) -> Card:
    """The course's FFTD: the paper's, but for v and the cosine schedule."""
    return _fftd("fftd", "v", "cosine", steps, batch_size, seed, lr, drop, decay, faces)


def flow_(
    steps: int = 8000, batch_size: int = 128, seed: int = 0, lr: float = 2e-3,
    decay: float = 0.999, faces: int = 50_000
) -> Card:
    """A narrow FFTD as a flow on the IVQ-VAE's latents, without labels."""
    torch.manual_seed(seed)
    tokenizer = load_weights(ivqvae.IVQVAE, OUT / "ivqvae.safetensors")
    drawn = ToyFaces(faces, seed=0)
    z = torch.cat([latents.encode(tokenizer, images).z for images in _in_parts(drawn)])
    model = fftd.FFTD(**transformer.TINY, prediction="velocity")
    return _flow("flow", model, (z,), steps, batch_size, seed, lr, decay,
                 data=f"latents of {faces:,} ToyFaces 32×32, seed 0")


def flow_straight(
    steps: int = 4000, batch_size: int = 128, seed: int = 1, lr: float = 1e-3,
    decay: float = 0.999, pairs: int = 50_000, euler: int = 20
) -> Card:
    """One round of reflow: `flow` goes on with pairs of noise and what it makes of the noise."""
    model = load_weights(fftd.FFTD, OUT / "flow.safetensors")
    noise = torch.randn(pairs, 4, 4, 4, generator=seeded(seed))
    data = flow_matching.reflow(model, noise, steps=euler)
    return _flow("flow_straight", model, data, steps, batch_size, seed, lr, decay, pairs=True,
                 data=f"{pairs:,} pairs that flow made in {euler} Euler steps")


def _flow(
    name: str, model: Any, tensors: tuple[Tensor, ...], steps: int, batch_size: int, seed: int,
    lr: float, decay: float, data: str, pairs: bool = False
) -> Card:
    average = ddpm.ema(model, decay)
    start = time.process_time()
    training = flow_matching.train_flow_matching(
        model, batches(*tensors, batch_size=batch_size, seed=seed), steps=steps, lr=lr,
        average=average, seed=seed, pairs=pairs)
    _steps(name, training, steps, lambda s: dict(loss=s.loss))
    minutes = round((time.process_time() - start) / 60)
    model = _rounded(average.module)
    tokenizer = load_weights(ivqvae.IVQVAE, OUT / "ivqvae.safetensors")
    card: Card = dict(
        prediction="velocity", times="uniform", steps=steps, batch_size=batch_size, seed=seed,
        lr=lr, average_decay=decay, data=data, tokenizer=latents.fingerprint(tokenizer),
        straightness=round(flow_matching.straightness(model, _noise(500)), 4),
        cpu_minutes=minutes)
    for count in (1, 2, 10):
        z = ddpm.last(flow_matching.euler_sample(model, _noise(2000), steps=count))
        card[f"toy_frechet_{count}"] = round(
            metrics.toy_frechet(latents.decode(tokenizer, z)), 2)
    save_weights(OUT / f"{name}.safetensors", model, bits=16, **card)
    return card


def _noise(n: int) -> Tensor:
    return torch.randn(n, 4, 4, 4, generator=seeded(7))


def _small_faces(n: int, seed: int) -> Tensor:
    """ToyFaces averaged to 16×16."""
    return torch.cat([shrunk(images, 16) for images in _in_parts(ToyFaces(n, seed=seed))])


def _mean_and_error(values: Tensor) -> list[float]:
    """A mean over images and its standard error."""
    return [round(float(values.mean()), 4), round(float(values.std() / len(values) ** 0.5), 4)]


def _frechets(images: Tensor, real: tuple[Tensor, Tensor]) -> list[float]:
    """Toy Fréchet distances of 16×16 images, enlarged by bicubic interpolation.

    To the real faces, and to real faces that went through 16×16 and back as well.
    """
    x = enlarged(images, 32)
    statistics = metrics.gaussian_statistics(metrics.toy_features(x))
    return [round(metrics.toy_frechet(x), 2),
            round(metrics.frechet_distance(*statistics, *real), 2)]


def glow_(
    steps: int = 16_000, batch_size: int = 32, seed: int = 0, lr: float = 5e-3, faces: int = 20_000
) -> Card:
    """Glow on ToyFaces of 16×16."""
    torch.manual_seed(seed)
    x, test = _small_faces(faces, 0), _small_faces(metrics.N_SAMPLES, 2)
    model = glow.Glow()
    data = batches(x, batch_size=batch_size, seed=seed)
    began = time.process_time()
    _steps("glow", flows.train_flow(model, data, steps=steps, lr=lr, seed=seed), steps,
           lambda s: dict(bits=s.bits))
    minutes = (time.process_time() - began) / 60
    _rounded(model)                     # the inverse is that of the rounded weights, as exact
    reference = enlarged(_small_faces(metrics.N_REFERENCE, metrics.REFERENCE_SEED), 32)
    real = metrics.gaussian_statistics(metrics.toy_features(reference))
    drawn = {t: _frechets(flows.sample(model, metrics.N_SAMPLES, t, seed=7), real)
             for t in (0.5, 0.7, 0.85, 1.0)}
    card: Card = dict(
        steps=steps, batch_size=batch_size, seed=seed, lr=lr,
        data=f"{faces:,} ToyFaces 32×32, seed 0, averaged to 16×16",
        cpu_minutes=round(minutes, 1), test_bits=_mean_and_error(flows.bits_per_dim(model, test)),
        gaussian_bits=_mean_and_error(likelihoods.gaussian_bits(x, test, 0)),
        toy_frechet={str(t): v for t, (v, _) in drawn.items()},
        frechet_at_16={str(t): v for t, (_, v) in drawn.items()},
        real_faces=_frechets(test, real))
    save_weights(OUT / "glow.safetensors", model, bits=16, **card)
    return card


def _size(*models: nn.Module) -> int:
    return sum(p.numel() for model in models for p in model.parameters())


def _diffused(model: Any, shape: tuple[int, ...], steps: int,
              clip: tuple[float, float] | None = None, second_order: bool = False) -> Tensor:
    noise = torch.randn(metrics.N_SAMPLES, *shape, generator=seeded(7))
    sample = ode.multistep_sample if second_order else ddim.ddim_sample
    return ddpm.last(sample(
        model, ddpm.diffusion_of(model), noise, steps=steps, clip=clip, batch_size=64,
        progress=True))


def _pixels(name: str, steps: int) -> tuple[int, Tensor]:
    """Parameters and samples of a U-Net."""
    net = load_weights(unet.UNet, name)
    return _size(net), _diffused(net, (3, 32, 32), steps, (-1, 1)).clamp(-1, 1)


def _straight(name: str, steps: int) -> tuple[int, Tensor]:
    """Parameters and samples of a flow, with its decoder."""
    net: Any = load_weights(fftd.FFTD, name)
    tokenizer = load_weights(ivqvae.IVQVAE, "ivqvae")
    z = ddpm.last(flow_matching.euler_sample(net, _noise(metrics.N_SAMPLES), steps=steps))
    parameters = _size(tokenizer, net) + tokenizer.quantizer.codebook.numel()  # a buffer
    return parameters, latents.decode(tokenizer, z, made_with=net.card["tokenizer"])


def _latents(name: str, steps: int, second_order: bool = False) -> tuple[int, Tensor]:
    """Parameters and samples of an FFTD, with its decoder."""
    net: Any = load_weights(fftd.FFTD, name)
    tokenizer = load_weights(ivqvae.IVQVAE, "ivqvae")
    z = _diffused(net, (4, 4, 4), steps, second_order=second_order)
    parameters = _size(tokenizer, net) + tokenizer.quantizer.codebook.numel()  # a buffer
    return parameters, latents.decode(tokenizer, z, made_with=net.card["tokenizer"])


def _gaussian() -> tuple[int, Tensor]:
    model = GaussianModel(ToyFaces(4096, seed=0).images())
    return model.parameters, model.sample(metrics.N_SAMPLES)


def _gan() -> tuple[int, Tensor]:
    model = load_weights(gan.Generator, "gan")
    return _size(model), gan.sample(model, metrics.N_SAMPLES, seed=7)


def _autoencoder() -> tuple[int, Tensor]:
    model = load_weights(vae.VAE, "vae")
    return _size(model), vae.sample(model, metrics.N_SAMPLES, seed=7)


@torch.no_grad()
def _autoencoder_and_mixture() -> tuple[int, Tensor]:
    """The VAE's decoder with a mixture of Gaussians, fitted to its codes, for a prior."""
    model = load_weights(vae.VAE, "vae")
    codes = [model.encode(x)[0] for x in _in_parts(ToyFaces(FACES, seed=0))]
    mixture = GaussianMixture(torch.cat(codes), 120)
    images = model.decode(mixture.sample(metrics.N_SAMPLES, seed=7))
    return _size(model) + mixture.parameters, images


def _tokens_and_prior() -> tuple[int, Tensor]:
    tokens = load_weights(vqvae.VQVAE, "vqvae")
    prior = load_weights(pixelcnn.PixelCNN, "pixelcnn")
    codes = pixelcnn.sample_codes(prior, metrics.N_SAMPLES, seed=7)
    parameters = _size(tokens, prior) + tokens.quantizer.codebook.numel()  # a buffer
    return parameters, tokens.decode_indices(codes)


def _told() -> tuple[int, Tensor]:
    """Parameters and samples of the FFTD told by a sentence, each for a caption of its own."""
    net = load_weights(text_to_image.TextFFTD, "text_fftd")
    tokenizer = load_weights(ivqvae.IVQVAE, "ivqvae")
    texts = captions(ToyFaces(metrics.N_SAMPLES, seed=31).labels, seed=7)
    parameters = _size(tokenizer, net) + tokenizer.quantizer.codebook.numel()  # a buffer
    return parameters, sentences.faces_for(net, texts, 7, 1.0)


# a row of the results table: its chapter, and what gives the number of parameters and the samples
ROWS: dict[str, tuple[int | str, Callable[[], tuple[int, Tensor]]]] = {
    "real faces (fresh)": (0, lambda: (0, ToyFaces(metrics.N_SAMPLES, seed=21).images())),
    "Gaussian": (0, _gaussian),
    "GAN": (1, _gan),
    "VAE": (2, _autoencoder),
    "VAE + mixture of Gaussians": (2, _autoencoder_and_mixture),
    "VQ-VAE + PixelCNN": (3, _tokens_and_prior),
    "U-Net, predicting ε, 50 steps": (5, lambda: _pixels("unet_eps", 50)),
    "U-Net, predicting v, 50 steps": (5, lambda: _pixels("unet", 50)),
    "IVQ-VAE + FFTD, the paper's, 100 steps": (7, lambda: _latents("fftd_eps", 100)),
    "IVQ-VAE + FFTD, v, 10 steps of order 2": (7, lambda: _latents("fftd", 10, True)),
    "IVQ-VAE + FFTD, v, 100 steps": (7, lambda: _latents("fftd", 100)),
    "IVQ-VAE + narrow FFTD, flow, 10 steps": ("x1", lambda: _straight("flow", 10)),
    "IVQ-VAE + narrow FFTD, reflow, 1 step": ("x1", lambda: _straight("flow_straight", 1)),
    "IVQ-VAE + FFTD, told by a sentence": ("x2", _told),
}


def results() -> list[Card]:
    """The rows of the results table, measured on what lies in data/pretrained."""
    rows = []
    for name, (chapter, draw) in ROWS.items():
        parameters, images = draw()
        frechet = round(metrics.toy_frechet(images), 2)
        rows.append(dict(model=name, chapter=chapter, parameters=parameters, frechet=frechet))
    write_text(OUT / "results.json", json.dumps(rows, indent=1) + "\n")
    return rows


README = """# Pretrained weights

What longer training gives, so that every chapter can show it. All were trained on ToyFaces, so no \
photograph is in them.
They are safetensors files with the model's configuration and this card inside; nothing here is a \
pickle. Licence: CC BY 4.0.

`make pretrained` rebuilds everything from the seeds below, and this page with it (another kind of \
processor gives weights that
differ in the last digits, and after thousands of GAN steps visibly).

In 8 bits are {packed}:
whole numbers and a scale for each row of a tensor (`minigen.packing`), in about half of what 16 \
bits take; they were measured before they were
packed, and measure the same within 2 % when they are read back.

| file | class | parameters | kB | built by | trained with | measured | SHA-256 |
|---|---|---|---|---|---|---|---|
{rows}

`results.json` holds the results table: toy Fréchet distance of 2,000 samples to 10,000 ToyFaces \
(seed 1), in the features of
`classifier.safetensors`, whose statistics for those 10,000 are `toy_reference.safetensors`.
"""
MEASURED = ("test_accuracy", "test_l1", "test_perceptual", "test_loss", "test_bits", "toy_frechet",
            "toy_frechet_of_reconstructions", "codes_used", "perplexity", "obedience", "minutes",
            "cpu_minutes", "straightness", "toy_frechet_1", "toy_frechet_2", "toy_frechet_10",
            "gaussian_bits", "frechet_at_16", "real_faces",
            "recall_at_1", "zero_shot", "kept", "cosine_to_the_picture", "cosine_of_the_sentence",
            "psnr", "ssim")


def _in_words(entries: Card) -> str:
    words = "; ".join(f"{k.replace('_', ' ')} {v}" for k, v in entries.items())
    return words.replace("{", "").replace("}", "")


def card() -> str:
    """README.md of data/pretrained, from what the files say of themselves."""
    rows, packed = [], []
    for path in sorted(OUT.glob("*.safetensors")):
        with safe_open(path, "pt") as f:
            meta = f.metadata() or {}
            state = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118 (not a dict)
        whole = unpacked(state)
        if len(whole) < len(state):
            packed.append(path.stem)
        entries = json.loads(meta.get("card", "{}"))
        trained = {k: v for k, v in entries.items() if k not in MEASURED}
        measured = {k: v for k, v in entries.items() if k in MEASURED}
        recipe = path.stem if path.stem in RECIPES else "classifier"
        cells = [
            path.name,
            meta.get("class", "mean and covariance"),
            f"{sum(v.numel() for v in whole.values()):,}",
            f"{path.stat().st_size / 1e3:.0f}",
            f"`python tools/pretrain.py {recipe}`",
            _in_words(trained),
            _in_words(measured),
            f"`{sha256_of(path)}`",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    text = README.format(rows="\n".join(rows), packed=listed(packed, "and") or "(none here)")
    write_text(OUT / "README.md", text)
    return f"{len(rows)} files"


RECIPES: dict[str, Callable[[], Any]] = {
    "classifier": classifier,
    "gan": gan_,
    "cgan": cgan,
    "vae": vae_,
    "vae_b03": functools.partial(vae_at, "vae_b03", 0.3),
    "vae_b3": functools.partial(vae_at, "vae_b3", 3.0),
    "cvae": cvae,
    "vqvae": vqvae_,
    "vqvae_brief": vqvae_brief,
    "pixelcnn": pixelcnn_,
    "ivqvae": ivqvae_,
    "ivqvae_l1": ivqvae_l1,
    "ivqvae_features": ivqvae_features,
    "ivqvae_judged": ivqvae_judged,
    "unet_eps": unet_eps,
    "unet": unet_,
    "fftd_eps": fftd_eps,
    "fftd": fftd_,
    "flow": flow_,
    "flow_straight": flow_straight,
    "glow": glow_,
    **pretrain_text.RECIPES,
    **pretrain_pictures.RECIPES,
    **pretrain_style.RECIPES,
    **pretrain_personal.RECIPES,
    "results": results,
    "card": card,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    text = f"{', '.join(RECIPES)} (default: all, in this order)"
    parser.add_argument("names", nargs="*", metavar="NAME", help=text)
    names = parser.parse_args().names or list(RECIPES)
    if unknown := [n for n in names if n not in RECIPES]:
        parser.error(f"there is no recipe {unknown[0]}; there are {', '.join(RECIPES)}")
    for name in names:
        print(name, json.dumps(RECIPES[name](), ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
