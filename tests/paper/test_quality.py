"""The table of minutes: what is measured, once, and what is said."""

import json
import re

import pytest
import torch

from minigen import metrics
from minigen.__main__ import main
from minigen.data import ToyFaces
from minigen.errors import DataError
from minigen.files import data_path
from minigen.paper import quality


@pytest.fixture
def two(monkeypatch):
    """Two families that train nothing and draw real faces, and what they were asked."""
    asked = []

    def family(name):
        def train(images, clock, seed):
            asked.append((name, len(images), clock.seconds, seed, torch.get_num_threads()))
            clock.steps[f"{name}'s part"] = (1234, 16)
            return lambda n: ToyFaces(n, seed=21 + seed).images()

        return train

    for name in list(quality.FAMILIES):
        monkeypatch.delitem(quality.FAMILIES, name)
    for name in ("one", "two"):
        monkeypatch.setitem(quality.FAMILIES, name, family(name))
    monkeypatch.setattr(quality.peers, "installed", dict)
    monkeypatch.setattr(quality, "FACES", 300)
    monkeypatch.setattr(quality, "SAMPLES", 200)
    return asked


def test_a_cell_is_what_the_family_drew_with_one_thread(two, tmp_path):
    torch.set_num_threads(2)
    (cell,) = quality.measure([0.5], [3], tmp_path / "deeper" / "q.json", ["two"])
    assert two == [("two", 300, 30, 3, 1)] and torch.get_num_threads() == 2
    frechet = round(metrics.toy_frechet(ToyFaces(200, seed=24).images()), 2)
    assert cell == dict(family="two", minutes=0.5, seed=3, frechet=frechet, spent=cell["spent"],
                        steps={"two's part": (1234, 16)})
    assert 0 <= cell["spent"] < 0.01             # drawing and measuring are not counted
    kept = json.loads((tmp_path / "deeper" / "q.json").read_text(encoding="utf-8"))
    assert kept["torch"] == torch.__version__.split("+")[0]
    assert [c["frechet"] for c in kept["cells"]] == [frechet] and kept["recipe"] == quality.RECIPE
    assert [p.name for p in (tmp_path / "deeper").iterdir()] == ["q.json"]


def test_it_goes_on_where_it_was_stopped(two, tmp_path):
    out = tmp_path / "q.json"
    run = quality.measure([1, 5], [0, 1], out)
    assert [next(run)["family"] for _ in range(3)] == ["one", "two", "one"]
    run.close()                                  # stopped
    rest = list(quality.measure([1, 5, 5], [0, 1, 1], out))
    got = [(c["family"], c["minutes"], c["seed"]) for c in rest]
    assert got == [("two", 1, 1), *((f, 5, s) for s in (0, 1) for f in ("one", "two"))]
    assert len(two) == 8 and list(quality.measure([1.0, 5.0], [0], out)) == []
    assert len(quality.read(out)) == 8


@pytest.mark.parametrize("change", [dict(torch="2.0"), dict(recipe=1), dict(recipe=None)])
def test_cells_of_another_torch_or_recipe_are_not_added_to(two, tmp_path, change):
    out = tmp_path / "q.json"
    list(quality.measure([1], [0], out, ["one"]))
    out.write_text(json.dumps(json.loads(out.read_text()) | change), encoding="utf-8")
    before = out.read_bytes()
    ((name, value),) = change.items()
    with pytest.raises(DataError, match=f"{name} {value}.*--out"):
        next(quality.measure([1], [0], out))
    assert out.read_bytes() == before and len(two) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["q.json"]


def test_a_cell_that_fails_leaves_the_others(two, tmp_path, monkeypatch):
    def broken(images, clock, seed):
        raise DataError("too few minutes")

    monkeypatch.setitem(quality.FAMILIES, "two", broken)
    with pytest.raises(DataError, match="two, 1 min: too few"):
        list(quality.measure([1], [0], tmp_path / "q.json"))
    assert [c["family"] for c in quality.read(tmp_path / "q.json")] == ["one"]
    assert [p.name for p in tmp_path.iterdir()] == ["q.json"]


