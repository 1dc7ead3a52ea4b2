"""Which scale the notebooks run at, on which device, and what this computer has, in plain words."""

import os
import platform
import shutil
import sys
from typing import TYPE_CHECKING

from minigen import room
from minigen.errors import say
from minigen.names import how_many

if TYPE_CHECKING:
    import torch


def scale() -> str:
    """The scale, from MINIGEN_SCALE.

    Returns: "small" (a laptop, minutes; the default) or "full" (the paper's sizes, a GPU).
    Raises: ValueError for any other value.
    """
    value = os.environ.get("MINIGEN_SCALE", "small")
    if value not in ("small", "full"):
        raise ValueError(f"MINIGEN_SCALE must be 'small' or 'full'; it is '{value}'")
    return value


def device() -> "torch.device":
    """The GPU at full scale where there is one, else the CPU.

    Small scale stays on the CPU, so all see one result.
    """
    import torch  # here, not above: `python -m minigen --help` need not wait for it

    gpu = scale() == "full" and torch.cuda.is_available()
    return torch.device("cuda" if gpu else "cpu")


def cores() -> int:
    """How many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def setup() -> "tuple[str, torch.device]":
    """What a chapter begins with: the scale, the device, and one core left to everything else.

    Two threads on two cores wait for each other at every small operation; while a browser or a call
    holds one of the cores, they make a chapter many times slower. So PyTorch gets
    max(1, cores - 1) threads, or fewer where it had fewer. A number of your own is respected:
    OMP_NUM_THREADS or MKL_NUM_THREADS set beforehand, or torch.set_num_threads after.

    Returns: (scale, device), as `scale()` and `device()` give them.
    Raises: ValueError for another scale.
    """
    import torch

    if not (os.environ.get("OMP_NUM_THREADS") or os.environ.get("MKL_NUM_THREADS")):
        torch.set_num_threads(min(torch.get_num_threads(), max(1, cores() - 1)))
    return scale(), device()


def environment() -> None:
    """Print what this computer offers the course, and what to do about what it lacks."""
    import importlib.metadata

    import torch

    tested = (3, 10) <= sys.version_info[:2] <= (3, 13)
    advice = "the course is tested with 3.10 to 3.13; install one of those."
    say(f"Python {platform.python_version()}: {'good.' if tested else advice}")
    threads = torch.get_num_threads()
    say(f"PyTorch {torch.__version__}, {how_many(threads, 'thread')} on "
        f"{how_many(cores(), 'processor core')}.")
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        size = gpu.total_memory / 2**30
        say(f"GPU: {gpu.name}, {size:.0f} GB. MINIGEN_SCALE=full would use it.")
    else:
        say("No CUDA GPU found. That is fine: only the full scale needs one.")
    if memory := room.memory():
        size = memory / 2**30
        advice = ", enough." if size > 3.5 else "; close other programs: 4 GB is wanted."
        say(f"Memory: {size:.0f} GB{advice}")
    say(f"Free disk here: {shutil.disk_usage('.').free / 2**30:.0f} GB.")
    for name in ("numpy", "matplotlib", "ipywidgets", "safetensors", "pyarrow"):
        try:
            say(f"  {name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            say(f"  {name} is missing: pip install {name}")
    say(f"Scale: {scale()}, computing on {device()}.")
