import pytest
import torch

from minigen.engine import checkpoints, drawing, stage1
from minigen.engine.encoding import encode_images
from minigen.engine.settings import Stage1, Stage2, make_config
from minigen.engine.stage1 import train_stage1
from minigen.engine.stage2 import train_stage2
from minigen.errors import DataError
from minigen.files import load_weights
from minigen.ivqvae import IVQVAE
from tests.engine.conftest import TINY1, TINY2


def test_the_averaged_autoencoder_has_the_codebook_in_use(trained):
    folder = trained[0]
    state = checkpoints.latest(folder / "s1", "ivqvae")
    average, model = state["average"], state["model"]
    for name, same in (("quantizer.codebook", True), ("encoder.body.0.weight", False)):
        assert torch.equal(average[f"module.{name}"], model[name]) is same


def task_of(accumulate):
    changes = dict(steps=99, discriminator_start=99, accumulate=accumulate)
    return stage1.IVQVAETask(make_config(Stage1, **TINY1 | changes), torch.device("cpu"))


def test_accumulated_parts_have_the_gradient_of_one_batch(monkeypatch):
    found = []

    def keep(optimiser, *a):
        found.append([p.grad.clone() for p in optimiser.param_groups[0]["params"]])
        return False

    monkeypatch.setattr(stage1, "step_if_finite", keep)
    for parts in (1, 4):
        task = task_of(parts)
        task.model.quantizer._update = lambda *a: None    # the codebook does depend on the parts
        task.step(1, torch.arange(4), torch.zeros(4, dtype=torch.bool))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)


def test_accumulated_parts_move_the_codebook_as_one_batch_does():
    moved = []
    for parts in (1, 4):
        task = task_of(parts)
        task.step(1, torch.arange(4), torch.zeros(4, dtype=torch.bool))
        moved.append(task.model.quantizer)
    # four times 0.99 would be another
    assert torch.equal(moved[0].cluster_size, moved[1].cluster_size)
    torch.testing.assert_close(moved[0].embed_avg, moved[1].embed_avg)


def test_a_network_that_diverges_ends_with_a_sentence(tmp_path, monkeypatch):
    class Task(stage1.IVQVAETask):
        def __init__(self, *a):
            super().__init__(*a)
            with torch.no_grad():
                self.model.encoder.body[0].weight[0] = float("nan")

    monkeypatch.setattr(stage1, "IVQVAETask", Task)
    with pytest.raises(DataError, match="the encoder has diverged"):
        train_stage1(make_config(Stage1, **TINY1, out=str(tmp_path / "i")), progress=False)
    assert not (tmp_path / "i").exists()


@pytest.mark.parametrize(("change", "words"), [
    (dict(init_images=16), "512 codes starts from at least 32 images of 16"),
    (dict(data="toyfaces:16", init_images=128), "512 codes starts from at least 32 images of 16"),
    (dict(perceptual="lpips"), "lpips is for 64 pixels and more; these images have 32"),
    (dict(perceptual="toy", size=64), "--perceptual toy is for 32 pixels; these images have 64"),
    (dict(size=60), "--size 60 does not suit small: 4 stages compress by 8, which does not divide"),
    (dict(batch_size=10**6), "A step with 1,000,000 images needs at least")])
def test_what_cannot_be_trained_is_told_before_anything_is_made(tmp_path, change, words):
    config = make_config(Stage1, **TINY1 | change, out=str(tmp_path / "i"))
    with pytest.raises(DataError, match=words):
        train_stage1(config, progress=False)
    assert not (tmp_path / "i").exists()


def test_fewer_images_than_a_row_of_the_grid(tmp_path):
    few = TINY1 | dict(data="toyfaces:3", init_images=0)
    config = make_config(Stage1, **few, out=str(tmp_path / "i"))
    path = train_stage1(config, progress=False)
    assert path.exists() and (path.parent / "samples-00000004.png").exists()


def test_images_of_another_size_than_the_presets(tmp_path):
    changes = TINY1 | dict(data="toyfaces:8", size=64, steps=2, discriminator_start=2,
                           init_images=8)
    one = train_stage1(make_config(Stage1, **changes, out=str(tmp_path / "i")), progress=False)
    model = load_weights(IVQVAE, one)
    assert (model.config["size"], model.grid) == (64, 8)
    z = encode_images("toyfaces:8", one, tmp_path / "z.safetensors", progress=False)
    two = make_config(Stage2, **TINY2, latents=str(z), out=str(tmp_path / "f"))
    fftd = train_stage2(two, one, progress=False)
    assert drawing.Sampler(fftd, one, steps=1)(0, 2).shape == (2, 3, 64, 64)
