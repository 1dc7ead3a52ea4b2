"""Chapter 8: checkpoints that survive a crash: whole or not at all, the last few kept.

A file is named step-00001200.1f4a9c02d37be865.pt: the step, and the first half of the SHA-256 of
its bytes, by which it is checked. It holds tensors, numbers, text, lists and dictionaries only,
and is read with `weights_only=True`, so that opening one runs no code.
"""

import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from minigen import disk
from minigen.errors import DataError, first_line
from minigen.files import replacing

NAME = re.compile(r"step-(\d{8})\.([0-9a-f]{16})\.pt")


def found(folder: Path | str) -> list[tuple[int, Path]]:
    """Checkpoints of a folder, oldest first: [(step, path)]."""
    named = ((NAME.fullmatch(path.name), path) for path in Path(folder).glob("step-*.pt"))
    return sorted((int(match[1]), path) for match, path in named if match)


def save(folder: Path | str, step: int, state: dict[str, Any], keep: int = 3) -> Path:
    """Write a state under a temporary name, flush it to the disk, rename it.

    Then all but the last `keep` of the same run (state["run"]) are deleted. Returns: the path.
    Raises: DataError where the disk is full or not writable; what was there stays.
    """
    buffer = io.BytesIO()
    torch.save(dict(state, step=step), buffer)
    content = buffer.getvalue()
    disk.clear_leftovers(folder, "step-*.pt")             # what a killed run had begun to write
    digest = hashlib.sha256(content).hexdigest()
    path = Path(folder) / f"step-{step:08d}.{digest[:16]}.pt"
    try:
        with replacing(path) as temporary, open(temporary, "wb") as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        _flush_folder(path.parent)
    except OSError as e:
        whole = found(folder)
        why = (disk.REASONS.get(e.errno) if e.errno else None) or e.strerror
        rest = (f"The last whole checkpoint is {whole[-1][1].name}." if whole
                else "There is no earlier checkpoint.")
        raise DataError(f"The checkpoint of step {step} could not be written to '{folder}': {why}. "
                        f"{rest} Make room and go on with --resume.") from e
    earlier = [old for s, old in found(folder) if old != path and s <= step]
    for old in earlier[: -(keep - 1) or None]:
        if _run_of(old) == state.get("run"):
            old.unlink()
    return path


def _run_of(path: Path) -> Any:
    """The run a checkpoint belongs to, read without its tensors.

    What cannot be read belongs to none.
    """
    try:
        return torch.load(path, map_location="cpu", mmap=True, weights_only=True).get("run")
    except Exception:  # torn or foreign: torch raises what it likes
        return "unreadable"


def _flush_folder(folder: Path) -> None:
    """Make the new name itself survive a power cut, where the system can."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def load(path: Path | str) -> dict[str, Any]:
    """The state in a checkpoint.

    Raises: DataError for one that is torn, or not what `save` writes.
    """
    path = Path(path)
    content = path.read_bytes()
    name = NAME.fullmatch(path.name)
    if not name or not hashlib.sha256(content).hexdigest().startswith(name[2]):
        raise DataError(f"{path.name} is torn or was changed: its bytes do not have the digest in "
                        "its name")
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as e:  # whole bytes of something else: torch raises what it likes
        raise DataError(f"{path.name} is no checkpoint ({type(e).__name__}: "
                        f"{first_line(e)})") from None
    step = state.get("step") if isinstance(state, dict) else None
    if not isinstance(step, int) or step != int(name[1]):
        raise DataError(f"{path.name} holds no state of step {int(name[1])}")
    return state


def states(
    folder: Path | str, kind: str, say: Callable[[str], Any] = print,
    run: dict[str, Any] | None = None,
) -> Iterator[dict[str, Any]]:
    """The whole states of a `kind` (and of a `run`) in a folder, newest first.

    What is refused is said by name.
    """
    for _, path in reversed(found(folder)):
        try:
            state = load(path)
            if state.get("kind") != kind:
                raise DataError(f"{path.name} belongs to '{state.get('kind')}', not to '{kind}'")
            if run is not None and state.get("run") != run:
                raise DataError(f"{path.name} belongs to another run: "
                                f"{_difference(state.get('run'), run)}")
            if not _finite(state):
                raise DataError(f"{path.name} holds NaN or infinity")
        except (DataError, OSError) as e:
            say(f"Refused: {e}. Trying the one before.")
        else:
            yield state


def latest(
    folder: Path | str, kind: str, say: Callable[[str], Any] = print,
    run: dict[str, Any] | None = None,
) -> dict[str, Any] | None:
    """The newest of `states`, or None."""
    return next(states(folder, kind, say, run), None)


def _finite(state: object) -> bool:
    if isinstance(state, torch.Tensor):
        return not state.is_floating_point() or bool(torch.isfinite(state).all())
    if isinstance(state, dict):
        return all(map(_finite, state.values()))
    return all(map(_finite, state)) if isinstance(state, list | tuple) else True


def _difference(theirs: Any, ours: dict[str, Any]) -> str:
    theirs = theirs if isinstance(theirs, dict) else {}
    k = min((k for k in theirs.keys() | ours.keys() if theirs.get(k) != ours.get(k)), key=str)
    return f"its {k} is {theirs.get(k)!r}, here {ours.get(k)!r}"
