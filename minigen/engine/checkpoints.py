"""Chapter 8: checkpoints that survive a crash. Written whole or not at all, checked by their digest, the last few kept.

A file is named step-00001200.1f4a9c02d37be865.pt: the step, and the first half of the SHA-256 of its bytes. It holds tensors,
numbers, text, lists and dictionaries only, and is read with `weights_only=True`, so that opening one runs no code.
"""

import hashlib
import io
import os
import re
from pathlib import Path

import torch

from minigen import disk
from minigen.errors import DataError, first_line
from minigen.files import replacing

NAME = re.compile(r"step-(\d{8})\.([0-9a-f]{16})\.pt")


def found(folder):
    """Checkpoints of a folder, oldest first: [(step, path)]."""
    return sorted((int(m[1]), path) for path in Path(folder).glob("step-*.pt") if (m := NAME.fullmatch(path.name)))


def save(folder, step, state, keep=3):
    """Write a state beside its temporary name, flush it to the disk, rename it; then delete all but the last `keep`.

    Only checkpoints of the same run (state["run"]) are deleted. Returns: the path.
    Raises: DataError where the disk is full or not writable; what was there stays.
    """
    buffer = io.BytesIO()
    torch.save(dict(state, step=step), buffer)
    content = buffer.getvalue()
    disk.clear_leftovers(folder, "step-*.pt")             # what a killed run had begun to write
    path = Path(folder) / f"step-{step:08d}.{hashlib.sha256(content).hexdigest()[:16]}.pt"
    try:
        with replacing(path) as temporary, open(temporary, "wb") as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        _flush_folder(path.parent)
    except OSError as e:
        whole = found(folder)
        why = disk.REASONS.get(e.errno, e.strerror)
        rest = f"The last whole checkpoint is {whole[-1][1].name}." if whole else "There is no earlier checkpoint."
        raise DataError(f"The checkpoint of step {step} could not be written to '{folder}': {why}. {rest} "
                        "Make room and go on with --resume.") from e
    for _, old in [c for c in found(folder) if c[1] != path and c[0] <= step][: -(keep - 1) or None]:
        if _run_of(old) == state.get("run"):
            old.unlink()
    return path


def _run_of(path):
    """The run a checkpoint belongs to, read without its tensors; what cannot be read belongs to none."""
    try:
        return torch.load(path, map_location="cpu", mmap=True, weights_only=True).get("run")
    except Exception:  # torn or foreign: torch raises what it likes
        return "unreadable"


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
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as e:  # whole bytes of something else: torch raises what it likes
        raise DataError(f"{path.name} is no checkpoint ({type(e).__name__}: {first_line(e)})") from None
    if not isinstance(state, dict) or not isinstance(state.get("step"), int) or state["step"] != int(name[1]):
        raise DataError(f"{path.name} holds no state of step {int(name[1])}")
    return state


def states(folder, kind, say=print, run=None):
    """The whole states of a `kind` (and of a `run`) in a folder, newest first; what is refused is said by name."""
    for _, path in reversed(found(folder)):
        try:
            state = load(path)
            if state.get("kind") != kind:
                raise DataError(f"{path.name} belongs to '{state.get('kind')}', not to '{kind}'")
            if run is not None and state.get("run") != run:
                raise DataError(f"{path.name} belongs to another run: {_difference(state.get('run'), run)}")
            if not _finite(state):
                raise DataError(f"{path.name} holds NaN or infinity")
        except (DataError, OSError) as e:
            say(f"Refused: {e}. Trying the one before.")
        else:
            yield state


def latest(folder, kind, say=print, run=None):
    """The newest of `states`, or None."""
    return next(states(folder, kind, say, run), None)


def _finite(state):
    if isinstance(state, torch.Tensor):
        return not state.is_floating_point() or bool(torch.isfinite(state).all())
    inside = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return all(map(_finite, inside))


def _difference(theirs, ours):
    theirs = theirs if isinstance(theirs, dict) else {}
    k = sorted((k for k in theirs.keys() | ours.keys() if theirs.get(k) != ours.get(k)), key=str)[0]
    return f"its {k} is {theirs.get(k)!r}, here {ours.get(k)!r}"
