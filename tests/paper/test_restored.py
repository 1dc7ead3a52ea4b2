"""The cells of excursion 3's tables, against what they are made of."""

import pytest
import torch

from minigen import ddpm, measurements, metrics, restoration
from minigen.data import ToyFaces
from minigen.files import load_weights
from minigen.paper import restored, tables
from minigen.perceptual import ToyPerceptual
from minigen.unet import UNet

N = 130


@pytest.fixture
def taught(monkeypatch):
    """A filter that has seen 800 faces in place of 20,000."""
    assert restored.TAUGHT == 20_000
    monkeypatch.setattr(restored, "TAUGHT", 800)
    restored.statistics.cache_clear()
    yield
    restored.statistics.cache_clear()


def faces(seed):
    return restored.faces(seed, N)


def test_a_cell_measures_what_its_columns_say():
    values = restored.restoration_cell(1, N, "8 → 32, bicubic")
    x = faces(1)
    got = restored.bicubic(x, 1)
    assert values.keys() == set(tables.TABLES["restoration"].columns)
    assert values["psnr"] == pytest.approx(float(measurements.psnr(x, got).mean()))
    assert values["ssim"] == pytest.approx(float(measurements.ssim(x, got).mean()))
    assert values["lpips"] == pytest.approx(float(ToyPerceptual()(x, got).mean()), rel=1e-4)
    assert values["frechet"] == pytest.approx(metrics.toy_frechet(got))
    assert 0 < values["time_ms"] < 1000


def test_noise_is_of_the_seed_and_of_deviation_1():
    x = faces(0)
    noise = restored.noisy(x, 0) - x
    assert float(noise.std()) == pytest.approx(1, rel=0.01)
    torch.testing.assert_close(noise, restored.noisy(x, 0) - x)
    assert not torch.allclose(noise, restored.noisy(x, 1) - x)


def test_the_average_of_one_draw_is_the_draw_and_of_none_the_mean(monkeypatch):
    """Whatever network draws: a small one here, without training."""
    net = UNet(width=8, multipliers=(1,), attention_at=0, prediction="v", schedule="cosine")
    for p in net.parameters():
        p.data += 0.05 * torch.randn_like(p)             # its answer begins at 0
    monkeypatch.setattr(restored, "_prior", lambda: (net.eval(), ddpm.diffusion_of(net)))
    restored._drawn.cache_clear()
    x = faces(0)
    draws = [restored.draw(x, 0, k) for k in range(2)]
    torch.testing.assert_close(draws[0], restored.METHODS["noise, draw"](x, 0))
    assert not torch.allclose(*draws)
    for count in (1, 2):
        got = torch.stack(draws[:count]).mean(0).clamp(-1, 1)
        assert restored.distortion_cell(0, N, count) == restored.measured(x, got)
    values = restored.distortion_cell(0, N, 0)
    assert values == restored.measured(faces(0), restored.mean_of_all(faces(0), 0).clamp(-1, 1))
    restored._drawn.cache_clear()


def test_the_prior_is_chapter_5s_unet():
    net, diffusion = restored._prior()
    trained = load_weights(UNet, "unet")
    pairs = zip(net.state_dict().values(), trained.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert torch.equal(diffusion.betas, ddpm.diffusion_of(trained).betas)


@pytest.mark.parametrize("method", restored.METHODS)
def test_every_method_gives_faces_of_the_same_shape_nearer_than_a_stranger(taught, method):
    x = faces(0)[:3]
    got = restored.METHODS[method](x, 0).clamp(-1, 1)
    assert got.shape == x.shape and bool(got.isfinite().all())
    if method == "noise, left as it is":
        return
    stranger = measurements.psnr(x, x.roll(1, 0)).mean()
    assert float(measurements.psnr(x, got).mean()) > float(stranger)


@pytest.mark.parametrize(("method", "damage"), [
    ("8 → 32, ILVR", measurements.shrink(4)), ("hole, RePaint", measurements.holes(restored.HOLE)),
    ("grey, ILVR", measurements.grey())])
def test_what_is_overwritten_fits_what_was_measured(method, damage):
    x = faces(0)[:2]
    got = restored.METHODS[method](x, 0)
    assert float(measurements.off(damage.forward, got, damage.forward(x)).max()) < 1e-5


def test_the_filter_knows_the_faces_that_it_is_taught_and_no_others(taught):
    mean, cov = restored.statistics()
    y = restored.noisy(faces(0)[:3], 0)
    want = restoration.wiener(y.flatten(1), mean, cov, 1.0).view_as(y)
    torch.testing.assert_close(restored.filtered(faces(0)[:3], 0), want)
    wanted = metrics.gaussian_statistics(ToyFaces(800, seed=0).images().flatten(1))
    assert torch.equal(mean, wanted[0]) and torch.equal(cov, wanted[1])


def test_too_bright_is_cut_off_at_white():
    x = torch.tensor([-1.0, 0.0, 0.2, 0.9]).view(1, 1, 2, 2)
    torch.testing.assert_close(restored.overexposed(x).flatten(),
                               torch.tensor([-0.2, 0.8, 1.0, 1.0]))
