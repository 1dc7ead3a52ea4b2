"""Excursion 2's merge of byte-pair encoding, checked: which pair is chosen, what becomes of it."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from minigen.checks import text_answers as right
from minigen.checks.compare import Answer, Wrong
from minigen.checks.text_answers import Pair, Symbols

Words = dict[Symbols, int]


def _cut(text: str) -> Words:
    """"re.d 5, i 8" is {("re", "d"): 5, ("i",): 8}."""
    return {tuple(word.split(".")): int(count)
            for word, count in (part.split() for part in text.split(", "))}


CASES = tuple(map(_cut, (
    "r.e.d 5, h.a.i.r 3, g.r.e.y 2, i 8",
    "c.d 2, e.f 2, a.b 2, b.z 2, m.n.o.p 1",                         # equals, in no order
    "ab.c 2, a.bz 2, x.y.ab 1, q.a 1",                    # equal; joined, the second comes first
    "a.b.c 1, x.y 9, a.b.d 1, b.a.b.d 1",                 # often seen, in rare words
    "l.a.l.a 2, x.y 3, a.y 1",                            # twice in a word
    "a.a.a 4, b.c.b 1, b.a.a.a.a 2, c.a.a 1",             # overlapping
    "h.er.e 2, r.e.n 4, r.e.h.er.e 1",                    # "r e" stands in "h er e" too
    "th.e 3, t.h.i.n 2, i.t 1",                           # symbols of two letters
    "a.b.x 2, b.a.x 3, c.d 4, d.c 1",                     # a pair and its mirror image
    "a.u.b 3, a.v.b 3, a.c.d 4, p.c.d 1",                 # two that stand apart
    "q.r.s 3, t.r.s 2, q.r.v 1",                          # the last two of a word
    "r.e.d 5, e.r.a 1, b.e.r.e.t 1",                      # the mirror image stays
)))


def _random() -> Iterator[Words]:
    """Words of three letters, never the same twice in a row."""
    for _ in range(3):
        words = {}
        for _ in range(12):
            letters = ["abc"[k] for k in torch.randint(3, (7,)).tolist()]
            word = tuple(letter for letter, _ in itertools.groupby(letters))
            words[word] = int(torch.randint(1, 9, ()))
        yield {**words, ("a", "b", "c"): 2}


def _neighbours(symbols: Sequence[str]) -> Iterator[Pair]:
    return itertools.pairwise(symbols)


def _counts(words: Words, pairs: Callable[[Any], Any] = _neighbours, weighed: bool = True
            ) -> Counter[Pair]:
    counts: Counter[Pair] = Counter()
    for symbols, n in words.items():
        for pair in pairs(symbols):
            counts[pair] += n if weighed else 1
    return counts


def _last_counts(words: Words) -> Counter[Pair]:
    """Of every pair the count of the last word that it stands in."""
    return Counter({pair: n for symbols, n in words.items() for pair in _neighbours(symbols)})


def _best(counts: Counter[Pair]) -> Pair | None:
    return min(counts, key=lambda pair: (-counts[pair], pair), default=None)


def _merge(words: Words, pair: Pair, made: Any = None, skip: int = 2, most: int = 99,
           both: bool = False) -> Words:
    """Words with a pair merged. made: what stands in its place."""
    merged = {}
    for symbols, n in words.items():
        new: list[Any] = []
        i = done = 0
        while i < len(symbols):
            here = symbols[i : i + 2]
            found = here == pair or (both and here == pair[::-1])
            if found and done < most:
                new.append("".join(here) if made is None else made)
                i, done = i + skip, done + 1
            else:
                new.append(symbols[i])
                i += 1
        merged[tuple(new)] = n
    return merged


def _turned(words: Words) -> Words:
    return {symbols[::-1]: n for symbols, n in words.items()}


WRONG_PAIRS: tuple[tuple[str, Callable[[Words], Pair | None]], ...] = (
    ("A pair's counts add up over the words: yours keeps the last word's.",
     lambda words: _best(_last_counts(words))),
    ("A word counts as often as it occurs: you counted each word once.",
     lambda words: _best(_counts(words, weighed=False))),
    ("A pair that stands twice in a word counts twice: you counted it once a word.",
     lambda words: _best(_counts(words, lambda symbols: set(_neighbours(symbols))))),
    ("Among equals the first in alphabetical order is wanted: you took the one seen first.",
     lambda words: max((c := _counts(words)), key=lambda pair: c[pair])),
    ("Among equals the first in alphabetical order is wanted: you took the one seen last.",
     lambda words: max(reversed(c := _counts(words)), key=lambda pair: c[pair])),
    ("Among equals the first in alphabetical order is wanted: you took the last in it.",
     lambda words: max((c := _counts(words)), key=lambda pair: (c[pair], pair))),
    ("Among equals the smallest tuple is wanted, (\"a\", \"bz\") before (\"ab\", \"c\"): you "
     "compared the pairs when they were joined.",
     lambda words: min((c := _counts(words)), key=lambda pair: (-c[pair], "".join(pair)))),
    ("The most frequent pair is wanted: you took the rarest.",
     lambda words: min((c := _counts(words)), key=lambda pair: (c[pair], pair))),
    ("A pair's symbols are neighbours: you counted those that stand apart too.",
     lambda words: _best(_counts(words, lambda symbols: itertools.combinations(symbols, 2)))),
    ("A symbol may have several letters: you took the words' single letters.",
     lambda words: _best(_counts(words, lambda symbols: _neighbours("".join(symbols))))),
    ("The order counts: (\"a\", \"b\") is another pair than (\"b\", \"a\").",
     lambda words: _best(_counts(
         words, lambda symbols: (tuple(sorted(pair)) for pair in _neighbours(symbols))))),
    ("Pairs overlap: the second symbol of one is the first of the next, and you skipped that one.",
     lambda words: _best(_counts(words, lambda s: zip(s[::2], s[1::2], strict=False)))),
    ("The last pair of each word is not counted: a word of n symbols has n − 1 pairs.",
     lambda words: _best(_counts(words, lambda symbols: _neighbours(symbols[:-1])))),
    ("The first pair of each word is not counted: counting begins at 0.",
     lambda words: _best(_counts(words, lambda symbols: _neighbours(symbols[1:])))),
)
WRONG_MERGES: tuple[tuple[str, Callable[[Words, Pair], Any]], ...] = (
    ("Nothing is merged: the words are as they were.", lambda words, pair: words),
    ("Every occurrence becomes one symbol: you merged only the first of a word.",
     lambda words, pair: _merge(words, pair, most=1)),
    ("Every occurrence becomes one symbol: you merged only the last of a word.",
     lambda words, pair: _turned(_merge(_turned(words), pair[::-1], "".join(pair), most=1))),
    ("Merge from left to right: of a, a, a the first two become one symbol, yours are the last.",
     lambda words, pair: _turned(_merge(_turned(words), pair[::-1], "".join(pair)))),
    ("Words without the pair stay as they are: yours are lost.",
     lambda words, pair: {w: n for w, n in _merge(words, pair).items() if w not in words}),
    ("The last symbol of a word is lost where the pair does not end it.",
     lambda words, pair: {w if len(w[-1]) > len(old[-1]) else w[:-1]: n for (w, n), old
                          in zip(_merge(words, pair).items(), words, strict=True)}),
    ("The new symbol stands for both: the pair's second symbol is still there in yours.",
     lambda words, pair: _merge(words, pair, skip=1)),
    ("The new symbol is missing: where the pair stood there is nothing now.",
     lambda words, pair: {tuple(s for s in w if s): n for w, n in _merge(words, pair, "").items()}),
    ("You replaced text: of h, er, e the letters \"r e\" are no pair. Compare whole symbols.",
     lambda words, pair: {tuple(" ".join(w).replace(" ".join(pair), "".join(pair)).split()): n
                          for w, n in words.items()}),
    ("The new symbol is cut into its letters again: tuple(\"re\") is (\"r\", \"e\").",
     lambda words, pair: {tuple("".join(w)): n for w, n in _merge(words, pair).items()}),
    ("The words' counts are lost: each keeps its own.",
     lambda words, pair: dict.fromkeys(_merge(words, pair), 1)),
    ("The new symbol is a string, both joined: yours is a tuple.",
     lambda words, pair: _merge(words, pair, pair)),
    ("The new symbol is the wrong way round.",
     lambda words, pair: _merge(words, pair, pair[1] + pair[0])),
    ("The pair is merged only in its own order: you merged its mirror image too.",
     lambda words, pair: _merge(words, pair, both=True)),
    *((f"The new symbol is both joined, with nothing between them: yours has {sign!r} there.",
       lambda words, pair, sign=sign: _merge(words, pair, sign.join(pair))) for sign in " _+-"),
)


def bpe_step(answer: Answer) -> None:
    cases = [*CASES, *_random()]
    got = [_two(answer(dict(words))) for words in cases]
    wanted = [right.bpe_step(words) for words in cases]
    _chosen([pair for pair, _ in got], [pair for pair, _ in wanted], cases)
    for _, words in got:
        _keyed(words)
    for meaning, mistake in WRONG_MERGES:
        made = [mistake(words, pair) for words, (pair, _) in zip(cases, wanted, strict=True)]
        if [words for _, words in got] == made:
            raise Wrong(meaning)
    for (_, mine), (pair, merged) in zip(got, wanted, strict=True):
        for word, n in merged.items():
            if mine.get(word) != n:
                told = f"its count is {mine[word]}" if word in mine else "it is not there"
                raise Wrong(f"After the merge of {pair} the word {word} with the count {n} is "
                            f"wanted; in yours {told}.", named=False)
        if extra := [word for word in mine if word not in merged]:
            raise Wrong(f"After the merge of {pair} there is a word {extra[0]} too many.",
                        named=False)


def _two(got: Any) -> tuple[Any, dict]:
    """What the answer returned, a pair and a dict."""
    if got is None:
        raise Wrong("Your function returned None. Is there a `return`?")
    if isinstance(got, dict):
        raise Wrong("Return two things: the pair, and the new dict. Yours is the dict alone.")
    if not isinstance(got, tuple | list) or len(got) != 2:
        raise Wrong("Return two things: the pair, and the new dict.")
    if isinstance(got[0], dict):
        raise Wrong("Return the pair first, the new dict second.")
    if not isinstance(got[1], dict):
        raise Wrong("Return the pair, and the words as a new dict: what comes second in yours is "
                    f"of type {type(got[1]).__name__}.")
    return got[0], got[1]


def _chosen(got: list[Any], wanted: list[Pair], cases: list[Words]) -> None:
    """Raise `Wrong` unless the pairs are the most frequent ones."""
    if got == wanted:
        return
    if got == ["".join(pair) for pair in wanted]:
        raise Wrong("The pair itself is wanted, such as (\"r\", \"e\"): you returned the new "
                    "symbol.")
    for pair in got:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise Wrong(f"The pair is a tuple of two symbols, such as (\"r\", \"e\"): yours is "
                        f"{pair!r}.")
    for meaning, mistake in WRONG_PAIRS:
        if got == [mistake(words) for words in cases]:
            raise Wrong(meaning)
    for mine, want, words in zip(got, wanted, cases, strict=True):
        if mine != want:
            raise Wrong(f"For {words} the pair is {mine}; {want} is wanted.", named=False)


def _keyed(words: dict) -> None:
    """Raise `Wrong` unless words are tuples, as they were given."""
    for word in words:
        if isinstance(word, str) and " " not in word:
            raise Wrong("A word is a tuple of symbols, one of a single symbol too, (\"xy\",) with "
                        f"its comma: yours has the string {word!r}.")
        if not isinstance(word, tuple):
            raise Wrong("A word is a tuple of symbols, as in the dict that is given: yours has "
                        f"{word!r}.")
