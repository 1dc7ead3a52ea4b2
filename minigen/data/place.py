"""Where `prepare` puts a folder: under a name that nothing had, whole or not at all.

Nothing of anyone's is lost.
"""

import contextlib
import glob
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from minigen.data.prepared import PreparedImages
from minigen.disk import MARK, held, is_free
from minigen.errors import DataError

OURS = {"images.npy", "manifest.json"}
HELD = "prepare.lock"
EARLY = f"{HELD}.early"  # before it is locked
LEFT = "it was left as it is and nothing was kept: choose another --out."
Mark = list[tuple[str, int, int, int]]  # name, inode, size and time of change of each of OURS


def check_place(out: str | Path, source: str | Path, overwrite: bool) -> Mark | None:
    """What stands at `out` now, to be replaced later: None, or a mark of the prepared folder there.

    Raises: DataError where `out` exists and may not be replaced, lies in the source, or holds it.
    """
    out, source = Path(out), Path(source)
    before = None
    here = Path.cwd()
    if os.path.abspath(out) in map(str, (here, *here.parents)):
        raise DataError(f"'{out}' is the folder you are in, or holds it: choose another --out.")
    _clear_killed(out)
    if os.path.lexists(out):
        if not overwrite:
            raise DataError(f"'{out}' exists already: choose another --out, or pass --overwrite to "
                            "replace it.")
        before = only_ours(out)
    where, whence = out.resolve(), source.resolve()
    if where in (whence, *whence.parents):
        raise DataError(f"'{out}' holds the source itself: choose another --out.")
    return before


def only_ours(out: str | Path) -> Mark:
    """A mark of a folder that holds what `prepare` wrote and nothing else.

    It changes whenever the folder does.
    Raises: DataError for a folder with anything else in it, or none.
    """
    out = Path(out)
    if out.is_symlink() or not out.is_dir() or {p.name for p in out.iterdir()} - {HELD} != OURS:
        raise DataError(f"'{out}' holds other things than prepared images, so it is not "
                        "overwritten: choose another --out.")
    try:
        PreparedImages(out)
    except DataError as e:
        what = f"'{out}' is not overwritten, since it is not what prepare writes"
        raise DataError(f"{what}: {e}") from None
    ours = [(p.name, p.stat()) for p in sorted(out.iterdir()) if p.name in OURS]
    return [(name, s.st_ino, s.st_size, s.st_mtime_ns) for name, s in ours]


@contextlib.contextmanager
def building(out: str | Path, before: Mark | None = None) -> Iterator[Path]:
    """A new folder beside `out` that takes its name when the block ends well, and else vanishes.

    before: the mark of what stood at `out`, or None; anything that came there since is left, and
    an error.
    """
    out = Path(out)
    made = _make_parents(out.parent)
    folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=_beside(out)))
    try:
        # held till the folder has its name: what is free belongs to a killed run
        with _held(folder):
            yield folder
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(folder, 0o777 & ~umask)  # mkdtemp lets nobody else read it
            if os.name == "posix":
                _put(folder, out, before)
        if os.name != "posix":  # Windows renames no folder in which a file is open
            _put(folder, out, before)
        (out / HELD).unlink(missing_ok=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for parent in made:
            with contextlib.suppress(OSError):  # no longer empty: it is wanted
                parent.rmdir()


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a new folder; its lock file gets its name when it is locked.

    Else another run could find it free in between, and clear the folder away.
    """
    if os.name != "posix":  # Windows renames no open file
        with held(folder / HELD):
            yield
        return
    with held(folder / EARLY):
        os.replace(folder / EARLY, folder / HELD)
        yield


def _beside(out: Path) -> str:
    return f".{out.name[:200]}{MARK}"


def _put(folder: Path, out: Path, before: Mark | None) -> None:
    if before is None:
        _take_name(folder, out)
    else:
        _replace(folder, out, before)


def _make_parents(folder: Path) -> list[Path]:
    """Make a folder and those above it. Returns: the ones that were made, innermost first."""
    made = []
    while not folder.exists():
        made.append(folder)
        folder = folder.parent
    for missing in reversed(made):
        missing.mkdir(exist_ok=True)
    return made


def _take_name(folder: Path, out: Path) -> None:
    """Rename `folder` to `out`, which must not exist.

    Of two at once one wins: the system refuses to put a folder in the place of a file, or of a
    folder that holds something.
    """
    if not os.path.lexists(out):
        try:
            os.rename(folder, out)
            return
        except OSError:
            if not os.path.lexists(out):
                raise
    raise DataError(f"'{out}' has appeared meanwhile, so {LEFT}")


def _replace(folder: Path, out: Path, before: Mark) -> None:
    """Put `folder` in the place of the prepared folder at `out`, which must be as it was."""
    aside = Path(tempfile.mkdtemp(dir=out.parent, prefix=f"{_beside(out)}old-")) / out.name
    changed = f"'{out}' was changed meanwhile, so {LEFT}"
    try:
        if only_ours(out) != before:
            raise DataError(changed)
        os.rename(out, aside)
        if only_ours(aside) != before:  # something came between the look and the renaming
            _take_name(aside, out)
            raise DataError(changed)
        try:
            _take_name(folder, out)
        except DataError as e:
            raise DataError(f"{e} What stood there before is now '{aside}'.") from None
        for name in OURS | {HELD}:
            (aside / name).unlink(missing_ok=True)
        aside.rmdir()
    finally:
        with contextlib.suppress(OSError):  # not empty: it holds what must not be lost
            aside.parent.rmdir()


def _clear_killed(out: Path) -> None:
    """Remove what killed runs left: their folders, when nobody works in them.

    What one had put aside is brought back.
    """
    name = glob.escape(_beside(out))
    for old in out.parent.glob(f"{name}old-????????"):
        aside = old / out.name
        if aside.is_dir() and not os.path.lexists(out):
            with contextlib.suppress(DataError):
                only_ours(aside)
                os.rename(aside, out)
        with contextlib.suppress(OSError):  # not empty: it holds what must not be lost
            old.rmdir()
    for left in filter(Path.is_dir, out.parent.glob(f"{name}????????")):
        names = {p.name for p in left.iterdir()}
        if names == {EARLY} and time.time() - left.stat().st_mtime > 60:  # killed while it began
            shutil.rmtree(left, ignore_errors=True)
        if HELD in names and names <= OURS | {HELD} and is_free(left / HELD):
            shutil.rmtree(left, ignore_errors=True)
