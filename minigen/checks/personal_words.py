"""Excursion 4's new word, checked: its vector in every place of it, and what learns."""

import torch
import torch.nn.functional as F
from torch import Tensor

from minigen.checks import personal_answers as right
from minigen.checks.compare import Answer, Wrong, value_of
from minigen.checks.text_cases import alike, judge

# words, numbers of a vector, sentences, their length, whether the new word is in one. In the second
# every axis is equally long, where a wrong one fits too
CASES = ((6, 5, 4, 7, True), (4, 4, 4, 4, True), (9, 3, 2, 5, False), (5, 2, 1, 6, True))


def _sentences(words: int, n: int, length: int, new: bool) -> Tensor:
    """Numbers of words, the first and the last known one among them; the new one several times.

    It begins and ends none, and where there are several sentences, one is without it.
    """
    ids = torch.randint(words, (n, length))
    ids[0, 0], ids[0, -1] = words - 1, 0
    if new:
        ids[0, 1:3] = words                               # twice, and in other sentences too
        ids[2:, 1] = words
        ids[2:, -2] = words
    return ids


def with_new_word(answer: Answer) -> None:
    cases = []
    for i, (words, width, n, length, new) in enumerate(CASES):
        dtype = torch.float64 if i == 1 else torch.float32
        table = torch.randn(words, width, dtype=dtype)
        vector = 0.5 + torch.rand(width, dtype=dtype)
        cases.append((table, vector, _sentences(words, n, length, new)))
    judge(_with_a_row(answer), cases, right.with_new_word, _MISTAKES, lambda table, vector, ids: (
        f"{len(table)} known words and the sentences {ids.tolist()}"))
    for case in cases:
        _frozen_and_learned(answer, *case)


def _with_a_row(answer: Answer) -> Answer:
    """The answer, which is told what it means that number V is beyond the table."""
    def asked(table: Tensor, vector: Tensor, ids: Tensor) -> Tensor:
        try:
            return answer(table, vector, ids)
        except (IndexError, RuntimeError) as e:
            if "out of range" in str(e) or "out of bounds" in str(e):
                raise Wrong(f"The table has {len(table)} rows, numbers 0 … {len(table) - 1}: the "
                            f"new word, number {len(table)}, has none in it. Put the vector "
                            "behind the last row of a new table, or in the new word's places.",
                            ) from None
            raise

    return asked


def _known(table: Tensor, ids: Tensor) -> Tensor:
    """The rows of known words; the last one's where the new word stands."""
    return table[ids.clamp(max=len(table) - 1)]


def _here(table: Tensor, ids: Tensor) -> Tensor:
    return (ids == len(table))[..., None]                                # (N, L, 1)


def _put(table: Tensor, vector: Tensor, ids: Tensor, where: Tensor) -> Tensor:
    """The vector in these of its places, (N, L) yes or no; in others the last known word's."""
    return torch.where(where[..., None], vector, _known(table, ids))


def _first(ids: Tensor, word: int) -> Tensor:
    """Each sentence's first place of a word."""
    return (ids == word) & ((ids == word).cumsum(1) == 1)


def _of_one_sentence(ids: Tensor, word: int) -> Tensor:
    """The word's places in the first sentence that has it."""
    has = (ids == word).any(1)
    return (ids == word) & (has & (has.cumsum(0) == 1))[:, None]


def _wrapped(table: Tensor, vector: Tensor, ids: Tensor) -> Tensor:
    return table[ids % len(table)]


