import numpy as np
import pytest
import torch

from minigen.data import ATTRIBUTES, ToyFaces, draw_faces, labels_of
from minigen.data.toyfaces import N_JITTER, PALETTES, _colours, colour_of
from minigen.errors import DataError
from tests.conftest import defaults


def test_deterministic_and_a_prefix_of_larger_sets():
    a, b, other = ToyFaces(37, seed=3), ToyFaces(200, seed=3), ToyFaces(37, seed=4)
    assert torch.equal(a.images(), b[:37][0])
    assert torch.equal(a.labels, b.labels[:37])
    assert not torch.equal(a.labels, other.labels)


def test_shapes_range_and_indexing():
    faces = ToyFaces(10, size=24)
    image, labels = faces[3]
    assert image.shape == (3, 24, 24) and labels.shape == (len(ATTRIBUTES),)
    assert image.dtype == torch.float32
    assert -1 <= faces.images().min() < -0.5 < 0.5 < faces.images().max() <= 1
    batch, _ = faces[torch.tensor([3, 5])]
    assert torch.equal(batch[0], image)
    assert torch.equal(faces[torch.tensor(3)][0], image)
    assert torch.equal(faces[np.int64(-7)][0], image)
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


def test_faces_are_drawn_many_at_a_time(monkeypatch):
    """256 faces of 32×32 in one go, fewer where they are larger: what keeps 20,000 of them a
    matter of seconds."""
    asked = []

    def draw(labels, jitter, size):
        asked.append((len(labels), len(jitter), size))
        return draw_faces(labels, jitter, 8)

    monkeypatch.setattr("minigen.data.toyfaces.draw_faces", draw)
    assert ToyFaces(600, size=32).images().shape[0] == 600
    assert asked == [(256, 256, 32), (256, 256, 32), (88, 88, 32)]
    asked.clear()
    ToyFaces(5, size=256).images()
    ToyFaces(2, size=1024).images()
    assert asked == [(4, 4, 256), (1, 1, 256), (1, 1, 1024), (1, 1, 1024)]


def test_a_large_set_holds_the_faces_of_its_rows():
    faces = ToyFaces(5, size=256)
    x = faces.images()
    for k in (0, 3, 4):
        assert torch.equal(x[k], faces[k][0])


# What the pictures of ToyFaces are: mean over pixels and channels of (1 + sin k) · value, k
# counting the numbers of a picture.
# The pretrained weights, the results table and the notebooks' outputs were made with these
# pictures, so none may drift.
def mark(images):
    weights = 1 + torch.sin(torch.arange(3072, dtype=torch.float64))
    return (images.double() * weights.view(3, 32, 32)).mean((1, 2, 3)).tolist()


# a face with every value of every attribute, the others in the middle of their tables
VALUES = {
    "background": (0.3340741, 0.3225825, 0.3446846, 0.3747015, 0.0507454, 0.5044711),
    "skin": (0.4549027, 0.4213601, 0.3747015, 0.3230927, 0.2806537),
    "hair": (0.1942510, 0.2440301, 0.3747015, 0.2775108, 0.3680500),
    "hair_length": (0.3912809, 0.3747015, 0.3647300),
    "shirt": (0.3650213, 0.3798331, 0.3747015, 0.4750232, 0.3926263),
    "eyes": (0.3688391, 0.3747015, 0.3724992),
    "glasses": (0.3747015, 0.3499068),
    "smile": (0.3730912, 0.3747015, 0.3783766),
    "pose": (0.3779972, 0.3747015, 0.3751515),
}
# two faces, with each of the eight jitters at 1 and at -1, and with none
BUSY = (
    dict(glasses="yes", smile="smile", pose="left", hair_length="long"),
    (
        0.3459869,
        0.3585864,
        0.3364423,
        0.3424817,
        0.3392961,
        0.3437771,
        0.3437684,
        0.3937080,
        0.3385827,
        0.3286837,
        0.3509605,
        0.3444594,
        0.3480963,
        0.3436849,
        0.3434389,
        0.2937342,
    ),
    0.3437396,
)
PLAIN = (
    dict(smile="frown", pose="right", hair_length="short", hair="red"),
    (
        0.3533902,
        0.3674252,
        0.3450907,
        0.3536801,
        0.3509577,
        0.3534138,
        0.3528665,
        0.4036558,
        0.3525019,
        0.3397021,
        0.3610809,
        0.3536212,
        0.3558248,
        0.3537945,
        0.3548579,
        0.3036450,
    ),
    0.3536504,
)


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_pictures_of_every_value_do_not_drift(name):
    drawn = torch.cat([draw_faces(labels_of(**{name: value})) for value in ATTRIBUTES[name]])
    assert mark(drawn) == pytest.approx(VALUES[name], abs=1e-6)


