"""Excursion 4's exercises: mistakes, and right answers in other styles; `test_checks` asks them.

Here: that a mistake is named whatever numbers are drawn, and that what stands in is right.
"""

import importlib
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from minigen import checks, ddpm
from minigen.checks import (
    compare,
    personal_answers,
    personal_copies,
    personal_step,
    personal_words,
    personal_world,
    text_cases,
)


def answers(name, fn):
    def answer(*args):
        return fn(*args)

    answer.__name__ = name
    return answer


def word(table, vector, ids, rows=lambda t, v: torch.cat([t, v[None]]), at=lambda ids, n: ids,
         end=lambda out: out, freeze=torch.Tensor.detach):
    """The new word looked up, and what can go wrong in it."""
    return end(F.embedding(at(ids, len(table)), rows(freeze(table), vector)))


def places(table, vector, ids, where=lambda ids, n: ids == n, put=lambda row, v: v):
    """The same with the vector put into its places, and what can go wrong there."""
    rows = table.detach()[ids.clamp(max=len(table) - 1)]
    return torch.where(where(ids, len(table))[..., None], put(rows, vector), rows)


def word_by_word(table, vector, ids):
    rows = [*table.detach().unbind(), vector]
    return torch.stack([torch.stack([rows[i] for i in sentence]) for sentence in ids.tolist()])


def by_one_hot(table, vector, ids):
    chosen = F.one_hot(ids, len(table) + 1).to(table)
    return chosen[..., :-1] @ table.detach() + chosen[..., -1:] * vector


def by_index_put(table, vector, ids):
    new = ids == len(table)
    out = table.detach()[ids.masked_fill(new, 0)]
    out[new] = vector
    return out


def with_a_module(table, vector, ids):
    layer = nn.Embedding.from_pretrained(table, freeze=True)
    new = (ids == len(table)).to(table)[..., None]
    return layer(ids * (ids < len(table))) * (1 - new) + new * vector


def one_place(ids, n):
    """Of each sentence's new words the first."""
    out = torch.zeros_like(ids, dtype=torch.bool)
    for i, sentence in enumerate(ids.tolist()):
        if n in sentence:
            out[i, sentence.index(n)] = True
    return out


def one_sentence(ids, n):
    i = int((ids == n).any(1).int().argmax())
    return (ids == n) & (torch.arange(len(ids)) == i)[:, None]


def overwritten(table, vector, ids):
    table[-1] = vector.detach()
    return word(table, vector, ids)


def beside(x, w, b, down, up, alpha, scale=lambda a, r: a / r, rank=lambda a, b: len(a),
           update=lambda x, a, b: x @ a.T @ b.T, base=lambda x, w, b: F.linear(x, w, b),
           add=lambda y, u: y + u):
    """The adapter beside its layer, and what can go wrong in it."""
    return add(base(x, w, b), scale(alpha, rank(down, up)) * update(x, down, up))


def within(w, down, up, alpha, scale=lambda a, r: a / r, rank=lambda a, b: len(a),
           update=lambda a, b: b @ a, add=lambda w, u: w + u):
    """The adapter merged, and what can go wrong in it."""
    return add(w, scale(alpha, rank(down, up)) * update(down, up))


def in_place(w, down, up, alpha):
    w += alpha / len(down) * up @ down
    return w


def outer(w, down, up, alpha):
    out = w.clone()
    for column, row in zip(up.T, down, strict=True):
        out += alpha / len(down) * torch.outer(column, row)
    return out


SCALES = [
    (lambda a, r: 1, "The scale α / r before the update is missing"),
    (lambda a, r: a, "the division by r is missing"),
    (lambda a, r: 1 / r, "α is missing"),
    (lambda a, r: a * r, "you multiplied by r"),
    (lambda a, r: r / a, "you took r / α"),
    (lambda a, r: a / r**0.5, "you divided by √r"),
    (lambda a, r: (a / r) ** 2, "is there twice"),
    (lambda a, r: -a / r, "you took it away"),
    (lambda a, r: a // r, "// cuts"),
]


def loss_of(model, diffusion, batch, **how):
    z, ids, t, eps = batch
    return ddpm.simple_loss(model, diffusion, z, t, eps, ids, **how)


def learned(optimiser):
    return [p for group in optimiser.param_groups for p in group["params"]]


def cut(model, optimiser, length=1.0, **how):
    nn.utils.clip_grad_norm_(learned(optimiser), length, **how)


def no_cut(model, optimiser):
    pass


def cut_all(model, optimiser):
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)


def cut_each(model, optimiser):
    for p in learned(optimiser):
        nn.utils.clip_grad_norm_(p, 1.0)


def cut_groups(model, optimiser):
    for group in optimiser.param_groups:
        nn.utils.clip_grad_norm_(group["params"], 1.0)


def cut_first(model, optimiser):
    nn.utils.clip_grad_norm_(optimiser.param_groups[0]["params"], 1.0)


def cut_values(model, optimiser):
    nn.utils.clip_grad_value_(learned(optimiser), 1.0)


def always(model, optimiser):
    length = sum(p.grad.square().sum() for p in learned(optimiser)).sqrt()
    for p in learned(optimiser):
        p.grad.div_(length)


def by_hand(model, optimiser):
    length = math.sqrt(sum(float(p.grad.square().sum()) for p in learned(optimiser)))
    for p in learned(optimiser):
        p.grad.mul_(min(1.0, 1 / length))


