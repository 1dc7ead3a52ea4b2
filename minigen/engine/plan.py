"""Chapter 8: what a preset costs, before it is begun: work, memory, disk, hours.

The work is counted by torch on networks without values (the meta device), so it is exact up to
element-wise operations. Bytes of weights and files are exact, those of activations an estimate.
Hours are arithmetic: work / (share · peak). Nothing here is measured on a GPU.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from minigen import fftd, ivqvae, room
from minigen.common import evaluating
from minigen.engine import presets
from minigen.engine.settings import Stage1, Stage2, check_number, make_config
from minigen.perceptual import ToyPerceptual

SHARE = 0.15               # of the peak that a training is taken to reach
SAMPLES = 50_000           # of an FID
DDIM_STEPS = 500
IMAGES = {"small": 4096}   # else a set such as CelebA-HQ
MANY_IMAGES = 30_000
HALF = 0.85                # of the activations' bytes with 16-bit products: norms stay in 32 bits
VGG_FILE, INCEPTION_FILE = 528e6, 91e6     # bytes that LPIPS and FID fetch once


class GPU(NamedTuple):
    """A GPU: gigabytes, and the peak in TFLOP/s by number format (dense, sums in float32)."""

    name: str
    memory: float
    peaks: dict[str, float | None]
    source: str


# Dense peaks with sums in float32. float32 is that of ordinary cores: on an L4, A100 or H100 torch
# lets convolutions use TF32 where it is not told otherwise, so encoding and samples may take less.
# A memory's bandwidth is in no formula here; it is one reason why the share of the peak is small:
# 320 GB/s for the T4, 300, 504, 1,555 and 3,350 for the others.
GPUS = (
    GPU("T4", 15, dict(float32=8.1, float16=65, bf16=None),
        "NVIDIA T4 data sheet, mixed precision; 15 of its 16 GB are free to use; it has no bf16"),
    GPU("L4", 22, dict(float32=30.3, float16=121, bf16=121),
        "NVIDIA L4 data sheet: 242 with sparsity, half of it without; 22 of its 24 GB"),
    GPU("RTX 4070 Super", 12, dict(float32=35.5, float16=71, bf16=71),
        "NVIDIA's page of the card: 568 'AI TOPS' are 8 bits with sparsity; half without, half of "
        "that in 16 bits, and GeForce cards halve it again for sums in float32"),
    GPU("A100", 40, dict(float32=19.5, float16=312, bf16=312),
        "NVIDIA A100 data sheet, the card of 40 GB"),
    GPU("H100", 80, dict(float32=67, float16=989, bf16=989),
        "NVIDIA H100 SXM data sheet: 1,979 with sparsity, half of it without"),
)


class VGGDistance(nn.Module):
    """The work of LPIPS without its weights: VGG16's convolutions, and a number a channel.

    Source: Zhang et al. 2018; the layers as in `lpips`.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = ((3, 64, 64), (64, 128, 128), (128, 256, 256, 256), (256, 512, 512, 512),
                  (512, 512, 512, 512))
        self.levels = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(a, b, 3, 1, 1) for a, b in itertools.pairwise(w))
            for w in widths)
        self.linear = nn.ModuleList(nn.Conv2d(w[-1], 1, 1, bias=False) for w in widths)
        self.requires_grad_(False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        total = x.new_zeros(())
        for k, linear in enumerate(self.linear):
            level: Any = self.levels[k]
            for layer in level:
                x, y = layer(x).relu(), layer(y).relu()
            total = total + linear((x - y).square()).mean()
            if k < 4:
                x, y = nn.functional.max_pool2d(x, 2), nn.functional.max_pool2d(y, 2)
        return total


def flops(act: Callable[[], Any]) -> int:
    """Floating point operations of products and convolutions in act(), 2 for a multiply-add."""
    with FlopCounterMode(display=False) as counter:
        act()
    return counter.get_total_flops()


@dataclasses.dataclass
class Work:
    """Operations for one image: a training step of each part, and both directions alone."""

    autoencoder: int
    perceptual: int
    discriminator: int        # in the autoencoder's step and in its own
    encode: int
    decode: int
    denoiser: int             # FFTD's training step, of one latent
    denoise: int              # forward only


@dataclasses.dataclass
class Plan:
    """What `plan` found; str(plan) is a report of at most 94 letters a line."""

    preset: str
    one: Stage1
    two: Stage2
    images: int
    share: float
    work: Work
    shape: tuple[int, int, int, int]          # pixels, codes, channels and side of the latents
    sizes: dict[str, int]                     # parameters of each network
    checkpoints: tuple[int, int]              # bytes of one, of each stage
    fixed: tuple[float, float]                # bytes of weights, gradients, Adam, averages
    activations: tuple[float, float]          # bytes an image, an estimate
    gpus: int = 1                             # that share each batch

    def totals(self) -> dict[str, tuple[float, str]]:
        """Operations of every part of a full run, and the format they are done in."""
        one, two, w = self.one, self.two, self.work
        judged = (one.steps - one.discriminator_start + 1) * one.batch_size
        seen = one.steps * one.batch_size
        first = seen * (w.autoencoder + w.perceptual) + judged * w.discriminator
        drawn = SAMPLES * (DDIM_STEPS * w.denoise + w.decode)
        return {
            "stage 1": (first, one.precision), "encode": (2 * self.images * w.encode, "float32"),
            "stage 2": (two.steps * two.batch_size * w.denoiser, two.precision),
            "samples": (drawn, "float32")}

    def hours(self, gpu: GPU) -> dict[str, float]:
        """Hours of every part on a GPU at this share of its peak; {} where it lacks the format."""
        found = {}
        for name, (work, kind) in self.totals().items():
            if (peak := gpu.peaks[kind]) is None:
                return {}
            found[name] = work / (self.share * peak * 1e12) / 3600
        return found | dict(sum=found["stage 1"] + found["encode"] + found["stage 2"])

    def memory(self, stage: int) -> float:
        """Bytes that a training step of stage 1 or 2 takes, an estimate."""
        config: Any = (self.one, self.two)[stage - 1]
        at_once = config.batch_size // getattr(config, "accumulate", 1)
        return self.fixed[stage - 1] + at_once * self.activations[stage - 1]

    def disk(self) -> dict[str, float]:
        """Bytes on disk, by what."""
        pixels, _, channels, grid = self.shape
        one, two = self.checkpoints
        picture = 16 * 3 * pixels**2
        drawn = sum(c.steps // c.sample_every for c in (self.one, self.two))
        return {
            "prepared images": self.images * 3 * pixels**2,
            "checkpoints of stage 1": (self.one.keep + 1) * one,
            "checkpoints of stage 2": (self.two.keep + 1) * two,
            "latents": 2 * self.images * 4 * channels * grid**2,
            "pictures, at most": drawn * picture, f"{SAMPLES:,} samples": SAMPLES * 3 * pixels**2}

    def __str__(self) -> str:
        from minigen.engine.planned import report

        return report(self)


def plan(
    preset: str = "small", images: int | None = None, share: float = SHARE, gpus: int = 1
) -> Plan:
    """What a preset costs. images: in the data set; share: of the peak that is reached; gpus: so
    many share each batch (`minigen.engine.scaling`).
    """
    gpus = check_number("gpus", gpus, int, 1, 10**6)
    share = check_number("share", share, above=0, high=1)
    usual = IMAGES.get(preset, MANY_IMAGES)
    images = check_number("images", usual if images is None else images, int, 1, 10**9)
    one, two = make_config(Stage1, preset=preset), make_config(Stage2, preset=preset)
    with torch.device("meta"):
        autoencoder = ivqvae.IVQVAE(**presets.network("IVQVAE", preset))
        judge = ivqvae.PatchDiscriminator(**presets.network("PatchDiscriminator", preset))
        denoiser = fftd.FFTD(**presets.network("FFTD", preset))
    critic = _critic(one.perceptual)
    x, z = _inputs(autoencoder)
    noisy = torch.zeros(1, *z.shape[1:], device="meta")
    work, kept = _stage1_work(autoencoder, critic, judge, x, z)
    t = torch.zeros(1, dtype=torch.long, device="meta")
    forward = flops(lambda: _forward(denoiser, noisy, t))
    trained = flops(lambda: denoiser(noisy, t).mean().backward())
    each = room.kept_for_backward(denoiser, noisy, t)
    config, net = autoencoder.config, room.bytes_of
    states = [room.bytes_of(dict(m.state_dict())) for m in (autoencoder, judge, denoiser)]
    trainable = [net(list(m.parameters())) for m in (autoencoder, judge, denoiser)]
    half = [HALF if c.precision != "float32" else 1.0 for c in (one, two)]
    return Plan(
        preset, one, two, images, share, Work(*work, trained, forward),
        (config["size"], config["num_codes"], config["code_dim"], autoencoder.grid),
        dict(IVQVAE=_count(autoencoder), judge=_count(judge), FFTD=_count(denoiser)),
        (2 * states[0] + 2 * trainable[0] + states[1] + 2 * trainable[1],
         2 * states[2] + 2 * trainable[2]),
        (2 * states[0] + 3 * trainable[0] + states[1] + 3 * trainable[1] + net(critic),
         2 * states[2] + 3 * trainable[2]),
        (half[0] * kept, half[1] * each), gpus)


def _count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def _critic(kind: str) -> nn.Module | None:
    if kind == "toy":
        return ToyPerceptual().to("meta")
    with torch.device("meta"):
        return VGGDistance() if kind == "lpips" else None


def _inputs(model: ivqvae.IVQVAE) -> tuple[Tensor, Tensor]:
    """An image and its latent, without values."""
    size, channels, grid = model.config["size"], model.config["code_dim"], model.grid
    x = torch.zeros(1, 3, size, size, device="meta")
    return x, torch.zeros(1, channels, grid, grid, device="meta")


def _forward(net: Callable[..., Tensor], *inputs: Tensor) -> None:
    with torch.no_grad():
        net(*inputs)


def _stage1_work(
    model: ivqvae.IVQVAE, critic: nn.Module | None, judge: nn.Module, x: Tensor, z: Tensor
) -> tuple[tuple[int, int, int, int, int], float]:
    """(autoencoder, perceptual, discriminator, encode, decode) for one image, and bytes kept."""
    fake = torch.zeros_like(x).requires_grad_()
    quantise = 2 * z[0, 0].numel() * model.quantizer.num_codes * z.shape[1]
    encode = flops(lambda: _forward(model.encoder, x))
    decode = flops(lambda: _forward(model.decoder, z))
    with evaluating(model):
        kept = room.kept_for_backward(model.encoder, x) + room.kept_for_backward(
            model.decoder, z.clone().requires_grad_())
    both = flops(lambda: model.decoder(model.encoder(x)).mean().backward())
    seen = 0
    if critic is not None:
        seen = flops(lambda: critic(fake, x).mean().backward())
        kept += room.kept_for_backward(critic, fake, x)
    judge.requires_grad_(False)
    judged = flops(lambda: judge(fake).mean().backward())
    kept += room.kept_for_backward(judge, fake)
    judge.requires_grad_(True)
    judged += flops(lambda: (judge(x).mean() - judge(fake.detach()).mean()).backward())
    return (both + quantise, seen, judged, encode + quantise, quantise + decode), kept
