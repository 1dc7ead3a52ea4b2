import pytest
import torch

from minigen import ivqvae, latents
from minigen.data import ToyFaces
from minigen.files import load_weights


@pytest.fixture(scope="module")
def tokenizer():
    return load_weights(ivqvae.IVQVAE, "ivqvae")


def test_the_training_latents_have_mean_zero_and_deviation_one(tokenizer):
    z = latents.encode(tokenizer, ToyFaces(4000, seed=0).images()).z.movedim(1, 0).flatten(1)
    assert float(z.mean(1).abs().max()) < 0.02 and float((z.std(1) - 1).abs().max()) < 0.02


def test_there_and_back_is_the_autoencoder(tokenizer):
    x = ToyFaces(40, seed=2).images()
    encoded = latents.encode(tokenizer, x, batch_size=16)
    back = latents.decode(tokenizer, encoded.z, batch_size=7, made_with=encoded.tokenizer)
    torch.testing.assert_close(back, tokenizer.decode_indices(tokenizer.encode_indices(x)), rtol=0, atol=1e-5)


def test_decoding_quantises(tokenizer):
    z = latents.encode(tokenizer, ToyFaces(3, seed=2).images()).z
    moved = latents.decode(tokenizer, z + 1e-4 * torch.randn_like(z))
    torch.testing.assert_close(moved, latents.decode(tokenizer, z), rtol=0, atol=1e-5)


def test_cached_latents_are_what_encoding_gives_at_any_batch_size(tokenizer):
    x = ToyFaces(30, seed=4).images()
    torch.testing.assert_close(latents.encode(tokenizer, x, 7).z, latents.encode(tokenizer, x).z, rtol=0, atol=1e-4)


def test_another_autoencoder_is_refused(tokenizer):
    encoded = latents.encode(tokenizer, ToyFaces(2, seed=2).images())
    other = ivqvae.IVQVAE(**ivqvae.PRESETS["small"])
    with pytest.raises(ValueError, match="a latent space of its own"):
        latents.decode(other, encoded.z, made_with=encoded.tokenizer)
    assert latents.fingerprint(other) != latents.fingerprint(tokenizer)
    assert latents.fingerprint(load_weights(ivqvae.IVQVAE, "ivqvae")) == latents.fingerprint(tokenizer)


def test_the_kept_fftd_belongs_to_the_kept_autoencoder(tokenizer):
    from minigen.fftd import FFTD
    assert load_weights(FFTD, "fftd").card["tokenizer"] == latents.fingerprint(tokenizer)
