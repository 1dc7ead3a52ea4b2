import math

import pytest
import torch

from minigen.data import count_modes, ring_of_gaussians
from tests.conftest import defaults


def test_ring_and_its_modes():
    ring = ring_of_gaussians(4000, seed=1)
    modes, on = count_modes(ring)
    assert modes == 8 and on > 0.99
    centre_of_one = torch.tensor([2.0, 0.0])
    points = centre_of_one + 0.05 * torch.randn(500, 2)
    assert count_modes(points) == (1, pytest.approx(1, abs=0.01))
    assert count_modes(torch.zeros(10, 2)) == (0, 0)
    few = torch.cat([centre_of_one.repeat(995, 1), torch.tensor([[-2.0, 0.0]]).repeat(5, 1)])
    assert count_modes(few)[0] == 1  # half a per cent is not covered


def test_points_are_a_centre_and_a_little_noise():
    """The same draws by hand: which centre for each point, then its noise."""
    got, generator = (
        ring_of_gaussians(6, modes=5, radius=3.0, std=0.2, seed=4),
        torch.Generator().manual_seed(4),
    )
    which = torch.randint(5, (6,), generator=generator).tolist()
    noise = torch.randn(6, 2, generator=generator)
    centres = torch.tensor(
        [[3 * math.cos(2 * math.pi * k / 5), 3 * math.sin(2 * math.pi * k / 5)] for k in which]
    )
    torch.testing.assert_close(got, centres + 0.2 * noise)


def test_a_mode_needs_a_share_of_all_points_within_four_deviations():
    centre = torch.tensor([0.0, 2.0])
    near, far = centre + torch.tensor([0.0, 0.19]), centre + torch.tensor([0.0, 0.21])
    assert count_modes(torch.stack([near, far])) == (1, 0.5)
    points = torch.cat([near.repeat(1, 1), torch.zeros(99, 2)])
    assert count_modes(points) == (1, pytest.approx(0.01))  # a hundredth of all is enough
    assert count_modes(torch.cat([points, torch.zeros(1, 2)]))[0] == 0
    three = torch.tensor([[1.0, 0.0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)], [0.5, 0.0]])
    assert count_modes(three, modes=3, radius=1.0, std=0.1) == (3, 0.75)
    assert count_modes(three, modes=3, radius=1.0, std=0.1, least=0.3) == (0, 0.75)


def test_what_is_taken_unless_told():
    assert defaults(ring_of_gaussians) == dict(modes=8, radius=2.0, std=0.05, seed=0)
    assert defaults(count_modes) == dict(modes=8, radius=2.0, std=0.05, least=0.01)
