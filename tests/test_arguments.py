import re
from pathlib import Path

import pytest

from minigen import commands
from minigen.__main__ import main
from minigen.arguments import PATH, SWITCH, WHOLE, Parser, choice, option, written
from minigen.errors import DataError


def test_an_option_tells_its_default():
    parser = Parser("x")
    option(parser, "--some", WHOLE, "how many", [1, 2], nargs="+")
    option(parser, "--where", PATH, "a place", Path("a/b"))
    option(parser, "--which", choice("a", "b"), "one of them")
    option(parser, "--now", SWITCH, "at once")
    text = parser.format_help()
    for words in (
        "--some N [N ...]",
        "how many (default 1 2)",
        f"a place (default {Path('a/b')})",
        "--which a|b",
    ):
        assert words in text
    assert "one of them\n" in text and "at once\n" in text
    a = parser.parse_args(["--some", "3", "4", "--which", "b"])
    assert (a.some, a.where, a.which, a.now) == ([3, 4], Path("a/b"), "b", False)
    values = {True: "on", False: "off", 0.002: "0.002", 500: "500", "x": "x"}
    assert {value: written(value) for value in values} == values


def test_examples_stand_at_the_end_of_a_help_line_by_line():
    text = Parser("x", examples=["", "--a long one"]).format_help()
    assert text.endswith("examples:\n  x\n  x --a long one\n")
    assert "examples" not in Parser("x").format_help()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "sampel",
            "There is no command 'sampel': did you mean 'sample'? There are sample, prepare",
        ),
        ("draw", "There is no command 'draw'. There are sample"),
        ("--verson", "no option '--verson': did you mean '--version'? (python -m minigen --help"),
        (
            "sample --imges 3",
            "no option '--imges': did you mean '--images'? (python -m minigen sample --help",
        ),
        ("sample --image 3", "did you mean '--images'?"),
        ("sample --see=3", "did you mean '--seed'?"),
        ("sample -seed 3", "no option '-seed': did you mean '--seed'?"),
        ("sample --xyzzy", "no option '--xyzzy'. (python -m minigen sample --help lists them.)"),
        ("prepare --otu x", "no option '--otu': did you mean '--out'?"),
        ("train-fftd --no-decai", "did you mean '--no-decay'?"),
        (
            "train-fftd --fusion ad",
            "--fusion: add, concat or adaptive; got 'ad': did you mean 'add'?",
        ),
        (
            "bench --preset large",
            "--preset: small, colab, paper or fast; got 'large' "
            "(python -m minigen bench --help tells more).",
        ),
        ("sample --seed x", "--seed: a whole number is wanted; got 'x' (python"),
        ("sample --images 1.5", "--images: a whole number is wanted; got '1.5'"),
        ("sample --scale much", "--scale: a number is wanted; got 'much'"),
        ("sample --seed", "--seed: expected one argument (python -m minigen sample --help"),
        ("prepare photos", "prepare needs --out, as in: python -m minigen prepare my_photos"),
        (
            "encode",
            "encode needs data, --autoencoder, as in: python -m minigen encode toyfaces:4096",
        ),
        ("sample more", "sample takes no 'more' (python -m minigen sample --help tells more)."),
        ("sample images", "sample takes no 'images': did you mean '--images'?"),
        ("sample --model gann", "no option '--model'. (python -m minigen sample --help lists"),
        ("help nothing", "There is no command 'nothing'."),
        ("--", "COMMAND"),
    ],
)
def test_what_is_wrong_is_told_with_the_near_word(line, words, capsys):
    with pytest.raises(DataError, match=re.escape(words)):
        commands.parse(line.split())
    assert main(line.split()) == 2
    out = capsys.readouterr()
    assert not out.out and out.err.startswith("minigen: ") and out.err.count("\n") == 1


def test_words_after_two_dashes_are_no_options():
    assert commands.parse(["prepare", "--out", "x", "--", "--odd-name"]).source == Path(
        "--odd-name"
    )


@pytest.mark.parametrize(("words", "same"), [("help", "--help"), ("help sample", "sample --help")])
def test_help_is_a_command_too(words, same, capsys):
    said = []
    for line in (words, same):
        with pytest.raises(SystemExit) as end:
            main(line.split())
        assert end.value.code == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] and said[0].startswith("usage: python -m minigen")
