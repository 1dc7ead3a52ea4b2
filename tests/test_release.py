"""What is released holds together: pins, licences, links, sizes, and no file to unpickle."""

import ast
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import venv

import build_notebooks as build
import course
import gallery
import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

import minigen
from minigen.files import sha256_of

ROOT = build.ROOT
OURS = ("minigen", "tests", "tools", "solutions", "notebooks", "data/pretrained")
MADE = {"__pycache__", ".ipynb_checkpoints"}  # by Python and by JupyterLab
FOUND = [p for folder in OURS for p in sorted((ROOT / folder).rglob("*"))]
TRACKED = [p.relative_to(ROOT).as_posix() for p in FOUND if p.is_file() and not MADE & {*p.parts}]


def requirements(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("-")]


def test_requirements_are_pinned_and_explained():
    for name in ("requirements.txt", "requirements-test.txt"):
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
            if line and not line.startswith(("#", "-")):
                assert re.fullmatch(r"[a-z-]+==[\d.]+ +# .+", line), line
    pins = {r.name: str(r.specifier) for r in requirements("requirements.txt")}
    assert pins["torch"] == "==2.11.0" and pins["torchvision"] == "==0.26.0"


def test_pins_lie_in_the_packages_ranges():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    needed = text.split("[project.optional")[0]
    ranges = [Requirement(m) for m in re.findall(r'^  "([a-z].+?)",$', needed, re.M)]
    pins = {r.name: next(iter(r.specifier)).version for r in requirements("requirements.txt")}
    assert len(ranges) == 6
    for r in ranges:
        assert r.specifier.contains(pins[r.name]), r
    assert not Requirement("torch>=2.6,!=2.13.*").specifier.contains("2.13.0")
    assert "torch>=2.6,!=2.13.*" in text


def test_modules_are_short_and_have_their_test():
    folder = ROOT / "tests"
    tests = {p.relative_to(folder).as_posix() for p in folder.rglob("test_*.py")}
    for name in TRACKED:
        ours = name.startswith("minigen/") and name.endswith(".py")
        if not ours or name.endswith(("__init__.py", "errors.py")):
            continue
        assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= 300, name
        _, *inside, module = name.removesuffix(".py").split("/")
        if inside not in (["checks"], ["data"]):
            assert "/".join([*inside, f"test_{module.strip('_')}.py"]) in tests, name
        elif inside == ["data"]:
            assert f"test_{module}.py" in tests, name


def test_a_statement_is_one_thing():
    """No `a(), b()`: two statements dressed as a tuple."""
    for name in TRACKED:
        if name.endswith(".py"):
            for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
                tuples = isinstance(node, ast.Expr) and isinstance(node.value, ast.Tuple)
                assert not tuples, f"{name}: {node.lineno}"


def test_nothing_is_unpickled():
    bad = re.compile(r"torch\.load\((?![^\n]*weights_only=True\))"
                     r"|pickle\.load|import pickle|allow_pickle=True|joblib")
    for name in TRACKED:
        if name.endswith((".py", ".ipynb")) and name != "tests/test_release.py":
            assert not bad.search((ROOT / name).read_text(encoding="utf-8")), name
    assert not [n for n in TRACKED if n.endswith((".pt", ".pth", ".pkl", ".ckpt", ".bin"))]


def test_links_of_the_readmes_lead_somewhere():
    pages = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/README.md",
             "data/pretrained/README.md")
    for page in pages:
        text = (ROOT / page).read_text(encoding="utf-8")
        for target, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", text):
            there = (ROOT / page).parent / target if target else ROOT / page
            assert there.is_file() or there.is_dir(), f"{page}: {target}"
            assert not anchor or anchor in anchors(there), f"{page}: #{anchor}"


def anchors(page):
    """What GitHub calls the headings of a page."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def test_the_readme_explains_every_tool():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for tool in (ROOT / "tools").glob("*.py"):
        assert f"](tools/{tool.name}) |" in text


def public_functions(path):
    """A module's functions and its classes' methods, less those for use inside."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    classes = [node.body for node in body if isinstance(node, ast.ClassDef)]
    for node in itertools.chain(body, *classes):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node


def test_every_public_function_has_its_hints():
    for path in (ROOT / "minigen").rglob("*.py"):
        for function in public_functions(path):
            given = [*function.args.args, *function.args.kwonlyargs]
            bare = [a.arg for a in given if not a.annotation and a.arg not in ("self", "cls")]
            assert not bare, f"{path.name}: {function.name} {bare}"
            assert function.returns is not None, (
                f"{path.name}: {function.name}")


