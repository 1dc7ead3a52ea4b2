"""What the course does on a GPU, tried and measured, with a report in Markdown and pictures.

    python tools/gpu_check.py              # on a machine with CUDA: about ten minutes, no network
    python tools/gpu_check.py --dry-run    # the same report from a CPU's part, within two minutes

Every number of the report was measured in that run, on the device that it names. Exit code 0: all
that was tried went well; 1: something did not, the report says what; 2: there is no CUDA GPU.
"""

import argparse
import csv
import dataclasses
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from minigen import ddim, ddpm, fftd, ivqvae
from minigen.data import from_uint8
from minigen.engine import checkpoints, drawing, presets, stage1, stage2
from minigen.engine.encoding import encode_images
from minigen.engine.plan import GPUS, Plan, VGGDistance, plan
from minigen.engine.planned import parts_for
from minigen.engine.settings import Stage1, Stage2, make_config
from minigen.errors import first_line, say
from minigen.paper import bench
from minigen.plots import curves, image_grid, panels, to_png

NO_CUDA = ("There is no CUDA GPU here, so nothing of it can be checked; "
           "python tools/gpu_check.py --dry-run runs the part that a CPU can do.")
TINY = dict(data="toyfaces:64", batch_size=8, init_images=32, discriminator_start=1, decay=False,
            log_every=1)


@dataclasses.dataclass
class Check:
    """A run of the check: where, on what, how much, and what was found."""

    out: Path
    device: torch.device
    dry: bool
    end: float                                    # time.monotonic() at which all should be done
    lines: list[str] = dataclasses.field(default_factory=list)
    failed: list[str] = dataclasses.field(default_factory=list)

    def left(self) -> float:
        """Seconds."""
        return self.end - time.monotonic()

    def write(self, *lines: str) -> None:
        """Add lines to the report, which is saved at once."""
        self.lines += lines
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / "report.md").write_text("\n".join(self.lines) + "\n", encoding="utf-8")

    def table(self, head: list[str], rows: list[list[Any]]) -> None:
        """A table in Markdown."""
        bar = ["---"] * len(head)
        self.write("", *(f"| {' | '.join(map(str, row))} |" for row in [head, bar, *rows]), "")

    def attempt(self, name: str, act: Callable[[], str]) -> str:
        """What act() says, or that it failed and how."""
        try:
            return act()
        except Exception as e:  # whatever a driver or a compiler raises is what we want to read
            self.failed.append(name)
            return f"**failed**: {type(e).__name__}: {first_line(e)}"

    def picture(self, name: str, png: bytes, caption: str) -> None:
        """Write a picture beside the report and show it there."""
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / name).write_bytes(png)
        self.write("", f"![{caption}]({name})", "", caption)


def has_bf16(device: torch.device) -> bool:
    """Whether a GPU has bf16 in hardware (torch itself also counts those that emulate it)."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8


def wait(device: torch.device) -> None:
    """Until the device has done what it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds_of(act: Callable[[], Any], device: torch.device, times: int, warm: int = 1) -> float:
    """Mean seconds of act(), after `warm` calls that do not count."""
    for _ in range(warm):
        act()
    wait(device)
    start = time.perf_counter()
    for _ in range(times):
        act()
    wait(device)
    return (time.perf_counter() - start) / times


class Kept:
    """Images of the right kind that lie ready, so that drawing them is not measured."""

    def __init__(self, images: Any, n: int, device: torch.device) -> None:
        self.x, self.digest = images(torch.arange(n)).to(device), "kept"

    def __len__(self) -> int:
        return len(self.x)

    def __call__(self, indices: Tensor, flips: Tensor) -> Tensor:
        return self.x[indices.to(self.x.device) % len(self.x)]


def first_task(device: torch.device, **changes: Any) -> stage1.IVQVAETask:
    """Stage 1 of the small preset, or another."""
    return stage1.IVQVAETask(make_config(Stage1, **TINY | changes), device)


