"""Excursion 3's pix2pix and SDEdit: mistakes, each named whatever is drawn, and right answers."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from minigen.checks import (
    compare,
    pictures_answers,
    pictures_edit,
    pictures_pairs,
    pictures_world,
)
from minigen.gan import discriminator_loss, generator_loss
from tests.test_checks_pictures_repair import apart
from tests.test_checks_pictures_repair import told as told_by

CHECKS = {"pix2pix_step": pictures_pairs.pix2pix_step, "sdedit": pictures_edit.sdedit}


def told(name, fn):
    return told_by(name, fn, CHECKS)


def cat(a, b):
    return torch.cat([a, b], 1)


def back_to_front(a, b):
    return torch.cat([b, a], 1)


def trained(g, d, og, od, drawing, face, weight, pair=cat, real=None, fake=None, own=None,
            d_kind="hinge", g_kind="hinge", d_of=None, g_of=None, l1=lambda x, y: F.l1_loss(x, y),
            total=lambda a, b, w: a + w * b, detach=True, cut=False, before=True, zero_g=True,
            zero_d=True, g_steps=1, d_steps=1, generator_first=False, sign=(1, 1),
            end=lambda dl, gl, a, b: (dl.item(), gl.item()), retain=False, early=False, after=False,
            d_too=False, show=None, old=False):
    """The step of pix2pix, and what can go wrong in it."""
    made = g(drawing if show is None else show)
    if early:
        og.zero_grad()

    def judges():
        r = d((real or pair)(drawing, face))
        f = d((fake or pair)(drawing, made.detach() if detach else made))
        loss = discriminator_loss(r, f, d_kind) if d_of is None else d_of(r, f)
        if zero_d:
            od.zero_grad()
        (sign[1] * loss).backward(retain_graph=retain)
        if after:
            od.zero_grad()
        for _ in range(d_steps):
            od.step()
        return loss

    x = made.detach() if cut else made
    if old:
        kept = d((own or pair)(drawing, x))
    first = None if generator_first else judges()
    f = kept if old else d((own or pair)(drawing, x))
    b = generator_loss(f, g_kind) if g_of is None else g_of(f)
    a = l1(made, face)
    loss = total(a, b, weight)
    if zero_g:
        og.zero_grad()
    (sign[0] * loss).backward()
    if after:
        og.zero_grad()
    for _ in range(g_steps):
        og.step()
    if d_too:
        od.step()
    if generator_first:
        first = judges()
    return end(first, loss, a, b)


def in_one_batch(g, d, og, od, drawing, face, weight):
    """The same: the generator run twice, the judge once for both, gradients cleared at once."""
    og.zero_grad(set_to_none=False)
    od.zero_grad(set_to_none=False)
    with torch.no_grad():
        fake = g(drawing)
    real, drawn = d(cat(drawing.repeat(2, 1, 1, 1), torch.cat([face, fake]))).chunk(2)
    d_loss = ((1 - real).clamp(min=0).mean() + (1 + drawn).clamp(min=0).mean()) / 2
    d_loss.backward()
    od.step()
    d.requires_grad_(False)
    fake = g(drawing)
    g_loss = (face - fake).abs().sum() / face.numel() - weight * d(cat(drawing, fake)).mean()
    g_loss.backward()
    d.requires_grad_(True)
    og.step()
    return [d_loss.detach(), np.float64(g_loss.item())]


def with_first(k):
    return lambda *a: trained(*a, end=lambda *found: found[k].item())


def mixed_up(g, d, og, od, *rest):
    return trained(g, d, od, og, *rest)


def face_first(g, d, og, od, drawing, face, weight):
    return trained(g, d, og, od, drawing, face, weight, pair=lambda a, b: cat(face, b))


def own_face_first(g, d, og, od, drawing, face, weight):
    return trained(g, d, og, od, drawing, face, weight, own=lambda a, b: cat(face, b))


def drawn_from_face(g, d, og, od, drawing, face, weight):
    return trained(g, d, og, od, drawing, face, weight, show=face)


def like_the_drawing(g, d, og, od, drawing, face, weight):
    return trained(g, d, og, od, drawing, face, weight, l1=lambda x, y: (x - drawing).abs().mean())


def cleared_late(g, d, og, od, *rest):
    """Gradients cleared at the end of the step, where the judge gets new ones after it."""
    found = trained(g, d, og, od, *rest, zero_d=False, zero_g=False)
    og.zero_grad()
    od.zero_grad()
    return found


def run_twice(g, d, og, od, drawing, face, weight):
    """A second run of the generator, and no detach in the judge's step."""
    real, drawn = d(cat(drawing, face)), d(cat(drawing, g(drawing)))
    d_loss = discriminator_loss(real, drawn, "hinge")
    od.zero_grad()
    d_loss.backward()
    od.step()
    fake = g(drawing)
    g_loss = F.l1_loss(fake, face) + weight * generator_loss(d(cat(drawing, fake)), "hinge")
    og.zero_grad()
    g_loss.backward()
    og.step()
    return d_loss.item(), g_loss.item()