_MISTAKES = (
    ("The vector stands before the table's first row, or each number took the row before it: "
     "number V is the row after the last.",
     lambda t, v, ids: torch.cat([v[None], t])[ids]),
    ("The new word has got the last known word's row: its places take the vector.",
     lambda t, v, ids: _known(t, ids)),
    ("The new word has got word 0's row: its places take the vector.", _wrapped),
    ("You put the vector in the last known word's place: that word, number V − 1, keeps its row.",
     lambda t, v, ids: _put(t, v, ids, ids >= len(t) - 1)),
    ("You put the vector in word 0's place: that word keeps its row.",
     lambda t, v, ids: _put(t, v, ids, ids % len(t) == 0)),
    ("The vector stands in every place: only where ids is V.",
     lambda t, v, ids: _put(t, v, ids, ids >= 0)),
    ("The vector stands where the new word does not: the other way round.",
     lambda t, v, ids: _put(t, v, ids, ids != len(t))),
    ("The new word's places hold the vector alone: you added it to the last known word's row.",
     lambda t, v, ids: _known(t, ids) + v * _here(t, ids)),
    ("The new word's places hold the vector alone: you added it to word 0's row.",
     lambda t, v, ids: _wrapped(t, v, ids) + v * _here(t, ids)),
    ("The vector is added in every place: it belongs where ids is V, and there alone.",
     lambda t, v, ids: right.with_new_word(t, v, ids) + v * ~_here(t, ids)),
    ("The new word's places hold 0: they take the vector.",
     lambda t, v, ids: right.with_new_word(t, 0 * v, ids)),
    ("Only the first place of the new word in a sentence has got its vector: it can stand there "
     "several times.", lambda t, v, ids: _put(t, v, ids, _first(ids, len(t)))),
    ("Only the last place of the new word in a sentence has got its vector: it can stand there "
     "several times.", lambda t, v, ids: _put(t, v, ids, _first(ids.flip(1), len(t)).flip(1))),
    ("Only one sentence has got the vector: the new word can stand in several.",
     lambda t, v, ids: _put(t, v, ids, _of_one_sentence(ids, len(t)))),
    ("The known words are gone: elsewhere than at the new word stand the table's rows.",
     lambda t, v, ids: v * _here(t, ids)),
    ("Take the rows as they are: you multiplied them by √D.",
     lambda t, v, ids: right.with_new_word(t, v, ids) * len(v) ** 0.5),
    ("Take the vector as it is: you brought it to length 1.",
     lambda t, v, ids: right.with_new_word(t, F.normalize(v, dim=0), ids)),
    ("Take the rows as they are: you brought them to length 1.",
     lambda t, v, ids: F.normalize(right.with_new_word(t, v, ids), dim=2)),
    ("One vector for each place is wanted: you averaged over the sentence.",
     lambda t, v, ids: right.with_new_word(t, v, ids).mean(1)),
    ("One vector for each place is wanted: you summed over the sentence.",
     lambda t, v, ids: right.with_new_word(t, v, ids).sum(1)),
    ("The axes are (N, L, D), the vector's numbers last: you put them second.",
     lambda t, v, ids: right.with_new_word(t, v, ids).transpose(1, 2)),
    ("The axes are (N, L, D), the sentences first: you put the places first.",
     lambda t, v, ids: right.with_new_word(t, v, ids).transpose(0, 1)),
    ("The sentences are joined: keep their axis, (N, L, D).",
     lambda t, v, ids: right.with_new_word(t, v, ids).flatten(0, 1)),
    ("That is the longer table: look the sentences' numbers up in it, […][ids].",
     lambda t, v, ids: torch.cat([t, v[None]])),
    ("Those are the new word's places alone: the whole sentences are wanted.",
     lambda t, v, ids: right.with_new_word(t, v, ids)[ids == len(t)]),
    ("The numbers count from 0: you took the row after each.",
     lambda t, v, ids: right.with_new_word(t, v, (ids + 1) % (len(t) + 1))),
    ("Those are zeros and ones, one for each word: they still have to pick rows of the table.",
     lambda t, v, ids: F.one_hot(ids, len(t) + 1)),
)


def _frozen_and_learned(answer: Answer, table: Tensor, vector: Tensor, ids: Tensor) -> None:
    """Raise `Wrong` unless the vector alone gets a gradient, summed over the word's places."""
    table, vector = table.clone().requires_grad_(), vector.clone().requires_grad_()
    got = answer(table, vector, ids)
    if not table.requires_grad:
        raise Wrong("You switched the table's own gradient off, for everybody who uses it: "
                    "table.detach() lets the values through and changes nothing.")
    if got.dtype != table.dtype:
        raise Wrong(f"The type is {got.dtype}; table and vector have {table.dtype}: keep it.")
    along = 0.5 + torch.rand_like(value_of(got))
    want = (along * _here(table, ids)).sum((0, 1))
    frozen, learned = torch.zeros_like(table), torch.zeros_like(vector)
    if got.requires_grad:
        frozen, learned = torch.autograd.grad(
            (got * along).sum(), (table, vector), allow_unused=True, materialize_grads=True)
    if bool(frozen.any()):
        raise Wrong("The values are right, but a gradient reaches the table: it is frozen, the "
                    "new vector alone learns. table.detach()")
    if bool(want.any()) and not bool(learned.any()):
        raise Wrong("The values are right, but no gradient reaches the vector: it is what learns, "
                    "so no detach, no .data and no torch.tensor(…) on its way.")
    if not alike(learned, want):
        raise Wrong("The values are right, but not the gradient of the vector: it is the sum over "
                    "all places where the new word stands; in some of them it is detached.")
