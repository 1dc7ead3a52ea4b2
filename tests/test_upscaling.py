"""Enlarging: what the network is shown, and the way a sampler shows it."""

import itertools

import pretrain_pictures
import pytest
import torch

from minigen import ddpm, upscaling
from minigen.common import evaluating, generator
from minigen.data import ToyFaces, batches
from minigen.files import load_weights, save_weights
from minigen.unet import UNet

TINY = dict(size=16, width=4, multipliers=(1, 2), attention_at=8, prediction="v",
            schedule="cosine")


@pytest.fixture
def model():
    torch.manual_seed(0)
    net = upscaling.PictureUNet(**TINY)
    for p in net.last.parameters():                    # the zeros it begins with would hide all
        torch.nn.init.normal_(p, std=0.1, generator=generator(1))
    return net


def faces(n, size=16):
    return ToyFaces(n, seed=1, size=size).images()


def test_larger_is_bicubic_and_keeps_the_range():
    small = faces(2, 8)
    grown = upscaling.larger(small, 32)
    assert grown.shape == (2, 3, 32, 32) and float(grown.abs().max()) <= 1
    flat = torch.full((1, 3, 4, 4), 0.3)
    torch.testing.assert_close(upscaling.larger(flat, 16), torch.full((1, 3, 16, 16), 0.3))


def test_a_picture_unet_that_ignores_its_picture_is_a_unet(model):
    """Its further weights at zero and the rest shared, the answers are equal."""
    plain = UNet(**TINY)
    state = {k: v for k, v in model.state_dict().items() if k != "first.weight"}
    plain.load_state_dict(state | {"first.weight": model.first.weight.detach()[:, :3]})
    with torch.no_grad():
        model.first.weight[:, 3:] = 0
    x, t = torch.randn(2, 3, 16, 16, generator=generator(2)), torch.tensor([5, 700])
    with evaluating(plain), evaluating(model):
        a, b = (model(x, t, torch.randn(2, 4, 16, 16, generator=generator(k))) for k in (3, 4))
        torch.testing.assert_close(a, plain(x, t))
        torch.testing.assert_close(a, b)


def test_it_is_saved_with_what_it_is_shown(model, tmp_path):
    save_weights(tmp_path / "m.safetensors", model)
    again = load_weights(upscaling.PictureUNet, tmp_path / "m.safetensors")
    assert again.config == model.config and again.config["shown"] == 4
    x, y = torch.randn(2, 3, 16, 16), torch.randn(2, 4, 16, 16)
    with evaluating(model):
        torch.testing.assert_close(model(x, torch.tensor([3]), y), again(x, torch.tensor([3]), y))


@pytest.mark.parametrize("level", [0.0, 0.5, torch.tensor([0.0, 0.9])])
def test_the_noise_on_what_is_shown_keeps_its_variance_and_says_its_level(level):
    small = torch.randn(2, 3, 32, 32, generator=generator(0)).clamp(-1, 1)
    shown = upscaling.noisy_condition(small, 64, level, generator(1))
    assert shown.shape == (2, 4, 64, 64)
    s = torch.as_tensor(level).expand(2)
    torch.testing.assert_close(shown[:, 3], s.view(2, 1, 1).expand(2, 64, 64))
    plain = upscaling.larger(small, 64)
    torch.testing.assert_close(
        shown[:, :3], (1 - s**2).sqrt().view(2, 1, 1, 1) * plain
        + s.view(2, 1, 1, 1) * torch.randn(plain.shape, generator=generator(1)))


def test_batches_show_each_face_what_is_left_of_it():
    detail, shown = next(upscaling.enlarging_batches(batches(faces(8), batch_size=4, seed=0), 4))
    (x,) = next(iter(batches(faces(8), batch_size=4, seed=0)))
    torch.testing.assert_close(shown[:, :3] + upscaling.DETAIL * detail, x)
    want = upscaling.larger(torch.nn.functional.avg_pool2d(x, 4), 16)
    torch.testing.assert_close(shown[:, :3], want)
    assert float(shown[:, 3].abs().max()) == 0
    data = batches(faces(64), batch_size=64, seed=0)
    _, shown = next(upscaling.enlarging_batches(data, 4, most=0.5))
    levels = shown[:, 3, 0, 0]
    assert 0 <= float(levels.min()) < 0.05 and 0.45 < float(levels.max()) < 0.5


def test_training_lowers_the_loss_and_the_picture_is_used(model):
    data = upscaling.enlarging_batches(batches(faces(64), batch_size=32, seed=0), 2)
    diffusion = ddpm.diffusion_of(model)
    losses = [s.loss for s in ddpm.train_ddpm(model, data, diffusion, steps=120, lr=1e-2)]
    assert sum(losses[-20:]) < 0.9 * sum(losses[:20])
    small = torch.nn.functional.avg_pool2d(faces(2), 2)
    a = upscaling.enlarge(model, small, steps=4)
    b = upscaling.enlarge(model, small.flip(0), steps=4)
    assert float((a - b).abs().mean()) > 0.01


