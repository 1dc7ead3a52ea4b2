import json

import pytest

from minigen import reproduce, tables
from minigen.__main__ import main
from minigen.errors import DataError


def fake_cell(seed, steps, value):
    return dict(l1=value + seed / 10, perceptual=0.5, frechet=100.0, codes_used=7)


@pytest.fixture
def table(monkeypatch):
    rows = {"a": dict(value=0.1), "b": dict(value=0.2)}
    made = tables.Table("Table 0: a test", fake_cell, 5, tables.COLUMNS, rows, {"a": "FID 1"}, "A note.")
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
    for words, run in (("no table 'table99'", lambda: reproduce.reproduce("table99")),
                       ("no row 'c'", lambda: reproduce.reproduce("table0", out=out, rows=["c"])),
                       ("cells of 5 training steps, not 9", lambda: reproduce.reproduce("table0", steps=9, out=out))):
        with pytest.raises(DataError, match=words):
            next(run())
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
    twin = table._replace(title="Table 00: another", rows={"the same": dict(value=0.1)}, cell=table.cell)
    monkeypatch.setitem(tables.TABLES, "table00", twin)
    (first,) = reproduce.reproduce("table0", seeds=[0], rows=["a"])
    (cell,) = reproduce.reproduce("table00", seeds=[0])
    assert cell == first | dict(row="the same")
