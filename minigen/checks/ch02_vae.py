"""Checks of chapter 2's exercises."""

import torch
from torch import Tensor

from minigen.checks import elbo_step as step
from minigen.checks import vae_answers as right
from minigen.checks.compare import (
    Answer,
    Wrong,
    expect,
    require_gradient,
    unchanged,
    value_of,
)
from minigen.checks.vae_answers import (  # noqa: F401  (found by name: minigen.checks.yours)
    attribute_direction,
    best_guess,
    count_active,
    elbo_step,
    gaussian_kl,
    negative_elbo,
    reparameterised,
)


def _posterior(*shape: int) -> tuple[Tensor, Tensor]:
    return 1.5 * torch.randn(shape), torch.randn(shape)


def check_gaussian_kl(answer: Answer) -> None:
    for shape in ((4, 3), (2, 7)):
        m, v = _posterior(*shape)
        want, square, var = right.gaussian_kl(m, v), m.square(), v.exp()
        each = 0.5 * (square + var - 1 - v)
        mistakes = {
            "You averaged over the dimensions: independent dimensions add up, so sum them.":
                each.mean(1),
            "You summed over the batch as well: one number per item, .sum(dim=1).": each.sum(),
            "You averaged over the batch: leave that to the loss, and return one number per item.":
                want.mean(),
            "You averaged over batch and dimensions: sum the dimensions, keep the batch.":
                each.mean(),
            "You summed over the batch, dim=0; sum over the dimensions, dim=1.": each.sum(0),
            "You forgot the factor ½.": 2 * want,
            "Not summed yet: one number per item, .sum(dim=1).": each,
            "The sign is turned: a KL divergence is never below 0.": -want,
        } | {meaning: 0.5 * terms.sum(1) for meaning, terms in {
            ("You used the log-variance where the variance belongs: the second term is its "
             "exponential."): square + v - 1 - v,
            "You took e^v for the deviation: it is the variance, no square.":
                square + (2 * v).exp() - 1 - 2 * v,
            "The variance is e^v, without a square.": square + (2 * v).exp() - 1 - v,
            "That is the deviation, e^(v/2): the second term is the variance, e^v.":
                square + (0.5 * v).exp() - 1 - v,
            "The mean is not squared.": m + var - 1 - v,
            "The square of the mean is missing.": var - 1 - v,
            "The variance, e^v, is missing.": square - 1 - v,
            "The −1 is missing.": square + var - v,
            "The 1 is subtracted, not added.": square + var + 1 - v,
            "The log-variance is missing.": square + var - 1,
            "The log-variance is subtracted, not added.": square + var - 1 + v,
            "The ½ belongs to all four terms, not to one of them.":
                square + 2 * (var - 1 - v),
            "That is the KL the other way round, from the prior to q.":
                (1 + square) / var - 1 + v,
        }.items()}
        leaf = [m.clone().requires_grad_(), v.clone().requires_grad_()]
        got = answer(*leaf)
        if isinstance(got, Tensor) and got.isnan().any():
            raise Wrong("NaN: logvar is a logarithm already and may be negative; take neither its "
                        "logarithm nor its root.")
        expect(value_of(got), want, f"means and log-variances of shape {shape}", mistakes)
        require_gradient(got, leaf, ("mean", "log-variance"))


def check_reparameterised(answer: Answer) -> None:
    mean, logvar = _posterior(5, 3)
    eps = torch.randn(5, 3)
    deviation = (0.5 * logvar).exp()
    mistakes = {
        "You multiplied by the variance: the noise is scaled by the deviation, e^(v/2).":
            mean + logvar.exp() * eps,
        "You multiplied by the log-variance itself: turn it into the deviation, e^(v/2).":
            mean + logvar * eps,
        "The ½ belongs into the exponent: e^(v/2), not half of e^v.":
            mean + 0.5 * logvar.exp() * eps,
        "You squared instead of taking the root: the deviation is e^(v/2).":
            mean + (2 * logvar).exp() * eps,
        "The noise is not scaled.": mean + eps,
        "The mean is missing.": deviation * eps,
        "You divided by the deviation: that is how a draw is standardised; multiply.":
            mean + eps / deviation,
        "The noise is subtracted; it is added.": mean - deviation * eps,
        "Mean and deviation are swapped.": deviation + mean * eps,
        "The mean is scaled as well: only the noise is.": deviation * (mean + eps),
        "Nothing is drawn: that is the mean.": mean,
    }
    leaf = [mean.clone().requires_grad_(), logvar.clone().requires_grad_()]
    got, again = answer(*leaf, eps.clone()), answer(mean.clone(), logvar.clone(), eps.clone())
    if isinstance(got, torch.Tensor) and got.isnan().any():
        raise Wrong("NaN: the log-variance may be negative, and has no root. The deviation is "
                    "e^(v/2).")
    both = isinstance(got, Tensor) and isinstance(again, Tensor) and got.shape == again.shape
    if both and not torch.allclose(got, again):
        raise Wrong("You drew noise of your own: use the eps that is given.")
    want = mean + deviation * eps
    expect(value_of(got), want, "a batch of shape (5, 3)", mistakes)
    require_gradient(got, leaf, ("mean", "log-variance"))
    slope = torch.autograd.grad(got.sum(), leaf[1])[0]
    expect(slope, 0.5 * deviation * eps, "the gradient of the log-variance")


