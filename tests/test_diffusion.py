import math
import subprocess
import sys

import pytest
import torch

from minigen.diffusion import (
    Diffusion,
    cosine_betas,
    ideal_eps,
    learned_variance,
    linear_betas,
    log_variances,
)
from tests.conftest import defaults, peer

D = Diffusion()
ALL = torch.arange(1000)
ONE = torch.ones(1000, dtype=torch.float64)
ZERO = torch.zeros(1)


LESSONS = ["gaussian", "gan", "vae", "vqvae", "pixelcnn", "perceptual", "ivqvae", "diffusion",
           "ddpm", "unet", "vlb", "ddim", "ode", "guidance", "latents", "fusion", "fftd", "metrics",
           "gallery"]


def test_it_loads_no_other_lesson():
    """`import minigen.diffusion` alone, in a Python of its own."""
    listing = "import sys, minigen.diffusion; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    loaded = run.stdout.split()
    assert [name for name in LESSONS if f"minigen.{name}" in loaded] == ["diffusion"]


def test_alpha_bar_of_the_linear_schedule():
    assert D.alpha_bar.dtype == torch.float64
    assert float(D.alpha_bar[0]) == pytest.approx(0.9999, abs=1e-12)
    assert float(D.alpha_bar[499]) == pytest.approx(0.0785872, abs=5e-8)
    assert float(D.alpha_bar[999]) == pytest.approx(4.035829765e-05, rel=1e-9)


def test_linear_is_linear_in_beta_and_not_in_its_root():
    steps = D.betas.diff()
    torch.testing.assert_close(steps, steps[:1].expand_as(steps), rtol=1e-9, atol=1e-15)
    rooted = torch.linspace(1e-4**0.5, 0.02**0.5, 1000, dtype=torch.float64).square()
    # the "linear" of latent diffusion keeps 18 times the signal
    assert float((1 - rooted).prod() / D.alpha_bar[-1]) > 15


def test_cosine_schedule():
    betas = cosine_betas()
    want = torch.tensor([0.5555538, 0.7499994, 0.999], dtype=torch.float64)
    torch.testing.assert_close(betas[-3:], want, rtol=0, atol=1e-7)
    assert float((1 - betas).prod()) == pytest.approx(2.4287669e-09, rel=1e-6)
    theirs = peer("diffusers").DDPMScheduler(beta_schedule="squaredcos_cap_v2").betas
    assert float((theirs - betas).abs().max()) < 1e-7


def test_alpha_bar_equals_diffusers_up_to_their_float32():
    scheduler = peer("diffusers").DDPMScheduler
    theirs = scheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
    theirs = theirs.alphas_cumprod.double()
    assert float(((theirs - D.alpha_bar) / D.alpha_bar).abs().max()) < 1e-6


def test_posterior_identities():
    on_x0, variance = D.posterior(ONE, 0 * ONE, ALL)
    on_xt, _ = D.posterior(0 * ONE, ONE, ALL)
    prev = D.alpha_bar_prev
    # averaged over q(x_t | x_0), the posterior is q(x_{t-1} | x_0): its mean and its variance
    assert float((on_x0 + on_xt * D.alpha_bar.sqrt() - prev.sqrt()).abs().max()) < 1e-12
    assert float((on_xt.square() * (1 - D.alpha_bar) + variance - (1 - prev)).abs().max()) < 1e-12
    precision = 1 / (1 - prev[1:]) + (1 - D.betas[1:]) / D.betas[1:]      # Bayes: precisions add up
    assert float((variance[1:] * precision - 1).abs().max()) < 1e-12
    assert float(variance[0]) == 0 and float(on_x0[0]) == pytest.approx(1, abs=1e-12)


def test_many_single_steps_are_one_closed_step():
    generator = torch.Generator().manual_seed(0)
    steps = Diffusion(linear_betas(100, 1e-3, 0.1))
    x = torch.full((200_000,), 1.5)
    for beta in steps.betas.tolist():
        noise = torch.randn(x.shape, generator=generator)
        x = (1 - beta) ** 0.5 * x + beta**0.5 * noise
    signal, noise = steps.scales(torch.tensor([99]), x)
    assert float(x.mean()) == pytest.approx(1.5 * float(signal), abs=0.01)
    assert float(x.std()) == pytest.approx(float(noise), rel=0.01)


