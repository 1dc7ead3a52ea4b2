"""One submission's exercises, examined: the process that tools/grade.py starts, never by hand.

It imports torch and minigen's checks, then gives every exercise a process of its own (a fork, where
there are forks), in which the check and all that it needs are in place before the first line of
the learner's runs. What comes back counts only with the exercise's nonce, in time, from a process
that ended well, and with torch, minigen and Python's builtins as they were before.

Reads a job from standard input, writes a line of JSON for each exercise to standard output.
"""

import builtins
import contextlib
import json
import os
import secrets
import select
import signal
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FORKS = hasattr(os, "fork") and sys.platform != "darwin"  # Apple's libraries do not like a fork
NUMBERS = (bool, int, float, complex, str, bytes, type(None), range, slice)
HIDDEN = ("setattr", "delattr", "open", "eval", "exec", "compile", "input", "globals", "locals",
          "vars", "breakpoint", "exit", "quit", "help", "memoryview", "copyright",
          "credits", "license")
SLACK = 3  # by the clock an exercise may take this many times its processor time
MESSAGE = 20_000  # bytes: a verdict is a sentence


def limits(seconds: float, memory: float) -> None:
    """Bound this process: its memory in GB beyond what it has, processor time, files."""
    with contextlib.suppress(OSError):  # where memory ends all the same, this process goes first
        Path("/proc/self/oom_score_adj").write_text("1000")
    with contextlib.suppress(ImportError):
        import resource

        with contextlib.suppress(OSError, ValueError):
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            most = pages * resource.getpagesize() + int(memory * 1e9)
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
        used = time.process_time()  # without forks the imports are in it
        for what, most in ((resource.RLIMIT_CPU, max(1, round(seconds + used))),
                           (resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 10_000_000)):
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(what, (most, most + (what == resource.RLIMIT_CPU)))


def shut(solutions: list[str]) -> None:
    """No writing outside the temporary home, no solutions, processes or network from here on."""
    starts, home = tuple(os.path.realpath(p) for p in solutions), os.path.realpath(os.getcwd())
    changing = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink",
                "os.truncate", "os.chmod", "os.chown", "shutil.")
    barred = ("subprocess.", "socket.", "ctypes.", "gc.", "os.exec", "os.fork", "os.posix_spawn",
              "os.spawn", "os.system", "os.startfile", "os.kill", "sys.settrace",
              "sys.setprofile", "signal.", "pty.", "webbrowser.")

    def at_home(path: Any) -> bool:
        whole = os.path.realpath(os.fsdecode(path)) if isinstance(path, str | bytes) else ""
        return whole == os.devnull or (whole + os.sep).startswith(home + os.sep)

    def hook(event: str, args: tuple) -> None:
        if event == "open":
            path, mode = args[0], args[1]
            flags = args[2] if len(args) > 2 and isinstance(args[2], int) else 0
            writes = isinstance(mode, str) and any(c in mode for c in "wax+")
            writes = writes or bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            inside = isinstance(path, str | bytes) and os.path.realpath(
                os.fsdecode(path)).startswith(starts)
            if inside or (writes and not at_home(path)):
                raise PermissionError("grading opens no files for an answer")
        elif event.startswith(changing):
            if not all(at_home(a) for a in args[:2] if isinstance(a, str | bytes)):
                raise PermissionError("grading changes no files for an answer")
        elif event.startswith(barred):
            raise PermissionError(f"grading does without {event}")

    sys.addaudithook(hook)


