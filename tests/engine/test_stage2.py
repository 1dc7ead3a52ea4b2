import pytest
import torch

from minigen import fftd
from minigen.diffusion import cosine_betas, linear_betas
from minigen.engine import drawing
from minigen.engine.encoding import encode_images
from minigen.engine.settings import Stage1, Stage2, make_config
from minigen.engine.stage1 import train_stage1
from minigen.engine.stage2 import train_stage2
from minigen.errors import DataError
from minigen.files import data_path, load_weights
from tests.engine.conftest import TINY1, TINY2


def train(autoencoder, resume=False, **options):
    """Four steps of stage 2."""
    config = make_config(Stage2, **TINY2 | options)
    return train_stage2(config, autoencoder, resume, progress=False)


def test_the_card_tells_the_steps_that_were_done(trained, tmp_path):
    _, one, z, _ = trained
    options = dict(decay=False, latents=str(z), out=str(tmp_path / "f"))
    path = train(one, **options)
    assert load_weights(fftd.FFTD, path).card["steps"] == 4
    with pytest.raises(DataError, match="has done 4 steps already"):
        train(one, resume=True, **options, steps=1)
    assert load_weights(fftd.FFTD, path).card["steps"] == 4


def test_other_latents_of_the_same_name_are_noticed(trained, tmp_path):
    _, one, z, _ = trained
    options = dict(decay=False, out=str(tmp_path / "f"))
    train(one, **options, latents=str(z))
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(z.read_bytes())
    train(one, resume=True, **options, latents=str(moved), steps=5)        # the same, elsewhere
    other = encode_images("toyfaces:65", one, tmp_path / "other.safetensors", progress=False)
    with pytest.raises(DataError, match="trained with data_digest='toyfaces:64"):
        train(one, resume=True, **options, latents=str(other), steps=5)


def test_without_labels_the_network_has_no_classes(trained, tmp_path):
    _, one, z, _ = trained
    path = train(one, latents=str(z), labels=False, out=str(tmp_path / "f"))
    assert load_weights(fftd.FFTD, path).num_classes == 0


def test_latents_of_another_autoencoder_are_another_run(trained, tmp_path):
    _, one, z, _ = trained
    options = dict(decay=False, out=str(tmp_path / "f"))
    train(one, **options, latents=str(z))
    shipped = data_path("pretrained", "ivqvae.safetensors")
    again = encode_images("toyfaces:64", shipped, tmp_path / "z.safetensors", progress=False)
    with pytest.raises(DataError, match="trained with tokenizer="):
        train(shipped, resume=True, **options, latents=str(again))
    with pytest.raises(DataError, match="made with another autoencoder"):
        train(one, resume=True, **options, latents=str(again))


def test_latents_of_another_autoencoder_are_refused(trained, tmp_path):
    _, _, z, two = trained
    one_step = TINY1 | dict(steps=1, discriminator_start=1, seed=5)
    config = make_config(Stage1, **one_step, out=str(tmp_path / "other"))
    other = train_stage1(config, progress=False)
    with pytest.raises(DataError, match="another autoencoder"):
        train(other, latents=str(z), out=str(tmp_path / "x"))
    with pytest.raises(DataError, match="another autoencoder"):
        drawing.Sampler(two, other)


def test_v_and_the_cosine_schedule_are_kept_and_sampled(trained, tmp_path):
    _, one, z, _ = trained
    path = train(one, latents=str(z), prediction="v", schedule="cosine", out=str(tmp_path / "f"))
    model = load_weights(fftd.FFTD, path)
    assert (model.prediction, model.schedule) == ("v", "cosine")
    sampler = drawing.Sampler(path, one, steps=2)
    assert torch.equal(sampler.diffusion.betas, cosine_betas())
    assert sampler(0, 2).shape == (2, 3, 32, 32)
    plain = drawing.Sampler(train(one, latents=str(z), out=str(tmp_path / "g")), one, steps=2)
    assert torch.equal(plain.diffusion.betas, linear_betas())
