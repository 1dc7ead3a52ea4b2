"""Checks of excursion 2's exercises."""

import torch
import torch.nn.functional as F
from torch import Tensor

from minigen.checks import text_answers as right
from minigen.checks import text_attention, text_pairs, text_prior, text_shares
from minigen.checks.compare import Answer, value_of
from minigen.checks.text_answers import (  # noqa: F401  (found by name: minigen.checks.yours)
    bpe_step,
    cross_attention,
    info_nce,
    obeyed,
    prior_loss,
    read_by_sentences,
    recall_at_1,
)
from minigen.checks.text_cases import agree, by_sentence, same_gradients


def check_bpe_step(answer: Answer) -> None:
    text_pairs.bpe_step(answer)


def check_info_nce(answer: Answer) -> None:
    # in the first there are as many rows as numbers: a wrong axis fits there
    cases = []
    for n, dim, scale in ((4, 4, 2.5), (6, 3, torch.tensor(0.6)), (3, 8, torch.tensor(5.0))):
        u = torch.randn(n, dim) * torch.linspace(0.4, 3, n)[:, None]
        v = torch.randn(n, dim) * torch.linspace(2, 0.5, n)[:, None] + u / 2
        cases.append((u, v, scale))
    wanted = [right.info_nce(*case) for case in cases]
    agree([value_of(answer(*case)) for case in cases], wanted,
          by_sentence([_mistakes_of_nce(u, v, float(scale)) for u, v, scale in cases]),
          [f"{len(u)} rows of {u.shape[1]} numbers and the scale {float(scale):g}"
           for u, _, scale in cases])
    for case in cases:
        names = "pictures' embeddings", "sentences' embeddings", "scale"
        same_gradients(answer, right.info_nce, dict(zip(names, case, strict=True)))


def _mistakes_of_nce(u: Tensor, v: Tensor, scale: float) -> dict[str, Tensor]:
    n = len(u)
    own = torch.arange(n)

    def both(logits: Tensor, how: str = "mean") -> Tensor:
        parts = (F.cross_entropy(table, own, reduction=how) for table in (logits, logits.T))
        return sum(parts, torch.tensor(0.0)) / 2

    a, b = F.normalize(u, dim=1), F.normalize(v, dim=1)
    logits = scale * a @ b.T
    rows, columns = logits.log_softmax(1), logits.log_softmax(0)
    others = logits.masked_fill(torch.eye(n, dtype=torch.bool), -torch.inf)
    apart = (others.logsumexp(0) + others.logsumexp(1)).mean() / 2 - logits.diag().mean()
    signs = 2 * torch.eye(n) - 1
    return {
        ("Only the pictures look for their sentences: the cross-entropy of the columns, logits.T, "
         "is missing."): F.cross_entropy(logits, own),
        ("Only the sentences look for their pictures: the cross-entropy of the rows is "
         "missing."): F.cross_entropy(logits.T, own),
        "The two cross-entropies are averaged: the ½ is missing.": 2 * both(logits),
        "The two cross-entropies are added: you took their difference.":
            F.cross_entropy(logits, own) - F.cross_entropy(logits.T, own),
        "The rows are not brought to length 1: logits are scale · cosines.": both(scale * u @ v.T),
        "Only u's rows have length 1: v's too.": both(scale * a @ v.T),
        "Only v's rows have length 1: u's too.": both(scale * u @ b.T),
        "Each row gets length 1, dim=1: you took the columns.":
            both(scale * F.normalize(u, dim=0) @ F.normalize(v, dim=0).T),
        "Each row gets length 1 by itself: you divided by the length of all numbers together.":
            both(scale * (u / u.norm()) @ (v / v.norm()).T),
        "The squares of a row's length were taken: divide by the length, its root.":
            both(scale * (a / u.norm(dim=1, keepdim=True)) @ (b / v.norm(dim=1, keepdim=True)).T),
        "The scale is missing, or was lost as rows were brought to length 1 after it.":
            both(a @ b.T),
        "The cosines are multiplied by the scale: you divided (it is 1 over a temperature).":
            both(a @ b.T / scale),
        "The scale is used as it is: you took its exp.": both(logits / scale * torch.tensor(
            scale).exp()),
        "The scale is there twice.": both(scale * logits),
        "There is no √D here: the scale stands in its place.": both(logits / u.shape[1] ** 0.5),
        "The minus is missing: cross-entropy is −log of the own one's share.": -both(logits),
        "You summed over the rows: take the mean.": both(logits, "sum"),
        "One number for all rows: take the mean.": both(logits, "none"),
        "Only each row's own column counts, the diagonal: you averaged all log-shares.":
            -(rows + columns).mean() / 2,
        "The logarithm is missing: −log of the share.":
            -(rows.exp().diag() + columns.exp().diag()).mean() / 2,
        "The softmax is missing: what belongs together is compared with all others.":
            -logits.diag().mean(),
        "That is 1 − the mean cosine: what belongs together is compared with all others.":
            1 - (a * b).sum(1).mean(),
        "F.cross_entropy takes logits: the softmax is in it already.":
            (F.cross_entropy(rows.exp(), own) + F.cross_entropy(columns.exp().T, own)) / 2,
        "The own one stands in the sum of e^logit too: you left it out there.": apart,
        "Row k belongs to column k: you took column 0 for all.":
            (F.cross_entropy(logits, 0 * own) + F.cross_entropy(logits.T, 0 * own)) / 2,
        "You compared the pictures with themselves: u with v.": both(scale * a @ a.T),
        "You compared the sentences with themselves: u with v.": both(scale * b @ b.T),
        "That is a yes or no for each pair by itself: a row's shares come of one softmax.":
            -F.logsigmoid(signs * logits).mean(),
        "That is a squared error: cross-entropy is wanted.":
            (logits / scale - torch.eye(n)).square().mean(),
        "The softmax ran over all pairs at once: over each row, and over each column.":
            -logits.flatten().log_softmax(0).view(n, n).diag().mean(),
        "The logarithm is to base 2: the natural one is wanted.":
            both(logits) / torch.tensor(2.0).log(),
    }


def check_recall_at_1(answer: Answer) -> None:
    text_shares.recall_at_1(answer)


def check_read_by_sentences(answer: Answer) -> None:
    text_shares.read_by_sentences(answer)


def check_cross_attention(answer: Answer) -> None:
    text_attention.cross_attention(answer)


def check_obeyed(answer: Answer) -> None:
    text_shares.obeyed(answer)


def check_prior_loss(answer: Answer) -> None:
    text_prior.prior_loss(answer)
