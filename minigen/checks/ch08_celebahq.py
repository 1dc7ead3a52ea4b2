"""Checks of chapter 8's exercises."""

import math

import torch

from minigen.checks.compare import Wrong, expect


def _tell(got, want, given, mistakes):
    """Like `expect`, for lists, tuples and integers."""
    if got is None:
        raise Wrong("Your function returned None. Is there a `return`?")
    for meaning, value in mistakes.items():
        if got == value and got != want:
            raise Wrong(meaning)
    if not isinstance(got, type(want)):
        raise Wrong(f"Your function returned a {type(got).__name__}; a {type(want).__name__} is wanted.")
    if got != want:
        raise Wrong(f"For {given} it is {want}; you gave {got}.")


def check_place_of(answer):
    for step, k, batch, n in ((1, 0, 4, 10), (3, 2, 4, 10), (1, 9, 4, 10), (6, 0, 4, 10), (2, 1, 20, 7)):
        seen = (step - 1) * batch + k
        got = answer(step, k, batch, n)
        if isinstance(got, tuple | list) and any(isinstance(v, float) for v in got):
            raise Wrong("Your function returned a fraction: // divides without one.")
        given = f"step {step}, image {k}, batch {batch}, {n} images"
        _tell(tuple(got) if isinstance(got, list) else got, (seen // n, seen % n), given, {
            "Steps count from 1: before step 1 nothing was seen.": ((step * batch + k) // n, (step * batch + k) % n),
            "You forgot the place inside the batch, k.": ((seen - k) // n, (seen - k) % n),
            "The two are swapped: epoch first.": (seen % n, seen // n),
            "Epochs are not made of whole batches: the stream has no gap between them.":
                ((step - 1) // (n // batch or 1), (step - 1) % (n // batch or 1) * batch + k),
            "Epochs are counted from 0.": (seen // n + 1, seen % n)})


def check_my_share(answer):
    batch = torch.arange(24).view(12, 2)
    for rank, world in ((1, 3), (0, 2), (3, 4), (0, 1)):
        mistakes = {
            "That is the whole batch: each process takes its part.": batch,
            "That is a block: take every world-th entry, so that the parts do not depend on how long they are.":
                batch[rank * (12 // world):(rank + 1) * (12 // world)],
            "You began at entry 0: process `rank` begins at entry `rank`.": batch[::world],
            "rank and world are swapped.": batch[world::max(rank, 1)],
            "You skipped along the second axis.": batch[:, rank::world],
        }
        expect(answer(batch.clone(), rank, world), batch[rank::world], f"process {rank} of {world}", mistakes)


def check_rate_factor(answer):
    def right(step, steps, rise):
        return step / rise if step <= rise else 0.5 * (1 + math.cos(math.pi * (step - rise) / (steps - rise)))

    for step, steps in ((5, 200), (70, 200), (20, 200), (200, 200), (1, 7), (4, 7)):
        rise = max(1, steps // 10)
        expect(answer(step, steps), right(step, steps, rise), f"step {step} of {steps}", {
            "That is a straight line down: half a cosine is wanted.": torch.tensor((steps - step) / (steps - rise)),
            "The cosine begins at the top of the rise, and has the steps after it: (step − rise) / (steps − rise).":
                torch.tensor(step / rise if step <= rise else 0.5 * (1 + math.cos(math.pi * step / steps))),
            "The rise is missing.": torch.tensor(0.5 * (1 + math.cos(math.pi * step / steps))),
            "That is a whole cosine, up again at the end: half of one.": torch.tensor(
                step / rise if step <= rise else 0.5 * (1 + math.cos(2 * math.pi * (step - rise) / (steps - rise)))),
            "The ½ is missing.": torch.tensor(step / rise if step <= rise else 2 * right(step, steps, rise)),
            "Step 1 is not 0: at step s of the rise the factor is s / rise.":
                torch.tensor((step - 1) / rise if step <= rise else -9.0)})


def check_to_delete(answer):
    for steps, keep in (([30, 10, 20, 50, 40], 2), ([5, 3, 4], 3), ([2, 1], 5), ([9, 7, 8], 1)):
        given = list(steps)
        got = answer(given, keep)
        if given != steps:
            raise Wrong("Your function changed the list it was given: use sorted, which makes a new one.")
        in_order = sorted(steps)
        _tell(got, in_order[:-keep], f"{steps} and keep = {keep}", {
            "Those stay: the others are to be deleted.": in_order[-keep:],
            "The newest go in yours: the oldest are to go.": in_order[keep:],
            "The steps come in any order: sort them first.": steps[:-keep],
            "You keep one too many.": in_order[: -keep - 1],
            "You keep one too few.": in_order[: len(in_order) - keep + 1] if keep > 1 else in_order,
            "Oldest first, please.": in_order[:-keep][::-1]})


def check_kid(answer):
    from minigen.engine.evaluate import kernel_distance

    a, b = torch.randn(9, 6).double(), (torch.randn(7, 6) + 0.5).double()
    want = torch.tensor(kernel_distance(a, b)).double()

    def kernel(x, y, power=3, divide=6, plus=1):
        return (x @ y.T / divide + plus) ** power

    def put(k, diagonal=False, cross=2):
        aa, bb, ab = k(a, a), k(b, b), k(a, b)
        if diagonal:
            return aa.mean() + bb.mean() - cross * ab.mean()
        within = (aa.sum() - aa.trace()) / (9 * 8) + (bb.sum() - bb.trace()) / (7 * 6)
        return within - cross * ab.mean()

    aa, bb = kernel(a, a), kernel(b, b)
    expect(answer(a.clone(), b.clone()), want, "9 and 7 vectors", {
        "Pairs of an image with itself are counted: take the diagonal out.": put(kernel, diagonal=True),
        "The mean between the two counts twice.": put(kernel, cross=1),
        "The division by D in the kernel is missing.": put(lambda x, y: kernel(x, y, divide=1)),
        "The + 1 in the kernel is missing.": put(lambda x, y: kernel(x, y, plus=0)),
        "The kernel is to the third power.": put(lambda x, y: kernel(x, y, power=2)),
        "Without the diagonal there are n (n − 1) pairs, not n².":
            (aa.sum() - aa.trace()) / 81 + (bb.sum() - bb.trace()) / 49 - 2 * kernel(a, b).mean()}, tol=1e-6)


def check_image_bits(answer):
    for tokens, codes in ((16, 16384), (16, 512), (5, 3)):
        expect(answer(tokens, codes), tokens * math.log2(codes), f"{tokens} tokens of {codes} codes", {
            "That is in nats: the logarithm to base 2.": torch.tensor(tokens * math.log(codes)).double(),
            "That is of one token.": torch.tensor(math.log2(codes)).double(),
            "There are codes ** tokens sequences, not codes · tokens.": torch.tensor(math.log2(codes * tokens)).double(),
            "Tokens and codes are swapped.": torch.tensor(codes * math.log2(tokens)).double(),
            "That is the number of codes, not its logarithm.": torch.tensor(float(tokens * codes)).double()})
