"""Chapter 8: a plan in words, at most 94 letters a line."""

import math
import textwrap
from typing import TYPE_CHECKING

from minigen.engine import presets, scaling

if TYPE_CHECKING:
    from minigen.engine.plan import Plan

WIDTH = 94


def report(plan: "Plan") -> str:
    """All that a plan says."""
    w, one, two = plan.work, plan.one, plan.two
    pixels, codes, channels, grid = plan.shape
    with_p = w.autoencoder + w.perceptual
    critic = {"lpips": "with LPIPS", "toy": "with the toy loss"}.get(one.perceptual, "")
    lines = [
        f"{plan.preset}: {presets.ABOUT[plan.preset]}",
        "What follows is arithmetic; nothing in it was measured.",
        f"Stage 1: {one.steps:,} steps of {_images(one.batch_size)}, {pixels}×{pixels}, in "
        f"{one.precision}; {grid**2} tokens of {codes:,} codes",
        f"  IVQ-VAE {_million(plan.sizes['IVQVAE'])}, discriminator "
        f"{_million(plan.sizes['judge'])} parameters",
        f"  GFLOP an image and step: {_giga(w.autoencoder)}; {critic} {_giga(with_p)}; and the "
        f"discriminator {_giga(with_p + w.discriminator)}",
        f"  forward only: encoder {_giga(w.encode)}, decoder {_giga(w.decode)}",
        f"Stage 2: {two.steps:,} steps of {two.batch_size:,} "
        f"latent{'s' * (two.batch_size > 1)}, {channels}×{grid}×{grid}, in {two.precision}",
        f"  FFTD {_million(plan.sizes['FFTD'])} parameters; GFLOP a latent and step "
        f"{_giga(w.denoiser)}, forward only {_giga(w.denoise)}",
        *_memory(plan), *_disk(plan), *_hours(plan)]
    if plan.gpus > 1:
        lines += scaling.report(plan)
    return "\n".join(lines)


def _images(n: int) -> str:
    return "1 image" if n == 1 else f"{n:,} images"


def _million(n: int) -> str:
    return f"{n / 1e6:.2f} M"


def _giga(n: float) -> str:
    return f"{n / 1e9:.3g}"


def size(n: float) -> str:
    """Bytes as a person reads them."""
    return f"{n / 1e9:,.1f} GB" if n >= 1e8 else f"{n / 1e6:,.1f} MB"


def _memory(plan: "Plan") -> list[str]:
    lines = ["Memory of the GPU: weights, gradients, Adam, averages, and activations (an estimate)"]
    if plan.gpus > 1:
        lines = ["Memory of one GPU that takes the whole batch (of its activations an estimate)"]
    for stage, fixed in enumerate(plan.fixed, 1):
        need = plan.memory(stage)
        lines.append(f"  stage {stage}: {size(fixed)} and {size(need - fixed)}, in all "
                     f"{size(need)}")
    return lines


def _disk(plan: "Plan") -> list[str]:
    from minigen.engine.plan import INCEPTION_FILE, VGG_FILE

    disk = plan.disk()
    parts = "; ".join(f"{name} {size(n)}" for name, n in disk.items())
    fetched = f"FID's network {size(INCEPTION_FILE)}"
    if plan.one.perceptual == "lpips":
        fetched += f", LPIPS' VGG16 {size(VGG_FILE)}"
    text = f"Disk, for {plan.images:,} images: {parts}; fetched once: {fetched}"
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ")


def _hours(plan: "Plan") -> list[str]:
    """The table of GPUs, and what does not fit."""
    from minigen.engine.plan import DDIM_STEPS, GPUS, SAMPLES

    kinds = plan.one.precision, plan.two.precision
    title = "Hours" if plan.gpus == 1 else "Hours of one GPU"
    lines = [f"{title} at {plan.share:.0%} of the peak ({', '.join(dict.fromkeys(kinds))}), an "
             "assumption: `make gpu` measures",
             f"  {'':<15}{'TFLOP/s':>9}{'stage 1':>9}{'encode':>9}{'stage 2':>9}{'sum':>9}"
             f"{f'{SAMPLES:,} samples':>16}  memory"]
    for gpu in GPUS:
        hours, peak = plan.hours(gpu), gpu.peaks[kinds[0]]
        if not hours:
            lines.append(f"  {gpu.name:<15}{'–':>9}  no {kinds[0]}: --precision float16")
            continue
        columns = [("stage 1", 9), ("encode", 9), ("stage 2", 9), ("sum", 9), ("samples", 16)]
        numbers = "".join(f"{_time(hours[name]):>{width}}" for name, width in columns)
        lines.append(f"  {gpu.name:<15}{peak:>9g}{numbers}  {_fit(plan, gpu.memory)}")
    lines += ["Peaks: dense, sums in float32, from the makers' data sheets "
              "(minigen.engine.plan.GPUS).",
              f"The samples are {DDIM_STEPS} DDIM steps each, in float32."]
    if plan.one.batch_size == 1:
        lines += ["With a batch of 1 this is a bound from below: the time goes into starting "
                  "kernels. The paper", "tells 57 hours for stage 2 on an RTX 4070 Super."]
    return lines


def _time(hours: float) -> str:
    if hours < 0.01:
        return "< 0.01"
    return f"{hours:.2f}" if hours < 1 else f"{hours:,.1f}" if hours < 100 else f"{hours:,.0f}"


def parts_for(plan: "Plan", memory: float) -> int | None:
    """The least --accumulate with which a step of stage 1 fits into so many bytes, or None."""
    batch, spare = plan.one.batch_size, (memory - plan.fixed[0]) / plan.activations[0]
    fitting = (n for n in range(1, batch + 1) if batch % n == 0 and batch // n <= math.floor(spare))
    return next(fitting, None)


def _fit(plan: "Plan", gigabytes: float) -> str:
    """Whether both stages fit, or the smallest --accumulate with which stage 1 does."""
    have = 0.9 * gigabytes * 1e9
    parts = parts_for(plan, have)
    if parts is None or plan.memory(2) > have:
        return "too small"
    return "fits" if parts == 1 else f"--accumulate {parts}"