def check_negative_elbo(answer: Answer) -> None:
    for shape, beta in (((3, 3, 4, 4), 0.5), ((2, 1, 5, 3), 2.0)):
        x, x_hat = torch.rand(shape), torch.rand(shape)
        mean, logvar = _posterior(shape[0], 6)
        want = right.negative_elbo(x, x_hat, mean, logvar, beta)
        rate = right.gaussian_kl(mean, logvar).mean()
        distortion, pixels, n = want - beta * rate, x[0].numel(), shape[0]
        mistakes = {
            ("You averaged the squared error over the pixels: sum it over each image, or β is "
             "multiplied by their number."):
                distortion / pixels + beta * rate,
            "You averaged over the pixels, and the ½ is missing.":
                2 * distortion / pixels + beta * rate,
            "You averaged both terms, over pixels and over dimensions: sum both.":
                distortion / pixels + beta * rate / 6,
            "The ½ of the squared error is missing.": 2 * distortion + beta * rate,
            "The ½ is on both terms: the KL has its own already.": distortion + beta * rate / 2,
            "β is on the distortion; it is the price of the rate.": beta * distortion + rate,
            "β is on both terms: it is the price of the rate only.": beta * (distortion + rate),
            "β is missing.": distortion + rate,
            "The price is 1/β: multiply the rate by β, do not divide it.": distortion + rate / beta,
            "The distortion is divided by β: it is the rate that has a price, and is multiplied.":
                distortion / beta + rate,
            "Mean and log-variance are swapped in the KL: the mean comes first.":
                distortion + beta * right.gaussian_kl(logvar, mean).mean(),
            "The KL is subtracted; in the loss it is added.": distortion - beta * rate,
            "The sign is turned: the ELBO grows, the loss falls.": -want,
            "You averaged the KL over its dimensions: sum them.": distortion + beta * rate / 6,
            "You summed over the batch: take the mean of the images.": n * want,
            "The KL is summed over the batch and the error is averaged: take the mean of both.":
                distortion + n * beta * rate,
            "The error is summed over the batch and the KL is averaged: take the mean of both.":
                n * distortion + beta * rate,
            "The rate is missing.": distortion,
            "The distortion is missing.": beta * rate,
            "That is the absolute error: square it.":
                0.5 * (x - x_hat).abs().flatten(1).sum(1).mean() + beta * rate,
            "You took the root of the squared error: leave the square.":
                0.5 * (x - x_hat).flatten(1).norm(dim=1).mean() + beta * rate,
        }
        leaf = [t.clone().requires_grad_() for t in (x_hat, mean, logvar)]
        got = answer(x.clone(), *leaf, beta)
        expect(value_of(got), want, f"images of shape {shape} and β = {beta}", mistakes)
        require_gradient(got, leaf, ("reconstruction", "mean", "log-variance"))


def check_elbo_step(answer: Answer) -> None:
    step.check(answer)


