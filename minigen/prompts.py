"""Excursion 2: sentences as numbers for a network, and a reader that refuses what nobody can draw.

A word is a number here, as captions have some hundred of them. What a sentence says of a face is
read by rules, so that a picture can be held against it, and so that no prompt is silently guessed.
"""

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from minigen.captions import (
    ADJECTIVES,
    CLAUSES,
    COMPOUNDS,
    NOUNS,
    PHRASES,
    SUBJECTS,
    WORDS,
)
from minigen.data.toyfaces import ATTRIBUTES
from minigen.errors import DataError
from minigen.inputs import described, in_range, refuse, tensor
from minigen.names import listed, near

LONGEST = 48                       # tokens of a sentence, its start and end among them
PAD, START, END = 0, 1, 2
DENIALS = ("no", "not", "without", "never", "nor", "neither", "none", "nothing", "nobody", "isn",
           "aren", "doesn", "don", "hasn", "wasn")
# everyday words for what captions call otherwise
MEANT = {"spectacles": "glasses", "eyeglasses": "glasses", "shades": "glasses", "gray": "grey",
         "blonde": "blond", "man": "person", "woman": "person", "boy": "person", "girl": "person",
         "someone": "person", "backdrop": "background", "top": "shirt", "jumper": "shirt",
         "grinning": "smiling", "unhappy": "sad", "straight": "ahead", "wear": "wears",
         "scowl": "frown"}
# what people ask for, and no ToyFace has
NO_FACE_HAS = ("beard", "bearded", "moustache", "freckles", "hat", "cap", "scarf", "earrings",
               "scar", "patch", "tattoo")
# a noun -> the attributes that words before it may tell
TOLD_BY = {"background": ("background",), "wall": ("background",), "skin": ("skin",),
           "skinned": ("skin",), "hair": ("hair", "hair_length"),
           "haired": ("hair", "hair_length"), "shirt": ("shirt",), "eyes": ("eyes",),
           "eyed": ("eyes",)}
MEANING = {name: {w: value for value, ws in table.items() for w in ws}
           for name, table in WORDS.items()}
SAYS_BY_ITSELF = {"glasses": ("glasses", "yes"), "smile": ("smile", "smile"),
                  "smiles": ("smile", "smile"), "frown": ("smile", "frown"),
                  "frowns": ("smile", "frown"), "neutral": ("smile", "neutral"),
                  "left": ("pose", "left"), "right": ("pose", "right"),
                  "ahead": ("pose", "centre"), "forward": ("pose", "centre"),
                  "viewer": ("pose", "centre"),
                  **{w: ("smile", v) for v, ws in ADJECTIVES["smile"].items() for w in ws}}


def split(sentence: str) -> list[str]:
    """Lower case, letters and digits: "A red-haired face." is a, red, haired, face."""
    return re.findall(r"[^\W_]+", sentence.lower())


def _vocabulary() -> tuple[str, ...]:
    """Every word of the captions, sorted."""
    texts = [*CLAUSES.values(), *(f for table in (*WORDS.values(), *ADJECTIVES.values(),
                                                  *PHRASES.values()) for f in table.values())]
    plain = ("a", "an", "and", *SUBJECTS, *NOUNS.values(), *COMPOUNDS.values())
    return tuple(sorted({w for t in [*texts, plain] for phrase in t for w in split(phrase)}))


VOCABULARY = ("<pad>", "<start>", "<end>", *_vocabulary())
_NUMBER = {word: k for k, word in enumerate(VOCABULARY)}


def check_new_word(word: str, learned: Sequence[str] = ()) -> str:
    """A word that may be learned. Raises: DataError for what is none, or is one already."""
    if not isinstance(word, str) or split(word) != [word] or word.isdigit():
        raise DataError(f"a new word is one word in small letters, such as 'zuv'; got {word!r}")
    if word in _NUMBER or word in learned or word in DENIALS or word in MEANT:
        raise DataError(f"'{word}' means something already: choose a word that no prompt has, such "
                        "as 'zuv'")
    return word


