"""Chapter 5: the forward process. Noise schedules, the posterior, three views of one prediction, the ideal denoiser.

Time steps are integers 0 … T − 1 (the papers count from 1); `alpha_bar[t]` is what is left of the signal's variance at t.
Tables are float64; what they multiply keeps its own type.
Sources: Ho et al. 2020 (DDPM), Nichol & Dhariwal 2021 (cosine schedule), Salimans & Ho 2022 (v), Liu, Chen, Gao 2026, §3.3.
"""

import math

import torch

from minigen.common import as_tensor, filled
from minigen.inputs import alike, is_number, is_whole, number, tensor, times, told


def linear_betas(T=1000, start=1e-4, end=0.02):
    """β_t in equal steps from `start` to `end`: linear in β, not in √β as latent diffusion's "linear" is.

    Shapes: (T,) float64. Source: Ho et al. 2020, §4; Liu, Chen, Gao 2026, Eq. 26. Raises: ValueError for T < 1.
    """
    _check_T(T)
    _check_betas(start=start, end=end)
    return torch.linspace(start, end, T, dtype=torch.float64)


def cosine_betas(T=1000, s=0.008, largest=0.999):
    """β_t = min(1 − f(t + 1) / f(t), largest) with f(t) = cos²(π/2 · (t / T + s) / (1 + s)), so ᾱ falls like a cosine.

    Shapes: (T,) float64. Source: Nichol & Dhariwal 2021, Eq. 17. Raises: ValueError for T < 1.
    """
    _check_T(T)
    number(s, "s", 0)
    _check_betas(largest=largest)
    f = torch.cos((torch.arange(T + 1, dtype=torch.float64) / T + s) / (1 + s) * math.pi / 2).square()
    return (1 - f[1:] / f[:-1]).clamp_max(largest)


def _check_T(T):
    if not is_whole(T) or T < 1:
        raise ValueError("a diffusion takes a whole number of steps, at least one step; "
                         f"got T={told(T)}")


def _check_betas(**values):
    for name, beta in values.items():
        if not is_number(beta) or not 0 < beta < 1:
            raise ValueError(f"{name} must be between 0 and 1, as every β is; got {told(beta)}")


