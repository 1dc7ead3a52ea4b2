"""Excursion 3's style exercises: mistakes, each named whatever is drawn, and right answers."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from minigen import style
from minigen.checks import compare, pictures_answers, pictures_style


def g(f, flat=lambda f: f.flatten(2), product=lambda a: a @ a.mT, by=lambda b, c, h, w: h * w):
    return product(flat(f)) / by(*f.shape)


def by_loops(f):
    batch, channels, height, width = f.shape
    out = f.new_zeros(batch, channels, channels)
    for b, i, j in itertools.product(range(batch), range(channels), range(channels)):
        out[b, i, j] = (f[b, i] * f[b, j]).sum() / (height * width)
    return out


def stats(x, axes=(2, 3), n=0):
    return x.mean(axes, keepdim=True), x.var(axes, correction=n, keepdim=True)


def a(c, s, eps=1e-5, of=stats, root=lambda v, eps: (v + eps).sqrt(), out=None):
    (m, v), (n, w) = of(c), of(s)
    d, e = root(v, eps), root(w, eps)
    return e * (c - m) / d + n if out is None else out(c, m, d, n, e)


def std(x):
    return x.mean((2, 3), keepdim=True), x.std((2, 3), keepdim=True)


WRONG = {
    "gram": [
        (lambda f: g(f, by=lambda *n: 1), "H W, is missing"),
        (lambda f: g(f, by=lambda b, c, h, w: c * h * w), "You divided by C H W"),
        (lambda f: g(f, by=lambda b, c, h, w: c), "number of channels"),
        (lambda f: g(f, by=lambda b, c, h, w: b * h * w), "number of pictures too"),
        (lambda f: g(f, by=lambda b, c, h, w: (h * w) ** 0.5), "the root of H W"),
        (lambda f: g(f, by=lambda b, c, h, w: h), "by the height alone"),
        (lambda f: g(f, by=lambda b, c, h, w: w), "by the width alone"),
        (lambda f: g(f, by=lambda b, c, h, w: h * w - 1), "H W − 1"),
        (lambda f: g(f, product=lambda a: a.mT @ a), "wrong way round: it compares places, and"),
        (lambda f: g(f, product=lambda a: a.mT @ a, by=lambda b, c, h, w: c), "you divided by C)"),
        (lambda f: g(f).mean(0), "The pictures were mixed"),
        (lambda f: g(f).sum(0), "summed into one matrix"),
        (lambda f: g(f)[:1].expand(len(f), -1, -1), "first picture's matrix"),
        (lambda f: g(f - f.mean((2, 3), keepdim=True)), "The mean is removed"),
        (lambda f: g(F.normalize(f.flatten(2), dim=2)[..., None], by=lambda *n: 1), "cosines"),
        (lambda f: g(f, flat=lambda f: f.reshape(len(f), -1, f.shape[1]).mT), "cuts the numbers"),
        (lambda f: g(f, flat=lambda f: f.permute(0, 2, 3, 1).reshape(len(f), f.shape[1], -1)),
         "keep channels where"),
        (lambda f: f.mean((2, 3))[:, :, None] * f.mean((2, 3))[:, None], "the channels' means"),
        (lambda f: f.square().mean((2, 3)), "its diagonal only"),
        (lambda f: torch.diag_embed(f.square().mean((2, 3))), "Off the diagonal"),
        (lambda f: g(f, flat=lambda f: f), "you multiplied rows"),
        (lambda f: f @ f.mT, "products of rows"),
        (lambda f: g(f).abs().sqrt(), "A root was taken"),
        (lambda f: g(f.detach()), "no gradient comes back"),
        (lambda f: g(f, product=lambda a: a @ a.mT.detach()), "not the gradient"),
        (lambda f: g(f.float()), "keep it"), (lambda f: None, "returned None"),
    ],
    "adain": [
        (lambda c, s, eps=1e-5: a(s, c, eps), "swapped"),
        (lambda *x: a(*x, out=lambda c, m, d, n, e: (c - m) / d + n), "deviation is missing: mult"),
        (lambda *x: a(*x, out=lambda c, m, d, n, e: e * (c - m) / d), "style's mean is missing"),
        (lambda *x: a(*x, out=lambda c, m, d, n, e: (c - m) / d), "instance normalisation"),
        (lambda *x: a(*x, out=lambda c, m, d, n, e: e * c / d + n), "mean is not removed"),
        (lambda *x: a(*x, out=lambda c, m, d, n, e: e * (c - m) + n), "divide by σ(x)"),
        (lambda c, s, eps=1e-5: c.clone(), "Nothing has changed"),
        (lambda *x: a(*x, out=lambda c, m, d, n, e: d * (c - m) / e + n), "deviations are exch"),
        (lambda *x: a(*x, out=lambda c, m, d, n, e: e * (c - n) / d + m), "means are exchanged"),
        (lambda *x: a(*x, out=lambda c, m, d, n, e: e * e * (c - m) / d + n), "style's variance"),
        (lambda *x: a(*x, out=lambda c, m, d, n, e: e * (c - m) / d**2 + n), "content's variance"),
        (lambda *x: a(*x, root=lambda v, eps: v + eps), "You took variances"),
        (lambda *x: a(*x, of=lambda x: stats(x, n=1)), "H W − 1"),
        (lambda *x: a(*x, of=lambda x: stats(x, (0, 2, 3))), "whole batch's"),
        (lambda *x: a(*x, of=lambda x: stats(x, (1, 2, 3))), "over the channels too"),
        (lambda c, s, *eps: a(c, s[:1], *eps), "first style for all"),
        (lambda *x: a(*x, root=lambda v, eps: v.sqrt()), "ε is not used"),
        (lambda *x: a(*x, root=lambda v, eps: v.sqrt() + eps), "added to the deviations"),
        (lambda c, s, eps=1e-5: a(c, s, eps, out=lambda c, m, d, n, e: (
            s.std((2, 3), correction=0, keepdim=True) * (c - m) / d + n)), "in the style's dev"),
        (lambda c, s, eps=1e-5: a(c, s, eps, out=lambda c, m, d, n, e: (
            e * (c - m) / c.std((2, 3), correction=0, keepdim=True) + n)), "in the content's dev"),
        (lambda *x: a(*x, out=lambda c, m, d, n, e: e * ((c - m) / d + n)), "is multiplied too"),
        (lambda *x: a(*x, out=lambda c, m, d, n, e: e * (c - m) / d - n), "is taken away"),
        (lambda c, s, eps=1e-5: a(c, s, eps, of=lambda x: (
            x.mean((2, 3), keepdim=True),
            (x - x.mean((2, 3), keepdim=True)).abs().mean((2, 3), keepdim=True) ** 2),
            root=lambda v, eps: v.sqrt()), "absolute differences"),
        (lambda c, s, eps=1e-5: a(c, s, 1e-5), "ε is not used"),
        (lambda *x: a(*x).detach(), "no gradient comes back"),
        (lambda c, s, *eps: a(c, s.detach(), *eps), "reaches the style"),
        (lambda *x: a(*x, out=lambda c, m, d, n, e: e * (c - m.detach()) / d.detach() + n),
         "reaches the content"),
        (lambda c, s, *eps: a(c.float(), s.float(), *eps), "keep it"),
    ],
}
RIGHT = {
    "gram": [g, by_loops, lambda f: torch.einsum("bihw,bjhw->bij", f, f) / f[0, 0].numel(),
             lambda f: torch.stack([x.flatten(1) @ x.flatten(1).T for x in f]) / f[0, 0].numel()],
    "adain": [a, lambda c, s, eps=1e-5: (
        F.instance_norm(c, eps=eps) * (s.var((2, 3), correction=0, keepdim=True) + eps).sqrt()
        + s.mean((2, 3), keepdim=True))],
}
MISTAKES = [(name, i) for name, wrong in WRONG.items() for i in range(len(wrong))]


@pytest.mark.parametrize(("name", "i"), MISTAKES)
def test_a_mistake_is_named_whatever_is_drawn(name, i):
    fn, words = WRONG[name][i]
    for seed in range(3):
        torch.manual_seed(seed)
        with pytest.raises(compare.Wrong) as told:
            getattr(pictures_style, name)(fn)
        assert words in str(told.value), (seed, str(told.value))


@pytest.mark.parametrize("name", RIGHT)
def test_right_answers_pass_whatever_is_drawn(name):
    for seed in range(10):
        torch.manual_seed(seed)
        for fn in [*RIGHT[name], getattr(pictures_answers, name)]:
            getattr(pictures_style, name)(fn)


def test_a_channel_without_deviation_needs_the_eps():
    def blind(c, s, eps=1e-5):            # the values are right, where there is a deviation
        safe = torch.where(stats(c)[1] > 0, stats(c)[1] + eps, torch.nan)
        return a(c, s, eps, out=lambda c, m, d, n, e: e * (c - m) / safe.sqrt() + n)

    torch.manual_seed(0)
    with pytest.raises(compare.Wrong, match="same at every place"):
        pictures_style.adain(blind)


def test_what_stands_in_is_what_the_package_has():
    torch.manual_seed(3)
    f, s = torch.randn(2, 5, 3, 4, dtype=torch.float64), torch.randn(2, 5, 6, 2).double()
    assert torch.allclose(pictures_answers.gram(f), style.gram(f), rtol=1e-12)
    assert torch.allclose(pictures_answers.adain(f, s, 0.1), style.adain(f, s, 0.1), rtol=1e-12)


def test_no_two_mistakes_give_one_value(monkeypatch):
    """So what a message says is what was done."""
    def same(x, y):
        return x.shape == y.shape and np.allclose(x, y, rtol=1e-4, atol=1e-4)

    def look(got, want, given, mistakes=None, *rest):
        wrong = [(w, v) for w, v in (mistakes or {}).items() if not same(v, want)]
        for (one, x), (other, y) in itertools.combinations(wrong, 2):
            assert not same(x, y), (given, one, other)
        seen.update(w for w, _ in wrong)

    seen = set()
    monkeypatch.setattr(pictures_style, "expect", look)
    for name in ("gram", "adain"):
        torch.manual_seed(1)
        getattr(pictures_style, name)(getattr(pictures_answers, name))
    assert len(seen) >= 8 * 2
