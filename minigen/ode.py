"""Chapter 6: the differential equation behind DDIM, and steps of second order along it.

With κ = √ᾱ / √(1 − ᾱ), the root of the signal-to-noise ratio, and z = x / √(1 − ᾱ) it reads

dz / dκ = x̂_0(x, t)

and DDIM is Euler's method: z_s = z_t + (κ_s − κ_t) x̂_0. (With ε̂ for a slope, 1 / κ and x / √ᾱ it
is the same line and the same step; but there a small error at the beginning, where 1 / κ is huge,
is multiplied by it.) Sources: Song et al. 2021 (score-based SDEs), Eq. 13; Lu et al. 2022
(DPM-Solver++), Eq. 4 and Algorithm 2; Karras et al. 2022, Algorithm 1.
"""

import math
from collections.abc import Iterator, Sequence

from torch import Tensor
from tqdm.auto import tqdm

from minigen.common import evaluating
from minigen.ddim import alpha_bars, visited_pairs
from minigen.ddpm import Denoised, Denoiser, check_diffusion, check_sampling, guess
from minigen.diffusion import Diffusion
from minigen.inputs import alike


def along(diffusion: Diffusion, x: Tensor, slope: Tensor, t: int, s: int) -> Tensor:
    """x carried from time t to s in a straight line of the (κ, z) plane; s = −1 is the clean image.

    x_s = σ_s / σ_t · x + (√ᾱ_s − √ᾱ_t σ_s / σ_t) · slope,   σ = √(1 − ᾱ)

    which is z_s = z_t + (κ_s − κ_t) · slope, also where κ_s is infinite. slope = x̂_0(x, t) is DDIM.
    Shapes: x, slope (N, …).
    """
    alike(x, slope, "x", "slope")
    now, then = (float(a) for a in alpha_bars(diffusion, t, s))
    on_x = math.sqrt((1 - then) / (1 - now))
    on_slope = math.sqrt(then) - math.sqrt(now) * on_x
    return on_x * x + on_slope * slope


def heun_sample(model: Denoiser, diffusion: Diffusion, xT: Tensor, y: Tensor | None = None, *,
                steps: int, spacing: str = "trailing", prediction: str | None = None,
                clip: Sequence[float] | None = None, batch_size: int = 256,
                progress: bool = False) -> Iterator[Denoised]:
    """Heun's method: go to the end of the step, ask there too, and go again with the mean slope.

    2 · steps − 1 runs of the network: the last step, to the clean image, has no end to ask at.
    Arguments, states yielded: as `minigen.ddim.ddim_sample`'s with η = 0. Shapes: xT (N, …).
    Source: Karras et al. 2022, Algorithm 1, with x̂_0 for a slope.
    """
    check_diffusion(model, diffusion)
    check_sampling(xT, y, clip, batch_size)
    x = xT
    for t, s in tqdm(visited_pairs(diffusion.T, steps, spacing), desc="sampling",
                     disable=not progress):
        with evaluating(model):
            x0 = guess(model, diffusion, x, t, y, prediction, clip, batch_size)[0]
            end = along(diffusion, x, x0, t, s)                     # Euler's step, that is DDIM's
            if s >= 0:
                there = guess(model, diffusion, end, s, y, prediction, clip, batch_size)[0]
                end = along(diffusion, x, (x0 + there) / 2, t, s)
            x = end
        yield Denoised(t, x, x0)


def multistep_sample(model: Denoiser, diffusion: Diffusion, xT: Tensor, y: Tensor | None = None, *,
                     steps: int, spacing: str = "trailing", prediction: str | None = None,
                     clip: Sequence[float] | None = None, batch_size: int = 256,
                     progress: bool = False) -> Iterator[Denoised]:
    """Second order for the price of the first: the guess before this one says where x̂_0 goes.

    In λ = log κ the guess is nearly a straight line: through the last two, to the step's middle.

    slope = x̂_0 + (x̂_0 − x̂_0 before) · (λ_s − λ_t) / (2 (λ_t − λ_before))

    `steps` runs of the network: the first step and the last, to λ = ∞, are DDIM's.
    Arguments, states yielded: as `minigen.ddim.ddim_sample`'s with η = 0. Shapes: xT (N, …).
    Source: Lu et al. 2022, DPM-Solver++(2M), Algorithm 2.
    """
    check_diffusion(model, diffusion)
    check_sampling(xT, y, clip, batch_size)
    x, before = xT, None
    for t, s in tqdm(visited_pairs(diffusion.T, steps, spacing), desc="sampling",
                     disable=not progress):
        with evaluating(model):
            x0 = guess(model, diffusion, x, t, y, prediction, clip, batch_size)[0]
        slope, here = x0, log_kappa(diffusion, t)
        if before is not None and s >= 0:
            share = (log_kappa(diffusion, s) - here) / (here - before[0])
            slope = x0 + share / 2 * (x0 - before[1])
        x, before = along(diffusion, x, slope, t, s), (here, x0)
        yield Denoised(t, x, x0)


def log_kappa(diffusion: Diffusion, t: int) -> float:
    """λ = log(√ᾱ / √(1 − ᾱ)), half the logarithm of the signal-to-noise ratio at time t."""
    return 0.5 * math.log(float(diffusion.snr[t]))
