"""Endless shuffled batches of tensors held in memory."""

from collections.abc import Iterator

import torch
from torch import Tensor

from minigen.common import generator as seeded
from minigen.inputs import described, whole


def batches(*tensors: Tensor, batch_size: int = 64, seed: int = 0) -> Iterator[tuple[Tensor, ...]]:
    """Yield tuples of rows forever, reshuffled each epoch from `seed`.

    The last short batch of an epoch is dropped.

    >>> x, y = next(batches(images, labels, batch_size=64))          # doctest: +SKIP
    """
    if not tensors or not all(isinstance(t, torch.Tensor) and t.ndim for t in tensors):
        got = ", ".join(map(described, tensors)) or "none"
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