def kept(m, d, o, own, known, w, loss=loss_of, total=lambda a, b, w: a + w * b, clear="before",
         cut=cut, early=False, late=False, moves=1, anew=False, whole=False,
         told=lambda a, b, t, w: (a.item(), b.item())):
    """The step that keeps what was known, and what can go wrong in it."""
    a, b = loss(m, d, own), loss(m, d, known)
    t = total(a, b, w)
    if clear == "before":
        (m if whole else o).zero_grad()
    if early:
        cut(m, o)
    t.backward()
    if clear == "between":
        o.zero_grad()
    if not early and not late:
        cut(m, o)
    for _ in range(moves):
        o.step()
    if late:
        cut(m, o)
    if clear == "after":
        o.zero_grad()
    if anew:
        a, b = loss(m, d, own), loss(m, d, known)
    return told(a, b, t, w)


def two_backwards(m, d, o, own, known, w, each=False, between=False, clear=False, turned=False):
    """The same with a backward for each loss: right unless something stands between."""
    parts, told = [("own", own, 1), ("known", known, w)], {}
    o.zero_grad()
    for name, batch, weight in reversed(parts) if turned else parts:
        if told and clear:
            o.zero_grad()
        loss = loss_of(m, d, batch)
        (weight * loss).backward()
        if not told and (each or between):
            cut(m, o)
        if not told and between:
            o.step()
        told[name] = loss.item()
    cut(m, o)
    o.step()
    return told["own"], told["known"]


def own_cut_alone(m, d, o, own, known, w):
    o.zero_grad()
    a, b = loss_of(m, d, own), loss_of(m, d, known)
    a.backward()
    cut(m, o)
    (w * b).backward()
    o.step()
    return a, b


def parts_cut(m, d, o, own, known, w, after=False, again=False):
    """Gradients of each loss cut by themselves, then added."""
    a, b = loss_of(m, d, own), loss_of(m, d, known)
    sides = []
    for t in (a, b if after else w * b):
        g = torch.autograd.grad(t, learned(o))
        length = torch.cat([v.flatten() for v in g]).norm().clamp(min=1)
        sides.append([v / length for v in g])
    for p, one, other in zip(learned(o), *sides, strict=True):
        p.grad = one + (w if after else 1) * other
    if again:
        cut(m, o)
    o.step()
    return a.item(), b.item()


def steps_prepared(m, d, o, own, known, w):
    """A step of each loss, both taken before."""
    a, b = loss_of(m, d, own), loss_of(m, d, known)
    for t in (a, w * b):
        o.zero_grad()
        t.backward()
        cut(m, o)
        o.step()
    return a.item(), b.item()


def joined(m, d, o, own, known, w):
    both = tuple(torch.cat(pair) for pair in zip(own, known, strict=True))
    a, b = loss_of(m, d, own).item(), loss_of(m, d, known).item()
    o.zero_grad()
    loss_of(m, d, both).backward()
    cut(m, o)
    o.step()
    return a, b


def by_gradients(m, d, o, own, known, w):
    """The same without backward, the losses by hand."""
    def loss(z, ids, t, eps):
        out = m(d.add_noise(z, t, eps), t, ids)
        return F.mse_loss(out, d.target(z, eps, t, m.prediction))

    a, b = loss(*own), loss(*known)
    slopes = torch.autograd.grad(a + w * b, learned(o))
    length = torch.cat([g.flatten() for g in slopes]).norm()
    for p, g in zip(learned(o), slopes, strict=True):
        p.grad = g / length.clamp(min=1)
    o.step()
    return [a.detach(), np.float32(b.item())]


def noise_wanted(m, d, batch):
    z, ids, t, eps = batch
    return F.mse_loss(m(d.add_noise(z, t, eps), t, ids), eps)


def drawn_anew(m, d, batch):
    z, ids, t, eps = batch
    return loss_of(m, d, (z, ids, t, torch.randn_like(eps)))


def unlearned(m, d, batch):
    with torch.no_grad():
        return loss_of(m, d, batch)


def each(m, d, batch):
    z, ids, t, eps = batch
    return (m(d.add_noise(z, t, eps), t, ids) - d.target(z, eps, t, m.prediction)) ** 2


def thawed(m, *rest):
    m.words.weight.requires_grad_(True)
    return kept(m, *rest)


def moved(m, *rest):
    with torch.no_grad():
        m.words.weight.mul_(0.9)
    return kept(m, *rest)


def told_as(pick):
    return lambda *a: kept(*a, told=pick)


def summing(total):
    return lambda *a: kept(*a, total=total)


def cutting(how):
    return lambda *a: kept(*a, cut=how)


def far(a, b):
    return (a.flatten(1)[:, None] - b.flatten(1)[None]).pow(2).mean(-1).sqrt()


def nearest(a, b):
    return far(a, b).min(1).values


def counted(x, p, f, share, d=nearest, d_fresh=None, limit=torch.quantile, under=lambda d, limit:
            d < limit, told=lambda hits: hits.float().mean().item()):
    """The share of copies, and what can go wrong in it."""
    return told(under(d(x, p), limit((d_fresh or d)(f, p), share)))


def one_by_one(x, pictures, fresh, share):
    """The same in loops, with numpy."""
    def alone(image):
        return min(float(np.sqrt(np.mean((image.numpy() - p.numpy()) ** 2))) for p in pictures)

    limit = np.quantile([alone(image) for image in fresh], share)
    return sum(alone(image) < limit for image in x) / len(x)


def among_places(a, b):
    return (a[:, None] - b).square().mean(2).sqrt().amin(1)


def in_channels(a, b):
    apart = (a[:, None] - b).square()
    return (apart.mean(tuple(range(3, apart.ndim))) if apart.ndim > 3 else apart).sqrt().amin(1)


