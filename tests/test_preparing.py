import errno
import io
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from minigen.data import PreparedImages, ToyFaces, prepare, preparing, to_uint8
from minigen.errors import DataError
from tests import test_pictures as pictures
from tests.test_sources import make_folder, make_parquet, make_zip, png


def encoded(array, format="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format, **options)
    return buffer.getvalue()


def left_behind(folder):
    return sorted(p.name for p in folder.iterdir())


def test_folder_zip_and_parquet_give_the_same_pixels(tmp_path):
    names = ["a.png", "b.png", "c.png"]
    sources = [make_folder(tmp_path / "f", names), make_zip(tmp_path / "f.zip", names)]
    made = [prepare(s, tmp_path / f"out{i}", size=16) for i, s in enumerate(sources)]
    parquet = make_parquet(tmp_path / "p", [0, 0, 0])
    made.append(prepare(parquet, tmp_path / "out2", size=16, use_classes=False))
    assert len({m["pixels_sha256"] for m in made}) == 1
    assert made[0]["files"][0]["sha256"] == made[1]["files"][0]["sha256"]


def test_what_is_written(tmp_path):
    source = make_folder(tmp_path / "f", ["cat/1.png", "cat/2.png", "dog/1.png"])
    manifest = prepare(source, tmp_path / "out", size=16)
    assert left_behind(tmp_path) == ["f", "out"]
    assert left_behind(tmp_path / "out") == ["images.npy", "manifest.json"]
    assert json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8")) == manifest
    assert manifest["class_counts"] == {"cat": 2, "dog": 1} and manifest["upscaled"] == 3
    assert manifest["resize"] == {"kernel": "lanczos", "antialias": True, "crop": "centre square"}
    assert np.load(tmp_path / "out" / "images.npy").shape == (3, 16, 16, 3)
    data = PreparedImages(tmp_path / "out")
    image, label = data[2]
    assert image.shape == (3, 16, 16) and int(label) == 1 and data.classes == ["cat", "dog"]
    assert torch.allclose(image, torch.full((3, 16, 16), 2 / 127.5 - 1))
    assert data[[0, 2]][0].shape == (2, 3, 16, 16) and len(data) == 3


def test_torn_and_foreign_files_are_named_and_skipped(tmp_path):
    source = make_folder(tmp_path / "f", ["a/1.png", "a/2.png"])
    whole = encoded(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8), "JPEG")
    (source / "a" / "torn.jpg").write_bytes(whole[: len(whole) // 2])
    (source / "a" / "notes.txt").write_text("no image")
    (source / "a" / "empty.png").write_bytes(b"")
    manifest = prepare(source, tmp_path / "out", size=16)
    reasons = {s["name"]: s["reason"] for s in manifest["skipped"]}
    assert manifest["count"] == 2
    assert sorted(reasons) == ["a/empty.png", "a/notes.txt", "a/torn.jpg"]
    assert "truncated" in reasons["a/torn.jpg"] and "not an image" in reasons["a/notes.txt"]
    assert len(PreparedImages(tmp_path / "out")) == 2


def test_a_zip_torn_inside_an_entry(tmp_path):
    path = make_zip(tmp_path / "f.zip", ["a.png", "b.png"])
    data = bytearray(path.read_bytes())
    data[60] ^= 255
    path.write_bytes(data)
    assert [s["name"] for s in prepare(path, tmp_path / "out", size=16)["skipped"]] == ["a.png"]


def test_refusals_leave_nothing(tmp_path):
    good = make_folder(tmp_path / "f", ["a.png"])
    text = tmp_path / "text"
    text.mkdir()
    (text / "a.txt").write_text("x")
    half = make_folder(tmp_path / "half", ["cat/a.png"])
    (half / "dog").mkdir()
    (half / "dog" / "x.png").write_text("no image")
    before = left_behind(tmp_path)
    for words, call in {
        "at least 8 pixels; got 0": lambda: prepare(good, tmp_path / "out", size=0),
        "kernel must be one of": lambda: prepare(good, tmp_path / "out", kernel="magic"),
        "no readable image: a.txt: not an image": lambda: prepare(text, tmp_path / "out"),
        "class 'dog' .* no readable image": lambda: prepare(half, tmp_path / "out"),
        "exists already": lambda: prepare(good, text),
        "is not overwritten": lambda: prepare(good, text, overwrite=True),
    }.items():
        with pytest.raises(DataError, match=words):
            call()
        assert left_behind(tmp_path) == before


def test_overwrite_replaces_only_prepared_images(tmp_path):
    good = make_folder(tmp_path / "f", ["a.png"])
    prepare(good, tmp_path / "out", size=16)
    (good / "b.png").write_bytes(png(9))
    assert prepare(good, tmp_path / "out", size=16, overwrite=True)["count"] == 2
    assert len(PreparedImages(tmp_path / "out")) == 2 and left_behind(tmp_path) == ["f", "out"]


def test_overwrite_never_touches_the_source_or_other_files(tmp_path):
    photos = make_folder(tmp_path / "photos", ["a.png", "sub/b.png"])
    (photos / "manifest.json").write_text("{}")
    with pytest.raises(DataError, match="holds other things"):
        prepare(photos, photos, size=16, overwrite=True)
    prepare(photos, tmp_path / "out", size=16, use_classes=False)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="holds other things"):
        prepare(photos, tmp_path / "out", size=16, use_classes=False, overwrite=True)
    assert (photos / "a.png").exists() and (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_a_split_or_shard_without_one_of_the_named_classes(tmp_path):
    manifest = prepare(make_parquet(tmp_path / "p", [0, 0], ["a", "b"]), tmp_path / "out", size=16)
    assert manifest["classes"] == ["a", "b"] and manifest["class_counts"] == {"a": 2, "b": 0}


def test_an_image_without_its_suffix_beside_class_folders_is_listed(tmp_path):
    source = make_folder(tmp_path / "f", ["cat/1.png", "odd"])
    (skipped,) = prepare(source, tmp_path / "out", size=16)["skipped"]
    assert skipped == {"name": "odd", "reason": "lies beside the class folders"}


def test_disk_without_room(tmp_path, monkeypatch):
    good = make_folder(tmp_path / "f", ["a.png"])
    with monkeypatch.context() as m:
        m.setattr(shutil, "disk_usage", lambda p: shutil._ntuple_diskusage(10, 10, 0))
        with pytest.raises(DataError, match=r"need 0.2 MB and .* has 0.0 MB free"):
            prepare(good, tmp_path / "out")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(preparing.os, "fsync", full)  # the disk fills up while writing
    with pytest.raises(DataError, match="is full; nothing was kept"):
        prepare(good, tmp_path / "out")
    assert left_behind(tmp_path) == ["f"]


def test_interrupted(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(preparing, "read_picture", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepare(make_folder(tmp_path / "f", ["a.png"]), tmp_path / "out")
    assert left_behind(tmp_path) == ["f"]


def test_more_images_than_one_chunk_keep_their_order(tmp_path):
    with torch.no_grad():
        pixels = to_uint8(ToyFaces(150, size=16).images()).permute(0, 2, 3, 1).numpy()
    (tmp_path / "f").mkdir()
    for i, p in enumerate(pixels):
        (tmp_path / "f" / f"{i:03}.png").write_bytes(encoded(p))
    prepare(tmp_path / "f", tmp_path / "out", size=16)
    assert np.array_equal(np.load(tmp_path / "out" / "images.npy"), pixels)


def test_the_manifest_tells_the_size_before_and_which_images_were_enlarged(tmp_path):
    (tmp_path / "f").mkdir()
    sizes = [(40, 20), (20, 40), (15, 40), (16, 16)]
    for name, size in zip("abcd", sizes, strict=True):
        (tmp_path / "f" / f"{name}.png").write_bytes(png(0, size))
    manifest = prepare(tmp_path / "f", tmp_path / "out", 16)
    assert [(e["width"], e["height"]) for e in manifest["files"]] == sizes
    assert manifest["upscaled"] == 1


def test_chunks_are_bounded_by_bytes(monkeypatch):
    class Item:
        data = bytes(1000)

    items = [Item()] * 200
    assert [len(c) for c in preparing._chunks(items, 16)] == [64, 64, 64, 8]
    monkeypatch.setattr(preparing, "AT_ONCE", 10_000)
    assert [len(c) for c in preparing._chunks(items[:25], 16)] == [11, 11, 3]  # by the files' bytes
    assert [len(c) for c in preparing._chunks(items[:4], 64)] == [1, 1, 1, 1]  # by the pixels'


@pytest.mark.parametrize("size", [7, 8193, 16.0, "16", True, None, float("nan"), -16])
def test_sizes_that_are_none(tmp_path, size):
    with pytest.raises(DataError, match="size is a whole number up to 8,192"):
        prepare(make_folder(tmp_path / "f", ["a.png"]), tmp_path / "out", size=size)
    assert left_behind(tmp_path) == ["f"]


def test_one_odd_photograph_among_good_ones_is_read_or_named(tmp_path):
    source = make_folder(tmp_path / "f", ["a.png", "b.png"])
    odd = pictures.exif(pictures.TURNED, (0x011A, 2, 4, b"abc\0"))
    (source / "odd.jpg").write_bytes(pictures.encoded("JPEG", exif=odd))
    manifest = prepare(source, tmp_path / "out", 16)
    assert manifest["count"] == 3 and not manifest["skipped"]
    assert [(e["width"], e["height"]) for e in manifest["files"]][2] == (12, 20)


def test_whatever_a_decoder_raises_it_costs_one_image(tmp_path, monkeypatch):
    whole = preparing.read_picture

    def read_or_trip(data, size, kernel):
        if data == png(1):
            raise ValueError("damaged image (odd)")
        return whole(data, size, kernel)

    monkeypatch.setattr(preparing, "read_picture", read_or_trip)
    source = make_folder(tmp_path / "f", ["a.png", "b.png", "c.png"])
    manifest = prepare(source, tmp_path / "out", 16)
    assert [s["name"] for s in manifest["skipped"]] == ["b.png"] and manifest["count"] == 2
