"""Cells of excursion 1's table of likelihoods, against another way to count."""

import math

import pytest
import torch

from minigen import flows, glow, pixelcnn, vae, vqvae
from minigen.common import generator
from minigen.data import ToyFaces
from minigen.data.levels import dequantise, shrunk
from minigen.files import load_weights
from minigen.paper import likelihoods
from minigen.paper.tables import TABLES


def faces(n, size, seed=0):
    return shrunk(ToyFaces(n, seed=1000 + seed).images(), size)


def test_the_gaussian_is_torchs(monkeypatch):
    monkeypatch.setattr(likelihoods, "TRAINED_ON", 1500)
    got = likelihoods.likelihood_cell(3, 10, "gaussian", size=8)["bits"]
    y = dequantise(shrunk(ToyFaces(1500, seed=0).images(), 8), generator(3)).flatten(1).double()
    x = dequantise(faces(10, 8, 3), generator(4)).flatten(1).double()
    cov = torch.cov(y.T, correction=0)
    log_p = torch.distributions.MultivariateNormal(y.mean(0), cov).log_prob(x)
    assert got == pytest.approx(float(-log_p.mean()) / (192 * math.log(2)) + 8, rel=1e-6)


def test_glow_is_its_own_count():
    got = likelihoods.likelihood_cell(1, 20, "glow", size=16)["bits"]
    model = load_weights(glow.Glow, "glow")
    x = dequantise(faces(20, 16, 1), generator(1))
    with torch.no_grad():
        nats = -model.log_prob(x).mean()
    assert got == pytest.approx(float(nats) / (768 * math.log(2)) + 8, rel=1e-5)
    assert got == pytest.approx(float(flows.bits_per_dim(model, faces(20, 16, 1), 1).mean()))


def test_the_vaes_bound_by_hand():
    """Rate, and a Gaussian's mass of each level: with so small a level, its density times 2/255."""
    got = likelihoods.likelihood_cell(2, 12, "vae")["bits"]
    model, x = load_weights(vae.VAE, "vae"), faces(12, 32, 2)
    with torch.no_grad():
        mean, logvar = model.encode(x)
        x_hat = model.decode(mean + (logvar / 2).exp() * torch.randn(mean.shape,
                                                                     generator=generator(2)))
    error = (x - x_hat).square()
    sigma2 = error.mean()
    nats = 0.5 * (error / sigma2 + (2 * math.pi * sigma2).log()) - math.log(2 / 255)
    rate = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(1)
    bits = (nats.flatten(1).sum(1) + rate).mean() / (3072 * math.log(2))
    assert got == pytest.approx(float(bits), rel=0.02)


def test_the_tokens_cost_what_the_prior_says():
    got = likelihoods.likelihood_cell(0, 30, "tokens")["bits"]
    tokenizer = load_weights(vqvae.VQVAE, "vqvae")
    prior = load_weights(pixelcnn.PixelCNN, "pixelcnn")
    codes = tokenizer.encode_indices(faces(30, 32))
    with torch.no_grad():
        p = prior(codes).log_softmax(1).gather(1, codes[:, None])
    assert got * 3072 == pytest.approx(float(-p.sum()) / 30 / math.log(2), rel=1e-5)
    assert 60 < got * 3072 < 90                      # chapter 3's 73 bits a face


def test_the_unets_bound_is_asked_for_four_faces(monkeypatch):
    seen = []

    def bits_per_dim(model, diffusion, x0, variance, generator):
        seen.append((model.prediction, diffusion.T, x0, variance))
        return torch.tensor([1.0, 2.5])

    monkeypatch.setattr(likelihoods.vlb, "bits_per_dim", bits_per_dim)
    assert likelihoods.likelihood_cell(5, 9, "unet") == dict(bits=3.5)
    ((prediction, T, x0, variance),) = seen
    assert (prediction, T, variance) == ("v", 1000, "small")
    assert torch.equal(x0, faces(9, 32, 5)[:4])


def test_every_row_has_its_count():
    rows = TABLES["likelihoods"].rows.values()
    assert {row["model"] for row in rows} == set(likelihoods.COSTS)
