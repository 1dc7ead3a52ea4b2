"""Checks of chapter 8's exercises."""

import math
from typing import Any

import torch
from torch import Tensor

from minigen.checks import celebahq_parts
from minigen.checks.celebahq_parts import in_parts
from minigen.checks.compare import Answer, Wrong, expect

__all__ = ["in_parts"]                            # what stands in for an answer in the chapter

NEGATIVE = "The estimate is unbiased, so it may fall below 0: "


def _tell(got: Any, want: Any, given: str, mistakes: dict[str, Any]) -> None:
    """Like `expect`, for lists, tuples and integers."""
    if got is None:
        raise Wrong("Your function returned None. Is there a `return`?")
    for meaning, value in mistakes.items():
        if got == value and got != want:
            raise Wrong(meaning)
    if not isinstance(got, type(want)):
        kind, wanted = type(got).__name__, type(want).__name__
        raise Wrong(f"Your function returned a {kind}; a {wanted} is wanted.")
    if got != want:
        raise Wrong(f"For {given} it is {want}; you gave {got}.")


def check_place_of(answer: Answer) -> None:
    cases = ((1, 0, 4, 10), (3, 2, 4, 10), (1, 9, 4, 10), (6, 0, 4, 10), (2, 1, 20, 7))
    for step, k, batch, n in cases:
        seen = (step - 1) * batch + k
        got = answer(step, k, batch, n)
        if isinstance(got, tuple | list) and any(isinstance(v, float) for v in got):
            raise Wrong("Your function returned a fraction: // divides without one.")
        given = f"step {step}, image {k}, batch {batch}, {n} images"
        _tell(tuple(got) if isinstance(got, list) else got, (seen // n, seen % n), given, {
            "Steps count from 1: before step 1 nothing was seen.":
                ((step * batch + k) // n, (step * batch + k) % n),
            "You forgot the place inside the batch, k.": ((seen - k) // n, (seen - k) % n),
            "The two are swapped: epoch first.": (seen % n, seen // n),
            "Epochs are not made of whole batches: the stream has no gap between them.":
                ((step - 1) // (n // batch or 1), (step - 1) % (n // batch or 1) * batch + k),
            "Epochs are counted from 0.": (seen // n + 1, seen % n),
            "That is one too many: k, too, counts from 0.": ((seen + 1) // n, (seen + 1) % n),
            "The place in the epoch is what is left after whole epochs, % n.": (seen // n, seen),
            "An epoch has n images: divide by n, not by the batch.":
                (seen // batch, seen % batch)})


def check_my_share(answer: Answer) -> None:
    batch = torch.arange(24).view(12, 2)
    block = "That is a block: take every world-th entry, so that the parts do not depend on how "
    for rank, world in ((1, 3), (0, 2), (3, 4), (0, 1), (1, 5)):
        share = batch[rank::world]
        mistakes = {
            "That is the whole batch: each process takes its part.": batch,
            block + "long they are.": batch[rank * (12 // world):(rank + 1) * (12 // world)],
            block + "long it is.": torch.tensor_split(batch, world)[rank],
            "Processes count from 0: yours begins at entry rank + 1.": batch[rank + 1::world],
            "That is one entry: take every world-th, beginning there.": batch[rank],
            "Those are the entries' places: return the entries.": torch.arange(rank, 12, world),
            "Where the batch is no multiple of world, its last entries are left out in yours.":
                share[:12 // world],
            "You began at entry 0: process `rank` begins at entry `rank`.": batch[::world],
            "rank and world are swapped.": batch[world::max(rank, 1)],
            "You skipped along the second axis.": batch[:, rank::world],
        }
        got = answer(batch.clone(), rank, world)
        expect(got, share, f"process {rank} of {world}", mistakes)


def check_in_parts(answer: Answer) -> None:
    celebahq_parts.check(answer)


def check_rate_factor(answer: Answer) -> None:
    def falling(angle: float) -> float:
        return 0.5 * (1 + math.cos(angle))

    for step, steps in ((5, 200), (70, 200), (20, 200), (200, 200), (1, 7), (4, 7)):
        rise = max(1, steps // 10)
        up, rising = step / rise, step <= rise
        angle = math.pi * (step - rise) / (steps - rise)
        from_start = math.pi * step / steps
        want = up if rising else falling(angle)
        mistakes = {
            "That is a straight line down: half a cosine is wanted.":
                (steps - step) / (steps - rise),
            ("The cosine begins at the top of the rise, and has the steps after it: (step − rise) "
             "/ (steps − rise)."):
                up if rising else falling(from_start),
            "The rise is missing.": falling(from_start),
            "That is a whole cosine, up again at the end: half of one.":
                up if rising else falling(2 * angle),
            "The ½ is missing.": up if rising else 2 * want,
            "Step 1 is not 0: at step s of the rise the factor is s / rise.":
                (step - 1) / rise if rising else -9.0,
            "The rise ends after the first tenth of the steps: there the factor is s / rise.":
                step / steps if rising else want,
            "½ (1 + the cosine): the 1 is missing.": up if rising else want - 0.5,
            "It rises again after the top: 1 + the cosine, not 1 − the cosine.":
                up if rising else 1 - want,
            "The cosine takes radians: half a turn is π, not 180.":
                up if rising else falling(180 / math.pi * angle),
            "The cosine has to make half a turn: π is missing in its angle.":
                up if rising else falling(angle / math.pi),
        }
        values = {meaning: torch.tensor(value) for meaning, value in mistakes.items()}
        expect(answer(step, steps), want, f"step {step} of {steps}", values)


def check_to_delete(answer: Answer) -> None:
    cases = (([30, 10, 20, 50, 40], 2), ([9, 100, 20, 3, 1000], 2), ([5, 3, 4], 3), ([2, 1], 5),
             ([9, 7, 8], 1))
    for steps, keep in cases:
        given = list(steps)
        got = answer(given, keep)
        if given != steps:
            raise Wrong("Your function changed the list it was given: use sorted, which makes a "
                        "new one.")
        in_order = sorted(steps)
        _tell(got, in_order[:-keep], f"{steps} and keep = {keep}", {
            "Those stay: the others are to be deleted.": in_order[-keep:],
            "The newest go in yours: the oldest are to go.": in_order[keep:],
            "The steps come in any order: sort them first.": steps[:-keep],
            "You keep one too many.": in_order[: -keep - 1],
            "You keep one too few.": in_order[: len(in_order) - keep + 1] if keep > 1 else in_order,
            "Oldest first, please.": in_order[:-keep][::-1],
            "You sorted them as words, where 100 comes before 20: compare the numbers.":
                sorted(steps, key=str)[:-keep],
            "All of them go in yours: the newest stay.": in_order})


def check_kid(answer: Answer) -> None:
    from minigen.engine.evaluate import kernel_distance

    def kernel(x: Tensor, y: Tensor, power: int = 3, divide: int = 6, plus: int = 1) -> Tensor:
        return (x @ y.T / divide + plus) ** power

    def distance(a: Tensor, b: Tensor, diagonal: bool = False, cross: int = 2, **how: int
                 ) -> Tensor:
        aa, bb, ab = kernel(a, a, **how), kernel(b, b, **how), kernel(a, b, **how)
        if diagonal:
            return aa.mean() + bb.mean() - cross * ab.mean()
        within = (aa.sum() - aa.trace()) / (9 * 8) + (bb.sum() - bb.trace()) / (7 * 6)
        return within - cross * ab.mean()

    def squares(a: Tensor, b: Tensor) -> Tensor:
        aa, bb = kernel(a, a), kernel(b, b)
        return (aa.sum() - aa.trace()) / 81 + (bb.sum() - bb.trace()) / 49

    for below in (False, True):
        a, b = torch.randn(9, 6).double(), (torch.randn(7, 6) + 0.5).double()
        while below and kernel_distance(a, b) >= 0:  # of one distribution: every other time
            a, b = torch.randn(9, 6).double(), torch.randn(7, 6).double()
        want = torch.tensor(kernel_distance(a, b)).double()
        expect(answer(a, b), want, "9 and 7 vectors", {
            NEGATIVE + "no abs.": want.abs(),
            NEGATIVE + "no max with 0.": want.clamp_min(0),
            "Pairs of an image with itself are counted: take the diagonal out.":
                distance(a, b, diagonal=True),
            "The mean between the two counts twice.": distance(a, b, cross=1),
            "The mean between the two is missing.": distance(a, b, cross=0),
            "The mean between the two is subtracted.": distance(a, b, cross=-2),
            "The division by D in the kernel is missing.": distance(a, b, divide=1),
            "D is the number of features of one image, not that of the images.":
                distance(a, b, divide=9),
            "The + 1 in the kernel is missing.": distance(a, b, plus=0),
            "The kernel is to the third power.": distance(a, b, power=2),
            "The distance stays squared: no root at the end.": want.abs().sqrt(),
            "Without the diagonal there are n (n − 1) pairs, not n².":
                squares(a, b) - 2 * kernel(a, b).mean()}, tol=1e-6)


def check_image_bits(answer: Answer) -> None:
    for tokens, codes in ((16, 16384), (16, 512), (5, 3)):
        want = tokens * math.log2(codes)
        expect(answer(tokens, codes), want, f"{tokens} tokens of {codes} codes", {
            "That is in nats: the logarithm to base 2.":
                torch.tensor(tokens * math.log(codes)).double(),
            "That is of one token.": torch.tensor(math.log2(codes)).double(),
            "There are codes ** tokens sequences, not codes · tokens.":
                torch.tensor(math.log2(codes * tokens)).double(),
            "Tokens and codes are swapped.": torch.tensor(codes * math.log2(tokens)).double(),
            "That is the number of codes, not its logarithm.":
                torch.tensor(float(tokens * codes)).double(),
            "That is the number of sequences: its logarithm is wanted.":
                torch.tensor(float(codes) ** tokens, dtype=torch.float64),
            "The logarithm is to base 2, not to base 10.":
                torch.tensor(tokens * math.log10(codes), dtype=torch.float64),
            "You rounded up to whole bits a token: leave the fraction.":
                torch.tensor(float(tokens * math.ceil(math.log2(codes)))),
            "You rounded down to whole bits a token: leave the fraction.":
                torch.tensor(float(tokens * math.floor(math.log2(codes)))),
            "Those are bytes: bits are wanted.":
                torch.tensor(want / 8, dtype=torch.float64)})
