"""Excursion 2's exercises: mistakes, and right answers in other styles; `test_checks` asks them.

Here: that a mistake is named whatever numbers are drawn, and that what stands in is the package's.
"""

import importlib
import itertools
import math
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from minigen import checks, clip, text_to_image
from minigen.checks import compare, text_answers, text_cases, text_pairs


def answers(name, fn):
    def answer(*args):
        return fn(*args)

    answer.__name__ = name
    return answer


def neighbours(word):
    return list(itertools.pairwise(word))


def merged(word, pair, made=None, skip=2, most=99, both=False):
    """One word with a pair merged, and what can go wrong in it."""
    new, i, done = [], 0, 0
    while i < len(word):
        here = tuple(word[i : i + 2])
        if (here == pair or (both and here == pair[::-1])) and done < most:
            new.append("".join(here) if made is None else made)
            i, done = i + skip, done + 1
        else:
            new.append(word[i])
            i += 1
    return tuple(new)


def step(words, pairs=neighbours, times=lambda n: n, best=lambda c: min(c, key=lambda p: (
        -c[p], p)), told=lambda pair, new: (pair, new), merge=merged, count=lambda n: n,
        key=lambda w: w, keep=lambda word, new: True, **how):
    """One merge of byte-pair encoding, and what can go wrong in it."""
    c = Counter()
    for word, n in words.items():
        for pair in pairs(word):
            c[pair] += times(n)
    pair = best(c)
    new = {w: merge(w, pair, **how) for w in words}
    return told(pair, {key(new[w]): count(n) for w, n in words.items() if keep(w, new[w])})


def replaced(word, pair):
    return tuple(" ".join(word).replace(" ".join(pair), "".join(pair)).split(" "))


def mirrored(word, pair, most=99):
    return merged(word[::-1], pair[::-1], "".join(pair), most=most)[::-1]


def overwritten(words):
    c = {}
    for word, n in words.items():
        for pair in neighbours(word):
            c[pair] = n
    pair = min(c, key=lambda p: (-c[p], p))
    return pair, {merged(w, pair): n for w, n in words.items()}


def cut_short(word, pair):
    new, i = [], 0
    while i < len(word) - 1:
        if (word[i], word[i + 1]) == pair:
            new.append(word[i] + word[i + 1])
            i += 2
        else:
            new.append(word[i])
            i += 1
    return tuple(new)


def in_place(words):
    pair, new = step(words)
    words.clear()
    words.update(new)
    return pair, words


def by_loops(words):
    """The same with indices, defaultdict and a sort."""
    c = defaultdict(int)
    for word, n in words.items():
        for i in range(len(word) - 1):
            c[word[i], word[i + 1]] += n
    pair = sorted(c.items(), key=lambda item: (-item[1], item[0]))[0][0]
    new = Counter()
    for word, n in words.items():
        parts = list(word)
        i = 0
        while i < len(parts) - 1:
            if (parts[i], parts[i + 1]) == pair:
                parts[i : i + 2] = [parts[i] + parts[i + 1]]
            i += 1
        new[tuple(parts)] += n
    return pair, new


def agreed(u, v, s, norm=lambda x: F.normalize(x, dim=1), own=None, logits=lambda a, b, s:
           s * a @ b.T, both=lambda a, b: (a + b) / 2, cost=F.cross_entropy, **how):
    """InfoNCE, and what can go wrong in it."""
    x = logits(norm(u), norm(v), s)
    own = torch.arange(len(u)) if own is None else own(len(u))
    return both(cost(x, own, **how), cost(x.T, own, **how))


def by_hand(u, v, s):
    """The same without F: shares of exponentials, row by row."""
    a = u / u.square().sum(1, keepdim=True).sqrt()
    b = v / v.norm(dim=-1, keepdim=True)
    e = (s * torch.einsum("nd,md->nm", a, b)).exp()
    total = sum(-(e[k, k] / e[k].sum()).log() - (e[k, k] / e[:, k].sum()).log()
                for k in range(len(u)))
    return total / (2 * len(u))


def others_only(x, own):
    e = x.exp()
    return (-x.diag() + (e.sum(1) - e.diag()).log()).mean()


def found(u, v, best=lambda c: c.argmax(1), told=lambda hits: hits.float().mean().item()):
    """Recall at 1, and what can go wrong in it."""
    return told(best(u @ v.T) == torch.arange(len(u)))


def read(u, v, mean=lambda v: v.mean(1), norm=lambda m: m / m.norm(dim=-1, keepdim=True),
         best=lambda c: c.argmax(1)):
    """The reading by several wordings, and what can go wrong in it."""
    return best(u @ norm(mean(v)).T)


def as_it_is(x):
    return x


def row_by_row(u, v):
    """The same in loops."""
    out = []
    for picture in u:
        cosines = []
        for wordings in v:
            mean = sum(wordings) / len(wordings)
            cosines.append(float(picture @ mean / mean.norm()))
        out.append(cosines.index(max(cosines)))
    return torch.tensor(out)


