"""kill -9 at random moments of training, encoding and sampling: every run that goes on ends as the undisturbed one."""

import csv
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from minigen import checkpoints, sampling

ROOT = Path(__file__).parent.parent
STAGE1 = ["train-ivqvae", "--data=toyfaces:64", "--steps=12", "--batch-size=4", "--discriminator-start=6", "--save-every=2",
          "--sample-every=5", "--log-every=1", "--init-images=32", "--perceptual=none"]
STAGE2 = ["train-fftd", "--steps=30", "--batch-size=16", "--save-every=3", "--sample-every=100", "--log-every=1"]


def command(*words):
    return [sys.executable, "-m", "minigen", *map(str, words)]


def run(*words, kill_after=None):
    """Run a command; with kill_after, kill it without warning after so many seconds. Returns: whether it was killed in time."""
    process = subprocess.Popen(command(*words), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               env=os.environ | {"OMP_NUM_THREADS": "1"})
    if kill_after is not None:
        time.sleep(kill_after)
        process.kill()
    out = process.communicate()[0]
    assert kill_after is not None or process.returncode == 0, out
    return process.returncode != 0


def losses(folder):
    with open(folder / "losses.csv", newline="", encoding="utf-8") as f:
        return [{k: v for k, v in row.items() if k != "images_per_s"} for row in csv.DictReader(f)]


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return all(map(same, a, b)) if isinstance(a, list) else a == b


@pytest.mark.slow
def test_ten_kills(tmp_path):
    dice, table = random.Random(0), []

    def undisturbed(*words):
        start = time.time()
        run(*words)
        return time.time() - start

    def tried(what, words, again, equal, seconds):
        after = dice.uniform(0.35, 0.95) * seconds
        killed = run(*words, kill_after=after)
        run(*again)
        assert equal(), f"{what}, killed after {after:.1f} s"
        table.append(f"{what:<10} killed after {after:5.1f} of {seconds:.1f} s{'' if killed else ' (it had finished)'}: equal")

    seconds = undisturbed(*STAGE1, "--out", tmp_path / "s1")
    auto = ["--autoencoder", tmp_path / "s1" / "ivqvae.safetensors"]

    def alike(kind, first, second):
        states = (checkpoints.latest(folder, kind) for folder in (first, second))
        return same(*states) and losses(first) == losses(second)

    for k in range(3):
        out = tmp_path / f"s1-{k}"
        tried("stage 1", [*STAGE1, "--out", out], [*STAGE1, "--out", out, "--resume"],
              lambda out=out: alike("ivqvae", tmp_path / "s1", out), seconds)
    encode = ["encode", "toyfaces:3000", *auto, "--out"]
    seconds = undisturbed(*encode, tmp_path / "z.safetensors")
    for k in range(2):
        z = tmp_path / f"z-{k}.safetensors"
        tried("encoding", [*encode, z], [*encode, z],
              lambda z=z: same(load_file(tmp_path / "z.safetensors"), load_file(z)), seconds)
    stage2 = [*STAGE2, *auto, "--latents", tmp_path / "z.safetensors"]
    seconds = undisturbed(*stage2, "--out", tmp_path / "s2")
    for k in range(3):
        out = tmp_path / f"s2-{k}"
        tried("stage 2", [*stage2, "--out", out], [*stage2, "--out", out, "--resume"],
              lambda out=out: alike("fftd", tmp_path / "s2", out), seconds)
    draw = ["sample", "--weights", tmp_path / "s2" / "fftd.safetensors", *auto, "--images", 500, "--steps", 5, "--out"]
    seconds = undisturbed(*draw, tmp_path / "i")
    for k in range(2):
        out = tmp_path / f"i-{k}"
        tried("sampling", [*draw, out], [*draw, out],
              lambda out=out: all(map(torch.equal, sampling.drawn(tmp_path / "i"), sampling.drawn(out))), seconds)
    print("\n".join(table))
    assert len(table) == 10
