import itertools
import math

import pytest
import torch

from minigen import ddim, ddpm, ode
from minigen.diffusion import Diffusion, cosine_betas, linear_betas
from tests.conftest import defaults, peer

D = Diffusion()
MEAN, STD = 0.3, 0.5
SAMPLERS = (ode.heun_sample, ode.multistep_sample)


def oracle(diffusion):
    """The best ε for x_0 ~ N(0.3, 0.5²)."""
    def eps(x, t, y=None):
        a = diffusion.at(diffusion.alpha_bar, t, x)
        return (1 - a).sqrt() * (x - a.sqrt() * MEAN) / (a * STD**2 + 1 - a)

    return eps


def exact(diffusion, x, t, s):
    """Where the probability flow carries x from time t to s: its place in the Gaussian stays."""
    now, then = (float(diffusion.alpha_bar[k]) for k in (t, s))
    place = (x - now**0.5 * MEAN) / math.sqrt(now * STD**2 + 1 - now)
    return then**0.5 * MEAN + place * math.sqrt(then * STD**2 + 1 - then)


def error(sample, diffusion, steps, until):
    """Distance to the flow at the first time visited at or below `until` (a share of T)."""
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    times = ddim.timesteps(diffusion.T, steps)
    states = sample(oracle(diffusion), diffusion, x, steps=steps)
    stop = next(k for k, t in enumerate(times) if t < until * diffusion.T)
    for _ in range(stop):                   # the state after step k − 1 stands at times[k]
        state = next(states)
    return float((state.x - exact(diffusion, x, times[0], times[stop])).abs().max())


@pytest.mark.parametrize("betas", [linear_betas(4096, 2.5e-5, 0.005), cosine_betas(4096)])
@pytest.mark.parametrize(("sample", "order"), [
    (ddim.ddim_sample, 1), (ode.heun_sample, 2), (ode.multistep_sample, 2)])
def test_order_of_convergence_on_the_gaussian(betas, sample, order):
    """Half the step: half the error for DDIM, a quarter for the others."""
    diffusion = Diffusion(betas)
    errors = [error(sample, diffusion, n, 0.26) for n in (64, 128, 256)]
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.25)


def test_a_second_order_is_nearer_at_equal_network_runs():
    for diffusion in (D, Diffusion(cosine_betas())):
        euler = error(ddim.ddim_sample, diffusion, 20, 0.3)
        assert error(ode.heun_sample, diffusion, 10, 0.3) < 0.5 * euler
        assert error(ode.multistep_sample, diffusion, 20, 0.3) < 0.5 * euler


def test_a_straight_line_in_the_plane_of_kappa_and_z_is_ddim():
    x0, eps = torch.randn(2, 3, 4, dtype=torch.float64)
    for t, s in ((999, 700), (700, 20), (20, 0), (0, -1), (100, 400)):
        x = D.add_noise(x0, torch.tensor([t]), eps)
        got = ode.along(D, x, x0, t, s)
        torch.testing.assert_close(got, ddim.ddim_step(D, x0, eps, t, s))
    kappa, sigma = D.snr.sqrt(), (1 - D.alpha_bar).sqrt()
    z, slope = torch.randn(2, 5, dtype=torch.float64)
    got = ode.along(D, sigma[700] * z, slope, 700, 300) / sigma[300]
    torch.testing.assert_close(got, z + (kappa[300] - kappa[700]) * slope)


@pytest.mark.parametrize("sample", SAMPLERS)
def test_one_step_and_a_point_are_ddims(sample):
    """One step has no second slope; where x_0 is one point, every slope is that point."""
    x = torch.randn(3, 2, 4, dtype=torch.float64)

    def point(x, t, y=None):
        signal, noise = D.scales(t, x)
        return (x - signal * 3) / noise

    one = ddpm.last(sample(oracle(D), D, x, steps=1))
    torch.testing.assert_close(one, ddpm.last(ddim.ddim_sample(oracle(D), D, x, steps=1)))
    for state, other in zip(sample(point, D, x, steps=7), ddim.ddim_sample(point, D, x, steps=7),
                            strict=True):
        torch.testing.assert_close(state.x, other.x, rtol=1e-6, atol=1e-6)
        assert state.t == other.t


def a_model(x, t, y=None):
    return torch.sin(2 * x) + (t.view(-1, *[1] * (x.ndim - 1)) / 1000 if len(t) else 0)


