"""kill -9 at random moments of every command: what goes on ends as the undisturbed run.

And nothing is left over.
"""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from minigen.data import ToyFaces, to_uint8
from minigen.engine import checkpoints, parts

ROOT = Path(__file__).parent.parent
STAGE1 = [
    "train-ivqvae", "--data=toyfaces:64", "--steps=12", "--batch-size=4",
    "--discriminator-start=6", "--save-every=2", "--sample-every=5", "--log-every=1",
    "--init-images=32", "--perceptual=none",
]
STAGE2 = [
    "train-fftd", "--steps=30", "--batch-size=16", "--save-every=3", "--sample-every=100",
    "--log-every=1",
]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]


def run(*words, kill_after=None, threads=1, processes=1):
    """Run a command; with kill_after, kill all of it without warning after so many seconds.

    Returns: whether it was killed in time.
    """
    several = TORCHRUN if processes > 1 else []
    command = [sys.executable, *several, "-m", "minigen", *map(str, words)]
    env = os.environ | {"OMP_NUM_THREADS": str(threads)}
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True, start_new_session=True, env=env)
    if kill_after is not None:
        time.sleep(kill_after)
        os.killpg(process.pid, signal.SIGKILL)
        if processes > 1:  # torchrun gives its workers groups of their own
            subprocess.run(["pkill", "-9", "-f", " ".join(map(str, words[-2:]))])
    out = process.communicate()[0]
    assert kill_after is not None or process.returncode == 0, out
    return process.returncode != 0


def losses(folder):
    with open(folder / "losses.csv", newline="", encoding="utf-8") as f:
        return [{k: v for k, v in row.items() if k != "images_per_s"} for row in csv.DictReader(f)]


def same(a, b, equal=torch.equal):
    if isinstance(a, torch.Tensor):
        return equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k], equal) for k in a)
    if isinstance(a, list):
        return all(same(x, y, equal) for x, y in zip(a, b, strict=True))
    return a == b


def near(a, b):
    """What other numbers of threads give: sums added up in another order, which Adam magnifies."""
    return torch.allclose(a.float(), b.float(), rtol=0.1, atol=0.05)


def alike(kind, first, second, equal=torch.equal):
    states = [checkpoints.latest(folder, kind) for folder in (first, second)]
    exact = equal is torch.equal
    if not exact:
        states = [{"model": s["model"], "step": s["step"]} for s in states]
    steps = [[row["step"] for row in losses(folder)] for folder in (first, second)]
    if exact and losses(first) != losses(second):
        return False
    return same(*states, equal) and steps[0] == steps[1]


def same_bytes(first, second):
    return first.read_bytes() == second.read_bytes()


def cached(folder):
    """The features that `fid` kept in its cache."""
    return load_file(next(folder.iterdir()))


def leftovers(folder):
    return [p.name for p in folder.rglob(".*")]


class Killer:
    """Kills commands at random moments, goes on with them, and remembers how it went."""

    def __init__(self):
        self.random, self.table = random.Random(0), []

    def undisturbed(self, *words, **options):
        start = time.time()
        run(*words, **options)
        return time.time() - start

    def __call__(self, what, seconds, words, again, equal, **options):
        threads_after = options.pop("threads_after", options.get("threads", 1))
        after = self.random.uniform(0.3, 0.95) * seconds
        killed = run(*words, kill_after=after, **options)
        run(*again, **options | {"threads": threads_after})
        assert equal(), f"{what}, killed after {after:.1f} s"
        late = "" if killed else " (it had finished)"
        self.table.append(f"{what:<28} killed after {after:5.1f} of {seconds:.1f} s{late}: equal")


