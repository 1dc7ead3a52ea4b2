"""Chapter 7: images into the latent space of an IVQ-VAE, and back. Stage 2 works on what is here.

Source: Liu, Chen, Gao 2026, §2, Algorithm 2 (z_0 = Quantize(E(x))), Eq. 30.
"""

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor, nn

from minigen.common import evaluating
from minigen.inputs import tensor, whole
from minigen.ivqvae import IVQVAE


class Latents(NamedTuple):
    """z (N, C, grid, grid), each channel with mean 0 and deviation 1, and where it came from.

    tokenizer: the `fingerprint` of the autoencoder that made it.
    """

    z: Tensor
    tokenizer: str


def fingerprint(tokenizer: nn.Module) -> str:
    """SHA-256 over names and values of a model's weights: with the same one, the same model."""
    digest = hashlib.sha256()
    for name, value in sorted(tokenizer.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def space_of(tokenizer: IVQVAE) -> str:
    """The fingerprint that latents of this tokenizer carry: its own, or `tokenizer.latents_of`.

    A tokenizer of which only the decoder was trained anew makes the latents of the one it comes
    from, and says so.
    """
    return getattr(tokenizer, "latents_of", None) or fingerprint(tokenizer)


def encode(tokenizer: IVQVAE, images: Tensor, batch_size: int = 64) -> Latents:
    """Images to normalised, quantised latents. Shapes: (N, 3, H, W) in [-1, 1] → `Latents`."""
    with evaluating(tokenizer):
        indices = tokenizer.encode_indices(images, batch_size)    # (N, grid, grid)
        z_q = tokenizer.quantizer.embed(indices)                  # (N, C, grid, grid)
        return Latents(tokenizer.normalise(z_q), space_of(tokenizer))


def decode(tokenizer: IVQVAE, z: Tensor, batch_size: int = 64,
           made_with: str | None = None) -> Tensor:
    """Normalised latents to images: x̂ = D(Quantize(z)).

    Shapes: (N, C, grid, grid) → (N, 3, H, W) in (-1, 1).
    made_with: the fingerprint that the latents, or the weights of the model that drew them, carry;
    it must be this autoencoder's.
    Source: Eq. 30. Raises: ValueError where the latents belong to another autoencoder.
    """
    if made_with is not None and made_with != (mine := space_of(tokenizer)):
        raise ValueError(f"these latents were made with the autoencoder {made_with[:12]}…, this "
                         f"one is {mine[:12]}…: each training has a latent space of its own. Load "
                         "the autoencoder they were made with, or encode and train again.")
    tensor(z, "z", ("N", "C", "H", "W"))
    batch_size = whole(batch_size, "batch_size")

    def images_of(part: Tensor) -> Tensor:
        z_e = tokenizer.denormalise(part)
        return tokenizer.decode(tokenizer.quantizer(z_e).z_q)    # (b, 3, H, W)

    with evaluating(tokenizer):
        return torch.cat([images_of(part) for part in z.split(batch_size)])
