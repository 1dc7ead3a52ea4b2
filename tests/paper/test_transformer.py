"""Cells of chapter 7's tables: what is trained, drawn and measured, by hand."""

import functools

import pytest
import torch

from minigen import ddpm, fftd, ivqvae, latents, metrics
from minigen.data import ToyFaces, batches
from minigen.diffusion import cosine_betas, linear_betas
from minigen.files import load_weights
from minigen.paper import transformer
from minigen.paper.tables import TABLES
from tests.paper.conftest import Faces, faces


def test_a_real_cell(monkeypatch):
    decoder = load_weights(ivqvae.IVQVAE, "ivqvae")
    z = latents.encode(decoder, ToyFaces(300, seed=0).images()).z
    monkeypatch.setattr(transformer, "tokens", lambda: (decoder, z, z[:50]))
    monkeypatch.setattr(transformer, "DRAWN", 130)
    values = transformer.fftd_cell(0, 2, dim=16, heads=2, fusion="add")
    assert set(values) == {"frechet", "loss", "parameters"} and 0.5 < values["loss"] < 2


def test_a_diffusion_cell_by_hand(few, monkeypatch):
    monkeypatch.setattr(transformer, "tokens", functools.cache(transformer.tokens.__wrapped__))
    seen, decays, make = {}, [], ddpm.ema

    def train(model, data, diffusion, **rest):
        seen.update(
            rest,
            model=model,
            x=next(data)[0],
            state={k: v.clone() for k, v in model.state_dict().items()},
        )
        with torch.no_grad():
            model.last.bias += 0.5
        rest["average"].update_parameters(model)
        yield 1

    monkeypatch.setattr(transformer.ddpm, "train_ddpm", train)
    monkeypatch.setattr(
        transformer.ddpm, "ema", lambda model, decay: decays.append(decay) or make(model, decay)
    )
    tokenizer = load_weights(ivqvae.IVQVAE, "ivqvae")
    z, test = (latents.encode(tokenizer, ToyFaces(200, seed=s).images()).z for s in (0, 2))
    sampler = Faces(z[:150])
    monkeypatch.setattr(transformer.ddim, "ddim_sample", sampler)
    transformer.tokens()  # made once: the making draws random numbers of its own
    values = transformer.fftd_cell(3, 7, dim=16, heads=2, fusion="add")
    torch.manual_seed(3)
    model = fftd.FFTD(dim=16, heads=2, fusion="add")
    for name, value in model.state_dict().items():
        assert torch.equal(seen["state"][name], value), name
    (x,) = next(batches(z, batch_size=128, seed=3))
    assert torch.equal(seen["x"], x) and few == [(20_000, 32, 0), (2000, 32, 2)]
    assert (seen["steps"], seen["lr"], seen["seed"], decays) == (7, 2e-3, 3, [0.99])
    ((net, diffusion, noise, y, options),) = sampler.seen
    assert (
        net is seen["average"].module
        and not net.training
        and y is None
        and options == dict(steps=50)
    )
    generator = torch.Generator().manual_seed(103)
    torch.randint(1000, (200,), generator=generator)  # the time steps come first
    eps = torch.randn(test.shape, generator=generator)
    assert torch.equal(noise, torch.randn(1000, 4, 4, 4, generator=generator))
    assert diffusion.T == 1000
    assert values["loss"] == pytest.approx(
        float((eps - 0.5).square().mean()), rel=1e-5
    )  # it answers ½ everywhere
    assert values["frechet"] == pytest.approx(
        metrics.toy_frechet(latents.decode(tokenizer, z[:150])), rel=1e-3
    )
    assert values["parameters"] == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("prediction", "schedule"), [("eps", "linear"), ("v", "cosine")])
def test_a_cell_beyond_the_paper_by_hand(monkeypatch, prediction, schedule):
    """What is trained, and the five ways to draw, each from the same noise."""
    tokenizer, z, x = faces()

    def decode(model, drawn):
        """Each of the five ways gives the same latents: decoded once."""
        assert model is tokenizer and torch.equal(drawn, z)
        return x

    monkeypatch.setattr(transformer.latents, "decode", decode)
    monkeypatch.setattr(transformer, "tokens", lambda: (tokenizer, z, z[:1]))
    seen, decays, make = {}, [], ddpm.ema

    def train(model, data, diffusion, **rest):
        seen.update(rest, model=model, diffusion=diffusion, x=next(data)[0])
        rest["average"].update_parameters(model)
        yield 1

    monkeypatch.setattr(transformer.ddpm, "train_ddpm", train)
    monkeypatch.setattr(
        transformer.ddpm, "ema", lambda model, decay: decays.append(decay) or make(model, decay)
    )
    sampler = Faces(z)
    monkeypatch.setattr(transformer.ddim, "ddim_sample", sampler)
    values = transformer.beyond_cell(4, 9, prediction, schedule)
    model = seen["model"]
    assert (model.prediction, model.schedule) == (prediction, schedule)
    assert model.config == fftd.FFTD(
        **transformer.TINY, prediction=prediction, schedule=schedule).config
    betas = {"linear": linear_betas, "cosine": cosine_betas}[schedule]()
    assert torch.equal(seen["diffusion"].betas, betas)
    assert torch.equal(seen["x"], next(batches(z, batch_size=128, seed=4))[0])
    assert (seen["steps"], seen["lr"], seen["seed"], decays) == (9, 2e-3, 4, [0.99])
    ways = [(options["steps"], options["eta"]) for *_, options in sampler.seen]
    assert ways == [(5, 0), (10, 0), (20, 0), (50, 0), (50, 1)]
    start = torch.randn(2000, 4, 4, 4, generator=torch.Generator().manual_seed(104))
    for net, diffusion, noise, y, options in sampler.seen:
        assert net is seen["average"].module and not net.training and y is None
        assert torch.equal(diffusion.betas, betas) and torch.equal(noise, start)
        assert "prediction" not in options                     # it is the network that says it
    wanted = metrics.toy_frechet(x)
    assert list(values) == list(TABLES["beyond"].columns) == list(transformer.WAYS)
    assert all(value == pytest.approx(wanted, rel=1e-3) for value in values.values())
