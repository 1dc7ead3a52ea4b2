import io
import json
import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from minigen.data import ImageSource, prepare, sources
from minigen.errors import DataError
from tests.conftest import peer


def png(colour=0, size=(10, 8)):
    buffer = io.BytesIO()
    Image.fromarray(np.full((size[1], size[0], 3), colour, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def make_folder(root, names):
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(i))
    return root


def make_zip(path, names, **more):
    with zipfile.ZipFile(path, "w") as z:
        for i, name in enumerate(names):
            z.writestr(name, b"" if name.endswith("/") else png(i))
        for name, data in more.items():
            z.writestr(name, data)
    return path


def make_parquet(path, labels, names=None, split_name="train-00000-of-00001.parquet"):
    pa, pq = peer("pyarrow"), peer("pyarrow.parquet")
    path.mkdir()
    images = [{"bytes": png(i), "path": None} for i in range(len(labels))]
    table = pa.table({"image": images, "label": labels})
    if names:
        info = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    pq.write_table(table, path / split_name)
    return path


def summary(source):
    return [(i.name, i.label, i.split) for i in source]


LAYOUTS = {
    "flat": (["b.png", "a.png"], [("a.png", None, None), ("b.png", None, None)]),
    "classes": (["cat/1.png", "dog/1.png"],
                [("cat/1.png", "cat", None), ("dog/1.png", "dog", None)]),
    "splits": (["train/cat/1.png", "val/cat/2.png"],
               [("train/cat/1.png", "cat", "train"), ("val/cat/2.png", "cat", "val")]),
    "deeper": (["cat/x/1.png", "dog/y/z/2.png"],
               [("cat/x/1.png", "cat", None), ("dog/y/z/2.png", "dog", None)]),
    "hidden": (["a.png", ".DS_Store", "__MACOSX/a.png"], [("a.png", None, None)]),
    "one top folder": (["faces/cat/1.png", "faces/dog/2.png"],
                       [("faces/cat/1.png", "cat", None), ("faces/dog/2.png", "dog", None)]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_layouts(tmp_path, layout, kind):
    names, want = LAYOUTS[layout]
    make, name = (make_folder, "f") if kind == "folder" else (make_zip, "f.zip")
    path = make(tmp_path / name, names)
    source = ImageSource(path)
    assert summary(source) == want
    assert len(source) == len(want)
    assert all(item.data.startswith(b"\x89PNG") for item in source)


def test_split_and_no_classes(tmp_path):
    path = make_folder(tmp_path / "f", LAYOUTS["splits"][0])
    assert summary(ImageSource(path, split="val")) == [("val/cat/2.png", "cat", "val")]
    assert ImageSource(path, use_classes=False).classes == []
    with pytest.raises(DataError, match="no split 'test'; it has train, val"):
        ImageSource(path, split="test")


def test_parquet_with_named_classes(tmp_path):
    source = ImageSource(make_parquet(tmp_path / "p", [1, 0, 1], ["female", "male"]))
    assert [i.label for i in source] == ["male", "female", "male"]
    assert source.classes == ["female", "male"] and source.splits == ["train"] and len(source) == 3
    assert all(item.data.startswith(b"\x89PNG") for item in source)


def test_parquet_with_plain_labels(tmp_path):
    assert ImageSource(make_parquet(tmp_path / "p", ["x", "y"])).classes == ["x", "y"]


def test_refused(tmp_path):
    cases = {
        "There is no file or folder": tmp_path / "nowhere",
        "holds no files": tmp_path / "empty",
        "neither a folder, nor a whole zip": tmp_path / "text.zip",
        "leaves the archive": make_zip(tmp_path / "slip.zip", ["a.png", "../evil.png"]),
        "others beside them": make_folder(tmp_path / "mixed", ["a.png", "cat/b.png"]),
        "class folder 'dog'": make_folder(tmp_path / "gap", ["cat/b.png"]),
        "is not a whole parquet file": tmp_path / "torn.parquet",
    }
    (tmp_path / "empty").mkdir()
    (tmp_path / "gap" / "dog").mkdir()
    (tmp_path / "text.zip").write_text("no zip")
    (tmp_path / "torn.parquet").write_text("no parquet")
    peer("pyarrow")
    for words, path in cases.items():
        with pytest.raises(DataError, match=words):
            ImageSource(path)


def test_split_folders_in_any_case_and_beside_others(tmp_path):
    path = make_folder(tmp_path / "f", ["Train/cat/1.png", "Test/dog/1.png"])
    assert sorted(i.split for i in ImageSource(path)) == ["test", "train"]
    assert ImageSource(path).classes == ["cat", "dog"]
    with pytest.raises(DataError, match="split folder 'test' beside the folder 'extra'"):
        names = ["train/cat/1.png", "test/cat/2.png", "extra/3.png"]
        ImageSource(make_folder(tmp_path / "g", names))


def test_a_zip_with_backslashes_keeps_its_classes(tmp_path):
    path = make_zip(tmp_path / "f.zip", ["cat!1.png", "dog!1.png"])
    path.write_bytes(path.read_bytes().replace(b"cat!1", b"cat\\1").replace(b"dog!1", b"dog\\1"))
    source = ImageSource(path)
    assert source.classes == ["cat", "dog"] and all(i.data for i in source)


def test_a_zip_packed_in_an_unknown_way_gives_empty_bytes(tmp_path):
    path = make_zip(tmp_path / "f.zip", ["a.png"])
    data = bytearray(path.read_bytes())
    central = data.index(b"PK\x01\x02")
    data[8:10] = data[central + 10 : central + 12] = (9).to_bytes(2, "little")
    path.write_bytes(data)
    assert [i.data for i in ImageSource(path)] == [b""]


def test_what_lies_beside_class_folders_and_is_no_image_does_not_matter(tmp_path):
    path = make_folder(tmp_path / "f", ["cat/1.png", "dog/1.png"])
    (path / "Thumbs.db").write_bytes(b"x")
    assert ImageSource(path).classes == ["cat", "dog"]


def test_folder_and_zip_have_one_order(tmp_path):
    names = ["cat/1.png", "cat-big/1.png", "B/1.png"]
    folder, archive = make_folder(tmp_path / "f", names), make_zip(tmp_path / "f.zip", names)
    assert summary(ImageSource(folder)) == summary(ImageSource(archive))


def test_parquet_of_numbers_keeps_their_order_and_nested_splits(tmp_path):
    assert ImageSource(make_parquet(tmp_path / "p", [2, 10, 0])).classes == ["0", "2", "10"]
    (tmp_path / "hub" / "test").mkdir(parents=True)
    shard = make_parquet(tmp_path / "q", [0], split_name="0.parquet") / "0.parquet"
    shard.rename(tmp_path / "hub" / "test" / "0.parquet")
    assert ImageSource(tmp_path / "hub").splits == ["test"]


def test_parquet_beside_images_or_with_other_columns_is_refused(tmp_path):
    path = make_parquet(tmp_path / "p", [0])
    (path / "a.png").write_bytes(png())
    with pytest.raises(DataError, match="parquet files and loose images"):
        ImageSource(path)
    (path / "a.png").unlink()
    pa, pq = peer("pyarrow"), peer("pyarrow.parquet")
    pq.write_table(pa.table({"image": [b"x"]}), path / "zzz.parquet")
    with pytest.raises(DataError, match="different columns"):
        ImageSource(path)


def test_links_are_followed_once_and_told(tmp_path):
    real = make_folder(tmp_path / "real", ["cat/1.png", "dog/1.png"])
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in ("cat", "dog"):
        os.symlink(real / name, linked / name)
    os.symlink(linked, linked / "loop")
    os.symlink(linked / "self", linked / "self")
    os.symlink("nowhere", linked / "cat2")
    os.symlink(real / "cat", linked / "zcat")
    source = ImageSource(linked)
    assert source.classes == ["cat", "dog"]
    assert [i.label for i in source if not i.problem] == ["cat", "dog"]
    problems = {i.name: i.problem for i in source if i.problem}
    assert problems == {
        "loop": "a link to a folder that is read already",
        "self": "a link that leads nowhere",
        "cat2": "a link that leads nowhere",
        "zcat": "a link to a folder that is read already",
    }
    os.symlink(real / "cat" / "1.png", linked / "dog" / "2.png")
    assert len([i for i in ImageSource(linked) if not i.problem]) == 3


def test_many_links_to_each_other_end(tmp_path):
    for k in range(12):
        (tmp_path / f"d{k:02}").mkdir()
        (tmp_path / f"d{k:02}" / "1.png").write_bytes(png(k))
        for j in range(12):
            os.symlink(tmp_path / f"d{j:02}", tmp_path / f"d{k:02}" / f"to{j:02}")
    assert len([i for i in ImageSource(tmp_path) if not i.problem]) == 12


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_what_is_no_ordinary_file_is_told_and_not_opened(tmp_path):
    path = make_folder(tmp_path / "f", ["a.png"])
    os.mkfifo(path / "pipe.png")
    problems = {i.name: i.problem for i in ImageSource(path)}
    assert problems == {"a.png": None, "pipe.png": "not an ordinary file"}
    with pytest.raises(DataError, match="neither a folder nor an ordinary file"):
        ImageSource(path / "pipe.png")


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    path = make_folder(tmp_path / "f", ["cat/1.png", "dog/1.png"])
    look = os.scandir

    def scandir(folder):
        if str(folder).endswith("dog"):
            raise PermissionError(13, "Permission denied", str(folder))
        return look(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    words = r"The folder '.*dog' cannot be read .Permission denied.: allow it"
    with pytest.raises(DataError, match=words):
        ImageSource(path)


def test_a_file_that_vanishes_or_is_too_large_is_told(tmp_path):
    path = make_folder(tmp_path / "f", ["a.png", "b.png"])
    with open(path / "film.mp4", "wb") as f:
        f.truncate(sources.LARGEST + 1)
    source = ImageSource(path)
    (path / "a.png").unlink()
    got = {i.name: i.problem for i in source}
    assert "No such file" in got["a.png"] and got["b.png"] is None
    assert "268 MB in one file" in got["film.mp4"]


@pytest.mark.parametrize("packing", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_bomb_in_a_zip_is_not_unpacked(tmp_path, monkeypatch, packing):
    monkeypatch.setattr(sources, "LARGEST", 10**6)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", packing) as z:
        z.writestr("bomb.png", bytes(3 * 10**6))
        z.writestr("good.png", png())
    got = {i.name: i.problem for i in ImageSource(tmp_path / "a.zip")}
    assert "3 MB in one file" in got["bomb.png"] and got["good.png"] is None


def test_a_zip_that_lies_about_a_size_is_still_bounded(tmp_path, monkeypatch):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("bomb.png", bytes(3 * 10**6))
    true, claimed = (size.to_bytes(4, "little") for size in (3 * 10**6, 10**5))
    path.write_bytes(path.read_bytes().replace(true, claimed))
    monkeypatch.setattr(sources, "LARGEST", 10**6)
    (item,) = ImageSource(path)
    assert item.data == b"" and "no readable bytes" in item.problem


PACKINGS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


@pytest.mark.parametrize("packing", PACKINGS)
def test_damage_inside_an_entry_is_that_entrys(tmp_path, packing):
    path = tmp_path / "a.zip"
    noise = np.random.default_rng(0).integers(0, 255, 5000, dtype=np.uint8).tobytes()
    with zipfile.ZipFile(path, "w", packing) as z:
        z.writestr("a.png", noise)
        z.writestr("b.png", png())
    content = bytearray(path.read_bytes())
    content[1000:1100] = bytes(100)
    path.write_bytes(content)
    got = {i.name: i.problem for i in ImageSource(path)}
    assert got["a.png"].startswith("no readable bytes (") and got["b.png"] is None


def test_a_name_that_a_zip_holds_twice_is_told(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate"):
        path = make_zip(tmp_path / "a.zip", ["a.png", "b.png", "a.png"])
    got = [(i.name, i.problem) for i in ImageSource(path)]
    twice = "the zip holds this name twice; the last one is used"
    assert got == [("a.png", None), ("b.png", None), ("a.png", twice)]


def test_a_zip_of_a_version_to_come(tmp_path):
    path = make_zip(tmp_path / "a.zip", ["a.png"])
    content = bytearray(path.read_bytes())
    central = content.index(b"PK\x01\x02")
    content[central + 6 : central + 8] = (99).to_bytes(2, "little")
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"not a whole zip file .zip file version 9.9"):
        ImageSource(path)


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_stylegan_set_has_the_labels_of_its_table(tmp_path, kind):
    names = ["00000/img0.png", "00000/img1.png", "00001/img2.png"]
    table = json.dumps({"labels": [[names[0], 6], [names[1], 10], [names[2], 6]]})
    if kind == "folder":
        path = make_folder(tmp_path / "f", names)
        (path / "dataset.json").write_text(table)
    else:
        path = make_zip(tmp_path / "f.zip", names, **{"dataset.json": table})
    source = ImageSource(path)
    assert [i.label for i in source] == ["6", "10", "6"] and source.classes == ["6", "10"]
    assert "dataset.json" in source.notes[0]
    assert ImageSource(path, use_classes=False).classes == []


@pytest.mark.parametrize(("table", "words"), [
    ('{"labels": null}', "no labels"), ("{torn", "no list of labels"), ("[]", "no list of labels")])
def test_a_table_without_labels_leaves_pieces_without_classes(tmp_path, table, words):
    path = make_folder(tmp_path / "f", ["00000/a.png", "00001/b.png"])
    (path / "dataset.json").write_text(table)
    source = ImageSource(path)
    assert source.classes == [] and words in source.notes[0]
    assert "pieces of one set" in source.notes[1]


def test_prepared_folders_inside_a_source_are_left_out(tmp_path):
    path = make_folder(tmp_path / "f", ["a.png", "b.png"])
    for k in range(3):
        assert prepare(path, path / f"out{k}", 16)["count"] == 2


def test_each_table_of_labels_speaks_of_what_lies_below_it(tmp_path):
    for split, labels in (("train", [0, 1]), ("val", [1, 0])):
        make_folder(tmp_path / "f", [f"{split}/00000/0.png", f"{split}/00000/1.png"])
        table = {"labels": [[f"00000/{k}.png", label] for k, label in enumerate(labels)]}
        (tmp_path / "f" / split / "dataset.json").write_text(json.dumps(table))
    got = [(i.split, i.label) for i in ImageSource(tmp_path / "f")]
    assert got == [("train", "0"), ("train", "1"), ("val", "1"), ("val", "0")]


def test_a_colon_in_a_name_is_no_drive_and_one_encrypted_entry_is_its_own(tmp_path):
    path = make_zip(tmp_path / "a.zip", ["2020-01-01 12:30.png", "b.png"])
    assert [i.problem for i in ImageSource(path)] == [None, None]
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    assert ["encrypted" in (i.problem or "") for i in ImageSource(path)] == [True, False]
    with pytest.raises(DataError, match="leaves the archive"):
        ImageSource(make_zip(tmp_path / "b.zip", ["C:/evil.png"]))
