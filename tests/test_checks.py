"""Every exercise: its solution passes, and every mistake listed fails with words that name it."""

import copy
import functools
import importlib
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

from minigen import checks, ddpm, gan, ivqvae, pixelcnn, vae, vqvae
from minigen.checks import board, chapters, compare


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


def step(g, d, optimiser, x, z, detach=True, zero=True, swap=False, move=True):
    fake = g(z).detach() if detach else g(z)
    loss = gan.discriminator_loss(d(fake), d(x)) if swap else gan.discriminator_loss(d(x), d(fake))
    if zero:
        optimiser.zero_grad()
    loss.backward()
    if move:
        optimiser.step()
    return loss


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


def exp_entropy(p):
    return torch.exp(-(p * p.log()).sum())


def half_way(x, p, order):
    """The image at which the probabilities, in this order, reach one half."""
    return x[order[p[order].cumsum(0).ge(0.5).int().argmax()]]


def noised(x, e, a):
    return a.sqrt() * x + (1 - a).sqrt() * e


def by_channel(z, m, s):
    return (z - m[:, None, None]) / s[:, None, None]


def averages(count, total, z, i, g, old=None, new=None, mean=False, divide=None):
    old, new = g if old is None else old, 1 - g if new is None else new
    n, s = vqvae.count_and_sum(z, i, len(count))
    first = old * count + new * n
    second = old * total + new * (s / n[:, None].clamp_min(1) if mean else s)
    return first, second, second / {None: first, "old": count}[divide][:, None]


