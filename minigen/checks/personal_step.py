"""Excursion 4's step that keeps what was known, checked: two losses, a cut, a step."""

import functools
import traceback
from typing import Any

import torch
from torch import Tensor

from minigen import ddpm
from minigen.checks.compare import Answer, Wrong
from minigen.checks.personal_answers import Batch
from minigen.checks.personal_world import (
    CASES,
    After,
    Step,
    World,
    after,
    by_value,
    each_by_itself,
    each_group,
    each_loss_cut,
    first_group,
    in_turns,
    jointly,
    simple,
    step,
    stepped,
    stretched,
    uncut,
    with_the_frozen,
)


def but(**how: Any) -> Step:
    """The step with something else in it."""
    return functools.partial(step, **how)


def by(**how: Any) -> Step:
    return functools.partial(each_loss_cut, **how)


def exchanged(batch: Batch, times_and_words: bool) -> Batch:
    z, ids, t, eps = batch
    return (z, t, ids, eps) if times_and_words else (eps, ids, t, z)


def of_noise(w: World, batch: Batch) -> Tensor:
    """The error of the noise, whatever the model says that it predicts."""
    z, ids, t, eps = batch
    return (w.model(w.diffusion.add_noise(z, t, eps), t, ids) - eps).square().mean()


def in_one_batch(w: World, own: Batch, known: Batch) -> tuple:
    whole = simple(w, (torch.cat([own[0], known[0]]), torch.cat([own[1], known[1]]),
                       torch.cat([own[2], known[2]]), torch.cat([own[3], known[3]])))
    told = simple(w, own), simple(w, known)
    w.optimiser.zero_grad()
    whole.backward()
    jointly(w)
    w.optimiser.step()
    return told


def summed(w: World, batch: Batch) -> Tensor:
    return simple(w, batch) * batch[0].numel()


SWAPPED_Z = "z and eps are swapped: a batch holds (z, ids, t, eps), and simple_loss takes z, t, " \
    "eps, ids."
SWAPPED_T = "t and ids are swapped: a batch holds (z, ids, t, eps), and simple_loss takes z, t, " \
    "eps, ids."
ORDER = "Return own's loss first, then known's: "
CUT_EACH = "The gradients of the two losses come together before they are cut: you cut "
TURNS = "One step for both losses: own's + weight · known's goes backward once. You took a step " \
    "for each."
