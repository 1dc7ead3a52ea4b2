import csv
import functools
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from tqdm.std import tqdm

from minigen.engine import checkpoints, loop, processes
from minigen.errors import DataError

ROOT = Path(__file__).parent.parent.parent
CONFIG = dict(seed=3, batch_size=4, steps=10, save_every=5, sample_every=5, log_every=1, keep=3,
              max_skipped=3, lr=0.1)


class Line:
    """A small task with dropout, so that the random state of every step shows."""

    def __init__(self, bad=(), stop_at=None):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.optimiser = torch.optim.Adam(self.model.parameters(), 0.1)
        self.bad, self.stop_at, self.seen, self.drawn = bad, stop_at, [], []

    def state(self):
        return dict(model=self.model.state_dict(), optimiser=self.optimiser.state_dict())

    def load(self, state):
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])

    def step(self, step, indices, flips):
        self.seen.append((step, indices.tolist(), flips.tolist()))
        if step == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        x = torch.stack([indices.float() / 10, flips.float()], 1)
        loss = (self.model(x) - 1).square().mean() * (float("nan") if step in self.bad else 1)
        loss.backward()
        skipped = not loop.step_if_finite(self.optimiser)
        self.optimiser.zero_grad()
        return dict(loss=loss.detach(), skipped=skipped)

    def sample(self, path):
        self.drawn.append(path.name)


def run(task, out, resume=False, **changes):
    config = CONFIG | changes
    return loop.train(task, out, kind="line", config=config, n=7, resume=resume, progress=False)


def same_weights(ours, theirs):
    return all(map(torch.equal, ours.model.parameters(), theirs.model.parameters()))


def test_epochs_are_permutations_and_flips_belong_to_epoch_and_image():
    seen = [loop.batch_at(3, step, 4, 7) for step in range(1, 15)]
    indices, flips = (torch.cat([b[k] for b in seen]) for k in (0, 1))
    for epoch in indices.split(7):
        assert sorted(epoch.tolist()) == list(range(7))
    assert indices[:7].tolist() != indices[7:14].tolist()
    for step in (1, 14, 2, 9):                                # any step by itself, in any order
        again = loop.batch_at(3, step, 4, 7)
        assert torch.equal(again[0], seen[step - 1][0]) and torch.equal(again[1], seen[step - 1][1])
    assert 0.2 < flips.float().mean() < 0.8


def test_a_batch_larger_than_the_data_crosses_epochs():
    indices, _ = loop.batch_at(0, 1, 20, 7)
    assert sorted(indices[:7].tolist()) == sorted(indices[7:14].tolist()) == list(range(7))


def test_ten_steps_are_five_and_five_bit_for_bit(tmp_path):
    whole = Line()
    run(whole, tmp_path / "a")
    run(Line(), tmp_path / "b", steps=5)
    rest = Line()
    assert run(rest, tmp_path / "b", resume=True) == 10
    assert [s for s, *_ in rest.seen] == [6, 7, 8, 9, 10] and rest.seen == whole.seen[5:]
    assert same_weights(whole, rest)
    for a, b in zip(whole.optimiser.state.values(), rest.optimiser.state.values(), strict=True):
        assert all(torch.equal(a[k], b[k]) for k in a)
    logs = []
    for name in ("a", "b"):
        with open(tmp_path / name / "losses.csv", newline="") as f:
            logs.append([(r["step"], r["loss"]) for r in csv.DictReader(f)])
    assert len(logs[0]) == 10 and logs[0] == logs[1] and rest.drawn == ["samples-00000010.png"]


def test_rows_after_the_checkpoint_are_forgotten(tmp_path):
    run(Line(), tmp_path, steps=7, save_every=5)
    os.remove(checkpoints.found(tmp_path)[-1][1])         # as if it had died before saving step 7
    run(Line(), tmp_path, resume=True)
    with open(tmp_path / "losses.csv", newline="") as f:
        assert [r["step"] for r in csv.DictReader(f)] == [str(k) for k in range(1, 11)]


