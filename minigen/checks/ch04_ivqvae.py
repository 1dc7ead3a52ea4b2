"""Checks of chapter 4's exercises."""

import torch
import torch.nn.functional as F

from minigen.checks import ivqvae_answers as right
from minigen.checks import ivqvae_block, ivqvae_steps
from minigen.checks import ivqvae_losses as losses
from minigen.checks.compare import Answer, expect, require_gradient, unchanged, value_of
from minigen.checks.ivqvae_answers import (  # noqa: F401  (found by name: minigen.checks.yours)
    attending_block,
    attention_weights,
    balance,
    best_guess_l1,
    both_steps,
    feature_distance,
    total_loss,
    upsample_nearest,
)


def check_upsample_nearest(answer: Answer) -> None:
    for shape in ((2, 3, 4, 5), (1, 1, 3, 2)):
        x = torch.randn(shape)
        nails = x.new_zeros(*shape[:2], 2 * shape[2], 2 * shape[3])
        nails[:, :, ::2, ::2] = x
        twice = right.upsample_nearest(x)
        mistakes = {
            ("You tiled the whole image twice: repeat_interleave repeats each pixel, repeat the "
             "image."): x.repeat(1, 1, 2, 2),
            "Only the rows are doubled: double the columns as well.": x.repeat_interleave(2, 2),
            "Only the columns are doubled: double the rows as well.": x.repeat_interleave(2, 3),
            "The rows are doubled twice: the second time the columns.": x.repeat_interleave(4, 2),
            "The columns are doubled twice: one time the rows.": x.repeat_interleave(4, 3),
            "That is four times the size: double each side.":
                twice.repeat_interleave(2, 2).repeat_interleave(2, 3),
            "You doubled the channels: rows and columns are the last two axes.":
                x.repeat_interleave(2, 1),
            "You doubled the images and channels: rows and columns are the last two axes.":
                x.repeat_interleave(2, 0).repeat_interleave(2, 1),
            "You doubled channels and rows: rows and columns are the last two axes.":
                x.repeat_interleave(2, 1).repeat_interleave(2, 2),
            "Between the pixels there are zeros: repeat the pixel itself.": nails,
            "Every pixel is there four times, but the values were shared out: keep them.":
                twice / 4,
        }
        for mode in ("bilinear", "bicubic"):
            for corners in (False, True):
                mixed = F.interpolate(x, scale_factor=2, mode=mode, align_corners=corners)
                mistakes |= {f"That interpolates between the pixels, {mode}: nearest neighbour "
                             f"repeats them{'.' if corners else ''}": mixed}
        for rows, columns, which in ((2, 3, "columns"), (3, 2, "rows")):
            one = x.repeat_interleave(2, rows)
            mistakes |= {f"One axis repeats pixels, the other ({which}) the whole image: "
                         "repeat_interleave for both.": torch.cat([one, one], columns)}
        given = x.clone().requires_grad_()
        got = answer(given)
        expect(value_of(got), twice, f"images of shape {shape}", mistakes)
        unchanged({"images": (given.detach(), x)})
        require_gradient(got, [given], ["images"])


def check_attention_weights(answer: Answer) -> None:
    for places, channels in ((6, 16), (5, 9), (1, 4)):
        q, k = torch.randn(2, places, channels), torch.randn(2, places, channels)
        product, root = q @ k.mT, channels**0.5
        exps = (product / root).exp()
        mistakes = {
            "The division by √C is missing.": product.softmax(-1),
            "You divided by C: divide by its root.": (product / channels).softmax(-1),
            "You divided by the number of places: C is the number of channels.":
                (product / places).softmax(-1),
            "You took the root of the number of places: C is the number of channels.":
                (product / places**0.5).softmax(-1),
            "Your columns sum to 1: the weights of one query lie in a row, dim=-1.":
                (product / root).softmax(1),
            "The softmax ran over the images: over the keys, dim=-1.": (product / root).softmax(0),
            "The softmax ran over queries and keys together: each query's row sums to 1.":
                (product / root).flatten(1).softmax(1).view(product.shape),
            "The softmax is missing.": product / root,
            "Softmax and √C are missing.": product,
            "Queries and keys are swapped: a row belongs to a query.":
                (product.mT / root).softmax(-1),
            "The result is transposed: a row belongs to a query.": (product / root).softmax(-1).mT,
            "You multiplied by √C: divide.": (product * root).softmax(-1),
            "You divided after the softmax: before it.": product.softmax(-1) / root,
            "You took the logarithm as well: log_softmax is not softmax.":
                (product / root).log_softmax(-1),
            "exp is there, its division by the row's sum is not.": exps,
            "A minus came in: a larger product means more weight.": (-product / root).softmax(-1),
            "That is a sigmoid: the weights of one query share out 1 between them.":
                (product / root).sigmoid(),
            "The rows are divided by their sums, but without exp.":
                product / product.sum(-1, keepdim=True),
            "You divided by 4, which is √C for 16 channels only: q.shape[-1].":
                (product / 4).softmax(-1),
        }
        if places == 1:                       # one key: its weight is 1, however scaled
            mistakes = {}
        given = q.clone().requires_grad_(), k.clone().requires_grad_()
        got = answer(*given)
        what = f"2 maps of {places} places and {channels} channels"
        expect(value_of(got), right.attention_weights(q, k), what, mistakes)
        unchanged({"queries": (given[0].detach(), q), "keys": (given[1].detach(), k)})
        if places > 1:
            require_gradient(got[:, :, 0], given, ["queries", "keys"])


