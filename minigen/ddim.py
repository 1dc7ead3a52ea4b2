"""Chapter 6: DDIM. The same trained model, sampled in few steps, without chance, and backwards.

Sources: Song, Meng, Ermon 2021 (DDIM); Liu, Chen, Gao 2026, Eq. 29 and Algorithm 3; Lugmayr et al.
2022 (RePaint).
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from tqdm.auto import tqdm

from minigen.common import as_tensor, evaluating
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
from minigen.inputs import alike, described, is_whole, number, refuse, tensor, whole

NOISE = "the noise, which eta above 0 needs"


def timesteps(T: int, steps: int, spacing: str = "trailing") -> list[int]:
    """Which of the T time steps a sampler visits: `steps` different ones, falling.

    "trailing": T − 1 and down in strides of T / steps (rounded), short of 0 unless steps = T.
    "leading": up from 0 in such strides (cut off), short of T − 1, so that sampling starts from
    less than full noise. "linspace": from T − 1 to 0, both included (rounded).
    Raises: ValueError for steps outside 1 … T, an unknown spacing.
    """
    whole(T, "T")
    if not is_whole(steps) or not 1 <= steps <= T:
        raise ValueError(f"steps must be 1 to T={T}, a whole number: a model knows no time steps "
                         f"between those it was trained on; got {described(steps)}")
    if spacing == "trailing":
        return [int(T * (steps - i) / steps + 0.5) - 1 for i in range(steps)]
    if spacing == "leading":
        return [T * i // steps for i in reversed(range(steps))]
    if spacing == "linspace":
        if steps == 1:
            return [T - 1]
        return [int((T - 1) * i / (steps - 1) + 0.5) for i in reversed(range(steps))]
    raise ValueError(f"spacing must be 'trailing', 'leading' or 'linspace'; got '{spacing}'")


def sigma(diffusion: Diffusion, t: int, t_prev: int, eta: float) -> float:
    """σ = η √((1 − ᾱ_prev) / (1 − ᾱ_t)) √(1 − ᾱ_t / ᾱ_prev).

    t_prev = −1 is the clean image, ᾱ = 1. Source: Song et al. 2021, Eq. 16.
    Raises: ValueError for η below 0, or so large that σ² exceeds 1 − ᾱ_prev.
    """
    number(eta, "eta", 0)
    now, before = alpha_bars(diffusion, t, t_prev)
    s = eta * float(((1 - before) / (1 - now) * (1 - now / before)).sqrt())
    if s**2 > 1 - before + 1e-12:
        raise ValueError(f"eta={eta} asks for more noise than the step from {t} to {t_prev} may "
                         "hold; 0 to 1 is always possible")
    return s


def alpha_bars(diffusion: Diffusion, t: int, t_prev: int) -> tuple[Tensor, Tensor]:
    """ᾱ at both times, ᾱ = 1 at time −1, the clean image."""
    for name, s in (("t", t), ("t_prev", t_prev)):
        s = s.item() if isinstance(s, torch.Tensor) and s.ndim == 0 else s
        whole(s, name, -1, diffusion.T - 1)
    one = torch.ones((), dtype=torch.float64)
    now, before = (one if s < 0 else diffusion.alpha_bar[s] for s in (t, t_prev))
    return now, before


def ddim_step(diffusion: Diffusion, x0: Tensor, eps: Tensor, t: int, t_prev: int, eta: float = 0.0,
              noise: Tensor | None = None) -> Tensor:
    """One step of Eq. 29 from time t to t_prev: down in sampling, up in inversion (η = 0).

    x_prev = √ᾱ_prev x̂_0 + √(1 − ᾱ_prev − σ²) ε + σ · noise

    Shapes: x0, eps, noise (N, …). Source: Song et al. 2021, Eq. 12; Liu, Chen, Gao 2026, Eq. 29.
    """
    alike(x0, eps, "x0", "eps")
    number(eta, "eta", 0)
    _, before = alpha_bars(diffusion, t, t_prev)
    s = sigma(diffusion, t, t_prev, eta) if eta else 0.0
    towards_x0 = float(before.sqrt())
    towards_eps = float((1 - before - s**2).clamp_min(0).sqrt())
    x = towards_x0 * x0 + towards_eps * eps
    if s > 0:
        noise = tensor(noise, NOISE)
        alike(x0, noise, "x0", NOISE)
        x = x + s * noise
    return x


def visited_pairs(T: int, steps: int, spacing: str) -> list[tuple[int, int]]:
    """(t, t_prev) of every step down, the last to time −1, the clean image."""
    visited = timesteps(T, steps, spacing)
    return list(zip(visited, [*visited[1:], -1], strict=True))


def ddim_sample(model: Denoiser, diffusion: Diffusion, xT: Tensor, y: Tensor | None = None, *,
                steps: int, eta: float = 0.0, spacing: str = "trailing",
                prediction: str | None = None, clip: Sequence[float] | None = None,
                generator: Generators = None, batch_size: int = 256, progress: bool = False,
                below: int | None = None) -> Iterator[Denoised]:
    """Sample with `steps` of the model's T steps.

    Yields a `Denoised` a step; `minigen.ddpm.last` runs to the end.
    eta: 0 is deterministic, 1 is DDPM's amount of noise (exactly DDPM with all T steps), between
    them is between. Other arguments as in `minigen.ddpm.ddpm_sample`: clip=(-1, 1) for pixels, None
    for latents; samples do not depend on batch_size; a list of generators makes image k depend on
    generator k only.
    below: xT is taken for x at t = below − 1, in the middle of the way; without it at T − 1.
    Shapes: xT (N, …). Source: Liu, Chen, Gao 2026, Algorithm 3.
    Raises: ValueError for steps outside 1 … T, an eta below 0 or too large, and a model's output of
    the wrong shape.
    """
    check_diffusion(model, diffusion)
    check_sampling(xT, y, clip, batch_size)
    number(eta, "eta", 0)
    T = diffusion.T if below is None else whole(below, "below", 1, diffusion.T)
    pairs = visited_pairs(T, steps, spacing)
    if eta > 0:
        for t, t_prev in pairs:                # too large an eta is told before the long first step
            sigma(diffusion, t, t_prev, eta)
    x = xT
    for t, t_prev in tqdm(pairs, desc="sampling", disable=not progress):
        with evaluating(model):
            # what the network makes of x
            x0, eps, _ = guess(model, diffusion, x, t, y, prediction, clip, batch_size)
            # fresh noise, none in the last step
            noise = draw_like(x, generator) if eta > 0 and t_prev >= 0 else None
            # down to the next time
            x = ddim_step(diffusion, x0, eps, t, t_prev, eta, noise)
        yield Denoised(t, x, x0)


def ddim_invert(model: Denoiser, diffusion: Diffusion, x0: Tensor, y: Tensor | None = None, *,
                steps: int, refine: int = 0, spacing: str = "trailing",
                prediction: str | None = None, batch_size: int = 256) -> Iterator[Denoised]:
    """The way back: to the noise that `ddim_sample`, η = 0 and the same steps turn into x0, nearly.

    A step up needs the noise prediction at its end, which is not yet known: it is asked for at the
    step's beginning, and `refine` times again at the end found so far (a fixed-point iteration).
    Yields a `Denoised` a step, t rising. Source: Song et al. 2021, §4.3 and 5.4.
    """
    check_diffusion(model, diffusion)
    check_sampling(x0, y, None, batch_size)
    whole(refine, "refine", 0)
    x = x0
    for t, t_prev in reversed(visited_pairs(diffusion.T, steps, spacing)):
        now, before = (float(a) for a in alpha_bars(diffusion, t, t_prev))
        on_x = (now / before) ** 0.5
        on_eps = (1 - now) ** 0.5 - (now * (1 - before) / before) ** 0.5
        end = x
        with evaluating(model):
            for _ in range(refine + 1):
                clean, eps, _ = guess(model, diffusion, end, t, y, prediction, None, batch_size)
                end = on_x * x + on_eps * eps
        x = end
        yield Denoised(t, x, clean)


def slerp(a: Tensor, b: Tensor, w: float | Sequence[float] | Tensor) -> Tensor:
    """From a (w = 0) to b (w = 1) along the arc, so that between two noises lies a noise's length.

    (sin((1 − w) θ) a + sin(w θ) b) / sin θ, θ the angle between a and b, for each of the batch.
    Shapes: a, b (N, …), w a number or (N,).
    Source: Song et al. 2021, appendix D.5 (Eq. 67); Shoemake 1985.
    """
    alike(tensor(a, "a", ("N", "D", ...)), b, "a", "b")
    u, v = a.flatten(1).double(), b.flatten(1).double()         # (N, D)
    cosine = (u * v).sum(1) / (u.norm(dim=1) * v.norm(dim=1)).clamp_min(1e-12)
    theta = torch.arccos(cosine.clamp(-1, 1))
    w = as_tensor(w, "w", torch.float64)
    if w.shape not in ((), (len(a),)) or not bool(w.isfinite().all()):
        got = described(w) if w.ndim else w.item()
        refuse("w", f"a finite number, or {len(a)} of them", got)
    w = w.expand(len(a))
    straight = theta.sin() < 1e-6                               # alike, or opposite: a line
    sine = torch.where(straight, 1.0, theta.sin())
    left = torch.where(straight, 1 - w, ((1 - w) * theta).sin() / sine)        # (N,)
    right = torch.where(straight, w, (w * theta).sin() / sine)
    between = left[:, None] * u + right[:, None] * v
    return between.view_as(a).to(a)


def inpaint(model: Denoiser, diffusion: Diffusion, known: Tensor, mask: Tensor, xT: Tensor,
            y: Tensor | None = None, *, steps: int, repeats: int = 1, eta: float = 1.0,
            spacing: str = "trailing", prediction: str | None = None,
            clip: Sequence[float] | None = None, generator: Generators = None,
            batch_size: int = 256) -> Iterator[Denoised]:
    """Fill in where mask is 0, with a model that was never trained to. Yields a `Denoised` a step.

    After every step the region to keep is overwritten with the known image, noised to that step's
    level. repeats > 1 noises the result back up and does the step again, which lets the two regions
    agree.
    Shapes: known, xT (N, C, H, W), mask broadcast to them, 1 = keep.
    Source: Lugmayr et al. 2022, Algorithm 1.
    Raises: ValueError for a mask with values other than 0 and 1, or repeats below 1.
    """
    alike(known, xT, "known", "xT")
    mask = as_tensor(mask, "mask").to(known)
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError("the mask holds 1 where the image is kept and 0 where it is filled in, "
                         "and nothing else")
    axes = zip(mask.shape[::-1], xT.shape[::-1], strict=False)
    if mask.ndim > xT.ndim or any(m not in (1, n) for m, n in axes):
        refuse("mask", f"of a shape that broadcasts to {tuple(xT.shape)}", tuple(mask.shape))

    def put(x: Tensor, before: Tensor) -> Tensor:
        """The part to keep, noised to the new time."""
        return torch.where(mask.bool(), noised(known, before, draw_like(x, generator)), x)

    yield from put_back_sample(model, diffusion, xT, put, y, steps=steps, repeats=repeats, eta=eta,
                               spacing=spacing, prediction=prediction, clip=clip,
                               generator=generator, batch_size=batch_size)


def put_back_sample(model: Denoiser, diffusion: Diffusion, xT: Tensor,
                    put: Callable[[Tensor, Tensor], Tensor], y: Tensor | None = None, *, steps: int,
                    repeats: int, eta: float, spacing: str, prediction: str | None,
                    clip: Sequence[float] | None, generator: Generators,
                    batch_size: int) -> Iterator[Denoised]:
    """DDIM's steps, after each of which put(x, ᾱ_prev) puts back what is known of the image.

    Arguments, states yielded: as `inpaint`'s.
    """
    check_diffusion(model, diffusion)
    check_sampling(xT, y, clip, batch_size)
    number(eta, "eta", 0)
    if not is_whole(repeats) or repeats < 1:
        raise ValueError(f"repeats counts how often a step is done, at least 1; got {repeats}")
    x = xT
    for t, t_prev in visited_pairs(diffusion.T, steps, spacing):
        now, before = alpha_bars(diffusion, t, t_prev)
        for again in reversed(range(repeats)):
            # a step down of the whole image
            with evaluating(model):
                x0, eps, _ = guess(model, diffusion, x, t, y, prediction, clip, batch_size)
                noise = draw_like(x, generator) if t_prev >= 0 else None
                x = ddim_step(diffusion, x0, eps, t, t_prev, eta, noise)
            x = put(x, before)
            # and up again, from ᾱ_prev to ᾱ_t
            if again:
                x = noised(x, now / before, draw_like(x, generator))
        yield Denoised(t, x, x0)


def noised(x: Tensor, share: Tensor, noise: Tensor) -> Tensor:
    """√share · x + √(1 − share) · noise."""
    return float(share.sqrt()) * x + float((1 - share).sqrt()) * noise
