import pytest

from minigen import ivqvae, latents, reproduce, tables
from minigen.data import ToyFaces
from minigen.files import load_weights


@pytest.mark.parametrize("mixed", [True, False])
def test_a_real_autoencoder_cell(mixed):
    options = tables.TABLES["table7"].rows["none" if not mixed else "all"]
    values = tables.ivqvae_cell(0, 3, **options)
    assert set(values) == set(tables.COLUMNS) and 0 < values["l1"] < 1.5


def test_a_real_cell_of_the_diffusion_tables(monkeypatch):
    decoder = load_weights(ivqvae.IVQVAE, "ivqvae")
    z = latents.encode(decoder, ToyFaces(300, seed=0).images()).z
    monkeypatch.setattr(tables, "_tokens", lambda: (decoder, z, z[:50]))
    monkeypatch.setattr(tables, "DRAWN", 130)
    values = tables.fftd_cell(0, 2, dim=16, heads=2, fusion="add")
    assert set(values) == {"frechet", "loss", "parameters"} and 0.5 < values["loss"] < 2
    for model in ("fftd", "unet"):
        values = tables.steps_cell(0, 128, model, 1)
        assert values["frechet"] > 0 and values["ms"] > 0
    values = tables.guidance_cell(0, 130, "fftd", 3.0)
    assert 0 <= values["obedience"] <= 1 and values["diversity"] > 0


def test_committed_results_are_whole():
    for name, table in tables.TABLES.items():
        cells = reproduce.read(name)
        assert sorted({(c["row"], c["seed"]) for c in cells}) == sorted((r, s) for r in table.rows for s in (0, 1, 2)), name
        assert {c["steps"] for c in cells} == {table.steps}


def test_rows_name_what_they_change():
    rows = tables.TABLES["table7"].rows
    assert rows["all"] | dict(mixed=False) == rows["all but mixed loss"]
    assert [len(r["multipliers"]) for r in tables.TABLES["table1"].rows.values()] == [3, 4, 5]