class Diffusion:
    """The forward process of a noise schedule and everything that follows from it in closed form.

    x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε,   ᾱ_t = ∏_{s ≤ t} (1 − β_s)

    Shapes: betas (T,) in (0, 1); every method takes x (B, …) and t, (B,) or (1,) integers 0 … T − 1.
    Source: Liu, Chen, Gao 2026, Eqs. 26 and 28. Raises: ValueError for betas outside (0, 1) or a t outside 0 … T − 1.
    """

    def __init__(self, betas=None):
        self.betas = linear_betas() if betas is None else as_tensor(betas, "betas", torch.float64)
        if self.betas.ndim != 1 or not len(self.betas) or not bool(((self.betas > 0) & (self.betas < 1)).all()):
            raise ValueError("betas must be a list of at least one number, each between 0 and 1")
        self.T = len(self.betas)
        self.alpha_bar = (1 - self.betas).cumprod(0)
        self.alpha_bar_prev = torch.cat([torch.ones(1, dtype=torch.float64), self.alpha_bar[:-1]])   # 1 before the first step
        self.posterior_variance = self.betas * (1 - self.alpha_bar_prev) / (1 - self.alpha_bar)

    def at(self, table, t, x):
        """table[t], ready to multiply x. Shapes: (T,), (B,) → (B, 1, …) in x's type, on its device."""
        tensor(table, "table", (self.T,))
        t = times(t, len(tensor(x, "x", ("B", ...))), self.T).to(table.device)
        return table[t].to(x).view(-1, *[1] * (x.ndim - 1))

    @property
    def snr(self):
        """Signal-to-noise ratio ᾱ_t / (1 − ᾱ_t). Shapes: (T,)."""
        return self.alpha_bar / (1 - self.alpha_bar)

    def scales(self, t, x):
        """(√ᾱ_t, √(1 − ᾱ_t)), ready to multiply x."""
        return self.at(self.alpha_bar.sqrt(), t, x), self.at((1 - self.alpha_bar).sqrt(), t, x)

    def add_noise(self, x0, t, eps):
        """x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε. Source: Eq. 28."""
        alike(x0, eps, "x0", "eps")
        signal, noise = self.scales(t, x0)
        return signal * x0 + noise * eps

    def target(self, x0, eps, t, prediction="eps"):
        """What a network of this kind is to predict: ε, x_0, or v = √ᾱ_t ε − √(1 − ᾱ_t) x_0."""
        alike(x0, eps, "x0", "eps")
        signal, noise = self.scales(t, x0)
        return {"eps": lambda: eps, "x0": lambda: x0, "v": lambda: signal * eps - noise * x0}[_known(prediction)]()

    def views(self, output, xt, t, prediction="eps"):
        """(x_0, ε) as a network's output implies them. Source: Salimans & Ho 2022, §4 and appendix D for v."""
        alike(output, xt, "the output", "xt")
        signal, noise = self.scales(t, xt)
        if _known(prediction) == "eps":
            return (xt - noise * output) / signal, output
        if prediction == "x0":
            return output, (xt - signal * output) / noise
        return signal * xt - noise * output, noise * xt + signal * output

    def posterior(self, x0, xt, t):
        """Mean and variance of q(x_{t−1} | x_t, x_0), a Gaussian.

        μ̃ = √ᾱ_{t−1} β_t / (1 − ᾱ_t) · x_0 + √α_t (1 − ᾱ_{t−1}) / (1 − ᾱ_t) · x_t,   β̃ = β_t (1 − ᾱ_{t−1}) / (1 − ᾱ_t)

        Source: Ho et al. 2020, Eqs. 6 and 7.
        """
        alike(x0, xt, "x0", "xt")
        on_x0 = self.alpha_bar_prev.sqrt() * self.betas / (1 - self.alpha_bar)
        on_xt = (1 - self.betas).sqrt() * (1 - self.alpha_bar_prev) / (1 - self.alpha_bar)
        return self.at(on_x0, t, xt) * x0 + self.at(on_xt, t, xt) * xt, self.at(self.posterior_variance, t, xt)


def _known(prediction):
    if not isinstance(prediction, str) or prediction not in ("eps", "x0", "v"):
        raise ValueError(f"prediction must be 'eps', 'x0' or 'v'; got '{prediction}'")
    return prediction


def ideal_eps(diffusion, data, xt, t):
    """The best possible noise prediction E[ε | x_t] when the data are exactly these N points, equally likely.

    E[x_0 | x_t] = Σ_i w_i x_i with w = softmax_i(−‖x_t − √ᾱ_t x_i‖² / (2 (1 − ᾱ_t))); ε from it by Eq. 28.
    Shapes: data (N, …), xt (B, …), t (B,) or (1,) → as xt. Memory: B·N numbers.
    """
    tensor(xt, "xt", ("B", ...))
    filled(tensor(data, "data", ("N", *xt.shape[1:])), "data")
    signal, noise = (s.view(-1, 1) for s in diffusion.scales(t, xt))
    flat, points = xt.flatten(1), data.flatten(1).to(xt)
    far = (flat.square().sum(1, keepdim=True) - 2 * signal * flat @ points.T + signal.square() * points.square().sum(1))
    x0 = torch.softmax(-far / (2 * noise.square()), 1) @ points
    return ((flat - signal * x0) / noise).view_as(xt)


def log_variances(diffusion):
    """log β̃ and log β, between which the best reverse variance lies; β̃_0 = 0 is replaced by β̃_1. Shapes: (T,) each."""
    small = diffusion.posterior_variance.clone()
    small[0] = small[1] if diffusion.T > 1 else diffusion.betas[0]
    return small.log(), diffusion.betas.log()


def learned_variance(diffusion, v, t):
    """exp(f log β_t + (1 − f) log β̃_t) with f = (v + 1) / 2: β̃ for v = −1, β for v = 1; v itself is not bounded.

    Shapes: v (B, C, …), t (B,) or (1,) → as v. Source: Nichol & Dhariwal 2021, Eq. 15.
    """
    small, large = (diffusion.at(table, t, v) for table in log_variances(diffusion))
    share = (v + 1) / 2
    return torch.exp(share * large + (1 - share) * small)
