"""Chapter 4's training step, checked: the autoencoder's, and from its start the judge's."""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from minigen.checks.compare import Answer, Wrong, unchanged
from minigen.checks.ivqvae_answers import balance
from minigen.checks.ivqvae_world import LAMBDA, After, World, distance, hinge, row, stepped


def _bce(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-real).mean() + F.softplus(fake).mean()


UNMOVED = ("either its backward or its optimiser's step is missing, or zero_grad stands between "
           "backward and step.")

# the sentence that names a mistake, and the step that has it
WRONG: dict[str, dict[str, Any]] = {
    "The sign of L_G is wrong: the decoder wants the judge's logits high, L_G = −mean.":
        dict(sign=1.0),
    "The balance is missing: L_G is multiplied by balance(l1 + perceptual, L_G, weight).":
        dict(total=lambda a, p, g, v, w: a + p + LAMBDA * g + (1 - LAMBDA) * v),
    "The reconstruction in the balance is L1 and the perceptual loss together: you gave it L1.":
        dict(total=lambda a, p, g, v, w:
             a + p + LAMBDA * balance(a, g, w) * g + (1 - LAMBDA) * v),
    "λ_d is missing before the adversarial loss.":
        dict(total=lambda a, p, g, v, w: a + p + balance(a + p, g, w) * g + (1 - LAMBDA) * v),
    "λ_vq = 1 − λ_d is missing before the quantizer's loss.":
        dict(total=lambda a, p, g, v, w: a + p + LAMBDA * balance(a + p, g, w) * g + v),
    "The perceptual loss is missing in the total.":
        dict(total=lambda a, p, g, v, w:
             a + LAMBDA * balance(a + p, g, w) * g + (1 - LAMBDA) * v),
    "The perceptual loss is missing everywhere: distance(x_hat, x).mean().":
        dict(total=lambda a, p, g, v, w: a + LAMBDA * balance(a, g, w) * g + (1 - LAMBDA) * v),
    "The quantizer's loss is missing: quantized.loss.":
        dict(total=lambda a, p, g, v, w: a + p + LAMBDA * balance(a + p, g, w) * g),
    ("No adversarial loss reaches the autoencoder: either it is missing in the total, or something "
     "on its way is detached."):
        dict(total=lambda a, p, g, v, w: a + p + (1 - LAMBDA) * v),
    "That is the squared error: L1 is the absolute one.": dict(square=True),
    "The autoencoder's gradients of the step before were still there: zero_grad before backward.":
        dict(clear="judge"),
    ("The judge's gradients of the step before were still there: its zero_grad, before its "
     "backward, is missing."): dict(clear="model"),
    ("The judge's gradients still held what the autoencoder's backward had left in them: its "
     "zero_grad comes right before its own backward."): dict(clear="early"),
    f"The autoencoder's weights did not move: {UNMOVED}": dict(move=(1,)),
    f"The judge's weights did not move: {UNMOVED}": dict(move=(0,)),
    f"Neither network's weights moved: for each, {UNMOVED}": dict(move=()),
    "optimisers[0] is the autoencoder's, optimisers[1] the judge's: you swapped them.":
        dict(swapped=True),
    "L1 is summed: take the mean of all absolute differences.": dict(l1_of=torch.sum),
    "L1 is summed over each image: take the mean of all absolute differences.":
        dict(l1_of=lambda error: error.sum() / len(error)),
    "L_G is summed: take minus the mean of the judge's logits.": dict(g_of=torch.sum),
    "The perceptual loss is summed over the images: distance(x_hat, x).mean().":
        dict(p_of=torch.sum),
    "The judge's step came first: the autoencoder's comes first.": dict(first=1),
    "Real and reconstructed are swapped in the judge's loss.":
        dict(d_loss=lambda r, f: hinge(f, r)),
    "The judge's loss is the hinge's: you took the logarithms of chapter 1.": dict(d_loss=_bce),
    "The judge's loss is without max(0, ·): then it falls for ever.":
        dict(d_loss=lambda r, f: 0.5 * ((1 - r).mean() + (1 + f).mean())),
    "The ½ before the judge's two terms is missing.": dict(d_loss=lambda r, f: 2 * hinge(r, f)),
    "The judge's loss is summed: both of its terms are means.":
        dict(d_loss=lambda r, f: hinge(r, f, torch.sum)),
    "The judge saw the real images only.": dict(d_loss=lambda r, f: 0.5 * F.relu(1 - r).mean()),
    "The judge saw the reconstructions only.": dict(d_loss=lambda r, f: 0.5 * F.relu(1 + f).mean()),
}


