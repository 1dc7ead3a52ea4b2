import itertools
import math

import pytest
import torch

from minigen import ddim, ddpm
from minigen import flow_matching as fm
from minigen.common import generator
from minigen.data import batches
from minigen.diffusion import Diffusion, cosine_betas, linear_betas
from minigen.fftd import FFTD
from minigen.unet import PointDenoiser
from tests.conftest import defaults, peer

MEAN, STD = 0.3, 0.5
SAMPLERS = (fm.euler_sample, fm.heun_sample)


def slope(t):
    """The field of x_0 ~ N(0.3, 0.5²) is a straight line in x: how steep it is at time t."""
    variance = (1 - t) ** 2 * STD**2 + t**2
    return (t - (1 - t) * STD**2) / variance


def gaussian(x, told, y=None):
    """The mean velocity for x_0 ~ N(0.3, 0.5²), by conditioning of two Gaussians."""
    t = (told / 999).view(-1, *[1] * (x.ndim - 1))
    return slope(t) * (x - (1 - t) * MEAN) - MEAN


def point(x, told, y=None):
    """All paths end at 2: x − 2 = t (ε − 2)."""
    return (x - 2) / (told / 999)


def start(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=generator(1))


def test_a_path_is_a_straight_line():
    x0, eps = torch.randn(2, 4, 3, 5)
    ends = torch.tensor([0.0, 1.0, 0.25, 0.5])
    x = fm.between(x0, eps, ends)
    torch.testing.assert_close(x[0], x0[0])
    torch.testing.assert_close(x[1], eps[1])
    torch.testing.assert_close(x[2], 0.75 * x0[2] + 0.25 * eps[2])
    x0, eps, half = x0.double(), eps.double(), torch.tensor([0.5]).double()
    speed = (fm.between(x0, eps, half + 1e-3) - fm.between(x0, eps, half)) / 1e-3
    torch.testing.assert_close(speed, eps - x0, rtol=0, atol=1e-9)


def test_the_loss_is_a_double_loop():
    x0, eps, t = torch.randn(5, 2), torch.randn(5, 2), torch.rand(5)

    def model(x, told, y=None):
        return torch.sin(3 * x) + told[:, None] / 999

    total = 0.0
    for i, j in itertools.product(range(5), range(2)):
        x = (1 - t[i]) * x0[i, j] + t[i] * eps[i, j]
        total += (math.sin(3 * x) + t[i] - (eps[i, j] - x0[i, j])) ** 2
    assert float(fm.flow_matching_loss(model, x0, eps, t)) == pytest.approx(float(total) / 10)


def test_the_mean_velocity_has_the_least_loss():
    """Among its multiples and its neighbours, the oracle's own is least; the rest is variance."""
    n = 200_000
    x0, eps = start(2, n, 1)
    x0, t = MEAN + STD * x0, torch.rand(n, dtype=torch.float64, generator=generator(2))

    def loss(scale=1.0, off=0.0):
        return float(fm.flow_matching_loss(
            lambda x, told, y=None: scale * gaussian(x, told) + off, x0, eps, t))

    assert loss() < min(loss(0.98), loss(1.02), loss(off=0.03), loss(off=-0.03))
    grid = torch.linspace(0, 1, 10_001, dtype=torch.float64)
    variance = STD**2 / ((1 - grid) ** 2 * STD**2 + grid**2)     # Var(ε − x_0 | x_t), one dimension
    assert loss() == pytest.approx(float(variance.mean()), rel=0.01)


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 100])
def test_the_samplers_on_a_point(steps):
    """The paths are straight: one Euler step is exact; Heun asks at t = 0, where 0 / 0 stands."""
    x = ddpm.last(fm.euler_sample(point, start(4, 2), steps=steps))
    torch.testing.assert_close(x, torch.full_like(x, 2))


@pytest.mark.parametrize("steps", [1, 2, 5, 20, 50])
@pytest.mark.parametrize("sample", SAMPLERS)
def test_the_samplers_on_a_gaussian_for_every_number_of_steps(sample, steps):
    """The field is linear, so the deviation after every step is a product of known numbers."""
    h, gain = 1 / steps, 1.0
    for t in [1 - i * h for i in range(steps)]:
        here, there = slope(t), slope(t - h)
        mean = here if sample is fm.euler_sample else (here + there * (1 - h * here)) / 2
        gain *= 1 - h * mean
    low, high = (ddpm.last(sample(gaussian, x, steps=steps))
                 for x in (torch.zeros(1, 1).double(), torch.ones(1, 1).double()))
    assert float(high - low) == pytest.approx(gain, rel=1e-9)


