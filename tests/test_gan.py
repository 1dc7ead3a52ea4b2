import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from minigen import gan
from minigen.data import batches, ring_of_gaussians
from tests.conftest import defaults, layers, said, size_of


def test_losses_at_logits_zero():
    zero = torch.zeros(5)
    assert gan.discriminator_loss(zero, zero).item() == pytest.approx(2 * math.log(2))
    assert gan.discriminator_loss(zero, zero, "hinge").item() == 1
    assert gan.generator_loss(zero).item() == pytest.approx(math.log(2))
    assert gan.generator_loss(zero, "minimax").item() == pytest.approx(-math.log(2))
    assert gan.generator_loss(zero, "hinge").item() == 0


def test_losses_equal_torchs_binary_cross_entropy():
    r, f = torch.randn(2, 30, dtype=torch.float64)
    bce = F.binary_cross_entropy_with_logits
    for smooth in (0.0, 0.1):
        want = bce(r, torch.full_like(r, 1 - smooth)) + bce(f, torch.zeros_like(f))
        assert torch.allclose(gan.discriminator_loss(r, f, smooth=smooth), want)
    assert torch.allclose(gan.generator_loss(f), bce(f, torch.ones_like(f)))
    assert torch.allclose(gan.generator_loss(f, "minimax"), -bce(f, torch.zeros_like(f)))


def test_nonsaturating_value_by_hand():
    # −log σ(2) and −log σ(−1), not with logits and targets swapped
    want = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(1))) / 2
    assert gan.generator_loss(torch.tensor([2.0, -1.0])).item() == pytest.approx(want)
    assert want == pytest.approx(0.720, abs=1e-3)


def slope(kind, at):
    x = torch.tensor([float(at)], requires_grad=True)
    return torch.autograd.grad(gan.generator_loss(x, kind), x)[0].item()


def test_generator_gradients():
    assert slope("minimax", -20) == pytest.approx(-math.exp(-20), rel=1e-3)
    assert slope("nonsaturating", -20) == pytest.approx(-1, rel=1e-6)
    assert slope("nonsaturating", 1.5) == pytest.approx(-1 / (1 + math.exp(1.5)))
    assert slope("hinge", -20) == slope("hinge", 20) == -1


def test_hinge_gradient_stops_beyond_the_margin():
    r = torch.tensor([0.5, 1.5], requires_grad=True)
    f = torch.tensor([-0.5, -1.5], requires_grad=True)
    gan.discriminator_loss(r, f, "hinge").backward()
    assert r.grad.tolist() == [-0.25, 0] and f.grad.tolist() == [0.25, 0]


@pytest.mark.parametrize("kind", gan.LOSSES)
def test_finite_at_extreme_logits(kind):
    big = torch.tensor([-1e4, 1e4])
    assert torch.isfinite(gan.discriminator_loss(big, big, kind))
    assert torch.isfinite(gan.generator_loss(big, kind))


def test_bad_losses():
    with pytest.raises(ValueError, match="minimax, nonsaturating, hinge"):
        gan.generator_loss(torch.zeros(1), "wasserstein")
    with pytest.raises(ValueError, match="no labels"):
        gan.discriminator_loss(torch.zeros(1), torch.zeros(1), "hinge", smooth=0.1)
    with pytest.raises(ValueError, match="not conditional"):
        gan.sample(gan.Generator(width=8), 2, y=torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="floating"):
        gan.generator_loss(torch.zeros(1, dtype=torch.long))


def test_game_of_two_gaussians():
    x = torch.linspace(-30, 30, 20_001, dtype=torch.float64)
    dx = float(x[1] - x[0])
    p, q, far = (torch.exp(-((x - m) ** 2) / 2) / math.sqrt(2 * math.pi) for m in (0, 1, 25))
    assert gan.js_divergence(p, p, dx) == pytest.approx(0, abs=1e-9)
    assert gan.game_value(p, p, dx) == pytest.approx(-math.log(4), abs=1e-9)
    assert gan.js_divergence(p, far, dx) == pytest.approx(math.log(2), abs=1e-6)
    # the logit log p − log q minimises D's loss, to −V(D*) = 2 log 2 − 2 JSD
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 400_000, generator=generator, dtype=torch.float64)
    logit = lambda s: -(s**2) / 2 + (s - 1) ** 2 / 2  # noqa: E731
    loss = gan.discriminator_loss(logit(a), logit(b + 1)).item()
    assert loss == pytest.approx(2 * math.log(2) - 2 * gan.js_divergence(p, q, dx), abs=5e-3)
    best = gan.optimal_discriminator(p, q)[10_000].item()
    assert best == pytest.approx(1 / (1 + math.exp(-0.5)), abs=1e-6)