@pytest.mark.parametrize("options, words", [
    (dict(minutes=[0]), "--quality is a finite number, above 0 and at most 1,440; got 0.0."),
    (dict(minutes=[1, -2]), "got -2.0."),
    (dict(minutes=[float("nan")]), "got nan."),
    (dict(minutes=[2000]), "at most 1,440"),
    (dict(minutes=["x"]), "got 'x'."),
    (dict(seeds=[-1]), "--seeds is a whole number"),
    (dict(families=["three"]), "There is no family 'three'. There are one and two."),
    (dict(families=["twoo"]), "There is no family 'twoo': did you mean 'two'? There are one"),
])
def test_what_is_refused_leaves_no_trace(two, tmp_path, options, words):
    asked = dict(minutes=[1], seeds=[0], out=tmp_path / "new" / "q.json") | options
    with pytest.raises(DataError, match=re.escape(words)):
        next(quality.measure(**asked))
    assert not list(tmp_path.iterdir()) and not two


@pytest.mark.parametrize("content", [
    "{torn", "[]", "{}", '{"cells": [{"family": "GAN"}]}', '{"cells": [3]}', '{"cells": 3}',
    '{"cells": [{"family": "GAN", "minutes": "1", "seed": 0, "frechet": 1.0}]}', "[" * 100_000,
])
def test_a_file_of_something_else_is_left_alone(two, tmp_path, content):
    out = tmp_path / "q.json"
    out.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"q\.json' is no results file of `bench --quality`"):
        next(quality.measure([1], [0], out))
    assert out.read_text(encoding="utf-8") == content and not two


def test_one_process_at_a_time(two, tmp_path, held_by_another):
    held_by_another(tmp_path / ".q.json.lock")
    with pytest.raises(DataError, match=r"Another process is measuring into '.*q\.json'"):
        next(quality.measure([1], [0], tmp_path / "q.json"))


def test_the_table_word_by_word(two, tmp_path):
    def cell(family, minutes, seed, frechet):
        return dict(family=family, minutes=minutes, seed=seed, frechet=frechet)

    cells = [cell("two", 20.0, 0, 99.6), cell("two", 0.5, 0, 300), cell("two", 0.5, 1, 310),
             cell("a peer", 0.5, 0, 7.4), cell("two", 0.5, 2, 320.0)]
    out = tmp_path / "q.json"
    out.write_text(json.dumps(dict(cells=cells)), encoding="utf-8")
    assert quality.as_text(out).splitlines() == [
        "minutes of a processor       0.5   20",
        "two                     310 ± 10  100",
        "a peer                         7    –",
        "Toy Fréchet distance of 200 faces; real ones have 13.9.",
    ]
    assert len(quality.as_text(tmp_path / "none.json").splitlines()) == 2


def test_the_command(two, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(quality, "MINUTES", (0.25, 2.0))
    monkeypatch.setenv("MINIGEN_HOME", str(tmp_path))
    assert main(["bench", "--quality"]) == 0
    out = capsys.readouterr().out
    assert "one, 0.25 min, seed 0: " in out and "(one's part: 1,234 steps of 16)" in out
    assert f"The cells are in {tmp_path / 'reproduce' / 'quality.json'}." in out
    assert [t[2] for t in two] == [15, 15, 120, 120]
    other = tmp_path / "other.json"
    assert main(["bench", "--quality", "3", "--seeds", "1", "2", "--out", str(other)]) == 0
    assert [t[2:4] for t in two[4:]] == [(180, 1), (180, 1), (180, 2), (180, 2)]
    assert " ± " in capsys.readouterr().out
    assert main(["bench", "--quality", "0"]) == 2
    assert "--quality is a finite number" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--seeds", "1"], ["--out", "x.json"]])
def test_what_belongs_to_quality_is_refused_without_it(words, monkeypatch, capsys):
    monkeypatch.setattr("minigen.paper.bench.bench", lambda *a: pytest.fail("it ran"))
    assert main(["bench", *words]) == 2
    assert "--seeds and --out belong to --quality" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["quality", "quality_peers"])
def test_what_comes_with_the_course_is_whole(name):
    path = data_path("pretrained").parent / "reproduce" / f"{name}.json"
    cells = quality.read(path)
    pairs = [(c["family"], c["minutes"], c["seed"]) for c in cells]
    assert len(set(pairs)) == len(pairs)
    others = {c["family"] for c in cells} - set(quality.FAMILIES)
    assert bool(others) == (name == "quality_peers")
    assert all(f.startswith((quality.peers.OURS, "diffusers ", "denoising-")) for f in others)
    for c in cells:
        if c["family"] != "Gaussian":            # it takes what it takes
            assert abs(c["spent"] - c["minutes"]) < 0.2 * c["minutes"], c
            assert all(steps > 50 for steps, _ in c["steps"].values()), c
    assert max(map(len, quality.as_text(path).splitlines())) <= 94
