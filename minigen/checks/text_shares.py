"""Excursion 2's shares and readings, checked: retrieval, zero-shot reading, obedience."""

import torch
import torch.nn.functional as F
from torch import Tensor

from minigen.checks import text_answers as right
from minigen.checks.compare import Answer
from minigen.checks.text_cases import judge

PLACES = 9                             # labels of a face


def _unit(*shape: int) -> Tensor:
    """Random rows of length 1."""
    return F.normalize(torch.randn(shape), dim=-1)


def _clear(cosines: Tensor) -> Tensor:
    """Of which rows the largest number leads clearly, whatever the rounding."""
    first, second = cosines.topk(2, dim=1).values.unbind(1)
    return first - second > 1e-3


def _found(cosines: Tensor) -> float:
    return float((cosines.argmax(1) == torch.arange(len(cosines))).float().mean())


def _pairs(n: int, dim: int, noise: float = 0.8) -> tuple[Tensor, Tensor]:
    """Rows and noisy copies, of which usual mistakes give other shares, and nothing is 0 or 1.

    Where there is much noise, the farthest row is sometimes the own one, and columns mix too.
    """
    while True:
        u = _unit(n, dim)
        v = F.normalize(u + noise * _unit(n, dim) + 0.4 * torch.randn(dim) / dim**0.5, dim=1)
        cosines = u @ v.T
        tables = [cosines, cosines.T, cosines.abs()]
        tables += [-cosines, u.T @ v] if noise > 1 else []
        shares = {0.0, 1.0, *map(_found, tables)}
        clear = bool((_clear(cosines) & _clear(cosines.T)).all())
        if clear and len(shares) == 2 + len(tables):
            return u, v


def recall_at_1(answer: Answer) -> None:
    # in the second there are as many rows as numbers, where a wrong axis fits too
    cases = [_pairs(*sizes) for sizes in ((14, 3), (8, 8), (25, 4), (11, 3, 2.0))]
    judge(answer, cases, right.recall_at_1, (
        ("That is the way back: you looked for the row of u that is nearest to each row of v.",
         lambda u, v: _found(v @ u.T)),
        ("You averaged both ways: here only the rows of u look for theirs.",
         lambda u, v: (_found(u @ v.T) + _found(v @ u.T)) / 2),
        ("You took the smallest cosine: that row is the farthest.",
         lambda u, v: _found(-u @ v.T)),
        ("You took the largest |cosine|: opposite rows are not near.",
         lambda u, v: _found((u @ v.T).abs())),
        ("That is the number of hits: divide it by the number of rows.",
         lambda u, v: _found(u @ v.T) * len(u)),
        ("That is in percent: a share is between 0 and 1.", lambda u, v: 100 * _found(u @ v.T)),
        ("That is the share of misses.", lambda u, v: 1 - _found(u @ v.T)),
        ("Every row found itself: compare the rows of u with those of v.", lambda u, v: 1.0),
        ("That is the mean cosine of what belongs together: count how often it is the largest.",
         lambda u, v: (u * v).sum(1).mean()),
        ("// cuts the fraction off: divide with /.", lambda u, v: 0.0),
        ("u.T @ v compares columns: rows are compared by u @ v.T.",
         lambda u, v: _found(u.T @ v)),
        ("The hits are averaged over all of the (N, N) cosines: divide them by N.",
         lambda u, v: _found(u @ v.T) / len(u)),
        ("One value for all rows: take the mean of the hits.",
         lambda u, v: (u @ v.T).argmax(1) == torch.arange(len(u))),
    ), lambda u, v: f"{len(u)} rows")


def _wordings(n: int, values: int, wordings: int, dim: int) -> tuple[Tensor, Tensor]:
    """Pictures and values in several wordings each; of some values these differ widely."""
    spread = torch.linspace(0.2, 2.5, values)[torch.randperm(values), None, None]
    v = F.normalize(_unit(values, 1, dim) + spread * _unit(values, wordings, dim), dim=2)
    many = _unit(40 * n, dim)
    u = many[_clear(many @ F.normalize(v.mean(1), dim=1).T)][:n]
    return u, v


def _voted(u: Tensor, v: Tensor) -> Tensor:
    return (v @ u.T).argmax(0).mode(0).values


