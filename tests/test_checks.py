"""Every exercise: its solution passes, and every mistake listed fails with words that name it."""

import copy
import functools
import importlib
import itertools
import json
import math
import subprocess
import sys
from pathlib import Path

import build_notebooks
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from minigen import checks, ddpm, flow_matching, flows, gan, ivqvae, pixelcnn, vae, vqvae
from minigen.checks import board, chapters, compare, flows_answers
from tests import (
    test_checks_pictures_pairs,
    test_checks_pictures_repair,
    test_checks_pictures_style,
    test_checks_x2,
    test_checks_x4,
)


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGEN_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MINIGEN_STRICT", raising=False)
    torch.manual_seed(0)  # which mistake is named can depend on the numbers drawn


def named(name, fn):
    def answer(*args):
        return fn(*args)

    answer.__name__ = name
    return answer


def sentence(name, fn, capsys):
    checks.check(named(name, fn))
    return capsys.readouterr().out.strip()


def step(g, d, optimiser, x, z, penalty=None, detach=True, zero=True, swap=False, move=True,
         kind="nonsaturating", real=True, fake=True, sign=1, plus=1, told=False, clear=False,
         after=False, times=1, late=False, asks=None):
    """The discriminator's step, and what can go wrong in it."""
    def loss_of():
        made = g(z if asks is None else asks(z))
        made = made.detach() if detach else made
        a, b = (d(made), d(x)) if swap else (d(x), d(made))
        halves = F.softplus(-a).mean() * real + F.softplus(b).mean() * fake
        return halves if kind == "nonsaturating" else gan.discriminator_loss(a, b, kind)

    loss = loss_of()
    total = loss + plus * penalty(d, x) if penalty and plus else loss
    if zero and not late:
        optimiser.zero_grad()
    (sign * total).backward()
    if clear:
        g.zero_grad()
    if late:
        optimiser.zero_grad()
    for _ in range(times * move):
        optimiser.step()
    return (loss_of() if after else total if told else loss).item()


def frozen_step(*a):
    a[0].requires_grad_(False)
    return step(*a)


def eval_step(*a):
    a[0].eval()
    return step(*a)


def plain_step(g, d, optimiser, x, z, penalty=None, in_place=False):
    """The discriminator's step, which returns a tensor; or in which += changed the loss as well."""
    loss = total = gan.discriminator_loss(d(x), d(g(z).detach()))
    if penalty and in_place:
        total += penalty(d, x)
    elif penalty:
        total = loss + penalty(d, x)
    optimiser.zero_grad()
    total.backward()
    optimiser.step()
    return loss.item() if in_place else loss


def trained(g, d, opt_g, opt_d, data, rng, penalty=None, loss=None, draw=torch.randn, same=False,
            swap=False, zero=True, detach=False, own=None, sign=1, move=True, d_moves=1, dim=None,
            g_moves=1, d_too=False, pair=lambda a, b: (a.item(), b.item()), each=True, d_zero=True,
            fresh=False, off=False):
    """The loop of both networks, and what can go wrong in it."""
    def for_d(x, z):
        total = a = gan.discriminator_loss(d(x), d(g(z).detach()))
        total = a + penalty(d, x) if penalty else a
        if d_zero:
            opt_d.zero_grad()
        total.backward()
        for _ in range(d_moves):
            opt_d.step()
        return a

    def for_g(z):
        fake = g(z).detach() if detach else g(z)
        if off:
            d.requires_grad_(False)
        b = (own or loss or gan.generator_loss)(d(fake))
        if zero:
            opt_g.zero_grad()
        (sign * b).backward()
        for _ in range(g_moves):
            opt_g.step()
        if d_too:
            opt_d.step()
        return b

    first = None
    for (x,) in data:
        z = draw(len(x), dim or g.latent_dim, generator=rng)
        first = z if first is None else first
        z = first[: len(x)] if same else z
        b = for_g(z) if swap else None
        a = for_d(x, z)
        z = draw(len(x), g.latent_dim, generator=rng) if fresh else z
        b = b if swap else for_g(z)
        if each:
            yield pair(a, b)
    if not each:
        yield pair(a, b)


def at_once(*a):
    return list(trained(*a))


def renamed(g, d, opt_g, opt_d, data, rng, penalty=None, loss=gan.generator_loss):
    """The loop, with `loss` for the function and for its value."""
    for (x,) in data:
        z = torch.randn(len(x), g.latent_dim, generator=rng)
        for_d = step(g, d, opt_d, x, z, penalty)
        loss = loss(d(g(z)))
        opt_g.zero_grad()
        loss.backward()
        opt_g.step()
        yield for_d, loss.item()


def with_next(g, d, opt_g, opt_d, data, rng, *options):
    while True:
        yield from trained(g, d, opt_g, opt_d, [next(data)], rng, *options)


def hoarding(g, d, opt_g, opt_d, data, rng, *options):
    yield from trained(g, d, opt_g, opt_d, list(data), rng, *options)


def elbo(model, optimiser, x, beta, eps, code="", weights=None, zero=True, move=True, early=False,
         back=1, told="numbers"):
    """Chapter 2's step, and its variants that go wrong."""
    mean, logvar = model.encode(x)
    m, v = mean.detach(), logvar.detach()
    z = {
        "mean": mean,
        "noise": eps,
        "variance": mean + logvar.exp() * eps,
        "minus": mean - (logvar / 2).exp() * eps,
        "own": mean + (logvar / 2).exp() * torch.randn_like(eps),
        "detached": m + (v / 2).exp() * eps,
        "all detached": m + (v / 2).exp() * eps,
        "σ detached": mean + (v / 2).exp() * eps,
        "mean detached": m + (logvar / 2).exp() * eps,
        "swapped": logvar + (mean / 2).exp() * eps,
    }.get(code, mean + (logvar / 2).exp() * eps)
    if code in ("free", "all detached"):
        mean, logvar = m, v
    rate = kl_terms(*((logvar, mean) if code == "KL swapped" else (mean, logvar))).sum(1).mean()
    a, b = weights or (1, beta)
    loss = a * sse(x, model.decode(z)).mean() / 2 + b * rate
    if early:
        optimiser.step()
    if zero:
        optimiser.zero_grad()
    (back * loss).backward()
    if move and not early:
        optimiser.step()
    if told == "nothing":
        return None
    told_rate = beta * rate if told == "priced" else rate
    return (loss, told_rate) if told == "graph" else (loss.item(), told_rate.item())


def one_channel(x, y, k):
    return torch.cat([x, y[:, None, None, None].expand(-1, 1, *x.shape[2:]).float()], 1)


def maps(x, y, k):
    return F.one_hot(y, k).float()[:, :, None, None].expand(-1, -1, *x.shape[2:])


def kl_terms(m, v):
    return 0.5 * (m**2 + v.exp() - 1 - v)


def sse(x, y):
    return (x - y).square().flatten(1).sum(1)


def no_detach(z, e, b=0.25):
    return F.mse_loss(z, e) + b * F.mse_loss(z, e)


def half_way(x, p, order):
    """The image at which the probabilities, in this order, reach one half."""
    return x[order[p[order].cumsum(0).ge(0.5).int().argmax()]]


def noised(x, e, a):
    return a.sqrt() * x + (1 - a).sqrt() * e


def by_channel(z, m, s):
    return (z - m[:, None, None]) / s[:, None, None]


def copied(z, q):
    z.data.copy_(q)
    return z


def vq(z, e, b=0.25):
    return F.mse_loss(e, z.detach()) + b * F.mse_loss(z, e.detach())


def quantized(z, codebook, beta, rows=None, back=None, loss=None, through=None, flat=False):
    """The quantizer, and its variants that go wrong."""
    vectors = rows(z) if rows else z.movedim(1, -1).flatten(0, 2)
    places = torch.cdist(vectors, codebook).argmin(1).view(len(z), *z.shape[2:])
    e = codebook[places]
    q = back(e, z) if back else e.movedim(-1, 1)
    passed = through(z, q) if through else q
    if not through:
        passed = z.view(q.shape) + (q - z.view(q.shape)).detach()
    e = e.movedim(-1, 1)
    cost = loss(z, e, passed, beta) if loss else vq(z, e, beta)
    return passed, places.flatten() if flat else places, cost


