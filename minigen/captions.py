"""Excursion 2: sentences about ToyFaces, of which some kinds are never shown in training.

A caption tells any part of a face's nine attributes, in one of many wordings and orders. Nothing is
ever denied: a face without glasses is one of which glasses are not told.
"""

import random
import re
from collections.abc import Sequence

import torch
from torch import Tensor

from minigen.data.toyfaces import ATTRIBUTES
from minigen.inputs import in_range, refuse, tensor, whole
from minigen.names import listed

# attribute -> value -> the words that mean it; one word means one value of an attribute, and may
# mean other things elsewhere: green eyes, a green shirt, a green background
WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "background": {"sky": ("sky", "blue", "azure"), "sand": ("sand", "beige"),
                   "mint": ("mint", "green"), "rose": ("rose", "pink"),
                   "slate": ("slate", "grey"), "cream": ("cream", "ivory")},
    "skin": {"porcelain": ("porcelain", "pale"), "peach": ("peach", "rosy"),
             "olive": ("olive", "tan"), "brown": ("brown", "bronze"), "umber": ("umber", "dark")},
    "hair": {"black": ("black", "raven"), "chestnut": ("chestnut", "brown"),
             "blond": ("blond", "golden", "fair"), "red": ("red", "ginger", "copper"),
             "grey": ("grey", "silver")},
    "hair_length": {"short": ("short", "cropped"), "medium": ("medium", "bobbed"),
                    "long": ("long", "flowing")},
    "shirt": {"navy": ("navy", "blue"), "crimson": ("crimson", "red", "scarlet"),
              "green": ("green",), "white": ("white",), "purple": ("purple", "violet", "lilac")},
    "eyes": {"brown": ("brown", "hazel"), "blue": ("blue",), "green": ("green", "emerald")},
}
ADJECTIVES: dict[str, dict[str, tuple[str, ...]]] = {
    "smile": {"frown": ("frowning", "sad", "gloomy"), "neutral": ("serious", "calm", "earnest"),
              "smile": ("smiling", "happy", "cheerful")},
}
# attributes that are told in whole phrases; what is not here ("no" of glasses) is never told
PHRASES: dict[str, dict[str, tuple[str, ...]]] = {
    "glasses": {"yes": ("wearing glasses", "with glasses", "in glasses",
                        "with a pair of glasses")},
    "smile": {"frown": ("with a frown", "looking sad", "who frowns"),
              "neutral": ("with a neutral face", "looking serious", "who looks calm"),
              "smile": ("with a smile", "looking happy", "who smiles")},
    "pose": {"left": ("looking left", "turned to the left", "facing left", "who looks left"),
             "centre": ("looking ahead", "facing forward", "turned to the viewer",
                        "who looks ahead"),
             "right": ("looking right", "turned to the right", "facing right",
                       "who looks right")},
}
# how a word becomes part of the sentence
CLAUSES = {
    "background": ("on a {} background", "in front of a {} wall", "against a {} background",
                   "before a {} wall", "with a {} background"),
    "skin": ("with {} skin", "whose skin is {}", "who has {} skin"),
    "hair": ("with {} hair", "who has {} hair"),
    "shirt": ("in a {} shirt", "wearing a {} shirt", "who wears a {} shirt", "with a {} shirt",
              "dressed in a {} shirt"),
    "eyes": ("with {} eyes", "whose eyes are {}", "who has {} eyes"),
}
COMPOUNDS = {"hair": "{}-haired", "skin": "{}-skinned", "eyes": "{}-eyed"}
NOUNS = {"background": "background", "skin": "skin", "hair": "hair", "shirt": "shirt",
         "eyes": "eyes"}
SUBJECTS = ("person", "face", "portrait", "character", "somebody", "portrait of a person",
            "picture of a face", "drawing of somebody")

# never shown in training: four combinations of values, and three ways to put it
COMBINATIONS: tuple[dict[str, str], ...] = (
    {"hair": "grey", "glasses": "yes", "smile": "frown"},
    {"hair": "red", "background": "mint"},
    {"background": "rose", "shirt": "green"},
    {"hair": "blond", "hair_length": "long", "eyes": "green"},
)
NEW_PHRASINGS = ("whose hair is …", "who wears glasses", "on a … background, a person …")

FEW = 3                 # half of the captions tell no more attributes than these
TELLABLE = {name: WORDS.get(name, {}) | PHRASES.get(name, {}) for name in ATTRIBUTES}


def in_combination(labels: Tensor, which: int | None = None) -> Tensor:
    """Whether a face has one of the held-out `COMBINATIONS` (or the one of that number).

    Shapes: labels (N, 9) → (N,) of booleans.
    """
    tensor(labels, "labels", ("N", len(ATTRIBUTES)), integers=True)
    if which is not None:
        whole(which, "which", 0, len(COMBINATIONS) - 1)
    names = list(ATTRIBUTES)
    found = torch.zeros(len(labels), dtype=torch.bool)
    for combination in COMBINATIONS if which is None else COMBINATIONS[which : which + 1]:
        columns = [labels[:, names.index(name)] == ATTRIBUTES[name].index(value)
                   for name, value in combination.items()]
        found |= torch.stack(columns).all(0)
    return found


