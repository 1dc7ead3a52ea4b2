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
from typing import Any, NoReturn, TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from minigen import disk
from minigen.errors import DataError, first_line
from minigen.names import listed, near

Model = TypeVar("Model", bound=nn.Module)
Contents = tuple[dict[str, Tensor], dict[str, str]]  # of a safetensors file: tensors, metadata
COUNTS = ("depth", "layers", "blocks", "levels")  # arguments that count parts of a network
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


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


def save_weights(path: str | Path, model: nn.Module, half: bool = False, **card: Any) -> None:
    """Write a model's state, its config (the arguments that rebuild it) and a card of plain values.

    half: floats are stored in 16 bits, which halves the file; `load_weights` gives 32 again.
    Raises: DataError, before anything is written, for weights that hold NaN or infinity.
    """
    state = model.state_dict()
    if half:
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    _require_finite(state, f"The weights of this {type(model).__name__}", "nothing was written")
    about = {"class": type(model).__name__, "config": json.dumps(model.config)}
    save_tensors(path, state, **about, card=json.dumps(card))


def _require_finite(state: dict[str, Tensor], what: str, so: str) -> None:
    for name, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise DataError(f"{what} hold NaN or infinity (in {name}): the training has diverged; "
                            f"{so}. A smaller learning rate, in another --out?")


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
        kept = meta.get("class", "no class of this course")
        raise DataError(f"{path.name} holds {kept}, not {cls.__name__}. {_fitting(cls.__name__)}")
    config, card = _plain(path, meta, "config"), _plain(path, meta, "card")
    model = _built(cls, config, state, path)
    for k, v in model.state_dict().items():
        if v.is_floating_point() != state[k].is_floating_point() or state[k].is_complex():
            _misfit(path, k, v.dtype, state[k].dtype)
    _require_finite(state, f"The weights in {path.name}", "they are of no use")
    model.load_state_dict(state)
    model.card = card  # type: ignore[assignment]  # a plain dict
    return model.eval()


def _plain(path: Path, meta: dict[str, str], key: str) -> dict[str, Any]:
    """A JSON object of the metadata."""
    try:
        found = json.loads(meta[key])
        if not isinstance(found, dict):
            raise ValueError(f"it is {found!r:.40}")
        return found
    except (KeyError, ValueError, RecursionError) as e:
        raise DataError(f"{path.name} has no readable {key} in its metadata ({e}), so it was not "
                        "written by minigen's save_weights, or is damaged.") from None


def _built(cls: type[Model], config: dict[str, Any], state: dict[str, Tensor], path: Path) -> Model:
    """The model of a config, its weights still to be filled in.

    It is known to have the names and shapes of `state`.
    """
    total = sum(v.numel() for v in state.values())
    for k, v in config.items():  # before anything so large is built
        most = len(state) if k in COUNTS else max(total, 10_000)
        if isinstance(v, int) and abs(v) > most:
            saying = f"{path.name} says {k}={v} in its config"
            raise DataError(f"{saying}, which its {total:,} weights cannot be.")
    try:
        with torch.device("meta"):  # shapes without memory
            shapes = {k: tuple(v.shape) for k, v in cls(**config).state_dict().items()}
    except Exception as e:  # a wrong config makes a constructor raise what it likes
        what = f"{path.name} has a config that {cls.__name__} does not take"
        raise DataError(f"{what} ({first_line(e)}).") from None
    stored = {k: tuple(v.shape) for k, v in state.items()}
    for k, v in state.items():
        if v.is_floating_point() and v.dtype not in FLOATS:
            raise DataError(f"{path.name} holds {k} as {v.dtype}; weights are 16, 32 or 64 bits.")
    for k in sorted(shapes.keys() | stored.keys()):
        if shapes.get(k) != stored.get(k):
            _misfit(path, k, _shape(shapes.get(k)), _shape(stored.get(k)))
    # its random start is replaced at once, and must not move anyone's chance
    with torch.random.fork_rng(devices=[]):
        return cls(**config)


def _misfit(path: Path, name: str, wanted: object, got: object) -> NoReturn:
    raise DataError(f"{path.name} does not fit its own config: {name} should be {wanted}, "
                    f"and is {got}.")


def _shape(shape: tuple[int, ...] | None) -> str:
    if shape is None:
        return "absent"
    return "×".join(map(str, shape)) or "a number"


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
