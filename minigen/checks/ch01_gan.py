"""Checks of chapter 1's exercises."""

import re

import torch
import torch.nn.functional as F
from torch import Tensor

from minigen import gan
from minigen.checks import gan_loop as loops
from minigen.checks import gan_step
from minigen.checks.compare import Answer, Wrong, expect, require_gradient, unchanged, value_of
from minigen.checks.gan_answers import (  # noqa: F401  (found by name: minigen.checks.yours)
    best_discriminator,
    d_loss,
    discriminator_step,
    g_loss,
    gan_loop,
    hinge_d_loss,
    modes_covered,
    with_label,
)
from minigen.checks.gan_losses import (
    finite,
    mistakes_of_d_loss,
    mistakes_of_hinge,
    of_two_halves,
    some_logits,
)


def check_best_discriminator(answer: Answer) -> None:
    x = torch.linspace(-3, 3, 41)
    p, q = torch.exp(-(x**2)) + 1e-3, torch.exp(-((x - 1) ** 2) / 2) + 1e-3
    mistakes = {
        "That is high where the generator's samples are: D is the probability of *real*.":
            q / (p + q),
        "That is the ratio p / q; a probability needs the sum below.": p / q,
        "Without brackets p / p + q is (p / p) + q = 1 + q.": 1 + q,
        "That is a logit, log p − log q: pass it through the sigmoid, or write the fraction.":
            (p / q).log(),
        "That is the sigmoid of p − q; D's logit is log p − log q.": (p - q).sigmoid(),
        "That is the sigmoid of p / q; D's logit is log p − log q.": (p / q).sigmoid(),
        "You returned p, not its share of p + q.": p,
        "That is the mixture (p + q) / 2: D is p's share of p + q.": (p + q) / 2,
        "You divided by the sum over the whole grid: every point x has its own p + q.":
            p / (p + q).sum(),
        "You divided by a product: the sum p + q stands below.": p / (p * q),
    }
    now_p, now_q = p.clone(), q.clone()
    want = gan.optimal_discriminator(p, q)
    expect(answer(now_p, now_q), want, "two densities on a grid of 41", mistakes)
    unchanged({"density p": (now_p, p), "density q": (now_q, q)})


def check_d_loss(answer: Answer) -> None:
    of_two_halves(answer, gan.discriminator_loss, mistakes_of_d_loss)
    big = torch.full((4,), 200.0)
    got = value_of(answer(-big, big.clone()))
    finite(got, "At logits of ±200", 400.0)
    expect(got, torch.tensor(400.0), "logits of −200 (real) and 200 (fake)")


def check_g_loss(answer: Answer) -> None:
    for shape in ((9,), (3, 2)):
        leaf = some_logits(*shape)
        given, f = leaf.clone(), leaf.detach()
        want = gan.generator_loss(f)
        mistakes = {
            "That is the minimax loss log(1 − D), which dies when D is sure.":
                gan.generator_loss(f, "minimax"),
            "That is −log(1 − D): it would teach G to be caught.": F.softplus(f).mean(),
            "That is the hinge loss.": -f.mean(),
            "You summed over the batch: take the mean.": F.softplus(-f).sum(),
            "The sign is wrong: log D is what G wants large, so its loss is −log D.": -want,
            "The log is missing: that is the mean of 1 − D.": (-f).sigmoid().mean(),
            "The log is missing: that is −D.": -f.sigmoid().mean(),
            "A factor ½ too much.": want / 2,
            "relu is not softplus: F.softplus(x) is log(1 + eˣ).": F.relu(-f).mean(),
        }
        got = answer(given)
        expect(value_of(got), want, f"logits of shape {shape}", mistakes)
        unchanged({"logits": (given, leaf)})
        require_gradient(got, (leaf,), ("logits",))
    logits = torch.tensor([-200.0, 0.0], requires_grad=True)
    got = answer(logits.clone())
    finite(value_of(got), "At a logit of −200", 100.0)
    slope = torch.autograd.grad(got, logits)[0]
    expect(slope, torch.tensor([-0.5, -0.25]), "the gradient at the logits −200 and 0")


def check_hinge_d_loss(answer: Answer) -> None:
    of_two_halves(answer, lambda r, f: gan.discriminator_loss(r, f, "hinge"), mistakes_of_hinge)


def check_discriminator_step(answer: Answer) -> None:
    gan_step.discriminator_step(answer)


def check_gan_loop(answer: Answer) -> None:
    loops.gan_loop(answer)


