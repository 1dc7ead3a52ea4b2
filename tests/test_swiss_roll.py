import torch

from minigen.data import swiss_roll
from tests.conftest import defaults


def test_the_roll_is_a_spiral_of_the_radius_it_says():
    points = swiss_roll(2000, std=0.0)
    radius = points.norm(dim=1)
    assert points.shape == (2000, 2) and float(radius.min()) >= 0.3 - 1e-6
    assert float(radius.max()) <= 2.0 + 1e-6
    angle = torch.atan2(points[:, 1], points[:, 0])
    turned = 1.75 * radius / 2 - angle / (2 * torch.pi)
    torch.testing.assert_close(turned, turned.round(), rtol=0, atol=1e-4)


def test_the_roll_is_its_seed():
    assert torch.equal(swiss_roll(50, seed=3), swiss_roll(50, seed=3))
    assert not torch.equal(swiss_roll(50, seed=3), swiss_roll(50))


def test_points_by_hand():
    """The share of the way from a square root, so that each piece of the line gets as many
    points; then the noise."""
    got, generator = (
        swiss_roll(5, turns=2.5, radius=3.0, std=0.3, seed=4),
        torch.Generator().manual_seed(4),
    )
    share = 0.15 + 0.85 * torch.rand(5, generator=generator) ** 0.5
    noise = torch.randn(5, 2, generator=generator)
    angle = 5 * torch.pi * share
    line = 3 * torch.stack([share * torch.cos(angle), share * torch.sin(angle)], 1)
    torch.testing.assert_close(got, line + 0.3 * noise)
    assert defaults(swiss_roll) == dict(turns=1.75, radius=2.0, std=0.04, seed=0)
