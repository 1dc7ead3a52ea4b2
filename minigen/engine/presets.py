"""Chapter 8: the presets, what differs between them and the paper, and why.

One place for all of it: the settings of both stages, the sizes of the networks, and a reason for
every value that is not the paper's. The data need no torch.
"""

import os
import textwrap
from collections.abc import Iterator
from typing import Any, NamedTuple

from minigen.errors import DataError
from minigen.names import listed

Values = dict[str, Any]

ABOUT = {
    "small": "drawn faces of 32×32 on a CPU, in minutes",
    "colab": "photographs of 128×128 on a GPU of 15 GB without bf16, in an evening",
    "paper": "photographs of 256×256 exactly as the paper writes it",
    "fast": "photographs of 256×256 as we would do it on one large GPU",
}
NAMES = tuple(ABOUT)
SIZES = {"small": 32, "colab": 128, "paper": 256, "fast": 256}       # pixels
JUDGED = {"small": 0.3, "colab": 0.5, "paper": 0.5, "fast": 0.5}     # share of steps with a judge

# What a preset changes in the settings of a stage. What is not named has the default of the
# setting. The paper sees 4,000,000 images in each stage.
SETTINGS: dict[str, dict[str, Values]] = {
    "Stage1": {
        "small": {},
        "colab": dict(
            lr=3e-4, steps=40_000, init_images=1024, perceptual="lpips", precision="float16",
            save_every=1000, sample_every=1000, log_every=50, keep=2),
        "paper": dict(
            lr=1e-4, batch_size=1, steps=4_000_000, decay=False, ema=0.9999,
            discriminator_start=250_000, init_images=0, perceptual="lpips", save_every=20_000,
            sample_every=20_000, log_every=1000),
        "fast": dict(
            lr=2e-4, steps=125_000, ema=0.9999, init_images=4096, perceptual="lpips",
            precision="bf16", compile=True, save_every=2000, sample_every=2000, log_every=100),
    },
    "Stage2": {
        "small": {},
        "colab": dict(
            lr=5e-4, batch_size=256, steps=45_000, prediction="v", schedule="cosine",
            precision="float16", save_every=5000, sample_every=5000, log_every=100, keep=2),
        "paper": dict(
            lr=1e-4, batch_size=1, steps=4_000_000, decay=False, ema=0.9999, save_every=20_000,
            sample_every=20_000, log_every=1000),
        "fast": dict(
            lr=5e-4, batch_size=1024, steps=100_000, ema=0.9999, prediction="v",
            schedule="cosine", precision="bf16", compile=True, save_every=5000,
            sample_every=5000, log_every=200),
    },
}

# What a preset changes in the networks of `PRESETS` in ivqvae and fftd ("small" in the small ones,
# all others in the paper's).
NETWORKS: dict[str, dict[str, Values]] = {
    "IVQVAE": {
        "small": {},
        "colab": dict(size=128, width=64, multipliers=(1, 2, 2, 4, 4), decay=0.99,
                      revive_below=0.05),
        "paper": {},
        "fast": dict(decay=0.99, revive_below=0.05),
    },
    "PatchDiscriminator": {"small": dict(width=32, layers=2), "colab": {}, "paper": {}, "fast": {}},
    "FFTD": {"small": {}, "colab": dict(grid=8), "paper": {}, "fast": {}},
}

# Why a value is another than the paper's, for every field in which any preset differs.
REASONS: dict[str, dict[str, str]] = {
    "Stage1": {
        "data": "no photograph is part of the course: small draws faces",
        "lr": "larger batches bear larger steps; for these sizes not tuned, but in small",
        "batch_size": "one image at a time leaves a GPU waiting for its next kernel",
        "steps": "fast sees as many images as the paper, colab what five hours allow",
        "decay": "a short training ends better when its steps grow small (chapter 5)",
        "ema": "averages over 1,000 steps, since there are fewer steps than the paper's",
        "discriminator_start": "the paper's 250,000 lies behind the last step",
        "init_images": "random codes lie where no latent is; k-means starts among the latents",
        "perceptual": "LPIPS is for 64 pixels and more; small has the course's own",
        "precision": "half the memory traffic; a T4 has no bf16, so float16 with a scaled loss",
        "compile": "fewer, larger kernels; it costs a minute or two at the start",
        "save_every": "how often is kept, not what: an hour's work should never be lost",
        "sample_every": "how often is drawn, not what",
        "log_every": "how often is written down, not what",
        "keep": "two checkpoints are enough, and a drive is small",
    },
    "Stage2": {
        "lr": "larger batches bear larger steps; for these sizes not tuned, but in small",
        "batch_size": "a latent is 64 or 256 numbers: only hundreds of them fill a GPU",
        "steps": "fewer steps of more latents: 11 to 102 million in place of 4 million",
        "decay": "a short training ends better when its steps grow small (chapter 5)",
        "ema": "averages over 1,000 steps, since there are fewer steps than the paper's",
        "prediction": "v with the cosine did better than ε at equal cost (chapter 5's table)",
        "schedule": "v with the cosine did better than ε at equal cost (chapter 5's table)",
        "precision": "half the memory traffic; a T4 has no bf16, so float16 with a scaled loss",
        "compile": "with CUDA graphs: sixteen tokens are little work a kernel",
        "save_every": "how often is kept, not what: an hour's work should never be lost",
        "sample_every": "how often is drawn, not what",
        "log_every": "how often is written down, not what",
        "keep": "two checkpoints are enough, and a drive is small",
    },
    "IVQVAE": {
        "size": "a quarter or a 64th of the pixels, so of the work",
        "width": "half or an eighth of the channels, so about a quarter or a 64th of the work",
        "multipliers": "f = 16 and f = 8: at f = 64 these sizes would leave 2×2 tokens, or none",
        "attention_at": "the middle of the small encoder",
        "num_codes": "drawn faces need fewer codes",
        "decay": "running means move a code that is chosen seldom; by gradients it stands still",
        "revive_below": "16,384 random codes are mostly never chosen; dead ones begin anew",
    },
    "PatchDiscriminator": {
        "width": "a 32×32 image is judged by less",
        "layers": "patches of 34 pixels, the whole of a 32×32 image",
    },
    "FFTD": {
        "grid": "8×8 tokens of the autoencoder with f = 16",
        "dim": "a laptop's width",
        "heads": "32 channels a head",
    },
}
# What the paper leaves open, in all presets alike.
OPEN = ("β = 0.25 of the codebook's loss; λ_d = 0.05, so λ_vq = 0.95; the discriminator, VQGAN's; "
        "Adam's β (0.5, 0.9) in stage 1; gradients cut to length 10 and 1; T = 1000; labels left "
        "out at 15 %; flips.")
