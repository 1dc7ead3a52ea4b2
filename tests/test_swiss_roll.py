import torch

from minigen.data import swiss_roll


def test_the_roll_is_a_spiral_of_the_radius_it_says():
    points = swiss_roll(2000, std=0.0)
    radius = points.norm(dim=1)
    assert points.shape == (2000, 2) and float(radius.min()) >= 0.3 - 1e-6 and float(radius.max()) <= 2.0 + 1e-6
    angle = torch.atan2(points[:, 1], points[:, 0])
    turned = 1.75 * radius / 2 - angle / (2 * torch.pi)
    torch.testing.assert_close(turned, turned.round(), rtol=0, atol=1e-4)


def test_the_roll_is_its_seed():
    assert torch.equal(swiss_roll(50, seed=3), swiss_roll(50, seed=3)) and not torch.equal(swiss_roll(50, seed=3), swiss_roll(50))