def voted(u, v):
    return torch.stack([(u @ v[:, w].T).argmax(1) for w in range(v.shape[1])]).mode(0).values


def looked(q, k, v, mask, scale=None, power=-0.5, fill=-math.inf, there=lambda m: m[:, None, None],
           dim=-1, weigh=None, late=None, mix=lambda w, v: w @ v):
    """Cross-attention, and what can go wrong in it."""
    s = q @ k.transpose(-1, -2) * (q.shape[-1] ** power if scale is None else scale)
    if fill is not None:
        s = s.masked_fill(~there(mask), fill)
    w = s.softmax(dim) if weigh is None else weigh(s)
    return mix(w if late is None else w * late(mask), v)


def exact(q, k, v, mask):
    """The same by the exponentials, of words alone."""
    there = mask[:, None, None].expand(len(q), -1, -1, -1)
    s = torch.einsum("bhld,bhmd->bhlm", q, k.expand(len(q), -1, -1, -1)) / math.sqrt(q.shape[-1])
    s = torch.where(there, s, -math.inf)
    e = (s - s.amax(-1, keepdim=True)).exp()
    return torch.einsum("bhlm,bhmd->bhld", e / e.sum(-1, keepdim=True),
                        v.expand(len(q), -1, -1, -1))


def one_by_one(q, k, v, mask):
    """The same in loops, of words alone."""
    out = []
    for b in range(len(q)):
        c = b if len(k) > 1 else 0
        words, values = k[c][:, mask[c]], v[c][:, mask[c]]
        out.append((q[b] @ words.mT / q.shape[-1] ** 0.5).softmax(-1) @ values)
    return torch.stack(out)


def sdpa(q, k, v, mask):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None])


def shown(mask):
    return mask[:, None, None].float()


def hits(g, w, told=lambda w: w >= 0, mean=lambda h: h.double().mean()):
    """The share of labels obeyed, and what can go wrong in it."""
    return mean((g == w)[told(w)])


def by_pairs(g, w):
    right = told = 0
    for row, wanted in zip(g.tolist(), w.tolist(), strict=True):
        for a, b in zip(row, wanted, strict=True):
            if b != -1:
                told += 1
                right += a == b
    return right / told


def averaged(g, w, dim, empty=None):
    told = w >= 0
    shares = ((g == w) & told).sum(dim) / told.sum(dim)
    return shares.nan_to_num(empty).mean() if empty is not None else shares.nanmean()


def prior_of(prior, image, text, t, eps, alpha_bar, at=lambda a, x, e: a.sqrt() * x
             + (1 - a).sqrt() * e, look=lambda a, t: a[t][:, None], tell=lambda t: t,
             say=lambda y, x: y, wanted=lambda x0, e, y, x: x0, cost=lambda d: d.square().mean(),
             asks=1, draw=False):
    """The prior's loss, and what can go wrong in it."""
    a = look(alpha_bar, t)
    x = at(a, image, torch.randn_like(eps) if draw else eps)
    for _ in range(asks):
        out = prior(x, tell(t), say(text, x))
    return cost(out - wanted(image, eps, text, x))


def cosine(prior, image, text, t, eps, a, less=False):
    c = F.cosine_similarity(right_answer(prior, image, text, t, eps, a), image, dim=1).mean()
    return 1 - c if less else c


def right_answer(prior, image, text, t, eps, a):
    """What the prior answers to the right question."""
    a = a[t].view(-1, 1)
    return prior(a**0.5 * image + (1 - a) ** 0.5 * eps, t, text)


