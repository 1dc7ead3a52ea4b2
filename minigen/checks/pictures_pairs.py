"""Excursion 3's step of pix2pix, checked: two losses, and where two optimisers take the weights."""

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from minigen.checks.compare import Answer, Wrong
from minigen.checks.pictures_world import (
    CASES,
    After,
    World,
    after,
    hinge,
    stepped,
    turned,
    with_face,
)
from minigen.gan import discriminator_loss, generator_loss


def both_kinds(kind: str) -> dict[str, Any]:
    return dict(d_of=lambda r, f: discriminator_loss(r, f, kind),
                g_of=lambda f: generator_loss(f, kind))


TURNED = "The order of a pair is the drawing first: torch.cat([drawing, picture], 1)."
FACED = "A pair is the drawing and a picture: you put the real face in the drawing's place."
UNMOVED = "its backward or its step is missing, zero_grad stands between the two, or"
KIND = "The losses are the hinge's: give \"hinge\" to "
# the sentence that names a mistake, and the step that has it
MISTAKES: list[tuple[str, dict[str, Any]]] = [
    *((TURNED, {name: turned for name in names})
      for n in (1, 2, 3)
      for names in itertools.combinations(("real_pair", "fake_pair", "own_pair"), n)),
    ("The judge's step left a gradient in the generator: detach there, fake.detach(), and clear "
     "the generator's gradients right before its own backward.", dict(detach=False)),
    (("No adversarial gradient reaches the generator: in its own step fake is not detached, and "
      "the adversarial loss is part of what you call backward() on."), dict(detach_own=True)),
    ("The absolute difference is missing in the generator's loss: (fake − face).abs().mean().",
     dict(total=lambda a, b, w: w * b)),
    ("The adversarial loss is missing in the generator's loss: + weight · …",
     dict(total=lambda a, b, w: a + 0 * b)),
    ("That is the squared difference: the absolute one is wanted.",
     dict(l1=lambda x, y, d: F.mse_loss(x, y))),
    ("The absolute differences are summed: take their mean.",
     dict(l1=lambda x, y, d: (x - y).abs().sum())),
    ("The absolute differences are summed in each picture: take the mean of all.",
     dict(l1=lambda x, y, d: (x - y).abs().sum() / len(x))),
    ("The absolute value is missing: differences up and down cancel.",
     dict(l1=lambda x, y, d: (x - y).mean())),
    ("That is the absolute mean: take absolute values first, then the mean.",
     dict(l1=lambda x, y, d: (x - y).mean().abs())),
    ("That is the root of the mean squared difference: the mean absolute one is wanted.",
     dict(l1=lambda x, y, d: F.mse_loss(x, y).sqrt())),
    ("fake is compared with the face: you compared it with the drawing.",
     dict(l1=lambda x, y, d: (x - d).abs().mean())),
    ("The weight belongs to the adversarial loss: you gave it to the absolute difference.",
     dict(total=lambda a, b, w: w * a + b)),
    ("The weight is missing before the adversarial loss.", dict(total=lambda a, b, w: a + b)),
    ("The weight belongs to the adversarial loss alone: you gave it to both.",
     dict(total=lambda a, b, w: w * (a + b))),
    ("The adversarial loss is multiplied by the weight: you divided.",
     dict(total=lambda a, b, w: a + b / w)),
    ("The weight is not shared out, 1 − weight and weight: the absolute difference has none.",
     dict(total=lambda a, b, w: (1 - w) * a + w * b)),
    ("The sign of the adversarial loss is wrong: generator_loss has its minus already.",
     dict(g_of=torch.mean)),
    ("Real and fake are swapped in the judge's loss.", dict(d_of=lambda r, f: hinge(f, r))),
    ("The judge saw the real pairs only.", dict(d_of=lambda r, f: F.relu(1 - r).mean() / 2)),
    ("The judge saw the drawn pairs only.", dict(d_of=lambda r, f: F.relu(1 + f).mean() / 2)),
    ("max(0, ·) is missing in the judge's loss: take discriminator_loss.",
     dict(d_of=lambda r, f: ((1 - r).mean() + (1 + f).mean()) / 2)),
    ("The ½ is in the judge's loss already: leave it as discriminator_loss gives it.",
     dict(d_of=lambda r, f: hinge(r, f) / 2)),
    ("The judge's loss is there twice: leave it as discriminator_loss gives it.",
     dict(d_of=lambda r, f: 2 * hinge(r, f))),
    ("The judge went up its loss: it minimises it.", dict(d_of=lambda r, f: -hinge(r, f))),
    ("The judge went up its loss: it minimises it.", dict(sign=(1, -1))),
    ("The generator went up its loss: it minimises it.", dict(sign=(-1, 1))),
    *((KIND + "both.", both_kinds(kind)) for kind in ("nonsaturating", "minimax")),
    (KIND + "discriminator_loss too.",
     dict(d_of=lambda r, f: discriminator_loss(r, f, "nonsaturating"))),
    *((KIND + "generator_loss too.", dict(g_of=both_kinds(kind)["g_of"]))
      for kind in ("nonsaturating", "minimax")),
    ("The generator's loss is not that of the judge: generator_loss of the drawn pairs' logits.",
     dict(g_of=lambda f: F.relu(1 - f).mean())),
    ("The generator's loss is not that of the judge: generator_loss of the drawn pairs' logits.",
     dict(g_of=lambda f: F.relu(1 + f).mean())),
    (f"The generator's weights did not move: {UNMOVED} fake was made without gradients.",
     dict(move=(0, 1))),
    (f"The judge's weights did not move: {UNMOVED} its logits were made without gradients.",
     dict(move=(1, 0))),
    (f"Neither network's weights moved: for each, {UNMOVED} there are no gradients.",
     dict(move=(0, 0))),
    ("The generator took two steps: one is wanted.", dict(move=(2, 1))),
    ("The judge took two steps: one is wanted.", dict(move=(1, 2))),
    ("The judge learned in the generator's step too: there opt_g steps alone.", dict(d_too=True)),
    ("The generator's old gradients were still there: opt_g.zero_grad() right before its backward.",
     dict(clear="d")),
    ("The judge's old gradients were still there, those among them that the generator's backward "
     "leaves in it: opt_d.zero_grad() right before its own backward.", dict(clear="g")),
    ("Both networks' old gradients were still there: zero_grad() right before each backward.",
     dict(clear="")),
    ("opt_g and opt_d are swapped.", dict(swapped=True)),
    ("The generator's step came first: the judge's comes first.", dict(first="g")),
    ("The losses are returned in the wrong order: d_loss, g_loss.",
     dict(told=lambda d, g, a, b: (g, d))),
    ("g_loss is the whole loss of the generator: you returned its adversarial part.",
     dict(told=lambda d, g, a, b: (d, b))),
    ("g_loss is the whole loss of the generator: you returned the absolute difference.",
     dict(told=lambda d, g, a, b: (d, a))),
    ("d_loss and g_loss are wanted: you returned the same twice.",
     dict(told=lambda d, g, a, b: (d, d))),
    ("d_loss and g_loss are wanted: you returned the same twice.",
     dict(told=lambda d, g, a, b: (g, g))),
]
# where a drawing has a face's shape; elsewhere the networks refuse them
MISTAKES_OF_ONE_SHAPE: list[tuple[str, dict[str, Any]]] = [
    (FACED, dict(real_pair=with_face, fake_pair=with_face, own_pair=with_face)),
    (FACED, dict(real_pair=with_face, fake_pair=with_face)),
    (FACED, dict(real_pair=with_face)), (FACED, dict(fake_pair=with_face)),
    (FACED, dict(own_pair=with_face)), (FACED, dict(fake_pair=with_face, own_pair=with_face)),
    ("The generator is given the drawing: you gave it the face.",
     dict(given=lambda drawing, face: face)),
]


