import types

import pytest
import torch

from minigen import ddpm, guidance, ivqvae, latents, metrics, unet
from minigen.data import ToyFaces, batches
from minigen.files import load_weights
from minigen.paper import reproduce, tables, transformer
from minigen.perceptual import ToyPerceptual
from tests.conftest import defaults
from tests.paper.conftest import Faces


@pytest.mark.parametrize("mixed", [True, False])
def test_a_real_autoencoder_cell(few, mixed):
    """Nothing is replaced but the number of faces."""
    options = tables.TABLES["table7"].rows["none" if not mixed else "all"]
    values = tables.ivqvae_cell(0, 3, **options)
    assert set(values) == set(tables.COLUMNS) and 0 < values["l1"] < 1.5


def test_a_real_cell_of_sampling_steps():
    for model in ("fftd", "unet"):
        values = tables.steps_cell(0, 128, model, 1)
        assert values["frechet"] > 0 and values["ms"] > 0


def test_a_real_cell_of_guidance(monkeypatch):
    """A network without training that was told hair and smile: of nine labels, the last is none."""
    torch.manual_seed(0)
    net = unet.UNet(width=8, multipliers=(1,), attention_at=0, num_classes=8, prediction="v",
                    schedule="cosine").eval()
    monkeypatch.setattr(tables, "load_weights", lambda kind, name: net)
    values = tables.guidance_cell(0, 130, "unet", 3.0)
    assert set(values) == set(tables.TABLES["guidance"].columns)
    assert 0 <= values["both"] <= min(values["hair"], values["smile"]) <= 1
    assert values["diversity"] > 0 and values["frechet"] > 0


def test_committed_results_are_whole():
    for name, table in tables.TABLES.items():
        cells = reproduce.read(name)
        wanted = {(row, seed) for row in table.rows for seed in (0, 1, 2)}
        assert {(c["row"], c["seed"]) for c in cells} == wanted, name
        assert {c["steps"] for c in cells} == {table.steps}


def test_rows_name_what_they_change():
    rows = tables.TABLES["table7"].rows
    assert rows["all"] | dict(mixed=False) == rows["all but mixed loss"]
    assert [len(r["multipliers"]) for r in tables.TABLES["table1"].rows.values()] == [3, 4, 5]


def test_committed_results_are_of_the_rows_as_they_stand():
    """Every argument of every row: a table whose definition has changed would have to be measured
    anew."""
    for name, table in tables.TABLES.items():
        for cell in reproduce.read(name):
            assert cell["options"] == str(table.rows[cell["row"]]), (name, cell["row"])
            assert set(table.columns) <= set(cell) and set(table.paper) <= set(table.rows)


def test_a_committed_cell_is_measured_again():
    """From weights, noise and sampler to the distance: what was committed comes out, but for
    another processor's rounding."""
    (cell,) = (c for c in reproduce.read("table3") if (c["row"], c["seed"]) == ("DDIM 5", 1))
    values = tables.steps_cell(1, 300, "fftd_eps", 5)
    assert values["frechet"] == pytest.approx(cell["frechet"], rel=0.01)


@pytest.mark.parametrize("mixed", [True, False])
def test_an_autoencoder_cell_by_hand(few, monkeypatch, mixed):
    seen, options = {}, tables.SMALL | dict(multipliers=(1, 2, 4, 8))

    def train(model, data, **rest):
        seen.update(
            rest,
            model=model,
            x=next(data)[0],
            state={k: v.clone() for k, v in model.state_dict().items()},
        )
        yield from range(3)

    monkeypatch.setattr(tables.ivqvae, "train_ivqvae", train)
    values = tables.ivqvae_cell(5, 10, mixed, **options)
    torch.manual_seed(5)
    for name, value in ivqvae.IVQVAE(**options).state_dict().items():
        assert torch.equal(seen["state"][name], value), name
    (x,) = next(batches(ToyFaces(200).images(), batch_size=32, seed=5))
    assert torch.equal(seen["x"], x) and few == [(8192, 32, 0), (2000, 32, 2)]
    assert (seen["steps"], seen["lr"], seen["start"]) == (10, 2e-3, 8 if mixed else None)
    if mixed:
        assert isinstance(seen["perceptual"], ToyPerceptual)
        assert seen["discriminator"].config == dict(width=32, layers=2, channels=3)
    else:
        assert seen["perceptual"] is seen["discriminator"] is None
    test, model = ToyFaces(200, seed=2).images(), seen["model"]
    assert not model.training
    with torch.no_grad():
        x_hat, quantized = model(test)
        assert values["perceptual"] == pytest.approx(
            float(ToyPerceptual()(x_hat, test).mean()), rel=1e-4
        )
    assert values["l1"] == pytest.approx(float((x_hat - test).abs().mean()), rel=1e-4)
    assert values["frechet"] == pytest.approx(metrics.toy_frechet(x_hat), rel=1e-3)
    assert values["codes_used"] == quantized.indices.unique().numel()


