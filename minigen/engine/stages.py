"""Chapter 8: what both stages share: the rate, the number format, how a training ends."""

import dataclasses
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from minigen.engine import loop, presets
from minigen.engine.processes import rank, world
from minigen.engine.settings import Config
from minigen.errors import DataError
from minigen.files import replacing
from minigen.plots import image_grid, to_png


class Stage(loop.Task, Protocol):
    """A task of the loop that leaves weights behind."""

    def export(self, path: Path, steps: int) -> None:
        """Write the averaged weights after `steps` steps."""


def rate_factor(config: Config, step: int) -> float:
    """The learning rate's factor at a step (from 1).

    It is 1 without config.decay, else goes up over a tenth, down along half a cosine.
    """
    if not config.decay:
        return 1.0
    rise = max(1, config.steps // 10)
    if step <= rise:
        return step / rise
    share = (step - rise) / max(1, config.steps - rise)
    return 0.5 * (1 + math.cos(math.pi * share))


def autocast(config: Config, device: torch.device) -> AbstractContextManager:
    """In the block matrix products are of 16 bits where config.precision asks for it."""
    kinds = {"bf16": torch.bfloat16, "float16": torch.float16}
    kind = kinds.get(config.precision, torch.bfloat16)
    return torch.autocast(device.type, kind, enabled=config.precision in kinds)


def loss_scaler(config: Config, device: torch.device) -> torch.amp.GradScaler:
    """The loss scale of float16, whose smallest numbers are too large for many gradients.

    The loss is multiplied, the gradient divided; an overflow leaves the step out and halves the
    scale. Other formats need none. Source: Micikevicius et al. 2018, §3.2.
    """
    return torch.amp.GradScaler(device.type, enabled=config.precision == "float16")


def fused(device: torch.device) -> bool:
    """Whether Adam does its step in one pass over the weights there, its result the same but for
    rounding. On a processor a step of the paper's stage 2 with its batch of 1 takes a third less.
    """
    return device.type in ("cpu", "cuda")


def parallel(model: nn.Module) -> nn.Module:
    """The model as it is trained: itself, or as DistributedDataParallel among other processes."""
    return model if world() == 1 else DistributedDataParallel(model, broadcast_buffers=False)


def save_grid(path: Path, images: Tensor, columns: int = 8, **titles: Any) -> None:
    """Images (N, 3, S, S) as one picture."""
    with replacing(path) as temporary:
        temporary.write_bytes(to_png(image_grid(images, columns=columns, **titles)))


def require_trained(average: AveragedModel) -> None:
    """Raise DataError where the running average has seen no step."""
    if not int(average.n_averaged):
        raise DataError("No step had a finite gradient, so nothing was learned and no weights are "
                        "written: begin anew in another --out with a smaller learning rate, or "
                        "float32 instead of 16 bits.")


def run(
    stage: Stage, kind: str, config: Config, n: int, resume: bool, progress: bool,
    begin: Callable[[], object] | None = None, **data: str,
) -> Path:
    """Train a stage on n images; at the end its weights go to KIND.safetensors in the folder.

    begin: as `loop.train`'s. data: digests of what it learns from, since the same path may hold
    other data another day.
    Returns: that path. Raises: DataError as `loop.train`, and for a file that came there meanwhile.
    """
    path = Path(config.out) / f"{kind}.safetensors"
    existed = path.exists()
    settings = dataclasses.asdict(config) | data
    size = getattr(config, "size", 0) or presets.SIZES[config.preset]
    picture = 16 * 3 * size**2                                # sixteen images, uncompressed
    last = loop.train(
        stage, config.out, kind=kind, config=settings, n=n, resume=resume, progress=progress,
        begin=begin, pictures=picture * (config.steps // config.sample_every))
    if rank() == 0:
        if path.exists() and not existed:
            raise DataError(f"'{path}' has appeared meanwhile and was left as it is: move it away "
                            "and go on with --resume.")
        stage.export(path, last)
    return path
