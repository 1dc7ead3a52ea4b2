"""Excursion 3's repairs: mistakes, each named whatever is drawn, and right answers."""

import importlib
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from minigen.checks import (
    compare,
    guard,
    pictures_answers,
    pictures_posterior,
    pictures_psnr,
    pictures_repair,
    text_cases,
)

CHECKS = {"psnr": pictures_psnr.psnr, "wiener": pictures_repair.wiener,
          "consistent": pictures_repair.consistent, "dps_step": pictures_posterior.dps_step}


def told(name, fn, checks=CHECKS):
    """What is said of an answer, "" where it is right."""
    def answer(*args):
        return fn(*args)

    watch, wrong = guard.Watch(answer, getattr(pictures_answers, name)), None
    try:
        checks[name](watch.function())
    except compare.Wrong as e:
        wrong = e
    return str(watch.verdict(wrong) or "")


def db(x, y, error=lambda d: d.square().flatten(1).mean(1), peak=2, log=torch.log10, times=10):
    """PSNR, and what can go wrong in it."""
    return times * log(peak**2 / error(x - y))


def by_loops(x, y):
    out = []
    for a, b in zip(x.tolist(), y.tolist(), strict=True):
        a, b = np.array(a), np.array(b)
        out.append(20 * math.log10(2 / math.sqrt(((a - b) ** 2).mean())))
    return torch.tensor(out)


def filtered(y, mean, cov, v, eye=torch.eye, first=None, second=None, off=1, back=1,
             inverse=torch.linalg.inv, product=torch.matmul, end=lambda z: z):
    """Wiener's filter, and what can go wrong in it."""
    a = cov if first is None else first(cov, v)
    b = inverse(cov + v * eye(len(cov)) if second is None else second(cov, v))
    return end(back * mean + (y - off * mean) @ product(a, b))


def one_by_one(y, mean, cov, v):
    noisy = cov + v * torch.eye(len(mean), dtype=cov.dtype)
    return torch.stack([mean + cov @ torch.linalg.solve(noisy, row - mean) for row in y])


def by_eigenvectors(y, mean, cov, v):
    values, vectors = torch.linalg.eigh(cov)
    return mean + ((y - mean) @ vectors * (values / (values + v))) @ vectors.T


def by_cholesky(y, mean, cov, v):
    low = torch.linalg.cholesky(cov + v * torch.eye(len(cov)))
    return mean + (cov @ torch.cholesky_solve((y - mean).T, low)).T


def less_noise(y, mean, cov, v):
    """The same by what is taken out of y."""
    return y - v * (y - mean) @ torch.linalg.inv(cov + v * torch.eye(len(cov)))


def diagonal(y, mean, cov, v):
    return mean + cov.diag() / (cov.diag() + v) * (y - mean)


def of_precisions(y, mean, cov, v):
    """Right where cov has an inverse."""
    a = torch.linalg.inv(cov)
    b = torch.linalg.inv(a + torch.eye(len(cov)) / v)
    return (mean @ a + y / v) @ b


def fitted(x, y, f, b, share=1, plus=1):
    """A picture made to fit, and what can go wrong in it."""
    return plus * x + share * b(y - f(x))


def eye(n):
    return torch.eye(n)


def led(guess, x, y, f, down, scale, far=lambda d: d.flatten(1).norm(dim=1).sum(), sign=-1,
        slope=lambda s, d: s, low=lambda down, x0, eps, x: down(x0, eps), look=lambda x0, eps, x:
        x0, by="x", end=lambda z: z.detach(), step=None, differ=lambda y, z: y - z):
    """A step of diffusion posterior sampling, and what can go wrong in it."""
    x = x.detach().requires_grad_()
    x0, eps = guess(x)
    if by == "x0":
        x0 = x0.detach().requires_grad_()
    d = differ(y, f(look(x0, eps, x)))
    (s,) = torch.autograd.grad(far(d), {"x": x, "x0": x0}[by])
    s = slope(s, d)
    if step is not None:
        return step(x0, eps, s, scale, down).detach()
    return end(low(down, x0, eps, x) + sign * scale * s)


