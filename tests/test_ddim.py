import itertools
import math

import pytest
import torch

from minigen import ddim, ddpm
from minigen.diffusion import Diffusion, linear_betas
from tests.conftest import defaults, peer

D = Diffusion()
ZERO, TWO = torch.zeros(1, 1), torch.zeros(2, 1)
SPACINGS = ("trailing", "leading", "linspace")


def delta_eps(x, t, y=None):
    """x_0 is 3, always."""
    signal, noise = D.scales(t, x)
    return (x - signal * 3) / noise


def gauss_eps(x, t, y=None):
    """The best prediction for x_0 ~ N(0.3, 0.5²)."""
    a = D.at(D.alpha_bar, t, x)
    return (1 - a).sqrt() * (x - a.sqrt() * 0.3) / (a * 0.25 + 1 - a)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("T", [1, 2, 7, 1000])
def test_time_steps_are_distinct_fall_and_lie_within(T, spacing):
    for steps in {1, 2, 3, 7, T // 3, T // 2, T - 1, T} & set(range(1, T + 1)):
        times = ddim.timesteps(T, steps, spacing)
        assert len(times) == steps and all(a > b for a, b in itertools.pairwise(times))
        assert times[-1] >= 0 and times[0] < T
        if spacing != "leading":
            assert times[0] == T - 1
        if spacing != "trailing" and steps > 1:
            assert times[-1] == 0


def test_time_steps_equal_diffusers_where_the_strides_are_whole():
    scheduler = peer("diffusers").DDIMScheduler
    for spacing in ("leading", "trailing"):
        for steps in (10, 50, 500, 1000):
            s = scheduler(timestep_spacing=spacing)
            s.set_timesteps(steps)
            assert s.timesteps.tolist() == ddim.timesteps(1000, steps, spacing)


def test_where_diffusers_is_not_right():
    scheduler = peer("diffusers").DDIMScheduler
    s = scheduler(timestep_spacing="leading")
    s.set_timesteps(300)
    # it never sees the tenth of the schedule with the most noise
    assert int(s.timesteps[0]) == 897
    assert ddim.timesteps(1000, 300, "leading")[0] == 996
    # with "linspace" its neighbour is t - T // steps and not the next in its own list, so even the
    # point x_0 = 3 is missed
    s = scheduler(timestep_spacing="linspace", clip_sample=False, set_alpha_to_one=True)
    s.set_timesteps(7)
    x = torch.ones(1, 1, dtype=torch.float64)
    ours = ddpm.last(ddim.ddim_sample(gauss_eps, D, x, steps=7, spacing="linspace"))
    for t in s.timesteps:
        x = s.step(gauss_eps(x, t.view(1)), int(t), x).prev_sample
    assert float((x - ours).abs()) > 1e-3


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize(("steps", "eta"), [
    (1000, 1.0), (500, 0.0), (50, 0.7), (10, 1.0), (7, 0.3), (1, 0.0)])
def test_delta_oracle(steps, eta, spacing):
    x = torch.randn(4, 1, 2, 2, dtype=torch.float64)
    x = ddpm.last(ddim.ddim_sample(delta_eps, D, x, steps=steps, eta=eta, spacing=spacing))
    assert float((x - 3).abs().max()) < 1e-5


def affine_moments(steps, spacing, eta):
    """Mean and deviation of the samples for x_T ~ N(0, 1), from the sampler itself.

    Every step is affine, so three points tell what it does to all."""
    state = {"mean": 0.0, "variance": 1.0}
    times = ddim.timesteps(1000, steps, spacing)
    for t, t_prev in zip(times, [*times[1:], -1], strict=True):
        at, x = torch.tensor([t]), torch.tensor([[-1.0], [0.0], [1.0]], dtype=torch.float64)
        eps = gauss_eps(x, at)
        x0, _ = D.views(eps, x, at)
        moved = ddim.ddim_step(D, x0, eps, t, t_prev, eta, torch.zeros_like(x))
        down, zero, up = moved.flatten().tolist()
        slope = (up - down) / 2
        state["mean"] = zero + slope * state["mean"]
        state["variance"] = slope**2 * state["variance"] + ddim.sigma(D, t, t_prev, eta) ** 2
    return state["mean"], math.sqrt(state["variance"])


@pytest.mark.parametrize(("steps", "spacing", "eta", "mean", "std"), [
    (1000, "trailing", 0, 0.29905, 0.49850), (1000, "trailing", 1, 0.30000, 0.49611),
    (500, "trailing", 0, 0.29905, 0.49701), (500, "trailing", 1, 0.30000, 0.49251),
    (500, "leading", 0, 0.29904, 0.49709), (500, "leading", 1, 0.30000, 0.49253),
    (50, "trailing", 0, 0.29910, 0.47140), (50, "trailing", 1, 0.30000, 0.44410),
    (50, "leading", 0, 0.29891, 0.47244), (50, "leading", 1, 0.30000, 0.44412),
    (10, "trailing", 0, 0.29929, 0.36995), (10, "trailing", 1, 0.30000, 0.33348)])
def test_gaussian_oracle(steps, spacing, eta, mean, std):
    got = affine_moments(steps, spacing, eta)
    assert got == (pytest.approx(mean, abs=1e-4), pytest.approx(std, abs=1e-4))


def test_gaussian_oracle_through_the_sampler():
    x = torch.tensor([[-1.0], [0.0], [1.0]], dtype=torch.float64)
    down, zero, up = ddpm.last(ddim.ddim_sample(gauss_eps, D, x, steps=50)).flatten().tolist()
    assert zero == pytest.approx(0.29910, abs=1e-4)
    assert (up - down) / 2 == pytest.approx(0.47140, abs=1e-4)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_sampling_that_begins_in_the_middle(eta):
    """The second half of a sampling, begun by itself, ends where the whole does."""
    x = torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    g, h = (torch.Generator().manual_seed(k) for k in (1, 1))
    states = list(ddim.ddim_sample(gauss_eps, D, x, steps=10, eta=eta, generator=g))
    middle = next(s for s in states if s.t == 599)       # after the step from 599 to 499
    if eta:
        for _ in range(5):
            torch.randn(x.shape, generator=h, dtype=torch.float64)
    half = list(ddim.ddim_sample(gauss_eps, D, middle.x, steps=5, eta=eta, generator=h, below=500))
    assert [s.t for s in half] == [499, 399, 299, 199, 99]
    torch.testing.assert_close(half[-1].x, states[-1].x)
    for below in (0, 1001, 2.5):
        with pytest.raises(ValueError, match="below must be a whole number, 1 to 1000"):
            next(ddim.ddim_sample(gauss_eps, D, x, steps=1, below=below))


def test_eta_one_with_all_steps_is_ddpm():
    short = Diffusion(linear_betas(50, 1e-3, 0.2))

    def model(x, t, y=None):
        return x.sin() * 0.3

    x = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    first, second = (torch.Generator().manual_seed(5) for _ in range(2))
    a = ddpm.ddpm_sample(model, short, x, generator=first)
    b = ddim.ddim_sample(model, short, x, steps=50, eta=1.0, generator=second)
    for one, other in zip(a, b, strict=True):
        torch.testing.assert_close(one.x, other.x, rtol=0, atol=1e-10)


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_one_step_equals_diffusers(spacing, eta):
    scheduler = peer("diffusers").DDIMScheduler
    s = scheduler(clip_sample=False, set_alpha_to_one=True, timestep_spacing=spacing)
    s.set_timesteps(50)
    x, noise = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    times = s.timesteps.tolist()
    for t, t_prev in [(times[0], times[1]), (times[25], times[26]), (times[-1], -1)]:
        at, eps = torch.tensor([t]), torch.randn(2, 3, 4, 4)
        ours = ddim.ddim_step(D, D.views(eps, x, at)[0], eps, t, t_prev, eta, noise)
        theirs = s.step(eps, t, x, eta=eta, variance_noise=noise).prev_sample
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 if t < 20 else 1e-4)


