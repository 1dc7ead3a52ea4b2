import shutil

import pytest
import torch
from torch import nn

from minigen import room
from minigen.errors import DataError


def test_what_a_layer_keeps_is_its_input_and_what_its_gradient_needs():
    net = nn.Sequential(nn.Linear(4, 8), nn.Sigmoid(), nn.Linear(8, 2))
    assert room.kept_for_backward(net, torch.zeros(3, 4)) == 4 * (
        3 * 4 + 3 * 8
    )  # the sigmoid's output serves both
    assert room.kept_for_backward(net, torch.zeros(6, 4)) == 2 * 4 * (3 * 4 + 3 * 8)


def test_a_batch_beyond_the_memory_is_refused_with_both_numbers(monkeypatch):
    monkeypatch.setattr(room, "memory", lambda device=None: 8 * 2**30)
    room.require_memory(8, 2**30)
    with pytest.raises(
        DataError,
        match="at least 9 GB, and there are 8 GB of memory: choose a smaller --batch-size",
    ):
        room.require_memory(9, 2**30)
    monkeypatch.setattr(room, "memory", lambda device=None: None)
    room.require_memory(10**9, 2**30)  # unknown: not refused


def test_a_disk_without_room_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda p: shutil._ntuple_diskusage(10, 10, 1_000_000))
    room.require_disk(tmp_path / "not" / "there", 1_000_000, "Two")
    with pytest.raises(DataError, match=r"Two need 1.1 MB, and the disk of .* has 1.0 MB free"):
        room.require_disk(tmp_path / "not" / "there", 1_100_000, "Two")
    assert not (tmp_path / "not").exists()


def test_this_computer_has_memory():
    assert room.memory() is None or room.memory() > 2**28