UNREACHED = ("A loss does not depend on the weight for which its gradient is asked: either x_hat "
             "is detached on its way, or balance was given its three in another order.")


def _numbers(got: Any) -> Tensor:
    if got is None:
        raise Wrong("Your function returned None; three numbers are wanted: L1, L_G and the "
                    "judge's loss.")
    if not isinstance(got, tuple | list) or len(got) != 3:
        raise Wrong(f"Your function returned a {type(got).__name__}; three numbers are wanted: L1, "
                    "L_G and the judge's loss.")
    if any(isinstance(v, Tensor) and v.requires_grad for v in got):
        raise Wrong("Return numbers, .item(): a tensor would keep the whole graph alive.")
    try:
        return torch.tensor([float(v) for v in got])
    except (TypeError, ValueError, RuntimeError):
        raise Wrong("What you return is not three numbers: L1, L_G, the judge's loss.") from None


def _run(answer: Answer, seed: int, step: int, start: int) -> After:
    model, judge, optimisers, x = World.fresh(seed)
    before = x.clone()
    seen: list[bool] = []                         # does what the judge sees pass a gradient on?
    judge.register_forward_pre_hook(lambda _, given: seen.append(given[0].requires_grad))
    try:
        got = answer(model, judge, optimisers, x, distance, model.last.weight, LAMBDA, step, start)
    except RuntimeError as e:
        if "have been used in the graph" in str(e) and seen:
            raise Wrong(UNREACHED if any(seen) else
                        "L_G must reach the decoder: detach only in the judge's step.") from None
        if "second time" not in str(e) and "modified by an inplace" not in str(e):
            raise
        raise Wrong("A backward went through a graph that is gone. Either the judge's step goes "
                    "back into the autoencoder, where x_hat.detach() belongs, or one loss is "
                    "taken backward twice.") from None
    numbers = _numbers(got)
    unchanged({"images": (x, before)})
    if model.runs != 1:
        raise Wrong(f"The autoencoder was run {model.runs} times: one x_hat serves both steps.")
    if not all(p.requires_grad for p in (*model.parameters(), *judge.parameters())):
        raise Wrong("Your function left weights that no longer want a gradient.")
    return After(numbers, row(model), row(judge))


def _compare(got: After, seed: int, judged: bool, when: str, wrong: dict[str, After]) -> None:
    want = stepped(seed, judged)
    if got.like(want):
        return
    for meaning, after in wrong.items():
        if got.like(after):
            raise Wrong(meaning)
    for i, name in enumerate(("the first number, L1,", "the second number, L_G,",
                              "the third number, the judge's loss,")):
        if not torch.isclose(got.numbers[i], want.numbers[i], rtol=1e-4, atol=1e-6):
            raise Wrong(f"{when} {name} is {got.numbers[i]:.4g}; {want.numbers[i]:.4g} is wanted.")
    if not torch.allclose(got.model, want.model, rtol=1e-4, atol=1e-6):
        raise Wrong(f"{when} the three numbers are right, but the autoencoder's weights did not "
                    "move by one step down the gradient of the total loss.")
    raise Wrong(f"{when} the three numbers and the autoencoder are right, but the judge's weights "
                "did not move by one step down the gradient of its loss.")


def check(answer: Answer) -> None:
    for seed in (0, 1):
        judged, plain = stepped(seed, True), stepped(seed, False)
        early = copy.deepcopy(judged)
        only_d = After(early.numbers * torch.tensor([1.0, 0.0, 1.0]), plain.model, early.judge)
        wrong = {meaning: stepped(seed, True, **how) for meaning, how in WRONG.items()}
        wrong["Nothing was judged: from step `start` on, that step included, the judge counts."] = (
            plain)
        for step, when in ((9, "At step 9, with start 5,"), (5, "At step 5, with start 5,")):
            _compare(_run(answer, seed, step, 5), seed, True, when, wrong)
        _compare(_run(answer, seed, 4, 5), seed, False, "At step 4, with start 5,", {
            "Before `start` the judge must not count, nor learn.": judged,
            "Before `start` the judge must not learn either.": only_d,
            "Before `start` L_G must not count.": After(
                early.numbers * torch.tensor([1.0, 1.0, 0.0]), judged.model, plain.judge),
            "The autoencoder learns before `start` too.": After(
                plain.numbers, row(World.fresh(seed).model), plain.judge),
        })
