"""Recipes of excursion 2's weights, which `tools/pretrain.py` runs: clip, text_fftd, prior, unclip.

All leave out the faces with the combinations that `minigen.captions` holds out.
"""

import time
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from minigen import ddpm, ivqvae, latents, metrics, unclip
from minigen import text_to_image as t2i
from minigen.captions import captions, in_combination
from minigen.clip import (
    CLIP,
    embed_images,
    embed_texts,
    pair_batches,
    readings,
    retrieval,
    train_clip,
    zero_shot,
)
from minigen.common import generator as seeded
from minigen.data import ATTRIBUTES, ToyFaces, batches, draw_faces
from minigen.files import data_path, load_weights, save_weights
from minigen.paper import sentences

OUT = data_path("pretrained")
FACES, TEST = 20_000, 1000  # to learn from, and to be measured with (CLIP with twice as many)
Card = dict[str, Any]  # what a file of weights says of itself
TRAINED_ON = "ToyFaces 32×32, seed 0, without the combinations held out"


def run(name: str, training: Iterable[Any], total: int) -> int:
    """Run a training to its end, with a progress bar; returns the processor's minutes."""
    start = time.process_time()
    for s in (bar := tqdm(training, desc=name, total=total, mininterval=2)):
        if s.step % 250 == 0:
            bar.set_postfix(loss=s[1])
    return round((time.process_time() - start) / 60)


def _rounded(model: Any) -> Any:
    """The model as it will be when it is read back from 16-bit weights."""
    return model.half().float().eval()


def _denoiser(
    name: str, model: Any, data: Iterable[Any], steps: int, lr: float, decay: float, seed: int
) -> tuple[Any, int]:
    """Train a diffusion model; returns its running average, rounded, and the minutes."""
    average: Any = ddpm.ema(model, decay)
    training = ddpm.train_ddpm(model, data, ddpm.diffusion_of(model), steps=steps, lr=lr,
                               average=average, seed=seed)
    minutes = run(name, training, steps)
    return _rounded(average.module), minutes


def clip_(steps: int = 2000, batch_size: int = 128, seed: int = 0, lr: float = 1e-3) -> Card:
    """CLIP on ToyFaces and their captions."""
    torch.manual_seed(seed)
    model, faces = CLIP(), ToyFaces(FACES, seed=0)
    data = pair_batches(faces, batch_size, seed=seed)
    minutes = run("clip", train_clip(model, data, steps=steps, lr=lr), steps)
    model = _rounded(model)
    test = ToyFaces(2 * TEST, seed=2)
    x = test.images()
    asked = captions(test.labels[:256], seed=3)
    full = captions(test.labels[:256], seed=3, told=list(ATTRIBUTES))
    u = embed_images(model, x[:256])
    read = {name: round(float((zero_shot(model, x, readings(name)) == test[name]).float().mean()),
                        4) for name in ATTRIBUTES}
    card: Card = dict(
        steps=steps, batch_size=batch_size, seed=seed, lr=lr, data=f"{FACES:,} {TRAINED_ON}",
        cpu_minutes=minutes,
        recall_at_1=[round(retrieval(u, embed_texts(model, t))[0], 4) for t in (asked, full)],
        zero_shot=read)
    save_weights(OUT / "clip.safetensors", model, bits=16, **card)
    return card


def _faces(count: int) -> tuple[Tensor, Tensor, Tensor, str]:
    """Latents, labels and jitter of the faces that are trained on, and the tokenizer's mark."""
    drawn = ToyFaces(count, seed=0)
    kept = ~in_combination(drawn.labels)
    labels, jitter = drawn.labels[kept], drawn.jitter[kept]
    tokenizer = load_weights(ivqvae.IVQVAE, OUT / "ivqvae.safetensors")
    parts = zip(labels.split(1000), jitter.split(1000), strict=True)
    z = torch.cat([latents.encode(tokenizer, draw_faces(*part)).z for part in parts])
    return z, labels, jitter, latents.fingerprint(tokenizer)


def text_fftd(
    steps: int = 8000, batch_size: int = 128, seed: int = 0, lr: float = 2e-3, drop: float = 0.15,
    decay: float = 0.999, faces: int = 50_000, dim: int = 96, captions_a_kind: int = 1000
) -> Card:
    """A narrow FFTD told by a sentence, by cross-attention; its text encoder is its own."""
    torch.manual_seed(seed)
    z, labels, _, mark = _faces(faces)
    model: Any = t2i.TextFFTD("words", dim=dim, heads=4, prediction="v", schedule="cosine")
    data = t2i.caption_batches(z, labels, batch_size, drop, seed)
    model, minutes = _denoiser("text_fftd", model, data, steps, lr, decay, seed)
    card: Card = dict(
        prediction="v", schedule="cosine", steps=steps, batch_size=batch_size, seed=seed, lr=lr,
        caption_dropout=drop, average_decay=decay, data=f"latents of {faces:,} {TRAINED_ON}",
        tokenizer=mark, cpu_minutes=minutes)
    model.card = card
    card["obedience"] = {k: round(v, 4) for k, v in sentences.measured(
        model, captions_a_kind, seed=0, scale=sentences.SCALE).items()}
    save_weights(OUT / "text_fftd.safetensors", model, bits=16, **card)
    return card


