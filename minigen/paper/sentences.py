"""Cells of excursion 2's tables: does a face obey the sentence it was drawn for?"""

import functools
from typing import Any

import torch
from torch import Tensor

from minigen import ddpm, ivqvae, latents, metrics
from minigen import text_to_image as t2i
from minigen.captions import COMBINATIONS, captions, in_combination
from minigen.clip import CLIP, clip_score
from minigen.data import ToyFaces
from minigen.files import load_weights
from minigen.paper import transformer
from minigen.prompts import labels_told

STEPS = 10                                        # of second order
DRAWN = 1000                                      # captions of a kind, for a cell
SCALE = 2.0                                       # of guidance, where a table does not vary it


def obedience(got: Tensor, want: Tensor) -> float:
    """Of what sentences told, the share that came out.

    Shapes: got (N, 9) labels read from pictures, want (N, 9), −1 where nothing was told.
    """
    return float((got == want)[want >= 0].float().mean())


def seen(n: int, seed: int, phrasing: str = "usual") -> tuple[list[str], Tensor]:
    """n captions of faces of which training had the like, and those faces' labels."""
    faces = ToyFaces(2 * n, seed=5000 + seed)
    labels = faces.labels[~in_combination(faces.labels)][:n]
    return captions(labels, seed=seed, phrasing=phrasing), labels


def held_out(n: int, seed: int) -> list[str]:
    """n captions that tell a combination that training never had, a quarter of each of the four."""
    texts = []
    for k, combination in enumerate(COMBINATIONS):
        faces = ToyFaces(100 * n, seed=6000 + seed)
        labels = faces.labels[in_combination(faces.labels, k)][: n // len(COMBINATIONS)]
        texts += captions(labels, seed=seed + k, told=list(combination))
    return texts


def faces_for(model: Any, texts: list[str], seed: int, scale: float, tokenizer: Any = None
              ) -> Tensor:
    """A face for each sentence; each has a noise of its own. tokenizer: else the course's."""
    tokenizer = tokenizer or load_weights(ivqvae.IVQVAE, "ivqvae")
    return torch.cat([
        t2i.draw(model, tokenizer, texts[i : i + 250], scale=scale, steps=STEPS, seed=seed + i)
        for i in range(0, len(texts), 250)])


def measured(model: Any, n: int, seed: int, scale: float) -> dict[str, float]:
    """Obedience with n captions each of three kinds, and how the first kind's faces look."""
    read = metrics.attribute_classifier().predict
    texts, _ = seen(n, seed)
    x = faces_for(model, texts, seed, scale)
    want = labels_told(texts)
    values = dict(seen=obedience(read(x), want))
    for name, others in (("held_out", held_out(n, seed)), ("new_words", seen(n, seed, "new")[0])):
        drawn = faces_for(model, others, seed, scale)
        values[name] = obedience(read(drawn), labels_told(others))
    right = (read(x) == want) | (want < 0)
    return values | dict(all_right=float(right.all(1).float().mean()),
                         frechet=metrics.toy_frechet(x))


@functools.cache
def _faces() -> tuple[Tensor, Tensor]:
    """Latents and labels of the 20,000 faces, without the combinations that are held out."""
    labels = ToyFaces(20_000, seed=0).labels
    kept = ~in_combination(labels)
    return transformer.tokens()[1][kept], labels[kept]


def sentences_cell(seed: int, steps: int, way: str, frozen: bool) -> dict[str, float]:
    """Train a text-conditioned FFTD of width 64; draw for 1,000 captions of each kind.

    frozen: its text encoder is CLIP's, as it is; else it is learned with the rest.
    Measured: shares of what was told that came out, in captions as in training, of combinations
    held out, in phrasings held out; share of faces of the first kind with nothing wrong; their toy
    Fréchet distance.
    """
    torch.manual_seed(seed)
    model = t2i.TextFFTD(way, frozen, **transformer.TINY, prediction="v", schedule="cosine")
    if frozen:
        model.told_by(load_weights(CLIP, "clip").text_encoder)
    average: Any = ddpm.ema(model, 0.99)
    data = t2i.caption_batches(*_faces(), seed=seed)
    for _ in ddpm.train_ddpm(model, data, ddpm.diffusion_of(model), steps=steps, lr=2e-3,
                             average=average, seed=seed):
        pass
    trained = average.module.eval()
    trained.card = dict(tokenizer=latents.fingerprint(load_weights(ivqvae.IVQVAE, "ivqvae")))
    return measured(trained, DRAWN, seed, SCALE)


def prompting_cell(seed: int, images: int, scale: float) -> dict[str, float]:
    """Draw with the longer-trained network at a guidance scale, 1,000 captions of each kind.

    Measured: as `sentences_cell`; and of the faces of the first kind the mean CLIP score, and their
    diversity: the features' variance within eight faces of one sentence, over that of real faces
    drawn anew for what the sentence tells.
    """
    model, clip = load_weights(t2i.TextFFTD, "text_fftd"), load_weights(CLIP, "clip")
    values = measured(model, images, seed, scale)
    texts, labels = seen(64, seed + 50)
    drawn = faces_for(model, [t for t in texts for _ in range(8)], seed + 50, scale)
    real = _others(labels, labels_told(texts), seed)
    values["clip"] = float(clip_score(clip, drawn, [t for t in texts for _ in range(8)]).mean())
    values["diversity"] = _spread(drawn) / _spread(real)
    return values


def _others(labels: Tensor, told: Tensor, seed: int) -> Tensor:
    """Eight real faces for each row: what was told as it is, the rest by chance."""
    fresh = ToyFaces(8 * len(labels), seed=7000 + seed)
    kept = told.repeat_interleave(8, 0)
    fresh.labels = torch.where(kept >= 0, kept, fresh.labels)
    return fresh.images()


def _spread(x: Tensor) -> float:
    """The features' variance within each eight, summed over features, mean over the eights."""
    features = metrics.toy_features(x).unflatten(0, (-1, 8))          # (N / 8, 8, 64)
    return float(features.var(1).sum(1).mean())
