import pytest
import torch
from torch import nn

from minigen.unet import PRESETS, PointDenoiser, TimeBlock, UNet, time_features
from tests.conftest import peer

TINY = dict(size=16, width=8, multipliers=(1, 2), blocks=2, attention_at=8)


def woken(**config):
    """A U-Net whose layers that start at zero do not."""
    torch.manual_seed(0)
    model = UNet(**config)
    with torch.no_grad():
        for p in model.parameters():
            if not p.any():
                p.normal_(0, 0.1)
    return model.eval()


def test_time_features_equal_diffusers():
    theirs = peer("diffusers.models.embeddings").get_timestep_embedding
    t = torch.tensor([0, 1, 500, 999])
    want = theirs(t, 256, flip_sin_to_cos=True, downscale_freq_shift=0)
    torch.testing.assert_close(time_features(t, 256), want, rtol=0, atol=1e-4)


def test_output_is_zero_before_training_and_has_the_inputs_shape():
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(UNet(**TINY)(x, torch.tensor([5, 9])), torch.zeros_like(x))
    assert UNet(**TINY, learn_variance=True)(x, torch.tensor([5])).shape == (2, 6, 16, 16)
    grey = UNet(size=8, width=8, multipliers=(1, 2), attention_at=4, channels=1)
    assert grey(x[:, :1, :8, :8], torch.tensor([5])).shape == (2, 1, 8, 8)


def test_blocks_start_as_their_shortcut():
    h = torch.randn(2, 8, 4, 4)
    assert torch.equal(TimeBlock(8, 8, 16)(h, torch.randn(1, 16)), h)


def test_time_and_label_matter_and_the_null_label_is_no_label():
    model, x = woken(**TINY, num_classes=3), torch.randn(2, 3, 16, 16)
    t, y = torch.tensor([100]), torch.tensor([0, 2])
    out = model(x, t, y)
    assert not torch.allclose(out, model(x, torch.tensor([900]), y), atol=1e-4)
    assert not torch.allclose(out, model(x, t, torch.tensor([1, 1])), atol=1e-4)
    torch.testing.assert_close(model(x, t), model(x, t, torch.tensor([3, 3])))
    torch.testing.assert_close(out, model(x, torch.tensor([100, 100]), y))


def test_one_image_is_the_same_in_a_batch():
    model, x = woken(**TINY), torch.randn(4, 3, 16, 16)
    torch.testing.assert_close(model(x, torch.tensor([3]))[1:2], model(x[1:2], torch.tensor([3])), rtol=0, atol=1e-5)


def test_every_parameter_gets_a_gradient_and_attention_is_where_it_is_asked():
    model = woken(**TINY, num_classes=2, dropout=0.1).train()
    model(torch.randn(2, 3, 16, 16), torch.tensor([3, 4]), torch.tensor([0, 2])).square().mean().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and torch.isfinite(p.grad).all() and bool(p.grad.any()), name
    attended = [n for n, m in model.named_modules() if type(m).__name__ == "Attention"]
    assert len(attended) == 4 and all(n.startswith(("down.1", "up.0")) for n in attended)


def test_presets():
    small = UNet(**PRESETS["small"], num_classes=5)
    assert sum(p.numel() for p in small.parameters()) < 4e6
    with torch.device("meta"):
        paper = UNet(**PRESETS["paper"])
    assert len(paper.down) == len(paper.up) == 4 and all(len(stage) == 2 for stage in [*paper.down, *paper.up])
    attended = {n.split(".")[0] for n, m in paper.named_modules() if type(m).__name__ == "Attention"}
    assert attended == {"middle"}                                   # 256 halved four times is 16


def test_point_denoiser():
    model, x = PointDenoiser(2, learn_variance=True), torch.randn(5, 2)
    assert torch.equal(model(x, torch.tensor([3])), torch.zeros(5, 4))
    nn.init.normal_(model.last.weight)
    assert not torch.allclose(model(x, torch.tensor([3])), model(x, torch.tensor([900])))
    torch.testing.assert_close(model(x, torch.tensor([3]))[:1], model(x[:1], torch.tensor([3])))


@pytest.mark.parametrize(("call", "words"), [
    (lambda: UNet(size=12, multipliers=(1, 2, 4)), "which the size 12 does not allow"),
    (lambda: UNet(**TINY)(torch.zeros(1, 3, 8, 8), torch.tensor([1])), r"\(B, 3, 16, 16\); got \(1, 3, 8, 8\)"),
    (lambda: UNet(**TINY)(torch.zeros(1, 3, 16, 16), torch.tensor([1]), torch.tensor([0])), "without classes"),
    (lambda: UNet(**TINY, num_classes=2)(torch.zeros(1, 3, 16, 16), torch.ones(1).long(), torch.tensor([3])), "or 2 for none"),
    (lambda: time_features(torch.tensor([1]), 7), "must be even")])
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()
