"""tools/grade.py: what it takes from a notebook, what earns points, and what does not."""

import csv
import json
import sys
from pathlib import Path

import answers
import build_notebooks
import examiner
import grade
import pytest

RIGHT = {
    "to_unit_range": "def to_unit_range(b):\n    return b.float() / 127.5 - 1",
    "mean_face": "def mean_face(x):\n    return x.mean(0)",
    "gaussian_draw": "def gaussian_draw(m, u, v, e):\n    return m + (e * v.sqrt()) @ u.T",
    "frechet_1d": "def frechet_1d(m, v, n, w):\n    return (m - n) ** 2 + (v**0.5 - w**0.5) ** 2",
}
STUB = "def {}(*args):\n    raise NotImplementedError"
IMPORTS = "import os\nimport torch\nfrom torch import nn\nfrom minigen import check, gan"


def code(text, grade_id=None):
    marks = {"solution": True, "grade": False, "grade_id": grade_id} if grade_id else {}
    return {"cell_type": "code", "source": text, "outputs": [], "execution_count": None,
            "metadata": {"nbgrader": marks} if marks else {}}


def notebook(found, *more):
    cells = [code(IMPORTS), {"cell_type": "markdown", "source": ["# Title"], "metadata": {}}]
    cells += [code(text, name) for name, text in found.items()]
    return json.dumps({"cells": [*cells, *map(code, more)], "metadata": {}, "nbformat": 4,
                       "nbformat_minor": 5})


def taken(text, name="mean_face", *more):
    """What is taken of a notebook with one answer."""
    cells = [(IMPORTS, ""), (text, name), *((m, "") for m in more)]
    return answers.taken(cells, [*RIGHT, "d_loss"])[name]


def rows(out):
    with open(out / "grades.csv", encoding="utf-8", newline="") as f:
        return {row["submission"]: row for row in csv.DictReader(f)}


HALF = RIGHT | {"mean_face": "def mean_face(x):\n    return x.sum(0)",
                "frechet_1d": STUB.format("frechet_1d")}
CHEATS = {
    "to_unit_range": "import os\ndef to_unit_range(b):\n    os._exit(0)",
    "mean_face": "import torch\ntorch.allclose = lambda *a, **k: True\n"
                 "def mean_face(x):\n    print('mean_face: passed.')\n    return x[0]",
    "gaussian_draw": "def gaussian_draw(m, u, v, e):\n    while True:\n        pass",
    "frechet_1d": "def frechet_1d(*a):\n    from minigen.checks import compare\n    return 0",
}
REDEFINED = ("import minigen.checks, sys\ncheck = lambda f: print('passed')\n"
             "minigen.checks.check = check\nsys.modules['minigen.checks'] = None\n"
             "open('progress.json', 'w').write('{}')\nraise SystemExit")


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """A class's submissions, graded once: (rows of the table, the folder of pages, home)."""
    here = tmp_path_factory.mktemp("class")
    folder, out = here / "submitted", here / "grades"
    books = {
        "right/00/00": notebook(RIGHT), "half/00/00": notebook(HALF),
        "empty/00/00": notebook({n: STUB.format(n) for n in RIGHT}),
        "cheat/00/00": notebook(CHEATS, REDEFINED),
        "redefined": notebook({n: STUB.format(n) for n in RIGHT}, REDEFINED),
        "=1+1": notebook({"mean_face": RIGHT["mean_face"]}),
        "broken": '{"cells": [', "list": "[1, 2]", "no cells": '{"cells": 3}', "void": "",
        "other": json.dumps({"cells": [code("x = 1")]}),
        ".ipynb_checkpoints/right": notebook(RIGHT),
    }
    for name, text in books.items():
        path = folder / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder / "latin.ipynb").write_bytes(notebook(RIGHT).replace("Title", "Titlé").encode("latin1"))
    (folder / "nobody").mkdir()
    again = here / "again" / "redefined.ipynb"
    again.parent.mkdir()
    again.write_text(notebook(RIGHT))
    home = here / "home"
    home.mkdir()
    with pytest.MonkeyPatch.context() as m:
        m.setenv("MINIGEN_HOME", str(home))
        grade.main([str(folder), str(again), "--out", str(out), "--seconds", "3"])
    return rows(out), out / "feedback", home


