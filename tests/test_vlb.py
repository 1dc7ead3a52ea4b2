import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from minigen import vlb
from minigen.diffusion import Diffusion, linear_betas, log_variances

D = Diffusion(linear_betas(50, 1e-3, 0.2))


def test_kl_equals_torch_and_is_zero_for_one_distribution():
    m1, m2, s1, s2 = torch.randn(4, 100, dtype=torch.float64)
    s1, s2 = s1.exp(), s2.exp()
    torch.testing.assert_close(vlb.gaussian_kl(m1, s1**2, m2, s2**2), kl_divergence(Normal(m1, s1), Normal(m2, s2)))
    assert float(vlb.gaussian_kl(m1, s1, m1, s1).abs().max()) == 0


@pytest.mark.parametrize("levels", [256, 17])
def test_the_masses_of_all_bins_sum_to_one(levels):
    x = torch.linspace(-1, 1, levels, dtype=torch.float64)
    for mean, variance in ((0.0, 1.0), (0.37, 1e-4), (-3.0, 0.5)):
        mass = vlb.discretised_log_likelihood(x, torch.tensor(mean).double(), torch.tensor(variance).double(), levels).exp().sum()
        assert float(mass) == pytest.approx(1, abs=1e-9)


def perfect(x0):
    """A model that knows x_0, with the smaller variance."""
    def model(xt, t, y=None):
        signal, noise = D.scales(t, xt)
        return torch.cat([(xt - signal * x0) / noise, -torch.ones_like(xt)], 1)
    return model


def test_a_perfect_model_pays_only_the_last_step_and_the_prior():
    x0 = torch.randint(0, 17, (3, 1, 4, 4)).double() / 8 - 1
    terms = vlb.bits_per_dim(perfect(x0), D, x0, levels=17, generator=torch.Generator().manual_seed(0))
    assert terms.shape == (51,) and float(terms[1:50].abs().max()) < 1e-9
    assert float(terms[50]) == pytest.approx(float(vlb.prior_bits(D, x0).mean()))


def test_a_worse_prediction_costs_bits_at_every_step():
    x0 = torch.randint(0, 17, (3, 1, 4, 4)).double() / 8 - 1
    for variance in ("small", "large"):
        a, b = (vlb.bits_per_dim(lambda x, t, y=None, wrong=wrong: perfect(x0)(x, t)[:, :1] + wrong, D, x0, variance, levels=17)
                for wrong in (0.0, 0.5))
        assert bool((b[1:50] > a[1:50]).all())


def test_the_term_is_the_weighted_error_of_the_noise():
    """KL = β² / (2 σ² α (1 − ᾱ)) ‖ε − ε_θ‖², the weight that the simple loss drops."""
    t, x0, eps = torch.arange(1, 50), torch.randn(49, 2, dtype=torch.float64), torch.randn(49, 2, dtype=torch.float64)
    xt, error = D.add_noise(x0, t, eps), 0.1
    got = vlb.vlb_terms(D, eps + error, x0, xt, t, "small")
    beta, ab = D.betas[1:], D.alpha_bar[1:]
    weight = beta**2 / (2 * D.posterior_variance[1:] * (1 - beta) * (1 - ab))
    torch.testing.assert_close(got, weight * error**2 / math.log(2))


def test_fixed_variances_are_the_learned_one_at_its_ends():
    x0, eps, t = torch.randn(50, 1), torch.randn(50, 1), torch.arange(50)
    xt = D.add_noise(x0, t, eps)
    for name, v in (("small", -1.0), ("large", 1.0)):
        learned = vlb.vlb_terms(D, torch.cat([0.9 * eps, torch.full_like(eps, v)], 1), x0, xt, t)
        torch.testing.assert_close(vlb.vlb_terms(D, 0.9 * eps, x0, xt, t, name), learned, rtol=1e-4, atol=1e-5)
    assert bool((log_variances(D)[0] <= log_variances(D)[1]).all())


def test_the_bound_teaches_the_variance_and_not_the_noise():
    x0, eps, t = torch.randn(8, 2), torch.randn(8, 2), torch.randint(1, 50, (8,))
    output = torch.cat([0.5 * eps, torch.zeros(8, 2)], 1).requires_grad_()
    loss = vlb.hybrid_loss(lambda x, t: output, D, x0, t, eps)
    (grad,) = torch.autograd.grad(loss, output)
    torch.testing.assert_close(grad[:, :2], 2 * (output[:, :2] - eps).detach() / 16)     # the simple loss alone
    assert bool((grad[:, 2:] != 0).any())


def test_prior_bits_vanish_where_no_signal_is_left():
    assert float(vlb.prior_bits(Diffusion(), torch.ones(1, 4)).max()) < 1e-4
    assert float(vlb.prior_bits(Diffusion([1e-3]), torch.ones(1, 4)).min()) > 1


def test_a_model_without_variance_is_told():
    with pytest.raises(ValueError, match=r"shape \(2, 4\)"):
        vlb.hybrid_loss(lambda x, t: x, D, torch.zeros(2, 2), torch.zeros(2).long(), torch.zeros(2, 2))
