import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minigen.errors import DataError
from minigen.settings import Stage1, Stage2, make_config


@pytest.mark.parametrize(("given", "words"), [
    (dict(preset="huge"), "no preset 'huge'"), (dict(stepz=3), "no setting 'stepz'"), (dict(precision="fp8"), "float32 or bf16"),
    (dict(steps=0), "at least 1"), (dict(accumulate=0), "at least 1"),
    (dict(batch_size=6, accumulate=4), "batch of 6 cannot be cut into 4 equal parts")])
def test_settings_that_are_none(given, words):
    with pytest.raises(DataError, match=words):
        make_config(Stage1, **given)


def test_processes_must_be_able_to_share_a_batch(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DataError, match="batch of 33 cannot be cut into 2"):
        make_config(Stage2, batch_size=33)


def test_the_paper_preset_is_the_papers():
    one, two = make_config(Stage1, preset="paper"), make_config(Stage2, preset="paper", batch_size=1)
    assert one.lr == two.lr == 1e-4 and one.ema == 0.9999 and two.batch_size == 1 and one.perceptual == "lpips"


@pytest.mark.parametrize("cls", [Stage1, Stage2])
def test_every_setting_has_a_meaning_and_its_default_lies_in_its_range(cls):
    for field in dataclasses.fields(cls):
        assert len(field.metadata["text"]) > 5, field.name
    config = make_config(cls)
    assert all(getattr(make_config(cls, **{f.name: getattr(config, f.name)}), f.name) == getattr(config, f.name)
               for f in dataclasses.fields(cls))


NUMBERS = [(cls, f) for cls in (Stage1, Stage2) for f in dataclasses.fields(cls) if type(f.default) in (int, float)]


@pytest.mark.parametrize(("cls", "field"), NUMBERS, ids=[f"{c.__name__}-{f.name}" for c, f in NUMBERS])
def test_every_number_refuses_what_is_none_and_names_itself(cls, field):
    bad = [float("nan"), float("inf"), -float("inf"), -1, "5", None, True, [1], 10**40]
    if type(field.default) is int:
        bad += [1.5, 1.0]
    for value in bad:
        with pytest.raises(DataError, match=f"^{field.name} is a (whole|finite) number, (at least|above)"):
            make_config(cls, **{field.name: value})


@pytest.mark.parametrize(("cls", "given", "words"), [
    (Stage1, dict(lambda_d=2), "lambda_d .* at most 1"), (Stage1, dict(lr=0), "lr .* above 0"),
    (Stage1, dict(lr=1.5), "at most 1"), (Stage1, dict(preset=[]), "no preset"),
    (Stage1, dict(ema=1.0), "ema .* below 1"), (Stage2, dict(dropout=1.0), "below 1"), (Stage2, dict(levels=4), "at most 3"),
    (Stage1, dict(steps=500, discriminator_start=700), "a step from 1 to 500, the last; got 700"),
    (Stage1, dict(perceptual="vgg"), "toy, lpips or none; got 'vgg'"), (Stage2, dict(fusion="sum"), "add, concat or adaptive"),
    (Stage1, dict(decay="yes"), "decay is True or False"), (Stage2, dict(labels=1), "labels is True or False")])
def test_settings_outside_their_range(cls, given, words):
    with pytest.raises(DataError, match=words):
        make_config(cls, **given)


def test_the_discriminator_starts_after_a_share_of_the_steps_unless_told():
    assert make_config(Stage1).discriminator_start == 700
    assert make_config(Stage1, steps=500).discriminator_start == 350
    assert make_config(Stage1, steps=1).discriminator_start == 1
    assert make_config(Stage1, preset="paper").discriminator_start == 125_000
    assert make_config(Stage1, steps=500, discriminator_start=500).discriminator_start == 500


def test_values_keep_their_kind():
    config = make_config(Stage1, lr=1, out=Path("x"), steps=np.int64(7), batch_size=8)
    assert (config.lr, config.out, config.steps) == (1.0, "x", 7) and type(config.lr) is float and type(config.steps) is int


def test_settings_need_no_torch():
    code = "import sys, minigen.__main__, minigen.settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