def second_task(device: torch.device, **changes: Any) -> stage2.FFTDTask:
    """Stage 2 on random latents of a preset."""
    config = make_config(Stage2, **dict(batch_size=16) | changes)
    grid = presets.network("FFTD", config.preset)["grid"]
    z = torch.randn(64, 4, grid, grid, generator=torch.Generator().manual_seed(0))
    stored: dict[str, Any] = dict(z=z, flipped=z, labels=None, classes=[], tokenizer="random")
    return stage2.FFTDTask(config, device, stored)


TASKS = {"stage 1": first_task, "stage 2": second_task}


def steps_of(task: Any, n: int) -> list[dict[str, Any]]:
    """The losses of n steps."""
    batch = task.config.batch_size
    found = []
    for step in range(1, n + 1):
        torch.manual_seed(step)
        indices = (torch.arange(batch) + step * batch) % 64
        found.append(task.step(step, indices, torch.zeros(batch, dtype=torch.bool)))
    return found


def weights_of(task: Any) -> Tensor:
    """All weights as one vector, on the CPU."""
    return torch.cat([p.detach().float().cpu().flatten() for p in task.model.parameters()])


def machine(check: Check) -> None:
    """What this is."""
    facts = [f"PyTorch {torch.__version__}, Python {sys.version.split()[0]}"]
    if check.device.type == "cuda":
        gpu = torch.cuda.get_device_properties(check.device)
        facts.append(f"{gpu.name}, {gpu.total_memory / 1e9:.1f} GB, compute capability "
                     f"{gpu.major}.{gpu.minor}, {torch.cuda.device_count()} of them; bf16 in "
                     f"hardware: {'yes' if has_bf16(check.device) else 'no'}")
    else:
        facts.append(f"CPU, {torch.get_num_threads()} threads. **A dry run: nothing below says "
                     "anything about a GPU.**")
    check.write("# What this machine makes of the course", "",
                *(f"- {fact}" for fact in facts), "")


def paths(check: Check) -> None:
    """Number formats, fused Adam, compile, CUDA graphs, several processes."""
    device, rows = check.device, []
    for name, make in TASKS.items():
        for precision in ("float32", "bf16", "float16"):
            def act(make=make, precision=precision):
                losses = steps_of(make(device, precision=precision), 3)
                first = [float(next(iter(loss.values()))) for loss in losses]
                skipped = sum(bool(loss["skipped"]) for loss in losses)
                if not all(map(torch.isfinite, map(torch.tensor, first))):
                    raise ArithmeticError(f"a loss is not finite: {first}")
                return f"losses {first[0]:.4f} to {first[-1]:.4f}, {skipped} steps skipped"
            rows.append([f"{name}, {precision}", check.attempt(f"{name} {precision}", act)])
    rows.append(["fused Adam", check.attempt("fused Adam", lambda: fused(device))])
    for name, make in TASKS.items():
        def compiled(make=make):
            a, b = (steps_of(make(device, compile=c), 3)[-1] for c in (False, True))
            return f"last loss {float(next(iter(a.values()))):.5f}, compiled " \
                   f"{float(next(iter(b.values()))):.5f}"
        came = "left out of a dry run" if check.dry else check.attempt(f"{name} compile", compiled)
        rows.append([f"{name}, torch.compile", came])
    came = "needs CUDA" if device.type != "cuda" else check.attempt("graphs", lambda: graph(device))
    rows.append(["CUDA graph of FFTD", came])
    rows.append(["two processes", check.attempt("processes", lambda: two_processes(check))])
    check.write("## Every path, tried", "")
    check.table(["path", "what came"], rows)


def fused(device: torch.device) -> str:
    """Adam's fused step against the plain one."""
    nets = []
    for choice in (False, True):
        torch.manual_seed(0)
        net = nn.Linear(64, 64).to(device)
        optimiser = torch.optim.Adam(net.parameters(), 1e-3, fused=choice)
        x = torch.ones(8, 64, device=device)
        for _ in range(5):
            optimiser.zero_grad()
            net(x).square().mean().backward()
            optimiser.step()
        nets.append(net.weight.detach())
    return f"after five steps largest difference to the plain one {_largest(*nets):.1e}"


