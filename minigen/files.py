"""Where the course's data files lie, and how files and weights are written and read.

Whole or not at all, and never a pickle.
"""

import contextlib
import glob
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from minigen import disk
from minigen.errors import DataError, first_line
from minigen.names import listed, near
from minigen.packing import kept, unpacked
from minigen.rebuilding import rebuilt, require_finite

Model = TypeVar("Model", bound=nn.Module)
Contents = tuple[dict[str, Tensor], dict[str, str]]  # of a safetensors file: tensors, metadata


def data_path(*parts: str) -> Path:
    """Path of a file that comes with the course, such as `data_path("digits.npz")`.

    In a clone it lies in data/; in an installed package inside the package.

    Raises: DataError where the file is in neither place.
    """
    here = Path(__file__).resolve().parent
    for root in (here.parent / "data", here / "_data"):
        if (root / "digits.npz").exists():
            path = root.joinpath(*parts)
            if path.exists():
                return path
            raise DataError(
                f"{'/'.join(parts)} is not among the course's data files; `make pretrained` builds "
                "the weights anew, `git checkout data` brings back what was deleted.")
    way_out = "install minigen from a whole clone"
    raise DataError(f"The course's data files were not found beside the package: {way_out}.")


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well.

    Where it does not end well, the temporary file vanishes. A link is followed: what it leads to is
    replaced, and the link stays. What a killed process left of the same file is cleared away first.
    An OSError inside the block is given `path` as its file name, so that it can be told.
    """
    handle: int | None
    path = Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        disk.clear_leftovers(path.parent, glob.escape(_short(path)))
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{_short(path)}{disk.MARK}")
    except OSError as e:
        e.filename = str(path)
        raise
    try:
        disk.lock(handle)
        yield Path(temporary)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp lets nobody else read it
        if os.name != "posix":  # Windows renames no open file
            os.close(handle)
            handle = None
        os.replace(temporary, path)
    except OSError as e:
        e.filename = str(path)
        raise
    finally:
        if handle is not None:
            os.close(handle)
        Path(temporary).unlink(missing_ok=True)


def _short(path: Path) -> str:
    return path.name[:200]  # a name may have 255 characters, and more are added


def write_text(path: str | Path, text: str) -> None:
    """A text file, whole or not at all, the same bytes on every system."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def save_tensors(path: str | Path, tensors: dict[str, Tensor], **metadata: str) -> None:
    """Tensors and strings of metadata as one safetensors file, whole or not at all.

    The same values give the same bytes. A digest of both goes into the metadata; `read_tensors`
    compares it.
    """
    tensors = {k: t.detach().cpu().contiguous() for k, t in tensors.items()}
    content = safetensors.torch.save(tensors, metadata | dict(digest=_digest(tensors, metadata)))
    end = 8 + int.from_bytes(content[:8], "little")
    fields = json.loads(content[8:end])  # in random order
    header = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    with replacing(path) as temporary, open(temporary, "wb") as f:
        f.write(len(header).to_bytes(8, "little"))
        f.write(header)
        f.write(memoryview(content)[end:])


def _digest(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """SHA-256 over names, types, shapes and values, and over the metadata."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, t in sorted(tensors.items()):
        digest.update(f"{name} {t.dtype} {tuple(t.shape)}".encode())
        digest.update(t.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_tensors(path: str | Path, what: str = "safetensors file") -> Contents:
    """({name: tensor}, metadata) of a safetensors file.

    Raises: DataError that names the file, for any other, and for one whose values do not have the
        digest it carries.
    """
    tensors, meta = _read(Path(path), what)
    carried = meta.pop("digest", None)
    if carried is not None and carried != _digest(tensors, meta):
        raise DataError(f"'{path}' was changed or is damaged: its values do not have the digest it "
                        "carries. Make it again.")
    return tensors, meta


def _read(path: Path, what: str) -> Contents:
    if not path.is_file():
        raise DataError(f"There is no {what} '{path}'.")
    try:
        with safe_open(path, "pt") as f:
            tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118 (not a dict)
            return tensors, f.metadata() or {}
    except OSError as e:
        what = f"'{path}' could not be read"
        raise DataError(disk.sentence_of(e, what, "allow reading it")) from None
    except (SafetensorError, ValueError, TypeError, KeyError, RuntimeError, MemoryError) as e:
        raise DataError(f"'{path}' is not a whole safetensors file ({first_line(e)}).") from None


def save_weights(path: str | Path, model: nn.Module, bits: int = 32, **card: Any) -> None:
    """Write a model's state, its config (the arguments that rebuild it) and a card of plain values.

    bits: of a stored float: 32, 16, which halves the file, or 8, which halves it again
    (`minigen.packing` says how); `load_weights` gives 32 again.
    Raises: DataError, before anything is written, for weights that hold NaN or infinity, or would
        when they are read; ValueError for other bits.
    """
    state = kept(model.state_dict(), bits)
    what = f"The weights of this {type(model).__name__}"
    require_finite(unpacked(state), what, "nothing was written")
    about = {"class": type(model).__name__, "config": json.dumps(model.config)}
    save_tensors(path, state, **about, card=json.dumps(card))


def shipped(kind: str | None = None) -> list[str]:
    """The bare names of the trained models that come with the course (of one class): ["cgan", …]"""
    names = []
    for path in sorted(data_path("pretrained").glob("*.safetensors")):
        with safe_open(path, "pt") as f:
            found = (f.metadata() or {}).get("class")  # others are measurements
            if found and found == (kind or found):
                names.append(path.stem)
    return names


def _is_bare(name: str) -> bool:
    return "/" not in name and os.sep not in name and not name.endswith(".safetensors")


def _shipped_file(name: str, kind: str | None) -> Path:
    if name not in shipped():
        guess = near(name, shipped(kind)) or "."
        raise DataError(f"There are no weights '{name}', neither a file nor a model of the course"
                        f"{guess} {_fitting(kind)}")
    return data_path("pretrained", f"{name}.safetensors")


def _fitting(kind: str | None) -> str:
    names = shipped(kind)
    return f"Of the course's weights {listed(names, 'and') or 'none'} fit{'s'[len(names) > 1:]}."


def weights_file(name: str | Path, kind: str | None = None) -> Path:
    """The file that a person means by `name`: one of that name, else the course's weights ("fftd").

    Raises: DataError for a bare name that is neither, with the names there are of a class `kind`.
    """
    name = str(name)
    whole = Path(name).is_file() or not _is_bare(name)
    return Path(name) if whole else _shipped_file(name, kind)


def load_weights(cls: type[Model], path: str | Path) -> Model:
    """Rebuild a model of class `cls` from a file of `save_weights`, in eval mode.

    Its card becomes `model.card`.

    `path` is a file, or the bare name of one in data/pretrained ("gan").

    Raises: DataError that names the file where it is missing, not safetensors, of another class,
        or does not hold together.
    """
    if isinstance(path, str) and _is_bare(path):
        path = _shipped_file(path, cls.__name__)
    path = Path(path)
    if not path.is_file():
        folder = path.parent.name or path.parent
        raise DataError(f"There is no weight file {path.name} in the folder '{folder}'.")
    state, meta = read_tensors(path)
    if meta.get("class") != cls.__name__:
        held = meta.get("class", "no class of this course")
        raise DataError(f"{path.name} holds {held}, not {cls.__name__}. {_fitting(cls.__name__)}")
    return rebuilt(cls, state, meta, path)


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
