import json

import pytest
import torch

from minigen import metrics, vae
from minigen.data import ToyFaces, batches
from minigen.files import data_path, load_weights
from minigen.gaussian import GaussianMixture
from minigen.paper import prices, reproduce, tables


def test_a_real_cell_of_prices(few):
    values = prices.price_cell(0, 2, 3.0)
    assert list(values) == list(tables.TABLES["prices"].columns)
    assert values["rate"] >= 0 and values["distortion"] > 20 and 0 <= values["used"] <= 32


def test_what_is_trained(few, monkeypatch):
    """Network, faces, rate and seed of a cell."""
    seen = {}

    def train(model, data, **rest):
        state = {k: v.clone() for k, v in model.state_dict().items()}
        seen.update(rest, x=next(data)[0], state=state)
        yield from range(2)

    monkeypatch.setattr(prices.vae, "train_vae", train)
    model = prices.trained(5, 7, 0.3)
    assert not model.training and few == [(8192, 32, 0)]
    assert {k: seen[k] for k in ("steps", "beta", "lr", "seed")} == dict(
        steps=7, beta=0.3, lr=3e-3, seed=5)
    torch.manual_seed(5)
    for name, value in vae.VAE(width=48, squares=True).state_dict().items():
        assert torch.equal(seen["state"][name], value), name
    (x,) = next(batches(ToyFaces(200).images(), batch_size=32, seed=5))
    assert torch.equal(seen["x"], x)


def test_what_is_measured_by_hand(few):
    torch.manual_seed(0)
    model = vae.VAE(latent_dim=3, width=8, squares=True).eval()
    values = prices.measured(model, 4)
    faces, test = ToyFaces(200).images(), ToyFaces(200, seed=2).images()
    assert few == [(2000, 32, 2), (8192, 32, 0)]
    with torch.no_grad():
        mean, logvar = model.encode(test)
        eps = torch.randn(mean.shape, generator=torch.Generator().manual_seed(104))
        error = (model.decode(mean + (logvar / 2).exp() * eps) - test).square()
        codes, _ = model.encode(faces)
        fitted = GaussianMixture(codes, 40, seed=4).sample(2000, seed=104)
        assert values["mixture"] == pytest.approx(
            metrics.toy_frechet(model.decode(fitted)), rel=1e-3)
        redrawn = model.decode(mean)
    assert values["distortion"] == pytest.approx(float(error.sum() / 400), rel=1e-4)
    rate = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum() / 200
    assert values["rate"] == pytest.approx(float(rate), rel=1e-4)
    assert values["used"] == int((mean.var(0) > 0.01).sum())
    assert values["redrawn"] == pytest.approx(metrics.toy_frechet(redrawn), rel=1e-3)
    drawn = vae.sample(model, 2000, seed=104)
    assert values["drawn"] == pytest.approx(metrics.toy_frechet(drawn), rel=1e-3)


@pytest.mark.parametrize(("name", "row"), [("vae_b03", "β = 0.3"), ("vae_b3", "β = 3")])
def test_the_pictures_beside_the_table_are_of_its_first_seed(name, row):
    """The weights that the chapter draws with give the cell's numbers, but for 8 bits."""
    (cell,) = (c for c in reproduce.read("prices") if (c["row"], c["seed"]) == (row, 0))
    model = load_weights(vae.VAE, name)
    assert model.card["steps"] == cell["steps"] and model.config["squares"]
    test = ToyFaces(2000, seed=2).images()
    with torch.no_grad():
        mean, logvar = model.encode(test)
    rate = float(vae.kl_standard_normal(mean, logvar).mean())
    assert rate == pytest.approx(cell["rate"], rel=0.01)
    assert metrics.toy_frechet(vae.reconstruct(model, test)) == pytest.approx(
        cell["redrawn"], rel=0.02)


def test_a_dearer_nat_is_bought_less():
    """What the chapter says of the table, seed by seed."""
    path = data_path("pretrained").parent / "reproduce" / "prices.json"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for seed in (0, 1, 2):
        cheap, middle, dear = (next(c for c in cells if (c["row"], c["seed"]) == (row, seed))
                               for row in tables.TABLES["prices"].rows)
        assert cheap["rate"] > middle["rate"] > dear["rate"]
        assert cheap["distortion"] < middle["distortion"] < dear["distortion"]
        assert cheap["used"] >= middle["used"] >= dear["used"]
