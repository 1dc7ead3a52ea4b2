"""Chapter 8: one process or several.

torchrun starts them and says in the environment how many there are and which this is.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from minigen.errors import DataError

T = TypeVar("T")


def _from_environment(name: str, default: int) -> int:
    """A whole number from the environment, where torchrun puts it."""
    text = os.environ.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise DataError(f"{name} in the environment is {text!r}, not a whole number: torchrun sets "
                        "it; unset it.") from None


def world() -> int:
    """How many processes share the work; torchrun says so before they have joined.

    Raises: DataError for a number below 1.
    """
    if dist.is_available() and dist.is_initialized():
        return dist.get_world_size()
    if (n := _from_environment("WORLD_SIZE", 1)) < 1:
        raise DataError(f"WORLD_SIZE in the environment is {n}; it is at least 1. torchrun sets "
                        "it; unset it.")
    return n


def rank() -> int:
    """Which of the processes this is, from 0.

    Raises: DataError for a number that is none of theirs.
    """
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank()
    if not 0 <= (k := _from_environment("RANK", 0)) < world():
        raise DataError(f"RANK={k} in the environment is none of {world()} processes (WORLD_SIZE): "
                        "torchrun sets both; unset them.")
    return k


def pick_device(name: str = "") -> torch.device:
    """The named device, else this process's own GPU (torchrun tells which), else the CPU.

    Raises: DataError for a device that this computer does not have.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except (RuntimeError, TypeError):
        raise DataError(f"There is no device '{name}'; there are {_devices()}.") from None
    mps = int(torch.backends.mps.is_available())
    have = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": mps}
    if (device.index or 0) >= have.get(device.type, 0):
        raise DataError(f"This computer has no device '{name}'; it has {_devices()}.")
    if device.type == "cuda" and device.index is None and "LOCAL_RANK" in os.environ:
        device = torch.device("cuda", _from_environment("LOCAL_RANK", 0))
        torch.cuda.set_device(device)
    return device


def _devices() -> str:
    gpus = [f"cuda:{k}" for k in range(torch.cuda.device_count())]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return ", ".join(["cpu", *gpus, *mps])


@contextlib.contextmanager
def processes(device: torch.device) -> Iterator[None]:
    """Join the other processes where torchrun started some, and leave them in good order."""
    if world() == 1:
        yield
        return
    if missing := [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
        raise DataError(f"WORLD_SIZE is {world()}, but {missing[0]} is not set: start with "
                        "torchrun --nproc_per_node=N -m minigen …, or unset WORLD_SIZE and RANK.")
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
        dist.barrier()
    finally:
        dist.destroy_process_group()


def mine(batch: torch.Tensor) -> torch.Tensor:
    """This process's share of a batch (every world-size-th row)."""
    return batch[rank() :: world()]


def from_first(make: Callable[[], T]) -> T:
    """make(), done by the first process only, for all of them; so is its DataError."""
    if world() == 1:
        return make()
    outcome: list[Any] = [None, None]                     # what was made, and why not
    if rank() == 0:
        try:
            outcome[0] = make()
        except DataError as e:
            outcome[1] = str(e)
    dist.broadcast_object_list(outcome, 0)
    made, error = outcome
    if error is not None:
        raise DataError(error)
    return made


def wait_for_all() -> None:
    """Go on when every process has come here."""
    if world() > 1:
        dist.barrier()
