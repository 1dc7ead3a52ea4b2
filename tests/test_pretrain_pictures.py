"""The recipes of tools/pretrain_pictures.py run from end to end, on a few steps."""

import pretrain_pictures
import pytest
import torch

from minigen import files, packing, upscaling
from minigen.unet import UNet


@pytest.fixture(autouse=True)
def out(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain_pictures, "OUT", tmp_path)
    monkeypatch.setattr(pretrain_pictures, "SMALL", dict(width=4, multipliers=(1, 2)))
    return tmp_path


@pytest.mark.parametrize("name", ["upscaler_l2", "upscaler_gan", "pix2pix"])
def test_what_repairs_in_one_run(name, out, monkeypatch):
    assert (pretrain_pictures.FACES, pretrain_pictures.REPAIRED) == (20_000, 2000)
    monkeypatch.setattr(pretrain_pictures, "FACES", 100)
    monkeypatch.setattr(pretrain_pictures, "REPAIRED", 130)
    card = pretrain_pictures.RECIPES[name](steps=2, batch_size=4)
    net = files.load_weights(UNet, out / f"{name}.safetensors")
    assert net.card == card and card["steps"] == 2 and net.prediction == "eps"
    assert 5 < card["psnr"] < 40 and 0 < card["ssim"] < 1 and card["toy_frechet"] > 0


@pytest.mark.parametrize(("name", "size"), [("upscaler_sr3", 32), ("cascade", 64)])
def test_what_enlarges_by_diffusion(name, size, out, monkeypatch):
    monkeypatch.setattr(pretrain_pictures, "TEST", 130)
    card = pretrain_pictures.RECIPES[name](steps=2, batch_size=4, faces=8)
    net = files.load_weights(upscaling.PictureUNet, out / f"{name}.safetensors")
    assert net.card == card and net.config["size"] == size
    assert (net.prediction, net.schedule) == ("x0", "cosine") == (
        card["prediction"], card["schedule"])
    assert card["most_noise"] == (0.4 if name == "cascade" else 0.0)


def test_what_is_measured_is_what_will_be_read_back(out):
    torch.manual_seed(0)
    net = UNet(size=32, width=4, multipliers=(1, 2))
    rounded = pretrain_pictures._rounded(net).state_dict()
    again = packing.unpacked(packing.packed(rounded))
    for name, value in rounded.items():
        torch.testing.assert_close(again[name], value, atol=1e-6, rtol=1e-5)
