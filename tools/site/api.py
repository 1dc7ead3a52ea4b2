"""The package's pages: one a module, made from its docstrings, and their list."""

import ast

import course
import links

TITLES = {
    "lessons": "Lessons, in the order of the chapters", "excursions": "Excursions",
    "data": "Images", "paper": "The paper's tables", "engine": "Training at full size",
    "shared": "What all share",
}


def modules() -> list[str]:
    """Every module with a page, as minigen.engine.loop."""
    files = (p.relative_to(links.ROOT).as_posix() for p in (links.ROOT / "minigen").rglob("*.py"))
    return sorted(_named(file) for file in files if links.documented(file))


def _named(file: str) -> str:
    return links.module_page(file).removeprefix("api/").removesuffix(".md")


def parts(names: list[str]) -> dict[str, list[str]]:
    """The modules by the part of the package that they belong to."""
    taught = [f"minigen.{m}" for c in course.CHAPTERS.values() for m in c.modules]
    beside = [f"minigen.{m}" for c in course.EXCURSIONS.values() for m in c.modules]
    found: dict[str, list[str]] = {part: [] for part in TITLES}
    order = {name: k for k, name in reversed(list(enumerate(taught + beside)))}
    for name in sorted(names, key=lambda name: (order.get(name, len(order)), name)):
        folder = name.split(".")[1:2]
        if folder and folder[0] in ("data", "paper", "engine"):
            part = folder[0]
        else:
            part = "lessons" if name in taught else "excursions" if name in beside else "shared"
        found[part].append(name)
    return found


def told(name: str) -> str:
    """The first sentence of a module's docstring."""
    file = name.replace(".", "/")
    file = f"{file}/__init__.py" if (links.ROOT / file).is_dir() else f"{file}.py"
    text = ast.get_docstring(ast.parse(links.read(file))) or ""
    first = " ".join(text.split("\n\n")[0].split())
    return first.replace("*", "\\*").replace("|", "\\|")


def pages() -> dict[str, str]:
    """{path in the site's source: text}."""
    names = modules()
    made = {f"api/{name}.md": f"# {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n"
                              "   :members:\n   :ignore-module-all:\n```\n" for name in names}
    lines = ["# The package", "",
             "What every function and class of `minigen` is: its formula, shapes and source. The "
             "checks of the exercises are left out, as they would tell the answers.", ""]
    for part, members in parts(names).items():
        lines += [f"## {TITLES[part]}", ""]
        lines += [f"- [{name}]({name}.md): {told(name)}" for name in members]
        lines += ["", "```{toctree}", ":hidden:", "", *members, "```", ""]
    return made | {"api/index.md": "\n".join(lines)}
