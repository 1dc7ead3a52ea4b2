import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from minigen import vlb
from minigen.diffusion import Diffusion, linear_betas, log_variances
from tests.conftest import defaults

D = Diffusion(linear_betas(50, 1e-3, 0.2))


def test_kl_equals_torch_and_is_zero_for_one_distribution():
    m1, m2, s1, s2 = torch.randn(4, 100, dtype=torch.float64)
    s1, s2 = s1.exp(), s2.exp()
    want = kl_divergence(Normal(m1, s1), Normal(m2, s2))
    torch.testing.assert_close(vlb.gaussian_kl(m1, s1**2, m2, s2**2), want)
    assert float(vlb.gaussian_kl(m1, s1, m1, s1).abs().max()) == 0


@pytest.mark.parametrize("levels", [256, 17])
def test_the_masses_of_all_bins_sum_to_one(levels):
    x = torch.linspace(-1, 1, levels, dtype=torch.float64)
    for gaussian in ((0.0, 1.0), (0.37, 1e-4), (-3.0, 0.5)):
        mean, variance = torch.tensor(gaussian).double()
        masses = vlb.discretised_log_likelihood(x, mean, variance, levels).exp()
        assert float(masses.sum()) == pytest.approx(1, abs=1e-9)


def perfect(x0):
    """A model that knows x_0, with the smaller variance."""
    def model(xt, t, y=None):
        signal, noise = D.scales(t, xt)
        return torch.cat([(xt - signal * x0) / noise, -torch.ones_like(xt)], 1)
    return model


def test_a_perfect_model_pays_only_the_last_step_and_the_prior():
    x0 = torch.randint(0, 17, (3, 1, 4, 4)).double() / 8 - 1
    generator = torch.Generator().manual_seed(0)
    terms = vlb.bits_per_dim(perfect(x0), D, x0, levels=17, generator=generator)
    assert terms.shape == (51,) and float(terms[1:50].abs().max()) < 1e-9
    assert float(terms[50]) == pytest.approx(float(vlb.prior_bits(D, x0).mean()))


def test_a_worse_prediction_costs_bits_at_every_step():
    x0 = torch.randint(0, 17, (3, 1, 4, 4)).double() / 8 - 1

    def off_by(wrong):
        return lambda x, t, y=None: perfect(x0)(x, t)[:, :1] + wrong

    for variance in ("small", "large"):
        a, b = (vlb.bits_per_dim(off_by(wrong), D, x0, variance, levels=17) for wrong in (0.0, 0.5))
        assert bool((b[1:50] > a[1:50]).all())


def test_the_term_is_the_weighted_error_of_the_noise():
    """KL = β² / (2 σ² α (1 − ᾱ)) ‖ε − ε_θ‖², the weight that the simple loss drops."""
    t = torch.arange(1, 50)
    x0, eps = torch.randn(2, 49, 2, dtype=torch.float64)
    xt, error = D.add_noise(x0, t, eps), 0.1
    got = vlb.vlb_terms(D, eps + error, x0, xt, t, "small")
    beta, ab = D.betas[1:], D.alpha_bar[1:]
    weight = beta**2 / (2 * D.posterior_variance[1:] * (1 - beta) * (1 - ab))
    torch.testing.assert_close(got, weight * error**2 / math.log(2))


def test_fixed_variances_are_the_learned_one_at_its_ends():
    x0, eps, t = torch.randn(50, 1), torch.randn(50, 1), torch.arange(50)
    xt = D.add_noise(x0, t, eps)
    for name, v in (("small", -1.0), ("large", 1.0)):
        output = torch.cat([0.9 * eps, torch.full_like(eps, v)], 1)
        learned = vlb.vlb_terms(D, output, x0, xt, t)
        fixed = vlb.vlb_terms(D, 0.9 * eps, x0, xt, t, name)
        torch.testing.assert_close(fixed, learned, rtol=1e-4, atol=1e-5)
    assert bool((log_variances(D)[0] <= log_variances(D)[1]).all())


def test_the_bound_teaches_the_variance_and_not_the_noise():
    x0, eps, t = torch.randn(8, 2), torch.randn(8, 2), torch.randint(1, 50, (8,))
    output = torch.cat([0.5 * eps, torch.zeros(8, 2)], 1).requires_grad_()
    loss = vlb.hybrid_loss(lambda x, t: output, D, x0, t, eps)
    (grad,) = torch.autograd.grad(loss, output)
    simple = 2 * (output[:, :2] - eps).detach() / 16                       # the simple loss alone
    torch.testing.assert_close(grad[:, :2], simple)
    assert bool((grad[:, 2:] != 0).any())