WRONG = {
    "with_new_word": [
        (lambda t, v, ids: t[ids], "The table has 6 rows, numbers 0 … 5"),
        (lambda t, v, ids: F.embedding(ids, t), "has none in it"),
        (lambda *a: word(*a, rows=lambda t, v: torch.cat([v[None], t])), "before the table's"),
        (lambda t, v, ids: t.detach()[ids.clamp(max=len(t) - 1)], "has got the last known word's"),
        (lambda *a: word(*a, at=lambda ids, n: ids % n), "has got word 0's row"),
        (lambda *a: word(*a, rows=lambda t, v: torch.cat([t[:-1], v[None]]),
                         at=lambda ids, n: ids.clamp(max=n - 1)), "in the last known word's place"),
        (lambda *a: places(*a, where=lambda ids, n: ids >= n - 1), "last known word's place"),
        (lambda *a: word(*a, rows=lambda t, v: torch.cat([v[None], t[1:]]),
                         at=lambda ids, n: ids % n), "in word 0's place"),
        (lambda t, v, ids: v.expand(*ids.shape, -1), "in every place: only"),
        (lambda *a: places(*a, where=lambda ids, n: ids < n), "the other way round"),
        (lambda *a: places(*a, put=lambda row, v: row + v), "to the last known word's row"),
        (lambda t, v, ids: t.detach()[ids % len(t)] + (ids == len(t))[..., None] * v,
         "to word 0's row"),
        (lambda *a: word(*a, rows=lambda t, v: torch.cat([t + v, v[None]])),
         "added in every place"),
        (lambda *a: word(*a, rows=lambda t, v: F.pad(t, (0, 0, 0, 1))), "hold 0"),
        (lambda *a: places(*a, where=one_place), "Only the first place"),
        (lambda *a: places(*a, where=lambda ids, n: one_place(ids.flip(1), n).flip(1)),
         "Only the last place"),
        (lambda *a: places(*a, where=one_sentence), "Only one sentence"),
        (lambda *a: word(*a, rows=lambda t, v: torch.cat([0 * t, v[None]])), "words are gone"),
        (lambda *a: word(*a, end=lambda out: out * math.sqrt(out.shape[2])), "by √D"),
        (lambda t, v, ids: word(t, v / v.norm(), ids), "you brought it to length 1"),
        (lambda *a: word(*a, end=lambda out: F.normalize(out, dim=-1)), "brought them to length 1"),
        (lambda *a: word(*a, end=lambda out: out.mean(1)), "averaged over the sentence"),
        (lambda *a: word(*a, end=lambda out: out.sum(1)), "summed over the sentence"),
        (lambda *a: word(*a, end=lambda out: out.mT), "you put them second"),
        (lambda *a: word(*a, end=lambda out: out.transpose(0, 1)), "you put the places first"),
        (lambda t, v, ids: word(t, v, ids.flatten()), "The sentences are joined"),
        (lambda t, v, ids: torch.vstack([t, v]), "That is the longer table"),
        (lambda t, v, ids: word(t, v, ids)[ids == len(t)], "places alone"),
        (lambda t, v, ids: torch.cat([t, v[None]])[ids - 1], "took the row before it"),
        (lambda t, v, ids: torch.cat([t, v[None]]).roll(-1, 0)[ids], "the row after each"),
        (lambda t, v, ids: F.one_hot(ids, len(t) + 1), "Those are zeros and ones"),
        (lambda *a: word(*a, freeze=lambda t: t), "a gradient reaches the table"),
        (lambda t, v, ids: word(t, v.detach(), ids), "no gradient reaches the vector"),
        (lambda t, v, ids: word(t, torch.tensor(v.tolist()).to(v), ids), "reaches the vector"),
        (lambda t, v, ids: torch.cat([word(t, v, ids)[:, :2], word(t, v.detach(), ids)[:, 2:]], 1),
         "in some of them it is detached"),
        (lambda *a: word(*a).float(), "keep it"),
        (overwritten, "changed table"),
        (lambda t, v, ids: word(t.requires_grad_(False), v, ids),
         "switched the table's own gradient off"),
        (lambda *a: None, "returned None"),
    ],
    "lora_forward": [
        *((lambda *a, s=s: beside(*a, scale=s), words) for s, words in SCALES),
        (lambda *a: beside(*a, rank=lambda a, b: len(b)), "by the number of outputs"),
        (lambda *a: beside(*a, rank=lambda a, b: a.shape[1]), "by the number of inputs"),
        (lambda x, w, b, d, u, alpha: x @ w + b + alpha / len(d) * x @ d @ u,
         "All three are turned"),
        (lambda x, w, b, *a: F.linear(x, w, b), "The update is missing"),
        (lambda *a: beside(*a, base=lambda x, w, b: 0), "x Wᵀ and the bias are missing"),
        (lambda *a: beside(*a, base=lambda x, w, b: b), "x Wᵀ is missing"),
        (lambda *a: beside(*a, base=lambda x, w, b: x @ w.T), "The bias is missing"),
        (lambda *a: beside(*a, base=lambda x, w, b: F.linear(x, w, b) + b), "bias is there twice"),
        (lambda *a: beside(*a, base=lambda x, w, b: F.linear(x, w, -b)), "The bias is added"),
        (lambda x, w, b, *a: beside(x, w, None, *a, update=lambda x, d, u: x @ d.T @ u.T + b),
         "you scaled it with the update"),
        (lambda x, w, b, *a: beside(x, w, b, *a, update=lambda x, d, u: F.linear(x @ d.T, u, b)),
         "The bias is in the update too"),
        (lambda *a: a[5] / len(a[3]) * beside(*a, scale=lambda a, r: 1), "scaled the whole sum"),
        (lambda x, w, b, d, u, a: beside(x, a / len(d) * w, b, d, u, a, scale=lambda a, r: 1),
         "scaled x Wᵀ in its place"),
        (lambda x, w, b, d, u, a: beside(x, a / len(d) * w, b, d, u, a), "you scaled x Wᵀ too"),
        (lambda *a: beside(*a, add=lambda y, u: y * u), "you multiplied the two"),
        (lambda *a: beside(*a, add=lambda y, u: (y + u) / 2), "the mean of layer and update"),
        (lambda *a: beside(*a, update=lambda x, a, b: F.relu(x @ a.T) @ b.T), "between A and B"),
        (lambda *a: beside(*a, update=lambda x, a, b: torch.tanh(x @ a.T) @ b.T), "has no tanh"),
        (lambda *a: beside(*a, update=lambda x, a, b: F.relu(x @ a.T @ b.T)), "cut off at 0"),
        (lambda *a: beside(*a, base=lambda x, w, b: x @ w + b), "W is turned"),
        (lambda *a: beside(*a, update=lambda x, a, b: x @ b @ a), "The update is turned"),
        (lambda *a: beside(*a, update=lambda x, d, u: F.linear(x, a[1], a[2]) @ d.T @ u.T),
         "you gave it what the frozen layer made"),
        (lambda *a: beside(*a, update=lambda x, d, u: x @ a[1].T @ d.T @ u.T), "gave it x Wᵀ"),
        (lambda *a: beside(*a) + a[0], "x itself is added"),
        (lambda x, w, b, d, u, a: beside(x, w, b, u, d, a), "A and B are exchanged"),
        (lambda *a: beside(*a, update=lambda x, a, b: x @ a @ b), "Neither A nor B"),
        (lambda *a: beside(*a, update=lambda x, a, b: x @ a.T @ b), "B is not transposed"),
        (lambda *a: beside(*a, update=lambda x, a, b: x @ a @ b.T), "A is not transposed"),
        (lambda *a: beside(*a, update=lambda x, a, b: x @ a.T), "B is missing in the update"),
        (lambda *a: beside(*a, update=lambda x, a, b: x @ b.T), "A is missing in the update"),
        (lambda x, *a: beside(x.detach(), *a), "reaches the input x"),
        (lambda x, w, b, d, *a: beside(x, w, b, d.detach(), *a), "reaches the matrix A"),
        (lambda x, w, b, d, u, a: beside(x, w, b, d, u.detach(), a), "reaches the matrix B"),
        (lambda *a: beside(*a, update=lambda x, a, b: x.detach() @ a.T @ b.T), "the input x"),
        (lambda *a: beside(*a, base=lambda x, w, b: F.linear(x, w, b).detach()), "the input x"),
        (lambda *a: beside(*a).detach(), "no gradient comes back"),
        (lambda *a: beside(*a).float(), "keep it"),
        (lambda x, w, b, d, u, a: beside(x, w.mul_(2).div_(2).add_(u @ d), b, d, u, a),
         "changed weight"),
        (lambda *a: None, "returned None"),
    ],
    "merged": [
        *((lambda *a, s=s: within(*a, scale=s), words) for s, words in SCALES),
        (lambda *a: within(*a, rank=lambda a, b: len(b)), "by the number of outputs"),
        (lambda *a: within(*a, rank=lambda a, b: a.shape[1]), "by the number of inputs"),
        (lambda w, *a: w.clone(), "The update is missing"),
        (lambda *a: within(*a, add=lambda w, u: u), "W is missing"),
        (lambda w, d, u, a: a / len(d) * within(w, d, u, len(d)), "you scaled W too"),
        (lambda w, d, u, a: within(a / len(d) * w, d, u, len(d)), "scaled W in its place"),
        (lambda *a: within(*a, add=lambda w, u: w * u), "entry by entry."),
        (lambda *a: within(*a, add=lambda w, u: w * (1 + u)), "makes it depend on W"),
        (lambda *a: within(*a, add=lambda w, u: (w + u) / 2), "the mean of W"),
        (lambda *a: within(*a) + a[0], "W is there twice"),
        (lambda *a: within(*a).T, "The result is turned"),
        (lambda *a: within(*a, update=lambda a, b: (b @ a).T), "The update is turned"),
        (lambda w, *a: within(w.T, *a), "W is turned"),
        (lambda *a: within(*a, add=lambda w, u: w @ u), "product of W and the update"),
        (lambda *a: within(*a, add=lambda w, u: u @ w), "product of the update and W"),
        (lambda *a: within(*a, update=lambda a, b: a @ b), "you took A B."),
        (lambda *a: within(*a, update=lambda a, b: a * b), "as matrices, up @ down"),
        (lambda *a: within(*a, update=lambda a, b: b @ a.T), "A is not transposed here"),
        (lambda *a: within(*a, update=lambda a, b: b.T @ a), "B is not transposed here"),
        (lambda *a: within(*a, update=lambda a, b: a @ b.T), "you took A Bᵀ"),
        (lambda *a: within(*a, update=lambda a, b: a.T @ b), "you took Aᵀ B"),
        (lambda *a: within(*a, update=lambda a, b: (a @ b).T), "you took (A B)ᵀ"),
        (lambda *a: within(*a, update=lambda a, b: a), "B is missing"),
        (lambda *a: within(*a, update=lambda a, b: b), "A is missing"),
        (lambda *a: within(*a, update=lambda a, b: a + b), "you added them"),
        (in_place, "changed weight, which it was given: work on a new tensor"),
        (lambda *a: within(*a).float(), "keep it"),
        (lambda *a: None, "returned None"),
    ],
    "prior_preserving_step": [
        (summing(lambda a, b, w: a + b), "the weight is missing"),
        (summing(lambda a, b, w: w * a + b), "you gave the weight to own's"),
        (summing(lambda a, b, w: w * (a + b)), "you gave the weight to both"),
        (summing(lambda a, b, w: a + b / w), "you divided by the weight"),
        (summing(lambda a, b, w: a + w**2 * b), "the weight is there twice"),
        (summing(lambda a, b, w: torch.lerp(a, b, w)), "you shared the weight out"),
        (summing(lambda a, b, w: (a + w * b) / (1 + w)), "by 1 + weight"),
        (summing(lambda a, b, w: (a + w * b) / 2), "half of the sum"),
        (summing(lambda a, b, w: (a + b) / 2), "the mean of the two"),
        (summing(lambda a, b, w: w * a * b), "you multiplied the two"),
        (summing(lambda a, b, w: a - w * b), "you subtracted known's"),
        (summing(lambda a, b, w: a), "Only own's loss goes backward"),
        (summing(lambda a, b, w: a + w * b.detach()), "Only own's loss goes backward"),
        (summing(lambda a, b, w: w * b), "Only known's loss goes backward: own's"),
        (summing(lambda a, b, w: b), "Only known's loss goes backward, without its weight"),
        (summing(lambda a, b, w: -(a + w * b)), "went up the losses"),
        (joined, "The two batches were joined"),
        (lambda *a: kept(*a, loss=lambda m, d, batch: loss_of(m, d, batch) * batch[0].numel()),
         "The squares are summed"),
        (lambda *a: kept(*a, loss=noise_wanted), "you took the noise for all"),
        (lambda *a: kept(*a, loss=lambda *b: loss_of(*b, prediction="eps")),
         "it refused what it was given"),
        (lambda *a: kept(*a, loss=lambda m, d, b: ddpm.simple_loss(m, d, *b)),
         "it refused what it was given"),
        (lambda *a: kept(*a, loss=lambda m, d, b: ddpm.simple_loss(m, d, b[3], b[2], b[0], b[1])),
         "z and eps are swapped"),
        (lambda *a: kept(*a, loss=lambda m, d, b: ddpm.simple_loss(m, d, b[0], b[1], b[3], b[2])),
         "t and ids are swapped"),
        (lambda *a: kept(*a, loss=lambda m, d, b: ddpm.simple_loss(m, d, b[0], b[2], b[3])),
         "it was given none"),
        (lambda *a: kept(*a, loss=lambda m, d, b: ddpm.simple_loss(m, d, b[0], b[2], b[3], b[3])),
         "torch.float32"),
        (lambda m, d, o, own, known, w: kept(m, d, o, own, known, w, loss=lambda m, d, b: loss_of(
            m, d, (b[0], own[1], *b[2:]))), "as many rows as z has"),
        (lambda *a: kept(*a, clear="never"), "The old gradients were still there"),
        (lambda *a: kept(*a, clear="after"), "The old gradients were still there"),
        (lambda *a: kept(*a, clear="between"), "The weights did not move"),
        (lambda *a: kept(*a, moves=0), "The weights did not move"),
        (lambda m, d, o, own, known, w: (o.step(), loss_of(m, d, own), loss_of(m, d, known))[1:],
         "In the first step own's loss"),
        (lambda m, d, o, own, known, w: (
            loss_of(m, d, own), loss_of(m, d, known), cut(m, o), o.step())[:2],
         "backward() is missing"),
        (lambda *a: kept(*a, moves=2), "two steps: one is wanted"),
        (lambda *a: two_backwards(*a, between=True, clear=True), "You took a step for each"),
        (lambda *a: two_backwards(*a, between=True), "You took a step for each"),
        (lambda *a: two_backwards(*a, turned=True, between=True), "You took a step for each"),
        (steps_prepared, "A step changed weights that a later backward still needed"),
        (cutting(no_cut), "The gradients were not cut to length 1"),
        (lambda *a: kept(*a, early=True), "clip_grad_norm_ stands between"),
        (lambda *a: kept(*a, late=True), "too early or too late"),
        (lambda *a: two_backwards(*a, each=True), "own's by themselves first"),
        (own_cut_alone, "own's alone, before known's came"),
        (parts_cut, "before they are cut: you cut each by itself."),
        (lambda *a: parts_cut(*a, after=True), "each by itself, and known's before the weight"),
        (lambda *a: parts_cut(*a, again=True), "you cut each by itself first."),
        (lambda *a: parts_cut(*a, after=True, again=True),
         "each by itself first, and known's before the weight"),
        (cutting(cut_each), "each parameter's by itself"),
        (cutting(cut_groups), "each group's by itself"),
        (cutting(cut_first), "you cut the first one's gradients alone"),
        (cutting(cut_all), "A frozen weight's old gradient was counted"),
        (cutting(cut_values), "You cut each number"),
        (cutting(lambda m, o: cut(m, o, norm_type=math.inf)), "norm inf"),
        (cutting(lambda m, o: cut(m, o, norm_type=1)), "norm 1"),
        (cutting(always), "you made it 1 long"),
        (cutting(lambda m, o: cut(m, o, 0.5)), "times as long as is wanted"),
        (cutting(lambda m, o: cut(m, o, 2.0)), "2 times as long as is wanted"),
        (lambda *a: kept(*a, anew=True), "you took them anew"),
        (lambda m, d, o, own, known, w: kept(m, d, o, known, own, w), "own and known are swapped"),
        (told_as(lambda a, b, t, w: (b, a)), "yours are swapped"),
        (told_as(lambda a, b, t, w: (a, w * b)), "multiplied by the weight, and is wanted without"),
        (told_as(lambda a, b, t, w: (t, b)), "yours begins with their sum"),
        (told_as(lambda a, b, t, w: (t, a)), "their sum and own's"),
        (told_as(lambda a, b, t, w: (a, t)), "yours ends with their sum"),
        (told_as(lambda a, b, t, w: (a, a)), "own's twice"),
        (told_as(lambda a, b, t, w: (b, b)), "known's twice"),
        (told_as(lambda a, b, t, w: (t, t)), "the sum twice"),
        (told_as(lambda a, b, t, w: t), "returned a Tensor; two losses are wanted"),
        (told_as(lambda a, b, t, w: (t, a, b)), "returned a tuple; two losses are wanted"),
        (told_as(lambda a, b, t, w: ("a", "b")), "is not two numbers"),
        (told_as(lambda a, b, t, w: None), "returned None"),
        (told_as(lambda a, b, t, w: (a + 1, b)), "own's loss, the first number, is"),
        (told_as(lambda a, b, t, w: (a, b + 1)), "known's loss, the second number, is"),
        (summing(lambda a, b, w: a + 1.3 * w * b), "did not move by one step"),
        (lambda *a: kept(*a, loss=drawn_anew), "You drew something"),
        (lambda *a: kept(*a, loss=unlearned), "no weight has a part in"),
        (lambda *a: kept(*a, loss=each, total=lambda a, b, w: a), "at one number"),
        (lambda m, d, o, own, known, w: [t.backward() for t in [loss_of(m, d, own)] * 2],
         "went backward twice"),
        (thawed, "requires_grad=True on"), (moved, "changed words.weight"),
        (lambda m, *a: kept(m.eval(), *a), "in eval mode"),
    ],
    "copies": [
        (lambda *a: counted(*a, d=lambda a, b: far(a, b).mean(1)), "mean distance from all"),
        (lambda *a: counted(*a, d=lambda a, b: far(a, b).amax(1)), "from the farthest"),
        (lambda x, p, f, s: counted(x, p[:1], f, s), "from the first picture alone"),
        (lambda x, p, f, s: counted(x, p.mean(0, keepdim=True), f, s), "from the pictures' mean"),
        (lambda *a: counted(*a, d=lambda a, b: torch.cdist(a.flatten(1), b.flatten(1), 1).amin(1)),
         "means of absolute differences"),
        (lambda *a: counted(*a, d=lambda a, b: (a.flatten(1).mean(1)[:, None] - b.flatten(
            1).mean(1)).abs().amin(1)), "The differences cancel"),
        (lambda *a: counted(*a, d=lambda a, b: torch.cdist(
            a.flatten(1), b.flatten(1), math.inf).amin(1)), "the largest difference"),
        (lambda *a: counted(*a, d=among_places), "Only the first axis of an image"),
        (lambda *a: counted(*a, d=in_channels), "Each channel has looked"),
        (lambda x, p, f, s: counted(x, p, x, s), "The limit comes from x: "),
        (lambda x, p, f, s: counted(x, p, torch.cat([f, x]), s), "from x and fresh together"),
        (lambda x, p, f, s: counted(x, p, f, 1 - s), "that of 1 − share"),
        (lambda *a: counted(*a, under=torch.gt), "of those above the limit"),
        (lambda x, p, f, s: counted(x, p, f, 1 - s, under=torch.gt), "both the wrong way round"),
        (lambda *a: counted(*a) * 100, "in percent"),
        (lambda *a: counted(*a, told=lambda hits: hits.sum()), "divide it by how many x holds"),
        (lambda x, p, f, s: counted(x, p, f, s, told=lambda hits: int(hits.sum()) / len(f)),
         "by the number of fresh ones"),
        (lambda x, p, f, s: counted(x, p, f, s, d_fresh=lambda f, p: nearest(f, x)),
         "were compared with x: "),
        (lambda x, p, f, s: counted(x, p, f, s, d=lambda x, p: nearest(x, f), d_fresh=nearest),
         "x was compared with the fresh ones"),
        (lambda x, p, f, s: counted(x, f, p, s), "Pictures and fresh ones are swapped"),
        (lambda x, p, f, s: counted(f, p, x, s), "x and fresh are swapped"),
        (lambda x, p, f, s: counted(f, p, f, s), "You counted the fresh ones"),
        (lambda *a: counted(*a, d_fresh=lambda f, p: nearest(f, f)), "compared with themselves"),
        (lambda *a: counted(*a, d=lambda a, b: far(a, b).amin(0)), "for each picture: "),
        (lambda *a: counted(*a, d=far, limit=lambda d, s: torch.quantile(d.flatten(), s)),
         "All distances were taken"),
        (lambda *a: counted(*a, d_fresh=lambda f, p: far(f, p).flatten()),
         "made of all the fresh ones' distances"),
        (lambda *a: counted(*a, limit=lambda d, s: s), "held against share itself"),
        (lambda *a: counted(*a, limit=lambda d, s: s * d.max()), "share times the largest"),
        (lambda *a: counted(*a, limit=lambda d, s: s * d.mean()), "share times the mean"),
        (lambda *a: counted(*a, limit=lambda d, s: d.mean()), "The limit is the mean"),
        (lambda *a: counted(*a, limit=lambda d, s: d.median()), "The limit is the median"),
        (lambda *a: counted(*a, limit=lambda d, s: d.min()), "The limit is the smallest"),
        (lambda *a: counted(*a, limit=lambda d, s: d.sort().values[int(s * (len(d) - 1))]),
         "goes on between two of them"),
        (lambda *a: counted(*a, limit=lambda d, s: torch.quantile(d, s, interpolation="higher")),
         "goes on between two of them"),
        (lambda x, p, f, s: nearest(f, p).quantile(s), "That is the limit"),
        (lambda x, p, f, s: nearest(x, p).mean(), "That is the mean distance: the share"),
        (lambda x, p, f, s: nearest(x, p), "Those are the distances"),
        (lambda *a: counted(*a, told=lambda hits: hits), "take their mean"),
        (lambda x, p, f, s: counted(x.mul_(2) / 2, p, f, s), "changed x"),
        (lambda *a: None, "returned None"),
    ],
}
RIGHT = [
    ("with_new_word", word), ("with_new_word", places), ("with_new_word", word_by_word),
    ("with_new_word", by_one_hot), ("with_new_word", by_index_put),
    ("with_new_word", with_a_module),
    ("lora_forward", beside),
    ("lora_forward", lambda x, w, b, d, u, a: F.linear(x, w + a / len(d) * u @ d, b)),
    ("lora_forward", lambda x, w, b, d, u, a: b + torch.einsum(
        "...i,ri,or->...o", x, d, u) * (a / u.shape[1]) + x @ w.detach().T),
    ("lora_forward", lambda x, w, b, d, u, a: F.linear(x, w, b) + F.linear(F.linear(
        x, d), u) * a / d.shape[0]),
    ("merged", within), ("merged", outer),
    ("merged", lambda w, d, u, a: torch.addmm(w, u, d, alpha=a / len(d))),
    ("merged", lambda w, d, u, a: nn.Parameter(w + (d.T @ u.T).T * a / u.shape[1])),
    ("prior_preserving_step", kept), ("prior_preserving_step", two_backwards),
    ("prior_preserving_step", by_gradients),
    ("prior_preserving_step", cutting(by_hand)),
    ("prior_preserving_step", cutting(lambda m, o: nn.utils.clip_grad_norm_(
        [p for p in m.parameters() if p.requires_grad], 1.0))),
    ("prior_preserving_step", lambda *a: kept(*a, cut=cut_all, whole=True)),
    ("prior_preserving_step", told_as(lambda a, b, t, w: [a, b])),
    ("copies", counted), ("copies", one_by_one),
    ("copies", lambda *a: counted(*a, d=lambda a, b: nearest(a, b) ** 2)),
    ("copies", lambda *a: counted(*a, d=lambda a, b: torch.cdist(
        a.flatten(1), b.flatten(1)).amin(1))),
    ("copies", lambda *a: counted(*a, told=lambda hits: hits.double().mean())),
]
NAMES = checks.exercises()["x4 personal"]
MISTAKES = [(name, i) for name, mistakes in WRONG.items() for i in range(len(mistakes))]


