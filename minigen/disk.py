"""Files shared with other processes, killed ones too: locks, leftovers, errors in a sentence."""

import contextlib
import errno
import glob
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from minigen.errors import DataError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

REMOVES_OPEN_FILES = os.name == "posix"  # Windows does not
MARK = ".minigen-"  # in the names of what is written beside its target, and of nobody else's
REASONS: dict[int | None, str] = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "your share of the disk is full",
    errno.EFBIG: "the disk is full, or takes no file so large",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the disk cannot be written to",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EEXIST: "something else has this name",
    errno.ENOTDIR: "a file stands where a folder is needed",
    errno.EISDIR: "a folder stands where a file is needed",
    errno.ENOENT: "it is not there",
}
MAKE_ROOM = "make room, or choose another place"
WAYS_OUT: dict[int | None, str] = {
    errno.EACCES: "allow it, or choose another place",
    errno.EPERM: "allow it, or choose another place",
    errno.ENAMETOOLONG: "choose a shorter one",
    errno.ENOENT: "see how it is spelled",
    errno.ENOSPC: MAKE_ROOM,
    errno.EDQUOT: MAKE_ROOM,
    errno.EFBIG: MAKE_ROOM,
}


def sentence_of(error: OSError, what: str | None = None, way_out: str | None = None) -> str:
    """An OSError as one sentence: what could not be done with which file, why, and the way out."""
    file = f"'{error.filename}'" if error.filename else "A file"
    reason = REASONS.get(error.errno) or error.strerror or str(error) or type(error).__name__
    way_out = way_out or WAYS_OUT.get(error.errno, "choose another place")
    return f"{what or f'{file} could not be used'}: {reason}; {way_out}."


def lock(handle: int | IO) -> bool:
    """Take an open file for this process, until it is closed or the process ends.

    Returns: whether nobody else has it; where the system has no locks (some network disks) every
    file is free.
    """
    try:
        if sys.platform == "win32":
            number = handle if isinstance(handle, int) else handle.fileno()
            msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        return e.errno not in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)
    return True


@contextlib.contextmanager
def held(path: str | Path, sentence: str | None = None, remove: bool = False) -> Iterator[None]:
    """Hold the lock file `path` inside the block; then remove it, if asked.

    Raises: DataError with this sentence where another process holds it.
    """
    path = Path(path)
    file = _locked(path, sentence)
    try:
        yield
    finally:
        if remove and REMOVES_OPEN_FILES:
            path.unlink(missing_ok=True)
        file.close()
        if remove and not REMOVES_OPEN_FILES:
            with contextlib.suppress(OSError):    # another process has it open by now
                path.unlink()


def _locked(path: Path, sentence: str | None) -> IO:
    """The lock file, opened and held; again where its last holder has removed it meanwhile.

    Not for ever, since on some network disks a file has no lasting number to know it by.
    """
    tries = 5
    while True:
        file = open(path, "a", encoding="utf-8")  # noqa: SIM115
        try:
            if not lock(file):
                raise DataError(sentence or f"Another process is using '{path}'.")
            tries -= 1
            if _is_at(path, file) or not tries:
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _is_at(path: Path, file: IO) -> bool:
    """Whether this open file still is the one of this name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def is_free(path: str | Path) -> bool:
    """Whether no living process holds the lock file `path`."""
    try:
        with open(path, "a", encoding="utf-8") as f:
            return lock(f)
    except OSError:
        return False


def clear_leftovers(folder: str | Path, pattern: str) -> None:
    """Remove from `folder` what killed runs left beside a target like `pattern` (with * and ?).

    These temporary files are named .TARGET.minigen-xxxxxxxx and locked while somebody writes them
    (`minigen.files.replacing`).
    """
    name = f".{pattern}{MARK}{'[a-z0-9_]' * 8}"
    for left in glob.glob(os.path.join(glob.escape(str(folder)), name)):
        if os.path.isfile(left) and not os.path.islink(left) and is_free(left):
            Path(left).unlink(missing_ok=True)