def test_prior_bits_vanish_where_no_signal_is_left():
    assert float(vlb.prior_bits(Diffusion(), torch.ones(1, 4)).max()) < 1e-4
    assert float(vlb.prior_bits(Diffusion([1e-3]), torch.ones(1, 4)).min()) > 1


def test_a_model_without_variance_is_told():
    with pytest.raises(ValueError, match=r"shape \(2, 4\)"):
        x = torch.zeros(2, 2)
        vlb.hybrid_loss(lambda x, t: x, D, x, torch.zeros(2).long(), x)


def bin_by_hand(x, mean, std, levels):
    """Mass of the normal distribution on x's bin, from the error function."""
    low, high = (
        0.5 * (1 + math.erf((edge - mean) / std / 2**0.5))
        for edge in (x - 1 / (levels - 1), x + 1 / (levels - 1))
    )
    return (1.0 if x == 1 else high) - (0.0 if x == -1 else low)


@pytest.mark.parametrize("x", [-1.0, -0.5, 0.0, 0.5, 1.0])
def test_the_mass_of_a_bin_by_hand(x):
    for mean, std in ((0.3, 0.2), (-0.8, 0.5), (0.0, 3.0)):
        args = (torch.tensor(v, dtype=torch.float64) for v in (x, mean, std**2))
        assert float(vlb.discretised_log_likelihood(*args, levels=5)) == pytest.approx(
            math.log(bin_by_hand(x, mean, std, 5))
        )


def test_pixels_have_256_levels_unless_told_and_no_bin_costs_more_than_its_floor():
    x, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    assert float(vlb.discretised_log_likelihood(x, 0 * one, one)) == pytest.approx(
        math.log(bin_by_hand(0.0, 0.0, 1.0, 256))
    )
    assert float(vlb.discretised_log_likelihood(x, 9 * one, 0.01 * one)) == pytest.approx(
        math.log(1e-12)
    )


def test_the_decoder_is_charged_at_step_zero_alone():
    """At t = 0 the term is −log2 of the mass of x_0's bin, a mean over the pixels; at t = 1 it is
    a divergence."""
    x0 = torch.tensor([[-1.0, 0.5], [-1.0, 0.5]], dtype=torch.float64)
    eps, t = torch.tensor([[0.3, -0.2]] * 2, dtype=torch.float64), torch.tensor([0, 1])
    xt = D.add_noise(x0, t, eps)
    for variance, v in (("small", D.posterior_variance[1]), ("large", D.betas[0])):
        got = vlb.vlb_terms(D, 0.5 * eps, x0, xt, t, variance, levels=5)
        guess = D.views(0.5 * eps[:1], xt[:1], t[:1])[0][
            0
        ].tolist()  # at t = 0 the posterior's mean is x_0 itself
        bits = [
            -math.log2(bin_by_hand(float(x), m, float(v) ** 0.5, 5))
            for x, m in zip(x0[0], guess, strict=True)
        ]
        assert float(got[0]) == pytest.approx(sum(bits) / 2)
        assert got.shape == (2,)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_the_bound_reads_every_kind_of_prediction(prediction):
    x0, eps, t = (
        torch.randn(3, 1, 2, 2).double(),
        torch.randn(3, 1, 2, 2).double(),
        torch.tensor([0, 7, 49]),
    )
    xt = D.add_noise(x0, t, eps)
    want = vlb.vlb_terms(D, 0.9 * eps, x0, xt, t, "small")
    flat = vlb.vlb_terms(D, *(v.flatten(1) for v in (0.9 * eps, x0, xt)), t, "small")
    assert want.shape == (3,) and torch.equal(want, flat)  # one term an image
    guess = D.views(0.9 * eps, xt, t)[0]
    output = D.target(guess, 0.9 * eps, t, prediction)
    torch.testing.assert_close(
        vlb.vlb_terms(D, output, x0, xt, t, "small", prediction), want, rtol=1e-6, atol=1e-8
    )


