import pytest
import torch

from minigen.data import count_modes, ring_of_gaussians


def test_ring_and_its_modes():
    ring = ring_of_gaussians(4000, seed=1)
    modes, on = count_modes(ring)
    assert modes == 8 and on > 0.99
    centre_of_one = torch.tensor([2.0, 0.0])
    assert count_modes(centre_of_one + 0.05 * torch.randn(500, 2)) == (1, pytest.approx(1, abs=0.01))
    assert count_modes(torch.zeros(10, 2)) == (0, 0)
    few = torch.cat([centre_of_one.repeat(995, 1), torch.tensor([[-2.0, 0.0]]).repeat(5, 1)])
    assert count_modes(few)[0] == 1                        # half a per cent is not covered