def check_count_active(answer: Answer) -> None:
    # 2 active, 3 whose deviation is above the threshold and whose variance is not, 4 that are
    # large and always the same, 7 that are zero
    slope = torch.linspace(-1, 1, 50)[:, None]
    mean = torch.cat([2 * slope, slope, 0.15 * slope.expand(50, 3), torch.full((50, 4), 4.0),
                      torch.zeros(50, 7)], 1)
    along = "You took the variance along each image: it goes over the images, dim=0."
    mistakes = {
        "You compared the deviation with the threshold: take the variance.": torch.tensor(5),
        ("A mean that is large but never changes tells nothing about the image: you took its "
         "square; take the variance over the data."): torch.tensor(6),
        ("A mean that is large but never changes tells nothing about the image: you took its "
         "size; take the variance over the data."): torch.tensor(9),
        "You counted those below the threshold: active are those above.": torch.tensor(14),
        "You counted deviations below the threshold: variances above it are active.":
            torch.tensor(11),
        along: torch.tensor(50),
        "You counted all dimensions.": torch.tensor(16),
        "That is one variance for all numbers together: take one per dimension, dim=0.":
            torch.tensor(1),
        "You returned a share: count them.": torch.tensor(0.125),
    }
    got = answer(mean.clone())
    if isinstance(got, torch.Tensor) and got.shape == (16,):
        raise Wrong("That is one answer per dimension: count the true ones.")
    if isinstance(got, torch.Tensor) and got.shape == (50,):
        raise Wrong(along)
    expect(got, 2, "sixteen dimensions, two of them active", mistakes)
    expect(answer(mean.clone(), 1.0), 1, "the same and a threshold of 1",
           {"The threshold is given: you compared with 0.01 all the same.": torch.tensor(2)})
    wide = torch.randn(30, 40) * torch.where(torch.rand(40) < 0.4, 2.0, 0.1)
    want = int((wide.var(0) > 0.2).sum())
    given = "30 images, 40 dimensions and a threshold of 0.2"
    expect(answer(wide.clone(), 0.2), want, given, {along: (wide.var(1) > 0.2).sum()})


def check_attribute_direction(answer: Answer) -> None:
    z, has = torch.randn(9, 4), torch.tensor([1, 0, 0, 1, 0, 0, 0, 1, 0]).bool()
    want = z[has].mean(0) - z[~has].mean(0)
    mistakes = {
        "The arrow points the other way: those with the attribute minus those without.": -want,
        "You took sums: with unequal groups that is no direction. Take means.":
            z[has].sum(0) - z[~has].sum(0),
        "You divided both sums by the number of all: each group has its own mean.":
            (z[has].sum(0) - z[~has].sum(0)) / len(z),
        "That is the mean of those that have it: subtract the mean of those that do not.":
            z[has].mean(0),
        "That is the mean of those that do not have it.": z[~has].mean(0),
        "You subtracted the mean of all: subtract that of those without the attribute.":
            z[has].mean(0) - z.mean(0),
        "You added the two means; the arrow is their difference.":
            z[has].mean(0) + z[~has].mean(0),
        "You scaled the arrow to length 1: keep its length, it is one pair of glasses.":
            want / want.norm(),
        "Those are medians: take means.":
            z[has].median(0).values - z[~has].median(0).values,
        "You averaged over the dimensions: average over the faces, dim=0.":
            torch.stack([z[has].mean(), -z[~has].mean()]).sum(),
    }
    given = z.clone()
    expect(answer(given, has.clone()), want, "9 codes, 3 of them with the attribute", mistakes)
    unchanged({"codes": (given, z)})


def check_best_guess(answer: Answer) -> None:
    x, p = torch.rand(3, 2, 4, 5) * 2 - 1, torch.tensor([0.5, 0.3, 0.2])
    weights = p[:, None, None, None]
    want = (weights * x).sum(0)
    mistakes = {
        "That is the plain mean: weight each image with its probability.": x.mean(0),
        "That is the sum without the probabilities.": x.sum(0),
        "That is the likeliest image: it pays in full whenever it is wrong.": x[0],
        "You divided by the number of images as well: the probabilities already sum to 1.":
            want / 3,
        "You weighted with the squares of the probabilities.": (weights.square() * x).sum(0),
        "You weighted with the roots of the probabilities.": (weights.sqrt() * x).sum(0),
        "You weighted with 1 − p: the likelier image counts more.": ((1 - weights) * x).sum(0),
        "The weights are a softmax of the probabilities: take the probabilities themselves.":
            (weights.softmax(0) * x).sum(0),
        "Not summed over the images yet.": weights * x,
        "That is the median: it minimises the absolute error.": x.median(0).values,
    }
    given, chances = x.clone(), p.clone()
    got = answer(given, chances)
    expect(got, want, "3 images with probabilities 0.5, 0.3, 0.2", mistakes)
    unchanged({"images": (given, x), "probabilities": (chances, p)})
