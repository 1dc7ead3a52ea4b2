"""Checks of chapter 3's exercises."""

import math

import torch
import torch.nn.functional as F

from minigen import pixelcnn, vqvae
from minigen.checks.compare import Answer, Wrong, expect, value_of


def check_nearest_index(answer: Answer) -> None:
    for n, k, c in ((20, 8, 3), (7, 30, 2)):
        z, codebook = torch.randn(n, c), 2 * torch.randn(k, c)
        z[0] = 0  # then only the codes' own length decides
        dot, square = z @ codebook.T, codebook.square().sum(1)
        mistakes = {
            ("You took the largest inner product: a long code wins from afar. Its squared length "
             "belongs to the distance."):
                dot.argmax(1),
            "You took the farthest code: argmin, not argmax.": (square - 2 * dot).argmax(1),
            "The factor 2 of the mixed term is missing.": (square - dot).argmin(1),
            "The mixed term is added; it is subtracted.": (square + 2 * dot).argmin(1),
            "That is the nearest vector of each code: argmin over the codes, dim=1.":
                torch.cdist(codebook, z).argmin(1),
            "You returned the distances: return the index of the smallest.": square - 2 * dot,
            "You returned the smallest distance: return its index.":
                (square - 2 * dot).min(1).values,
        }
        want = vqvae.nearest_code(z, codebook)
        expect(answer(z.clone(), codebook.clone()), want, f"{n} vectors and {k} codes", mistakes)


def check_straight_through(answer: Answer) -> None:
    z_e, z_q = torch.randn(3, 4), torch.randn(3, 4)
    a, b = z_e.clone().requires_grad_(), z_q.clone().requires_grad_()
    got = answer(a, b)
    expect(value_of(got), z_q, "two tensors of shape (3, 4)", {
        "The value is that of z_e: going forward it must be the code.": z_e,
        "The value is z_q − z_e: the z_e in front is missing.": z_q - z_e})
    weight = torch.randn(3, 4)
    if not (isinstance(got, torch.Tensor) and got.requires_grad):
        raise Wrong("No gradient comes back at all: z_e in front must not be detached.")
    to_e, to_q = torch.autograd.grad((got * weight).sum(), (a, b), allow_unused=True)
    if to_e is None or torch.count_nonzero(to_e) == 0:
        raise Wrong("The value is right, but no gradient reaches z_e: only the bracket is "
                    "detached.")
    if torch.allclose(to_e, -weight):
        raise Wrong("The stop is at the wrong place: detach the bracket, not the z_e in front of "
                    "it.")
    if to_q is not None and torch.count_nonzero(to_q):
        raise Wrong("A gradient reaches z_q: detach the whole bracket, (z_q − z_e).detach().")
    expect(to_e, weight, "the gradient with respect to z_e")


def check_vq_loss(answer: Answer) -> None:
    for shape, beta in (((6, 4), 0.25), ((2, 3, 2, 2), 0.5)):
        a, b = torch.randn(shape).requires_grad_(), torch.randn(shape).requires_grad_()
        want = F.mse_loss(b, a.detach()) + beta * F.mse_loss(a, b.detach())
        got = answer(a, b, beta)
        error = F.mse_loss(a, b).detach()
        expect(value_of(got), want.detach(), f"tensors of shape {shape} and β = {beta}", {
            "You summed over the elements: take the mean.": want.detach() * a.numel(),
            "Only one of the two terms is there.": error,
            "Only the commitment is there: the codebook term is missing.": beta * error,
            "β is missing.": 2 * error,
            "β is on both terms.": 2 * beta * error})
        if not (isinstance(got, torch.Tensor) and got.requires_grad):
            raise Wrong("Return the tensor with its graph: both terms must train something.")
        want_a, want_b = torch.autograd.grad(want, (a, b))
        got_a, got_b = torch.autograd.grad(got, (a, b), allow_unused=True)
        if got_a is None or got_b is None:
            idle = "encoder" if got_a is None else "codebook"
            raise Wrong(f"The {idle} gets no gradient: each term detaches only one of the two.")
        misplaced = torch.allclose(got_a, want_a / beta, atol=1e-5)
        if misplaced and torch.allclose(got_b, want_b * beta, atol=1e-5):
            raise Wrong("β is on the codebook term, the bug itself: it belongs to the commitment, "
                        "where e is detached.")
        if torch.allclose(got_a, want_a / beta * (1 + beta), atol=1e-5):
            raise Wrong("Nothing is detached: each term must move one of the two only.")
        expect(got_a, want_a, "the encoder's gradient")
        expect(got_b, want_b, "the codes' gradient")