def test_feature_matching_and_minibatch_discrimination():
    real = torch.randn(6, 4, requires_grad=True)
    fake = (real.detach() + 2).requires_grad_()
    loss = gan.feature_matching_loss(real, fake)
    loss.backward()
    assert loss.item() == pytest.approx(16, rel=1e-5)
    assert real.grad is None and fake.grad is not None

    layer = gan.MinibatchDiscrimination(4, kernels=3)
    same, varied = torch.ones(5, 4), 1e3 * torch.randn(5, 4)
    assert torch.allclose(layer(same)[:, 4:], torch.full((5, 3), 4.0))  # four equals for each row
    assert layer(varied)[:, 4:].max() < 1e-3 and torch.equal(layer(varied)[:, :4], varied)


@pytest.mark.parametrize("size", [8, 16, 32, 64])
def test_shapes(size):
    g, d = gan.Generator(latent_dim=7, width=8, size=size), gan.Discriminator(width=8, size=size)
    x = g(torch.randn(3, 7))
    assert x.shape == (3, 3, size, size) and x.abs().max() <= 1 and d(x).shape == (3,)


@pytest.mark.parametrize("size", [0, 4, 24, 33])
def test_sizes_that_cannot_be(size):
    with pytest.raises(ValueError, match="size must be 8, 16, 32"):
        gan.Generator(size=size)


def test_labels_reach_both_networks():
    g = gan.Generator(width=8, num_classes=3).eval()
    d = gan.Discriminator(width=8, num_classes=3).eval()
    z, y = torch.randn(2, 64), torch.tensor([0, 2])
    x = g(z, y)
    assert not torch.allclose(x, g(z, y.flip(0))) and not torch.allclose(d(x, y), d(x, y.flip(0)))
    with pytest.raises(ValueError, match="conditional"):
        g(z)
    with pytest.raises(ValueError, match="labels must be 0 to 2; got 0 to 3"):
        d(x, torch.tensor([0, 3]))


def networks():
    torch.manual_seed(0)
    return gan.Generator(latent_dim=4, width=8, size=8), gan.Discriminator(width=8, size=8)


def test_every_parameter_learns_in_a_step():
    g, d = networks()
    before = {n: p.clone() for m in (g, d) for n, p in m.named_parameters()}
    next(gan.train_gan(g, d, batches(torch.rand(16, 3, 8, 8) * 2 - 1, batch_size=8)))
    for m in (g, d):
        for name, p in m.named_parameters():
            assert p.requires_grad and not torch.equal(p, before.get(name)), name


def test_a_step_by_hand():
    """One step of the loop equals Algorithm 1 written out, G's loss taken after D's step."""
    g, d = networks()
    g2, d2 = networks()
    x = torch.rand(8, 3, 8, 8) * 2 - 1
    got = next(gan.train_gan(g, d, iter([(x,)]), seed=5))

    og, od = (torch.optim.Adam(m.parameters(), 2e-4, (0.5, 0.999)) for m in (g2, d2))
    fake = g2(torch.randn(8, 4, generator=torch.Generator().manual_seed(5)))
    d_loss = F.softplus(-d2(x)).mean() + F.softplus(d2(fake.detach())).mean()
    d_loss.backward()
    assert all(p.grad is None for p in g2.parameters())
    od.step()
    g_loss = F.softplus(-d2(fake)).mean()
    g_loss.backward()
    og.step()
    assert got.d_loss == pytest.approx(d_loss.item()) and got.g_loss == pytest.approx(g_loss.item())
    for model, twin in ((g, g2), (d, d2)):
        for a, b in zip(model.parameters(), twin.parameters(), strict=True):
            assert torch.allclose(a, b, atol=1e-6)


