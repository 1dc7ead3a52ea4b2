import json

import numpy as np
import pytest
import torch
from PIL import Image

from minigen.data import prepare
from minigen.engine.images import Images
from minigen.errors import DataError
from tests.test_sources import make_folder


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photos").mkdir()
    for k in range(3):
        Image.new("RGB", (40, 40), (80 * k, 0, 0)).save(tmp_path / "photos" / f"{k}.png")
    prepare(tmp_path / "photos", tmp_path / "out", 32)
    return tmp_path / "out"


def test_images_of_a_prepared_folder(folder):
    images = Images(str(folder), 32, verify=True)
    assert (
        len(images) == 3
        and images(torch.tensor([2, 0])).shape == (2, 3, 32, 32)
        and images.labels is None
    )
    flipped = images(torch.tensor([1]), torch.tensor([True]))
    assert torch.equal(flipped, images(torch.tensor([1])).flip(-1))
    with pytest.raises(DataError, match="images of 32 pixels, the model takes 256"):
        Images(str(folder), 256)


def test_changed_pixels_are_found_where_they_are_looked_for(folder):
    content = bytearray((folder / "images.npy").read_bytes())
    content[-1] ^= 1
    (folder / "images.npy").write_bytes(content)
    Images(str(folder), 32)
    with pytest.raises(DataError, match="not those that were prepared"):
        Images(str(folder), 32, verify=True)


@pytest.mark.parametrize("n", ["", "abc", "0", "-3", "1.5", "1e3", "99999999999", "٣", " 5"])
def test_a_number_of_faces_that_is_none(n):
    with pytest.raises(DataError, match="toyfaces:N with a whole number N from 1"):
        Images(f"toyfaces:{n}", 32)


def test_drawn_faces_have_their_hair_as_class():
    images = Images("toyfaces:5", 32)
    assert len(images) == 5 and images.classes[0] == "black" and images.labels.shape == (5,)
    assert images.digest == "toyfaces:5 size 32"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(format="other"), "its format is"),
        (dict(count="3"), "'count' is a str"),
        (dict(count=2), "speaks of 2 images and lists 3"),
        (dict(files=[]), "lists 0"),
        (dict(files=None), "'files' is a NoneType"),
        (dict(size=None), "'size' is a NoneType"),
        (dict(classes={}), "'classes' is a dict"),
        (dict(classes=["a"]), "images without one"),
        (dict(pixels_sha256=5), "is a int"),
        (dict(resize={}), "no field 'kernel'"),
        (dict(files=[1, 2, 3]), "no whole folder"),
        (dict(size=16), "prepare it again"),
    ],
)
def test_a_manifest_that_does_not_hold_together(folder, change, words):
    path = folder / "manifest.json"
    told = {k: v for k, v in json.loads(path.read_text()).items() if k != "sha256"} | change
    path.write_text(json.dumps(told))
    with pytest.raises(DataError, match=words):
        Images(str(folder), 32)
    manifest = json.loads(path.read_text())
    for key in ("format", "count", "files", "pixels_sha256"):
        path.write_text(json.dumps({k: v for k, v in manifest.items() if k != key}))
        with pytest.raises(DataError, match=f"no field '{key}'|format"):
            Images(str(folder), 32)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 9999])
def test_files_of_another_kind(folder, content):
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(DataError, match="prepare SOURCE --out"):
        Images(str(folder), 32)


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY\x01\x00v\x00{'descr': ", b"text", b"PK\x03\x04"]
)
def test_an_array_of_another_kind(folder, content):
    (folder / "images.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"images.npy"):
        Images(str(folder), 32)


def test_an_array_of_another_type(folder):
    np.save(folder / "images.npy", np.zeros((3, 32, 32, 3), np.float32))
    with pytest.raises(DataError, match="prepare it again"):
        Images(str(folder), 32)


def test_other_labels_are_other_data_and_the_pixels_are_the_same(tmp_path):
    marks, digests = set(), set()
    make_folder(tmp_path / "f", ["1.png", "2.png"])
    for k, rows in enumerate(("1.png,a\n2.png,b\n", "1.png,b\n2.png,a\n", "1.png,a\n2.png,c\n")):
        (tmp_path / "l.csv").write_text(rows)
        prepare(tmp_path / "f", tmp_path / f"out{k}", 32, use_classes=tmp_path / "l.csv")
        images = Images(tmp_path / f"out{k}", 32)
        marks.add(images.mark)
        digests.add(images.digest)
    assert len(marks) == 3 and len(digests) == 1


def test_a_manifest_changed_by_hand_is_noticed(folder):
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"0.png"', '"x.png"'))
    with pytest.raises(DataError, match="does not have the digest it carries"):
        Images(str(folder), 32)
