import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minigen.engine.settings import (
    Config,
    Stage1,
    Stage2,
    check_number,
    make_config,
)
from minigen.errors import DataError
from tests.conftest import defaults


@pytest.mark.parametrize(("given", "words"), [
    (dict(preset="huge"), "no preset 'huge'"), (dict(stepz=3), "no setting 'stepz'"),
    (dict(precision="fp8"), "float32, bf16 or float16"), (dict(steps=0), "at least 1"),
    (dict(accumulate=0), "at least 1"),
    (dict(batch_size=6, accumulate=4), "batch of 6 cannot be cut into 4 equal parts")])
def test_settings_that_are_none(given, words):
    with pytest.raises(DataError, match=words):
        make_config(Stage1, **given)


def test_processes_must_be_able_to_share_a_batch(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DataError, match="batch of 33 cannot be cut into 2"):
        make_config(Stage2, batch_size=33)


def test_the_paper_preset_is_the_papers():
    """Section 5 of the paper: batch 1, 4,000,000 steps, a constant 1e-4, the judge from 250,000."""
    one, two = make_config(Stage1, preset="paper"), make_config(Stage2, preset="paper")
    for config in (one, two):
        assert (config.lr, config.ema, config.batch_size) == (1e-4, 0.9999, 1)
        assert config.steps == 4_000_000 and not config.decay and config.precision == "float32"
    assert (one.discriminator_start, one.perceptual, one.init_images) == (250_000, "lpips", 0)
    assert (two.prediction, two.schedule, two.dropout, two.levels) == ("eps", "linear", 0, 2)


@pytest.mark.parametrize("cls", [Stage1, Stage2])
def test_every_setting_has_a_meaning_and_its_default_lies_in_its_range(cls):
    for field in dataclasses.fields(cls):
        assert len(field.metadata["text"]) > 5, field.name
    config = make_config(cls)
    for name, value in dataclasses.asdict(config).items():
        assert getattr(make_config(cls, **{name: value}), name) == value


NUMBERS = [(cls, f) for cls in (Stage1, Stage2) for f in dataclasses.fields(cls)
           if type(f.default) in (int, float)]
NAMES = [f"{cls.__name__}-{f.name}" for cls, f in NUMBERS]


@pytest.mark.parametrize(("cls", "field"), NUMBERS, ids=NAMES)
def test_every_number_refuses_what_is_none_and_names_itself(cls, field):
    bad = [float("nan"), float("inf"), -float("inf"), -1, "5", None, True, [1], 10**40]
    if type(field.default) is int:
        bad += [1.5, 1.0]
    words = f"^--{field.name.replace('_', '-')} is a (whole|finite) number, (at least|above)"
    for value in bad:
        with pytest.raises(DataError, match=words):
            make_config(cls, **{field.name: value})


@pytest.mark.parametrize(("cls", "given", "words"), [
    (Stage1, dict(lambda_d=2), "lambda-d .* at most 1"), (Stage1, dict(lr=0), "lr .* above 0"),
    (Stage1, dict(lr=1.5), "at most 1"), (Stage1, dict(preset=[]), "no preset"),
    (Stage1, dict(ema=1.0), "ema .* below 1"), (Stage2, dict(dropout=1.0), "below 1"),
    (Stage2, dict(levels=4), "at most 3"),
    (Stage1, dict(steps=500, discriminator_start=700), "a step from 1 to 500, the last; got 700"),
    (Stage1, dict(perceptual="vgg"), "toy, lpips or none; got 'vgg'"),
    (Stage2, dict(fusion="sum"), "add, concat or adaptive"),
    (Stage1, dict(decay="yes"), "decay is True or False"),
    (Stage2, dict(labels=1), "labels is True or False")])
def test_settings_outside_their_range(cls, given, words):
    with pytest.raises(DataError, match=words):
        make_config(cls, **given)


def test_the_discriminator_starts_after_a_share_of_the_steps_unless_told():
    assert make_config(Stage1).discriminator_start == 700
    assert make_config(Stage1, steps=500).discriminator_start == 350
    assert make_config(Stage1, steps=1).discriminator_start == 1
    assert make_config(Stage1, preset="paper").discriminator_start == 250_000
    assert make_config(Stage1, preset="paper", steps=9).discriminator_start == 9
    assert make_config(Stage1, preset="fast").discriminator_start == 62_500
    assert make_config(Stage1, preset="colab", steps=10).discriminator_start == 5
    assert make_config(Stage1, steps=500, discriminator_start=500).discriminator_start == 500


def test_values_keep_their_kind():
    config = make_config(Stage1, lr=1, out=Path("x"), steps=np.int64(7), batch_size=8)
    assert (config.lr, config.out, config.steps) == (1.0, "x", 7)
    assert type(config.lr) is float and type(config.steps) is int


def test_settings_need_no_torch():
    code = "import sys, minigen.__main__, minigen.engine.settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_defaults_are_these():
    """Pinned: a run that gives no settings must stay the same run."""
    both = dict(
        preset="small", steps=1000, decay=True, ema=0.999, precision="float32", compile=False,
        seed=0, save_every=500, sample_every=500, log_every=10, keep=3, max_skipped=10, device="")
    assert defaults(Config) == both | dict(out="runs/stage", batch_size=32, lr=1e-3)
    assert defaults(Stage1) == both | dict(
        out="runs/ivqvae", batch_size=32, lr=2e-3, data="toyfaces:4096", perceptual="toy",
        lambda_d=0.05, discriminator_start=0, init_images=128, accumulate=1, size=0)
    assert defaults(Stage2) == both | dict(
        out="runs/fftd", batch_size=128, lr=1e-3, latents="runs/latents.safetensors",
        fusion="adaptive", levels=2, prediction="eps", schedule="linear", dropout=0.0,
        labels=True, drop_label=0.15)


def test_bounds_belong_to_their_range():
    for given in (dict(lr=1), dict(ema=0), dict(lambda_d=1), dict(lambda_d=0),
                  dict(seed=2**63 - 1), dict(batch_size=10**6)):
        assert make_config(Stage1, **given)
    for given in (dict(levels=3), dict(levels=1), dict(dropout=0), dict(drop_label=1)):
        assert make_config(Stage2, **given)
    for given in (dict(seed=2**63), dict(batch_size=10**6 + 1)):
        with pytest.raises(DataError):
            make_config(Stage1, **given)


def test_a_range_is_told_in_words():
    for options, words in ((dict(low=1, high=5), "at least 1 and at most 5; got 9"),
                           (dict(above=0, below=1), "above 0 and below 1"),
                           (dict(low=3), "finite number, at least 3; got"),
                           (dict(high=3), "at most 3; got")):
        with pytest.raises(DataError, match=words):
            check_number("x", 9 if "high" in options or "below" in options else -9, **options)
