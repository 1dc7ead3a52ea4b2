import shutil

import pytest
import torch

from minigen import ivqvae, latents
from minigen.data import ToyFaces
from minigen.engine.encoding import encode_images, read_latents
from minigen.engine.images import Images
from minigen.errors import DataError
from minigen.files import data_path, load_weights, read_tensors, save_tensors

PAIR = (data_path("pretrained", "fftd.safetensors"), data_path("pretrained", "ivqvae.safetensors"))
ONE_NAN = torch.zeros(6, 4, 4, 4)
ONE_NAN[5, 3, 3, 3] = float("nan")


def encode(n, out, autoencoder=PAIR[1], **options):
    """Latents of n drawn faces."""
    return encode_images(f"toyfaces:{n}", autoencoder, out, progress=False, **options)


@pytest.fixture(scope="module")
def latents_file(tmp_path_factory):
    return encode(6, tmp_path_factory.mktemp("z") / "z.safetensors")


def test_latents_that_are_none(tmp_path):
    with pytest.raises(DataError, match="python -m minigen encode"):
        read_latents(tmp_path / "no.safetensors")
    with pytest.raises(DataError, match="not one that"):
        read_latents(PAIR[0])


def test_encoding_keeps_what_is_there_and_replaces_only_latents_and_only_when_asked(
    tmp_path, latents_file
):
    out = tmp_path / "z.safetensors"
    shutil.copy(latents_file, out)
    before = out.read_bytes()
    assert encode(6, out) == out and out.read_bytes() == before
    with pytest.raises(DataError, match=r"latents of other images .*--overwrite"):
        encode(7, out)
    assert out.read_bytes() == before
    encode(7, out, overwrite=True)
    assert len(read_latents(out)["z"]) == 7
    out.write_text("my thesis")
    with pytest.raises(DataError, match="not a whole safetensors"):
        encode(7, out, overwrite=True)
    assert out.read_text() == "my thesis"


def test_a_folder_beside_the_latents_that_encode_did_not_make_stays(tmp_path):
    (tmp_path / "lat.parts").mkdir()
    (tmp_path / "lat.parts" / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match=r"lat.parts' holds other files"):
        encode(4, tmp_path / "lat.safetensors")
    assert (tmp_path / "lat.parts" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(("change", "words"), [
    (dict(z=torch.full((6, 4, 4, 4), float("nan"))), "NaN"), (dict(flipped=ONE_NAN), "NaN"),
    (dict(z=ONE_NAN), "NaN"), (dict(z=torch.zeros(6, 4, 4, 4).double()), "float64"),
    (dict(z=torch.zeros(5, 4, 4, 4)), r"\(5, 4, 4, 4\)"),
    (dict(z=torch.zeros(6, 64), flipped=torch.zeros(6, 64)), r"\(6, 64\)"),
    (dict(labels=torch.zeros(5, dtype=torch.long)), "labels of shape"),
    (dict(labels=torch.full((6,), 9)), "from 9 to 9, with 5"),
    (dict(labels=torch.full((6,), -1)), "from -1"),
    (dict(labels=torch.zeros(6)), "labels of shape"),
    (dict(classes="5"), "list of names"), (dict(classes="{"), "hold together"),
    (dict(classes="[1]"), "list of names")])
def test_latents_that_do_not_hold_together_name_their_file(tmp_path, latents_file, change, words):
    tensors, meta = read_tensors(latents_file)
    tensors |= {k: v for k, v in change.items() if isinstance(v, torch.Tensor)}
    meta |= {k: v for k, v in change.items() if isinstance(v, str)}
    save_tensors(tmp_path / "bad.safetensors", tensors, **meta)
    with pytest.raises(DataError, match=f"bad.safetensors.*{words}"):
        read_latents(tmp_path / "bad.safetensors")


@pytest.mark.parametrize("gone", ["tokenizer", "data", "classes", "z", "flipped"])
def test_latents_without_a_field(tmp_path, latents_file, gone):
    tensors, meta = read_tensors(latents_file)
    tensors.pop(gone, None)
    meta.pop(gone, None)
    save_tensors(tmp_path / "bad.safetensors", tensors, **meta)
    with pytest.raises(DataError, match="not one that `python -m minigen encode` wrote"):
        read_latents(tmp_path / "bad.safetensors")


def test_latents_of_several_parts_are_those_of_all_images_in_order(tmp_path):
    path = encode(520, tmp_path / "z.safetensors")
    stored, tokenizer = read_latents(path), load_weights(ivqvae.IVQVAE, PAIR[1])
    x = ToyFaces(520, seed=0).images()
    for name, images in (("z", x), ("flipped", x.flip(-1))):
        torch.testing.assert_close(stored[name], latents.encode(tokenizer, images).z)
    assert torch.equal(stored["labels"], ToyFaces(520, seed=0)["hair"])
    assert stored["classes"][3] == "red"
    assert [p.name for p in tmp_path.iterdir()] == ["z.safetensors"]


def test_mirrored_latents_are_of_mirrored_images(trained):
    _, one, z, _ = trained
    stored, model = read_latents(z), load_weights(ivqvae.IVQVAE, one)
    x = Images("toyfaces:64", 32)(torch.arange(64))
    torch.testing.assert_close(stored["flipped"], latents.encode(model, x.flip(-1)).z)
    torch.testing.assert_close(stored["z"], latents.encode(model, x).z)
    assert torch.equal(stored["labels"], Images("toyfaces:64", 32).labels)
    assert stored["classes"][0] == "black"


def test_an_encoder_that_makes_no_numbers_writes_no_latents(tmp_path, trained):
    tensors, meta = read_tensors(trained[1])
    tensors["latent_std"] *= 0
    save_tensors(tmp_path / "bad.safetensors", tensors, **meta)
    with pytest.raises(DataError, match="hold NaN or infinity"):
        encode(8, tmp_path / "z.safetensors", tmp_path / "bad.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["bad.safetensors"]
