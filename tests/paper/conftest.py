"""What the tests of several tables share."""

import functools

import pytest

from minigen import ddpm, ivqvae, latents
from minigen.data import ToyFaces
from minigen.files import load_weights
from minigen.paper import prices, tables, transformer


@pytest.fixture
def few(monkeypatch):
    """ToyFaces in small numbers: a list of what was asked for."""
    asked = []

    def make(n, size=32, seed=0):
        asked.append((n, size, seed))
        return ToyFaces(min(n, 200), size, seed)

    monkeypatch.setattr(tables, "ToyFaces", make)
    monkeypatch.setattr(transformer, "ToyFaces", make)
    monkeypatch.setattr(prices, "ToyFaces", make)
    return asked


@functools.cache
def faces():
    """The tokenizer, 150 latents, and the faces that they decode to."""
    tokenizer = load_weights(ivqvae.IVQVAE, "ivqvae")
    z = latents.encode(tokenizer, ToyFaces(150, seed=2).images()).z
    return tokenizer, z, latents.decode(tokenizer, z)


class Faces:
    """Stands in for a sampler: notes how it is called and answers with faces, twice as bright as
    they may be."""

    def __init__(self, x, factor=1.0):
        self.x, self.factor, self.seen = x, factor, []

    def __call__(self, model, diffusion, noise, y=None, **options):
        self.seen.append((model, diffusion, noise, y, options))
        yield ddpm.Denoised(0, self.factor * self.x, None)
