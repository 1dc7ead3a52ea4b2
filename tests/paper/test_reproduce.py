import json
import re
import types
from pathlib import Path

import pytest
import torch

from minigen.__main__ import main
from minigen.errors import DataError
from minigen.files import data_path
from minigen.paper import reproduce, tables
from tests.conftest import defaults


def fake_cell(seed, steps, value):
    return dict(l1=value + seed / 10, perceptual=0.5, frechet=100.0, codes_used=7)


@pytest.fixture
def table(monkeypatch):
    rows = {"a": dict(value=0.1), "b": dict(value=0.2)}
    paper = {"a": "FID 1"}
    made = tables.Table("Table 0: a test", fake_cell, 5, tables.COLUMNS, rows, paper, "A note.")
    monkeypatch.setitem(reproduce.TABLES, "table0", made)
    return made


def test_it_goes_on_where_it_was_stopped(table, tmp_path):
    out = tmp_path / "t.json"
    run = reproduce.reproduce("table0", seeds=[0, 1], out=out)
    assert next(run)["row"] == "a" and len(reproduce.read("table0", out)) == 1
    run.close()                                              # stopped
    rest = list(reproduce.reproduce("table0", seeds=[0, 1, 1], out=out))
    assert [(c["row"], c["seed"]) for c in rest] == [("b", 0), ("a", 1), ("b", 1)]
    assert list(reproduce.reproduce("table0", seeds=[0, 1], out=out)) == []
    kept = json.loads(out.read_text(encoding="utf-8"))
    assert kept["command"] == "python -m minigen reproduce table0" and len(kept["cells"]) == 4
    assert {"row", "seed", "steps", "seconds", "l1"} <= set(kept["cells"][0])


def test_the_text_has_mean_deviation_and_the_papers_values(table, tmp_path):
    list(reproduce.reproduce("table0", seeds=[0, 1], out=tmp_path / "t.json", rows=["b"]))
    text = reproduce.as_text("table0", tmp_path / "t.json")
    assert "0.250 ± 0.071" in text and "FID 1" in text and "A note." in text
    assert next(line for line in text.splitlines() if line.startswith("a")).endswith("0   FID 1")


def test_what_is_refused(table, tmp_path):
    out = tmp_path / "t.json"
    list(reproduce.reproduce("table0", seeds=[0], out=out))
    for words, name, options in (
        ("no table 'table99'", "table99", {}),
        ("no row 'c'", "table0", dict(out=out, rows=["c"])),
        ("cells of 5 training steps, not 9", "table0", dict(out=out, steps=9)),
    ):
        with pytest.raises(DataError, match=words):
            next(reproduce.reproduce(name, **options))
    changed = json.loads(out.read_text(encoding="utf-8"))
    changed["cells"][0]["options"] = "another"
    out.write_text(json.dumps(changed), encoding="utf-8")
    with pytest.raises(DataError, match="another definition of 'a'"):
        next(reproduce.reproduce("table0", out=out))
    with pytest.raises(DataError, match="at least one of its training steps"):
        next(reproduce.reproduce("table0", steps=0, out=tmp_path / "new.json"))
    out.write_text("{torn")
    with pytest.raises(DataError, match="not a results file"):
        reproduce.read("table0", out)


def test_the_command(table, tmp_path, capsys):
    assert main(["reproduce", "table0", "--seeds", "0", "--out", str(tmp_path / "t.json")]) == 0
    out = capsys.readouterr().out
    assert "row a  seed 0" in out and "Table 0: a test" in out
    assert main(["reproduce", "nothing"]) == 2
    assert "no table 'nothing'" in capsys.readouterr().err


def test_a_cell_of_another_table_is_not_measured_again(table, monkeypatch, tmp_path):
    monkeypatch.setattr(reproduce, "results_file", lambda name, out=None: tmp_path / f"{name}.json")
    twin = table._replace(title="Table 00: another", rows={"the same": dict(value=0.1)})
    monkeypatch.setitem(tables.TABLES, "table00", twin)
    (first,) = reproduce.reproduce("table0", seeds=[0], rows=["a"])
    (cell,) = reproduce.reproduce("table00", seeds=[0])
    assert cell == first | dict(row="the same")