def test_the_hybrid_loss_is_the_simple_one_and_a_thousandth_of_the_bound_of_all_steps():
    x0, eps, t = (
        torch.randn(6, 2).double(),
        torch.randn(6, 2).double(),
        torch.tensor([0, 1, 5, 20, 48, 49]),
    )
    output = torch.cat([0.7 * eps, torch.full_like(eps, 0.2)], 1)
    terms = vlb.vlb_terms(D, output, x0, D.add_noise(x0, t, eps), t)
    for weight, options in ((0.001, {}), (0.5, dict(weight=0.5))):
        want = (0.3 * eps).square().mean() + weight * 50 * terms.mean()
        torch.testing.assert_close(
            vlb.hybrid_loss(lambda x, t: output, D, x0, t, eps, **options), want
        )
    coarse = vlb.vlb_terms(D, output, x0, D.add_noise(x0, t, eps), t, levels=5)
    want = (0.3 * eps).square().mean() + 0.001 * 50 * coarse.mean()
    torch.testing.assert_close(vlb.hybrid_loss(lambda x, t: output, D, x0, t, eps, levels=5), want)
    seen = []
    vlb.hybrid_loss(lambda x, t, y: seen.append(y) or output, D, x0, t, eps, torch.arange(6))
    assert seen[0].tolist() == list(range(6))


def test_prior_bits_by_hand():
    x0 = torch.tensor([[1.0, -0.5], [0.0, 0.25]], dtype=torch.float64)
    a = float(D.alpha_bar[-1])
    want = [
        sum(0.5 * (1 - a + a * x * x - 1 - math.log(1 - a)) for x in row) / 2 / math.log(2)
        for row in x0.tolist()
    ]
    assert vlb.prior_bits(D, x0).tolist() == pytest.approx(want)


class Shrink(torch.nn.Module):
    """Answers with a part of its input; notes its mode and what it is given."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x, t, y=None):
        self.seen.append((self.training, torch.is_grad_enabled(), t.tolist(), x))
        return torch.cat([0.3 * x, 0.1 * x], 1)


def test_the_whole_bound_is_its_terms_one_by_one():
    x0, model = torch.randn(3, 1, 2, 2, dtype=torch.float64).clamp(-1, 1), Shrink().train()
    got = vlb.bits_per_dim(model, D, x0, generator=torch.Generator().manual_seed(4), levels=17)
    generator = torch.Generator().manual_seed(4)
    for step in range(50):
        t = torch.full((3,), step)
        xt = D.add_noise(x0, t, torch.randn(x0.shape, generator=generator).double())
        training, gradients, times, x = model.seen[step]
        assert (training, gradients, times) == (False, False, [step] * 3)
        torch.testing.assert_close(x, xt)
        want = vlb.vlb_terms(D, torch.cat([0.3 * xt, 0.1 * xt], 1), x0, xt, t, levels=17)
        assert float(got[step]) == pytest.approx(float(want.mean()))
    assert float(got[50]) == pytest.approx(float(vlb.prior_bits(D, x0).mean())) and model.training


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_the_bound_of_a_known_gaussian_is_a_little_above_its_bits(prediction):
    """Grey values of N(0, ¼²) cost ½ log2(2πe / 16) + log2(255 / 2) bits; the ideal model's bound
    is nearly as low."""
    long = Diffusion(linear_betas(300, 1e-4, 0.07))
    x0 = (
        (torch.randn(4000, 1, dtype=torch.float64) / 4).clamp(-1, 1) * 127.5 + 127.5
    ).round() / 127.5 - 1

    def ideal(x, t, y=None):
        a = long.at(long.alpha_bar, t, x)
        eps = (1 - a).sqrt() * x / (a / 16 + 1 - a)
        return long.target((x - (1 - a).sqrt() * eps) / a.sqrt(), eps, t, prediction)

    bits = float(
        vlb.bits_per_dim(
            ideal, long, x0, "large", torch.Generator().manual_seed(0), prediction=prediction
        ).sum()
    )
    truth = 0.5 * math.log2(2 * math.pi * math.e / 16) + math.log2(255 / 2)
    assert truth - 0.02 < bits < truth + 0.15


def test_what_is_taken_unless_told():
    assert defaults(vlb.discretised_log_likelihood) == dict(levels=256)
    assert defaults(vlb.vlb_terms) == dict(variance="learned", prediction="eps", levels=256)
    assert defaults(vlb.hybrid_loss) == dict(y=None, weight=0.001, levels=256)
    assert defaults(vlb.bits_per_dim) == dict(
        variance="learned", generator=None, levels=256, prediction=None
    )
