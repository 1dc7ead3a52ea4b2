"""DALL-E 2's detour: a prior over embeddings and a decoder of them."""

import pytest
import torch
import torch.nn.functional as F

from minigen import clip, ddpm, unclip
from minigen.common import generator
from minigen.data import batches
from minigen.fftd import FFTD
from minigen.files import load_weights, save_weights
from minigen.ivqvae import IVQVAE
from minigen.latents import fingerprint

SMALL = dict(dim=32, heads=4, prediction="v", schedule="cosine")


def directions(n=64, dim=16, seed=1):
    return F.normalize(torch.randn(n, dim, generator=generator(seed)), dim=1)


def decoder():
    model = unclip.EmbeddedFFTD(16, **SMALL)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=generator(2)))
    return model.eval()


def test_scaled_numbers_have_deviation_one():
    x = unclip.scaled(directions())
    assert float(x.square().mean()) == pytest.approx(1, abs=1e-5)


def test_a_prior_learns_which_picture_a_sentence_means():
    text = directions()
    image = F.normalize(text.roll(1, 1) + 0.1 * directions(seed=2), dim=1)
    prior = unclip.Prior(16, width=64, depth=1)
    data = batches(unclip.scaled(image), unclip.scaled(text), batch_size=64)
    for step in ddpm.train_ddpm(prior, data, ddpm.diffusion_of(prior), steps=300, lr=3e-3):
        assert step.loss > 0
    x, t = torch.randn(64, 16, generator=generator(3)), torch.tensor([999])
    with torch.no_grad():
        told = F.normalize(prior(x, t, unclip.scaled(text)), dim=1)
    assert float((told * image).sum(1).mean()) > 0.9
    assert float((told.roll(1, 0) * image).sum(1).mean()) < 0.4


def test_what_is_not_told_is_a_vector_of_its_own():
    prior = unclip.Prior(16, width=32, depth=1)
    x, t = unclip.scaled(directions(4)), torch.tensor([5])
    with torch.no_grad():
        prior.nothing.normal_()
        torch.testing.assert_close(prior(x, t), prior(x, t, prior.nothing.expand(4, -1)))
        model, z = decoder(), torch.randn(4, 4, 4, 4)
        model.nothing.normal_()
        torch.testing.assert_close(model(z, t), model(z, t, model.nothing.expand(4, -1)))


def test_an_embedding_that_says_nothing_leaves_fftd_as_it_is():
    model = decoder()
    plain = FFTD(**SMALL)
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if k in plain.state_dict()})
    with torch.no_grad():
        model.told.weight.zero_()
        model.told.bias.zero_()
        z, t = torch.randn(3, 4, 4, 4), torch.tensor([1, 500, 999])
        torch.testing.assert_close(model(z, t, torch.randn(3, 16)), plain(z, t))


def test_guidance_by_a_vector():
    model, z, t = decoder(), torch.randn(3, 4, 4, 4), torch.tensor([300])
    y = unclip.scaled(directions(3))
    with torch.no_grad():
        told, untold = model(z, t, y), model(z, t)
        for scale in (0.0, 1.0, 2.5):
            which = torch.tensor([2, 0, 1])
            got = unclip.Steered(model, y[[1, 2, 0]], scale)(z, t, which)
            torch.testing.assert_close(got, untold + scale * (told - untold), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="which vector"):
        unclip.Steered(model, y)(z, t)


def test_faces_and_embeddings_are_drawn():
    tokenizer, model = load_weights(IVQVAE, "ivqvae"), decoder()
    model.card = dict(tokenizer=fingerprint(tokenizer))
    y = directions(3)
    x = unclip.decoded(model, tokenizer, y, steps=3)
    assert x.shape == (3, 3, 32, 32)
    assert torch.equal(unclip.decoded(model, tokenizer, y, steps=3), x)
    assert not torch.equal(unclip.decoded(model, tokenizer, y, steps=3, seed=1), x)
    z = torch.randn(3, 4, 4, 4, generator=generator(0))
    torch.testing.assert_close(unclip.decoded(model, tokenizer, y, steps=3, noise=z), x)
    drawn = unclip.embeddings_of(unclip.Prior(16, 32, 1), clip.CLIP(dim=16, image_width=8),
                                 ["a sad face", "red hair"], steps=4)
    torch.testing.assert_close(drawn.norm(dim=1), torch.ones(2))
    prior = unclip.Prior(16, 32, 1)
    prior.card = dict(clip="another")
    with pytest.raises(ValueError, match="this prior was trained with the CLIP another"):
        unclip.embeddings_of(prior, clip.CLIP(dim=16, image_width=8), ["a sad face"])
    with pytest.raises(ValueError, match="these latents were made with the autoencoder"):
        model.card = dict(tokenizer="another")
        unclip.decoded(model, tokenizer, y, steps=3)


def test_weights_come_back(tmp_path):
    for model, inputs in ((decoder(), (torch.randn(2, 4, 4, 4), torch.tensor([7]))),
                          (unclip.Prior(16, 32, 1), (torch.randn(2, 16), torch.tensor([7])))):
        path = tmp_path / f"{type(model).__name__}.safetensors"
        save_weights(path, model)
        again = load_weights(type(model), path)
        with torch.no_grad():
            torch.testing.assert_close(again(*inputs), model.eval()(*inputs))


@pytest.mark.parametrize(("wrong", "sentence"), [
    (lambda: unclip.EmbeddedFFTD(16, num_classes=3, **SMALL), "num_classes must be left out"),
    (lambda: decoder()(torch.randn(2, 4, 4, 4), torch.tensor([1]), torch.randn(2, 9)),
     r"y must be \(B, 16\)"),
    (lambda: unclip.Prior(16)(torch.randn(2, 16), torch.tensor([1]), torch.randn(3, 16)),
     r"y must be \(2, 16\)"),
    (lambda: unclip.Steered(decoder(), torch.zeros(2, 16), -1.0), "scale must be"),
    (lambda: unclip.scaled(torch.randn(3)), r"embedding must be \(N, D\)"),
])
def test_bad_input(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        wrong()
