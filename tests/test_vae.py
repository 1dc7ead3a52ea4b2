import math

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Normal, kl_divergence

from minigen import vae
from minigen.data import ToyFaces, batches
from tests.conftest import defaults, layers, one_cycle, said, size_of


def posterior(*shape, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype), torch.randn(shape, dtype=dtype)


def test_kl_equals_torchs():
    mean, logvar = posterior(5, 3, 2)
    q, p = Normal(mean, (0.5 * logvar).exp()), Normal(torch.zeros(()), torch.ones(()))
    want = kl_divergence(q, p).sum((1, 2))
    assert torch.allclose(vae.kl_standard_normal(mean, logvar), want)
    assert vae.kl_standard_normal(torch.zeros(2, 4), torch.zeros(2, 4)).tolist() == [0, 0]


def test_kl_equals_its_own_definition_by_sampling():
    mean, logvar = torch.tensor([[0.8, -0.3]]).double(), torch.tensor([[-1.0, 0.5]]).double()
    q = Normal(mean, (0.5 * logvar).exp())
    p = Normal(torch.zeros(2).double(), torch.ones(2).double())
    generator = torch.Generator().manual_seed(0)
    z = vae.reparameterise(mean.expand(200_000, 2), logvar.expand(200_000, 2), generator)
    estimate = (q.log_prob(z) - p.log_prob(z)).sum(1).mean()
    assert float(estimate) == pytest.approx(float(vae.kl_standard_normal(mean, logvar)), abs=0.02)


def test_a_sample_has_its_mean_and_deviation_and_its_gradients_are_closed_forms():
    mean = torch.full((100_000,), 2.0, requires_grad=True)
    logvar = torch.full((100_000,), math.log(0.25), requires_grad=True)
    z = vae.reparameterise(mean, logvar, torch.Generator().manual_seed(0))
    assert z.mean().item() == pytest.approx(2, abs=0.01)
    assert z.std().item() == pytest.approx(0.5, abs=0.01)
    z.sum().backward()
    assert torch.equal(mean.grad, torch.ones_like(mean))
    assert torch.allclose(logvar.grad, (z - 2).detach() / 2, atol=1e-6)      # dz/dlogvar = ½ σ ε


def test_the_two_terms_are_summed_over_dimensions_and_averaged_over_the_batch():
    x, x_hat = torch.rand(2, 4, 3, 8, 8)
    mean, logvar = posterior(4, 5, dtype=torch.float32)
    terms = vae.vae_loss(x, x_hat, mean, logvar, beta=0.3)
    by_hand = sum(0.5 * float((x[i] - x_hat[i]).square().sum()) for i in range(4)) / 4
    assert terms.distortion.item() == pytest.approx(by_hand, rel=1e-5)
    rate = float(vae.kl_standard_normal(mean, logvar).mean())
    assert terms.rate.item() == pytest.approx(rate, rel=1e-5)
    loss = terms.distortion.item() + 0.3 * terms.rate.item()
    assert terms.loss.item() == pytest.approx(loss, rel=1e-5)
    assert vae.vae_loss(x, x_hat, mean, logvar, beta=0).loss == terms.distortion


def test_distortion_is_the_gaussians_negative_log_likelihood_without_its_constant():
    x, x_hat = torch.rand(2, 3, 3, 8, 8, dtype=torch.float64)
    zero = torch.zeros(3, 1)
    nll = -Normal(x_hat, 1.0).log_prob(x).flatten(1).sum(1).mean()
    nll -= 192 * 0.5 * math.log(2 * math.pi)
    assert vae.vae_loss(x, x_hat, zero, zero).distortion.item() == pytest.approx(float(nll))