def test_the_file_word_by_word(table, tmp_path, monkeypatch):
    clock = iter([100.0, 103.6, 200.0, 200.4])
    monkeypatch.setattr(reproduce, "time", types.SimpleNamespace(time=lambda: next(clock)))
    monkeypatch.setitem(table.rows, "a", dict(value=0.123456))
    out = tmp_path / "deeper" / "t.json"
    first, second = reproduce.reproduce("table0", seeds=[0, 2], steps=1, out=out, rows=["a"])
    assert first == dict(
        row="a",
        seed=0,
        steps=1,
        seconds=4,
        options="{'value': 0.123456}",
        l1=0.1235,
        perceptual=0.5,
        frechet=100.0,
        codes_used=7,
    )
    assert second["seconds"] == 0 and second["l1"] == 0.3235
    kept = json.loads(out.read_text(encoding="utf-8"))
    assert kept == dict(
        table="table0",
        command="python -m minigen reproduce table0 --steps 1",
        torch=torch.__version__.split("+")[0],
        cells=[first, second],
    )
    assert reproduce.read("table0", out) == [first, second]


def test_seeds_come_before_rows(table, tmp_path):
    cells = list(reproduce.reproduce("table0", out=tmp_path / "t.json"))
    assert [(c["seed"], c["row"]) for c in cells] == [(s, r) for s in (0, 1, 2) for r in "ab"]
    assert {c["steps"] for c in cells} == {5}


def test_the_text_line_by_line(table, tmp_path, monkeypatch):
    columns = (
        "l1",
        "perceptual",
        "loss",
        "both",
        "diversity",
        "parameters",
        "frechet",
        "codes_used",
        "ms",
    )

    def cell(seed, steps, value):
        return {c: value + seed for c in columns}

    wide = table._replace(
        cell=cell,
        columns=columns,
        rows={"a": dict(value=1.23456), "longer": dict(value=7.0)},
        paper={"longer": "as far"},
    )
    monkeypatch.setitem(reproduce.TABLES, "table0", wide)
    out = tmp_path / "t.json"
    list(reproduce.reproduce("table0", seeds=[0, 1, 2], out=out, rows=["a"]))
    list(reproduce.reproduce("table0", seeds=[4], out=out, rows=["longer"]))
    title, head, a, longer, told, paper, note = reproduce.as_text("table0", out).splitlines()
    assert (title, note) == ("Table 0: a test", "A note.")
    assert head.split() == [*columns[:-2], "codes", "used", "ms", "seeds"]
    # three decimals, four for the loss, none for parameters, one for the others; the deviation is
    # of a sample; parameters are counted and have none
    means = ["2.235 ± 1.000"] * 2 + ["2.2346 ± 1.0000"] + ["2.235 ± 1.000"] * 2 + ["2"]
    means += ["2.2 ± 1.0"] * 3
    single = ["11.000"] * 2 + ["11.0000"] + ["11.000"] * 2 + ["11"] + ["11.0"] * 3
    for line, values in ((a, [*means, "3"]), (longer, [*single, "1"])):
        assert re.split("  +", line)[1:] == values
    for k, name in enumerate(columns):             # a header ends where its column ends
        name = name.replace("_", " ")
        end = head.index(name) + len(name)
        assert a[:end].endswith(means[k]) and longer[:end].endswith(single[k])
    assert (told, paper) == ("The paper's values:", "  longer  as far")


def test_the_papers_values_stand_beside_where_there_is_room(table, tmp_path, monkeypatch):
    out = tmp_path / "t.json"
    list(reproduce.reproduce("table0", seeds=[0], out=out, rows=["a"]))
    _, head, a, b, _ = reproduce.as_text("table0", out).splitlines()
    assert head == "      l1  perceptual  frechet  codes used  seeds   the paper"
    assert a.endswith("    1   FID 1") and b.endswith("–      0   –")
    room = 94 - (len(a) - len("FID 1"))
    for spare, lines in ((0, 5), (-1, 7)):
        told = table._replace(paper={"a": "x" * (room - spare)})
        monkeypatch.setitem(reproduce.TABLES, "table0", told)
        assert len(reproduce.as_text("table0", out).splitlines()) == lines


