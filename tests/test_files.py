import os

import pytest
import torch
from safetensors.torch import save_file

from minigen import files, gan
from minigen.errors import DataError


def test_weights_round_trip_with_config_and_card(tmp_path):
    model = gan.Generator(latent_dim=5, width=8, size=16)
    files.save_weights(tmp_path / "g.safetensors", model, steps=3, note="a test")
    back = files.load_weights(gan.Generator, tmp_path / "g.safetensors")
    assert back.config == model.config and back.card == {"steps": 3, "note": "a test"} and not back.training
    assert all(torch.equal(v, back.state_dict()[k]) for k, v in model.state_dict().items())
    assert os.listdir(tmp_path) == ["g.safetensors"]
    (tmp_path / "plain").touch()
    assert (tmp_path / "g.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode   # others may read it


def test_half_the_size_and_almost_the_same_numbers(tmp_path):
    model = gan.Generator(width=8)
    files.save_weights(tmp_path / "whole.safetensors", model)
    files.save_weights(tmp_path / "half.safetensors", model, half=True)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.6 * sizes[1]
    back = files.load_weights(gan.Generator, tmp_path / "half.safetensors").state_dict()
    for name, v in model.state_dict().items():
        assert back[name].dtype == v.dtype and torch.allclose(back[name], v, rtol=1e-3, atol=1e-6)
    rounded = files.load_weights(gan.Generator, tmp_path / "half.safetensors")
    files.save_weights(tmp_path / "again.safetensors", rounded, half=True)
    again = files.load_weights(gan.Generator, tmp_path / "again.safetensors").state_dict()
    assert all(torch.equal(v, again[name]) for name, v in back.items())


def test_what_is_refused(tmp_path):
    files.save_weights(tmp_path / "g.safetensors", gan.Generator(width=8))
    whole = (tmp_path / "g.safetensors").read_bytes()
    (tmp_path / "torn.safetensors").write_bytes(whole[: len(whole) // 2])
    torch.save({"x": torch.zeros(1)}, tmp_path / "pickle.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    for name, words in {"none": "no weight file none.safetensors", "torn": "not a whole safetensors",
                        "pickle": "not a whole safetensors", "foreign": "holds no class of this course"}.items():
        with pytest.raises(DataError, match=words):
            files.load_weights(gan.Generator, tmp_path / f"{name}.safetensors")
    with pytest.raises(DataError, match="holds Generator, not Discriminator"):
        files.load_weights(gan.Discriminator, tmp_path / "g.safetensors")


def test_replacing_keeps_the_old_file_when_the_block_fails(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), files.replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["x.txt"]


def test_data_path_names_what_is_missing():
    assert files.data_path("digits.npz").is_file()
    with pytest.raises(DataError, match="make pretrained"):
        files.data_path("pretrained", "nothing.safetensors")