def test_beta_is_the_variance_of_the_decoder():
    # (½ ‖x − x̂‖² / β + KL) β  =  ½ ‖x − x̂‖² + β KL
    x, x_hat = torch.rand(2, 3, 3, 8, 8)
    mean, logvar = posterior(3, 2, dtype=torch.float32)
    one = vae.vae_loss(x / 0.1**0.5, x_hat / 0.1**0.5, mean, logvar)
    want = vae.vae_loss(x, x_hat, mean, logvar, 0.1).loss.item()
    assert 0.1 * one.loss.item() == pytest.approx(want, rel=1e-5)


def test_images_that_would_broadcast_are_refused():
    x, grey, zero = torch.zeros(2, 3, 8, 8), torch.zeros(2, 1, 8, 8), torch.zeros(2, 1)
    with pytest.raises(ValueError, match=r"differ in shape: \(2, 3, 8, 8\) and \(2, 1, 8, 8\)"):
        vae.vae_loss(x, grey, zero, zero)


def test_active_units():
    mean = torch.zeros(100, 3)
    mean[:, 1] = torch.linspace(-1, 1, 100)
    mean[:, 2] = 0.05 * torch.linspace(-1, 1, 100) + 3      # a shift is no use
    assert vae.active_units(mean).tolist() == [False, True, False]
    with pytest.raises(ValueError, match="at least two"):
        vae.active_units(mean[:1])


@pytest.mark.parametrize("size", [8, 16, 32, 64])
def test_shapes(size):
    model = vae.VAE(latent_dim=5, width=8, size=size)
    x = torch.rand(2, 3, size, size) * 2 - 1
    x_hat, mean, logvar = model(x)
    assert x_hat.shape == x.shape and mean.shape == logvar.shape == (2, 5)
    assert x_hat.abs().max() <= 1


def test_log_variance_stays_where_its_exponential_is_finite():
    model = vae.VAE(latent_dim=2, width=8, size=8)
    with torch.no_grad():
        model.to_latent.bias.fill_(1e4)
    x_hat, _, logvar = model(torch.zeros(1, 3, 8, 8))
    assert logvar.max() == 20 and torch.isfinite(x_hat).all()


def test_every_parameter_gets_a_finite_gradient():
    model = vae.VAE(latent_dim=4, width=8, size=16, num_classes=3)
    x, y = torch.rand(4, 3, 16, 16), torch.tensor([0, 1, 2, 0])
    x_hat, mean, logvar = model(x, y)
    vae.vae_loss(x, x_hat, mean, logvar).loss.backward()
    for name, p in model.named_parameters():
        assert torch.isfinite(p.grad).all() and p.grad.abs().max() > 0, name


def test_labels_matter_and_are_checked():
    model = vae.VAE(latent_dim=4, width=8, size=8, num_classes=3)
    a, b = (vae.sample(model, 2, y=[k, k]) for k in (0, 2))
    assert not torch.equal(a, b)
    with pytest.raises(ValueError, match="pass labels y"):
        model.decode(torch.zeros(1, 4))
    with pytest.raises(ValueError, match="0 to 2"):
        model.decode(torch.zeros(1, 4), torch.tensor([3]))
    with pytest.raises(ValueError, match="not conditional"):
        vae.sample(vae.VAE(width=8), 1, y=[0])
    with pytest.raises(ValueError, match="not conditional"):
        vae.VAE(width=8, size=8).encode(torch.zeros(1, 3, 8, 8), torch.tensor([0]))
    x, y = torch.zeros(2, 3, 8, 8), torch.tensor([0, 2])
    assert vae.importance_bound(model, x, y, samples=3).shape == (2,)
    assert vae.reconstruct(model, x, y).shape == x.shape


def test_an_error_leaves_the_mode_as_it_was():
    model = vae.VAE(latent_dim=4, width=8, size=8, num_classes=3).train()
    with pytest.raises(ValueError):
        vae.sample(model, 1, y=[7])
    assert model.training


def test_samples_depend_on_the_seed_not_on_the_batch_size_and_leave_the_mode():
    model = vae.VAE(latent_dim=4, width=8, size=8).train()
    a = vae.sample(model, 7, seed=3, batch_size=7)
    assert torch.allclose(a, vae.sample(model, 7, seed=3, batch_size=2), atol=1e-6)
    assert not torch.equal(a, vae.sample(model, 7, seed=4)) and model.training
    vae.reconstruct(model, a)
    assert model.training


