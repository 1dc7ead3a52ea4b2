"""Endless shuffled batches of tensors held in memory."""

import torch

from minigen.common import generator as seeded
from minigen.inputs import told, whole


def batches(*tensors, batch_size=64, seed=0):
    """Yield tuples of rows forever, reshuffled each epoch from `seed`; the last short batch of an epoch is dropped.

    >>> x, y = next(batches(images, labels, batch_size=64))          # doctest: +SKIP
    """
    if not tensors or not all(isinstance(t, torch.Tensor) and t.ndim for t in tensors):
        got = ", ".join(map(told, tensors)) or "none"
        wanted = "tensors with a row for each example, as faces.images()"
        raise ValueError(f"batches takes {wanted}; got {got}")
    n = len(tensors[0])
    if any(len(t) != n for t in tensors):
        raise ValueError(f"tensors of unequal length: {[len(t) for t in tensors]}")
    batch_size = whole(batch_size, "batch_size", 1, n)
    generator = seeded(seed)
    while True:
        for index in torch.randperm(n, generator=generator).split(batch_size):
            if len(index) == batch_size:
                yield tuple(t[index] for t in tensors)
