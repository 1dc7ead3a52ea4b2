"""Excursion 3: damaged pictures restored by a model of what pictures look like.

Two answers to "what was it?": the mean of all that it can have been (least squared error, blurred),
and one of them, drawn. The samplers here draw, with a diffusion model never trained for the damage.
Sources: Wiener 1949; Blau & Michaeli 2018 (perception and distortion); Lugmayr et al. 2022
(RePaint), Choi et al. 2021 (ILVR), Chung et al. 2023 (DPS), Song et al. 2023 (ΠGDM).
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from minigen.common import evaluating
from minigen.ddim import ddim_sample, ddim_step, noised, put_back_sample, visited_pairs
from minigen.ddpm import (
    Denoised,
    Denoiser,
    Generators,
    check_diffusion,
    check_sampling,
    draw_like,
    guess,
)
from minigen.diffusion import Diffusion
from minigen.inputs import alike, number, refuse, tensor
from minigen.measurements import Measurement


def wiener(y: Tensor, mean: Tensor, cov: Tensor, variance: float) -> Tensor:
    """The best linear guess of x behind y = x + noise: μ + Σ (Σ + σ² I)⁻¹ (y − μ).

    It needs the pictures' mean μ and covariance Σ only; were they Gaussian, no guess at all would
    be better. Shapes: y (N, D), mean (D,), cov (D, D), variance σ² a number → (N, D).
    Source: Wiener 1949. Raises: ValueError for σ² not above 0, shapes that are not of one space.
    """
    tensor(y, "y", ("N", "D"))
    dim = y.shape[1]
    tensor(mean, "mean", (dim,))
    tensor(cov, "cov", (dim, dim))
    number(variance, "variance", positive=True)
    noisy = cov + variance * torch.eye(dim, dtype=cov.dtype, device=cov.device)
    far = (y - mean).to(cov)
    return (mean + torch.linalg.solve(noisy, far.T).T @ cov.T).to(y)


class GaussianDenoiser:
    """The perfect network for pictures that are N(mean, cov): E[x_0 | x_t] in closed form.

    E[x_0 | x_t] = μ + √ᾱ Σ (ᾱ Σ + (1 − ᾱ) I)⁻¹ (x_t − √ᾱ μ)

    With it a sampler can be held against the posterior that is known exactly. It predicts x_0.
    Shapes: mean (D,), cov (D, D); x (N, …) of D numbers each, t (1,) → as x.
    """

    prediction = "x0"

    def __init__(self, diffusion: Diffusion, mean: Tensor, cov: Tensor):
        tensor(cov, "cov", (len(tensor(mean, "mean", ("D",))), len(mean)))
        self.diffusion, self.mean, self.cov = diffusion, mean, cov

    def _gain(self, t: int) -> tuple[float, Tensor]:
        share = float(self.diffusion.alpha_bar[t])
        noisy = share * self.cov + (1 - share) * torch.eye(len(self.cov), dtype=self.cov.dtype)
        return share**0.5, share**0.5 * torch.linalg.solve(noisy, self.cov).T

    def __call__(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        if len(t) != 1:
            refuse("t", "one time step for all, (1,)", tuple(t.shape))
        signal, gain = self._gain(int(t[0]))
        return (self.mean + (x.flatten(1) - signal * self.mean) @ gain.T).view_as(x)

    def spread(self, t: int) -> Tensor:
        """Cov[x_0 | x_t], the same for every x_t. Shapes: (D, D)."""
        signal, gain = self._gain(t)
        return self.cov - signal * gain @ self.cov


def time_of(diffusion: Diffusion, sigma: float) -> int:
    """The time step t whose noise is σ: where √(1 − ᾱ_t) / √ᾱ_t is nearest to it.

    For y = x + σ ε is √ᾱ_t y then what the network knows as x_t.
    """
    number(sigma, "sigma", positive=True)
    return int((diffusion.snr.rsqrt() - sigma).abs().argmin())


def denoised(model: Denoiser, diffusion: Diffusion, y: Tensor, sigma: float, *,
             clip: Sequence[float] | None = (-1, 1), batch_size: int = 256) -> Tensor:
    """The network's mean of all pictures that y = x + σ ε can have been: one run of it.

    Shapes: y (N, C, H, W) → as y.
    """
    check_diffusion(model, diffusion)
    check_sampling(y, None, clip, batch_size)
    t = time_of(diffusion, sigma)
    with evaluating(model):
        x = float(diffusion.alpha_bar[t].sqrt()) * y
        return guess(model, diffusion, x, t, clip=clip, batch_size=batch_size)[0]


def denoised_sample(model: Denoiser, diffusion: Diffusion, y: Tensor, sigma: float, *,
                    steps: int = 20, clip: Sequence[float] | None = (-1, 1),
                    generator: Generators = None, batch_size: int = 256) -> Iterator[Denoised]:
    """One picture that y = x + σ ε can have been, drawn: sampling that begins in the middle.

    √ᾱ_t y is taken for x_t, and DDIM with η = 1 goes on from there. Its squared error is twice the
    mean's, 3 dB, where the network is perfect: x and the draw are two independent draws around it.
    Yields a `Denoised` a step. Shapes: y (N, C, H, W).
    Source: Kawar et al. 2021 (stochastic denoising); Blau & Michaeli 2018 (the 3 dB).
    Raises: ValueError for more steps than there are times up to σ's.
    """
    t = time_of(diffusion, sigma)
    x = float(diffusion.alpha_bar[t].sqrt()) * tensor(y, "y", ("N", "C", ...))
    return ddim_sample(model, diffusion, x, steps=steps, eta=1.0, clip=clip, generator=generator,
                       batch_size=batch_size, below=t + 1)


def ilvr_sample(model: Denoiser, diffusion: Diffusion, measurement: Measurement, y: Tensor,
                xT: Tensor, *, steps: int, repeats: int = 1, eta: float = 1.0,
                spacing: str = "trailing", prediction: str | None = None,
                clip: Sequence[float] | None = (-1, 1), generator: Generators = None,
                batch_size: int = 256) -> Iterator[Denoised]:
    """A picture with A x = y, drawn by a model that was never told of A.

    After every step what A sees of x is replaced by y, noised to that step's level:

    x ← x + A⁺ (√ᾱ y + √(1 − ᾱ) A ε − A x)

    With holes it is RePaint (`minigen.ddim.inpaint`), with `shrink` ILVR. repeats: as in `inpaint`.
    Only the prior's own guess reaches what A does not see: exact where the two parts of a picture
    know nothing of each other, else too little bound to y.
    Yields a `Denoised` a step; the last x fulfils A x = y. Shapes: xT (N, C, H, W), y as A xT.
    Source: Choi et al. 2021, Algorithm 1; Lugmayr et al. 2022, Algorithm 1.
    Raises: ValueError for a y that A cannot have given, repeats below 1.
    """
    _measured(y)
    alike(measurement.forward(xT), y, "A x", "y")

    def put(x: Tensor, before: Tensor) -> Tensor:
        noise = measurement.forward(draw_like(x, generator))
        return x + measurement.back(noised(y, before, noise) - measurement.forward(x))

    yield from put_back_sample(model, diffusion, xT, put, steps=steps, repeats=repeats, eta=eta,
                               spacing=spacing, prediction=prediction, clip=clip,
                               generator=generator, batch_size=batch_size, y=None)


def _measured(y: Tensor) -> None:
    if not bool(torch.isfinite(tensor(y, "y")).all()):
        raise ValueError("y, what was measured, holds NaN or infinite values")


def dps_sample(model: Denoiser, diffusion: Diffusion, forward: Callable[[Tensor], Tensor],
               y: Tensor, xT: Tensor, *, steps: int, scale: float = 1.0,
               variance_of: Callable[[int], float] | None = None, eta: float = 1.0,
               spacing: str = "trailing", prediction: str | None = None,
               clip: Sequence[float] | None = (-1, 1),
               generator: Generators = None) -> Iterator[Denoised]:
    """A picture with `forward(x)` near y, for anything that can be differentiated.

    Each step asks which way x_t must go so that the clean guess x̂_0(x_t) is measured as y, through
    the network:

    x_prev = DDIM's step − ζ ∇_{x_t} ‖y − A x̂_0(x_t)‖          (ζ = `scale`)

    The rule behind it: the posterior's score is the prior's plus ∇ log p(y | x_t), and that density
    is taken for a Gaussian around A x̂_0. Where its variance is known, `variance_of(t)` puts the
    rule into ε itself,

    ε ← ε + √(1 − ᾱ) ∇ ‖y − A x̂_0(x_t)‖² / (2 variance_of(t))

    which is exact for Gaussian pictures and one measured number. Yields a `Denoised` a step.
    Shapes: xT (N, C, H, W), y as `forward` gives it; the graphs of all N are held at once.
    Source: Chung et al. 2023, Algorithm 1 (whose ζ' is half of ours); Song et al. 2023 for the
    variance. Raises: ValueError for a y that the measurement cannot have given.
    """
    check_diffusion(model, diffusion)
    check_sampling(xT, None, clip)
    _measured(y)
    alike(forward(xT), y, "the measured picture", "y")
    number(scale, "scale", 0)
    x = xT
    for t, t_prev in visited_pairs(diffusion.T, steps, spacing):
        with evaluating(model), torch.enable_grad():
            x = x.detach().requires_grad_()
            x0, eps, _ = guess(model, diffusion, x, t, prediction=prediction)
            far = (y - forward(x0)).flatten(1)                         # (N, …)
            if variance_of is None:
                how_far = far.norm(dim=1).sum()
            else:
                v = number(variance_of(t), "variance_of(t)", positive=True)
                how_far = far.square().sum() / (2 * v)
            if not how_far.requires_grad:
                raise ValueError("the measurement must be made of operations that torch can "
                                 "differentiate; this one's result has no gradient")
            (slope,) = torch.autograd.grad(how_far, x)
        with torch.no_grad():
            at = torch.tensor([t])
            if variance_of is not None:
                noise_share = float((1 - diffusion.alpha_bar[t]).sqrt())
                x0, eps = diffusion.views(eps + noise_share * slope, x, at, "eps")
            if clip is not None:
                x0 = x0.clamp(*clip)
                eps = diffusion.views(x0, x, at, "x0")[1]
            noise = draw_like(x, generator) if eta > 0 and t_prev >= 0 else None
            x_prev = ddim_step(diffusion, x0.detach(), eps.detach(), t, t_prev, eta, noise)
            x = x_prev if variance_of is not None else x_prev - scale * slope
        yield Denoised(t, x, x0.detach())
