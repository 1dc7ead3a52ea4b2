import dataclasses

import pytest
import torch
from PIL import Image

from minigen.data import prepare
from minigen.errors import DataError
from minigen.images import Images
from minigen.settings import Stage1, Stage2, make_config


def test_images_of_a_prepared_folder(tmp_path):
    for k in range(3):
        Image.new("RGB", (40, 40), (80 * k, 0, 0)).save(tmp_path / f"{k}.png")
    prepare(tmp_path, tmp_path / "out", 32)
    images = Images(str(tmp_path / "out"), 32)
    assert len(images) == 3 and images(torch.tensor([2, 0])).shape == (2, 3, 32, 32)
    flipped = images(torch.tensor([1]), torch.tensor([True]))
    assert torch.equal(flipped, images(torch.tensor([1])).flip(-1))
    with pytest.raises(DataError, match="images of 32 pixels, the model takes 256"):
        Images(str(tmp_path / "out"), 256)


@pytest.mark.parametrize(("given", "words"), [
    (dict(preset="huge"), "no preset 'huge'"), (dict(stepz=3), "no setting 'stepz'"), (dict(precision="fp8"), "float32 or bf16"),
    (dict(steps=0), "at least 1"), (dict(accumulate=0), "at least 1"),
    (dict(batch_size=6, accumulate=4), "batch of 6 cannot be cut into 4 equal parts")])
def test_settings_that_are_none(given, words):
    with pytest.raises(DataError, match=words):
        make_config(Stage1, **given)


def test_processes_must_be_able_to_share_a_batch(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DataError, match="batch of 33 cannot be cut into 2"):
        make_config(Stage2, batch_size=33)


def test_the_paper_preset_is_the_papers():
    one, two = make_config(Stage1, preset="paper"), make_config(Stage2, preset="paper", batch_size=1)
    assert one.lr == two.lr == 1e-4 and one.ema == 0.9999 and two.batch_size == 1 and one.perceptual == "lpips"


def test_every_setting_is_documented_or_plain():
    assert all(f.default is not dataclasses.MISSING for f in dataclasses.fields(Stage1))