def test_training_lowers_the_loss_and_repeats_itself():
    x = ToyFaces(128, size=8, seed=0).images()

    def run(**options):
        torch.manual_seed(0)
        model = vae.VAE(latent_dim=4, width=8, size=8)
        return list(vae.train_vae(model, batches(x, batch_size=32), steps=60, **options))

    a, b = run(beta=0.1), run(beta=0.1)
    assert a == b and a[-1].loss < 0.7 * a[0].loss and [s.step for s in a] == list(range(1, 61))
    warm = run(beta=0.1, warm_up=0.5)
    assert warm[0].loss == pytest.approx(warm[0].distortion + 0.1 / 30 * warm[0].rate, rel=1e-4)
    assert warm[-1].loss == pytest.approx(warm[-1].distortion + 0.1 * warm[-1].rate, rel=1e-4)


def test_a_large_beta_collapses_the_posterior():
    torch.manual_seed(0)
    x = ToyFaces(128, size=8, seed=0).images()
    model = vae.VAE(latent_dim=4, width=8, size=8)
    last = list(vae.train_vae(model, batches(x, batch_size=32), steps=300, beta=300.0))[-1]
    assert last.rate < 0.05 and not vae.active_units(model.encode(x)[0]).any()


class LinearVAE:
    """z ~ N(0, 1), x = w z + noise: here log p(x) is known."""

    def __init__(self, w, variance):
        self.w, self.variance = w, variance

    def encode(self, x, y=None):
        """The true posterior, made 1.5 times too wide."""
        var = 1 / (1 + float(self.w.square().sum()) / self.variance)
        mean = var / self.variance * (x.flatten(1) @ self.w)
        return mean[:, None], torch.full((len(x), 1), math.log(1.5 * var), dtype=x.dtype)

    def decode(self, z, y=None):
        return (z * self.w).view(-1, 1, 1, 3)


def test_the_importance_bound_rises_to_the_true_log_likelihood():
    w, variance = torch.tensor([1.0, -0.5, 2.0]).double(), 0.3
    x = torch.randn(50, 1, 1, 3, dtype=torch.float64)
    cov = torch.outer(w, w) + variance * torch.eye(3, dtype=torch.float64)
    true = torch.distributions.MultivariateNormal(torch.zeros(3).double(), cov)
    truth = float(true.log_prob(x.flatten(1)).mean())
    model = LinearVAE(w, variance)
    one, eight, many = (
        float(vae.importance_bound(model, x, None, k, variance).mean()) for k in (1, 8, 500))
    assert one < eight < many + 0.01 and many == pytest.approx(truth, abs=0.01)
    assert one < truth - 0.02


def test_unknown_sizes_and_shares_are_refused():
    with pytest.raises(ValueError, match="size must be"):
        vae.VAE(size=20)
    with pytest.raises(ValueError, match="warm_up is a share"):
        next(vae.train_vae(vae.VAE(width=8, size=8), iter([]), steps=3, warm_up=-1))


def test_architectures_layer_by_layer():
    assert layers(vae.ConvEncoder(8, 16, 5)) == said("""
        Conv2d 5 8 4 2 1; GroupNorm 8 8; SiLU; Conv2d 8 16 4 2 1; GroupNorm 8 16; SiLU;
        Conv2d 16 16 3 1 1; GroupNorm 8 16; SiLU""")
    assert layers(vae.ConvDecoder(8, 16)) == said("""
        Conv2d 16 16 3 1 1; GroupNorm 8 16; SiLU; ConvTranspose2d 16 8 4 2 1; GroupNorm 8 8; SiLU;
        ConvTranspose2d 8 3 4 2 1; Tanh""")
    model = vae.VAE(latent_dim=5, width=8, size=16, num_classes=3)
    assert layers(model) == "; ".join(
        [
            layers(vae.ConvEncoder(8, 16, 6)),
            layers(vae.ConvDecoder(8, 16)),
            "Linear 256 10",
            "Linear 8 256",
        ]
    )
    assert (vae.ConvEncoder(8, 16).channels, vae.ConvDecoder(8, 16).channels) == (16, 16)
    # sizes of the networks of chapter 2, which its text and the results table name
    assert [size_of(vae.VAE), size_of(lambda: vae.VAE(num_classes=5))] == [826_115, 838_915]