def safe_builtins() -> dict[str, Any]:
    """Python's builtins, less those by which a function leaves itself."""
    kept = {k: v for k, v in vars(builtins).items() if k not in HIDDEN}
    sys.path.insert(0, str(ROOT / "tools"))
    import answers

    def plain(name: Any) -> str:
        if type(name) is not str or answers.barred(name):
            raise AttributeError(f"grading does without the attribute {name!r}")
        return name

    real_getattr, real_hasattr, real_import = getattr, hasattr, __import__

    def careful_import(name: str, space: Any = None, local: Any = None, fromlist: Any = (),
                       level: int = 0) -> Any:
        words = [*name.split("."), *(fromlist or ())]
        if words[0] not in answers.ROOTS or any(map(answers.barred, words)):
            raise ImportError(f"grading does not import {name}")
        return real_import(name, space, local, fromlist, level)

    kept |= {"getattr": lambda o, name, *other: real_getattr(o, plain(name), *other),
             "hasattr": lambda o, name: real_hasattr(o, plain(name)),
             "__import__": careful_import}
    return kept


def fingerprints() -> dict[str, tuple[Any, dict[str, Any], bool]]:
    """What must be the same objects after the learner's code ran as before.

    Of modules and classes what they have; of torch's classes also that nothing came to them.
    """
    import math

    import numpy
    import torch

    classes = [torch.Tensor, torch.nn.Module, torch.nn.Parameter, torch.Generator]
    modules = [m for name, m in list(sys.modules.items()) if m is not None
               and (name.split(".")[0] == "minigen" or name in (
                   "torch.functional", "torch.nn.functional", "torch.autograd", "torch.linalg",
                   "torch.random", "torch.optim"))]
    inner = [v for m in modules for v in list(vars(m).values())
             if isinstance(v, type) and v.__module__.startswith("minigen")]
    watched: list[Any] = [*classes, *modules, *inner, torch, math, numpy, builtins, os, json]
    return {f"{getattr(w, '__module__', '')}.{w.__name__}".strip("."):
            (w, dict(vars(w)), w in classes) for w in watched}


def altered(before: dict[str, tuple[Any, dict[str, Any], bool]]) -> str:
    """The first name that is not what it was, or ""."""
    for name, (thing, had, closed) in before.items():
        now = vars(thing)
        for key, value in had.items():
            if now.get(key) is not value:
                return f"{name}.{key}"
        if closed and len(now) != len(had):
            return name
    return ""


def honest(value: Any, depth: int = 0) -> Any:
    """A result if it is of the plain kinds that exercises return. Raises: TypeError otherwise."""
    import numpy
    import torch

    kind = type(value)
    if kind in (torch.Tensor, torch.nn.Parameter, numpy.ndarray, types.FunctionType) + NUMBERS:
        return value
    if isinstance(value, numpy.generic | torch.nn.Module | torch.dtype | torch.Size):
        return value
    if kind in (list, tuple, set, frozenset, dict) and depth < 10:
        for v in (*value.keys(), *value.values()) if kind is dict else value:
            honest(v, depth + 1)
        return value
    if kind is types.GeneratorType:
        return (honest(v, 1) for v in value)
    raise TypeError(f"the function returned a {kind.__name__}")


def sit(name: str, source: str, seed: int, say: Callable[[bool, str], None]) -> None:
    """Run one exercise in this process and say how it went. All it needs is bound beforehand."""
    import functools

    import torch

    from minigen import checks
    from minigen.checks import chapters

    chapter = chapters.chapter_of(name)
    assert chapter is not None
    chapters.check_of(chapter, name)
    examine = checks.examine
    space: dict[str, Any] = {"__name__": "submission", "__builtins__": safe_builtins()}
    code = compile(source, "<answer>", "exec", dont_inherit=True)
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    before = fingerprints()
    shut([str(ROOT / "solutions"), str(ROOT / "tests"), str(ROOT / "notebooks")])
    try:
        exec(code, space)
        theirs = space[name]

        @functools.wraps(theirs)
        def answer(*args: Any, **kwargs: Any) -> Any:
            return honest(theirs(*args, **kwargs))

        passed, said = examine(answer)
    except BaseException as e:  # SystemExit and its like too; told as what it is
        passed, said = False, f"{name}: not yet. Your code raised {type(e).__name__}: {e}"
    if changed := altered(before):
        passed, said = False, f"tampered: {changed} was not what it was"
    say(passed, said)