@pytest.mark.parametrize(("prediction", "theirs"), [
    ("eps", "epsilon"), ("x0", "sample"), ("v", "v_prediction")])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_multistep_equals_diffusers(prediction, theirs, schedule):
    betas = linear_betas() if schedule == "linear" else cosine_betas()
    s = peer("diffusers").DPMSolverMultistepScheduler(
        trained_betas=betas.tolist(), prediction_type=theirs, timestep_spacing="trailing",
        lower_order_final=False, final_sigmas_type="zero", euler_at_final=True)
    s.set_timesteps(10)
    diffusion, x = Diffusion(betas), torch.randn(2, 3, 4, 4)
    states = ode.multistep_sample(a_model, diffusion, x, steps=10, prediction=prediction)
    for t, state in zip(s.timesteps.tolist(), states, strict=True):
        x = s.step(a_model(x, torch.tensor([t])), t, x).prev_sample
        assert t == state.t
        scale = float(state.x.abs().max())
        torch.testing.assert_close(state.x, x, rtol=2e-3, atol=2e-3 * scale)


def test_heun_by_hand():
    """The second slope is asked for at the end of the step and its time; the mean of both goes."""
    x, seen = torch.randn(2, 3, dtype=torch.float64), []

    def model(x, t, y=None):
        seen.append((int(t), x))
        return torch.cos(x)

    states = list(ode.heun_sample(model, D, x, steps=3, prediction="x0"))
    assert [t for t, _ in seen] == [999, 666, 666, 332, 332]
    for state, (t, s) in zip(states, [(999, 666), (666, 332)], strict=False):
        end = ode.along(D, x, torch.cos(x), t, s)
        x = ode.along(D, x, (torch.cos(x) + torch.cos(end)) / 2, t, s)
        torch.testing.assert_close(state.x, x)
    torch.testing.assert_close(states[-1].x, torch.cos(x))


@pytest.mark.parametrize("sample", SAMPLERS)
def test_batches_labels_and_clipping(sample):
    x, y = 3 * torch.randn(5, 1, 2, 2, dtype=torch.float64), torch.arange(5)

    def model(x, t, y):
        return 0.3 * x + 0.1 * y.view(-1, 1, 1, 1)

    whole, split = (ddpm.last(sample(model, D, x, y, steps=4, batch_size=n)) for n in (9, 2))
    torch.testing.assert_close(whole, split)
    clipped = list(sample(model, D, x, y, steps=4, clip=(-0.5, 0.5)))
    assert all(float(s.x0.abs().max()) <= 0.5 for s in clipped)
    assert float(clipped[-1].x.abs().max()) <= 0.5


@pytest.mark.parametrize("sample", SAMPLERS)
def test_progress_and_mode(sample, capsys):
    model = torch.nn.Dropout(0.9).train()
    net = type("Net", (torch.nn.Module,), {
        "__init__": lambda self: (torch.nn.Module.__init__(self), setattr(self, "d", model))[0],
        "forward": lambda self, x, t: self.d(x)})()
    x = torch.randn(2, 3)
    a, b = (ddpm.last(sample(net, D, x, steps=3, progress=True)) for _ in range(2))
    assert torch.equal(a, b) and net.training          # no dropout while sampling
    assert "sampling" in capsys.readouterr().err


@pytest.mark.parametrize("sample", SAMPLERS)
@pytest.mark.parametrize(("options", "words"), [
    (dict(steps=1001), "1 to T=1000"), (dict(steps=0), "got 0"),
    (dict(steps=4, spacing="quadratic"), "'quadratic'"), (dict(steps=4, clip=(1, -1)), "clip"),
    (dict(steps=4, y=torch.zeros(3).long()), "3 labels for 2")])
def test_bad_input(sample, options, words):
    with pytest.raises(ValueError, match=words):
        next(sample(oracle(D), D, torch.zeros(2, 1), **options))


def test_what_is_taken_unless_told():
    want = dict(y=None, spacing="trailing", prediction=None, clip=None, batch_size=256,
                progress=False)
    assert defaults(ode.heun_sample) == defaults(ode.multistep_sample) == want


def test_log_kappa():
    assert ode.log_kappa(D, 500) == pytest.approx(math.log(float(D.snr[500])) / 2)
