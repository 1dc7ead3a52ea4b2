"""Other libraries' U-Nets, asked and trained as the course's is."""

import re

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from minigen import ddpm, unet
from minigen.common import evaluating
from minigen.data import ToyFaces
from minigen.paper import peers, quality
from minigen.paper.families import FAMILIES, Clock
from tests.conftest import peer

MAKERS = {"diffusers": peers.diffusers_unet, "denoising_diffusion_pytorch": peers.lucidrains_unet}


@pytest.fixture(params=MAKERS)
def net(request):
    peer(request.param)
    torch.manual_seed(0)
    made = peers.Peer(MAKERS[request.param]())
    made.module = request.param
    return made


def test_they_are_about_as_large_as_ours_and_no_network_of_another_kind_of_size(net):
    """As many parameters could be far more work, where most stand at the full size."""
    ours = unet.UNet(**unet.PRESETS["small"])
    parameters = [sum(p.numel() for p in m.parameters()) for m in (net, ours)]
    assert parameters[0] == pytest.approx(parameters[1], rel=0.02)
    work = []
    for m in (net, ours):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            m(torch.zeros(1, 3, 32, 32), torch.tensor([5]))
        work.append(counter.get_total_flops() / 2e6)
    told = re.search(r"(\d+) M multiply-adds", MAKERS[net.module].__doc__)
    assert work[0] == pytest.approx(float(told[1]), abs=1) and work[0] < 2.2 * work[1]


def test_they_answer_in_a_pictures_shape_and_mind_the_time(net):
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        one, both = net(x, torch.tensor([10])), net(x, torch.tensor([10, 900]))
    assert one.shape == x.shape and torch.allclose(one[0], both[0], atol=1e-5)
    assert not torch.allclose(one[1], both[1], atol=1e-5)
    assert ddpm.prediction_of(net) == "v" and ddpm.schedule_of(net) == "cosine"


def test_they_learn(net):
    x = ToyFaces(8, seed=0).images()
    t, eps = torch.arange(8) * 120, torch.randn(
        8, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    diffusion = ddpm.diffusion_of(net)

    def loss():
        with evaluating(net):
            return float(ddpm.simple_loss(net, diffusion, x, t, eps))

    before = loss()
    for _ in ddpm.train_ddpm(net, [(x[:4],)] * 8, diffusion, steps=8, lr=2e-3):
        pass
    assert loss() < 0.97 * before


def test_each_is_there_at_two_rates_and_draws(monkeypatch):
    for module in MAKERS:
        peer(module)
    ours, *names = peers.installed()
    assert ours == peers.OURS and len(names) == 4
    assert all(name.endswith(("0.001", "0.0003")) for name in names)
    assert list(quality.everyone()) == [*FAMILIES, ours, *names]
    monkeypatch.setattr("minigen.paper.families.TRIAL", 2)
    monkeypatch.setattr("minigen.paper.families.FEW", 2)
    clock = Clock(4)
    drawn = peers.installed()[names[0]](ToyFaces(64, seed=0).images(), clock, 0)(2)
    assert drawn.shape == (2, 3, 32, 32) and drawn.abs().max() <= 1
    (steps, batch), = clock.steps.values()
    assert steps >= 2 and batch == 16


def test_what_is_not_installed_is_not_there(monkeypatch):
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: None)
    assert list(peers.installed()) == [peers.OURS]
    assert list(quality.everyone()) == [*FAMILIES, peers.OURS]


def test_our_own_beside_them_has_the_family_s_network_and_one_loss(monkeypatch):
    """Trained by `ddpm.train_ddpm` without a second loss; the network itself is returned."""
    told = []

    def train(model, data, diffusion, **options):
        told.append((model.net, options))
        return iter(())

    monkeypatch.setattr(peers.ddpm, "train_ddpm", train)
    clock = Clock(60)
    monkeypatch.setattr(clock, "train", lambda name, begin, batch, left: begin(9, batch)[0])
    peers.installed()[peers.OURS](ToyFaces(32, seed=0).images(), clock, 0)
    ((net, options),) = told
    assert isinstance(net, unet.UNet) and net.num_classes == 0
    assert net.config == unet.UNet(**unet.PRESETS["small"], prediction="v",
                                   schedule="cosine").config
    assert (options["lr"], options["steps"]) == (1e-3, 9) and "loss" not in options
