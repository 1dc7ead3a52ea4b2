"""What the tests of both stages share: a few steps of each."""

import pytest
import torch

from minigen.engine.encoding import encode_images
from minigen.engine.settings import Stage1, Stage2, make_config
from minigen.engine.stage1 import train_stage1
from minigen.engine.stage2 import train_stage2

TINY1 = dict(data="toyfaces:64", steps=4, batch_size=4, discriminator_start=3, save_every=2,
             sample_every=2, log_every=1, init_images=32, perceptual="none")
TINY2 = dict(steps=4, batch_size=8, save_every=2, sample_every=4, log_every=1)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Both stages, a few steps each: the folder with s1, s2 and latents.safetensors, and the three
    files' paths."""
    folder = tmp_path_factory.mktemp("runs")
    config = make_config(Stage1, **TINY1, out=str(folder / "s1"))
    one = train_stage1(config, progress=False)
    z = encode_images("toyfaces:64", one, folder / "latents.safetensors", progress=False)
    config = make_config(Stage2, **TINY2, latents=str(z), out=str(folder / "s2"))
    return folder, one, z, train_stage2(config, one, progress=False)


def assert_same(a, b, path=""):
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for k in a:
            assert_same(a[k], b[k], f"{path}/{k}")
    elif isinstance(a, list):
        for k, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{path}/{k}")
    else:
        assert a == b, path