def check_ema_update(answer: Answer) -> None:
    count, total = torch.rand(4) + 1, torch.randn(4, 2)
    z = torch.randn(9, 2)
    indices = torch.tensor([0, 0, 1, 3, 3, 3, 3, 1, 0])  # code 2 gets nothing
    n, sums = vqvae.count_and_sum(z, indices, 4)
    for decay in (0.99, 0.5):
        got = answer(count.clone(), total.clone(), z.clone(), indices.clone(), decay)
        if not isinstance(got, tuple | list) or len(got) != 3:
            raise Wrong("Return three things: the new count, the new total, the new codebook.")
        want_n, want_m = decay * count + (1 - decay) * n, decay * total + (1 - decay) * sums
        given = f"4 codes, 9 vectors and decay {decay}"
        expect(got[0], want_n, f"{given}, the count,", {
            "The decay is on the new count: the old one keeps the share γ.":
                (1 - decay) * count + decay * n,
            "The counts are the batch's only: keep a share γ of the old ones.": n,
            "The new count is added in full: it gets the weight 1 − γ.": decay * count + n})
        means = torch.where(n[:, None] > 0, sums / n[:, None].clamp_min(1), 0)
        expect(got[1], want_m, f"{given}, the total,", {
            "The decay is on the new sum: the old one keeps the share γ.":
                (1 - decay) * total + decay * sums,
            ("You averaged the vectors of each code: the total is a running sum, the division "
             "comes last."):
                decay * total + (1 - decay) * means,
            "The new sum is added in full: it gets the weight 1 − γ.": decay * total + sums})
        expect(got[2], want_m / want_n[:, None], f"{given}, the codebook,", {
            "You divided by the old count.": want_m / count[:, None],
            "The codebook is the total: divide it by the count.": want_m,
            "You divided by the batch's count alone.": want_m / n[:, None].clamp_min(1)})


def check_code_perplexity(answer: Answer) -> None:
    cases = [
        (torch.arange(8).view(2, 4), 8),
        (torch.tensor([0, 0, 0, 1, 5, 5]), 9),
        (torch.randint(20, (3, 4, 4)), 20),
    ]
    for indices, k in cases:
        want = torch.tensor(vqvae.perplexity(indices, k))
        entropy = want.log()
        mistakes = {
            "That is the entropy: take its exponential.": entropy,
            "The sign of the entropy is lost: H = −Σ p log p.": (-entropy).exp(),
            "That is 2^H with H in nats: natural log and exp belong together.": 2**entropy,
            "That is the number of codes that appear at all.":
                torch.tensor(float(len(indices.unique()))),
        }
        got = answer(indices.clone(), k)
        if isinstance(got, torch.Tensor) and got.isnan().any():
            raise Wrong("NaN: an unused code has p = 0, and 0 · log 0 must count as 0. "
                        "torch.xlogy(p, p) does that.")
        expect(got, want, f"indices {tuple(indices.shape)} into {k} codes", mistakes)


def check_mask(answer: Answer) -> None:
    for size in (3, 5, 7):
        for kind in ("A", "B"):
            want = pixelcnn.causal_mask(size, kind)
            other = pixelcnn.causal_mask(size, "B" if kind == "A" else "A")
            got = answer(size, kind)
            middle, below = size // 2, want.clone()
            below[middle] = 0
            whole = want.clone()
            whole[middle] = 1
            expect(got, want, f"size {size}, kind {kind}", {
                "The centre is the wrong way round: kind A leaves it out, kind B keeps it.": other,
                "Upside down: the rows above come before, the rows below come after.": want.flip(0),
                "Mirrored: what comes before in the middle row is on the left.": want.flip(1),
                "The middle row is missing: places left of the centre come before it.": below,
                "The whole middle row is open: what is right of the centre comes later.": whole,
                "The columns come first in your order; an image is read row by row.":
                    want.T.contiguous()})


def check_bits(answer: Answer) -> None:
    for b, k, h in ((3, 5, 2), (2, 16, 4)):
        logits, codes = torch.randn(b, k, h, h), torch.randint(k, (b, h, h))
        want = pixelcnn.bits_per_image(logits, codes)
        nats = want * math.log(2)
        expect(answer(logits.clone(), codes.clone()), want, f"logits {tuple(logits.shape)}", {
            "That is in nats: divide by log 2.": nats,
            "You multiplied by log 2; divide.": nats * math.log(2),
            "That is per token, in nats: sum over the map, and divide by log 2.": nats / h**2,
            "That is per token: sum over the map.": want / h**2,
            "You summed over the batch: divide by the number of images.": want * b,
            "You summed over the batch and left nats.": nats * b})