def _sentence(prompt: object, learned: Sequence[str] = ()) -> list[str]:
    """A prompt's words, each known. Raises: DataError with what is wrong and the way out."""
    if not isinstance(prompt, str):
        refuse("a prompt", "a sentence in quotes", repr(prompt))
    words = split(prompt)
    if not words:
        raise DataError("the prompt is empty: say what the face is like, such as 'a person with "
                         "red hair'")
    strange = [w for w in words if w not in _NUMBER and w not in learned]
    if len(strange) > max(1, len(words) / 2):
        raise DataError(f"most words of '{prompt[:60]}' are not known, '{strange[0]}' among them: "
                         f"prompts are in English, of {len(VOCABULARY) - 3} words "
                         "(minigen.prompts.VOCABULARY)")
    for w in strange:
        if w in DENIALS:
            raise DataError(f"'{w}' is not known: no caption denies anything. What shall not be "
                             "there goes into the negative prompt")
        if w in NO_FACE_HAS:
            raise DataError(f"'{w}' is not known: no ToyFace has one. The words that are: "
                            "minigen.prompts.VOCABULARY")
        nearest = f": did you mean '{MEANT[w]}'?" if w in MEANT else near(
            w, [*VOCABULARY[3:], *learned])
        way_out = nearest or "; the words that are: minigen.prompts.VOCABULARY"
        raise DataError(f"'{w}' is not known{way_out}")
    if len(words) > LONGEST - 2:
        raise DataError(f"the prompt has {len(words)} words, and at most {LONGEST - 2} can be "
                         "read: leave some out")
    return words


def _check_list(prompts: object) -> None:
    if not isinstance(prompts, list | tuple) or not prompts:
        refuse("prompts", "a list of sentences", described(prompts))


def tokenise(prompts: Sequence[str], learned: Sequence[str] = ()) -> Tensor:
    """Sentences as numbers of words between a start and an end, filled up with 0 to the longest.

    learned: words that came later (excursion 4), with the numbers that follow.
    The empty sentence, "", is start and end alone: the null caption, of which nothing is known.
    Shapes: N sentences → (N, L) integers below `len(VOCABULARY)`.
    Raises: DataError for an unknown word, with the nearest known one, and for too many words.
    """
    _check_list(prompts)
    number = _NUMBER | {word: len(VOCABULARY) + k for k, word in enumerate(learned)}
    rows = [[START, *(number[w] for w in (_sentence(p, learned) if p != "" else [])), END]
            for p in prompts]
    length = max(map(len, rows))
    return torch.tensor([row + [PAD] * (length - len(row)) for row in rows])


def words_of(ids: Tensor, learned: Sequence[str] = ()) -> list[str]:
    """The tokens of one sentence as words, without padding. Shapes: (L,) integers."""
    known = [*VOCABULARY, *learned]
    in_range(tensor(ids, "ids", ("L",), integers=True), 0, len(known) - 1, "ids")
    return [known[k] for k in ids.tolist() if k != PAD]


def read(prompt: str, learned: Sequence[str] = ()) -> dict[str, str]:
    """What a sentence says of a face: {attribute: value}, such as {"hair": "red"}.

    learned: words that came later, of which no rule says what they tell.
    Raises: DataError for a sentence that contradicts itself, or says what no face can be, or has a
    colour that belongs to nothing; and as `tokenise`.
    """
    words = _sentence(prompt, learned)
    told: dict[str, str] = {}
    used: set[int] = set()

    def tell(name: str, value: str) -> None:
        if told.setdefault(name, value) != value:
            thing = name.replace("_", " ")
            raise DataError(f"the prompt contradicts itself: {thing} both {told[name]} and "
                             f"{value}. Leave one out")

    describing = {w for table in MEANING.values() for w in table}
    for k, word in enumerate(words):
        if word in SAYS_BY_ITSELF:
            tell(*SAYS_BY_ITSELF[word])
        if word not in TOLD_BY:
            continue
        places = []
        for i in range(k - 1, -1, -1):               # the words right before the noun
            if words[i] not in describing or i in used:
                break
            places.append(i)
        if words[k + 1 : k + 2] in (["is"], ["are"]):
            places += [i for i in (k + 2,) if i < len(words)]
        for i in places:
            used.add(i)
            for name in (names := TOLD_BY[word]):
                if words[i] in MEANING[name]:
                    tell(name, MEANING[name][words[i]])
            if not any(words[i] in MEANING[name] for name in names):
                possible = "; its length ".join(listed(MEANING[name]) for name in names)
                raise DataError(f"the {word} of a ToyFace cannot be '{words[i]}': it can be "
                                 f"{possible}")
    for k, word in enumerate(words):
        if word in describing and k not in used:
            raise DataError(f"'{word}' belongs to nothing: say of what, such as "
                             f"'{word} {_owner(word)}'")
    return told


def _owner(word: str) -> str:
    """A noun of which a word can be said."""
    name = next(name for name, table in MEANING.items() if word in table)
    return {"hair_length": "hair"}.get(name, name)


def labels_told(prompts: Sequence[str], learned: Sequence[str] = ()) -> Tensor:
    """What sentences say, as labels: (N, 9) integers, −1 where nothing is said."""
    _check_list(prompts)
    rows = [read(p, learned) if p != "" else {} for p in prompts]
    return torch.tensor([[ATTRIBUTES[name].index(row[name]) if name in row else -1
                          for name in ATTRIBUTES] for row in rows])
