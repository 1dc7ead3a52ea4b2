"""Checks of chapter 4's exercises."""

import torch
import torch.nn.functional as F
from torch import nn

from minigen import ivqvae
from minigen.checks.compare import Answer, Wrong, expect, value_of


def check_upsample_nearest(answer: Answer) -> None:
    x = torch.randn(2, 3, 4, 5)
    want = F.interpolate(x, scale_factor=2, mode="nearest")
    mistakes = {
        "You tiled the whole image twice: repeat_interleave repeats each pixel, repeat the image.":
            x.repeat(1, 1, 2, 2),
        "That interpolates between the pixels: nearest neighbour repeats them.":
            F.interpolate(x, scale_factor=2, mode="bilinear"),
        "Only the rows are doubled: double the columns as well.": x.repeat_interleave(2, 2),
        "Only the columns are doubled: double the rows as well.": x.repeat_interleave(2, 3),
    }
    expect(answer(x.clone()), want, "images of shape (2, 3, 4, 5)", mistakes)


def check_attention_weights(answer: Answer) -> None:
    q, k = torch.randn(2, 6, 16), torch.randn(2, 6, 16)
    product = q @ k.transpose(1, 2)
    mistakes = {
        "The division by √C is missing.": product.softmax(-1),
        "You divided by C: divide by its root.": (product / 16).softmax(-1),
        "You divided by the number of places: C is the number of channels.":
            (product / 6**0.5).softmax(-1),
        "Your columns sum to 1: the weights of one query lie in a row, dim=-1.":
            (product / 4).softmax(1),
        "The softmax is missing.": product / 4,
        "Queries and keys are swapped: a row belongs to a query.":
            (product.transpose(1, 2) / 4).softmax(-1),
        "You multiplied by √C: divide.": (product * 4).softmax(-1),
    }
    want = (product / 4).softmax(-1)
    expect(answer(q.clone(), k.clone()), want, "2 maps of 6 places and 16 channels", mistakes)
    q, k = q[:, :, :9], k[:, :, :9]
    want = (q @ k.transpose(1, 2) / 3).softmax(-1)
    expect(answer(q.clone(), k.clone()), want, "the same with 9 channels")


def check_best_guess_l1(answer: Answer) -> None:
    # where the mistakes differ for sure
    levels = torch.stack([torch.full((2, 3, 4), v) for v in (0.9, -0.5, 0.1)])
    mean = "That is the mean, the best guess for the squared error."
    for shares in ([0.6, 0.25, 0.15], [0.55, 0.2, 0.1, 0.1, 0.05]):
        n, p = len(shares), torch.tensor(shares)
        x = torch.randn(n, 2, 3, 4)
        values, order = x.sort(dim=0)
        index = (p[order].cumsum(0) >= 0.5).int().argmax(0, keepdim=True)
        want = values.gather(0, index)[0]
        mistakes = {
            mean: (p[:, None, None, None] * x).sum(0),
            "That is the plain median: the images are not equally likely.": x.median(0).values,
            ("You added up the probabilities in the images' order: sort them with the values, "
             "probabilities[order]."):
                values.gather(0, (p.cumsum(0) >= 0.5).int().argmax(0).expand(1, *x.shape[1:]))[0],
            "You picked from the unsorted images.": x.gather(0, index)[0],
            "One too far: take the first value at which the sum reaches one half.":
                values.gather(0, (index + 1).clamp_max(n - 1))[0],
        }
        expect(answer(x.clone(), p.clone()), want, f"{n} random images", mistakes)
    # no majority: every pixel must decide for itself
    x, p = torch.randn(3, 2, 5, 6), torch.tensor([0.4, 0.35, 0.25])
    given = "3 random images with probabilities 0.4, 0.35, 0.25"
    expect(answer(x.clone(), p.clone()), x.median(0).values, given, {
        mean: (p[:, None, None, None] * x).sum(0), "That is the likeliest image.": x[0]})
    for shares, best, likeliest in (([0.2, 0.6, 0.2], 1, 1), ([0.4, 0.3, 0.3], 2, 0)):
        p = torch.tensor(shares)
        given = f"values 0.9, −0.5, 0.1 with probabilities {', '.join(f'{v:.1f}' for v in p)}"
        expect(answer(levels.clone(), p.clone()), levels[best], given, {
            mean: (p[:, None, None, None] * levels).sum(0),
            "That is the plain median: the images are not equally likely.": levels[2],
            "That is the likeliest image.": levels[likeliest]})