def backward(guess, x, y, f, down, scale):
    """The same by backward()."""
    leaf = x.clone()
    leaf.requires_grad = True
    views = guess(leaf)
    for one in y - f(views[0]):
        one.square().sum().sqrt().backward(retain_graph=True)
    with torch.no_grad():
        return down(*views) - scale * leaf.grad


def one_at_a_time(guess, x, y, f, down, scale):
    def far(x):
        return (f(guess(x)[0]) - y).square().flatten(1).sum(1).sqrt().sum()

    return down(*guess(x)) - torch.func.grad(far)(x) * scale


def in_place(guess, x, y, f, down, scale, again=False):
    x.requires_grad_()
    x0, eps = guess(x)
    (y - f(x0)).flatten(1).norm(dim=1).sum().backward()
    return (down(x0, eps) - scale * x.grad).detach()


def switched_off(guess, x, *rest):
    def blind(x):
        with torch.no_grad():
            return guess(x)

    return led(blind, x, *rest)


def no_leaf(guess, x, y, f, down, scale):
    x0, eps = guess(x)
    (s,) = torch.autograd.grad((y - f(x0)).flatten(1).norm(dim=1).sum(), x)
    return down(x0, eps) - scale * s


def cut(guess, x, *rest):
    return led(lambda x: (guess(x)[0].detach(), guess(x)[1]), x, *rest)


def other_leaf(guess, x, y, f, down, scale):
    mine = x.detach().requires_grad_()
    x0, eps = guess(x.detach().requires_grad_())
    (s,) = torch.autograd.grad((y - f(x0)).flatten(1).norm(dim=1).sum(), mine)
    return down(x0, eps).detach() - scale * s


def without_forward(guess, x, y, f, down, scale):
    return led(guess, x, y, lambda z: z, down, scale)


def of_the_guess(guess, x, y, f, down, scale):
    x = x.detach().requires_grad_()
    x0, eps = guess(x)
    return (down(x0, eps) - scale * torch.autograd.grad(x0.sum(), x, retain_graph=True)[0]).detach()


def sized(z):
    return z.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