def test_clipping_equals_diffusers_with_the_noise_derived_again():
    s = peer("diffusers").DDIMScheduler(clip_sample=True, timestep_spacing="trailing")
    s.set_timesteps(10)
    x = torch.randn(2, 3, 4, 4)
    state = next(ddim.ddim_sample(lambda x, t: 0.2 * x, D, x, steps=10, clip=(-1, 1)))
    theirs = s.step(0.2 * x, 999, x, use_clipped_model_output=True).prev_sample
    torch.testing.assert_close(state.x, theirs, rtol=1e-4, atol=1e-4)


def test_deterministic_whatever_the_batch_size_and_for_latents_unclipped():
    def model(x, t, y):
        return 0.5 * x + 0.1 * y.view(-1, 1, 1, 1)

    x, y = 3 * torch.randn(7, 4, 4, 4), torch.arange(7)
    runs = [ddpm.last(ddim.ddim_sample(model, D, x, y, steps=20, batch_size=n)) for n in (7, 2, 1)]
    assert float(runs[0].abs().max()) > 1.5
    for run in runs[1:]:
        torch.testing.assert_close(run, runs[0], rtol=1e-6, atol=1e-6)

    def noisy(batch_size):
        generator = torch.Generator().manual_seed(2)
        return ddpm.last(ddim.ddim_sample(model, D, x, y, steps=20, eta=1.0, generator=generator,
                                          batch_size=batch_size))

    torch.testing.assert_close(noisy(7), noisy(3), rtol=1e-6, atol=1e-6)


