"""The forms in which people find CelebA-HQ and AFHQ, and the commands of data/README.md for them.

With small drawn faces, or with the photographs of the folder MINIGEN_PHOTOS where that is set.
"""

import io
import json
import os
import re
import shlex
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from minigen.__main__ import main
from minigen.data import ToyFaces, to_uint8
from tests.conftest import peer

ROOT = Path(__file__).parent.parent
FACES, ANIMALS = ("female", "male"), ("cat", "dog", "wild")


def commands():
    text = (ROOT / "data" / "README.md").read_text(encoding="utf-8").split("## CelebA-HQ and")[1]
    return re.findall(r"^python -m minigen (prepare .+)$", text, re.M)


@pytest.fixture(scope="module")
def pictures():
    """Six pictures."""
    if folder := os.environ.get("MINIGEN_PHOTOS"):
        kinds = (".jpg", ".jpeg", ".png")
        found = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in kinds)[:6]
        return [Image.open(p).convert("RGB") for p in found]
    return [Image.fromarray(x.movedim(0, -1).numpy()) for x in to_uint8(ToyFaces(6).images())]


def file_of(picture, kind):
    out = io.BytesIO()
    picture.save(out, kind)
    return out.getvalue()


def tree(pictures, splits, classes, kind="JPEG"):
    """{path: bytes}: each split's classes, a picture each, in turn."""
    names = [f"{s}/{c}/" for s in splits for c in classes]
    ending = {"JPEG": "jpg", "PNG": "png"}[kind]
    return {f"{name}{k}.{ending}": file_of(pictures[k % len(pictures)], kind)
            for k, name in enumerate(names)}


def write(files, target):
    """A folder of files, or a zip of them in a folder of the zip's name."""
    if target.suffix == ".zip":
        with zipfile.ZipFile(target, "w") as z:
            for name, content in files.items():
                z.writestr(name, content)
        return
    for name, content in files.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(content)


def shards(pictures, target, names, classes):
    """Parquet as a hub has it: an image as bytes and its class's number a row."""
    pa, pq = peer("pyarrow"), peer("pyarrow.parquet")
    target.mkdir()
    features = {"image": {"_type": "Image"}, "label": {"names": classes, "_type": "ClassLabel"}}
    meta = {"huggingface": json.dumps({"info": {"features": features}})}
    for k, name in enumerate(names):
        rows = [pictures[k], pictures[k + 1]]
        table = pa.table({
            "image": [{"bytes": file_of(p, "PNG"), "path": None} for p in rows],
            "label": [(k + i) % len(classes) for i in range(len(rows))]})
        pq.write_table(table.replace_schema_metadata(meta), target / name)


def stylegan(pictures):
    files = {f"00000/img{k:08d}.png": file_of(p, "PNG") for k, p in enumerate(pictures)}
    return files | {"dataset.json": json.dumps({"labels": None}).encode()}


def make(name, pictures, where):
    """The form that a command's source names. Returns: images, classes, splits to expect."""
    target = where / name
    if name in ("celeba_hq", "celeba_hq.zip"):
        files = tree(pictures, ("train", "val"), FACES)
        write({f"celeba_hq/{k}": v for k, v in files.items()} if target.suffix else files, target)
        return 4, {"female": 2, "male": 2}, {"train": 2, "val": 2}
    if name in ("afhq", "afhq.zip"):
        files = tree(pictures, ("train", "val"), ANIMALS)
        write({f"afhq/{k}": v for k, v in files.items()} if target.suffix else files, target)
        return 3, dict.fromkeys(ANIMALS, 1), {"train": 3}
    if name == "celeba_hq_256":
        write({f"{k:05d}.jpg": file_of(p, "JPEG") for k, p in enumerate(pictures)}, target)
        return len(pictures), {}, {}
    if name == "celeba_hq_parquet":
        names = ("train-00000-of-00002.parquet", "train-00001-of-00002.parquet",
                 "validation-00000-of-00001.parquet")
        shards(pictures, target, names, list(FACES))
        return 6, {"female": 3, "male": 3}, {"train": 4, "validation": 2}
    if name == "afhq_parquet":
        shards(pictures, target, ("train-00000-of-00001.parquet",), list(ANIMALS))
        return 2, {"cat": 1, "dog": 1, "wild": 0}, {"train": 2}
    assert name == "celeba_hq_stylegan.zip"
    write(stylegan(pictures), target)
    return len(pictures), {}, {}


@pytest.mark.parametrize("line", commands())
def test_the_command_for_each_form_prepares_it(line, pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line)
    count, classes, splits = make(words[1], pictures, tmp_path)
    if "--classes none" in line:
        classes = {}
    words[words.index("--size") + 1] = "16"
    assert main(words) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    out = Path(words[words.index("--out") + 1])
    found = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert found["count"] == count and not found["skipped"]
    assert {k: n for k, n in found["class_counts"].items() if n} == \
        {k: n for k, n in classes.items() if n}
    assert found["splits"] == splits
    assert f"{count} images of 16×16 in {out}" in said
    assert main(["verify", str(out)]) == 0


def test_every_form_has_its_command():
    assert len(commands()) == 8
    assert len({shlex.split(line)[1] for line in commands()}) == 8