def test_the_first_half_is_the_mean_and_the_second_the_log_variance():
    model, x = vae.VAE(latent_dim=3, width=8, size=8), torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        model.to_latent.weight.zero_()
        model.to_latent.bias.copy_(torch.tensor([1.0, 2.0, 3.0, -4.0, 25.0, -35.0]))
    mean, logvar = model.encode(x)
    assert mean.tolist() == [[1, 2, 3]] * 2 and logvar.tolist() == [[-4, 20, -30]] * 2


def test_a_pass_is_encoder_sample_and_decoder():
    model = vae.VAE(latent_dim=4, width=8, size=8, num_classes=3)
    x, y = torch.rand(2, 3, 8, 8), torch.tensor([2, 1])
    x_hat, mean, logvar = model(x, y, torch.Generator().manual_seed(3))
    one_hot = F.one_hot(y, 3).float()
    h = model.encoder(torch.cat([x, one_hot[:, :, None, None].expand(2, 3, 8, 8)], 1)).flatten(1)
    torch.testing.assert_close(torch.cat([mean, logvar], 1), model.to_latent(h))
    z = mean + (logvar / 2).exp() * torch.randn(2, 4, generator=torch.Generator().manual_seed(3))
    h = model.from_latent(torch.cat([z, one_hot], 1)).view(2, 8, 4, 4)
    torch.testing.assert_close(x_hat, model.decoder(h))
    torch.testing.assert_close(vae.reconstruct(model, x, y), model.decode(mean, y))
    z = torch.randn(5, 4, generator=torch.Generator().manual_seed(7))
    labels = torch.tensor([0, 1, 2, 0, 1])
    with torch.no_grad():
        torch.testing.assert_close(
            vae.sample(model, 5, labels.tolist(), seed=7, batch_size=2), model.decode(z, labels)
        )
    assert torch.equal(vae.sample(model, 2, y), vae.sample(model, 2, y, seed=0))


class Modes(vae.VAE):
    """Notes its mode and whether gradients are kept whenever it decodes."""

    def decode(self, z, y=None):
        self.seen = (self.training, torch.is_grad_enabled())
        return super().decode(z, y)


def test_pictures_are_made_in_eval_mode_and_training_is_training():
    model, x = Modes(latent_dim=4, width=8, size=8), torch.rand(4, 3, 8, 8)
    for run in (lambda: vae.sample(model.train(), 2), lambda: vae.reconstruct(model.train(), x)):
        run()
        assert model.seen == (False, False) and model.training
    next(vae.train_vae(model.eval(), iter([(x,)]), steps=1))
    assert model.seen == (True, True)


def test_active_units_vary_by_more_than_a_hundredth():
    mean = torch.tensor([[1.0], [-1.0]]) * torch.tensor(
        [0.0700, 0.0714]
    )  # variances 2 s²: 0.0098 and 0.0102
    assert vae.active_units(mean).tolist() == [False, True]
    assert vae.active_units(mean, 0.011).tolist() == [False, False]


