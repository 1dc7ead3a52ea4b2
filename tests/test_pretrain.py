"""The recipes of tools/pretrain.py run from end to end, on a few steps."""

import json

import pretrain
import pytest
from safetensors import safe_open

from minigen import files, gan


@pytest.fixture
def out(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "OUT", tmp_path)
    return tmp_path


def test_gan_recipes_write_weights_with_their_card(out):
    for recipe, name in ((pretrain.gan_, "gan"), (pretrain.cgan, "cgan")):
        card = recipe(steps=2, batch_size=8)
        model = files.load_weights(gan.Generator, out / f"{name}.safetensors")
        assert model.card == card and card["steps"] == 2 and card["toy_frechet"] > 0
    assert 0 <= card["obedience"] <= 1 and model.num_classes == 5
    pretrain.card()
    assert "cgan.safetensors" in (out / "README.md").read_text(encoding="utf-8")


def test_the_card_inside_every_committed_file_names_its_recipe():
    for path in files.data_path("pretrained").glob("*.safetensors"):
        with safe_open(path, "pt") as f:
            card = json.loads((f.metadata() or {}).get("card", "{}"))
        if path.stem != "toy_reference":
            assert path.stem in pretrain.RECIPES and {"steps", "seed", "data"} <= set(card)
