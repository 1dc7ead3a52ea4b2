import copy
import hashlib

import pytest
import torch

from minigen import ivqvae, latents
from minigen.data import ToyFaces
from minigen.files import load_weights
from tests.conftest import defaults


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
    want = tokenizer.decode_indices(tokenizer.encode_indices(x))
    torch.testing.assert_close(back, want, rtol=0, atol=1e-5)


def test_decoding_quantises(tokenizer):
    z = latents.encode(tokenizer, ToyFaces(3, seed=2).images()).z
    moved = latents.decode(tokenizer, z + 1e-4 * torch.randn_like(z))
    torch.testing.assert_close(moved, latents.decode(tokenizer, z), rtol=0, atol=1e-5)


def test_cached_latents_are_what_encoding_gives_at_any_batch_size(tokenizer):
    x = ToyFaces(30, seed=4).images()
    parts, whole = latents.encode(tokenizer, x, 7).z, latents.encode(tokenizer, x).z
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-4)


def test_another_autoencoder_is_refused(tokenizer):
    encoded = latents.encode(tokenizer, ToyFaces(2, seed=2).images())
    other = ivqvae.IVQVAE(**ivqvae.PRESETS["small"])
    with pytest.raises(ValueError, match="a latent space of its own"):
        latents.decode(other, encoded.z, made_with=encoded.tokenizer)
    assert latents.fingerprint(other) != latents.fingerprint(tokenizer)
    again = load_weights(ivqvae.IVQVAE, "ivqvae")
    assert latents.fingerprint(again) == latents.fingerprint(tokenizer)


def test_the_kept_fftd_belongs_to_the_kept_autoencoder(tokenizer):
    from minigen.fftd import FFTD
    assert load_weights(FFTD, "fftd").card["tokenizer"] == latents.fingerprint(tokenizer)


class Small(ivqvae.IVQVAE):
    """Notes the sizes of the batches it decodes, and its mode."""

    def decode(self, z_q):
        self.seen = [*getattr(self, "seen", []), (len(z_q), self.training, torch.is_grad_enabled())]
        return super().decode(z_q)


def test_latents_by_hand():
    model = Small(size=8, width=8, multipliers=(1, 2), attention_at=0, num_codes=16).train()
    model.latent_mean.copy_(torch.tensor([1.0, 2, 3, 4]))
    model.latent_std.copy_(torch.tensor([0.5, 1, 2, 4]))
    before = model.quantizer.cluster_size.clone()
    x = torch.rand(5, 3, 8, 8) * 2 - 1
    z, mark = latents.encode(model, x, batch_size=2)
    codes = model.quantizer.codebook[model.encode_indices(x)].permute(0, 3, 1, 2)
    shift, scale = model.latent_mean.view(1, 4, 1, 1), model.latent_std.view(1, 4, 1, 1)
    torch.testing.assert_close(z, (codes - shift) / scale)
    assert mark == latents.fingerprint(model) and model.training
    got = latents.decode(model, z, batch_size=2)
    assert (
        model.seen == [(2, False, False), (2, False, False), (1, False, False)] and model.training
    )
    torch.testing.assert_close(got, model.decoder(codes))
    assert torch.equal(model.quantizer.cluster_size, before)  # neither counts as training
    assert latents.decode(model, z, made_with=mark).shape == x.shape


def test_the_fingerprint_is_of_names_and_values():
    model = torch.nn.Linear(2, 1)
    digest = hashlib.sha256()
    for name in ("bias", "weight"):
        digest.update(name.encode() + getattr(model, name).detach().numpy().tobytes())
    assert latents.fingerprint(model) == digest.hexdigest()
    assert defaults(latents.encode) == dict(batch_size=64) and defaults(latents.decode) == dict(
        batch_size=64, made_with=None
    )


def test_a_new_decoder_keeps_the_space_of_the_old_one(tokenizer):
    other = copy.deepcopy(tokenizer)
    other.latents_of = latents.fingerprint(tokenizer)
    with torch.no_grad():
        other.decoder.body[0].weight.mul_(1.1)
    x = ToyFaces(3, seed=1).images()
    made = latents.encode(other, x)
    assert made.tokenizer == latents.fingerprint(tokenizer) != latents.fingerprint(other)
    assert torch.equal(made.z, latents.encode(tokenizer, x).z)
    ours = latents.decode(other, made.z, made_with=made.tokenizer)
    assert not torch.equal(ours, latents.decode(tokenizer, made.z, made_with=made.tokenizer))
