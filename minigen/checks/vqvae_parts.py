"""Chapter 3's quantizer, checked: its loss, its gradients, its running averages."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from minigen import vqvae
from minigen.checks import vqvae_answers as right
from minigen.checks.compare import Answer, Wrong, expect, unchanged, value_of


def expect_vq_loss(got: Any, a: Tensor, b: Tensor, beta: float, given: str) -> None:
    """The loss of vectors a and codes b: its value, and whom each of its terms moves."""
    error = F.mse_loss(a, b).detach()
    value, want = value_of(got), (1 + beta) * error
    absolute = (1 + beta) * (a - b).abs().mean().detach()
    plain = {
        "The squares are missing: that is the absolute error.": absolute,
        "You summed over the elements: take the mean.": want * a.numel(),
        "You summed over the channels: take the mean of all.": want * a.shape[1],
        "The mean is not taken: the loss is one number.": (1 + beta) * (a - b).square().detach(),
        "You took the root: the loss is the mean of squares.": (1 + beta) * error.sqrt()}
    if not (isinstance(got, Tensor) and got.requires_grad and got.numel() == 1):
        expect(value, want, given, plain)
        raise Wrong("Return the tensor with its graph (no .item(), no detach around it all): both "
                    "terms must train something.")
    slopes = torch.autograd.grad(got.sum(), (a, b), allow_unused=True, retain_graph=True)
    to_a, to_b = (torch.zeros_like(a) if s is None else s for s in slopes)
    unit = (b - a).detach() * 2 / a.numel()           # the codes' gradient by a weight of 1
    size = unit.square().sum()
    encoder, codes = float(-(to_a * unit).sum() / size), float((to_b * unit).sum() / size)
    found = float(value) / float(error), encoder, codes
    for value_by, enc, cod, meaning in _loss_mistakes(beta):
        if all(abs(x - y) < 1e-3 for x, y in zip(found, (value_by, enc, cod), strict=True)):
            raise Wrong(meaning)
    expect(value, want, given, plain)
    if not to_a.any() or not to_b.any():
        idle = "codebook" if to_a.any() else "encoder"
        raise Wrong(f"The {idle} gets no gradient: each term detaches only one of the two.")
    expect(to_a, -beta * unit, "the encoder's gradient")
    expect(to_b, unit, "the codes' gradient")


def _loss_mistakes(beta: float) -> list[tuple[float, float, float, str]]:
    """(the value over the squared error, the encoder's weight, the codes' weight, what it is)"""
    n = "Nothing is detached: each term must move one of the two only."
    return [
        (1 + beta, 1, beta, "β is on the codebook term, the bug itself: it belongs to the "
                            "commitment, where e is detached."),
        (1 + beta, 1 + beta, 1 + beta, n),
        (1 + beta, 1 + beta, 1, "z_e is not detached in the codebook term: it moves the codes "
                                "only."),
        (1 + beta, beta, 1 + beta, "e is not detached in the commitment: it moves the encoder "
                                   "only."),
        (1 + beta, 1 + beta, 0, "The codebook gets no gradient: both terms detach e."),
        (1 + beta, 0, 1 + beta, "The encoder gets no gradient: both terms detach z_e."),
        (1, 0, 1, "Only one of the two terms is there: the commitment, with β, is missing."),
        (1, 1, 0, "Only one of the two terms is there, the commitment without its β: the codebook "
                  "term is missing."),
        (1, 1, 1, "Only one of the two terms is there, and nothing in it is detached."),
        (beta, beta, 0, "Only the commitment is there: the codebook term is missing."),
        (beta, 0, beta, "Only the codebook term is there, with a β that is not its own."),
        (2, 1, 1, "β is missing."),
        (2, 2, 2, "β is missing, and nothing is detached."),
        (2 * beta, beta, beta, "β is on both terms."),
        (1, beta, 1 - beta, "The weights are 1 − β and β: they are 1 and β."),
        (1, 1 - beta, beta, "The weights are 1 − β and β, and at the wrong terms: 1 for the "
                            "codebook, β for the commitment."),
        (1 - beta, -beta, 1, "The commitment is subtracted: both terms are added."),
    ]


def quantize(answer: Answer) -> None:
    for b, c, h, w, k, beta in ((3, 4, 2, 5, 7, 0.25), (2, 3, 4, 4, 9, 0.5)):
        z = torch.randn(b, c, h, w)
        codebook = torch.randn(k, c)
        leaf, book = z.clone().requires_grad_(), codebook.clone().requires_grad_()
        got = answer(leaf, book, beta)
        if not isinstance(got, tuple | list) or len(got) != 3:
            raise Wrong("Return three things: z_q, the indices, the loss.")
        z_q, indices, loss = got
        want, places, _ = right.quantize(z, codebook, beta)
        given = f"a map of shape {tuple(z.shape)} and {k} codes"
        if isinstance(z_q, Tensor) and not z_q.is_floating_point():
            raise Wrong("The order is z_q, indices, loss: first comes a map of floats.")
        if isinstance(indices, Tensor) and indices.ndim == 0:
            raise Wrong("The order is z_q, indices, loss: the loss comes last.")
        mixed = right.nearest_index(z.reshape(-1, c), codebook)
        turned = right.nearest_index(z.permute(0, 3, 2, 1).reshape(-1, c), codebook)
        expect(indices, places, f"{given}, the indices", {
            "The indices are a list: give them their places, (B, H, W).": places.flatten(),
            ("reshape(-1, C) alone mixes channels with places: the vector of a place runs along "
             "axis 1, so movedim(1, -1) comes first."): mixed.view(b, h, w),
            "reshape(-1, C) alone mixes channels with places, and the places are missing.": mixed,
            "Rows and columns are swapped: movedim(1, -1) keeps their order.":
                turned.view(b, h, w),
            "The axis of the codes was kept, with length 1.": places[:, None]})
        e = codebook[places]
        expect(value_of(z_q), want, f"{given}, z_q", {
            "z_q is z itself: going forward it holds the codes.": z,
            "The channels are last in your z_q: movedim(-1, 1) puts them back.": e,
            ("The codes were reshaped to the map's shape, which mixes channels with places: "
             "movedim(-1, 1) puts the channels back."): e.reshape(z.shape),
            "z_q is a list of codes: give them their places, and the channels axis 1.":
                e.flatten(0, 2)})
        _expect_slopes(z_q, leaf, book)
        e = book[places].movedim(-1, 1)
        _expect_loss_of(loss, leaf, book, e, beta, given)
        unchanged({"map": (leaf.detach(), z), "codebook": (book.detach(), codebook)})


def _expect_slopes(z_q: Any, z: Tensor, codebook: Tensor) -> None:
    """z_q has z's gradient, and the codebook none through it."""
    if not z_q.requires_grad:
        raise Wrong("No gradient comes back through z_q: straight_through carries it to z.")
    weight = torch.randn(z_q.shape)
    slopes = torch.autograd.grad((z_q * weight).sum(), (z, codebook), allow_unused=True,
                                 retain_graph=True)
    if slopes[0] is None or not slopes[0].any():
        raise Wrong("The decoder's gradient does not reach z: z_q is what straight_through makes "
                    "of z and the codes.")
    if slopes[1] is not None and slopes[1].any():
        raise Wrong("The decoder's gradient reaches the codebook: straight_through stops it.")
    expect(slopes[0], weight, "the gradient that goes through z_q")