def test_snr_falls_and_is_one_where_signal_and_noise_are_equal():
    assert bool((D.snr.diff() < 0).all())
    assert float(D.snr[D.alpha_bar.sub(0.5).abs().argmin()]) == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_three_views_of_one_output(prediction):
    x0, eps = torch.randn(2, 1000, 2, 3, dtype=torch.float64)
    xt = D.add_noise(x0, ALL, eps)
    x0_again, eps_again = D.views(D.target(x0, eps, ALL, prediction), xt, ALL, prediction)
    torch.testing.assert_close(x0_again, x0, rtol=0, atol=1e-9)
    torch.testing.assert_close(eps_again, eps, rtol=0, atol=1e-9)


def test_v_is_the_rotated_pair():
    x0, eps, t = torch.tensor([[2.0]]), torch.tensor([[3.0]]), torch.tensor([300])
    signal, noise = D.scales(t, x0)
    xt, v = D.add_noise(x0, t, eps), D.target(x0, eps, t, "v")
    torch.testing.assert_close(xt**2 + v**2, x0**2 + eps**2)
    torch.testing.assert_close(v, signal * eps - noise * x0)


def test_ideal_denoiser_of_one_point_and_of_two():
    point, xt, t = torch.tensor([[3.0, -1.0]]), torch.randn(5, 2), torch.tensor([400])
    signal, noise = D.scales(t, xt)
    torch.testing.assert_close(ideal_eps(D, point, xt, t), (xt - signal * point) / noise)
    pair = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    x = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None]
    s, n = D.scales(t, x)
    expected = torch.tanh(s * x / n**2)                               # E[x_0 | x_t] of two points
    torch.testing.assert_close(ideal_eps(D, pair, x, t), (x - s * expected) / n)


def test_ideal_denoiser_has_the_least_loss():
    data = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    t = torch.randint(1000, (4000,), generator=generator)
    eps = torch.randn(4000, 2, generator=generator)
    x0 = data[torch.randint(50, (4000,), generator=generator)]
    xt = D.add_noise(x0, t, eps)
    best = ideal_eps(D, data, xt, t)
    loss = (best - eps).square().mean()
    for other in (0.9 * best, 1.1 * best, best + 0.1):
        assert (other - eps).square().mean() > loss


def test_learned_variance_lies_between_the_two():
    t = torch.tensor([0, 1, 500, 999])
    small, large = (table[t].float().exp() for table in log_variances(D))
    for v, want in ((-1.0, small), (1.0, large), (0.0, (small * large).sqrt())):
        got = learned_variance(D, torch.full((4, 1), v), t).flatten()
        torch.testing.assert_close(got, want, rtol=1e-5, atol=0)
    assert float(log_variances(D)[0][0]) == pytest.approx(-9.8167, abs=1e-4)


def test_types_and_devices_are_the_inputs():
    for dtype in (torch.float32, torch.float64):
        zeros = torch.zeros(2, 3, dtype=dtype)
        assert D.add_noise(zeros, torch.tensor([5]), zeros).dtype == dtype


@pytest.mark.parametrize(("call", "words"), [
    (lambda: linear_betas(0), "at least one step; got T=0"), (lambda: cosine_betas(-3), "T=-3"),
    (lambda: Diffusion([]), "at least one number"),
    (lambda: Diffusion([0.1, 1.5]), "between 0 and 1"),
    (lambda: Diffusion([math.nan]), "between 0 and 1"),
    (lambda: D.add_noise(ZERO, torch.tensor([1000]), ZERO), "0 to 999; got 1000"),
    (lambda: D.views(ZERO, ZERO, torch.tensor([-1])), "0 to 999; got -1"),
    (lambda: D.target(ZERO, ZERO, torch.tensor([1000])), "0 to 999; got 1000"),
    (lambda: D.target(ZERO, ZERO, torch.tensor([1]), "score"), "'eps', 'x0' or 'v'; got 'score'")])
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        call()


def test_what_is_taken_unless_told():
    assert defaults(linear_betas) == dict(T=1000, start=1e-4, end=0.02)
    assert defaults(cosine_betas) == dict(T=1000, s=0.008, largest=0.999)
    assert defaults(Diffusion) == dict(betas=None)
    assert defaults(Diffusion.target) == defaults(Diffusion.views) == dict(prediction="eps")
    assert (
        torch.equal(Diffusion().betas, torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64))
        and Diffusion().T == 1000
    )


