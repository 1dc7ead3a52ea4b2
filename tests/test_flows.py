import math

import pytest
import torch

from minigen import flows
from minigen.data import ToyFaces, batches, from_uint8, shrunk, swiss_roll
from minigen.errors import Diverged
from minigen.flows import ActNorm, Flow, MaskedCoupling, real_nvp
from minigen.glow import Glow
from tests.conftest import defaults, one_cycle, peer


def stirred(model, scale=0.3):
    """The model with random weights everywhere, and its ActNorms started."""
    with torch.no_grad():
        for p in model.parameters():
            p.add_(scale * torch.randn_like(p))
    for module in model.modules():
        if hasattr(module, "started"):
            module.started.fill_(True)
    return model


def logdet_by_autograd(layer, x):
    """log |det| of each item's whole Jacobian."""
    found = []
    for item in x:
        jacobian = torch.autograd.functional.jacobian(
            lambda v: layer(v[None])[0].flatten(), item)           # (D, *shape)
        found.append(torch.linalg.slogdet(jacobian.flatten(1))[1])
    return torch.stack(found)


def require_a_layer(layer, x, scale=0.3):
    """What every layer must be: undone by its inverse, its logdet the Jacobian's."""
    stirred(layer, scale)
    z, logdet = layer(x)
    assert logdet.shape == (len(x),) and not torch.equal(z, x)
    assert (layer.inverse(z) - x).abs().max() < 1e-5
    layer, x = layer.double(), x.double()
    z, logdet = layer(x)
    assert (layer.inverse(z) - x).abs().max() < 1e-10
    assert torch.allclose(logdet, logdet_by_autograd(layer, x), rtol=0, atol=1e-6)
    assert logdet.abs().min() > 1e-3                               # there was something to measure


@pytest.mark.parametrize("make", [
    lambda: ActNorm(5), lambda: MaskedCoupling([1, 0, 0, 1, 0], 16), lambda: real_nvp(5, 4, 16)])
def test_layers_of_vectors_are_inverted_and_know_their_determinant(make):
    require_a_layer(make(), torch.randn(6, 5))


def test_actnorm_of_images():
    require_a_layer(ActNorm(3), torch.randn(4, 3, 2, 5))


@pytest.mark.parametrize("shape", [(64, 3), (16, 3, 4, 4)])
def test_actnorm_starts_from_its_first_batch(shape):
    x = 5 + 3 * torch.randn(shape) * torch.rand(3).view(3, *[1] * (len(shape) - 2))
    layer = ActNorm(3)
    assert torch.equal(layer.eval()(x)[0], x) and not layer.started     # the identity before
    z = layer.train()(x)[0].transpose(0, 1).flatten(1)
    assert layer.started
    assert torch.allclose(z.mean(1), torch.zeros(3), atol=1e-5)
    assert torch.allclose(z.std(1, correction=0), torch.ones(3), atol=1e-5)
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    layer(x + 7)                                                        # the second moves nothing
    assert all(torch.equal(v, before[k]) for k, v in layer.state_dict().items())
    again = ActNorm(3)
    again.load_state_dict(before)
    assert again.started and torch.equal(again(x)[0], layer(x)[0])


def test_actnorm_needs_channels_that_vary():
    x = torch.randn(8, 3)
    x[:, 1] = 4
    with pytest.raises(ValueError, match="channel 1 is constant"):
        ActNorm(3)(x)
    with pytest.raises(ValueError, match="at least one value"):
        ActNorm(3)(x[:0])


