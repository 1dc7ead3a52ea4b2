"""Other homes of the course: the lock, the dev container, the workflow and the forms.

They say what the rest of the repository says.
"""

import json
import re

import course
import pytest
import yaml
from packaging.requirements import Requirement

ROOT = course.ROOT
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
SYSTEMS = {"Linux": ("linux", "posix"), "Darwin": ("darwin", "posix"), "Windows": ("win32", "nt")}


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def locked():
    """[(requirement, its hashes)] of requirements.lock."""
    text = re.sub(r"^#.*\n", "", read("requirements.lock"), flags=re.M).strip()
    found = []
    for entry in re.split(r"\n(?=\S)", text):
        name = entry.split("--hash")[0].replace("\\", "").strip()
        found.append((Requirement(name), re.findall(r"--hash=(\S+)", entry)))
    return found


def on(system, python):
    """What the lock installs there: {name: version}."""
    sys_platform, os_name = SYSTEMS[system]
    place = dict(
        python_version=python, python_full_version=f"{python}.5", sys_platform=sys_platform,
        os_name=os_name, platform_system=system, implementation_name="cpython",
        platform_python_implementation="CPython")
    wanted = [r for r, _ in locked() if r.marker is None or r.marker.evaluate(place)]
    found = [(r.name, r.specifier) for r in wanted]
    assert len(dict(found)) == len(found), "one package twice"
    return {name: str(version).removeprefix("==") for name, version in found}


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_the_lock_has_the_pins_of_the_requirements(system, python):
    pins = dict(re.findall(r"^([a-z-]+)==([\d.]+)", read("requirements.txt"), re.M))
    installed = on(system, python)
    assert len(pins) == 17
    assert {name: installed.get(name) for name in pins} == pins, "run `make lock`"


def test_every_line_of_the_lock_is_one_version_with_its_hashes():
    entries = locked()
    assert len(entries) > 100
    for r, hashes in entries:
        assert re.fullmatch(r"==[\w.]+", str(r.specifier)) and not r.url, r
        assert hashes and all(re.fullmatch(r"sha256:[0-9a-f]{64}", h) for h in hashes), r
    assert "minigen" not in {r.name for r, _ in entries}  # an editable install has no hash


def test_the_lock_names_no_index():
    assert not re.search(r"://|--(extra-)?index|--find-links|-e ", read("requirements.lock"))


def targets():
    return set(re.findall(r"^\.PHONY: (.+)", read("Makefile"), re.M)[0].split())


def test_the_dev_container_runs_the_makefile_with_a_python_of_the_course():
    home = json.loads(read(".devcontainer/devcontainer.json"))
    assert home["image"].rsplit(":", 1)[1] in PYTHONS
    for moment in ("onCreateCommand", "postAttachCommand"):
        assert re.findall(r"make (\w+)", home[moment])[0] in targets()
    port = home["forwardPorts"][0]
    assert f"--port={port}" in home["postAttachCommand"] and str(port) in home["portsAttributes"]
    folder = home["remoteEnv"]["MINIGEN_HOME"].rsplit("/", 1)[1]
    assert f"/{folder}/" in read(".gitignore").splitlines()


def test_the_workflow_runs_what_ci_runs_on_three_systems():
    workflow = yaml.safe_load(read(".github/workflows/test.yml"))
    job = workflow["jobs"]["test"]
    assert workflow["permissions"] == {"contents": "read"}
    assert job["strategy"]["matrix"] == {"os": ["ubuntu-latest", "macos-latest", "windows-latest"],
                                         "python": [PYTHONS[0], PYTHONS[-1]]}
    runs = [step["run"] for step in job["steps"] if "run" in step]
    make = {line for line in runs if line.startswith("make ")}
    assert set(re.findall(r"^make [\w-]+", read(".ci/run"), re.M)) == make
    assert "python tools/run_tests.py" in runs
    assert all(re.search(r"@v\d+$", step["uses"]) for step in job["steps"] if "uses" in step)
    pattern = r'requires-python = ">=(.+),<3\.(\d+)"'
    least, most = re.search(pattern, read("pyproject.toml")).groups()
    assert (PYTHONS[0], PYTHONS[-1]) == (least, f"3.{int(most) - 1}")


@pytest.mark.parametrize("form", ["sentence", "cell"])
def test_the_forms_know_every_chapter(form):
    body = yaml.safe_load(read(f".github/ISSUE_TEMPLATE/{form}.yml"))["body"]
    (options,) = (part["attributes"]["options"] for part in body if part.get("id") == "chapter")
    chapters = [f"{course.number(stem)} {c.title}" for stem, c in course.everything().items()]
    assert options[: len(chapters)] == chapters


def test_one_version_everywhere():
    newest = re.search(r"^## (\d[\w.]+)", read("CHANGELOG.md"), re.M)[1]
    cited = re.search(r"^version: (.+)", read("CITATION.cff"), re.M)[1]
    assert f"v{newest}" == f"v{cited}" == course.tag()
    assert re.search(r"^## Unreleased", read("CHANGELOG.md"), re.M)


def test_what_windows_skips_is_there():
    named = re.findall(r'"([\w/]*test_\w+\.py)(?:::(test_\w+))?"', read("conftest.py"))
    assert len(named) == 11
    for file, test in named:
        assert f"def {test}" in read(f"tests/{file}"), (file, test)