def check_feature_distance(answer: Answer) -> None:
    f, g = torch.randn(3, 5, 4, 2), torch.randn(3, 5, 4, 2)
    a, b = F.normalize(f, dim=1), F.normalize(g, dim=1)
    square = (a - b).square()
    whole = F.normalize(f.flatten(1), dim=1) - F.normalize(g.flatten(1), dim=1)
    mistakes = {
        "The features are not scaled to length 1.": (f - g).square().sum(1).mean((1, 2)),
        "You took the mean over the channels as well: sum them.": square.mean((1, 2, 3)),
        "You summed over the places as well: average them.": square.sum((1, 2, 3)),
        "You averaged over the batch too: one number per image.": square.sum(1).mean(),
        "You scaled each whole image: scale each place, along the channels.":
            whole.view(f.shape).square().sum(1).mean((1, 2)),
        "You took the absolute difference: square it.": (a - b).abs().sum(1).mean((1, 2)),
        "One step is missing: average over the places.": square.sum(1),
    }
    want = square.sum(1).mean((1, 2))
    expect(answer(f.clone(), g.clone()), want, "3 maps of 5 channels", mistakes)


def check_total_loss(answer: Answer) -> None:
    l1, p, g, vq = torch.tensor([0.3, 0.5, -0.7, 0.2])
    weight = 0.25
    before, after = l1 + p + 0.75 * vq, l1 + p + 0.75 * vq + 0.25 * g
    mistakes = {
        "λ_vq must be 1 − λ_d; the quantiser's loss is not weighted.": l1 + p + 0.25 * g + vq,
        "The two weights are swapped.": l1 + p + 0.75 * g + 0.25 * vq,
        "λ_d is missing.": l1 + p + g + 0.75 * vq,
        "The perceptual loss is missing.": l1 + 0.25 * g + 0.75 * vq,
        "The adversarial loss is still out: from step `start` on, that step included, it counts.":
            before,
        "The sign of the adversarial loss is wrong: L_G already has its minus.":
            l1 + p - 0.25 * g + 0.75 * vq,
    }
    expect(answer(l1, p, g, vq, weight, 100, 50), after, "step 100 and start 50", mistakes)
    expect(answer(l1, p, g, vq, weight, 50, 50), after, "step 50 and start 50", mistakes)
    expect(answer(l1, p, g, vq, weight, 49, 50), before, "step 49 and start 50", {
        "Before its start the adversarial loss must not count.": after,
        "λ_vq is 1 − λ_d before the start too.": l1 + p + vq})
    got = answer(l1, p, torch.tensor(float("nan")), vq, weight, 3, 50)
    if not torch.isfinite(torch.as_tensor(got)).all():
        raise Wrong("A NaN of the discriminator reaches the loss before its start: 0 · NaN is NaN, "
                    "so leave the term out.")


def check_balance(answer: Answer) -> None:
    for seed in range(2):
        torch.manual_seed(seed)
        layer, x = nn.Linear(4, 3), torch.randn(5, 4)

        def losses(layer=layer, x=x):
            y = layer(x)
            return y.abs().mean(), -3 * y.tanh().mean()

        rec, adv = losses()
        want = ivqvae.adaptive_weight(rec, adv, layer.weight)
        a = torch.autograd.grad(rec, layer.weight, retain_graph=True)[0]
        b = torch.autograd.grad(adv, layer.weight, retain_graph=True)[0]
        got = answer(rec, adv, layer.weight)
        if layer.weight.grad is not None:
            raise Wrong("Your function left a gradient in the weight: use torch.autograd.grad, not "
                        "backward.")
        expect(value_of(got), want, "a small layer and two losses", {
            "Upside down: the reconstruction's gradient is above.": b.norm() / (a.norm() + 1e-4),
            "You compared the losses: compare their gradients.": (rec / (adv + 1e-4)).detach(),
            "You took squared norms.": a.square().sum() / (b.square().sum() + 1e-4)}, tol=1e-5)
        if isinstance(got, torch.Tensor) and got.requires_grad:
            raise Wrong("The weight still has a graph: detach it, it is not to be trained.")
        (rec + got * adv).backward()  # the graph must still be there
    layer, x = nn.Linear(4, 3), torch.randn(5, 4)
    y = layer(x)
    got = answer(1e12 * y.abs().mean(), 0 * y.mean(), layer.weight)
    unlimited = ivqvae.adaptive_weight(y.abs().mean(), 0 * y.mean(), layer.weight) * 1e12
    expect(got, torch.tensor(1e4), "an adversarial loss without gradient",
           {"The limit of 10⁴ is missing.": unlimited}, tol=1e-3)