WRONG = {
    "psnr": [
        (lambda x, y: db(x, y, peak=1), "you took 1"), (lambda x, y: db(x, y, peak=255), "255"),
        (lambda x, y: 10 * torch.log10(2 / (x - y).square().mean((1, 2, 3))), "squared: 2²"),
        (lambda x, y: db(x, y, peak=4), "The 4 is there twice"),
        (lambda x, y: db(x / 2 + 0.5, y / 2 + 0.5), "brought to [0, 1], where the peak is 1"),
        (lambda x, y: db(x, y, peak=x.max()), "from the pictures themselves"),
        (lambda x, y: db(x, y, peak=y.max()), "from the pictures themselves"),
        (lambda x, y: db(x, y, peak=x.max() - x.min()), "from the pictures themselves"),
        (lambda x, y: db(x, y, peak=y.flatten(1).amax(1) - y.flatten(1).amin(1)),
         "from the pictures themselves"),
        (lambda x, y: db(x, y, log=torch.log), "the natural logarithm"),
        (lambda x, y: db(x, y, log=torch.log2), "to base 2"),
        (lambda x, y: db(x, y, times=1), "The 10 before log10"),
        (lambda x, y: db(x, y, times=20), "with the error itself it is 10"),
        (lambda x, y: db(x, y, lambda d: d.square().mean((1, 2, 3)).sqrt()), "but not of 2²"),
        (lambda x, y: 10 * torch.log10(2 / (x - y).square().mean((1, 2, 3)).sqrt()), "you kept 10"),
        (lambda x, y: 20 * torch.log10(2 / (x - y).square().mean((1, 2, 3))), "A root is missing"),
        (lambda x, y: db(x, y, lambda d: d.square().mean((1, 2, 3)) ** 2), "squared once more"),
        (lambda x, y: -db(x, y), "the wrong way round"),
        (lambda x, y: 10 * torch.log10((x - y).square().mean((1, 2, 3)) / 4), "4 / error"),
        (lambda x, y: db(x, y, lambda d: d.square().mean()), "one for the whole batch"),
        (lambda x, y: 10 * math.log10(4 / F.mse_loss(x, y)), "one for the whole batch"),
        (lambda x, y: db(x, y).mean(), "the pictures' decibels"),
        (lambda x, y: db(x, y, lambda d: d.square().mean(0)), "averaged over the batch"),
        (lambda x, y: db(x, y, lambda d: d.square().mean((0, 2, 3))), "averaged over the batch"),
        (lambda x, y: db(x, y, lambda d: d.square().mean((0, 1, 2))), "averaged over the batch"),
        (lambda x, y: db(x, y, lambda d: d.square().sum((1, 2, 3))), "You summed the squares"),
        (lambda x, y: db(x, y, lambda d: d.square().mean((2, 3)).sum(1)), "over the channels:"),
        (lambda x, y: db(x, y, lambda d: d.square().mean(1).sum((1, 2))), "rows and columns:"),
        (lambda x, y: db(x, y, lambda d: d.square().mean(1)), "left some of these axes"),
        (lambda x, y: db(x, y, lambda d: d.square().mean(-1)), "left some of these axes"),
        (lambda x, y: db(x, y, lambda d: d.square().mean((2, 3))), "left some of these axes"),
        (lambda x, y: db(x, y, lambda d: d.square().mean((1, 2))), "left some of these axes"),
        (lambda x, y: db(x, y, torch.square), "decibels of single numbers"),
        (lambda x, y: db(x, y, torch.square).mean((1, 2, 3)), "you averaged decibels"),
        (lambda x, y: db(x, y, lambda d: d.square().mean((2, 3))).mean(1), "averaged decibels"),
        (lambda x, y: db(x, y, lambda d: d.square().mean((1, 2, 3), True)), "keepdim"),
        (lambda x, y: db(x, y, lambda d: d.abs().mean((1, 2, 3))), "the absolute difference: sq"),
        (lambda x, y: 20 * torch.log10(2 / (x - y).abs().mean((1, 2, 3))), "the root of the mean"),
        (lambda x, y: db(x, y, lambda d: d.mean((1, 2, 3)) ** 2), "squared the mean difference"),
        (lambda x, y: db(x, -y), "You added the pictures"),
        (lambda x, y: db(x, y, lambda d: d.flatten(1).var(1)), "the variance of the diff"),
        (lambda x, y: db(x, y, lambda d: d.var((1, 2, 3), correction=0)), "the variance of the"),
        (lambda x, y: db(x, y, lambda d: d.square().sum((1, 2, 3)) / (d[0].numel() - 1)),
         "one number too few"),
        (lambda x, y: 10 * torch.log10(x.square().mean((1, 2, 3)) / (x - y).square().mean(
            (1, 2, 3))), "signal-to-noise ratio: the peak"),
        (lambda x, y: (x - y).square().mean((1, 2, 3)), "That is the mean squared error"),
        (lambda x, y: (x - y).square().mean((1, 2, 3)).sqrt(), "That is the root"),
        (lambda x, y: 4 / (x - y).square().mean((1, 2, 3)), "The logarithm is missing"),
        (lambda x, y: None, "returned None"), (lambda x, y: db(x, y).tolist(), "returned a list"),
        (lambda x, y: db(x.sub_(y), 0), "changed x"),
        (lambda x, y: 1.1 * db(x, y), "1.1 times what is wanted"),
        (lambda x, y: db(x, y) + 1, "is wanted"),
    ],
    "wiener": [
        (lambda *a: filtered(*a, off=0), "The mean is not taken off"),
        (lambda *a: filtered(*a, back=0), "The mean is not put back"),
        (lambda *a: filtered(*a, off=0, back=0), "shrinks towards 0"),
        (lambda y, m, c, v: m - (filtered(y, m, c, v) - m), "mean − y"),
        (lambda *a: filtered(*a, first=lambda c, v: v * torch.eye(len(c))), "the noise's share"),
        (lambda y, m, c, v: y - filtered(y, m, c, v), "the noise that is taken out"),
        (lambda *a: filtered(*a, second=lambda c, v: c + v**0.5 * eye(len(c))), "a deviation"),
        (lambda *a: filtered(*a, second=lambda c, v: c + v**2 * eye(len(c))), "squared already"),
        (lambda *a: filtered(*a, second=lambda c, v: c + v), "added to every entry"),
        (lambda *a: filtered(*a, second=lambda c, v: c + eye(len(c))), "without the variance"),
        (lambda *a: filtered(*a, second=lambda c, v: c - v * eye(len(c))), "you took it off"),
        (diagonal, "Only the diagonal"),
        (lambda y, m, c, v: m + c.trace() / len(c) / (c.trace() / len(c) + v) * (y - m),
         "Each number gets the same share"),
        (lambda *a: filtered(*a, second=lambda c, v: c), "y comes back as it was"),
        (lambda *a: filtered(*a, inverse=lambda z: z), "The inverse is missing"),
        (lambda *a: filtered(*a, first=lambda c, v: eye(len(c)).to(c)), "The first cov is missing"),
        (lambda y, m, c, v: m + (y - m) @ c, "The second factor is missing"),
        (lambda y, m, c, v: m + (y - m) @ c.inverse(), "the inverse of cov alone"),
        (lambda *a: filtered(*a, first=lambda c, v: c.inverse(), inverse=lambda z: z),
         "of the wrong factor"),
        (lambda y, m, c, v: m + (y - m) @ (c / (c + v * eye(len(c)))), "divided entry by entry"),
        (lambda y, m, c, v: m + (y - m) @ (c / (c + v)), "the variance is in every one"),
        (lambda *a: filtered(*a, inverse=lambda z: 1 / z), "The entries of the matrix"),
        (lambda *a: filtered(*a, product=torch.mul), "multiplied entry by entry"),
        (lambda y, m, c, v: filtered(filtered(y, m, c, v), m, c, v), "used twice"),
        (lambda y, m, c, v: filtered(y, y.mean(0), c, v), "you took that of y's rows"),
        (lambda y, m, c, v: filtered(y, m, c, v) - m + y.mean(0), "you put back that of y's"),
        (lambda y, m, c, v: m.repeat(len(y), 1), "the mean alone"),
        (lambda *a: filtered(*a).T, "Rows and columns are swapped"),
        (lambda y, m, c, v: m + c @ (c + v * eye(len(c))).inverse() @ (y - m), "not on its left"),
        (lambda y, m, c, v: m + c @ (c + v * eye(len(c))).inverse() @ (y - m).T, "turned back"),
        (lambda y, m, c, v: filtered(y, m[:, None], c, v), "lined up with the rows"),
        (of_precisions, "as long as cov has an inverse"),
        (lambda y, m, c, v: y.sub_(m) @ torch.linalg.solve(c + v * eye(len(c)), c) + m,
         "changed y"),
        (lambda *a: filtered(*a).numpy(), "returned a ndarray"),
        (lambda y, m, c, v: filtered(y, m, c, v) + 0.1, "is wanted"),
    ],
    "consistent": [
        (lambda x, y, f, b: b(y), "back(y) alone"),
        (lambda x, y, f, b: x + b(y), "forward(x) is missing"),
        (lambda x, y, f, b: x - b(f(x)), "and put nothing in"),
        (lambda *a: fitted(*a, share=-1), "The sign is wrong"),
        (lambda x, y, f, b: x + b(f(x) - y), "The sign is wrong"),
        (lambda *a: fitted(*a, share=0.5), "half the way"),
        (lambda *a: fitted(*a, share=2), "twice as far"),
        (lambda *a: fitted(*a, plus=0), "x is missing"),
        (lambda x, y, f, b: x - b(y), "taken away from x"),
        (lambda x, y, f, b: x + b(y + f(x)), "y and forward(x) are added"),
        (lambda x, y, f, b: x.clone(), "y has changed nothing"),
        (lambda x, y, f, b: x + b(f(b(y - f(x)))) - b(y - f(x)), "y has changed nothing"),
        (lambda x, y, f, b: (x + b(y)) / 2, "the mean of x and back(y)"),
        (lambda x, y, f, b: b(f(x)), "back(forward(x)): y is missing"),
        (lambda x, y, f, b: x + b(f(x)), "You added what x has"),
        (lambda x, y, f, b: f(x), "the measurement of x"),
        (lambda x, y, f, b: y - f(x), "the difference of the measurements"),
        (lambda *a: fitted(*a).clamp(-1, 1), "clamped to [-1, 1]"),
        (lambda x, y, f, b: x + y - f(x), "back is missing: y − forward(x)"),
        (lambda x, y, f, b: x + y, "back is missing, and what forward"),
        (lambda x, y, f, b: x + b(y - x), "back takes a measurement"),
        (lambda x, y, f, b: x + f(y - b(x)), "back takes a measurement"),
        (lambda x, y, f, b: x + b(f(y) - f(x)), "forward takes a picture"),
        (lambda x, y, f, b: x.add_(b(y - f(x))), "changed x"),
        (lambda x, y, f, b: x + b(y.sub_(f(x))), "changed y"),
        (lambda *a: fitted(*a).tolist(), "returned a list"),
    ],
    "dps_step": [
        (lambda *a: led(*a, by="x0"), "with respect to x0"),
        (lambda *a: led(*a, far=lambda d: d.square().sum()), "the slope of the squared distance"),
        (lambda *a: led(*a, far=lambda d: d.square().sum() / 2), "halved: the distance"),
        (lambda *a: led(*a, far=lambda d: d.square().mean()), "the mean squared error"),
        (lambda *a: led(*a, far=lambda d: d.square().flatten(1).sum(1).mean()),
         "averaged over the pictures"),
        (lambda *a: led(*a, far=torch.norm), "for the whole batch"),
        (lambda *a: led(*a, far=lambda d: d.flatten(1).norm(dim=1).mean()), "mean of the dist"),
        (lambda *a: led(*a, sign=1), "You went up the slope"),
        (lambda g, x, y, f, d, s: led(g, x, y, f, d, 1), "The scale is missing"),
        (lambda g, x, y, f, d, s: led(g, x, y, f, d, 1 / s), "you divided"),
        (lambda g, x, y, f, d, s: led(g, x, y, f, d, s * s), "The scale is there twice"),
        (lambda *a: led(*a, low=lambda down, x0, eps, x: x), "yours goes on from x."),
        (lambda *a: led(*a, low=lambda down, x0, eps, x: x0), "yours goes on from x0"),
        (lambda *a: led(*a, look=lambda x0, eps, x: x), "forward is applied to x"),
        (lambda *a: led(*a, look=lambda x0, eps, x: eps), "forward is applied to eps"),
        (without_forward, "forward is missing"),
        (lambda *a: led(*a, step=lambda x0, eps, s, k, down: down(x0 - k * s, eps)),
         "x0 was corrected before"),
        (lambda *a: led(*a, step=lambda x0, eps, s, k, down: down(x0, eps + k * s)),
         "eps was corrected: "),
        (lambda *a: led(*a, step=lambda x0, eps, s, k, down: down(x0, eps - k * s)),
         "eps was corrected, by the wrong sign"),
        (lambda *a: led(*a, sign=0), "DDIM's step alone"),
        (lambda *a: led(*a, low=lambda down, x0, eps, x: 0), "the correction alone"),
        (lambda *a: led(*a, step=lambda x0, eps, s, k, down: k * s), "the slope alone"),
        (lambda *a: led(*a, low=lambda down, x0, eps, x: down(eps, x0)), "x0 and eps are swapped"),
        (lambda *a: led(*a, low=lambda down, x0, eps, x: down(x, eps)), "down is given x"),
        (lambda *a: led(*a, far=lambda d: d.abs().sum()), "sum of the absolute differences"),
        (lambda *a: led(*a, far=lambda d: d.norm(dim=1).sum()), "a norm along the channels"),
        (lambda *a: led(*a, far=lambda d: d.norm(dim=2).sum()), "ran along one axis, 2"),
        (lambda *a: led(*a, far=lambda d: d.norm(dim=-1).sum()), "ran along one axis, 3"),
        (lambda *a: led(*a, far=lambda d: d.abs().mean()), "mean of the absolute differences"),
        (lambda *a: led(*a, slope=lambda s, d: s / s.norm()), "The slope was brought to length"),
        (lambda *a: led(*a, slope=lambda s, d: s / sized(s)), "Each picture's slope was brought"),
        (lambda *a: led(*a, slope=lambda s, d: s / sized(d)), "divided by the distance"),
        (lambda *a: led(*a, far=lambda d: d.square().sum(), slope=lambda s, d: s / sized(d)),
         "two times the norm's"),
        (lambda *a: led(*a, slope=lambda s, d: s.sign()), "Only the sign"),
        (lambda *a: led(*a, far=torch.sum), "The squares are missing"),
        (of_the_guess, "the slope of x0 itself"),
        (lambda *a: led(*a, differ=lambda y, z: z), "y is missing in the distance"),
        (lambda *a: led(*a, differ=lambda y, z: y + z), "y and forward(x0) are added"),
        (lambda *a: led(*a, slope=lambda s, d: d.flatten(1).norm(dim=1).sum()), "The distance it"),
        (lambda *a: led(*a, slope=lambda s, d: sized(d)), "Each picture's distance itself"),
        (lambda *a: led(*a, look=lambda x0, eps, x: x0.clamp(-1, 1)), "clamped in the distance"),
        (lambda g, *a: led(lambda x: (g(x)[0].clamp(-1, 1), g(x)[1]), *a), "x0 was clamped:"),
        (lambda *a: led(*a, low=lambda down, x0, eps, x: down(x0.clamp(-1, 1), eps)),
         "clamped before down"),
        (lambda *a: led(*a, end=lambda z: z), "carries a graph"),
        (switched_off, "gradients switched off"), (no_leaf, "wants no gradient"),
        (cut, "something on its way, guess, x0 or forward, is detached"),
        (other_leaf, "the very x that guess was given"),
        (lambda *a: led(*a, far=lambda d: d.flatten(1).norm(dim=1)), "add the pictures' distances"),
        (lambda *a: led(*a, far=torch.Tensor.square), "add the pictures' distances"),
        (lambda g, *a: led(lambda x: g(x[:1]), *a), "guess takes the noisy pictures"),
        (lambda g, x, y, f, d, s: led(g, x, y, lambda z: f(f(z)), d, s), "forward takes a picture"),
        (in_place, "leaves requires_grad=True on x"),
        (lambda g, x, *a: led(g, x.mul_(2), *a), "changed x"),
        (lambda *a: led(*a).tolist(), "returned a list"), (lambda *a: None, "returned None"),
    ],
}
RIGHT = [
    ("psnr", db), ("psnr", by_loops),
    ("psnr", lambda x, y: 20 * torch.log10(2 / (x - y).square().mean((1, 2, 3)).sqrt())),
    ("psnr", lambda x, y: db((x + 1) / 2, (y + 1) / 2, peak=1)),
    ("psnr", lambda x, y: db(x.double(), y.double())),
    ("psnr", lambda x, y: -10 * torch.stack([F.mse_loss(a, b) for a, b in zip(
        x, y, strict=True)]).log10() + 10 * math.log10(4)),
    ("wiener", filtered), ("wiener", one_by_one), ("wiener", by_eigenvectors),
    ("wiener", by_cholesky), ("wiener", less_noise),
    ("wiener", lambda y, m, c, v: filtered(y.double(), m.double(), c.double(), v)),
    ("wiener", lambda *a: filtered(*a, inverse=torch.linalg.pinv)),
    ("wiener", lambda y, m, c, v: (m[:, None] + c @ torch.linalg.inv(
        c + torch.diag(torch.full_like(m, v))) @ (y - m).T).T),
    ("consistent", fitted), ("consistent", lambda x, y, f, b: x - b(f(x)) + b(y)),
    ("consistent", lambda x, y, f, b: x - b(f(x) - y)),
    ("consistent", lambda x, y, f, b: fitted(fitted(x, y, f, b), y, f, b)),
    ("consistent", lambda x, y, f, b: x.add(b(y.sub(f(x))))),
    ("dps_step", led), ("dps_step", backward), ("dps_step", one_at_a_time),
    ("dps_step", lambda *a: led(*a, differ=lambda y, z: z - y)),
    ("dps_step", lambda *a: led(*a, far=lambda d: (d.square().flatten(1).sum(1) + 1e-12)
                                .sqrt().sum())),
    ("dps_step", lambda *a: led(*a, far=lambda d: d.square().sum(), slope=lambda s, d: s / 2
                                / sized(d))),
]
MISTAKES = [(name, i) for name, wrong in WRONG.items() for i in range(len(wrong))]


