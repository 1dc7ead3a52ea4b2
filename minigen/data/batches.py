"""Endless shuffled batches of tensors held in memory."""

import torch


def batches(*tensors, batch_size=64, seed=0):
    """Yield tuples of rows forever, reshuffled each epoch from `seed`; the last short batch of an epoch is dropped.

    >>> x, y = next(batches(images, labels, batch_size=64))          # doctest: +SKIP
    """
    n = len(tensors[0])
    if any(len(t) != n for t in tensors):
        raise ValueError(f"tensors of unequal length: {[len(t) for t in tensors]}")
    if not 1 <= batch_size <= n:
        raise ValueError(f"batch_size must be 1 to {n}, the number of rows; got {batch_size}")
    generator = torch.Generator().manual_seed(seed)
    while True:
        for index in torch.randperm(n, generator=generator).split(batch_size):
            if len(index) == batch_size:
                yield tuple(t[index] for t in tensors)
