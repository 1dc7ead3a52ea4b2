"""Chapter 5: the forward process. Schedules, posterior, views of a prediction, the ideal denoiser.

Time steps are integers 0 … T − 1 (the papers count from 1); `alpha_bar[t]` is what is left of the
signal's variance at t. Tables are float64; what they multiply keeps its own type.
Sources: Ho et al. 2020 (DDPM), Nichol & Dhariwal 2021 (cosine schedule), Salimans & Ho 2022 (v),
Liu, Chen, Gao 2026, §3.3.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from minigen.common import as_tensor, filled
from minigen.inputs import alike, described, is_number, is_whole, number, tensor, times


def linear_betas(T: int = 1000, start: float = 1e-4, end: float = 0.02) -> Tensor:
    """β_t in equal steps from `start` to `end`: linear in β.

    Latent diffusion's "linear" is linear in √β, which is another schedule.
    Shapes: (T,) float64. Source: Ho et al. 2020, §4; Liu, Chen, Gao 2026, Eq. 26.
    Raises: ValueError for T < 1.
    """
    _check_T(T)
    _check_betas(start=start, end=end)
    return torch.linspace(start, end, T, dtype=torch.float64)


def cosine_betas(T: int = 1000, s: float = 0.008, largest: float = 0.999) -> Tensor:
    """β_t = min(1 − f(t + 1) / f(t), largest), so that ᾱ falls like a squared cosine.

    f(t) = cos²(π/2 · (t / T + s) / (1 + s))

    Shapes: (T,) float64. Source: Nichol & Dhariwal 2021, Eq. 17. Raises: ValueError for T < 1.
    """
    _check_T(T)
    number(s, "s", 0)
    _check_betas(largest=largest)
    share = torch.arange(T + 1, dtype=torch.float64) / T          # t / T, (T + 1,)
    f = torch.cos((share + s) / (1 + s) * math.pi / 2).square()
    return (1 - f[1:] / f[:-1]).clamp_max(largest)


def _check_T(T: int) -> None:
    if not is_whole(T) or T < 1:
        raise ValueError("a diffusion takes a whole number of steps, at least one step; "
                         f"got T={described(T)}")


def _check_betas(**values: float) -> None:
    for name, beta in values.items():
        if not is_number(beta) or not 0 < beta < 1:
            got = described(beta)
            raise ValueError(f"{name} must be between 0 and 1, as every β is; got {got}")


# schedules by the name that a network keeps, as it keeps what it predicts
SCHEDULES = {"linear": linear_betas, "cosine": cosine_betas}
PREDICTIONS = ("eps", "x0", "v")


def check_training(prediction: str, schedule: str | None) -> None:
    """Raises: ValueError for a prediction or a schedule that is not known by name.

    A network may also predict the "velocity" of flow matching, which has no schedule.
    """
    if prediction == "velocity":
        if schedule is not None:
            raise ValueError("a network that predicts the velocity of flow matching has no noise "
                             f"schedule: leave it out; got {described(schedule)}")
        return
    _known(prediction)
    if schedule is not None and schedule not in SCHEDULES:
        names = ", ".join(f"'{name}'" for name in SCHEDULES)
        raise ValueError(f"schedule must be one of {names}, or None where it is not said; got "
                         f"{described(schedule)}")


class Diffusion:
    """The forward process of a noise schedule and everything that follows from it in closed form.

    x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε,   ᾱ_t = ∏_{s ≤ t} (1 − β_s)

    Shapes: betas (T,) in (0, 1); every method takes x (B, …) and t (B,) or (1,), integers
    0 … T − 1.
    Source: Liu, Chen, Gao 2026, Eqs. 26 and 28.
    Raises: ValueError for betas outside (0, 1) or a t outside 0 … T − 1.
    """

    def __init__(self, betas: Tensor | Sequence[float] | None = None):
        betas = linear_betas() if betas is None else as_tensor(betas, "betas", torch.float64)
        between = (betas > 0) & (betas < 1)
        if betas.ndim != 1 or not len(betas) or not bool(between.all()):
            raise ValueError("betas must be a list of at least one number, each between 0 and 1")
        self.betas = betas
        self.T = len(betas)
        self.alpha_bar = (1 - betas).cumprod(0)
        clean = torch.ones(1, dtype=torch.float64)                # ᾱ before the first step
        self.alpha_bar_prev = torch.cat([clean, self.alpha_bar[:-1]])
        self.posterior_variance = betas * (1 - self.alpha_bar_prev) / (1 - self.alpha_bar)

    def at(self, table: Tensor, t: Tensor, x: Tensor) -> Tensor:
        """table[t], ready to multiply x.

        Shapes: table (T,), t (B,) or (1,) → (B or 1, 1, …) in x's type, on its device.
        """
        tensor(table, "table", (self.T,))
        return _looked_up(table, self._checked(t, x), x)

    def _checked(self, t: Tensor, x: Tensor) -> Tensor:
        tensor(x, "x", ("B", ...))
        return times(t, len(x), self.T)

    @property
    def snr(self) -> Tensor:
        """Signal-to-noise ratio ᾱ_t / (1 − ᾱ_t). Shapes: (T,)."""
        return self.alpha_bar / (1 - self.alpha_bar)

    def scales(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """(√ᾱ_t, √(1 − ᾱ_t)), ready to multiply x."""
        t = self._checked(t, x)
        signal = _looked_up(self.alpha_bar.sqrt(), t, x)
        noise = _looked_up((1 - self.alpha_bar).sqrt(), t, x)
        return signal, noise

    def add_noise(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε. Source: Eq. 28."""
        alike(x0, eps, "x0", "eps")
        signal, noise = self.scales(t, x0)
        return signal * x0 + noise * eps

    def target(self, x0: Tensor, eps: Tensor, t: Tensor, prediction: str = "eps") -> Tensor:
        """What a network of this kind is to predict: ε, x_0, or v = √ᾱ_t ε − √(1 − ᾱ_t) x_0."""
        alike(x0, eps, "x0", "eps")
        self._checked(t, x0)
        if _known(prediction) == "eps":
            return eps
        if prediction == "x0":
            return x0
        signal, noise = self.scales(t, x0)
        return signal * eps - noise * x0

    def views(self, output: Tensor, xt: Tensor, t: Tensor,
              prediction: str = "eps") -> tuple[Tensor, Tensor]:
        """(x_0, ε) as a network's output implies them.

        Source: Salimans & Ho 2022, §4 and appendix D for v.
        """
        alike(output, xt, "the output", "xt")
        signal, noise = self.scales(t, xt)
        if _known(prediction) == "eps":
            return (xt - noise * output) / signal, output
        if prediction == "x0":
            return output, (xt - signal * output) / noise
        return signal * xt - noise * output, noise * xt + signal * output

    def score(self, eps: Tensor, t: Tensor) -> Tensor:
        """∇ log p(x_t) of a prediction of the noise, −ε / √(1 − ᾱ_t).

        It is the gradient itself where ε is E[ε | x_t]. Tweedie's formula is the same, told of x_0:
        E[x_0 | x_t] = (x_t + (1 − ᾱ_t) ∇ log p(x_t)) / √ᾱ_t.
        Shapes: eps (B, …), t (B,) or (1,) → as eps. Source: Vincent 2011; Efron 2011 (Tweedie).
        """
        return -eps / self.scales(t, eps)[1]

    def posterior(self, x0: Tensor, xt: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of q(x_{t−1} | x_t, x_0), a Gaussian.

        μ̃ = √ᾱ_{t−1} β_t / (1 − ᾱ_t) · x_0 + √α_t (1 − ᾱ_{t−1}) / (1 − ᾱ_t) · x_t
        β̃ = β_t (1 − ᾱ_{t−1}) / (1 − ᾱ_t)

        Source: Ho et al. 2020, Eqs. 6 and 7.
        """
        alike(x0, xt, "x0", "xt")
        on_x0 = self.alpha_bar_prev.sqrt() * self.betas / (1 - self.alpha_bar)
        on_xt = (1 - self.betas).sqrt() * (1 - self.alpha_bar_prev) / (1 - self.alpha_bar)
        mean = self.at(on_x0, t, xt) * x0 + self.at(on_xt, t, xt) * xt
        return mean, self.at(self.posterior_variance, t, xt)


def _looked_up(table: Tensor, t: Tensor, x: Tensor) -> Tensor:
    row = table[t.to(table.device)].to(x)                         # (B,)
    return row.view(-1, *[1] * (x.ndim - 1))                      # (B, 1, …), as many axes as x


def _known(prediction: str) -> str:
    if prediction == "velocity":
        raise ValueError("this network predicts the velocity of flow matching: "
                         "minigen.flow_matching samples from it and trains it")
    if not isinstance(prediction, str) or prediction not in PREDICTIONS:
        raise ValueError(f"prediction must be 'eps', 'x0' or 'v'; got '{prediction}'")
    return prediction


def ideal_eps(diffusion: Diffusion, data: Tensor, xt: Tensor, t: Tensor) -> Tensor:
    """The best possible noise prediction E[ε | x_t] for data that are exactly these N points.

    E[x_0 | x_t] = Σ_i w_i x_i with w = softmax_i(−‖x_t − √ᾱ_t x_i‖² / (2 (1 − ᾱ_t))), the points
    being equally likely; ε from it by Eq. 28.
    Shapes: data (N, …), xt (B, …), t (B,) or (1,) → as xt. Memory: B·N numbers.
    """
    tensor(xt, "xt", ("B", ...))
    filled(tensor(data, "data", ("N", *xt.shape[1:])), "data")
    signal, noise = (s.view(-1, 1) for s in diffusion.scales(t, xt))       # (B or 1, 1)
    flat, points = xt.flatten(1), data.flatten(1).to(xt)                    # (B, D), (N, D)
    # ‖x_t − √ᾱ_t x_i‖² multiplied out, which needs no (B, N, D)
    cross = 2 * signal * flat @ points.T                                    # (B, N)
    squares = signal.square() * points.square().sum(1)
    far = flat.square().sum(1, keepdim=True) - cross + squares
    x0 = torch.softmax(-far / (2 * noise.square()), 1) @ points             # (B, D)
    return ((flat - signal * x0) / noise).view_as(xt)


def log_variances(diffusion: Diffusion) -> tuple[Tensor, Tensor]:
    """log β̃ and log β, between which the best reverse variance lies.

    β̃_0 = 0 is replaced by β̃_1. Shapes: (T,) each.
    """
    small = diffusion.posterior_variance.clone()
    small[0] = small[1] if diffusion.T > 1 else diffusion.betas[0]
    return small.log(), diffusion.betas.log()


def learned_variance(diffusion: Diffusion, v: Tensor, t: Tensor) -> Tensor:
    """exp(f log β_t + (1 − f) log β̃_t) with f = (v + 1) / 2.

    That is β̃ for v = −1 and β for v = 1; v itself is not bounded.
    Shapes: v (B, C, …), t (B,) or (1,) → as v. Source: Nichol & Dhariwal 2021, Eq. 15.
    """
    small, large = (diffusion.at(table, t, v) for table in log_variances(diffusion))
    share = (v + 1) / 2
    return torch.exp(share * large + (1 - share) * small)
