"""Chapter 8: whether memory and disk have room, asked before anything begins.

Bounds from below, never guesses.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minigen.errors import DataError

if TYPE_CHECKING:  # torch is imported where it is used: the command line need not wait for it
    from torch import Tensor, device


def memory(device: "device | None" = None) -> int | None:
    """Bytes of memory of this computer (or of a GPU), or None where it does not say."""
    if device is not None and device.type == "cuda":
        import torch

        return torch.cuda.get_device_properties(device).total_memory
    try:
        have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):  # Windows has no sysconf
        return None
    try:
        share = int(Path("/sys/fs/cgroup/memory.max").read_text())  # a container's
        return min(have, share)
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return have


def kept_for_backward(forward: Callable[..., Any], *inputs: "Tensor") -> int:
    """Bytes that `forward(*inputs)` keeps for its gradient, weights left out.

    A training step holds at least this much.

    forward: a function of tensors, or an nn.Module in eval mode.
    """
    import torch

    sizes = {}
    weights = {_place(p) for p in getattr(forward, "parameters", tuple)()}

    def note(x: "Tensor") -> "Tensor":
        if _place(x) not in weights:
            sizes[_place(x)] = x.untyped_storage().nbytes()
        return x

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        kept = forward(*inputs)  # held, so that no place is used twice
    del kept
    return sum(sizes.values())


def _place(x: "Tensor") -> int:
    """What tells one piece of memory from another; on the meta device too, which has no addresses.

    Views of one tensor have the same.
    """
    return x.untyped_storage()._cdata


def bytes_of(state: object) -> int:
    """Bytes of the tensors in a module, a dictionary or a list."""
    import torch

    if isinstance(state, torch.Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, torch.nn.Module):
        return bytes_of(list(state.parameters())) + bytes_of(list(state.buffers()))
    if isinstance(state, dict):
        return sum(map(bytes_of, state.values()))
    return sum(map(bytes_of, state)) if isinstance(state, list | tuple) else 0


def require_memory(
    batch: int, each: float, device: "device | None" = None, fixed: float = 0
) -> float:
    """Bytes for a batch of so many items of `each` bytes, and `fixed` ones for the networks.

    Raises: DataError where that is more than the memory.
    """
    need, have = batch * each + fixed, memory(device)
    if have and need > have:
        raise DataError(
            f"A step with {batch:,} images needs at least {need / 2**30:,.0f} GB, and there are "
            f"{have / 2**30:,.0f} GB of memory: choose a smaller --batch-size, or a larger "
            "--accumulate in stage 1."
        )
    return need


def require_disk(where: str | Path, need: float, what: str, way_out: str = "") -> None:
    """Raise DataError where the disk of `where` has less than `need` bytes free."""
    folder = Path(where).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if need > free:
        raise DataError(
            f"{what} need {need / 1e6:,.1f} MB, and the disk of '{where}' has "
            f"{free / 1e6:,.1f} MB free: make room, {way_out}or choose another --out."
        )
