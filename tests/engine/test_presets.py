import dataclasses
import subprocess
import sys

import pytest

from minigen import fftd, ivqvae
from minigen.__main__ import main
from minigen.engine import presets
from minigen.engine.settings import Stage1, Stage2, make_config
from minigen.errors import DataError


def test_the_names_go_together():
    for table in (presets.SIZES, presets.JUDGED, *presets.SETTINGS.values(),
                  *presets.NETWORKS.values()):
        assert tuple(table) == presets.NAMES
    assert presets.SETTINGS.keys() | presets.NETWORKS.keys() == presets.REASONS.keys()


@pytest.mark.parametrize(("stage", "cls"), [("Stage1", Stage1), ("Stage2", Stage2)])
def test_a_preset_names_settings_that_are_there_and_differ_from_the_default(stage, cls):
    defaults = {f.name: f.default for f in dataclasses.fields(cls)}
    for values in presets.SETTINGS[stage].values():
        for field, value in values.items():
            assert value != defaults[field], field


def test_every_field_that_differs_from_the_paper_has_its_reason_and_no_other_has():
    given = {(part, field) for part, reasons in presets.REASONS.items() for field in reasons}
    differing = {(row.part, row.field) for row in presets.rows()}       # KeyError: no reason
    assert differing == given
    for row in presets.rows():
        assert len(row.reason) > 10 and list(row.values) == list(presets.NAMES)


def test_the_small_presets_are_the_courses_and_the_paper_has_no_difference():
    assert presets.network("IVQVAE", "small") == ivqvae.PRESETS["small"]
    assert presets.network("FFTD", "paper") == fftd.PRESETS["paper"]
    assert presets.network("IVQVAE", "paper") == ivqvae.PRESETS["paper"]
    assert "nothing differs" in presets.differences("paper")


@pytest.mark.parametrize("preset", presets.NAMES)
def test_the_networks_have_the_size_of_the_preset_and_belong_together(preset):
    arguments = presets.network("IVQVAE", preset)
    f = 2 ** (len(arguments["multipliers"]) - 1)
    denoiser = presets.network("FFTD", preset)
    assert arguments["size"] == presets.SIZES[preset] == f * denoiser["grid"]
    assert arguments["code_dim"] == denoiser["latent_channels"]


@pytest.mark.parametrize("preset", ["colab", "fast"])
def test_a_large_codebook_starts_from_enough_vectors(preset):
    arguments, config = presets.network("IVQVAE", preset), make_config(Stage1, preset=preset)
    f = 2 ** (len(arguments["multipliers"]) - 1)
    vectors = config.init_images * (arguments["size"] // f) ** 2
    assert arguments["num_codes"] == 16_384 and vectors >= 4 * arguments["num_codes"]


def test_the_tables_have_every_difference_and_fit_a_notebook():
    text = presets.table()
    texts = [text, *map(presets.differences, presets.NAMES)]
    assert max(len(line) for t in texts for line in t.splitlines()) <= 94
    for row in presets.rows():
        assert row.field in text and row.reason[:40] in " ".join(text.split())
    found = presets.differences("fast")
    assert "batch_size          1             32" in found and "toyfaces" not in found
    assert presets.OPEN[:30] in " ".join(text.split())


def test_the_commands_without_a_preset_compares_them(capsys):
    assert main(["plan"]) == 0
    assert capsys.readouterr().out == presets.table() + "\n"


def test_a_notebook_takes_the_preset_of_its_scale(monkeypatch):
    monkeypatch.delenv("MINIGEN_PRESET", raising=False)
    assert presets.chosen("small") == "small" and presets.chosen("full") == "fast"
    monkeypatch.setenv("MINIGEN_PRESET", "colab")
    assert presets.chosen("small") == "small" and presets.chosen("full") == "colab"
    monkeypatch.setenv("MINIGEN_PRESET", "collab")
    with pytest.raises(DataError, match="small, colab, paper or fast; it is 'collab'"):
        presets.chosen("full")


def test_the_data_need_no_torch():
    code = "import sys, minigen.engine.presets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
