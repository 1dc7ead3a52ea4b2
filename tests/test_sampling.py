import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from minigen import sampling
from minigen.errors import DataError
from minigen.files import data_path

PAIR = (data_path("pretrained", "fftd.safetensors"), data_path("pretrained", "ivqvae.safetensors"))


def numbers(first, last):
    return {"images": torch.arange(first, last)[:, None]}


def test_parts_are_made_once_and_a_torn_one_again(tmp_path):
    made = []

    def make(first, last):
        made.append((first, last))
        return numbers(first, last)

    paths = sampling.parts(tmp_path, 10, 4, dict(seed=0), make, progress=False)
    assert made == [(0, 4), (4, 8), (8, 10)]
    paths[1].write_bytes(paths[1].read_bytes()[:20])
    paths[2].unlink()
    (tmp_path / ".part-00002.safetensors.x1y2z3_4").write_bytes(b"half")          # a run that was killed while writing
    sampling.parts(tmp_path, 10, 4, dict(seed=0), make, progress=False)
    assert made[3:] == [(4, 8), (8, 10)] and not list(tmp_path.glob(".*"))
    assert torch.cat([load_file(p)["images"] for p in paths]).flatten().tolist() == list(range(10))
    sampling.parts(tmp_path, 14, 4, dict(seed=0), make, progress=False)         # more: only what is new, and the short last one
    assert made[5:] == [(8, 12), (12, 14)]
    with pytest.raises(DataError, match="made with seed=0, not 1"):
        sampling.parts(tmp_path, 10, 4, dict(seed=1), make, progress=False)


def test_image_k_depends_on_the_seed_and_k_only():
    one, other = sampling.Sampler(*PAIR, steps=3, eta=1.0, batch_size=64), sampling.Sampler(*PAIR, steps=3, eta=1.0, batch_size=3)
    whole = one(0, 10)
    assert whole.shape == (10, 3, 32, 32) and whole.dtype == torch.uint8
    for a, b in ((other(7, 9), whole[7:9]), (other(0, 10), whole)):
        assert int((a.int() - b.int()).abs().max()) <= 1          # another batch size rounds differently, at most by a grey level
    assert torch.equal(one(0, 10), whole)
    assert not torch.equal(sampling.Sampler(*PAIR, steps=3, eta=1.0, seed=1)(0, 1), whole[:1])


def test_labels_and_guidance():
    from minigen.data import from_uint8
    from minigen.metrics import obedience
    red = sampling.Sampler(*PAIR, steps=10, label=3, scale=2.0)(0, 20)
    assert obedience(from_uint8(red), "hair", torch.full((20,), 3)) > 0.8
    with pytest.raises(DataError, match="--label is 0 to 4; got 5"):
        sampling.Sampler(*PAIR, label=5)


def test_png_files_and_zip(tmp_path):
    sampler = sampling.Sampler(*PAIR, steps=2)
    sampling.sample(sampler, tmp_path, 5, png=True, progress=False)
    sampling.sample(sampler, tmp_path, 5, as_zip=True, progress=False)
    drawn = list(sampling.drawn(tmp_path))
    with zipfile.ZipFile(tmp_path / "images.zip") as archive:
        for k in range(5):
            for file in (tmp_path / f"{k:06d}.png", io.BytesIO(archive.read(f"{k:06d}.png"))):
                pixels = torch.from_numpy(np.array(Image.open(file))).movedim(-1, 0)
                assert torch.equal(pixels, drawn[k])


def test_latents_that_are_none(tmp_path):
    with pytest.raises(DataError, match="python -m minigen encode"):
        sampling.read_latents(tmp_path / "no.safetensors")
    with pytest.raises(DataError, match="not one that"):
        sampling.read_latents(PAIR[0])