def prior_(
    steps: int = 6000, batch_size: int = 256, seed: int = 0, lr: float = 1e-3, drop: float = 0.1,
    decay: float = 0.999, faces: int = 20_000
) -> Card:
    """From CLIP's embedding of a sentence to that of a picture, by diffusion; it guesses x0."""
    torch.manual_seed(seed)
    clip = load_weights(CLIP, OUT / "clip.safetensors")
    _, labels, jitter, _ = _faces(faces)
    parts = zip(labels.split(1000), jitter.split(1000), strict=True)
    image = torch.cat([embed_images(clip, draw_faces(*part)) for part in parts])
    texts = torch.stack([embed_texts(clip, captions(labels, seed=k)) for k in range(8)])
    model: Any = unclip.Prior()
    generator = seeded(seed)

    def pairs():
        rows = torch.arange(len(image))
        for (k,) in batches(rows, batch_size=batch_size, seed=seed):
            which = torch.randint(len(texts), (len(k),), generator=generator)
            told = unclip.scaled(texts[which, k])
            untold = torch.rand(len(k), 1, generator=generator) < drop
            yield unclip.scaled(image[k]), torch.where(untold, model.nothing, told)

    model, minutes = _denoiser("prior", model, pairs(), steps, lr, decay, seed)
    test = ToyFaces(TEST, seed=2)
    asked = captions(test.labels, seed=3, told=list(ATTRIBUTES))
    text = embed_texts(clip, asked)
    guess = unclip.embeddings_of(model, clip, asked)
    real = embed_images(clip, test.images())
    card: Card = dict(
        prediction="x0", schedule="cosine", steps=steps, batch_size=batch_size, seed=seed, lr=lr,
        caption_dropout=drop, average_decay=decay, data=f"embeddings of {faces:,} {TRAINED_ON}",
        clip=latents.fingerprint(clip), cpu_minutes=minutes,
        cosine_to_the_picture=round(float(F.cosine_similarity(guess, real).mean()), 4),
        cosine_of_the_sentence=round(float(F.cosine_similarity(text, real).mean()), 4))
    save_weights(OUT / "prior.safetensors", model, bits=16, **card)
    return card


def unclip_(
    steps: int = 5000, batch_size: int = 128, seed: int = 0, lr: float = 2e-3, drop: float = 0.1,
    decay: float = 0.999, faces: int = 20_000
) -> Card:
    """A narrow FFTD told by a picture's CLIP embedding: the decoder of DALL-E 2."""
    torch.manual_seed(seed)
    clip = load_weights(CLIP, OUT / "clip.safetensors")
    z, labels, jitter, mark = _faces(faces)
    parts = zip(labels.split(1000), jitter.split(1000), strict=True)
    image = unclip.scaled(torch.cat([embed_images(clip, draw_faces(*p)) for p in parts]))
    model: Any = unclip.EmbeddedFFTD(dim=64, heads=2, prediction="v", schedule="cosine")
    generator = seeded(seed)

    def pairs():
        for x, y in batches(z, image, batch_size=batch_size, seed=seed):
            untold = torch.rand(len(x), 1, generator=generator) < drop
            yield x, torch.where(untold, model.nothing, y)

    model, minutes = _denoiser("unclip", model, pairs(), steps, lr, decay, seed)
    card: Card = dict(
        prediction="v", schedule="cosine", steps=steps, batch_size=batch_size, seed=seed, lr=lr,
        embedding_dropout=drop, average_decay=decay, data=f"latents of {faces:,} {TRAINED_ON}",
        tokenizer=mark, clip=latents.fingerprint(clip), cpu_minutes=minutes)
    model.card = card
    test = ToyFaces(TEST, seed=2)
    told = embed_images(clip, test.images())
    tokenizer = load_weights(ivqvae.IVQVAE, OUT / "ivqvae.safetensors")
    x = unclip.decoded(model, tokenizer, told)
    card["toy_frechet"] = round(metrics.toy_frechet(x), 2)
    right = metrics.attribute_classifier().predict(x) == test.labels
    card["kept"] = {name: round(float(share), 4)
                    for name, share in zip(ATTRIBUTES, right.float().mean(0), strict=True)}
    save_weights(OUT / "unclip.safetensors", model, bits=16, **card)
    return card


RECIPES = {"clip": clip_, "text_fftd": text_fftd, "prior": prior_, "unclip": unclip_}