def test_trajectory_and_progress(capsys):
    states = list(ddim.ddim_sample(gauss_eps, D, torch.zeros(1, 1), steps=5, progress=True))
    assert [s.t for s in states] == [999, 799, 599, 399, 199]
    assert "sampling" in capsys.readouterr().err
    assert torch.equal(states[-1].x, states[-1].x0)


def test_inversion_error_falls_with_steps_and_with_refinement():
    x0 = torch.linspace(-0.7, 1.3, 9, dtype=torch.float64)[:, None]

    def error(steps, refine=0):
        noise = ddpm.last(ddim.ddim_invert(gauss_eps, D, x0, steps=steps, refine=refine))
        back = ddpm.last(ddim.ddim_sample(gauss_eps, D, noise, steps=steps))
        return float((back - x0).abs().max())

    errors = [error(n) for n in (10, 50, 250)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2] and error(50, refine=20) < 1e-3 * errors[1]


def test_slerp_keeps_the_length_and_goes_through_its_ends():
    a, b = torch.randn(4, 3, 8, 8), torch.randn(4, 3, 8, 8)
    torch.testing.assert_close(ddim.slerp(a, b, 0.0), a)
    torch.testing.assert_close(ddim.slerp(a, b, 1.0), b)
    half = ddim.slerp(a, b, 0.5).flatten(1).norm(dim=1)
    assert bool((half > 0.9 * (a.flatten(1).norm(dim=1) + b.flatten(1).norm(dim=1)) / 2).all())
    assert bool((((a + b) / 2).flatten(1).norm(dim=1) < 0.8 * half).all())
    third = ddim.slerp(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), 1 / 3)
    want = torch.tensor([[math.cos(math.pi / 6), math.sin(math.pi / 6)]])
    torch.testing.assert_close(third, want)
    torch.testing.assert_close(ddim.slerp(a, a, 0.3), a)
    weights = torch.tensor([0.0, 1.0, 0.0, 1.0])
    torch.testing.assert_close(ddim.slerp(a, b, weights)[:2], torch.stack([a[0], b[1]]))


def test_inpainting_keeps_what_is_known_and_follows_the_data():
    known, mask = torch.full((2, 1, 4, 4), 3.0), torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    for repeats in (1, 3):
        generator = torch.Generator().manual_seed(0)
        xT = torch.randn(2, 1, 4, 4)
        states = list(ddim.inpaint(delta_eps, D, known, mask, xT, steps=10, repeats=repeats,
                                   generator=generator))
        assert len(states) == 10
        torch.testing.assert_close(states[-1].x, known, rtol=0, atol=1e-4)
    kept = 7 * torch.ones(2, 1, 4, 4)
    x = ddpm.last(ddim.inpaint(delta_eps, D, kept, mask, torch.randn(2, 1, 4, 4), steps=10))
    assert bool((x[..., :2] == 7).all()) and float((x[..., 2:] - 3).abs().max()) < 1e-3