def check_attending_block(answer: Answer) -> None:
    ivqvae_block.check(answer)


def check_best_guess_l1(answer: Answer) -> None:
    mean = "That is the mean, the best guess for the squared error."
    plain = "That is the plain median: the images are not equally likely."
    # only the last has a majority; no sum of some is one half
    for shares in ([0.31, 0.24, 0.11, 0.22, 0.12], [0.13, 0.2, 0.29, 0.38], [0.6, 0.25, 0.15]):
        n, p = len(shares), torch.tensor(shares)
        likeliest = "That is the likeliest image: every pixel decides for itself."
        x = torch.randn(n, 2, 3, 4)
        values, order = x.sort(dim=0)
        index = (p[order].cumsum(0) >= 0.5).int().argmax(0, keepdim=True)
        products = p[:, None, None, None] * x
        overall = x.flatten(1).mean(1).argsort()
        by_wholes = x[overall][int((p[overall].cumsum(0) >= 0.5).int().argmax())]
        wholes = "The images were sorted as wholes: every pixel has its own order."
        if torch.equal(by_wholes, x[int(p.argmax())]):
            likeliest = wholes = ("Either that is the likeliest image, or the images were sorted "
                                  "as wholes: every pixel decides for itself.")
        mistakes = {
            mean: products.sum(0),
            "That is the mean of the images, as if all were equally likely.": x.mean(0),
            plain: x.median(0).values,
            likeliest: x[int(p.argmax())],
            ("You added up the probabilities in the images' order: sort them with the values, "
             "probabilities[order]."):
                values.gather(0, (p.cumsum(0) >= 0.5).int().argmax(0).expand(1, *x.shape[1:]))[0],
            "You picked from the unsorted images.": x.gather(0, index)[0],
            "One too far: take the first value at which the sum reaches one half.":
                values.gather(0, (index + 1).clamp_max(n - 1))[0],
            "One too early: take the first value at which the sum reaches one half.":
                values.gather(0, (index - 1).clamp_min(0))[0],
            "That is the smallest value.": values[0],
            "That is the largest value.": values[-1],
            "You multiplied the values by their probabilities: these only say where to stop.":
                products.median(0).values,
            "You returned the values' numbers: the values themselves are wanted.":
                index[0].float(),
            "You returned the sum of the probabilities: the value there is wanted.":
                p[order].cumsum(0).gather(0, index)[0],
            wholes: by_wholes,
        }
        given = x.clone(), p.clone()
        expect(answer(*given), values.gather(0, index)[0], f"{n} random images", mistakes)
        unchanged({"images": (given[0], x), "probabilities": (given[1], p)})
    x = torch.stack([torch.full((2, 3, 4), v) for v in (0.9, -0.5, 0.1)])
    for shares, best in (([0.5, 0.25, 0.25], 2), ([0.25, 0.5, 0.25], 1)):
        p = torch.tensor(shares)
        what = f"values 0.9, −0.5, 0.1 with probabilities {', '.join(map(str, shares))}"
        expect(answer(x.clone(), p.clone()), x[best], what, {
            mean: (p[:, None, None, None] * x).sum(0), plain: x.median(0).values,
            ("Where the sum is exactly one half, the first such value is wanted. Either you ask "
             "for more than one half (>), or you sorted downwards."): x[{2: 0, 1: 2}[best]],
            "Where the sum is exactly one half, no mean of two values is wanted: the first.":
                (x[best] + x[{2: 0, 1: 2}[best]]) / 2})


def check_feature_distance(answer: Answer) -> None:
    losses.feature_distance(answer)


def check_total_loss(answer: Answer) -> None:
    losses.total_loss(answer)


def check_balance(answer: Answer) -> None:
    losses.balance(answer)


def check_both_steps(answer: Answer) -> None:
    ivqvae_steps.check(answer)
