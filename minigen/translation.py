"""Excursion 3: from one picture to another: repaired, coloured in, painted over.

Sources: Ledig et al. 2017 (SRGAN), Isola et al. 2017 (pix2pix), Meng et al. 2022 (SDEdit).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigen import ddim
from minigen.common import Batches, counted, one_cycle
from minigen.ddpm import Denoised, Denoiser, Generators, draw_like
from minigen.diffusion import Diffusion
from minigen.gan import discriminator_loss, generator_loss
from minigen.inputs import alike, images, number, refuse, tensor, whole


def repaired(network: nn.Module, x: Tensor) -> Tensor:
    """A picture and what the network adds to it, in one run: x + f(x).

    The network is a U-Net as in chapter 5, asked at time 0 only, so that regression, GAN and
    diffusion can be compared with one network. Shapes: (N, 3, H, W) → as x.
    """
    zero = torch.zeros(1, dtype=torch.long, device=x.device)
    return x + network(x, zero)


class RepairStep(NamedTuple):
    """A step (from 1) of `train_repair`: the loss's parts, before weighting, and the judge's."""

    step: int
    pixel: float
    perceptual: float
    adversarial: float
    judge: float


def train_repair(
    network: nn.Module, data: Batches, *, steps: int, squared: bool = True,
    perceptual: Callable[[Tensor, Tensor], Tensor] | None = None, judge: nn.Module | None = None,
    weight: float = 0.05, pairs: bool = False, lr: float = 1e-3
) -> Iterator[RepairStep]:
    """Train on batches (damaged, whole); yields a `RepairStep` a step.

    L = pixel + perceptual + weight · L_G,   pixel: the squared error, or |·| with squared=False

    Pixel alone learns the mean of what can have been. judge: a `PatchDiscriminator`, trained beside
    it with the hinge loss; with pairs=True it sees the damaged picture too, in six channels, and so
    judges whether the two belong together (pix2pix), else only whether the answer looks real
    (SRGAN). Shapes: (B, 3, H, W) twice.
    Source: Ledig et al. 2017, Eq. 3; Isola et al. 2017, Eq. 4 (λ L1, which is 1 / weight of ours).
    """
    number(weight, "weight", 0)
    number(lr, "lr", 0)
    if pairs and judge is None:
        raise ValueError("pairs are for a judge to see: pass one, or leave pairs out")
    betas = (0.5, 0.9) if judge is not None else (0.9, 0.999)
    optimiser = torch.optim.Adam(network.parameters(), betas=betas)
    schedule = one_cycle(optimiser, lr, steps)
    opt_d = torch.optim.Adam(judge.parameters(), lr=lr, betas=betas) if judge is not None else None
    device = next(network.parameters()).device
    error = F.mse_loss if squared else F.l1_loss
    network.train()
    for step, (damaged, undamaged, *_) in counted(data, steps):
        x, wanted = damaged.to(device), undamaged.to(device)
        alike(x, images(wanted, name="the whole"), "the damaged", "the whole")
        answer = repaired(network, x)
        zero = x.new_zeros(())
        pixel = error(answer, wanted)
        got = answer.clamp(-1, 1)            # as the others look at it
        seen = perceptual(got, wanted).mean() if perceptual is not None else zero
        fooled = zero
        if judge is not None:
            judge.requires_grad_(False)
            fooled = generator_loss(judge(_judged(x, got, pairs)), "hinge")
        optimiser.zero_grad()
        (pixel + seen + weight * fooled).backward()
        optimiser.step()
        schedule.step()

        d_loss = zero
        if judge is not None and opt_d is not None:
            judge.requires_grad_(True)
            real, fake = (judge(_judged(x, z, pairs)) for z in (wanted, got.detach()))
            d_loss = discriminator_loss(real, fake, "hinge")
            opt_d.zero_grad()
            d_loss.backward()
            opt_d.step()
        yield RepairStep(step, *(v.item() for v in (pixel, seen, fooled, d_loss)))


def _judged(x: Tensor, answer: Tensor, pairs: bool) -> Tensor:
    return torch.cat([x, answer], 1) if pairs else answer


def outlines(x: Tensor, strength: float = 2.0) -> Tensor:
    """A line drawing of a picture: dark where colours change, white paper elsewhere.

    1 − 2 · min(1, strength · |∇x|), the gradient by Sobel's filters, its largest over the colours.
    Shapes: (N, 3, H, W) in [-1, 1] → as x, grey. Source: Sobel & Feldman 1968.
    """
    images(x)
    number(strength, "strength", positive=True)
    across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
    kernels = torch.stack([across, across.T])[:, None].to(x)           # (2, 1, 3, 3)
    flat = F.pad(x.flatten(0, 1)[:, None], (1, 1, 1, 1), mode="replicate")
    slopes = F.conv2d(flat, kernels).square().sum(1).sqrt()            # (N·3, H, W)
    steepest = slopes.view(len(x), 3, *x.shape[2:]).amax(1, keepdim=True)
    return (1 - 2 * (strength * steepest).clamp(max=1)).expand_as(x).contiguous()


Stroke = tuple[Sequence[float], Sequence[tuple[float, float]], float]


def paint(strokes: Sequence[Stroke], size: int = 32,
          paper: Sequence[float] = (1.0, 1.0, 1.0)) -> Tensor:
    """Brush strokes as a picture, one over the other.

    A stroke is (colour, points, width): red, green, blue in [-1, 1]; its line's corners (x, y), −1
    (left, top) to 1; how broad it is, in the same units. Edges are smoothed over a pixel.
    Shapes: → (1, 3, size, size). Raises: ValueError for a stroke that is none.
    """
    whole(size, "size", 8)
    ground = _colour(paper, "the paper")
    axis = (torch.arange(size) + 0.5) * 2 / size - 1
    at = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)    # (size, size, 2): x, y
    image = ground.view(3, 1, 1).expand(3, size, size).clone()
    for k, stroke in enumerate(strokes):
        if not isinstance(stroke, tuple | list) or len(stroke) != 3:
            refuse(f"stroke {k}", "(colour, points, width)", f"{stroke!r:.40}")
        colour, points, width = stroke
        corners = torch.tensor(points, dtype=torch.float32)
        pairs = corners.ndim == 2 and corners.shape[1] == 2 and len(corners)
        if not pairs or not bool(corners.isfinite().all()):
            refuse(f"the points of stroke {k}", "pairs (x, y), one at least", f"{points!r:.40}")
        rgb = _colour(colour, f"the colour of stroke {k}")
        number(width, f"the width of stroke {k}", positive=True)
        starts, ends = corners[: max(len(corners) - 1, 1)], corners[min(1, len(corners) - 1):]
        away = torch.stack([_to_segment(at, a, b) for a, b in zip(starts, ends, strict=True)])
        cover = (0.5 - (away.amin(0) - width / 2) * size / 2).clamp(0, 1)
        image.lerp_(rgb.view(3, 1, 1).expand_as(image), cover.expand_as(image))
    return image[None]


def _colour(colour: Sequence[float], what: str) -> Tensor:
    rgb = torch.tensor(colour, dtype=torch.float32)
    if rgb.shape != (3,) or not bool((rgb.abs() <= 1).all()):
        refuse(what, "three numbers in [-1, 1]", f"{colour!r:.40}")
    return rgb


def _to_segment(at: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Distance of each pixel to the segment from a to b. Shapes: (H, W, 2), (2,), (2,) → (H, W)."""
    along = b - a
    share = ((at - a) @ along / along.square().sum().clamp_min(1e-12)).clamp(0, 1)
    return (at - a - share[..., None] * along).norm(dim=-1)


