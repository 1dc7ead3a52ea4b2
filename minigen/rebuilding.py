"""A model from what its file holds: a config and weights that must fit one another.

What does not hold together is told in one sentence that names the file, before anything so large
as it claims to be is built.
"""

import json
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor, nn

from minigen.errors import DataError, first_line
from minigen.packing import unpacked

Model = TypeVar("Model", bound=nn.Module)
COUNTS = ("depth", "layers", "blocks", "levels")  # arguments that count parts of a network
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def rebuilt(cls: type[Model], state: dict[str, Tensor], meta: dict[str, str], path: Path) -> Model:
    """The model of class `cls` that a file's tensors and metadata are, in eval mode.

    meta: config, the class's arguments, and card, plain values, both as JSON; the card becomes
    `model.card`. state: floats of 16, 32 or 64 bits, or packed in 8 (`minigen.packing`).

    Raises: DataError that names the file where they do not hold together.
    """
    config, card = _plain(path, meta, "config"), _plain(path, meta, "card")
    try:
        state = unpacked(state)
    except ValueError as e:
        raise DataError(f"{path.name} is not as save_weights writes it: {e}.") from None
    model = _built(cls, config, state, path)
    for k, v in model.state_dict().items():
        if v.is_floating_point() != state[k].is_floating_point() or state[k].is_complex():
            _misfit(path, k, v.dtype, state[k].dtype)
    require_finite(state, f"The weights in {path.name}", "they are of no use")
    model.load_state_dict(state)
    model.card = card  # type: ignore[assignment]  # a plain dict
    return model.eval()


def require_finite(state: dict[str, Tensor], what: str, so: str) -> None:
    """Raises: DataError for NaN or infinity among the floats, saying which tensor and `so`."""
    for name, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise DataError(f"{what} hold NaN or infinity (in {name}): the training has diverged; "
                            f"{so}. A smaller learning rate, in another --out?")


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