def read_by_sentences(answer: Answer) -> None:
    # in the second every axis is equally long, where a wrong one fits too
    cases = [_wordings(*sizes) for sizes in ((60, 5, 4, 6), (4, 4, 4, 4), (40, 3, 2, 8))]
    judge(answer, cases, right.read_by_sentences, (
        ("The mean of the wordings is not brought to length 1 (to average the cosines amounts to "
         "the same): values whose wordings agree would win.",
         lambda u, v: (u @ v.mean(1).T).argmax(1)),
        ("That is the value of the single nearest wording: average each value's wordings first.",
         lambda u, v: (u @ v.flatten(0, 1).T).argmax(1) // v.shape[1]),
        ("Only the first wording is used: average them.", lambda u, v: (u @ v[:, 0].T).argmax(1)),
        ("Only the last wording is used: average them.", lambda u, v: (u @ v[:, -1].T).argmax(1)),
        ("You averaged over the values: over each value's wordings, mean(1).",
         lambda u, v: (u @ F.normalize(v.mean(0), dim=1).T).argmax(1)),
        ("Each mean is a row and gets length 1 along the last axis: you took the columns.",
         lambda u, v: (u @ F.normalize(v.mean(1), dim=0).T).argmax(1)),
        ("You took the smallest cosine: the largest is the nearest.",
         lambda u, v: (u @ F.normalize(v.mean(1), dim=1).T).argmin(1)),
        ("That is the number of the nearest wording: the value's is wanted, of all its wordings "
         "together.", lambda u, v: (u @ v.flatten(0, 1).T).argmax(1)),
        ("The wordings have voted: average their embeddings.", _voted),
        ("That is the nearest picture of each value: the nearest value of each picture is wanted.",
         lambda u, v: (F.normalize(v.mean(1), dim=1) @ u.T).argmax(1)),
        ("The values are counted from 0.", lambda u, v: right.read_by_sentences(u, v) + 1),
        ("Those are the cosines: the number of the largest is wanted, argmax.",
         lambda u, v: u @ F.normalize(v.mean(1), dim=1).T),
        ("That is the largest cosine: its number is wanted, argmax.",
         lambda u, v: (u @ F.normalize(v.mean(1), dim=1).T).amax(1)),
        ("You took the largest |cosine|: the opposite is not near.",
         lambda u, v: (u @ F.normalize(v.mean(1), dim=1).T).abs().argmax(1)),
    ), lambda u, v: f"{len(u)} pictures and {v.shape[0]} values in {v.shape[1]} wordings")


def _told(n: int, silent: bool) -> tuple[Tensor, Tensor]:
    """Labels read and told; silent: in one row and of one attribute nothing is told."""
    want = torch.randint(3, (n, PLACES))
    got = torch.where(torch.rand(want.shape) < 0.6, want, torch.randint(3, want.shape))
    quiet = torch.rand(want.shape) < torch.linspace(0.2, 0.8, n)[:, None]
    quiet[torch.arange(n), torch.arange(n) % PLACES] = False          # in each row one, and of
    quiet[torch.arange(PLACES) % n, torch.arange(PLACES)] = False     # each attribute
    if silent:
        quiet[n // 2], quiet[:, 4] = True, True
    want[quiet] = -1
    hits = (got == want).sum()
    if hits in (0, int((want >= 0).sum())):
        return _told(n, silent)
    return got, want


def _mean_of_means(got: Tensor, want: Tensor, dim: int, empty: float | None) -> Tensor:
    """The mean of each row's share, or each attribute's. empty: where nothing is told; else out."""
    hits, told = ((got == want).sum(dim), (want >= 0).sum(dim))
    shares = hits / told
    if empty is None:
        return shares[told > 0].mean()
    return torch.where(told > 0, shares, empty).mean()


def _whole(got: Tensor, want: Tensor) -> Tensor:
    return ((got == want) | (want < 0)).all(1)


def obeyed(answer: Answer) -> None:
    # in the second there are as many faces as attributes
    cases = [_told(*sizes) for sizes in ((7, False), (9, False), (12, True), (20, True))]
    rows = "You averaged each face's share: count over all labels that are told, in one."
    columns = "You averaged each attribute's share: count over all labels that are told, in one."
    whole = "That is how many sentences came out right as a whole: count the single labels."
    empties = (None, 0.0, 1.0, float("nan"))
    judge(answer, cases, right.obeyed, (
        ("You divided by all labels: only those that are told count, want >= 0.",
         lambda g, w: (g == w).float().mean()),
        ("Where nothing is told, nothing was obeyed: you counted those as right.",
         lambda g, w: ((g == w) | (w < 0)).float().mean()),
        *((rows, lambda g, w, e=e: _mean_of_means(g, w, 1, e)) for e in empties),
        *((columns, lambda g, w, e=e: _mean_of_means(g, w, 0, e)) for e in empties),
        ("That is the number of labels that came out right: divide it by how many are told.",
         lambda g, w: (g == w).sum()),
        ("That is the share of those that came out wrong.", lambda g, w: 1 - right.obeyed(g, w)),
        ("That is in percent: a share is between 0 and 1.",
         lambda g, w: 100 * right.obeyed(g, w)),
        ("0 is a value too: told is where want >= 0, and you took want > 0.",
         lambda g, w: (g == w)[w > 0].float().mean()),
        ("0 is a value too, and −1 stands where nothing is told: you took what is not 0.",
         lambda g, w: (g == w)[w != 0].float().mean()),
        (whole, lambda g, w: _whole(g, w).float().mean()),
        (whole, lambda g, w: _whole(g, w)[(w >= 0).any(1)].float().mean()),
        ("That is the share of labels that are told.", lambda g, w: (w >= 0).float().mean()),
        ("You divided by the number of faces: by the number of labels that are told.",
         lambda g, w: (g == w).sum() / len(w)),
        ("// cuts the fraction off: divide with /.", lambda g, w: 0.0),
        ("One number for all: take the mean of the hits.", lambda g, w: (g == w)[w >= 0]),
        ("Those are the shares of the faces: one number for all is wanted.",
         lambda g, w: (g == w).sum(1) / (w >= 0).sum(1)),
    ), lambda g, w: f"{len(w)} faces of whom {int((w >= 0).sum())} labels are told")