@pytest.mark.parametrize("warm_up", [0.0, 0.5, 1.0])
def test_the_loop_written_out(warm_up):
    def fresh():
        torch.manual_seed(0)
        return vae.VAE(latent_dim=4, width=8, size=8, num_classes=3)

    model, twin = fresh(), fresh()
    data = [(torch.rand(6, 3, 8, 8) * 2 - 1, torch.randint(3, (6,))) for _ in range(4)]
    got = list(
        vae.train_vae(model, iter(data), steps=4, beta=0.2, lr=0.01, warm_up=warm_up, seed=5)
    )
    generator = torch.Generator().manual_seed(5)
    optimiser = torch.optim.Adam(twin.parameters(), 0.01)
    for k, (x, y) in enumerate(data):
        optimiser.param_groups[0]["lr"] = one_cycle(0.01, 4)[k]
        # one cycle of the learning rate turns Adam's first beta the other way round, from 0.95 to
        # 0.85 and back
        beta = 0.2 * {0.0: 1.0, 0.5: min(1.0, (k + 1) / 2), 1.0: (k + 1) / 4}[warm_up]
        x_hat, mean, logvar = twin(x, y, generator)
        distortion = 0.5 * (x - x_hat).square().sum((1, 2, 3)).mean()
        rate = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(1).mean()
        optimiser.zero_grad()
        (distortion + beta * rate).backward()
        optimiser.step()
        want = [v.item() for v in (distortion + beta * rate, distortion, rate)]
        assert got[k] == pytest.approx([k + 1, *want], rel=1e-4)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-4)


def test_the_learning_rate_is_one_cycle(optimiser_steps):
    data = [(torch.rand(2, 3, 8, 8),)] * 20
    list(vae.train_vae(vae.VAE(latent_dim=2, width=8, size=8), iter(data), steps=20, lr=0.01))
    assert [s["lr"] for _, s, _ in optimiser_steps] == pytest.approx(one_cycle(0.01, 20))
    assert {name for name, _, _ in optimiser_steps} == {"Adam"}


def test_the_importance_bound_of_images_and_labels_by_hand():
    """Densities from torch.distributions, for a conditional model and two samples."""
    model = vae.VAE(latent_dim=2, width=8, size=8, num_classes=3).double()
    x, y = torch.rand(2, 3, 8, 8).double(), torch.tensor([2, 0])
    got = vae.importance_bound(model, x, y, samples=2, variance=0.3, seed=4)
    with torch.no_grad():
        mean, logvar = model.encode(x, y)
        std = (logvar / 2).exp()
        q, prior = Normal(mean, std), Normal(0.0, 1.0)
        generator, logs = torch.Generator().manual_seed(4), []
        for _ in range(2):
            z = mean + std * torch.randn(2, 2, generator=generator, dtype=torch.float64)
            log_px = Normal(model.decode(z, y), 0.3**0.5).log_prob(x).sum((1, 2, 3))
            logs.append(log_px + prior.log_prob(z).sum(1) - q.log_prob(z).sum(1))
    torch.testing.assert_close(got, torch.stack(logs).exp().mean(0).log())


def test_what_is_taken_unless_told():
    assert defaults(vae.vae_loss) == dict(beta=1.0) and defaults(vae.active_units) == dict(
        threshold=0.01
    )
    assert defaults(vae.ConvEncoder) == dict(width=32, size=32, in_channels=3)
    assert defaults(vae.ConvDecoder) == dict(width=32, size=32)
    assert defaults(vae.VAE) == dict(latent_dim=32, width=32, size=32, num_classes=0,
                                     squares=False)
    assert defaults(vae.train_vae) == dict(beta=1.0, lr=2e-3, warm_up=0.0, seed=0)
    assert defaults(vae.sample) == dict(y=None, seed=0, batch_size=256)
    assert defaults(vae.importance_bound) == dict(y=None, samples=64, variance=1.0, seed=0)


def test_a_model_is_rebuilt_from_its_config():
    config = dict(latent_dim=5, width=8, size=16, num_classes=3)
    assert vae.VAE(**config).config == config | dict(squares=False)


@pytest.mark.parametrize("warm_up", [-0.01, 1.01])
def test_a_warm_up_is_a_share(warm_up):
    training = vae.train_vae(vae.VAE(width=8, size=8), iter([]), steps=3, warm_up=warm_up)
    with pytest.raises(ValueError):
        next(training)
