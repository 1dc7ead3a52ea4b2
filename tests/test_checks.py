"""Every exercise: the solution passes, and every mistake listed here fails with the words that name it."""

import json
import math

import build_notebooks
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from minigen import checks, gan, ivqvae, pixelcnn, vae, vqvae
from minigen.checks import board, compare


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGEN_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MINIGEN_STRICT", raising=False)


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
        (lambda r, f: -torch.log(torch.sigmoid(r)).mean() - torch.log(1 - torch.sigmoid(f)).mean(), "not finite"),
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
        (lambda x, y, m, v, b: F.mse_loss(x, y) / 2 + b * kl_terms(m, v).sum(1).mean(), "averaged the squared error"),
        (lambda x, y, m, v, b: F.mse_loss(x, y) + b * kl_terms(m, v).sum(1).mean(), "and the ½ is missing"),
        (lambda x, y, m, v, b: (sse(x, y) + b * kl_terms(m, v).sum(1)).mean(), "½ of the squared error"),
        (lambda x, y, m, v, b: (b * sse(x, y) / 2 + kl_terms(m, v).sum(1)).mean(), "price of the rate"),
        (lambda x, y, m, v, b: (sse(x, y) / 2 + kl_terms(m, v).sum(1)).mean(), "β is missing"),
        (lambda x, y, m, v, b: (sse(x, y) / 2 - b * kl_terms(m, v).sum(1)).mean(), "subtracted"),
        (lambda x, y, m, v, b: (sse(x, y) / 2 + b * kl_terms(m, v).mean(1)).mean(), "over its dimensions"),
        (lambda x, y, m, v, b: (sse(x, y) / 2 + b * kl_terms(m, v).sum(1)).sum(), "summed over the batch"),
        (lambda x, y, m, v, b: sse(x, y) / 2 + b * kl_terms(m, v).sum(1), "Is a mean missing?"),
        (lambda x, y, m, v, b: (sse(x, y) / 2 + b * kl_terms(m, v).sum(1)).mean().item(), "no gradient comes back"),
        (lambda x, y, m, v, b: (sse(x, y.detach()) / 2 + b * kl_terms(m, v).sum(1)).mean(), "reaches the reconstruction"),
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
        (lambda z, e, b: F.mse_loss(z, e.detach()) + b * F.mse_loss(e, z.detach()), "the bug itself"),
        (no_detach, "Nothing is detached"),
        (lambda z, e, b: F.mse_loss(e, z.detach()), "Only one of the two"),
        (lambda z, e, b: b * F.mse_loss(z, e.detach()), "codebook term is missing"),
        (lambda z, e, b: F.mse_loss(e, z.detach()) + F.mse_loss(z, e.detach()), "β is missing"),
        (lambda z, e, b: b * (F.mse_loss(e, z.detach()) + F.mse_loss(z, e.detach())), "both terms"),
        (lambda z, e, b: (F.mse_loss(e, z.detach()) + b * F.mse_loss(z, e.detach())) * z.numel(), "take the mean"),
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
        (lambda i, k: (lambda p: torch.exp(-(p * p.log()).sum()))(torch.bincount(i.flatten(), minlength=k) / i.numel()), "NaN"),
    ],
    "mask": [
        (lambda s, k: pixelcnn.causal_mask(s, "A" if k == "B" else "B"), "centre"),
        (lambda s, k: pixelcnn.causal_mask(s, k).flip(0), "Upside down"),
        (lambda s, k: pixelcnn.causal_mask(s, k).flip(1), "Mirrored"),
        (lambda s, k: pixelcnn.causal_mask(s, k).T.contiguous(), "row by row"),
        (lambda s, k: torch.cat([torch.ones(s // 2, s), torch.zeros(s - s // 2, s)]), "middle row is missing"),
        (lambda s, k: torch.cat([torch.ones(s // 2 + 1, s), torch.zeros(s // 2, s)]), "whole middle row"),
        (lambda s, k: torch.ones(s, s).tril(), "is wanted"),
    ],
    "bits": [
        (lambda x, c: F.cross_entropy(x, c, reduction="sum") / len(c), "in nats"),
        (lambda x, c: F.cross_entropy(x, c), "per token, in nats"),
        (lambda x, c: F.cross_entropy(x, c) / math.log(2), "per token: sum"),
        (lambda x, c: F.cross_entropy(x, c, reduction="sum") / math.log(2), "divide by the number of images"),
        (lambda x, c: F.cross_entropy(x, c, reduction="sum"), "left nats"),
        (lambda x, c: F.cross_entropy(x, c, reduction="sum") / len(c) * math.log(2), "multiplied by log 2"),
    ],
}


def gradient_ratio(a, b, w):
    size = [torch.autograd.grad(loss, w, retain_graph=True)[0].norm() for loss in (a, b)]
    return size[0] / (size[1] + 1e-4)


def weighted(l1, p, g, vq, d=0.25, late=True, step=0, start=0):
    return l1 + p + d * g * (step >= start) + (1 - d) * vq


WRONG |= {
    "upsample_nearest": [
        (lambda x: x.repeat(1, 1, 2, 2), "tiled"),
        (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), "between the pixels"),
        (lambda x: x.repeat_interleave(2, 2), "Only the rows"),
        (lambda x: x.repeat_interleave(2, 3), "Only the columns"),
        (lambda x: x.repeat_interleave(2, 1), "shape"),
    ],
    "attention_weights": [
        (lambda q, k: (q @ k.mT).softmax(-1), "√C is missing"),
        (lambda q, k: (q @ k.mT / q.shape[-1]).softmax(-1), "divide by its root"),
        (lambda q, k: (q @ k.mT / q.shape[1] ** 0.5).softmax(-1), "number of places"),
        (lambda q, k: (q @ k.mT / q.shape[-1] ** 0.5).softmax(1), "columns sum"),
        (lambda q, k: q @ k.mT / q.shape[-1] ** 0.5, "softmax is missing"),
        (lambda q, k: (k @ q.mT / q.shape[-1] ** 0.5).softmax(-1), "swapped"),
        (lambda q, k: (q @ k.mT / 4).softmax(-1), "9 channels"),
    ],
    "best_guess_l1": [
        (lambda x, p: (p[:, None, None, None] * x).sum(0), "mean"),
        (lambda x, p: x.median(0).values, "plain median"),
        (lambda x, p: x[p.argmax()], "likeliest"),
        (lambda x, p: x.sort(0).values[(p.cumsum(0) >= 0.5).int().argmax(0)], "images' order"),
        (lambda x, p: x.sort(0), "a tensor of shape"),
        (lambda x, p: (lambda o: x[o[p[o].cumsum(0).ge(0.5).int().argmax()]])(x.mean((1, 2, 3)).argsort()), "is wanted"),
    ],
    "feature_distance": [
        (lambda f, g: (f - g).square().sum(1).mean((1, 2)), "length 1"),
        (lambda f, g: (F.normalize(f) - F.normalize(g)).square().mean((1, 2, 3)), "sum them"),
        (lambda f, g: (F.normalize(f) - F.normalize(g)).square().sum((1, 2, 3)), "average them"),
        (lambda f, g: (F.normalize(f) - F.normalize(g)).square().sum(1).mean(), "one number per image"),
        (lambda f, g: (F.normalize(f) - F.normalize(g)).abs().sum(1).mean((1, 2)), "square it"),
        (lambda f, g: (F.normalize(f) - F.normalize(g)).square().sum(1), "average over the places"),
    ],
    "total_loss": [
        (lambda a, p, g, v, d, n, s: a + p + d * g + v if n >= s else a + p + v, "not weighted"),
        (lambda a, p, g, v, d, n, s: a + p + (1 - d) * g + d * v, "swapped"),
        (lambda a, p, g, v, d, n, s: a + p + g + (1 - d) * v, "λ_d is missing"),
        (lambda a, p, g, v, d, n, s: a + p + d * g + (1 - d) * v, "must not count"),
        (lambda a, p, g, v, d, n, s: a + p + (1 - d) * v + (d * g if n > s else 0), "that step included"),
        (lambda a, p, g, v, d, n, s: a + p + (1 - d) * v + d * g * (n >= s), "0 · NaN"),
        (lambda a, p, g, v, d, n, s: a + p + ((1 - d) * v + d * g if n >= s else v), "before the start too"),
    ],
    "balance": [
        (lambda a, b, w: 1 / gradient_ratio(a, b, w).detach(), "is wanted"),
        (lambda a, b, w: (a / (b + 1e-4)).detach(), "compare their gradients"),
        (lambda a, b, w: gradient_ratio(a, b, w), "limit of 10⁴"),
        (lambda a, b, w: ivqvae.adaptive_weight(a, b, w).square(), "is wanted"),
        (lambda a, b, w: ivqvae.adaptive_weight(b, a, w), "Upside down"),
    ],
}
ALL = [name for names in checks.exercises().values() for name in names]


def solutions():
    """The functions of the chapters' solution cells, run in one namespace as the chapters would."""
    found = {}
    for stem in build_notebooks.stems():
        for cell in build_notebooks.editions(stem)[0].cells:
            if cell.metadata.get("nbgrader", {}).get("solution"):
                space = {"torch": torch, "F": F, "math": math, "gan": gan, "vae": vae}
                exec(cell.source, space)
                found[cell.metadata["nbgrader"]["grade_id"]] = space[cell.metadata["nbgrader"]["grade_id"]]
    return found


def test_names_are_unique_and_every_exercise_is_in_a_chapter_and_in_this_table():
    assert len(set(ALL)) == len(ALL)
    assert set(solutions()) == set(ALL) == set(WRONG)
    assert all(len(mistakes) >= 4 for mistakes in WRONG.values())


@pytest.mark.parametrize("name", ALL)
def test_the_solution_passes(name, capsys):
    for _ in range(3):                                     # the checks draw random inputs
        checks.check(solutions()[name])
        assert capsys.readouterr().out == f"{name}: passed.\n"


@pytest.mark.parametrize(("name", "i"), [(n, i) for n, mistakes in WRONG.items() for i in range(len(mistakes))])
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
    ("negative_elbo", lambda x, y, m, v, b: 0.5 * F.mse_loss(x, y, reduction="sum") / len(x) + b * kl_terms(m, v).sum() / len(x)),
    ("count_active", lambda m, t=0.01: (m.var(0) > t).sum()),
    ("count_active", lambda m, t=0.01: int((m.var(0, unbiased=False) > t).sum())),
    ("best_guess", lambda x, p: torch.einsum("n,nchw->chw", p, x)),
    ("nearest_index", lambda z, c: torch.cdist(z, c).argmin(-1)),
    ("nearest_index", lambda z, c: (z[:, None] - c[None]).square().sum(-1).argmin(1)),
    ("straight_through", lambda z, q: q.detach() + z - z.detach()),
    ("vq_loss", lambda z, e, b: (z.detach() - e).pow(2).mean() + b * (e.detach() - z).pow(2).mean()),
    ("code_perplexity", vqvae.perplexity),
    ("mask", lambda s, k: (torch.arange(s * s).view(s, s) < s * s // 2 + (k == "B")).float()),
    ("bits", lambda x, c: F.cross_entropy(x, c, reduction="none").sum((1, 2)).mean() / math.log(2)),
    ("gaussian_draw", lambda m, u, v, e: m + (u @ (e * v.sqrt()).T).T),
])
def test_other_right_answers_pass_too(name, fn, capsys):
    assert sentence(name, fn, capsys) == f"{name}: passed."


def test_an_error_of_torch_is_not_an_empty_answer(capsys):
    assert "raised NotImplementedError" in sentence("to_unit_range", lambda b: torch.lerp(b, b, 0.5), capsys)


def test_an_empty_answer_is_not_attempted(capsys):
    def stub(*args):
        raise NotImplementedError

    assert sentence("d_loss", stub, capsys) == "d_loss: not attempted yet."


def test_an_error_is_told_with_its_line(capsys):
    def d_loss(r, f):
        x = 1
        return x / 0

    checks.check(d_loss)
    assert "raised ZeroDivisionError: division by zero (line 3 of your function)" in capsys.readouterr().out


@pytest.mark.parametrize(("answer", "words"), [
    (3, "without calling it"), (lambda: 3, "no exercise called <lambda>"), (gan.discriminator_loss, "no exercise called"),
])
def test_what_is_no_answer(answer, words, capsys):
    checks.check(answer)
    assert words in capsys.readouterr().out


def test_the_packages_own_function_is_no_answer(capsys):
    answer = named("d_loss", gan.discriminator_loss)
    answer.__module__ = "minigen.gan"
    checks.check(answer)
    assert "minigen's own function" in capsys.readouterr().out


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
    assert json.loads((tmp_path / "home" / "progress.json").read_text(encoding="utf-8")) == {"00 start here": ["mean_face"]}


def test_progress_that_cannot_be_kept_or_read_is_said(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MINIGEN_HOME", str(tmp_path / "file"))
    assert "could not be kept" in board.record("00 start here", "mean_face")
    monkeypatch.setenv("MINIGEN_HOME", str(tmp_path))
    (tmp_path / "progress.json").write_text("{torn")
    checks.progress()
    assert "cannot be read" in capsys.readouterr().out


def test_compare_names_factor_and_shape():
    for got, words in ((torch.tensor([2.0, 4.0]), "2 times"), (torch.tensor([-1.0, -2.0]), "sign"), (torch.zeros(3), "shape")):
        with pytest.raises(compare.Wrong, match=words):
            compare.expect(got, torch.tensor([1.0, 2.0]), "this")
