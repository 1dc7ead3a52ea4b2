"""What is drawn over ToyFaces, the probe of a beard, and a decoder that learns to draw it."""

import copy

import pytest
import torch

from minigen import characters, latents
from minigen.data import ATTRIBUTES, ToyFaces, draw_faces
from minigen.data.toyfaces import labels_of
from minigen.errors import DataError
from minigen.files import load_weights
from minigen.ivqvae import IVQVAE
from minigen.prompts import labels_told


@pytest.mark.parametrize("size", [32, 64])
def test_without_extras_faces_are_toyfaces(size):
    faces = ToyFaces(20, size, seed=1)
    assert torch.equal(characters.draw(faces.labels, [], faces.jitter, size), faces.images())


@pytest.mark.parametrize("extra", characters.EXTRAS)
def test_each_extra_changes_a_part_of_every_face_and_of_nothing_else(extra):
    faces = ToyFaces(50, seed=2)
    x, y = faces.images(), characters.with_extras(faces, [extra])
    changed = (x != y).any(1).float().mean((1, 2))
    assert changed.min() > 0.004 and changed.max() < 0.4
    assert y.min() >= -1 and y.max() <= 1 and y.shape == x.shape
    corner = y[:, :, :3, :3]
    assert torch.equal(corner, x[:, :, :3, :3])


def test_extras_move_with_the_head():
    """A face further right has its nose further right, by the same pixels."""
    row = labels_of(pose="centre")
    places = []
    for shift in (-1.0, 1.0):
        jitter = torch.zeros(1, 8)
        jitter[0, 0] = shift
        before, after = (characters.draw(row, e, jitter, 128) for e in ([], ["nose"]))
        columns = (before != after).any(1)[0].any(0).nonzero().flatten().float()
        places.append(float(columns.mean()))
    assert places[1] - places[0] == pytest.approx(0.1 * 64, abs=1)


@pytest.mark.parametrize("size", [32, 64])
def test_the_probe_tells_every_beard_and_no_other_face(size):
    faces = ToyFaces(150, size, seed=3)
    assert not characters.bearded(faces.images()).any()
    assert characters.bearded(characters.with_extras(faces, ["beard"])).all()
    for extra in ("hat", "patch", "nose", "freckles"):
        assert not characters.bearded(characters.with_extras(faces, [extra])).any()


def test_zuv_is_one_man_in_many_places():
    x, labels = characters.zuv(200, seed=4)
    assert x.shape == (200, 3, 32, 32) and characters.bearded(x).all()
    for k, name in enumerate(ATTRIBUTES):
        values = labels[:, k].unique()
        if name in characters.CHANGES:
            assert len(values) == len(ATTRIBUTES[name])
        else:
            assert values.tolist() == [ATTRIBUTES[name].index(characters.ZUV[name])]
    again, _ = characters.zuv(3, seed=4)
    assert torch.equal(again, x[:3])
    assert not torch.equal(characters.zuv(3, seed=5)[0], again)


def test_what_is_said_of_a_picture_is_true():
    _, labels = characters.zuv(30, seed=6)
    for row, said in zip(labels, characters.said_of(labels, "zuv"), strict=True):
        assert said[0] == "a zuv person" and len(said) == 4
        told = labels_told([text.replace("zuv ", "") for text in said])
        assert bool(((told == row) | (told < 0)).all())
        assert (told >= 0).sum(1).tolist() == [0, 1, 1, 2]


@pytest.mark.parametrize(("extras", "words"), [
    (["berd"], "did you mean 'beard'"), (["crown"], "there are beard, hat"), ([3], "'3'")])
def test_unknown_extras_are_refused(extras, words):
    with pytest.raises(DataError, match=words):
        characters.draw(ToyFaces(1).labels, extras)
    with pytest.raises(DataError, match=words):
        next(characters.learn_to_draw(load_weights(IVQVAE, "ivqvae"), extras, steps=1))


def test_only_the_decoder_learns_to_draw():
    tokenizer = load_weights(IVQVAE, "ivqvae")
    before = copy.deepcopy(tokenizer.state_dict())
    steps = list(characters.learn_to_draw(tokenizer, ["beard"], steps=3, batch_size=4))
    assert [s.step for s in steps] == [1, 2, 3] and all(s.loss > 0 for s in steps)
    moved = {k for k, v in tokenizer.state_dict().items() if not torch.equal(v, before[k])}
    assert moved and all(k.startswith("decoder.") for k in moved)
    assert not tokenizer.training


def test_half_of_what_the_decoder_sees_has_the_extras():
    data = characters._half_and_half(ToyFaces(50, seed=0), ["beard"], 8, 0)
    for _ in range(3):
        (x,) = next(data)
        assert characters.bearded(x).tolist() == [True] * 4 + [False] * 4


def test_the_trained_decoder_draws_beards_and_leaves_latents_alone():
    drawer, old = characters.drawing_beards(), load_weights(IVQVAE, "ivqvae")
    faces = ToyFaces(150, seed=2)
    plain, beards = faces.images(), characters.with_extras(faces, ["beard"])
    made = latents.encode(drawer, beards)
    assert torch.equal(made.z, latents.encode(old, beards).z)
    assert made.tokenizer == latents.encode(old, beards).tokenizer == latents.fingerprint(old)
    share = characters.bearded(latents.decode(drawer, made.z)).float().mean()
    shaved = characters.bearded(latents.decode(old, made.z)).float().mean()
    grown = characters.bearded(latents.decode(drawer, latents.encode(drawer, plain).z))
    assert share > 0.98 and shaved < 0.02 and grown.float().mean() < 0.03


def test_draw_is_what_draw_faces_draws_without_jitter():
    row = labels_of(hair="red")
    assert torch.equal(characters.draw(row, []), draw_faces(row))