def test_three_steps_by_hand():
    three = Diffusion([0.1, 0.3, 0.6])
    assert three.alpha_bar.tolist() == pytest.approx([0.9, 0.63, 0.252])
    assert three.alpha_bar_prev.tolist() == pytest.approx([1, 0.9, 0.63])
    assert three.snr.tolist() == pytest.approx([9, 0.63 / 0.37, 0.252 / 0.748])
    assert three.posterior_variance.tolist() == pytest.approx(
        [0, 0.3 * 0.1 / 0.37, 0.6 * 0.37 / 0.748]
    )
    x0, xt = torch.tensor([[2.0]], dtype=torch.float64), torch.tensor([[-1.0]], dtype=torch.float64)
    mean, variance = three.posterior(x0, xt, torch.tensor([2]))
    assert float(mean) == pytest.approx(0.63**0.5 * 0.6 / 0.748 * 2 - 0.4**0.5 * 0.37 / 0.748)
    assert float(variance) == pytest.approx(0.6 * 0.37 / 0.748)
    small, large = (table.exp().tolist() for table in log_variances(three))
    assert small == pytest.approx(
        [0.03 / 0.37, 0.03 / 0.37, 0.6 * 0.37 / 0.748]
    ) and large == pytest.approx([0.1, 0.3, 0.6])
    (only,), _ = log_variances(Diffusion([0.2]))
    assert float(only) == pytest.approx(math.log(0.2))  # one step: nothing but β
    assert cosine_betas(2, s=0.0).tolist() == pytest.approx([0.5, 0.999])
    assert cosine_betas(1).tolist() == [0.999] and linear_betas(1, 0.3, 0.4).tolist() == [0.3]


def test_a_table_is_read_for_each_image():
    x, t = torch.zeros(3, 2, 4, 4), torch.tensor([5, 0, 999])
    got = D.at(D.betas, t, x)
    assert got.shape == (3, 1, 1, 1) and got.dtype == torch.float32
    assert got.flatten().tolist() == pytest.approx([float(D.betas[k]) for k in (5, 0, 999)])


def test_ideal_denoiser_by_hand_with_a_time_for_each_point():
    """Weights of three points from their squared distances, one by one."""
    data, xt = (
        torch.tensor([[1.0, 0.0], [-1.0, 2.0], [0.5, 0.5]]).double(),
        torch.randn(4, 2, dtype=torch.float64),
    )
    t, got = torch.tensor([100, 300, 500, 900]), None
    got = ideal_eps(D, data, xt, t)
    for k in range(4):
        a = float(D.alpha_bar[t[k]])
        weights = [
            math.exp(-float((xt[k] - a**0.5 * p).square().sum()) / (2 * (1 - a))) for p in data
        ]
        x0 = sum(w * p for w, p in zip(weights, data, strict=True)) / sum(weights)
        torch.testing.assert_close(got[k], (xt[k] - a**0.5 * x0) / (1 - a) ** 0.5)


def test_the_limits_of_betas_and_time_steps():
    assert Diffusion([0.001, 0.999]).T == 2 and Diffusion(torch.tensor([0.5])).T == 1
    for betas in ([0.0, 0.1], [0.1, 1.0], [0.1, -0.1], [[0.1]], 0.1):
        with pytest.raises(ValueError):
            Diffusion(betas)
    x = torch.zeros(2, 1)
    for t in ([0, 1000], [-1, 0]):
        with pytest.raises(ValueError):
            D.add_noise(x, torch.tensor(t), x)
    assert D.add_noise(x, torch.tensor([0, 999]), x).shape == x.shape
    with pytest.raises(ValueError):
        D.target(x, x, torch.tensor([1]), "score")
    with pytest.raises(ValueError):
        D.views(x, x, torch.tensor([1]), "score")


def test_the_score_is_the_gradient_of_the_log_density():
    """Of the noised density of a list of points, a mixture of Gaussians; and Tweedie's formula."""
    diffusion, data = Diffusion(linear_betas(20, 0.01, 0.3)), torch.randn(7, 2).double()
    for t in (0, 6, 19):
        at, xt = torch.tensor([t]), torch.randn(5, 2).double().requires_grad_()
        signal, noise = diffusion.scales(at, xt)
        mixture = (-(xt[:, None] - signal * data).square().sum(-1) / (2 * noise**2)).logsumexp(1)
        (slope,) = torch.autograd.grad(mixture.sum(), xt)
        eps = ideal_eps(diffusion, data, xt.detach(), at)
        score = diffusion.score(eps, at)
        assert torch.allclose(score, slope, atol=1e-9)
        x0 = (xt.detach() + noise**2 * score) / signal
        assert torch.allclose(x0, diffusion.views(eps, xt.detach(), at)[0], atol=1e-9)
