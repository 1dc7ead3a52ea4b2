"""Chapter 1's losses of the discriminator, checked: value, gradient, and the usual mistakes."""

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from minigen import gan
from minigen.checks.compare import Answer, Wrong, expect, require_gradient, unchanged, value_of


def some_logits(*shape: int, around: float = 0.0) -> Tensor:
    """Logits from 3 below `around` to 3 above, shuffled; a gradient can come back to them."""
    spread = torch.linspace(-3, 3, math.prod(shape))[torch.randperm(math.prod(shape))]
    return (around + spread + 0.3 * torch.randn(spread.shape)).view(shape).requires_grad_()


def of_two_halves(
    answer: Answer, right: Callable[[Tensor, Tensor], Tensor],
    mistakes: Callable[[Tensor, Tensor], Mapping[str, Tensor]]
) -> None:
    """A loss of real and of fake logits: its value, its gradient, batches of unequal size."""
    for real, fake in (((7,), (7,)), ((4, 1), (4, 1)), ((2, 3, 3), (2, 3, 3)), ((7,), (5,))):
        leaves = some_logits(*real, around=3), some_logits(*fake, around=-3)
        given = [x.clone() for x in leaves]
        try:
            got = answer(*given)
        except RuntimeError as e:
            if real == fake:
                raise
            raise Wrong("With 7 real logits and 5 fake ones your code raised an error, "
                        f"“{str(e).splitlines()[0][:80]}”: take the mean of each half by itself, "
                        "then add the two means.") from None
        r, f = (x.detach() for x in leaves)
        shapes = f"logits of shape {real}" if real == fake else "7 real and 5 fake logits"
        expect(value_of(got), right(r, f), shapes, mistakes(r, f))
        unchanged({"real logits": (given[0], leaves[0]), "fake logits": (given[1], leaves[1])})
        require_gradient(got, leaves, ("real logits", "fake logits"))


def mistakes_of_d_loss(r: Tensor, f: Tensor) -> Mapping[str, Tensor]:
    """{what it means: the value} of wrong losses of D."""
    soft, want = F.softplus, gan.discriminator_loss(r, f)
    real, fake = soft(-r).mean(), soft(f).mean()
    mistakes = {
        "Real and fake are swapped.": gan.discriminator_loss(f, r),
        "You summed over the batch: take the mean.": soft(-r).sum() + soft(f).sum(),
        "The fake half is missing.": real,
        "The real half is missing.": fake,
        "Both halves push the logits up: the fake half is −log(1 − D), the softplus of +logit.":
            real + soft(-f).mean(),
        "Both halves push the logits down: the real half is −log D, the softplus of −logit.":
            soft(r).mean() + fake,
        "The fake half is subtracted: both halves are to be made small.": real - fake,
        "The real half is subtracted: both halves are to be made small.": fake - real,
        "The sign is wrong: D maximises V, so its loss, which is minimised, is −V.": -want,
        "The logs are missing: that is the mean of 1 − D(x) and of D(G(z)).":
            (-r).sigmoid().mean() + f.sigmoid().mean(),
        "The softplus is missing: those are the logits themselves.": f.mean() - r.mean(),
        "That is the hinge loss, without its ½.": F.relu(1 - r).mean() + F.relu(1 + f).mean(),
        "That is the hinge loss.": gan.discriminator_loss(r, f, "hinge"),
        "relu is not softplus: F.softplus(x) is log(1 + eˣ).":
            F.relu(-r).mean() + F.relu(f).mean(),
    }
    if len(r) == len(f):
        mistakes |= {
            "You averaged the two halves; Eq. 1 adds them.": want / 2,
            ("All logits are treated as real ones, and averaged together: the fake half is the "
             "softplus of +logit, and each half has a mean of its own."):
                (real + soft(-f).mean()) / 2,
            ("All logits are treated as fake ones, and averaged together: the real half is the "
             "softplus of −logit, and each half has a mean of its own."):
                (soft(r).mean() + fake) / 2,
            "Real and fake are swapped, and averaged together: Eq. 1 adds the two means.":
                gan.discriminator_loss(f, r) / 2,
        }
    else:
        pooled = torch.cat([soft(-r), soft(f)]).mean()
        mistakes["You averaged both halves together: each half has a mean of its own."] = pooled
        mistakes["You averaged both halves together: each half has a mean of its own, and no 2 "
                 "is needed then."] = 2 * pooled
    return mistakes


