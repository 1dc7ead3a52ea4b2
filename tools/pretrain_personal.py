"""Recipe of excursion 4's weights, which `tools/pretrain.py` runs: decoder_beard."""

from typing import Any

import torch
from pretrain_text import run

from minigen import characters, latents, metrics
from minigen.data import ToyFaces
from minigen.files import data_path, load_weights, save_weights
from minigen.ivqvae import IVQVAE, Decoder
from minigen.perceptual import ToyPerceptual

OUT = data_path("pretrained")
Card = dict[str, Any]  # what a file of weights says of itself


def decoder_beard(
    steps: int = 2000, batch_size: int = 32, seed: int = 0, lr: float = 2e-3, counted: int = 2000
) -> Card:
    """IVQ-VAE's decoder, trained on where it stands, on faces of which half have a beard."""
    tokenizer: Any = load_weights(IVQVAE, "ivqvae")
    before = _measured(tokenizer, counted)
    training = characters.learn_to_draw(
        tokenizer, ["beard"], steps=steps, batch_size=batch_size, lr=lr,
        perceptual=ToyPerceptual(), seed=seed)
    minutes = run("decoder_beard", training, steps)
    about: Card = dict(
        steps=steps, batch_size=batch_size, seed=seed, lr=lr, cpu_minutes=minutes,
        data="20,000 ToyFaces 32×32, seed 20,000, half of each batch with a white beard",
        tokenizer=latents.space_of(tokenizer), before=before)
    file = OUT / "decoder_beard.safetensors"
    save_weights(file, tokenizer.decoder, bits=8)
    tokenizer.decoder = load_weights(Decoder, file)          # as it will be when it is read back
    card = about | dict(after=_measured(tokenizer, counted))
    save_weights(file, tokenizer.decoder, bits=8, **card)
    return card


def _measured(tokenizer: IVQVAE, n: int) -> dict[str, float]:
    """Reconstructions of unseen faces: what share has a beard, with one and without, and how good.

    bearded, plain: shares with a beard afterwards; frechet: of the plain ones.
    """
    faces = ToyFaces(n, seed=2)

    def again(x: torch.Tensor) -> torch.Tensor:
        return latents.decode(tokenizer, latents.encode(tokenizer, x).z)

    plain = again(faces.images())
    beards = again(characters.with_extras(faces, ["beard"]))
    return dict(bearded=round(float(characters.bearded(beards).float().mean()), 4),
                plain=round(float(characters.bearded(plain).float().mean()), 4),
                frechet=round(metrics.toy_frechet(plain), 1))


RECIPES = {"decoder_beard": decoder_beard}
