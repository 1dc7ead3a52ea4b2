"""Prompts: words to numbers and back, and sentences that nobody can draw are refused by name."""

import pytest
import torch

from minigen import prompts
from minigen.captions import captions
from minigen.data import ATTRIBUTES, ToyFaces
from minigen.errors import DataError
from minigen.prompts import (
    DENIALS,
    END,
    LONGEST,
    MEANT,
    PAD,
    START,
    VOCABULARY,
    labels_told,
    read,
    split,
    tokenise,
    words_of,
)


def test_numbers_stand_for_words():
    texts = captions(ToyFaces(200, seed=1).labels)
    for text, ids in zip(texts, tokenise(texts), strict=True):
        assert words_of(ids) == ["<start>", *split(text), "<end>"]


def test_the_shorter_sentence_is_filled_up():
    ids = tokenise(["", "a face", "red hair, blue eyes"])
    assert ids.shape == (3, 6) and ids.dtype == torch.int64
    assert ids[0].tolist() == [START, END, PAD, PAD, PAD, PAD]
    assert ids[1, 3] == END and not bool((ids[2] == PAD).any())


def test_capitals_hyphens_and_stops_do_not_matter():
    assert torch.equal(tokenise(["A Red-haired FACE."]), tokenise(["a red haired face"]))


def test_the_vocabulary_is_sorted_and_without_doubles():
    words = VOCABULARY[3:]
    assert list(words) == sorted(set(words)) and VOCABULARY[:3] == ("<pad>", "<start>", "<end>")
    assert not set(DENIALS) & set(words) and not MEANT.keys() & set(words)
    assert set(MEANT.values()) <= set(words)


@pytest.mark.parametrize(("prompt", "told"), [
    ("a grey-haired person with glasses on a pink background",
     {"hair": "grey", "glasses": "yes", "background": "rose"}),
    ("blue eyes, green shirt", {"eyes": "blue", "shirt": "green"}),
    ("green eyes, blue shirt", {"eyes": "green", "shirt": "navy"}),
    ("somebody whose skin is dark and whose eyes are hazel", {"skin": "umber", "eyes": "brown"}),
    ("short red hair", {"hair_length": "short", "hair": "red"}),
    ("a happy, smiling face", {"smile": "smile"}),
    ("a face in front of a blue wall", {"background": "sky"}),
    ("a person", {}),
])
def test_what_a_sentence_says(prompt, told):
    assert read(prompt) == told


@pytest.mark.parametrize(("prompt", "sentence"), [
    ("", "the prompt is empty: say what"),
    ("  ?! ", "the prompt is empty"),
    (3, "a prompt must be a sentence in quotes; got 3"),
    ("a person with spectacles", "'spectacles' is not known: did you mean 'glasses'?"),
    ("a woman with red hair", "'woman' is not known: did you mean 'person'?"),
    ("a person with blak hair", "'blak' is not known: did you mean 'black'?"),
    ("a person with a xylophone", "'xylophone' is not known; the words that are: "
                                  "minigen.prompts.VOCABULARY"),
    ("a person with a white beard", "'beard' is not known: no ToyFace has one"),
    ("a person without glasses", "'without' is not known: no caption denies anything"),
    ("a person with no glasses", "goes into the negative prompt"),
    ("a person with 0 glasses", "'0' is not known"),
    ("a person whose hair isn't red", "'isn' is not known: no caption denies anything"),
    ("eine Frau mit roten Haaren", "most words of 'eine Frau mit roten Haaren' are not known"),
    ("一个戴眼镜的人", "is not known"),
    ("red hair " * 30, f"the prompt has 60 words, and at most {LONGEST - 2} can be read"),
    ("a person with red hair and grey hair", "contradicts itself: hair both red and grey"),
    ("short long hair", "contradicts itself: hair length both"),
    ("a sad smiling person", "contradicts itself: smile both"),
    ("a person with blue hair", "the hair of a ToyFace cannot be 'blue': it can be black"),
    ("a person whose eyes are red", "the eyes of a ToyFace cannot be 'red'"),
    ("a red person", "'red' belongs to nothing: say of what, such as 'red hair'"),
    ("a person with red and blue eyes", "'red' belongs to nothing"),
])
def test_what_nobody_can_draw_is_refused(prompt, sentence):
    with pytest.raises(ValueError) as e:
        read(prompt)
    assert sentence in str(e.value)


def test_labels_told_are_minus_one_where_nothing_is_said():
    told = labels_told(["", "red hair"])
    column = list(ATTRIBUTES).index("hair")
    assert told.shape == (2, 9) and bool((told[0] == -1).all())
    assert told[1, column] == ATTRIBUTES["hair"].index("red") and int((told[1] >= 0).sum()) == 1


def test_a_list_is_wanted():
    for wrong in ("red hair", [], None):
        for function in (tokenise, labels_told):
            with pytest.raises(ValueError, match="prompts must be a list of sentences"):
                function(wrong)
    with pytest.raises(ValueError, match="ids must be"):
        words_of(torch.zeros(2, 3))


def test_learned_words_have_the_numbers_that_follow():
    n = len(prompts.VOCABULARY)
    ids = prompts.tokenise(["a zuv with a bix"], ["zuv", "bix"])
    assert ids[0, [2, 5]].tolist() == [n, n + 1]
    assert torch.equal(ids[0, [0, 1, 3, 4, 6]],
                       prompts.tokenise(["a with a"])[0, [0, 1, 2, 3, 4]])
    assert prompts.read("a zuv with red hair", ["zuv"]) == {"hair": "red"}
    assert prompts.labels_told(["a zuv face"], ["zuv"]).tolist() == [[-1] * 9]
    with pytest.raises(DataError, match="'zuv' is not known"):
        prompts.tokenise(["a zuv with red hair"])
    with pytest.raises(DataError, match="did you mean 'zuv'"):
        prompts.tokenise(["a zuw with red hair"], ["zuv"])


@pytest.mark.parametrize("word", ["hair", "no", "spectacles", "Zuv", "two words", "", "7", 7,
                                  "zu-v", "zuv."])
def test_what_is_no_new_word_is_refused(word):
    with pytest.raises(DataError, match="'zuv'"):
        prompts.check_new_word(word)
    assert prompts.check_new_word("zuv") == "zuv"
    with pytest.raises(DataError, match="means something already"):
        prompts.check_new_word("zuv", ["zuv"])
