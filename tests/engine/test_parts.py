import io
import json
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from minigen.engine import parts
from minigen.errors import DataError
from minigen.files import save_tensors

IMAGES = torch.arange(20)[:, None, None, None].expand(-1, 3, 4, 4).to(torch.uint8)


def fill(folder, n, size=4, made=None, **key):
    def make(first, last):
        if made is not None:
            made.append((first, last))
        return {"images": IMAGES[first:last]}

    return parts.parts(folder, n, size, dict(seed=0) | key, make, progress=False)


def values(folder):
    return [int(x[0, 0, 0]) for x in parts.drawn(folder)]


def test_a_folder_knows_how_many_are_its_own(tmp_path):
    made = []
    fill(tmp_path, 20, made=made)
    assert values(tmp_path) == list(range(20))
    fill(tmp_path, 5, made=made)  # fewer: nothing is made again, and five are drawn
    assert values(tmp_path) == list(range(5)) and len(made) == 5
    fill(tmp_path, 18, made=made)
    assert values(tmp_path) == list(range(18)) and len(made) == 5


def test_a_folder_with_other_files_is_refused_and_left_as_it_was(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "part-00000.safetensors").write_text("mine")
    with pytest.raises(DataError, match=r"holds other files .such as 'part-00000.safetensors'"):
        fill(tmp_path / "own", 5)
    assert [p.name for p in (tmp_path / "own").iterdir()] == ["part-00000.safetensors"]
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="is a file"):
        fill(tmp_path / "file", 5)


def test_a_refused_run_leaves_no_folder(tmp_path):
    with pytest.raises(ZeroDivisionError):
        parts.parts(tmp_path / "new", 5, 4, {}, lambda a, b: 1 / 0, progress=False)
    assert not (tmp_path / "new").exists()
    with pytest.raises(DataError, match="made with seed=0, not 1"):
        fill(tmp_path / "a", 5) and fill(tmp_path / "a", 5, seed=1)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"count": "x", "part": 4}', '{"part": 4}', "null", "[" * 9999]
)
def test_a_damaged_table_is_named(tmp_path, content):
    fill(tmp_path, 5)
    (tmp_path / "parts.json").write_text(content)
    for use in (lambda: fill(tmp_path, 5), lambda: values(tmp_path)):
        with pytest.raises(DataError, match=r"parts.json' cannot be read"):
            use()


def test_a_part_with_changed_values_is_made_again_and_never_read(tmp_path):
    paths = fill(tmp_path, 10)
    content = bytearray(paths[1].read_bytes())
    content[-1] ^= 1
    paths[1].write_bytes(content)
    with pytest.raises(DataError, match=r"part-00001.safetensors' was changed or is damaged"):
        values(tmp_path)
    made = []
    fill(tmp_path, 10, made=made)
    assert made == [(4, 8)] and values(tmp_path) == list(range(10))
    paths[2].unlink()
    with pytest.raises(DataError, match="There is no part"):
        values(tmp_path)


def test_a_part_without_a_digest_is_made_again(tmp_path):
    paths = fill(tmp_path, 4)
    save_tensors(paths[0], {"images": IMAGES[:4]})
    made = []
    fill(tmp_path, 4, made=made)
    assert made == [(0, 4)]


def test_two_processes_do_not_write_to_one_folder(tmp_path, request):
    fill(tmp_path, 5)
    request.getfixturevalue("held_by_another")(tmp_path / parts.LOCK)
    with pytest.raises(DataError, match="Another process is writing to"):
        fill(tmp_path, 10)