PLACES = {"preset", "out", "latents", "device"}       # where things lie, not how they are trained
TITLES = {"Stage1": "stage 1", "Stage2": "stage 2", "IVQVAE": "IVQ-VAE, the networks of stage 1",
          "PatchDiscriminator": "its discriminator", "FFTD": "FFTD, the network of stage 2"}


class Row(NamedTuple):
    """A field in which a preset differs from the paper: its value in each preset, and why."""

    part: str
    field: str
    values: Values
    reason: str


def chosen(scale: str) -> str:
    """A preset for a notebook: small at small scale, else what MINIGEN_PRESET names, or fast.

    Raises: DataError for a name that is none.
    """
    preset = os.environ.get("MINIGEN_PRESET", "fast") if scale == "full" else "small"
    if preset not in NAMES:
        raise DataError(f"MINIGEN_PRESET is {listed(NAMES)}; it is '{preset}'.")
    return preset


def network(kind: str, preset: str) -> Values:
    """The arguments of a network, `IVQVAE`, `PatchDiscriminator` or `FFTD`, in a preset."""
    from minigen import fftd, ivqvae

    tables: dict[str, dict[str, Values]] = {"IVQVAE": ivqvae.PRESETS, "FFTD": fftd.PRESETS}
    base = "small" if preset == "small" else "paper"
    return tables.get(kind, {}).get(base, {}) | NETWORKS[kind][preset]


def values_of(part: str, preset: str) -> Values:
    """Every value of a part in a preset, defaults among them; part: a key of `REASONS`."""
    import dataclasses
    import inspect

    from minigen import fftd, ivqvae
    from minigen.engine import settings

    if part in SETTINGS:
        cls = {"Stage1": settings.Stage1, "Stage2": settings.Stage2}[part]
        config = dataclasses.asdict(settings.make_config(cls, preset=preset))
        if part == "Stage1" and preset != "small":
            config["data"] = "photographs"
        return {k: v for k, v in config.items() if k not in PLACES}
    made: Any = getattr(ivqvae, part, None) or getattr(fftd, part)
    signature = inspect.signature(made.__init__).parameters.values()
    return {p.name: p.default for p in signature if p.name != "self"} | network(part, preset)


def rows() -> Iterator[Row]:
    """Every field in which any preset differs from the paper."""
    for part, reasons in REASONS.items():
        values = {preset: values_of(part, preset) for preset in NAMES}
        for field, paper in values["paper"].items():
            here = {preset: values[preset][field] for preset in NAMES}
            if any(value != paper for value in here.values()):
                yield Row(part, field, here, reasons[field])


def table() -> str:
    """All presets beside each other: the fields that differ from the paper, and why, as text."""
    lines = [f"{name:<6} {about}" for name, about in ABOUT.items()]
    part = None
    for row in rows():
        if row.part != part:
            part = row.part
            lines += ["", f"{TITLES[part]:<34}" + "".join(f"{name:>14}" for name in NAMES)]
        lines.append(f"{row.field:<34}" + "".join(f"{_short(v):>14}" for v in row.values.values()))
        lines += textwrap.wrap(row.reason, 90, initial_indent="    ", subsequent_indent="    ")
    lines += ["", "The paper leaves open, and all presets have alike:"]
    lines += textwrap.wrap(OPEN, 90, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)


def differences(preset: str) -> str:
    """What a preset does otherwise than the paper, and why, as text."""
    lines = [f"{preset}: {ABOUT[preset]}", f"{'':<22}{'the paper':<14}{preset:<14}why"]
    part = None
    for row in rows():
        here, paper = row.values[preset], row.values["paper"]
        if here == paper:
            continue
        if row.part != part:
            part = row.part
            lines.append(TITLES[part])
        start = f"  {row.field:<20}{_short(paper):<14}{_short(here):<14}"
        first, *more = textwrap.wrap(row.reason, 94 - len(start))
        lines += [start + first, *(" " * len(start) + line for line in more)]
    if len(lines) == 2:
        lines = [lines[0], "  nothing differs; what the paper leaves open has the course's values"]
    return "\n".join(lines)


def _short(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else "gradient" if value is None else str(value)