def test_asked_to_stop_it_saves_at_the_end_of_the_step_and_goes_on(tmp_path):
    with pytest.raises(loop.Stopped, match="saved after step 3"):
        run(Line(stop_at=3), tmp_path)
    assert [s for s, _ in checkpoints.found(tmp_path)] == [3]
    whole, rest = Line(), Line()
    run(whole, tmp_path / "whole")
    run(rest, tmp_path, resume=True)
    assert same_weights(whole, rest)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_step_without_a_finite_gradient_is_skipped_and_three_stop_the_run(tmp_path):
    task = Line(bad=(2,))
    run(task, tmp_path / "one")
    assert all(torch.isfinite(p).all() for p in task.model.parameters())
    words = "3 steps in a row, up to step 6.*failed_batch.json; there is no checkpoint from before"
    with pytest.raises(DataError, match=words):
        run(Line(bad=(4, 5, 6)), tmp_path / "three")
    record = json.loads((tmp_path / "three" / "failed_batch.json").read_text())
    assert record["step"] == 6 and record["images"] == loop.batch_at(3, 6, 4, 7)[0].tolist()


def test_a_folder_in_use_and_a_changed_config_are_refused(tmp_path):
    run(Line(), tmp_path, steps=5)
    with pytest.raises(DataError, match="holds a training already: go on with --resume"):
        run(Line(), tmp_path)
    with pytest.raises(DataError, match=r"trained with lr=0.1, not 0.2"):
        run(Line(), tmp_path, resume=True, lr=0.2)
    (tmp_path / "config.json").write_text("{torn")
    with pytest.raises(DataError, match="cannot be read"):
        run(Line(), tmp_path, resume=True)


def test_a_resume_without_a_whole_checkpoint_says_so_and_changes_nothing(tmp_path, capsys):
    run(Line(), tmp_path / "new", resume=True, steps=2)
    assert "no checkpoint to go on from" in capsys.readouterr().out
    run(Line(), tmp_path / "torn", steps=5)
    for _, path in checkpoints.found(tmp_path / "torn"):
        path.write_bytes(b"torn")
    before = (tmp_path / "torn" / "losses.csv").read_text()
    with pytest.raises(DataError, match="None of the checkpoints"):
        run(Line(), tmp_path / "torn", resume=True)
    assert (tmp_path / "torn" / "losses.csv").read_text() == before


def test_other_steps_are_refused_where_the_learning_rate_depends_on_them(tmp_path):
    run(Line(), tmp_path, steps=5, decay=True)
    with pytest.raises(DataError, match="trained with steps=5, not 10"):
        run(Line(), tmp_path, resume=True, decay=True)


def test_torchrun_tells_how_many_there_are_before_they_join(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "2")
    assert processes.world() == 4 and processes.rank() == 2
    assert processes.pick_device("cpu").type == "cpu"


def test_the_learning_rate_is_scaled_from_its_own_base():
    p = nn.Parameter(torch.ones(1))
    optimiser = torch.optim.SGD([p], 1.0)
    for scale in (0.5, 0.5):
        p.grad = torch.full((1,), 0.1)
        loop.step_if_finite(optimiser, scale=scale)
    assert optimiser.param_groups[0]["lr"] == 0.5 and float(p.detach()) == pytest.approx(0.9)


def test_seeds_are_the_same_everywhere():
    assert loop.seed_of(0, "image", 5) == loop.seed_of(0, "image", 5) != loop.seed_of(0, "image", 6)
    assert 0 <= loop.seed_of("x") < 2**63


def test_the_seed_of_words_is_the_first_eight_bytes_of_their_digest():
    # pinned: with another rule every stored training and sample would be another
    assert loop.seed_of(0, "image", 5) == 1868748877414986205
    assert loop.seed_of("order", 1) == 45460850980425359