WRONG = {
    "bpe_step": [
        (lambda w: step(w, times=lambda n: 1), "counted each word once"),
        (lambda w: step(w, pairs=lambda x: set(neighbours(x))), "stands twice in a word"),
        (overwritten, "add up over the words"),
        (lambda w: step(w, best=lambda c: c.most_common(1)[0][0]), "the one seen first"),
        (lambda w: step(w, best=lambda c: max(reversed(c), key=c.get)), "the one seen last"),
        (lambda w: step(w, best=lambda c: max(c, key=lambda p: (c[p], p))), "the last in it"),
        (lambda w: step(w, best=lambda c: min(c, key=lambda p: (-c[p], p[0] + p[1]))), "joined"),
        (lambda w: step(w, best=lambda c: min(c, key=lambda p: (c[p], p))), "the rarest"),
        (lambda w: step(w, pairs=lambda x: itertools.combinations(x, 2)), "stand apart"),
        (lambda w: step(w, pairs=lambda x: neighbours("".join(x))), "single letters"),
        (lambda w: step(w, pairs=lambda x: [tuple(sorted(p)) for p in neighbours(x)]),
         "The order counts"),
        (lambda w: step(w, pairs=lambda x: [x[i : i + 2] for i in range(0, len(x) - 1, 2)]),
         "Pairs overlap"),
        (lambda w: step(w, pairs=lambda x: [x[i : i + 2] for i in range(len(x) - 2)]),
         "The last pair of each word"),
        (lambda w: step(w, pairs=lambda x: [x[i : i + 2] for i in range(1, len(x) - 1)]),
         "The first pair of each word"),
        (lambda w: step(w, told=lambda p, new: (p[0] + p[1], new)), "returned the new symbol"),
        (lambda w: step(w, told=lambda p, new: (list(p), new)), "a tuple of two symbols"),
        (lambda w: step(w, told=lambda p, new: new), "the dict alone"),
        (lambda w: step(w, told=lambda p, new: (new, p)), "the new dict second"),
        (lambda w: step(w, told=lambda p, new: p), "words as a new dict"),
        (lambda w: step(w, told=lambda p, new: (p, 3, new)), "Return two things"),
        (lambda w: step(w, told=lambda p, new: (p, list(new))), "of type list"),
        (lambda w: step(w, merge=lambda x, p: x), "Nothing is merged"),
        (lambda w: step(w, most=1), "only the first of a word"),
        (lambda w: step(w, merge=mirrored, most=1), "only the last of a word"),
        (lambda w: step(w, merge=mirrored), "from left to right"),
        (lambda w: step(w, keep=lambda old, new: old != new), "yours are lost"),
        (lambda w: step(w, merge=cut_short), "The last symbol of a word is lost"),
        (lambda w: step(w, skip=1), "second symbol is still there"),
        (lambda w: step(w, merge=lambda x, p: tuple(s for s in merged(x, p, "") if s)),
         "there is nothing now"),
        (lambda w: step(w, merge=replaced), "You replaced text"),
        (lambda w: step(w, key=lambda x: tuple("".join(x))), "cut into its letters"),
        (lambda w: step(w, count=lambda n: 1), "counts are lost"),
        (lambda w: step(w, merge=lambda x, p: merged(x, p, p)), "yours is a tuple"),
        (lambda w: step(w, merge=lambda x, p: merged(x, p, p[1] + p[0])), "the wrong way round"),
        (lambda w: step(w, both=True), "its mirror image too"),
        (lambda w: step(w, merge=lambda x, p: merged(x, p, " ".join(p))), "yours has ' ' there"),
        (lambda w: step(w, merge=lambda x, p: merged(x, p, "_".join(p))), "yours has '_' there"),
        (lambda w: step(w, key="".join), "with its comma"),
        (lambda w: step(w, key=" ".join), "A word is a tuple of symbols"),
        (lambda w: step(w, key=lambda x: x if len(x) > 1 else x[0]), "with its comma"),
        (lambda w: step(w, count=lambda n: n + 1), "its count is"),
        (lambda w: step(w, keep=lambda old, new: len(new) > 1), "it is not there"),
        (lambda w: step(w, told=lambda p, new: (p, w | new)), "too many"),
        (in_place, "changed words"),
    ],
    "info_nce": [
        (lambda *a: agreed(*a, both=lambda x, y: x), "Only the pictures look"),
        (lambda *a: agreed(*a, both=lambda x, y: y), "Only the sentences look"),
        (lambda *a: agreed(*a, both=lambda x, y: x + y), "the ½ is missing"),
        (lambda *a: agreed(*a, both=lambda x, y: x - y), "their difference"),
        (lambda *a: agreed(*a, norm=as_it_is), "not brought to length 1"),
        (lambda u, v, s: agreed(F.normalize(u), v, s, norm=as_it_is), "Only u's rows"),
        (lambda u, v, s: agreed(u, F.normalize(v), s, norm=as_it_is), "Only v's rows"),
        (lambda *a: agreed(*a, norm=lambda x: F.normalize(x, dim=0)), "you took the columns"),
        (lambda *a: agreed(*a, norm=lambda x: x / x.norm()), "all numbers together"),
        (lambda *a: agreed(*a, norm=lambda x: x / x.square().sum(1, keepdim=True)),
         "squares of a row's length"),
        (lambda u, v, s: agreed(u, v, 1.0), "The scale is missing"),
        (lambda u, v, s: agreed(s * u, s * v, 1.0), "or was lost"),
        (lambda *a: agreed(*a, logits=lambda a, b, s: a @ b.T / s), "you divided"),
        (lambda *a: agreed(*a, logits=lambda a, b, s: a @ b.T * math.exp(s)), "took its exp"),
        (lambda *a: agreed(*a, logits=lambda a, b, s: (s * a) @ (s * b).T), "there twice"),
        (lambda *a: agreed(*a, logits=lambda a, b, s: s * a @ b.T / a.shape[1] ** 0.5), "no √D"),
        (lambda *a: -agreed(*a), "The minus is missing"),
        (lambda *a: agreed(*a, reduction="sum"), "You summed over the rows"),
        (lambda *a: agreed(*a, reduction="none"), "One number for all rows"),
        (lambda *a: agreed(*a, cost=lambda x, o: -x.log_softmax(1).mean()), "the diagonal"),
        (lambda *a: agreed(*a, cost=lambda x, o: -x.softmax(1).diag().mean()),
         "The logarithm is missing"),
        (lambda *a: agreed(*a, cost=lambda x, o: -x.diag().mean()), "The softmax is missing"),
        (lambda u, v, s: 1 - F.cosine_similarity(u, v).mean(), "1 − the mean cosine"),
        (lambda *a: agreed(*a, cost=lambda x, o: F.cross_entropy(x.softmax(1), o)),
         "takes logits"),
        (lambda *a: agreed(*a, cost=others_only), "you left it out there"),
        (lambda *a: agreed(*a, own=lambda n: torch.zeros(n).long()), "column 0 for all"),
        (lambda u, v, s: agreed(u, u, s), "the pictures with themselves"),
        (lambda u, v, s: agreed(v, v, s), "the sentences with themselves"),
        (lambda *a: agreed(*a, cost=lambda x, o: F.binary_cross_entropy_with_logits(
            x, torch.eye(len(x)))), "yes or no for each pair"),
        (lambda *a: agreed(*a, logits=lambda a, b, s: a @ b.T, cost=lambda x, o: F.mse_loss(
            x, torch.eye(len(x)))), "a squared error"),
        (lambda *a: agreed(*a, cost=lambda x, o: -x.flatten().log_softmax(0).view(
            x.shape).diag().mean()), "all pairs at once"),
        (lambda *a: agreed(*a) / math.log(2), "base 2"),
        (lambda *a: agreed(*a).item(), "no gradient comes back"),
        (lambda u, v, s: agreed(u, v.detach(), s), "reaches the sentences' embeddings"),
        (lambda u, v, s: agreed(u, v, s, both=lambda x, y: (x + agreed(
            u.detach(), v, s, both=lambda x, y: y)) / 2), "reaches the pictures' embeddings"),
        (lambda u, v, s: agreed(u, v, torch.as_tensor(s).item()), "reaches the scale"),
        (lambda u, v, s: agreed(u.div_(u.norm(dim=1, keepdim=True)), v, s), "changed u"),
    ],
    "recall_at_1": [
        (lambda u, v: found(v, u), "the way back"),
        (lambda u, v: found(u, v, lambda c: c.argmax(0)), "the way back"),
        (lambda u, v: (found(u, v) + found(v, u)) / 2, "averaged both ways"),
        (lambda u, v: found(u, v, lambda c: c.argmin(1)), "the farthest"),
        (lambda u, v: found(u, v, lambda c: c.abs().argmax(1)), "opposite rows"),
        (lambda u, v: found(u, v, told=torch.sum), "the number of hits"),
        (lambda u, v: 100 * found(u, v), "in percent"),
        (lambda u, v: 1 - found(u, v), "the share of misses"),
        (lambda u, v: found(u, u), "found itself"),
        (lambda u, v: F.cosine_similarity(u, v).mean(), "the mean cosine"),
        (lambda u, v: found(u, v, told=lambda h: int(h.sum()) // len(h)), "// cuts"),
        (lambda u, v: float(((u.T @ v).argmax(1) == torch.arange(u.shape[1])).float().mean()),
         "compares columns"),
        (lambda u, v: found(u, v, told=torch.sum) / len(u) ** 2, "divide them by N"),
        (lambda u, v: found(u, v, told=as_it_is), "the mean of the hits"),
        (lambda u, v: None, "Is there a `return`?"),
        (lambda u, v: 0.9 * found(u, v), "is 0.9 times what is wanted"),
        (lambda u, v: 0.37, "For 14 rows the value is 0.37; "),
    ],
    "read_by_sentences": [
        (lambda u, v: read(u, v, norm=as_it_is), "not brought to length 1"),
        (lambda u, v: torch.einsum("nd,kwd->nkw", u, v).mean(2).argmax(1), "average the cosines"),
        (lambda u, v: torch.einsum("nd,kwd->nkw", u, v).amax(2).argmax(1), "nearest wording"),
        (lambda u, v: read(u, v, mean=lambda v: v[:, 0]), "Only the first wording"),
        (lambda u, v: read(u, v, mean=lambda v: v[:, -1]), "Only the last wording"),
        (lambda u, v: read(u, v, mean=lambda v: v.mean(0)), "averaged over the values"),
        (lambda u, v: read(u, v, norm=lambda m: F.normalize(m, dim=0)), "you took the columns"),
        (lambda u, v: read(u, v, best=lambda c: c.argmin(1)), "the smallest cosine"),
        (lambda u, v: (u @ v.reshape(-1, v.shape[2]).T).argmax(1), "number of the nearest wording"),
        (voted, "have voted"),
        (lambda u, v: read(u, v, best=lambda c: c.argmax(0)), "nearest picture of each value"),
        (lambda u, v: read(u, v) + 1, "counted from 0"),
        (lambda u, v: read(u, v, best=as_it_is), "Those are the cosines"),
        (lambda u, v: read(u, v, best=lambda c: c.max(1).values), "the largest cosine: its number"),
        (lambda u, v: read(u, v, best=lambda c: c.abs().argmax(1)), "the opposite"),
        (lambda u, v: read(u, v).float(), "a conversion"),
        (lambda u, v: read(u, v).tolist(), "returned a list"),
    ],
    "cross_attention": [
        (lambda *a: looked(*a, fill=None), "The mask is not used"),
        (lambda q, k, v, m: looked(q, k, v, ~m), "The mask is inverted"),
        (lambda *a: looked(*a, scale=1), "The division by √d is missing"),
        (lambda *a: looked(*a, power=0.5), "You multiplied by √d"),
        (lambda *a: looked(*a, power=-1), "You divided by d"),
        (lambda q, k, v, m: sdpa(q / q.shape[-1] ** 0.5, k, v, m), "divides by itself"),
        (lambda q, k, v, m: looked(q, k, v, m, scale=k.shape[2] ** -0.5), "number of words"),
        (lambda q, k, v, m: looked(q, k, v, m, scale=(q.shape[1] * q.shape[3]) ** -0.5),
         "the whole width"),
        (lambda *a: looked(*a, dim=-2, fill=None, late=shown), "picture's places"),
        (lambda *a: looked(*a, dim=-2), "NaN everywhere"),
        (lambda *a: looked(*a, dim=1, fill=None, late=shown), "over the heads"),
        (lambda *a: looked(*a, weigh=as_it_is, fill=0), "The softmax is missing"),
        (lambda *a: looked(*a, fill=0), "A score of 0 still has weight"),
        (lambda q, k, v, m: looked(q, k * m[:, None, :, None], v, m, fill=None), "e⁰ = 1"),
        (lambda *a: looked(*a, fill=None, late=shown), "has taken weight"),
        (lambda q, k, v, m: looked(q, k, v * m[:, None, :, None], m, fill=None),
         "has taken weight"),
        (lambda q, k, v, m: F.scaled_dot_product_attention(
            q, k, v, attn_mask=m[:, None, None].to(q.dtype)), "added as numbers"),
        (lambda *a: looked(*a, mix=lambda w, v: w @ a[1]), "you mixed the keys"),
        (lambda *a: looked(*a) + a[0], "q is added"),
        (lambda *a: looked(*a, scale=0), "the mean of the words"),
        (lambda *a: looked(*a, mix=lambda w, v: w), "Those are the weights"),
        (lambda *a: looked(*a).transpose(1, 2).flatten(2), "The heads were joined"),
        (lambda *a: looked(*a).transpose(1, 2), "Heads and places are swapped"),
        (lambda *a: looked(*a, weigh=lambda s: F.one_hot(s.argmax(-1), s.shape[-1]).to(s)),
         "takes all"),
        (lambda q, k, v, m: looked(q, k, v, m[:1]), "its own padding"),
        (lambda q, k, v, m: looked(q, k[:1], v[:1], m[:1]), "its own sentence"),
        (lambda *a: looked(*a, there=lambda m: m[:, None]), "The mask met the heads"),
        (lambda *a: looked(*a, there=as_it_is), "The mask met the picture's places"),
        (lambda *a: looked(*a).float(), "keep it"),
        (lambda q, k, v, m: looked(q, k, v, m, fill=None, weigh=lambda s: (
            s - 1e9 * (~m[:, None, None])).softmax(-1)), "have changed the answer"),
        (lambda q, k, v, m: looked(q, k, v, m, fill=None, weigh=lambda s: (
            (w := s.softmax(-1) * m[:, None, None]) / w.sum(-1, keepdim=True))),
         "have changed the answer (NaN came out)"),
        (lambda q, k, v, m: looked(q, k.detach(), v, m), "reaches the keys"),
        (lambda q, k, v, m: looked(q, k, v, m, mix=lambda w, v: w.detach() @ v),
         "reaches the queries"),
        (lambda *a: looked(*a).detach(), "no gradient comes back"),
        (lambda q, k, v, m: looked(q, k, v.mul_(2), m) / 2, "changed v"),
        (lambda *a: (looked(*a), None), "returned a tuple"),
    ],
    "obeyed": [
        (lambda g, w: (g == w).float().mean(), "divided by all labels"),
        (lambda g, w: hits(g, w, told=lambda w: g >= 0), "divided by all labels"),
        (lambda g, w: ((g == w) | (w == -1)).float().mean(), "counted those as right"),
        (lambda g, w: averaged(g, w, 1), "each face's share"),
        (lambda g, w: averaged(g, w, 1, 0.0), "each face's share"),
        (lambda g, w: averaged(g, w, 1, 1.0), "each face's share"),
        (lambda g, w: ((g == w).sum(1) / (w >= 0).sum(1)).mean(), "each face's share"),
        (lambda g, w: averaged(g, w, 0), "each attribute's share"),
        (lambda g, w: averaged(g, w, 0, 0.0), "each attribute's share"),
        (lambda g, w: (g == w).sum(), "divide it by how many are told"),
        (lambda g, w: 1 - hits(g, w), "those that came out wrong"),
        (lambda g, w: hits(g, w) * 100, "in percent"),
        (lambda g, w: hits(g, w, told=lambda w: w > 0), "0 is a value too: told"),
        (lambda g, w: hits(g, w, told=lambda w: w != 0), "what is not 0"),
        (lambda g, w: ((g == w) | (w < 0)).all(1).float().mean(), "as a whole"),
        (lambda g, w: ((g == w) | (w < 0))[(w >= 0).any(1)].all(1).float().mean(), "as a whole"),
        (lambda g, w: (w >= 0).float().mean(), "share of labels that are told"),
        (lambda g, w: (g == w).sum() / len(w), "number of faces"),
        (lambda g, w: (g == w).sum() // (w >= 0).sum(), "// cuts"),
        (lambda g, w: hits(g, w, mean=as_it_is), "take the mean of the hits"),
        (lambda g, w: (g == w).sum(1) / (w >= 0).sum(1), "shares of the faces"),
        (lambda g, w: hits(g, w.clamp_(min=0)), "changed want"),
    ],
    "prior_loss": [
        (lambda *a: prior_of(*a, at=lambda a, x, e: a * x + (1 - a) * e), "The roots are missing"),
        (lambda *a: prior_of(*a, at=lambda a, x, e: a.sqrt() * x + (1 - a) * e),
         "root of 1 − ᾱ is missing"),
        (lambda *a: prior_of(*a, at=lambda a, x, e: a * x + (1 - a).sqrt() * e),
         "root of ᾱ is missing"),
        (lambda *a: prior_of(*a, at=lambda a, x, e: a.sqrt() * x + (1 - a.sqrt()) * e), "1 − √ᾱ"),
        (lambda *a: prior_of(*a, look=lambda a, t: 1 - a[t][:, None]), "are swapped"),
        (lambda *a: prior_of(*a, at=lambda a, x, e: a.sqrt() * x - (1 - a).sqrt() * e), "a plus"),
        (lambda *a: prior_of(*a, at=lambda a, x, e: x + (1 - a).sqrt() * e), "before image"),
        (lambda *a: prior_of(*a, at=lambda a, x, e: a.sqrt() * x + e), "before eps"),
        (lambda *a: prior_of(*a, at=lambda a, x, e: x), "shown the clean picture"),
        (lambda *a: prior_of(*a, at=lambda a, x, e: e), "the noise alone"),
        (lambda *a: prior_of(*a, at=lambda a, x, e: a.sqrt() * x), "The noise is missing"),
        (lambda *a: prior_of(*a, at=lambda a, x, e: (1 - a).sqrt() * e), "The picture is missing"),
        (lambda *a: prior_of(*a, at=lambda s, x, e: s.sqrt() * a[2] + (1 - s).sqrt() * e),
         "you took the sentence's"),
        (lambda *a: prior_of(*a, at=lambda s, x, e: a[2]), "in place of noisy pictures"),
        (lambda *a: prior_of(*a, look=lambda a, t: a[t - 1][:, None]), "the step before"),
        (lambda *a: prior_of(*a, look=lambda a, t: a[t + 1][:, None]), "the step after"),
        (lambda *a: prior_of(*a, look=lambda a, t: a[t[0]]), "the first one's"),
        (lambda *a: prior_of(*a, look=lambda a, t: a[t].mean()), "the mean of their"),
        (lambda *a: prior_of(*a, look=lambda a, t: a.cumprod(0)[t][:, None]), "once more"),
        (lambda *a: prior_of(*a, look=lambda a, t: a[: len(t)][:, None]), "the first rows"),
        (lambda *a: prior_of(*a, look=lambda a, t: a[t]), "numbers of a row"),
        (lambda *a: prior_of(*a, draw=True), "You drew something"),
        (lambda *a: prior_of(*a, asks=2), "asked it 2 times"),
        (lambda *a: a[1].square().mean(), "asked it 0 times"),
        (lambda *a: prior_of(*a, tell=lambda t: t / 20), "you divided it"),
        (lambda *a: prior_of(*a, tell=lambda t: a[5][t]), "you told it ᾱ"),
        (lambda *a: prior_of(*a, tell=lambda t: t + 1), "without + 1"),
        (lambda *a: prior_of(*a, tell=lambda t: 19 - t), "the other way"),
        (lambda *a: prior_of(*a, tell=lambda t: t[0]), "one time step for each row"),
        (lambda *a: prior_of(*a, tell=lambda t: 5), "takes three tensors"),
        (lambda p, *a: prior_of(lambda x, t, y: p(x, t), *a), "takes three tensors"),
        (lambda p, *a: prior_of(lambda x, t, y: p(x), *a), "takes three tensors"),
        (lambda p, *a: prior_of(lambda x, t, y: p(x, y, t), *a), "second, the sentences third"),
        (lambda *a: prior_of(*a, say=lambda y, x: a[1]), "which it has to guess"),
        (lambda *a: prior_of(*a, say=lambda y, x: a[4]), "you gave it the noise"),
        (lambda p, *a: prior_of(lambda x, t, y: p(y, t, x), *a), "x comes first"),
        (lambda *a: prior_of(*a, say=lambda y, x: a[5][a[3]].sqrt()[:, None] * y
                             + (1 - a[5][a[3]]).sqrt()[:, None] * a[4]), "get no noise"),
        (lambda *a: prior_of(*a, wanted=lambda x0, e, y, x: e), "you asked for the noise"),
        (lambda *a: prior_of(*a, wanted=lambda x0, e, y, x: x), "against the noisy embedding"),
        (lambda *a: prior_of(*a, wanted=lambda x0, e, y, x: y), "against the sentence's"),
        (lambda *a: prior_of(*a, wanted=lambda x0, e, y, x: e - x0), "a flow's velocity"),
        (lambda p, x, y, t, e, a: F.mse_loss(right_answer(p, x, y, t, e, a), (
            a[t].sqrt()[:, None] * e - (1 - a[t]).sqrt()[:, None] * x)), "you asked for v"),
        (lambda *a: prior_of(*a, wanted=lambda x0, e, y, x: 0), "The target is missing"),
        (lambda *a: prior_of(*a, wanted=lambda x0, e, y, x: -x0), "you added it"),
        (lambda *a: prior_of(*a, cost=lambda d: d.square().sum()), "You summed the squares"),
        (lambda *a: prior_of(*a, cost=lambda d: d.square().sum(1).mean()), "along one axis"),
        (lambda *a: prior_of(*a, cost=lambda d: d.square().mean(1)), "mean of each row"),
        (lambda *a: prior_of(*a, cost=lambda d: d.square()), "Those are the squared errors"),
        (lambda *a: prior_of(*a, cost=lambda d: d.abs().mean()), "the absolute error"),
        (lambda *a: prior_of(*a, cost=torch.mean), "The square is missing"),
        (lambda *a: prior_of(*a, cost=lambda d: d.mean() ** 2), "squared the mean"),
        (lambda *a: prior_of(*a, cost=lambda d: d.square().mean() ** 0.5), "root of the mean"),
        (lambda *a: prior_of(*a) / 2, "no ½"),
        (cosine, "That is the cosine"), (lambda *a: cosine(*a, less=True), "1 − the cosine"),
        (lambda p, x, *a: F.mse_loss(F.normalize(right_answer(p, x, *a)), F.normalize(x)),
         "brought to length 1"),
        (lambda *a: prior_of(*a).item(), "no gradient comes back"),
        (lambda p, *a: prior_of(p, *a) * 0 + prior_of(lambda *q: p(*q).detach(), *a),
         "asked it 2 times"),
        (lambda p, *a: prior_of(lambda *q: ((out := p(*q)) + out.detach()) / 2, *a),
         "not the gradient"),
    ],
}
RIGHT = [
    ("bpe_step", step), ("bpe_step", by_loops),
    ("bpe_step", lambda w: list(step(w))),
    ("info_nce", agreed), ("info_nce", by_hand),
    ("info_nce", lambda u, v, s: agreed(v, u, s)),
    ("info_nce", lambda u, v, s: agreed(u.double(), v.double(), s)),
    ("info_nce", lambda *a: agreed(*a, logits=lambda a, b, s: b.mul(s).matmul(a.mT).mT)),
    ("recall_at_1", found),
    ("recall_at_1", lambda u, v: np.float64((torch.cdist(u, v).argmin(1).numpy()
                                             == np.arange(len(u))).mean())),
    ("recall_at_1", lambda u, v: sum(
        int(max(range(len(v)), key=lambda j: float(u[i] @ v[j])) == i)
        for i in range(len(u))) / len(u)),
    ("recall_at_1", lambda u, v: found(u, v, told=lambda h: h.float().mean())),
    ("read_by_sentences", read), ("read_by_sentences", row_by_row),
    ("read_by_sentences", lambda u, v: read(u, v, mean=lambda v: v.sum(1)).int()),
    ("read_by_sentences", lambda u, v: torch.cdist(u, F.normalize(v.mean(1))).argmin(1)),
    ("cross_attention", looked), ("cross_attention", exact), ("cross_attention", one_by_one),
    ("cross_attention", sdpa),
    ("cross_attention", lambda *a: looked(*a, fill=-1e9)),
    ("cross_attention", lambda q, k, v, m: F.scaled_dot_product_attention(
        q, k, v, torch.zeros(m.shape, dtype=q.dtype).masked_fill(~m, -math.inf)[:, None, None])),
    ("obeyed", hits), ("obeyed", by_pairs),
    ("obeyed", lambda g, w: int((g == w).sum()) / int((w >= 0).sum())),
    ("obeyed", lambda g, w: np.mean(g.numpy()[w.numpy() >= 0] == w.numpy()[w.numpy() >= 0])),
    ("prior_loss", prior_of),
    ("prior_loss", lambda p, x, *a: F.mse_loss(right_answer(p, x, *a), x)),
    ("prior_loss", lambda p, x, *a: ((x - right_answer(p, x, *a)) ** 2).sum() / x.numel()),
]
NAMES = checks.exercises()["x2 sentences"]
MISTAKES = [(name, i) for name, mistakes in WRONG.items() for i in range(len(mistakes))]


def test_the_exercises_stand_in_order():
    assert list(WRONG) == NAMES == [
        "bpe_step", "info_nce", "recall_at_1", "read_by_sentences", "cross_attention", "obeyed",
        "prior_loss"]


@pytest.mark.parametrize(("name", "i"), MISTAKES)
def test_a_mistake_is_named_whatever_is_drawn(name, i):
    fn, words = WRONG[name][i]
    for seed in range(1, 4):
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
    for seed in range(20):
        torch.manual_seed(seed)
        passed, said = checks.examine(answers(name, getattr(text_answers, name)))
        assert passed, (seed, said)


def test_what_stands_in_is_what_the_package_has():
    torch.manual_seed(3)
    u, v = F.normalize(torch.randn(2, 7, 5, dtype=torch.float64), dim=2)
    loss = float(clip.clip_loss(u, v, 3.0))
    assert float(text_answers.info_nce(5 * u, v / 3, 3.0)) == pytest.approx(loss, rel=1e-12)
    there, back = clip.retrieval(u, v)
    assert text_answers.recall_at_1(u, v) == there and text_answers.recall_at_1(v, u) == back

    layer = text_to_image.CrossAttention(8, 6, 2).double()
    nn.init.normal_(layer.out.weight)
    x, words = torch.randn(3, 4, 8).double(), torch.randn(1, 5, 6).double()
    mask = torch.tensor([[True, True, True, False, False]])
    q, k, v = layer._qkv(x, words)
    mixed = text_answers.cross_attention(q, k, v, mask)
    mine = x + layer.out(mixed.transpose(1, 2).flatten(2))
    assert torch.allclose(mine, layer(x, words, mask), rtol=1e-12)


def test_merges_one_after_the_other_make_words_whole():
    words = {("r", "e", "d"): 5, ("r", "e", "a", "d"): 2, ("h", "a", "i", "r"): 3}
    pairs = []
    for _ in range(4):
        pair, words = text_answers.bpe_step(words)
        pairs.append(pair)
    assert pairs == [("r", "e"), ("re", "d"), ("a", "i"), ("ai", "r")]
    assert words == {("red",): 5, ("re", "a", "d"): 2, ("h", "air"): 3}


def test_no_two_mistakes_give_one_value(monkeypatch):
    """So what a message says is what was done; a value of two mistakes has one message for both."""
    seen = []

    def apart(wrong, given):
        for i, (words, value) in enumerate(wrong):
            seen.append(words)
            for other, value_too in wrong[:i]:
                assert words == other or not same(value, value_too), (given, words, other)

    def same(a, b):
        if isinstance(a, list):
            return all(map(text_cases.alike, a, b))
        return a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=1e-4, atol=1e-4)

    def look(got, want, given, mistakes=None, *rest):
        apart([(w, v) for w, v in (mistakes or {}).items() if not same(v, want)], given)
        compare.expect(got, want, given, mistakes, *rest)

    def judge(answer, cases, course, mistakes, told):
        values = [(words, [f(*case) for case in cases]) for words, f in mistakes]
        apart([("The right answer.", [course(*case) for case in cases]), *values], "all cases")
        text_cases.judge(answer, cases, course, mistakes, told)

    def agree(got, wanted, mistakes, told):
        apart([("The right answer.", wanted), *mistakes], "all cases")
        text_cases.agree(got, wanted, mistakes, told)

    for name, module, seen_by in (
            ("expect", "text_attention", look), ("judge", "text_shares", judge),
            ("agree", "x2_text_to_image", agree), ("agree", "text_prior", agree)):
        monkeypatch.setattr(importlib.import_module(f"minigen.checks.{module}"), name, seen_by)
    for name in NAMES[1:]:
        for seed in range(10):
            torch.manual_seed(seed)
            passed, said = checks.examine(answers(name, getattr(text_answers, name)))
            assert passed, said
    assert len(set(seen)) >= 8 * len(NAMES[1:])


def test_no_two_mistakes_of_a_merge_give_one_value():
    cases = [*text_pairs.CASES]
    right = [text_answers.bpe_step(words) for words in cases]
    chosen = [[f(words) for words in cases] for _, f in text_pairs.WRONG_PAIRS]
    chosen.append([pair for pair, _ in right])
    made = [[f(words, pair) for words, (pair, _) in zip(cases, right, strict=True)]
            for _, f in text_pairs.WRONG_MERGES]
    made.append([merged for _, merged in right])
    for values in (chosen, made):
        assert all(a != b for a, b in itertools.combinations(values, 2))