def pix2pix_step(answer: Answer) -> None:
    for case in range(len(CASES)):
        _two_steps(answer, World.fresh(case), case)


def _two_steps(answer: Answer, world: World, case: int) -> None:
    felt: list[bool] = []          # has a gradient come back to the generator when opt_d steps?
    world.opt_d.register_step_pre_hook(lambda *_: felt.append(world.generator.felt))
    got: list[After] = []
    for drawing, face in world.batches:
        world.generator.felt = False
        got.append(_run(answer, world, drawing, face))
        _compare(got, case)
        if any(felt):
            raise Wrong("The judge's step sent a gradient back into the generator: what it sees "
                        "there is fake.detach().")


def _run(answer: Answer, w: World, drawing: Tensor, face: Tensor) -> After:
    try:
        got = answer(w.generator, w.judge, w.opt_g, w.opt_d, drawing, face, w.weight)
    except NotImplementedError:
        raise
    except RuntimeError as e:
        for sign, words in _TOLD.items():
            if sign in str(e):
                raise Wrong(words) from None
        raise
    if got is None:
        raise Wrong("Your function returned None: return both losses, d_loss, g_loss.")
    if not isinstance(got, tuple | list) or len(got) != 2:
        raise Wrong(f"Your function returned a {type(got).__name__}; two losses are wanted: "
                    "d_loss, g_loss.")
    try:
        return after(w, (got[0], got[1]))
    except (TypeError, ValueError, RuntimeError):
        raise Wrong("What you return is not two numbers: d_loss, g_loss.") from None


_TOLD = {
    "second time": "A backward went through a graph that is gone. Either the judge's step goes "
        "back into the generator, where fake.detach() belongs, or one loss is taken backward "
        "twice.",
    "modified by an inplace": "A step changed weights that a later backward still needed: the "
        "judge is asked about the drawn pairs anew after opt_d.step(), and that loss is the "
        "generator's.",
    "does not require grad": "A backward began at a loss that no weight has a part in: something "
        "on its way is detached, or was made under torch.no_grad().",
    "only for scalar outputs": "A backward begins at one number: is a mean missing?",
}


def _compare(got: list[After], case: int) -> None:
    """Raise `Wrong` unless the last of these steps is right; those before it were."""
    now, want = got[-1], stepped(case, len(got))[-1]
    if now.like(want):
        return
    one_shape = MISTAKES_OF_ONE_SHAPE if CASES[case][0] == 3 else []
    for words, how in [*MISTAKES, *one_shape]:
        if all(a.like(b) for a, b in zip(got, stepped(case, len(got), **how), strict=True)):
            raise Wrong(words)
    when = "In the first step" if len(got) == 1 else "In the step after the first"
    d_right, g_right = torch.isclose(now.losses, want.losses, rtol=1e-4, atol=2e-5).tolist()
    if not d_right:
        raise Wrong(f"{when} d_loss, the first number, is {now.losses[0]:.4g}; "
                    f"{want.losses[0]:.4g} is wanted.", named=False)
    if not torch.allclose(now.judge, want.judge, rtol=1e-4, atol=2e-5):
        raise Wrong(f"{when} d_loss is right, but the judge's weights did not move by one step of "
                    "opt_d down its gradient.", named=False)
    if not g_right:
        raise Wrong(f"{when} g_loss, the second number, is {now.losses[1]:.4g}; "
                    f"{want.losses[1]:.4g} is wanted.", named=False)
    raise Wrong(f"{when} the losses and the judge are right, but the generator's weights did not "
                "move by one step of opt_g down the gradient of g_loss.", named=False)
