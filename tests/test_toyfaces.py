import time

import numpy as np
import pytest
import torch

from minigen.data import ATTRIBUTES, ToyFaces, draw_faces, labels_of
from minigen.data.toyfaces import N_JITTER, PALETTES, _colours
from minigen.errors import DataError


def test_deterministic_and_a_prefix_of_larger_sets():
    a, b, other = ToyFaces(37, seed=3), ToyFaces(200, seed=3), ToyFaces(37, seed=4)
    assert torch.equal(a.images(), b[:37][0])
    assert torch.equal(a.labels, b.labels[:37])
    assert not torch.equal(a.labels, other.labels)


def test_shapes_range_and_indexing():
    faces = ToyFaces(10, size=24)
    image, labels = faces[3]
    assert image.shape == (3, 24, 24) and labels.shape == (len(ATTRIBUTES),)
    assert image.dtype == torch.float32 and -1 <= faces.images().min() < -0.5 < 0.5 < faces.images().max() <= 1
    batch, _ = faces[torch.tensor([3, 5])]
    assert torch.equal(batch[0], image)
    assert torch.equal(faces[torch.tensor(3)][0], image) and torch.equal(faces[np.int64(-7)][0], image)
    assert torch.equal(faces["glasses"], faces.labels[:, 6])
    with pytest.raises(IndexError):
        faces[10]


def test_every_value_appears_about_equally_often():
    faces = ToyFaces(6000, seed=0)
    for name, values in ATTRIBUTES.items():
        share = torch.bincount(faces[name], minlength=len(values)) / 6000
        assert (share - 1 / len(values)).abs().max() < 0.03, name


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_every_attribute_changes_the_picture(name):
    drawn = [draw_faces(labels_of(**{name: v}), size=64) for v in ATTRIBUTES[name]]
    for i, a in enumerate(drawn):
        for b in drawn[i + 1 :]:
            assert (a - b).abs().amax() > 0.1


def test_background_and_shirt_have_their_palette_colours():
    for name, (row, column) in {"background": (0, 0), "shirt": (63, 32)}.items():
        for k, value in enumerate(ATTRIBUTES[name]):
            pixel = draw_faces(labels_of(**{name: value}), size=64)[0, :, row, column]
            assert torch.allclose(pixel, _colours(name)[k], atol=1e-6)
    assert all(len(PALETTES[name]) == len(ATTRIBUTES[name]) for name in PALETTES)


def test_the_same_face_at_any_size():
    faces = ToyFaces(4, seed=1)
    small = draw_faces(faces.labels, faces.jitter, 32)
    large = torch.nn.functional.avg_pool2d(draw_faces(faces.labels, faces.jitter, 128), 4)
    assert (small - large).abs().mean() < 0.03


def test_jitter_moves_the_face():
    moved = draw_faces(labels_of(), torch.ones(1, N_JITTER))
    assert not torch.equal(moved, draw_faces(labels_of()))


def test_fast_enough():
    start = time.perf_counter()
    ToyFaces(4096, size=32).images()
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(("call", "words"), [
    (lambda: ToyFaces(0), "at least one face"),
    (lambda: ToyFaces(3, size=0), "8×8"),
    (lambda: ToyFaces(3)["nose"], "unknown attribute 'nose'"),
    (lambda: labels_of(hair="pink"), "'hair' can be black"),
    (lambda: labels_of(beard="yes"), "unknown attribute 'beard'"),
    (lambda: draw_faces(torch.zeros(2, 3)), "shape"),
    (lambda: draw_faces(torch.full((1, 9), 7)), "must be 0 to"),
])
def test_bad_input_is_named(call, words):
    with pytest.raises(DataError, match=words):
        call()
