"""What tools/grade.py takes from a student's notebook: imports and answers, as text, not run here.

An answer is a function named as an exercise; with it come the other functions and the constants of
its cell, earlier answers that it calls, and the imports that they use. What an answer has no use
for and a grader must not run (files, processes, other modules' insides) is refused, with a reason
for a person to look at.
"""

import ast
import json
import symtable
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LARGEST = 50_000_000  # bytes of a notebook, outputs included
LONGEST = 100_000  # letters of a cell that is read
# modules an answer may import; what is below them too, unless it is in BANNED
ROOTS = {"torch", "numpy", "einops", "minigen", "math", "cmath", "statistics", "random",
         "itertools", "functools", "collections", "copy", "typing", "numbers", "fractions",
         "decimal", "heapq", "bisect", "re", "operator", "contextlib", "tqdm"}
# names of builtins that are not there, and that no answer needs
BUILTINS = {"eval", "exec", "compile", "open", "input", "globals", "locals", "vars", "breakpoint",
            "exit", "quit", "help", "memoryview", "setattr", "delattr"}
# attributes, and names to import, by which code gets out of its function
BANNED = {
    "os", "sys", "io", "subprocess", "builtins", "importlib", "inspect", "gc", "ctypes", "signal",
    "threading", "multiprocessing", "shutil", "socket", "pathlib", "Path", "pickle", "tempfile",
    "traceback", "types", "checks", "check", "yours", "progress", "library", "overrides", "hub",
    "jit", "fx", "package", "distributed", "ops", "cpp_extension", "serialization", "ctypeslib",
    "f2py", "open", "load", "save", "fromfile", "tofile", "from_file", "memmap", "open_memmap",
    "loadtxt", "savetxt", "genfromtxt", "savez", "savez_compressed", "fromregex", "DataSource",
    "attrgetter", "methodcaller", "update_wrapper", "wraps", "exec", "system", "popen", "fork",
    "kill", "f_back", "f_globals", "f_locals", "f_builtins", "f_code", "tb_frame", "tb_next",
    "gi_frame", "gi_code", "cr_frame", "ag_frame", "add_safe_globals", "set_default_tensor_type",
    # what runs text, or reaches objects by text
    "benchmark", "timeit", "Timer", "bottleneck", "collect_env", "get_type_hints", "ForwardRef",
    "Formatter", "get_field", "rundocs", "copyreg", "dump", "dumps",
    # what stays behind and changes how a check computes
    "register", "ExitStack", "enter_context", "saved_tensors_hooks", "swap_tensors",
}
STORED = {"grad", "data", "requires_grad"}  # attributes that an answer may set


class Unreadable(Exception):
    """A submission is no notebook; the message says why, for the teacher and the student."""


@dataclass
class Answer:
    """One exercise as a submission has it."""

    source: str = ""       # imports, helpers and the function; "" where there is none
    refused: str = ""      # why it is not run
    notes: list[str] = field(default_factory=list)


@dataclass
class Cell:
    """A code cell's statements, and which exercise nbgrader's metadata says it answers."""

    body: list[ast.stmt]
    grade_id: str
    lines: list[str]
    error: str = ""


def read(path: Path) -> list[tuple[str, str]]:
    """[(source, grade_id)] of a notebook's code cells. Raises: Unreadable."""
    if path.is_symlink():
        raise Unreadable("it is a link, which is not followed")
    try:
        if path.stat().st_size > LARGEST:
            raise Unreadable(f"it is larger than {LARGEST // 1_000_000} MB")
        raw = path.read_bytes()
    except OSError as e:
        raise Unreadable(f"it cannot be read: {e.strerror}") from e
    if not raw.strip():
        raise Unreadable("the file is empty")
    try:
        book = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as e:
        raise Unreadable("it is not UTF-8, as every notebook is") from e
    except (ValueError, RecursionError) as e:
        raise Unreadable("it is no notebook: its JSON is broken") from e
    if not isinstance(book, dict):
        raise Unreadable("it is no notebook: there are no cells in it")
    sheets = _dicts(book.get("worksheets"))  # notebooks of version 3 have them
    cells = _dicts(sheets[0].get("cells") if sheets else book.get("cells"))
    if not cells:
        raise Unreadable("it is no notebook: there are no cells in it")
    return [_code(c) for c in cells if c.get("cell_type") == "code"]


