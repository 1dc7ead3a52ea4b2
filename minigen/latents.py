"""Chapter 7: images into the latent space of an IVQ-VAE, and back. Stage 2 of the paper works on what is here.

Source: Liu, Chen, Gao 2026, §2, Algorithm 2 (z_0 = Quantize(E(x))), Eq. 30.
"""

import hashlib
from typing import NamedTuple

import torch

from minigen.common import evaluating
from minigen.inputs import tensor, whole


class Latents(NamedTuple):
    """z (N, C, grid, grid), each channel with mean 0 and deviation 1, and the `fingerprint` of the autoencoder it came from."""

    z: torch.Tensor
    tokenizer: str


def fingerprint(tokenizer):
    """SHA-256 over names and values of a model's weights: two models with the same one are the same model."""
    digest = hashlib.sha256()
    for name, value in sorted(tokenizer.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def encode(tokenizer, images, batch_size=256):
    """Images to normalised, quantised latents. Shapes: (N, 3, H, W) in [-1, 1] → `Latents`."""
    with evaluating(tokenizer):
        z_q = tokenizer.quantizer.embed(tokenizer.encode_indices(images, batch_size))
        return Latents(tokenizer.normalise(z_q), fingerprint(tokenizer))


def decode(tokenizer, z, batch_size=256, made_with=None):
    """Normalised latents to images: x̂ = D(Quantize(z)). Shapes: (N, C, grid, grid) → (N, 3, H, W) in (-1, 1).

    made_with: the fingerprint that the latents, or the weights of the model that drew them, carry; it must be this one's.
    Source: Eq. 30. Raises: ValueError where the latents belong to another autoencoder.
    """
    if made_with is not None and made_with != (mine := fingerprint(tokenizer)):
        raise ValueError(f"these latents were made with the autoencoder {made_with[:12]}…, this one is {mine[:12]}…: each "
                         "training has a latent space of its own. Load the autoencoder they were made with, or encode and train "
                         "again.")
    tensor(z, "z", ("N", "C", "H", "W"))
    batch_size = whole(batch_size, "batch_size")
    with evaluating(tokenizer):
        return torch.cat([tokenizer.decode(tokenizer.quantizer(tokenizer.denormalise(part)).z_q) for part in z.split(batch_size)])
