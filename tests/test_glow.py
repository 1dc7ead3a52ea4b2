import math

import pytest
import torch

from minigen import files, flows
from minigen.data import ToyFaces, batches, dequantise, from_uint8, quantise, shrunk
from minigen.glow import Coupling, Glow, Invertible1x1, Split, Squeeze
from tests.conftest import defaults, layers, peer, size_of
from tests.test_flows import require_a_layer, stirred


@pytest.mark.parametrize("make", [
    lambda: Invertible1x1(4), lambda: Coupling(4, 8), lambda: Split(4),
    lambda: Invertible1x1(4, torch.randn(4, 4) + 3 * torch.eye(4)[[2, 0, 3, 1]])])
def test_layers_of_images_are_inverted_and_know_their_determinant(make):
    require_a_layer(make(), torch.randn(5, 4, 3, 2))


def test_a_whole_glow_is_inverted_and_knows_its_determinant():
    x = torch.rand(3, 3, 8, 8)
    require_a_layer(Glow(8, 3, 2, 2, 8), x, scale=0.03)
    require_a_layer(Glow(4, 1, 2, 1, 8), torch.rand(3, 1, 4, 4), scale=0.1)


def test_squeeze_moves_pixels_into_channels():
    x = torch.arange(32.0).view(1, 2, 4, 4)
    z, logdet = Squeeze()(x)
    assert z.shape == (1, 8, 2, 2) and torch.equal(logdet, torch.zeros(1))
    assert z[0, :4, 0, 0].tolist() == [0, 1, 4, 5] and z[0, 4:, 1, 1].tolist() == [26, 27, 30, 31]
    assert torch.equal(Squeeze().inverse(z), x)


def test_the_1x1_convolution_is_the_matrix_it_was_given():
    x = torch.randn(4, 3, 2, 5, dtype=torch.float64)
    weight = torch.randn(3, 3, dtype=torch.float64)
    for w in (weight, torch.eye(3).double()[[1, 2, 0]], -torch.eye(3).double()):
        layer = Invertible1x1(3, w)
        z, logdet = layer(x)
        assert torch.allclose(z, torch.einsum("ij,njhw->nihw", w, x), atol=1e-12)
        wanted = 10 * torch.linalg.slogdet(w)[1]
        assert torch.allclose(logdet, wanted.expand(4), atol=1e-10)
    learned = dict(layer.named_parameters())
    assert learned.keys() == {"triangles", "log_diagonal"}     # permutation and signs stay


def test_without_a_matrix_it_starts_from_a_rotation():
    x = torch.randn(4, 6, 2, 2)
    layer = Invertible1x1(6)
    z, logdet = layer(x)
    assert torch.allclose(z.square().sum(1), x.square().sum(1), rtol=1e-4)
    assert logdet.abs().max() < 1e-4 and (z - x).abs().max() > 0.1


def test_a_singular_matrix_is_refused():
    singular = torch.randn(4, 1) @ torch.randn(1, 4)
    for weight in (singular, torch.zeros(4, 4), torch.diag(torch.tensor([1.0, 1, 1, 1e-9]))):
        with pytest.raises(ValueError, match=r"singular \(its smallest"):
            Invertible1x1(4, weight)
    Invertible1x1(4, 1e-9 * torch.eye(4))                      # small, and well invertible


@pytest.mark.parametrize("layer", [Coupling(6, 8), Split(6)])
def test_couplings_start_as_the_identity_and_keep_a_half(layer):
    x = torch.randn(4, 6, 3, 3)
    z, logdet = layer(x)
    assert torch.equal(z, x) and torch.equal(logdet, torch.zeros(4))
    z, logdet = stirred(layer)(x)
    assert torch.equal(z[:, :3], x[:, :3]) and (z[:, 3:] != x[:, 3:]).all()


