"""Chapter 8: the engine under both stages. A loop that logs, draws samples, saves, stops and goes on without losing a step.

Everything random is a function of (seed, step), so that nothing but the step need be remembered: ten steps are five, a crash,
and five more, bit for bit on a CPU with the same number of threads and processes (sums are added up in another order with
other numbers, and results differ in the last digits). With torchrun each process takes every world-size-th image of the same
batches.
"""

import contextlib
import hashlib
import json
import signal
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from tqdm.auto import tqdm

from minigen import room, stops
from minigen.engine import checkpoints, runs
from minigen.engine.processes import from_first, mine, pick_device, processes, rank, wait_for_all, world
from minigen.errors import DataError, first_line, say
from minigen.files import write_text

__all__ = ["Stopped", "batch_at", "generator_of", "mine", "pick_device", "processes", "rank", "seed_of", "step_if_finite",
           "train", "world"]


BAR = "{desc} |{bar}| {n_fmt}/{total_fmt}, {remaining} left{postfix}"    # within 80 columns


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


class Stopped(KeyboardInterrupt):
    """The training was asked to stop, by the signal `number`, and was saved."""

    def __init__(self, sentence, number=signal.SIGINT):
        super().__init__(sentence)
        self.number = number


def train(task, out, *, kind, config, n, resume=False, progress=True):
    """Run `task` for config["steps"] steps. Returns: the number of the last step.

    task: `state()` and `load(state)` for checkpoints; `step(step, indices, flips)` → {name: loss as a 0-d tensor}, with
    "skipped" = 1 where the gradient was not finite; `sample(path)` draws a grid. The first two losses stand behind the bar,
    all of them in losses.csv.
    config: seed, batch_size, steps, save_every, sample_every, log_every, keep, max_skipped, as stored in config.json.
    SIGTERM and Ctrl-C save at the end of the step and raise `Stopped`. Raises: DataError for a folder that may not be used
    (`runs.check_folder`), or has done more steps, or of whose checkpoints none is whole; and after max_skipped steps in a row
    without a finite gradient; failed_batch.json then tells which images.
    """
    out, asked = Path(out), []
    stops.check()
    room.require_disk(out, 2 * _bytes_of(task.state()), "Two checkpoints of this training")   # one stays till the next is whole
    with contextlib.ExitStack() as stack:
        claim = runs.claimed(out, kind, config, resume)
        from_first(lambda: stack.enter_context(claim))
        run = runs.identity(config, kind)
        first = 1 + (_go_on(task, out, kind, run, config["steps"]) if resume else 0)
        wait_for_all()                                        # all have read before one writes
        log, skipped = runs.Log(out, first - 1) if rank() == 0 else None, 0
        handlers = _catch(asked)
        stack.callback(lambda: [signal.signal(number, handler) for number, handler in handlers.items()])
        bar = stack.enter_context(tqdm(range(first, config["steps"] + 1), initial=first - 1, total=config["steps"], desc=kind,
                                       bar_format=BAR, disable=not progress or rank() > 0))
        last, start = first - 1, time.perf_counter()
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
                shown = [f"{k} {v:.3g}" for k, v in list(values.items())[:2]]
                speed = f"{rate:.{0 if rate >= 10 else 1}f} images/s"
                bar.set_postfix_str(", ".join([*shown, speed]))       # the rest is in losses.csv
            if rank() == 0 and step % config["sample_every"] == 0:
                task.sample(out / f"samples-{step:08d}.png")
            stop = _all_agree(asked)
            if rank() == 0 and (stop or step % config["save_every"] == 0 or step == config["steps"]):
                checkpoints.save(out, step, dict(task.state(), kind=kind, run=run), config["keep"])
            if stop:
                number = asked[-1] if asked else signal.SIGINT
                raise Stopped(f"stopped and saved after step {step}; go on with --resume", number)
    return last


def _bytes_of(state):
    if isinstance(state, torch.Tensor):
        return state.numel() * state.element_size()
    return sum(map(_bytes_of, state.values())) if isinstance(state, dict) else 0


def _go_on(task, out, kind, run, steps):
    """Load the newest whole state of this run into the task. Returns: its step, 0 where there is nothing to go on from."""
    tell = say if rank() == 0 else lambda _: None
    for state in checkpoints.states(out, kind, tell, run):
        if state["step"] > steps:
            raise DataError(f"'{out}' has done {state['step']} steps already; --steps {steps} asks for fewer.")
        try:
            task.load(state)
            return state["step"]
        except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as e:      # of another network, say
            tell(f"Refused: the checkpoint of step {state['step']} does not fit ({type(e).__name__}: "
                 f"{first_line(e)}). Trying the one before.")
    if checkpoints.found(out):
        raise DataError(f"None of the checkpoints in '{out}' is whole and of this run. To begin anew choose another --out.")
    tell(f"'{out}' has no checkpoint to go on from: starting with step 1.")
    return 0


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
        write_text(out / "failed_batch.json", json.dumps(told) + "\n")
    good = [s for s, _ in checkpoints.found(out) if s <= step - skipped]
    rest = f"the last good checkpoint is that of step {good[-1]}" if good else "there is no checkpoint from before"
    raise DataError(f"No finite gradient in {skipped} steps in a row, up to step {step}: begin anew in another --out with a "
                    f"smaller learning rate, or float32 instead of bf16. The last batch is in failed_batch.json; {rest}.")