def test_png_and_zip_are_both_written_and_only_our_own_are_replaced(tmp_path):
    fill(tmp_path, 12)
    parts.export(tmp_path, 12, png=True, as_zip=True)
    with zipfile.ZipFile(tmp_path / "images.zip") as archive:
        assert archive.namelist() == [f"{k:06d}.png" for k in range(12)]
        for k, file in ((3, tmp_path / "000003.png"), (11, io.BytesIO(archive.read("000011.png")))):
            assert (np.array(Image.open(file)) == k).all()
    fill(tmp_path, 5)
    (tmp_path / "000009.png").write_bytes(b"mine")
    parts.export(tmp_path, 5, png=True)  # pictures of the longer run go, what is not ours stays
    assert sorted(p.name for p in tmp_path.glob("*.png")) == [f"{k:06d}.png" for k in range(5)] + [
        "000009.png"
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [("000003.png", b"mine"), ("images.zip", b"mine"), ("000003.png", None), ("images.zip", None)],
)
def test_a_picture_or_zip_of_somebody_elses_stops_the_export(tmp_path, name, content):
    fill(tmp_path, 5)
    if content is None and name.endswith("png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    elif content is None:
        zipfile.ZipFile(tmp_path / name, "w").close()
    else:
        (tmp_path / name).write_bytes(content)
    before = (tmp_path / name).read_bytes()
    with pytest.raises(DataError, match=f"{name}' was not written by minigen"):
        parts.check_export(tmp_path, 5, png=True, as_zip=True)
    with pytest.raises(DataError):
        parts.export(tmp_path, 5, png=True, as_zip=True)
    assert (tmp_path / name).read_bytes() == before


def test_removing_takes_only_what_was_written(tmp_path):
    paths = fill(tmp_path / "a", 5)
    parts.remove(tmp_path / "a", paths)
    assert not (tmp_path / "a").exists()
    paths = fill(tmp_path / "b", 5)
    (tmp_path / "b" / "thesis.txt").write_text("mine")
    parts.remove(tmp_path / "b", paths)
    assert [p.name for p in (tmp_path / "b").iterdir()] == ["thesis.txt"]


def test_the_table_tells_what_the_parts_depend_on(tmp_path):
    fill(tmp_path, 5)
    assert json.loads((tmp_path / "parts.json").read_text()) == dict(seed=0, part=4, count=5)


def test_a_part_of_another_run_or_place_is_not_taken_for_ours(tmp_path):
    ours, theirs = fill(tmp_path / "a", 10), fill(tmp_path / "b", 10, seed=1)
    for wrong in (theirs[0], ours[1]):
        ours[0].write_bytes(wrong.read_bytes())
        with pytest.raises(DataError, match="is not part 0 of this run"):
            values(tmp_path / "a")
        made = []
        fill(tmp_path / "a", 10, made=made)
        assert made == [(0, 4)] and values(tmp_path / "a") == list(range(10))


def test_a_part_that_holds_no_images_is_named(tmp_path):
    parts.parts(tmp_path, 4, 4, {}, lambda a, b: {"z": torch.zeros(4, 2)}, progress=False)
    with pytest.raises(DataError, match=r"part-00000.safetensors' holds no images"):
        values(tmp_path)


def test_a_zip_to_which_somebody_added_a_file_stays(tmp_path):
    fill(tmp_path, 4)
    parts.export(tmp_path, 4, as_zip=True)
    with zipfile.ZipFile(tmp_path / "images.zip", "a") as archive:
        archive.writestr("mine.txt", "x")
    with pytest.raises(DataError, match=r"images.zip' was not written by minigen"):
        parts.export(tmp_path, 4, as_zip=True)


def test_what_a_killed_run_had_begun_to_write_does_not_stand_in_the_way(tmp_path):
    (tmp_path / ".parts.json.minigen-abcd1234").write_text("half")
    fill(tmp_path, 4)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["part-00000.safetensors", "parts.json"]


def numbers(first, last):
    return {"images": torch.arange(first, last)[:, None]}


def test_parts_are_made_once_and_a_torn_one_again(tmp_path):
    made = []

    def make(first, last):
        made.append((first, last))
        return numbers(first, last)

    paths = parts.parts(tmp_path, 10, 4, dict(seed=0), make, progress=False)
    assert made == [(0, 4), (4, 8), (8, 10)]
    paths[1].write_bytes(paths[1].read_bytes()[:20])
    paths[2].unlink()
    # a run that was killed while writing
    (tmp_path / ".part-00002.safetensors.minigen-x1y2z3_4").write_bytes(b"half")
    parts.parts(tmp_path, 10, 4, dict(seed=0), make, progress=False)
    assert made[3:] == [(4, 8), (8, 10)] and not list(tmp_path.glob(".*"))
    assert torch.cat([load_file(p)["images"] for p in paths]).flatten().tolist() == list(range(10))
    # more: only what is new, and the short last one
    parts.parts(tmp_path, 14, 4, dict(seed=0), make, progress=False)
    assert made[5:] == [(8, 12), (12, 14)]
    with pytest.raises(DataError, match="made with seed=0, not 1"):
        parts.parts(tmp_path, 10, 4, dict(seed=1), make, progress=False)
