"""Which scale the notebooks run at, on which device, and what this computer has, in plain words."""

import os
import platform
import shutil
import sys

from minigen import room
from minigen.errors import say


def scale():
    """"small" (a laptop, minutes; the default) or "full" (the paper's sizes, a GPU), from MINIGEN_SCALE.

    Raises: ValueError for any other value.
    """
    value = os.environ.get("MINIGEN_SCALE", "small")
    if value not in ("small", "full"):
        raise ValueError(f"MINIGEN_SCALE must be 'small' or 'full'; it is '{value}'")
    return value


def device():
    """The GPU at full scale where there is one, else the CPU. Small scale stays on the CPU, so all see one result."""
    import torch  # here, not above: `python -m minigen --help` need not wait for it

    return torch.device("cuda" if scale() == "full" and torch.cuda.is_available() else "cpu")


def cores():
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def setup():
    """What a chapter begins with: the scale, the device, and one processor core left to everything else.

    Two threads on two cores wait for each other at every small operation; while a browser or a call holds one of the
    cores, they make a chapter many times slower. So PyTorch gets max(1, cores - 1) threads, or fewer where it had fewer.
    A number of your own is respected: OMP_NUM_THREADS or MKL_NUM_THREADS set beforehand, or torch.set_num_threads after.

    Returns: (scale, device), as `scale()` and `device()` give them. Raises: ValueError for another scale.
    """
    import torch

    if not (os.environ.get("OMP_NUM_THREADS") or os.environ.get("MKL_NUM_THREADS")):
        torch.set_num_threads(min(torch.get_num_threads(), max(1, cores() - 1)))
    return scale(), device()


def environment():
    """What this computer offers the course, and what to do about what it lacks. Prints a few sentences."""
    import importlib.metadata

    import torch

    ok = (3, 10) <= sys.version_info[:2] <= (3, 13)
    say(f"Python {platform.python_version()}: "
        + ("good." if ok else "the course is tested with 3.10 to 3.13; install one of those."))
    say(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads on {cores()} processor cores.")
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        say(f"GPU: {gpu.name}, {gpu.total_memory / 2**30:.0f} GB. MINIGEN_SCALE=full would use it.")
    else:
        say("No CUDA GPU found. That is fine: only the full scale needs one.")
    memory, disk = room.memory(), shutil.disk_usage(".").free / 2**30
    if memory:
        memory /= 2**30
        say(f"Memory: {memory:.0f} GB" + (", enough." if memory > 3.5 else "; close other programs: 4 GB is wanted."))
    say(f"Free disk here: {disk:.0f} GB.")
    for name in ("numpy", "matplotlib", "ipywidgets", "safetensors", "pyarrow"):
        try:
            say(f"  {name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            say(f"  {name} is missing: pip install {name}")
    say(f"Scale: {scale()}, computing on {device()}.")
