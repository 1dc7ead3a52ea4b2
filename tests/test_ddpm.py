import copy

import pytest
import torch
from torch import nn

from minigen import ddim, ddpm
from minigen.common import generator as seeded
from minigen.diffusion import Diffusion, cosine_betas, ideal_eps, linear_betas
from minigen.guidance import Guided
from minigen.unet import PointDenoiser, UNet
from tests.conftest import defaults, one_cycle, peer

SHORT = Diffusion(linear_betas(40, 1e-3, 0.2))


def zero(x, t, y=None):
    return torch.zeros_like(x)


def toy_eps(x, t, y=None):
    return 0.3 * x + 0.1 * (t.to(x) / 1000).view(-1, 1, 1, 1)


def test_simple_loss_of_the_right_answer_is_zero_and_of_none_is_one():
    x0, eps = torch.randn(2, 64, 3, 8, 8)
    t = torch.randint(40, (64,))
    for prediction in ("eps", "x0", "v"):
        right = SHORT.target(x0, eps, t, prediction)

        def model(x, t, right=right):
            return right

        assert float(ddpm.simple_loss(model, SHORT, x0, t, eps, prediction=prediction)) == 0
    loss = float(ddpm.simple_loss(zero, SHORT, x0, t, eps))
    assert loss == pytest.approx(float(eps.square().mean()))


def test_labels_reach_the_model():
    seen, x = [], torch.zeros(3, 1)
    t, y = torch.zeros(3).long(), torch.tensor([4, 5, 6])
    ddpm.simple_loss(lambda x, t, y: seen.append(y) or x, SHORT, x, t, x, y)
    assert seen[0].tolist() == [4, 5, 6]


def test_one_step_equals_diffusers():
    diffusers, d = peer("diffusers"), Diffusion()
    for variance in ("small", "large"):
        scheduler = diffusers.DDPMScheduler(clip_sample=False, variance_type=f"fixed_{variance}")
        x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        generator = torch.Generator().manual_seed(1)
        states = ddpm.ddpm_sample(toy_eps, d, x, variance=variance, generator=generator)
        for state, before in _with_previous(states, x):
            if state.t in (999, 700, 400, 101):
                eps = toy_eps(before, torch.tensor([state.t]))
                theirs = scheduler.step(eps, state.t, before, generator=_at(state.t, before))
                assert float((theirs.prev_sample - state.x).abs().max()) < 1e-5


def _with_previous(trajectory, x):
    for state in trajectory:
        yield state, x
        x = state.x


