"""The three fusions: equations, starts, refusals."""

import pytest
import torch
from torch import nn

from minigen.fftd import FFTD
from minigen.fusion import AdaptiveFusion, AddFusion, ConcatFusion, kind_of
from tests.conftest import defaults


def test_adaptive_fusion_starts_as_a_sum():
    x1, x2 = torch.randn(2, 16, 32), torch.randn(2, 16, 32)
    torch.testing.assert_close(AdaptiveFusion(32)(x1, x2), x1 + x2)
    torch.testing.assert_close(ConcatFusion(32)(x1, x2), x1 + x2)


def test_adaptive_fusion_is_its_equations():
    torch.manual_seed(0)
    fusion = AdaptiveFusion(32)
    for p in fusion.parameters():
        nn.init.normal_(p, std=0.3)
    x1, x2 = torch.randn(3, 4, 32), torch.randn(3, 4, 32)
    out, w = fusion(x1, x2, return_weights=True)
    both = torch.cat([x1, x2], 2)
    p = torch.cat([both.mean(1), both.max(1).values], 1)                       # Eqs. 18, 19
    assert p.shape == (3, 128) and torch.equal(w["p"], p)
    first, _, second = fusion.channel
    channel = torch.sigmoid(second(nn.functional.silu(first(p))))              # Eq. 20
    torch.testing.assert_close(w["w_channel"], channel[:, None])
    c1, _, c2, _, c3 = fusion.spatial
    h = nn.functional.silu(c1(both.mT.reshape(3, 64, 2, 2)))
    h = nn.functional.silu(c2(h))
    spatial = torch.sigmoid(c3(h))                                             # Eqs. 21, 22
    torch.testing.assert_close(w["w_spatial"], spatial.reshape(3, 4, 1))
    assert bool((w["w_spatial"] > 0).all() and (w["w_spatial"] < 1).all())
    x_channel = channel[:, None] * fusion.norm1(x1)
    x_spatial = spatial.reshape(3, 4, 1) * fusion.norm2(x2)
    want = x_channel + x_spatial + fusion.s * fusion.linear(both)              # Eqs. 23 to 25
    torch.testing.assert_close(out, want)
    torch.testing.assert_close(w["x_channel"], x_channel)
    torch.testing.assert_close(w["x_spatial"], x_spatial)


def test_gradcheck_of_adaptive_fusion():
    torch.manual_seed(0)
    fusion = AdaptiveFusion(16).double()
    for p in fusion.parameters():
        nn.init.normal_(p, std=0.3)
    x1, x2 = (torch.randn(2, 4, 16, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(fusion, (x1, x2), eps=1e-6, atol=1e-5)


def test_a_new_fusion_has_the_weights_of_a_plain_sum():
    fusion = AdaptiveFusion(16).requires_grad_(False)
    eye = torch.eye(16)
    for linear in (fusion.linear, ConcatFusion(16).linear):
        assert torch.equal(linear.weight, torch.cat([eye, eye], 1)) and not linear.bias.any()
    assert not fusion.norm1.weight.any() and not fusion.norm2.weight.any() and float(fusion.s) == 1
    x1, x2 = torch.randn(2, 4, 16), torch.randn(2, 4, 16)
    assert torch.equal(AddFusion(16)(x1, x2), x1 + x2)


def test_a_start_at_the_norms_by_hand():
    """Gains of 1 and half the linear part: the output is ½ LN(x1) + ½ LN(x2) + ½ (x1 + x2) once
    both weights are ½."""
    fusion = AdaptiveFusion(16, "norms").requires_grad_(False)
    assert bool((fusion.norm1.weight == 1).all() and (fusion.norm2.weight == 1).all())
    assert float(fusion.s) == 0.5
    for layer in (fusion.channel[2], fusion.spatial[4]):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    x1, x2 = torch.randn(2, 4, 16), torch.randn(2, 4, 16)
    normed = sum((x - x.mean(-1, keepdim=True)) / (x.var(-1, False, True) + 1e-5).sqrt()
                 for x in (x1, x2))
    torch.testing.assert_close(fusion(x1, x2), (normed + x1 + x2) / 2)


def test_with_its_norms_the_adaptive_half_is_as_large_as_the_linear_half():
    torch.manual_seed(0)
    fusion = AdaptiveFusion(128, "norms").requires_grad_(False)
    x1, x2 = torch.randn(50, 16, 128), torch.randn(50, 16, 128)
    out, seen = fusion(x1, x2, return_weights=True)
    adaptive = seen["x_channel"] + seen["x_spatial"]
    assert float(adaptive.std() / (out - adaptive).std()) == pytest.approx(1, abs=0.1)
    assert float(out.std() / (x1 + x2).std()) == pytest.approx(1, abs=0.05)


def test_a_start_is_passed_on_to_every_fusion():
    norms = FFTD(dim=16, heads=2, fusion_start="norms")
    found = [m for m in norms.modules() if isinstance(m, AdaptiveFusion)]
    assert len(found) == 7 and all(m.s.item() == 0.5 for m in found)
    plain = [m for m in FFTD(dim=16, heads=2).modules() if isinstance(m, AdaptiveFusion)]
    assert len(plain) == 7 and all(m.s.item() == 1 for m in plain)
    assert isinstance(kind_of("add", "norms")(16), AddFusion)
    assert isinstance(kind_of("concat")(16), ConcatFusion)


@pytest.mark.parametrize(("call", "words"), [
    (lambda: kind_of("times"), "one of add, concat, adaptive; got 'times'"),
    (lambda: FFTD(fusion_start="zero"), "fusion_start must be 'sum' or 'norms'; got 'zero'"),
    (lambda: AdaptiveFusion(16, "zero"), "must be 'sum' or 'norms'; got 'zero'"),
    (lambda: AdaptiveFusion(40), "divides dim by 16; got 40"),
])
def test_what_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_what_is_taken_unless_told():
    assert defaults(AdaptiveFusion) == defaults(kind_of) == dict(start="sum")
