"""What the playground's pages begin with: faces as codes, arrows, frequent tokens, ᾱ, words."""

from typing import Any

import torch
from torch import Tensor

from minigen import prompts
from minigen.data import ToyFaces
from minigen.data.toyfaces import ATTRIBUTES
from minigen.ddpm import diffusion_of
from minigen.fftd import FFTD
from minigen.files import load_weights
from minigen.vae import VAE
from minigen.vqvae import VQVAE

SHOWN = 8        # faces to start from, the first that the networks never saw
FREQUENT = 12    # codes offered at each place
MANY = 4000      # training faces behind arrows and frequencies
# label on the page -> attribute, and the value that the arrow points to
ARROWS = {
    "glasses": ("glasses", "yes"),
    "smile": ("smile", "smile"),
    "long hair": ("hair_length", "long"),
    "blond hair": ("hair", "blond"),
    "black hair": ("hair", "black"),
    "turn right": ("pose", "right"),
}


def tables() -> dict[str, Any]:
    """Everything, ready to be written as JSON."""
    seen, fresh = ToyFaces(MANY, seed=0), ToyFaces(SHOWN, seed=2)
    names = [_name(fresh.describe(i)) for i in range(SHOWN)]
    return dict(
        attributes={name: list(values) for name, values in ATTRIBUTES.items()},
        alpha_bar=diffusion_of(load_weights(FFTD, "fftd")).alpha_bar.tolist(),
        vae=_vae(seen, fresh, names),
        vqvae=_vqvae(seen, fresh, names),
        prompts=_prompts(),
    )


def _prompts() -> dict[str, Any]:
    """What minigen.prompts reads sentences by."""
    return dict(
        vocabulary=prompts.VOCABULARY, longest=prompts.LONGEST, denials=prompts.DENIALS,
        meant=prompts.MEANT, told_by=prompts.TOLD_BY, meaning=prompts.MEANING,
        by_itself=prompts.SAYS_BY_ITSELF,
    )


def _name(face: dict[str, str]) -> str:
    glasses = "glasses" if face["glasses"] == "yes" else "no glasses"
    return f"{face['hair']} hair, {glasses}, {face['smile']}"


def _rounded(x: Tensor) -> Any:
    return [[round(v, 4) for v in row] for row in x.tolist()]


@torch.no_grad()
def _vae(seen: ToyFaces, fresh: ToyFaces, names: list[str]) -> dict[str, Any]:
    """Codes of the faces, an arrow for each attribute, and the units, the strongest first.

    A unit is as strong as the picture changes, in squares, where its mean stands in its place.
    """
    model = load_weights(VAE, "vae")
    codes = torch.cat([model.encode(x)[0] for x in seen.images().split(500)])     # (MANY, 32)
    arrows = {}
    for label, (attribute, value) in ARROWS.items():
        has = seen[attribute] == ATTRIBUTES[attribute].index(value)
        arrows[label] = codes[has].mean(0) - codes[~has].mean(0)
    few = codes[:100]
    strength = []
    for unit in range(model.latent_dim):
        flat = few.clone()
        flat[:, unit] = codes[:, unit].mean()
        strength.append((model.decode(flat) - model.decode(few)).square().mean())
    starts = _rounded(model.encode(fresh.images())[0])
    return dict(
        faces=[dict(name=n, z=z) for n, z in zip(names, starts, strict=True)],
        arrows=dict(zip(arrows, _rounded(torch.stack(list(arrows.values()))), strict=True)),
        order=torch.stack(strength).argsort(descending=True).tolist(),
    )


def _vqvae(seen: ToyFaces, fresh: ToyFaces, names: list[str]) -> dict[str, Any]:
    """Tokens of the faces, and at each place the codes that stand there most often."""
    model = load_weights(VQVAE, "vqvae")
    number = model.quantizer.num_codes
    places = model.encode_indices(seen.images()).flatten(1).T                      # (16, MANY)
    counts = torch.stack([torch.bincount(tokens, minlength=number) for tokens in places])
    starts = model.encode_indices(fresh.images()).flatten(1).tolist()
    return dict(
        faces=[dict(name=n, tokens=t) for n, t in zip(names, starts, strict=True)],
        common=counts.topk(FREQUENT).indices.tolist(),
        codes=number,
    )