def test_a_card_says_what_a_model_was_trained_for(model):
    model.card = dict(factor=2, most_noise=0.3)
    small = torch.zeros(1, 3, 8, 8)
    assert upscaling.enlarge(model, small, level=0.3, steps=1).shape == (1, 3, 16, 16)
    with pytest.raises(ValueError, match="of 8×8 pixels, as in this model's training"):
        upscaling.enlarge(model, small[..., :4, :4])
    with pytest.raises(ValueError, match=r"level must be at most 0\.3, as in this model's"):
        upscaling.enlarge(model, small, level=0.4)


def test_noise_on_the_condition_is_not_the_noise_to_be_predicted(monkeypatch):
    """Even where both are given one seed, as the recipe does: they would be equal."""
    seen = []

    def loss(net, diffusion, x0, t, eps, y):
        clean = upscaling.larger(torch.nn.functional.avg_pool2d(faces(32, 64), 2), 64)
        level = y[:, 3:]
        noise = (y[:, :3] - (1 - level**2).sqrt() * clean) / level.clamp_min(1e-3)
        seen.append(float(torch.corrcoef(torch.stack([noise.flatten(), eps.flatten()]))[0, 1]))
        return ddpm.simple_loss(net, diffusion, x0, t, eps, y)

    train = ddpm.train_ddpm
    monkeypatch.setattr(ddpm, "train_ddpm", lambda *a, **k: train(*a, **k, loss=loss))
    same = ToyFaces(32, seed=1, size=64)
    monkeypatch.setattr(pretrain_pictures, "ToyFaces", lambda *a, **k: same)
    monkeypatch.setattr(pretrain_pictures, "batches", lambda x, **k: itertools.repeat((x,)))
    monkeypatch.setattr(pretrain_pictures, "save_weights", lambda *a, **k: None)
    monkeypatch.setattr(pretrain_pictures, "_quality", lambda *a: {})
    monkeypatch.setattr(pretrain_pictures.upscaling, "enlarge", lambda *a: None)
    monkeypatch.setattr(pretrain_pictures, "SMALL", dict(width=4, multipliers=(1,)))
    pretrain_pictures.cascade(steps=2, batch_size=32)
    assert len(seen) == 2 and max(map(abs, seen)) < 0.05


def test_each_image_keeps_its_own_picture_whatever_the_batch(model):
    small = torch.nn.functional.avg_pool2d(faces(5), 2)
    whole = upscaling.enlarge(model, small, steps=3, eta=1.0)
    torch.testing.assert_close(whole, upscaling.enlarge(model, small, steps=3, eta=1.0,
                                                        batch_size=2), atol=1e-5, rtol=1e-4)
    assert whole.shape == (5, 3, 16, 16) and float(whole.abs().max()) <= 1


X, T0 = torch.zeros(2, 3, 16, 16), torch.tensor([0])


@pytest.mark.parametrize(("call", "words"), [
    (lambda net: net(X, T0), "which picture"),
    (lambda net: net(X, T0, torch.zeros(2, 3, 16, 16)), "y must be"),
    (lambda net: net(X, T0, torch.zeros(1, 4, 16, 16)), "y must be"),
    (lambda net: upscaling.Beside(net, torch.zeros(2, 4, 16, 16))(X, T0), "which picture"),
    (lambda net: upscaling.Beside(net, torch.zeros(2, 4, 16, 16))(X, T0, torch.tensor([0, 2])),
     "labels must be 0 to 1"),
    (lambda net: upscaling.PictureUNet(num_classes=3), "num_classes must be left out"),
    (lambda net: upscaling.PictureUNet(shown=0), "shown"),
    (lambda net: upscaling.enlarge(net, torch.zeros(1, 3, 5, 5)), "a size that divides 16"),
    (lambda net: upscaling.enlarge(net, torch.zeros(1, 3, 4, 8)), "the picture must be square"),
    (lambda net: upscaling.larger(torch.zeros(1, 3, 16, 16), 8), "size must be a whole number, at"),
    (lambda net: upscaling.larger(torch.full((1, 3, 8, 8), 255.0), 16), "bytes become floats"),
    (lambda net: next(upscaling.enlarging_batches([(X,)], 5)), "factor must be a divisor"),
    (lambda net: upscaling.enlarge(net, torch.zeros(1, 3, 8, 8), level=1.0), "level is a number"),
    (lambda net: upscaling.enlarge(net, torch.full((1, 3, 8, 8), 255.0)), "bytes become floats"),
    (lambda net: upscaling.noisy_condition(torch.zeros(2, 3, 8, 8), 16, torch.zeros(3)), "level"),
    (lambda net: next(upscaling.enlarging_batches([(X,)], 2, most=1)), "most"),
])
def test_bad_input_gets_one_sentence(model, call, words):
    with pytest.raises(ValueError, match=words) as e:
        call(model)
    assert "\n" not in str(e.value)