def test_a_split_is_a_learned_gaussian():
    layer = stirred(Split(4))
    x = torch.randn(5, 4, 3, 3)
    kept, finished = x.chunk(2, dim=1)
    log_scale, shift = layer.scale_and_shift(kept)
    std = (-log_scale).exp()
    density = torch.distributions.Normal(-shift * std, std).log_prob(finished)
    z, logdet = layer(x)
    assert torch.allclose(flows.log_normal(z[:, 2:]) + logdet, density.flatten(1).sum(1), atol=1e-4)


def test_glows_latents_come_coarse_first():
    model = stirred(Glow(16, 3, 3, 1, 8), 0.05)
    assert model.sizes == [192, 192, 384] and sum(model.sizes) == model.dims == 768
    assert Glow(8, 1, 1, 1).sizes == [64]
    z = torch.randn(2, 768)
    x = model.inverse(z)
    changed = z.clone()
    changed[:, -384:] = 0                      # the last to come, of the finest level
    fine = model.inverse(changed)
    assert not torch.equal(fine, x)
    levels = [level.layers for level in model.layers]
    half = levels[0][:-1]                      # undo Split and the steps: the kept half is the same
    kept, other = x, fine
    for layer in half:
        kept, other = layer(kept)[0], layer(other)[0]
    assert torch.allclose(kept[:, :6], other[:, :6], atol=1e-4)
    assert (kept[:, 6:] - other[:, 6:]).abs().max() > 0.1


def test_bits_of_two_by_two_pixels_by_hand():
    model = Glow(2, 1, 1, 1, 4).eval()
    _, norm, mix, coupling = model.layers[0].layers
    with torch.no_grad():
        norm.mean.copy_(torch.tensor([0.5, 0.25, 0, 1]))
        norm.log_std.copy_(torch.tensor([0.5, 0.25, 2, 1]).log())
        norm.started.fill_(True)
        mix.log_diagonal.fill_(math.log(2))    # twice the identity
        mix.triangles.zero_()
        mix.permutation.copy_(torch.eye(4))
        mix.sign.fill_(1)
        coupling.network[-1].bias.copy_(torch.tensor([0.3, 0, 0.1, -0.2]))
    grey = torch.tensor([[10, 200], [0, 255]], dtype=torch.uint8)[None, None]
    u = torch.randint(2**16, (1, 1, 2, 2), generator=torch.Generator().manual_seed(3)) / 2**16
    a, b, c, d = ((grey[0, 0] + u[0, 0]) / 256).flatten().tolist()
    s = 2 * math.tanh(0.15)
    z = [2 * (a - 0.5) / 0.5, 2 * (b - 0.25) / 0.25, 2 * c / 2 * math.exp(s) + 0.1,
         2 * (d - 1) / 1 - 0.2]
    log_prob = sum(-v * v / 2 - math.log(2 * math.pi) / 2 for v in z)
    log_prob += math.log(2 / 0.5 * 2 / 0.25 * 2 / 2 * 2 / 1) + s
    by_hand = -log_prob / (4 * math.log(2)) + 8
    for x in (grey, from_uint8(grey)):
        assert flows.bits_per_dim(model, x, seed=3).item() == pytest.approx(by_hand, rel=1e-6)


def test_an_idle_glow_takes_eight_bits_and_a_normals():
    """Rotations and identities: the density of N(0, I) at the pixels, and the constant."""
    model = Glow(8, 3, 2, 2, 8).eval()
    x = from_uint8(torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8))
    y = dequantise(x, torch.Generator().manual_seed(0)).flatten(1)
    wanted = (y.square().mean(1) + math.log(2 * math.pi)) / (2 * math.log(2)) + 8
    assert torch.allclose(flows.bits_per_dim(model, x), wanted, rtol=1e-5)


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    model, faces = Glow(16, 3, 3, 2, 16), shrunk(ToyFaces(512).images(), 16)
    steps = flows.train_flow(model, batches(faces, batch_size=32), steps=60, lr=5e-3)
    return model, faces, [s.bits for s in steps]