def test_a_flow_of_identities_is_a_standard_normal():
    x = torch.randn(7, 3, dtype=torch.float64)
    normal = torch.distributions.MultivariateNormal(torch.zeros(3).double(), torch.eye(3).double())
    idle = [MaskedCoupling([1, 0, 1]), ActNorm(3), MaskedCoupling([0, 1, 0])]
    for flow in (Flow(idle, [3]).double().eval(), Flow([], [3])):
        z, logdet = flow(x)
        assert torch.equal(z, x) and torch.equal(logdet, torch.zeros(7).double())
        assert torch.allclose(flow.log_prob(x), normal.log_prob(x))
    # and of ActNorms alone, a normal of that mean and deviation
    flow = Flow([ActNorm(3)], [3]).double()
    flow(x * torch.tensor([1.0, 2, 3]) + 1)
    (norm,) = flow.layers
    wanted = torch.distributions.Normal(norm.mean, norm.log_std.exp()).log_prob(x).sum(1)
    assert torch.allclose(flow.log_prob(x), wanted)


def test_the_masked_coordinates_stay_and_alone_say_what_happens():
    layer = stirred(MaskedCoupling([0, 1, 0, 1]))
    x = torch.randn(5, 4)
    z, logdet = layer(x)
    assert torch.equal(z[:, 1::2], x[:, 1::2]) and (z[:, ::2] != x[:, ::2]).all()
    other = x.clone()
    other[:, ::2] += 1
    log_scale, _ = layer.scale_and_shift(x * layer.mask)
    assert torch.allclose(layer(other)[0] - z, (layer.mask == 0) * log_scale.exp())
    assert torch.equal(layer(other)[1], logdet)
    masks = [layer.mask.tolist() for layer in real_nvp(3, 3).layers[1:]]
    assert masks == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]


def test_a_scale_is_bounded_both_ways_and_starts_as_the_identity():
    raw = torch.tensor([-1e30, -1e-3, 0, 1e-3, 1e30])
    assert flows.bounded(raw).tolist() == pytest.approx([-2, -1e-3, 0, 1e-3, 2], rel=1e-6)
    assert flows.bounded(raw, 0.5)[-1] == 0.5
    assert defaults(flows.bounded) == dict(limit=2.0)
    with pytest.raises(ValueError, match="limit"):
        flows.bounded(raw, 0)


def test_the_density_of_a_trained_flow_has_the_mass_one_and_its_samples_follow_it():
    model = real_nvp(2, 4, 32)
    for _ in flows.train_flow(model, batches(swiss_roll(4000), batch_size=256), steps=200, lr=5e-3):
        pass
    side = torch.arange(-4, 4, 0.02) + 0.01
    grid = torch.cartesian_prod(side, side)
    with torch.no_grad():
        density = model.eval().log_prob(grid).exp()
    assert float(density.sum() * 0.02**2) == pytest.approx(1, abs=0.01)
    drawn = flows.sample(model, 20_000)
    for quarter in ((0, 0), (0, 1), (1, 1)):
        sign = torch.tensor(quarter) * 2 - 1
        mass = float(density[(grid * sign > 0).all(1)].sum() * 0.02**2)
        share = float((drawn * sign > 0).all(1).float().mean())
        assert share == pytest.approx(mass, abs=0.015)


def test_it_learns_the_swiss_roll():
    model = real_nvp(couplings=8, width=32)
    test = swiss_roll(2000, seed=1)
    before = flows.bits_per_dim(model, test).mean()
    steps = list(flows.train_flow(
        model, batches(swiss_roll(8000), batch_size=256), steps=400, lr=5e-3))
    after = float(flows.bits_per_dim(model, test).mean())
    # a Gaussian of the data's own covariance: the entropy's bits
    covariance = torch.cov(test.T)
    gaussian = 0.5 * float(torch.logdet(covariance)) / math.log(2) / 2 + 0.5 * math.log2(
        2 * math.pi * math.e)
    assert before > gaussian > after + 0.5
    assert [s.step for s in steps] == list(range(1, 401))
    assert sum(s.bits for s in steps[-20:]) / 20 == pytest.approx(after, abs=0.1)


