"""Checks of chapter 2's exercises."""

import torch
from torch import Tensor

from minigen import vae
from minigen.checks.compare import Answer, Wrong, expect, require_gradient, value_of


def _posterior(*shape: int) -> tuple[Tensor, Tensor]:
    return 1.5 * torch.randn(shape), torch.randn(shape)


def check_gaussian_kl(answer: Answer) -> None:
    for shape in ((4, 3), (2, 7)):
        mean, logvar = _posterior(*shape)
        want = vae.kl_standard_normal(mean, logvar)
        each = 0.5 * (mean.square() + logvar.exp() - 1 - logvar)
        mistakes = {
            "You averaged over the dimensions: independent dimensions add up, so sum them.":
                each.mean(1),
            "You summed over the batch as well: one number per item, .sum(dim=1).": each.sum(),
            "You averaged over the batch: leave that to the loss, and return one number per item.":
                want.mean(),
            "You summed over the batch, dim=0; sum over the dimensions, dim=1.": each.sum(0),
            "You forgot the factor ½.": 2 * want,
            "Not summed yet: one number per item, .sum(dim=1).": each,
            ("You used the log-variance where the variance belongs: the second term is its "
             "exponential."):
                0.5 * (mean.square() + logvar - 1 - logvar).sum(1),
            "You took e^v for the deviation: it is the variance, no square.":
                0.5 * (mean.square() + (2 * logvar).exp() - 1 - 2 * logvar).sum(1),
            "The square of the mean is missing.": 0.5 * (mean + logvar.exp() - 1 - logvar).sum(1),
        }
        given = f"means and log-variances of shape {shape}"
        expect(answer(mean.clone(), logvar.clone()), want, given, mistakes)


def check_reparameterised(answer: Answer) -> None:
    mean, logvar = _posterior(5, 3)
    eps = torch.randn(5, 3)
    mistakes = {
        "You multiplied by the variance: the noise is scaled by the deviation, e^(v/2).":
            mean + logvar.exp() * eps,
        "You multiplied by the log-variance itself: turn it into the deviation, e^(v/2).":
            mean + logvar * eps,
        "The noise is not scaled.": mean + eps,
        "The mean is missing.": (0.5 * logvar).exp() * eps,
        "You divided by the deviation: that is how a draw is standardised; multiply.":
            mean + eps / (0.5 * logvar).exp(),
    }
    leaf = [mean.clone().requires_grad_(), logvar.clone().requires_grad_()]
    got = answer(*leaf, eps.clone())
    if isinstance(got, torch.Tensor) and got.isnan().any():
        raise Wrong("NaN: the log-variance may be negative, and has no root. The deviation is "
                    "e^(v/2).")
    want = mean + (0.5 * logvar).exp() * eps
    expect(value_of(got), want, "a batch of shape (5, 3)", mistakes)
    require_gradient(got, leaf, ("mean", "log-variance"))
    slope = torch.autograd.grad(got.sum(), leaf[1])[0]
    expect(slope, 0.5 * (0.5 * logvar).exp() * eps, "the gradient of the log-variance")


def check_negative_elbo(answer: Answer) -> None:
    for shape, beta in (((3, 3, 4, 4), 0.5), ((2, 1, 5, 3), 2.0)):
        x, x_hat = torch.rand(shape), torch.rand(shape)
        mean, logvar = _posterior(shape[0], 6)
        want, distortion, rate = vae.vae_loss(x, x_hat, mean, logvar, beta)
        pixels = x[0].numel()
        mistakes = {
            ("You averaged the squared error over the pixels: sum it over each image, or β is "
             "multiplied by their number."):
                distortion / pixels + beta * rate,
            "You averaged over the pixels, and the ½ is missing.":
                2 * distortion / pixels + beta * rate,
            "The ½ of the squared error is missing.": 2 * distortion + beta * rate,
            "β is on the distortion; it is the price of the rate.": beta * distortion + rate,
            "β is missing.": distortion + rate,
            "The KL is subtracted; in the loss it is added.": distortion - beta * rate,
            "You averaged the KL over its dimensions: sum them.": distortion + beta * rate / 6,
            "You summed over the batch: take the mean of the images.": shape[0] * want,
            "The rate is missing.": distortion,
            "The distortion is missing.": beta * rate,
        }
        leaf = [t.clone().requires_grad_() for t in (x_hat, mean, logvar)]
        got = answer(x.clone(), *leaf, beta)
        expect(value_of(got), want, f"images of shape {shape} and β = {beta}", mistakes)
        require_gradient(got, leaf, ("reconstruction", "mean", "log-variance"))