def test_it_learns_faces(trained):
    model, faces, bits = trained
    assert bits[0] > 6.5 and bits[-1] < bits[0] - 1
    assert float(flows.bits_per_dim(model, faces).mean()) == pytest.approx(bits[-1], abs=0.4)


def test_every_actnorm_started_from_the_first_batch():
    model = Glow(8, 3, 2, 2, 8)
    x = shrunk(ToyFaces(64).images(), 8)
    next(flows.train_flow(model, [(x,)], steps=1, lr=0.0))
    y = dequantise(x, torch.Generator().manual_seed(0))
    norms = [m for m in model.modules() if isinstance(m, flows.ActNorm)]
    seen = []
    handles = [m.register_forward_hook(lambda m, x, out: seen.append(out[0])) for m in norms]
    model(y)
    assert len(seen) == len(norms) == 4 and all(m.started for m in norms)
    for z in seen:
        flat = z.transpose(0, 1).flatten(1)
        assert flat.mean(1).abs().max() < 1e-4
        assert (flat.std(1, correction=0) - 1).abs().max() < 1e-4
    for handle in handles:
        handle.remove()


def test_train_and_eval_agree(trained):
    model, faces, _ = trained
    y = dequantise(faces[:8], torch.Generator().manual_seed(0))
    with torch.no_grad():
        train, still = (mode(y) for mode in (model.train(), model.eval()))
    assert all(torch.equal(a, b) for a, b in zip(train, still, strict=True))


def test_encoded_images_come_back_exactly(trained):
    model, faces, _ = trained
    z = flows.encode(model, faces[:100], batch_size=30)
    assert z.shape == (100, 768)
    assert torch.equal(flows.decode(model, z, batch_size=7), faces[:100])


def test_temperature_nought_gives_the_image_of_the_means(trained):
    model, _, _ = trained
    still = flows.sample(model, 3, temperature=0)
    with torch.no_grad():
        mean = model.eval().inverse(torch.zeros(1, 768))
    assert torch.equal(still, quantise(mean).expand(3, -1, -1, -1))
    # by the layers: what each Split's network calls the mean of the half that left
    x = torch.zeros(1, 48, 2, 2)
    with torch.no_grad():
        for level in reversed(model.layers):
            *steps, last = level.layers
            if isinstance(last, Split):
                log_scale, shift = last.scale_and_shift(x)
                x = torch.cat([x, -shift * (-log_scale).exp()], dim=1)
            else:
                steps.append(last)
            for layer in reversed(steps):
                x = layer.inverse(x)
    assert torch.allclose(x, mean, atol=1e-5)
    warm = flows.sample(model, 50, 1.0)
    assert warm.shape == (50, 3, 16, 16) and warm.min() >= -1 and warm.max() <= 1
    assert torch.equal(warm, from_uint8(((warm + 1) * 127.5).round()))       # on the grey levels
    assert flows.sample(model, 50, 0.5).std(0).mean() < warm.std(0).mean()


def test_saved_and_loaded_it_gives_the_same_bits(trained, tmp_path):
    model, faces, _ = trained
    files.save_weights(tmp_path / "glow.safetensors", model)
    loaded = files.load_weights(Glow, tmp_path / "glow.safetensors")
    assert loaded.config == model.config == dict(size=16, channels=3, levels=3, depth=2, width=16)
    assert all(m.started for m in loaded.modules() if isinstance(m, flows.ActNorm))
    found = flows.bits_per_dim(loaded.train(), faces[:64])     # and train mode does not start anew
    assert torch.equal(found, flows.bits_per_dim(model, faces[:64]))
    assert torch.equal(flows.sample(loaded, 4), flows.sample(model, 4))