def _dicts(value: Any) -> list[dict[str, Any]]:
    """A list of dicts as it is; [] for anything else."""
    whole = isinstance(value, list) and all(isinstance(v, dict) for v in value)
    return value if whole else []


def _code(cell: dict[str, Any]) -> tuple[str, str]:
    text = cell.get("source", cell.get("input", ""))
    if isinstance(text, list):
        text = "".join(t for t in text if isinstance(t, str))
    metadata = cell.get("metadata")
    marks = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    marks = marks if isinstance(marks, dict) else {}
    grade_id = str(marks.get("grade_id")) if marks.get("solution") else ""
    return text if isinstance(text, str) else "", grade_id


def _parsed(text: str, grade_id: str) -> Cell:
    """A cell's statements; where it is no Python, less its lines of IPython, % and !."""
    raw = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")  # as Python counts them
    plain = ["" if line.lstrip()[:1] in ("%", "!", "?") else line for line in raw]
    error = "its cell is no Python that can be read"
    for lines in (raw, plain) if len(text) <= LONGEST else ():
        try:
            return Cell(ast.parse("\n".join(lines)).body, grade_id, lines)
        except SyntaxError as e:
            error = f"line {e.lineno} of its cell is no Python: {e.msg}"
        except (ValueError, RecursionError, MemoryError):
            pass
    return Cell([], grade_id, raw, error)


def taken(cells: list[tuple[str, str]], wanted: list[str]) -> dict[str, Answer]:
    """{exercise: what the notebook has for it}, for those of `wanted` that it mentions."""
    parsed = [_parsed(text, grade_id) for text, grade_id in cells]
    imports: dict[str, ast.stmt] = {}
    defined: dict[str, list[tuple[bool, Cell, ast.FunctionDef]]] = {}
    broken: dict[str, str] = {}
    for cell, (text, _) in zip(parsed, cells, strict=True):
        for node in cell.body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                imports |= {name: line for name, line in _imports(node)}
            elif isinstance(node, ast.FunctionDef) and node.name in wanted:
                own = cell.grade_id == node.name
                defined.setdefault(node.name, []).append((own, cell, node))
        if cell.error:
            for name in wanted:
                if name == cell.grade_id or f"def {name}(" in text:
                    broken[name] = cell.error
    marked = {cell.grade_id for cell in parsed} & set(wanted)
    found = {}
    helpers = {name: sorted(every, key=lambda d: d[0])[-1] for name, every in defined.items()}
    for name in wanted:
        if name in helpers:
            found[name] = _assembled(name, helpers, imports)
            if len(defined[name]) > 1:
                found[name].notes.append(
                    f"defined {len(defined[name])} times; the exercise's own cell counts before "
                    "others, then the last")
        elif name in broken:
            found[name] = Answer(refused=broken[name])
        elif name in marked:
            found[name] = Answer()
    return found


def _imports(node: ast.Import | ast.ImportFrom) -> list[tuple[str, ast.stmt]]:
    """[(name it binds, the statement for it alone)] of those that an answer may have."""
    out: list[tuple[str, ast.stmt]] = []
    if isinstance(node, ast.Import):
        for alias in node.names:
            if _may_import(alias.name):
                name = alias.asname or alias.name.split(".")[0]
                out.append((name, ast.Import(names=[alias])))
    elif node.module and not node.level and _may_import(node.module):
        for alias in node.names:
            if not barred(alias.name):
                name = alias.asname or alias.name if alias.name != "*" else f"* {node.module}"
                out.append((name, ast.ImportFrom(module=node.module, names=[alias], level=0)))
    return out


def _may_import(module: str) -> bool:
    words = module.split(".")
    return words[0] in ROOTS and not any(map(barred, words))


def _free(text: str) -> set[str]:
    """The names that a text takes from outside: no parameters, nothing of its own."""
    def of(table: symtable.SymbolTable) -> set[str]:
        names = {s.get_name() for s in table.get_symbols()
                 if s.is_referenced() and (s.is_global() or table.get_type() == "module")}
        return names.union(*map(of, table.get_children()))

    return of(symtable.symtable(text, "<answer>", "exec"))