def blind(g, *rest):
    def unseen(drawing):
        with torch.no_grad():
            return g(drawing)

    return trained(unseen, *rest)


def edited(denoise, x, noise, ab, s, count=lambda s, n: round(s * n), at=lambda ab, t: ab[t - 1],
           mix=lambda a, x, e: a**0.5 * x + (1 - a) ** 0.5 * e, tell=lambda t: t, zero=True,
           one=True, top=lambda noise, x: noise, end=lambda z, x, at, s: z, untouched=lambda x, e:
           x):
    """SDEdit, and what can go wrong in it."""
    t = count(s, len(ab))
    if zero and t == 0:
        return untouched(x, noise)
    start = top(noise, x) if one and s == 1 else mix(at(ab, t), x, noise)
    return end(denoise(start, tell(t)), x, start, s)


def in_words(denoise, x, noise, alpha_bar, strength):
    """The same with numbers of numpy, of a table of numpy."""
    n = np.int64(np.rint(strength * alpha_bar.numel()))
    if not n > 0:
        return x.clone()
    a = 0.0 if strength >= 1 else float(alpha_bar.numpy()[n - 1])
    return denoise(math.sqrt(a) * x + math.sqrt(1 - a) * noise, n)


def no_ends(denoise, x, noise, ab, s):
    """The same by a table with a clean end in front."""
    t = torch.tensor(s * len(ab)).round().long()
    clean = torch.cat([ab.new_ones(1), ab])[t] * (s < 1)
    start = (clean.sqrt() * x + (1 - clean).sqrt() * noise).to(x)
    return denoise(start, t) if t else start


