import dataclasses
import time

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from minigen import room
from minigen.__main__ import main
from minigen.commands import parse
from minigen.engine import plan as planning
from minigen.engine import presets
from minigen.engine.plan import GPUS, SHARE, VGGDistance, flops, plan
from minigen.engine.planned import report, size
from minigen.engine.settings import Stage1, Stage2, make_config
from minigen.engine.stage1 import IVQVAETask
from minigen.engine.stage2 import FFTDTask
from minigen.errors import DataError


@pytest.fixture(scope="module")
def small():
    return plan("small")


def test_a_linear_layer_is_counted_by_hand():
    with torch.device("meta"):
        layer, x = nn.Linear(10, 7), torch.zeros(5, 10)
    assert flops(lambda: layer(x)) == 2 * 5 * 10 * 7
    # backward: one product for the weight's gradient, and one for the input's where it is wanted
    assert flops(lambda: layer(x).sum().backward()) == 2 * 2 * 5 * 10 * 7
    x.requires_grad_()
    assert flops(lambda: layer(x).sum().backward()) == 3 * 2 * 5 * 10 * 7


def test_a_convolution_is_counted_by_hand():
    with torch.device("meta"):
        layer, x = nn.Conv2d(3, 8, 3, 2, 1), torch.zeros(2, 3, 16, 16)
    assert flops(lambda: layer(x)) == 2 * 2 * 8 * (8 * 8) * 3 * 9
    assert flops(lambda: layer(x).sum().backward()) == 2 * 2 * 2 * 8 * (8 * 8) * 3 * 9


def task_of(**changes):
    config = make_config(Stage1, data="toyfaces:64", batch_size=4, init_images=32, steps=9,
                         **changes)
    return IVQVAETask(config, torch.device("cpu"))


def counted(act):
    with FlopCounterMode(display=False) as counter:
        act()
    return counter.get_total_flops()


def test_a_step_of_the_small_stage_1_does_what_the_plan_says(small):
    """The engine's own step on the CPU: with every loss, without the judge, without critics."""
    work, flips = small.work, torch.zeros(4, dtype=torch.bool)
    for changes, want in (
        (dict(discriminator_start=1), work.autoencoder + work.perceptual + work.discriminator),
        (dict(discriminator_start=9), work.autoencoder + work.perceptual),
        (dict(discriminator_start=9, perceptual="none"), work.autoencoder),
    ):
        task = task_of(**changes)
        got = counted(lambda task=task: task.step(1, torch.arange(4), flips))
        assert got == pytest.approx(4 * want, rel=0.005)      # the CPU's attention is not counted


def stage2_task():
    z = torch.randn(16, 4, 4, 4)
    stored = dict(z=z, flipped=z, labels=None, classes=[], tokenizer="x")
    return FFTDTask(make_config(Stage2, batch_size=8), torch.device("cpu"), stored)


def test_a_step_of_the_small_stage_2_does_what_the_plan_says(small):
    task, flips = stage2_task(), torch.zeros(8, dtype=torch.bool)
    got = counted(lambda: task.step(1, torch.arange(8), flips))
    assert got == pytest.approx(8 * small.work.denoiser, rel=0.02)


def test_bytes_of_checkpoints_and_networks_are_the_engines(small):
    task = task_of(discriminator_start=1)
    task.step(1, torch.arange(4), torch.zeros(4, dtype=torch.bool))          # Adam begins here
    two = stage2_task()
    two.step(1, torch.arange(8), torch.zeros(8, dtype=torch.bool))
    for stage, made in ((0, task), (1, two)):
        assert room.bytes_of(made.state()) == pytest.approx(small.checkpoints[stage], rel=0.01)
    x, z = torch.zeros(1, 3, 32, 32), torch.zeros(1, 4, 4, 4, requires_grad=True)
    least = (room.kept_for_backward(task.model.encoder, x)
             + room.kept_for_backward(task.model.decoder, z))
    assert least <= small.activations[0] <= 3 * least       # with both critics