@pytest.mark.parametrize(("name", "i"), MISTAKES)
def test_a_mistake_is_named_whatever_is_drawn(name, i):
    fn, words = WRONG[name][i]
    for seed in range(3):
        torch.manual_seed(seed)
        said = told(name, fn)
        assert words in said, (seed, said)


@pytest.mark.parametrize(("name", "fn"), RIGHT)
def test_right_answers_pass_whatever_is_drawn(name, fn):
    for seed in range(10):
        torch.manual_seed(seed)
        assert told(name, fn) == "", seed


@pytest.mark.parametrize("name", CHECKS)
def test_what_stands_in_passes(name):
    for seed in range(20):
        torch.manual_seed(seed)
        assert told(name, getattr(pictures_answers, name)) == "", seed


@pytest.mark.parametrize("name", CHECKS)
def test_an_answer_that_raises_is_not_hidden(name):
    def raises(*args):
        raise error("of its own")

    for error in (ZeroDivisionError, RuntimeError, TypeError, NotImplementedError):
        with pytest.raises(error, match="of its own"):
            told(name, raises)


def same(a, b):
    if isinstance(a, list):
        return all(map(text_cases.alike, a, b))
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=1e-3, atol=1e-4)


def apart(wrong, want, given, seen):
    """No two sentences stand for one value, and none for the right one."""
    wrong = [(words, value) for words, value in wrong if not same(value, want)]
    for (one, x), (other, y) in itertools.combinations(wrong, 2):
        assert one == other or not same(x, y), (given, one, other)
    seen.update(words for words, _ in wrong)