def test_the_gradient_is_clipped_to_length_one_unless_told():
    p = nn.Parameter(torch.zeros(2))
    for clip, length in (({}, 1.0), (dict(clip=2.5), 2.5)):
        optimiser = torch.optim.SGD([p], 1.0)
        p.data.zero_()
        p.grad = torch.tensor([30.0, 40.0])
        assert loop.step_if_finite(optimiser, **clip)
        assert float(p.detach().norm()) == pytest.approx(length, rel=1e-5)


def test_images_a_second_are_those_of_this_run(tmp_path, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(loop.time, "perf_counter", lambda: float(next(clock)))
    run(Line(), tmp_path, steps=4)
    run(Line(), tmp_path, steps=6, resume=True)
    with open(tmp_path / "losses.csv", newline="") as f:
        assert [float(r["images_per_s"]) for r in csv.DictReader(f)] == [4, 4, 4, 4, 4, 4]


def test_a_second_process_is_refused_while_one_trains(tmp_path):
    class Nosy(Line):
        def step(self, step, indices, flips):
            if step == 2:
                code = ("import sys; sys.path.insert(0, '.')\n"
                        "from minigen.errors import DataError\n"
                        "from tests.engine.test_loop import Line, run\n"
                        "try: run(Line(), sys.argv[1], resume=True)\n"
                        "except DataError as e: print(e)")
                command = [sys.executable, "-c", code, str(tmp_path)]
                self.told = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
            return super().step(step, indices, flips)

    task = Nosy()
    run(task, tmp_path)
    assert "Another process is training in" in task.told.stdout
    assert [s for s, _ in checkpoints.found(tmp_path)] == [5, 10]
    assert not (tmp_path / ".training.lock").exists()


def test_fewer_steps_than_were_done_are_refused_and_as_many_change_nothing(tmp_path):
    run(Line(), tmp_path, steps=5)
    with pytest.raises(DataError, match="has done 5 steps already; --steps 3 asks for fewer"):
        run(Line(), tmp_path, steps=3, resume=True)
    assert run(Line(), tmp_path, steps=5, resume=True) == 5


@pytest.mark.parametrize("change", [
    lambda s: s.pop("model"), lambda s: s.update(model={}), lambda s: s.update(model=5),
    lambda s: s["model"].update({"0.weight": torch.zeros(3)})])
def test_a_state_that_does_not_fit_is_refused_and_the_one_before_is_used(tmp_path, change, capsys):
    whole, rest = Line(), Line()
    run(whole, tmp_path / "whole")
    run(Line(), tmp_path / "b")
    newest = checkpoints.load(checkpoints.found(tmp_path / "b")[-1][1])
    checkpoints.found(tmp_path / "b")[-1][1].unlink()
    change(newest)
    checkpoints.save(tmp_path / "b", 10, newest)
    run(rest, tmp_path / "b", resume=True)
    assert "the checkpoint of step 10 does not fit" in capsys.readouterr().out
    assert same_weights(whole, rest)


def test_a_refused_run_leaves_no_trace_and_the_corrected_one_begins(tmp_path):
    class Wrong(Line):
        def step(self, step, indices, flips):
            raise DataError("a setting that only the first step finds")

    with pytest.raises(DataError, match="only the first step"):
        run(Wrong(), tmp_path / "a")
    assert not (tmp_path / "a").exists()
    run(Line(), tmp_path / "a", lr=0.2)


def test_ctrl_c_and_sigterm_are_told_apart(tmp_path):
    for number, name in ((signal.SIGTERM, "term"), (signal.SIGINT, "int")):
        class Asked(Line):
            def step(self, step, indices, flips, number=number):
                if step == 2:
                    os.kill(os.getpid(), number)
                return super().step(step, indices, flips)

        with pytest.raises(loop.Stopped) as stopped:
            run(Asked(), tmp_path / name)
        assert stopped.value.number == number


def test_too_little_disk_is_said_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda p: shutil._ntuple_diskusage(10, 10, 10))
    words = r"4 checkpoints of this training and its pictures need .*make room, keep fewer \(--keep"
    with pytest.raises(DataError, match=words):
        run(Line(), tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_orders_and_flips_are_these():
    """Pinned: with others every resumed training would see other images."""
    indices, flips = loop.batch_at(3, 2, 6, 7)
    assert indices.tolist() == [0, 3, 6, 4, 1, 2] and flips.int().tolist() == [0, 0, 0, 0, 0, 0]
    _, flips = loop.batch_at(0, 1, 20_000, 20_000)
    assert abs(flips.float().mean() - 0.5) < 0.02


def test_a_batch_that_is_changed_changes_no_other():
    """An epoch's order is kept in memory; what is handed out is a copy."""
    indices, flips = loop.batch_at(3, 1, 7, 7)
    before = indices.tolist(), flips.tolist()
    indices.zero_()
    flips.logical_not_()
    again = loop.batch_at(3, 1, 7, 7)
    assert (again[0].tolist(), again[1].tolist()) == before


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["total", "l1", "perceptual", "adversarial", "vq"], ["total", "l1", "images/s"]),
        (["loss"], ["loss", "images/s"]),
    ],
)
def test_the_bar_fits_into_80_columns_with_at_most_three_values(
    tmp_path, monkeypatch, names, shown
):
    class Stage(Line):
        def step(self, step, indices, flips):
            super().step(step, indices, flips)
            return {name: torch.tensor(0.012345678) for name in names}

    terminal = io.StringIO()
    monkeypatch.setattr(loop, "tqdm", functools.partial(tqdm, ncols=80, file=terminal))
    longest = CONFIG | dict(steps=4_000_000)
    with pytest.raises(loop.Stopped):
        loop.train(Stage(stop_at=6), tmp_path, kind="ivqvae", n=7, config=longest)
    lines = terminal.getvalue().replace("\n", "\r").split("\r")
    lines = [line for line in lines if "images/s" in line]
    assert lines and all(len(line) <= 80 for line in lines)
    for line in lines:
        bar, rest = line.split("|")[1:]
        assert len(bar) >= 6 and line.startswith("ivqvae ") and " left, " in rest
        assert [value.strip().split(" ")[0 if "images" not in value else 1]
                for value in rest.split(" left, ")[1].split(",")] == shown