OWN_AND = "own's loss + weight · known's: "
# the sentence that names a mistake, and the step that has it
MISTAKES: list[tuple[str, Step]] = [
    (OWN_AND + "the weight is missing.", but(total=lambda a, b, w: a + b)),
    (OWN_AND + "you gave the weight to own's.", but(total=lambda a, b, w: w * a + b)),
    (OWN_AND + "you gave the weight to both.", but(total=lambda a, b, w: w * (a + b))),
    (OWN_AND + "you divided by the weight.", but(total=lambda a, b, w: a + b / w)),
    (OWN_AND + "the weight is there twice.", but(total=lambda a, b, w: a + w * w * b)),
    (OWN_AND + "you shared the weight out, 1 − weight and weight.",
     but(total=lambda a, b, w: (1 - w) * a + w * b)),
    (OWN_AND + "you divided the sum by 1 + weight.",
     but(total=lambda a, b, w: (a + w * b) / (1 + w))),
    (OWN_AND + "you took half of the sum.", but(total=lambda a, b, w: (a + w * b) / 2)),
    (OWN_AND + "you took the mean of the two.", but(total=lambda a, b, w: (a + b) / 2)),
    (OWN_AND + "you multiplied the two.", but(total=lambda a, b, w: a * w * b)),
    (OWN_AND + "you subtracted known's.", but(total=lambda a, b, w: a - w * b)),
    ("Only own's loss goes backward: + weight · known's keeps what was known.",
     but(total=lambda a, b, w: a + 0 * b)),
    ("Only known's loss goes backward: own's is what is to be learned.",
     but(total=lambda a, b, w: w * b + 0 * a)),
    ("Only known's loss goes backward, without its weight: own's + weight · known's.",
     but(total=lambda a, b, w: b + 0 * a)),
    ("The step went up the losses: it minimises them.", but(total=lambda a, b, w: -a - w * b)),
    ("The two batches were joined, with one mean over both: each has a loss of its own, so that "
     "their numbers do not weigh.", in_one_batch),
    ("The squares are summed: take the mean, as simple_loss does.", but(loss=summed)),
    ("What the model predicts it says itself, model.prediction: you took the noise for all. Let "
     "ddpm.simple_loss take the loss.", but(loss=of_noise)),
    (SWAPPED_Z, but(loss=lambda w, batch: simple(w, exchanged(batch, False)))),
    ("The old gradients were still there: optimiser.zero_grad() before backward().",
     but(clear=False)),
    ("The weights did not move: backward or step is missing, or zero_grad stands between the two.",
     but(moves=0)),
    ("backward() is missing: the weights moved by the old gradients.",
     but(clear=False, backward=False)),
    ("The optimiser took two steps: one is wanted.", but(moves=2)),
    *((TURNS, functools.partial(in_turns, clear=clear, known_first=turned, cut=cut))
      for clear in (True, False) for turned in (True, False) for cut in (jointly, uncut)),
    ("The gradients were not cut to length 1, or at a moment that is too early or too late: "
     "clip_grad_norm_ stands between backward and step.", but(cut=uncut)),
    (CUT_EACH + "own's by themselves first.", by()),
    (CUT_EACH + "own's alone, before known's came.", by(last=False)),
    (CUT_EACH + "each by itself.", by(apart=True, last=False)),
    (CUT_EACH + "each by itself, and known's before the weight.",
     by(apart=True, last=False, after_weight=False)),
    (CUT_EACH + "each by itself first.", by(apart=True)),
    (CUT_EACH + "each by itself first, and known's before the weight.",
     by(apart=True, after_weight=False)),
    ("All the gradients have one joint length: you cut each parameter's by itself.",
     but(cut=each_by_itself)),
    ("All the gradients have one joint length: you cut each group's by itself.",
     but(cut=each_group)),
    ("The optimiser has several param_groups: you cut the first one's gradients alone.",
     but(cut=first_group)),
    ("A frozen weight's old gradient was counted: cut those of optimiser.param_groups, not of all "
     "model.parameters().", but(cut=with_the_frozen)),
    ("You cut each number: their joint length is cut, clip_grad_norm_.", but(cut=by_value)),
    ("The length is the root of the sum of squares: you took the largest number, norm inf.",
     but(cut=functools.partial(jointly, norm=float("inf")))),
    ("The length is the root of the sum of squares: you took the sum of absolute values, norm 1.",
     but(cut=functools.partial(jointly, norm=1.0))),
    ("A gradient shorter than 1 stays as it is: you made it 1 long.", but(cut=stretched)),
    ("The losses are those before the step: you took them anew after it.", but(late=True)),
    ("own and known are swapped: what is to be learned comes first, and known's has the weight.",
     lambda w, own, known: step(w, known, own)),
    (ORDER + "yours are swapped.", but(told=lambda a, b, w, whole: (b, a))),
    (ORDER + "known's is multiplied by the weight, and is wanted without it.",
     but(told=lambda a, b, w, whole: (a, w * b))),
    (ORDER + "yours begins with their sum.", but(told=lambda a, b, w, whole: (whole, b))),
    (ORDER + "yours are their sum and own's.", but(told=lambda a, b, w, whole: (whole, a))),
    (ORDER + "yours ends with their sum.", but(told=lambda a, b, w, whole: (a, whole))),
    (ORDER + "you returned own's twice.", but(told=lambda a, b, w, whole: (a, a))),
    (ORDER + "you returned known's twice.", but(told=lambda a, b, w, whole: (b, b))),
    (ORDER + "you returned the sum twice.", but(told=lambda a, b, w, whole: (whole, whole))),
]
# where a sentence has the shape of t; elsewhere the diffusion refuses it
MISTAKES_OF_ONE_SHAPE: list[tuple[str, Step]] = [
    (SWAPPED_T, but(loss=lambda w, batch: simple(w, exchanged(batch, True)))),
]


