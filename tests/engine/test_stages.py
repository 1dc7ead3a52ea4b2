import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pace
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from minigen import fftd, ivqvae, latents
from minigen.__main__ import main
from minigen.data import ToyFaces, to_uint8
from minigen.engine import checkpoints, drawing, loop, parts, stage1, stage2, stages
from minigen.engine.settings import Stage1, Stage2, make_config
from minigen.engine.stage1 import train_stage1
from minigen.engine.stage2 import train_stage2
from minigen.errors import DataError
from minigen.files import load_weights
from tests.engine.conftest import TINY1, TINY2, assert_same

ROOT = Path(__file__).parent.parent.parent


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


@pytest.mark.parametrize("stage", [1, 2])
def test_resuming_is_bit_for_bit(trained, tmp_path, stage):
    _, one, z, _ = trained

    def train(steps, out, resume=False):
        same = dict(steps=steps, decay=False, out=str(tmp_path / out))
        if stage == 1:
            same["discriminator_start"] = 2
            train_stage1(make_config(Stage1, **TINY1 | same), resume, progress=False)
        else:
            config = make_config(Stage2, **TINY2 | same, latents=str(z))
            train_stage2(config, one, resume, progress=False)

    train(4, out="whole")
    train(2, out="parts")
    train(4, out="parts", resume=True)
    kind = "ivqvae" if stage == 1 else "fftd"
    a, b = (checkpoints.latest(tmp_path / name, kind) for name in ("whole", "parts"))
    assert_same(a, b)
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")


def rows(folder):
    """A log without the speed."""
    with open(folder / "losses.csv", newline="") as f:
        return [{k: v for k, v in r.items() if k != "images_per_s"} for r in csv.DictReader(f)]


def test_where_no_step_had_a_finite_gradient_nothing_is_exported(tmp_path, trained, monkeypatch):
    _, one, z, _ = trained
    for stage in (stage1, stage2):
        monkeypatch.setattr(stage, "step_if_finite", lambda *a, **k: False)
    config = make_config(Stage2, **TINY2, latents=str(z), out=str(tmp_path / "f"))
    with pytest.raises(DataError, match="nothing was learned and no weights are written"):
        train_stage2(config, one, progress=False)
    assert not (tmp_path / "f" / "fftd.safetensors").exists()
    with pytest.raises(DataError, match="nothing was learned"):
        train_stage1(make_config(Stage1, **TINY1, out=str(tmp_path / "i")), progress=False)


def options_of(settings):
    return [f"--{k.replace('_', '-')}={v}" for k, v in settings.items()]


def test_the_commands(trained, tmp_path, capsys):
    _, one, _, two = trained
    weights = ["--weights", two, "--autoencoder", one]

    def run(*words):
        code = main(list(map(str, words)))
        told = capsys.readouterr()
        return code, told.out + told.err

    code, told = run("train-ivqvae", *options_of(TINY1), "--out", tmp_path / "s1")
    assert code == 0 and "batch_size = 4" in told
    code, told = run("train-ivqvae", "--out", tmp_path / "s1")
    assert code == 2 and "go on with --resume" in told
    few = ["--images", 6, "--steps", 3, "--zip"]
    code, told = run("sample", *weights, "--out", tmp_path / "i", *few)
    assert code == 0 and "6 images" in told and (tmp_path / "i" / "images.zip").exists()
    code, told = run("sample", *weights, "--out", tmp_path / "j", "--steps", 1001)
    assert code == 2 and "at least 1 and at most 1,000; got 1001" in told
    code, told = run("sample", *weights, "--out", tmp_path / "j", "--scale", 3)
    assert code == 2 and "name one with --label" in told
    few = ["--images", 70, "--steps", 2, "--features", "toy", "--cache", tmp_path / "cache"]
    code, told = run("fid", *weights, "--data", "toyfaces:64", "--out", tmp_path / "k", *few)
    assert code == 0 and "not FID" in told and "DDIM_steps 2" in told
    assert "70 samples against 64 training images" in told


