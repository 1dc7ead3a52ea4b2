"""How the package hangs together: who may import whom, read from the sources.

Lessons stand in the order of the course and import only earlier ones and the support; the engine
and the paper's tables import lessons; nothing runs back up.
"""

import ast
import functools
from pathlib import Path

import pytest

import minigen

ROOT = Path(minigen.__file__).parent
LESSONS = (
    "gaussian", "gan", "vae", "vqvae", "pixelcnn", "perceptual", "ivqvae", "diffusion", "ddpm",
    "unet", "vlb", "details", "ddim", "ode", "guidance", "latents", "fusion", "fftd",
    # excursions, beside the line
    "flows", "glow", "flow_matching", "captions", "prompts", "clip", "text_to_image", "unclip",
    "measurements", "restoration", "upscaling", "style", "style_decoder", "translation",
    "characters", "lora", "personalise",
)
# what stands above the lessons, each part with those above it
ABOVE = {
    "engine": {"engine", "paper", "checks.ch08_celebahq", "commands", "sample_command",
               "__main__"},
    "paper": {"paper", "__main__"},
    "gallery": set(),
    "checks": {"checks", "__init__"},
    "commands": {"__main__"},
    "sample_command": {"__main__"},
    "__main__": set(),
}


def name_of(path):
    """engine/loop.py is engine.loop, engine/__init__.py engine, __init__.py itself __init__."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


@functools.cache
def modules():
    """{module of the package: its syntax tree}."""
    return {name_of(p): ast.parse(p.read_text(encoding="utf-8")) for p in ROOT.rglob("*.py")}


def inside(tree, functions):
    """Every node of a tree; those inside functions only where they are wanted."""
    for node in ast.iter_child_nodes(tree):
        if functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
            yield from inside(node, functions)


def imported(module, late=True):
    """The package's modules that a module imports, inside functions too, or not.

    `from minigen import x` is minigen.x where that is a module, else minigen itself.
    """
    found = set()
    for node in inside(modules()[module], late):
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: an import by dots"
            names = [f"{node.module}.{a.name}" for a in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "minigen":
                words = name.split(".")[1:]
                while words and ".".join(words) not in modules():
                    words.pop()                           # a function or class of the module
                found.add(".".join(words) or "__init__")
    return found - {module}


def part_of(module):
    """engine.loop belongs to engine."""
    return module.split(".")[0]


def test_every_lesson_is_there():
    assert set(LESSONS) <= modules().keys() and set(ABOVE) - {"__main__"} <= modules().keys()


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_lesson_imports_earlier_lessons_and_support_only(lesson):
    earlier = LESSONS[: LESSONS.index(lesson)]
    for other in imported(lesson):
        assert other in earlier or (other not in LESSONS and part_of(other) not in ABOVE), other


def test_support_imports_no_lesson_and_nothing_above():
    for module in modules():
        if module not in LESSONS and part_of(module) not in ABOVE and module != "__init__":
            for other in imported(module):
                assert other not in LESSONS and part_of(other) not in ABOVE, (module, other)


@pytest.mark.parametrize("part", ABOVE)
def test_what_stands_above_is_imported_from_above_only(part):
    for module in modules():
        if part in {part_of(other) for other in imported(module)}:
            assert {module, part_of(module)} & (ABOVE[part] | {part}), f"{module} imports {part}"


def test_checks_import_the_engine_when_they_are_asked():
    for module in modules():
        if part_of(module) == "checks":
            assert "engine" not in {part_of(m) for m in imported(module, late=False)}


def test_the_settings_of_the_engine_import_nothing_that_needs_torch():
    assert imported("engine.settings", late=False) == {"errors", "engine.presets"}
    assert imported("engine.presets", late=False) == {"errors", "names"}
    assert not imported("engine") and not imported("paper")   # tables of contents


def test_no_module_imports_itself_around_a_corner():
    graph = {m: imported(m, late=False) for m in modules()}
    done = set()

    def visit(module, path):
        assert module not in path, " → ".join([*path, module])
        if module not in done:
            for other in graph[module] - {"__init__"}:
                visit(other, [*path, module])
            done.add(module)

    for module in graph:
        visit(module, [])


def test_a_module_that_runs_back_up_would_be_seen(monkeypatch):
    late = "def f():\n    from minigen import files, vae\n    import minigen.engine.loop\n"
    monkeypatch.setitem(modules(), "gan", ast.parse(late))
    assert imported("gan") == {"files", "vae", "engine.loop"} and not imported("gan", late=False)
    with pytest.raises(AssertionError):
        test_a_lesson_imports_earlier_lessons_and_support_only("gan")
    with pytest.raises(AssertionError):
        test_what_stands_above_is_imported_from_above_only("engine")
    monkeypatch.setitem(modules(), "errors", ast.parse("from minigen.disk import held"))
    with pytest.raises(AssertionError, match="disk"):
        test_no_module_imports_itself_around_a_corner()
    with pytest.raises(AssertionError):
        monkeypatch.setitem(modules(), "inputs", ast.parse("import minigen.gan"))
        test_support_imports_no_lesson_and_nothing_above()
