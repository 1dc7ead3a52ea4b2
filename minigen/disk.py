"""Files that are shared with other processes, killed ones among them: locks, leftovers, and errors told in one sentence."""

import contextlib
import errno
import glob
import os
from pathlib import Path

from minigen.errors import DataError

try:
    import fcntl
except ImportError:                               # Windows
    fcntl = None
    import msvcrt

MARK = ".minigen-"                                 # in the names of what is written beside its target, and of nobody else's

REASONS = {
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


WAYS_OUT = {
    errno.EACCES: "allow it, or choose another place",
    errno.EPERM: "allow it, or choose another place",
    errno.ENAMETOOLONG: "choose a shorter one",
    errno.ENOENT: "see how it is spelled",
} | {full: "make room, or choose another place" for full in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)}


def sentence_of(error, what=None, way_out=None):
    """An OSError as one sentence: what could not be done with which file, why, and the way out."""
    what = what or (f"'{error.filename}' could not be used" if error.filename else "A file could not be used")
    reason = REASONS.get(error.errno) or error.strerror or str(error) or type(error).__name__
    return f"{what}: {reason}; {way_out or WAYS_OUT.get(error.errno, 'choose another place')}."


def lock(handle):
    """Take an open file for this process, until it is closed or the process ends. Returns: whether nobody else has it.

    Where the system has no locks (some network disks) every file is free.
    """
    try:
        if fcntl:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            msvcrt.locking(handle if isinstance(handle, int) else handle.fileno(), msvcrt.LK_NBLCK, 1)
    except OSError as e:
        return e.errno not in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)
    return True


@contextlib.contextmanager
def held(path, told=None):
    """Hold the lock file `path` inside the block. Raises: DataError with the sentence `told` where another process does."""
    with open(path, "a", encoding="utf-8") as f:
        if not lock(f):
            raise DataError(told or f"Another process is using '{path}'.")
        yield


def is_free(path):
    """Whether no living process holds the lock file `path`."""
    try:
        with open(path, "a", encoding="utf-8") as f:
            return lock(f)
    except OSError:
        return False


def clear_leftovers(folder, pattern):
    """Remove the temporary files that killed runs left beside a target called like `pattern` (with * and ?) in `folder`.

    They are named .TARGET.minigen-xxxxxxxx and locked while somebody writes them (`minigen.files.replacing`).
    """
    for left in glob.glob(os.path.join(glob.escape(str(folder)), f".{pattern}{MARK}{'[a-z0-9_]' * 8}")):
        if os.path.isfile(left) and not os.path.islink(left) and is_free(left):
            Path(left).unlink(missing_ok=True)