@pytest.mark.parametrize(("sample", "order"), [(fm.euler_sample, 1), (fm.heun_sample, 2)])
def test_order_of_convergence(sample, order):
    """The flow keeps a point's place in the Gaussian: from z at t = 1 to 0.3 + 0.5 z."""
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    errors = [float((ddpm.last(sample(gaussian, x, steps=n)) - (MEAN + STD * x)).abs().max())
              for n in (64, 128, 256)]
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.1)


def test_the_ideal_velocity_is_a_mean_over_paths():
    data, x, t = start(6, 2), start(4, 2) / 2, torch.tensor([0.2, 0.5, 0.9, 1.0]).double()
    got = fm.ideal_velocity(data, x, t)
    for i in range(4):
        eps = (x[i] - (1 - t[i]) * data) / t[i]                  # each point's path through x
        weight = torch.softmax(-eps.square().sum(1) / 2, 0)
        torch.testing.assert_close(got[i], (weight[:, None] * (eps - data)).sum(0))
    one = fm.ideal_velocity(torch.full((1, 2), 2.0).double(), x, t)
    torch.testing.assert_close(one, point(x, 999 * t[:, None]))


def test_a_v_prediction_is_a_velocity():
    x0, eps, t = start(5, 3), start(5, 3) / 2, torch.rand(5, dtype=torch.float64)
    x = fm.between(x0, eps, t)
    signal, noise = 1 - t[:, None], t[:, None]
    c = (signal**2 + noise**2).sqrt()
    torch.testing.assert_close(fm.from_v((signal * eps - noise * x0) / c, x, t), eps - x0)


@pytest.mark.parametrize("betas", [linear_betas(), cosine_betas()])
def test_a_diffusions_network_serves_as_a_flow(betas):
    """The best v of one Gaussian becomes its best velocity; the flow then ends at the data."""
    diffusion = Diffusion(betas)
    kappas = diffusion.snr.sqrt()

    def best_v(x, step, y=None):
        """As a network trained on all times would answer between two steps as well."""
        k = step.floor().long().clamp(max=diffusion.T - 1)
        part = (step - k).to(kappas)
        log = torch.lerp(kappas[k].log(), kappas[(k + 1).clamp(max=diffusion.T - 1)].log(), part)
        ab = torch.sigmoid(2 * log).view(-1, 1)
        gain = (1 - ab).sqrt() * (x - ab.sqrt() * MEAN) / (ab * STD**2 + 1 - ab)     # ε
        return (gain - (1 - ab).sqrt() * x) / ab.sqrt()                               # v of ε, x

    best_v.prediction = "v"
    flow, x = fm.as_flow(best_v, diffusion), start(6, 1)
    for t in (0.9, 0.5, 0.1):
        at = torch.tensor([t]).double()
        torch.testing.assert_close(fm.velocity(flow, x, at), gaussian(x, 999 * at))
    end = ddpm.last(fm.heun_sample(flow, x, steps=100))
    torch.testing.assert_close(end, MEAN + STD * x, rtol=0, atol=0.02)


def test_as_flow_wants_a_network_that_predicts_v():
    with pytest.raises(ValueError, match="predicts v"):
        fm.as_flow(PointDenoiser(2), Diffusion())
    with pytest.raises(ValueError, match="schedule"):
        fm.as_flow(PointDenoiser(2, prediction="v", schedule="cosine"), Diffusion())


def test_straight_paths_have_straightness_zero():
    x = start(16, 2)
    assert fm.straightness(point, x, steps=20) == pytest.approx(0, abs=1e-12)
    crossing = fm.straightness(
        lambda x, told, y=None: fm.ideal_velocity(torch.tensor([[-1.0, 0], [1, 0]]).double(), x,
                                                  told / 999), x, steps=20)
    assert crossing > 0.01


