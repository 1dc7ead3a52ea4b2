"""The cells of excursion 4's tables, against what they are made of."""

import pytest
import torch

from minigen import characters, latents, metrics, personalise
from minigen import text_to_image as t2i
from minigen.files import load_weights
from minigen.paper import personal, tables
from minigen.prompts import labels_told


@pytest.fixture
def few(monkeypatch):
    """The same cell of few faces."""
    monkeypatch.setattr(personal, "ORDINARY", 130)
    monkeypatch.setattr(personal, "PLAIN", 6)
    monkeypatch.setattr(personal, "PRIOR", 4)
    monkeypatch.setattr(personal, "ELSEWHERE", personal.ELSEWHERE[:2])
    personal.prior.cache_clear()
    yield
    personal.prior.cache_clear()


def test_a_cell_measures_what_its_columns_say(few):
    values = personal.personal_cell(0, 2, "lora", "class", rank=2)
    columns = {*tables.TABLES["personal"].columns, *tables.TABLES["forgotten"].columns}
    assert values.keys() == columns
    model = personal.trained(0, 2, "lora", "class", rank=2)
    learned = sum(p.numel() for p in personalise.learned(model).values())
    assert values["parameters"] == learned
    plain = personal.draw(model, ["a zuv person"] * 6, 0)
    assert values["beard"] == float(characters.bearded(plain).float().mean())
    own = latents.decode(personal.drawer(), personalise.encode_pictures(
        personal.drawer(), characters.zuv(5, 0)[0]))
    fresh = latents.decode(personal.drawer(), personalise.encode_pictures(
        personal.drawer(), characters.zuv(65, 1000)[0]))
    assert values["copies"] == personalise.copied(plain, own, fresh)
    f = [metrics.toy_features(x) for x in (plain, own, fresh)]
    near = [torch.cdist(a, f[1]).amin(1).mean() for a in (f[0], f[2])]
    assert values["features"] == pytest.approx(float(near[0] / near[1]), rel=1e-4)


def test_where_nothing_is_learned_the_base_draws(few):
    values = personal.personal_cell(0, 2)
    assert values["parameters"] == 0 and values["copies"] == 0 and values["leak"] < 0.05
    assert values["ordinary"] > 0.95 and values["features"] > 1.3


def test_the_rows_train_what_they_are_called(few):
    rows = tables.TABLES["personal"].rows
    assert rows == tables.TABLES["forgotten"].rows
    base = load_weights(t2i.TextFFTD, "text_fftd")
    sizes = {}
    for name in ("a new word", "LoRA", "LoRA, prior, rank 1", "DreamBooth"):
        model = personal.trained(0, 1, **rows[name])
        sizes[name] = sum(p.numel() for p in personalise.learned(model).values())
    assert sizes["a new word"] == 64
    assert sizes["DreamBooth"] == sum(p.numel() for p in base.parameters()) + 64
    assert sizes["LoRA, prior, rank 1"] - 64 == (sizes["LoRA"] - 64) / 4
    assert personal.prior("class", 0).sentences == ["a person"] * 4
    assert len(set(personal.prior("captions", 0).sentences)) == 4


def test_elsewhere_tells_all_hair_and_all_walls_and_nothing_that_no_face_can_be():
    assert len(personal.ELSEWHERE) == 30
    told = labels_told([text.format("") for text in personal.ELSEWHERE])
    assert (told >= 0).sum() == 60 and len({tuple(row.tolist()) for row in told}) == 30