def check_count_active(answer: Answer) -> None:
    mean = torch.zeros(50, 5)
    mean[:, 0] = torch.linspace(-2, 2, 50)
    mean[:, 1] = 0.15 * torch.linspace(-1, 1, 50)  # variance 0.0078, deviation 0.088
    mean[:, 2] = 4.0  # large, but always the same
    mean[:, 3] = torch.linspace(-1, 1, 50)
    mistakes = {
        "You compared the deviation with the threshold: take the variance.": torch.tensor(3),
        ("A mean that is large but never changes tells nothing about the image: look at the "
         "variance over the data."):
            torch.tensor(4),
        "You returned a share: count them.": torch.tensor(0.4),
    }
    got = answer(mean.clone())
    if isinstance(got, torch.Tensor) and got.shape == (5,):
        raise Wrong("That is one answer per dimension: count the true ones.")
    if isinstance(got, torch.Tensor) and got.shape == (50,):
        raise Wrong("You took the variance along each image: it goes over the images, dim=0.")
    expect(got, 2, "five dimensions, two of them active", mistakes)
    expect(answer(mean.clone(), 1.0), 1, "the same and a threshold of 1")
    wide = torch.randn(30, 40) * torch.where(torch.rand(40) < 0.4, 2.0, 0.1)
    want = int((wide.var(0) > 0.2).sum())
    along = "You took the variance along each image: it goes over the images, dim=0."
    given = "30 images, 40 dimensions and a threshold of 0.2"
    expect(answer(wide.clone(), 0.2), want, given, {along: (wide.var(1) > 0.2).sum()})


def check_attribute_direction(answer: Answer) -> None:
    z, has = torch.randn(9, 4), torch.tensor([1, 0, 0, 1, 0, 0, 0, 1, 0]).bool()
    mistakes = {
        "The arrow points the other way: those with the attribute minus those without.":
            z[~has].mean(0) - z[has].mean(0),
        "You took sums: with unequal groups that is no direction. Take means.":
            z[has].sum(0) - z[~has].sum(0),
        "That is the mean of those that have it: subtract the mean of those that do not.":
            z[has].mean(0),
        "You subtracted the mean of all: subtract that of those without the attribute.":
            z[has].mean(0) - z.mean(0),
        "You averaged over the dimensions: average over the faces, dim=0.":
            torch.stack([z[has].mean(), -z[~has].mean()]).sum(),
    }
    want = z[has].mean(0) - z[~has].mean(0)
    expect(answer(z.clone(), has.clone()), want, "9 codes, 3 of them with the attribute", mistakes)


def check_best_guess(answer: Answer) -> None:
    x, p = torch.rand(3, 2, 4, 5) * 2 - 1, torch.tensor([0.5, 0.3, 0.2])
    want = (p[:, None, None, None] * x).sum(0)
    mistakes = {
        "That is the plain mean: weight each image with its probability.": x.mean(0),
        "That is the likeliest image: it pays in full whenever it is wrong.": x[0],
        "You divided by the number of images as well: the probabilities already sum to 1.":
            want / 3,
        "You weighted with the squares of the probabilities.":
            (p.square()[:, None, None, None] * x).sum(0),
        "Not summed over the images yet.": p[:, None, None, None] * x,
        "That is the median: it minimises the absolute error.": x.median(0).values,
    }
    given = "3 images with probabilities 0.5, 0.3, 0.2"
    expect(answer(x.clone(), p.clone()), want, given, mistakes)