def test_the_exercises_stand_in_order():
    assert list(WRONG) == NAMES == [
        "with_new_word", "lora_forward", "merged", "prior_preserving_step", "copies"]


@pytest.mark.parametrize(("name", "i"), MISTAKES)
def test_a_mistake_is_named_whatever_is_drawn(name, i):
    fn, words = WRONG[name][i]
    for seed in range(1, 2 if name == "prior_preserving_step" else 4):   # its worlds do not change
        torch.manual_seed(seed)
        passed, said = checks.examine(answers(name, fn))
        assert not passed and words in said, (seed, said)


@pytest.mark.parametrize(("name", "fn"), RIGHT)
def test_a_right_answer_passes_whatever_is_drawn(name, fn):
    for seed in range(1, 4):
        torch.manual_seed(seed)
        assert checks.examine(answers(name, fn)) == (True, f"{name}: passed.")


@pytest.mark.parametrize("name", NAMES)
def test_what_stands_in_passes(name):
    for seed in range(12):
        torch.manual_seed(seed)
        passed, said = checks.examine(answers(name, getattr(personal_answers, name)))
        assert passed, (seed, said)


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_that_raises_is_not_hidden(name):
    def raises(error):
        def answer(*args):
            raise error("of its own")

        return answer

    for error in (ZeroDivisionError, RuntimeError, ValueError, IndexError, NotImplementedError):
        passed, said = checks.examine(answers(name, raises(error)))
        assert not passed and "of its own" in said