def test_architecture():
    conv = "Conv2d 6 64 3 1 1; ReLU; Conv2d 64 64 1 1 0; ReLU; Conv2d 64 12 3 1 1"
    assert layers(Coupling(12).network) == conv
    names = [[type(m).__name__ for m in level.layers] for level in Glow(8, 3, 2, 2).layers]
    step = ["ActNorm", "Invertible1x1", "Coupling"]
    assert names == [["Squeeze", *step, *step, "Split"], ["Squeeze", *step, *step]]
    assert defaults(Glow) == dict(size=16, channels=3, levels=3, depth=6, width=64)
    assert size_of(Glow) < 0.55e6


def test_wrong_input_is_told_in_one_sentence():
    x = torch.rand(2, 3, 16, 16)
    model = Glow(16, 3, 2, 1, 8)
    wrong = [
        (lambda: Squeeze()(x[:, :, :5]), "even"), (lambda: Squeeze()(x[0]), "(N, C, H, W)"),
        (lambda: Squeeze().inverse(x), "multiple of 4"), (lambda: Coupling(3), "even"),
        (lambda: Split(5), "even"), (lambda: Coupling(4, 0), "width"),
        (lambda: Coupling(4)(x), "(N, 4, H, W)"), (lambda: Invertible1x1(4)(x), "(N, 4, H, W)"),
        (lambda: Invertible1x1(3, torch.eye(2)), "(3, 3)"),
        (lambda: Glow(12, 3, 3), "2^levels = 8"),
        (lambda: Glow(levels=0), "levels"), (lambda: model(x[..., :8]), "(N, 3, 16, 16)"),
        (lambda: model(x.double()), "torch.float32"), (lambda: model.inverse(x), "(N, 768)"),
        (lambda: model((x * 255).byte()), "floating point"),
        (lambda: flows.bits_per_dim(model, x), "256 grey levels"),
        (lambda: flows.encode(model, x), "256 grey levels"),
    ]
    for call, words in wrong:
        with pytest.raises(ValueError) as caught:
            call()
        assert words in str(caught.value) and "\n" not in str(caught.value), caught.value


class Interleaved(torch.nn.Module):
    """Our network's answer in their order: shift, scale, shift, scale, …"""

    def __init__(self, coupling):
        super().__init__()
        self.coupling = coupling

    def forward(self, kept):
        log_scale, shift = self.coupling.scale_and_shift(kept)
        return torch.stack([shift, log_scale], dim=2).flatten(1, 2)


@pytest.mark.filterwarnings("ignore:torch.lu is deprecated")
def test_layers_equal_normflows():
    nf = peer("normflows")
    x = torch.randn(3, 6, 4, 4)
    mine, theirs = stirred(Invertible1x1(6), 0.1), nf.flows.Invertible1x1Conv(6, use_lu=True)
    with torch.no_grad():
        theirs.P.copy_(mine.permutation)
        theirs.sign_S.copy_(mine.sign)
        theirs.log_S.copy_(mine.log_diagonal)
        theirs.L.copy_(mine.triangles)
        theirs.U.copy_(mine.triangles)
        # what they call inverse goes from x to z, as our forward does
        for a, b in zip(mine(x), theirs.inverse(x), strict=True):
            assert torch.allclose(a, b.expand_as(a), atol=1e-5)
        assert torch.allclose(mine.inverse(x), theirs(x)[0], atol=1e-5)
        coupling = stirred(Coupling(6, 8))

        block = nf.flows.AffineCouplingBlock(Interleaved(coupling))
        for a, b in zip(coupling(x), block(x), strict=True):   # x to z by their forward
            assert torch.allclose(a, b, atol=1e-5)
        assert torch.allclose(coupling.inverse(x), block.inverse(x)[0], atol=1e-4)
        z = Squeeze()(x)[0]
        assert torch.equal(z, nf.flows.Squeeze().inverse(x)[0])
        assert torch.equal(Squeeze().inverse(z), nf.flows.Squeeze()(z)[0])