@pytest.mark.parametrize("name", tables.TABLES)
def test_every_line_fits_a_notebook(name):
    assert max(map(len, reproduce.as_text(name).splitlines())) <= reproduce.WIDE == 94


def test_results_go_to_runs_or_where_they_are_told_to(tmp_path, monkeypatch):
    monkeypatch.delenv("MINIGEN_HOME", raising=False)
    assert reproduce.results_file("table1") == Path("runs/reproduce/table1.json")
    monkeypatch.setenv("MINIGEN_HOME", str(tmp_path))
    assert reproduce.results_file("table1") == tmp_path / "reproduce" / "table1.json"
    assert reproduce.results_file("x", str(tmp_path / "y")) == tmp_path / "y"
    assert reproduce.read("nothing", tmp_path / "none.json") == []


def test_in_a_clone_the_courses_results_are_read_and_left_as_they_are(tmp_path, monkeypatch):
    """A reader's own run must not change what a chapter shows."""
    monkeypatch.setenv("MINIGEN_HOME", str(tmp_path))
    course = data_path("pretrained").parent / "reproduce" / "guidance.json"
    before, text = course.read_bytes(), reproduce.as_text("guidance")
    assert reproduce.measured_file("guidance") == course

    def cell(seed, steps, **_):
        return dict(hair=0.5, smile=0.5, both=0.5, diversity=0.5, frechet=9.0)

    made = reproduce.TABLES["guidance"]._replace(cell=cell)
    monkeypatch.setitem(reproduce.TABLES, "guidance", made)
    assert len(list(reproduce.reproduce("guidance", seeds=[7]))) == 4
    own = tmp_path / "reproduce" / "guidance.json"
    assert reproduce.measured_file("guidance") == own
    assert reproduce.read("guidance", own)[:-4] == reproduce.read("guidance")
    assert course.read_bytes() == before and reproduce.as_text("guidance") == text


def test_what_will_be_measured_is_told_before(table, tmp_path):
    out = tmp_path / "t.json"

    def sentence(*seeds):
        return reproduce.in_words(reproduce.plan("table0", seeds, out=out))

    assert sentence(0, 1) == f"4 cells to measure, into {out}."
    list(reproduce.reproduce("table0", seeds=[0], out=out, rows=["a"]))
    assert sentence(0, 1) == f"1 of 4 cells in {out}; 3 cells to measure, into {out}."
    list(reproduce.reproduce("table0", seeds=[0], out=out))
    changed = json.loads(out.read_text(encoding="utf-8"))
    for cell in changed["cells"]:
        cell["seconds"] = 600
    out.write_text(json.dumps(changed), encoding="utf-8")
    assert sentence(0) == (f"Read from {out}: 2 cells, measured in 1,200 s; nothing is left to "
                           "measure. `--seeds 1` measures another.")


def test_a_plan_and_a_measured_table_leave_nothing_behind(table, tmp_path):
    reproduce.plan("table0", out=tmp_path / "new" / "t.json")
    assert list(reproduce.reproduce("table0", seeds=[], out=tmp_path / "new" / "t.json")) == []
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("word", "guess"), [
    ("tabel1", "table1"), ("TABLE1", "table1"), ("table4", "table3"), ("table10", "table9"),
    ("table3_pixles", "table3_pixels"), ("gudance", "guidance"),
    ("5", None), ("table44", None), ("xylophone", None)])
