import itertools

import pytest
import torch

from minigen.data import batches
from tests.conftest import defaults


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


THREE, FOUR = torch.zeros(3), torch.zeros(4)


@pytest.mark.parametrize(("tensors", "size"), [((THREE, FOUR), 2), ((THREE,), 4), ((THREE,), 0)])
def test_bad_input(tensors, size):
    with pytest.raises(ValueError):
        next(batches(*tensors, batch_size=size))


def test_epochs_follow_the_seeds_permutations_and_drop_what_is_short():
    x = torch.arange(11)
    generator = torch.Generator().manual_seed(3)
    got = [a for (a,) in itertools.islice(batches(x, batch_size=4, seed=3), 4)]
    for epoch in (got[:2], got[2:]):
        order = torch.randperm(11, generator=generator)
        assert torch.equal(torch.cat(epoch), order[:8])
    assert [len(a) for a in got] == [4] * 4 and defaults(batches) == dict(batch_size=64, seed=0)
    assert next(batches(x, batch_size=11))[0].sort().values.tolist() == list(range(11))