def test_lpips_work_is_that_of_the_package():
    lpips = pytest.importorskip("lpips")
    theirs = lpips.LPIPS(net="vgg", pretrained=False, pnet_rand=True, verbose=False).eval()
    theirs = theirs.requires_grad_(False).to("meta")
    with torch.device("meta"):
        ours, x = VGGDistance(), torch.zeros(1, 3, 64, 64)
    fake = torch.zeros_like(x).requires_grad_()
    a, b = (flops(lambda net=net: net(fake, x).sum().backward()) for net in (ours, theirs))
    assert a == b


def test_the_papers_work_is_what_others_count():
    """A quarter of the paper's encoder and decoder is known: 135 and 251 GFLOP are VQGAN's blocks
    of two convolutions (with one, as here, about half)."""
    work = plan("paper").work
    assert 60e9 < work.encode < 80e9 and 110e9 < work.decode < 130e9
    assert work.autoencoder + work.perceptual + work.discriminator == pytest.approx(746e9, rel=0.01)
    assert work.denoise == pytest.approx(0.24e9, rel=0.02)


def test_hours_are_work_by_speed(small):
    gpu = planning.GPU("made up", 10, dict(float32=1.0, float16=None, bf16=None), "")
    total = small.totals()["stage 1"][0]
    hours = small.hours(gpu)
    assert hours["stage 1"] == pytest.approx(total / (SHARE * 1e12) / 3600)
    assert hours["sum"] == pytest.approx(sum(hours[k] for k in ("stage 1", "encode", "stage 2")))
    one, w = small.one, small.work
    assert total == one.batch_size * (one.steps * (w.autoencoder + w.perceptual)
                                      + 301 * w.discriminator)     # it judges from step 700 on
    half = dataclasses.replace(small, share=2 * SHARE).hours(gpu)
    assert half["sum"] == pytest.approx(hours["sum"] / 2)


def test_a_full_run_of_colab_fits_five_hours_and_15_gigabytes_of_a_t4():
    (t4,) = (gpu for gpu in GPUS if gpu.name == "T4")
    made = plan("colab")
    assert made.share == SHARE and made.hours(t4)["sum"] <= 5
    assert max(made.memory(1), made.memory(2)) < 0.9 * 15e9
    assert t4.peaks["bf16"] is None and made.one.precision == made.two.precision == "float16"
    fast = plan("fast")
    assert fast.hours(t4) == {} and "no bf16" in str(fast)


@pytest.mark.parametrize("preset", presets.NAMES)
def test_the_report_fits_a_notebook_and_says_what_is_an_estimate(preset):
    text = report(plan(preset))
    assert max(map(len, text.splitlines())) <= 94
    for words in ("nothing in it was measured", "an estimate", "at 15% of the peak", "assumption",
                  "50,000 samples", "checkpoints of stage 1", *(gpu.name for gpu in GPUS)):
        assert words in text, words
    assert ("from below" in text) == (preset == "paper")


def test_the_command(capsys):
    assert main(["plan", "--preset", "small", "--images", "64", "--share", "0.3"]) == 0
    said = capsys.readouterr().out
    assert "for 64 images" in said and "at 30% of the peak" in said
    for words in (["--share", "0"], ["--share", "2"], ["--images", "0"]):
        assert main(["plan", "--preset", "small", *words]) == 2
        assert words[0] in capsys.readouterr().err
    assert main(["plan", "--preset", "huge"]) == 2
    assert parse(["plan"]).share == SHARE
    with pytest.raises(DataError, match="--share"):
        plan("small", share=float("nan"))


def test_a_plan_is_made_at_once():
    start = time.process_time()
    plan("fast")
    assert time.process_time() - start < 5


def test_sizes_are_readable():
    assert size(12_345_678) == "12.3 MB" and size(5.9e9) == "5.9 GB"
    assert planning.GPUS[0].source