WRONG = {
    "to_unit_range": [
        (lambda b: b.float() / 255, "lies in [0, 1]"),
        (lambda b: b.float() / 127.5, "shift by -1"),
        (lambda b: b.float() / 128 - 1, "127.5"),
        (lambda b: (b * 2).float() / 255 - 1, "wrap around"),
        (lambda b: (b.float() / 127.5 - 1).to(torch.uint8), "type is torch.uint8"),
        (lambda b: (b / 127.5 - 1).double(), "type is torch.float64; torch.float32 is wanted"),
        (lambda b: None, "returned None"),
    ],
    "mean_face": [
        (lambda x: x.mean(1), "along the first axis"),
        (lambda x: x.sum(0), "divide by how many"),
        (lambda x: x.mean(0, keepdim=True), "kept the batch axis"),
        (lambda x: x.mean((0, 2, 3)), "keep the pixels apart"),
        (lambda x: x.mean(), "one number"),
        (lambda x: x.mean(0).permute(0, 2, 1), "axes swapped"),
        (lambda x: x.median(0).values, "is wanted"),
    ],
    "gaussian_draw": [
        (lambda m, u, v, e: m + (e * v) @ u.T, "square root"),
        (lambda m, u, v, e: (e * v.sqrt()) @ u.T, "mean is missing"),
        (lambda m, u, v, e: m + e @ u.T, "not scaled"),
        (lambda m, u, v, e: (e * v.sqrt()) @ u.T - m, "subtracted"),
        (lambda m, u, v, e: m + (e * v.sqrt()) @ u, "raised RuntimeError"),
    ],
    "frechet_1d": [
        (lambda a, v, b, w: (a - b) ** 2 + (v - w) ** 2, "standard deviations"),
        (lambda a, v, b, w: abs(a - b) + abs(v**0.5 - w**0.5), "squares are missing"),
        (lambda a, v, b, w: (v**0.5 - w**0.5) ** 2, "means are missing"),
        (lambda a, v, b, w: (a - b) ** 2, "spread is missing"),
        (lambda a, v, b, w: ((a - b) ** 2 + (v**0.5 - w**0.5) ** 2) ** 0.5, "left squared"),
        (lambda a, v, b, w: "0", "returned a str"),
    ],
    "best_discriminator": [
        (lambda p, q: q / (p + q), "probability of *real*"),
        (lambda p, q: p / q, "needs the sum"),
        (lambda p, q: (p / q).log(), "logit"),
        (lambda p, q: p, "not its share"),
        (lambda p, q: (p / (p + q)).mean(), "shape"),
    ],
    "d_loss": [
        (lambda r, f: gan.discriminator_loss(f, r), "swapped"),
        (lambda r, f: F.softplus(-r).sum() + F.softplus(f).sum(), "take the mean"),
        (lambda r, f: F.softplus(-r).mean(), "fake half"),
        (lambda r, f: F.softplus(f).mean(), "real half"),
        (lambda r, f: gan.discriminator_loss(r, f) / 2, "adds them"),
        (lambda r, f: F.softplus(-r).mean() + F.softplus(-f).mean(), "softplus of +logit"),
        (lambda r, f: -gan.discriminator_loss(r, f), "sign"),
        (lambda r, f: -torch.log(torch.sigmoid(r)).mean() - torch.log(1 - torch.sigmoid(f)).mean(),
         "not finite"),
        (lambda r, f: F.softplus(-r) + F.softplus(f), "Is a mean missing?"),
        (lambda r, f: F.binary_cross_entropy(r.sigmoid(), torch.ones_like(r))
            + F.binary_cross_entropy(f.sigmoid(), torch.zeros_like(f)), "stops at 200"),
    ],
    "g_loss": [
        (lambda f: gan.generator_loss(f, "minimax"), "minimax"),
        (lambda f: F.softplus(f).mean(), "to be caught"),
        (lambda f: -f.mean(), "hinge"),
        (lambda f: F.softplus(-f).sum(), "take the mean"),
        (lambda f: -torch.log(torch.sigmoid(f)).mean(), "not finite"),
        (lambda f: F.softplus(-f).mean().detach(), "raised RuntimeError"),
        (lambda f: F.softplus(-f).mean().item(), "needs its gradient"),
    ],
    "hinge_d_loss": [
        (lambda r, f: 0.5 * ((1 - r).mean() + (1 + f).mean()), "no lower bound"),
        (lambda r, f: F.relu(1 - r).mean() + F.relu(1 + f).mean(), "½ is missing"),
        (lambda r, f: 0.5 * (F.relu(1 + r).mean() + F.relu(1 - f).mean()), "signs inside"),
        (lambda r, f: 0.5 * (F.relu(1 - r).mean() + F.relu(1 - f).mean()), "same sign"),
        (lambda r, f: 0.5 * (F.relu(-r).mean() + F.relu(f).mean()), "margin"),
    ],
    "modes_covered": [
        (lambda p, c, r: int((torch.cdist(p, c).min(1).values < r).sum()), "count the modes"),
        (lambda p, c, r: len(c), "Every centre"),
        (lambda p, c, r: len(torch.cdist(p, c).argmin(1).unique()), "use the radius"),
        (lambda p, c, r: (torch.cdist(c, p).min(1).values < r).float().mean(), "share"),
        (lambda p, c, r: torch.cdist(c, p).min(1).values < r, "one number is wanted"),
        (lambda p, c, r: int((torch.cdist(c, p).min(1).values < 0.3).sum()), "radius 0.9"),
    ],
    "discriminator_step": [
        (lambda *a: step(*a, detach=False), "detach"),
        (lambda *a: step(*a, zero=False), "zero_grad"),
        (lambda *a: step(*a, swap=True), "swapped"),
        (lambda *a: step(*a, move=False), "once each"),
        (lambda *a: step(*a) * 0.5, "0.5 times"),
    ],
    "with_label": [
        (one_channel, "one-hot map"),
        (lambda x, y, k: torch.cat([maps(x, y, k), x], 1), "behind the image's channels"),
        (lambda x, y, k: x, "shape is (3, 2, 4, 5); (3, 6, 4, 5)"),
        (lambda x, y, k: torch.cat([x, 1 - maps(x, y, k)], 1), "is wanted"),
    ],
}
WRONG |= {
    "gaussian_kl": [
        (lambda m, v: kl_terms(m, v).mean(1), "sum them"),
        (lambda m, v: kl_terms(m, v).sum(), "summed over the batch as well"),
        (lambda m, v: kl_terms(m, v).sum(1).mean(), "averaged over the batch"),
        (lambda m, v: kl_terms(m, v).sum(0), "dim=0"),
        (lambda m, v: 2 * kl_terms(m, v).sum(1), "factor ½"),
        (lambda m, v: kl_terms(m, v), "Not summed yet"),
        (lambda m, v: 0.5 * (m**2 + (2 * v).exp() - 1 - 2 * v).sum(1), "no square"),
        (lambda m, v: 0.5 * (m**2 + v - 1 - v).sum(1), "its exponential"),
        (lambda m, v: 0.5 * (m + v.exp() - 1 - v).sum(1), "square of the mean"),
        (lambda m, v: -kl_terms(m, v).sum(1), "sign"),
    ],
    "reparameterised": [
        (lambda m, v, e: m + v.exp() * e, "multiplied by the variance"),
        (lambda m, v, e: m + v * e, "log-variance itself"),
        (lambda m, v, e: m + e, "not scaled"),
        (lambda m, v, e: (0.5 * v).exp() * e, "mean is missing"),
        (lambda m, v, e: m + e / (0.5 * v).exp(), "standardised"),
        (lambda m, v, e: (m + (0.5 * v).exp() * e).detach(), "no gradient comes back"),
        (lambda m, v, e: m + (0.5 * v.detach()).exp() * e, "reaches the log-variance"),
        (lambda m, v, e: m.detach() + (0.5 * v).exp() * e, "reaches the mean"),
        (lambda m, v, e: m + v.sqrt() * e, "has no root"),
        (lambda m, v, e: m + (0.5 * v).exp() * torch.randn_like(e), "is wanted"),
    ],
    "negative_elbo": [
        (lambda x, y, m, v, b: F.mse_loss(x, y) / 2 + b * kl_terms(m, v).sum(1).mean(),
         "averaged the squared error"),
        (lambda x, y, m, v, b: F.mse_loss(x, y) + b * kl_terms(m, v).sum(1).mean(),
         "and the ½ is missing"),
        (lambda x, y, m, v, b: (sse(x, y) + b * kl_terms(m, v).sum(1)).mean(),
         "½ of the squared error"),
        (lambda x, y, m, v, b: (b * sse(x, y) / 2 + kl_terms(m, v).sum(1)).mean(),
         "price of the rate"),
        (lambda x, y, m, v, b: (sse(x, y) / 2 + kl_terms(m, v).sum(1)).mean(), "β is missing"),
        (lambda x, y, m, v, b: (sse(x, y) / 2 - b * kl_terms(m, v).sum(1)).mean(), "subtracted"),
        (lambda x, y, m, v, b: (sse(x, y) / 2 + b * kl_terms(m, v).mean(1)).mean(),
         "over its dimensions"),
        (lambda x, y, m, v, b: (sse(x, y) / 2 + b * kl_terms(m, v).sum(1)).sum(),
         "summed over the batch"),
        (lambda x, y, m, v, b: sse(x, y) / 2 + b * kl_terms(m, v).sum(1), "Is a mean missing?"),
        (lambda x, y, m, v, b: (sse(x, y) / 2 + b * kl_terms(m, v).sum(1)).mean().item(),
         "no gradient comes back"),
        (lambda x, y, m, v, b: (sse(x, y.detach()) / 2 + b * kl_terms(m, v).sum(1)).mean(),
         "reaches the reconstruction"),
    ],
    "count_active": [
        (lambda m, t=0.01: int((m.std(0) > t).sum()), "deviation"),
        (lambda m, t=0.01: int((m.abs().mean(0) > t).sum()), "never changes"),
        (lambda m, t=0.01: m.var(0) > t, "per dimension"),
        (lambda m, t=0.01: m.var(1) > t, "along each image"),
        (lambda m, t=0.01: (m.var(0) > t).float().mean(), "share"),
        (lambda m, t=0.01: int((m.var(0) > 0.01).sum()), "threshold of 1"),
    ],
    "attribute_direction": [
        (lambda z, h: z[~h].mean(0) - z[h].mean(0), "other way"),
        (lambda z, h: z[h].sum(0) - z[~h].sum(0), "Take means"),
        (lambda z, h: z[h].mean(0), "subtract the mean of those that do not"),
        (lambda z, h: z[h].mean(0) - z.mean(0), "mean of all"),
        (lambda z, h: z[h].mean() - z[~h].mean(), "over the dimensions"),
    ],
    "best_guess": [
        (lambda x, p: x.mean(0), "plain mean"),
        (lambda x, p: x[p.argmax()], "likeliest"),
        (lambda x, p: (p[:, None, None, None] * x).mean(0), "already sum to 1"),
        (lambda x, p: p[:, None, None, None] * x, "Not summed"),
        (lambda x, p: x.median(0).values, "median"),
        (lambda x, p: (p * x).sum(0), "raised RuntimeError"),
    ],
    "nearest_index": [
        (lambda z, c: (z @ c.T).argmax(1), "long code wins"),
        (lambda z, c: torch.cdist(z, c).argmax(1), "farthest"),
        (lambda z, c: (c.square().sum(1) - z @ c.T).argmin(1), "factor 2"),
        (lambda z, c: (c.square().sum(1) + 2 * z @ c.T).argmin(1), "it is subtracted"),
        (lambda z, c: torch.cdist(z, c).argmin(0), "nearest vector of each code"),
        (lambda z, c: c.square().sum(1) - 2 * z @ c.T, "returned the distances"),
        (lambda z, c: c[torch.cdist(z, c).argmin(1)], "shape"),
        (lambda z, c: torch.cdist(z, c).argmin(1).float(), "torch.int64"),
    ],
    "straight_through": [
        (lambda z, q: q, "no gradient reaches z_e"),
        (lambda z, q: q.detach(), "No gradient comes back"),
        (lambda z, q: z, "value is that of z_e"),
        (lambda z, q: z + (q - z), "no gradient reaches z_e"),
        (lambda z, q: z + q - z.detach(), "A gradient reaches z_q"),
        (lambda z, q: q + (z - q).detach(), "value is that of z_e"),
        (lambda z, q: z.detach() + (q - z), "wrong place"),
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
        (lambda z, e, b: (1 + b) * F.mse_loss(z, e).item(), "with its graph"),
    ],
    "ema_update": [
        (lambda *a: averages(*a, old=1 - a[-1], new=a[-1]), "old one keeps the share"),
        (lambda *a: averages(*a, new=1.0), "added in full"),
        (lambda *a: averages(*a, old=0.0, new=1.0), "batch's only"),
        (lambda *a: averages(*a, mean=True), "division comes last"),
        (lambda *a: averages(*a, divide="old"), "old count"),
        (lambda *a: (*averages(*a)[:2], averages(*a)[1]), "divide it by the count"),
        (lambda *a: averages(*a)[2], "three things"),
    ],
    "code_perplexity": [
        (lambda i, k: torch.tensor(vqvae.perplexity(i, k)).log(), "exponential"),
        (lambda i, k: 1 / vqvae.perplexity(i, k), "sign"),
        (lambda i, k: 2 ** math.log(vqvae.perplexity(i, k)), "belong together"),
        (lambda i, k: float(len(i.unique())), "appear at all"),
        (lambda i, k: exp_entropy(torch.bincount(i.flatten(), minlength=k) / i.numel()), "NaN"),
    ],
    "mask": [
        (lambda s, k: pixelcnn.causal_mask(s, "A" if k == "B" else "B"), "centre"),
        (lambda s, k: pixelcnn.causal_mask(s, k).flip(0), "Upside down"),
        (lambda s, k: pixelcnn.causal_mask(s, k).flip(1), "Mirrored"),
        (lambda s, k: pixelcnn.causal_mask(s, k).T.contiguous(), "row by row"),
        (lambda s, k: torch.cat([torch.ones(s // 2, s), torch.zeros(s - s // 2, s)]),
         "middle row is missing"),
        (lambda s, k: torch.cat([torch.ones(s // 2 + 1, s), torch.zeros(s // 2, s)]),
         "whole middle row"),
        (lambda s, k: torch.ones(s, s).tril(), "is wanted"),
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
              out=True, turned=False, back=True, reads=None, first=None):
    h = (short(h) if "1" in sums else 0) + body(h) if first is None else first(h)
    seen = h if reads is None else reads
    parts = att.qkv(att.norm(seen) if norm else seen).flatten(2).mT.chunk(3, -1)
    q, k, v = (parts[i] for i in order)
    w = (q @ k.mT * q.shape[-1] ** scale).softmax(dim)
    mixed = (w.mT if turned else w) @ v
    mixed = (mixed.mT if back else mixed).reshape(h.shape)
    return (h if "2" in sums else 0) + (att.out(mixed) if out else mixed)


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
         frozen=False):
    x_hat, quantized = model(x)
    error = (x_hat - x) ** 2 if square else (x_hat - x).abs()
    l1, p, g, loss_d = error.mean(), distance(x_hat, x).mean(), torch.zeros(()), torch.zeros(())
    late = step >= start if late is None else late(step, start)

    def judges():
        seen = model(x)[0] if anew else x_hat
        loss = d_loss(judge(x), judge(seen.detach() if detach else seen))
        if clear in ("both", "judge"):
            optimisers[1].zero_grad()
        loss.backward()
        if 1 in move:
            optimisers[1].step()
        return loss

    if late and first:
        loss_d = judges()
    loss = l1 + perceptual * p + (1 - d if vq is None else vq) * quantized.loss
    if late:
        g = sign * judge(x_hat).mean()
        rec = {"both": l1 + p, "l1": l1, "none": None}[weigh]
        factor = 1 if rec is None else lengths(rec, g, weight)
        loss = loss + (d if share is None else share) * factor * g
    if clear != "judge":
        optimisers[0].zero_grad()
    if clear == "early":
        optimisers[1].zero_grad()
    loss.backward()
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
        (lambda *a: both(*a, share=0), "adversarial loss is missing"),
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
        (lambda b: b.neg_().add_(1).cumprod(0), "changed the schedule"),
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
        (lambda x, e, a: x.copy_(noised(x, e, view(a))), "changed the images"),
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
        (lambda x0, xt, b, ab, p: x0.copy_(posterior(x0, xt, b, ab, p)), "changed the x0"),
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
        (lambda x, e, a: x.sub_((1 - a).sqrt() * e).div_(a.sqrt()), "changed the xt"),
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
        (lambda *a: learned(*a, spoil=True), "changed the images"),
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
        (lambda x, d, a: x.copy_(soft(x, d, a)), "changed the places"),
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
        (lambda *a: drawn(*a, spoil=True), "changed the noise"),
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
        (lambda a, w, n, m: a.copy_(moving(a, w, n, m)), "changed the average"),
        (lambda a, w, n, m: w.copy_(moving(a, w, n, m)), "changed the new weights"),
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
         "changed the xt"),
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
        (lambda *a: walked(*a, spoil=True), "changed the noise xT"),
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
        (lambda x, b, l0, l1, l2: x.add_((x - b) / (l1 - l0) * (l2 - l1) / 2), "changed the guess"),
    ],
    "on_the_arc": [
        (lambda a, b, w: (1 - w) * a + w * b, "straight line"),
        (lambda a, b, w: arc(b, a, w), "swapped"),
        (lambda a, b, w: arc(a, b, w) * torch.sin(torch.arccos((a @ b) / (a.norm() * b.norm()))),
         "division by sin"),
        (lambda a, b, w: arc(a, b, w, angle=lambda c: c), "cosine itself"),
        (lambda a, b, w: arc(a, b, w, f=torch.cos), "sines, not"),
        (lambda a, b, w: arc(a, b, w) - 2 * second_part(a, b, w), "you subtracted"),
        (lambda a, b, w: (arc(a, b, w), b.mul_(2))[0], "changed the second noise"),
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
        (lambda c, u, s: u.add_(s * (c - u)), "changed the unconditional"),
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
         "changed the unconditional"),
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
         "changed the picture x"),
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
        (lambda z, m, s: z.sub_(m[:, None, None]).div_(s[:, None, None]), "changed the latents"),
        (lambda z, m, s: by_channel(z, m, s.clamp_(0.02)), "changed the deviation"),
        (lambda z, m, s: (z - m) / s if z.shape[-1] == 4 else by_channel(z, m, s), "last axis"),
    ],
    "patchify": [
        (lambda z, p: F.unfold(z, p, stride=p), "tokens first"),
        (lambda z, p: z.reshape(len(z), -1, z.shape[1] * p * p), "only reshaped"),
        (lambda z, p: cut(z, p, (0, 2, 4, 3, 5, 1)), "before the channel"),
        (lambda z, p: cut(z, p, (0, 4, 2, 1, 3, 5)), "down the columns"),
        (lambda z, p: cut(z, p, (0, 2, 4, 1, 5, 3)), "row and column are swapped"),
        (lambda z, p: F.unfold(z.mul_(2) / 2, p, stride=p).mT, "changed the maps"),
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
        (lambda x, b, a: normed(x, a.add_(1)[:, None] - 1, b[:, None]), "changed the scale"),
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
        (lambda q, k, v, h: heads_of(q.mul_(2), k, v, h), "changed the queries"),
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
        (lambda x, m, b: assembled(x.add_(1), m, b), "changed the tokens"),
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
        (lambda x, y: pool(x, y.neg_().neg_().mul_(2) / 2), "changed the second stream"),
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
         "changed the first norm"),
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


WRONG |= {
    "place_of": [
        (lambda s, k, b, n: divmod(stream(s, k, b, n, 1), n), "count from 1"),
        (lambda s, k, b, n: divmod((s - 1) * b, n), "inside the batch"),
        (lambda s, k, b, n: divmod(stream(s, k, b, n), n)[::-1], "swapped"),
        (lambda s, k, b, n: ((s - 1) // (n // b or 1), (s - 1) % (n // b or 1) * b + k), "no gap"),
        (lambda s, k, b, n: (stream(s, k, b, n) // n + 1, stream(s, k, b, n) % n), "from 0"),
        (lambda s, k, b, n: (stream(s, k, b, n) / n, stream(s, k, b, n) % n), "fraction"),
    ],
    "my_share": [
        (lambda x, r, w: x, "whole batch"), (lambda x, r, w: x.chunk(w)[r], "a block"),
        (lambda x, r, w: x[::w], "began at entry 0"),
        (lambda x, r, w: x[:, r::w], "second axis"), (lambda x, r, w: x[w :: max(r, 1)], "swapped"),
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
    ],
    "to_delete": [
        (lambda s, k: sorted(s)[-k:], "Those stay"),
        (lambda s, k: sorted(s)[k:], "the oldest are to go"),
        (lambda s, k: s[:-k], "any order"),
        (lambda s, k: sorted(s)[: -k - 1], "one too many"),
        (lambda s, k: sorted(s)[: -k + 1], "one too few"),
        (lambda s, k: sorted(s)[:-k][::-1], "Oldest first"), (sort_in_place, "changed the list"),
    ],
    "kid": [
        (lambda a, b: mmd(a, b, diagonal=True), "diagonal out"),
        (lambda a, b: mmd(a, b, cross=1), "counts twice"),
        (lambda a, b: mmd(a, b, divide=1), "division by D"),
        (lambda a, b: mmd(a, b, plus=0), "+ 1"),
        (lambda a, b: mmd(a, b, power=2), "third power"),
        (lambda a, b: mmd(a, b, pairs=False), "not n²"),
    ],
    "image_bits": [
        (lambda t, c: t * math.log(c), "nats"), (lambda t, c: math.log2(c), "one token"),
        (lambda t, c: math.log2(t * c), "sequences"),
        (lambda t, c: c * math.log2(t), "swapped"), (lambda t, c: t * c, "not its logarithm"),
    ],
}
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
    assert sorted(chapters.CHAPTERS.values()) == sorted(p.stem for p in folder.glob("ch[0-9]*.py"))
    for chapter, stem in chapters.CHAPTERS.items():
        assert chapter[:2] == stem[2:4]
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
    assert all(len(mistakes) >= 4 for mistakes in WRONG.values())


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


def in_place(f):
    f *= -1
    return F.softplus(f).mean()


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
    ("discriminator_step", lambda *a: step(*a).item()),
    ("d_loss", lambda r, f: gan.discriminator_loss(r, f).item()),
    ("d_loss", lambda r, f: F.binary_cross_entropy_with_logits(r, torch.ones_like(r))
        + F.binary_cross_entropy_with_logits(f, torch.zeros_like(f))),
    ("hinge_d_loss", lambda r, f: gan.discriminator_loss(r, f, "hinge").item()),
    ("g_loss", in_place),
    ("g_loss", lambda f: -F.logsigmoid(f).mean()),
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
    ("count_active", lambda m, t=0.01: (m.var(0) > t).sum()),
    ("count_active", lambda m, t=0.01: int((m.var(0, unbiased=False) > t).sum())),
    ("best_guess", lambda x, p: torch.einsum("n,nchw->chw", p, x)),
    ("nearest_index", lambda z, c: torch.cdist(z, c).argmin(-1)),
    ("nearest_index", lambda z, c: (z[:, None] - c[None]).square().sum(-1).argmin(1)),
    ("straight_through", lambda z, q: q.detach() + z - z.detach()),
    ("vq_loss",
     lambda z, e, b: (z.detach() - e).pow(2).mean() + b * (e.detach() - z).pow(2).mean()),
    ("code_perplexity", vqvae.perplexity),
    ("mask", lambda s, k: (torch.arange(s * s).view(s, s) < s * s // 2 + (k == "B")).float()),
    ("bits", lambda x, c: F.cross_entropy(x, c, reduction="none").sum((1, 2)).mean() / math.log(2)),
    ("gaussian_draw", lambda m, u, v, e: m + (u @ (e * v.sqrt()).T).T),
    ("upsample_nearest", lambda x: F.interpolate(x, scale_factor=2, mode="nearest")),
    ("attention_weights", lambda q, k: F.softmax(torch.einsum("bic,bjc->bij", q, k)
                                                 * q.shape[-1] ** -0.5, 2)),
    ("attending_block", lambda h, b, s, a: a(s(h) + b(h))),
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
    ("keep_known", lambda x, k, m, p, n: m * (p**0.5 * k + (1 - p) ** 0.5 * n) + (1 - m) * x),
])
def test_other_right_answers_pass_too(name, fn, capsys):
    assert sentence(name, fn, capsys) == f"{name}: passed."


def test_an_error_of_torch_is_not_an_empty_answer(capsys):
    said = sentence("to_unit_range", lambda b: torch.lerp(b, b, 0.5), capsys)
    assert "raised NotImplementedError" in said


def test_an_empty_answer_is_not_attempted(capsys):
    def stub(*args):
        raise NotImplementedError

    assert sentence("d_loss", stub, capsys) == "d_loss: not attempted yet."


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


@pytest.mark.parametrize("name", chapters.exercises()["05 DDPM"])
def test_what_stands_in_passes_its_own_check(name, capsys):
    answers = importlib.import_module("minigen.checks.ddpm_answers")
    assert sentence(name, getattr(answers, name), capsys) == f"{name}: passed."


@pytest.mark.parametrize("name", chapters.exercises()["04 IVQ-VAE"])
def test_what_stands_in_in_chapter_4_passes_its_own_check(name, capsys):
    answers = importlib.import_module("minigen.checks.ivqvae_answers")
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
    assert "0 of 4" in capsys.readouterr().out
    checks.check(solutions()["mean_face"])
    checks.check(solutions()["mean_face"])
    checks.progress()
    out = capsys.readouterr().out
    assert "1 of 4" in out and "passed  mean_face" in out
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