def test_points_of_a_class(graded):
    table, _, home = graded
    points = {name: (row["points"], row["of"]) for name, row in table.items()}
    assert points == {
        "right/00/00": ("5", "10"), "half/00/00": ("3", "10"), "empty/00/00": ("0", "10"),
        "cheat/00/00": ("0", "10"), "redefined": ("0", "10"), "redefined-2": ("5", "10"),
        "'=1+1": ("1", "10"), "broken": ("0", "0"), "list": ("0", "0"), "no cells": ("0", "0"),
        "void": ("0", "0"), "other": ("0", "0"), "latin": ("0", "0"), "nobody": ("0", "0"),
    }
    assert [table["half/00/00"][n] for n in RIGHT] == ["1", "0", "2", "0"]
    assert float(table["right/00/00"]["seconds"]) > 0 and not list(home.iterdir())


@pytest.mark.parametrize(("name", "words"), [
    ("broken", "JSON is broken"), ("list", "no cells"), ("no cells", "no cells"),
    ("void", "empty"), ("other", "no exercise of the course"), ("latin", "not UTF-8"),
    ("nobody", "no notebook in it"),
    ("cheat/00/00", "to_unit_range: look at it: Not run, for a teacher to look at: it uses ._exit"),
    ("cheat/00/00", "gaussian_draw: look at it: Stopped: it took too long"),
    ("cheat/00/00", "frechet_1d: look at it: Not run, for a teacher to look at: it imports"),
])
def test_what_is_noted_for_the_teacher(graded, name, words):
    assert words in graded[0][name]["notes"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_is_not_followed(tmp_path):
    """It may lead to another student's notebook."""
    (tmp_path / "theirs.ipynb").write_text(notebook(RIGHT))
    (tmp_path / "mine.ipynb").symlink_to(tmp_path / "theirs.ipynb")
    with pytest.raises(answers.Unreadable, match="a link"):
        answers.read(tmp_path / "mine.ipynb")


def test_the_pages_say_what_the_check_says(graded):
    pages = graded[1]
    half = (pages / "half/00/00.md").read_text(encoding="utf-8")
    assert "**3 of 10 points**" in half and "| `to_unit_range` | 1 of 1 | Passed. |" in half
    assert "You summed the faces: divide by how many there are." in half
    assert "| `frechet_1d` | 0 of 1 | Not attempted. |" in half
    assert "Nothing could be graded" in (pages / "broken.md").read_text(encoding="utf-8")
    assert (pages / "redefined-2.md").exists() and (pages / "_1_1.md").exists()


def test_the_solutions_are_taken_and_none_is_refused():
    board = grade.exercises()
    for stem in build_notebooks.stems():
        cells = [(c.source, c.metadata.get("nbgrader", {}).get("grade_id", ""))
                 for c in build_notebooks.editions(stem)[0].cells if c.cell_type == "code"]
        names = next(v for k, v in board.items() if k[:2] == stem[:2])
        found = answers.taken(cells, [n for every in board.values() for n in every])
        assert sorted(found) == sorted(names)
        assert not [(n, a.refused) for n, a in found.items() if a.refused or not a.source]


EXCURSION = {
    "log_of_density": "def log_of_density(z, d):\n"
                   "    return d - (z**2 + math.log(2 * math.pi)).sum(1) / 2",
    "couple": "def couple(x, m, f):\n    s, t = f(x)\n    return x * s.exp() + t, s.sum(1)",
    "euler": "def euler(velocity, x1, steps):\n    states = [x1]\n    for i in range(steps):\n"
             "        v = velocity(states[-1], 1 - i / steps)\n"
             "        states.append(states[-1] - v / steps)\n    return states",
    "heun": "def heun(velocity, x1, steps):\n    return euler(velocity, x1, steps)",
}


def test_an_excursion_is_graded_as_a_chapter(tmp_path):
    (tmp_path / "one.ipynb").write_text(notebook(EXCURSION, "import math"), encoding="utf-8")
    grade.main([str(tmp_path), "--out", str(tmp_path / "out")])
    row = rows(tmp_path / "out")["one"]
    worth, names = grade.worth("points"), grade.exercises()["x1 flows"]
    right = {"log_of_density", "euler"}
    assert {n: row[n] for n in names} == {n: str(worth[n] * (n in right)) for n in names}
    assert (row["points"], row["of"]) == tuple(
        str(sum(worth[n] for n in every)) for every in (right, names))
    page = (tmp_path / "out/feedback/one.md").read_text(encoding="utf-8")
    assert "it may see only what stays" in page and "asks twice a step" in page


def test_points_are_the_courses_own():
    points, stars = grade.worth("points"), grade.worth("stars")
    assert points["gaussian_draw"] == 2 and points["mean_face"] == 1
    assert stars["gaussian_draw"] == 2 and stars["ideal_x0"] == 3
    assert set(points) == set(stars) == {n for names in grade.exercises().values() for n in names}


def test_an_answer_comes_with_its_cell_and_its_imports_and_nothing_else():
    text = ("%matplotlib inline\nHALF = 127.5\nprint('x')\nimages = draw()\n\ndef up(x):\n"
            "    return x + torch.zeros(1)\n\n\ndef mean_face(x):\n    # a remark\n"
            "    return up(x).mean(0)\n")
    source = taken(text).source
    assert source.startswith("import torch\n") and "HALF = 127.5" in source and "# a rem" in source
    assert "def up" in source and "print" not in source and "images" not in source
    assert "import os" not in source and "gan" not in source


def test_an_earlier_answer_comes_along_and_its_fault_with_it():
    loss = "def d_loss(r, f):\n    return mean_face(r)"
    assert "def mean_face" in answers.taken(
        [(RIGHT["mean_face"], ""), (loss, "d_loss")], [*RIGHT, "d_loss"])["d_loss"].source
    bad = answers.taken([("def mean_face(x):\n    open('x')", ""), (loss, "")],
                        ["mean_face", "d_loss"])
    assert bad["d_loss"].refused == "mean_face, which it calls: it uses open"


def test_of_two_definitions_the_exercises_own_cell_counts():
    other = "def mean_face(x):\n    return 1"
    for cells in ([(RIGHT["mean_face"], "mean_face"), (other, "")],
                  [(other, ""), (RIGHT["mean_face"], "mean_face")],
                  [(other, ""), (RIGHT["mean_face"], "")]):
        found = answers.taken(cells, ["mean_face"])["mean_face"]
        assert "x.mean(0)" in found.source and "defined 2 times" in found.notes[0]


def test_what_runs_is_what_was_read():
    """A carriage return ends a line too."""
    text = "x = 2\rdef mean_face(x):\r    return x\rprint('hidden')\r"
    source = taken(text).source
    assert source.endswith("def mean_face(x):\n    return x\n") and "hidden" not in source
    kept = "def mean_face(x):\n    return (x\n            % 2)"
    assert "% 2" in taken(kept).source


@pytest.mark.parametrize("line", ["x = " + "-" * 90_000 + "1", "x = a" + ".b" * 40_000,
                                  "x = " + "[" * 40_000, "x = 1\0", "x" * 200_000, "\ud800"])
def test_a_cell_that_breaks_the_parser_breaks_its_own_answers_only(line):
    cells = [(f"{line}\ndef d_loss(r, f):\n    return 1", ""), (RIGHT["mean_face"], "")]
    found = answers.taken(cells, ["mean_face", "d_loss"])
    assert found["mean_face"].source and (found["d_loss"].refused or found["d_loss"].source)


def test_use_of_minigen_is_noted():
    assert taken("def mean_face(x):\n    return gan.g(x)").notes == ["uses minigen's own: gan"]
    assert not taken("def mean_face(gan):\n    return gan").notes


def test_a_cell_that_is_no_python_is_told_with_its_line():
    found = taken("def mean_face(x):\n    return (x")
    assert "line 2 of its cell is no Python" in found.refused
    assert taken("def mean_face(x):\n" + "    return " + "(" * 5000 + ")" * 5000).refused


BODIES = [
    "open('x')", "eval('1')", "exec('1')", "__import__('os')", "x.__class__", "globals()",
    "setattr(x, 'y', 1)", "torch.serialization", "torch.os", "x.f_back", "torch._C", "gan.checks",
    "torch.hub", "torch.jit", "torch.load" + "('x')", "torch.ops", "torch.allclose = 1", "x.y += 1",
    "del torch.nn", "import os", "import sys as t", "from minigen import checks",
    "from minigen.checks.ddpm_answers import noised", "from . import x", "import numpy.ctypeslib",
    "type('T', (torch.Tensor,), {})", "t = type", "nn.modules.module.register_module_forward_hook",
    "class T(torch.Tensor):\n        pass", "from torch import _C", "import minigen.checks as c",
    "import ctypes", "import builtins", "import gc", "import inspect",
    "from functools import wraps", "x.ｆ_back",
    "for torch.allclose in [1]:\n        pass", "[0 for torch.x in y]", "x.__dict__['a'] = 1",
    "breakpoint()", "input()", "vars(torch)", "import threading",
    "from operator import attrgetter",
    "match x:\n        case object(__class__=y):\n            pass",
    "match x:\n        case torch(os=y):\n            pass", "x.register_hook(y)",
    "global __builtins__", "import torch as __builtins__", "def __builtins__():\n        pass",
    "try:\n        pass\n    except ValueError as __builtins__:\n        pass",
    "lambda __builtins__: 0", "torch.utils.benchmark.Timer('1')", "import string",
    "from typing import get_type_hints", "f'{x.__class__}'", "import timeit",
    "match x:\n        case {**__builtins__}:\n            pass",
]


@pytest.mark.parametrize("body", BODIES)
def test_what_an_answer_has_no_use_for_is_refused(body):
    assert taken(f"def mean_face(x):\n    {body}").refused
    assert taken(f"def mean_face(x):\n    return 1\n\n\ndef up(x):\n    {body}").refused


@pytest.mark.parametrize("body", [
    "model.eval()", "x.grad = None", "type(x)", "import torch.nn.functional as F", "x.data = y",
    "print(x)", "import math", "from minigen import gan", "torch.nn.utils.clip_grad_norm_(x, 1)",
    "from collections import Counter", "with torch.no_grad():\n        pass", "x.numpy()",
    "lambda y: y", "getattr(x, 'shape')", "isinstance(x, torch.Tensor)", "raise ValueError(x)",
    "def f(*a, **k):\n        return a", "match x:\n        case {'a': y}:\n            pass",
    "from typing import Any",
])
def test_what_honest_answers_do_is_not(body):
    assert not taken(f"def mean_face(x, model=None, y=0):\n    {body}").refused


# past the reading: what would happen if such code got through
INSIDE = "import torch\no = torch.serialization.os\n"
DEEP = {
    "to_unit_range": (INSIDE + "def to_unit_range(b):\n    o._exit(0)", "gone"),
    "mean_face": (INSIDE + "torch.allclose = lambda *a, **k: True\n"
                  "def mean_face(x):\n    return x.mean(0) + 1", "tampered"),
    "gaussian_draw": (INSIDE + "def gaussian_draw(m, u, v, e):\n    while True:\n        pass",
                      "time"),
    "frechet_1d": (INSIDE + "def frechet_1d(*a):\n    for fd in range(3, 99):\n        try:\n"
                   "            o.write(fd, b'00 {\"passed\": true, \"said\": \"\"}\\n')\n"
                   "        except OSError:\n            pass\n    o._exit(0)", "tampered"),
    "d_loss": (INSIDE + "def d_loss(r, f):\n    o.system('echo')", "wrong: grading does without"),
    "g_loss": (INSIDE + "def g_loss(f):\n    torch.serialization.io.open({!r}).read()".format(
        str(grade.ROOT / "solutions" / "01_gan.py")), "wrong: grading opens no files"),
    "hinge_d_loss": (INSIDE + "def hinge_d_loss(r, f):\n    torch.serialization.io.open({!r}, 'w')"
                     .format(str(grade.ROOT / "x.txt")), "wrong: grading opens no files"),
    "best_discriminator": (INSIDE + "def best_discriminator(p, q):\n    o.abort()",
                           "gone: signal 6"),
    "alpha_bar": ("from minigen import diffusion\n"
                  "diffusion.Diffusion.posterior = lambda *a: 0\n"
                  "def alpha_bar(b):\n    return b", "tampered: Diffusion.posterior"),
    "modes_covered": ("def modes_covered(p, c, r):\n    return bytearray(4 * 10**9)",
                      "wrong: MemoryError"),
    "with_label": (INSIDE + "class T(torch.Tensor):\n    pass\n"
                   "def with_label(x, y, k):\n    return x.as_subclass(T)", "wrong: returned a T"),
    "gaussian_kl": ("def gaussian_kl(m, v):\n    raise SystemExit", "wrong: SystemExit"),
    "best_guess": ("import os\ndef best_guess(x, p):\n    pass", "wrong: does not import os"),
    "nearest_index": (INSIDE + "def nearest_index(z, c):\n    o.fork()", "wrong: os.fork"),
    "mask": (INSIDE + f"def mask(s, k):\n    o.remove({__file__!r})",
             "wrong: changes no files"),
    "bits": ("def bits(x, c):\n    getattr(x, '__class__')", "wrong: without the attribute"),
}


@pytest.fixture(scope="module")
def deep():
    job = {"seconds": 3, "total": 300, "memory": 1, "seed": 0,
           "exercises": [{"name": n, "source": s} for n, (s, _) in DEEP.items()]}
    out = grade.ask(job, 600).decode().splitlines()
    return {row["name"]: row for row in map(json.loads, out)}


@pytest.mark.skipif(not examiner.FORKS, reason="one process for all needs forks")
@pytest.mark.parametrize("name", DEEP)
def test_code_that_got_past_the_reading_earns_nothing(name, deep):
    outcome, _, words = DEEP[name][1].partition(": ")
    assert deep[name]["outcome"] == outcome and words in deep[name]["said"], deep[name]


def test_without_forks_an_exercise_has_a_process(monkeypatch, tmp_path):
    monkeypatch.setattr(examiner, "FORKS", False)
    real = grade.ask
    force = "import sys; sys.path.insert(0, {!r}); import examiner; examiner.FORKS = False; "
    program = force.format(str(grade.ROOT / "tools")) + "examiner.main()"

    def popen(command, **how):
        return real_popen([command[0], "-c", program], **how)

    real_popen = grade.subprocess.Popen
    monkeypatch.setattr(grade.subprocess, "Popen", popen)
    assert grade.ask is real
    (tmp_path / "one.ipynb").write_text(notebook({"mean_face": HALF["mean_face"],
                                                  "frechet_1d": RIGHT["frechet_1d"]}))
    grade.main([str(tmp_path), "--out", str(tmp_path / "out")])
    row = rows(tmp_path / "out")["one"]
    assert (row["mean_face"], row["frechet_1d"], row["to_unit_range"]) == ("0", "1", "0")
    assert "summed the faces" in (tmp_path / "out/feedback/one.md").read_text(encoding="utf-8")


def test_a_verdict_needs_its_nonce():
    good = b'aa {"passed": true, "said": "x: passed."}\n'
    assert examiner.verdict_of(good, "aa") == ("passed", "x: passed.")
    assert examiner.verdict_of(good, "bb")[0] == "tampered"
    assert examiner.verdict_of(good + good, "aa")[0] == "tampered"
    assert examiner.verdict_of(b"", "aa")[0] == "gone"
    assert examiner.verdict_of(good.replace(b"true", b"1"), "aa")[0] == "wrong"


def test_a_students_text_is_no_markup_and_no_formula():
    assert grade.plain("<b>*x*</b>\n| [a](b)") == r"&lt;b&gt;\*x\*&lt;/b&gt; \| \[a\](b)"
    assert grade.plain("x" * 999).endswith("x …") and grade.safe("@x") == "'@x"
    assert grade.file_of("../../etc/a b:c") == "_/_/etc/a b_c.md"


def test_wrong_use_is_one_sentence(tmp_path, capsys):
    for argv in (["nowhere"], [str(tmp_path)], [str(Path(__file__)), "--seconds", "0"]):
        with pytest.raises(SystemExit) as stop:
            grade.main(argv)
        assert stop.value.code == 2
    assert "there is no nowhere" in capsys.readouterr().err