@pytest.mark.parametrize(("values", "moved", "still"), [BUSY, PLAIN])
def test_pictures_with_every_jitter_do_not_drift(values, moved, still):
    labels = labels_of(**values)
    each = torch.cat([torch.eye(N_JITTER), -torch.eye(N_JITTER)])
    assert mark(draw_faces(labels.expand(16, -1), each)) == pytest.approx(moved, abs=1e-6)
    assert mark(draw_faces(labels)) == pytest.approx([still], abs=1e-6)
    assert torch.equal(draw_faces(labels), draw_faces(labels, torch.zeros(1, N_JITTER), 32))


def test_random_faces_do_not_drift():
    """The first faces of seeds 0 and 5: labels, jitter and pictures."""
    faces = ToyFaces(4)
    assert faces.labels.tolist() == [
        [2, 3, 0, 0, 1, 1, 0, 2, 1],
        [4, 0, 1, 2, 4, 1, 1, 1, 1],
        [0, 0, 1, 2, 3, 2, 1, 0, 1],
        [5, 3, 2, 2, 1, 1, 0, 0, 0],
    ]
    assert faces.jitter[0].tolist() == pytest.approx(
        [0.264613, -0.302213, -0.196565, -0.955348, -0.662282, -0.412223, 0.037044, 0.395335],
        abs=1e-6,
    )
    assert ToyFaces(2, seed=5).labels.tolist() == [
        [4, 0, 4, 2, 4, 0, 0, 2, 0],
        [3, 0, 4, 2, 1, 0, 1, 2, 0],
    ]
    assert mark(faces.images()) == pytest.approx(
        [0.2572451, -0.0801425, 0.3180885, 0.4667652], abs=1e-6
    )
    assert faces.describe(0) == dict(
        background="mint",
        skin="brown",
        hair="black",
        hair_length="short",
        shirt="crimson",
        eyes="blue",
        glasses="no",
        smile="smile",
        pose="centre",
    )


def test_jitter_is_spread_evenly_from_minus_one_to_one():
    jitter = ToyFaces(4000).jitter
    assert (
        jitter.shape == (4000, 8)
        and -1 <= float(jitter.min()) < -0.99
        and 0.99 < float(jitter.max()) < 1
    )
    assert float(jitter.mean(0).abs().max()) < 0.05


def test_what_is_not_named_takes_the_middle_and_no_glasses():
    assert labels_of().tolist() == [[3, 2, 2, 1, 2, 1, 0, 1, 1]]
    assert labels_of(pose="left", background="cream").tolist() == [[5, 2, 2, 1, 2, 1, 0, 1, 0]]


def test_colours_are_the_hexadecimal_ones():
    sky = draw_faces(labels_of(background="sky"))[0, :, 0, 0]
    assert sky.tolist() == pytest.approx(
        [0x8F / 127.5 - 1, 0xC7 / 127.5 - 1, 0xE8 / 127.5 - 1], abs=1e-6
    )


def test_what_is_taken_unless_told_and_the_smallest_face():
    assert defaults(draw_faces) == dict(jitter=None, size=32) and defaults(ToyFaces) == dict(
        size=32, seed=0
    )
    assert ToyFaces(1, size=8)[-1][0].shape == draw_faces(labels_of(), size=8)[0].shape == (3, 8, 8)
    for size in (7, 0):
        with pytest.raises(DataError):
            draw_faces(labels_of(), size=size)


def test_labels_outside_their_table_are_refused_on_both_sides():
    for column, values in enumerate(ATTRIBUTES.values()):
        for wrong in (-1, len(values)):
            labels = torch.cat([labels_of(), labels_of()])
            labels[1, column] = wrong
            with pytest.raises(DataError):
                draw_faces(labels)
    assert draw_faces(labels_of()[:0]).shape == (0, 3, 32, 32)


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


def test_colours_by_name():
    red = colour_of("hair", "red")
    assert red == pytest.approx([0xB4 / 127.5 - 1, 0x45 / 127.5 - 1, 0x2A / 127.5 - 1])
    wall = draw_faces(labels_of(background="mint"))[0, :, 0, 0]
    torch.testing.assert_close(wall, torch.tensor(colour_of("background", "mint")))
    with pytest.raises(DataError, match="'pose' has no colours; background, skin"):
        colour_of("pose", "left")
    with pytest.raises(DataError, match="hair has no value 'green'; it has black"):
        colour_of("hair", "green")


def test_the_very_middle_of_an_ellipse_is_inside():
    """A pixel at the head's centre, where the distance's formula divides by nothing."""
    jitter = torch.zeros(1, N_JITTER)
    jitter[0, 1] = 0.5
    face = draw_faces(labels_of(skin="peach"), jitter, size=33)
    assert torch.isfinite(face).all()
