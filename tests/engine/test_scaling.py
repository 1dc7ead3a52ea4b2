import pytest
import torch
from torch import nn

from minigen.engine import scaling
from minigen.engine.loop import step_if_finite
from minigen.engine.scaling import LossScale


def test_the_gradient_is_the_same_with_and_without():
    steps = []
    for enabled in (False, True):
        torch.manual_seed(0)
        layer = nn.Linear(3, 1)
        optimiser, scale = torch.optim.SGD(layer.parameters(), 0.1), LossScale(enabled)
        loss = layer(torch.ones(2, 3)).square().mean()
        assert float((scale(loss) / loss).detach()) == (2**16 if enabled else 1)
        scale(loss).backward()
        assert step_if_finite(optimiser, 100.0, loss_scale=scale)
        steps.append(layer.weight.detach().clone())
    torch.testing.assert_close(*steps)


def test_the_scale_falls_at_an_overflow_and_rises_after_many_good_steps(monkeypatch):
    monkeypatch.setattr(scaling, "EVERY", 3)
    layer = nn.Linear(2, 1)
    before = layer.weight.detach().clone()
    optimiser, scale = torch.optim.SGD(layer.parameters(), 0.1), LossScale(True)
    scale(layer(torch.full((1, 2), 1e38)).mean() * 1e38).backward()
    assert not step_if_finite(optimiser, loss_scale=scale)
    assert scale.value == 2**15 and torch.equal(layer.weight, before)
    for k in range(3):
        assert scale.value == 2**15, k
        scale(layer(torch.ones(1, 2)).mean()).backward()
        assert step_if_finite(optimiser, loss_scale=scale)
        optimiser.zero_grad()
    assert scale.value == 2**16 and scale.good == 0


def test_it_stays_within_bounds():
    scale = LossScale(True)
    for _ in range(40):
        scale.update(False)
    assert scale.value == 1
    scale.value, scale.good = scaling.MOST, scaling.EVERY - 1
    scale.update(True)
    assert scale.value == scaling.MOST


def test_without_it_nothing_is_scaled_and_a_state_goes_on():
    scale, other = LossScale(False), LossScale(True)
    scale.update(False)
    assert scale.value == 1 and scale.state() == dict(value=1.0, good=0)
    other.load(dict(value=8.0, good=5))
    assert other.state() == dict(value=8.0, good=5)
    assert float(other(torch.tensor(0.5))) == pytest.approx(4)
