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


def test_half_the_size_and_almost_the_same_numbers(tmp_path):
    model = gan.Generator(width=8)
    files.save_weights(tmp_path / "whole.safetensors", model)
    files.save_weights(tmp_path / "half.safetensors", model, bits=16)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.6 * sizes[1]
    back = files.load_weights(gan.Generator, tmp_path / "half.safetensors").state_dict()
    for name, v in model.state_dict().items():
        assert back[name].dtype == v.dtype and torch.allclose(back[name], v, rtol=1e-3, atol=1e-6)
    rounded = files.load_weights(gan.Generator, tmp_path / "half.safetensors")
    files.save_weights(tmp_path / "again.safetensors", rounded, bits=16)
    again = files.load_weights(gan.Generator, tmp_path / "again.safetensors").state_dict()
    assert all(torch.equal(v, again[name]) for name, v in back.items())


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
    for k in range(20):  # the library writes its header in a random order
        files.save_weights(tmp_path / f"{k}.safetensors", model, a=1, b="two", c=[3])
    assert len({(tmp_path / f"{k}.safetensors").read_bytes() for k in range(20)}) == 1


def test_weights_that_hold_nan_are_neither_written_nor_read(tmp_path):
    model = gan.Generator(width=8)
    for value in (float("nan"), float("inf")):
        with torch.no_grad():
            model.rest[-2].bias[1] = value
        words = r"hold NaN or infinity .in rest.*bias.*nothing was written"
        with pytest.raises(DataError, match=words):
            files.save_weights(tmp_path / "g.safetensors", model)
    assert not any(tmp_path.iterdir())
    files.save_tensors(tmp_path / "g.safetensors", model.state_dict(), **{
        "class": "Generator", "config": json.dumps(model.config), "card": "{}"})
    with pytest.raises(DataError, match=r"g.safetensors hold NaN or infinity"):
        files.load_weights(gan.Generator, tmp_path / "g.safetensors")


NOT_TAKEN = "config that Generator does not take"
MISFIT = "does not fit its own config"
BAD = {
    "no config": (dict(config=None), "no readable config"),
    "torn config": (dict(config="{"), "no readable config"),
    "null config": (dict(config="null"), "no readable config"),
    "list config": (dict(config="[1]"), "no readable config"),
    "deep config": (dict(config="[" * 9999), "no readable config"),
    "no card": (dict(card=None), "no readable card"),
    "null card": (dict(card="null"), "no readable card"),
    "number card": (dict(card="5"), "no readable card"),
    "unknown field": (dict(config='{"widht": 8}'), NOT_TAKEN),
    "text for a number": (dict(config='{"width": "8"}'), NOT_TAKEN),
    "zero": (dict(config='{"width": 0}'), f"{NOT_TAKEN}|{MISFIT}"),
    "negative": (dict(config='{"width": -8}'), NOT_TAKEN),
    "fraction": (dict(config='{"width": 8.5}'), NOT_TAKEN),
    "huge": (dict(config='{"width": 1000000000}'),
             "width=1000000000 in its config, which its .* weights cannot be"),
    "larger": (dict(config='{"width": 9000}'), MISFIT),
    "other size": (dict(config='{"width": 16}'), f"{MISFIT}: .* should be .*, and is"),
    "one missing": (dict(drop="rest.0.weight"), "rest.0.weight should be .*, and is absent"),
    "one more": (dict(add={"more": torch.zeros(2)}), "more should be absent, and is 2"),
    "misshapen": (dict(add={"rest.0.weight": torch.zeros(3)}),
                  "rest.0.weight should be .*×.*, and is 3"),
    "empty": (dict(empty=True), MISFIT),
}


@pytest.mark.parametrize("case", BAD)
def test_weights_that_do_not_hold_together_name_their_file(tmp_path, case):
    change, words = BAD[case]
    model, path = gan.Generator(width=8), tmp_path / "bad.safetensors"
    meta = {"class": "Generator", "config": json.dumps(model.config), "card": "{}"} | {
        k: change[k] for k in ("config", "card") if k in change}
    state = {} if change.get("empty") else model.state_dict() | change.get("add", {})
    state.pop(change.get("drop"), None)
    files.save_tensors(path, state, **{k: v for k, v in meta.items() if v is not None})
    with pytest.raises(DataError, match=f"bad.safetensors.*({words})"):
        files.load_weights(gan.Generator, path)


def test_a_deep_config_is_refused_before_it_is_built(tmp_path):
    model = fftd.FFTD(dim=16, heads=2)
    config = json.dumps(model.config | dict(depth=100_000))
    meta = {"class": "FFTD", "config": config, "card": "{}"}
    files.save_tensors(tmp_path / "f.safetensors", model.state_dict(), **meta)
    with pytest.raises(DataError, match="depth=100000"):
        files.load_weights(fftd.FFTD, tmp_path / "f.safetensors")


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
    files.save_weights(tmp_path / "g.safetensors", gan.Generator(width=8))
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


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.complex64, torch.float8_e4m3fn])
def test_weights_of_another_type_are_refused(tmp_path, dtype):
    model, path = gan.Generator(width=8), tmp_path / "g.safetensors"
    state = {k: v.to(dtype) if k == "rest.0.weight" else v for k, v in model.state_dict().items()}
    meta = {"class": "Generator", "config": json.dumps(model.config), "card": "{}"}
    files.save_tensors(path, state, **meta)
    with pytest.raises(DataError, match=r"rest.0.weight"):
        files.load_weights(gan.Generator, path)


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
    words = r"no weights 'gna', .* did you mean 'gan'\? Of the course's weights cgan"
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