def _places() -> tuple[Tensor, Tensor]:
    """Centres and points on which every way of counting gives another number; the right one is 3.

    Of the seven centres: one has six points near; one has a point 0.1 beside it; one a point
    (0.2, 0.2) away, one (0.25, 0.25), one (0.4, 0), one (1, 1); one no point nearest to it.
    """
    centres = torch.tensor([[0.0, 0], [2, 0], [4, 0], [0, 4], [4, 4], [8, 8], [9, -9]])
    away = torch.tensor([[-0.1, 0.0], [0.2, 0.2], [0.25, 0.25], [0.4, 0], [1, 1]])
    near = torch.tensor([[0.05, 0], [0, 0.1], [0.1, 0.1], [0, 0.05], [0.02, 0], [0.1, 0]])
    return torch.cat([near, centres[1:6] + away]), centres


def check_modes_covered(answer: Answer) -> None:
    points, centres = _places()
    mistakes = {
        "You counted points, one for each pair of a mode and a point on it: count the modes that "
        "have a point.": torch.tensor(8),
        "You counted the mode nearest to every point, however far: use the radius.":
            torch.tensor(6),
        "Every centre is counted.": torch.tensor(7),
        "That is a share: count the modes.": torch.tensor(3 / 7),
        "That is the share of the points that lie on a mode: count the modes.":
            torch.tensor(8 / len(points)),
        "You looked in a square around each centre: radius belongs to a circle, to the distance.":
            torch.tensor(4),
        "You compared the squared distance with the radius: take its root, or square the radius.":
            torch.tensor(5),
        "You added up |Δx| + |Δy|: the distance is the root of the sum of squares.":
            torch.tensor(2),
        "You asked for every point to lie near a centre: one is enough.": torch.tensor(0),
    }
    now, there = points.clone(), centres.clone()
    given = "7 centres, radius 0.3, and points near three of them"
    expect(answer(now, there, 0.3), 3, given, mistakes)
    unchanged({"points": (now, points), "centres": (there, centres)})
    fixed = {"The radius stayed at 0.3: it is the function's third argument.": torch.tensor(3)}
    expect(answer(points, centres, 1.5), 6, "the same points and radius 1.5", fixed)
    expect(answer(points + 99, centres, 0.3), 0, "points far from every centre")
    many = 8 * torch.rand(500, 2)
    want = int((torch.cdist(centres, many).min(1).values < 0.2).sum())
    expect(answer(many, centres, 0.2), want, "500 random points and radius 0.2")


def check_with_label(answer: Answer) -> None:
    x, y = torch.randn(3, 2, 4, 5), torch.tensor([2, 0, 1])
    maps = F.one_hot(y, 4).float()[:, :, None, None].expand(-1, -1, 4, 5)
    mistakes = {
        "The label maps come first: put them behind the image's channels.": torch.cat([maps, x], 1),
        "Ones and zeros are swapped: the label's own channel is the one with ones.":
            torch.cat([x, 1 - maps], 1),
        "The other channels hold −1: they hold zeros.": torch.cat([x, 2 * maps - 1], 1),
        "Those are the maps alone: put them behind the image.": maps,
        "You returned the image as it was.": x,
        "The channels' order is turned round: channel k is for label k.":
            torch.cat([x, maps.flip(1)], 1),
        "The maps were multiplied by the label's number: ones and zeros only.":
            torch.cat([x, maps * y[:, None, None, None]], 1),
        "The maps were counted one class off: label 0 belongs to the first of them.":
            torch.cat([x, maps.roll(1, 1)], 1),
        "Every image got the labels of the first one.":
            torch.cat([x, maps[:1].expand(3, -1, -1, -1)], 1),
    }
    now, label = x.clone(), y.clone()
    try:
        got = answer(now, label, 4)
    except RuntimeError as e:
        if not re.search("Sizes of tensors must match|same number of dimensions|Tensors must have",
                         str(e)):
            raise
        raise Wrong("The maps do not fit the image: either they were not brought to its four axes "
                    "and expanded to its height and width, or they were put beside it along "
                    "another axis than the channels, dim=1.") from None
    if isinstance(got, Tensor) and got.shape == (3, 3, 4, 5):
        raise Wrong("You added one channel with the label's number: 2 is not twice 1. Use a "
                    "one-hot map, a channel a class.")
    if isinstance(got, Tensor) and got.shape == (3, 5, 4, 5):
        raise Wrong("There are three maps for four classes: one_hot counted up to the largest "
                    "label in this batch. Tell it, F.one_hot(y, num_classes).")
    expect(got, torch.cat([x, maps], 1), "images (3, 2, 4, 5) and 4 classes", mistakes)
    unchanged({"images": (now, x), "labels": (label, y)})
