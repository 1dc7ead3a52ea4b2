import math

import pytest
import torch
from torch import nn

from minigen.common import time_features
from minigen.fftd import FFTD
from minigen.files import load_weights, save_weights
from minigen.unet import PRESETS, PointDenoiser, TimeBlock, UNet
from tests.conftest import defaults, layers, peer, said, size_of

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
    t = torch.tensor([3])
    torch.testing.assert_close(model(x, t)[1:2], model(x[1:2], t), rtol=0, atol=1e-5)


def test_every_parameter_gets_a_gradient_and_attention_is_where_it_is_asked():
    model = woken(**TINY, num_classes=2, dropout=0.1).train()
    out = model(torch.randn(2, 3, 16, 16), torch.tensor([3, 4]), torch.tensor([0, 2]))
    out.square().mean().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and torch.isfinite(p.grad).all() and bool(p.grad.any()), name
    attended = [n for n, m in model.named_modules() if type(m).__name__ == "Attention"]
    assert len(attended) == 4 and all(n.startswith(("down.1", "up.0")) for n in attended)


def test_presets():
    small = UNet(**PRESETS["small"], num_classes=5)
    assert sum(p.numel() for p in small.parameters()) < 4e6
    with torch.device("meta"):
        paper = UNet(**PRESETS["paper"])
    assert len(paper.down) == len(paper.up) == 4
    assert all(len(stage) == 2 for stage in [*paper.down, *paper.up])
    attention = [n for n, m in paper.named_modules() if type(m).__name__ == "Attention"]
    attended = {name.split(".")[0] for name in attention}
    assert attended == {"middle"}                                   # 256 halved four times is 16


def test_point_denoiser():
    model, x = PointDenoiser(2, learn_variance=True), torch.randn(5, 2)
    assert torch.equal(model(x, torch.tensor([3])), torch.zeros(5, 4))
    nn.init.normal_(model.last.weight)
    assert not torch.allclose(model(x, torch.tensor([3])), model(x, torch.tensor([900])))
    torch.testing.assert_close(model(x, torch.tensor([3]))[:1], model(x[:1], torch.tensor([3])))


ONE, ZERO = torch.tensor([1]), torch.zeros(1, 3, 16, 16)


@pytest.mark.parametrize(("call", "words"), [
    (lambda: UNet(size=12, multipliers=(1, 2, 4)), "which the size 12 does not allow"),
    (lambda: UNet(**TINY)(ZERO[:, :, :8, :8], ONE), r"\(B, 3, 16, 16\); got \(1, 3, 8, 8\)"),
    (lambda: UNet(**TINY)(ZERO, ONE, ONE), "without classes"),
    (lambda: UNet(**TINY, num_classes=2)(ZERO, ONE, 3 * ONE), "or 2 for none"),
    (lambda: time_features(ONE, 7), "must be even")])
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def time_block(c_in, c_out, dim, dropout=0.0):
    """A block's layers as text."""

    def norm(c):
        return f"GroupNorm {c // 4} {c}; SiLU"

    short = "Identity" if c_in == c_out else f"Conv2d {c_in} {c_out} 1 1 0"
    return (
        f"{norm(c_in)}; Conv2d {c_in} {c_out} 3 1 1; SiLU; Linear {dim} {c_out}; {norm(c_out)}; "
        f"Dropout {dropout}; "
        f"Conv2d {c_out} {c_out} 3 1 1; {short}"
    )


def test_the_architecture_layer_by_layer():
    model = UNet(
        size=8,
        width=8,
        multipliers=(1, 3),
        attention_at=4,
        num_classes=2,
        dropout=0.3,
        learn_variance=True,
    )
    attention = "GroupNorm 6 24; Conv2d 24 72 1 1 0; Conv2d 24 24 1 1 0"
    assert (
        layers(model)
        == "; ".join(
            [
                "Linear 8 32; SiLU; Linear 32 32; Embedding 3 32; Conv2d 3 8 3 1 1",
                time_block(8, 8, 32, 0.3),
                "Identity",
                time_block(8, 24, 32, 0.3),
                attention,  # down
                "Conv2d 8 8 3 2 1; Conv2d 24 24 3 2 1",  # halvings
                "Upsample 2.0 nearest; Conv2d 24 24 3 1 1",  # doublings
                "Upsample 2.0 nearest; Conv2d 24 8 3 1 1",
                time_block(48, 24, 32, 0.3),
                attention,
                time_block(16, 8, 32, 0.3),
                "Identity",  # up
                time_block(24, 24, 32, 0.3),
                "Identity",
                time_block(24, 24, 32, 0.3),
                "Identity",  # middle
                "GroupNorm 2 8; SiLU; Conv2d 8 6 3 1 1",
            ]
        )
    )
    assert (
        layers(PointDenoiser(2, width=8, layers=2, learn_variance=True))
        == said("""
        Linear 2 8; Linear 64 8; SiLU; Linear 8 16; SiLU; Linear 16 8; SiLU; Linear 8 16; SiLU;
        Linear 16 8; Linear 8 4""")
    )


def test_sizes_of_the_presets():
    """The networks of chapter 5, the paper's size at DDPM's width, and the network for points: as
    the text names them."""
    sizes = [size_of(lambda p=p: UNet(**p)) for p in ({}, PRESETS["small"], PRESETS["paper"])]
    assert (
        sizes == [2_059_747, 2_059_747, 60_110_467] and size_of(lambda: PointDenoiser(2)) == 206_722
    )
    assert PRESETS["small"] == dict(
        size=32, width=16, multipliers=(1, 2, 4, 8), blocks=1, attention_at=8
    )
    assert PRESETS["paper"] == dict(
        size=256, width=128, multipliers=(1, 2, 2, 4), blocks=2, attention_at=16
    )