def torchrun(*command, world=2):
    """Run `python -m minigen` in so many processes."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone",
             f"--nproc_per_node={world}", "-m", "minigen"]
    done = subprocess.run([*start, *map(str, command)], capture_output=True, text=True, cwd=ROOT,
                          env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=300 * pace.slowness())
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_two_processes(trained, tmp_path):
    """Same data as one process, the same images, and resuming is exact.

    The ranks' weights are checked inside DDP's own step.
    """
    _, one, z, two = trained
    options = [*options_of(TINY1), "--no-decay"]
    torchrun("train-ivqvae", *options, "--out", tmp_path / "whole")
    short = ["--steps=2", "--discriminator-start=2"]
    torchrun("train-ivqvae", *options, *short, "--out", tmp_path / "x")
    options2 = [*options_of(TINY2), "--no-decay", f"--latents={z}", f"--autoencoder={one}"]
    torchrun("train-fftd", *options2, "--out", tmp_path / "f")
    torchrun("train-fftd", *options2, "--steps=2", "--out", tmp_path / "g")
    torchrun("train-fftd", *options2, "--out", tmp_path / "g", "--resume")
    config = make_config(Stage2, **TINY2, decay=False, latents=str(z), out=str(tmp_path / "h"))
    train_stage2(config, one, progress=False)
    whole, resumed, alone = (checkpoints.latest(tmp_path / name, "fftd") for name in "fgh")
    assert_same(whole, resumed)
    for name, weight in whole["model"].items():
        # the same batches, added up in another order (Adam magnifies)
        torch.testing.assert_close(weight, alone["model"][name], rtol=0, atol=2e-3)
    torchrun("encode", "toyfaces:64", "--autoencoder", one, "--out", tmp_path / "z.safetensors")
    torch.testing.assert_close(load_file(tmp_path / "z.safetensors")["z"], load_file(z)["z"])
    weights = ["--weights", two, "--autoencoder", one]
    torchrun("sample", *weights, "--out", tmp_path / "i", "--images", 150, "--steps", 2)
    drawing.draw_images(drawing.Sampler(two, one, steps=2), tmp_path / "alone", 150, progress=False)
    for a, b in zip(parts.drawn(tmp_path / "i"), parts.drawn(tmp_path / "alone"), strict=True):
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
    data, one, two, z = (tmp_path / name for name in ("data", "one", "two", "z.safetensors"))
    few = ["--preset=paper", "--steps=2", "--batch-size=1", "--log-every=1", "--save-every=2",
           "--sample-every=99"]
    auto = ["--autoencoder", one / "ivqvae.safetensors"]
    for words in (
        ["prepare", photos, "--size", 256, "--out", data, "--no-classes"],
        ["train-ivqvae", *few, "--data", data, "--discriminator-start=2", "--perceptual=none",
         "--out", one],
        ["encode", data, *auto, "--out", z, "--batch-size", 2],
        ["train-fftd", *few, "--latents", z, *auto, "--out", two],
        ["fid", "--weights", two / "fftd.safetensors", *auto, "--data", data, "--images", 5,
         "--steps", 2, "--features", "toy", "--batch-size", 2, "--out", tmp_path / "s",
         "--cache", tmp_path / "c"],
    ):
        assert main(list(map(str, words))) == 0, words[0]
    (x,) = [load_file(p)["images"] for p in (tmp_path / "s").glob("part-*.safetensors")]
    assert x.shape == (5, 3, 256, 256) and x.dtype == torch.uint8
    assert load_file(z)["z"].shape[1:] == (4, 4, 4)


@pytest.mark.parametrize("precision", ["bf16", "float16"])
def test_sixteen_bits_train_and_go_on_bit_for_bit(trained, tmp_path, precision):
    _, one, z, _ = trained
    for stage in (1, 2):
        def train(steps, out, resume=False, stage=stage):
            same = dict(steps=steps, decay=False, precision=precision, out=str(tmp_path / out))
            if stage == 1:
                config = make_config(Stage1, **TINY1 | same | dict(discriminator_start=2))
                train_stage1(config, resume, progress=False)
            else:
                config = make_config(Stage2, **TINY2 | same, latents=str(z))
                train_stage2(config, one, resume, progress=False)

        train(4, f"whole{stage}")
        train(2, f"parts{stage}")
        train(4, f"parts{stage}", resume=True)
        kind = "ivqvae" if stage == 1 else "fftd"
        a, b = (checkpoints.latest(tmp_path / f"{n}{stage}", kind) for n in ("whole", "parts"))
        assert_same(a, b)
        kept = a["scales"][0] if stage == 1 else a["scale"]
        scale = kept.get("scale", 1)                          # a scaler that is off keeps nothing
        assert (scale == 1) == (precision == "bf16")


def test_the_room_that_a_training_needs_is_told_first(tmp_path, capsys):
    config = make_config(Stage1, **TINY1, out=str(tmp_path / "i"))
    train_stage1(config)
    said = capsys.readouterr().out.splitlines()[0]
    found = re.fullmatch(r"Room: on disk at most 4 checkpoints of ([\d.]+) MB and ([\d.]+) MB of "
                         r"pictures; in memory at least [\d.]+ MB\.", said)
    largest = max(p.stat().st_size for _, p in checkpoints.found(tmp_path / "i")) / 1e6
    assert float(found[1]) == pytest.approx(largest, rel=0.1)
    pictures = sum(p.stat().st_size for p in (tmp_path / "i").glob("samples-*.png")) / 1e6
    assert pictures < float(found[2]) + 0.1
    train_stage1(config, resume=True, progress=False)
    assert "Room" not in capsys.readouterr().out


def test_the_log_tells_how_much_of_the_codebook_is_used(trained):
    with open(trained[0] / "s1" / "losses.csv", newline="") as f:
        found = list(csv.DictReader(f))
    assert all(0 < float(r["use"]) <= 1 and 1 <= float(r["perplexity"]) <= 512 for r in found)


def test_weights_that_somebody_puts_there_meanwhile_stay(tmp_path, monkeypatch):
    whole = loop.train

    def train(*a, **k):
        last = whole(*a, **k)
        (tmp_path / "i" / "ivqvae.safetensors").write_text("precious")
        return last

    monkeypatch.setattr(loop, "train", train)
    with pytest.raises(DataError, match="has appeared meanwhile"):
        train_stage1(make_config(Stage1, **TINY1, out=str(tmp_path / "i")), progress=False)
    assert (tmp_path / "i" / "ivqvae.safetensors").read_text() == "precious"


def test_the_rate_rises_over_a_tenth_and_falls_like_half_a_cosine():
    config = make_config(Stage1, steps=20)
    factors = [stages.rate_factor(config, step) for step in (1, 2, 11, 20)]
    assert factors == pytest.approx([0.5, 1, 0.5, 0])
    constant = make_config(Stage1, steps=20, decay=False)
    assert [stages.rate_factor(constant, step) for step in (1, 20)] == [1, 1]
    short = make_config(Stage1, steps=1)                      # the rise is at least one step
    assert stages.rate_factor(short, 1) == 1


def test_adam_in_one_pass_is_adam():
    assert stages.fused(torch.device("cpu")) and not stages.fused(torch.device("meta"))
    torch.manual_seed(0)
    nets = [torch.nn.Linear(30, 20) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    x = torch.randn(8, 30)
    for net, fused in zip(nets, (False, True), strict=True):
        optimiser = torch.optim.Adam(net.parameters(), 1e-2, fused=fused)
        for _ in range(5):
            optimiser.zero_grad()
            net(x).square().mean().backward()
            optimiser.step()
    for one, other in zip(*(net.parameters() for net in nets), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)