def test_the_readme_names_targets_that_the_makefile_has():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^\.PHONY: (.+)", makefile, re.M)[0].split()
    named = set(re.findall(r"(?:`|^)(?:\w+=\S+ )?make ([a-z-]+)", text, re.M))
    assert {"lab", "test", "gallery", "notebooks"} <= named <= set(targets)
    told = {line.split()[2] for line in makefile.splitlines() if line.startswith("# make ")}
    assert told == set(targets)


def test_the_chapter_table_names_every_chapter():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for stem in build.stems():
        assert f"(notebooks/{stem}.ipynb)" in text and f"(solutions/{stem}.py)" in text


def test_the_chapter_table_is_the_courses():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert course.with_tables(text) == text, "run `python tools/course.py`"
    assert list(course.everything()) == build.stems()
    assert f"about {course.hours()} hours" in text
    with pytest.raises(ValueError, match="lacks the marks"):
        course.with_tables("# minigen")


def test_every_picture_of_the_readme_is_there_and_is_told_in_words():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[(.*?)\]\((data/.*?)\)", text)
    pictures += [(alt, src) for src, alt in re.findall(r'<img src="(.*?)".*? alt="(.*?)">', text)]
    names = {"models", "sample", "digits"}
    assert {path for _, path in pictures} == {f"data/pictures/{name}.png" for name in names}
    for words, path in pictures:
        assert len(words) > 40 and (ROOT / path).stat().st_size < 500_000


def test_the_readmes_python_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(examples) == 2
    for code in examples:
        short = code
        for long, brief in ("steps=1500", "steps=2"), ("steps=50", "steps=2"), ("2000", "128"):
            short = short.replace(long, brief)
        assert short != code and max(map(len, code.splitlines())) <= 100
        exec(compile(short, "README.md", "exec"), {})
    assert (tmp_path / "digits.png").exists()


@pytest.mark.slow
def test_the_picture_of_the_models_is_what_the_weights_draw():
    drawn = np.asarray(gallery.models().convert("RGB")).astype(float)
    with Image.open(ROOT / "data" / "pictures" / "models.png") as stored:
        assert np.abs(np.asarray(stored.convert("RGB")) - drawn).mean() < 1


def test_card_of_the_weights_is_true():
    folder = ROOT / "data" / "pretrained"
    text = (folder / "README.md").read_text(encoding="utf-8")
    files = sorted(folder.glob("*.safetensors"))
    for path in files:
        mend = "run `python tools/pretrain.py card`"
        assert path.name in text and sha256_of(path) in text, f"{path.name}: {mend}"
    assert sum(p.stat().st_size for p in files) < 45e6
    rows = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    chapters = [row["chapter"] for row in rows]
    assert chapters == sorted(chapters, key=str)


NEEDED = {"torch", "numpy", "matplotlib", "PIL", "safetensors", "tqdm", "minigen"}
ALWAYS = NEEDED | sys.stdlib_module_names