def test_what_starts_at_zero():
    model = UNet(**TINY)
    zero = {n.rsplit(".", 1)[0] for n, p in model.named_parameters() if p.ndim > 1 and not p.any()}
    seconds = {n for n, m in model.named_modules() if n.endswith("second.3")}
    assert zero == seconds | {"last.2"} and len(seconds) == 10
    assert not any(p.any() for n in zero for p in model.get_submodule(n).parameters())
    point = PointDenoiser(3)
    assert [n for n, p in point.named_parameters() if not p.any()] == ["last.weight", "last.bias"]


def test_time_features_by_hand():
    got = time_features(torch.tensor([3, 70]), 4)
    for row, t in zip(got.tolist(), (3, 70), strict=True):
        assert row == pytest.approx(
            [math.cos(t), math.cos(t / 100), math.sin(t), math.sin(t / 100)], abs=1e-5
        )
    assert time_features(torch.tensor([3]), 4, longest=9)[0, 1].item() == pytest.approx(
        math.cos(1), abs=1e-5
    )


def test_a_block_written_out():
    block = TimeBlock(8, 12, 5)
    nn.init.normal_(block.second[-1].weight)
    h, vector = torch.randn(3, 8, 4, 4), torch.randn(3, 5)
    silu, group = nn.functional.silu, nn.functional.group_norm
    u = block.first[2](silu(group(h, 2, eps=1e-6)))
    u = u + block.condition[1](silu(vector))[:, :, None, None]
    want = block.shortcut(h) + block.second[3](silu(group(u, 3, eps=1e-6)))
    torch.testing.assert_close(block(h, vector), want, rtol=1e-4, atol=1e-4)


def test_a_pass_written_out():
    """Two stages of two blocks, with labels: what goes down comes up again in the reverse order."""
    model = woken(**TINY, num_classes=3)
    x, t, y = torch.randn(2, 3, 16, 16), torch.tensor([10, 500]), torch.tensor([2, 3])
    v = model.time(time_features(t, 8)) + model.label.weight[y]

    def step(pair, h):
        return pair[1](pair[0](h, v))

    a0 = model.first(x)
    a1 = step(model.down[0][0], a0)
    a2 = step(model.down[0][1], a1)
    b1 = step(model.down[1][0], model.shrink[0](a2))
    b2 = step(model.down[1][1], b1)
    c = step(model.middle[1], step(model.middle[0], model.shrink[1](b2)))
    u = step(model.up[0][0], torch.cat([model.grow[0](c), b2], 1))
    u = step(model.up[0][1], torch.cat([u, b1], 1))
    w = step(model.up[1][0], torch.cat([model.grow[1](u), a2], 1))
    w = step(model.up[1][1], torch.cat([w, a1], 1))
    torch.testing.assert_close(model(x, t, y), model.last(w))


def test_the_point_denoiser_written_out():
    model, x, t = (
        PointDenoiser(2, width=8, layers=2),
        torch.randn(5, 2),
        torch.tensor([3, 4, 50, 600, 999]),
    )
    nn.init.normal_(model.last.weight)
    time, h = model.time(time_features(t, 64)), model.first(x)
    h = h + model.layers[0](h + time)
    h = h + model.layers[1](h + time)
    torch.testing.assert_close(model(x, t), model.last(h))


def test_what_is_taken_unless_told():
    assert defaults(time_features)["longest"] == 10_000 and defaults(TimeBlock) == dict(
        dropout=0.0
    )
    assert defaults(UNet) == dict(
        size=32,
        width=16,
        multipliers=(1, 2, 4, 8),
        blocks=1,
        attention_at=8,
        channels=3,
        num_classes=0,
        dropout=0.0,
        learn_variance=False,
        prediction="eps",
        schedule=None,
    )
    assert defaults(PointDenoiser) == dict(
        width=128, layers=3, learn_variance=False, prediction="eps", schedule=None
    )


def test_a_model_is_rebuilt_from_its_config():
    config = dict(size=8, width=8, multipliers=(1, 3), blocks=2, attention_at=4, channels=1)
    told = dict(prediction="x0", schedule="cosine")
    config |= dict(num_classes=2, dropout=0.3, learn_variance=True) | told
    assert UNet(**config).config == config
    config = dict(dim=2, width=8, layers=2, learn_variance=True) | told
    assert PointDenoiser(**config).config == config


def test_the_limits_of_labels_and_shapes():
    model, x = UNet(**TINY, num_classes=3), torch.zeros(2, 3, 16, 16)
    t = torch.tensor([1])
    assert model(x, t, torch.tensor([0, 3])).shape == x.shape
    for y in ([0, 4], [-1, 0]):
        with pytest.raises(ValueError):
            model(x, t, torch.tensor(y))
    for shape in ((2, 1, 16, 16), (2, 3, 16, 8), (2, 3, 8, 16)):
        with pytest.raises(ValueError):
            model(torch.zeros(shape), t)


@pytest.mark.parametrize("build", [lambda **k: UNet(8, 8, (1,), **k), lambda **k: FFTD(**k),
                                   lambda **k: PointDenoiser(2, **k)])
def test_what_a_network_predicts_is_kept_with_its_weights(build, tmp_path):
    net = build(prediction="v", schedule="cosine")
    save_weights(tmp_path / "net.safetensors", net)
    again = load_weights(type(net), tmp_path / "net.safetensors")
    assert (again.prediction, again.schedule) == ("v", "cosine")
    with pytest.raises(ValueError, match="'eps', 'x0' or 'v'; got 'noise'"):
        build(prediction="noise")
    with pytest.raises(ValueError, match=r"'linear', 'cosine'.*got 'square'"):
        build(schedule="square")
