"""Several GPUs on paper: the formulas by hand, and the bytes that processes really send."""

import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from minigen.__main__ import main
from minigen.engine import presets, scaling
from minigen.engine.plan import GPUS, plan
from minigen.engine.planned import WIDTH
from minigen.engine.scaling import LINKS, gradient_bytes, report, ring_bytes, shared
from minigen.errors import DataError
from minigen.fftd import FFTD

SENDING = """
import sys, torch, torch.distributed as dist
rank, world, store = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
dist.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=world)
written = lambda: int(open("/proc/self/io").read().split("wchar:")[1].split()[0])
gradients = torch.ones(250_000)
dist.all_reduce(gradients)                        # connects
before = written()
dist.all_reduce(gradients)
print(written() - before)
dist.barrier()
"""


@pytest.fixture(scope="module")
def eight():
    return plan("fast", gpus=8)


def test_a_ring_by_hand():
    assert [ring_bytes(120, n) for n in (1, 2, 3, 4)] == [0, 120, 160, 180]
    assert ring_bytes(1, 10**6) == pytest.approx(2, rel=1e-5)


@pytest.mark.skipif(not Path("/proc/self/io").exists() or not dist.is_gloo_available(),
                    reason="counts what a process has written in Linux's /proc")
@pytest.mark.parametrize("world", [2, 3])
def test_processes_send_what_the_formula_says(world, tmp_path):
    """Gloo's all-reduce of a megabyte between processes, counted by the kernel."""
    start = [sys.executable, "-c", SENDING]
    running = [subprocess.Popen([*start, str(rank), str(world), str(tmp_path / "store")],
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
               for rank in range(world)]
    sent = [int(p.communicate(timeout=120)[0].split()[-1]) for p in running]
    assert sent == [pytest.approx(ring_bytes(1e6, world), rel=0.01)] * world


def test_gradients_are_those_of_what_is_trained(eight):
    with torch.device("meta"):
        model = FFTD(**presets.network("FFTD", "fast"))
    assert gradient_bytes(eight, 2) == 4 * sum(p.numel() for p in model.parameters())
    assert gradient_bytes(eight, 1) == 4 * (eight.sizes["IVQVAE"] + eight.sizes["judge"])


@pytest.mark.parametrize("stage", [1, 2])
def test_a_step_by_hand_and_where_it_stops_to_pay(eight, stage):
    gpu = next(gpu for gpu in GPUS if gpu.name == "L4")
    step, alone = shared(eight, gpu, stage), shared(dataclasses.replace(eight, gpus=1), gpu, stage)
    assert step.compute == pytest.approx(alone.compute / 8) and alone.move == 0
    assert step.move == pytest.approx(1.75 * gradient_bytes(eight, stage) / 32e9)
    config = (eight.one, eight.two)[stage - 1]
    if stage == 2:                                # in stage 1 the plan has the judge begin later
        hours = alone.compute * config.steps / 3600
        assert hours == pytest.approx(eight.hours(gpu)["stage 2"])
    assert 1 <= step.most <= config.batch_size
    at = [shared(dataclasses.replace(eight, gpus=step.most + k), gpu, stage) for k in (0, 1)]
    assert at[0].move <= at[0].compute
    assert at[1].move > at[1].compute or step.most == config.batch_size


def test_a_batch_of_one_is_not_shared():
    made = plan("paper", gpus=2)
    assert all(shared(made, gpu, stage).most == 1 for gpu in GPUS for stage in (1, 2))
    assert "Stage 2 has a batch of 1, too few for 2 GPUs" in str(made)


@pytest.mark.parametrize("preset", presets.NAMES)
def test_the_report(preset):
    made = plan(preset, gpus=64)
    lines = report(made)
    whole = str(made).splitlines()
    assert max(map(len, whole)) <= WIDTH and str(made).endswith("\n".join(lines))
    assert all(any(line.strip().startswith(gpu.name) for line in lines) for gpu in GPUS)
    one = str(plan(preset))
    assert "share each batch" not in one and "of one GPU" not in one
    assert any(line.startswith("Memory of one GPU that takes the whole batch") for line in whole)
    assert any(line.startswith("Hours of one GPU at 15%") for line in whole)


def test_a_second_is_no_power_of_ten():
    assert [scaling._ms(x) for x in (0.9996, 0.9994, 0.00051234)] == ["1,000", "999", "0.512"]


def test_a_gpu_without_the_format_has_dashes(eight):
    (row,) = (line for line in report(eight) if line.strip().startswith("T4"))
    assert row.split()[2:] == ["–"] * 6 and shared(eight, GPUS[0], 1) is None


def test_every_gpu_has_a_link():
    assert set(LINKS) == {gpu.name for gpu in GPUS}
    assert all(math.isfinite(link) and link > 1e9 for link in LINKS.values())


def test_the_command(capsys):
    assert main(["plan", "--preset", "small", "--gpus", "4"]) == 0
    assert "4 GPUs that share each batch" in capsys.readouterr().out
    assert main(["plan", "--preset", "small", "--gpus", "0"]) == 2
    assert "--gpus" in capsys.readouterr().err
    with pytest.raises(DataError, match="gpus"):
        plan("small", gpus=1.5)
