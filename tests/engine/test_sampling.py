"""FFTD with a table of its steps: the predictions of the network itself."""

import pytest
import torch

from minigen import ddim, ddpm, flow_matching, latents, ode
from minigen.data import to_uint8
from minigen.engine import packed
from minigen.engine.sampling import SamplingFFTD
from minigen.fftd import FFTD
from minigen.files import load_weights
from minigen.guidance import Guided
from minigen.ivqvae import IVQVAE
from minigen.text_to_image import TextFFTD
from tests.test_fftd import woken

AT = (3, 500, 999)
CONFIGS = [
    {}, dict(levels=1), dict(levels=3), dict(fusion="add"), dict(fusion="concat"), dict(patch=2),
    dict(patch=4, levels=1), dict(grid=8, levels=3), dict(grid=16, patch=2, latent_channels=8),
    dict(depth=4), dict(depth=7, levels=3), dict(fusion_start="norms", dropout=0.3)]


def noise(n, *shape):
    return torch.randn(n, *(shape or (4, 4, 4)), generator=torch.Generator().manual_seed(n))


def same(got, want):
    torch.testing.assert_close(got, want, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("config", CONFIGS)
def test_the_predictions_are_the_networks(config, packing, monkeypatch):
    if not packing:
        monkeypatch.setattr(packed, "has_packing", lambda device: False)
    model = woken(**config)
    fast = SamplingFFTD(model, AT)
    c = model.config
    for n, t in ((1, [500]), (3, [3]), (3, [999, 3, 500]), (2, [3, 3])):
        z, at = noise(n, c["latent_channels"], c["grid"], c["grid"]), torch.tensor(t)
        with torch.no_grad():
            same(fast(z, at), model(z, at))
    assert not fast(z, at).requires_grad


def test_labels_alone_and_mixed():
    model = woken(num_classes=4)
    fast, z = SamplingFFTD(model, AT, [2, 0]), noise(3)
    for y in (None, [2, 2, 2], [0, 2, 0], [4, 0, 2], [4, 4, 4]):
        y = None if y is None else torch.tensor(y)
        with torch.no_grad():
            for t in (torch.tensor([500]), torch.tensor([3, 3, 999])):
                same(fast(z, t, y), model(z, t, y))
    assert fast.table.shape == (3, 3, 6 * 5 + 2, 32)


def test_it_leaves_the_network_as_it_was():
    model = woken().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    SamplingFFTD(model, AT)(noise(2), torch.tensor([3]))
    assert all(m.training for m in model.modules())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())


def grey_levels(model, fast, sample, n=6):
    """The largest difference of the pictures that two networks draw."""
    decoder = load_weights(IVQVAE, "ivqvae")
    one, other = (to_uint8(latents.decode(decoder, ddpm.last(sample(net, noise(n)))))
                  for net in (model, fast))
    return int((one.int() - other.int()).abs().max()), one


@pytest.mark.parametrize("label", [None, 3])
def test_the_same_pictures_to_one_grey_level(label):
    """50 steps of the trained network, without a label and guided by 2 towards one."""
    model = load_weights(FFTD, "fftd")
    diffusion = ddpm.diffusion_of(model)
    y = None if label is None else torch.full((6,), label)
    fast = SamplingFFTD(model, ddim.timesteps(diffusion.T, 50), [] if label is None else [label])

    def sample(net, xT):
        net = net if label is None else Guided(net, model.num_classes, 2.0)
        return ddim.ddim_sample(net, diffusion, xT, y, steps=50)

    differ, images = grey_levels(model, fast, sample)
    assert differ <= 1 and len(images.unique()) > 100


def test_other_samplers_take_it():
    model = load_weights(FFTD, "fftd")
    diffusion = ddpm.diffusion_of(model)
    fast = SamplingFFTD(model, ddim.timesteps(diffusion.T, 10))
    differ, _ = grey_levels(
        model, fast, lambda net, xT: ode.multistep_sample(net, diffusion, xT, steps=10))
    assert differ <= 1
    flow = load_weights(FFTD, "flow_straight")
    at = (flow_matching.LONGEST * torch.tensor(flow_matching.marks(4)[:-1])).tolist()
    differ, _ = grey_levels(flow, SamplingFFTD(flow, at),
                            lambda net, xT: flow_matching.euler_sample(net, xT, steps=4))
    assert differ <= 1


def test_what_is_not_in_the_table_is_refused():
    plain, z, t = SamplingFFTD(woken(), AT), noise(2), torch.tensor([3])
    with pytest.raises(ValueError, match="t must be one of the 3 time steps this network was made"):
        plain(z, torch.tensor([4]))
    with pytest.raises(ValueError, match="got 4"):
        plain(z, torch.tensor([3, 4]))
    with pytest.raises(ValueError, match="without classes: it takes no labels"):
        plain(z, t, torch.tensor([0, 0]))
    with pytest.raises(ValueError, match=r"\(B, 4, 4, 4\)"):
        plain(noise(2, 4, 8, 8), t)
    told = SamplingFFTD(woken(num_classes=4), AT, [1])
    with pytest.raises(ValueError, match=r"y must be one of the 2 labels .*; got 2"):
        told(z, t, torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="labels must be 0 to 3, or 4 for none; got 1 to 9"):
        told(z, t, torch.tensor([1, 9]))
    with pytest.raises(ValueError, match="model must be an FFTD; got TextFFTD"):
        SamplingFFTD(TextFFTD(dim=32, heads=2), AT)