def finite(got: Tensor, where: str, want: float) -> None:
    """Where a sigmoid has rounded to 0 or 1 its log is infinite, or cut off."""
    if not torch.isfinite(got).all():
        raise Wrong(f"{where} the loss is not finite: either the sigmoid has rounded to 0 or 1 "
                    "before the log, or e to the power of 200 has overflowed. Compute from the "
                    "logits: −log sigmoid(x) = softplus(−x).")
    if float(got) < 0.9 * want:
        raise Wrong(f"{where} the loss stops at {float(got):.3g} instead of {want:g}: the sigmoid "
                    "has rounded to 0 or 1, and something cuts the log off (a small number added, "
                    "a clamp, binary_cross_entropy's limit of 100). Compute from the logits: "
                    "−log sigmoid(x) = softplus(−x).")


def mistakes_of_hinge(r: Tensor, f: Tensor) -> Mapping[str, Tensor]:
    """{what it means: the value} of wrong hinge losses of D."""
    relu, want = F.relu, gan.discriminator_loss(r, f, "hinge")
    real, fake = relu(1 - r).mean(), relu(1 + f).mean()
    mistakes = {
        ("The max(0, ·) is missing: without it the loss has no lower bound (the paper's misprint "
         "in Eq. 14)."): 0.5 * ((1 - r).mean() + (1 + f).mean()),
        "The max(0, ·) stands outside the mean: every logit has its own.":
            0.5 * (relu((1 - r).mean()) + relu((1 + f).mean())),
        "The factor ½ is missing.": real + fake,
        "The ½ belongs to both halves: only the real one has it.": 0.5 * real + fake,
        "The ½ belongs to both halves: only the fake one has it.": real + 0.5 * fake,
        ("Either the signs inside or real and fake are swapped: real logits should go above 1, "
         "fake ones below −1."): 0.5 * (relu(1 + r).mean() + relu(1 - f).mean()),
        "Both halves have the same sign inside: the fake one is 1 + logit.":
            0.5 * (real + relu(1 - f).mean()),
        "Both halves have the same sign inside: the real one is 1 − logit.":
            0.5 * (relu(1 + r).mean() + fake),
        "The margin of 1 is missing.": 0.5 * (relu(-r).mean() + relu(f).mean()),
        "The fake half is missing.": 0.5 * real,
        "The real half is missing.": 0.5 * fake,
        "The halves are subtracted: both are to be made small.": 0.5 * (real - fake),
        "The sign is wrong: this loss is never negative.": -want,
        "You took min(0, ·): it is max(0, ·).":
            0.5 * ((1 - r).clamp(max=0).mean() + (1 + f).clamp(max=0).mean()),
        "You took the absolute value: beyond the margin there is nothing to pay.":
            0.5 * ((1 - r).abs().mean() + (1 + f).abs().mean()),
        "The hinge is squared: it is a straight line, max(0, ·).":
            0.5 * (relu(1 - r).square().mean() + relu(1 + f).square().mean()),
        "That is d_loss of exercise 1.2.": gan.discriminator_loss(r, f),
        "softplus is not max(0, ·): F.relu.":
            0.5 * (F.softplus(1 - r).mean() + F.softplus(1 + f).mean()),
        "You summed over the batch: take the mean.":
            0.5 * (relu(1 - r).sum() + relu(1 + f).sum()),
        "You summed over the batch, and the ½ is missing.": relu(1 - r).sum() + relu(1 + f).sum(),
    }
    if len(r) != len(f):
        pooled = torch.cat([relu(1 - r), relu(1 + f)]).mean()
        mistakes["You averaged both halves together: each half has a mean of its own."] = pooled
    return mistakes