def _expect_loss_of(
    loss: Any, z: Tensor, codebook: Tensor, e: Tensor, beta: float, given: str
) -> None:
    error = F.mse_loss(z, e).detach()
    expect(value_of(loss), (1 + beta) * error, f"{given}, the loss with β = {beta}", {
        "β is not passed on: vq_loss(z, e, beta).": (1 + 0.25) * error,
        "The loss compares z_q with itself: it is 0.": torch.tensor(0.0),
        "That is one of its two terms: call vq_loss.": error})
    if not (isinstance(loss, Tensor) and loss.requires_grad):
        raise Wrong("The loss has no graph: return what vq_loss gives, without detach or .item().")
    to_z, to_codes = torch.autograd.grad(loss, (z, codebook), allow_unused=True,
                                         retain_graph=True)
    if to_codes is None or not to_codes.any():
        raise Wrong("The codebook gets no gradient from the loss: vq_loss wants the codes "
                    "themselves. Either you gave it what straight_through made of them, or they "
                    "were detached.")
    want = torch.autograd.grad(right.vq_loss(z, e, beta), (z, codebook), retain_graph=True)
    if to_z is None or not to_z.any():
        raise Wrong("The encoder gets no gradient from the loss: z must not be detached in it.")
    swapped = torch.autograd.grad(right.vq_loss(e, z, beta), (z, codebook), retain_graph=True)
    if torch.allclose(to_z, swapped[0], atol=1e-6) and not torch.allclose(to_z, want[0], atol=1e-6):
        raise Wrong("β works on the codebook term: either vq_loss was given its two tensors the "
                    "wrong way round, or its β is misplaced.")
    unit = torch.autograd.grad(F.mse_loss(z, e), (z, codebook), retain_graph=True)
    for value_by, enc, cod, meaning in _loss_mistakes(beta):
        told = value_by == 1 + beta and (enc, cod) != (1, beta)
        if told and torch.allclose(to_z, enc * unit[0], atol=1e-6) and torch.allclose(
                to_codes, cod * unit[1], atol=1e-6):
            raise Wrong(meaning)
    expect(to_z, want[0], "the loss's gradient with respect to z")
    expect(to_codes, want[1], "the loss's gradient with respect to the codebook")