@pytest.mark.parametrize(("call", "words"), [
    (lambda: ddim.timesteps(10, 11), "1 to T=10"),
    (lambda: ddim.timesteps(10, 0), "got 0"),
    (lambda: ddim.timesteps(10, 5, "quadratic"), "'leading' or 'linspace'; got 'quadratic'"),
    (lambda: next(ddim.ddim_sample(gauss_eps, D, ZERO, steps=1001)), "1 to T=1000"),
    (lambda: next(ddim.ddim_sample(gauss_eps, D, ZERO, steps=9, eta=-0.1)), "at least 0; got -0.1"),
    (lambda: next(ddim.ddim_sample(gauss_eps, D, ZERO, steps=9, eta=9.0)), "more noise than the"),
    (lambda: next(ddim.ddim_sample(lambda x, t: x[:1], D, TWO, steps=9)),
     r"shape \(2, 1\); it gave \(1, 1\)"),
    (lambda: next(ddim.ddim_sample(gauss_eps, D, TWO, torch.zeros(1), steps=9)), "1 labels for 2"),
    (lambda: next(ddim.inpaint(gauss_eps, D, ZERO, ZERO + 0.5, ZERO, steps=2)), "mask holds 1"),
    (lambda: next(ddim.inpaint(gauss_eps, D, ZERO, ZERO, ZERO, steps=2, repeats=0)), "repeats")])
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize(
    ("T", "steps", "spacing", "want"),
    [
        (10, 4, "trailing", [9, 7, 4, 2]),
        (10, 4, "leading", [7, 5, 2, 0]),
        (10, 4, "linspace", [9, 6, 3, 0]),
        (11, 4, "trailing", [10, 7, 5, 2]),
        (11, 4, "leading", [8, 5, 2, 0]),
        (11, 4, "linspace", [10, 7, 3, 0]),
        (12, 5, "trailing", [11, 9, 6, 4, 1]),
        (12, 5, "leading", [9, 7, 4, 2, 0]),
        (12, 5, "linspace", [11, 8, 6, 3, 0]),
        (10, 1, "trailing", [9]),
        (10, 1, "leading", [0]),
        (10, 1, "linspace", [9]),
        (10, 2, "linspace", [9, 0]),
    ],
)
def test_time_steps_by_hand(T, steps, spacing, want):
    assert ddim.timesteps(T, steps, spacing) == want


@pytest.mark.parametrize(("t", "t_prev"), [(999, 900), (500, 499), (20, 0), (0, -1)])
def test_sigma_by_hand(t, t_prev):
    now, before = float(D.alpha_bar[t]), float(D.alpha_bar[t_prev]) if t_prev >= 0 else 1.0
    most = math.sqrt((1 - before) / (1 - now)) * math.sqrt(1 - now / before)
    for eta in (0.0, 0.4, 1.0):
        assert ddim.sigma(D, t, t_prev, eta) == pytest.approx(eta * most, rel=1e-12, abs=1e-15)
    if t_prev >= 0:
        largest = math.sqrt(1 - before) / most  # σ² is all the noise there is
        assert ddim.sigma(D, t, t_prev, largest) == pytest.approx(math.sqrt(1 - before))
        with pytest.raises(ValueError):
            ddim.sigma(D, t, t_prev, 1.01 * largest)


def test_a_step_by_hand():
    x0, eps, noise = torch.randn(3, 2, 5, dtype=torch.float64)
    for t, t_prev, eta in ((700, 400, 0.5), (700, 400, 0.0), (400, 700, 0.0), (3, -1, 1.0)):
        before, s = (
            float(D.alpha_bar[t_prev]) if t_prev >= 0 else 1.0,
            ddim.sigma(D, t, t_prev, eta) if eta else 0.0,
        )
        want = math.sqrt(before) * x0 + math.sqrt(1 - before - s**2) * eps + s * noise
        torch.testing.assert_close(ddim.ddim_step(D, x0, eps, t, t_prev, eta, noise), want)
    assert torch.equal(
        ddim.ddim_step(D, x0, eps, 700, 400), ddim.ddim_step(D, x0, eps, 700, 400, 0.0)
    )


def drawn(run, shape, most=9):
    """How many pieces of noise of this shape `run(generator)` draws."""
    generator = torch.Generator().manual_seed(8)
    run(generator)
    other = torch.Generator().manual_seed(8)
    for n in range(most):
        if torch.equal(generator.get_state(), other.get_state()):
            return n
        torch.randn(shape, generator=other, dtype=torch.float64)
    raise AssertionError(f"more than {most} draws")


def test_noise_is_drawn_where_it_is_used_alone():
    x = torch.randn(2, 9, dtype=torch.float64)
    known, mask = torch.zeros_like(x), torch.ones(1, 9)
    for eta, want in ((0.0, 0), (0.3, 3), (1.0, 3)):  # four steps, none after the last
        assert (
            drawn(
                lambda g, e=eta: ddpm.last(
                    ddim.ddim_sample(gauss_eps, D, x, steps=4, eta=e, generator=g)
                ),
                (2, 9),
            )
            == want
        )
    # in each of two steps one for the step, unless it is the last, and one for what is known
    assert (
        drawn(
            lambda g: ddpm.last(ddim.inpaint(gauss_eps, D, known, mask, x, steps=2, generator=g)),
            (2, 9),
        )
        == 3
    )


