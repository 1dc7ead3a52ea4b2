"""Chapter 5: the variational bound of a diffusion model in bits, and a variance that is learned with it.

Source: Nichol & Dhariwal 2021, §3.1 (learned variance, hybrid loss); Ho et al. 2020, Eqs. 5 and 13 (the bound, its last term).
"""

import math

import torch

from minigen.common import as_tensor, evaluating, filled
from minigen.ddpm import ask, check_variance
from minigen.diffusion import learned_variance, log_variances
from minigen.inputs import alike, images, number, tensor, whole


def gaussian_kl(mean1, variance1, mean2, variance2):
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
    return 0.5 * (ratio - 1 - ratio.log() + (mean1 - mean2).square() / variance2)


def _fitting(x, mean, name, other):
    """A mean is a number, or of x's shape; another would broadcast, unseen."""
    if not isinstance(mean, torch.Tensor):
        number(mean, other)
    elif mean.ndim:
        alike(x, mean, name, other)


def discretised_log_likelihood(x, mean, variance, levels=256):
    """log of the mass a Gaussian puts on x's bin, when values in [-1, 1] have `levels` grey levels. Nats, an element each.

    The outermost bins reach to infinity, so the masses of all bins sum to 1. Source: Ho et al. 2020, Eq. 13.
    """
    _fitting(tensor(x, "x"), mean, "x", "mean")
    whole(levels, "levels", 2)
    half, root = 1 / (levels - 1), tensor(as_tensor(variance, "variance"), "variance").sqrt()
    normal = torch.distributions.Normal(0.0, 1.0)
    upper, lower = (x + half - mean) / root, (x - half - mean) / root
    if upper.isnan().any() or lower.isnan().any():
        raise ValueError("x, mean and variance must be numbers, the variance above 0; got NaN")
    above, below = normal.cdf(upper), normal.cdf(lower)
    above, below = torch.where(x > 1 - half, 1.0, above), torch.where(x < half - 1, 0.0, below)
    return (above - below).clamp_min(1e-12).log()


def vlb_terms(diffusion, output, x0, xt, t, variance="learned", prediction="eps", levels=256):
    """The bound's term at t for each image, in bits per dimension; their sum over t and `prior_bits` bounds −log2 p(x_0).

    KL(q(x_{t−1} | x_t, x_0) ‖ p(x_{t−1} | x_t)) for t > 0, and the discretised −log p(x_0 | x_1) at t = 0.
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
    model_mean, _ = diffusion.posterior(diffusion.views(output, xt, t, prediction)[0], xt, t)
    kl = gaussian_kl(mean, small, model_mean, model_variance)
    decoder = -discretised_log_likelihood(x0, model_mean, model_variance, levels)
    nats = torch.where(t.to(xt.device).view(-1, *[1] * (xt.ndim - 1)) > 0, kl, decoder)
    return nats.flatten(1).mean(1) / math.log(2)


def hybrid_loss(model, diffusion, x0, t, eps, y=None, weight=0.001, levels=256):
    """L_simple + weight · L_vlb for a model that answers noise and variance, [ε, v], in 2·C channels.

    The mean is cut from the bound's graph, so the noise is learned by L_simple alone. L_vlb is T times the drawn term, in
    bits per dimension. Source: Nichol & Dhariwal 2021, Eq. 16, λ = 0.001.
    """
    number(weight, "weight", 0)
    xt = diffusion.add_noise(x0, t, eps)
    noise, v = ask(model, xt, t, y, channels=2).chunk(2, 1)
    bound = vlb_terms(diffusion, torch.cat([noise.detach(), v], 1), x0, xt, t, levels=levels)
    return (noise - eps).square().mean() + weight * diffusion.T * bound.mean()


def prior_bits(diffusion, x0):
    """KL(q(x_T | x_0) ‖ N(0, I)) in bits per dimension, for each image: what is left of it after the last step."""
    tensor(x0, "x0", ("N", "C", ...))
    t = torch.full((1,), diffusion.T - 1)
    signal, noise = diffusion.scales(t, x0)
    return gaussian_kl(signal * x0, noise.square(), 0.0, torch.ones_like(noise)).flatten(1).mean(1) / math.log(2)


def bits_per_dim(model, diffusion, x0, variance="learned", generator=None, levels=256, prediction="eps"):
    """The whole bound, term by term, with one draw of noise for each image and t: an upper bound of −log2 p(x_0) / D.

    Shapes: x0 (N, C, …) → (T + 1,) bits per dimension, averaged over images: terms 0 … T − 1, then the prior's; its sum is
    the bound.
    """
    check_variance(variance)
    whole(levels, "levels", 2)
    filled(images(x0, ("N", "C", ...), "x0", 1.01), "x0")
    channels, terms = 2 if variance == "learned" else 1, []
    with evaluating(model):
        for step in range(diffusion.T):
            t = torch.full((len(x0),), step)
            xt = diffusion.add_noise(x0, t, torch.randn(x0.shape, generator=generator).to(x0))
            output = ask(model, xt, t, channels=channels)
            terms.append(vlb_terms(diffusion, output, x0, xt, t, variance, prediction, levels).mean())
        return torch.stack([*terms, prior_bits(diffusion, x0).mean()])