def _at(t, x):
    """The sampler's generator as it was before the step at t."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(999 - t):
        torch.randn(x.shape, generator=generator)
    return generator


def test_learned_variance_equals_diffusers():
    diffusers, d = peer("diffusers"), Diffusion()
    scheduler = diffusers.DDPMScheduler(clip_sample=False, variance_type="learned_range")

    def model(x, t, y=None):
        return torch.cat([0.2 * x, x.sin()], 1)

    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    ours, theirs = (torch.Generator().manual_seed(1) for _ in range(2))
    state = next(ddpm.ddpm_sample(model, d, x, variance="learned", generator=ours))
    want = scheduler.step(model(x, None), 999, x, generator=theirs).prev_sample
    torch.testing.assert_close(state.x, want, rtol=0, atol=1e-5)


def test_the_last_step_adds_no_noise():
    d = Diffusion([0.3])
    x = torch.randn(4, 1, 2, 2)
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    a, b = (ddpm.last(ddpm.ddpm_sample(zero, d, x, generator=g)) for g in generators)
    assert torch.equal(a, b)


def test_sampling_a_point_and_a_gaussian():
    def delta(x, t, y=None):                                          # all data are 3
        signal, noise = SHORT.scales(t, x)
        return (x - 3 * signal) / noise

    def gauss(x, t, y=None):                                          # data ~ N(0.3, 0.25)
        a = SHORT.at(SHORT.alpha_bar, t, x)
        return (1 - a).sqrt() * (x - a.sqrt() * 0.3) / (a * 0.25 + 1 - a)

    start = torch.randn(200_000, 1, generator=torch.Generator().manual_seed(0))
    kwargs = dict(generator=torch.Generator().manual_seed(1), batch_size=200_000)
    x = ddpm.last(ddpm.ddpm_sample(delta, SHORT, start[:100].double(), **kwargs))
    assert float((x - 3).abs().max()) < 1e-9
    x = ddpm.last(ddpm.ddpm_sample(gauss, SHORT, start, **kwargs))
    assert float(x.mean()) == pytest.approx(0.3, abs=0.01)
    assert float(x.std()) == pytest.approx(0.5, abs=0.06)


def test_trajectory_seed_batch_size_and_single_generators():
    x, y = torch.randn(5, 4, 4, 4), torch.arange(5)

    def model(x, t, y):
        return 0.1 * x + y.view(-1, 1, 1, 1)

    def run(generator, which=slice(None), n=256):
        chosen = x[which], y[which]
        return list(ddpm.ddpm_sample(model, SHORT, *chosen, generator=generator, batch_size=n))

    whole, parts = (run(torch.Generator().manual_seed(3), n=n) for n in (5, 2))
    assert [s.t for s in whole] == list(range(39, -1, -1)) and whole[0].x.shape == x.shape
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a.x, b.x, rtol=0, atol=1e-6)
    each = run([torch.Generator().manual_seed(k) for k in range(5)])[-1].x
    alone = run([torch.Generator().manual_seed(3)], slice(3, 4))[-1].x
    torch.testing.assert_close(each[3:4], alone, rtol=0, atol=1e-6)


def test_clip_bounds_the_guess_and_none_does_not():
    x = 5 * torch.randn(2, 4, 4, 4)
    free, bound = (next(ddpm.ddpm_sample(zero, SHORT, x, clip=clip)).x0 for clip in (None, (-1, 1)))
    assert float(free.abs().max()) > 1.5 and float(bound.abs().max()) == 1


def test_progress_on_request(capsys):
    for progress in (False, True):
        ddpm.last(ddpm.ddpm_sample(zero, SHORT, torch.zeros(1, 1), progress=progress))
        assert ("sampling" in capsys.readouterr().err) is progress


def test_sampling_leaves_the_model_in_its_mode_and_needs_no_gradient():
    model = nn.Dropout(0.5)
    model.forward = lambda x, t, y=None: nn.functional.dropout(x, 0.5, model.training)
    model.train()
    states = ddpm.ddpm_sample(model, SHORT, torch.ones(1, 4))
    assert not next(states).x.requires_grad and model.training and torch.is_grad_enabled()


def test_average_of_a_constant_and_its_warm_up():
    model = nn.Linear(3, 2)
    average = ddpm.ema(model)
    for _ in range(50):
        average.update_parameters(model)
    for a, b in zip(average.module.parameters(), model.parameters(), strict=True):
        assert torch.equal(a, b)
    with torch.no_grad():
        model.weight.fill_(1.0)
    average = ddpm.ema(model)
    average.update_parameters(model)
    with torch.no_grad():
        model.weight.fill_(0.0)
    for _ in range(2000):
        average.update_parameters(model)
    assert float(average.module.weight.detach().abs().max()) < 1e-6


def test_average_equals_diffusers_after_its_first_step():
    theirs_of = peer("diffusers.training_utils").EMAModel
    model = nn.Linear(2, 2)
    ours, theirs = ddpm.ema(model, 0.9), theirs_of(model.parameters(), decay=0.9)
    for step in range(30):
        with torch.no_grad():
            model.weight.add_(0.1 * step)
        ours.update_parameters(model)
        theirs.step(model.parameters())
    for a, b in zip(ours.module.parameters(), theirs.shadow_params, strict=True):
        torch.testing.assert_close(a, b)


def test_average_survives_saving_and_counts_on():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))       # with an integer buffer
    average = ddpm.ema(model)
    for _ in range(3):
        model(torch.randn(4, 2))
        average.update_parameters(model)
    again = ddpm.ema(copy.deepcopy(model))
    again.load_state_dict(average.state_dict())
    assert int(again.n_averaged) == 3 and int(again.module[1].num_batches_tracked) == 3
    for a in (average, again):
        a.update_parameters(model)
    assert torch.equal(again.module[0].weight, average.module[0].weight)


class Line(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 32), nn.SiLU(), nn.Linear(32, 1))

    def forward(self, x, t, y=None):
        return self.net(torch.cat([x, t[:, None] / 40], 1))


def test_training_lowers_the_loss_and_keeps_the_average():
    torch.manual_seed(0)
    model, data = Line(), ((torch.full((64, 1), 0.5),) for _ in range(300))
    average = ddpm.ema(model)
    training = ddpm.train_ddpm(model, data, SHORT, steps=300, lr=1e-2, average=average)
    losses = [step.loss for step in training]
    assert sum(losses[-50:]) < 0.5 * sum(losses[:20]) / 20 * 50
    assert not torch.equal(average.module.net[0].weight, model.net[0].weight)


def test_training_says_when_the_data_end():
    with pytest.raises(ValueError, match="ended after 2 batches"):
        list(ddpm.train_ddpm(Line(), [(torch.zeros(1, 1),)] * 2, SHORT, steps=5))


@pytest.mark.parametrize(("model", "given", "words"), [
    (lambda x, t: x[:, :1], {}, r"shape \(2, 3\); it gave \(2, 1\)"),
    (zero, dict(variance="learned"), r"shape \(2, 6\)"),
    (zero, dict(variance="medium"), "'small', 'large' or 'learned'"),
    (zero, dict(y=torch.zeros(3)), "3 labels for 2 samples"),
    (zero, dict(generator=[torch.Generator()]), "1 generators for 2 images")])
def test_bad_input(model, given, words):
    with pytest.raises(ValueError, match=words):
        next(ddpm.ddpm_sample(model, SHORT, torch.zeros(2, 3), **given))


@pytest.mark.parametrize("batch_size", [1, 2, 5, 256])
def test_samples_without_labels_do_not_depend_on_the_batch_size(batch_size):
    asked = []

    def model(x, t, y=None):
        asked.append(len(x))
        return 0.2 * x.sin()

    x = torch.randn(5, 2, 3, 3, dtype=torch.float64)
    got = ddpm.last(
        ddpm.ddpm_sample(
            model, SHORT, x, generator=torch.Generator().manual_seed(0), batch_size=batch_size
        )
    )
    whole = ddpm.last(
        ddpm.ddpm_sample(
            lambda x, t: 0.2 * x.sin(), SHORT, x, generator=torch.Generator().manual_seed(0)
        )
    )
    torch.testing.assert_close(got, whole, rtol=0, atol=1e-9)
    assert asked[: -(-5 // batch_size)] == [min(batch_size, 5 - k) for k in range(0, 5, batch_size)]


@pytest.mark.parametrize("variance", ["small", "large", "learned"])
@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_sampling_is_its_formula(variance, prediction):
    """μ̃(x̂_0, x_t) + √v z, step by step, with Bayes' rule for the posterior and the guess
    clipped."""
    tiny, channels = Diffusion([0.1, 0.3, 0.6]), 1 + (variance == "learned")

    def model(x, t, y=None):
        return torch.cat([0.4 * x, 0.3 * x], 1)[:, : channels * x.shape[1]]

    x = 2 * torch.randn(4, 2, 1, 1, dtype=torch.float64)
    states = list(
        ddpm.ddpm_sample(
            model,
            tiny,
            x,
            prediction=prediction,
            variance=variance,
            clip=(-1, 0.9),
            batch_size=3,
            generator=torch.Generator().manual_seed(2),
        )
    )
    generator = torch.Generator().manual_seed(2)
    kept = {2: 0.9 * 0.7 * 0.4, 1: 0.9 * 0.7, 0: 0.9, -1: 1.0}  # ᾱ
    beta, small = {0: 0.1, 1: 0.3, 2: 0.6}, {1: 0.3 * 0.1 / 0.37, 2: 0.6 * 0.37 / (1 - 0.252)}
    for state, t in zip(states, (2, 1, 0), strict=True):
        a, before = kept[t], kept[t - 1]
        out = 0.4 * x
        x0 = {
            "eps": (x - (1 - a) ** 0.5 * out) / a**0.5,
            "x0": out,
            "v": a**0.5 * x - (1 - a) ** 0.5 * out,
        }[prediction]
        x0 = x0.clamp(-1, 0.9)
        mean = (
            before**0.5 * beta[t] / (1 - a) * x0 + (1 - beta[t]) ** 0.5 * (1 - before) / (1 - a) * x
        )
        if t:
            share = (0.3 * x + 1) / 2
            v = {
                "small": small[t],
                "large": beta[t],
                "learned": beta[t] ** share * small[t] ** (1 - share),
            }[variance]
            noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
            mean = mean + torch.as_tensor(v, dtype=torch.float64).sqrt() * noise
        x = mean
        assert state.t == t
        torch.testing.assert_close(state.x, x)
        torch.testing.assert_close(state.x0, x0)


def test_noise_for_each_image_is_its_generators():
    like = torch.zeros(3, 2, 2, dtype=torch.float64)
    got = ddpm.draw_like(like, tuple(torch.Generator().manual_seed(k) for k in (7, 8, 9)))
    for k, seed in enumerate((7, 8, 9)):
        assert torch.equal(
            got[k],
            torch.randn(2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64),
        )
    assert torch.equal(
        ddpm.draw_like(like, torch.Generator().manual_seed(7)),
        torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(7), dtype=torch.float64),
    )


def test_the_average_by_hand_weights_and_buffers():
    """d = min(decay, (1 + n) / (10 + n)), n from 1 at the second update; running statistics are
    averaged, counts copied."""
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    average, kept = ddpm.ema(model, 0.5), None
    for n in range(12):
        with torch.no_grad():
            model[0].weight.normal_()
            model[1].running_mean.normal_()
            model[1].num_batches_tracked.fill_(7 + n)
        average.update_parameters(model)
        d = min(0.5, (1 + n) / (10 + n))
        new = [model[0].weight.detach().clone(), model[1].running_mean.clone()]
        kept = [d * a + (1 - d) * b for a, b in zip(kept, new, strict=True)] if n else new
        for got, want in zip(
            (average.module[0].weight, average.module[1].running_mean), kept, strict=True
        ):
            torch.testing.assert_close(got.detach(), want)
        assert int(average.module[1].num_batches_tracked) == 7 + n


def test_a_training_step_by_hand():
    """t, then the noise, from the seed; loss, shortened gradient, Adam, average; and the model in
    training mode."""
    x, seen = torch.randn(8, 1), []

    def loss(model, diffusion, x0, t, eps, *y):
        seen.append((model.training, t, eps, y))
        return 40 * ddpm.simple_loss(model, diffusion, x0, t, eps)

    model, label = Line().eval(), torch.arange(8)
    twin = copy.deepcopy(model)
    average = ddpm.ema(model)
    (step,) = ddpm.train_ddpm(
        model, iter([(x, label)]), SHORT, steps=1, loss=loss, lr=0.1, average=average, seed=6
    )
    generator = torch.Generator().manual_seed(6)
    t = torch.randint(40, (8,), generator=generator)
    eps = torch.randn(8, 1, generator=generator)
    ((training, its_t, its_eps, its_y),) = seen
    assert (
        training
        and torch.equal(its_t, t)
        and torch.equal(its_eps, eps)
        and torch.equal(its_y[0], label)
    )
    a = SHORT.alpha_bar[t].float()[:, None]
    value = 40 * (twin(a.sqrt() * x + (1 - a).sqrt() * eps, t) - eps).square().mean()
    value.backward()
    length = torch.cat([p.grad.flatten() for p in twin.parameters()]).norm()
    assert length > 1
    for p in twin.parameters():
        p.grad /= length
    torch.optim.Adam(twin.parameters(), one_cycle(0.1, 1)[0]).step()
    assert step == (1, pytest.approx(value.item()))
    for p, q, r in zip(
        model.parameters(), twin.parameters(), average.module.parameters(), strict=True
    ):
        torch.testing.assert_close(p, q)
        torch.testing.assert_close(r, q)


def test_the_learning_rate_is_one_cycle_and_gradients_are_shortened(optimiser_steps):
    def steep(*args):
        return 1000 * ddpm.simple_loss(*args)

    data = [(torch.randn(16, 1),)] * 30
    assert [
        s.step
        for s in ddpm.train_ddpm(Line(), iter(data), SHORT, steps=30, lr=0.02, loss=steep, clip=0.5)
    ] == list(range(1, 31))
    assert [s["lr"] for _, s, _ in optimiser_steps] == pytest.approx(one_cycle(0.02, 30))
    assert {name for name, _, _ in optimiser_steps} == {"Adam"}
    assert [length for _, _, length in optimiser_steps] == pytest.approx([0.5] * 30, rel=1e-4)


def test_what_is_taken_unless_told():
    assert defaults(ddpm.ema) == dict(decay=0.9999)
    assert defaults(ddpm.simple_loss) == dict(y=None, prediction=None)
    assert defaults(ddpm.train_ddpm) == dict(
        loss=ddpm.simple_loss, lr=1e-3, average=None, clip=1.0, seed=0
    )
    assert defaults(ddpm.guess) == dict(
        y=None, prediction=None, clip=None, batch_size=256, channels=1
    )
    assert defaults(ddpm.ddpm_sample) == dict(
        y=None,
        prediction=None,
        variance="small",
        clip=None,
        generator=None,
        batch_size=256,
        progress=False,
    )


def test_one_step_is_sampled_with_every_variance():
    for variance in ("small", "large", "learned"):
        model = zero if variance != "learned" else lambda x, t: torch.zeros(len(x), 2, 3)
        x = torch.randn(2, 1, 3)
        torch.testing.assert_close(
            ddpm.last(ddpm.ddpm_sample(model, Diffusion([0.36]), x, variance=variance)), x / 0.8
        )


class Says(torch.nn.Module):
    """The ideal denoiser of three points, which says what it predicts and on which schedule."""

    def __init__(self, prediction, schedule=None):
        super().__init__()
        self.prediction, self.schedule = prediction, schedule
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x, t, y=None):
        d = ddpm.diffusion_of(self)
        eps = ideal_eps(d, POINTS, x, t)
        x0, _ = d.views(eps, x, t)
        return d.target(x0, eps, t, self.prediction)


POINTS = torch.tensor([[0.5, -0.2], [-0.7, 0.1], [0.1, 0.9]]).double()[..., None]


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_network_that_says_what_it_predicts_is_sampled_alike_whatever_it_is(schedule):
    noise = torch.randn(5, 2, 1, generator=seeded(0)).double()
    ends = []
    for prediction in ("eps", "x0", "v"):
        net = Says(prediction, schedule)
        d = ddpm.diffusion_of(net)
        down = ddpm.last(ddim.ddim_sample(net, d, noise, steps=20))
        guided = ddpm.last(ddpm.ddpm_sample(net, d, noise, generator=seeded(1)))
        up = ddpm.last(ddim.ddim_invert(net, d, down, steps=20))
        known, mask = 0 * noise + 0.3, torch.tensor([1.0, 0.0])[:, None]
        filled = ddpm.last(ddim.inpaint(net, d, known, mask, noise, steps=5, generator=seeded(2)))
        ends.append(torch.stack([down, guided, up, filled]))
    for other in ends[1:]:
        assert torch.allclose(ends[0], other, atol=1e-4)
    assert torch.cdist(ends[0][0].flatten(1), POINTS.flatten(1)).min(1).values.max() < 0.02


def test_what_a_network_predicts_is_found_in_wrappers_and_never_contradicted():
    net = Says("v", "cosine")
    assert ddpm.prediction_of(net) == ddpm.prediction_of(net, "v") == "v"
    assert ddpm.prediction_of(lambda x, t: x) == "eps"
    assert ddpm.prediction_of(lambda x, t: x, "x0") == "x0"
    for wrapped in (ddpm.ema(net), torch.compile(net), torch.nn.DataParallel(net)):
        assert ddpm.prediction_of(wrapped) == "v"
        assert torch.equal(ddpm.diffusion_of(wrapped).betas, cosine_betas())
    with pytest.raises(ValueError, match="predicts v, and prediction='eps' was asked for"):
        ddpm.prediction_of(net, "eps")
    x, d = torch.zeros(2, 2, 1), ddpm.diffusion_of(net)
    with pytest.raises(ValueError, match="predicts v"):
        ddpm.last(ddim.ddim_sample(net, d, x, steps=3, prediction="eps"))
    with pytest.raises(ValueError, match="predicts v"):
        ddpm.simple_loss(net, d, x, torch.tensor([3]), x, prediction="x0")


@pytest.mark.parametrize("other", [linear_betas(), cosine_betas(500)])
def test_a_network_is_not_sampled_on_another_schedule_than_it_was_trained_on(other):
    net, x, mask = Says("v", "cosine"), torch.zeros(2, 2, 1), torch.ones(2, 1)
    d = Diffusion(other)
    for draw in (lambda: ddpm.ddpm_sample(net, d, x),
                 lambda: ddim.ddim_sample(net, d, x, steps=3),
                 lambda: ddim.ddim_invert(net, d, x, steps=3),
                 lambda: ddim.inpaint(net, d, x, mask, x, steps=3)):
        with pytest.raises(ValueError, match=r"the cosine schedule of 1000 steps.*diffusion_of"):
            ddpm.last(draw())


def test_the_loss_is_of_what_the_network_says(monkeypatch):
    d, g = Diffusion(cosine_betas()), seeded(0)
    x0, eps = torch.randn(2, 6, 2, 1, generator=g)
    t = torch.randint(1000, (6,), generator=g)

    def nothing(x, t):
        return 0 * x

    for prediction in ("eps", "x0", "v"):
        net = PointDenoiser(2, prediction=prediction, schedule="cosine")
        want = d.target(x0, eps, t, prediction).square().mean()
        got = ddpm.simple_loss(lambda x, t, net=net: net(x[..., 0], t)[..., None], d, x0, t, eps,
                               prediction=prediction)
        assert torch.allclose(got, want)
        flat = ddpm.simple_loss(net, d, x0[..., 0], t, eps[..., 0])
        assert torch.allclose(flat, want)


def test_a_network_is_not_trained_on_another_schedule_than_it_says():
    net = PointDenoiser(2, prediction="v", schedule="cosine")
    data = [(torch.zeros(2, 2),)]
    with pytest.raises(ValueError, match=r"the cosine schedule of 1000 steps.*diffusion_of"):
        next(ddpm.train_ddpm(net, data, Diffusion(linear_betas()), steps=1))
    assert next(ddpm.train_ddpm(net, data, ddpm.diffusion_of(net), steps=1)).step == 1


def test_a_guided_network_says_what_the_one_inside_says_in_wrappers_too():
    net = UNet(8, 8, (1,), num_classes=2, prediction="v", schedule="cosine")
    for inner in (net, ddpm.ema(net), torch.compile(net)):
        guided = Guided(inner, 2)
        assert (guided.prediction, guided.schedule) == ("v", "cosine")
        assert ddpm.prediction_of(guided) == "v" and ddpm.schedule_of(guided) == "cosine"