def test_bits_by_hand():
    uniform = torch.zeros(())                                # log-density of uniform [0, 1)
    assert flows.bits(uniform, 12).item() == 8               # 256 levels: 8 bits, whatever D
    assert flows.bits(uniform, 12, levels=32).item() == 5
    assert flows.bits(torch.tensor(math.log(16.0)), 2, levels=1).item() == pytest.approx(-2)
    points = torch.randn(5, 2)
    found = flows.bits_per_dim(real_nvp(), points)
    wanted = (points.square().sum(1) / 2 + math.log(2 * math.pi)) / (2 * math.log(2))
    assert torch.allclose(found, wanted)                     # log p / (D ln 2), no levels


def test_bits_do_not_depend_on_the_parts_but_on_the_seed():
    model = stirred(Glow(8, 1, 2, 1, 8), 0.05)
    x = from_uint8(torch.randint(256, (10, 1, 8, 8), dtype=torch.uint8))
    found = flows.bits_per_dim(model, x)
    assert found.shape == (10,) and torch.allclose(found, flows.bits_per_dim(model, x))
    assert not torch.allclose(found, flows.bits_per_dim(model, x, seed=1))
    assert model.training                                    # as it was
    small = flows.bits_per_dim(model, x, batch_size=3)
    assert torch.allclose(small, found, rtol=1e-5)


@pytest.mark.parametrize("seed", [0, 3])
def test_training_is_maximum_likelihood_with_fresh_noise(seed, optimiser_steps):
    x = shrunk(ToyFaces(8).images(), 8)
    model = Glow(8, 3, 1, 1, 8)
    steps = list(flows.train_flow(model, [(x,)] * 3, steps=3, lr=0.01, clip=0.5, seed=seed))
    assert len({s.bits for s in steps}) == 3
    rates = one_cycle(0.01, 3)
    for (name, settings, length), rate in zip(optimiser_steps, rates, strict=True):
        assert name == "Adam" and settings["lr"] == pytest.approx(rate)
        assert length <= 0.5 + 1e-6
    assert defaults(flows.train_flow) == dict(lr=1e-3, clip=1.0, seed=0)


def test_the_first_step_is_the_likelihood_of_the_dequantised_batch():
    x = shrunk(ToyFaces(8).images(), 8)
    torch.manual_seed(5)
    first = next(flows.train_flow(Glow(8, 3, 1, 1, 8), [(x,)], steps=1, seed=7))
    torch.manual_seed(5)
    model = Glow(8, 3, 1, 1, 8)
    y = flows.dequantise(x, torch.Generator().manual_seed(7))
    nats = -model.log_prob(y).mean().detach()      # in train mode: its ActNorm starts
    assert first.bits == pytest.approx(float(nats) / (192 * math.log(2)) + 8, rel=1e-6)


def test_a_training_that_diverges_says_so():
    model = real_nvp(2, 2, 8)
    x = torch.tensor([[1.0, 2], [2, float("inf")], [0, 0]])
    with pytest.raises(Diverged, match="smaller lr"):
        list(flows.train_flow(model, [(x,)], steps=1))


def test_samples_depend_on_the_seed_and_temperature_only():
    model = stirred(real_nvp(3, 4, 16))
    x = flows.sample(model, 10, seed=4)
    assert torch.allclose(x, flows.sample(model, 10, seed=4, batch_size=3), atol=1e-6)
    assert not torch.allclose(x, flows.sample(model, 10, seed=5))
    z = torch.randn(10, 3, generator=torch.Generator().manual_seed(4))
    for temperature in (0, 0.5, 1):
        drawn = flows.sample(model, 10, temperature, seed=4)
        with torch.no_grad():
            assert torch.allclose(drawn, model.inverse(temperature * z), atol=1e-6)
    still = flows.sample(model, 5, 0)
    assert torch.equal(still, still[:1].expand(5, 3))


def test_encode_and_decode_are_inverse():
    model = stirred(real_nvp(3, 4, 16))
    x = torch.randn(10, 3)
    z = flows.encode(model, x, batch_size=4)
    assert z.shape == (10, 3) and not z.requires_grad
    assert (flows.decode(model, z, batch_size=3) - x).abs().max() < 1e-5
    with torch.no_grad():
        assert torch.allclose(z, model(x)[0], atol=1e-6)


