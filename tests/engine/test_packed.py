"""Weights laid out beforehand: the same answers, with oneDNN's packing and without."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from minigen.engine import packed
from minigen.engine.packed import PackedLinear, TokenConv, has_packing
from minigen.fusion import to_map, to_tokens

DONE = {"none": lambda h: h, "silu": F.silu, "gelu": lambda h: F.gelu(h, approximate="tanh")}
equal = torch.testing.assert_close


@pytest.fixture(params=[True, False], ids=["packed", "transposed"], autouse=True)
def packing(request, monkeypatch):
    """Both ways, the one without oneDNN too."""
    if not request.param:
        monkeypatch.setattr(packed, "has_packing", lambda device: False)
    elif not has_packing():
        pytest.skip("this torch has no oneDNN")
    return request.param


@pytest.mark.parametrize("activation", DONE)
@pytest.mark.parametrize("shape", [(24,), (1, 24), (5, 7, 24), (300, 24)])
@torch.no_grad()
def test_a_product_is_a_linear_layers(activation, shape, packing):
    torch.manual_seed(0)
    layer, x = nn.Linear(24, 40), torch.randn(shape)
    ours = PackedLinear(layer.weight, layer.bias, activation)
    want = DONE[activation](layer(x))
    assert ours.packed is packing
    equal(ours(x), want, rtol=1e-5, atol=1e-5)
    layer.weight.zero_()
    equal(ours(x), want, rtol=1e-5, atol=1e-5)                        # a copy


def test_a_product_in_float64_is_one_in_float64():
    layer, x = nn.Linear(24, 40).double(), torch.randn(3, 24, dtype=torch.float64)
    with torch.no_grad():
        equal(PackedLinear(layer.weight, layer.bias)(x), layer(x))


@pytest.mark.parametrize("activation", DONE)
@pytest.mark.parametrize(("n", "stride"), [(1, 1), (2, 1), (2, 2), (4, 1), (4, 2), (8, 1)])
@torch.no_grad()
def test_a_convolution_of_tokens_is_that_of_their_map(n, stride, activation):
    torch.manual_seed(0)
    conv, x = nn.Conv2d(6, 10, 3, stride, 1), torch.randn(3, n * n, 6)
    ours = TokenConv(conv, n, activation)
    want = DONE[activation](to_tokens(conv(to_map(x))))
    assert (ours.linear is not None) is (n <= 2)
    equal(ours(x), want, rtol=1e-5, atol=1e-5)
    conv.weight.zero_()
    equal(ours(x), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 4])
@torch.no_grad()
def test_what_comes_before_a_convolution(n):
    torch.manual_seed(0)
    double, conv = nn.Upsample(scale_factor=2), nn.Conv2d(6, 10, 3, 1, 1)
    x = torch.randn(3, n * n, 6)
    got = TokenConv(conv, n, before=double)(x)
    assert got.shape == (3, 4 * n * n, 10)
    equal(got, to_tokens(conv(double(to_map(x)))), rtol=1e-5, atol=1e-5)
