"""Chapter 8: the engine under both stages. A loop that logs, draws samples, saves, stops and goes on without losing a step.

Everything random is a function of (seed, step), so that nothing but the step need be remembered: ten steps are five, a crash,
and five more, bit for bit on a CPU. With torchrun each process takes every world-size-th image of the same batches.
"""

import contextlib
import csv
import hashlib
import json
import os
import signal
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from tqdm.auto import tqdm

from minigen import checkpoints
from minigen.errors import DataError
from minigen.files import replacing


def seed_of(*words):
    """A 63-bit seed from anything printable, the same on every computer."""
    return int.from_bytes(hashlib.sha256(repr(words).encode()).digest()[:8], "big") >> 1


def generator_of(*words):
    """A CPU generator of random numbers, seeded by `seed_of`."""
    return torch.Generator().manual_seed(seed_of(*words))


def batch_at(seed, step, batch_size, n):
    """Which images step `step` (from 1) sees, and which of them mirrored: (indices, flips), (batch_size,) each.

    Epochs are permutations of all n images, one after another without a gap; flips depend on (seed, epoch, index) alone.
    """
    places = torch.arange((step - 1) * batch_size, step * batch_size)
    indices, flips = torch.empty_like(places), torch.empty(len(places), dtype=torch.bool)
    for epoch in (places // n).unique().tolist():
        here = places // n == epoch
        indices[here] = torch.randperm(n, generator=generator_of(seed, "order", epoch))[places[here] % n]
        flips[here] = torch.randint(2, (n,), generator=generator_of(seed, "flip", epoch)).bool()[indices[here]]
    return indices, flips


def pick_device(name=""):
    """The named device, else this process's own GPU (torchrun tells which), else the CPU."""
    device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cuda" and device.index is None and "LOCAL_RANK" in os.environ:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    return device


def rank():
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else int(os.environ.get("RANK", 0))


def world():
    """How many processes share the work; torchrun says so before they have joined."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_world_size()
    return int(os.environ.get("WORLD_SIZE", 1))


@contextlib.contextmanager
def processes(device):
    """Join the other processes where torchrun started some, and leave them in good order."""
    if world() == 1:
        yield
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
        dist.barrier()
    finally:
        dist.destroy_process_group()


def mine(batch):
    """This process's share of a batch (every world-size-th row)."""
    return batch[rank() :: world()]


def step_if_finite(optimiser, clip=1.0, scale=1.0):
    """Clip the gradient to length `clip` and step, unless it holds NaN or infinity. Returns: whether it stepped.

    scale: the factor of the learning rate at this step.
    """
    parameters = [p for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
    if not torch.isfinite(nn.utils.clip_grad_norm_(parameters, clip)):
        optimiser.zero_grad()
        return False
    for group in optimiser.param_groups:
        group["lr"] = group.setdefault("base_lr", group["lr"]) * scale
    optimiser.step()
    return True


class Log:
    """Losses as rows of a CSV file, and in TensorBoard where that is installed. Rows after `start` are forgotten."""

    def __init__(self, folder, start=0):
        self.path, self.columns, rows = Path(folder) / "losses.csv", None, []
        if start and self.path.exists():
            with open(self.path, newline="", encoding="utf-8") as f:
                rows = [r for r in csv.DictReader(f) if r["step"].isdigit() and int(r["step"]) <= start]
        with replacing(self.path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as f:
            if rows:
                self.columns = list(rows[0])
                writer = csv.DictWriter(f, self.columns)
                writer.writeheader(), writer.writerows(rows)
        try:
            from torch.utils.tensorboard import SummaryWriter
            self.board = SummaryWriter(str(folder), purge_step=start + 1)
        except ImportError:
            self.board = None

    def write(self, step, values):
        row = {"step": step} | {k: f"{v:.6g}" for k, v in values.items()}
        with open(self.path, "a", newline="", encoding="utf-8") as f:
            writer = csv.DictWriter(f, self.columns or list(row))
            if self.columns is None:
                self.columns = list(row)
                writer.writeheader()
            writer.writerow(row)
        if self.board:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)


class Stopped(KeyboardInterrupt):
    """The training was asked to stop, and was saved."""


def open_folder(out, kind, config, resume):
    """Make or check a training's folder, with its config.json. Returns: the state to go on from, or None.

    Raises: DataError for a folder with another training or, without `resume`, with one to go on from; for a config that differs
    in anything but how often something is written (and the number of steps, where the learning rate does not depend on it); for
    checkpoints of which none is whole.
    """
    out, path = Path(out), Path(out) / "config.json"
    free = {"save_every", "sample_every", "log_every", "keep", "device"} | ({"steps"} if not config.get("decay") else set())
    if checkpoints.found(out) or path.exists():
        if not resume:
            raise DataError(f"'{out}' holds a training already: go on with --resume, or choose another --out.")
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as e:
            raise DataError(f"'{path}' cannot be read ({e}); put it back, or choose another --out.") from None
        now = json.loads(json.dumps(dict(config, kind=kind)))
        if changed := sorted(k for k in before.keys() | now.keys() if before.get(k) != now.get(k) and k not in free):
            k = changed[0]
            raise DataError(f"'{out}' was trained with {k}={before.get(k)!r}, not {now.get(k)!r}; to resume, leave it as it was.")
    say = print if rank() == 0 else lambda _: None
    state = checkpoints.latest(out, kind, say) if resume else None
    if resume and state is None:
        if checkpoints.found(out):
            raise DataError(f"None of the checkpoints in '{out}' is whole. To begin anew choose another --out.")
        say(f"'{out}' has no checkpoint to go on from: starting with step 1.")
    if world() > 1:
        dist.barrier()                                    # all have looked before one writes
    if rank() == 0:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(dict(config, kind=kind), indent=1) + "\n", encoding="utf-8")
    return state


def train(task, out, *, kind, config, n, resume=False, progress=True):
    """Run `task` for config["steps"] steps. Returns: the number of the last step.

    task: `state()` and `load(state)` for checkpoints; `step(step, indices, flips)` → {name: loss as a 0-d tensor}, with
    "skipped" = 1 where the gradient was not finite; `sample(path)` draws a grid.
    config: seed, batch_size, steps, save_every, sample_every, log_every, keep, max_skipped, as stored in config.json.
    SIGTERM and Ctrl-C save at the end of the step and raise `Stopped`. Raises: DataError after max_skipped steps in a row
    without a finite gradient; failed_batch.json then tells which images.
    """
    out, asked = Path(out), []
    out.mkdir(parents=True, exist_ok=True)
    state = open_folder(out, kind, config, resume)
    first = 1
    if state is not None:
        task.load(state)
        first = state["step"] + 1
    log, skipped, saved = Log(out, first - 1) if rank() == 0 else None, 0, first - 1
    handlers = _catch(asked)
    bar = tqdm(range(first, config["steps"] + 1), initial=first - 1, total=config["steps"], desc=kind,
               disable=not progress or rank() > 0)
    last, start = first - 1, time.perf_counter()
    try:
        for step in bar:
            torch.manual_seed(seed_of(config["seed"], "step", step, rank()))      # dropout, revived codes
            indices, flips = batch_at(config["seed"], step, config["batch_size"], n)
            losses = task.step(step, mine(indices), mine(flips))
            last = step
            skipped = skipped + 1 if losses.pop("skipped", 0) else 0
            if skipped >= config["max_skipped"]:
                _give_up(out, step, skipped, indices, losses)
            if log and (step % config["log_every"] == 0 or step == config["steps"]):
                values = {k: float(v) for k, v in losses.items()}
                rate = config["batch_size"] * (step - first + 1) / (time.perf_counter() - start)
                log.write(step, values | dict(skipped=skipped, images_per_s=rate))
                bar.set_postfix({k: f"{v:.4g}" for k, v in values.items()} | {"images/s": f"{rate:.3g}"})
            if rank() == 0 and step % config["sample_every"] == 0:
                task.sample(out / f"samples-{step:08d}.png")
            if (stop := _all_agree(asked)) or step % config["save_every"] == 0 or step == config["steps"]:
                if rank() == 0:
                    checkpoints.save(out, step, dict(task.state(), kind=kind), config["keep"])
                saved = step
            if stop:
                raise Stopped(f"stopped and saved after step {saved}; go on with --resume")
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return last


def _catch(asked):
    """Turn SIGTERM and Ctrl-C into an entry of `asked`. Returns: the handlers before (none outside the main thread)."""
    def note(number, frame):
        asked.append(number)

    try:
        return {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:
        return {}


def _all_agree(asked):
    """Whether any process was asked to stop: all must stop at the same step."""
    if world() == 1:
        return bool(asked)
    flag = torch.tensor(float(bool(asked)), device=pick_device() if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(flag)
    return bool(flag)


def _give_up(out, step, skipped, indices, losses):
    told = dict(step=step, images=indices.tolist(), losses={k: float(v) for k, v in losses.items()})
    if rank() == 0:
        with replacing(out / "failed_batch.json") as temporary:
            temporary.write_text(json.dumps(told) + "\n", encoding="utf-8")
    raise DataError(f"No finite gradient in {skipped} steps in a row, up to step {step}: a smaller learning rate, or float32 "
                    f"instead of bf16? The last batch is in failed_batch.json; checkpoints up to step {step - skipped} are good.")
