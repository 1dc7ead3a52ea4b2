"""Chapter 8: checkpoints that survive a crash. Written whole or not at all, checked by their digest, the last few kept.

A file is named step-00001200.1f4a9c02d37be865.pt: the step, and the first half of the SHA-256 of its bytes. It holds tensors,
numbers, text, lists and dictionaries only, and is read with `weights_only=True`, so that opening one runs no code.
"""

import errno
import hashlib
import io
import os
import re
from pathlib import Path

import torch

from minigen.errors import DataError
from minigen.files import replacing

NAME = re.compile(r"step-(\d{8})\.([0-9a-f]{16})\.pt")


def found(folder):
    """Checkpoints of a folder, oldest first: [(step, path)]."""
    return sorted((int(m[1]), path) for path in Path(folder).glob("step-*.pt") if (m := NAME.fullmatch(path.name)))


def save(folder, step, state, keep=3):
    """Write a state beside its temporary name, flush it to the disk, rename it; then delete all but the last `keep`.

    Returns: the path. Raises: DataError where the disk is full or not writable; what was there stays.
    """
    buffer = io.BytesIO()
    torch.save(dict(state, step=step), buffer)
    content = buffer.getvalue()
    for left in Path(folder).glob(".step-*"):             # what a killed run had begun to write
        left.unlink()
    path = Path(folder) / f"step-{step:08d}.{hashlib.sha256(content).hexdigest()[:16]}.pt"
    try:
        with replacing(path) as temporary, open(temporary, "wb") as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        _flush_folder(path.parent)
    except OSError as e:
        whole = found(folder)
        why = "the disk is full" if e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else e.strerror
        rest = f"The last whole checkpoint is {whole[-1][1].name}." if whole else "There is no earlier checkpoint."
        raise DataError(f"The checkpoint of step {step} could not be written to '{folder}': {why}. {rest} "
                        "Make room and go on with --resume.") from e
    for _, old in [c for c in found(folder) if c[1] != path][: -(keep - 1) or None]:
        old.unlink()
    return path


def _flush_folder(folder):
    """Make the new name itself survive a power cut, where the system can."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def load(path):
    """The state in a checkpoint. Raises: DataError for one that is torn, or not what `save` writes."""
    path = Path(path)
    content = path.read_bytes()
    name = NAME.fullmatch(path.name)
    if not name or not hashlib.sha256(content).hexdigest().startswith(name[2]):
        raise DataError(f"{path.name} is torn or was changed: its bytes do not have the digest in its name")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def latest(folder, kind, say=print):
    """The newest whole state of a `kind` in a folder, or None. What is refused is said by name, and the one before is tried."""
    for _, path in reversed(found(folder)):
        try:
            state = load(path)
            if state.get("kind") != kind:
                raise DataError(f"{path.name} belongs to '{state.get('kind')}', not to '{kind}'")
            return state
        except (DataError, OSError) as e:
            say(f"Refused: {e}. Trying the one before.")
    return None
