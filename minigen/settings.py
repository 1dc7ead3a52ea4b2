"""Chapter 8: the settings of both stages, with their presets, and the images they train on."""

import dataclasses

import torch

from minigen import training
from minigen.data import ATTRIBUTES, PreparedImages, ToyFaces, draw_faces
from minigen.errors import DataError


@dataclasses.dataclass
class Config:
    """What both stages share."""

    out: str = "runs/stage"
    preset: str = "small"
    steps: int = 1000
    batch_size: int = 32
    lr: float = 1e-3
    decay: bool = True           # the learning rate rises over the first tenth and falls like a cosine; off: constant
    ema: float = 0.999
    precision: str = "float32"   # or bf16
    compile: bool = False        # torch.compile (stage 2 on a GPU: with CUDA graphs)
    seed: int = 0
    save_every: int = 500
    sample_every: int = 500
    log_every: int = 10
    keep: int = 3
    max_skipped: int = 10
    device: str = ""             # "" is the GPU where there is one


@dataclasses.dataclass
class Stage1(Config):
    """IVQ-VAE's training. data: a folder of `prepare`, or "toyfaces:N", N drawn faces.

    discriminator_start: the step from which it judges. accumulate: parts of a batch done in turn.
    """

    data: str = "toyfaces:4096"
    out: str = "runs/ivqvae"
    lr: float = 2e-3
    perceptual: str = "toy"      # or lpips, or none
    lambda_d: float = 0.05
    discriminator_start: int = 700
    init_images: int = 128       # the codebook's start: k-means over the latents of so many images; 0: random
    accumulate: int = 1


@dataclasses.dataclass
class Stage2(Config):
    """FFTD's training. latents: what `encode` wrote; labels: whether to use the classes stored there, where there are some."""

    out: str = "runs/fftd"
    latents: str = "runs/latents.safetensors"
    batch_size: int = 128
    fusion: str = "adaptive"
    levels: int = 2
    dropout: float = 0.0
    labels: bool = True
    drop_label: float = 0.15


# What a preset changes. The paper takes 4,000,000 steps with a batch of 1. Stage 1 here sees as many images in larger batches,
# stage 2 twenty-five times as many: larger batches cost it almost no time.
PRESETS = {
    "Stage1": {"small": {}, "paper": dict(
        lr=1e-4, batch_size=16, steps=250_000, discriminator_start=125_000, decay=False, ema=0.9999, init_images=0,
        perceptual="lpips", precision="bf16", save_every=2000, sample_every=2000, log_every=100)},
    "Stage2": {"small": {}, "paper": dict(
        lr=1e-4, batch_size=256, steps=400_000, decay=False, ema=0.9999, save_every=10_000, sample_every=10_000, log_every=500)},
}


def make_config(cls, **given):
    """A config of a stage: its defaults, the preset's, then what was given. Raises: DataError for an unknown name or value."""
    names = {f.name: f for f in dataclasses.fields(cls)}
    if unknown := sorted(given.keys() - names):
        raise DataError(f"There is no setting '{unknown[0]}'; there are {', '.join(names)}.")
    presets = PRESETS[cls.__name__]
    if (preset := given.get("preset", "small")) not in presets:
        raise DataError(f"There is no preset '{preset}'; there are {', '.join(presets)}.")
    config = cls(**{**presets[preset], **given})
    if config.precision not in ("float32", "bf16"):
        raise DataError(f"precision is float32 or bf16; got '{config.precision}'.")
    if min(config.steps, config.batch_size, config.save_every, config.sample_every, config.log_every, config.keep) < 1:
        raise DataError("steps, batch_size, save_every, sample_every, log_every and keep are at least 1.")
    parts = training.world() * getattr(config, "accumulate", 1)
    if config.max_skipped < 1 or getattr(config, "accumulate", 1) < 1:
        raise DataError("max_skipped and accumulate are at least 1.")
    if config.batch_size % parts:
        raise DataError(f"A batch of {config.batch_size} cannot be cut into {parts} equal parts "
                        f"({training.world()} processes, --accumulate {getattr(config, 'accumulate', 1)}).")
    return config


class Images:
    """Images by index from a prepared folder, or drawn; mirrored where asked. `digest` names the data."""

    def __init__(self, data, size):
        if data.startswith("toyfaces:"):
            self.faces, self.folder, self.n = ToyFaces(int(data.split(":")[1]), seed=0), None, int(data.split(":")[1])
            self.digest, self.classes, self.labels = f"{data} size {size}", list(ATTRIBUTES["hair"]), self.faces["hair"]
        else:
            self.folder = PreparedImages(data)
            self.n, self.digest, self.classes = len(self.folder), self.folder.manifest["pixels_sha256"], self.folder.classes
            self.labels = self.folder.labels
            if self.folder.manifest["size"] != size:
                raise DataError(f"'{data}' holds images of {self.folder.manifest['size']} pixels, the model takes {size}: "
                                f"prepare them again with --size {size}.")
        self.size = size

    def __len__(self):
        return self.n

    def __call__(self, indices, flips=None):
        if self.folder is None:
            x = draw_faces(self.faces.labels[indices], self.faces.jitter[indices], self.size)
        else:
            x = self.folder[indices.numpy()][0]
        return x if flips is None else torch.where(flips[:, None, None, None], x.flip(-1), x)
