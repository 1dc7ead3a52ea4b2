import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from minigen import fftd, files, gan
from minigen.errors import DataError
from minigen.packing import kept


def test_weights_round_trip_with_config_and_card(tmp_path):
    model = gan.Generator(latent_dim=5, width=8, size=16)
    files.save_weights(tmp_path / "g.safetensors", model, steps=3, note="a test")
    back = files.load_weights(gan.Generator, tmp_path / "g.safetensors")
    assert back.config == model.config and back.card == {"steps": 3, "note": "a test"}
    assert not back.training
    assert all(torch.equal(v, back.state_dict()[k]) for k, v in model.state_dict().items())
    assert os.listdir(tmp_path) == ["g.safetensors"]
    (tmp_path / "plain").touch()
    # others may read it
    assert (tmp_path / "g.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def sizes_of(folder):
    return {p.stem: p.stat().st_size for p in folder.glob("*.safetensors")}


@pytest.mark.parametrize(("bits", "share", "off"), [(16, 0.6, 1e-3), (8, 0.35, 0.5 / 127 + 1e-4)])
def test_fewer_bits_are_a_smaller_file_and_almost_the_same_numbers(tmp_path, bits, share, off):
    model = gan.Generator(width=32)
    files.save_weights(tmp_path / "whole.safetensors", model, note="a test")
    files.save_weights(tmp_path / "small.safetensors", model, bits=bits, note="a test")
    sizes = sizes_of(tmp_path)
    assert sizes["small"] < share * sizes["whole"]
    read = files.load_weights(gan.Generator, tmp_path / "small.safetensors")
    assert read.config == model.config and read.card == {"note": "a test"}
    back = read.state_dict()
    for name, v in model.state_dict().items():
        assert back[name].dtype == v.dtype
        largest = v.abs().flatten(1).amax(1) if v.ndim > 1 else v.abs()
        there = (back[name] - v).abs()
        assert (there <= off * largest.reshape(-1, *[1] * (v.ndim - 1)) + 1e-6).all(), name
    files.save_weights(tmp_path / "again.safetensors", read, bits=bits, note="a test")
    again = files.load_weights(gan.Generator, tmp_path / "again.safetensors").state_dict()
    assert all(torch.equal(v, again[name]) for name, v in back.items())


def test_other_bits_are_refused_before_anything_is_written(tmp_path):
    for bits in (4, 12, True, "16"):
        with pytest.raises(ValueError, match="bits must be 32, 16 or 8; got"):
            files.save_weights(tmp_path / "g.safetensors", gan.Generator(width=8), bits=bits)
    assert not any(tmp_path.iterdir())


def test_what_is_refused(tmp_path):
    files.save_weights(tmp_path / "g.safetensors", gan.Generator(width=8))
    whole = (tmp_path / "g.safetensors").read_bytes()
    (tmp_path / "torn.safetensors").write_bytes(whole[: len(whole) // 2])
    torch.save({"x": torch.zeros(1)}, tmp_path / "pickle.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    refused = {
        "none": "no weight file none.safetensors",
        "torn": "not a whole safetensors",
        "pickle": "not a whole safetensors",
        "foreign": "holds no class of this course",
    }
    for name, words in refused.items():
        with pytest.raises(DataError, match=words):
            files.load_weights(gan.Generator, tmp_path / f"{name}.safetensors")
    with pytest.raises(DataError, match="holds Generator, not Discriminator"):
        files.load_weights(gan.Discriminator, tmp_path / "g.safetensors")


def test_replacing_keeps_the_old_file_when_the_block_fails(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), files.replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["x.txt"]


def test_data_path_names_what_is_missing():
    assert files.data_path("digits.npz").is_file()
    with pytest.raises(DataError, match="make pretrained"):
        files.data_path("pretrained", "nothing.safetensors")


def test_equal_values_are_equal_bytes(tmp_path):
    model = gan.Generator(width=8)
    for bits in (32, 8):
        for k in range(20):  # the library writes its header in a random order
            files.save_weights(tmp_path / f"{k}.safetensors", model, bits, a=1, b="two", c=[3])
        assert len({(tmp_path / f"{k}.safetensors").read_bytes() for k in range(20)}) == 1


@pytest.mark.parametrize("bits", [32, 16, 8])
def test_weights_that_hold_nan_are_neither_written_nor_read(tmp_path, bits):
    model = gan.Generator(width=8)
    for kind in ("weight", "bias"):
        for value in (float("nan"), float("inf")):
            with torch.no_grad():
                getattr(model.rest[-2], kind)[1] = value
            words = rf"hold NaN or infinity .in rest.*{kind}.*nothing was written"
            with pytest.raises(DataError, match=words):
                files.save_weights(tmp_path / "g.safetensors", model, bits=bits)
        with torch.no_grad():
            getattr(model.rest[-2], kind)[1] = 0
    assert not any(tmp_path.iterdir())
    with torch.no_grad():
        model.rest[-2].weight[1] = float("nan")
    files.save_tensors(tmp_path / "g.safetensors", kept(model.state_dict(), bits), **{
        "class": "Generator", "config": json.dumps(model.config), "card": "{}"})
    with pytest.raises(DataError, match=r"g.safetensors hold NaN or infinity"):
        files.load_weights(gan.Generator, tmp_path / "g.safetensors")


@pytest.mark.parametrize("content", [
    b"",
    b"x",
    b"\xff" * 8,
    (10**15).to_bytes(8, "little") + b"{}",
    (2).to_bytes(8, "little") + b"[]",
    (2).to_bytes(8, "little") + b"{}",
    (4).to_bytes(8, "little") + b"null",
])
def test_bytes_that_are_no_safetensors(tmp_path, content):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(DataError, match=r"x.safetensors"):
        files.load_weights(gan.Generator, tmp_path / "x.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(DataError, match=r"folder.safetensors"):
        files.load_weights(gan.Generator, tmp_path / "folder.safetensors")


def test_an_error_while_writing_names_the_file_and_leaves_the_old_one(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="full") as caught, files.replacing(path):
        raise OSError(errno.ENOSPC, "full")
    assert caught.value.filename == str(path) and path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.txt"]
    with pytest.raises(OSError, match=r"x.txt") as caught, files.replacing(path / "below.txt"):
        pass
    assert caught.value.filename == str(path / "below.txt")


def test_what_a_killed_writer_left_is_cleared_by_the_next(tmp_path):
    path = tmp_path / "x.txt"
    code = ("import os, sys; from minigen.files import replacing\n"
            "with replacing(sys.argv[1]) as t: t.write_text('half'); os.kill(os.getpid(), 9)")
    subprocess.run([sys.executable, "-c", code, str(path)])
    assert len(os.listdir(tmp_path)) == 1 and not path.exists()
    files.write_text(path, "whole")
    assert os.listdir(tmp_path) == ["x.txt"] and path.read_text() == "whole"


def test_a_name_of_255_characters_can_be_written(tmp_path):
    files.write_text(tmp_path / ("x" * 255), "whole")
    assert os.listdir(tmp_path) == ["x" * 255]


def test_reading_weights_leaves_the_random_numbers_as_they_were(tmp_path):
    """A table's cell that was measured first in a process, or after others, is the same cell."""
    files.save_weights(tmp_path / "g.safetensors", gan.Generator(width=8), bits=8)
    before = torch.get_rng_state()
    files.load_weights(gan.Generator, tmp_path / "g.safetensors")
    assert torch.equal(torch.get_rng_state(), before)


def test_the_header_of_a_file_ends_at_a_multiple_of_eight(tmp_path):
    """So says the format: the numbers behind it can then be used where they lie."""
    for k in range(9):
        files.save_tensors(tmp_path / "x.safetensors", {"w": torch.arange(3.0)}, note="x" * k)
        content = (tmp_path / "x.safetensors").read_bytes()
        assert int.from_bytes(content[:8], "little") % 8 == 0
        assert content[-12:] == torch.arange(3.0).numpy().tobytes()
        tensors, meta = files.read_tensors(tmp_path / "x.safetensors")
        assert torch.equal(tensors["w"], torch.arange(3.0)) and meta == dict(note="x" * k)


def test_text_has_the_same_bytes_on_every_system(tmp_path):
    files.write_text(tmp_path / "x.txt", "a\nᾱ\n")
    assert (tmp_path / "x.txt").read_bytes() == "a\nᾱ\n".encode()


def test_every_value_and_word_of_a_file_is_under_its_digest(tmp_path):
    path = tmp_path / "x.safetensors"
    tensors = {"a": torch.arange(5.0), "b": torch.tensor(3), "c": torch.zeros(0, 2)}
    files.save_tensors(path, tensors, note="one")
    whole = path.read_bytes()
    for at in (len(whole) - 1, len(whole) - 9, whole.index(b"one"), whole.index(b'"F32"') + 1):
        content = bytearray(whole)
        content[at] ^= 1
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"x.safetensors' (was changed|is not a whole)"):
            files.read_tensors(path)


def test_a_config_changed_afterwards_is_noticed(tmp_path):
    path = tmp_path / "f.safetensors"
    files.save_weights(path, fftd.FFTD(dim=16, heads=4))
    path.write_bytes(path.read_bytes().replace(b'\\"heads\\": 4', b'\\"heads\\": 2'))
    with pytest.raises(DataError, match="was changed or is damaged"):
        files.load_weights(fftd.FFTD, path)


def test_a_link_is_followed_and_stays(tmp_path):
    os.symlink(tmp_path / "target.txt", tmp_path / "link.txt")
    for text in ("new", "newer"):  # the target need not be there yet
        files.write_text(tmp_path / "link.txt", text)
        assert (tmp_path / "link.txt").is_symlink()
        assert (tmp_path / "target.txt").read_text() == text


def test_backups_that_people_keep_beside_a_file_stay(tmp_path):
    names = [".x.txt.20251126", ".x.txt.original", ".x.txt.previous", ".x.txt.bak12345"]
    for name in names:
        (tmp_path / name).write_text("mine")
    files.write_text(tmp_path / "x.txt", "new")
    assert sorted(os.listdir(tmp_path)) == sorted([*names, "x.txt"])


def test_folders_above_a_file_are_made(tmp_path):
    files.write_text(tmp_path / "a" / "b" / "x.txt", "new")
    assert (tmp_path / "a" / "b" / "x.txt").read_text() == "new"


def test_what_comes_with_the_course_has_names():
    names = files.shipped()
    assert {"fftd", "ivqvae", "gan", "unet"} <= set(names) and "toy_reference" not in names
    by_name = files.load_weights(gan.Generator, "gan")
    assert by_name.card == files.load_weights(gan.Generator, files.weights_file("gan")).card


def test_the_weights_that_a_person_means(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    course = files.data_path("pretrained", "fftd.safetensors")
    (tmp_path / "fftd").mkdir()  # a folder is no weights
    for name in ("fftd", Path("fftd")):
        assert files.weights_file(name) == course
    (tmp_path / "fftd").rmdir()
    (tmp_path / "fftd").write_text("mine")
    assert files.weights_file("fftd") == Path("fftd")
    # files, there or not: what reads them tells
    for path in ("runs/fftd", "x.safetensors", f"here{os.sep}x"):
        assert files.weights_file(path) == Path(path)


def load(name):
    return files.load_weights(gan.Generator, name)


@pytest.mark.parametrize("find", [files.weights_file, load])
def test_bare_names_of_no_weights_are_told_with_the_near_one(find, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = r"no weights 'gna', .* did you mean 'gan'\? Of the course's weights .*cgan"
    with pytest.raises(DataError, match=words):
        find("gna")
    words = "no weights 'toy_reference', neither a file nor a model of the course. Of the course's"
    with pytest.raises(DataError, match=words):
        find("toy_reference")


def test_which_of_the_courses_weights_fit_is_told(tmp_path):
    for find in (lambda: files.weights_file("gann", "FFTD"), lambda: load("fftd")):
        with pytest.raises(DataError) as told:
            find()
        one = "gann" in str(told.value)
        fit = "fftd, fftd_eps, flow and flow_straight fit" if one else "cgan and gan fit"
        assert str(told.value).endswith(f" Of the course's weights {fit}.")
        assert "did you mean" not in str(told.value)          # gan is near, and of no use there
    with pytest.raises(DataError, match="Of the course's weights none fits"):
        files.load_weights(gan.Discriminator, "gan")