def expect_averages(
    got: Any, count: Tensor, total: Tensor, z: Tensor, indices: Tensor, decay: float
) -> None:
    """Count, sum and codebook after one batch, each seen to be as by running averages."""
    if not isinstance(got, tuple | list) or len(got) != 3:
        raise Wrong("Return three things: the new count, the new total, the new codebook.")
    if isinstance(got[0], Tensor) and got[0].shape == total.shape:
        raise Wrong("The first of the three is the count, of shape (K,); then the total, then the "
                    "codebook.")
    n, sums = vqvae.count_and_sum(z, indices, 4)
    g, h = decay, 1 - decay
    want_n, want_m = g * count + h * n, g * total + h * sums
    given = f"4 codes, 9 vectors and decay {decay}"
    count_mistakes = {
        "The decay is on the new count: the old one keeps the share γ.": h * count + g * n,
        "The counts are the batch's only: keep a share γ of the old ones.": n,
        "The new count is added in full: it gets the weight 1 − γ.": g * count + n,
        "The old count is kept in full: it gets the weight γ.": count + h * n,
        "You added the batch's counts: the old ones get the weight γ, the new ones 1 − γ.":
            count + n,
        "You counted shares of the batch: n is how many vectors chose each code.":
            g * count + h * n / len(z),
        "The count did not change.": count,
        "decay is an argument: you used 0.99 always.": 0.99 * count + 0.01 * n,
        "You counted only whether a code was chosen: count how often.":
            g * count + h * (n > 0).float()}
    means = torch.where(n[:, None] > 0, sums / n[:, None].clamp_min(1), 0)
    total_mistakes = {
        "The decay is on the new sum: the old one keeps the share γ.": h * total + g * sums,
        ("You averaged the vectors of each code: the total is a running sum, the division "
         "comes last."): g * total + h * means,
        "The new sum is added in full: it gets the weight 1 − γ.": g * total + sums,
        "The sums are the batch's only: keep a share γ of the old ones.": sums,
        "The old sum is kept in full: it gets the weight γ.": total + h * sums,
        "The total did not change.": total,
        "The total is divided already: the codebook is, the running sum stays a sum.":
            want_m / want_n[:, None]}
    code_mistakes = {
        "You divided by the old count.": want_m / count[:, None],
        "The codebook is the total: divide it by the count.": want_m,
        "You divided by the batch's count alone.": want_m / n[:, None].clamp_min(1),
        "You divided the old sum by the old count: first update both.": total / count[:, None],
        "You divided the old sum: the codebook is the new one over the new count.":
            total / want_n[:, None],
        "You multiplied by the count: divide.": want_m * want_n[:, None]}
    expect(got[0], want_n, f"{given}, the count,", count_mistakes)
    expect(got[1], want_m, f"{given}, the total,", total_mistakes)
    expect(got[2], want_m / want_n[:, None], f"{given}, the codebook,", code_mistakes)
