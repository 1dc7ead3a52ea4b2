"""Chapter 8: what several GPUs gain when they share each batch, on paper.

In data parallel training every GPU computes the gradients of its share of the batch, then all add
theirs up. The first part shrinks with the number of GPUs, the second does not. Arithmetic, like
`minigen.engine.plan`: nothing here was measured on GPUs.
"""

import math
import textwrap
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from minigen.engine.plan import GPU, Plan

# Bytes a second that one card sends to others of its kind while it receives as many, from the
# makers' data sheets: x16 PCIe of the third generation, x16 of the fourth twice, NVLink twice. The
# sheets count both directions: 32, 64, 64, 600 and 900 GB/s. Without NVLink the A100 has PCIe's 32.
LINKS = {"T4": 16e9, "L4": 32e9, "RTX 4070 Super": 32e9, "A100": 300e9, "H100": 450e9}


def ring_bytes(gradients: float, gpus: int) -> float:
    """Bytes that each of N GPUs sends when all add up their gradients in a ring, 2 (N − 1) / N G.

    Each part of the gradients goes around the ring twice, less one place each time: once to be
    added up, once to be told. Source: Patarasuk & Yuan 2009, §3.
    """
    return 2 * (gpus - 1) / gpus * gradients


class Shared(NamedTuple):
    """A training step on so many GPUs: seconds of computing and of moving, one after the other.

    most: the largest number of GPUs for which moving does not take longer than computing, and
    which leaves each GPU an image. Beyond it data parallelism has stopped to pay.
    """

    compute: float
    move: float
    most: int


def shared(plan: "Plan", gpu: "GPU", stage: int) -> Shared | None:
    """A step of stage 1 or 2 on `plan.gpus` GPUs; None where the GPU lacks the number format.

    compute = B w / (N s) and move = 2 (N − 1) / N · G / b, with a batch of B, w operations an
    image, s of them a second, gradients of G bytes and a link of b bytes a second. Both are
    divided by N, so moving is the longer part from N = 1 + B w b / (2 G s) on. In stage 1 the
    discriminator counts as if it judged in each step. The engine moves gradients while it computes
    others, which hides some of `move`; starting and latency, which are left out, add to it.
    """
    config, work = (plan.one, plan.two)[stage - 1], plan.work
    peak = gpu.peaks[config.precision]
    if peak is None:
        return None
    each = work.autoencoder + work.perceptual + work.discriminator if stage == 1 else work.denoiser
    total = config.batch_size * each / (plan.share * peak * 1e12)             # seconds of one GPU
    there = gradient_bytes(plan, stage) / LINKS[gpu.name]
    most = min(config.batch_size, math.floor(1 + total / (2 * there)))
    return Shared(total / plan.gpus, ring_bytes(there, plan.gpus), most)


def gradient_bytes(plan: "Plan", stage: int) -> int:
    """Bytes of all gradients of a stage, which stay in float32 where products are of 16 bits."""
    sizes = plan.sizes
    return 4 * (sizes["IVQVAE"] + sizes["judge"] if stage == 1 else sizes["FFTD"])


def report(plan: "Plan") -> list[str]:
    """A plan on several GPUs in words, at most 94 letters a line."""
    from minigen.engine.plan import GPUS
    from minigen.engine.planned import WIDTH, size

    moved = " and ".join(f"{size(ring_bytes(gradient_bytes(plan, k), plan.gpus))} in stage {k}"
                         for k in (1, 2))
    about = (f"{plan.gpus} GPUs that share each batch send and receive {moved} a step, each of "
             "them: 2 (N − 1) / N times the bytes of the gradients. Milliseconds a step of "
             "computing and of moving, links as fast as their data sheets say, and up to how many "
             "GPUs moving is not the longer part and each has an image:")
    lines = textwrap.wrap(about, WIDTH)
    lines.append(f"  {'':<15}{'GB/s':>6}{'stage 1':>11}{'moving':>9}{'up to':>7}"
                 f"{'stage 2':>11}{'moving':>9}{'up to':>7}")
    for gpu in GPUS:
        row = f"  {gpu.name:<15}{LINKS[gpu.name] / 1e9:>6g}"
        for stage in (1, 2):
            step = shared(plan, gpu, stage)
            row += f"{'–':>11}{'–':>9}{'–':>7}" if step is None else (
                f"{_ms(step.compute):>11}{_ms(step.move):>9}{step.most:>7,}")
        lines.append(row)
    for stage, config in enumerate((plan.one, plan.two), 1):
        if config.batch_size < plan.gpus:
            lines.append(f"Stage {stage} has a batch of {config.batch_size:,}, too few for "
                         f"{plan.gpus:,} GPUs: each needs one at least.")
    return lines


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:,.3g}" if seconds < 0.9995 else f"{1000 * seconds:,.0f}"
