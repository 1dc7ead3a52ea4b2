"""Captions: what they say is what the face is, kinds held out of training never appear."""

import re

import pytest
import torch

from minigen.captions import (
    COMBINATIONS,
    TELLABLE,
    WORDS,
    captions,
    in_combination,
)
from minigen.data import ATTRIBUTES, ToyFaces
from minigen.data.toyfaces import labels_of
from minigen.prompts import LONGEST, VOCABULARY, labels_told, split, tokenise

FACES = ToyFaces(3000, seed=4)


@pytest.mark.parametrize("phrasing", ["usual", "new"])
def test_what_a_caption_says_is_read_from_it_again(phrasing):
    told = labels_told(captions(FACES.labels, seed=1, phrasing=phrasing))
    assert bool(((told == FACES.labels) | (told < 0)).all())
    assert (told >= 0).float().mean() > 0.25


def test_all_is_told_where_all_is_asked_for_but_what_cannot_be():
    told = labels_told(captions(FACES.labels, told=list(ATTRIBUTES)))
    column = list(ATTRIBUTES).index("glasses")
    assert torch.equal(told[:, column] >= 0, FACES["glasses"] == 1)
    others = [k for k in range(len(ATTRIBUTES)) if k != column]
    assert torch.equal(told[:, others], FACES.labels[:, others])


def test_only_the_attributes_asked_for_are_told():
    told = labels_told(captions(FACES.labels[:200], told=["hair", "pose"]))
    columns = [list(ATTRIBUTES).index(name) for name in ("hair", "pose")]
    assert bool((told[:, columns] == FACES.labels[:200][:, columns]).all())
    assert int((told >= 0).sum()) == 2 * 200


def test_half_of_the_captions_tell_up_to_three_attributes_the_others_up_to_nine():
    faces = ToyFaces(20_000, seed=6)
    faces.labels[:, list(ATTRIBUTES).index("glasses")] = 1     # so that each can be told
    counts = torch.bincount((labels_told(captions(faces.labels)) >= 0).sum(1), minlength=10)
    wanted = torch.tensor([0.5 / 4 + 0.5 / 10] * 4 + [0.5 / 10] * 6)
    assert len(counts) == 10 and bool(((counts / 20_000 - wanted).abs() < 0.01).all())


def test_captions_depend_on_their_seed_alone():
    labels = FACES.labels[:50]
    first = captions(labels, seed=3)
    torch.rand(5)
    assert captions(labels, seed=3) == first != captions(labels, seed=4)


def test_new_phrasings_are_new_and_of_known_words():
    usual = captions(FACES.labels, seed=1)
    new = captions(FACES.labels, seed=1, phrasing="new")
    held = ("whose hair is", "who wears glasses")
    assert not any(phrase in text for text in usual for phrase in held)
    assert not any(text.startswith("on a") for text in usual)
    for phrase in (*held, "on a"):
        assert any(phrase in text for text in new)
    seen = {w for text in captions(ToyFaces(20_000, seed=5).labels) for w in split(text)}
    assert {w for text in new for w in split(text)} <= seen


def test_every_word_of_the_vocabulary_is_used():
    texts = captions(ToyFaces(20_000, seed=5).labels)
    assert {w for text in texts for w in split(text)} == set(VOCABULARY[3:])


def test_the_longest_caption_fits():
    for phrasing in ("usual", "new"):
        ids = tokenise(captions(FACES.labels, told=list(ATTRIBUTES), phrasing=phrasing))
        assert ids.shape[1] <= LONGEST


def test_a_and_an():
    for text in captions(FACES.labels):
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]|\ba somebody", text), text


def test_a_word_has_one_meaning_in_an_attribute():
    for table in WORDS.values():
        words = [w for ws in table.values() for w in ws]
        assert len(words) == len(set(words))


def test_every_value_can_be_told_but_no_glasses():
    for name, values in ATTRIBUTES.items():
        assert set(values) - TELLABLE[name].keys() == ({"no"} if name == "glasses" else set())


def test_combinations_are_found_one_by_one_and_together():
    rows = torch.cat([labels_of(**c) for c in COMBINATIONS])
    assert bool(in_combination(rows).all())
    for k, combination in enumerate(COMBINATIONS):
        assert bool(in_combination(rows, k)[k])
        for name in combination:                       # without one of its values it is none
            other = rows[k : k + 1].clone()
            column = list(ATTRIBUTES).index(name)
            other[0, column] = (other[0, column] + 1) % len(ATTRIBUTES[name])
            assert not bool(in_combination(other, k))
    assert 0.08 < in_combination(FACES.labels).float().mean() < 0.16


@pytest.mark.parametrize(("wrong", "sentence"), [
    (dict(labels=torch.zeros(2, 8).long()), r"labels must be \(N, 9\)"),
    (dict(told=["beard"]), "told must be a list of background"),
    (dict(labels=torch.full((2, 9), -1)), "labels of background must"),
    (dict(seed=None), "seed must be a whole number"),
    (dict(phrasing="odd"), "phrasing must be 'usual' or 'new'; got 'odd'"),
])
def test_wrong_arguments(wrong, sentence):
    arguments = dict(labels=FACES.labels[:2]) | wrong
    with pytest.raises(ValueError, match=sentence):
        captions(**arguments)
    with pytest.raises(ValueError, match="which must be a whole number, 0 to 3"):
        in_combination(FACES.labels, 4)