def sdedit_sample(
    model: Denoiser, diffusion: Diffusion, x: Tensor, y: Tensor | None = None, *, strength: float,
    steps: int = 20, eta: float = 0.0, clip: Sequence[float] | None = (-1, 1),
    generator: Generators = None, batch_size: int = 256
) -> Iterator[Denoised]:
    """A picture noised part of the way, and denoised from there: the rough strokes become a face.

    strength 0 gives x back, untouched; 1 begins with noise alone and forgets x. Between them
    sampling begins at t = strength · T − 1 with √ᾱ_t x + √(1 − ᾱ_t) ε.
    Yields a `Denoised` a step, at most `steps` of them. Shapes: x (N, C, H, W), pixels or latents.
    Source: Meng et al. 2022, Algorithm 1.
    Raises: ValueError for a strength outside [0, 1].
    """
    number(strength, "strength", 0, 1)
    whole(steps, "steps")
    tensor(x, "x", ("N", "C", "H", "W"))
    T = round(strength * diffusion.T)
    if T == 0:
        yield Denoised(0, x.clone(), x.clone())
        return
    noise = draw_like(x, generator)
    start = noise if strength == 1 else ddim.noised(x, diffusion.alpha_bar[T - 1], noise)
    yield from ddim.ddim_sample(model, diffusion, start, y, steps=min(steps, T), eta=eta, clip=clip,
                                generator=generator, batch_size=batch_size, below=T)