@pytest.mark.parametrize("name", ["unet", "fftd"])
def test_a_cell_of_sampling_steps_by_hand(monkeypatch, name):
    x, tokenizer = ToyFaces(200, seed=4).images(), load_weights(ivqvae.IVQVAE, "ivqvae")
    z = latents.encode(tokenizer, x).z
    sampler = Faces(x if name == "unet" else z, 1.5 if name == "unet" else 1.0)
    clock = iter([10.0, 11.5])
    monkeypatch.setattr(tables, "time", types.SimpleNamespace(process_time=lambda: next(clock)))
    monkeypatch.setattr(tables.ddim, "ddim_sample", sampler)
    values = tables.steps_cell(6, 200, name, 12, eta=0.3)
    ((net, diffusion, noise, y, options),) = sampler.seen
    assert torch.equal(diffusion.betas, ddpm.diffusion_of(net).betas)
    assert options["spacing"] == "trailing"
    generator = torch.Generator().manual_seed(6)
    shape = (3, 32, 32) if name == "unet" else (4, 4, 4)
    assert torch.equal(noise, torch.randn(200, *shape, generator=generator))
    assert torch.equal(options["generator"].get_state(), generator.get_state()) and y is None
    assert type(net).__name__.lower() == name and (options["steps"], options["eta"]) == (12, 0.3)
    assert options["clip"] == ((-1, 1) if name == "unet" else None)
    faces = (1.5 * x).clamp(-1, 1) if name == "unet" else latents.decode(tokenizer, z)
    assert values == dict(
        frechet=pytest.approx(metrics.toy_frechet(faces), rel=1e-4), ms=pytest.approx(7.5)
    )


@pytest.mark.parametrize("solver", ["heun", "multistep"])
def test_a_cell_of_second_order_by_hand(monkeypatch, solver):
    x = ToyFaces(200, seed=4).images()
    sampler = Faces(x)
    monkeypatch.setattr(tables.ode, f"{solver}_sample", sampler)
    values = tables.steps_cell(6, 200, "unet", 7, solver=solver, spacing="leading")
    ((_, _, noise, y, options),) = sampler.seen
    assert options == dict(steps=7, spacing="leading", clip=(-1, 1)) and y is None
    generator = torch.Generator().manual_seed(6)
    assert torch.equal(noise, torch.randn(200, 3, 32, 32, generator=generator))
    assert values["frechet"] == pytest.approx(metrics.toy_frechet(x), rel=1e-4)


def test_a_cell_of_guidance_by_hand(few, monkeypatch):
    """Real faces for drawn ones: what is asked for, and what is read off them."""
    faces = ToyFaces(200, seed=4)
    sampler = Faces(faces.images())
    net = unet.UNet(width=8, multipliers=(1,), attention_at=0, num_classes=8)
    monkeypatch.setattr(tables, "load_weights", lambda kind, name: net)
    monkeypatch.setattr(tables.ode, "multistep_sample", sampler)
    values = tables.guidance_cell(6, 200, "unet", 2.5)
    ((asked, _, _, y, options),) = sampler.seen
    assert isinstance(asked, guidance.Composed) and asked.scales == [2.5, 2.5] and asked.null == 8
    pairs = [(h, 5 + m) for h in range(5) for m in range(3)]
    assert asked.combinations.tolist() == [list(p) for p in pairs]
    assert torch.equal(y, torch.arange(200) % 15)
    assert options["steps"] == 10 and few == [(2000, 32, 2)]
    x, real = faces.images(), ToyFaces(200, seed=2)
    hair, smile = (metrics.predict_attributes(x)[k] for k in ("hair", "smile"))
    wanted_hair, wanted_smile = y // 3, y % 3
    assert values["hair"] == pytest.approx(float((hair == wanted_hair).float().mean()))
    assert values["smile"] == pytest.approx(float((smile == wanted_smile).float().mean()))
    right = (hair == wanted_hair) & (smile == wanted_smile)
    assert values["both"] == pytest.approx(float(right.float().mean()))
    assert values["frechet"] == pytest.approx(metrics.toy_frechet(x))
    told = real["hair"] * 3 + real["smile"]
    spread = [
        sum(
            float(torch.cov(metrics.toy_features(a[which == k]).double().T).trace())
            for k in range(15)
        )
        for a, which in ((x, y), (real.images(), told))
    ]
    assert values["diversity"] == pytest.approx(spread[0] / spread[1], rel=1e-4)


def test_what_is_taken_unless_told():
    assert defaults(tables.ivqvae_cell) == dict(mixed=True)
    assert defaults(tables.steps_cell) == dict(eta=0.0, solver="ddim", spacing="trailing")
    assert defaults(tables.Table) == dict(unit="training steps")
    small, tiny = tables.SMALL, tables.TINY
    assert small == dict(size=32, width=16, attention_at=8, num_codes=512, code_dim=4)
    assert tiny == dict(dim=64, heads=2) and transformer.DRAWN == 1000
    units = {name: (t.unit, t.steps) for name, t in tables.TABLES.items()}
    trained = dict(table1=250, table7=250, table2=3000, table8=3000, table9=3000, beyond=1200,
                   predictions=600, losses=1600, prices=2000, flow=1200,
                   sentences=2000, personal=200, forgotten=200)
    drawn = dict(table3=300, table3_pixels=300, guidance=1000, origins=300,
                 likelihoods=256, restoration=500, distortion=500)
    assert units == {k: ("training steps", n) for k, n in trained.items()} | {
        k: ("images", n) for k, n in drawn.items()
    } | {"prompting": ("captions", 1000)}
