import importlib
import inspect
import math
import os
import subprocess
import sys

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook


@pytest.fixture(autouse=True)
def seeded():
    """Every test begins with the same random numbers, alone, in order or shuffled.

    And with as many threads: two that one test asked for would hold up all that follow.
    """
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def peer(name):
    """A library the tests compare with: skipped where it is not installed, but never in CI."""
    try:
        return importlib.import_module(name)
    except ImportError:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"the peer {name} is not installed: pip install -r requirements-test.txt")


def defaults(function):
    """{argument: default} of a function or class, for the arguments that have one."""
    found = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in found if p.default is not p.empty}


NUMBERS = (
    "in_features",
    "out_features",
    "in_channels",
    "out_channels",
    "kernel_size",
    "stride",
    "padding",
    "num_groups",
    "num_channels",
    "num_features",
    "normalized_shape",
    "num_embeddings",
    "embedding_dim",
    "negative_slope",
    "p",
    "scale_factor",
    "mode",
    "approximate",
)


def layers(model):
    """What an architecture is: its layers in order, each with its numbers, as one line of text.

    A convolution reads "Conv2d in out kernel stride padding".
    """
    lines = []
    for m in model.modules():
        if next(m.children(), None) is None:
            numbers = [getattr(m, name) for name in NUMBERS if hasattr(m, name)]
            words = [type(m).__name__, *(n[0] if isinstance(n, tuple) else n for n in numbers)]
            words += ["no bias"] if getattr(m, "bias", True) is None else []
            lines.append(" ".join(map(str, words)))
    return "; ".join(lines)


def said(text):
    """Text written over several lines, as one line."""
    return " ".join(text.split())


def size_of(make):
    """How many parameters the model has that `make` builds."""
    return sum(p.numel() for p in make().parameters())


def cycle(start, top, end, steps):
    """`steps` values on two half cosines: to `top` in a tenth of steps + 1, then to `end`.

    The step after the last would be at `end`. It is the course's one cycle, by hand.
    """
    peak = 0.1 * (steps + 1) - 1

    def bend(a, b, share):
        return b + (a - b) * (1 + math.cos(math.pi * share)) / 2

    return [
        bend(start, top, k / peak) if k <= peak else bend(top, end, (k - peak) / (steps - peak))
        for k in range(steps)
    ]


def one_cycle(highest, steps):
    """The learning rate at every step: from a 25th of the highest up to it, and down to a
    250,000th."""
    return cycle(highest / 25, highest, highest / 250_000, steps)


@pytest.fixture
def optimiser_steps():
    """A list that grows by (optimiser's class, group's settings, length of the gradient) at every
    step an optimiser takes."""
    seen = []

    def note(optimiser, *_):
        (group,) = optimiser.param_groups
        grads = [p.grad.flatten() for p in group["params"] if p.grad is not None]
        settings = {k: v for k, v in group.items() if k in ("lr", "betas", "weight_decay")}
        seen.append((type(optimiser).__name__, settings, float(torch.cat(grads).norm())))

    handle = register_optimizer_step_pre_hook(note)
    yield seen
    handle.remove()


HOLD = """
import sys, time
from minigen import disk
with disk.held(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def held_by_another():
    """Starts another process that holds a lock file; ended after the test."""
    started = []

    def hold(path):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()