def prior_preserving_step(answer: Answer) -> None:
    for case in range(len(CASES)):
        world, got = World.fresh(case), []
        for own, known in world.batches:
            got.append(_run(answer, world, own, known))
            try:
                _compare(got, case)
            except Wrong as e:
                if not e.named:
                    _draws_nothing(answer, case)
                raise


def _run(answer: Answer, w: World, own: Batch, known: Batch) -> After:
    try:
        got = answer(w.model, w.diffusion, w.optimiser, own, known, w.weight)
    except NotImplementedError:
        raise
    except RuntimeError as e:
        for sign, words in _TOLD.items():
            if sign in str(e):
                raise Wrong(words) from None
        raise
    except ValueError as e:
        if any(frame.f_code is ddpm.simple_loss.__code__
               for frame, _ in traceback.walk_tb(e.__traceback__)):
            raise Wrong("A batch holds (z, ids, t, eps), and the order is simple_loss(model, "
                        "diffusion, z, t, eps, ids); it refused what it was given. What the model "
                        "predicts it says itself.") from None
        raise
    if got is None:
        raise Wrong("Your function returned None: return both losses, own's and known's.")
    if not isinstance(got, tuple | list) or len(got) != 2:
        raise Wrong(f"Your function returned a {type(got).__name__}; two losses are wanted: own's "
                    "and known's.")
    try:
        return after(w, (got[0], got[1]))
    except (TypeError, ValueError, RuntimeError):
        raise Wrong("What you return is not two numbers: own's loss and known's.") from None


_TOLD = {
    "second time": "A loss went backward twice: add the two first, then call backward() once.",
    "modified by an inplace": "A step changed weights that a later backward still needed: one "
        "backward of the sum, then one step.",
    "does not require grad": "A backward began at a loss that no weight has a part in: something "
        "on its way is detached, or was made under torch.no_grad().",
    "only for scalar outputs": "A backward begins at one number: is a mean missing?",
}


def _compare(got: list[After], case: int) -> None:
    """Raise `Wrong` unless the last of these steps is right; those before it were."""
    now, want = got[-1], stepped(case, len(got))[-1]
    if now.like(want):
        return
    for words, how in [*MISTAKES, *(MISTAKES_OF_ONE_SHAPE if not CASES[case].words else ())]:
        if _alike(got, stepped(case, len(got), how)) and not _seen_before(how, case):
            raise Wrong(words)
    when = "In the first step" if len(got) == 1 else "In the step after the first"
    for i, name in enumerate(("own's loss, the first number,", "known's loss, the second number,")):
        if not torch.isclose(now.losses[i], want.losses[i], rtol=1e-4, atol=2e-5):
            raise Wrong(f"{when} {name} is {now.losses[i]:.4g}; {want.losses[i]:.4g} is wanted.",
                        named=False)
    before = got[-2] if len(got) > 1 else after(World.fresh(case), (0, 0))
    mine, right = now.weights - before.weights, want.weights - before.weights
    factor = float(mine @ right / right.square().sum())
    if factor > 0 and torch.allclose(mine, factor * right, rtol=1e-3, atol=2e-5):
        raise Wrong(f"{when} the losses are right, and so is the way that the weights went, but it "
                    f"is {factor:.3g} times as long as is wanted: cut the gradient to the joint "
                    "length 1 where it is longer, and leave it as it is elsewhere.")
    raise Wrong(f"{when} the losses are right, but the weights did not move by one step down the "
                "gradient of own's + weight · known's, cut to the joint length 1.", named=False)


def _alike(some: list[After], others: list[After]) -> bool:
    return all(a.like(b) for a, b in zip(some, others, strict=True))


def _seen_before(how: Step, case: int) -> bool:
    """Whether a mistake shows in an earlier world, where this answer was right."""
    return not all(_alike(stepped(i, 2), stepped(i, 2, how)) for i in range(case))


def _draws_nothing(answer: Answer, case: int) -> None:
    """Raise `Wrong` where a step that begins in the same way ends in another."""
    one, other = (_run(answer, w, *w.batches[0]) for w in (World.fresh(case), World.fresh(case)))
    if not one.like(other):
        raise Wrong("You drew something: noise and times are given in own and known, and two calls "
                    "with the same come to the same.")