WRONG = {
    "pix2pix_step": [
        (lambda *a: trained(*a, pair=lambda d, x: x), "The judge takes a pair as one tensor"),
        (lambda *a: trained(*a, pair=lambda d, x: torch.cat([d, x])), "as one tensor"),
        (lambda *a: trained(*a, pair=lambda d, x: torch.cat([d, x], 2)), "as one tensor"),
        (lambda g, d, *a: trained(g, lambda p: d(*p), *a, pair=lambda d, x: (d, x)),
         "it was given two arguments"),
        (lambda g, d, og, od, x, y, w: trained(g, d, og, od, x[:, :1], y, w), "takes drawings"),
        (lambda *a: trained(*a, pair=back_to_front), "the drawing first"),
        (lambda *a: trained(*a, own=back_to_front), "the drawing first"),
        (lambda *a: trained(*a, fake=back_to_front), "the drawing first"),
        (lambda *a: trained(*a, real=back_to_front), "the drawing first"),
        (lambda *a: trained(*a, real=back_to_front, fake=back_to_front), "the drawing first"),
        (face_first, "the real face in the drawing's place"),
        (own_face_first, "the real face in the drawing's place"),
        (drawn_from_face, "you gave it the face"),
        (lambda *a: trained(*a, detach=False), "graph that is gone"),
        (lambda *a: trained(*a, detach=False, retain=True), "sent a gradient back"),
        (lambda *a: trained(*a, detach=False, retain=True, early=True, zero_g=False),
         "left a gradient in the generator"),
        (lambda *a: trained(*a, cut=True), "No adversarial gradient reaches the generator"),
        (blind, "fake was made without gradients"),
        (lambda *a: trained(*a, total=lambda a, b, w: w * b), "The absolute difference is missing"),
        (lambda *a: trained(*a, total=lambda a, b, w: a), "The adversarial loss is missing"),
        (lambda *a: trained(*a, l1=F.mse_loss), "the squared difference"),
        (lambda *a: trained(*a, l1=lambda x, y: (x - y).abs().sum()), "differences are summed:"),
        (lambda *a: trained(*a, l1=lambda x, y: (x - y).abs().sum((1, 2, 3)).mean()),
         "summed in each picture"),
        (lambda *a: trained(*a, l1=lambda x, y: (x - y).mean()), "The absolute value is missing"),
        (lambda *a: trained(*a, l1=lambda x, y: (x - y).mean().abs()), "the absolute mean"),
        (lambda *a: trained(*a, l1=lambda x, y: F.mse_loss(x, y) ** 0.5), "the root of the mean"),
        (like_the_drawing, "you compared it with the drawing"),
        (lambda *a: trained(*a, total=lambda a, b, w: w * a + b), "to the absolute difference."),
        (lambda *a: trained(*a, total=lambda a, b, w: a + b), "The weight is missing"),
        (lambda *a: trained(*a, total=lambda a, b, w: w * (a + b)), "you gave it to both"),
        (lambda *a: trained(*a, total=lambda a, b, w: a + b / w), "you divided"),
        (lambda *a: trained(*a, total=lambda a, b, w: (1 - w) * a + w * b), "not shared out"),
        (lambda *a: trained(*a, total=lambda a, b, w: a - w * b), "its minus already"),
        (lambda *a: trained(*a, d_of=lambda r, f: discriminator_loss(f, r, "hinge")),
         "Real and fake are swapped"),
        (lambda *a: trained(*a, d_of=lambda r, f: F.relu(1 - r).mean() / 2), "the real pairs only"),
        (lambda *a: trained(*a, d_of=lambda r, f: F.relu(1 + f).mean() / 2), "drawn pairs only"),
        (lambda *a: trained(*a, d_of=lambda r, f: discriminator_loss(r, f, "hinge") / 2),
         "The ½ is in"),
        (lambda *a: trained(*a, d_of=lambda r, f: F.relu(1 - r).mean() + F.relu(1 + f).mean()),
         "loss is there twice"),
        (lambda *a: trained(*a, d_of=lambda r, f: ((1 - r).mean() + (1 + f).mean()) / 2),
         "max(0, ·) is missing"),
        (lambda *a: trained(*a, d_of=lambda r, f: -discriminator_loss(r, f, "hinge")),
         "The judge went up"),
        (lambda *a: trained(*a, sign=(1, -1)), "The judge went up"),
        (lambda *a: trained(*a, sign=(-1, 1)), "The generator went up"),
        (lambda *a: trained(*a, d_kind="nonsaturating", g_kind="nonsaturating"),
         "give \"hinge\" to both"),
        (lambda *a: trained(*a, d_kind="minimax", g_kind="minimax"), "give \"hinge\" to both"),
        (lambda *a: trained(*a, d_kind="minimax"), "give \"hinge\" to discriminator_loss too"),
        (lambda *a: trained(*a, g_kind="nonsaturating"), "give \"hinge\" to generator_loss too"),
        (lambda *a: trained(*a, g_kind="minimax"), "give \"hinge\" to generator_loss too"),
        (lambda *a: trained(*a, g_of=lambda f: F.relu(1 - f).mean()), "is not that of the judge"),
        (lambda *a: trained(*a, g_of=lambda f: F.relu(1 + f).mean()), "is not that of the judge"),
        (lambda *a: trained(*a, g_steps=0), "The generator's weights did not move"),
        (lambda *a: trained(*a, d_steps=0), "The judge's weights did not move"),
        (lambda *a: trained(*a, g_steps=0, d_steps=0), "Neither network's weights moved"),
        (lambda *a: trained(*a, after=True), "Neither network's weights moved"),
        (lambda *a: trained(*a, g_steps=2), "The generator took two steps"),
        (lambda *a: trained(*a, d_steps=2), "The judge took two steps"),
        (lambda *a: trained(*a, d_too=True), "The judge learned in the generator's step"),
        (lambda *a: trained(*a, zero_g=False), "The generator's old gradients"),
        (lambda *a: trained(*a, zero_d=False), "The judge's old gradients"),
        (lambda *a: trained(*a, zero_d=False, zero_g=False), "Both networks' old gradients"),
        (cleared_late, "Both networks' old gradients"), (run_twice, "sent a gradient back"),
        (mixed_up, "opt_g and opt_d are swapped"),
        (lambda *a: trained(*a, generator_first=True), "The generator's step came first"),
        (lambda *a: trained(*a, old=True), "A step changed weights"),
        (lambda *a: trained(*a, end=lambda d, g, a, b: (g, d)), "in the wrong order"),
        (lambda *a: trained(*a, end=lambda d, g, a, b: (d, b)), "its adversarial part"),
        (lambda *a: trained(*a, end=lambda d, g, a, b: (d, a)), "returned the absolute difference"),
        (lambda *a: trained(*a, end=lambda d, g, a, b: (d, d)), "the same twice"),
        (lambda *a: trained(*a, end=lambda d, g, a, b: (g, g)), "the same twice"),
        (lambda *a: trained(*a, end=lambda d, g, a, b: d + g), "returned a Tensor; two losses"),
        (lambda *a: trained(*a, end=lambda *found: found), "returned a tuple; two losses"),
        (lambda *a: trained(*a, end=lambda *found: None), "returned None"),
        (lambda *a: trained(*a, end=lambda *found: ("a", "b")), "is not two numbers"),
        (lambda *a: trained(*a, d_of=lambda r, f: F.relu(1 - r) + F.relu(1 + f)), "is a mean"),
        (lambda *a: trained(*a, d_of=lambda r, f: r.detach().mean()), "no weight has a part in"),
        (lambda *a: trained(*a, end=lambda d, g, a, b: (d + 1, g)), "d_loss, the first number"),
        (lambda *a: trained(*a, end=lambda d, g, a, b: (d, g + 1)), "g_loss, the second number"),
        (lambda *a: trained(*a, sign=(1, 0.3)), "but the judge's weights did not"),
        (lambda *a: trained(*a, sign=(0.3, 1)), "but the generator's weights did not"),
        (lambda g, *a: trained(g.eval(), *a), "in eval mode"),
        (lambda g, d, *a: (trained(g, d, *a), d.requires_grad_(False))[0],
         "requires_grad=False on the weights"),
        (lambda g, d, og, od, x, y, w: trained(g, d, og, od, x.mul_(2), y, w), "changed drawing"),
    ],
    "sdedit": [
        (lambda *a: edited(*a, at=lambda ab, t: ab[t]), "you took alpha_bar[T]."),
        (lambda *a: edited(*a, at=lambda ab, t: ab[t - 2]), "you took alpha_bar[T − 2]"),
        (lambda *a: edited(*a, at=lambda ab, t: ab[-t]), "from the clean end"),
        (lambda *a: edited(*a, at=lambda ab, t: ab[-1]), "you took the last one"),
        (lambda *a: edited(*a, at=lambda ab, t: ab[0]), "you took the first one"),
        (lambda *a: edited(*a, at=lambda ab, t: ab.mean()), "the mean of the table"),
        (lambda *a: edited(*a, at=lambda ab, t: ab.cumprod(0)[t - 1]), "once more"),
        (lambda *a: edited(*a, mix=lambda a, x, e: a * x + (1 - a) * e), "The roots are missing"),
        (lambda *a: edited(*a, mix=lambda a, x, e: a.sqrt() * x + (1 - a) * e), "root of 1 − ᾱ is"),
        (lambda *a: edited(*a, mix=lambda a, x, e: a * x + (1 - a).sqrt() * e), "root of ᾱ is"),
        (lambda *a: edited(*a, mix=lambda a, x, e: a**0.5 * x + (1 - a**0.5) * e), "1 − √ᾱ."),
        (lambda *a: edited(*a, mix=lambda a, x, e: a**0.5 * e + (1 - a) ** 0.5 * x), "are swapped"),
        (lambda *a: edited(*a, at=lambda ab, t: 1 - ab[t - 1]), "are swapped"),
        (lambda *a: edited(*a, mix=lambda a, x, e: a**0.5 * x - (1 - a) ** 0.5 * e), "a plus"),
        (lambda *a: edited(*a, mix=lambda a, x, e: x + (1 - a) ** 0.5 * e), "missing before x"),
        (lambda *a: edited(*a, mix=lambda a, x, e: a**0.5 * x + e), "missing before noise"),
        (lambda *a: edited(*a, mix=lambda a, x, e: x + e), "Both factors are missing"),
        (lambda *a: edited(*a, mix=lambda a, x, e: x), "x without noise"),
        (lambda *a: edited(*a, mix=lambda a, x, e: e), "only at strength 1 nothing is left"),
        (lambda *a: edited(*a, mix=lambda a, x, e: a**0.5 * x), "The noise is missing"),
        (lambda *a: edited(*a, mix=lambda a, x, e: (1 - a) ** 0.5 * e), "x is missing"),
        (lambda d, x, e, ab, s: edited(d, x, e, ab, s, mix=lambda a, x, e: (1 - s) ** 0.5 * x
                                       + s**0.5 * e), "the strength itself."),
        (lambda d, x, e, ab, s: edited(d, x, e, ab, s, mix=lambda a, x, e: (1 - s) * x + s * e),
         "without roots"),
        (lambda d, x, e, ab, s: edited(d, x, e, ab, s, mix=lambda a, x, e: s**0.5 * x
                                       + (1 - s) ** 0.5 * e), "as if it were ᾱ"),
        (lambda d, x, e, *a: edited(d, x, torch.randn_like(e), *a), "You drew noise"),
        (lambda *a: edited(*a, tell=lambda t: t - 1), "you gave it T − 1"),
        (lambda *a: edited(*a, tell=lambda t: t + 1), "yours is one more"),
        (lambda *a: edited(*a, count=lambda s, n: round((1 - s) * n)), "the wrong way round"),
        (lambda d, x, e, ab, s: edited(d, x, e, ab, 1 - s), "the wrong way round"),
        (lambda d, x, e, ab, s: edited(d, x, e, ab, s, tell=lambda t: len(ab)), "all of the steps"),
        (lambda *a: edited(*a, tell=lambda t: 1), "T depends on the strength: yours is 1"),
        (lambda *a: edited(*a, count=lambda s, n: round(s * (n - 1))), "you took one less"),
        (lambda *a: edited(*a, count=lambda s, n: int(s * n)), "cut off"),
        (lambda *a: edited(*a, count=lambda s, n: math.ceil(s * n)), "you rounded up"),
        (lambda *a: edited(*a, tell=float), "a whole number"),
        (lambda d, x, e, ab, s: edited(d, x, e, ab, s, tell=lambda t: s), "a whole number"),
        (lambda d, *a: edited(lambda x, t: d(x), *a), "it was given none"),
        (lambda d, *a: edited(lambda x, t: d(t, x), *a), "first, T second"),
        (lambda d, *a: edited(lambda x, t: d(x[0], t), *a), "denoise takes noisy pictures, here"),
        (lambda *a: edited(*a, one=False), "At strength 1 nothing is left of x: denoise(noise"),
        (lambda *a: edited(*a, top=lambda e, x: x), "you gave denoise x itself"),
        (lambda d, x, e, ab, s: edited(d, x, e, ab, s, top=lambda e, x: (1 - ab[-1]) ** 0.5 * e),
         "used as it is: you multiplied"),
        (lambda d, x, e, ab, s: edited(d, x, e, ab, s, tell=lambda t: t - (s == 1)), "is one less"),
        (lambda d, x, e, ab, s: edited(d, x, e, ab, s, tell=lambda t: 1 if s == 1 else t),
         "len(alpha_bar): yours is 1."),
        (lambda *a: edited(*a, zero=False), "With T = 0 there is nothing to sample"),
        (lambda d, x, e, ab, s: x if s == 0 else edited(d, x, e, ab, s, zero=False),
         "With T = 0 there is nothing to sample"),
        (lambda *a: edited(*a, count=lambda s, n: max(1, round(s * n))), "return x as it is, with"),
        (lambda *a: edited(*a, untouched=lambda x, e: e), "you returned the noise"),
        (lambda *a: edited(*a, untouched=lambda x, e: x + e), "you added noise"),
        (lambda d, *a: edited(lambda x, t: x, *a), "denoise is missing"),
        (lambda d, x, *a: x, "x came back as it was: only T = 0"),
        (lambda d, x, e, *a: e, "denoise was not asked: that is the noise"),
        (lambda d, *a: edited(lambda x, t: (d(x, t), d(x, t))[1], *a), "asked it 2 times"),
        (lambda *a: edited(*a, end=lambda z, x, at, s: x), "return what denoise makes"),
        (lambda *a: edited(*a, end=lambda z, x, at, s: at), "return what it makes"),
        (lambda *a: edited(*a, end=lambda z, x, at, s: z.clamp(-1, 1)), "is clamped"),
        (lambda *a: edited(*a, end=lambda z, x, at, s: s * z + (1 - s) * x), "is mixed with x"),
        (lambda *a: edited(*a, end=lambda z, x, at, s: x + z), "is added to x"),
        (lambda d, x, e, *a: edited(d, x.mul_(2), e, *a), "changed x"),
        (lambda *a: None, "returned None"),
    ],
}
RIGHT = [
    ("pix2pix_step", trained), ("pix2pix_step", in_one_batch),
    ("pix2pix_step", lambda *a: trained(*a, end=lambda d, g, a, b: (d, g))),
    ("pix2pix_step", lambda *a: trained(*a, early=True)),
    ("pix2pix_step", lambda *a: trained(*a, early=True, zero_g=False)),
    ("pix2pix_step", lambda *a: trained(*a, g_of=lambda f: -f.mean())),
    ("sdedit", edited), ("sdedit", in_words), ("sdedit", no_ends),
    ("sdedit", lambda *a: edited(*a, untouched=lambda x, e: x.clone())),
    ("sdedit", lambda *a: edited(*a, mix=lambda a, x, e: torch.lerp(
        e, x, 0.0) * (1 - a.float()).sqrt() + a.float().sqrt() * x)),
]
MISTAKES = [(name, i) for name, wrong in WRONG.items() for i in range(len(wrong))]
SEEDS = {"pix2pix_step": 1, "sdedit": 3}                     # its worlds are the same in each call


