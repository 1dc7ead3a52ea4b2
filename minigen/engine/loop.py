"""Chapter 8: the loop under both stages. It logs, draws samples, saves, stops, and goes on.

Everything random is a function of (seed, step), so that nothing but the step need be remembered:
ten steps are five, a crash, and five more, bit for bit on a CPU with the same number of threads
and processes (sums are added up in another order with other numbers, and results differ in the
last digits). With torchrun each process takes every world-size-th image of the same batches.
"""

import contextlib
import functools
import hashlib
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from tqdm.auto import tqdm

from minigen import room, stops
from minigen.engine import checkpoints, runs
from minigen.engine.planned import size
from minigen.engine.processes import from_first, mine, pick_device, rank, wait_for_all, world
from minigen.errors import DataError, first_line, say
from minigen.files import write_text
from minigen.names import how_many

BAR = "{desc} |{bar}| {n_fmt}/{total_fmt}, {remaining} left{postfix}"    # within 80 columns


class Task(Protocol):
    """What is trained, a step at a time."""

    def state(self) -> dict[str, Any]:
        """All that a checkpoint must hold: weights, averages, optimisers."""

    def load(self, state: dict[str, Any]) -> None:
        """Go on from such a state."""

    def step(self, step: int, indices: Tensor, flips: Tensor) -> dict[str, Any]:
        """Train on these images, some mirrored: {name: loss as a 0-d tensor}.

        "skipped" is 1 where the gradient was not finite.
        """

    def sample(self, path: Path) -> None:
        """Draw a grid of samples."""


def seed_of(*words: object) -> int:
    """A 63-bit seed from anything printable, the same on every computer."""
    return int.from_bytes(hashlib.sha256(repr(words).encode()).digest()[:8], "big") >> 1


def generator_of(*words: object) -> torch.Generator:
    """A CPU generator of random numbers, seeded by `seed_of`."""
    return torch.Generator().manual_seed(seed_of(*words))


@functools.lru_cache(maxsize=2, typed=True)               # a batch may reach into the next epoch
def _epoch(seed: int, epoch: int, n: int) -> tuple[Tensor, Tensor]:
    """An epoch's order of n images, and which of them, by index, it shows mirrored: (n,) each."""
    order = torch.randperm(n, generator=generator_of(seed, "order", epoch))
    flips = torch.randint(2, (n,), generator=generator_of(seed, "flip", epoch)).bool()
    return order, flips


