"""Chapter 5: the variational bound of a diffusion model in bits, and a variance learned with it.

Source: Nichol & Dhariwal 2021, §3.1 (learned variance, hybrid loss); Ho et al. 2020, Eqs. 5 and 13
(the bound, its last term).
"""

import math

import torch
from torch import Generator, Tensor

from minigen.common import as_tensor, evaluating, filled
from minigen.ddpm import Denoiser, ask, check_diffusion, check_variance, prediction_of
from minigen.diffusion import Diffusion, learned_variance, log_variances
from minigen.inputs import alike, images, number, tensor, whole


def gaussian_kl(mean1: Tensor, variance1: Tensor | float, mean2: Tensor | float,
                variance2: Tensor | float) -> Tensor:
    """KL(N(mean1, variance1) ‖ N(mean2, variance2)) of every element, in nats.

    Variances, and a mean that is a number, are broadcast; means of two shapes are refused.
    """
    _fitting(tensor(mean1, "mean1"), mean2, "mean1", "mean2")
    for name, variance in (("variance1", variance1), ("variance2", variance2)):
        if isinstance(variance, torch.Tensor):
            tensor(variance, name)
        else:
            number(variance, name, positive=True)
    ratio = torch.as_tensor(variance1 / variance2)
    apart = (mean1 - mean2).square() / variance2
    return 0.5 * (ratio - 1 - ratio.log() + apart)


def _fitting(x: Tensor, mean: Tensor | float, name: str, other: str) -> None:
    """A mean is a number, or of x's shape; another would broadcast, unseen."""
    if not isinstance(mean, torch.Tensor):
        number(mean, other)
    elif mean.ndim:
        alike(x, mean, name, other)


def discretised_log_likelihood(x: Tensor, mean: Tensor | float, variance: Tensor | float,
                               levels: int = 256) -> Tensor:
    """log of the mass a Gaussian puts on x's bin, for values in [-1, 1] of `levels` grey levels.

    The outermost bins reach to infinity, so the masses of all bins sum to 1.
    Shapes: as x, in nats. Source: Ho et al. 2020, Eq. 13.
    """
    _fitting(tensor(x, "x"), mean, "x", "mean")
    whole(levels, "levels", 2)
    half = 1 / (levels - 1)                                   # of a bin's width
    root = tensor(as_tensor(variance, "variance"), "variance").sqrt()
    upper = (x + half - mean) / root
    lower = (x - half - mean) / root
    if upper.isnan().any() or lower.isnan().any():
        raise ValueError("x, mean and variance must be numbers, the variance above 0; got NaN")
    normal = torch.distributions.Normal(0.0, 1.0)
    to_upper = torch.where(x > 1 - half, 1.0, normal.cdf(upper))
    to_lower = torch.where(x < half - 1, 0.0, normal.cdf(lower))
    return (to_upper - to_lower).clamp_min(1e-12).log()


def vlb_terms(diffusion: Diffusion, output: Tensor, x0: Tensor, xt: Tensor, t: Tensor,
              variance: str = "learned", prediction: str = "eps", levels: int = 256) -> Tensor:
    """The bound's term at t for each image, in bits per dimension.

    KL(q(x_{t−1} | x_t, x_0) ‖ p(x_{t−1} | x_t)) for t > 0; the discretised −log p(x_0 | x_1) at
    t = 0. The terms of all t and `prior_bits` add up to a bound of −log2 p(x_0).
    variance: "small" (β̃), "large" (β), or "learned", for which `output` has 2·C channels.
    Shapes: x0, xt (B, C, …), output (B, C or 2·C, …), t (B,) → (B,). Source: Ho et al. 2020, Eq. 5.
    """
    check_variance(variance)
    alike(x0, xt, "x0", "xt")
    tensor(xt, "xt", ("B", "C", ...))
    channels = (2 if variance == "learned" else 1) * xt.shape[1]
    tensor(output, "the output", (len(xt), channels, *xt.shape[2:]))
    small, large = (diffusion.at(table.exp(), t, xt) for table in log_variances(diffusion))
    if variance == "learned":
        output, v = output.chunk(2, 1)
        model_variance = learned_variance(diffusion, v, t)
    else:
        model_variance = {"small": small, "large": large}[variance].expand_as(xt)
    mean, _ = diffusion.posterior(x0, xt, t)
    guessed, _ = diffusion.views(output, xt, t, prediction)
    model_mean, _ = diffusion.posterior(guessed, xt, t)
    kl = gaussian_kl(mean, small, model_mean, model_variance)
    decoder = -discretised_log_likelihood(x0, model_mean, model_variance, levels)
    step = t.to(xt.device).view(-1, *[1] * (xt.ndim - 1))    # (B, 1, …)
    nats = torch.where(step > 0, kl, decoder)                 # (B, C, …)
    return nats.flatten(1).mean(1) / math.log(2)


def hybrid_loss(model: Denoiser, diffusion: Diffusion, x0: Tensor, t: Tensor, eps: Tensor,
                y: Tensor | None = None, weight: float = 0.001, levels: int = 256) -> Tensor:
    """L_simple + weight · L_vlb for a model that answers noise and variance, [ε, v], 2·C channels.

    The mean is cut from the bound's graph, so the noise is learned by L_simple alone. L_vlb is T
    times the drawn term, in bits per dimension. Source: Nichol & Dhariwal 2021, Eq. 16, λ = 0.001.
    """
    number(weight, "weight", 0)
    xt = diffusion.add_noise(x0, t, eps)
    noise, v = ask(model, xt, t, y, channels=2).chunk(2, 1)
    only_v = torch.cat([noise.detach(), v], 1)
    bound = vlb_terms(diffusion, only_v, x0, xt, t, levels=levels)
    return (noise - eps).square().mean() + weight * diffusion.T * bound.mean()


def prior_bits(diffusion: Diffusion, x0: Tensor) -> Tensor:
    """KL(q(x_T | x_0) ‖ N(0, I)) in bits per dimension: what is left of an image at the end.

    Shapes: (N, C, …) → (N,).
    """
    tensor(x0, "x0", ("N", "C", ...))
    t = torch.full((1,), diffusion.T - 1)
    signal, noise = diffusion.scales(t, x0)
    nats = gaussian_kl(signal * x0, noise.square(), 0.0, torch.ones_like(noise))
    return nats.flatten(1).mean(1) / math.log(2)


def bits_per_dim(model: Denoiser, diffusion: Diffusion, x0: Tensor, variance: str = "learned",
                 generator: Generator | None = None, levels: int = 256,
                 prediction: str | None = None) -> Tensor:
    """The whole bound, term by term, with one draw of noise for each image and t.

    Shapes: x0 (N, C, …) → (T + 1,) bits per dimension, averaged over images: terms 0 … T − 1, then
    the prior's. Their sum is an upper bound of −log2 p(x_0) / D.
    """
    check_variance(variance)
    whole(levels, "levels", 2)
    filled(images(x0, ("N", "C", ...), "x0", 1.01), "x0")
    check_diffusion(model, diffusion)
    prediction = prediction_of(model, prediction)
    channels = 2 if variance == "learned" else 1
    terms = []
    with evaluating(model):
        for step in range(diffusion.T):
            t = torch.full((len(x0),), step)
            eps = torch.randn(x0.shape, generator=generator).to(x0)
            xt = diffusion.add_noise(x0, t, eps)
            output = ask(model, xt, t, channels=channels)
            bits = vlb_terms(diffusion, output, x0, xt, t, variance, prediction, levels)
            terms.append(bits.mean())
        return torch.stack([*terms, prior_bits(diffusion, x0).mean()])
