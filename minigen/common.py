"""What several lessons share: seeds, modes, a norm, and what every training loop does."""

import contextlib
import itertools

import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset

from minigen.inputs import is_whole, number, refuse, told, whole

TO_BATCHES = "minigen.data.batches(x) or batches(x, y) makes them of tensors"


def generator(seed):
    """torch's generator of random numbers, begun with `seed`."""
    if not is_whole(seed) or not -(2**63) <= seed < 2**63:
        refuse("seed", "a whole number", told(seed))
    return torch.Generator().manual_seed(int(seed))


def as_tensor(x, name, dtype=None):
    """A tensor, or a list of numbers, as a tensor. Raises: ValueError for anything else."""
    try:
        return torch.as_tensor(x, dtype=dtype)
    except (TypeError, ValueError, RuntimeError):
        refuse(name, "a tensor or a list of numbers", told(x))


def filled(x, name):
    """A tensor with at least one value: the mean of none is NaN."""
    if not x.numel():
        refuse(name, "of at least one value", f"the empty shape {tuple(x.shape)}")
    return x


def several(values, name):
    """A list of at least one whole number as a tuple. Raises: ValueError for anything else."""
    listed = isinstance(values, list | tuple) and len(values) > 0
    if not listed or not all(is_whole(v) and v > 0 for v in values):
        refuse(name, "a list of whole numbers from 1 up, such as (1, 2, 4)", told(values))
    return tuple(values)


@contextlib.contextmanager
def evaluating(model):
    """The model in eval mode and without gradients in the block, and as it was afterwards.

    Each part gets its own mode back, whatever happened: a frozen norm stays frozen. A plain
    function, which has no mode, is left as it is.
    """
    modes = [(m, m.training) for m in model.modules()] if isinstance(model, nn.Module) else []
    try:
        with torch.no_grad():
            yield model.eval() if modes else model
    finally:
        for module, mode in modes:
            module.training = mode


def group_norm(channels):
    """Group normalisation in 32 groups, or in groups of four channels where there are under 128.

    Raises: ValueError for channels that do not split into them.
    """
    groups = min(32, channels // 4) if is_whole(channels) else 0
    if groups < 1 or channels % groups:
        wanted = "a multiple of 4 for group normalisation, and of 32 from 128 on"
        refuse("width (or the channels it makes)", wanted, told(channels))
    return nn.GroupNorm(groups, channels, eps=1e-6)


def _batches(data, n):
    """At most n batches of the data, each seen to be one."""
    single = isinstance(data, Dataset) and not isinstance(data, IterableDataset)
    if single or isinstance(data, torch.Tensor | str | dict) or not hasattr(data, "__iter__"):
        refuse("data", "an iterable of batches, tuples (x,) or (x, y)", told(data), TO_BATCHES)
    for batch in itertools.islice(data, n):
        parts = batch if isinstance(batch, list | tuple) else ()
        if not parts or not all(isinstance(part, torch.Tensor) for part in parts):
            refuse("a batch", "a tuple of tensors, (x,) or (x, y)", told(batch), TO_BATCHES)
        yield batch


def counted(data, steps, used=0):
    """Yields (step, batch) for step 1 … `steps`; steps=None goes to the data's end.

    A batch is a tuple of tensors, (x,) or (x, y). A list or DataLoader begins anew, an iterator
    goes on. used: how many batches `taken` took before.
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


def taken(data, n):
    """The x of the first n batches, or of all there are. Raises: ValueError where there is none."""
    found = [batch[0] for batch in _batches(data, whole(n, "init_batches"))]
    if not found:
        raise ValueError("the data ended after 0 batches: there is none to start the codebook from")
    return found


def one_cycle(optimiser, lr, steps):
    """The learning rate's one cycle: up to `lr` in a tenth of the steps, then down; no beta moves.

    Raises: ValueError for an lr below 0 or not finite, and steps that are no whole number.
    """
    number(lr, "lr", 0)
    total = whole(steps, "steps") + 1
    return torch.optim.lr_scheduler.OneCycleLR(
        optimiser, lr, total_steps=total, pct_start=0.1, cycle_momentum=False)