def imports():
    """(file's name, module, whether it is imported when used) of every import in the package."""
    for path in sorted((ROOT / "minigen").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                whole = isinstance(node, ast.Import)
                names = [a.name for a in node.names] if whole else [node.module]
                yield from ((path.name, name, node.col_offset > 0) for name in names)


def extras():
    """{extra: [its requirements]} of pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = text.split("[project.optional-dependencies]")[1].split("\n[")[0]
    section = re.sub(r"^#.*$", "", section, flags=re.M)
    return {name: [Requirement(r) for r in ast.literal_eval(listed)]
            for name, listed in re.findall(r"^(\w+) = (\[.*?\])$", section, re.M | re.S)}


def test_no_network_at_import_and_no_lab_needed():
    """The package imports only what pyproject.toml names, and what the extras name when used."""
    for file, name, late in imports():
        assert name.split(".")[0] in ALWAYS or late, f"{file}: {name}"


def test_extras_cover_what_is_imported_late():
    found, offered = extras(), set()
    assert found.keys() == {"notebook", "parquet", "full"}
    for requirements in found.values():
        offered |= {r.name.replace("-", "_").lower() for r in requirements}
    names = {name for _, name, _ in imports()}
    late = {name.split(".")[0] for name in names} - ALWAYS
    late = {name.lower() for name in late}
    late |= {"tensorboard" for name in names if name == "torch.utils.tensorboard"}
    assert {"pyarrow", "tensorboard", "ipywidgets"} <= late <= offered
    assert offered == late | {"jupyterlab", "ipykernel"}  # and nothing else is fetched


def test_extras_ask_for_what_is_tested():
    pins = {r.name: next(iter(r.specifier)).version
            for name in ("requirements.txt", "requirements-test.txt") for r in requirements(name)}
    for r in (r for found in extras().values() for r in found):
        assert r.name not in pins or r.specifier.contains(pins[r.name]), r


def test_one_version():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{minigen.__version__}"\n' in text


USE_IT = """
import sys
sys.path.append(sys.argv[1])
sys.modules["ipywidgets"] = sys.modules["IPython"] = None
import minigen, minigen.plots, minigen.widgets
from minigen import files, gan
from minigen.data import Digits
assert "env" in minigen.__file__, minigen.__file__
assert len(Digits()) == 1797
files.load_weights(gan.Generator, "gan")
print("fine")
"""


@pytest.mark.slow
def test_the_wheel_works_without_jupyter(tmp_path):
    """Build a wheel, install it beside this environment's torch, use it from an empty folder."""
    build_it = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build_it, "-w", tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob("minigen-*.whl")
    venv.create(tmp_path / "env", with_pip=True, system_site_packages=False)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", wheel], check=True)
    packages = next(p for p in map(str, sys.path) if p.endswith("site-packages"))
    alone = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MINIGEN_HOME")}
    done = subprocess.run([python, "-c", USE_IT, packages], cwd=tmp_path, capture_output=True,
                          text=True, env=alone)
    assert done.stdout.strip().endswith("fine"), done.stderr
    installed = next((tmp_path / "env").glob("lib/python*/site-packages"))
    (installed / "beside.pth").write_text(packages)
    before, here = _files_of(installed), tmp_path / "empty"
    here.mkdir()
    answers = {
        "--version": f"minigen {minigen.__version__}",
        "sample": "16 images in runs/faces.png",
        "reproduce table3": "Table 3",  # measured already
        "reproduce guidance --seeds 0 7": "New cells: 6, in runs/reproduce/guidance.json",
    }
    for line, said in answers.items():
        done = subprocess.run([python.with_name("minigen"), *line.split()], cwd=here, text=True,
                              capture_output=True, env=alone)
        assert done.returncode == 0 and said in done.stdout, done.stderr
    made = sorted(p.relative_to(here).as_posix() for p in here.rglob("*") if p.is_file())
    assert made == ["runs/faces.png", "runs/reproduce/guidance.json"]
    assert _files_of(installed) == before


def _files_of(folder):
    found = (p for p in folder.rglob("*") if p.is_file() and p.suffix != ".pyc")
    return {p: p.read_bytes() for p in found if "minigen" in str(p)}


def make(folder, *words, **env):
    return subprocess.run(["make", *words], cwd=folder, capture_output=True, text=True,
                          env=os.environ | env)


@pytest.fixture
def clone(tmp_path):
    """A folder with the Makefile and nothing else, its path with a space."""
    folder = tmp_path / "a clone"
    folder.mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    return folder


def test_make_clean_removes_only_what_this_makefile_made(clone, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.txt").write_text("mine")
    make(clone, "clean", f"VENV={home}")
    assert (home / "thesis.txt").read_text() == "mine"
    for words in (["clean"], ["clean", "-e"]):
        make(clone, *words, VENV=str(home))
        assert (home / "thesis.txt").read_text() == "mine"
    assert str(home) not in make(clone, "-n", "clean", VENV=str(home)).stdout
    refused = make(clone, "clean", f"VENV={home}")
    assert refused.returncode == 2 and "was not made by this Makefile" in refused.stdout
    made = clone / ".venv"
    made.mkdir()
    (made / ".made-by-minigen-make").touch()
    assert make(clone, "clean").returncode == 0 and not made.exists()
    assert make(clone, "clean").returncode == 0


@pytest.mark.parametrize("venv", ["a b", "", " "])
@pytest.mark.parametrize("target", ["clean", "lab", "test"])
def test_a_path_that_make_cannot_take_is_refused_in_one_sentence(clone, venv, target):
    done = make(clone, target, f"VENV={venv}")
    assert done.returncode == 2 and "VENV must be one path without spaces" in done.stderr
    assert done.stderr.count("\n") == 1


def test_make_never_clears_a_folder_that_it_did_not_make(clone, tmp_path):
    own = tmp_path / "own"
    (own / "bin").mkdir(parents=True)
    (own / "thesis.txt").write_text("mine")
    for name in ("requirements.txt", "pyproject.toml"):
        (clone / name).touch()
    done = make(clone, "lab", f"VENV={own}", f"PYTHON={sys.executable}")
    assert done.returncode == 2 and "was not made by this Makefile" in done.stdout
    assert (own / "thesis.txt").read_text() == "mine"