def batch_at(seed: int, step: int, batch_size: int, n: int) -> tuple[Tensor, Tensor]:
    """Which images step `step` (from 1) sees, and which of them mirrored: (indices, flips).

    Epochs are permutations of all n images, one after another without a gap; flips depend on
    (seed, epoch, index) alone. Shapes: (batch_size,) each.
    """
    places = torch.arange((step - 1) * batch_size, step * batch_size)
    indices, flips = torch.empty_like(places), torch.empty(len(places), dtype=torch.bool)
    for epoch in (places // n).unique().tolist():
        order, mirrored = _epoch(seed, epoch, n)
        here = places // n == epoch
        indices[here] = order[places[here] % n]
        flips[here] = mirrored[indices[here]]
    return indices, flips


def step_if_finite(
    optimiser: torch.optim.Optimizer, clip: float = 1.0, scale: float = 1.0,
    scaler: torch.amp.GradScaler | None = None,
) -> bool:
    """Clip the gradient to length `clip` and step, unless it holds NaN or infinity.

    scale: the factor of the learning rate at this step. scaler: what the loss was multiplied with,
    taken out of the gradient first. Returns: whether it stepped.
    """
    scaler = scaler or torch.amp.GradScaler(enabled=False)
    scaler.unscale_(optimiser)
    groups = optimiser.param_groups
    parameters = [p for group in groups for p in group["params"] if p.grad is not None]
    stepped = bool(torch.isfinite(nn.utils.clip_grad_norm_(parameters, clip)))
    scaler.update()
    if not stepped:
        optimiser.zero_grad()
        return False
    for group in groups:
        group["lr"] = group.setdefault("base_lr", group["lr"]) * scale
    optimiser.step()
    return True


class Stopped(KeyboardInterrupt):
    """The training was asked to stop, by the signal `number`, and was saved."""

    def __init__(self, sentence: str, number: int = signal.SIGINT) -> None:
        super().__init__(sentence)
        self.number = number


def train(
    task: Task, out: Path | str, *, kind: str, config: dict[str, Any], n: int,
    resume: bool = False, progress: bool = True, begin: Callable[[], object] | None = None,
    pictures: float = 0,
) -> int:
    """Run `task` on n images for config["steps"] steps. Returns: the number of the last step.

    config: seed, batch_size, steps, save_every, sample_every, log_every, keep, max_skipped, as
    stored in config.json. The first two losses of a step stand behind the bar, all of them in
    losses.csv. begin: called by the first process when everything is checked and the training
    begins. pictures: bytes of all pictures that will be drawn, at most. SIGTERM and Ctrl-C save at
    the end of the step and raise `Stopped`.
    Raises: DataError for a disk without room for the checkpoints, which is said with the numbers
    before anything is made; for a folder that may not be used (`runs.check_folder`), or has done
    more steps, or of whose checkpoints none is whole; and after max_skipped steps in a row without
    a finite gradient; failed_batch.json then tells which images.
    """
    out, steps = Path(out), config["steps"]
    asked: list[int] = []                                     # the signals that came
    stops.raise_pending()
    needs = _room(task, out, config, pictures)
    with contextlib.ExitStack() as stack:
        claim = runs.claimed(out, kind, config, resume)
        from_first(lambda: stack.enter_context(claim))
        run = runs.identity(config, kind)
        done = _go_on(task, out, kind, run, steps) if resume else 0
        wait_for_all()                                        # all have read before one writes
        log = runs.Log(out, done) if rank() == 0 else None
        if begin and rank() == 0:
            begin()
        if progress and rank() == 0:
            say(needs)
        stack.enter_context(_noting_signals(asked))
        bar = stack.enter_context(tqdm(
            range(done + 1, steps + 1), initial=done, total=steps, desc=kind, bar_format=BAR,
            disable=not progress or rank() > 0))
        last, skipped = done, 0                               # skipped in a row
        start = time.perf_counter()
        for step in bar:
            # dropout and revived codes draw from torch's own generator
            torch.manual_seed(seed_of(config["seed"], "step", step, rank()))
            indices, flips = batch_at(config["seed"], step, config["batch_size"], n)
            losses = task.step(step, mine(indices), mine(flips))
            last = step
            skipped = skipped + 1 if losses.pop("skipped", 0) else 0
            if skipped >= config["max_skipped"]:
                _give_up(out, step, skipped, indices, losses)
            if log and (step % config["log_every"] == 0 or step == steps):
                values = {k: float(v) for k, v in losses.items()}
                rate = config["batch_size"] * (step - done) / (time.perf_counter() - start)
                log.write(step, values | dict(skipped=skipped, images_per_s=rate))
                bar.set_postfix_str(_behind_the_bar(values, rate))
            if rank() == 0 and step % config["sample_every"] == 0:
                task.sample(out / f"samples-{step:08d}.png")
            stop = _all_agree(asked)
            if rank() == 0 and (stop or step % config["save_every"] == 0 or step == steps):
                checkpoints.save(out, step, dict(task.state(), kind=kind, run=run), config["keep"])
            if stop:
                number = asked[-1] if asked else signal.SIGINT
                raise Stopped(f"stopped and saved after step {step}; go on with --resume", number)
    return last


def _behind_the_bar(values: dict[str, float], rate: float) -> str:
    """The first two losses and the speed; the rest is in losses.csv."""
    shown = [f"{name} {value:.3g}" for name, value in list(values.items())[:2]]
    return ", ".join([*shown, f"{rate:.{0 if rate >= 10 else 1}f} images/s"])


def _room(task: Task, out: Path, config: dict[str, Any], pictures: float) -> str:
    """What a training needs of the disk and of memory, in words.

    Raises: DataError where the disk has less.
    """
    # Adam's moments come with the first step; the oldest checkpoint goes after the next is there
    each = room.bytes_of(task.state()) + getattr(task, "moments", 0)
    kept = config["keep"] + 1
    left = max(1, kept - len(checkpoints.found(out)))
    room.require_disk(out, left * each + pictures, f"{how_many(left, 'checkpoint')} of this "
                      "training and its pictures", "keep fewer (--keep 1), ")
    text = f"Room: on disk at most {how_many(kept, 'checkpoint')} of {size(each)}"
    text += f" and {size(pictures)} of pictures" if pictures else ""
    memory = getattr(task, "memory", None)
    return text + (f"; in memory at least {size(memory)}." if memory else ".")


def _go_on(task: Task, out: Path, kind: str, run: dict[str, Any], steps: int) -> int:
    """Load the newest whole state of this run into the task.

    Returns: its step, 0 where there is nothing to go on from.
    """
    tell: Callable[[str], None] = say if rank() == 0 else lambda _: None
    for state in checkpoints.states(out, kind, tell, run):
        if state["step"] > steps:
            raise DataError(f"'{out}' has done {state['step']} steps already; --steps {steps} "
                            "asks for fewer.")
        try:
            task.load(state)
            return state["step"]
        except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as e:
            # of another network, say
            tell(f"Refused: the checkpoint of step {state['step']} does not fit "
                 f"({type(e).__name__}: {first_line(e)}). Trying the one before.")
    if checkpoints.found(out):
        raise DataError(f"None of the checkpoints in '{out}' is whole and of this run. To begin "
                        "anew choose another --out.")
    tell(f"'{out}' has no checkpoint to go on from: starting with step 1.")
    return 0


@contextlib.contextmanager
def _noting_signals(asked: list[int]):
    """In the block SIGTERM and Ctrl-C only become entries of `asked`."""
    def note(number, frame):
        asked.append(number)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:                                        # not the main thread
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _all_agree(asked: list[int]) -> bool:
    """Whether any process was asked to stop: all must stop at the same step."""
    if world() == 1:
        return bool(asked)
    device = pick_device() if dist.get_backend() == "nccl" else "cpu"
    flag = torch.tensor(float(bool(asked)), device=device)
    dist.all_reduce(flag)
    return bool(flag)


def _give_up(
    out: Path, step: int, skipped: int, indices: Tensor, losses: dict[str, Tensor]
) -> None:
    values = {k: float(v) for k, v in losses.items()}
    record = dict(step=step, images=indices.tolist(), losses=values)
    if rank() == 0:
        write_text(out / "failed_batch.json", json.dumps(record) + "\n")
    good = [s for s, _ in checkpoints.found(out) if s <= step - skipped]
    rest = (f"the last good checkpoint is that of step {good[-1]}" if good
            else "there is no checkpoint from before")
    raise DataError(f"No finite gradient in {skipped} steps in a row, up to step {step}: begin "
                    "anew in another --out with a smaller learning rate, or float32 instead of "
                    f"16 bits. The last batch is in failed_batch.json; {rest}.")