def test_wrong_input_is_told_in_one_sentence():
    flow = real_nvp(3)
    x = torch.randn(4, 3)
    wrong = [
        (lambda: flow(x[:, :2]), "(N, 3)"), (lambda: flow(x.double()), "torch.float32"),
        (lambda: flow(x.long()), "floating point"), (lambda: flow.inverse(x[0]), "(N, 3)"),
        (lambda: flow([1, 2]), "a tensor"), (lambda: flows.decode(flow, x[:, :1]), "(N, 3)"),
        (lambda: real_nvp(1), "dim"), (lambda: real_nvp(couplings=0), "couplings"),
        (lambda: MaskedCoupling([1, 1]), "with both"), (lambda: MaskedCoupling([0, 2, 1]), "mask"),
        (lambda: MaskedCoupling([[0, 1]]), "mask"), (lambda: MaskedCoupling([0, 1], 0), "width"),
        (lambda: ActNorm(0), "channels"), (lambda: ActNorm(3)(x[:, :2]), "(N, 3, …)"),
        (lambda: Flow([], []), "shape"), (lambda: flows.bits(torch.zeros(1), 0), "dims"),
        (lambda: flows.sample(flow, 0), "n must"),
        (lambda: flows.sample(flow, 3, -1), "temperature"),
        (lambda: next(flows.train_flow(flow, [(x,)], steps=1, clip=0)), "clip"),
        (lambda: next(flows.train_flow(flow, [(x,)], steps=1, lr=-1)), "lr"),
        (lambda: list(flows.train_flow(flow, [(x,)], steps=2)), "ended after 1 batches"),
        (lambda: flows.bits_per_dim(flow, x[:0]), "at least one value"),
        (lambda: flows.bits_per_dim(flow, [[1.0, 2, 3]]), "a tensor"),
        (lambda: flows.encode(flow, x, batch_size=0), "batch_size"),
        (lambda: flows.encode(flow, x[:, :1]), "(N, 3)"),
    ]
    for call, words in wrong:
        with pytest.raises(ValueError) as caught:
            call()
        assert words in str(caught.value) and "\n" not in str(caught.value), caught.value


def test_layers_equal_normflows():
    nf = peer("normflows")
    x = torch.randn(6, 4)
    mine = stirred(ActNorm(4))
    theirs = nf.flows.ActNorm((4,))
    with torch.no_grad():
        theirs.s.copy_(mine.log_std[None])
        theirs.t.copy_(mine.mean[None])
        theirs.data_dep_init_done.fill_(1)
        for a, b in zip(mine(x), theirs.inverse(x), strict=True):
            assert torch.allclose(a, b.expand_as(a), atol=1e-6)
        assert torch.allclose(mine.inverse(x), theirs(x)[0], atol=1e-6)
        # their masked layer goes from x to z by forward; its networks are ours, bounded as ours
        layer = stirred(MaskedCoupling([1, 0, 0, 1], 16))

        def scale(kept):
            return flows.bounded(layer.network(kept)[:, :4])

        def shift(kept):
            return layer.network(kept)[:, 4:]

        masked = nf.flows.MaskedAffineFlow(layer.mask)
        masked.s, masked.t = scale, shift
        for a, b in zip(layer(x), masked(x), strict=True):
            assert torch.allclose(a, b, atol=1e-6)
        assert torch.allclose(layer.inverse(x), masked.inverse(x)[0], atol=1e-6)


def test_actnorm_starts_as_normflows_does():
    nf = peer("normflows")
    x = 3 + 2 * torch.randn(16, 4, 3, 3)
    mine, theirs = ActNorm(4), nf.flows.ActNorm((4, 1, 1))
    a, b = mine(x), theirs.inverse(x)
    assert torch.allclose(a[0], b[0], atol=0.02)             # their deviation is that of a sample
    ratio = math.sqrt((16 * 9 - 1) / (16 * 9))
    assert torch.allclose(a[0] * ratio, b[0], atol=1e-4)