@pytest.mark.parametrize("name", CHECKS)
def test_no_two_mistakes_give_one_value(name, monkeypatch):
    """So what a message says is what was done."""
    seen = set()

    def look(got, want, given, mistakes=None, **how):
        apart((mistakes or {}).items(), want, given, seen)
        compare.expect(got, want, given, mistakes, **how)

    def judge(answer, cases, course, mistakes, words):
        values = [(words, [f(*case) for case in cases]) for words, f in mistakes]
        apart(values, [course(*case) for case in cases], "all cases", seen)
        assert {words for words, _ in mistakes} == seen

    module = importlib.import_module(CHECKS[name].__module__)
    monkeypatch.setattr(module, *("judge", judge) if name == "psnr" else ("expect", look))
    for seed in range(4):
        torch.manual_seed(seed)
        seen.clear()
        assert told(name, getattr(pictures_answers, name)) == ""
    assert len(seen) >= 8
    assert not [s for s in seen if not any(words in s for _, words in WRONG[name])], "untested"


def test_a_measurement_goes_there_and_back():
    """So back is forward's pseudo-inverse, and what stands in is on the measurement, once."""
    torch.manual_seed(0)
    for _, x, y, forward, back in pictures_repair.scenes():
        assert torch.allclose(forward(back(y)), y, atol=1e-6)
        out = pictures_answers.consistent(x, y, forward, back)
        assert torch.allclose(forward(out), y, atol=1e-5)
        assert torch.allclose(pictures_answers.consistent(out, y, forward, back), out, atol=1e-5)


def test_the_filter_is_the_best_straight_one():
    """It is the mean of what y may have come from, where all is Gaussian."""
    torch.manual_seed(0)
    root = torch.randn(3, 3, dtype=torch.float64)
    cov, mean, v = root @ root.T, torch.randn(3).double(), 0.7
    clean = mean + torch.randn(200_000, 3).double() @ root.T
    y = clean + v**0.5 * torch.randn_like(clean)
    ones = torch.cat([y, torch.ones(len(y), 1).double()], 1)
    fit = torch.linalg.lstsq(ones, clean).solution                       # by regression
    out = pictures_answers.wiener(y[:100], mean, cov, v)
    assert torch.allclose(out, ones[:100] @ fit, atol=0.05)


def test_decibels_of_a_known_error():
    x = torch.zeros(2, 3, 4, 4)
    y = torch.stack([x[0] + 0.2, x[1] - 2])
    assert torch.allclose(pictures_answers.psnr(x, y), torch.tensor([20.0, 0.0]), atol=1e-5)