def captions(
    labels: Tensor, seed: int = 0, told: Sequence[str] | None = None, phrasing: str = "usual"
) -> list[str]:
    """A caption for every row of labels; the same for the same seed.

    told: the attributes to tell; without it a random part of them: half of the captions tell up to
        three, the others up to nine, each number equally likely. What cannot be told, glasses where
        there are none, is left out.
    phrasing: "usual", or "new" for the wordings that training never shows (`NEW_PHRASINGS`).
    Shapes: labels (N, 9) integers, as ToyFaces'. Raises: ValueError for unknown attributes.
    """
    tensor(labels, "labels", ("N", len(ATTRIBUTES)), integers=True)
    if phrasing not in ("usual", "new"):
        refuse("phrasing", "'usual' or 'new'", repr(phrasing))
    for k, (name, values) in enumerate(ATTRIBUTES.items()):
        in_range(labels[:, k], 0, len(values) - 1, f"labels of {name}")
    whole(seed, "seed", 0)
    for name in told or ():
        if name not in ATTRIBUTES:
            refuse("told", f"a list of {listed(ATTRIBUTES)}", repr(name))
    rng = random.Random(seed)
    return [_caption(dict(zip(ATTRIBUTES, row, strict=True)), rng, told, phrasing == "new")
            for row in labels.tolist()]


def _caption(
    row: dict[str, int], rng: random.Random, told: Sequence[str] | None, new: bool
) -> str:
    """One caption of one face."""
    if told is None:
        most = rng.choice((FEW, len(ATTRIBUTES)))
        told = rng.sample(list(ATTRIBUTES), rng.randint(0, most))
    values = {name: ATTRIBUTES[name][row[name]] for name in told}
    values = {name: value for name, value in values.items() if value in TELLABLE[name]}
    words = {name: rng.choice(WORDS[name][v]) for name, v in values.items() if name in WORDS}
    if not new and rng.random() < 0.2 and values:
        return _listed(values, words, rng)
    return _sentence(values, words, rng, new)


def _hair(words: dict[str, str], pattern: str) -> str | None:
    """What is told of the hair, in a pattern: "with {} hair"."""
    said = [words[name] for name in ("hair_length", "hair") if name in words]
    return pattern.format(" ".join(said)) if said else None


def _listed(values: dict[str, str], words: dict[str, str], rng: random.Random) -> str:
    """A caption that is a list: "blue background, green shirt"."""
    parts = [f"{words[name]} {noun}" for name, noun in NOUNS.items()
             if name in words and name != "hair"]
    parts += [re.sub("^(with a|with|wearing) ", "", PHRASES[name][value][0])
              for name, value in values.items() if name in PHRASES]
    if hair := _hair(words, "{} hair"):
        parts.append(hair)
    rng.shuffle(parts)
    return ", ".join(parts)


def _sentence(
    values: dict[str, str], words: dict[str, str], rng: random.Random, new: bool
) -> str:
    """A caption that is a noun with adjectives and clauses, in any order."""
    adjectives, clauses, front = [], [], ""
    words = dict(words)
    if new and "background" in words:
        front = f"on a {words.pop('background')} background, "
    if new and "hair" in words:
        clauses.append(f"whose hair is {words.pop('hair')}")
    if "smile" in values and rng.random() < 0.5:
        adjectives.append(rng.choice(ADJECTIVES["smile"][values["smile"]]))
    elif "smile" in values:
        clauses.append(rng.choice(PHRASES["smile"][values["smile"]]))
    compounds = [name for name in COMPOUNDS if name in words]
    if compounds and rng.random() < 0.4 and "hair_length" not in words:
        name = rng.choice(compounds)
        adjectives.append(COMPOUNDS[name].format(words.pop(name)))
    if hair := _hair(words, rng.choice(CLAUSES["hair"])):
        clauses.append(hair)
    clauses += [rng.choice(CLAUSES[name]).format(words[name]) for name in CLAUSES
                if name in words and name != "hair"]
    if "glasses" in values:
        clauses.append("who wears glasses" if new else rng.choice(PHRASES["glasses"]["yes"]))
    if "pose" in values:
        clauses.append(rng.choice(PHRASES["pose"][values["pose"]]))
    rng.shuffle(adjectives)
    rng.shuffle(clauses)
    noun = " ".join([*adjectives, rng.choice(SUBJECTS)])
    first = " and ".join(clauses[:2]) if rng.random() < 0.3 else " ".join(clauses[:2])
    text = f"{front}a {noun} {', '.join([first, *clauses[2:]])}".strip()
    return re.sub(r"\ba somebody\b", "somebody", re.sub(r"\ba(?= [aeiou])", "an", text))
