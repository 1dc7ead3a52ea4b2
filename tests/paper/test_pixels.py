import itertools

import pytest
import torch

from minigen.data import ATTRIBUTES, ToyFaces
from minigen.files import load_weights
from minigen.paper import pixels, tables
from minigen.unet import UNet
from tests.conftest import defaults


def test_a_real_cell_of_what_is_predicted(monkeypatch):
    assert defaults(pixels.pixels_cell) == dict(detail=0.0) and pixels.DRAWN == 500
    seen, asked, few = [], [], ToyFaces(200, seed=0)
    monkeypatch.setattr(pixels, "ToyFaces", lambda n, seed: asked.append((n, seed)) or few)
    monkeypatch.setattr(pixels, "DRAWN", 6)
    monkeypatch.setattr(pixels.metrics, "toy_frechet", lambda x: seen.append(x) or 123.0)
    colours = few.images().mean((0, 2, 3))
    for options in ({}, dict(prediction="v", schedule="cosine", detail=1.0)):
        values = pixels.pixels_cell(0, 2, **options)
        assert set(values) == set(tables.TABLES["predictions"].columns)
        x = seen.pop()
        assert x.shape == (6, 3, 32, 32) and 0.5 < float(x.abs().max()) <= 1
        off = (x.mean((0, 2, 3)) - colours).abs().max()
        assert values == dict(frechet=123, colour_off=pytest.approx(float(off)))
    assert asked == 2 * [(20_000, 0)]


def test_real_faces_are_clear_and_keep_their_colour_through_a_little_noise():
    real = pixels.origins_cell(0, 128)
    assert real["clear"] > 0.95 and abs(real["red"] - 0.335) < 0.1
    near = pixels.origins_cell(0, 128, model="unet_eps", ratio=0.05)
    assert abs(near["red"] - real["red"]) < 0.02 and near["clear"] > 0.6
    assert real["frechet"] < near["frechet"] < 3 * real["frechet"]
    assert defaults(pixels.origins_cell) == dict(model=None, ratio=None, mixture=False)


def test_faces_come_from_the_level_that_is_asked_for(monkeypatch):
    asked = []

    def perfect(model, diffusion, x, t, clip):
        asked.append(t)
        return real, diffusion.views(real, x, torch.tensor([t]), "x0")[1], None

    monkeypatch.setattr(pixels.ddpm, "guess", perfect)
    real, net = ToyFaces(3, seed=1).images(), load_weights(UNet, "unet_eps")
    for ratio, top in ((None, 999), (6.0, None), (0.7, None)):
        asked.clear()
        drawn = pixels._from_level(net, real, ratio, 0)
        assert torch.allclose(drawn, real, atol=1e-4)   # from its guess, whatever the noise
        snr = pixels.ddpm.diffusion_of(net).snr
        assert asked[0] == top or abs(float(snr[asked[0]].rsqrt()) - ratio) < 0.05 * ratio
        assert asked == sorted(asked, reverse=True) and 0 <= asked[-1] < 20
        assert {a - b for a, b in itertools.pairwise(asked)} == {20}


def test_the_mixture_is_the_one_that_is_read(monkeypatch):
    """A network that draws only smiling faces before the sky: real ones of that kind are taken."""
    smile, sky = (ATTRIBUTES[n].index(v) for n, v in (("smile", "smile"), ("background", "sky")))
    many = ToyFaces(6000, seed=3)
    kind = (many["smile"] == smile) & (many["background"] == sky)
    monkeypatch.setattr(pixels, "_from_level", lambda *a: many.images()[kind][:300])
    seen = []
    monkeypatch.setattr(pixels.metrics, "toy_frechet", lambda x: seen.append(x) or 1.0)
    pixels.origins_cell(0, 200, model="unet_eps", mixture=True)
    read = pixels.metrics.predict_attributes(seen[0])
    assert (read["smile"] == smile).float().mean() > 0.98
    assert (read["background"] == sky).float().mean() > 0.98 and len(seen[0]) == 200