@pytest.mark.parametrize(("name", "i"), MISTAKES)
def test_a_mistake_is_named_whatever_is_drawn(name, i):
    fn, words = WRONG[name][i]
    for seed in range(SEEDS[name]):
        torch.manual_seed(seed)
        said = told(name, fn)
        assert words in said, (seed, said)


@pytest.mark.parametrize(("name", "fn"), [
    *RIGHT, *((name, getattr(pictures_answers, name)) for name in CHECKS)])
def test_right_answers_pass_whatever_is_drawn(name, fn):
    for seed in range(3 * SEEDS[name]):
        torch.manual_seed(seed)
        assert told(name, fn) == "", seed


@pytest.mark.parametrize("name", CHECKS)
def test_an_answer_that_raises_is_not_hidden(name):
    def raises(*args):
        raise error("of its own")

    for error in (ZeroDivisionError, RuntimeError, NotImplementedError):
        with pytest.raises(error, match="of its own"):
            told(name, raises)


def test_no_two_mistakes_of_pix2pix_give_one_value():
    """So what a message says is what was done."""
    every = [*pictures_pairs.MISTAKES, *pictures_pairs.MISTAKES_OF_ONE_SHAPE]
    found = [(words, pictures_world.stepped(0, 1, **how)[0]) for words, how in every]
    right = pictures_world.stepped(0, 1)[0]
    assert not [words for words, after in found if after.like(right)]
    for (one, a), (other, b) in itertools.combinations(found, 2):
        assert one == other or not a.like(b), (one, other)
    tested = [words for _, words in WRONG["pix2pix_step"]]
    assert not [s for s, _ in every if not any(words in s for words in tested)], "untested"


