"""Cells of excursion 1's table of flows, by hand."""

import pytest
import torch

from minigen import fftd, metrics
from minigen import flow_matching as fm
from minigen.data import batches
from minigen.paper import straight, transformer
from minigen.paper.tables import TABLES
from tests.paper.conftest import faces


class Drawn:
    """A sampler of flows that gives these latents, whatever it is asked."""

    def __init__(self, z):
        self.z, self.seen = z, []

    def __call__(self, model, noise, **options):
        self.seen.append((model, noise, options))
        yield fm.Carried(0.0, self.z, self.z)


@pytest.fixture
def world(monkeypatch):
    """150 latents for data, trainings noted and not run, a sampler that gives the data back."""
    tokenizer, z, x = faces()

    def decode(model, drawn):
        """Each of the six numbers of steps gives the same latents: decoded once."""
        assert model is tokenizer and drawn is z
        return x

    monkeypatch.setattr(straight.latents, "decode", decode)
    monkeypatch.setattr(transformer, "tokens", lambda: (tokenizer, z, z[:1]))
    runs, sampler = [], Drawn(z)
    straight._flow.cache_clear()

    def train(model, data, **rest):
        runs.append(rest | dict(model=model, batch=next(data)))
        rest["average"].update_parameters(model)
        yield 1

    monkeypatch.setattr(straight.fm, "train_flow_matching", train)
    monkeypatch.setattr(straight.fm, "euler_sample", sampler)
    return runs, sampler, z, metrics.toy_frechet(x)


def drawn_from(sampler, model, z):
    """That faces were drawn from one noise, in all numbers of steps."""
    assert [options["steps"] for *_, options in sampler.seen[-6:]] == [1, 2, 3, 5, 10, 50]
    start = torch.randn(2000, *z.shape[1:], generator=torch.Generator().manual_seed(104))
    for net, noise, options in sampler.seen[-6:]:
        assert net is model and not net.training and set(options) == {"steps"}
        assert torch.equal(noise, start)


@pytest.mark.parametrize("row", ["uniform times", "logit-normal times", "uniform, twice as long"])
def test_a_flow_by_hand(world, row):
    runs, sampler, z, wanted = world
    options = TABLES["flow"].rows[row]
    values = straight.flow_cell(4, 9, **options)
    (run,) = runs
    assert run["model"].config == fftd.FFTD(**transformer.TINY, prediction="velocity").config
    assert torch.equal(run["batch"][0], next(batches(z, batch_size=128, seed=4))[0])
    assert run["steps"] == 9 * options.get("rounds", 1)
    assert run["law"] == options.get("law", "uniform")
    assert (run["lr"], run["seed"], "pairs" in run) == (2e-3, 4, False)
    drawn_from(sampler, run["average"].module, z)
    assert list(values) == list(TABLES["flow"].columns)
    assert all(v == pytest.approx(wanted, rel=1e-3) for v in values.values())


def test_a_reflow_by_hand(world, monkeypatch):
    """The second training goes on with the first one's average, on pairs that it made."""
    runs, sampler, z, _ = world
    made = []

    def reflow(model, noise, **rest):
        made.append((model, noise, rest))
        return z + 1, noise

    monkeypatch.setattr(straight.fm, "reflow", reflow)
    straight.flow_cell(4, 9, **TABLES["flow"].rows["uniform, then reflow"])
    first, second = runs
    ((model, noise, rest),) = made
    assert model is first["average"].module and not rest
    assert second["model"] is not model                  # which a later row may need
    for a, b in zip(second["model"].parameters(), model.parameters(), strict=True):
        assert torch.equal(a, b)
    own = torch.randn(z.shape, generator=torch.Generator().manual_seed(204))
    assert torch.equal(noise, own)
    pairs = next(batches(z + 1, own, batch_size=128, seed=4))
    assert all(torch.equal(a, b) for a, b in zip(second["batch"], pairs, strict=True))
    assert second["pairs"] is True and first["steps"] == second["steps"] == 9
    drawn_from(sampler, second["average"].module, z)