def in_child(job: dict[str, Any], exercise: dict[str, str], channel: int, nonce: str) -> None:
    """The whole life of an exercise's process; it ends here."""
    write, leave, dumps = os.write, os._exit, json.dumps
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.closerange(3, channel)
    os.closerange(channel + 1, 256)
    if hasattr(os, "setsid"):
        os.setsid()
    limits(job["seconds"], job["memory"])

    def say(passed: bool, said: str) -> None:
        told = dumps({"passed": passed is True, "said": said[:3000]}).encode()
        write(channel, nonce.encode() + b" " + told + b"\n")
        leave(0)

    try:
        sit(exercise["name"], exercise["source"], job["seed"], say)
    finally:
        leave(3)


def read_verdict(channel: int, nonce: str, until: float) -> tuple[str, str]:
    """(passed, wrong, tampered, time or gone; what was said), from a child's end of a pipe."""
    data = b""
    while True:
        left = until - time.monotonic()
        if left <= 0 or not select.select([channel], [], [], left)[0]:
            return "time", ""
        part = os.read(channel, 65536)
        if not part:
            break
        data += part
        if len(data) > MESSAGE:
            return "tampered", "more than a verdict came back"
    return verdict_of(data, nonce)


def verdict_of(data: bytes, nonce: str) -> tuple[str, str]:
    """What a process sent, if it is one line with the nonce."""
    if not data:
        return "gone", ""
    start = nonce.encode() + b" "
    lines = data.splitlines()
    if len(lines) != 1 or not lines[0].startswith(start):
        return "tampered", "something else than a verdict came back"
    told = json.loads(lines[0][len(start):])
    said = str(told["said"])
    if said.startswith("tampered: "):
        return "tampered", said[10:]
    if said.endswith(": not attempted yet."):
        return "empty", said
    return ("passed" if told["passed"] is True else "wrong"), said


def examined(job: dict[str, Any], exercise: dict[str, str], until: float) -> tuple[str, str]:
    """One exercise in a process of its own."""
    nonce = secrets.token_hex(16)
    inlet, outlet = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(inlet)
        in_child(job, exercise, outlet, nonce)
    os.close(outlet)
    outcome, said = read_verdict(inlet, nonce, until)
    with contextlib.suppress(OSError):
        os.killpg(child, signal.SIGKILL)
    with contextlib.suppress(OSError):
        os.kill(child, signal.SIGKILL)
    os.close(inlet)
    status = os.waitpid(child, 0)[1]
    if outcome == "gone" and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
        outcome = "time"
    elif outcome == "gone":
        said = (f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status)
                else f"exit code {os.WEXITSTATUS(status)}")
    return outcome, said


def warmed_up() -> None:
    """What torch loads late, loaded once, before files are shut and time is measured."""
    import torch

    torch.set_num_threads(1)
    p = torch.nn.Parameter(torch.ones(1))
    optimiser = torch.optim.SGD([p], lr=0.0)
    p.sum().backward()
    optimiser.step()
    torch.optim.Adam([p])


def main() -> None:
    job = json.loads(sys.stdin.read())
    out = sys.stdout
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(ROOT))
    from minigen.checks import chapters

    warmed_up()
    for exercise in job["exercises"]:  # the lessons, once for all of them
        chapters.check_of(chapters.chapter_of(exercise["name"]) or "", exercise["name"])
    safe_builtins()
    if not FORKS:  # then there is one exercise, and this process is its own
        nonce = job["nonce"]
        in_child(job, job["exercises"][0], os.dup(1), nonce)
    end = time.monotonic() + job["total"]
    for exercise in job["exercises"]:
        start = time.monotonic()
        until = min(start + SLACK * job["seconds"], end)
        outcome, said = ("late", "") if until <= start else examined(job, exercise, until)
        seconds = round(time.monotonic() - start, 2)
        row = {"name": exercise["name"], "outcome": outcome, "said": said, "seconds": seconds}
        print(json.dumps(row), file=out, flush=True)


if __name__ == "__main__":
    main()