@pytest.mark.slow
def test_thirty_kills(tmp_path):
    kill = Killer()
    seconds = kill.undisturbed(*STAGE1, "--out", tmp_path / "s1")
    auto = ["--autoencoder", tmp_path / "s1" / "ivqvae.safetensors"]
    for k in range(4):
        out = tmp_path / f"s1-{k}"
        kill("stage 1", seconds, [*STAGE1, "--out", out], [*STAGE1, "--out", out, "--resume"],
             lambda out=out: alike("ivqvae", tmp_path / "s1", out))
    out = tmp_path / "s1-threads"
    words = [*STAGE1, "--out", out]
    kill("stage 1, other threads", seconds, words, [*words, "--resume"],
         lambda: alike("ivqvae", tmp_path / "s1", out, near), threads_after=2)

    encode = ["encode", "toyfaces:3000", *auto, "--out"]
    seconds = kill.undisturbed(*encode, tmp_path / "z.safetensors")
    for k in range(4):
        z = tmp_path / f"z-{k}.safetensors"
        kill("encoding", seconds, [*encode, z], [*encode, z],
             lambda z=z: same_bytes(z, tmp_path / "z.safetensors"))

    stage2 = [*STAGE2, *auto, "--latents", tmp_path / "z.safetensors"]
    seconds = kill.undisturbed(*stage2, "--out", tmp_path / "s2")
    for k in range(4):
        out = tmp_path / f"s2-{k}"
        kill("stage 2", seconds, [*stage2, "--out", out], [*stage2, "--out", out, "--resume"],
             lambda out=out: alike("fftd", tmp_path / "s2", out)
             and same_bytes(out / "fftd.safetensors", tmp_path / "s2" / "fftd.safetensors"))
    out2 = tmp_path / "s2-threads"
    words = [*stage2, "--out", out2]
    kill("stage 2, other threads", seconds, words, [*words, "--resume"],
         lambda: alike("fftd", tmp_path / "s2", out2, near), threads_after=2)
    seconds = kill.undisturbed(*stage2, "--out", tmp_path / "two", processes=2)
    for k in range(2):
        out = tmp_path / f"two-{k}"
        words = [*stage2, "--out", out]
        kill("stage 2, two processes", seconds, words, [*words, "--resume"],
             lambda out=out: alike("fftd", tmp_path / "two", out), processes=2)

    models = ["--weights", tmp_path / "s2" / "fftd.safetensors", *auto]
    draw = ["sample", *models, "--images", 500, "--steps", 5, "--png", "--out"]
    seconds = kill.undisturbed(*draw, tmp_path / "i")
    for k in range(4):
        out = tmp_path / f"i-{k}"
        kill("sampling", seconds, [*draw, out], [*draw, out],
             lambda out=out: all(map(torch.equal, parts.drawn(tmp_path / "i"), parts.drawn(out)))
             and len(list(out.glob("*.png"))) == 500)

    fid = ["fid", *models, "--images", 200, "--steps", 5, "--features=toy", "--data=toyfaces:3000",
           "--cache"]
    seconds = kill.undisturbed(*fid, tmp_path / "c", "--out", tmp_path / "f")
    for k in range(3):
        words = [*fid, tmp_path / f"c{k}", "--out", tmp_path / f"f{k}"]
        kill("fid", seconds, words, words,
             lambda k=k: same(*(cached(tmp_path / name) for name in ("c", f"c{k}"))))

    photos = tmp_path / "photos"
    photos.mkdir()
    for k, x in enumerate(to_uint8(ToyFaces(1500, size=64).images())):
        Image.fromarray(x.movedim(0, -1).numpy()).save(photos / f"{k:04}.png")
    prepare = ["prepare", photos, "--size=64", "--out"]
    seconds = kill.undisturbed(*prepare, tmp_path / "p")
    for k in range(4):
        def again(out=tmp_path / f"p{k}"):
            return [*prepare, out, "--overwrite"]

        kill("prepare", seconds, [*prepare, tmp_path / f"p{k}"], again(),
             lambda k=k: all(same_bytes(tmp_path / "p" / name, tmp_path / f"p{k}" / name)
                             for name in ("images.npy", "manifest.json")))

    table = ["reproduce", "table1", "--steps=1", "--seeds", "0", "--out"]
    seconds = kill.undisturbed(*table, tmp_path / "t.json")
    for k in range(2):
        def cells(name):
            found = json.loads((tmp_path / name).read_text())["cells"]
            return [{k: v for k, v in c.items() if k != "seconds"} for c in found]

        words = [*table, tmp_path / f"t{k}.json"]
        kill("reproduce", seconds, words, words,
             lambda k=k, cells=cells: cells("t.json") == cells(f"t{k}.json"))
    print("\n".join(kill.table))
    assert len(kill.table) == 30 and not leftovers(tmp_path)
