"""A notebook's first cell: it does nothing at home, and on Colab it installs the package.

Whatever lies in the folder.
"""

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import build_notebooks as build
import course
import pytest

CHAPTER = "00_start_here"


def code(stem=CHAPTER):
    return [c.source for c in build.editions(stem)[1].cells if c.cell_type == "code"]


ON_COLAB = 'sys.modules |= {name: types.ModuleType(name) for name in ("google", "google.colab")}'
RUN_CELL = f"""
import json, os, subprocess, sys, types
cell, before, colab = json.load(sys.stdin)
sys.path = ["", *sys.path, os.path.abspath("../site")]
installed = []

def run(command, check):
    installed.append(command[-1])
    os.makedirs("../site/minigen")
    with open("../site/minigen/__init__.py", "w") as f:
        f.write("check = print")

subprocess.run = run
if colab:
    {ON_COLAB}
exec(before)
for _ in range(2):
    names = {{}}
    exec(cell, names)
    if colab:
        from minigen import check
print(json.dumps([installed, sorted(set(names) - {{"__builtins__"}})]))
"""


def first_cell(tmp_path, before="", colab=True):
    """Run the first cell twice in `tmp_path/content`.

    The installation there only writes a package of that name.
    Returns: what was installed, and the names the cell left behind.
    """
    for name in ("content", "site"):
        (tmp_path / name).mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", RUN_CELL], cwd=tmp_path / "content", text=True,
        input=json.dumps([code()[0], before, colab]), capture_output=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


TAG = f"git+{course.repository()}@{course.tag()}"


def test_at_home_the_first_cell_does_nothing(tmp_path):
    assert first_cell(tmp_path, colab=False) == [[], ["sys"]]


@pytest.mark.parametrize(("clone", "before"), [(False, ""), (True, ""), (True, "import minigen")])
def test_on_colab_the_tag_is_installed_once(tmp_path, clone, before):
    """A clone's folder is a package of the same name without a file; it may be imported already."""
    if clone:
        (tmp_path / "content" / "minigen" / "notebooks").mkdir(parents=True)
    assert first_cell(tmp_path, before)[0] == [TAG]


def test_on_colab_an_installed_package_is_left_alone(tmp_path):
    package = tmp_path / "site" / "minigen"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("check = print")
    (tmp_path / "content" / "minigen").mkdir(parents=True)
    assert first_cell(tmp_path)[0] == []


def test_the_first_cell_is_short_and_says_where_things_are():
    lines = code()[0].splitlines()
    assert len(lines) <= 15 and max(map(len, lines)) <= 96
    assert "MINIGEN_SCALE=full" in code()[0] and "MINIGEN_HOME=" in code()[0]


RUN_CELLS = f"""
import json, sys, types
{ON_COLAB}
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for source in json.load(sys.stdin):
    shell.run_cell(source).raise_error()
import minigen
print("from", minigen.__file__)
"""


def git(folder, *words):
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A repository of the working tree's package and data, with this version's tag."""
    folder = tmp_path_factory.mktemp("repository")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(build.ROOT / name, folder)
    for name in ("minigen", "data/pretrained", "data/reproduce"):
        without_caches = shutil.ignore_patterns("__pycache__")
        shutil.copytree(build.ROOT / name, folder / name, ignore=without_caches)
    shutil.copy(build.ROOT / "data" / "digits.npz", folder / "data")
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "all")
    git(folder, "tag", course.tag())
    (folder / "minigen" / "__init__.py").write_text("raise ImportError('the tip of the branch')")
    git(folder, "commit", "-q", "-a", "-m", "the tip")
    return folder


@pytest.fixture
def machine(tmp_path):
    """A Python with all packages of this one but minigen; what it installs stays in it.

    Returns: its interpreter.
    """
    venv.create(tmp_path / "env")
    python = tmp_path / "env" / "bin" / "python"
    packages = tmp_path / "packages"
    packages.mkdir()
    for folder in (Path(p) for p in sys.path if p.endswith("site-packages")):
        for entry in folder.iterdir():
            link = packages / entry.name
            if not entry.name.startswith(("minigen", "_minigen")) and not link.exists():
                link.symlink_to(entry)
    (site,) = (tmp_path / "env").glob("lib/python*/site-packages")
    (site / "packages.pth").write_text(str(packages))
    return python


@pytest.mark.slow
@pytest.mark.parametrize("clone", [False, True])
def test_ten_cells_of_a_chapter_run_on_a_simulated_colab(
        repository, machine, tmp_path, monkeypatch, clone):
    content = tmp_path / "content"
    content.mkdir()
    if clone:
        git(content, "clone", "-q", repository.as_uri(), "minigen")
    monkeypatch.setattr(course, "repository", repository.as_uri)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "MINIGEN"))}
    env |= {"HOME": str(tmp_path), "IPYTHONDIR": str(tmp_path / "ipython"), "MPLBACKEND": "Agg",
            # 0 switches the isolation off; hatchling is here
            "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}
    done = subprocess.run([machine, "-c", RUN_CELLS], cwd=content, text=True, env=env,
                          input=json.dumps(code()[:10]), capture_output=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert done.stdout.splitlines()[-1].startswith(f"from {tmp_path / 'env'}"), done.stdout[-500:]