def _largest(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def graph(device: torch.device) -> str:
    """One forward pass as a CUDA graph: the same numbers, and how long it takes."""
    net, z = denoiser("paper", device), torch.randn(1, 4, 4, 4, device=device)
    t = torch.tensor([500], device=device)
    replay, out = captured(net, z, t)
    with torch.no_grad():
        want = net(z, t)
        plain = seconds_of(lambda: net(z, t), device, 50, 5)
    replay()
    wait(device)
    quick = seconds_of(replay, device, 50, 5)
    return (f"largest difference {_largest(out, want):.1e}; {1000 * plain:.2f} ms a step eager, "
            f"{1000 * quick:.2f} ms as a graph (batch 1)")


def captured(net: nn.Module, z: Tensor, t: Tensor) -> tuple[Callable[[], None], Tensor]:
    """(replay, its output) of a forward pass captured as a CUDA graph."""
    with torch.no_grad():
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                net(z, t)
        torch.cuda.current_stream().wait_stream(side)
        recorded = torch.cuda.CUDAGraph()
        with torch.cuda.graph(recorded):
            out = net(z, t)
    return recorded.replay, out


def denoiser(preset: str, device: torch.device) -> fftd.FFTD:
    """An untrained FFTD that answers something else than zeros."""
    torch.manual_seed(0)
    net = fftd.FFTD(**presets.network("FFTD", preset))
    for p in net.parameters():
        nn.init.normal_(p, std=0.02)
    return net.to(device).eval()


def two_processes(check: Check) -> str:
    """Four steps of stage 1 by one process and by two: nccl with two GPUs, gloo in a dry run."""
    gpus = torch.cuda.device_count() if check.device.type == "cuda" else 0
    if check.device.type == "cuda" and gpus < 2:
        return "one GPU: not tried"
    with tempfile.TemporaryDirectory() as folder:
        words = [f"--{k.replace('_', '-')}={v}" for k, v in TINY.items() if k != "decay"]
        words += ["--no-decay", "--steps=4", "--device", "cuda" if gpus else "cpu"]
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
        for out, start in (("one", []), ("two", torchrun)):
            command = [sys.executable, *start, "-m", "minigen", "train-ivqvae", *words, "--out",
                       str(Path(folder) / out)]
            env = os.environ | {"OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, capture_output=True, text=True, env=env)
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
                raise RuntimeError(f"{out}: {last}")
        a, b = (checkpoints.latest(Path(folder) / out, "ivqvae") for out in ("one", "two"))
        assert a is not None and b is not None
        far = max(_largest(a["model"][k], b["model"][k]) for k in a["model"])
        return f"{'nccl' if gpus else 'gloo'}; largest difference to one process {far:.1e}"


def agreement(check: Check) -> None:
    """One step of both stages on the device and on the CPU."""
    rows = []
    for name, make in TASKS.items():
        def act(make=make):
            tasks = [make(torch.device("cpu")), make(check.device)]
            a, b = (steps_of(task, 1)[0] for task in tasks)
            loss = max(abs(float(a[k]) - float(b[k])) for k in a if k != "perplexity")
            return f"losses {loss:.1e}, weights {_largest(*map(weights_of, tasks)):.1e}"
        rows.append([name, check.attempt(f"agreement of {name}", act)])
    check.write("## One step, beside the CPU's", "",
                "Largest differences after one step from the same start, in float32 "
                f"({check.device.type} against cpu; a GPU's convolutions may use TF32).")
    check.table(["stage", "largest difference"], rows)


def resume(check: Check) -> None:
    """Six steps, and three and three."""
    def act() -> str:
        with tempfile.TemporaryDirectory() as folder:
            def train(name: str, steps: int, again: bool = False) -> None:
                config = make_config(Stage1, **TINY, steps=steps, out=str(Path(folder) / name),
                                     device=str(check.device))
                stage1.train_stage1(config, again, progress=False)
            train("whole", 6)
            train("parts", 3)
            train("parts", 6, True)
            a, b = (checkpoints.latest(Path(folder) / n, "ivqvae") for n in ("whole", "parts"))
            assert a is not None and b is not None
            far = max(_largest(a["model"][k], b["model"][k]) for k in a["model"])
            if far > 1e-3:
                raise ArithmeticError(f"the weights differ by {far:.1e}")
            return "bit for bit" if far == 0 else f"within {far:.1e}"
    came = check.attempt("resume", act)
    check.write("## Going on after a stop", "", f"Six steps against three and three: {came}.", "")


def throughput(check: Check) -> None:
    """Speed and memory of every preset."""
    rows, names = [], ("small",) if check.dry else presets.NAMES
    for preset in names:
        made = plan(preset)
        for stage in (1, 2):
            act = partial(speed, check, preset, made, stage)
            rows.append([preset, stage, check.attempt(f"{preset} stage {stage}", act)])
    check.write("## Speed and memory of the presets", "",
                "Training steps with every loss (LPIPS with random weights: the same work without "
                "a download), images ready on the device. The share is of the peak that "
                "`minigen.engine.plan` lists for this GPU, where it does.")
    check.table(["preset", "stage", "batch", "format", "images/s", "TFLOP/s", "share of the peak",
                 "peak memory (plan's estimate)"], rows)


def speed(check: Check, preset: str, made: Plan, stage: int) -> str:
    """Measure one stage of a preset. Returns: the rest of its row."""
    device, times = check.device, 3 if check.dry else 10
    config: Any = (made.one, made.two)[stage - 1]
    changes: dict[str, Any] = dict(preset=preset, batch_size=config.batch_size)
    if config.precision == "bf16" and device.type == "cuda" and not has_bf16(device):
        changes["precision"] = "float16"
    if check.dry:
        changes["batch_size"] = 8
    elif stage == 1:
        have = 0.9 * torch.cuda.get_device_properties(device).total_memory
        changes["accumulate"] = parts_for(made, have) or config.batch_size
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    w = made.work
    if stage == 1:
        task: Any = first_task(device, **changes, init_images=0, perceptual="none", steps=1000)
        task.perceptual = critic(made.one.perceptual).to(device)
        task.images = Kept(task.images, min(64, max(8, changes["batch_size"])), device)
        work = w.autoencoder + w.perceptual + w.discriminator
    else:
        task, work = second_task(device, **changes), w.denoiser
    batch = task.config.batch_size
    zeros = torch.zeros(batch, dtype=torch.bool)
    each = seconds_of(lambda: task.step(1, torch.arange(batch) % 64, zeros), device, times, 3)
    rate = batch / each
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    peak = peak_of(name, task.config.precision)
    share = f"{rate * work / (peak * 1e12):.0%}" if peak else "–"
    used = f"{torch.cuda.max_memory_allocated() / 1e9:.1f} GB" if device.type == "cuda" else "–"
    parts = getattr(task.config, "accumulate", 1)
    told = f"{batch}" if parts == 1 else f"{batch}, in {parts} parts"
    return (f"{told} | {task.config.precision} | {rate:,.1f} | {rate * work / 1e12:.2f} | {share} "
            f"| {used} ({made.memory(stage) / 1e9:.1f} GB)")


def peak_of(name: str, precision: str) -> float | None:
    """The peak in TFLOP/s of a GPU that calls itself so, where the planner knows it."""
    for gpu in GPUS:
        if re.search(rf"\b{gpu.name}\b", name, re.I):
            return gpu.peaks.get(precision)
    return None


def critic(kind: str) -> nn.Module:
    """A perceptual loss without a download."""
    if kind == "toy":
        from minigen.perceptual import ToyPerceptual
        return ToyPerceptual()
    return VGGDistance()


def sampling(check: Check) -> None:
    """500 DDIM steps, in milliseconds an image."""
    device, preset = check.device, "small" if check.dry else "paper"
    steps, config = 20 if check.dry else 500, presets.network("FFTD", preset)
    net, rows = denoiser(preset, device), []
    theirs = bench.diffusers_dit(config, str(device))
    diffusion = ddpm.diffusion_of(net)
    for batch in (1, 64) if check.dry else (1, 16, 64, 256, 1024):
        z = torch.randn(batch, 4, config["grid"], config["grid"], device=device)
        t = torch.tensor([500], device=device)

        def whole(z=z):
            ddpm.last(ddim.ddim_sample(net, diffusion, z, steps=steps, batch_size=len(z)))

        with torch.no_grad():
            acts = [("sampling", partial(seconds_of, whole, device, 1, int(batch == 1)), 1)]
            if device.type == "cuda":
                acts.append(("sampling with a graph", partial(replayed, net, z, t), steps))
            if theirs is not None:
                step = partial(seconds_of, partial(theirs, z, t), device, 3, 1)
                acts.append(("diffusers", step, steps))
            rows.append([batch, *(check.attempt(name, partial(told, act, times / batch))
                                  for name, act, times in acts)])
    head = ["batch", f"{steps} DDIM steps, eager"]
    head += [f"{steps} × the network as a CUDA graph"] if device.type == "cuda" else []
    head += [f"{steps} × diffusers' DiT of the same size"] if theirs is not None else []
    absent = "" if theirs is not None else " diffusers is not installed: nothing beside it."
    check.write("## Sampling", "", f"The {preset} FFTD in float32, milliseconds an image, without "
                f"the decoder.{absent}")
    check.table(head, rows)


def told(act: Callable[[], float], factor: float) -> str:
    """Milliseconds of so many times act() seconds."""
    return f"{1000 * factor * act():.2f}"


def replayed(net: nn.Module, z: Tensor, t: Tensor) -> float:
    """Seconds of a forward pass as a CUDA graph."""
    return seconds_of(captured(net, z, t)[0], z.device, 20, 2)


def both_stages(check: Check) -> None:
    """Stage 1 and 2 on drawn faces, for the rest of the time."""
    device, preset = check.device, "small" if check.dry else "colab"
    share = max(10.0, 0.8 * check.left())
    precision = "float32" if check.dry else "bf16" if has_bf16(device) else "float16"
    n, runs = (256, check.out / "dry") if check.dry else (2048, check.out / "runs")
    runs = runs.with_name(f"{runs.name}-{int(time.time())}")
    common: dict[str, Any] = dict(preset=preset, device=str(device), log_every=5, keep=1,
                                  precision=precision)
    perceptual = "toy" if check.dry else "none"       # LPIPS would need its weights
    one = dict(common, data=f"toyfaces:{n}", perceptual=perceptual,
               init_images=64 if check.dry else 1024, batch_size=16 if check.dry else 32)
    trial = stage1.IVQVAETask(make_config(Stage1, **one, steps=1000), device)
    each = seconds_of(lambda: steps_of(trial, 1), device, 2, 1)
    steps = int(min(4000, max(10, 0.6 * share / each)))
    quiet = dict(sample_every=10**9, save_every=10**9)
    config = make_config(Stage1, **one | quiet, steps=steps, out=str(runs / "ivqvae"))
    auto = stage1.train_stage1(config, progress=False)
    log = losses(runs / "ivqvae")
    latents = encode_images(f"toyfaces:{n}", auto, runs / "latents.safetensors",
                            device=str(device), progress=False)
    second: dict[str, Any] = dict(common, prediction="v", schedule="cosine",
                                  latents=str(latents), batch_size=64 if check.dry else 256)
    each = seconds_of(lambda: steps_of(second_task(device, preset=preset, precision=precision,
                                                   batch_size=second["batch_size"]), 1),
                      device, 2, 1)
    more = int(min(10_000, max(10, 0.25 * share / each)))
    config2 = make_config(Stage2, **second | quiet, steps=more, out=str(runs / "fftd"))
    two = stage2.train_stage2(config2, auto, progress=False)
    sampler = drawing.Sampler(two, auto, steps=20 if check.dry else 100, device=str(device))
    size = presets.SIZES[preset]
    check.write(f"## Both stages on drawn faces of {size}×{size}", "",
                f"`{preset}` in {precision}, perceptual loss: {perceptual}; {n} faces; stage 1: "
                f"{steps} steps of {config.batch_size}, stage 2: {more} steps of "
                f"{config2.batch_size}. L1 {log['l1'][-1]:.3f} at the end; {log['use'][-1]:.0%} of "
                f"{presets.network('IVQVAE', preset)['num_codes']:,} codes used, perplexity "
                f"{log['perplexity'][-1]:,.0f}.")
    check.picture("losses.png", drawn_curves(log, losses(runs / "fftd")), "Stage 1: L1 and the "
                  "share of the codebook in use; stage 2: its loss, over the steps.")
    real = trial.images(torch.arange(8))
    both = torch.cat([real, _tokens(auto, real, device)])
    grid = image_grid(both, columns=8, row_titles=["real", "tokens"])
    check.picture("tokens.png", to_png(grid), "Eight faces, and what their tokens leave of them.")
    samples = from_uint8(sampler(0, 16))
    check.picture("samples.png", to_png(image_grid(samples, columns=8)), "Sixteen samples.")


def _tokens(weights: Path, x: Tensor, device: torch.device) -> Tensor:
    from minigen.files import load_weights

    model = load_weights(ivqvae.IVQVAE, weights).to(device)
    with torch.no_grad():
        return model.decode_indices(model.encode_indices(x.to(device))).cpu()


def losses(folder: Path) -> dict[str, list[float]]:
    """losses.csv by column."""
    with open(folder / "losses.csv", newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    return {k: [float(r[k]) for r in rows] for k in rows[0]}


def drawn_curves(one: dict[str, list[float]], two: dict[str, list[float]]) -> bytes:
    """The curves of both stages as a PNG."""
    import io

    fig, axes = panels(1, 3)
    curves({"L1": one["l1"]}, x=one["step"], ax=axes[0, 0], ylabel="L1, stage 1")
    curves({"use": one["use"]}, x=one["step"], ax=axes[0, 1], ylabel="share of codes in use")
    curves({"loss": two["loss"]}, x=two["step"], ax=axes[0, 2], ylabel="loss, stage 2")
    file = io.BytesIO()
    fig.savefig(file, format="png", dpi=100)
    plt.close(fig)
    return file.getvalue()


PARTS = {"paths": paths, "agreement": agreement, "resume": resume, "throughput": throughput,
         "sampling": sampling, "stages": both_stages}


def run(check: Check, parts: list[str]) -> int:
    """Write the report. Returns: the exit code."""
    machine(check)
    for name in parts:
        say(f"{name} … ({max(0, check.left()):.0f} s left)")
        try:
            PARTS[name](check)
        except Exception as e:  # the rest is still worth knowing
            check.failed.append(name)
            check.write(f"## {name}", "", f"**failed**: {type(e).__name__}: {first_line(e)}", "")
    end = "All that was tried went well."
    if check.failed:
        end = f"Failed: {', '.join(check.failed)}."
    check.write("", end)
    say(f"{end} The report is in {check.out / 'report.md'}")
    return 1 if check.failed else 0


def main(argv: list[str] | None = None) -> int:
    """The command line. Returns: the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--dry-run", action="store_true", help="the CPU's part, small")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="folder of the report")
    parser.add_argument("--minutes", type=float, help="about how long (default 10; dry run 1.5)")
    parser.add_argument("--only", choices=list(PARTS), action="append", help="some parts only")
    a = parser.parse_args(argv)
    if not a.dry_run and not torch.cuda.is_available():
        say(NO_CUDA, sys.stderr)
        return 2
    minutes = a.minutes or (1.5 if a.dry_run else 10)
    device = torch.device("cpu" if a.dry_run else "cuda")
    end = time.monotonic() + 60 * minutes
    return run(Check(a.out, device, a.dry_run, end), a.only or list(PARTS))


if __name__ == "__main__":
    sys.exit(main())
