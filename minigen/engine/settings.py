"""Chapter 8: the settings of both stages, with meaning, range and presets.

Everything is checked before anything is made. This module needs no torch, so that
`python -m minigen --help` answers at once.
"""

import dataclasses
import math
import operator
from typing import Any, TypeVar

from minigen.engine import presets
from minigen.errors import DataError

MANY = 10**9
SEEDS = (0, 2**63 - 1)


def setting(
    default: Any, text: str, low: float | None = None, high: float | None = None,
    below: float | None = None, above: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """A field with its meaning and its range.

    That is low ≤ value ≤ high, or above < value < below, or one of the choices.
    """
    return dataclasses.field(default=default, metadata=dict(
        text=text, low=low, high=high, below=below, above=above, choices=choices))


@dataclasses.dataclass
class Config:
    """What both stages share."""

    out: str = setting("runs/stage", "folder of the training")
    preset: str = setting(
        "small", "sizes of the networks and usual settings; `plan` tells what each needs",
        choices=presets.NAMES)
    steps: int = setting(1000, "training steps", low=1, high=MANY)
    batch_size: int = setting(32, "images a step, over all processes", low=1, high=10**6)
    lr: float = setting(1e-3, "learning rate of Adam, a step's size", above=0, high=1)
    decay: bool = setting(
        True, "the rate rises over the first tenth and falls like a cosine; off: constant")
    ema: float = setting(
        0.999, "share of the running average of the weights that a step keeps", low=0, below=1)
    precision: str = setting(
        "float32", "number format of the forward pass; float16 with a loss scaled as it must be",
        choices=("float32", "bf16", "float16"))
    compile: bool = setting(False, "use torch.compile (stage 2 on a GPU: with CUDA graphs)")
    seed: int = setting(
        0, "the number that everything random depends on", low=SEEDS[0], high=SEEDS[1])
    save_every: int = setting(500, "steps between checkpoints", low=1, high=MANY)
    sample_every: int = setting(500, "steps between sample pictures", low=1, high=MANY)
    log_every: int = setting(10, "steps between rows of losses.csv", low=1, high=MANY)
    keep: int = setting(3, "how many checkpoints are kept, the newest", low=1, high=MANY)
    max_skipped: int = setting(
        10, "steps in a row without a finite gradient after which it ends", low=1, high=MANY)
    device: str = setting("", "cpu, cuda, cuda:1 …; left out: the GPU where there is one")


@dataclasses.dataclass
class Stage1(Config):
    """IVQ-VAE's training."""

    data: str = setting(
        "toyfaces:4096",
        "images to learn from: a folder of `prepare`, or toyfaces:N, N drawn faces")
    out: str = setting("runs/ivqvae", "folder of the training")
    size: int = setting(
        0, "pixels of the images where the preset has others, as --size of `prepare`; 0: its own",
        low=0, high=MANY)
    lr: float = setting(2e-3, "learning rate of Adam, a step's size", above=0, high=1)
    perceptual: str = setting(
        "toy", "perceptual loss: toy for 32×32, lpips from 64×64, or none",
        choices=("toy", "lpips", "none"))
    lambda_d: float = setting(
        0.05, "weight of the adversarial loss; 1 minus it weighs the codebook's (Eq. 15)",
        low=0, high=1)
    discriminator_start: int = setting(
        0, "step from which the discriminator judges; 0: after 70 percent of all (small), or half",
        low=0, high=MANY)
    init_images: int = setting(
        128, "the codebook starts from k-means over the latents of so many images; 0: random",
        low=0, high=10**6)
    accumulate: int = setting(
        1, "parts of a batch that are done in turn, which saves memory", low=1, high=10**6)


@dataclasses.dataclass
class Stage2(Config):
    """FFTD's training."""

    out: str = setting("runs/fftd", "folder of the training")
    latents: str = setting("runs/latents.safetensors", "file of latents that `encode` wrote")
    batch_size: int = setting(128, "latents a step, over all processes", low=1, high=10**6)
    fusion: str = setting(
        "adaptive", "how features are joined (the paper's Table 9)",
        choices=("add", "concat", "adaptive"))
    levels: int = setting(
        2, "resolutions of the U: 1 is none, 2 halves the map once", low=1, high=3)
    prediction: str = setting(
        "eps", "what the network predicts: the noise (the paper), the image, or v",
        choices=("eps", "x0", "v"))
    schedule: str = setting(
        "linear", "how the noise grows: linear in β (the paper), or the cosine",
        choices=("linear", "cosine"))
    dropout: float = setting(
        0.0, "share of the numbers left out in the feed-forward layers and the attention",
        low=0, below=1)
    labels: bool = setting(True, "use the classes stored with the latents, where there are some")
    drop_label: float = setting(0.15, "share of labels left out, for guidance", low=0, high=1)


S = TypeVar("S", Stage1, Stage2)


def make_config(cls: type[S], **given: Any) -> S:
    """A config of a stage: its defaults, the preset's, then what was given.

    Raises: DataError for an unknown name or value.
    """
    from minigen.engine import processes

    names = {f.name: f for f in dataclasses.fields(cls)}
    if unknown := sorted(given.keys() - names):
        raise DataError(f"There is no setting '{unknown[0]}'; there are {', '.join(names)}.")
    if (preset := given.get("preset", "small")) not in list(presets.NAMES):
        raise DataError(f"There is no preset '{preset}'; there are {', '.join(presets.NAMES)}.")
    usual = presets.SETTINGS[cls.__name__][preset]
    values = {k: _checked(names[k], v) for k, v in {**usual, **given}.items()}
    config = cls(**values)
    accumulate = 1
    if isinstance(config, Stage1):
        accumulate = config.accumulate
        if not config.discriminator_start:
            judged = presets.JUDGED[preset]
            config.discriminator_start = max(1, round((1 - judged) * config.steps))
        elif not given.get("discriminator_start"):        # a preset's, and fewer steps were asked
            config.discriminator_start = min(config.discriminator_start, config.steps)
        if config.discriminator_start > config.steps:
            raise DataError(f"--discriminator-start is a step from 1 to {config.steps}, the last; "
                            f"got {config.discriminator_start}, and the adversarial loss would "
                            "never start. Leave it out, or choose an earlier step.")
    parts = processes.world() * accumulate
    if config.batch_size % parts:
        raise DataError(f"A batch of {config.batch_size} cannot be cut into {parts} equal parts "
                        f"({processes.world()} processes, --accumulate {accumulate}).")
    return config


def _checked(field: dataclasses.Field, value: Any) -> Any:
    """The value, if the field may have it."""
    kind, limits = type(field.default), field.metadata
    if limits["choices"]:
        if value not in limits["choices"]:
            *most, last = limits["choices"]
            raise DataError(f"{_option(field.name)} is {', '.join(most)} or {last}; got {value!r}.")
        return value
    if kind is bool:
        if not isinstance(value, bool):
            raise DataError(f"{_option(field.name)} is True or False; got {value!r}.")
        return value
    if kind is str:
        if field.name in ("out", "data", "latents") and not str(value).strip():
            raise DataError(f"{_option(field.name)} is empty; it names a file or folder.")
        return str(value)
    bounds = {k: limits[k] for k in ("low", "high", "below", "above")}
    return check_number(field.name, value, kind, **bounds)


def check_number(
    name: str, value: Any, kind: type = float, low: float | None = None,
    high: float | None = None, below: float | None = None, above: float | None = None,
) -> Any:
    """The value as an int or float, if it is one of its range.

    Raises: DataError that names it as the command line does, its range and what came.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        value = operator.index(value) if kind is int else float(value)
        good = math.isfinite(value)
    except (TypeError, ValueError, OverflowError):
        good = False
    good = good and (low is None or value >= low) and (high is None or value <= high)
    if not (good and (below is None or value < below) and (above is None or value > above)):
        limits = {"at least": low, "above": above, "at most": high, "below": below}
        bounds = " and ".join(f"{words} {x:,}" for words, x in limits.items() if x is not None)
        what = "whole number" if kind is int else "finite number"
        raise DataError(f"{_option(name)} is a {what}, {bounds}; got {value!r}.")
    return value


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