def test_a_merged_weight_is_the_layer_with_its_adapter():
    torch.manual_seed(1)
    x, weight, bias = (torch.randn(s, dtype=torch.float64) for s in ((6, 5), (3, 5), (3,)))
    down, up = torch.randn(2, 5, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)
    beside = personal_answers.lora_forward(x, weight, bias, down, up, 4.0)
    whole = personal_answers.merged(weight, down, up, 4.0)
    assert torch.allclose(F.linear(x, whole, bias), beside, rtol=1e-12)
    assert torch.linalg.matrix_rank(whole - weight) == 2
    still = personal_answers.lora_forward(x, weight, bias, down, 0 * up, 4.0)
    assert torch.allclose(still, F.linear(x, weight, bias), rtol=1e-12)
    assert torch.allclose(whole[1, 3], weight[1, 3] + 2 * (up[1] * down[:, 3]).sum())


def test_a_new_word_learns_by_the_sum_over_its_places():
    table, vector = torch.arange(6.0).view(3, 2).requires_grad_(), torch.zeros(2).requires_grad_()
    ids = torch.tensor([[0, 3, 3], [2, 1, 3]])
    out = personal_answers.with_new_word(table, vector, ids)
    assert out.tolist() == [[[0, 1], [0, 0], [0, 0]], [[4, 5], [2, 3], [0, 0]]]
    (out * torch.tensor([1.0, 10.0])).sum().backward()
    assert table.grad is None and vector.grad.tolist() == [3, 30]


