from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch

from minigen.data import PreparedImages, from_uint8, prepare, to_uint8
from minigen.errors import DataError
from tests.test_sources import make_folder


def test_bytes_and_floats_round_trip_without_bias():
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(from_uint8(every)), every)
    x = torch.rand(100_000) * 2 - 1
    assert abs((from_uint8(to_uint8(x)) - x).mean()) < 1e-4  # truncation would give -0.004


def test_workers_of_a_loader_open_the_map_themselves(tmp_path):
    prepare(make_folder(tmp_path / "f", ["a.png"]), tmp_path / "out", size=64)
    sent = ForkingPickler.dumps(PreparedImages(tmp_path / "out"))
    assert len(sent) < 1000


def test_prepared_images_that_do_not_belong_together(tmp_path):
    with pytest.raises(DataError, match="python -m minigen prepare"):
        PreparedImages(tmp_path)
    prepare(make_folder(tmp_path / "f", ["a.png"]), tmp_path / "out", size=16)
    np.save(tmp_path / "out" / "images.npy", np.zeros((2, 16, 16, 3), np.uint8))
    with pytest.raises(DataError, match="prepare it again"):
        PreparedImages(tmp_path / "out")


def test_what_is_no_prepared_folder_is_told_without_a_number(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "manifest.json").write_text("{}")
    for name, words in (
        ("nothere", "There is no folder '.*nothere': python -m minigen prepare SOURCE --out"),
        ("", r"is no folder of `prepare` \(it lacks manifest.json\)"),
        ("file", "file' is a file, no folder of `prepare`"),
        ("half", r"is no folder of `prepare` \(it lacks images.npy\)"),
        ("x" * 300, "There is no folder"),
    ):
        with pytest.raises(DataError, match=words) as told:
            PreparedImages(tmp_path / name)
        assert "Errno" not in str(told.value)


def test_the_folder_one_stands_in_is_not_offered_as_a_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="prepare SOURCE --out data/NAME makes one"):
        PreparedImages(".")
