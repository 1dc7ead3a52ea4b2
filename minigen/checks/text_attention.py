"""Excursion 2's cross-attention, checked: its value, its gradients, and what padding may hold."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from minigen.checks import text_answers as right
from minigen.checks.compare import Answer, Wrong, expect, value_of
from minigen.checks.text_cases import same_gradients

# pictures, heads, places, words, width, how many words each sentence has (one: for all pictures).
# In the first a mask without its two axes fits heads and places unseen; in all but the last every
# sentence has padding, without which an inverted mask leaves nothing
CASES = ((3, 3, 3, 5, 4, (2, 4, 3)), (2, 2, 6, 6, 6, (3, 5)), (3, 2, 5, 4, 3, (3,)),
         (2, 1, 3, 6, 4, (2, 6)))
HUGE = 1e18                      # finite in float32 too, and far above a −10⁹ that is added


def cross_attention(answer: Answer) -> None:
    for case, (batch, heads, places, words, width, lengths) in enumerate(CASES):
        dtype = torch.float64 if case == 1 else torch.float32
        q = torch.randn(batch, heads, places, width, dtype=dtype)
        k, v = torch.randn(2, len(lengths), heads, words, width, dtype=dtype)
        mask = torch.arange(words) < torch.tensor(lengths)[:, None]
        want = right.cross_attention(q, k, v, mask)
        given = (f"q of shape {tuple(q.shape)}, k and v of {tuple(k.shape)} and a mask of "
                 f"{tuple(mask.shape)}")
        got = answer(q, k, v, mask)
        if isinstance(got, Tensor) and bool(got.isnan().all()):
            raise Wrong("NaN everywhere: in a softmax all was −inf. Does it go over the words, the "
                        "last axis, and is hidden what is no word, ~mask?")
        expect(value_of(got), want, given, _mistakes(q, k, v, mask))
        if got.dtype != dtype:
            raise Wrong(f"The type is {got.dtype}; q, k and v have {dtype}: keep it.")
        _padding(answer, q, k, v, mask, want)
        same_gradients(answer, right.cross_attention,
                       {"queries": q, "keys": k, "values": v, "mask": mask})


def _mistakes(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> dict[str, Tensor]:
    width, heads = q.shape[-1], q.shape[1]
    there = mask[:, None, None]                                       # (B, 1, 1, M)
    raw = q @ k.mT                                                    # (B, H, L, M)
    scores = raw / math.sqrt(width)

    def weights(scores: Tensor, there: Tensor = there) -> Tensor:
        return scores.masked_fill(~there, -math.inf).softmax(-1)

    want = weights(scores) @ v
    mistakes = {
        "The mask is not used: places without a word get no weight.": scores.softmax(-1) @ v,
        "The mask is inverted: it is True where there is a word, and you hid the words.":
            weights(scores, ~there) @ v,
        "The division by √d is missing.": weights(raw) @ v,
        "You multiplied by √d: divide.": weights(raw * math.sqrt(width)) @ v,
        "You divided by d, or twice by √d (F.scaled_dot_product_attention divides by itself).":
            weights(raw / width) @ v,
        "You divided by the root of the number of words: by √d, the width of a head.":
            weights(raw / math.sqrt(k.shape[2])) @ v,
        "The softmax goes over the words, the last axis: you took the picture's places.":
            scores.softmax(-2).masked_fill(~there, 0) @ v,
        "The softmax is missing.": scores.masked_fill(~there, 0) @ v,
        ("A score of 0 still has weight, e⁰ = 1: where there is no word the score is −inf before "
         "the softmax."): scores.masked_fill(~there, 0).softmax(-1) @ v,
        ("Padding has taken weight from the words: it has to be hidden before the softmax, so that "
         "the words' weights add up to 1."): scores.softmax(-1).masked_fill(~there, 0) @ v,
        ("The mask is added as numbers, 1 and 0, which hides nothing: −inf where there is no "
         "word."): (scores + there.to(scores)).softmax(-1) @ v,
        "The weights mix the values: you mixed the keys.": weights(scores) @ k,
        "q is added: that happens outside.": want + q,
        "That is the mean of the words: they are weighed by how well they fit.":
            weights(torch.zeros_like(scores)) @ v,
        "Those are the weights: they mix the values, … @ v.": weights(scores),
        "The heads were joined: leave them, (B, H, L, d).": want.transpose(1, 2).flatten(2),
        "Heads and places are swapped: (B, H, L, d).": want.transpose(1, 2),
        "The largest score takes all: that is no softmax.":
            F.one_hot(weights(scores).argmax(-1), k.shape[2]).to(v) @ v,
    }
    if heads > 1:
        mistakes |= {
            "You divided by the root of the whole width, H d: by √d, the width of a head.":
                weights(raw / math.sqrt(heads * width)) @ v,
            "The softmax ran over the heads: it goes over the words, the last axis.":
                scores.softmax(1).masked_fill(~there, 0) @ v,
        }
    if len(mask) > 1:
        mistakes["Each sentence has its own padding: you took the first one's for all."] = (
            weights(scores, there[:1]) @ v)
        mistakes["Each picture has its own sentence: you took the first one's for all."] = (
            right.cross_attention(q, k[:1], v[:1], mask[:1]))
    if len(mask) == heads:
        mistakes["The mask met the heads: it belongs to the sentence, mask[:, None, None]."] = (
            weights(scores, mask[:, None]) @ v)
    if len(mask) == q.shape[2]:
        mistakes["The mask met the picture's places: it belongs to the sentence, "
                 "mask[:, None, None]."] = weights(scores, mask) @ v
    if q.shape[2] == k.shape[2] and len(q) == len(k):
        mistakes["Queries and keys are swapped: the picture asks, q kᵀ."] = (
            weights(k @ q.mT / math.sqrt(width)) @ v)
    return mistakes


def _padding(answer: Answer, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, want: Tensor) -> None:
    """Raise `Wrong` where it counts what stands in places without a word."""
    hidden = ~mask[:, None, :, None]
    for name, huge in (("keys", HUGE), ("values", HUGE), ("keys", -HUGE)):
        filled = torch.full_like(k, huge)
        full = {"keys": (torch.where(hidden, filled, k), v),
                "values": (k, torch.where(hidden, filled, v))}[name]
        got = value_of(answer(q, *full, mask))
        if got.shape != want.shape or not torch.allclose(got, want, rtol=1e-4, atol=1e-4):
            nan = " (NaN came out)" if bool(got.isnan().any()) else ""
            raise Wrong(f"The {name} where there is no word have changed the answer{nan}: whatever "
                        "stands there, it has no weight at all. Put −inf in the place of those "
                        "scores, masked_fill(~…, -inf); to add a large negative number, or to "
                        "take weights away afterwards, is not the same.")