def test_copies_by_hand():
    pictures = torch.tensor([[0.0, 0.0], [10.0, 10.0]])
    fresh = torch.tensor([[1.0, 1.0], [3.0, 3.0], [8.0, 8.0], [5.0, 5.0]])   # 1, 3, 2 and 5 away
    x = torch.tensor([[0.0, 1.0], [12.0, 12.0], [10.0, 11.4], [4.0, -4.0], [1.9, 1.0]])
    # the quantile of ¼ is 1.75; x is √½, 2, 0.99, 4 and 1.52 away
    assert personal_answers.copies(x, pictures, fresh, 0.25) == pytest.approx(3 / 5)
    assert personal_answers.copies(pictures, pictures, fresh, 0.25) == 1


@pytest.mark.parametrize("case", range(len(personal_world.CASES)))
def test_two_steps_of_the_course_are_two_steps(case):
    """The same weights as with gradients taken by hand; the cut binds in all worlds but one."""
    mine, theirs = (personal_world.World.fresh(case) for _ in range(2))
    rates = [group["lr"] for group in mine.optimiser.param_groups for _ in group["params"]]
    for own, known in mine.batches:
        losses = personal_answers.prior_preserving_step(
            theirs.model, theirs.diffusion, theirs.optimiser, own, known, theirs.weight)
        a, b = (each(mine.model, mine.diffusion, batch).mean() for batch in (own, known))
        assert losses == pytest.approx((a.item(), b.item()), rel=1e-6)
        slopes = torch.autograd.grad(a + mine.weight * b, mine.learned())
        length = torch.cat([g.flatten() for g in slopes]).norm()
        assert float(length) < 0.9 if case == 0 else float(length) > 2
        with torch.no_grad():
            for p, slope, rate in zip(mine.learned(), slopes, rates, strict=True):
                p -= rate * slope / length.clamp(min=1)
        for p, q in zip(mine.model.parameters(), theirs.model.parameters(), strict=True):
            assert torch.allclose(p, q, atol=1e-6)


