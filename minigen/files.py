"""Where the course's data files lie, and how weights are written and read: safetensors, never a pickle."""

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from minigen.errors import DataError


def data_path(*parts):
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
            raise DataError(f"{'/'.join(parts)} is not among the course's data files; `make pretrained` builds the "
                            "weights anew, `git checkout data` brings back what was deleted.")
    raise DataError("The course's data files were not found beside the package: install minigen from a whole clone.")


@contextlib.contextmanager
def replacing(path):
    """A temporary path beside `path` that takes its place when the block ends well, and vanishes when it does not."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        yield Path(temporary)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)       # mkstemp lets nobody else read it
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def save_weights(path, model, half=False, **card):
    """Write a model's state with `model.config` (the arguments that rebuild it) and a card of plain values.

    half: floats are stored in 16 bits, which halves the file; `load_weights` gives 32 again.
    """
    state = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    if half:
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    with replacing(path) as temporary:
        save_file(state, temporary, metadata={"class": type(model).__name__, "config": json.dumps(model.config),
                                              "card": json.dumps(card)})


def load_weights(cls, path):
    """Rebuild a model of class `cls` from a file of `save_weights`, in eval mode; its card becomes `model.card`.

    `path` is a file, or the bare name of one in data/pretrained ("gan").

    Raises: DataError for a missing file, one that is not safetensors, or one that holds another class.
    """
    if isinstance(path, str) and "/" not in path and not path.endswith(".safetensors"):
        path = data_path("pretrained", f"{path}.safetensors")
    path = Path(path)
    if not path.is_file():
        raise DataError(f"There is no weight file {path.name} in the folder {path.parent.name}.")
    try:
        with safe_open(path, "pt") as f:
            meta, state = f.metadata() or {}, {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as e:
        raise DataError(f"{path.name} is not a whole safetensors file ({e}).") from None
    if meta.get("class") != cls.__name__:
        raise DataError(f"{path.name} holds {meta.get('class', 'no class of this course')}, not {cls.__name__}.")
    model = cls(**json.loads(meta["config"]))
    model.load_state_dict(state)
    model.card = json.loads(meta["card"])
    return model.eval()


def sha256_of(path):
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
