"""Checks of chapter 3's exercises."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from minigen import pixelcnn, vqvae
from minigen.checks import pixelcnn_loop, vqvae_parts
from minigen.checks.compare import Answer, Wrong, expect, require_gradient, unchanged, value_of
from minigen.checks.vqvae_answers import (  # noqa: F401  (found by name: minigen.checks.yours)
    bits,
    draw_codes,
    ema_update,
    mask,
    nearest_index,
    quantize,
    straight_through,
    vq_loss,
)

LOG2 = math.log(2)


class _Largest(TorchFunctionMode):
    """Notes how many numbers the largest tensor held that was made inside."""

    size = 0

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            self.size = max(self.size, out.numel())
        return out


def check_nearest_index(answer: Answer) -> None:
    for n, k, c in ((20, 8, 3), (7, 30, 4)):
        z, codebook = torch.randn(n, c), 2 * torch.randn(k, c)
        z[0] = 0  # then only the codes' own length decides
        dot, square = z @ codebook.T, codebook.square().sum(1)
        want = vqvae.nearest_code(z, codebook)
        mistakes = {
            ("You took the largest inner product: a long code wins from afar. Its squared length "
             "belongs to the distance."):
                dot.argmax(1),
            "You took the smallest inner product: that is not a distance.": dot.argmin(1),
            ("You compared directions (the cosine), so a code's length does not count: take the "
             "distance."):
                (dot / square.sqrt()).argmax(1),
            "You took the farthest code: argmin, not argmax.": (square - 2 * dot).argmax(1),
            "The factor 2 of the mixed term is missing.": (square - dot).argmin(1),
            "The mixed term is added; it is subtracted.": (square + 2 * dot).argmin(1),
            "The code's length is not squared.": (square.sqrt() - 2 * dot).argmin(1),
            "You summed absolute differences: the distance here is squared.":
                torch.cdist(z, codebook, p=1).argmin(1),
            "That is the nearest vector of each code: argmin over the codes, dim=1.":
                torch.cdist(codebook, z).argmin(1),
            "You returned the distances: return the index of the smallest.": square - 2 * dot,
            "You returned all distances: return the index of the smallest.":
                torch.cdist(z, codebook),
            "You returned the squared distances: return the index of the smallest.":
                torch.cdist(z, codebook).square(),
            "You returned the smallest distance: return its index.":
                (square - 2 * dot).min(1).values,
            "You returned the smallest distance itself: return its index.":
                torch.cdist(z, codebook).min(1).values,
            "You returned the codes: return their indices.": codebook[want],
            "The axis of codes was kept, with length 1: the shape is (N,).": want[:, None],
        }
        given = z.clone(), codebook.clone()
        with _Largest() as made:
            got = answer(*given)
        expect(got, want, f"{n} vectors and {k} codes", mistakes)
        unchanged({"vectors": (given[0], z), "codebook": (given[1], codebook)})
        if made.size >= n * k * c:
            raise Wrong("Right, but all the differences were built, N · K · C numbers: expand the "
                        "square, then N · K will do.")


def check_straight_through(answer: Answer) -> None:
    z_e, z_q = torch.randn(3, 4), torch.randn(3, 4)
    a, b = z_e.clone().requires_grad_(), z_q.clone().requires_grad_()
    got = answer(a, b)
    unchanged({"z_e": (a.detach(), z_e), "z_q": (b.detach(), z_q)})
    expect(value_of(got), z_q, "two tensors of shape (3, 4)", {
        "The value is that of z_e: going forward it must be the code.": z_e,
        "The value is z_q − z_e: the z_e in front is missing.": z_q - z_e,
        "The bracket is the wrong way round: z_q − z_e.": 2 * z_e - z_q,
        "The value is z_e + z_q: the bracket holds the difference.": z_e + z_q,
        "That is the mean of the two: going forward it must be the code.": (z_e + z_q) / 2})
    weight = torch.randn(3, 4)
    if not (isinstance(got, torch.Tensor) and got.requires_grad):
        raise Wrong("No gradient comes back at all: z_e in front must not be detached.")
    slopes = torch.autograd.grad((got * weight).sum(), (a, b), allow_unused=True)
    to_e, to_q = (torch.zeros_like(weight) if s is None else s for s in slopes)
    if torch.allclose(to_q, weight) and not to_e.any():
        raise Wrong("The value is right, but the gradient goes to z_q, and no gradient reaches "
                    "z_e: either nothing is detached, or you returned z_q itself.")
    if torch.allclose(to_e, -weight):
        raise Wrong("The stop is at the wrong place: detach the bracket, not the z_e in front of "
                    "it.")
    if not to_e.any():
        raise Wrong("The value is right, but no gradient reaches z_e: it stands in front, outside "
                    "of detach.")
    if to_q.any():
        raise Wrong("A gradient reaches z_q as well: detach the whole bracket, "
                    "(z_q − z_e).detach().")
    expect(to_e, weight, "the gradient with respect to z_e", {
        "The gradient of z_e comes twice: one of its two places is detached.": 2 * weight})


def check_vq_loss(answer: Answer) -> None:
    for shape, beta in (((6, 4), 0.25), ((2, 3, 2, 2), 0.5)):
        a, b = torch.randn(shape).requires_grad_(), torch.randn(shape).requires_grad_()
        got = answer(a, b, beta)
        given = f"tensors of shape {shape} and β = {beta}"
        vqvae_parts.expect_vq_loss(got, a, b, beta, given)


def check_quantize(answer: Answer) -> None:
    vqvae_parts.quantize(answer)


def check_ema_update(answer: Answer) -> None:
    for indices in (torch.tensor([0, 0, 1, 3, 3, 3, 3, 1, 0]),        # code 2 gets nothing
                    torch.tensor([0, 0, 1, 1, 1, 0, 0, 1, 0])):       # the last two neither
        count, total = torch.rand(4) + 1, torch.randn(4, 2)
        z = torch.randn(9, 2)
        for decay in (0.99, 0.5):
            given = [x.clone() for x in (count, total, z, indices)]
            try:
                got = answer(*given, decay)
            except (RuntimeError, IndexError) as e:
                if int(indices.max()) == 3:
                    raise
                raise Wrong(f"It fails where the last codes get no vector ({type(e).__name__}): "
                            "bincount wants minlength=K, one_hot the number of classes, K."
                            ) from None
            vqvae_parts.expect_averages(got, count, total, z, indices, decay)
            before = zip(given, (count, total, z, indices), strict=True)
            unchanged(dict(zip(("count", "total", "vectors", "indices"), before, strict=True)))


def check_mask(answer: Answer) -> None:
    for size in (3, 5, 7):
        a, b = answer(size, "A"), answer(size, "B")
        middle = size // 2
        for got, kind in ((a, "A"), (b, "B")):
            want = pixelcnn.causal_mask(size, kind)
            closed, whole, corner = want.clone(), want.clone(), want.clone()
            closed[middle] = 0
            whole[middle] = 1
            corner[:middle, middle + 1 :] = 0
            near = corner.clone()
            near[:middle, middle] = 0
            mistakes = {
                "Upside down: the rows above come before, the rows below come after.": want.flip(0),
                "Mirrored: what comes before in the middle row is on the left.": want.flip(1),
                "Turned by half: open is what comes before, above and to the left.":
                    want.flip(0, 1),
                "The middle row is missing: places left of the centre come before it.": closed,
                "The whole middle row is open: what is right of the centre comes later.": whole,
                "Only the upper left is open: the rows above are open in their whole width.":
                    corner,
                "Only what is above and to the left is open: the rows above are open whole.": near,
                ("That is a triangle (tril): what comes before, in reading order, is every row "
                 "above, and the left part of the middle row."): torch.ones(size, size).tril(),
                "That is a triangle (tril without its diagonal): reading order is another.":
                    torch.ones(size, size).tril(-1),
                "That is a triangle (triu): reading order is another.":
                    torch.ones(size, size).triu(),
                "The other way round: 1 where a tap may look, 0 where it may not.": 1 - want,
                "Everything is open: what comes later must be 0.": torch.ones(size, size),
                "Only the middle row is right: the rows above come before it.":
                    want * torch.eye(size)[middle][:, None],
                "The columns come first in your order; an image is read row by row.":
                    want.T.contiguous()}
            if isinstance(got, Tensor) and got.shape == want.shape:
                other = pixelcnn.causal_mask(size, "B" if kind == "A" else "A")
                if torch.equal(got.float(), other):
                    both = isinstance(a, Tensor) and isinstance(b, Tensor) and torch.equal(a, b)
                    raise Wrong("Both kinds give one mask: kind A leaves the centre out, kind B "
                                "keeps it." if both else
                                "The centre is the wrong way round: kind A leaves it out, kind B "
                                "keeps it.")
            expect(got, want, f"size {size}, kind {kind}", mistakes)


def _at(codes: Tensor, scores: Tensor) -> Tensor:
    """Minus the scores where the codes are, summed over the map, in bits if they are logs."""
    return -scores.gather(1, codes[:, None]).sum() / len(codes) / LOG2


def check_bits(answer: Answer) -> None:
    for b, k, h in ((3, 5, 2), (2, 16, 4)):
        logits = 2 * torch.randn(b, k, h, h)
        codes = torch.randint(k, (b, h, h))
        want = pixelcnn.bits_per_image(logits, codes)
        nats = want * LOG2
        mistakes = {
            "That is in nats: divide by log 2.": nats,
            "You multiplied by log 2; divide.": nats * LOG2,
            "That is per token, in nats: sum over the map, and divide by log 2.": nats / h**2,
            "That is per token: sum over the map.": want / h**2,
            "That is a mean over each row: sum over the whole map.": want / h,
            "You summed over the batch: divide by the number of images.": want * b,
            "You summed over the batch and left nats.": nats * b,
            "You took the softmax first: cross_entropy wants logits and takes it itself.":
                _at(codes, logits.softmax(1).log_softmax(1)),
            "The logits are no log probabilities yet: log_softmax over the codes is missing.":
                _at(codes, logits),
            "The log is missing: the bits are −log2 of the probability.":
                _at(codes, logits.softmax(1)),
            "The softmax runs over the places: it runs over the codes, dim=1.":
                _at(codes, logits.flatten(2).log_softmax(2).view_as(logits)),
            "The softmax runs over the last axis: it runs over the codes, dim=1.":
                _at(codes, logits.log_softmax(-1)),
            "That is the entropy of the predictions: the codes that came choose the term.":
                -(logits.softmax(1) * logits.log_softmax(1)).sum() / b / LOG2,
            "You divided by the number of codes: divide by the number of images.": want * b / k,
            "The sign is missing: −log2 p is positive.": -want,
        }
        leaf = logits.clone().requires_grad_()
        got = answer(leaf, codes.clone())
        expect(value_of(got), want, f"logits {tuple(logits.shape)}", mistakes)
        require_gradient(got, [leaf], ["logits"])
        slope = torch.autograd.grad(got, leaf)[0]
        right = (logits.softmax(1) - F.one_hot(codes, k).movedim(-1, 1)) / b / LOG2
        expect(slope, right, "the gradient with respect to the logits")


def check_draw_codes(answer: Answer) -> None:
    pixelcnn_loop.draw_codes(answer)