def test_times():
    uniform = fm.draw_times(100_000, generator=generator(0))
    middle = fm.draw_times(100_000, "logit-normal", generator(0))
    assert float(uniform.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(uniform.var()) == pytest.approx(1 / 12, abs=0.002)
    assert float((middle.logit()).std()) == pytest.approx(1, abs=0.01)
    assert float(middle.var()) < float(uniform.var()) / 1.5
    assert torch.equal(fm.draw_times(5, generator=generator(3)),
                       fm.draw_times(5, generator=generator(3)))


def trained(steps=400, **options):
    """A small network that learns the course of two clouds; the loss at the end."""
    torch.manual_seed(0)
    model = PointDenoiser(2, width=32, layers=2, prediction="velocity")
    x = torch.randn(2000, 2) * 0.2 + torch.tensor([[1.0, -1.0]])
    data = batches(x, batch_size=128, seed=0)
    losses = [s.loss for s in fm.train_flow_matching(model, data, steps=steps, lr=5e-3, **options)]
    return model, x, sum(losses[-50:]) / 50


@pytest.mark.parametrize("law", ["uniform", "logit-normal"])
def test_training_finds_the_cloud(law):
    model, x, _ = trained(law=law)
    drawn = ddpm.last(fm.euler_sample(model, torch.randn(2000, 2, generator=generator(5)),
                                      steps=20))
    torch.testing.assert_close(drawn.mean(0), x.mean(0), rtol=0, atol=0.06)
    torch.testing.assert_close(drawn.std(0), x.std(0), rtol=0, atol=0.06)


def test_an_endless_clip_shortens_no_gradient():
    """As in train_ddpm; below it, a number above 0 is wanted."""
    _, _, loss = trained(20)
    assert trained(20, clip=math.inf)[2] == pytest.approx(loss, rel=0.2)
    with pytest.raises(ValueError, match="clip must be"):
        trained(1, clip=0.0)


def test_training_is_the_same_again_and_keeps_an_average():
    first, _, loss = trained(20)
    second, _, again = trained(20)
    assert loss == again
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    model = PointDenoiser(2, width=8, layers=1, prediction="velocity")
    average = ddpm.ema(model, 0.9)
    for _ in fm.train_flow_matching(model, batches(torch.randn(64, 2), batch_size=8), steps=5,
                                    average=average):
        pass
    assert int(average.n_averaged) == 5


def test_reflow_makes_paths_straighter():
    """Two clouds, whose paths cross: after one round one step does nearly what many do."""
    torch.manual_seed(0)
    side = torch.randint(2, (4000, 1)) * 4.0 - 2
    x = torch.randn(4000, 2) * 0.15 + side * torch.tensor([1.0, 0])

    def train(data, **options):
        model = PointDenoiser(2, width=64, layers=2, prediction="velocity")
        for _ in fm.train_flow_matching(model, data, steps=600, lr=5e-3, **options):
            pass
        return model

    first = train(batches(x, batch_size=128))
    noise = torch.randn(4000, 2, generator=generator(7))
    ends, again = fm.reflow(first, noise, steps=50)
    assert again is noise
    second = train(batches(ends, noise, batch_size=128), pairs=True)
    probe = torch.randn(500, 2, generator=generator(8))
    assert fm.straightness(second, probe) < 0.25 * fm.straightness(first, probe)

    def miss(model):
        """How far one step ends from where fifty do."""
        one, many = (ddpm.last(fm.euler_sample(model, probe, steps=n)) for n in (1, 50))
        return float((one - many).square().mean())

    assert miss(second) < 0.25 * miss(first)


def test_samples_do_not_depend_on_the_batch():
    torch.manual_seed(0)
    model = FFTD(dim=32, heads=2, num_classes=3, prediction="velocity")
    for layer in (*model.norms, model.last_norm, model.last):
        torch.nn.init.normal_(layer.weight, std=0.1)            # an untrained FFTD answers 0
    x, y = torch.randn(5, 4, 4, 4), torch.tensor([0, 1, 2, 3, 0])
    for sample in SAMPLERS:
        whole = ddpm.last(sample(model, x, y, steps=3))
        parts = ddpm.last(sample(model, x, y, steps=3, batch_size=2))
        torch.testing.assert_close(whole, parts)
        assert not torch.allclose(whole, ddpm.last(sample(model, x, steps=3)), atol=1e-3)


def test_the_times_reached_and_the_number_of_questions():
    asked = []

    def model(x, told, y=None):
        asked.append(float(told))
        return 0 * x

    states = list(fm.euler_sample(model, torch.zeros(1, 2), steps=4))
    assert [s.t for s in states] == [0.75, 0.5, 0.25, 0]
    assert asked == pytest.approx([999, 749.25, 499.5, 249.75])
    asked.clear()
    list(fm.heun_sample(model, torch.zeros(1, 2), steps=2))
    assert asked == pytest.approx([999, 499.5, 499.5, 0])


def test_a_network_for_something_else_is_refused():
    eps = PointDenoiser(2)
    with pytest.raises(ValueError, match="this network predicts eps"):
        ddpm.last(fm.euler_sample(eps, torch.zeros(1, 2), steps=2))
    flow = PointDenoiser(2, prediction="velocity")
    with pytest.raises(ValueError, match="flow_matching"):
        ddpm.last(ddim.ddim_sample(flow, Diffusion(), torch.zeros(1, 2), steps=2))
    with pytest.raises(ValueError, match="flow_matching"):
        list(ddpm.train_ddpm(flow, batches(torch.zeros(4, 2), batch_size=2), Diffusion(), steps=1))
    with pytest.raises(ValueError, match="no noise schedule"):
        PointDenoiser(2, prediction="velocity", schedule="cosine")


@pytest.mark.parametrize(("call", "said"), [
    (lambda: fm.between(torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([0.5, 1.5])), "0 to 1"),
    (lambda: fm.between(torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([-0.1])), "0 to 1"),
    (lambda: fm.between(torch.zeros(2, 3), torch.zeros(2, 3), torch.rand(3)), "times t must be"),
    (lambda: fm.between(torch.zeros(2, 3), torch.zeros(2, 4), torch.rand(2)), "differ in shape"),
    (lambda: fm.flow_matching_loss(point, torch.zeros(2, 3), torch.zeros(3, 2), torch.rand(2)),
     "differ in shape"),
    (lambda: fm.draw_times(3, "cosine"), "'uniform' or 'logit-normal'"),
    (lambda: fm.draw_times(0), "n must be"),
    (lambda: next(fm.euler_sample(point, torch.zeros(1, 2), steps=0)), "steps must be"),
    (lambda: next(fm.heun_sample(point, torch.zeros(1, 2), steps=2.5)), "steps must be"),
    (lambda: next(fm.euler_sample(lambda x, t: x[:, :1], torch.zeros(1, 2), steps=1)), "shape"),
    (lambda: fm.ideal_velocity(torch.zeros(3, 2), torch.zeros(1, 2), torch.zeros(1)), "above 0"),
    (lambda: fm.ideal_velocity(torch.zeros(3, 4), torch.zeros(1, 2), torch.ones(1)), "data"),
    (lambda: next(fm.train_flow_matching(
        PointDenoiser(2, prediction="velocity"), batches(torch.zeros(4, 2), batch_size=2), steps=1,
        pairs=True)), "pairs"),
])
def test_bad_input_is_told(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_the_path_and_the_solver_of_a_peer():
    """facebookresearch/flow_matching: time runs from noise, 0, to data, 1."""
    path = peer("flow_matching.path").CondOTProbPath()
    (x0, eps), t = torch.randn(2, 3, 5), torch.rand(3)
    theirs = path.sample(x_0=eps, x_1=x0, t=1 - t)
    torch.testing.assert_close(theirs.x_t, fm.between(x0, eps, t))
    torch.testing.assert_close(-theirs.dx_t, eps - x0)
    solver = peer("flow_matching.solver").ODESolver(
        velocity_model=lambda x, t: -gaussian(x, 999 * (1 - t).view(1)))
    x = start(4, 2)
    for method, sample in (("euler", fm.euler_sample), ("heun2", fm.heun_sample)):
        want = solver.sample(x_init=x, method=method, step_size=0.1)
        ours = ddpm.last(sample(gaussian, x, steps=10))
        torch.testing.assert_close(ours, want, rtol=1e-6, atol=1e-6)


def test_the_scheduler_of_a_peer():
    """diffusers' FlowMatchEulerDiscreteScheduler, whose times end where ours do."""
    scheduler = peer("diffusers").FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=[1 - i / 5 for i in range(5)])
    x = start(4, 2)
    ours = ddpm.last(fm.euler_sample(gaussian, x, steps=5))
    for sigma, t in zip(scheduler.sigmas, scheduler.timesteps, strict=False):
        x = scheduler.step(gaussian(x, 999 * sigma.double().view(1)), t, x).prev_sample
    torch.testing.assert_close(ours, x, rtol=1e-5, atol=1e-5)


def test_defaults():
    assert defaults(fm.train_flow_matching)["law"] == "uniform"
    assert defaults(fm.reflow)["steps"] == 20
