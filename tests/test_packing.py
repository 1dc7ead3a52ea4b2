import pytest
import torch
from torch import nn

from minigen import gan, vqvae
from minigen.packing import is_scale, kept, packed, unpacked


def there_and_back(w):
    return unpacked(packed({"w": w}))["w"]


def test_by_hand():
    w = torch.tensor([[127.0, -63.6, 0.4], [2.0, 0.5, -1.0]])
    small = packed({"w": w})
    assert list(small) == ["w", "w.scale"] and small["w"].dtype is torch.int8
    assert small["w"].tolist() == [[127, -64, 0], [127, 32, -64]]  # 31.75, -63.5
    assert torch.equal(small["w.scale"], torch.tensor([1.0, 2 / 127]))
    assert torch.allclose(there_and_back(w)[1], torch.tensor([2.0, 64 / 127, -128 / 127]))


@pytest.mark.parametrize("shape", [(40, 7), (40, 5, 3, 3), (1, 30), (30, 1), (6, 2, 2)])
def test_what_comes_back_is_within_half_a_step(shape):
    sizes = torch.logspace(-34, 37, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    w = torch.randn(shape) * sizes                  # almost every size that 32 bits hold
    small = packed({"w": w})
    scale = small["w.scale"]
    assert scale.shape == (shape[0],) and scale.dtype is torch.float32
    off = (there_and_back(w) - w).abs().flatten(1) / scale[:, None]
    assert off.max() <= 0.5 + 2e-5
    largest = w.abs().flatten(1).amax(1)
    assert torch.allclose(scale, largest / 127, rtol=1e-6)
    assert (small["w"].flatten(1).abs().amax(1) == 127).all()   # no step is wasted


def test_a_scale_for_each_row_keeps_what_one_for_all_would_lose():
    w = torch.randn(2, 1000) * torch.tensor([[1.0], [1e-3]])
    one = packed({"w": w.reshape(1, -1)})
    assert (one["w"][0, 1000:].abs() <= 1).all()
    assert ((there_and_back(w) - w)[1] / w[1].std()).abs().max() < 0.02


def test_zeros_come_back_as_zeros():
    w = torch.randn(3, 4)
    w[1] = 0
    back = there_and_back(w)
    assert not back[1].any() and back[0].any() and back[2].any()
    assert torch.isfinite(packed({"w": w})["w.scale"]).all()
    assert torch.equal(there_and_back(torch.zeros(2, 2)), torch.zeros(2, 2))


def test_rows_too_small_for_a_step_of_their_own_are_within_half_of_the_smallest():
    step = torch.finfo(torch.float32).tiny
    w = torch.tensor([[1e-45, -7e-45], [5 * step, -2.4 * step], [126 * step, 0.6 * step]])
    small = packed({"w": w})
    assert (small["w.scale"] == step).all()
    assert small["w"].tolist() == [[0, 0], [5, -2], [126, 1]]
    assert (there_and_back(w) - w).abs().max() <= step / 2


def test_packing_what_was_unpacked_changes_nothing():
    torch.manual_seed(1)
    w = torch.randn(3000, 9) * torch.logspace(-40, 37, 3000)[:, None]
    w[::10] = 0
    state = {"w": w, "b": torch.randn(7), "n": torch.tensor(3)}
    once = packed(state)
    again = packed(unpacked(once))
    assert list(again) == list(once)
    assert all(torch.equal(again[k], once[k]) for k in once if k != "w.scale")
    assert torch.allclose(again["w.scale"], once["w.scale"], rtol=2e-7, atol=0)


def test_what_has_no_rows_or_is_whole_is_not_packed():
    state = {
        "bias": torch.randn(5),
        "number": torch.tensor(1.5),
        "none": torch.zeros(0, 3),
        "narrow": torch.zeros(3, 0),
        "steps": torch.tensor(7),
        "table": torch.arange(6).reshape(2, 3),
        "bytes": torch.arange(6, dtype=torch.int8).reshape(2, 3),
        "mask": torch.tensor([[True, False]]),
    }
    small = packed(state)
    assert list(small) == list(state)
    for name, v in state.items():
        dtype = torch.float16 if v.is_floating_point() else v.dtype
        assert small[name].dtype is dtype and torch.equal(small[name], v.to(dtype))
    back = unpacked(small)
    assert all(back[k].dtype is v.dtype and back[k].shape == v.shape for k, v in state.items())
    assert torch.equal(back["bytes"], state["bytes"])       # no scale: not a packed tensor


def test_other_floats_are_packed_alike():
    w = torch.randn(4, 6)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        want = packed({"w": w.to(dtype).float()})
        got = packed({"w": w.to(dtype)})
        assert all(torch.equal(got[k], want[k]) for k in want)
        assert there_and_back(w.to(dtype)).dtype is torch.float32


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nothing_finite_comes_back_of_a_row_that_is_not(value):
    w = torch.randn(3, 4)
    w[1, 2] = value
    back = there_and_back(w)
    assert not torch.isfinite(back[1]).any() and torch.isfinite(back[[0, 2]]).all()


def test_no_module_can_have_a_tensor_by_the_name_of_a_scale():
    """`w.scale` beside a tensor `w` would need a module `w`, or a dot in a name."""
    module = nn.Module()
    module.register_parameter("w", nn.Parameter(torch.zeros(2, 2)))
    with pytest.raises(KeyError):
        module.add_module("w", nn.Linear(1, 1))
    with pytest.raises(TypeError):
        module.w = nn.Linear(1, 1)
    for register in (module.register_buffer, module.register_parameter):
        with pytest.raises(KeyError, match=r'contain "\."'):
            register("w.scale", None)
    state = {"w": torch.zeros(2, 2), "n.scale": torch.ones(2), "w.weight.scale": torch.ones(1)}
    small = packed(state)                          # parameters that are called scale
    assert {k for k in small if is_scale(k, small)} == {"w.scale"}
    assert unpacked(small).keys() == state.keys()


@pytest.mark.parametrize("model", [gan.Generator(width=8), vqvae.VQVAE(width=8)])
def test_networks_come_back_whole(model):
    state = model.state_dict()
    back = unpacked(packed(state))
    assert back.keys() == state.keys()
    model.load_state_dict(back)
    for k, v in state.items():
        assert back[k].dtype is v.dtype and back[k].shape == v.shape


@pytest.mark.parametrize("scale", [
    torch.ones(3),
    torch.ones(2, 1),
    torch.tensor(1.0),
    torch.ones(2, dtype=torch.float16),
    torch.ones(2, dtype=torch.int64),
])
def test_scales_that_do_not_fit_their_rows_are_refused(scale):
    with pytest.raises(ValueError, match=r"w.scale must be one float32 for each row of w.*got"):
        unpacked({"w": torch.zeros(2, 3, dtype=torch.int8), "w.scale": scale})


@pytest.mark.parametrize("shape", [(), (2,)])
def test_what_has_no_rows_has_no_scale(shape):
    with pytest.raises(ValueError, match=r"w.scale must be one float32 for each row of w"):
        unpacked({"w": torch.zeros(shape, dtype=torch.int8), "w.scale": torch.ones(shape)})


def test_how_many_bits():
    state = {"w": torch.randn(2, 3), "b": torch.randn(2), "n": torch.tensor(1)}
    assert kept(state, 32) is state
    half = kept(state, 16)
    assert half["w"].dtype is half["b"].dtype is torch.float16 and half["n"].dtype is torch.int64
    assert torch.equal(unpacked(half)["w"], state["w"].half().float())
    assert kept(state, 8).keys() == packed(state).keys()
    for bits in (4, 0, 64, "8", None, True):
        with pytest.raises(ValueError, match="bits must be 32, 16 or 8; got"):
            kept(state, bits)