def _assembled(
    name: str, helpers: dict[str, tuple[bool, Cell, ast.FunctionDef]], imports: dict[str, ast.stmt]
) -> Answer:
    """An answer with all that it needs, in order, or why it is refused."""
    try:
        parts: list[str] = []
        used: set[str] = set()
        seen: set[str] = set()
        todo = [name]
        while todo:
            other = todo.pop()
            if other in seen:
                continue
            seen.add(other)
            _, cell, function = helpers[other]
            beside = [n for n in cell.body if n is not function and _is_helper(n, helpers)]
            texts = [_text(n, cell) for n in (*beside, function)]
            parts = [*texts, *parts]
            for n in (*beside, function):
                if why := _refused(n):
                    whose = "" if other == name else f"{other}, which it calls: "
                    return Answer(refused=whose + why)
            used = used.union(*map(_free, texts))
            todo += sorted(used & helpers.keys() - seen)
        lines = [ast.unparse(line) for bound, line in imports.items()
                 if bound in used or bound.startswith("*")]
        answer = Answer("\n".join([*lines, *parts]) + "\n")
        whole = ast.parse(answer.source)  # what will run is what was looked at
        if not all(isinstance(n, ast.Import | ast.ImportFrom) or _is_helper(n, {})
                   for n in whole.body):
            return Answer(refused="its cell cannot be taken apart")
        if why := _refused(whole):
            return Answer(refused=why)
    except (RecursionError, MemoryError, SyntaxError, ValueError):
        return Answer(refused="its code cannot be read")
    if own := sorted(used & {b for b, line in imports.items() if _of_minigen(line)}):
        answer.notes.append(f"uses minigen's own: {', '.join(own)}")
    return answer


def _text(node: ast.stmt, cell: Cell) -> str:
    """A function as it was written, so that its lines are counted as in the notebook."""
    if not isinstance(node, ast.FunctionDef):
        return ast.unparse(node)
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    return "\n".join(cell.lines[first - 1 : node.end_lineno])


def _is_helper(node: ast.stmt, answers: dict[str, Any]) -> bool:
    """Another function of an answer's cell, or a constant."""
    if isinstance(node, ast.FunctionDef):
        return node.name not in answers
    if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return all(isinstance(t, ast.Name) for t in targets) and _is_literal(node.value)
    return False


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
        return True
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return False


def _of_minigen(line: ast.stmt) -> bool:
    module = line.module if isinstance(line, ast.ImportFrom) else line.names[0].name  # type: ignore
    return (module or "").split(".")[0] == "minigen"


def _refused(tree: ast.AST) -> str:
    """What of an answer may not run in grading, or ""."""
    asked = {id(node.func) for node in ast.walk(tree)
             if isinstance(node, ast.Call) and len(node.args) == 1 and not node.keywords}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == "type" and id(node) not in asked:
            return "it uses type other than to ask for one"
        if why := _refused_node(node):
            return why
    return ""


def _refused_node(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        if node.id in BUILTINS:
            return f"it uses {node.id}"
    elif isinstance(node, ast.Attribute):
        if barred(node.attr):
            return f"it uses .{node.attr}"
        if not isinstance(node.ctx, ast.Load) and node.attr not in STORED:
            return f"it sets .{node.attr} of something"
    elif isinstance(node, ast.MatchClass):  # case C(attribute=name) reads an attribute too
        if bad := [name for name in node.kwd_attrs if barred(name)]:
            return f"it uses .{bad[0]}"
    elif isinstance(node, ast.ClassDef):
        return f"it defines a class, {node.name}"
    elif isinstance(node, ast.Import):
        if bad := [a.name for a in node.names if not _may_import(a.name)]:
            return f"it imports {bad[0]}"
    elif isinstance(node, ast.ImportFrom):
        names = [a.name for a in node.names if barred(a.name)]
        if node.level or not _may_import(node.module or "") or names:
            return f"it imports {', '.join(names)} from {node.module}".replace("  ", " ")
    if hidden := [name for name in _identifiers(node) if name.startswith("__")]:
        return f"it uses {hidden[0]}"
    return ""


def barred(attribute: str) -> bool:
    """Whether no answer may read this attribute, or import this name."""
    return attribute in BANNED or attribute.startswith(("_", "register_"))


def _identifiers(node: ast.AST) -> Iterator[str]:
    """Every name that a node reads or binds: as a variable, an argument, an import's other name."""
    for key, value in ast.iter_fields(node):
        if key in ("id", "name", "asname", "arg", "rest") and isinstance(value, str):
            yield value
        elif key == "names":
            yield from (v for v in value if isinstance(v, str))  # of global and nonlocal