def test_no_two_mistakes_of_the_step_give_one_value():
    """In the first world where a mistake is seen it is told from all that are seen there first."""
    seen = set()
    for case in range(len(personal_world.CASES)):
        every = [*personal_step.MISTAKES]
        if not personal_world.CASES[case].words:
            every += personal_step.MISTAKES_OF_ONE_SHAPE
        right = personal_world.stepped(case, 1)[0]
        found = [(words, personal_world.stepped(case, 1, how)[0]) for words, how in every
                 if words not in seen]
        found = [(words, after) for words, after in found if not after.like(right)]
        for (one, a), (other, b) in itertools.combinations(found, 2):
            assert one == other or not a.like(b), (case, one, other)
        seen |= {words for words, _ in found}
    every = {words for words, _ in (*personal_step.MISTAKES, *personal_step.MISTAKES_OF_ONE_SHAPE)}
    assert seen == every
    tested = [words for _, words in WRONG["prior_preserving_step"]]
    assert not [s for s in every if not any(words in s for words in tested)], "untested"


def test_no_two_mistakes_give_one_value(monkeypatch):
    """So what a message says is what was done; a value of two mistakes has one message for both."""
    seen = {name: set() for name in NAMES}
    at = ""

    def apart(wrong, given, same):
        for i, (words, value) in enumerate(wrong):
            seen[at].add(words)
            for other, value_too in wrong[:i]:
                assert words == other or not same(value, value_too), (given, words, other)

    def equal(a, b):
        return a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=1e-4, atol=1e-4)

    def look(got, want, given, mistakes=None, *rest):
        apart([(w, v) for w, v in (mistakes or {}).items() if not equal(v, want)], given, equal)
        compare.expect(got, want, given, mistakes, *rest)

    def judge(answer, cases, course, mistakes, told):
        values = [(words, [f(*case) for case in cases]) for words, f in mistakes]
        apart([("The right answer.", [course(*case) for case in cases]), *values], "all cases",
              lambda a, b: all(map(text_cases.alike, a, b)))
        text_cases.judge(answer, cases, course, mistakes, told)

    for name, module, seen_by in (("expect", "personal_lora", look),
                                  ("judge", "personal_words", judge),
                                  ("judge", "personal_copies", judge)):
        monkeypatch.setattr(importlib.import_module(f"minigen.checks.{module}"), name, seen_by)
    names = [name for name in NAMES if name != "prior_preserving_step"]
    for at in names:
        for seed in range(6):
            torch.manual_seed(seed)
            passed, said = checks.examine(answers(at, getattr(personal_answers, at)))
            assert passed, said
    for name in names:
        tested = [words for _, words in WRONG[name]] + ["The right answer."]
        untested = [s for s in seen[name] if not any(words in s for words in tested)]
        assert len(seen[name]) >= 12 and not untested, untested


def test_what_a_check_of_words_and_copies_asks_is_as_it_says():
    torch.manual_seed(2)
    for words, _, n, length, new in personal_words.CASES:
        ids = personal_words._sentences(words, n, length, new)
        assert bool((ids == words).any()) == new and int(ids.max()) == words - 1 + new
        assert n == 1 or not (ids == words).any(1).all()
    for x, pictures, fresh, share in personal_copies._cases():
        away, limits = nearest(x, pictures), nearest(fresh, pictures)
        limit = torch.quantile(limits, share)
        assert 0 < float((away < limit).float().mean()) < 1
        assert float((away - limit).abs().min()) > 2e-3
