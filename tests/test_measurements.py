"""Linear damages against their adjoints and pseudo-inverses; PSNR and SSIM against torchmetrics."""

import math

import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio as peer_psnr
from torchmetrics.functional.image import structural_similarity_index_measure as peer_ssim

from minigen import measurements as m
from minigen.common import generator
from minigen.data import ToyFaces

MASK = (torch.arange(64).view(8, 8) % 3 > 0).float()
DAMAGES = {"holes": m.holes(MASK), "shrink": m.shrink(4), "shrink by 1": m.shrink(1),
           "grey": m.grey()}


def random(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", DAMAGES)
def test_adjoint_and_pseudo_inverse(name):
    damage = DAMAGES[name]
    x = random(3, 3, 8, 8)
    y = damage.forward(random(3, 3, 8, 8, seed=1))
    w = random(*y.shape, seed=2)
    # the dot-product test: ⟨A x, w⟩ = ⟨x, Aᵀ w⟩
    torch.testing.assert_close((damage.forward(x) * w).sum(), (x * damage.adjoint(w)).sum())
    # Moore and Penrose's four conditions
    A, back = damage.forward, damage.back
    torch.testing.assert_close(A(back(A(x))), A(x))
    torch.testing.assert_close(back(A(back(w))), back(w))
    torch.testing.assert_close((A(back(y)) * w).sum(), (y * A(back(w))).sum())
    torch.testing.assert_close((back(A(x)) * x).sum(), (x * back(A(x))).sum())
    torch.testing.assert_close(A(2 * x + 1) - A(torch.ones_like(x)), 2 * A(x))


@pytest.mark.parametrize("name", DAMAGES)
def test_the_adjoint_carries_gradients_back(name):
    """Aᵀ r is what autograd finds for ½ ‖A x − y‖²."""
    damage = DAMAGES[name]
    x = random(2, 3, 8, 8).requires_grad_()
    y = damage.forward(random(2, 3, 8, 8, seed=1))
    residual = damage.forward(x) - y
    (slope,) = torch.autograd.grad(residual.square().sum() / 2, x)
    torch.testing.assert_close(slope, damage.adjoint(residual.detach()))


def test_values_by_hand():
    x = torch.arange(16.0).view(1, 1, 4, 4).expand(1, 3, 4, 4)
    small = m.shrink(2).forward(x)
    assert small[0, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]
    assert m.shrink(2).back(small)[0, 0, 0].tolist() == [2.5, 2.5, 4.5, 4.5]
    red = torch.zeros(1, 3, 1, 1)
    red[:, 0] = 1
    assert float(m.grey().forward(red)) == pytest.approx(0.299)
    half = m.holes(torch.tensor([[1, 0]]))
    assert half.forward(torch.ones(1, 1, 1, 2)).flatten().tolist() == [1, 0]


def test_off_is_the_root_of_the_mean_square():
    x = torch.zeros(2, 3, 4, 4)
    y = m.shrink(4).forward(x)
    y[1] += 0.5
    assert m.off(m.shrink(4).forward, x, y).tolist() == [0, 0.5]
    with pytest.raises(ValueError, match="A x and y differ in shape"):
        m.off(m.shrink(2).forward, x, y)


@pytest.mark.parametrize("size", [32, 64])
def test_as_torchmetrics_measures(size):
    x = ToyFaces(4, seed=1, size=size).images()
    y = (x + 0.3 * torch.randn(x.shape, generator=generator(0))).clamp(-1, 1)
    for k in range(4):
        a, b = x[k : k + 1], y[k : k + 1]
        assert float(m.psnr(a, b)) == pytest.approx(float(peer_psnr(b, a, data_range=2.0)), 1e-5)
        # torchmetrics averages over windows that reach beyond the edge too; scikit-image does not
        _, windows = peer_ssim((b + 1) / 2, (a + 1) / 2, sigma=1.5, data_range=1.0,
                               return_full_image=True)
        inside = windows[..., 5:-5, 5:-5].mean()
        assert float(m.ssim(a, b)) == pytest.approx(float(inside), abs=1e-5)


def test_psnr_and_ssim_at_their_ends():
    x = ToyFaces(2, seed=1).images()
    assert m.psnr(x, x).tolist() == [math.inf] * 2
    torch.testing.assert_close(m.ssim(x, x), torch.ones(2))
    off_by_a_tenth = m.psnr(x, x + 0.1)
    torch.testing.assert_close(off_by_a_tenth, torch.full((2,), 10 * math.log10(4 / 0.01)))
    assert float(m.ssim(x, -x).max()) < 0.1                # a negative


@pytest.mark.parametrize(("call", "words"), [
    (lambda: m.holes(torch.full((4, 4), 0.5)), "1 where a pixel is known"),
    (lambda: m.holes(torch.ones(5, 5)).forward(torch.zeros(1, 3, 4, 4)), "broadcasts to"),
    (lambda: m.holes("all"), "mask"),
    (lambda: m.shrink(0), "factor must be a whole number, at least 1"),
    (lambda: m.shrink(2.0), "factor must be a whole number"),
    (lambda: m.shrink(3).forward(torch.zeros(1, 3, 32, 32)), "a divisor of the size 32×32; got 3"),
    (lambda: m.shrink(2).forward(torch.zeros(3, 32, 32)), r"x\[None\] makes a batch"),
    (lambda: m.grey().forward(torch.zeros(1, 1, 4, 4)), "x must be"),
    (lambda: m.grey().back(torch.zeros(1, 3, 4, 4)), "y must be"),
    (lambda: m.psnr(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 8, 8)), "differ in shape"),
    (lambda: m.ssim(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)), "of 11 pixels and more"),
    (lambda: m.psnr(*torch.full((2, 1, 3, 4, 4), 255.0)), "bytes become floats"),
    (lambda: m.ssim(*torch.full((2, 1, 3, 16, 16), 127.0)), "bytes become floats"),
    (lambda: m.ssim(*torch.zeros(2, 1, 3, 16, 16), size=4), "size must be odd"),
    (lambda: m.ssim(*torch.zeros(2, 1, 3, 16, 16), sigma=0), "sigma must be positive"),
])
def test_bad_input_gets_one_sentence(call, words):
    with pytest.raises(ValueError, match=words) as e:
        call()
    assert "\n" not in str(e.value)
