"""Restoration against closed forms: pictures that are Gaussian, and the posterior they have."""

import math

import pytest
import torch

from minigen import ddim, ddpm, restoration
from minigen import measurements as m
from minigen.common import generator
from minigen.diffusion import Diffusion, cosine_betas
from minigen.restoration import GaussianDenoiser
from minigen.unet import PointDenoiser

D = Diffusion(cosine_betas(1000))
SIZE = 2                                            # pictures of 2 × 2 pixels, one channel
DIM = SIZE**2


def correlated():
    """Neighbours that are alike."""
    at = torch.stack(torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij"), -1)
    far = torch.cdist(at.view(-1, 2).double(), at.view(-1, 2).double())
    mean = torch.linspace(-0.4, 0.5, DIM, dtype=torch.float64)
    return GaussianDenoiser(D, mean, 0.3 * torch.exp(-far / 2))


def independent():
    return GaussianDenoiser(D, torch.linspace(-0.4, 0.5, DIM, dtype=torch.float64),
                            0.3 * torch.eye(DIM, dtype=torch.float64))


def matrix_of(damage):
    """A as a matrix: its columns are the damaged unit pictures."""
    units = torch.eye(DIM, dtype=torch.float64).view(DIM, 1, SIZE, SIZE)
    return damage.forward(units).flatten(1).T


def posterior(prior, damage, y, variance=0.0):
    """Mean and covariance of x given y = A x + noise: the textbook's formula."""
    A = matrix_of(damage)
    noisy = A @ prior.cov @ A.T + variance * torch.eye(len(A), dtype=A.dtype)
    gain = prior.cov @ A.T @ torch.linalg.pinv(noisy)
    return prior.mean + gain @ (y.flatten() - A @ prior.mean), prior.cov - gain @ A @ prior.cov


def moments(sample, n=4000, seed=0):
    xT = torch.randn(n, 1, SIZE, SIZE, generator=generator(seed), dtype=torch.float64)
    x = ddpm.last(sample(xT, generator(seed + 1))).flatten(1)
    return x.mean(0), torch.cov(x.T)


ONE_KNOWN = m.holes(torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
MEAN_KNOWN = m.shrink(2)
TRUE = torch.tensor([0.9, -0.6, 0.2, 0.7], dtype=torch.float64).view(1, 1, SIZE, SIZE)


@pytest.mark.parametrize(("damage", "prior", "variance"), [
    (ONE_KNOWN, independent(), 0.0), (MEAN_KNOWN, independent(), 0.1),
    (ONE_KNOWN, correlated(), 0.1), (MEAN_KNOWN, correlated(), 0.0)])
def test_dps_draws_from_the_posterior_where_its_variance_is_known(damage, prior, variance):
    """One number is measured; Var[y | x_t] = A Cov[x_0 | x_t] Aᵀ + the noise's."""
    y = damage.forward(TRUE)
    row = matrix_of(damage)[matrix_of(damage).abs().sum(1) > 0]

    def variance_of(t):
        return max(float(row @ prior.spread(t) @ row.T) + variance, 1e-8)

    def sample(xT, g):
        return restoration.dps_sample(
            prior, D, damage.forward, y.expand(len(xT), *y.shape[1:]), xT, steps=250, clip=None,
            variance_of=variance_of, generator=g)

    mean, cov = moments(sample)
    true_mean, true_cov = posterior(prior, damage, y, variance)
    torch.testing.assert_close(mean, true_mean, atol=0.03, rtol=0)
    torch.testing.assert_close(cov, true_cov, atol=0.025, rtol=0)


@pytest.mark.parametrize("damage", [ONE_KNOWN, MEAN_KNOWN], ids=["hole", "shrunk"])
def test_ilvr_draws_from_the_posterior_where_pixels_know_nothing_of_each_other(damage):
    prior = independent()
    y = damage.forward(TRUE)

    def sample(xT, g):
        return restoration.ilvr_sample(prior, D, damage, y.expand(len(xT), *y.shape[1:]), xT,
                                       steps=250, clip=None, generator=g)

    mean, cov = moments(sample)
    true_mean, true_cov = posterior(prior, damage, y)
    torch.testing.assert_close(mean, true_mean, atol=0.03, rtol=0)
    torch.testing.assert_close(cov, true_cov, atol=0.02, rtol=0)


def test_ilvr_is_bound_too_little_where_pixels_are_alike_and_repeats_help():
    """What the docstring says of it, measured: the distance of its mean to the posterior's."""
    prior, y = correlated(), ONE_KNOWN.forward(TRUE)
    true_mean, _ = posterior(prior, ONE_KNOWN, y)
    off = []
    for repeats in (1, 10):
        def sample(xT, g, repeats=repeats):
            return restoration.ilvr_sample(
                prior, D, ONE_KNOWN, y.expand(len(xT), *y.shape[1:]), xT, steps=50, clip=None,
                repeats=repeats, generator=g)
        mean, _ = moments(sample, 3000)
        off.append(float((mean - true_mean).abs().max()))
    assert off[0] > 0.1 and off[1] < 0.6 * off[0]


def test_ilvr_with_holes_is_repaint():
    mask = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    xT = torch.randn(5, 1, SIZE, SIZE, generator=generator(0), dtype=torch.float64)
    options = dict(steps=20, repeats=2, clip=None)
    ours = restoration.ilvr_sample(correlated(), D, m.holes(mask), TRUE.expand_as(xT) * mask, xT,
                                   generator=generator(1), **options)
    chapter6 = ddim.inpaint(correlated(), D, TRUE.expand_as(xT), mask, xT, generator=generator(1),
                            **options)
    for a, b in zip(ours, chapter6, strict=True):
        torch.testing.assert_close(a.x, b.x)


@pytest.mark.parametrize("damage", [m.holes(torch.eye(SIZE)), m.shrink(2)], ids=["holes", "shrunk"])
def test_ilvr_ends_with_what_was_measured(damage):
    xT = torch.randn(3, 1, SIZE, SIZE, generator=generator(0), dtype=torch.float64)
    y = damage.forward(TRUE.expand_as(xT))
    x = ddpm.last(restoration.ilvr_sample(correlated(), D, damage, y, xT, steps=10, clip=None,
                                          generator=generator(1)))
    assert float(m.off(damage.forward, x, y).max()) < 1e-6


def test_dps_pulls_towards_what_was_measured_and_scale_0_does_not():
    xT = torch.randn(200, 1, SIZE, SIZE, generator=generator(0), dtype=torch.float64)
    y = MEAN_KNOWN.forward(TRUE.expand_as(xT))
    off = {}
    for scale in (0.0, 0.5):
        x = ddpm.last(restoration.dps_sample(correlated(), D, MEAN_KNOWN.forward, y, xT, steps=50,
                                             scale=scale, clip=None, generator=generator(1)))
        off[scale] = float(m.off(MEAN_KNOWN.forward, x, y).mean())
        if scale == 0:
            free = ddim.ddim_sample(correlated(), D, xT, steps=50, eta=1.0, generator=generator(1))
            torch.testing.assert_close(x, ddpm.last(free))
    assert off[0.5] < off[0] / 4


def test_the_gaussian_network_is_the_regression_of_x0_on_xt():
    """E[x_0 | x_t] and its spread, against a least-squares fit of many pairs."""
    prior, t, g = correlated(), 300, generator(0)
    x0 = prior.mean + torch.randn(50_000, DIM, generator=g, dtype=torch.float64) @ (
        torch.linalg.cholesky(prior.cov).T)
    share = float(D.alpha_bar[t])
    xt = math.sqrt(share) * x0 + math.sqrt(1 - share) * torch.randn(
        x0.shape, generator=g, dtype=torch.float64)
    ones = torch.ones(len(xt), 1, dtype=torch.float64)
    fit = torch.linalg.lstsq(torch.cat([xt, ones], 1), x0).solution
    ours = prior(xt, torch.tensor([t]))
    torch.testing.assert_close(ours, torch.cat([xt, ones], 1) @ fit, atol=0.03, rtol=0)
    torch.testing.assert_close(torch.cov((x0 - ours).T), prior.spread(t), atol=0.005, rtol=0)


def test_wiener_is_the_closed_form_and_the_best_of_all_guesses():
    prior, variance = correlated(), 0.4
    noise = generator(0)
    root = torch.linalg.cholesky(prior.cov)
    x = prior.mean + torch.randn(50_000, DIM, generator=noise, dtype=torch.float64) @ root.T
    y = x + math.sqrt(variance) * torch.randn(x.shape, generator=noise, dtype=torch.float64)
    guess = restoration.wiener(y, prior.mean, prior.cov, variance)
    whole = m.holes(torch.ones(SIZE, SIZE))
    for k in range(3):
        mean, cov = posterior(prior, whole, y[k], variance)
        torch.testing.assert_close(guess[k], mean)
    # its error is the posterior's variance, and no other filter's is less
    assert float((guess - x).square().sum(1).mean()) == pytest.approx(float(cov.trace()), rel=0.02)
    # in one dimension: σ_x² / (σ_x² + σ²)
    one = restoration.wiener(torch.ones(1, 1), torch.zeros(1), torch.full((1, 1), 3.0), 1.0)
    assert float(one) == pytest.approx(0.75)


@pytest.mark.parametrize("sigma", [0.01, 0.3, 1.0, 5.0])
def test_noise_finds_its_time_and_no_neighbour_is_nearer(sigma):
    def off(t):
        return abs(math.sqrt((1 - float(D.alpha_bar[t])) / float(D.alpha_bar[t])) - sigma)

    t = restoration.time_of(D, sigma)
    assert off(t) <= min(off(max(t - 1, 0)), off(t + 1))


def test_a_step_of_dps_by_hand():
    """The norm's gradient through the network, after DDIM's step."""
    prior, y = correlated(), MEAN_KNOWN.forward(TRUE.expand(3, -1, -1, -1))
    xT = torch.randn(3, 1, SIZE, SIZE, generator=generator(0), dtype=torch.float64)
    first = next(restoration.dps_sample(prior, D, MEAN_KNOWN.forward, y, xT, steps=4, scale=0.7,
                                        clip=None, generator=generator(1)))
    x = xT.clone().requires_grad_()
    x0 = prior(x, torch.tensor([999]))
    (MEAN_KNOWN.forward(x0) - y).flatten(1).norm(dim=1).sum().backward()
    eps = D.views(x0, x, torch.tensor([999]), "x0")[1]
    noise = torch.randn(x.shape, generator=generator(1), dtype=torch.float64)
    down = ddim.ddim_step(D, x0, eps, 999, 749, 1.0, noise)
    torch.testing.assert_close(first.x, (down - 0.7 * x.grad).detach())


@pytest.mark.parametrize("sigma", [0.3, 1.0])
def test_a_draw_has_twice_the_error_of_the_mean(sigma):
    """Blau & Michaeli 2018: 3 dB, where the network is perfect."""
    prior = correlated()
    root = torch.linalg.cholesky(prior.cov)
    g = generator(0)
    share = float(D.alpha_bar[restoration.time_of(D, sigma)])
    exact = math.sqrt((1 - share) / share)           # of the step that is nearest
    x = prior.mean + torch.randn(4000, DIM, generator=g, dtype=torch.float64) @ root.T
    x = x.view(-1, 1, SIZE, SIZE)
    y = x + exact * torch.randn(x.shape, generator=g, dtype=torch.float64)
    mean = restoration.denoised(prior, D, y, sigma, clip=None)
    want = restoration.wiener(y.flatten(1), prior.mean, prior.cov, exact**2)
    torch.testing.assert_close(mean.flatten(1), want)
    steps = restoration.time_of(D, sigma) + 1
    drawn = ddpm.last(restoration.denoised_sample(prior, D, y, sigma, steps=steps, clip=None,
                                                  generator=generator(1)))
    ratio = (drawn - x).square().mean() / (mean - x).square().mean()
    assert float(ratio) == pytest.approx(2, rel=0.05)
    # and it is distributed as the pictures are
    torch.testing.assert_close(torch.cov(drawn.flatten(1).T), prior.cov, atol=0.02, rtol=0)


ZEROS = torch.zeros(2, 1, SIZE, SIZE, dtype=torch.float64)


@pytest.mark.parametrize(("call", "words"), [
    (lambda: restoration.wiener(torch.zeros(2, 3), torch.zeros(4), torch.eye(3), 1.0), "mean"),
    (lambda: restoration.wiener(torch.zeros(2, 3), torch.zeros(3), torch.eye(4), 1.0), "cov"),
    (lambda: restoration.wiener(torch.zeros(2, 3), torch.zeros(3), torch.eye(3), 0), "variance"),
    (lambda: restoration.time_of(D, -1), "sigma must be positive"),
    (lambda: restoration.denoised(correlated(), D, ZEROS, 0), "sigma must be positive"),
    (lambda: ddpm.last(restoration.denoised_sample(correlated(), D, ZEROS, 0.02, steps=500)),
     "steps must be 1 to"),
    (lambda: next(restoration.ilvr_sample(correlated(), D, m.shrink(2), ZEROS, ZEROS, steps=5)),
     "A x and y differ in shape"),
    (lambda: correlated()(ZEROS, torch.tensor([3, 900])), "one time step for all"),
    (lambda: next(restoration.dps_sample(correlated(), D, lambda x: x.detach(), ZEROS, ZEROS,
                                         steps=5)), "torch can differentiate"),
    (lambda: next(restoration.dps_sample(
        correlated(), D, lambda x: x, ZEROS, ZEROS, steps=5, variance_of=lambda t: 0)),
     "variance_of.t. must be positive"),
    (lambda: next(restoration.dps_sample(correlated(), D, lambda x: x, ZEROS + math.nan, ZEROS,
                                         steps=5)), "holds NaN"),
    (lambda: next(restoration.ilvr_sample(correlated(), D, ONE_KNOWN, ZEROS + math.nan, ZEROS,
                                          steps=5)), "holds NaN"),
    (lambda: GaussianDenoiser(D, torch.zeros(3), torch.eye(4)), "cov must be"),
    (lambda: next(restoration.ilvr_sample(correlated(), D, ONE_KNOWN, ZEROS, ZEROS, steps=5,
                                          repeats=0)), "repeats counts"),
    (lambda: next(restoration.dps_sample(correlated(), D, m.shrink(2).forward, ZEROS, ZEROS,
                                         steps=5)), "the measured picture and y differ"),
    (lambda: next(restoration.dps_sample(correlated(), D, m.shrink(2).forward, ZEROS[..., :1, :1],
                                         ZEROS, steps=5, scale=-1)), "scale"),
    (lambda: next(restoration.dps_sample(PointDenoiser(4, 8, 1, schedule="linear"), D, lambda x: x,
                                         torch.zeros(2, 4), torch.zeros(2, 4), steps=5)),
     "this diffusion is another"),
])
def test_bad_input_gets_one_sentence(call, words):
    with pytest.raises(ValueError, match=words) as e:
        call()
    assert "\n" not in str(e.value)
