"""Cells of excursion 4's tables: what becomes of a person in five pictures, and of all others."""

import functools
from typing import Any

import torch
from torch import Tensor

from minigen import characters, latents, metrics, personalise
from minigen import text_to_image as t2i
from minigen.captions import WORDS, captions
from minigen.data import ToyFaces
from minigen.files import load_weights
from minigen.paper.sentences import faces_for, obedience
from minigen.prompts import labels_told

WORD, PICTURES, PRIOR = "zuv", 5, 256
ORDINARY = 1000                                   # captions, and of fresh pictures half as many
PLAIN = 200                                       # faces for "a zuv person" alone
# every hair on every background: what no picture shows
ELSEWHERE = [f"a {{}}person with {hair[0]} hair on a {wall[0]} background"
             for hair in WORDS["hair"].values() for wall in WORDS["background"].values()]


@functools.cache
def drawer() -> Any:
    return characters.drawing_beards()


@functools.cache
def prior(kind: str, seed: int) -> personalise.Prior:
    """What the untouched model draws: "captions" of all kinds, or the "class" alone."""
    sentences = {"captions": None, "class": [f"a {personalise.LIKE}"]}[kind]
    return personalise.prior_of(load_weights(t2i.TextFFTD, "text_fftd"), PRIOR, sentences,
                                seed=seed)


def trained(seed: int, steps: int, method: str, kept: str = "", pictures: int = PICTURES,
            rank: int = 4, told: bool = True) -> t2i.TextFFTD:
    """The text model after it has seen the pictures; kept: the prior's kind, or none.

    told: walls and shirts are said; else all that is said is "a zuv person".
    Inversion, whose one vector needs longer, has half as many steps again.
    """
    base = load_weights(t2i.TextFFTD, "text_fftd")
    images, labels = characters.zuv(pictures, seed)
    z = personalise.encode_pictures(drawer(), images)
    model = personalise.begin(base, WORD, method, rank=rank, seed=seed)
    said = characters.said_of(labels, WORD)
    for _ in personalise.train(
            model, z, said if told else [texts[:1] for texts in said], lr=personalise.RATES[method],
            steps=steps * 3 // 2 if method == "inversion" else steps,
            prior=prior(kept, seed) if kept else None, seed=seed):
        pass
    return model


def personal_cell(seed: int, steps: int, method: str = "", kept: str = "",
                  pictures: int = PICTURES, rank: int = 4, told: bool = True) -> dict[str, float]:
    """Learn Zuv and draw.

    beard: share of "a zuv person" with a white beard; elsewhere: the same where hair and background
    are told; obeyed: share of these that came out; features: distance to the nearest picture's
    features, over that of fresh pictures; copies: nearer than 99 % of fresh pictures. leak: share
    of ordinary captions' faces with a beard; ordinary, frechet: their obedience and toy Fréchet
    distance; parameters: that were trained.
    """
    if method:
        model, word = trained(seed, steps, method, kept, pictures, rank, told), f"{WORD} "
        learned = sum(p.numel() for p in personalise.learned(model).values())
    else:                                         # nothing was learned: "a person"
        model, word, learned = load_weights(t2i.TextFFTD, "text_fftd"), "", 0
    read = metrics.attribute_classifier().predict
    own = latents.decode(drawer(), personalise.encode_pictures(
        drawer(), characters.zuv(pictures, seed)[0]))
    fresh = latents.decode(drawer(), personalise.encode_pictures(
        drawer(), characters.zuv(ORDINARY // 2, 1000 + seed)[0]))
    plain = draw(model, [f"a {word}person"] * PLAIN, seed)
    elsewhere = draw(model, [text.format(word) for text in ELSEWHERE] * 5, seed + 300)
    want = labels_told([text.format("") for text in ELSEWHERE] * 5)
    texts = captions(ToyFaces(ORDINARY, seed=5000 + seed).labels, seed=seed)
    others = draw(model, texts, seed + 600)
    return dict(
        beard=share(plain), elsewhere=share(elsewhere), obeyed=obedience(read(elsewhere), want),
        features=_apart(plain, own) / _apart(fresh, own),
        copies=personalise.copied(plain, own, fresh), leak=share(others),
        ordinary=obedience(read(others), labels_told(texts)), frechet=metrics.toy_frechet(others),
        parameters=learned)


def draw(model: t2i.TextFFTD, texts: list[str], seed: int) -> Tensor:
    """A face for each sentence, by the decoder that can draw a beard."""
    return faces_for(model, texts, seed, 2.0, drawer())


def share(x: Tensor) -> float:
    """Share of faces with a white beard."""
    return float(characters.bearded(x).float().mean())


def _apart(x: Tensor, pictures: Tensor) -> float:
    """Mean distance of features to those of the nearest picture."""
    a, b = metrics.toy_features(x), metrics.toy_features(pictures)
    return float(torch.cdist(a, b).amin(1).mean())
