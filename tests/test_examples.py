"""The examples that a help ends with are commands as they stand."""

import shlex

import pytest

from minigen import commands
from minigen.examples import EXAMPLES, PAIR
from tests.test_commands import NAMES, help_of


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_at_the_end_of_a_help_are_commands(name, capsys):
    end = help_of(capsys, name).split("\nexamples:\n")[1].replace(" \\\n", "").strip().splitlines()
    assert 1 <= len(end) <= 4 and len(end) == len(EXAMPLES[name])
    for line in end:
        words = shlex.split(line)
        assert words[:4] == ["python", "-m", "minigen", name]
        assert commands.parse(words[3:]).command == name


def test_weights_of_both_stages_are_named_where_a_training_writes_them():
    a = commands.parse(["sample", *shlex.split(PAIR)])
    assert str(a.weights).endswith("fftd.safetensors")
    assert str(a.autoencoder).endswith("ivqvae.safetensors")