class Half(torch.nn.Module):
    """Answers with half its input and a part of its label; notes its mode."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x, t, y=None):
        self.seen.append((self.training, torch.is_grad_enabled()))
        return 0.5 * x if y is None else 0.5 * x + 0.1 * y.view(-1, *[1] * (x.ndim - 1))


@pytest.mark.parametrize("eta", [0.0, 0.6])
def test_sampling_is_its_steps(eta):
    x, y, model = torch.randn(5, 1, 2, 2, dtype=torch.float64), torch.arange(5), Half().train()
    states = list(
        ddim.ddim_sample(
            model,
            D,
            x,
            y,
            steps=3,
            eta=eta,
            spacing="linspace",
            clip=(-1, 1),
            batch_size=2,
            generator=torch.Generator().manual_seed(1),
        )
    )
    generator = torch.Generator().manual_seed(1)
    for state, (t, t_prev) in zip(states, [(999, 500), (500, 0), (0, -1)], strict=True):
        a = float(D.alpha_bar[t])
        x0 = ((x - math.sqrt(1 - a) * (0.5 * x + 0.1 * y.view(-1, 1, 1, 1))) / math.sqrt(a)).clamp(
            -1, 1
        )
        eps = (x - math.sqrt(a) * x0) / math.sqrt(1 - a)
        noise = None
        if t_prev >= 0:
            noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        x = ddim.ddim_step(D, x0, eps, t, t_prev, eta, noise)
        assert state.t == t
        torch.testing.assert_close(state.x, x)
        torch.testing.assert_close(state.x0, x0)
    assert set(model.seen) == {(False, False)} and model.training


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_sampling_and_inversion_read_every_kind_of_prediction(prediction):
    def model(x, t, y=None):
        eps = gauss_eps(x, t)
        return D.target(D.views(eps, x, t)[0], eps, t, prediction)

    x = torch.randn(3, 1, dtype=torch.float64)
    for run in (
        lambda m, **kw: ddim.ddim_sample(m, D, x, steps=5, **kw),
        lambda m, **kw: ddim.ddim_invert(m, D, x, steps=5, **kw),
        lambda m, **kw: ddim.inpaint(m, D, x, torch.zeros(1, 1), x, steps=5, eta=0.0, **kw),
    ):
        torch.testing.assert_close(
            ddpm.last(run(model, prediction=prediction)),
            ddpm.last(run(gauss_eps)),
            rtol=1e-6,
            atol=1e-8,
        )


@pytest.mark.parametrize("refine", [0, 2])
def test_inversion_by_hand(refine):
    x, y, model = torch.randn(4, 1, 2, 2, dtype=torch.float64), torch.arange(4), Half().train()
    states = list(
        ddim.ddim_invert(model, D, x, y, steps=3, refine=refine, spacing="leading", batch_size=3)
    )
    for state, (t_prev, t) in zip(states, [(-1, 0), (0, 333), (333, 666)], strict=True):
        before, now = float(D.alpha_bar[t_prev]) if t_prev >= 0 else 1.0, float(D.alpha_bar[t])
        end = x
        for _ in range(refine + 1):
            eps = 0.5 * end + 0.1 * y.view(-1, 1, 1, 1)
            clean = (end - math.sqrt(1 - now) * eps) / math.sqrt(now)
            # the state at t_prev with this noise, taken to its x_0 and from there to t
            end = (
                math.sqrt(now) * (x - math.sqrt(1 - before) * eps) / math.sqrt(before)
                + math.sqrt(1 - now) * eps
            )
        x = end
        assert state.t == t
        torch.testing.assert_close(state.x, x)
        torch.testing.assert_close(state.x0, clean)
    assert set(model.seen) == {(False, False)} and model.training


@pytest.mark.parametrize(("repeats", "eta"), [(1, 1.0), (3, 1.0), (2, 0.4)])
def test_inpainting_is_its_formula(repeats, eta):
    """Algorithm 1 of RePaint written out: step, the known part noised to that level, and back up
    before a repeat."""
    known, x, y = (
        torch.randn(2, 1, 2, 2, dtype=torch.float64),
        torch.randn(2, 1, 2, 2, dtype=torch.float64),
        torch.tensor([0, 3]),
    )
    mask, model = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), Half().train()
    states = list(
        ddim.inpaint(
            model,
            D,
            known,
            mask,
            x,
            y,
            steps=2,
            repeats=repeats,
            eta=eta,
            spacing="leading",
            batch_size=1,
            generator=torch.Generator().manual_seed(3),
        )
    )
    generator = torch.Generator().manual_seed(3)

    def z():
        return torch.randn(x.shape, generator=generator, dtype=torch.float64)

    for state, (t, t_prev) in zip(states, [(500, 0), (0, -1)], strict=True):
        now, before = float(D.alpha_bar[t]), float(D.alpha_bar[t_prev]) if t_prev >= 0 else 1.0
        for left in range(repeats - 1, -1, -1):
            eps = 0.5 * x + 0.1 * y.view(-1, 1, 1, 1)
            x0 = (x - math.sqrt(1 - now) * eps) / math.sqrt(now)
            x = ddim.ddim_step(D, x0, eps, t, t_prev, eta, z() if t_prev >= 0 else None)
            kept = math.sqrt(before) * known + math.sqrt(1 - before) * z()
            x = mask * kept + (1 - mask) * x
            if left:
                x = math.sqrt(now / before) * x + math.sqrt(1 - now / before) * z()
        assert state.t == t
        torch.testing.assert_close(state.x, x)
        torch.testing.assert_close(state.x0, x0)
    assert set(model.seen) == {(False, False)} and model.training


def test_one_wrong_value_in_the_mask_is_refused():
    mask = torch.tensor([[0.0, 1.0, 1.0, 0.5]])
    with pytest.raises(ValueError):
        next(ddim.inpaint(gauss_eps, D, torch.zeros(1, 4), mask, torch.zeros(1, 4), steps=2))
    ddpm.last(
        ddim.inpaint(
            gauss_eps, D, torch.zeros(1, 4), mask.round(), torch.zeros(1, 4), steps=2, repeats=1
        )
    )


def test_inpainting_clips_the_guess():
    x = torch.ones(1, 4, dtype=torch.float64)
    free, bound = (
        next(ddim.inpaint(delta_eps, D, x, torch.zeros(4), x, steps=4, clip=clip)).x0
        for clip in (None, (-1, 2))
    )
    torch.testing.assert_close(free, 3 * x)
    assert torch.equal(bound, 2 * x)


def test_slerp_of_vectors_alike_opposite_and_at_a_right_angle():
    a, b = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    want = torch.tensor([[2 * math.cos(math.pi / 8), math.sin(math.pi / 8)]])
    torch.testing.assert_close(ddim.slerp(a, b, 0.25), want)
    torch.testing.assert_close(ddim.slerp(a, 3 * a, 0.25), 1.5 * a)  # no angle: a straight line
    torch.testing.assert_close(ddim.slerp(a, -a, 0.25), 0.5 * a)
    wide = torch.tensor([[-1.0, 1.0]])  # at 135°
    want = (
        math.sin(0.75 * 0.75 * math.pi) * a + math.sin(0.25 * 0.75 * math.pi) * wide
    ) / math.sin(0.75 * math.pi)
    torch.testing.assert_close(ddim.slerp(a, wide, 0.25), want)
    assert ddim.slerp(a.half(), b.half(), 0.5).dtype == torch.float16
    assert torch.equal(ddim.slerp(0 * a, b, 1.0), b)  # a vector without length has no angle


def test_what_is_taken_unless_told():
    shared = dict(y=None, spacing="trailing", prediction=None, batch_size=256)
    assert defaults(ddim.timesteps) == dict(spacing="trailing")
    assert defaults(ddim.ddim_step) == dict(eta=0.0, noise=None)
    assert defaults(ddim.ddim_sample) == shared | dict(
        eta=0.0, clip=None, generator=None, progress=False, below=None
    )
    assert defaults(ddim.ddim_invert) == shared | dict(refine=0)
    assert defaults(ddim.inpaint) == shared | dict(repeats=1, eta=1.0, clip=None, generator=None)


def test_slerp_of_many_vectors_alike_gives_numbers():
    """A cosine of 1 and a rounding error has no angle; among 500 there are many."""
    a = torch.randn(500, 7, dtype=torch.float64)
    torch.testing.assert_close(ddim.slerp(a, 3 * a, 0.3), 1.6 * a)
    torch.testing.assert_close(ddim.slerp(a, -a, 0.25), 0.5 * a)
