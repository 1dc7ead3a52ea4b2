"""What several lessons share; each docstring names the chapter that introduces it.

Seeds and modes, what every training loop does, and the pieces that networks of more than one
chapter are built of.
"""

import contextlib
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset

from minigen.inputs import (
    described,
    in_range,
    is_whole,
    labels,
    number,
    refuse,
    tensor,
    times,
    whole,
    wholes,
)

Batches = Iterable[Sequence[Tensor]]  # what every trainer takes: tuples (x,) or (x, y)
Model = TypeVar("Model")

TO_BATCHES = "minigen.data.batches(x) or batches(x, y) makes them of tensors"


def generator(seed: int) -> torch.Generator:
    """torch's generator of random numbers, begun with `seed`. Introduced in chapter 0."""
    if not is_whole(seed) or not -(2**63) <= seed < 2**63:
        refuse("seed", "a whole number", described(seed))
    return torch.Generator().manual_seed(int(seed))


def as_tensor(x: Any, name: str, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor, or a list of numbers, as a tensor. Introduced in chapter 0.

    Raises: ValueError for anything else.
    """
    try:
        return torch.as_tensor(x, dtype=dtype)
    except (TypeError, ValueError, RuntimeError):
        refuse(name, "a tensor or a list of numbers", described(x))


def filled(x: Tensor, name: str) -> Tensor:
    """A tensor with at least one value: the mean of none is NaN. Introduced in chapter 1."""
    if not x.numel():
        refuse(name, "of at least one value", f"the empty shape {tuple(x.shape)}")
    return x


def several(values: Sequence[int], name: str) -> tuple[int, ...]:
    """A list of at least one whole number as a tuple. Introduced in chapter 4.

    Raises: ValueError for anything else.
    """
    listed = isinstance(values, list | tuple) and len(values) > 0
    if not listed or not all(is_whole(v) and v > 0 for v in values):
        refuse(name, "a list of whole numbers from 1 up, such as (1, 2, 4)", described(values))
    return tuple(values)


@contextlib.contextmanager
def evaluating(model: Model) -> Iterator[Model]:
    """The model in eval mode and without gradients in the block, and as it was afterwards.

    Each part gets its own mode back, whatever happened: a frozen norm stays frozen. A plain
    function, which has no mode, is left as it is. Introduced in chapter 1.
    """
    modes = [(m, m.training) for m in model.modules()] if isinstance(model, nn.Module) else []
    try:
        with torch.no_grad():
            if isinstance(model, nn.Module):
                model.eval()
            yield model
    finally:
        for module, mode in modes:
            module.training = mode


def _batches(data: Batches, n: int | None) -> Iterator[Sequence[Tensor]]:
    """At most n batches of the data, each seen to be one."""
    single = isinstance(data, Dataset) and not isinstance(data, IterableDataset)
    if single or isinstance(data, Tensor | str | dict) or not hasattr(data, "__iter__"):
        refuse("data", "an iterable of batches, tuples (x,) or (x, y)", described(data), TO_BATCHES)
    for batch in itertools.islice(data, n):
        parts = batch if isinstance(batch, list | tuple) else ()
        if not parts or not all(isinstance(part, Tensor) for part in parts):
            refuse("a batch", "a tuple of tensors, (x,) or (x, y)", described(batch), TO_BATCHES)
        yield batch


def counted(
    data: Batches, steps: int | None, used: int = 0
) -> Iterator[tuple[int, Sequence[Tensor]]]:
    """Yields (step, batch) for step 1 … `steps`; steps=None goes to the data's end.

    A batch is a tuple of tensors, (x,) or (x, y). A list or DataLoader begins anew, an iterator
    goes on. used: how many batches `taken` took before. Introduced in chapter 1.
    Raises: ValueError where the data ends before `steps`, or does not consist of batches.
    """
    if steps is not None:
        whole(steps, "steps")
    step = 0
    for step, batch in enumerate(_batches(data, steps), start=1):
        yield step, batch
    if steps is not None and step < steps:
        gone = used if hasattr(data, "__next__") else 0
        before = f" ({gone} went before into the codebook)" if gone else ""
        raise ValueError(f"the data ended after {step} batches{before}, so training ended after "
                         f"{step} of {steps} steps; minigen.data.batches goes on for ever")


def taken(data: Batches, n: int) -> list[Tensor]:
    """The x of the first n batches, or of all there are. Introduced in chapter 3.

    Raises: ValueError where there is none.
    """
    found = [batch[0] for batch in _batches(data, whole(n, "init_batches"))]
    if not found:
        raise ValueError("the data ended after 0 batches: there is none to start the codebook from")
    return found


def start_codebook(model: Any, data: Batches, n: int) -> int:
    """Begin a codebook from the k-means centres of the first n batches; 0 leaves it random.

    model: a `minigen.vqvae.Tokenizer`. Introduced in chapter 3.
    Returns: how many batches there were.
    """
    first = taken(data, n) if n else []
    device = next(model.parameters()).device
    if first:
        with torch.no_grad():
            z = torch.cat([model.encode(x.to(device)) for x in first])
        model.quantizer.init_codebook(z)
    return len(first)


def perplexity(indices: Tensor, num_codes: int) -> float:
    """exp of the entropy of code usage: how many codes are used, in effect. From 1 to num_codes.

    Introduced in chapter 3. Shapes: any → a float.
    """
    filled(tensor(indices, "indices", integers=True), "indices")
    in_range(indices, 0, whole(num_codes, "num_codes") - 1, "indices")
    p = torch.bincount(indices.flatten(), minlength=num_codes).double() / indices.numel()
    return float(torch.exp(-torch.xlogy(p, p).sum()))


def one_cycle(
    optimiser: torch.optim.Optimizer, lr: float, steps: int
) -> torch.optim.lr_scheduler.OneCycleLR:
    """The learning rate's one cycle: up to `lr` in a tenth of the steps, then down; no beta moves.

    Introduced in chapter 2.
    Raises: ValueError for an lr below 0 or not finite, and steps that are no whole number.
    """
    number(lr, "lr", 0)
    total = whole(steps, "steps") + 1
    return torch.optim.lr_scheduler.OneCycleLR(
        optimiser, lr, total_steps=total, pct_start=0.1, cycle_momentum=False)


def stages_of(size: int) -> int:
    """How often a size is halved down to 4. Introduced in chapter 1.

    Raises: ValueError for one that is not 4·2^k.
    """
    stages = int(size).bit_length() - 3 if is_whole(size) and size >= 8 else 0
    if stages < 1 or size != 4 * 2**stages:
        raise ValueError(f"size must be 8, 16, 32, 64, …; got {described(size)}")
    return stages


def with_label(x: Tensor, y: Tensor | None, num_classes: int) -> Tensor:
    """x with the one-hot label as further channels, which in an image are constant maps.

    x itself if num_classes is 0. Introduced in chapter 1.
    Shapes: x (B, C, …), y (B,) integers → (B, C + num_classes, …).
    Raises: ValueError for other y.
    """
    tensor(x, "x", ("B", "C", ...))
    wholes(0, num_classes=num_classes)
    if not num_classes:
        if y is not None:
            raise ValueError("this network is not conditional: it takes no labels y")
        return x
    if y is None:
        raise ValueError("this network is conditional: pass labels y, "
                         f"(B,) integers from 0 to {num_classes - 1}")
    one_hot = F.one_hot(labels(y, len(x), num_classes), num_classes).to(x.dtype)
    if x.ndim == 4:
        one_hot = one_hot[:, :, None, None].expand(-1, -1, *x.shape[2:])
    return torch.cat([x, one_hot], dim=1)


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation in 32 groups, or in groups of four channels where there are under 128.

    Introduced in chapter 4.
    Raises: ValueError for channels that do not split into them.
    """
    groups = min(32, channels // 4) if is_whole(channels) else 0
    if groups < 1 or channels % groups:
        wanted = "a multiple of 4 for group normalisation, and of 32 from 128 on"
        refuse("width (or the channels it makes)", wanted, described(channels))
    return nn.GroupNorm(groups, channels, eps=1e-6)


class Attention(nn.Module):
    """h + Conv1×1(W V) with W = softmax(Q Kᵀ / √C): every place looks at every other.

    Q, K, V are 1×1 convolutions of the group-normalised map. `weights(h)` gives W for pictures.
    Introduced in chapter 4.
    Shapes: (B, C, H, W) → the same; weights (B, heads, H·W, H·W), rows sum to 1.
    Source: Liu, Chen, Gao 2026, Eqs. 8 to 10.
    """

    def __init__(self, channels: int, num_heads: int = 1):
        super().__init__()
        if whole(channels, "channels") % whole(num_heads, "num_heads"):
            raise ValueError(f"num_heads must divide the {channels} channels; got {num_heads}")
        self.num_heads = num_heads
        self.norm = group_norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def _qkv(self, h: Tensor) -> tuple[Tensor, ...]:
        """Q, K and V."""
        tensor(h, "h", ("B", self.qkv.in_channels, "H", "W"), like=self.qkv.weight)
        heads, places = self.num_heads, h.shape[2] * h.shape[3]
        split = (len(h), 3, heads, h.shape[1] // heads, places)
        qkv = self.qkv(self.norm(h)).view(split)         # (B, 3, heads, C / heads, H·W)
        return qkv.transpose(-1, -2).unbind(1)           # three of (B, heads, H·W, C / heads)

    def forward(self, h: Tensor) -> Tensor:
        q, k, v = self._qkv(h)
        mixed = F.scaled_dot_product_attention(q, k, v)  # (B, heads, H·W, C / heads)
        return h + self.out(mixed.transpose(-1, -2).reshape(h.shape))

    def weights(self, h: Tensor) -> Tensor:
        """W, which `forward` does not keep."""
        q, k, _ = self._qkv(h)
        return (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)


def time_features(
    t: Tensor, dim: int, longest: float = 10_000, count: int | None = None
) -> Tensor:
    """Sines and cosines of t, from one radian a step down to (nearly) one in `longest` steps.

    [cos(t ω_k), sin(t ω_k)] with ω_k = longest^(−k / (dim / 2)), k = 0 … dim / 2 − 1. Computed in
    float32. count: of the images t belongs to. Introduced in chapter 5.
    Shapes: t (B,) integers → (B, dim), dim even.
    Raises: ValueError for a t neither (count,) nor (1,), or outside 0 … 9,999.
    Source: Vaswani et al. 2017, §3.5; order and ω_k as in DiT.
    """
    if not is_whole(dim) or dim < 2 or dim % 2:
        refuse("dim", "even, half of it sines, and at least 2", described(dim))
    times(t, count)
    steps_down = torch.arange(dim // 2, device=t.device)
    frequencies = torch.exp(steps_down * (-math.log(longest) / (dim // 2)))
    angles = t.float()[:, None] * frequencies            # (B, dim / 2)
    return torch.cat([angles.cos(), angles.sin()], 1)


def class_rows(
    y: Tensor | None, num_classes: int, t: Tensor, count: int | None = None
) -> Tensor | None:
    """Rows of a label table: y (B,), or the null label where y is None; None without classes.

    t: the time steps beside it, from which the number of images is read where count is not given.
    Introduced in chapter 5.
    Raises: ValueError for labels that do not belong to the images, or to this network.
    """
    if y is None:
        return torch.full((1,), num_classes, device=t.device) if num_classes else None
    if not num_classes:
        raise ValueError("this network was built without classes: it takes no labels y")
    if count is None:
        count = len(t) if len(t) > 1 or not isinstance(y, Tensor) else y.numel()
    return labels(y, count, num_classes, null=True)
