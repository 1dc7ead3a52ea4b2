"""Chapter 4's losses, checked: the perceptual distance, the total, and the balance."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigen.checks import ivqvae_answers as right
from minigen.checks.compare import Answer, Wrong, expect, require_gradient, unchanged, value_of


def feature_distance(answer: Answer) -> None:
    f, g = torch.randn(3, 5, 4, 2), torch.randn(3, 5, 4, 2)
    a, b = F.normalize(f, dim=1), F.normalize(g, dim=1)
    square = (a - b).square()
    want = square.sum(1).mean((1, 2))

    def by(f: Tensor, g: Tensor) -> Tensor:
        return (f - g).square().sum(1).mean((1, 2))

    def scaled(f: Tensor, g: Tensor, **how: Any) -> Tensor:
        return by(F.normalize(f, **how), F.normalize(g, **how))

    mistakes = {
        "The features are not scaled to length 1.": by(f, g),
        "You took the mean over the channels as well: sum them.": square.mean((1, 2, 3)),
        "You summed over the places as well: average them.": square.sum((1, 2, 3)),
        ("You averaged over the channels and summed over the places: the other way round."):
            square.mean(1).sum((1, 2)),
        "You averaged over the batch too: one number per image.": square.sum(1).mean(),
        "You summed over the batch too: one number per image.": want.sum(),
        "You scaled each whole image: scale each place, along the channels.":
            by(*(F.normalize(x.flatten(1), dim=1).view(x.shape) for x in (f, g))),
        "You scaled along the rows: along the channels, dim=1.": scaled(f, g, dim=2),
        "You scaled along the last axis, the default of some functions: along the channels, dim=1.":
            scaled(f, g, dim=3),
        "You scaled over the batch: along the channels, dim=1.": scaled(f, g, dim=0),
        "You took the absolute difference: square it.": (a - b).abs().sum(1).mean((1, 2)),
        "The square is missing.": (a - b).sum(1).mean((1, 2)),
        "One step is missing: average over the places.": square.sum(1),
        "You took a root: the squared difference is wanted.": square.sum(1).sqrt().mean((1, 2)),
        "You took a root at the end: leave the square.": want.sqrt(),
        "That is 1 − cosine, half of the squared difference.": want / 2,
        "That is the cosine, a likeness: the squared difference is wanted.":
            (a * b).sum(1).mean((1, 2)),
        "You divided by the squared length: by the length.":
            by(f / f.square().sum(1, keepdim=True), g / g.square().sum(1, keepdim=True)),
        "Scaled so that the absolute values sum to 1: the length is the root of the squares.":
            scaled(f, g, dim=1, p=1),
        "You scaled the difference: scale each of the two, then subtract.":
            F.normalize(f - g, dim=1).square().sum(1).mean((1, 2)),
        "Only the first is scaled: scale both.": by(a, g),
        "Only the second is scaled: scale both.": by(f, b),
        "A plus came in: the difference is wanted.": by(a, -b),
        "A softmax is no scaling to length 1.": by(f.softmax(1), g.softmax(1)),
    }
    given = f.clone().requires_grad_(), g.clone().requires_grad_()
    got = answer(*given)
    expect(value_of(got), want, "3 maps of 5 channels", mistakes)
    unchanged({"first map": (given[0].detach(), f), "second map": (given[1].detach(), g)})
    require_gradient(got, given, ["first map", "second map"])
    small = 1e-3 * f, 1e-3 * g
    got = value_of(answer(*(x.clone() for x in small)))
    expect(got, want, "features a thousand times smaller", {
        "Small features are not scaled to length 1: what guards the division is too large.":
            scaled(*small, dim=1, eps=1.0),
        **{f"Small features are not scaled to length 1: {eps:g} beside the length is too large.":
           by(*(x / (x.norm(dim=1, keepdim=True) + eps) for x in small)) for eps in (1e-3, 1e-4)}})
    silent = f.clone()
    silent[:, :, 0] = 0
    after = value_of(answer(silent.clone(), g.clone()))
    if not torch.isfinite(torch.as_tensor(after)).all():
        raise Wrong("Where all features of a place are 0, as behind a ReLU, yours divides 0 by 0: "
                    "F.normalize guards against it.")
    expect(after, scaled(silent, g, dim=1), "a map with places that are all 0")


def total_loss(answer: Answer) -> None:
    numbers = torch.tensor([0.3, 0.5, -0.7, 0.2])
    l1, p, g, vq = numbers
    d, rest = 0.25, 0.75
    before, after = l1 + p + rest * vq, l1 + p + rest * vq + d * g
    late = {
        "λ_vq must be 1 − λ_d; the quantiser's loss is not weighted.": l1 + p + d * g + vq,
        "The two weights are swapped.": l1 + p + rest * g + d * vq,
        "λ_d is missing.": l1 + p + g + rest * vq,
        "Both weights are missing.": l1 + p + g + vq,
        "The quantizer's loss got λ_d: its weight is 1 − λ_d.": l1 + p + d * g + d * vq,
        "The quantizer's weight is 1 − λ_d: you took 1 + λ_d.": l1 + p + d * g + (1 + d) * vq,
        "The L1 error is missing.": after - l1,
        "The perceptual loss is missing.": after - p,
        "The quantizer's loss is missing.": after - rest * vq,
        "The adversarial loss is still out: from step `start` on, that step included, it counts.":
            before,
        "The sign of the adversarial loss is wrong: L_G already has its minus.":
            before - d * g,
        "The perceptual loss is not weighted by λ_d: it counts in full.":
            l1 + d * p + d * g + rest * vq,
        "The adversarial loss counts twice.": after + d * g,
        "You weighted the reconstruction as well: L1 and the perceptual loss count in full.":
            rest * (l1 + p + vq) + d * g,
        "That is the product of the weighted parts, not their sum.": l1 * p * d * g * rest * vq,
        "That is their mean: add them up.": after / 4,
    }
    early = {
        "Before its start the adversarial loss must not count.": after,
        "λ_vq is 1 − λ_d before the start too.": l1 + p + vq,
        "Before the start only the adversarial loss is left out; the perceptual loss counts.":
            l1 + rest * vq,
        "Before the start only the adversarial loss is left out; the quantizer's counts.": l1 + p,
        "Before the start only the adversarial loss is left out; the rest counts.": l1,
        "Before the start the loss is not 0: only the adversarial part is left out.": 0 * l1,
    }
    for step, want, mistakes in ((100, after, late), (50, after, late), (49, before, early)):
        given = [v.clone().requires_grad_() for v in numbers]
        got = answer(*given, d, step, 50)
        expect(value_of(got), want, f"step {step} and start 50", mistakes)
        unchanged({f"{name} loss": (now.detach(), v) for name, now, v in zip(
            ("L1", "perceptual", "adversarial", "quantizer's"), given, numbers, strict=True)})
        parts = given if step >= 50 else [given[0], given[1], given[3]]
        names = ["L1 error", "perceptual loss", "adversarial loss", "quantizer's loss"]
        require_gradient(got, parts, names if step >= 50 else [*names[:2], names[3]])
    got = answer(l1, p, torch.tensor(float("nan")), vq, d, 3, 50)
    if not torch.isfinite(torch.as_tensor(got)).all():
        raise Wrong("A NaN of the discriminator reaches the loss before its start: 0 · NaN is NaN, "
                    "so leave the term out.")


GONE = ("The graph was gone when it was needed again: retain_graph=True keeps it, here and for the "
        "training step after.")


def _balanced(answer: Answer, rec: Tensor, adv: Tensor, weight: Tensor) -> Any:
    try:
        return answer(rec, adv, weight)
    except RuntimeError as e:
        if "second time" in str(e):
            raise Wrong(GONE) from None
        raise


def balance(answer: Answer) -> None:
    # the last has a tiny gradient, where the 10⁻⁴ below counts
    for seed, scale in ((0, 1.0), (1, 1.0), (2, 1e-4)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layer, x = nn.Linear(4, 3), torch.randn(5, 4)
        y = layer(x)
        rec, adv = y.abs().mean(), -3 * scale * y.tanh().mean()
        a, b = (torch.autograd.grad(loss, layer.weight, retain_graph=True)[0]
                for loss in (rec, adv))
        biases = [torch.autograd.grad(loss, layer.bias, retain_graph=True)[0].norm()
                  for loss in (rec, adv)]
        eps, both = 1e-4, (a + b).norm()
        mistakes = {
            "Upside down: the reconstruction's gradient is above.": b.norm() / (a.norm() + eps),
            "Upside down, and 10⁻⁴ with it: the reconstruction's gradient is above.":
                (b.norm() + eps) / a.norm(),
            "The 10⁻⁴ in the denominator is missing.": a.norm() / b.norm(),
            "The 10⁻⁴ belongs below, not above.": (a.norm() + eps) / b.norm(),
            "The 10⁻⁴ is added after the division: it belongs to the denominator.":
                a.norm() / b.norm() + eps,
            "The 10⁻⁴ is added above as well: below only.": (a.norm() + eps) / (b.norm() + eps),
            "You compared the losses: compare their gradients.": (rec / (adv + eps)).detach(),
            "You compared the losses' sizes: compare their gradients.":
                (rec.abs() / (adv.abs() + eps)).detach(),
            "You took squared norms.": a.square().sum() / (b.square().sum() + eps),
            "You took the sums of the gradients: their lengths, .norm().":
                a.sum() / (b.sum() + eps),
            "You took the means of the gradients: their lengths, .norm().":
                a.mean() / (b.mean() + eps),
            "You took the sums of absolute values: the length is the root of the squares.":
                a.abs().sum() / (b.abs().sum() + eps),
            "You took the means of absolute values: the length is the root of the squares.":
                a.abs().mean() / (b.abs().mean() + eps),
            "You took the largest entries: the length is the root of the squares.":
                a.abs().max() / (b.abs().max() + eps),
            "The lower gradient is of both losses together: of the adversarial one alone.":
                a.norm() / (both + eps),
            "The upper gradient is of both losses together: of the reconstruction alone.":
                both / (b.norm() + eps),
            "That is the product of the two: divide.": a.norm() * b.norm(),
            "That is the reconstruction's gradient alone: divide by the adversarial one's.":
                a.norm(),
            "That is the adversarial loss's gradient alone.": b.norm(),
            "Your gradients are the bias's: take the weight's.": biases[0] / (biases[1] + eps),
            "The limit is on the wrong side: at most 10⁴, not at least.": torch.tensor(1e4),
            "You limited it to 1: at most 10⁴.": torch.tensor(1.0),
        }
        before = layer.weight.detach().clone()
        got = _balanced(answer, rec, adv, layer.weight)
        if layer.weight.grad is not None:
            raise Wrong("Your function left a gradient in the weight: use torch.autograd.grad, not "
                        "backward.")
        if isinstance(got, Tensor) and got.shape == a.shape:
            raise Wrong("One number is wanted: the length of each gradient, .norm(), before you "
                        "divide.")
        what = "an adversarial loss with a tiny gradient" if scale < 1 else (
            "a small layer and two losses")
        expect(value_of(got), right.balance(rec, adv, layer.weight), what, mistakes, tol=1e-5)
        unchanged({"weight": (layer.weight.detach(), before)})
        if isinstance(got, Tensor) and got.requires_grad:
            raise Wrong("The weight still has a graph: detach it, it is not to be trained.")
        try:
            (rec + got * adv).backward()  # the graph must still be there
        except RuntimeError:
            raise Wrong(GONE) from None
    y = nn.Linear(4, 3)
    out = y(torch.randn(5, 4))
    got = value_of(_balanced(answer, 1e12 * out.abs().mean(), 0 * out.mean(), y.weight))
    if isinstance(got, Tensor) and float(got) > 2e4:
        raise Wrong("The limit of 10⁴ is missing.")
    expect(got, torch.tensor(1e4), "an adversarial loss without gradient", tol=1e-3)