def test_no_two_mistakes_of_sdedit_give_one_value():
    seen = set()
    torch.manual_seed(0)
    for n, strength, shape in (pictures_edit.CASES[0], pictures_edit.CASES[4]):
        x, noise, made, start = torch.randn(4, *shape)
        ab = (1 - torch.linspace(0.01, 0.25, n, dtype=torch.float64)).cumprod(0)
        steps = round(n * strength)
        for values in (pictures_edit._starts(x, noise, ab, steps, strength),
                       pictures_edit._undrawn(x, noise, ab, steps),
                       pictures_edit._results(x, noise, made, start, strength)):
            apart(values.items(), made, strength, seen)
    tested = [words for _, words in WRONG["sdedit"]]
    assert not [s for s in seen if not any(words in s for words in tested)], "untested"


def test_two_steps_of_the_course_are_two_steps():
    """The same weights as with the losses' formulas, by gradients taken by hand."""
    w = pictures_world.World.fresh(0)
    g, d = copy.deepcopy(w.generator), copy.deepcopy(w.judge)
    for drawing, face in w.batches:
        d_loss, g_loss = pictures_answers.pix2pix_step(
            w.generator, w.judge, w.opt_g, w.opt_d, drawing, face, w.weight)
        fake = g(drawing).detach()
        real, drawn = d(cat(drawing, face)), d(cat(drawing, fake))
        loss = (F.relu(1 - real).mean() + F.relu(1 + drawn).mean()) / 2
        assert loss.item() == pytest.approx(d_loss.item(), rel=1e-6)
        slopes = torch.autograd.grad(loss, list(d.parameters()))
        with torch.no_grad():
            for p, slope in zip(d.parameters(), slopes, strict=True):
                p -= 0.2 * slope
        fake = g(drawing)
        loss = (fake - face).abs().mean() - w.weight * d(cat(drawing, fake)).mean()
        assert loss.item() == pytest.approx(g_loss.item(), rel=1e-6)
        slopes = torch.autograd.grad(loss, list(g.parameters()))
        with torch.no_grad():
            for p, slope in zip(g.parameters(), slopes, strict=True):
                p -= 0.1 * slope
        for mine, theirs in ((g, w.generator), (d, w.judge)):
            for p, q in zip(mine.parameters(), theirs.parameters(), strict=True):
                assert torch.allclose(p, q, atol=1e-6)


def test_more_strength_leaves_less_of_a_picture():
    def as_it_is(x, steps):
        return x

    torch.manual_seed(0)
    x, noise = torch.randn(2, 1, 3, 16, 16)
    ab = (1 - torch.linspace(1e-3, 0.3, 50)).cumprod(0)
    near = [float(F.cosine_similarity(pictures_answers.sdedit(as_it_is, x, noise, ab, s).flatten(1),
                                      x.flatten(1))) for s in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)]
    assert near == sorted(near, reverse=True) and near[0] == pytest.approx(1, abs=1e-6)
    assert pictures_answers.sdedit(as_it_is, x, noise, ab, 1.0) is noise
    with pytest.raises(compare.Wrong, match="denoise is missing"):
        pictures_edit.sdedit(lambda d, *a: pictures_answers.sdedit(as_it_is, *a))