def test_training_is_the_same_for_the_same_seed():
    x, runs = torch.linspace(-1, 1, 16 * 192).reshape(16, 3, 8, 8), []
    for _ in range(2):
        g, d = networks()
        steps = gan.train_gan(g, d, batches(x, batch_size=8), seed=1)
        runs.append([s.d_loss for s in itertools.islice(steps, 3)])
    assert runs[0] == runs[1]


def test_sampling_does_not_depend_on_the_batch_size_or_mode():
    g, _ = networks()
    a = gan.sample(g, 10, seed=3, batch_size=10)
    b = gan.sample(g.eval(), 10, seed=3, batch_size=3)
    assert torch.allclose(a, b, atol=1e-6) and not g.training
    g.train()
    gan.sample(g, 2)
    assert g.training


def test_ring_is_learned_in_part():
    """The loop trains: a thousand steps bring points onto the ring."""
    class G(nn.Sequential):
        latent_dim = 2

    torch.manual_seed(0)
    g = G(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    d = nn.Sequential(nn.Linear(2, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2),
                      nn.Linear(64, 1))
    data = batches(ring_of_gaussians(5000), batch_size=128)
    before = (gan.sample(g, 500).norm(dim=1) - 2).abs().mean()
    assert [s.step for s in gan.train_gan(g, d, data, lr=1e-3, steps=800)] == list(range(1, 801))
    after = (gan.sample(g, 500).norm(dim=1) - 2).abs().mean()
    assert after < 0.3 * before


def test_r1_penalty_of_a_linear_discriminator_is_half_its_squared_weights():
    d = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    penalty = gan.r1_penalty(d, torch.randn(5, 3, 2, 2))
    assert penalty.item() == pytest.approx(0.5 * d[1].weight.square().sum().item(), rel=1e-5)
    penalty.backward()
    assert torch.allclose(d[1].weight.grad, d[1].weight, atol=1e-6) and d[1].bias.grad is None


def test_r1_makes_the_discriminator_flatter():
    slopes = {}
    for r1 in (0.0, 10.0):
        torch.manual_seed(0)
        g = gan.Generator(latent_dim=4, width=8, size=8)
        d = gan.Discriminator(width=8, size=8, batch_norm=False)
        x = torch.rand(32, 3, 8, 8) * 2 - 1
        data = batches(x, batch_size=16)
        for _ in gan.train_gan(g, d, data, steps=150, lr=1e-3, r1=r1, r1_every=1):
            pass
        slopes[r1] = gan.r1_penalty(d, x).item()
    assert slopes[10.0] < 0.5 * slopes[0.0]


def test_decay_ends_with_the_learning_rate_at_zero():
    g, d = networks()
    x, weights = torch.rand(16, 3, 8, 8) * 2 - 1, []
    data, options = batches(x, batch_size=16), dict(decay=True, betas=(0.0, 0.0), lr=1e-3)
    for _ in gan.train_gan(g, d, data, steps=20, **options):
        weights.append(d.head.weight.detach().clone())
    moves = [(b - a).abs().max().item() for a, b in itertools.pairwise(weights)]
    # with both betas 0 Adam moves each weight by the learning rate: constant, then falling to a
    # tenth at the last step
    assert moves[3] == pytest.approx(1e-3, rel=1e-2) and moves[-1] == pytest.approx(1e-4, rel=1e-2)
    with pytest.raises(ValueError, match="number of steps"):
        next(gan.train_gan(g, d, batches(x, batch_size=16), decay=True))


def test_architectures_layer_by_layer():
    """Radford 2015, table of §3: strided convolutions, batch norm but at the two ends, ReLU and
    leaky ReLU, no bias before a norm."""
    assert layers(gan.Generator(latent_dim=5, width=8, size=16, num_classes=3)) == said("""
        Linear 8 256 no bias; Unflatten; BatchNorm2d 16; ReLU;
        ConvTranspose2d 16 8 4 2 1 no bias; BatchNorm2d 8; ReLU; ConvTranspose2d 8 3 4 2 1; Tanh""")
    assert layers(gan.Discriminator(width=8, size=16, num_classes=3)) == said("""
        Conv2d 6 8 4 2 1; LeakyReLU 0.2; Conv2d 8 16 4 2 1 no bias; BatchNorm2d 16; LeakyReLU 0.2;
        Flatten; Linear 256 1""")
    assert layers(gan.Discriminator(width=8, size=16, batch_norm=False)) == said("""
        Conv2d 3 8 4 2 1; LeakyReLU 0.2; Conv2d 8 16 4 2 1; LeakyReLU 0.2; Flatten; Linear 256 1""")
    # sizes of the networks of chapter 1, which its text and the results table name
    assert [size_of(gan.Generator), size_of(gan.Discriminator)] == [296_899, 167_841]
    assert size_of(lambda: gan.Generator(num_classes=5)) == 296_899 + 5 * 128 * 16
    assert size_of(lambda: gan.Discriminator(num_classes=5)) == 167_841 + 5 * 32 * 16


def test_dcgan_starts_from_weights_of_two_hundredths():
    for network in (
        gan.Generator().requires_grad_(False),
        gan.Discriminator().requires_grad_(False),
    ):
        for m in network.modules():
            if isinstance(m, nn.BatchNorm2d):
                assert float((m.weight - 1).square().mean().sqrt()) == pytest.approx(0.02, rel=0.4)
            elif getattr(m, "weight", None) is not None:
                assert float(m.weight.square().mean().sqrt()) == pytest.approx(0.02, rel=0.1)
                assert abs(float(m.weight.mean())) < 0.002


def test_without_batch_norm_the_weights_start_as_he_says():
    """Deviation √(2 / (1 + 0.2²) / fan-in), which keeps the size of a signal through leaky ReLUs
    of slope 0.2."""
    for m in gan.Discriminator(batch_norm=False).requires_grad_(False).modules():
        if isinstance(m, nn.Conv2d | nn.Linear):
            want = math.sqrt(2 / 1.04 / m.weight[0].numel())
            assert float(m.weight.square().mean().sqrt()) == pytest.approx(want, rel=0.1)


def test_labels_are_the_last_channels():
    x, y = torch.randn(2, 3, 2, 4), torch.tensor([2, 0])
    got = gan.with_label(x, y, 3)
    assert got.shape == (2, 6, 2, 4) and torch.equal(got[:, :3], x)
    assert torch.equal(got[0, 3:, 1, 3], torch.tensor([0.0, 0, 1]))
    assert torch.equal(got[1, 3:].flatten(1), torch.tensor([[1.0], [0], [0]]).expand(3, 8))
    assert gan.with_label(x[:, :, 0, 0], y, 3)[:, 3:].tolist() == [[0, 0, 1], [1, 0, 0]]
    assert gan.with_label(x, None, 0) is x


def test_minibatch_discrimination_by_hand():
    """o_b = Σ over the others of exp(−Σ_l |M_ibl − M_jbl|), entry by entry."""
    layer, x = gan.MinibatchDiscrimination(3).requires_grad_(False), torch.randn(4, 3)
    assert layer.tensor.shape == (3, 8, 4)
    wide = gan.MinibatchDiscrimination(50, 40, 30).tensor.detach()
    assert float(wide.std()) == pytest.approx(0.1, rel=0.02) and abs(float(wide.mean())) < 0.002
    out, m = layer(x), torch.einsum("id,dbl->ibl", x, layer.tensor)
    for i, b in itertools.product(range(4), range(8)):
        near = [
            math.exp(-sum(abs(float(m[i, b, k] - m[j, b, k])) for k in range(4)))
            for j in range(4)
            if j != i
        ]
        assert float(out[i, 3 + b]) == pytest.approx(sum(near), rel=1e-4)


def test_feature_matching_by_hand():
    real, fake = (
        torch.tensor([[1.0, 2.0], [3.0, 0.0]]),
        torch.tensor([[0.0, 1.0], [0.0, 3.0], [0.0, 2.0]]),
    )
    assert gan.feature_matching_loss(real, fake).item() == pytest.approx(
        (2 - 0) ** 2 + (1 - 2) ** 2
    )


def test_r1_by_hand_with_labels():
    """½ mean over images of the squared slope, of a logit that is quadratic in the image."""
    x, y = torch.randn(5, 3, 2, 2), torch.tensor([0, 1, 2, 3, 4])
    penalty = gan.r1_penalty(lambda x, y: (1.0 + y) * x.square().flatten(1).sum(1), x, y)
    want = sum(0.5 * float((2 * (1 + y[k]) * x[k]).square().sum()) for k in range(5)) / 5
    assert penalty.item() == pytest.approx(want, rel=1e-5)


def written_out(g, d, data, steps, loss="nonsaturating", lr=2e-4, betas=(0.5, 0.999), smooth=0.0,
                feature_matching=False, r1=0.0, r1_every=8, decay=False, seed=0):
    """Algorithm 1 with every option, as plainly as can be: (both losses, mean probability of
    "real" for both) a step."""
    g.train()
    d.train()
    opt_g = torch.optim.Adam(g.parameters(), lr, betas)
    opt_d = torch.optim.Adam(d.parameters(), lr, betas)
    generator, record = torch.Generator().manual_seed(seed), []
    for k, (x, y) in enumerate(data):
        now = lr if not decay or k < steps / 2 else lr * (steps - k) / (steps / 2)
        opt_g.param_groups[0]["lr"] = opt_d.param_groups[0]["lr"] = now
        fake = g(torch.randn(len(x), 4, generator=generator), y)
        r, f = d(x, y), d(fake.detach(), y)
        if loss == "hinge":
            d_loss = ((1 - r).clamp_min(0).mean() + (1 + f).clamp_min(0).mean()) / 2
        else:
            d_loss = (
                -((1 - smooth) * F.logsigmoid(r) + smooth * F.logsigmoid(-r)).mean()
                - F.logsigmoid(-f).mean()
            )
        penalty = 0
        if r1 and (k + 1) % r1_every == 0:
            leaf = x.clone().requires_grad_()
            (slope,) = torch.autograd.grad(d(leaf, y).sum(), leaf, create_graph=True)
            penalty = r1 * r1_every * 0.5 * slope.square().sum((1, 2, 3)).mean()
        opt_d.zero_grad()
        (d_loss + penalty).backward()
        opt_d.step()
        if feature_matching:
            with torch.no_grad():
                real_mean = d.features(x, y).mean(0)
            g_loss = (real_mean - d.features(fake, y).mean(0)).square().sum()
        elif loss == "hinge":
            g_loss = -d(fake, y).mean()
        elif loss == "minimax":
            g_loss = F.logsigmoid(-d(fake, y)).mean()
        else:
            g_loss = -F.logsigmoid(d(fake, y)).mean()
        opt_g.zero_grad()
        g_loss.backward()
        opt_g.step()
        record.append(
            (d_loss.item(), g_loss.item(), r.sigmoid().mean().item(), f.sigmoid().mean().item())
        )
    return record


@pytest.mark.parametrize(
    "options",
    [
        {},
        dict(loss="hinge", betas=(0.0, 0.9)),
        dict(loss="minimax", seed=3),
        dict(smooth=0.1, lr=1e-3),
        dict(feature_matching=True),
        dict(r1=2.0, r1_every=2),
        dict(decay=True, lr=1e-3),
    ],
    ids=str,
)
def test_the_loop_written_out(options):
    def pair():
        torch.manual_seed(0)
        g = gan.Generator(latent_dim=4, width=8, size=8, num_classes=3)
        d = gan.Discriminator(width=8, size=8, num_classes=3, batch_norm="r1" not in options)
        return g.eval(), d.eval()

    data = [(torch.rand(6, 3, 8, 8) * 2 - 1, torch.randint(3, (6,))) for _ in range(6)]
    (g, d), (g2, d2) = pair(), pair()
    got = list(gan.train_gan(g, d, iter(data), steps=6, **options))
    want = written_out(g2, d2, data, 6, **options)
    assert [s.step for s in got] == [1, 2, 3, 4, 5, 6]
    for s, w in zip(got, want, strict=True):
        assert (s.d_loss, s.g_loss, s.d_real, s.d_fake) == pytest.approx(w, rel=1e-4, abs=1e-6)
    for model, twin in ((g, g2), (d, d2)):
        for a, b in zip(model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-5)
    assert g.training and d.training


def test_both_learning_rates_fall_over_the_second_half(optimiser_steps):
    g, d = networks()
    data = [(torch.rand(4, 3, 8, 8),)] * 10
    list(gan.train_gan(g, d, iter(data), steps=10, decay=True, lr=1.0, betas=(0.1, 0.2)))
    want = [1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2]
    discriminators, generators = optimiser_steps[::2], optimiser_steps[1::2]
    for steps in (discriminators, generators):
        assert [s["lr"] for _, s, _ in steps] == pytest.approx(want)
        assert {s["betas"] for _, s, _ in steps} == {(0.1, 0.2)}
    assert len(list(gan.train_gan(g, d, iter(data)))) == 10  # without steps: to the end of the data
    assert {s["lr"] for _, s, _ in optimiser_steps[20:]} == {2e-4}


def test_samples_are_the_generators_answers_to_the_seeds_noise():
    g = gan.Generator(latent_dim=4, width=8, size=8, num_classes=3)
    for m in g.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_()
    y = [0, 1, 2, 1, 0]
    got = gan.sample(g, 5, y, seed=9, batch_size=2)
    with torch.no_grad():
        want = g.eval()(
            torch.randn(5, 4, generator=torch.Generator().manual_seed(9)), torch.tensor(y)
        )
    torch.testing.assert_close(got, want)
    assert torch.equal(gan.sample(g, 5, y), gan.sample(g, 5, y, seed=0))


def test_evaluating_leaves_a_plain_function_and_a_mode_as_they_were():
    def double(x):
        return 2 * x

    with gan.evaluating(double) as same:
        assert same is double and not torch.is_grad_enabled()
    for mode in (True, False):
        model = nn.Dropout().train(mode)
        with gan.evaluating(model) as same:
            assert same is model and not model.training
        assert model.training is mode and torch.is_grad_enabled()


def test_games_by_hand():
    """Two densities on a grid of two cells of width ½, one cell of which the data never reach."""
    p, q = torch.tensor([2.0, 0.0]), torch.tensor([0.5, 1.5])
    assert gan.optimal_discriminator(p, q).tolist() == pytest.approx([0.8, 0])
    want = 0.5 * (2 * math.log(0.8) + 0.5 * math.log(0.2) + 1.5 * math.log(1.0))
    assert gan.game_value(p, q, 0.5) == pytest.approx(want)
    assert gan.js_divergence(p, q, 0.5) == pytest.approx((want + math.log(4)) / 2)


def test_what_is_taken_unless_told():
    assert gan.LOSSES == ("minimax", "nonsaturating", "hinge")
    assert defaults(gan.discriminator_loss) == dict(kind="nonsaturating", smooth=0.0)
    assert defaults(gan.generator_loss) == dict(kind="nonsaturating")
    assert defaults(gan.MinibatchDiscrimination) == dict(kernels=8, kernel_dim=4)
    assert defaults(gan.Generator) == dict(latent_dim=64, width=32, size=32, num_classes=0)
    assert defaults(gan.Discriminator) == dict(width=32, size=32, num_classes=0, batch_norm=True)
    assert defaults(gan.sample) == dict(y=None, seed=0, batch_size=256)
    assert defaults(gan.train_gan) == dict(
        steps=None,
        loss="nonsaturating",
        lr=2e-4,
        betas=(0.5, 0.999),
        smooth=0.0,
        feature_matching=False,
        r1=0.0,
        r1_every=8,
        decay=False,
        seed=0,
    )


def test_a_network_is_rebuilt_from_its_config():
    config = dict(latent_dim=5, width=8, size=16, num_classes=3)
    assert gan.Generator(**config).config == config
    config = dict(width=8, size=16, num_classes=3, batch_norm=False)
    assert gan.Discriminator(**config).config == config


def test_the_limits_of_labels():
    x = torch.zeros(2, 4)
    assert gan.with_label(x, torch.tensor([0, 2]), 3).shape == (2, 7)
    for y in ([0, 3], [-1, 0]):
        with pytest.raises(ValueError):
            gan.with_label(x, torch.tensor(y), 3)