def upper_left(s, k, middle):
    out = torch.zeros(s, s)
    out[: s // 2, : s // 2 + middle] = 1
    out[s // 2, : s // 2 + (k == "B")] = 1
    return out


def in_bits(x, c):
    return F.cross_entropy(x, c, reduction="sum") / len(c) / math.log(2)


def told(model, given, grid, y, g, pick=None, soft=None, shift=0, start=None, stop=0, keep=True,
         label=True):
    """Codes drawn one after the other, and the variants that go wrong."""
    n, known = given.shape
    codes = torch.zeros(n, grid * grid, dtype=torch.long)
    if keep:
        codes[:, :known] = given
    first = start if start is not None else known if keep else 0
    for place in range(first, grid * grid + stop):
        with torch.no_grad():
            x = model(codes.view(n, grid, grid), y if label else None).flatten(2)
        x = x[:, :, place + shift]
        p = soft(x) if soft else x.softmax(1)
        codes[:, place] = pick(p, g) if pick else torch.multinomial(p, 1, generator=g).squeeze(1)
    return codes.view(n, grid, grid)


def averages(count, total, z, i, g, old=None, new=None, mean=False, divide=None, n=None):
    old, new = g if old is None else old, 1 - g if new is None else new
    counted, s = vqvae.count_and_sum(z, i, len(count))
    n = counted if n is None else n
    first = old * count + new * n
    second = old * total + new * (s / n[:, None].clamp_min(1) if mean else s)
    return first, second, second / {None: first, "old": count}[divide][:, None]


def averages_in_place(count, total, z, i, g):
    n, s = vqvae.count_and_sum(z, i, len(count))
    count.mul_(g).add_((1 - g) * n)
    total.mul_(g).add_((1 - g) * s)
    return count, total, total / count[:, None]


def eigen(x, back=True, clamp=True):
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    values = values.clamp_min(0) if clamp else values
    return (vectors.flip(1), values.flip(0)) if back else (vectors, values)


def crowd(x, n, g, root=torch.sqrt, turn=torch.t, mean=1, centred=True, noise=torch.randn,
          clip=True, clamp=True):
    """The generator of chapter 0 and what can go wrong in it."""
    flat = x.flatten(1)
    middle = flat.mean(0)
    vectors, values = eigen(flat - middle if centred else flat, clamp=clamp)
    y = mean * middle + (noise(n, len(values), generator=g) * root(values)) @ turn(vectors)
    return (y.clamp(-1, 1) if clip else y).view(n, *x.shape[1:])


def few_axes(x, n, g, most):
    """The same with the first eigenfaces only."""
    keep = (torch.arange(x[0].numel()) < most).float()
    return crowd(x, n, g, root=lambda v: (v * keep).sqrt())


def squeezed(x):
    """Divided by the largest, where one leaves [-1, 1]."""
    return x / x.abs().max().clamp_min(1)


def halves(x, n, g, side=torch.t):
    """The same by Cholesky's L, L Lᵀ = Σ."""
    flat = x.flatten(1)
    cov = torch.cov(flat.T, correction=0) + 1e-6 * torch.eye(flat.shape[1])
    y = flat.mean(0) + torch.randn(n, len(cov), generator=g) @ side(torch.linalg.cholesky(cov))
    return y.clamp(-1, 1).view(n, *x.shape[1:])


def mixed(x, n, g):
    """The same with no axes at all: every draw is a mixture of the images."""
    flat = x.flatten(1)
    centred = flat - flat.mean(0)
    y = flat.mean(0) + torch.randn(n, len(x), generator=g) @ centred / len(x) ** 0.5
    return y.clamp(-1, 1).view(n, *x.shape[1:])


WRONG = {
    "to_unit_range": [
        (lambda b: b.float() / 255, "lies in [0, 1]"),
        (lambda b: b.float() / 127.5, "shift by -1"),
        (lambda b: b.float() / 128 - 1, "127.5"),
        (lambda b: b.float() / 127 - 1, "a little more than 1"),
        (lambda b: (b.float() - 128) / 128, "a little less than 1"),
        (lambda b: b.float() / 255 - 1, "lies in [-1, 0]"),
        (lambda b: b.float() / 255 - 0.5, "lies in [-0.5, 0.5]"),
        (lambda b: b.float() / 127.5 + 1, "subtract 1"),
        (lambda b: (b.float() - 1) / 127.5, "after the division"),
        (lambda b: 1 - b / 127.5, "sign is the wrong way round"),
        (lambda b: (b * 2).float() / 255 - 1, "wrap around"),
        (lambda b: (b - 128).float() / 127.5, "no number below 0"),
        (lambda b: (b - b.min()).float() / (b.max() - b.min()) * 2 - 1, "largest byte"),
        (lambda b: (b.float() - b.float().mean()) / b.float().std(), "standardised"),
        (lambda b: (b.float() / 127.5 - 1).to(torch.uint8), "type is torch.uint8"),
        (lambda b: (b / 127.5 - 1).half(), "type is torch.float16; torch.float32 is wanted"),
        (lambda b: (b / 127.5 - 1).double(), "type is torch.float64; torch.float32 is wanted"),
        (lambda b: None, "returned None"),
    ],
    "mean_face": [
        (lambda x: x.mean(1), "along the first axis"),
        (lambda x: x.mean(-1), "row of pixels"),
        (lambda x: x.mean(2), "rows of pixels"),
        (lambda x: x.sum(0), "divide by how many"),
        (lambda x: x.sum(0) / (len(x) - 1), "one face too few"),
        (lambda x: x.mean(0, keepdim=True), "kept the batch axis"),
        (lambda x: x.mean((0, 2, 3)), "keep the pixels apart"),
        (lambda x: x.mean((1, 2, 3)), "grey value for each face"),
        (lambda x: x.mean(), "one number"),
        (lambda x: x.mean(0).flatten(), "keep its shape"),
        (lambda x: x.mean(0).permute(0, 2, 1), "axes swapped"),
        (lambda x: x.median(0).values, "the median"),
        (lambda x: x.mean(0).clamp(0, 1), "clipped the mean"),
        (lambda x: x[0], "first face only"),
        (lambda x: x.std(0), "the deviation"),
        (lambda x: x.div_(len(x)).sum(0), "changed the"),
    ],
    "eigenfaces_of": [
        (lambda x: eigen(x, back=False), "Smallest first"),
        (lambda x: (eigen(x)[0].flip(1), eigen(x)[1]), "opposite orders"),
        (lambda x: (eigen(x)[0], eigen(x)[1].flip(0)), "opposite orders"),
        (lambda x: (eigen(x)[0].flip(0), eigen(x)[1]), "upside down"),
        (lambda x: (eigen(x)[0].T, eigen(x)[1]), "are the rows"),
        (lambda x: eigen(x)[::-1], "swapped"),
        (lambda x: (eigen(x)[0], eigen(x)[1] * len(x)), "divide by the number of images"),
        (lambda x: (eigen(x)[0], eigen(x)[1] * len(x) / (len(x) - 1)), "divided by N - 1"),
        (lambda x: (eigen(x)[0], eigen(x)[1] * len(x) / x.shape[1]), "number of pixels"),
        (lambda x: (eigen(x)[0], eigen(x)[1].sqrt()), "standard deviations"),
        (lambda x: (torch.linalg.svd(x).Vh.T[:, : min(x.shape)], torch.linalg.svdvals(x)),
         "singular values"),
        (lambda x: (torch.linalg.svd(x, full_matrices=False).Vh,
                    torch.linalg.svdvals(x).square() / len(x)), "are the rows"),
        (lambda x: torch.linalg.eig(x.T @ x / len(x))[::-1], "complex"),
        (lambda x: eigen(x.T), "a column each. Is it the matrix of the pixels"),
        (lambda x: (x.T @ eigen(x.T)[0], eigen(x.T)[1] * x.shape[1] / len(x)), "length 1"),
        (lambda x: eigen(x, clamp=False), "a little below 0"),
        (lambda x: (eigen(x)[0][:, :3], eigen(x)[1][:3]), "There are 3 eigenfaces"),
        (lambda x: eigen(x)[0], "Return two tensors"),
        (lambda x: eigen(x.double()), "torch.float32 is wanted"),
        (lambda x: eigen(torch.randn(x.shape)), "does not give the images' covariance"),
        (lambda x: eigen(x.mul_(1.0).add_(1).sub_(1)), "changed the"),
        (lambda x: None, "returned None"),
    ],
    "gaussian_draw": [
        (lambda m, u, v, e: m + (e * v) @ u.T, "square root"),
        (lambda m, u, v, e: m + (e * v**0.25) @ u.T, "root was taken twice"),
        (lambda m, u, v, e: m + (e / v.sqrt()) @ u.T, "stretched by them"),
        (lambda m, u, v, e: (e * v.sqrt()) @ u.T, "mean is missing"),
        (lambda m, u, v, e: m + e @ u.T, "not scaled"),
        (lambda m, u, v, e: e @ u.T, "neither scaled"),
        (lambda m, u, v, e: (e * v.sqrt()) @ u.T - m, "subtracted"),
        (lambda m, u, v, e: m - (e * v.sqrt()) @ u.T, "noise is subtracted"),
        (lambda m, u, v, e: m + (e * v.sqrt()) @ u, "the transpose"),
        (lambda m, u, v, e: (m + e * v.sqrt()) @ u.T, "added at the end"),
        (lambda m, u, v, e: m + e @ u.T * v.sqrt(), "you scaled the pixels"),
        (lambda m, u, v, e: m + (torch.randn(e.shape) * v.sqrt()) @ u.T, "none of your own"),
        (lambda m, u, v, e: (m + (e * v.sqrt()) @ u.T).clamp(-1, 1), "clipped"),
        (lambda m, u, v, e: m + e.mul_(v.sqrt()) @ u.T, "changed the"),
    ],
    "new_faces": [
        (lambda x, n, g: crowd(x, n, g, root=lambda v: v), "by their roots"),
        (lambda x, n, g: crowd(x, n, g, root=lambda v: v**0.25), "root was taken twice"),
        (lambda x, n, g: crowd(x, n, g, root=torch.ones_like), "not scaled"),
        (lambda x, n, g: crowd(x, n, g, root=lambda v: (v * len(x)).sqrt()), "not divided by"),
        (lambda x, n, g: crowd(x, n, g, root=lambda v: (v / len(x)).sqrt()), "images twice"),
        (lambda x, n, g: crowd(x, n, g, root=lambda v: v.flip(0).sqrt()), "opposite orders"),
        (lambda x, n, g: crowd(x, n, g, turn=lambda u: u), "the transpose"),
        (lambda x, n, g: crowd(x, n, g, turn=lambda u: torch.eye(len(u))),
         "eigenfaces are missing"),
        (lambda x, n, g: crowd(x, n, g, mean=0), "mean is missing"),
        (lambda x, n, g: crowd(x, n, g, mean=-1), "mean is subtracted"),
        (lambda x, n, g: crowd(x, n, g, centred=False), "mean was not taken off"),
        (lambda x, n, g: crowd(x, n, g, noise=torch.rand), "torch.randn"),
        (lambda x, n, g: crowd(x, n, torch.Generator().manual_seed(0)), "do not seed it"),
        (lambda x, n, g: crowd(x, n, None), "generator=generator"),
        (lambda x, n, g: crowd(x, 1, g).expand(n, *x.shape[1:]), "one row of noise for each"),
        (lambda x, n, g: crowd(x, n, g, clip=False), "clip them to"),
        (lambda x, n, g: crowd(x, n, g, clip=False).tanh(), "squeezed by tanh"),
        (lambda x, n, g: squeezed(crowd(x, n, g, clip=False)), "some other way"),
        (lambda x, n, g: crowd(x, n, g, clamp=False), "come NaN"),
        (lambda x, n, g: few_axes(x, n, g, 10), "along 10 directions"),
        (lambda x, n, g: few_axes(x, n, g, 100), "along 100 directions"),
        (lambda x, n, g: crowd(x, n, g).view(n, 3, 32, 32), "images of any shape"),
        (lambda x, n, g: crowd(x, n, g).flatten(1), "shape of an image again"),
        (lambda x, n, g: crowd(x, len(x), g), "how many to draw"),
        (lambda x, n, g: crowd(x, n, g).double(), "torch.float32 is wanted"),
        (lambda x, n, g: x[torch.randint(len(x), (n,), generator=g)], "every one of them"),
        (lambda x, n, g: (x.mean(0) + x.std(0) * torch.randn(
            n, *x.shape[1:], generator=g)).clamp(-1, 1), "drawn independently"),
        (lambda x, n, g: halves(x, n, g, lambda a: a), "wrong half"),
        (lambda x, n, g: crowd(x.sub_(0.1).add_(0.1), n, g), "changed the"),
    ],
    "frechet_1d": [
        (lambda a, v, b, w: (a - b) ** 2 + (v - w) ** 2, "standard deviations"),
        (lambda a, v, b, w: (a - b) ** 2 + (v**0.5 + w**0.5) ** 2, "added the standard"),
        (lambda a, v, b, w: (a + b) ** 2 + (v**0.5 - w**0.5) ** 2, "added the means"),
        (lambda a, v, b, w: abs(a - b) + abs(v**0.5 - w**0.5), "squares are missing"),
        (lambda a, v, b, w: (a - b) ** 2 + abs(v**0.5 - w**0.5), "over the standard"),
        (lambda a, v, b, w: (a - b) ** 2 + abs(v - w), "Either the roots"),
        (lambda a, v, b, w: (a - b) ** 2 + v + w, "cross term -2"),
        (lambda a, v, b, w: (a - b) ** 2 + v + w - (v * w) ** 0.5, "counted once"),
        (lambda a, v, b, w: (a - b) ** 2 + v + w - 2 * v * w, "cross term holds"),
        (lambda a, v, b, w: (v**0.5 - w**0.5) ** 2, "means are missing"),
        (lambda a, v, b, w: (a - b) ** 2, "spread is missing"),
        (lambda a, v, b, w: (a - b + v**0.5 - w**0.5) ** 2, "each difference by itself"),
        (lambda a, v, b, w: ((a - b) ** 2 + (v**0.5 - w**0.5) ** 2) ** 0.5, "left squared"),
        (lambda a, v, b, w: "0", "returned a str"),
    ],
    "best_discriminator": [
        (lambda p, q: q / (p + q), "probability of *real*"),
        (lambda p, q: p / q, "needs the sum"),
        (lambda p, q: (p / q).log(), "logit"),
        (lambda p, q: p, "not its share"),
        (lambda p, q: p / p + q, "Without brackets"),
        (lambda p, q: (p - q).sigmoid(), "sigmoid of p − q"),
        (lambda p, q: (p / q).sigmoid(), "sigmoid of p / q"),
        (lambda p, q: (p + q) / 2, "mixture"),
        (lambda p, q: p / (p + q).sum(), "over the whole grid"),
        (lambda p, q: p / (p * q), "a product"),
        (lambda p, q: (p / (p + q)).mean(), "shape"),
        (lambda p, q: p.div_(p + q), "changed the density p"),
    ],
    "d_loss": [
        (lambda r, f: gan.discriminator_loss(f, r), "swapped"),
        (lambda r, f: F.softplus(-r).sum() + F.softplus(f).sum(), "take the mean"),
        (lambda r, f: F.softplus(-r).mean(), "fake half is missing"),
        (lambda r, f: F.softplus(f).mean(), "real half is missing"),
        (lambda r, f: gan.discriminator_loss(r, f) / 2, "adds them"),
        (lambda r, f: F.softplus(-r).mean() + F.softplus(-f).mean(), "push the logits up"),
        (lambda r, f: F.softplus(r).mean() + F.softplus(f).mean(), "push the logits down"),
        (lambda r, f: F.softplus(-r).mean() - F.softplus(f).mean(), "fake half is subtracted"),
        (lambda r, f: F.softplus(f).mean() - F.softplus(-r).mean(), "real half is subtracted"),
        (lambda r, f: -gan.discriminator_loss(r, f), "sign is wrong"),
        (lambda r, f: (1 - r.sigmoid()).mean() + f.sigmoid().mean(), "logs are missing"),
        (lambda r, f: f.mean() - r.mean(), "softplus is missing"),
        (lambda r, f: gan.discriminator_loss(r, f, "hinge"), "hinge loss"),
        (lambda r, f: F.relu(-r).mean() + F.relu(f).mean(), "relu is not softplus"),
        (lambda r, f: -torch.log(torch.sigmoid(r)).mean() - torch.log(1 - torch.sigmoid(f)).mean(),
         "not finite"),
        (lambda r, f: torch.log(1 + torch.exp(-r)).mean() + torch.log(1 + torch.exp(f)).mean(),
         "has overflowed"),
        (lambda r, f: -(r.sigmoid() + 1e-8).log().mean() - (1 - f.sigmoid() + 1e-8).log().mean(),
         "cuts the log off"),
        (lambda r, f: F.softplus(-r) + F.softplus(f), "Is a mean missing?"),
        (lambda r, f: (F.softplus(-r) + F.softplus(f)).mean(), "each half by itself"),
        (lambda r, f: F.softplus(-torch.cat([r, f])).mean(), "as real ones"),
        (lambda r, f: F.softplus(torch.cat([r, f])).mean(), "as fake ones"),
        (lambda r, f: F.softplus(torch.cat([r, -f])).mean(), "swapped, and averaged"),
        (lambda r, f: 2 * torch.cat([F.softplus(-r), F.softplus(f)]).mean(), "no 2 is needed"),
        (lambda r, f: F.binary_cross_entropy(r.sigmoid(), torch.ones_like(r))
            + F.binary_cross_entropy(f.sigmoid(), torch.zeros_like(f)), "stops at 200"),
        (lambda r, f: gan.discriminator_loss(r, f).item(), "no gradient comes back"),
        (lambda r, f: gan.discriminator_loss(r, f).detach(), "no gradient comes back"),
        (lambda r, f: gan.discriminator_loss(r, f.detach()), "reaches the fake logits"),
        (lambda r, f: F.softplus(-r).mean() + F.softplus(f.mul_(1.5) / 1.5).mean(),
         "changed the fake logits"),
    ],
    "g_loss": [
        (lambda f: gan.generator_loss(f, "minimax"), "minimax"),
        (lambda f: F.softplus(f).mean(), "to be caught"),
        (lambda f: -f.mean(), "hinge"),
        (lambda f: F.softplus(-f).sum(), "take the mean"),
        (lambda f: F.logsigmoid(f).mean(), "sign is wrong"),
        (lambda f: (1 - f.sigmoid()).mean(), "mean of 1 − D"),
        (lambda f: -f.sigmoid().mean(), "that is −D"),
        (lambda f: 0.5 * F.softplus(-f).mean(), "factor ½ too much"),
        (lambda f: F.softplus(-f), "Is a mean missing?"),
        (lambda f: -torch.log(torch.sigmoid(f)).mean(), "not finite"),
        (lambda f: -(f.sigmoid() + 1e-8).log().mean(), "cuts the log off"),
        (lambda f: F.softplus(-f).mean().detach(), "no gradient comes back"),
        (lambda f: F.softplus(-f).mean().item(), "no gradient comes back"),
        (lambda f: F.softplus(f.neg_()).mean(), "changed the logits"),
    ],
    "hinge_d_loss": [
        (lambda r, f: 0.5 * ((1 - r).mean() + (1 + f).mean()), "no lower bound"),
        (lambda r, f: 0.5 * (F.relu((1 - r).mean()) + F.relu((1 + f).mean())), "outside the mean"),
        (lambda r, f: F.relu(1 - r).mean() + F.relu(1 + f).mean(), "½ is missing"),
        (lambda r, f: 0.5 * F.relu(1 - r).mean() + F.relu(1 + f).mean(), "only the real one"),
        (lambda r, f: 0.5 * (F.relu(1 + r).mean() + F.relu(1 - f).mean()), "Either the signs"),
        (lambda r, f: 0.5 * (F.relu(1 - r).mean() + F.relu(1 - f).mean()), "fake one is 1 + logit"),
        (lambda r, f: 0.5 * (F.relu(1 + r).mean() + F.relu(1 + f).mean()), "real one is 1 − logit"),
        (lambda r, f: 0.5 * (F.relu(-r).mean() + F.relu(f).mean()), "margin"),
        (lambda r, f: 0.5 * F.relu(1 - r).mean(), "fake half is missing"),
        (lambda r, f: 0.5 * (F.relu(1 - r).mean() - F.relu(1 + f).mean()), "subtracted"),
        (lambda r, f: -gan.discriminator_loss(r, f, "hinge"), "never negative"),
        (lambda r, f: 0.5 * ((1 - r).abs().mean() + (1 + f).abs().mean()), "absolute value"),
        (lambda r, f: 0.5 * (F.relu(1 - r) ** 2).mean() + 0.5 * (F.relu(1 + f) ** 2).mean(),
         "hinge is squared"),
        (lambda r, f: 0.5 * (F.relu(1 - r).sum() + F.relu(1 + f).sum()), "take the mean"),
        (lambda r, f: 0.5 * (F.relu(1 - r) + F.relu(1 + f)).mean(), "each half by itself"),
        (lambda r, f: gan.discriminator_loss(r, f), "exercise 1.2"),
        (lambda r, f: gan.discriminator_loss(r, f, "hinge").item(), "no gradient comes back"),
        (lambda r, f: gan.discriminator_loss(r.detach(), f, "hinge"), "reaches the real logits"),
        (lambda r, f: F.relu(1 - r).mean() / 2 + F.relu(f.add_(1)).mean() / 2,
         "changed the fake logits"),
    ],
    "modes_covered": [
        (lambda p, c, r: int((torch.cdist(p, c).min(1).values < r).sum()), "count the modes"),
        (lambda p, c, r: int((torch.cdist(p, c) < r).sum()), "You counted points"),
        (lambda p, c, r: len(c), "Every centre"),
        (lambda p, c, r: len(torch.cdist(p, c).argmin(1).unique()), "use the radius"),
        (lambda p, c, r: (torch.cdist(c, p).min(1).values < r).float().mean(), "share"),
        (lambda p, c, r: (torch.cdist(p, c).min(1).values < r).float().mean(), "of the points"),
        (lambda p, c, r: torch.cdist(c, p).min(1).values < r, "one number is wanted"),
        (lambda p, c, r: int((torch.cdist(c, p).min(1).values < 0.3).sum()), "stayed at 0.3"),
        (lambda p, c, r: int(((c[:, None] - p).abs() < r).all(2).any(1).sum()), "square around"),
        (lambda p, c, r: int((torch.cdist(c, p).square().min(1).values < r).sum()),
         "squared distance"),
        (lambda p, c, r: int((torch.cdist(c, p, p=1).min(1).values < r).sum()), "|Δx| + |Δy|"),
        (lambda p, c, r: int((torch.cdist(c, p).max(1).values < r).sum()), "one is enough"),
        (lambda p, c, r: int((torch.cdist(c.mul_(1), p.add_(1).sub_(2)).min(1).values < r).sum()),
         "not yet"),
    ],
    "discriminator_step": [
        (lambda *a: step(*a, detach=False), "detach"),
        (lambda *a: step(*a, detach=False, clear=True), "sent one there: detach"),
        (lambda *a: step(*a, clear=True), "cleared the generator's gradients"),
        (lambda *a: step(*a, zero=False), "zero_grad"),
        (lambda *a: step(*a, late=True), "did not move"),
        (lambda *a: step(*a, swap=True), "swapped"),
        (lambda *a: step(*a, move=False), "once each"),
        (lambda *a: step(*a, times=2), "took 2 steps"),
        (lambda *a: step(*a) * 0.5, "0.5 times"),
        (lambda *a: step(*a, kind="hinge"), "hinge loss"),
        (lambda *a: step(*a, fake=False), "Only the real half"),
        (lambda *a: step(*a, real=False), "Only the fake half"),
        (lambda *a: step(*a, sign=-1), "went up the loss"),
        (lambda *a: step(*a, after=True), "loss after the step"),
        (lambda *a: step(*a, asks=torch.randn_like), "not given the noise z"),
        (lambda *a: step(*a, plus=0), "penalty was left out"),
        (lambda *a: step(*a, plus=-1), "subtracted the penalty"),
        (lambda *a: step(*a, told=True), "returned loss holds the penalty"),
        (lambda g, d, o, x, z, p=None: step(g, d, o, x, z, p and (lambda d, x: p(d, x + 1))),
         "asked about the real images"),
        (lambda *a: plain_step(*a, in_place=True), "`total += …` changes `loss`"),
        (plain_step, "Return a number, loss.item()"),
        (frozen_step, "requires_grad=False"),
        (eval_step, "not yet. Your function leaves generator in eval mode"),
        (lambda *a: (step(*a), None)[1], "returned None"),
    ],
    "gan_loop": [
        (lambda *a: None, "yield"),
        (at_once, "returned a list"),
        (lambda *a: trained(*a, each=False), "yielded 1 times"),
        (lambda *a: trained(*a, pair=lambda a, b: a.item()), "Yield two things"),
        (lambda *a: trained(*a, pair=lambda a, b: (a, b)), "graph alive"),
        (lambda *a: trained(*a, pair=lambda a, b: (a, b.item())), "loss is a tensor"),
        (lambda *a: trained(*a, pair=lambda a, b: (b.item(), a.item())),
         "is yielded first"),
        (lambda *a: trained(*a, g_moves=0), "generator never took a step"),
        (lambda *a: trained(*a, d_moves=0), "discriminator never took a step"),
        (lambda *a: trained(*a, d_moves=2), "discriminator's optimiser took 8 steps"),
        (lambda *a: trained(*a, swap=True), "generator stepped first"),
        (lambda *a: trained(*a, d_too=True), "discriminator's optimiser took 8"),
        (lambda *a: trained(*a, detach=True), "generator's weights did not move"),
        (lambda *a: trained(*a, zero=False), "generator's old gradients"),
        (lambda *a: trained(*a, d_zero=False), "discriminator's old gradients"),
        (lambda *a: trained(*a, sign=-1), "went up its loss"),
        (lambda *a: trained(*a, own=lambda f: F.softplus(f).mean()), "to be caught"),
        (lambda *a: trained(*a, own=lambda f: -F.softplus(f).mean()), "minimax"),
        (lambda *a: trained(*a[:6], None, *a[7:]), "penalty did not reach"),
        (lambda *a: trained(*a[:7]), "argument `loss`"),
        (lambda *a: trained(*a, same=True), "same noise"),
        (lambda *a: trained(*a, draw=torch.rand), "torch.randn, not torch.rand"),
        (lambda *a, **k: trained(*a[:5], None, *a[6:]), "Twice with equal rngs, two"),
        (lambda *a: trained(*a[:5], torch.Generator().manual_seed(0), *a[6:]),
         "Another rng, the same noise"),
        (renamed, "`loss` is the function"),
        (with_next, "for (x,) in data:"),
        (lambda *a: trained(*a, dim=2), "latent_dim"),
        (lambda *a: trained(*a, draw=lambda n, *k, **o: torch.randn(6, *k, **o)),
         "as many rows as the batch"),
        (lambda *a: trained(*a, off=True), "requires_grad off"),
        (hoarding, "may be endless"),
    ],
    "with_label": [
        (one_channel, "one-hot map"),
        (lambda x, y, k: torch.cat([maps(x, y, k), x], 1), "behind the image's channels"),
        (lambda x, y, k: x, "image as it was"),
        (lambda x, y, k: maps(x, y, k), "maps alone"),
        (lambda x, y, k: torch.cat([x, 1 - maps(x, y, k)], 1), "Ones and zeros are swapped"),
        (lambda x, y, k: torch.cat([x, 2 * maps(x, y, k) - 1], 1), "they hold zeros"),
        (lambda x, y, k: torch.cat([x, maps(x, y, 3)], 1), "three maps for four classes"),
        (lambda x, y, k: torch.cat([x, F.one_hot(y, k)[:, :, None, None]], 1), "not brought to"),
        (lambda x, y, k: torch.cat([x, F.one_hot(y, k)], 1), "not brought to"),
        (lambda x, y, k: torch.cat([x, maps(x, y, k)], 0), "another axis than the channels"),
        (lambda x, y, k: torch.cat([x, maps(x, y, k) * y.view(-1, 1, 1, 1)], 1), "ones and zeros"),
        (lambda x, y, k: torch.cat([x, maps(x, (y + 1) % k, k)], 1), "one class off"),
        (lambda x, y, k: torch.cat([x, maps(x, y[:1].expand(3), k)], 1), "the first one"),
        (lambda x, y, k: torch.cat([x.mul_(2) / 2, maps(x, y, k)], 1), "changed the images"),
    ],
}
WRONG |= {
    "gaussian_kl": [
        (lambda m, v: kl_terms(m, v).mean(1), "sum them"),
        (lambda m, v: kl_terms(m, v).sum(), "summed over the batch as well"),
        (lambda m, v: kl_terms(m, v).sum(1).mean(), "averaged over the batch"),
        (lambda m, v: kl_terms(m, v).mean(), "averaged over batch and dimensions"),
        (lambda m, v: kl_terms(m, v).sum(0), "dim=0"),
        (lambda m, v: 2 * kl_terms(m, v).sum(1), "factor ½"),
        (lambda m, v: kl_terms(m, v), "Not summed yet"),
        (lambda m, v: 0.5 * (m**2 + (2 * v).exp() - 1 - 2 * v).sum(1), "no square"),
        (lambda m, v: 0.5 * (m**2 + (2 * v).exp() - 1 - v).sum(1), "without a square"),
        (lambda m, v: 0.5 * (m**2 + (v / 2).exp() - 1 - v).sum(1), "That is the deviation"),
        (lambda m, v: 0.5 * (m**2 + v - 1 - v).sum(1), "its exponential"),
        (lambda m, v: 0.5 * (m**2 + v - 1 - v.log()).sum(1), "logarithm already"),
        (lambda m, v: 0.5 * (m + v.exp() - 1 - v).sum(1), "mean is not squared"),
        (lambda m, v: 0.5 * (v.exp() - 1 - v).sum(1), "square of the mean is missing"),
        (lambda m, v: 0.5 * (m**2 + v.exp() - v).sum(1), "−1 is missing"),
        (lambda m, v: 0.5 * (m**2 + v.exp() + 1 - v).sum(1), "The 1 is subtracted"),
        (lambda m, v: 0.5 * (m**2 + v.exp() - 1 + v).sum(1), "log-variance is subtracted"),
        (lambda m, v: 0.5 * (m**2 + v.exp() - 1).sum(1), "log-variance is missing"),
        (lambda m, v: 0.5 * (m**2 - 1 - v).sum(1), "variance, e^v, is missing"),
        (lambda m, v: (0.5 * m**2 + v.exp() - 1 - v).sum(1), "all four terms"),
        (lambda m, v: 0.5 * ((1 + m**2) / v.exp() - 1 + v).sum(1), "other way round"),
        (lambda m, v: 0.5 * (1 + v - m**2 - v.exp()).sum(1), "sign is turned"),
        (lambda m, v: kl_terms(m, v).sum(1).detach(), "no gradient comes back"),
        (lambda m, v: kl_terms(m.detach(), v).sum(1), "reaches the mean"),
    ],
    "reparameterised": [
        (lambda m, v, e: m + v.exp() * e, "multiplied by the variance"),
        (lambda m, v, e: m + v * e, "log-variance itself"),
        (lambda m, v, e: m + 0.5 * v.exp() * e, "into the exponent"),
        (lambda m, v, e: m + (2 * v).exp() * e, "squared instead"),
        (lambda m, v, e: m + e, "not scaled"),
        (lambda m, v, e: m, "Nothing is drawn"),
        (lambda m, v, e: (0.5 * v).exp() * e, "mean is missing"),
        (lambda m, v, e: m + e / (0.5 * v).exp(), "standardised"),
        (lambda m, v, e: m - (0.5 * v).exp() * e, "subtracted; it is added"),
        (lambda m, v, e: (0.5 * v).exp() + m * e, "swapped"),
        (lambda m, v, e: (0.5 * v).exp() * (m + e), "scaled as well"),
        (lambda m, v, e: (m + (0.5 * v).exp() * e).detach(), "no gradient comes back"),
        (lambda m, v, e: m + (0.5 * v.detach()).exp() * e, "reaches the log-variance"),
        (lambda m, v, e: m.detach() + (0.5 * v).exp() * e, "reaches the mean"),
        (lambda m, v, e: m + v.sqrt() * e, "has no root"),
        (lambda m, v, e: m + (0.5 * v).exp() * torch.randn_like(e), "noise of your own"),
    ],
    "negative_elbo": [
        (lambda x, y, m, v, b: F.mse_loss(x, y) / 2 + b * kl_terms(m, v).sum(1).mean(),
         "averaged the squared error"),
        (lambda x, y, m, v, b: F.mse_loss(x, y) + b * kl_terms(m, v).sum(1).mean(),
         "and the ½ is missing"),
        (lambda x, y, m, v, b: F.mse_loss(x, y) / 2 + b * kl_terms(m, v).mean(), "sum both"),
        (lambda x, y, m, v, b: (sse(x, y) + b * kl_terms(m, v).sum(1)).mean(),
         "½ of the squared error"),
        (lambda x, y, m, v, b: 0.5 * (sse(x, y) + b * kl_terms(m, v).sum(1)).mean(),
         "½ is on both terms"),
        (lambda x, y, m, v, b: (b * sse(x, y) / 2 + kl_terms(m, v).sum(1)).mean(),
         "price of the rate"),
        (lambda x, y, m, v, b: b * (sse(x, y) / 2 + kl_terms(m, v).sum(1)).mean(),
         "β is on both terms"),
        (lambda x, y, m, v, b: (sse(x, y) / 2 + kl_terms(m, v).sum(1)).mean(), "β is missing"),
        (lambda x, y, m, v, b: (sse(x, y) / 2 + kl_terms(m, v).sum(1) / b).mean(), "price is 1/β"),
        (lambda x, y, m, v, b: (sse(x, y) / 2 / b + kl_terms(m, v).sum(1)).mean(),
         "distortion is divided by β"),
        (lambda x, y, m, v, b: (sse(x, y) / 2 + b * kl_terms(v, m).sum(1)).mean(), "are swapped"),
        (lambda x, y, m, v, b: (sse(x, y) / 2 - b * kl_terms(m, v).sum(1)).mean(), "subtracted"),
        (lambda x, y, m, v, b: -(sse(x, y) / 2 + b * kl_terms(m, v).sum(1)).mean(),
         "sign is turned"),
        (lambda x, y, m, v, b: (sse(x, y) / 2 + b * kl_terms(m, v).mean(1)).mean(),
         "over its dimensions"),
        (lambda x, y, m, v, b: (sse(x, y) / 2 + b * kl_terms(m, v).sum(1)).sum(),
         "summed over the batch"),
        (lambda x, y, m, v, b: sse(x, y).mean() / 2 + b * kl_terms(m, v).sum(),
         "The KL is summed over the batch"),
        (lambda x, y, m, v, b: sse(x, y).sum() / 2 + b * kl_terms(m, v).sum(1).mean(),
         "The error is summed over the batch"),
        (lambda x, y, m, v, b: ((x - y).abs().flatten(1).sum(1) / 2
                                + b * kl_terms(m, v).sum(1)).mean(), "absolute error"),
        (lambda x, y, m, v, b: sse(x, y) / 2 + b * kl_terms(m, v).sum(1), "Is a mean missing?"),
        (lambda x, y, m, v, b: (sse(x, y) / 2 + b * kl_terms(m, v).sum(1)).mean().item(),
         "no gradient comes back"),
        (lambda x, y, m, v, b: (sse(x, y.detach()) / 2 + b * kl_terms(m, v).sum(1)).mean(),
         "reaches the reconstruction"),
    ],
    "elbo_step": [
        (lambda *a: elbo(*a, code="mean"), "decoded the mean"),
        (lambda *a: elbo(*a, code="noise"), "decoded the noise alone"),
        (lambda *a: elbo(*a, code="variance"), "by the variance"),
        (lambda *a: elbo(*a, code="minus"), "noise is subtracted"),
        (lambda *a: elbo(*a, code="own"), "the noise is another"),
        (lambda *a: elbo(*a, code="detached"), "z is detached"),
        (lambda *a: elbo(*a, code="σ detached"), "deviation is detached"),
        (lambda *a: elbo(*a, code="mean detached"), "mean's gradient through z is cut"),
        (lambda *a: elbo(*a, code="all detached"), "keep mean and log-variance in the graph"),
        (lambda *a: elbo(*a, code="free"), "rate is detached"),
        (lambda *a: elbo(*a, zero=False), "zero_grad"),
        (lambda *a: elbo(*a, move=False), "did not move"),
        (lambda *a: elbo(*a, early=True), "gradients of the step before"),
        (lambda *a: elbo(*a, weights=(1, 1)), "β is missing"),
        (lambda *a: elbo(*a, weights=(a[3], 1)), "β is on the distortion"),
        (lambda *a: elbo(*a, weights=(1, 1 / a[3])), "price is 1/β"),
        (lambda *a: elbo(*a, weights=(1 / a[3], 1)), "distortion is divided by β"),
        (lambda *a: elbo(*a, weights=(1, 0.03)), "with β = 2 the loss is the same"),
        (lambda *a: elbo(*a, weights=(a[3], a[3])), "β is on both terms"),
        (lambda *a: elbo(*a, code="swapped"), "encode returns the mean first"),
        (lambda *a: elbo(*a, code="KL swapped"), "swapped in the KL"),
        (lambda *a: elbo(*a, weights=(1, 0)), "without its rate"),
        (lambda *a: elbo(*a, weights=(1, -a[3])), "rate is subtracted"),
        (lambda *a: elbo(*a, weights=(-1, -a[3])), "sign is turned"),
        (lambda *a: elbo(*a, weights=(2, a[3])), "½ of the squared error"),
        (lambda *a: elbo(*a, back=-1), "climbed"),
        (lambda *a: elbo(*a)[::-1], "swapped"),
        (lambda *a: elbo(*a)[0], "two numbers"),
        (lambda *a: elbo(*a, told="nothing"), "returned None"),
        (lambda *a: (elbo(*a)[0], a[3] * elbo(*a)[1]), "encode once"),
        (lambda *a: elbo(*a, told="priced"), "leave β out"),
        (lambda *a: elbo(*a, told="graph"), "keep the whole graph"),
        (lambda model, o, x, b, e: model(x), "noise of its own"),
    ],
    "count_active": [
        (lambda m, t=0.01: int((m.std(0) > t).sum()), "deviation"),
        (lambda m, t=0.01: int((m.abs().mean(0) > t).sum()), "took its size"),
        (lambda m, t=0.01: int((m.square().mean(0) > t).sum()), "took its square"),
        (lambda m, t=0.01: int((m.var(0) < t).sum()), "below the threshold"),
        (lambda m, t=0.01: int((m.var(0) <= t).sum()), "below the threshold"),
        (lambda m, t=0.01: int((m.std(0) < t).sum()), "deviations below"),
        (lambda m, t=0.01: m.var(0) > t, "per dimension"),
        (lambda m, t=0.01: m.var(1) > t, "along each image"),
        (lambda m, t=0.01: int((m.var(1) > t).sum()), "along each image"),
        (lambda m, t=0.01: int(m.var() > t), "one variance for all"),
        (lambda m, t=0.01: m.shape[1], "all dimensions"),
        (lambda m, t=0.01: (m.var(0) > t).float().mean(), "share"),
        (lambda m, t=0.01: int((m.var(0) > 0.01).sum()), "0.01 all the same"),
    ],
    "attribute_direction": [
        (lambda z, h: z[~h].mean(0) - z[h].mean(0), "other way"),
        (lambda z, h: z[h].sum(0) - z[~h].sum(0), "Take means"),
        (lambda z, h: (z[h].sum(0) - z[~h].sum(0)) / len(z), "each group has its own mean"),
        (lambda z, h: z[h].mean(0), "subtract the mean of those that do not"),
        (lambda z, h: z[~h].mean(0), "those that do not have it"),
        (lambda z, h: z[h].mean(0) - z.mean(0), "mean of all"),
        (lambda z, h: z[h].mean(0) + z[~h].mean(0), "added the two means"),
        (lambda z, h: F.normalize(z[h].mean(0) - z[~h].mean(0), dim=0), "length 1"),
        (lambda z, h: z[h].median(0).values - z[~h].median(0).values, "medians"),
        (lambda z, h: z[h].mean() - z[~h].mean(), "over the dimensions"),
    ],
    "best_guess": [
        (lambda x, p: x.mean(0), "plain mean"),
        (lambda x, p: x.sum(0), "without the probabilities"),
        (lambda x, p: x[p.argmax()], "likeliest"),
        (lambda x, p: (p[:, None, None, None] * x).mean(0), "already sum to 1"),
        (lambda x, p: p[:, None, None, None] * x, "Not summed"),
        (lambda x, p: (p.square()[:, None, None, None] * x).sum(0), "squares"),
        (lambda x, p: ((1 - p)[:, None, None, None] * x).sum(0), "1 − p"),
        (lambda x, p: (p.softmax(0)[:, None, None, None] * x).sum(0), "softmax"),
        (lambda x, p: x.median(0).values, "median"),
        (lambda x, p: (p * x).sum(0), "raised RuntimeError"),
        (lambda x, p: x.mul_(p[:, None, None, None]).sum(0), "changed"),
    ],
    "nearest_index": [
        (lambda z, c: (z @ c.T).argmax(1), "long code wins"),
        (lambda z, c: torch.cdist(z, c).argmax(1), "farthest"),
        (lambda z, c: (c.square().sum(1) - z @ c.T).argmin(1), "factor 2"),
        (lambda z, c: (c.square().sum(1) + 2 * z @ c.T).argmin(1), "it is subtracted"),
        (lambda z, c: torch.cdist(z, c).argmin(0), "nearest vector of each code"),
        (lambda z, c: c.square().sum(1) - 2 * z @ c.T, "returned the distances"),
        (lambda z, c: torch.cdist(z, c), "returned all distances"),
        (lambda z, c: torch.cdist(z, c).min(1).values, "return its index"),
        (lambda z, c: c[torch.cdist(z, c).argmin(1)], "return their indices"),
        (lambda z, c: torch.cdist(z, c).argmin(1).float(), "torch.int64"),
        (lambda z, c: torch.cdist(z, c).argmin(1, keepdim=True), "axis of codes was kept"),
        (lambda z, c: (z[:, None] - c[None]).square().sum(-1).argmin(1), "N · K · C numbers"),
        (lambda z, c: (F.normalize(z, dim=1) @ F.normalize(c, dim=1).T).argmax(1), "cosine"),
        (lambda z, c: F.cosine_similarity(z[:, None], c[None], dim=2).argmax(1), "cosine"),
        (lambda z, c: (c.norm(dim=1) - 2 * z @ c.T).argmin(1), "not squared"),
        (lambda z, c: torch.cdist(z, c, p=1).argmin(1), "absolute differences"),
        (lambda z, c: torch.cdist(z, c).argmin(1) + c.zero_().sum().long(), "changed the codebook"),
    ],
    "straight_through": [
        (lambda z, q: q, "no gradient reaches z_e"),
        (lambda z, q: q.detach(), "No gradient comes back"),
        (lambda z, q: z, "value is that of z_e"),
        (lambda z, q: z + (q - z), "either nothing is detached, or"),
        (lambda z, q: z + q - z.detach(), "A gradient reaches z_q"),
        (lambda z, q: q + (z - q).detach(), "value is that of z_e"),
        (lambda z, q: z.detach() + (q - z), "wrong place"),
        (lambda z, q: z.detach() + (q - z).detach(), "No gradient comes back"),
        (lambda z, q: z + (z - q).detach(), "wrong way round"),
        (lambda z, q: (q - z).detach(), "z_e in front is missing"),
        (lambda z, q: z + q.detach(), "bracket holds the difference"),
        (lambda z, q: copied(z, q), "changed the z_e"),
    ],
    "vq_loss": [
        (lambda z, e, b: F.mse_loss(z, e.detach()) + b * F.mse_loss(e, z.detach()),
         "the bug itself"),
        (no_detach, "Nothing is detached"),
        (lambda z, e, b: F.mse_loss(e, z.detach()), "Only one of the two"),
        (lambda z, e, b: b * F.mse_loss(z, e.detach()), "codebook term is missing"),
        (lambda z, e, b: F.mse_loss(e, z.detach()) + F.mse_loss(z, e.detach()), "β is missing"),
        (lambda z, e, b: b * (F.mse_loss(e, z.detach()) + F.mse_loss(z, e.detach())), "both terms"),
        (lambda z, e, b: (F.mse_loss(e, z.detach()) + b * F.mse_loss(z, e.detach())) * z.numel(),
         "take the mean"),
        (lambda z, e, b: (1 + b) * F.mse_loss(z, e.detach()), "codebook gets no gradient"),
        (lambda z, e, b: (1 + b) * F.mse_loss(e, z.detach()), "encoder gets no gradient"),
        (lambda z, e, b: (1 + b) * F.mse_loss(z, e), "Nothing is detached"),
        (lambda z, e, b: (1 + b) * F.mse_loss(z, e).item(), "with its graph"),
        (lambda z, e, b: ((1 + b) * F.mse_loss(z, e)).detach(), "with its graph"),
        (lambda z, e, b: (1 - b) * F.mse_loss(e, z.detach()) + b * F.mse_loss(z, e.detach()),
         "1 − β and β"),
        (lambda z, e, b: b * F.mse_loss(e, z.detach()) + (1 - b) * F.mse_loss(z, e.detach()),
         "at the wrong terms"),
        (lambda z, e, b: F.mse_loss(e, z.detach()) - b * F.mse_loss(z, e.detach()), "subtracted"),
        (lambda z, e, b: F.mse_loss(e, z) + b * F.mse_loss(z, e.detach()), "z_e is not detached"),
        (lambda z, e, b: F.mse_loss(e, z.detach()) + b * F.mse_loss(z, e), "e is not detached in"),
        (lambda z, e, b: F.l1_loss(e, z.detach()) + b * F.l1_loss(z, e.detach()), "absolute"),
        (lambda z, e, b: (e - z.detach()).square() + b * (z - e.detach()).square(), "one number"),
    ],
    "quantize": [
        (lambda *a: quantized(*a, rows=lambda z: z.reshape(-1, z.shape[1])), "alone mixes"),
        (lambda *a: quantized(*a, back=lambda e, z: e), "channels are last"),
        (lambda *a: quantized(*a, back=lambda e, z: e.reshape(z.shape)), "which mixes"),
        (lambda *a: quantized(*a, flat=True), "indices are a list"),
        (lambda *a: quantized(*a, loss=lambda z, e, q, b: vq(z, q, b)), "The codebook gets no"),
        (lambda *a: quantized(*a, loss=lambda z, e, q, b: vq(z, e)), "β is not passed on"),
        (lambda *a: quantized(*a, loss=lambda z, e, q, b: vq(e, z, b)), "wrong way round"),
        (lambda *a: quantized(*a, loss=lambda z, e, q, b: F.mse_loss(e, z)), "call vq_loss"),
        (lambda *a: quantized(*a, loss=lambda z, e, q, b: vq(z, e, b).item()), "no graph"),
        (lambda *a: quantized(*a, loss=lambda z, e, q, b: vq(z.detach(), e, b)), "The encoder"),
        (lambda *a: quantized(*a, loss=lambda z, e, q, b: vq(z, e.detach(), b)), "were detached"),
        (lambda *a: quantized(*a, through=lambda z, e: e), "does not reach z"),
        (lambda *a: quantized(*a, through=lambda z, e: e.detach()), "No gradient comes back"),
        (lambda *a: quantized(*a, through=lambda z, e: z + 0), "z_q is z itself"),
        (lambda *a: quantized(*a, through=lambda z, e: z + e - z.detach()), "reaches the codebook"),
        (lambda *a: quantized(*a, loss=lambda z, e, q, b: (1 + b) * F.mse_loss(z, e)),
         "Nothing is detached"),
        (lambda *a: quantized(*a, loss=lambda z, e, q, b: F.mse_loss(e, z)
                              + b * F.mse_loss(z, e.detach())), "z_e is not detached in"),
        (lambda *a: quantized(*a, loss=lambda z, e, q, b: F.mse_loss(e, z.detach())
                              + b * F.mse_loss(z, e)), "e is not detached in the commitment"),
        (lambda *a: quantized(*a)[:2], "three things"),
        (lambda *a: (quantized(*a)[1], *quantized(*a)[::2]), "first comes a map of floats"),
        (lambda *a: (quantized(*a)[0], *quantized(*a)[:0:-1]), "the loss comes last"),
    ],
    "ema_update": [
        (lambda *a: averages(*a, old=1 - a[-1], new=a[-1]), "old one keeps the share"),
        (lambda *a: averages(*a, new=1.0), "added in full"),
        (lambda *a: averages(*a, old=0.0, new=1.0), "batch's only"),
        (lambda *a: averages(*a, old=1.0), "kept in full"),
        (lambda *a: averages(*a, old=1.0, new=1.0), "added the batch's counts"),
        (lambda *a: averages(*a, mean=True), "division comes last"),
        (lambda *a: averages(*a, divide="old"), "old count"),
        (lambda *a: (*averages(*a)[:2], averages(*a)[1]), "divide it by the count"),
        (lambda *a: (*averages(*a)[:2], a[1] / a[0][:, None]), "first update both"),
        (lambda *a: averages(*a)[2], "three things"),
        (lambda *a: (*averages(*a)[1::-1], averages(*a)[2]), "first of the three is the count"),
        (lambda *a: averages(*a[:-1], 0.99), "used 0.99 always"),
        (lambda *a: (a[0], *averages(*a)[1:]), "The count did not change"),
        (lambda c, t, z, i, g: averages(c, t, z, i, g, n=torch.bincount(i)), "minlength"),
        (lambda c, t, z, i, g: averages(c, t, z, i, g, n=F.one_hot(i).sum(0)), "one_hot"),
        (lambda c, t, z, i, g: (averages(c, t, z, i, g), c.zero_())[0], "changed the count"),
        (averages_in_place, "changed the count"),
    ],
    "mask": [
        (lambda s, k: pixelcnn.causal_mask(s, "A" if k == "B" else "B"), "centre"),
        (lambda s, k: pixelcnn.causal_mask(s, "A"), "Both kinds give one mask"),
        (lambda s, k: pixelcnn.causal_mask(s, "B"), "Both kinds give one mask"),
        (lambda s, k: pixelcnn.causal_mask(s, k).flip(0), "Upside down"),
        (lambda s, k: pixelcnn.causal_mask(s, k).flip(1), "Mirrored"),
        (lambda s, k: pixelcnn.causal_mask(s, k).T.contiguous(), "row by row"),
        (lambda s, k: torch.cat([torch.ones(s // 2, s), torch.zeros(s - s // 2, s)]),
         "middle row is missing"),
        (lambda s, k: torch.cat([torch.ones(s // 2 + 1, s), torch.zeros(s // 2, s)]),
         "whole middle row"),
        (lambda s, k: torch.ones(s, s).tril(), "a triangle"),
        (lambda s, k: torch.ones(s, s).tril(-1), "a triangle"),
        (lambda s, k: upper_left(s, k, 1), "Only the upper left"),
        (lambda s, k: upper_left(s, k, 0), "above and to the left"),
        (lambda s, k: 1 - pixelcnn.causal_mask(s, k), "other way round"),
        (lambda s, k: torch.ones(s, s), "Everything is open"),
        (lambda s, k: pixelcnn.causal_mask(s, k).bool(), "type is torch.bool"),
    ],
    "bits": [
        (lambda x, c: F.cross_entropy(x, c, reduction="sum") / len(c), "in nats"),
        (lambda x, c: F.cross_entropy(x, c), "per token, in nats"),
        (lambda x, c: F.cross_entropy(x, c) / math.log(2), "per token: sum"),
        (lambda x, c: F.cross_entropy(x, c, reduction="sum") / math.log(2),
         "divide by the number of images"),
        (lambda x, c: F.cross_entropy(x, c, reduction="sum"), "left nats"),
        (lambda x, c: F.cross_entropy(x, c, reduction="sum") / len(c) * math.log(2),
         "multiplied by log 2"),
        (lambda x, c: in_bits(x, c).item(), "no gradient comes back"),
        (lambda x, c: in_bits(x, c).detach(), "no gradient comes back"),
        (lambda x, c: in_bits(x.softmax(1), c), "took the softmax first"),
        (lambda x, c: in_bits(x.detach(), c) + 0 * x.sum(), "no gradient reaches"),
        (lambda x, c: -in_bits(x, c), "sign is missing"),
        (lambda x, c: -x.gather(1, c[:, None]).sum() / len(c) / math.log(2), "no log prob"),
        (lambda x, c: -x.log_softmax(-1).gather(1, c[:, None]).sum() / len(c) / math.log(2),
         "last axis"),
        (lambda x, c: in_bits(x, c) * len(c) / x.shape[1], "number of codes"),
    ],
    "draw_codes": [
        (lambda *a: told(*a, pick=lambda p, g: p.argmax(1)), "likeliest token"),
        (lambda *a: told(*a, pick=lambda p, g: torch.multinomial(p, 1).squeeze(1)), "generator"),
        (lambda *a: told(*a, soft=lambda x: x.softmax(0)), "another axis"),
        (lambda *a: told(*a, soft=lambda x: x.softmax(1).softmax(1)), "taken twice"),
        (lambda *a: told(*a, soft=lambda x: (-x).softmax(1)), "signs of the logits"),
        (lambda *a: told(*a, soft=lambda x: x), "take the softmax of the logits"),
        (lambda *a: told(*a, shift=-1), "place before its own"),
        (lambda *a: told(*a, start=0), "either ignored or drawn anew"),
        (lambda *a: told(*a, keep=False), "either ignored"),
        (lambda *a: told(*a, label=False), "not passed on"),
        (lambda *a: told(*a, stop=-1), "last place is not drawn"),
        (lambda *a: told(*a, start=a[1].shape[1] + 1), "The first place is not drawn"),
        (lambda *a: told(*a, start=a[1].shape[1] + (a[1].shape[1] > 0)),
         "The first place is not drawn"),
        (lambda *a: told(*a, pick=lambda p, g: torch.multinomial(p[0], 1, generator=g)),
         "each map draws its own"),
        (lambda *a: told(*a, pick=lambda p, g: torch.multinomial(p.mean(0), 1, generator=g)),
         "each map draws its own"),
        (lambda *a: told(*a).flatten(1), "give each its map"),
        (lambda *a: told(*a).float(), "whole numbers"),
        (lambda *a: told(*a).transpose(1, 2).contiguous(), "Rows and columns"),
        (lambda m, *a: told(lambda c, y: (m(c, y), m(c, y))[1], *a), "one pass for each place"),
        (lambda m, g, k, y, r: told(functools.cache(lambda s: lambda c, y: s)(m(
            F.pad(g, (0, k * k - g.shape[1])).view(-1, k, k), y)), g, k, y, r), "asked once"),
        (lambda m, *a: told(lambda c, y: m(c.flatten(1), y), *a), "takes maps of codes"),
    ],
}


def gradient_ratio(a, b, w):
    size = [torch.autograd.grad(loss, w, retain_graph=True)[0].norm() for loss in (a, b)]
    return size[0] / (size[1] + 1e-4)


def nails(x):
    y = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    y[:, :, ::2, ::2] = x
    return y


def looks(q, k, scale=-0.5, dim=-1, of=-1, f=lambda a: a):
    return f(q @ k.mT * q.shape[of] ** scale).softmax(dim)


def attending(h, body, short, att, sums="12", norm=True, order=(0, 1, 2), scale=-0.5, dim=-1,
              out=True, turned=False, back=True, reads=None, first=None, cut=None, onto=None):
    h = (short(h) if "1" in sums else 0) + body(h) if first is None else first(h)
    seen = h if reads is None else reads
    parts = att.qkv(att.norm(seen) if norm else seen)
    parts = cut(parts) if cut else parts.flatten(2).mT.chunk(3, -1)
    q, k, v = (parts[i] for i in order)
    w = (q @ k.mT * q.shape[-1] ** scale).softmax(dim)
    mixed = (w.mT if turned else w) @ v
    mixed = (mixed.mT if back else mixed).reshape(h.shape)
    below = h if onto is None else onto(h)
    return (below if "2" in sums else 0) + (att.out(mixed) if out else mixed)


def body_of_the_shortcut(h, body, short, att):
    h = short(h)
    h += body(h)
    return attending(None, body, short, att, first=lambda _: h)


def in_rows(x):
    return x.reshape(len(x), -1, x.shape[1])


def voted(x, p, shift=0, more=False):
    values, order = x.sort(0)
    total = p[order].cumsum(0)
    index = (total > 0.5 if more else total >= 0.5).int().argmax(0, keepdim=True)
    return values.gather(0, (index + shift).clamp(0, len(x) - 1))[0]


def far(f, g, how=F.normalize, power=2):
    return ((how(f) - how(g)) ** power).sum(1).mean((1, 2))


def in_place_sum(a, p, g, v, d, n, s):
    a.data += p.data + (1 - d) * v.data + d * g.data * (n >= s)
    return a


def lengths(a, b, w, f=torch.Tensor.norm, eps=1e-4, most=1e4, keep=True):
    a, b = (f(torch.autograd.grad(x, w, retain_graph=keep)[0]) for x in (a, b))
    return (a / (b + eps)).clamp(max=most).detach()


def hinge(real, fake, half=0.5, f=F.relu):
    return half * (f(1 - real).mean() + f(1 + fake).mean())


def both(model, judge, optimisers, x, distance, weight, d, step, start, sign=-1, weigh="both",
         square=False, perceptual=1, d_loss=hinge, detach=True, clear="both", move=(0, 1),
         late=None, vq=None, share=None, first=0, anew=False, numbers=True, judged=None,
         frozen=False, swapped=False, late_clear=(), forgets=(), judged_map=None, per="mean",
         mean_g=torch.mean, mean_p=torch.mean):
    x_hat, quantized = model(x)
    optimisers = optimisers[::-1] if swapped else optimisers
    error = (x_hat - x) ** 2 if square else (x_hat - x).abs()
    l1 = {"mean": error.mean(), "sum": error.sum(), "image": error.sum() / len(x)}[per]
    p, g, loss_d = mean_p(distance(x_hat, x)), torch.zeros(()), torch.zeros(())
    late = step >= start if late is None else late(step, start)

    def judges():
        seen = model(x)[0] if anew else x_hat
        loss = d_loss(judge(x), judge(seen.detach() if detach else seen))
        if clear in ("both", "judge"):
            optimisers[1].zero_grad()
        if 1 not in forgets:
            loss.backward()
        if 1 in late_clear:
            optimisers[1].zero_grad()
        if 1 in move:
            optimisers[1].step()
        return loss

    if late and first:
        loss_d = judges()
    loss = l1 + perceptual * p + (1 - d if vq is None else vq) * quantized.loss
    if late:
        g = sign * mean_g(judge(x_hat if judged_map is None else judged_map(x_hat)))
        rec = {"both": l1 + p, "l1": l1}.get(weigh)
        if weigh == "order":
            rec, g, weight = l1 + p, weight, g
        factor = 1 if rec is None else lengths(rec, g, weight)
        loss = loss + (d if share is None else share) * factor * g
    if clear != "judge":
        optimisers[0].zero_grad()
    if clear == "early":
        optimisers[1].zero_grad()
    if 0 not in forgets:
        loss.backward()
    if 0 in late_clear:
        optimisers[0].zero_grad()
    if 0 in move:
        optimisers[0].step()
    if (late if judged is None else judged(step, start)) and not first:
        loss_d = judges()
    if frozen:
        judge.requires_grad_(False)
    return (l1.item(), g.item(), loss_d.item()) if numbers else (l1, g, loss_d)


WRONG |= {
    "upsample_nearest": [
        (lambda x: x.repeat(1, 1, 2, 2), "tiled"),
        (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), "between the pixels"),
        (lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"), "between the pixels"),
        (lambda x: x.repeat_interleave(2, 2), "Only the rows"),
        (lambda x: x.repeat_interleave(2, 3), "Only the columns"),
        (lambda x: x.repeat_interleave(2, 1), "doubled the channels"),
        (lambda x: x.repeat_interleave(2, 2).repeat(1, 1, 1, 2), "the other (columns)"),
        (lambda x: x.repeat_interleave(2, 3).repeat(1, 1, 2, 1), "the other (rows)"),
        (nails, "zeros"), (lambda x: x.repeat_interleave(4, 2), "rows are doubled twice"),
        (lambda x: x.repeat_interleave(2, 1).repeat_interleave(2, 2), "channels and rows"),
        (lambda x: x.repeat_interleave(4, 2).repeat_interleave(4, 3), "four times"),
        (lambda x: x.detach().repeat_interleave(2, 2).repeat_interleave(2, 3), "no gradient"),
    ],
    "attention_weights": [
        (lambda q, k: looks(q, k, 0), "√C is missing"),
        (lambda q, k: looks(q, k, -1), "divide by its root"),
        (lambda q, k: looks(q, k, of=1), "number of places"),
        (lambda q, k: looks(q, k, -1, of=1), "number of places"),
        (lambda q, k: looks(q, k, dim=1), "columns sum"),
        (lambda q, k: looks(q, k, dim=0), "over the images"),
        (lambda q, k: q @ k.mT / q.shape[-1] ** 0.5, "softmax is missing"),
        (lambda q, k: q @ k.mT, "Softmax and √C"),
        (lambda q, k: looks(k, q), "swapped"), (lambda q, k: looks(q, k).mT, "transposed"),
        (lambda q, k: looks(q, k, 0.5), "multiplied by √C"),
        (lambda q, k: looks(q, k, f=torch.neg), "minus"),
        (lambda q, k: looks(q, k, 0) / q.shape[-1] ** 0.5, "after the softmax"),
        (lambda q, k: (q @ k.mT / q.shape[-1] ** 0.5).log_softmax(-1), "logarithm"),
        (lambda q, k: (q @ k.mT / q.shape[-1] ** 0.5).exp(), "row's sum is not"),
        (lambda q, k: (q @ k.mT / 4).softmax(-1), "for 16 channels only"),
        (lambda q, k: looks(q, k).detach(), "no gradient"),
        (lambda q, k: looks(q, k.detach()), "no gradient reaches the keys"),
    ],
    "attending_block": [
        (lambda *a: attending(*a, sums="2"), "first sum is missing"),
        (lambda *a: attending(*a, sums="1"), "second sum is missing"),
        (lambda *a: attending(*a, sums=""), "Both sums"),
        (lambda h, b, s, a: s(h) + b(h), "attention is missing"),
        (lambda *a: attending(*a, norm=False), "attention.norm"),
        (lambda *a: attending(*a, out=False), "attention.out"),
        (lambda *a: attending(*a, order=(1, 0, 2)), "Queries and keys are swapped"),
        (lambda *a: attending(*a, order=(0, 1, 1)), "mixed the keys"),
        (lambda *a: attending(*a, order=(1, 2, 0)), "values first"),
        (lambda *a: attending(*a, scale=0), "√C"), (lambda *a: attending(*a, dim=1), "last axis"),
        (lambda *a: attending(*a, turned=True), "transposed"),
        (lambda *a: attending(*a, back=False), "channels forward"),
        (lambda h, b, s, a: attending(h, b, s, a, reads=h), "let it read h"),
        (lambda h, b, s, a: attending(h, b, s, a, reads=b(h)), "body's part alone"),
        (lambda h, b, s, a: attending(h, b, s, a, first=lambda h: h + b(h)),
         "through the shortcut"),
        (lambda h, b, s, a: attending(h.detach(), b, s, a), "no gradient reaches the map"),
        (lambda h, b, s, a: a(s(h) + b(h)), "write its inside"),
        (lambda h, b, s, a: s(h) + b(h) + a.weights(s(h) + b(h)).sum(), "write its inside"),
        (body_of_the_shortcut, "you gave it what the shortcut returned"),
        (lambda h, b, s, a: attending(h, b, s, a, onto=lambda _: s(h)), "added it to shortcut(h)"),
        (lambda h, b, s, a: attending(h, b, s, a, onto=a.norm), "added it to the normalised map"),
        (lambda *a: attending(*a, cut=lambda x: in_rows(x).chunk(3, -1)), "mixes channels with"),
        (lambda *a: attending(*a, cut=lambda x: in_rows(x).chunk(3, -1), back=False),
         "mixes channels with"),
        (lambda *a: attending(*a, cut=lambda x: [in_rows(y) for y in x.chunk(3, 1)]),
         "mixes channels with"),
        (lambda *a: attending(*a, cut=lambda x: [in_rows(y) for y in x.chunk(3, 1)], back=False),
         "mixes channels with"),
        (lambda *a: attending(*a, cut=lambda x: x.flatten(2).chunk(3, -1)), "cut the places"),
        (lambda *a: attending(*a, cut=lambda x: x.flatten(2).chunk(3, -1), back=False),
         "cut the places"),
        (lambda *a: attending(*a, cut=lambda x: x.flatten(2).chunk(3, 1)), "a row for each place"),
        (lambda *a: attending(*a, cut=lambda x: x.flatten(2).chunk(3, 1), back=False),
         "a row for each place"),
        (lambda *a: attending(*a).detach(), "no gradient"),
    ],
    "best_guess_l1": [
        (lambda x, p: (p[:, None, None, None] * x).sum(0), "the best guess for the squared"),
        (lambda x, p: x.mean(0), "as if all were equally likely"),
        (lambda x, p: x.median(0).values, "plain median"),
        (lambda x, p: x[p.argmax()], "likeliest"),
        (lambda x, p: x.sort(0).values[(p.cumsum(0) >= 0.5).int().argmax(0)], "images' order"),
        (lambda x, p: x.sort(0), "a tensor of shape"),
        (lambda x, p: half_way(x, p, x.mean((1, 2, 3)).argsort()), "sorted as wholes"),
        (lambda x, p: voted(x, p, 1), "One too far"), (lambda x, p: voted(x, p, -1), "too early"),
        (lambda x, p: voted(x, p, more=True), "exactly one half"),
        (lambda x, p: voted(x, p, -9), "smallest"), (lambda x, p: voted(x, p, 9), "largest"),
        (lambda x, p: (p[:, None, None, None] * x).median(0).values, "multiplied the values"),
    ],
    "feature_distance": [
        (lambda f, g: far(f, g, lambda x: x), "length 1"),
        (lambda f, g: (F.normalize(f) - F.normalize(g)).square().mean((1, 2, 3)), "sum them"),
        (lambda f, g: (F.normalize(f) - F.normalize(g)).square().sum((1, 2, 3)), "average them"),
        (lambda f, g: far(f, g).mean(), "one number per image"),
        (lambda f, g: (F.normalize(f) - F.normalize(g)).abs().sum(1).mean((1, 2)), "square it"),
        (lambda f, g: (F.normalize(f) - F.normalize(g)).square().sum(1), "average over the places"),
        (lambda f, g: far(f, g, power=1), "square is missing"),
        (lambda f, g: far(f, g) ** 0.5, "root at the end"),
        (lambda f, g: 1 - F.cosine_similarity(f, g).mean((1, 2)), "half of the squared"),
        (lambda f, g: F.cosine_similarity(f, g).mean((1, 2)), "a likeness"),
        (lambda f, g: far(f, g, lambda x: F.normalize(x, dim=-1)), "last axis"),
        (lambda f, g: far(f, g, lambda x: F.normalize(x, p=1)), "absolute values sum to 1"),
        (lambda f, g: F.normalize(f - g).square().sum(1).mean((1, 2)), "scaled the difference"),
        (lambda f, g: far(f, g, lambda x: x / x.norm(dim=1, keepdim=True)), "0 by 0"),
        (lambda f, g: far(f, g, lambda x: x / (x.norm(dim=1, keepdim=True) + 1e-4)), "too large"),
        (lambda f, g: far(f, g.detach()), "no gradient reaches the second"),
        (lambda f, g: far(f, g).detach(), "no gradient"),
    ],
    "total_loss": [
        (lambda a, p, g, v, d, n, s: a + p + d * g + v if n >= s else a + p + v, "not weighted"),
        (lambda a, p, g, v, d, n, s: a + p + (1 - d) * g + d * v, "swapped"),
        (lambda a, p, g, v, d, n, s: a + p + g + (1 - d) * v, "λ_d is missing"),
        (lambda a, p, g, v, d, n, s: a + p + d * g + (1 - d) * v, "must not count"),
        (lambda a, p, g, v, d, n, s: a + p + (1 - d) * v + (d * g if n > s else 0),
         "that step included"),
        (lambda a, p, g, v, d, n, s: a + p + (1 - d) * v + d * g * (n >= s), "0 · NaN"),
        (lambda a, p, g, v, d, n, s: a + p + ((1 - d) * v + d * g if n >= s else v),
         "before the start too"),
        (lambda a, p, g, v, d, n, s: a + p + (1 - d) * v - d * g, "sign"),
        (lambda a, p, g, v, d, n, s: a + (1 - d) * v + d * g, "perceptual loss is missing"),
        (lambda a, p, g, v, d, n, s: p + (1 - d) * v + d * g, "L1 error is missing"),
        (lambda a, p, g, v, d, n, s: a + p + d * g, "quantizer's loss is missing"),
        (lambda a, p, g, v, d, n, s: a + p + (1 + d) * v + d * g, "1 + λ_d"),
        (lambda a, p, g, v, d, n, s: (1 - d) * (a + p + v) + d * g, "reconstruction as well"),
        (lambda *x: float(x[0] + x[1] + 0.75 * x[3] + 0.25 * x[2] * (x[5] >= x[6])), "no gradient"),
        (lambda *x: (x[0] + x[1] + 0.75 * x[3] + 0.25 * x[2] * (x[5] >= x[6])).detach(),
         "no gradient"),
        (in_place_sum, "changed the L1 loss"),
    ],
    "balance": [
        (lambda a, b, w: 1 / gradient_ratio(a, b, w).detach(), "Upside down"),
        (lambda a, b, w: (a / (b + 1e-4)).detach(), "compare their gradients"),
        (lambda a, b, w: lengths(a, b, w, most=1e30), "limit of 10⁴"),
        (lambda a, b, w: lengths(a, b, w, lambda g: g.square().sum()), "squared norms"),
        (lambda a, b, w: ivqvae.adaptive_weight(b, a, w), "Upside down"),
        (lambda a, b, w: lengths(a, b, w, eps=0), "in the denominator is missing"),
        (lambda a, b, w: lengths(a, b, w, torch.Tensor.sum), "sums of the gradients"),
        (lambda a, b, w: lengths(a, b, w, lambda g: g.abs().sum()), "sums of absolute"),
        (lambda a, b, w: lengths(a, b, w, lambda g: g.abs().mean()), "means of absolute"),
        (lambda a, b, w: lengths(a, b, w, lambda g: g.abs().max()), "largest entries"),
        (lambda a, b, w: lengths(a, a + b, w), "of both losses together"),
        (lambda a, b, w: lengths(a, b, w, eps=0) + 1e-4, "after the division"),
        (lambda a, b, w: lengths(a, b, w, lambda g: g), "One number"),
        (lambda a, b, w: lengths(a, b, w, keep=False), "retain_graph"),
        (lambda a, b, w: lengths(a, b, w, most=1.0), "limited it to 1"),
        (lambda a, b, w: lengths(a, b, w) + 0 * a, "detach it"),
    ],
    "both_steps": [
        (lambda *a: both(*a, sign=1), "sign of L_G"),
        (lambda *a: both(*a, weigh="none"), "balance is missing"),
        (lambda *a: both(*a, weigh="l1"), "you gave it L1"),
        (lambda *a: both(*a, square=True), "absolute"),
        (lambda *a: both(*a, perceptual=0), "perceptual loss is missing in the total"),
        (lambda *a: both(*a, vq=1), "λ_vq = 1 − λ_d"),
        (lambda *a: both(*a, vq=0), "quantizer's loss is missing"),
        (lambda *a: both(*a, share=1), "λ_d is missing"),
        (lambda *a: both(*a, share=0), "it is missing in the total"),
        (lambda *a: both(*a, weigh="none", judged_map=torch.detach), "detached"),
        (lambda *a: both(*a, judged_map=torch.detach), "detach only in the judge's step"),
        (lambda *a: both(*a, weigh="order"), "its three in another order"),
        (lambda *a: both(*a, late_clear=(0,)), "zero_grad stands between backward and step"),
        (lambda *a: both(*a, late_clear=(1,)), "zero_grad stands between backward and step"),
        (lambda *a: both(*a, late_clear=(0, 1)), "Neither network's weights moved"),
        (lambda *a: both(*a, move=()), "Neither network's weights moved"),
        (lambda *a: both(*a, forgets=(0,)), "either its backward or"),
        (lambda *a: both(*a, forgets=(1,)), "either its backward or"),
        (lambda *a: both(*a, swapped=True), "optimisers[0] is the autoencoder's"),
        (lambda *a: both(*a, per="sum"), "L1 is summed"),
        (lambda *a: both(*a, per="image"), "L1 is summed"),
        (lambda *a: both(*a, mean_g=torch.sum), "L_G is summed"),
        (lambda *a: both(*a, mean_p=torch.sum), "perceptual loss is summed"),
        (lambda *a: both(*a, d_loss=lambda r, f: hinge(r, f, f=lambda v: F.relu(v).sum())),
         "judge's loss is summed"),
        (lambda *a: both(*a, detach=False), "x_hat.detach()"),
        (lambda *a: both(*a, clear="judge"), "autoencoder's gradients of the step before"),
        (lambda *a: both(*a, clear="model"), "judge's gradients of the step before"),
        (lambda *a: both(*a, clear="early"), "right before its own backward"),
        (lambda *a: both(*a, move=(1,)), "autoencoder's weights did not move"),
        (lambda *a: both(*a, move=(0,)), "judge's weights did not move"),
        (lambda *a: both(*a, first=1), "came first"),
        (lambda *a: both(*a, anew=True), "run 2 times"),
        (lambda *a: both(*a, d_loss=lambda r, f: hinge(f, r)), "swapped"),
        (lambda *a: both(*a, d_loss=gan.discriminator_loss), "logarithms"),
        (lambda *a: both(*a, d_loss=lambda r, f: hinge(r, f, f=lambda v: v)), "max(0, ·)"),
        (lambda *a: both(*a, d_loss=lambda r, f: hinge(r, f, 1)), "½"),
        (lambda *a: both(*a, late=lambda n, s: n > s), "that step included"),
        (lambda *a: both(*a, late=lambda n, s: True), "must not count, nor learn"),
        (lambda *a: both(*a, judged=lambda n, s: True), "must not learn either"),
        (lambda *a: both(*a, numbers=False), "Return numbers"),
        (lambda *a: both(*a)[0], "three numbers"), (lambda *a: both(*a, frozen=True), "gradient"),
    ],
}


def product(b):
    return torch.cumprod(1 - b, 0)


def view(a):
    return a[:, None, None, None]


def posterior(x0, xt, b, ab, prev, below=None, on_x0=None, on_xt=None):
    on_x0 = prev**0.5 * b if on_x0 is None else on_x0
    on_xt = (1 - b) ** 0.5 * (1 - prev) if on_xt is None else on_xt
    return (on_x0 * x0 + on_xt * xt) / (1 - ab if below is None else below)


def soft(x, d, ab, shrink=0.5, sign=-1, two=2, square=True, dim=1, below=None, after=1.0):
    far = torch.cdist(x, ab**shrink * d)
    variance = 1 - ab if below is None else below
    weights = (sign * (far**2 if square else far) / (two * variance)).softmax(dim)
    return weights @ d * after


def moving(a, w, n, m, d=None):
    d = min(m, (1 + n) / (10 + n)) if d is None else d(n, m)
    return d * a + (1 - d) * w


def clean(x, e, ab):
    return (x - (1 - ab) ** 0.5 * e) / ab**0.5


def plain_exp(x, d, ab):
    w = torch.exp(-torch.cdist(x, ab**0.5 * d).square() / (2 * (1 - ab)))
    return w / w.sum(1, keepdim=True) @ d


def learned(model, optimiser, d, x0, g, one_t=False, low=0, most=50, clean=False, swap=False,
            draw=torch.randn, one_eps=False, scale=1.0, low_t=False, target="eps",
            error=torch.mean, power=2, zero=True, backward=True, move=True, item=True, sign=1,
            twice=False, spoil=False, float_t=False):
    """A training step, and what can go wrong in it."""
    t = torch.randint(low, most, (len(x0),), generator=g)
    t = t[:1] if one_t else t // 2 * (t < 49) + t * (t == 49) if low_t else t
    eps = scale * draw(x0.shape, generator=g)
    eps = eps[:1].expand_as(x0) if one_eps else eps
    a, b = (x0, eps) if not swap else (eps, x0)
    xt = x0 if clean else d.add_noise(a, t, b)
    t = t.float() if float_t else t
    out = model(xt, t) + (0 * model(xt, t) if twice else 0)
    goal = {"eps": eps, "x0": x0, "xt": xt, "new": torch.randn_like(eps)}[target]
    loss = error((out - goal) ** power)
    if zero:
        optimiser.zero_grad()
    if backward:
        (sign * loss).backward()
    if move:
        optimiser.step()
    if spoil:
        x0 += 1
    return loss.item() if item else loss


def drawn(model, d, x, g, clip=False, noise=1.0, root=0.5, large=False, times=None, jump=False,
          read=None, clip_x=False, graph=False, spoil=False, number=False):
    """Ancestral sampling, and what can go wrong in it."""
    if spoil:
        x *= 1.0001
    for t in reversed(range(d.T)) if times is None else times(d.T):
        at = torch.full((len(x),), t)
        with torch.set_grad_enabled(graph):
            out = model(x, t if number else at)
        x0 = d.views(out, x, at, read or model.prediction or "eps")[0]
        x0 = x0.clamp(-1, 1) if clip and not clip_x else x0
        mean, variance = d.posterior(x0, x, at)
        variance = d.at(d.betas, at, x) * (t > 0) if large else variance
        x = mean + noise * variance**root * torch.randn(x.shape, generator=g)
        x = x0 if jump else x.clamp(-1, 1) if clip and clip_x else x
    return x


def noise_of(ab, prev, eta):
    return eta * ((1 - prev) / (1 - ab)) ** 0.5 * (1 - ab / prev) ** 0.5


def arc(a, b, w, f=torch.sin, angle=lambda c: torch.arccos(c)):
    theta = angle((a @ b) / (a.norm() * b.norm()))
    return (f((1 - w) * theta) * a + f(w * theta) * b) / f(theta)


def second_part(a, b, w):
    theta = torch.arccos((a @ b) / (a.norm() * b.norm()))
    return torch.sin(w * theta) * b / torch.sin(theta)


def walked(guess, table, xT, times, eta, draw, asks=1, end=None, earlier=None, first=False,
           power=0.5, back=False, room=True, sigma=lambda s, e: s, whole=False, spoil=False):
    """DDIM's loop, and what can go wrong in it."""
    if spoil:
        xT *= 1.0001
    states = [xT]
    for t, s in zip(times, [*times[1:], end], strict=True):
        s = s if earlier is None or s is None else earlier(t)
        ab, prev = table[t], 1.0 if s is None else table[s]
        for _ in range(asks):
            x0, eps = guess(xT if first else states[-1], t)
        width = sigma(noise_of(ab, prev, eta), eta)
        inside = width if whole else noise_of(ab, prev, eta)
        left = torch.as_tensor(1 - prev - (inside**2 if room else 0))
        x = prev**power * (states[-1] if back else x0) + left.clamp_min(0) ** power * eps
        states.append(x + width * draw(x) if eta > 0 and s is not None else x)
    return states


WRONG |= {
    "alpha_bar": [
        (lambda b: b.cumprod(0), "product of the β"),
        (lambda b: (1 - b).cumsum(0), "running sum: multiply"),
        (lambda b: 1 - b.cumsum(0), "1 − a running sum"),
        (lambda b: product(b).sqrt(), "square root"),
        (lambda b: 1 - b, "of one step"), (lambda b: (1 - b).prod(), "only the last one"),
        (lambda b: 1 - product(b), "noise's share"),
        (lambda b: torch.cat([torch.ones(1), product(b)[:-1]]), "One step late"),
        (lambda b: b.neg_().add_(1).cumprod(0), "changed betas"),
    ],
    "noised": [
        (lambda x, e, a: view(a) * x + (1 - view(a)) * e, "roots are missing"),
        (lambda x, e, a: (1 - view(a)).sqrt() * x + view(a).sqrt() * e, "swapped"),
        (lambda x, e, a: view(a).sqrt() * x + (1 - view(a).sqrt()) * e, "not 1 − √ᾱ"),
        (lambda x, e, a: view(a).sqrt() * x + (1 - view(a)) * e, "its root is missing"),
        (lambda x, e, a: x + (1 - view(a)).sqrt() * e, "signal is not scaled"),
        (lambda x, e, a: view(a).sqrt() * x + e, "noise is not scaled"),
        (lambda x, e, a: noised(x, e, a if len(a) == x.shape[-1] else view(a)), "last axis"),
        (lambda x, e, a: view(a).sqrt() * x, "noise is missing"),
        (lambda x, e, a: noised(x, -e, view(a)), "it is added"),
        (lambda x, e, a: (1 - view(a)).sqrt() * e, "picture is missing"),
        (lambda x, e, a: x.copy_(noised(x, e, view(a))), "changed x0"),
    ],
    "posterior_mean": [
        (lambda x0, xt, b, ab, p: posterior(xt, x0, b, ab, p), "swapped"),
        (lambda x0, xt, b, ab, p: posterior(x0, xt, b, ab, p, on_xt=ab**0.5 * (1 - p)),
         "of one step"),
        (lambda x0, xt, b, ab, p: posterior(x0, xt, b, ab, p, on_x0=ab**0.5 * b),
         "step before, ab_prev"),
        (lambda x0, xt, b, ab, p: posterior(x0, xt, b, ab, p, below=1),
         "division by 1 − ᾱ is missing"),
        (lambda x0, xt, b, ab, p: posterior(x0, xt, b, ab, p, below=1 - p),
         "of the step before: it is"),
        (lambda x0, xt, b, ab, p: posterior(x0, xt, b, ab, p, on_x0=p * b, on_xt=(1 - b) * (1 - p)),
         "roots are missing"),
        (lambda x0, xt, b, ab, p: posterior(x0, xt, b, ab, p, on_x0=p**0.5), "β is missing"),
        (lambda x0, xt, b, ab, p: p**0.5 * x0, "mean of the shortcut"),
        (lambda x0, xt, b, ab, p: posterior(x0, xt, b, ab, p, on_xt=(1 - b) ** 0.5 * (1 - ab)),
         "you took ᾱ at t"),
        (lambda x0, xt, b, ab, p: posterior(x0, -xt, b, ab, p), "you subtracted"),
        (lambda x0, xt, b, ab, p: posterior(x0, xt, b, ab, p, on_xt=(1 - b) ** 0.5),
         "missing in the factor of xt"),
        (lambda x0, xt, b, ab, p:
            p**0.5 * b * x0 / (1 - ab) + (1 - b) ** 0.5 * (1 - p) * xt, "both are"),
        (lambda x0, xt, b, ab, p: x0.copy_(posterior(x0, xt, b, ab, p)), "changed x0"),
    ],
    "x0_from_eps": [
        (lambda x, e, a: x - (1 - a).sqrt() * e, "did not divide"),
        (lambda x, e, a: (x - (1 - a).sqrt() * e) / a, "divided by ᾱ"),
        (lambda x, e, a: (x - (1 - a).sqrt() * e) * a.sqrt(), "multiplied"),
        (lambda x, e, a: (x + (1 - a).sqrt() * e) / a.sqrt(), "added"),
        (lambda x, e, a: (x - (1 - a) * e) / a.sqrt(), "scale is √"),
        (lambda x, e, a: (x - e) / a.sqrt(), "without its scale"),
        (lambda x, e, a: (x - a.sqrt() * e) / (1 - a).sqrt(), "for the picture"),
        (lambda x, e, a: (x - (1 - a) * e) / a, "Both roots"),
        (lambda x, e, a: x - (1 - a).sqrt() * e / a.sqrt(), "the noise's part too"),
        (lambda x, e, a: x / a.sqrt() - (1 - a).sqrt() * e, "xt too"),
        (lambda x, e, a: x.sub_((1 - a).sqrt() * e).div_(a.sqrt()), "changed xt"),
    ],
    "training_step": [
        (lambda *a: learned(*a, one_t=True), "One t for the whole batch"),
        (lambda *a: learned(*a, low=1), "0 to 49 belong"),
        (lambda *a: learned(*a, most=49), "0 to 49 belong"),
        (lambda *a: learned(*a, most=51), "time steps"),
        (lambda *a: learned(*a, clean=True), "shown the clean images"),
        (lambda *a: learned(*a, swap=True), "Signal and noise are swapped"),
        (lambda *a: learned(*a, draw=torch.rand), "torch.randn, not torch.rand"),
        (lambda *a: learned(*a, one_eps=True), "same noise"),
        (lambda *a: learned(*a, scale=0.5), "standard normal"),
        (lambda *a: learned(*a, low_t=True), "equally likely"),
        (lambda *a: learned(*a, target="x0"), "you took the clean"),
        (lambda *a: learned(*a, target="xt"), "you took the noised"),
        (lambda *a: learned(*a, target="new"), "very ε that was added"),
        (lambda *a: learned(*a, error=torch.sum), "You summed the squares"),
        (lambda *a: learned(*a, error=lambda x: x.flatten(1).sum(1).mean()), "over each image"),
        (lambda *a: learned(*a, power=1), "The square is missing"),
        (lambda *a: learned(*a, error=lambda x: x.mean().sqrt()), "root of the mean"),
        (lambda *a: learned(*a, zero=False), "step before were still there"),
        (lambda *a: learned(*a, backward=False), "did not move"),
        (lambda *a: learned(*a, move=False), "did not move"),
        (lambda *a: learned(*a, item=False), "keep the whole graph"),
        (lambda *a: learned(*a, sign=-1), "did not move by one step"),
        (lambda *a: learned(*a[:4], None), "with generator=generator"),
        (lambda *a: learned(*a[:4], torch.Generator().manual_seed(5)), "drew the same t"),
        (lambda *a: learned(*a, twice=True), "asked 2 times"),
        (lambda *a: learned(*a, spoil=True), "changed x0"),
        (lambda *a: learned(*a, float_t=True), "tensor of integers"),
    ],
    "ideal_x0": [
        (lambda x, d, a: soft(x, d, a, shrink=0), "not shrunk"),
        (lambda x, d, a: soft(x, d, a, shrink=1), "shrank the data by ᾱ"),
        (lambda x, d, a: soft(x, d, a, square=False), "not squared"),
        (lambda x, d, a: soft(x, d, a, sign=1), "minus is missing"),
        (lambda x, d, a: soft(x, d, a, two=1), "2 below"),
        (lambda x, d, a: soft(x, d, a, below=1), "noise's variance, 1"),
        (lambda x, d, a: soft(x, d, a, below=a), "divided by ᾱ"),
        (lambda x, d, a: soft(x, d, a, dim=0), "over the data"),
        (lambda x, d, a: soft(x, d, a, after=a**0.5), "shrunken data"),
        (lambda x, d, a: d[torch.cdist(x, a**0.5 * d).argmin(1)], "nearest point"),
        (plain_exp, "0 / 0 is NaN"),
        (lambda x, d, a: x.copy_(soft(x, d, a)), "changed xt"),
    ],
    "ancestral_sample": [
        (lambda *a: drawn(*a, noise=0), "No noise was added"),
        (lambda *a: drawn(*a, root=1.0), "root of the variance."),
        (lambda *a: drawn(*a, root=0.0), "without its scale"),
        (lambda *a: drawn(*a, large=True), "you took β"),
        (lambda *a: drawn(*a, times=lambda T: range(T)), "t runs up"),
        (lambda *a: drawn(*a, times=lambda T: range(T - 1, 0, -1)), "stops at t = 1"),
        (lambda *a: drawn(*a, times=lambda T: range(T, 0, -1)), "time steps"),
        (lambda *a: drawn(*a, jump=True), "became the guess itself"),
        (lambda *a: drawn(*a, read="eps"), "you read it as ε"),
        (lambda *a: drawn(*a[:4], False), "you left it"),
        (lambda *a: drawn(*a, clip_x=True), "not x"),
        (lambda *a: drawn(*a[:3], None, a[4]), "same generator, two results"),
        (lambda *a: drawn(*a, graph=True), "drags the graph"),
        (lambda *a: drawn(*a, spoil=True), "changed x,"),
        (lambda *a: drawn(*a, number=True), "tensor of integers"),
    ],
    "ema_step": [
        (lambda a, w, n, m: moving(w, a, n, m), "swapped"),
        (lambda a, w, n, m: moving(a, w, n, m, lambda n, m: m), "warm-up is missing"),
        (lambda a, w, n, m: moving(a, w, n, m, lambda n, m: (1 + n) / (10 + n)), "limit d_max"),
        (lambda a, w, n, m: moving(a, w, n, m, lambda n, m: max(m, (1 + n) / (10 + n))),
         "larger of the two"),
        (lambda a, w, n, m: min(m, (1 + n) / (10 + n)) * a + w, "before the new weights"),
        (lambda a, w, n, m: moving(a, w, n + 1, m), "one too many"),
        (lambda a, w, n, m: a.copy_(moving(a, w, n, m)), "changed average"),
        (lambda a, w, n, m: w.copy_(moving(a, w, n, m)), "changed weights"),
        (lambda a, w, n, m: moving(a, w, n, m, lambda n, m: min(m, n / (10 + n))),
         "(1 + n) / (10 + n)"),
        (lambda a, w, n, m: moving(a, w, n, m, lambda n, m: min(m, (1 + n) / (1 + n + 10))),
         "(1 + n) / (10 + n)"),
        (lambda a, w, n, m: moving(a, w, n, m) - 2 * (1 - min(m, (1 + n) / (10 + n))) * w,
         "the new ones are added"),
    ],
    "ddim_move": [
        (lambda x, e, a, p: clean(x, e, a), "noise it again"),
        (lambda x, e, a, p: x, "back to the level it came from"),
        (lambda x, e, a, p: p * (x - (1 - a) * e) / a + (1 - p) * e, "All roots are missing"),
        (lambda x, e, a, p: p**0.5 * (x - (1 - a) * e) / a + (1 - p) ** 0.5 * e, "in the guess"),
        (lambda x, e, a, p: p * clean(x, e, a) + (1 - p) * e, "in the second line"),
        (lambda x, e, a, p: p**0.5 * x + (1 - p) ** 0.5 * e, "guess of x0 belongs"),
        (lambda x, e, a, p: p**0.5 * clean(x, e, a), "The noise is missing"),
        (lambda x, e, a, p: p**0.5 * clean(x, e, a) - (1 - p) ** 0.5 * e, "with a plus"),
        (lambda x, e, a, p: p**0.5 * clean(x, -e, a) + (1 - p) ** 0.5 * e, "a minus"),
        (lambda x, e, a, p: p**0.5 * clean(x, e, a) + torch.randn_like(x), "drew new noise"),
        (lambda x, e, a, p: a**0.5 * clean(x, e, p) + (1 - a) ** 0.5 * e, "swapped"),
        (lambda x, e, a, p: p**0.5 * clean(x, e, a) + (1 - a) ** 0.5 * e, "with the scale of ab"),
        (lambda x, e, a, p: a**0.5 * clean(x, e, a) + (1 - p) ** 0.5 * e, "scaled by √ab"),
        (lambda x, e, a, p: p**0.5 * (x - (1 - a) ** 0.5 * e) + (1 - p) ** 0.5 * e,
         "missing its division"),
        (lambda x, e, a, p: x.sub_((1 - a) ** 0.5 * e).mul_((p / a) ** 0.5) + (1 - p) ** 0.5 * e,
         "changed xt"),
    ],
    "trailing": [
        (lambda T, n: list(range(T - 1, -1, -(T // n)))[::-1], "rises"),
        (lambda T, n: list(range(T, 0, -(T // n))), "One too many"),
        (lambda T, n: list(range(0, T, T // n))[::-1], "leading spacing, which"),
        (lambda T, n: list(range(0, T, T // n)), "and it rises"),
        (lambda T, n: list(range(T - 1, -1, -1)), "all the steps"),
        (lambda T, n: torch.arange(T - 1, -1, -(T // n)), "list of integers"),
        (lambda T, n: [float(t) for t in range(T - 1, -1, -(T // n))], "than integers"),
        (lambda T, n: list(range(T - 1, -1, -(T // n)))[:-1], "entries"),
    ],
    "ddim_loop": [
        (lambda *a: walked(*a)[-1], "return the list of all states"),
        (lambda *a: tuple(walked(*a)), "list of tensors"),
        (lambda *a: walked(*a)[1:], "begin with xT"),
        (lambda *a: [walked(*a)[-1]] * (len(a[3]) + 1), "changed in place"),
        (lambda g, ab, x, t, e, d: walked(g, ab, x, t[::-1], e, d), "walk up the list"),
        (lambda *a: walked(*a, asks=2), "asked once a step"),
        (lambda *a: walked(*a, end=0), "where ᾱ is 1"),
        (lambda *a: walked(*a, earlier=lambda t: t - 1), "not t − 1"),
        (lambda *a: walked(*a, earlier=lambda t: t - 10 if t >= 10 else None), "strides differ"),
        (lambda *a: walked(*a, earlier=lambda t: t), "you took ᾱ at t"),
        (lambda *a: walked(*a, first=True), "where the last one ended"),
        (lambda *a: walked(*a, power=1.0), "roots are missing"),
        (lambda *a: walked(*a, back=True), "noisy x where the guess"),
        (lambda *a: walked(*a, room=False), "under the root"),
        (lambda g, ab, x, t, e, d: walked(g, ab, x, t, e, lambda x: 0 * x), "is missing"),
        (lambda *a: walked(*a, sigma=lambda s, e: s**2), "by σ², not by σ"),
        (lambda *a: walked(*a, sigma=lambda s, e: s / e if e else s), "noise's σ has η in it"),
        (lambda g, ab, x, t, e, d: walked(g, ab, x, [*t[:-1], 0], e, d), "each of the list"),
        (lambda g, ab, x, t, e, d: walked(g, ab, x, [*t[1:], t[-1]], e, d), "where x is, t"),
        (lambda *a: walked(*a, sigma=lambda s, e: s**2, whole=True), "you have σ² as σ"),
        (lambda *a: walked(*a, sigma=lambda s, e: s / e if e else s, whole=True), "σ has η in it"),
        (lambda *a: walked(*a, spoil=True), "changed xT"),
    ],
    "middle_guess": [
        (lambda x, b, l0, l1, l2: x + (x - b) / (l1 - l0) * (l2 - l1), "end of the step"),
        (lambda x, b, l0, l1, l2: x - (x - b) / (l1 - l0) * (l2 - l1) / 2, "went back"),
        (lambda x, b, l0, l1, l2: b + (x - b) / (l1 - l0) * (l2 - l1) / 2, "start from x0"),
        (lambda x, b, l0, l1, l2: (x - b) / (l1 - l0) * (l2 - l1) / 2, "difference alone"),
        (lambda x, b, l0, l1, l2: x + (x - b) * (l2 - l1) / 2, "divide by lam"),
        (lambda x, b, l0, l1, l2: x + (x - b) / (l1 - l0) / 2, "length of this step"),
        (lambda x, b, l0, l1, l2: x + (x - b) * (l1 - l0) / (l2 - l1) / 2, "upside down"),
        (lambda x, b, l0, l1, l2: x + (x - b) / 2, "equally long"),
        (lambda x, b, l0, l1, l2: (x + b) / 2, "mean of both"),
        (lambda x, b, l0, l1, l2: x, "first order"),
        (lambda x, b, l0, l1, l2: x.add_((x - b) / (l1 - l0) * (l2 - l1) / 2), "changed x0"),
    ],
    "on_the_arc": [
        (lambda a, b, w: (1 - w) * a + w * b, "straight line"),
        (lambda a, b, w: arc(b, a, w), "swapped"),
        (lambda a, b, w: arc(a, b, w) * torch.sin(torch.arccos((a @ b) / (a.norm() * b.norm()))),
         "division by sin"),
        (lambda a, b, w: arc(a, b, w, angle=lambda c: c), "cosine itself"),
        (lambda a, b, w: arc(a, b, w, f=torch.cos), "sines, not"),
        (lambda a, b, w: arc(a, b, w) - 2 * second_part(a, b, w), "you subtracted"),
        (lambda a, b, w: (arc(a, b, w), b.mul_(2))[0], "changed b,"),
        (lambda a, b, w: F.normalize(arc(a, b, w), dim=0), "scaled to length 1"),
        (lambda a, b, w: arc(F.normalize(a, dim=0), F.normalize(b, dim=0), w), "noises themselves"),
        (lambda a, b, w: torch.sin(torch.tensor((1 - w) * math.pi / 2)) * a
            + torch.sin(torch.tensor(w * math.pi / 2)) * b, "right angle"),
        (lambda a, b, w: second_part(a, b, w), "first noise is missing"),
        (lambda a, b, w: arc(a, b, w) - second_part(a, b, w), "second noise is missing"),
        (lambda a, b, w: torch.arccos(a @ b) * a + w * b, "by both lengths"),
    ],
    "guided_eps": [
        (lambda c, u, s: (1 + s) * c - s * u, "start from the unconditional"),
        (lambda c, u, s: c + s * (u - c), "swapped"),
        (lambda c, u, s: c, "scale is missing"),
        (lambda c, u, s: u + s * (c + u), "added instead"),
        (lambda c, u, s: s * (c - u), "Only the difference"),
        (lambda c, u, s: u - s * (c - u), "Away from the label"),
        (lambda c, u, s: torch.cat([u[:, :3] + s * (c - u)[:, :3], c[:, 3:]], 1),
         "first three channels"),
        (lambda c, u, s: u.add_(s * (c - u)), "changed unconditional"),
        (lambda c, u, s: u + s * c, "is not taken off"),
        (lambda c, u, s: u + (c - u) / s if s else u, "You divided by the scale"),
        (lambda c, u, s: (u + s * (c - u)).mean(0), "shape is"),
    ],
    "two_at_once": [
        (lambda u, a, s: sum(k * (x - u) for k, x in zip(s, a, strict=True)),
         "unconditional prediction is missing"),
        (lambda u, a, s: sum(u + k * (x - u) for k, x in zip(s, a, strict=True)), "once is enough"),
        (lambda u, a, s: u + sum(k * x for k, x in zip(s, a, strict=True)), "*difference*"),
        (lambda u, a, s: u + sum(k * (x - u) for k, x in zip(s, a, strict=True)) / len(s),
         "not averaged"),
        (lambda u, a, s: u + s[0] * sum(x - u for x in a), "you took one for all"),
        (lambda u, a, s: u + sum(s) / len(s) * sum(x - u for x in a), "you took their mean"),
        (lambda u, a, s: u + s[0] * (a[0] - u), "Only the first"),
        (lambda u, a, s: u + s[-1] * (a[-1] - u), "Only the last"),
        (lambda u, a, s: u + sum(x - u for x in a), "scales are missing"),
        (lambda u, a, s: u + s[0] * (sum(a) / len(a) - u), "averaged first"),
        (lambda u, a, s: u.add_(sum(k * (x - u) for k, x in zip(s, a, strict=True))),
         "changed unconditional"),
        (lambda u, a, s: u + s[0] * (a[0] - u) + s[1] * (a[1] - u), "value"),
    ],
    "keep_known": [
        (lambda x, k, m, p, n: torch.where(m.bool(), x, p**0.5 * k + (1 - p) ** 0.5 * n),
         "wrong way round"),
        (lambda x, k, m, p, n: torch.where(m.bool(), k, x), "same level"),
        (lambda x, k, m, p, n: p**0.5 * k + (1 - p) ** 0.5 * n, "outside the mask"),
        (lambda x, k, m, p, n: m * (p**0.5 * k + (1 - p) ** 0.5 * n), "nothing is left"),
        (lambda x, k, m, p, n: torch.where(m.bool(), p * k + (1 - p) * n, x), "roots"),
        (lambda x, k, m, p, n: torch.where(m.bool(), p**0.5 * k + n, x), "scale is √"),
        (lambda x, k, m, p, n: torch.where(m.bool(), (1 - p) ** 0.5 * k + p**0.5 * n, x),
         "each other's scale"),
        (lambda x, k, m, p, n: torch.where(m.bool(), p**0.5 * k - (1 - p) ** 0.5 * n, x), "a plus"),
        (lambda x, k, m, p, n: x + m * (p**0.5 * k + (1 - p) ** 0.5 * n), "choose, with the mask"),
        (lambda x, k, m, p, n: x.mul_(1 - m).add_(m * (p**0.5 * k + (1 - p) ** 0.5 * n)),
         "changed x,"),
    ],
}


def cut(z, p, order):
    b, c, h, w = z.shape
    return z.view(b, c, h // p, p, w // p, p).permute(*order).flatten(3).flatten(1, 2)


def normed(x, a, b, norm=True, one=1):
    return (F.layer_norm(x, x.shape[-1:]) if norm else x) * (one + a) + b


def lined_up(x, a, b):
    """Shift and scale at the tokens, where their number lets them be."""
    return normed(x, a, b) if len(x) == x.shape[1] else normed(x, a[:, None], b[:, None])


def u_shape(d, n, low=0, shift=0):
    return [min(i, d - 1 - i, n - 1 + low) + shift for i in range(d)]


def heads_of(q, k, v, heads, scale=None, power=-0.5, weigh=lambda a: a.softmax(-1), join=True,
             inner=False, tokens=False):
    """Attention in several heads, and what can go wrong in it."""
    b, n, d = q.shape
    scale = (d // heads) ** power if scale is None else scale
    if tokens:
        q, k, v = (a.reshape(b, heads, n, d // heads) for a in (q, k, v))
    elif inner:
        q, k, v = (a.view(b, n, d // heads, heads).permute(0, 3, 1, 2) for a in (q, k, v))
    else:
        q, k, v = (a.view(b, n, heads, d // heads).transpose(1, 2) for a in (q, k, v))
    mixed = weigh(scale * q @ k.mT) @ v
    if inner:
        return mixed.permute(0, 2, 3, 1).reshape(b, n, d)
    return (mixed.transpose(1, 2) if join and not tokens else mixed).reshape(b, n, d)


def assembled(x, m, block, order=range(6), residual=True, gate1=True, gate2=True, outside=False,
              reads_x=False, twice=False, norm1=True, norm2=True, out=True, fuse=None):
    """One FFTD block, and what can go wrong in it."""
    parts = (m + block.table)[:, :, None].unbind(1)
    b1, a1, g1, b2, a2, g2 = (parts[i] for i in order)

    def told(x, b, a):
        return F.layer_norm(x, x.shape[-1:]) * (1 + a) + b

    q, k, v = block.qkv(told(x, b1, a1) if norm1 else x).chunk(3, -1)
    seen = heads_of(q, k, v, block.heads)
    seen = block.out(seen) if out else seen
    seen = seen + x if outside else seen
    x1 = (x if residual and not outside else 0) + (g1 if gate1 else 1) * seen
    read = x if reads_x else x1
    x2 = (g2 if gate2 else 1) * block.feed_forward(told(read, b2, a2) if norm2 else x1)
    return (fuse or block.fuse)(x1, x1 + x2 if twice else x2)


def frozen(x, m, block):
    """The right value, by a copy of the block: no gradient comes to its own weights."""
    return assembled(x, m, copy.deepcopy(block))


def pool(x, y, f=torch.mean, g=torch.amax, dim=1):
    both = torch.cat([x, y], -1)
    return torch.cat([f(both, dim), g(both, dim)], -1)


WRONG |= {
    "standardise": [
        (lambda z, m, s: z / s[:, None, None], "mean is not taken off"),
        (lambda z, m, s: z - m[:, None, None], "division by the"),
        (lambda z, m, s: (z - m[:, None, None]) * s[:, None, None], "multiplied"),
        (lambda z, m, s: z / s[:, None, None] - m[:, None, None], "First the mean"),
        (lambda z, m, s: (z - m[:, None, None]) / s[:, None, None] ** 2, "variance"),
        (lambda z, m, s: z * s[:, None, None] + m[:, None, None], "way back"),
        (lambda z, m, s: by_channel(z, m, s + 1e-5), "is wanted"),
        (lambda z, m, s: z.sub_(m[:, None, None]).div_(s[:, None, None]), "changed z"),
        (lambda z, m, s: by_channel(z, m, s.clamp_(0.02)), "changed std"),
        (lambda z, m, s: (z - m) / s if z.shape[-1] == 4 else by_channel(z, m, s), "last axis"),
    ],
    "patchify": [
        (lambda z, p: F.unfold(z, p, stride=p), "tokens first"),
        (lambda z, p: z.reshape(len(z), -1, z.shape[1] * p * p), "only reshaped"),
        (lambda z, p: cut(z, p, (0, 2, 4, 3, 5, 1)), "before the channel"),
        (lambda z, p: cut(z, p, (0, 4, 2, 1, 3, 5)), "down the columns"),
        (lambda z, p: cut(z, p, (0, 2, 4, 1, 5, 3)), "row and column are swapped"),
        (lambda z, p: F.unfold(z.mul_(2) / 2, p, stride=p).mT, "changed z"),
        (lambda z, p: F.unfold(z, p).mT, "overlap"),
        (lambda z, p: cut(z, p, (0, 1, 2, 4, 3, 5)).flatten(1, 2).view(len(z), -1, p * p),
         "each channel by itself"),
        (lambda z, p: F.avg_pool2d(z, p).flatten(2).mT, "averaged each patch"),
        (lambda z, p: F.unfold(z, p, stride=p).mT[0], "shape is"),
    ],
    "modulated": [
        (lambda x, b, a: normed(x, a[:, None], b[:, None], norm=False), "norm is missing"),
        (lambda x, b, a: normed(x, a[:, None], b[:, None], one=0), "1 is missing"),
        (lambda x, b, a: normed(x, b[:, None], a[:, None]), "swapped"),
        (lambda x, b, a: normed(x, a[:, None], 0), "shift is missing"),
        (lambda x, b, a: (F.layer_norm(x, x.shape[-1:]) + b[:, None]) * (1 + a[:, None]),
         "Shift first"),
        (lambda x, b, a: F.layer_norm(x, x.shape[1:]) * (1 + a[:, None]) + b[:, None],
         "over the tokens"),
        (lambda x, b, a: lined_up(x, a, b), "belong to the image"),
        (lambda x, b, a: normed(x.detach(), a[:, None], b[:, None]), "reaches the tokens"),
        (lambda x, b, a: normed(x, a.add_(1)[:, None] - 1, b[:, None]), "changed scale"),
    ],
    "multi_head": [
        (lambda q, k, v, h: heads_of(q, k, v, h, scale=1.0), "root of a head's width is missing"),
        (lambda q, k, v, h: heads_of(q, k, v, h, power=0.5), "multiplied by the root"),
        (lambda q, k, v, h: heads_of(q, k, v, h, power=-1), "took the width itself"),
        (lambda q, k, v, h: heads_of(q, k, v, h, scale=q.shape[2] ** -0.5), "you took D"),
        (lambda q, k, v, h: heads_of(q, k, v, h, weigh=lambda a: a.softmax(2)), "over the keys"),
        (lambda q, k, v, h: heads_of(q, k, v, h, weigh=lambda a: a.softmax(1)), "over the heads"),
        (lambda q, k, v, h: heads_of(q, k, v, h, weigh=lambda a: a), "softmax is missing"),
        (lambda q, k, v, h: heads_of(q, k, v, h, weigh=lambda a: a.softmax(3).mT), "transposed"),
        (lambda q, k, v, h: heads_of(k, q, v, h), "Queries and keys are swapped"),
        (lambda q, k, v, h: heads_of(q, k, k, h), "mixed the keys"),
        (lambda q, k, v, h: heads_of(q, k, v, 1), "used one head"),
        (lambda q, k, v, h: heads_of(q, k, v, 1, scale=(q.shape[2] // h) ** -0.5),
         "with the scale of several"),
        (lambda q, k, v, h: heads_of(q, k, v, h, join=False), "not brought back"),
        (lambda q, k, v, h: heads_of(q, k, v, h, inner=True), "in this order"),
        (lambda q, k, v, h: heads_of(q, k, v, h, tokens=True), "tokens were cut"),
        (lambda q, k, v, h: heads_of(q.mul_(2), k, v, h), "changed q"),
        (lambda q, k, v, h: heads_of(q, k.detach(), v, h), "no gradient reaches the keys"),
        (lambda q, k, v, h: heads_of(q, k, v, h).detach(), "no gradient comes back"),
        (lambda q, k, v, h: heads_of(q, k, v, h)[..., None], "shape is"),
    ],
    "fftd_block": [
        (lambda x, m, b: assembled(x, m, b, residual=False), "x is missing in x1"),
        (lambda x, m, b: assembled(x, m, b, gate1=False), "first gate is missing"),
        (lambda x, m, b: assembled(x, m, b, gate2=False), "second gate is missing"),
        (lambda x, m, b: assembled(x, m, b, order=(0, 1, 5, 3, 4, 2)), "gates are swapped"),
        (lambda x, m, b: assembled(x, m, b, order=(1, 0, 2, 4, 3, 5)), "Shift and scale"),
        (lambda x, m, b: assembled(x, m, b, order=(0, 1, 2, 0, 1, 5)), "its own shift and scale"),
        (lambda x, m, b: assembled(x, m, b, outside=True), "not x as well"),
        (lambda x, m, b: assembled(x, m, b, reads_x=True), "reads x1, not x"),
        (lambda x, m, b: assembled(x, m, b, twice=True), "the fusion brings x1 in"),
        (lambda x, m, b: assembled(x, m, b, norm2=False), "reads the normalised x1"),
        (lambda x, m, b: assembled(x, m, b, norm1=False), "reads the normalised x:"),
        (lambda x, m, b: assembled(x, m, b, out=False), "map after attention"),
        (lambda x, m, b: assembled(x, m, b, fuse=lambda p, q: p + q), "You added the streams"),
        (lambda x, m, b: assembled(x, m, b, fuse=lambda p, q: b.fuse(q, p)), "streams are swapped"),
        (lambda x, m, b: assembled(x, m, b, fuse=lambda p, q: (p, q)), "Both streams are returned"),
        (lambda x, m, b: assembled(x, m, b).detach(), "no gradient comes back"),
        (lambda x, m, b: assembled(x.add_(1), m, b), "changed x,"),
        (lambda x, m, b: assembled(x, m.detach(), b), "no gradient reaches the modulation"),
        (lambda x, m, b: frozen(x, m, b), "no gradient reaches the"),
        (lambda x, m, b: b, "returned a Block"),
    ],
    "levels_of": [
        (lambda d, n: [min(i, n - 1) for i in range(d)], "never up"),
        (lambda d, n: u_shape(d, n, low=1), "one level too far"),
        (lambda d, n: u_shape(d, 99), "no limit"), (lambda d, n: u_shape(d, n, shift=1), "from 0"),
        (lambda d, n: [n - 1 - v for v in u_shape(d, n)], "Upside down"),
        (lambda d, n: u_shape(d, n)[:-1], "entries"),
        (lambda d, n: [(n - 1) * (0 < i < d - 1) for i in range(d)], "Only the two ends"),
        (lambda d, n: [min(d // 2 - abs(i - d // 2), n - 1) for i in range(d)], "for an even one"),
        (lambda d, n: [0] * d, "is wanted"), (lambda d, n: None, "returned None"),
        (lambda d, n: torch.tensor(u_shape(d, n)), "list of integers"),
    ],
    "pooled": [
        (lambda x, y: pool(x, y, g=torch.mean), "mean twice"),
        (lambda x, y: pool(x, y, torch.amax, torch.mean), "comes first"),
        (lambda x, y: pool(x, y, dim=2), "over the features"),
        (lambda x, y: pool(x, y, f=torch.sum), "sum, not"),
        (lambda x, y: torch.cat([x.mean(1), x.amax(1), y.mean(1), y.amax(1)], -1), "by itself"),
        (lambda x, y: torch.cat([x, y], -1).mean(1), "Only the mean"),
        (lambda x, y: torch.cat([x, y], -1).amax(1), "Only the maximum"),
        (lambda x, y: torch.cat([(x + y).mean(1), (x + y).amax(1)], -1), "side by side"),
        (lambda x, y: pool(x.detach(), y), "reaches the first stream"),
        (lambda x, y: pool(x, y.neg_().neg_().mul_(2) / 2), "changed x2"),
    ],
    "fused": [
        (lambda a, b, c, w, s, li: c[:, None] * b + w[..., None] * a + s * li, "swapped"),
        (lambda a, b, c, w, s, li: c[:, None] * a + w[..., None] * b + li, "s is missing"),
        (lambda a, b, c, w, s, li: c[:, None] * a + w[..., None] * b, "linear part is missing"),
        (lambda a, b, c, w, s, li: s * (c[:, None] * a + w[..., None] * b + li), "alone"),
        (lambda a, b, c, w, s, li: c[:, None] * a + b + s * li, "spatial weight is"),
        (lambda a, b, c, w, s, li: a + w[..., None] * b + s * li, "channel weight is"),
        (lambda a, b, c, w, s, li: c[:, None] * a - w[..., None] * b + s * li, "subtracts one"),
        (lambda a, b, c, w, s, li: c[:, None] * a + w[..., None] * b - s * li, "to be added"),
        (lambda a, b, c, w, s, li: c[:, None] * a + w[..., None] * b + 0.7 * li, "is wanted"),
        (lambda a, b, c, w, s, li: a.mul_(c[:, None]) + w[..., None] * b + s * li,
         "changed n1"),
        (lambda a, b, c, w, s, li: c.detach()[:, None] * a + w[..., None] * b + s * li,
         "reaches the channel weights"),
        (lambda a, b, c, w, s, li: (c[..., None] * a + w[:, None] * b if a.shape[1] == a.shape[2]
                                    else c[:, None] * a + w[..., None] * b) + s * li, "wrong axis"),
    ],
}


def stream(step, k, b, n, shift=0):
    return (step - 1 + shift) * b + k


def rising(step, steps, turn=math.pi, half=0.5, start=True):
    rise = max(1, steps // 10)
    if step <= rise:
        return step / rise
    return half * (1 + math.cos(turn * ((step - rise) / (steps - rise) if start else step / steps)))


def mmd(a, b, power=3, divide=None, plus=1, cross=2, diagonal=False, pairs=True):
    def kernel(x, y):
        return (x @ y.T / (divide or x.shape[1]) + plus) ** power

    def within(x):
        k, n = kernel(x, x), len(x)
        return k.mean() if diagonal else (k.sum() - k.trace()) / (n * (n - 1) if pairs else n * n)

    return within(a) + within(b) - cross * kernel(a, b).mean()


def sort_in_place(steps, keep):
    steps.sort()
    return steps[:-keep]


def in_pieces(net, loss_of, x, y, size, weight=None, zero="once", full=False, step=False,
              told=lambda total, means: total, back=True):
    """A batch in parts, and what can go wrong in it."""
    if zero == "once":
        net.zero_grad()
    total, means = 0.0, []
    n = len(x) // size * size if full and len(x) >= size else len(x)
    parts = list(zip(x[:n].split(size), y[:n].split(size), strict=True))
    for a, b in parts:
        if zero == "each":
            net.zero_grad()
        mean = loss_of(net(a), b)
        loss = mean * (weight(len(a), len(x), size, len(parts)) if weight else len(a) / len(x))
        if back:
            loss.backward()
        total += loss.item()
        means.append(mean.item())
    if zero == "late":
        net.zero_grad()
    if step:
        for p in net.parameters():
            p.data -= p.grad
    return told(total, means)


def all_at_the_end(net, loss_of, x, y, size):
    net.zero_grad()
    parts = zip(x.split(size), y.split(size), strict=True)
    loss = sum(loss_of(net(a), b) * len(a) for a, b in parts) / len(x)
    loss.backward()
    return loss.item()


def at_once_after_all(net, loss_of, x, y, size):
    net.zero_grad()
    loss = loss_of(net(x), y)
    loss.backward()
    return loss.item()


def running_total(net, loss_of, x, y, size):
    net.zero_grad()
    total = 0
    for a, b in zip(x.split(size), y.split(size), strict=True):
        total = total + loss_of(net(a), b) * len(a) / len(x)
        total.backward()
    return total.item()


def divided_at_the_end(net, loss_of, x, y, size):
    """Right: sums first, and one division of the gradients."""
    net.zero_grad()
    total = 0.0
    for i in range(0, len(x), size):
        loss = loss_of(net(x[i : i + size]), y[i : i + size]) * len(x[i : i + size])
        loss.backward()
        total += loss.item()
    for p in net.parameters():
        p.grad /= len(x)
    return total / len(x)


def by_hand(net, loss_of, x, y, size):
    """Right: the gradients of each part asked for, and added."""
    weights = list(net.parameters())
    grads, total = [0] * len(weights), 0
    for a, b in zip(x.split(size), y.split(size), strict=True):
        loss = loss_of(net(a), b) * len(a) / len(x)
        grads = [g + h for g, h in zip(grads, torch.autograd.grad(loss, weights), strict=True)]
        total = total + loss.detach()
    for p, g in zip(weights, grads, strict=True):
        p.grad = g
    return total


WRONG |= {
    "in_parts": [
        (lambda *a: in_pieces(*a, weight=lambda m, n, s, k: 1 / k), "share of the images"),
        (lambda *a: in_pieces(*a, weight=lambda m, n, s, k: 1), "without weights"),
        (lambda *a: in_pieces(*a, weight=lambda m, n, s, k: m), "Weights are shares"),
        (lambda *a: in_pieces(*a, weight=lambda m, n, s, k: m / s), "not of `size`"),
        (lambda *a: in_pieces(*a, weight=lambda m, n, s, k: 1 / n), "a mean already"),
        (lambda *a: in_pieces(*a, zero="each"), "Only the last part's"),
        (lambda *a: in_pieces(*a, zero="never"), "the step before"),
        (lambda *a: in_pieces(*a, zero="late"), "are 0 at the end"),
        (lambda *a: in_pieces(*a, full=True), "left out"),
        (lambda *a: in_pieces(*a, back=False, zero="never"), "No gradient came"),
        (lambda *a: in_pieces(*a, back=False), "No gradient came"),
        (all_at_the_end, "waited for their backward"),
        (at_once_after_all, "had 10 at once"),
        (running_total, "went backward twice"),
        (lambda *a: in_pieces(*a, step=True), "changed body.0.weight of net"),
        (lambda *a: in_pieces(*a, told=lambda t, m: sum(m)), "sum of the parts' means"),
        (lambda *a: in_pieces(*a, told=lambda t, m: sum(m) / len(m)), "plain mean"),
        (lambda *a: in_pieces(*a, told=lambda t, m: m[-1]), "the loss of the whole batch is"),
        (lambda *a: torch.no_grad()(in_pieces)(*a, back=False), "without gradients"),
        (lambda net, loss_of, x, y, size: loss_of(net(x[:size]), y), "the same parts"),
        (lambda *a: in_pieces(*a, told=lambda t, m: (t, m)), "one number"),
        (lambda *a: torch.tensor(in_pieces(*a), requires_grad=True), "Return a number"),
    ],
    "place_of": [
        (lambda s, k, b, n: divmod(stream(s, k, b, n, 1), n), "count from 1"),
        (lambda s, k, b, n: divmod((s - 1) * b, n), "inside the batch"),
        (lambda s, k, b, n: divmod(stream(s, k, b, n), n)[::-1], "swapped"),
        (lambda s, k, b, n: ((s - 1) // (n // b or 1), (s - 1) % (n // b or 1) * b + k), "no gap"),
        (lambda s, k, b, n: (stream(s, k, b, n) // n + 1, stream(s, k, b, n) % n), "from 0"),
        (lambda s, k, b, n: (stream(s, k, b, n) / n, stream(s, k, b, n) % n), "fraction"),
        (lambda s, k, b, n: divmod(stream(s, k, b, n) + 1, n), "one too many"),
        (lambda s, k, b, n: (stream(s, k, b, n) // n, stream(s, k, b, n)), "what is left"),
        (lambda s, k, b, n: divmod(stream(s, k, b, n), b), "not by the batch"),
        (lambda s, k, b, n: stream(s, k, b, n) % n, "returned a int"),
        (lambda s, k, b, n: None, "returned None"),
    ],
    "my_share": [
        (lambda x, r, w: x, "whole batch"), (lambda x, r, w: x.chunk(w)[r], "a block"),
        (lambda x, r, w: x[::w], "began at entry 0"),
        (lambda x, r, w: x[:, r::w], "second axis"), (lambda x, r, w: x[w :: max(r, 1)], "swapped"),
        (lambda x, r, w: x[r + 1::w], "count from 0"),
        (lambda x, r, w: x[r], "one entry"),
        (lambda x, r, w: torch.tensor_split(x, w)[r], "a block"),
        (lambda x, r, w: torch.arange(r, len(x), w), "the entries' places"),
        (lambda x, r, w: x[r::w][: len(x) // w], "left out"),
        (lambda x, r, w: x.add_(1)[r::w] - 1, "changed its first argument"),
    ],
    "rate_factor": [
        (lambda s, n: s / max(1, n // 10) if s <= n // 10 else (n - s) / (n - n // 10),
         "straight line"),
        (lambda s, n: 0.5 * (1 + math.cos(math.pi * s / n)), "rise is missing"),
        (lambda s, n: rising(s, n, start=False), "begins at the top"),
        (lambda s, n: rising(s, n, turn=2 * math.pi), "up again"),
        (lambda s, n: rising(s, n, half=1), "½ is missing"),
        (lambda s, n: (s - 1) / max(1, n // 10) if s <= max(1, n // 10) else rising(s, n),
         "Step 1 is not 0"),
        (lambda s, n: s / n if s <= max(1, n // 10) else rising(s, n), "first tenth"),
        (lambda s, n: rising(s, n) if s <= max(1, n // 10) else rising(s, n) - 0.5,
         "1 + the cosine"),
        (lambda s, n: rising(s, n) if s <= max(1, n // 10) else 1 - rising(s, n), "It rises"),
        (lambda s, n: rising(s, n, turn=180), "radians"),
        (lambda s, n: rising(s, n, turn=1), "half a turn"),
    ],
    "to_delete": [
        (lambda s, k: sorted(s)[-k:], "Those stay"),
        (lambda s, k: sorted(s)[k:], "the oldest are to go"),
        (lambda s, k: s[:-k], "any order"),
        (lambda s, k: sorted(s)[: -k - 1], "one too many"),
        (lambda s, k: sorted(s)[: -k + 1], "one too few"),
        (lambda s, k: sorted(s)[:-k][::-1], "Oldest first"), (sort_in_place, "changed the list"),
        (lambda s, k: sorted(s, key=str)[:-k], "as words"),
        (lambda s, k: set(sorted(s)[:-k]), "a list is wanted"),
        (lambda s, k: sorted(s)[0], "returned a int"),
        (lambda s, k: sorted(s), "All of them go"),
    ],
    "kid": [
        (lambda a, b: mmd(a, b, diagonal=True), "diagonal out"),
        (lambda a, b: mmd(a, b, cross=1), "counts twice"),
        (lambda a, b: mmd(a, b, divide=1), "division by D"),
        (lambda a, b: mmd(a, b, plus=0), "+ 1"),
        (lambda a, b: mmd(a, b, power=2), "third power"),
        (lambda a, b: mmd(a, b, pairs=False), "not n²"),
        (lambda a, b: mmd(a, b).abs(), "may fall below 0"),
        (lambda a, b: mmd(a, b).clamp_min(0), "may fall below 0"),
        (lambda a, b: mmd(a, b, divide=len(a)), "features of one image"),
        (lambda a, b: mmd(a, b).abs().sqrt(), "no root"),
        (lambda a, b: mmd(a, b, cross=-2), "is subtracted"),
        (lambda a, b: mmd(a, b, cross=0), "between the two is missing"),
    ],
    "image_bits": [
        (lambda t, c: t * math.log(c), "nats"), (lambda t, c: math.log2(c), "one token"),
        (lambda t, c: math.log2(t * c), "sequences"),
        (lambda t, c: c * math.log2(t), "swapped"), (lambda t, c: t * c, "not its logarithm"),
        (lambda t, c: c**t, "number of sequences"),
        (lambda t, c: t * math.log10(c), "to base 10"),
        (lambda t, c: t * math.ceil(math.log2(c)), "rounded up"),
        (lambda t, c: t * math.log2(c) / 8, "bytes"),
        (lambda t, c: t * math.log2(c - 1), "is wanted"),
    ],
}


LOG = math.log(2 * math.pi)


def normal(z, log=LOG, dim=1):
    return -0.5 * (z**2 + log).sum(dim)


def coupled(x, mask, network, shown=None, masked="st", where=None, move=lambda x, s, t:
            x * s.exp() + t, told=lambda s, t: s.sum(1), keep=None):
    """A coupling layer, and what can go wrong in it."""
    s, t = network(x * mask if shown is None else shown(x, mask))
    moves = 1 - mask if where is None else where(mask)
    s, t = s * moves if "s" in masked else s, t * moves if "t" in masked else t
    z = move(x if keep is None else keep(x, mask), s, t)
    return z, told(s, t)


def of_raw(x, mask, network, told):
    """A right z, and a log-determinant of what the network answered, not masked."""
    s, t = network(x * mask)
    return coupled(x, mask, network)[0], told(s, t, 1 - mask)


def uncoupled(z, mask, network, move=lambda z, s, t: (z - t) * (-s).exp(), **how):
    return coupled(z, mask, network, move=move, **how)[0]


def in_words(x, mask, network):
    """A right layer, by selecting."""
    s, t = network(torch.where(mask == 1, x, torch.zeros_like(x)))
    moves = (mask == 0).expand_as(x)
    z = torch.where(moves, x * torch.exp(s) + t, x)
    return z, torch.where(moves, s, torch.zeros_like(s)).sum(dim=-1)


def matched(model, x0, eps, t, at=lambda a, e, s: (1 - s) * a + s * e, rows=True, time=999,
            wanted=lambda a, e, x: e - a, cost=lambda d: d.square().mean(), told=None, draw=False,
            twice=False):
    """Flow matching's loss, and what can go wrong in it."""
    share = t[:, None] if rows else t
    if draw:
        eps = torch.randn_like(eps)
    x = at(x0, eps, share)
    out = model(x, time * t if told is None else told(t))
    if twice:
        out = model(x, time * t)
    return cost(out - wanted(x0, eps, x))


def carried(velocity, x1, steps, when=lambda i, n: 1 - i / n, go=lambda x, v, t, n: x - v / n,
            asks=1, first=False, number=None, keep=lambda states: states, last=0, extra=0):
    """Euler's method, and what can go wrong in it."""
    n = number or steps
    states = [x1]
    for i in range(n - last):
        x, t = x1 if first == "both" else states[-1], when(i, n)
        for _ in range(asks):
            v = velocity(x1 if first else x, t)
        states.append(go(x, v, t, n))
    for _ in range(extra):
        velocity(states[-1], 0.0)
    return keep(states)


def in_place(velocity, x1, steps, clone=False, copy=False):
    x = x1.clone() if clone else x1
    states = [x]
    for i in range(steps):
        x -= velocity(x, 1 - i / steps) / steps
        states.append(x.clone() if copy else x)
    return states


def again(velocity, x1, steps, when=lambda i, n: 1 - (i + 1) / n, to=lambda x, v, n: x - v / n,
          mean=lambda v, w: (v + w) / 2, go=lambda x, d, n, v, w: x - d / n, first=1.0,
          last=True, reuse=False, start=False, keep=lambda states: states):
    """Heun's method, and what can go wrong in it."""
    states, w = [x1], None
    for i in range(steps):
        x = x1 if start else states[-1]
        v = w if reuse and i else velocity(x, first - i / steps)
        if i == steps - 1 and not last:
            states.append(x - v / steps)
            break
        w = velocity(to(x, v, steps), when(i, steps))
        states.append(go(x, mean(v, w), steps, v, w))
    return keep(states)


def by_times(velocity, x1, steps, second=False, number=lambda t: t):
    """Euler's method, or Heun's, along times listed before."""
    times, states = [number(t) for t in torch.linspace(1, 0, steps + 1)], [x1]
    for t, s in itertools.pairwise(times):
        x = states[-1]
        v = velocity(x, t)
        if second:
            v = 0.5 * v + 0.5 * velocity(x + (s - t) * v, s)
        states += [x + (s - t) * v]
    return states


WRONG |= {
    "log_of_density": [
        (lambda z, d: normal(z), "det| is missing"),
        (lambda z, d: normal(z) - d, "you took it off"),
        (lambda z, d: normal(z) + d.abs().log(), "a logarithm already"),
        (lambda z, d: normal(z) + d.exp(), "you took its exp"),
        (lambda z, d: d - normal(z), "with a minus"), (lambda z, d: -normal(z) - d, "−log p(x)"),
        (lambda z, d: -0.5 * (z**2 - LOG).sum(1) + d, "minus belongs to log 2π"),
        (lambda z, d: 0.5 * (z**2 - LOG).sum(1) + d, "minus belongs to z²"),
        (lambda z, d: (normal(z) + d).exp(), "its logarithm is wanted"),
        (lambda z, d: -0.5 * (z**2 + LOG).mean(1) + d, "mean over a row"),
        (lambda z, d: -0.5 * (z**2 + LOG).mean() + d, "is wanted"),
        (lambda z, d: normal(z, 0) + d, "2π is missing"),
        (lambda z, d: normal(z, 2 * math.pi) + d, "without its logarithm"),
        (lambda z, d: normal(z, math.log(math.pi)) + d, "the 2 is missing"),
        (lambda z, d: normal(z, math.log10(2 * math.pi)) + d, "to base 10"),
        (lambda z, d: normal(z, math.log2(2 * math.pi)) + d, "to base 2"),
        (lambda z, d: 2 * normal(z) + d, "The ½ is missing"),
        (lambda z, d: normal(z, 2 * LOG) + d, "½ of log 2π"),
        (lambda z, d: normal(z) * 2 + z.shape[1] * LOG / 2 + d, "½ of z²"),
        (lambda z, d: -0.5 * (z.square().sum(1) + LOG) + d, "counted once a row"),
        (lambda z, d: -0.5 * (z + LOG).sum(1) + d, "not squared"),
        (lambda z, d: -0.5 * (z.norm(dim=1) + z.shape[1] * LOG) + d, "root of the sum"),
        (lambda z, d: (-0.5 * (z**2 + LOG) + d[:, None]).sum(1), "added to every number"),
        (lambda z, d: -0.5 * (z**2 + LOG) + d[:, None], "Nothing is summed"),
        (lambda z, d: normal(z).sum() + d, "summed over all rows"),
        (lambda z, d: (normal(z) + d).sum(), "One value for all rows"),
        (lambda z, d: (normal(z) + d).mean(), "mean of all rows"),
        (lambda z, d: normal(z) + d.sum(), "log|det| of all rows"),
        (lambda z, d: normal(z, dim=0) + d, "sum(0)"),
        (lambda z, d: normal(z.detach()) + d, "no gradient reaches the z"),
        (lambda z, d: (normal(z) + d).detach(), "no gradient comes back"),
        (lambda z, d: normal(z) + d.mul_(1.1) / 1.1, "changed logdet"),
    ],
    "couple": [
        (lambda *a: coupled(*a, shown=lambda x, m: x), "shown all of x"),
        (lambda *a: coupled(*a, shown=lambda x, m: x * (1 - m)), "half that moves"),
        (lambda *a: coupled(*a, shown=lambda x, m: x * (1 - m), where=lambda m: m), "half that mo"),
        (lambda *a: coupled(*a, shown=lambda x, m: x[:, m == 1]), "in the shape of the whole"),
        (lambda *a: coupled(*a, shown=lambda x, m: x[:1] * m), "was shown 1"),
        (lambda *a: coupled(*a, shown=lambda x, m: x * m + 1 - m), "something else"),
        (lambda x, m, f: (x, x.sum(1)), "was not asked"),
        (lambda *a: coupled(*a, masked=""), "moved what stays as well"),
        (lambda *a: coupled(*a, masked="t"), "scaled what stays"),
        (lambda *a: coupled(*a, masked="s"), "shifted what stays"),
        (lambda *a: coupled(*a, where=lambda m: m), "kept what moves"),
        (lambda *a: coupled(*a, move=lambda x, s, t: x * s + t), "exp is missing"),
        (lambda x, m, f: (m * x + (1 - m) * (x * f(x * m)[0] + f(x * m)[1]), x.sum(1)),
         "exp is missing"),
        (lambda *a: coupled(*a, move=lambda x, s, t: x * (-s).exp() + t), "you took e^−s"),
        (lambda *a: coupled(*a, move=lambda x, s, t: x * s.exp() - t), "you took it off"),
        (lambda *a: coupled(*a, move=lambda x, s, t: (x + t) * s.exp()), "shifted before"),
        (lambda *a: coupled(*a, move=lambda x, s, t: (x - t) * (-s).exp()), "the inverse"),
        (lambda *a: coupled(*a, move=lambda x, s, t: x * s.exp()), "t is missing"),
        (lambda *a: coupled(*a, move=lambda x, s, t: x + t), "s is missing"),
        (lambda *a: coupled(*a, move=lambda x, s, t: x * t.exp() + s), "swapped"),
        (lambda *a: coupled(*a, move=lambda x, s, t: x + s.exp() * x + t), "counted twice"),
        (lambda *a: coupled(*a, move=lambda x, s, t: x), "Nothing is moved"),
        (lambda x, m, f: ((1 - m) * coupled(x, m, f)[0], coupled(x, m, f)[1]), "stays is lost"),
        (lambda x, m, f: (m * coupled(x, m, f)[0], coupled(x, m, f)[1]), "not dropped"),
        (lambda *a: coupled(*a, keep=lambda x, m: x * m), "is for the network"),
        (lambda *a: coupled(*a)[0], "Return two things"),
        (lambda *a: coupled(*a)[::-1], "z first"),
        (lambda *a: (coupled(*a)[0] * 1.01, coupled(*a)[1]), "is 1.01 times"),
        (lambda *a: of_raw(*a, lambda s, t, k: s.sum(1)), "what stays is not stretched"),
        (lambda *a: of_raw(*a, lambda s, t, k: (s * (1 - k)).sum(1)), "where the mask is 1"),
        (lambda *a: of_raw(*a, lambda s, t, k: (s.exp() * k).sum(1)), "you summed the e^s"),
        (lambda *a: coupled(*a, told=lambda s, t: s.exp().sum(1)), "which are 1 where"),
        (lambda *a: coupled(*a, told=lambda s, t: s.exp().prod(1)), "That is the determinant"),
        (lambda *a: coupled(*a, told=lambda s, t: -s.sum(1)), "wrong sign"),
        (lambda *a: coupled(*a, told=lambda s, t: s.mean(1)), "you took the mean"),
        (lambda *a: of_raw(*a, lambda s, t, k: (s * k).sum(1) / k.sum()), "mean of what moves"),
        (lambda *a: coupled(*a, told=lambda s, t: (s + t).sum(1)), "stretches nothing"),
        (lambda *a: coupled(*a, told=lambda s, t: t.sum(1)), "in place of s"),
        (lambda *a: coupled(*a, told=lambda s, t: s.abs().sum(1)), "Keep the sign"),
        (lambda *a: of_raw(*a, lambda s, t, k: (s.abs().log() * k).sum(1)), "already"),
        (lambda *a: coupled(*a, told=lambda s, t: s), "one number a row"),
        (lambda *a: coupled(*a, told=lambda s, t: s.sum(1, keepdim=True)), "no keepdim"),
        (lambda *a: coupled(*a, told=lambda s, t: 0 * s.sum(1)), "is not 0"),
        (lambda *a: coupled(*a, told=lambda s, t: 0), "returned a int"),
        (lambda *a: coupled(*a, told=lambda s, t: s.sum()), "Each row has its own"),
        (lambda *a: coupled(*a, told=lambda s, t: s.sum(1).mean()), "no mean over the rows"),
        (lambda *a: coupled(*a, told=lambda s, t: s.mean()), "mean of all"),
        (lambda *a: coupled(*a, told=lambda s, t: s.sum(0)), "sum(0)"),
        (lambda *a: coupled(*a, told=lambda s, t: s.detach().sum(1)), "logdet is right, but no"),
        (lambda *a: [v.detach() for v in coupled(*a)], "z is right, but no gradient"),
        (lambda *a: coupled(*a, move=lambda x, s, t: x * s.detach().exp() + t),
         "sends to the network's weights"),
        (lambda x, *a: coupled(x.detach(), *a), "sends to the x"),
        (lambda x, *a: coupled(x.mul_(1.01), *a), "changed x"),
    ],
    "uncouple": [
        (lambda *a: uncoupled(*a, shown=lambda z, m: z), "shown all of z"),
        (lambda *a: uncoupled(*a, shown=lambda z, m: z * (1 - m)), "half that moves"),
        (lambda *a: uncoupled(*a, shown=lambda z, m: z * 0), "something else"),
        (lambda z, m, f: z, "was not asked"),
        (lambda *a: uncoupled(*a, move=lambda z, s, t: z * (-s).exp() - t), "The wrong order"),
        (lambda *a: uncoupled(*a, move=lambda z, s, t: (z + t) * (-s).exp()), "you added it."),
        (lambda *a: uncoupled(*a, move=lambda z, s, t: (z - t) * s.exp()), "you took e^s"),
        (lambda *a: uncoupled(*a, move=lambda z, s, t: z * (-s).exp() + t), "and after"),
        (lambda *a: uncoupled(*a, move=lambda z, s, t: z * s.exp() + t), "forwards"),
        (lambda *a: uncoupled(*a, move=lambda z, s, t: z * s.exp() - t), "in both"),
        (lambda *a: uncoupled(*a, move=lambda z, s, t: z - t), "Only the shift"),
        (lambda *a: uncoupled(*a, move=lambda z, s, t: z * (-s).exp()), "Only the scale"),
        (lambda *a: uncoupled(*a, move=lambda z, s, t: (z - t) / s), "NaN"),
        (lambda z, m, f: m * z + (1 - m) * (z - f(z * m)[1]) / f(z * m)[0], "exp is missing"),
        (lambda *a: uncoupled(*a, move=lambda z, s, t: -(z - t) * s), "exp is missing"),
        (lambda *a: uncoupled(*a, masked=""), "moved what stays"),
        (lambda *a: uncoupled(*a, masked="t"), "scaled what stays"),
        (lambda *a: uncoupled(*a, masked="s"), "shifted what stays"),
        (lambda *a: uncoupled(*a, where=lambda m: m), "You moved what stayed"),
        (lambda *a: uncoupled(*a, move=lambda z, s, t: (z - s) * (-t).exp()), "swapped"),
        (lambda z, m, f: (1 - m) * uncoupled(z, m, f), "is lost"),
        (lambda z, m, f: m * uncoupled(z, m, f), "moved back, not dropped"),
        (lambda *a: uncoupled(*a, keep=lambda z, m: z * m), "is for the network"),
        (lambda *a: uncoupled(*a, move=lambda z, s, t: z), "that is z"),
        (lambda *a: coupled(*a, move=lambda z, s, t: (z - t) * (-s).exp()), "Return x alone"),
        (lambda z, *a: uncoupled(z.add_(0.1), *a), "changed z"),
    ],
    "bits_of": [
        (lambda p, d, k: -p / d + math.log2(k), "not turned into bits"),
        (lambda p, d, k: -p / d * math.log(2) + math.log2(k), "multiplied by log 2"),
        (lambda p, d, k: -p / d + math.log(k), "nats per dimension"),
        (lambda p, d, k: -p / (d * math.log(2)) + math.log(k), "you took the natural one"),
        (lambda p, d, k: -p / (d * math.log(2)) + math.log10(k), "you took base 10"),
        (lambda p, d, k: -p / (d * math.log10(2)) + math.log2(k), "divided by log₁₀ 2"),
        (lambda p, d, k: -p / (d * math.log10(2)) + math.log10(k), "Base 10 in both"),
        (lambda p, d, k: -p / (d * math.log(2)) - math.log2(k), "you took it off"),
        (lambda p, d, k: p / (d * math.log(2)) + math.log2(k), "minus is missing"),
        (lambda p, d, k: p / (d * math.log(2)) - math.log2(k), "Both signs"),
        (lambda p, d, k: -p / (d * math.log(2)), "levels are missing"),
        (lambda p, d, k: -p / (d * math.log(2)) + k, "without their logarithm"),
        (lambda p, d, k: -p / (d * math.log(2)) / k, "divided by the levels"),
        (lambda p, d, k: -p / (d * math.log(2)) / math.log2(k), "divided by log₂"),
        (lambda p, d, k: -p / (d * math.log(2)) * math.log2(k), "you multiplied by it"),
        (lambda p, d, k: -p / (d * math.log(2)) + math.log2(k - 1), "largest level"),
        (lambda p, d, k: (-p / math.log(2) + math.log2(k)) / d, "not divided by dims"),
        (lambda p, d, k: -p / math.log(2) + math.log2(k), "division by dims"),
        (lambda p, d, k: -p / math.log(2) + d * math.log2(k), "whole picture"),
        (lambda p, d, k: (-p / (d * math.log(2)) + math.log2(k)).mean(), "no mean"),
        (lambda p, d, k: (-p / (d * math.log(2)) + math.log2(k)).sum(), "no sum"),
        (lambda p, d, k: -p / (d * math.log(2)) + 8, "256 levels only"),
        (lambda p, d, k: p.neg_() / (d * math.log(2)) + math.log2(k), "changed log_p"),
    ],
    "flow_loss": [
        (lambda *a: matched(*a, at=lambda x, e, s: s * x + (1 - s) * e), "are swapped"),
        (lambda *a: matched(*a, at=lambda x, e, s: x), "pictures themselves"),
        (lambda *a: matched(*a, at=lambda x, e, s: e), "noise itself"),
        (lambda *a: matched(*a, at=lambda x, e, s: e - x), "shown the velocity"),
        (lambda *a: matched(*a, at=lambda x, e, s: x + s * e), "1 − t is missing"),
        (lambda *a: matched(*a, at=lambda x, e, s: (1 - s) * x + e), "t is missing"),
        (lambda *a: matched(*a, at=lambda x, e, s: (1 - s) * x - s * e), "a plus"),
        (lambda *a: matched(*a, at=lambda x, e, s: (1 - s)**0.5 * x + s**0.5 * e), "No roots"),
        (lambda *a: matched(*a, at=lambda x, e, s: (1 - s**2)**0.5 * x + s * e), "diffusion's"),
        (lambda *a: matched(*a, at=lambda x, e, s: (1 - 999 * s) * x + 999 * s * e), "999 belongs"),
        (lambda *a: matched(*a, at=lambda x, e, s: s * e), "picture is missing"),
        (lambda *a: matched(*a, at=lambda x, e, s: (1 - s) * x), "noise is missing"),
        (lambda *a: matched(*a, at=lambda x, e, s: torch.lerp(x, e, s.mean())), "their mean"),
        (lambda *a: matched(*a, at=lambda x, e, s: (1 - s[0]) * x + s[0] * e), "the first for all"),
        (lambda *a: matched(*a, at=lambda x, e, s: (1 - s) * x + s * e + 1), "was not shown"),
        (lambda *a: matched(*a, rows=False), "lined up with the columns"),
        (lambda *a: matched(*a, draw=True), "something of your own"),
        (lambda m, x, e, t: matched(m, x, e, torch.rand_like(t)), "was told the times"),
        (lambda *a: matched(*a, time=1), "999 is missing"),
        (lambda *a: matched(*a, time=1000), "multiplied by 1000"),
        (lambda *a: matched(*a, time=1 / 999), "divided by 999"),
        (lambda *a: matched(*a, told=lambda t: 999 * (1 - t)), "other way"),
        (lambda *a: matched(*a, told=lambda t: 1 - t), "told 1 − t"),
        (lambda *a: matched(*a, told=lambda t: (999 * t).long()), "rounded"),
        (lambda *a: matched(*a, told=lambda t: (999 * t).round()), "rounded"),
        (lambda *a: matched(*a, told=lambda t: 999 * t[:1].expand_as(t)), "one and the same"),
        (lambda *a: matched(*a, told=lambda t: 999 * t[:, None]), "one time for each row"),
        (lambda *a: matched(*a, told=lambda t: 999 * t.mean()), "one time for each row"),
        (lambda *a: matched(*a, told=lambda t: 999 * t[0].item()), "takes two tensors"),
        (lambda *a: matched(*a, twice=True), "asked it 2 times"),
        (lambda m, x, e, t: (e - x).square().mean(), "asked it 0 times"),
        (lambda *a: matched(*a, wanted=lambda x, e, p: x - e), "you took x0 − eps"),
        (lambda *a: matched(*a, wanted=lambda x, e, p: e), "you took the noise"),
        (lambda *a: matched(*a, wanted=lambda x, e, p: x), "you took the picture"),
        (lambda *a: matched(*a, wanted=lambda x, e, p: p), "place on the path"),
        (lambda *a: matched(*a, wanted=lambda x, e, p: e + x), "you took eps + x0"),
        (lambda *a: matched(*a, wanted=lambda x, e, p: 0), "target is missing"),
        (lambda *a: matched(*a, cost=lambda d: d.square().sum()), "take the mean"),
        (lambda *a: matched(*a, cost=lambda d: d.square().sum(1).mean()), "along one axis"),
        (lambda *a: matched(*a, cost=lambda d: d.square().mean(1).sum()), "along one axis"),
        (lambda *a: matched(*a, cost=lambda d: d.square().mean(1)), "mean of each row"),
        (lambda *a: matched(*a, cost=lambda d: d.square().sum(1)), "summed each row"),
        (lambda *a: matched(*a, cost=lambda d: d.square().mean(0)), "mean of each column"),
        (lambda *a: matched(*a, cost=lambda d: d.square().sum(0)), "summed each column"),
        (lambda *a: matched(*a, cost=lambda d: d.square()), "take their mean"),
        (lambda *a: matched(*a, cost=lambda d: d.abs().mean()), "absolute error"),
        (lambda *a: matched(*a, cost=lambda d: d.mean()), "square is missing"),
        (lambda *a: matched(*a, cost=lambda d: d.mean().square()), "squared the mean"),
        (lambda *a: matched(*a, cost=lambda d: d.square().mean().sqrt()), "root of the mean"),
        (lambda *a: matched(*a, cost=lambda d: d.square().mean() / 2), "no ½"),
        (lambda *a: matched(*a, cost=lambda d: d.square().mean().item()), "no gradient"),
        (lambda *a: matched(*a, cost=lambda d: d.square().mean().detach()), "no gradient"),
        (lambda *a: matched(*a, cost=lambda d: (d * d.detach()).mean()), "not the gradient"),
        (lambda m, x, e, t: matched(m, x, e.sub_(x).add_(x + 0.1), t), "changed eps"),
    ],
    "euler": [
        (lambda *a: carried(*a, go=lambda x, v, t, n: x + v / n), "You added"),
        (lambda *a: carried(*a, go=lambda x, v, t, n: x - v), "the division is missing"),
        (lambda *a: carried(*a, go=lambda x, v, t, n: x + v), "both are missing"),
        (lambda *a: carried(*a, go=lambda x, v, t, n: x - v * n), "multiplied by steps"),
        (lambda *a: carried(*a, go=lambda x, v, t, n: x - v / (n + 1)), "steps + 1"),
        (lambda *a: carried(*a, go=lambda x, v, t, n: x - v / max(1, n - 1)), "steps − 1"),
        (lambda *a: carried(*a, go=lambda x, v, t, n: -v / n), "x is missing"),
        (lambda *a: carried(*a, go=lambda x, v, t, n: v / n), "take it off x"),
        (lambda *a: carried(*a, go=lambda x, v, t, n: v), "That is the velocity"),
        (lambda *a: carried(*a, go=lambda x, v, t, n: (x - v) / n), "divided x as well"),
        (lambda *a: carried(*a, go=lambda x, v, t, n: x.clone()), "has moved"),
        (lambda *a: carried(*a, go=lambda x, v, t, n: x), "either unmoved"),
        (lambda *a: carried(*a, go=lambda x, v, t, n: x - t * v / n), "multiplied by t"),
        (lambda *a: carried(*a, go=lambda x, v, t, n: x - 0.9 * v / n), "is wanted"),
        (lambda *a: carried(*a, when=lambda i, n: i / n), "beginning at 0"),
        (lambda *a: carried(*a, when=lambda i, n: (i + 1) / n), "Your times rise: t falls"),
        (lambda *a: carried(*a, when=lambda i, n: 1 - (i + 1) / n), "at the end of each step"),
        (lambda *a: carried(*a, when=lambda i, n: 1 - (i + 0.5) / n), "in the middle"),
        (lambda *a: carried(*a, when=lambda i, n: 1 - i / max(1, n - 1)), "not steps − 1"),
        (lambda *a: carried(*a, when=lambda i, n: 1.0), "t = 1 every time"),
        (lambda *a: carried(*a, when=lambda i, n: 0), "t = 0 every time"),
        (lambda *a: carried(*a, when=lambda i, n: n - i), "times in [0, 1]"),
        (lambda *a: carried(*a, when=lambda i, n: 999 * (1 - i / n)), "times in [0, 1]"),
        (lambda *a: carried(*a, when=lambda i, n: (1 - i / n) ** 2), "are asked at t ="),
        (lambda *a: carried(*a, when=lambda i, n: torch.full((5,), 1 - i / n)), "one number"),
        (lambda *a: carried(*a, asks=2), "Euler's method asks once a step"),
        (lambda *a: carried(*a, extra=1), "asks once a step"),
        (lambda *a: carried(*a, first=True), "asked at x1 in every step"),
        (lambda *a: carried(*a, first="both"), "asked at x1 in every step"),
        (lambda *a: carried(lambda x, t: a[0](x + 0.1, t), *a[1:]), "another place"),
        (lambda *a: carried(*a, number=4), "make 4 states; yours are 5"),
        (lambda *a: carried(*a, last=1), "Does the list begin with x1"),
        (lambda *a: carried(*a, keep=lambda x: x[1:]), "Does the list begin with x1"),
        (lambda *a: carried(*a, keep=lambda x: x[-1]), "one tensor"),
        (lambda *a: carried(*a, keep=torch.stack), "one tensor"),
        (lambda *a: carried(*a, keep=tuple), "Return a list"),
        (lambda *a: carried(*a, keep=lambda x: x[::-1]), "wrong way round"),
        (lambda *a: carried(*a, keep=lambda x: [0 * x[0], *x[1:]]), "not x1 as it was given"),
        (lambda *a: carried(*a, keep=lambda x: [y.float() for y in x]), "keep it"),
        (in_place, "one and the same tensor"), (lambda *a: in_place(*a, clone=True), "one and the"),
        (lambda *a: in_place(*a, copy=True), "not x1 as it was given. And: your function changed"),
        (lambda v, x, n: carried(v, x.add_(1), n), "not x1"),
        (lambda *a: again(*a), "asked 8 times"),
    ],
    "heun": [
        (lambda *a: carried(*a), "One question a step is Euler's"),
        (lambda *a: again(*a, last=False), "there is a velocity at t = 0 too"),
        (lambda *a: again(*a, reuse=True), "yours asked 5 times"),
        (lambda *a: again(*a, when=lambda i, n: 1 - i / n), "at its beginning again"),
        (lambda *a: again(*a, when=lambda i, n: 1 - (i + 0.5) / n), "in its middle"),
        (lambda *a: again(*a, when=lambda i, n: 1 - (i + 2) / n), "one step later"),
        (lambda *a: again(*a, when=lambda i, n: 1 - (i - 1) / n), "a smaller t"),
        (lambda *a: again(*a, when=lambda i, n: 0.0), "second questions are asked at"),
        (lambda *a: again(*a, first=0.75), "at the end of each step"),
        (lambda *a: again(*a, to=lambda x, v, n: x), "again where you stand"),
        (lambda *a: again(*a, to=lambda x, v, n: x + v / n), "you added"),
        (lambda *a: again(*a, to=lambda x, v, n: x - v), "you went all of v"),
        (lambda *a: again(*a, to=lambda x, v, n: x - v / n / 2), "you went half of it"),
        (lambda *a: again(*a, to=lambda x, v, n: a[1] if x is not a[1] else x - v / n), "at x1."),
        (lambda *a: again(*a, to=lambda x, v, n: v), "was not asked where"),
        (lambda *a: again(*a, mean=lambda v, w: v + w), "either the ½ is missing"),
        (lambda *a: again(*a, go=lambda x, d, n, v, w: x - v / n - w / n), "either the ½"),
        (lambda *a: again(*a, mean=lambda v, w: v), "second velocity is not used"),
        (lambda *a: again(*a, mean=lambda v, w: w), "the second alone"),
        (lambda *a: again(*a, go=lambda x, d, n, v, w: x - v / n - d / n), "Begin again"),
        (lambda *a: again(*a, go=lambda x, d, n, v, w: x - v / n - w / n / 2), "halved the second"),
        (lambda *a: again(*a, go=lambda x, d, n, v, w: (x + x - v / n) / 2), "the two places"),
        (lambda *a: again(*a, mean=lambda v, w: (v - w) / 2), "the difference"),
        (lambda *a: again(*a, mean=lambda v, w: v + w / 2), "halved the second"),
        (lambda *a: again(*a, mean=lambda v, w: v / 2 + w), "halved the first"),
        (lambda *a: again(*a, go=lambda x, d, n, v, w: x - (v + w / 2 / n)), "Brackets: all of"),
        (lambda *a: again(*a, mean=lambda v, w: v * w), "you multiplied them"),
        (lambda *a: again(*a, mean=lambda v, w: (v + w) / 4), "there twice"),
        (lambda *a: again(*a, go=lambda x, d, n, v, w: x + d / n), "You added"),
        (lambda *a: again(*a, go=lambda x, d, n, v, w: x - d), "the division is missing"),
        (lambda *a: again(*a, go=lambda x, d, n, v, w: -d / n), "x is missing"),
        (lambda *a: again(*a, go=lambda x, d, n, v, w: a[1] - d / n), "yours begin at x1"),
        (lambda *a: again(*a, start=True), "asked at x1 in every step"),
        (lambda *a: again(*a, keep=lambda x: x[-1]), "one tensor"),
        (lambda *a: again(*a, keep=lambda x: x[:-1]), "Does the list begin with x1"),
        (lambda *a: again(*a, keep=lambda x: [*x, x[-1].clone()]), "yours are 6"),
        (lambda *a: again(*a, keep=lambda x: [y.float() for y in x]), "keep it"),
        (lambda v, x, n: again(v, x.mul_(2), n), "not x1 as it was given"),
    ],
}
WRONG |= test_checks_x2.WRONG | test_checks_pictures_repair.WRONG
WRONG |= test_checks_pictures_style.WRONG | test_checks_pictures_pairs.WRONG
WRONG |= test_checks_x4.WRONG
ALL = [name for names in checks.exercises().values() for name in names]


@functools.cache
def solutions():
    """The functions of the chapters' solution cells, run in one namespace as the chapters would."""
    found = {}
    for stem in build_notebooks.stems():
        for cell in build_notebooks.editions(stem)[0].cells:
            if cell.metadata.get("nbgrader", {}).get("solution"):
                space = {"torch": torch, "F": F, "math": math, "ddpm": ddpm, "gan": gan, "vae": vae}
                space |= found  # an answer may call earlier ones
                exec(cell.source, space)
                name = cell.metadata["nbgrader"]["grade_id"]
                found[name] = space[name]
    return found


def test_the_table_of_chapters_is_what_the_modules_hold():
    folder = Path(checks.__file__).parent
    assert sorted(chapters.CHAPTERS.values()) == sorted(p.stem for p in folder.glob("*[0-9]_*.py"))
    for chapter, stem in chapters.CHAPTERS.items():
        assert chapter[:2] == stem.removeprefix("ch")[:2]
        module = importlib.import_module(f"minigen.checks.{stem}")
        held = [n.removeprefix("check_") for n in vars(module) if n.startswith("check_")]
        assert checks.exercises()[chapter] == held and held


LOADED = """
import sys
from minigen import checks, progress
progress()
lessons = ("gan", "vae", "vqvae", "ivqvae", "diffusion", "ddpm", "unet", "ddim", "fftd", "metrics")
assert not [n for n in lessons if f"minigen.{n}" in sys.modules], "for the board"
def g_loss(x):
    raise NotImplementedError
checks.check(g_loss)
assert "minigen.gan" in sys.modules and "minigen.vqvae" not in sys.modules, "for chapter 1"
print("fine")
"""


def test_a_lesson_is_imported_when_its_exercise_is_checked():
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True)
    assert done.stdout.endswith("g_loss: not attempted yet.\nfine\n"), done.stderr


def test_names_are_unique_and_every_exercise_is_in_a_chapter_and_in_this_table():
    assert len(set(ALL)) == len(ALL)
    assert set(solutions()) == set(ALL) == set(WRONG)


def test_every_exercise_lists_eight_mistakes():
    assert not {name: len(mistakes) for name, mistakes in WRONG.items() if len(mistakes) < 8}


@pytest.mark.parametrize("name", ALL)
def test_the_solution_passes(name, capsys):
    for _ in range(3):  # the checks draw random inputs
        checks.check(solutions()[name])
        assert capsys.readouterr().out == f"{name}: passed.\n"


MISTAKES = [(name, i) for name, mistakes in WRONG.items() for i in range(len(mistakes))]


@pytest.mark.parametrize(("name", "i"), MISTAKES)
def test_a_mistake_is_named(name, i, capsys):
    fn, words = WRONG[name][i]
    said = sentence(name, fn, capsys)
    assert said.startswith(f"{name}: not yet. ") and words in said


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("junk", [None, 0.0, "x", torch.zeros(3), torch.tensor(float("nan")), []])
def test_no_constant_passes(name, junk, capsys):
    assert "not yet" in sentence(name, lambda *a: junk, capsys)


def in_the_mean(model, d, x, g, clip):
    """The same by the exercises' formulas, t in one row for all, no noise drawn at the end."""
    for t in reversed(range(d.T)):
        at = torch.tensor([t])
        out = model(x, at).detach()
        x0 = d.views(out, x, at, model.prediction or "eps")[0]
        x0 = x0.clamp(-1, 1) if clip else x0
        a, p, b = d.alpha_bar[t].float(), d.alpha_bar_prev[t].float(), d.betas[t].float()
        x = posterior(x0, x, b, a, p)
        if t:
            x = x + ((1 - p) / (1 - a) * b).sqrt() * torch.randn(x.shape, generator=g)
    return x


@pytest.mark.parametrize(("name", "fn"), [
    ("d_loss", lambda r, f: F.binary_cross_entropy_with_logits(r, torch.ones_like(r))
        + F.binary_cross_entropy_with_logits(f, torch.zeros_like(f))),
    ("d_loss", lambda r, f: -F.logsigmoid(r).mean() - F.logsigmoid(-f).mean()),
    ("hinge_d_loss", lambda r, f: ((1 - r).clamp(min=0).mean() + (1 + f).clamp(min=0).mean()) / 2),
    ("discriminator_step", lambda *a: step(*a)),
    ("gan_loop", lambda *a: trained(*a)),
    ("gan_loop", lambda *a: trained(*a, fresh=True)),
    ("g_loss", lambda f: -F.logsigmoid(f).mean()),
    ("modes_covered", lambda p, c, r: int((torch.cdist(c, p) < r).any(1).sum())),
    ("modes_covered", lambda p, c, r: ((c[:, None] - p).square().sum(2) < r**2).any(1).sum()),
    ("with_label", lambda x, y, k: torch.cat(
        [x, (y[:, None] == torch.arange(k)).float()[..., None, None].expand(-1, -1, 4, 5)], 1)),
    ("modes_covered", lambda p, c, r: (torch.cdist(c, p).min(1).values < r).numpy().sum()),
    ("modes_covered", lambda p, c, r: (torch.cdist(c, p).min(1).values < r).sum()),
    ("frechet_1d", lambda a, v, b, w: np.float32((a - b) ** 2 + (v**0.5 - w**0.5) ** 2)),
    ("to_unit_range", lambda b: b / 127.5 - 1),
    ("mean_face", lambda x: x.sum(0) / len(x)),
    ("gaussian_kl", lambda m, v: -0.5 * (1 + v - m**2 - v.exp()).sum(-1)),
    ("reparameterised", lambda m, v, e: torch.addcmul(m, v.exp().sqrt(), e)),
    ("negative_elbo",
     lambda x, y, m, v, b:
         (0.5 * F.mse_loss(x, y, reduction="sum") + b * kl_terms(m, v).sum()) / len(x)),
    ("elbo_step", elbo),
    ("elbo_step", lambda model, o, x, b, e: [torch.tensor(k) for k in elbo(model, o, x, b, e)]),
    ("count_active", lambda m, t=0.01: (m.var(0) > t).sum()),
    ("count_active", lambda m, t=0.01: int((m.var(0, unbiased=False) > t).sum())),
    ("best_guess", lambda x, p: torch.einsum("n,nchw->chw", p, x)),
    ("nearest_index", lambda z, c: torch.cdist(z, c).argmin(-1)),
    ("nearest_index", lambda z, c: (z @ c.T - 0.5 * (c * c).sum(1)).argmax(1)),
    ("straight_through", lambda z, q: q.detach() + z - z.detach()),
    ("quantize", lambda z, c, b: quantized(z, c, b)),
    ("ema_update", lambda *a: list(averages(*a))),
    ("draw_codes", lambda *a: told(*a)),
    ("draw_codes", lambda *a: told(*a, soft=torch.exp)),
    ("draw_codes", lambda *a: told(*a, pick=lambda p, g: (
        p.log() - torch.empty_like(p).exponential_(generator=g).log()).argmax(1))),
    ("vq_loss",
     lambda z, e, b: (z.detach() - e).pow(2).mean() + b * (e.detach() - z).pow(2).mean()),
    ("mask", lambda s, k: (torch.arange(s * s).view(s, s) < s * s // 2 + (k == "B")).float()),
    ("bits", lambda x, c: F.cross_entropy(x, c, reduction="none").sum((1, 2)).mean() / math.log(2)),
    ("gaussian_draw", lambda m, u, v, e: m + (u @ (e * v.sqrt()).T).T),
    ("eigenfaces_of", lambda x: (torch.linalg.svd(x, full_matrices=False).Vh.T,
                                 torch.linalg.svdvals(x) ** 2 / len(x))),
    ("eigenfaces_of", lambda x: eigen(x - x.mean(0))),
    ("new_faces", mixed),
    ("new_faces", halves),
    ("frechet_1d", lambda a, v, b, w: (a - b) ** 2 + v + w - 2 * (v * w) ** 0.5),
    ("upsample_nearest", lambda x: F.interpolate(x, scale_factor=2, mode="nearest")),
    ("attention_weights", lambda q, k: F.softmax(torch.einsum("bic,bjc->bij", q, k)
                                                 * q.shape[-1] ** -0.5, 2)),
    ("attending_block", attending),
    ("best_guess_l1", voted),
    ("feature_distance",
     lambda f, g: far(f, g, lambda x: x / (x.square().sum(1, True) + 1e-20) ** 0.5)),
    ("total_loss", lambda a, p, g, v, d, n, s: sum([a, p, v - d * v] + [d * g] * (n >= s))),
    ("balance", ivqvae.adaptive_weight),
    ("balance", lambda a, b, w: lengths(a, b, w).item()),
    ("both_steps", both),
    ("alpha_bar", lambda b: torch.exp(torch.log1p(-b).cumsum(0))),
    ("training_step", lambda *a: learned(*a, power=2)),
    ("ancestral_sample", lambda *a: drawn(*a).clone()),
    ("ancestral_sample", in_the_mean),
    ("ideal_x0",
     lambda x, d, a:
         (-((x[:, None] - a**0.5 * d[None]) ** 2).sum(-1) / 2 / (1 - a)).softmax(1) @ d),
    ("ddim_move",
     lambda x, e, a, p: (p / a) ** 0.5 * x + ((1 - p) ** 0.5 - (p * (1 - a) / a) ** 0.5) * e),
    ("trailing", lambda T, n: [T - 1 - i * (T // n) for i in range(n)]),
    ("ddim_loop", lambda g, ab, x, t, e, d: walked(lambda x, t: g(x, torch.tensor(t)), ab.double(),
                                                   x, t, e, d)),
    ("middle_guess", lambda x, b, l0, l1, l2: torch.lerp(b, x, ((l1 + l2) / 2 - l0) / (l1 - l0))),
    ("two_at_once", lambda u, a, s: (1 - sum(s)) * u + torch.tensordot(torch.tensor(s),
                                                                       torch.stack(a), 1)),
    ("guided_eps", lambda c, u, s: s * c + (1 - s) * u),
    ("in_parts", divided_at_the_end),
    ("in_parts", by_hand),
    ("in_parts", lambda *a: torch.tensor(in_pieces(*a))),
    ("keep_known", lambda x, k, m, p, n: m * (p**0.5 * k + (1 - p) ** 0.5 * n) + (1 - m) * x),
    ("log_of_density", lambda z, d: torch.distributions.Normal(0, 1).log_prob(z).sum(1) + d),
    ("log_of_density", lambda z, d: d - z.square().sum(1) / 2 - z.shape[1] * LOG / 2),
    ("couple", in_words), ("couple", lambda *a: list(coupled(*a))),
    ("couple", lambda *a: of_raw(*a, lambda s, t, k: (s * k).sum(-1))),
    ("uncouple", lambda z, m, f: (
        m * z + (1 - m) * (z - f(z * m)[1]) / f(m * z)[0].exp())),
    ("bits_of", lambda p, d, k: (-p / d + math.log(k)) / math.log(2)),
    ("bits_of", lambda p, d, k: -(p * math.log2(math.e) / d - math.log2(k))),
    ("flow_loss", matched),
    ("flow_loss", lambda f, x, e, t: F.mse_loss(f(torch.lerp(x, e, t[:, None]), t * 999.0), e - x)),
    ("flow_loss", lambda f, x, e, t: matched(lambda p, s: -f(p, s), x, e, t,
                                             wanted=lambda x, e, p: x - e)),
    ("euler", carried), ("euler", by_times), ("euler", lambda *a: by_times(*a, number=float)),
    ("heun", again), ("heun", lambda *a: by_times(*a, second=True)),
    ("heun", lambda *a: again(*a, go=lambda x, d, n, v, w: (x + (x - v / n) - w / n) / 2)),
    *test_checks_x2.RIGHT, *test_checks_pictures_repair.RIGHT, *test_checks_pictures_pairs.RIGHT,
    *((name, fn) for name, fns in test_checks_pictures_style.RIGHT.items() for fn in fns),
    *test_checks_x4.RIGHT,
])
def test_other_right_answers_pass_too(name, fn, capsys):
    assert sentence(name, fn, capsys) == f"{name}: passed."


def test_an_error_of_torch_is_not_an_empty_answer(capsys):
    said = sentence("to_unit_range", lambda b: torch.lerp(b, b, 0.5), capsys)
    assert "raised NotImplementedError" in said


def test_an_empty_answer_is_not_attempted(capsys):
    def d_loss(*args):
        raise NotImplementedError

    checks.check(d_loss)
    assert capsys.readouterr().out == "d_loss: not attempted yet.\n"


def test_an_empty_helper_is_named(capsys):
    def straight_through(z_e, z_q):
        raise NotImplementedError

    def quantize(z, codebook, beta=0.25):
        return quantized(z, codebook, beta, through=straight_through)

    checks.check(quantize)
    assert capsys.readouterr().out == (
        "quantize: not yet. It calls straight_through, which is not attempted yet.\n")


def test_an_error_is_told_with_its_line(capsys):
    def d_loss(r, f):
        x = 1
        return x / 0

    checks.check(d_loss)
    said = capsys.readouterr().out
    assert "raised ZeroDivisionError: division by zero (line 3 of your function)" in said


@pytest.mark.parametrize(("answer", "words"), [
    (3, "without calling it"),
    (lambda: 3, "no exercise called <lambda>"),
    (gan.discriminator_loss, "no exercise called"),
])
def test_what_is_no_answer(answer, words, capsys):
    checks.check(answer)
    assert words in capsys.readouterr().out


def test_the_packages_own_function_is_no_answer(capsys):
    answer = named("d_loss", gan.discriminator_loss)
    answer.__module__ = "minigen.gan"
    checks.check(answer)
    assert "minigen's own function" in capsys.readouterr().out


def test_what_follows_an_exercise_works_with_the_learners_function(capsys):
    mine = solutions()["noised"]
    assert checks.yours(mine) is mine
    assert capsys.readouterr().out == "noised: yours is used from here on.\n"
    other = checks.yours(named("noised", lambda *a: a[0]))
    assert "the course's is used from here on" in capsys.readouterr().out
    args = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4), torch.rand(2)
    assert torch.equal(other(*args), mine(*args))

    def stub(*args):
        raise NotImplementedError

    assert checks.yours(named("noised", stub)) is other
    with pytest.raises(ValueError, match="no exercise called"):
        checks.yours(named("noise", stub))


STANDING_IN = {"00 start here": "start_answers", "01 GAN": "gan_answers",
               "02 VAE": "vae_answers", "03 VQ-VAE": "vqvae_answers",
               "04 IVQ-VAE": "ivqvae_answers", "05 DDPM": "ddpm_answers",
               "x1 flows": "flows_answers", "x2 sentences": "text_answers",
               "x3 pictures": "pictures_answers", "x4 personal": "personal_answers"}


@pytest.mark.parametrize(("name", "module"), [
    (name, module) for chapter, module in STANDING_IN.items()
    for name in chapters.exercises()[chapter]])
def test_what_stands_in_passes_its_own_check(name, module, capsys):
    answers = importlib.import_module(f"minigen.checks.{module}")
    assert sentence(name, getattr(answers, name), capsys) == f"{name}: passed."


def test_strict_mode_raises(monkeypatch, capsys):
    def stub(*args):
        raise NotImplementedError

    stub.__name__ = "d_loss"
    monkeypatch.setenv("MINIGEN_STRICT", "1")
    with pytest.raises(checks.CheckFailed, match="Real and fake are swapped"):
        checks.check(named("d_loss", lambda r, f: gan.discriminator_loss(f, r)))
    with pytest.raises(checks.CheckFailed, match="not attempted"):
        checks.check(stub)
    checks.check(solutions()["d_loss"])
    assert "passed" in capsys.readouterr().out


def test_checks_leave_the_random_state_alone():
    torch.manual_seed(7)
    checks.check(solutions()["d_loss"])
    after = torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(after, torch.rand(3))


def test_the_board(tmp_path, capsys):
    checks.progress()
    assert "0 of 6" in capsys.readouterr().out
    checks.check(solutions()["mean_face"])
    checks.check(solutions()["mean_face"])
    checks.progress()
    out = capsys.readouterr().out
    assert "1 of 6" in out and "passed  mean_face" in out
    kept = (tmp_path / "home" / "progress.json").read_text(encoding="utf-8")
    assert json.loads(kept) == {"00 start here": ["mean_face"]}


def test_progress_that_cannot_be_kept_or_read_is_said(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MINIGEN_HOME", str(tmp_path / "file"))
    assert "could not be kept" in board.record("00 start here", "mean_face")
    monkeypatch.setenv("MINIGEN_HOME", str(tmp_path))
    (tmp_path / "progress.json").write_text("{torn")
    checks.progress()
    assert "cannot be read" in capsys.readouterr().out


def test_compare_names_factor_and_shape():
    answers = {"2 times": [2.0, 4.0], "sign": [-1.0, -2.0], "shape": [0.0] * 3}
    for words, got in answers.items():
        with pytest.raises(compare.Wrong, match=words):
            compare.expect(torch.tensor(got), torch.tensor([1.0, 2.0]), "this")


def test_what_stands_in_on_flows_is_what_the_package_has():
    torch.manual_seed(3)
    layer = flows.MaskedCoupling([0, 1, 1, 0, 1]).double()
    torch.nn.init.normal_(layer.network[-1].weight, std=0.2)
    x, mask = torch.randn(6, 5).double(), layer.mask

    def network(kept):
        s, t = layer.network(kept).chunk(2, dim=1)
        return flows.bounded(s), t

    z, logdet = flows_answers.couple(x, mask, network)
    for mine, course in zip((z, logdet), layer(x), strict=True):
        assert torch.allclose(mine, course, rtol=1e-12)
    jacobian = torch.func.jacrev(lambda v: flows_answers.couple(v[None], mask, network)[0][0])
    for row, told in zip(x, logdet.detach(), strict=True):
        assert float(torch.linalg.slogdet(jacobian(row).detach())[1]) == pytest.approx(float(told))
    assert torch.allclose(flows_answers.uncouple(z, mask, network), x, rtol=1e-12)
    wanted = flows.log_normal(z) + logdet
    assert torch.allclose(flows_answers.log_of_density(z, logdet), wanted, rtol=1e-12)
    assert torch.allclose(flows_answers.bits_of(wanted, 5, 32), flows.bits(wanted, 5, 32))


def test_what_stands_in_on_flow_matching_is_what_the_package_has():
    class Model(torch.nn.Module):
        prediction = "velocity"

        def forward(self, x, t, y=None):
            return torch.sin(2 * x) + t.view(-1, 1) / 999

    torch.manual_seed(3)
    x0, eps, t = *torch.randn(2, 6, 3).double(), torch.rand(6).double()
    model = Model()
    loss = flow_matching.flow_matching_loss(model, x0, eps, t)
    assert float(flows_answers.flow_loss(model, x0, eps, t)) == pytest.approx(float(loss))

    def velocity(x, t):
        return model(x, torch.tensor([999 * t]))

    for steps in (1, 3, 8):
        for name in ("euler", "heun"):
            course = getattr(flow_matching, f"{name}_sample")(model, eps, steps=steps)
            mine = getattr(flows_answers, name)(velocity, eps, steps)
            assert mine[0] is eps and len(mine) == steps + 1
            for x, state in zip(mine[1:], course, strict=True):
                assert torch.allclose(x, state.x, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", checks.exercises()["x1 flows"])
def test_no_two_mistakes_of_an_excursions_check_give_one_value(name, monkeypatch):
    """So what a message says is what was done; a value of two mistakes has one message for both."""
    seen = []

    def look(got, want, given, mistakes=None, *rest):
        wrong = [(words, v) for words, v in (mistakes or {}).items()
                 if v.shape != want.shape or not torch.allclose(v.double(), want.double())]
        for i, (words, v) in enumerate(wrong):
            seen.append(words)
            alike = [other for other, w in wrong[:i] if v.shape == w.shape
                     and torch.allclose(v.double(), w.double(), rtol=1e-4, atol=1e-4)]
            assert not alike, (given, words, alike)
        compare.expect(got, want, given, mistakes, *rest)

    for module in ("x1_flows", "flows_coupling", "flows_paths", "flows_steps"):
        monkeypatch.setattr(importlib.import_module(f"minigen.checks.{module}"), "expect", look)
    for seed in range(5):
        torch.manual_seed(seed)
        passed, said = checks.examine(solutions()[name])
        assert passed, said
    assert len(set(seen)) >= 8