def test_of_tables_the_number_is_near_before_the_letters(word, guess):
    said = f": did you mean '{guess}'? There are" if guess else ". There are"
    with pytest.raises(DataError) as told:
        reproduce.table_of(word)
    assert str(told.value) == (
        f"There is no table '{word}' to reproduce{said} table1, table2, table3, table3_pixels, "
        "table7, table8, table9, beyond, distortion, flow, forgotten, guidance, likelihoods, "
        "losses, origins, personal, predictions, prices, prompting, restoration and sentences.")


def test_a_table_may_be_named_by_its_number(table, tmp_path, capsys):
    assert [reproduce.table_of(word) for word in ("3", "table3", "guidance")] == [
        "table3", "table3", "guidance"]
    assert main(["reproduce", "0", "--seeds", "0", "--out", str(tmp_path / "t.json")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("2 cells to measure, into ") and "Table 0: a test" in out


def test_a_cell_without_a_key_is_no_result(tmp_path):
    cell, out = dict(row="a", seed=0, steps=5, options="{}"), tmp_path / "t.json"
    out.write_text(json.dumps(dict(cells=[cell])), encoding="utf-8")
    assert reproduce.read("table0", out) == [cell]
    for key in cell:
        out.write_text(
            json.dumps(dict(cells=[cell, {k: v for k, v in cell.items() if k != key}])),
            encoding="utf-8",
        )
        with pytest.raises(DataError):
            reproduce.read("table0", out)
    out.write_text("[]", encoding="utf-8")
    with pytest.raises(DataError):
        reproduce.read("table0", out)


@pytest.mark.parametrize("change", ["seed", "steps", "value", "cell", "out"])
def test_another_tables_cell_is_taken_only_where_all_is_the_same(
    table, monkeypatch, tmp_path, change
):
    monkeypatch.setattr(
        reproduce, "results_file", lambda name, out=None: out or tmp_path / f"{name}.json"
    )
    calls = []

    def cell(seed, steps, value):
        calls.append((seed, steps, value))
        return fake_cell(seed, steps, value)

    monkeypatch.setitem(reproduce.TABLES, "table0", table._replace(cell=cell))
    rows = {"the same": dict(value=0.1 if change != "value" else 0.3)}
    other = reproduce.TABLES["table0"]._replace(rows=rows)
    if change == "cell":
        other = other._replace(cell=lambda seed, steps, value: cell(seed, steps, value))
    monkeypatch.setitem(reproduce.TABLES, "table00", other)
    list(reproduce.reproduce("table0", seeds=[0], rows=["a"]))
    assert len(calls) == 1
    list(
        reproduce.reproduce(
            "table00",
            seeds=[1 if change == "seed" else 0],
            steps=6 if change == "steps" else None,
            out=tmp_path / "own.json" if change == "out" else None,
        )
    )
    assert len(calls) == 2


def test_what_is_taken_unless_told():
    assert defaults(reproduce.reproduce) == dict(seeds=(0, 1, 2), steps=None, out=None, rows=None)


@pytest.mark.parametrize("content", [
    "", "{", "[]", "null", '{"cells": 5}', '{"cells": [5]}', '{"cells": [{}]}', "[" * 9999,
    '{"cells": [{"row": "x", "seed": 0, "steps": 1, "options": "", "l1": "text"}]}'])
def test_a_file_of_another_kind_is_named_and_left(tmp_path, content):
    (tmp_path / "t.json").write_text(content)
    with pytest.raises(DataError, match=r"t.json is not a results file of `reproduce table1`"):
        list(reproduce.reproduce("table1", out=tmp_path / "t.json"))
    assert [p.name for p in tmp_path.iterdir()] == ["t.json"]
    assert (tmp_path / "t.json").read_text() == content


@pytest.mark.parametrize(("given", "words"), [
    (dict(steps=0), "at least one of its"), (dict(steps=1.5), "at least one of its"),
    (dict(seeds=[-1]), "seeds is"), (dict(seeds=["x"]), "seeds is"),
    (dict(rows=["none such"]), "has no row")])
def test_what_cannot_be_measured_is_told_and_nothing_is_made(tmp_path, given, words):
    with pytest.raises(DataError, match=words):
        list(reproduce.reproduce("table1", out=tmp_path / "new" / "t.json", **given))
    assert not list(tmp_path.iterdir())


def test_two_processes_do_not_measure_into_one_file(tmp_path, request):
    request.getfixturevalue("held_by_another")(tmp_path / ".t.json.lock")
    with pytest.raises(DataError, match="Another process is measuring into"):
        next(reproduce.reproduce("table1", out=tmp_path / "t.json"))


def test_a_file_that_appears_or_changes_meanwhile_stays(tmp_path, monkeypatch):
    def cell(seed, steps, **_):
        (tmp_path / "t.json").write_text("mine")
        return dict(l1=0.0, perceptual=0.0, frechet=0.0, codes_used=0)

    monkeypatch.setitem(reproduce.TABLES, "table1", reproduce.TABLES["table1"]._replace(cell=cell))
    with pytest.raises(DataError, match="has appeared meanwhile"):
        list(reproduce.reproduce("table1", out=tmp_path / "t.json", seeds=[0]))
    assert (tmp_path / "t.json").read_text() == "mine"


def test_an_empty_notebook_is_no_results_file(tmp_path):
    (tmp_path / "nb.ipynb").write_text('{"cells": [], "metadata": {}, "nbformat": 4}')
    with pytest.raises(DataError, match="not a results file"):
        reproduce.read("table1", tmp_path / "nb.ipynb")


@pytest.fixture
def installed(monkeypatch, tmp_path, table):
    """As from a wheel: the results that come with the course lie beside the package, and we are in
    an empty folder."""
    package, here = tmp_path / "package", tmp_path / "here"
    (package / "reproduce").mkdir(parents=True)
    here.mkdir()
    monkeypatch.setattr(reproduce, "data_path", lambda name: package / name)
    monkeypatch.delenv("MINIGEN_HOME", raising=False)
    monkeypatch.chdir(here)
    list(reproduce.reproduce("table0", seeds=[0], out=package / "reproduce" / "table0.json"))
    return package / "reproduce" / "table0.json"


@pytest.mark.parametrize("home", [None, "home"])
def test_an_installed_package_is_read_and_left_as_it_is(installed, tmp_path, monkeypatch, home):
    if home:
        monkeypatch.setenv("MINIGEN_HOME", str(tmp_path / home))
    own = (tmp_path / home if home else Path("runs")) / "reproduce" / "table0.json"
    before = installed.read_bytes()
    assert reproduce.results_file("table0") == own and len(reproduce.read("table0")) == 2
    assert reproduce.measured_file("table0") == installed
    assert list(reproduce.reproduce("table0", seeds=[0])) == []            # measured already
    assert not own.exists() and "0.150" not in reproduce.as_text("table0")
    assert [c["seed"] for c in reproduce.reproduce("table0", seeds=[0, 1])] == [1, 1]
    assert installed.read_bytes() == before and len(reproduce.read("table0", own)) == 4
    assert "0.150 ± 0.071" in reproduce.as_text("table0", own)             # ours with theirs
    assert len(reproduce.read("table0")) == 2                              # a chapter's are theirs
    assert [p.name for p in installed.parent.iterdir()] == ["table0.json"]
    with pytest.raises(DataError, match="cells of 5 training steps, not 6"):
        next(reproduce.reproduce("table0", steps=6, seeds=[0]))


def test_the_command_says_where_new_cells_are(installed, capsys):
    assert main(["reproduce", "table0", "--seeds", "0"]) == 0
    out = capsys.readouterr().out
    assert "New cells" not in out and out.startswith(f"Read from {installed}: 2 cells")
    assert main(["reproduce", "table0", "--seeds", "0", "1"]) == 0
    assert f"New cells: 2, in {Path('runs/reproduce/table0.json')}\n" in capsys.readouterr().out


def test_a_table_misspelled(capsys):
    assert main(["reproduce", "tabel1"]) == 2
    words = "no table 'tabel1' to reproduce: did you mean 'table1'? There are table1, table2, "
    assert words in capsys.readouterr().err
