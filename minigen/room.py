"""Chapter 8: whether memory and disk have room, asked before anything begins: a bound from below, never a guess."""

import os
import shutil
from pathlib import Path

from minigen.errors import DataError


def memory():
    """Bytes of memory that this computer has, or None where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):          # Windows has no sysconf
        return None


def require_memory(batch, numbers):
    """Raise DataError where a batch of so many items of so many float32 numbers alone is larger than the memory."""
    need, have = 4 * batch * numbers, memory()
    if have and need > have:
        raise DataError(f"A batch of {batch:,} needs {need / 2**30:,.0f} GB for its images alone, and this computer has "
                        f"{have / 2**30:,.0f} GB: choose a smaller --batch-size.")


def require_disk(where, need, what):
    """Raise DataError where the disk of `where` has less than `need` bytes free."""
    folder = Path(where).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if need > free:
        raise DataError(f"{what} need {need / 1e6:,.1f} MB, and the disk of '{where}' has {free / 1e6:,.1f} MB free: make room, "
                        "or choose another --out.")
