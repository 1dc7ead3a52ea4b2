import itertools

import pytest
import torch

from minigen.data import batches


def test_each_epoch_is_a_permutation_in_step_across_tensors():
    x = torch.arange(12)
    epoch = list(itertools.islice(batches(x, x * 2, batch_size=4), 3))
    assert sorted(torch.cat([a for a, _ in epoch]).tolist()) == list(range(12))
    assert all(torch.equal(b, 2 * a) for a, b in epoch)


def test_seeded():
    x = torch.arange(50)
    first = [a for (a,) in itertools.islice(batches(x, batch_size=10, seed=1), 7)]
    again = [a for (a,) in itertools.islice(batches(x, batch_size=10, seed=1), 7)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize(("tensors", "size"),
                         [((torch.zeros(3), torch.zeros(4)), 2), ((torch.zeros(3),), 4), ((torch.zeros(3),), 0)])
def test_bad_input(tensors, size):
    with pytest.raises(ValueError):
        next(batches(*tensors, batch_size=size))