def test_the_gradient_is_the_same_with_a_loss_scale_and_without():
    steps = []
    for enabled in (False, True):
        torch.manual_seed(0)
        layer = nn.Linear(3, 1)
        optimiser = torch.optim.SGD(layer.parameters(), 0.1)
        scaler = torch.amp.GradScaler("cpu", enabled=enabled)
        loss = layer(torch.ones(2, 3)).square().mean()
        assert float((scaler.scale(loss) / loss).detach()) == (2**16 if enabled else 1)
        scaler.scale(loss).backward()
        assert loop.step_if_finite(optimiser, 100.0, scaler=scaler)
        steps.append(layer.weight.detach().clone())
    torch.testing.assert_close(*steps)


def test_the_loss_scale_falls_at_an_overflow_and_rises_after_many_good_steps():
    layer = nn.Linear(2, 1)
    before = layer.weight.detach().clone()
    optimiser = torch.optim.SGD(layer.parameters(), 0.1)
    scaler = torch.amp.GradScaler("cpu", growth_interval=3)
    scaler.scale(layer(torch.full((1, 2), 1e38)).mean() * 1e38).backward()
    assert not loop.step_if_finite(optimiser, scaler=scaler)
    assert scaler.get_scale() == 2**15 and torch.equal(layer.weight, before)
    for k in range(3):
        assert scaler.get_scale() == 2**15, k
        scaler.scale(layer(torch.ones(1, 2)).mean()).backward()
        assert loop.step_if_finite(optimiser, scaler=scaler)
        optimiser.zero_grad()
    assert scaler.get_scale() == 2**16
