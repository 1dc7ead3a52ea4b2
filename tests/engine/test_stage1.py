import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from minigen import fftd, ivqvae, latents
from minigen.__main__ import main
from minigen.data import ToyFaces, to_uint8
from minigen.engine import checkpoints, drawing, stage1
from minigen.engine.images import Images
from minigen.engine.settings import Stage1, Stage2, make_config
from minigen.errors import DataError
from minigen.files import data_path, load_weights, read_tensors, save_tensors

TINY1 = dict(data="toyfaces:64", steps=4, batch_size=4, discriminator_start=3, save_every=2, sample_every=2, log_every=1,
             init_images=32, perceptual="none")
TINY2 = dict(steps=4, batch_size=8, save_every=2, sample_every=4, log_every=1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Both stages, a few steps each: the folder with s1, s2, and latents.safetensors."""
    folder = tmp_path_factory.mktemp("runs")
    one = stage1.train_ivqvae(make_config(Stage1, **TINY1, out=str(folder / "s1")), progress=False)
    z = drawing.encode("toyfaces:64", one, folder / "latents.safetensors", progress=False)
    two = stage1.train_fftd(make_config(Stage2, **TINY2, latents=str(z), out=str(folder / "s2")), one, progress=False)
    return folder, one, z, two


def test_both_stages_leave_what_they_promise(trained):
    folder, one, _, two = trained
    for stage, kind in (("s1", "ivqvae"), ("s2", "fftd")):
        names = {p.name for p in (folder / stage).iterdir()}
        assert {"config.json", "losses.csv", f"{kind}.safetensors", "samples-00000004.png"} <= names
        with open(folder / stage / "losses.csv", newline="") as f:
            assert [r["step"] for r in csv.DictReader(f)] == ["1", "2", "3", "4"]
        assert checkpoints.latest(folder / stage, kind)["step"] == 4
    model, denoiser = load_weights(ivqvae.IVQVAE, one), load_weights(fftd.FFTD, two)
    assert float(model.latent_std.min()) > 0 and denoiser.num_classes == 5
    assert denoiser.card["tokenizer"] == latents.fingerprint(model)


def test_the_averaged_autoencoder_has_the_codebook_in_use(trained):
    folder = trained[0]
    state = checkpoints.latest(folder / "s1", "ivqvae")
    assert torch.equal(state["average"]["module.quantizer.codebook"], state["model"]["quantizer.codebook"])
    assert not torch.equal(state["average"]["module.encoder.body.0.weight"], state["model"]["encoder.body.0.weight"])


@pytest.mark.parametrize("stage", [1, 2])
def test_resuming_is_bit_for_bit(trained, tmp_path, stage):
    _, one, z, _ = trained

    def train(steps, out, resume=False):
        same = dict(steps=steps, decay=False, out=str(tmp_path / out))
        if stage == 1:
            same["discriminator_start"] = 2
            stage1.train_ivqvae(make_config(Stage1, **TINY1 | same), resume, progress=False)
        else:
            stage1.train_fftd(make_config(Stage2, **TINY2 | same, latents=str(z)), one, resume, progress=False)

    train(4, out="whole"), train(2, out="parts"), train(4, out="parts", resume=True)
    kind = "ivqvae" if stage == 1 else "fftd"
    a, b = (checkpoints.latest(tmp_path / name, kind) for name in ("whole", "parts"))
    assert_same(a, b)
    with open(tmp_path / "whole" / "losses.csv") as f, open(tmp_path / "parts" / "losses.csv") as g:
        ours, theirs = ([{k: v for k, v in r.items() if k != "images_per_s"} for r in csv.DictReader(h)] for h in (f, g))
        assert ours == theirs


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


def test_accumulated_parts_have_the_gradient_of_one_batch(monkeypatch):
    found = []

    def keep(optimiser, **kw):
        found.append([p.grad.clone() for p in optimiser.param_groups[0]["params"]])
        return False

    monkeypatch.setattr(stage1.loop, "step_if_finite", keep)
    for parts in (1, 4):
        config = make_config(Stage1, **TINY1 | dict(steps=99, discriminator_start=99, accumulate=parts))
        task = stage1.IVQVAETask(config, torch.device("cpu"))
        task.model.quantizer._update = lambda *a: None               # the running codebook does depend on the parts
        task.step(1, torch.arange(4), torch.zeros(4, dtype=torch.bool))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)


def test_accumulated_parts_move_the_codebook_as_one_batch_does():
    moved = []
    for parts in (1, 4):
        config = make_config(Stage1, **TINY1 | dict(steps=99, discriminator_start=99, accumulate=parts))
        task = stage1.IVQVAETask(config, torch.device("cpu"))
        task.step(1, torch.arange(4), torch.zeros(4, dtype=torch.bool))
        moved.append(task.model.quantizer)
    assert torch.equal(moved[0].cluster_size, moved[1].cluster_size)            # four times 0.99 would be another
    torch.testing.assert_close(moved[0].embed_avg, moved[1].embed_avg)


def test_where_no_step_had_a_finite_gradient_nothing_is_exported(tmp_path, trained, monkeypatch):
    _, one, z, _ = trained
    monkeypatch.setattr(stage1.loop, "step_if_finite", lambda *a, **k: False)
    with pytest.raises(DataError, match="nothing was learned and no weights are written"):
        stage1.train_fftd(make_config(Stage2, **TINY2, latents=str(z), out=str(tmp_path / "f")), one, progress=False)
    assert not (tmp_path / "f" / "fftd.safetensors").exists()
    with pytest.raises(DataError, match="nothing was learned"):
        stage1.train_ivqvae(make_config(Stage1, **TINY1, out=str(tmp_path / "i")), progress=False)


def test_a_network_that_diverges_ends_with_a_sentence(tmp_path, monkeypatch):
    class Task(stage1.IVQVAETask):
        def __init__(self, *a):
            super().__init__(*a)
            with torch.no_grad():
                self.model.encoder.body[0].weight[0] = float("nan")

    monkeypatch.setattr(stage1, "IVQVAETask", Task)
    with pytest.raises(DataError, match="the encoder has diverged"):
        stage1.train_ivqvae(make_config(Stage1, **TINY1, out=str(tmp_path / "i")), progress=False)
    assert not (tmp_path / "i").exists()


def test_the_card_tells_the_steps_that_were_done(trained, tmp_path):
    _, one, z, _ = trained
    options = dict(TINY2, decay=False, latents=str(z), out=str(tmp_path / "f"))
    path = stage1.train_fftd(make_config(Stage2, **options), one, progress=False)
    assert load_weights(fftd.FFTD, path).card["steps"] == 4
    with pytest.raises(DataError, match="has done 4 steps already"):
        stage1.train_fftd(make_config(Stage2, **options | dict(steps=1)), one, resume=True, progress=False)
    assert load_weights(fftd.FFTD, path).card["steps"] == 4


def test_too_few_images_for_the_codebook_are_told_before_anything_is_made(tmp_path):
    for change in (dict(init_images=16), dict(data="toyfaces:16", init_images=128)):
        with pytest.raises(DataError, match="512 codes starts from at least 32 images of 16"):
            stage1.train_ivqvae(make_config(Stage1, **TINY1 | change, out=str(tmp_path / "i")), progress=False)
    with pytest.raises(DataError, match="--perceptual lpips is for 64 pixels and more"):
        stage1.train_ivqvae(make_config(Stage1, **TINY1 | dict(perceptual="lpips"), out=str(tmp_path / "i")), progress=False)
    with pytest.raises(DataError, match="A step with 1,000,000 images needs at least"):
        stage1.train_ivqvae(make_config(Stage1, **TINY1 | dict(batch_size=10**6), out=str(tmp_path / "i")), progress=False)
    assert not (tmp_path / "i").exists()


def test_other_latents_of_the_same_name_are_noticed(trained, tmp_path):
    _, one, z, _ = trained
    options = dict(TINY2, decay=False, latents=str(z), out=str(tmp_path / "f"))
    stage1.train_fftd(make_config(Stage2, **options), one, progress=False)
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(z.read_bytes())
    again = dict(options, latents=str(moved), steps=5)
    stage1.train_fftd(make_config(Stage2, **again), one, resume=True, progress=False)         # the same, elsewhere
    other = drawing.encode("toyfaces:65", one, tmp_path / "other.safetensors", progress=False)
    with pytest.raises(DataError, match="trained with data_digest='toyfaces:64"):
        stage1.train_fftd(make_config(Stage2, **again | dict(latents=str(other))), one, resume=True, progress=False)


def test_without_labels_the_network_has_no_classes(trained, tmp_path):
    _, one, z, _ = trained
    config = make_config(Stage2, **TINY2, latents=str(z), labels=False, out=str(tmp_path / "f"))
    path = stage1.train_fftd(config, one, progress=False)
    assert load_weights(fftd.FFTD, path).num_classes == 0


def test_latents_of_another_autoencoder_are_another_run(trained, tmp_path):
    _, one, z, _ = trained
    options = dict(TINY2, decay=False, out=str(tmp_path / "f"))
    stage1.train_fftd(make_config(Stage2, **options, latents=str(z)), one, progress=False)
    shipped = data_path("pretrained", "ivqvae.safetensors")
    again = drawing.encode("toyfaces:64", shipped, tmp_path / "z.safetensors", progress=False)
    with pytest.raises(DataError, match="trained with tokenizer="):
        stage1.train_fftd(make_config(Stage2, **options, latents=str(again)), shipped, resume=True, progress=False)
    with pytest.raises(DataError, match="made with another autoencoder"):
        stage1.train_fftd(make_config(Stage2, **options, latents=str(again)), one, resume=True, progress=False)


def test_mirrored_latents_are_of_mirrored_images(trained):
    _, one, z, _ = trained
    stored, model = drawing.read_latents(z), load_weights(ivqvae.IVQVAE, one)
    x = Images("toyfaces:64", 32)(torch.arange(64))
    torch.testing.assert_close(stored["flipped"], latents.encode(model, x.flip(-1)).z)
    torch.testing.assert_close(stored["z"], latents.encode(model, x).z)
    assert torch.equal(stored["labels"], Images("toyfaces:64", 32).labels) and stored["classes"][0] == "black"


def test_latents_of_another_autoencoder_are_refused(trained, tmp_path):
    _, _, z, two = trained
    config = make_config(Stage1, **TINY1 | dict(steps=1, discriminator_start=1, seed=5), out=str(tmp_path / "other"))
    other = stage1.train_ivqvae(config, progress=False)
    with pytest.raises(DataError, match="another autoencoder"):
        stage1.train_fftd(make_config(Stage2, **TINY2, latents=str(z), out=str(tmp_path / "x")), other, progress=False)
    with pytest.raises(DataError, match="another autoencoder"):
        drawing.Sampler(two, other)


def test_the_commands(trained, tmp_path, capsys):
    _, one, _, two = trained
    assert main(["train-ivqvae", *[f"--{k.replace('_', '-')}={v}" for k, v in TINY1.items()], "--out", str(tmp_path / "s1")]) == 0
    assert "batch_size = 4" in capsys.readouterr().out
    assert main(["train-ivqvae", "--out", str(tmp_path / "s1")]) == 2
    assert "go on with --resume" in capsys.readouterr().err
    weights = ["--weights", str(two), "--autoencoder", str(one)]
    assert main(["sample", *weights, "--out", str(tmp_path / "i"), "--images", "6", "--steps", "3", "--zip"]) == 0
    assert "6 images" in capsys.readouterr().out and (tmp_path / "i" / "images.zip").exists()
    assert main(["sample", *weights, "--out", str(tmp_path / "j"), "--steps", "1001"]) == 2
    assert "1 to T=1000" in capsys.readouterr().err
    assert main(["sample", *weights, "--out", str(tmp_path / "j"), "--scale", "3"]) == 2
    assert "name one with --label" in capsys.readouterr().err
    assert main(["fid", *weights, "--data", "toyfaces:64", "--out", str(tmp_path / "k"), "--images", "70", "--steps", "2",
                 "--features", "toy", "--cache", str(tmp_path / "cache")]) == 0
    line = capsys.readouterr().out
    assert "not FID" in line and "70 samples against 64 training images" in line and "DDIM_steps 2" in line


def torchrun(*command, world=2):
    """Run `python -m minigen` in so many processes."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={world}", "-m", "minigen"]
    done = subprocess.run([*start, *map(str, command)], capture_output=True, text=True, cwd=Path(__file__).parent.parent.parent,
                          env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_two_processes(trained, tmp_path):
    """Same data as one process, the same images, and resuming is exact; the ranks' weights are checked inside DDP's own step."""
    _, one, z, two = trained
    options = [f"--{k.replace('_', '-')}={v}" for k, v in TINY1.items()] + ["--no-decay"]
    torchrun("train-ivqvae", *options, "--out", tmp_path / "whole")
    torchrun("train-ivqvae", *options, "--steps=2", "--discriminator-start=2", "--out", tmp_path / "x")
    options2 = [f"--{k.replace('_', '-')}={v}" for k, v in TINY2.items()]
    options2 += ["--no-decay", f"--latents={z}", f"--autoencoder={one}"]
    torchrun("train-fftd", *options2, "--out", tmp_path / "f")
    torchrun("train-fftd", *options2, "--steps=2", "--out", tmp_path / "g")
    torchrun("train-fftd", *options2, "--out", tmp_path / "g", "--resume")
    assert_same(checkpoints.latest(tmp_path / "f", "fftd"), checkpoints.latest(tmp_path / "g", "fftd"))
    stage1.train_fftd(make_config(Stage2, **TINY2, decay=False, latents=str(z), out=str(tmp_path / "h")), one, progress=False)
    for a, b in zip(*(checkpoints.latest(tmp_path / n, "fftd")["model"].values() for n in "fh"), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-3)       # the same batches, added up in another order (Adam magnifies)
    torchrun("encode", "toyfaces:64", "--autoencoder", one, "--out", tmp_path / "z.safetensors")
    torch.testing.assert_close(load_file(tmp_path / "z.safetensors")["z"], load_file(z)["z"])
    torchrun("sample", "--weights", two, "--autoencoder", one, "--out", tmp_path / "i", "--images", 150, "--steps", 2)
    drawing.sample(drawing.Sampler(two, one, steps=2), tmp_path / "alone", 150, progress=False)
    for a, b in zip(drawing.drawn(tmp_path / "i"), drawing.drawn(tmp_path / "alone"), strict=True):
        assert torch.equal(a, b)


@pytest.mark.slow
def test_the_papers_preset_from_files_to_a_score(tmp_path):
    """Two steps of both stages at 256×256, then latents, samples and a score.

    On MINIGEN_PHOTOS, a folder of photographs, where that is set, else on drawn faces.
    """
    photos = os.environ.get("MINIGEN_PHOTOS")
    if not photos:
        photos = tmp_path / "photos"
        photos.mkdir()
        for k, x in enumerate(to_uint8(ToyFaces(6, size=256).images())):
            Image.fromarray(x.movedim(0, -1).numpy()).save(photos / f"{k}.png")
    assert main(["prepare", str(photos), "--size", "256", "--out", str(tmp_path / "data"), "--no-classes"]) == 0
    data, one, two = str(tmp_path / "data"), tmp_path / "one", tmp_path / "two"
    few = ["--preset=paper", "--steps=2", "--batch-size=1", "--log-every=1", "--save-every=2", "--sample-every=99"]
    assert main(["train-ivqvae", *few, "--data", data, "--discriminator-start=2", "--perceptual=none", "--precision=float32",
                 "--out", str(one)]) == 0
    auto = ["--autoencoder", str(one / "ivqvae.safetensors")]
    assert main(["encode", data, *auto, "--out", str(tmp_path / "z.safetensors"), "--batch-size", "2"]) == 0
    assert main(["train-fftd", *few, "--latents", str(tmp_path / "z.safetensors"), *auto, "--out", str(two)]) == 0
    assert main(["fid", "--weights", str(two / "fftd.safetensors"), *auto, "--data", data, "--images", "5", "--steps", "2",
                 "--features", "toy", "--batch-size", "2", "--out", str(tmp_path / "s"), "--cache", str(tmp_path / "c")]) == 0
    (x,) = [load_file(p)["images"] for p in (tmp_path / "s").glob("part-*.safetensors")]
    assert x.shape == (5, 3, 256, 256) and x.dtype == torch.uint8
    assert load_file(tmp_path / "z.safetensors")["z"].shape[1:] == (4, 4, 4)


def test_fewer_images_than_a_row_of_the_grid(tmp_path):
    config = make_config(Stage1, **TINY1 | dict(data="toyfaces:3", init_images=0), out=str(tmp_path / "i"))
    path = stage1.train_ivqvae(config, progress=False)
    assert path.exists() and (path.parent / "samples-00000004.png").exists()


def test_weights_that_somebody_puts_there_meanwhile_stay(tmp_path, monkeypatch):
    whole = stage1.loop.train

    def train(*a, **k):
        last = whole(*a, **k)
        (tmp_path / "i" / "ivqvae.safetensors").write_text("precious")
        return last

    monkeypatch.setattr(stage1.loop, "train", train)
    with pytest.raises(DataError, match="has appeared meanwhile"):
        stage1.train_ivqvae(make_config(Stage1, **TINY1, out=str(tmp_path / "i")), progress=False)
    assert (tmp_path / "i" / "ivqvae.safetensors").read_text() == "precious"


def test_an_encoder_that_makes_no_numbers_writes_no_latents(tmp_path, trained):
    tensors, meta = read_tensors(trained[1])
    tensors["latent_std"] *= 0
    save_tensors(tmp_path / "bad.safetensors", tensors, **meta)
    with pytest.raises(DataError, match="hold NaN or infinity"):
        drawing.encode("toyfaces:8", tmp_path / "bad.safetensors", tmp_path / "z.safetensors", progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["bad.safetensors"]
