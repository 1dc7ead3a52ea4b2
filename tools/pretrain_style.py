"""Recipe of excursion 3's weights, which `tools/pretrain.py` runs: adain."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from minigen import metrics, style_decoder
from minigen.data import ATTRIBUTES, ToyFaces
from minigen.files import data_path, save_weights
from minigen.styles import STYLES, draw_style

OUT = data_path("pretrained")
Card = dict[str, Any]  # what a file of weights says of itself
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
FIRST_TEST = 1000      # style pictures with seeds from here on are never trained on


def still_read(
    decoder: Any, name: str, strengths: Sequence[float], faces: int, seed: int
) -> Tensor:
    """Share of repainted faces whose attributes the classifier reads as before, (strengths, 9).

    Each face has a picture of the style of its own, one that was not trained on.
    """
    test = ToyFaces(faces, seed=20 + seed)
    first = FIRST_TEST + seed * faces
    x, pictures = test.images(), torch.cat([draw_style(name, seed=first + k) for k in range(faces)])
    shares = []
    for strength in strengths:
        painted = style_decoder.stylise(decoder, x, pictures, strength)
        read = metrics.attribute_classifier().predict(painted)
        shares.append((read == test.labels).float().mean(0))
    return torch.stack(shares)


def adain_(
    steps: int = 1000, batch_size: int = 16, seed: int = 0, lr: float = 2e-3, weight: float = 10.0,
    layer: int = 2, width: int = 64, faces: int = 4000, pictures: int = 60, counted: int = 60
) -> Card:
    """AdaIN's decoder, on faces, pictures of each style, and some faces as styles."""
    torch.manual_seed(seed)
    content = ToyFaces(faces, seed=0).images()
    drawn = [draw_style(name, seed=k) for name in STYLES for k in range(pictures)]
    styles = torch.cat([*drawn, content[: len(drawn) // 5]])
    decoder: Any = style_decoder.StyleDecoder(layer, width)
    data = style_decoder.style_batches(content, styles, batch_size, seed)
    start = time.process_time()
    training = style_decoder.train_adain(decoder, data, steps=steps, weight=weight, lr=lr)
    for s in (bar := tqdm(training, desc="adain", total=steps, mininterval=2)):
        if s.step % 50 == 0:
            bar.set_postfix(content=s.content, style=s.style)
    seconds = round(time.process_time() - start)
    decoder = decoder.half().float().eval()          # as it will be when it is read back
    card: Card = dict(
        steps=steps, batch_size=batch_size, seed=seed, lr=lr, style_weight=weight,
        data=f"{faces:,} ToyFaces 32×32, seed 0; {pictures} pictures of each style, seeds from 0",
        cpu_seconds=seconds, attributes=list(ATTRIBUTES))
    card["strengths"] = list(STRENGTHS)
    card["still_read"], card["still_read_at_1"] = {}, {}
    for name in STYLES:
        shares = torch.stack([still_read(decoder, name, STRENGTHS, counted, k) for k in range(3)])
        means = shares.mean(2)                           # (3 seeds, strengths)
        card["still_read"][name] = [[round(float(m.mean()), 3), round(float(m.std()), 3)]
                                    for m in means.T]
        card["still_read_at_1"][name] = [round(v, 3) for v in shares[:, -1].mean(0).tolist()]
    save_weights(OUT / "adain.safetensors", decoder, bits=16, **card)
    return card


RECIPES = {"adain": adain_}
