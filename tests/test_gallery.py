import pytest
import torch

from minigen import gallery
from minigen.files import load_weights
from minigen.gan import Generator, sample


@pytest.fixture(scope="module")
def drawn():
    return gallery.faces(4, seed=3)


def test_a_row_of_faces_for_every_model_in_the_courses_order(drawn):
    assert list(drawn) == ["real", "Gaussian", "GAN", "VAE", "VQ-VAE", "U-Net", "FFTD"]
    for name, images in drawn.items():
        assert images.shape == (4, 3, 32, 32), name
        assert torch.isfinite(images).all() and images.min() >= -1 and images.max() <= 1, name
        assert images.flatten(1).std(0).mean() > 0.1, f"{name}: the faces are all alike"


def test_the_rows_are_the_lessons_own_samples(drawn):
    assert torch.equal(drawn["GAN"], sample(load_weights(Generator, "gan"), 4, seed=3))


def test_a_seed_gives_the_same_faces_and_another_others(drawn):
    again, other = gallery.MODELS["FFTD"](4, 3), gallery.MODELS["FFTD"](4, 4)
    assert torch.equal(again, drawn["FFTD"]) and not torch.allclose(other, drawn["FFTD"], atol=0.1)


def test_the_last_models_backgrounds_are_evener_than_the_gans(drawn):
    spread = {name: float(x[:, :, :4, :4].flatten(2).std(2).mean()) for name, x in drawn.items()}
    assert spread["real"] < 1e-6 and spread["FFTD"] < 0.015 < spread["GAN"]


@pytest.mark.parametrize(("n", "seed", "words"), [
    (0, 0, "n must be"), (2.5, 0, "n must be"), (2, "a", "seed must be")])
def test_what_is_no_number_is_refused(n, seed, words):
    with pytest.raises(ValueError, match=words):
        gallery.faces(n, seed)
