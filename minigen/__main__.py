"""The command line, `python -m minigen COMMAND --help`: what its commands do.

`minigen.commands` has their words. Exit code 0: done. 2: your input, told in one sentence, mended
by you. 130, 143: stopped by Ctrl-C or SIGTERM, and what was finished is kept. Anything else is a
bug and shows where. What takes long to import is imported when it is used: Ctrl-C is answered from
`main` on.
"""

import os
import signal
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minigen import disk, names
from minigen.errors import DataError, say
from minigen.stops import stoppable


def _prepare(a: Namespace) -> None:
    from minigen.data import prepare

    manifest = prepare(
        a.source, a.out, a.size, split=a.split, kernel=a.kernel, use_classes=_classes(a),
        overwrite=a.overwrite, image_column=a.image_column, label_column=a.label_column)
    for entry in manifest["skipped"]:
        say(f"skipped {entry['name']}: {entry['reason']}")
    for note in manifest["notes"]:
        say(note)
    classes = ", ".join(f"{c} {n}" for c, n in manifest["class_counts"].items()) or "none"
    splits = ", ".join(f"{s} {n}" for s, n in manifest["splits"].items())
    skipped, upscaled = len(manifest["skipped"]), manifest["upscaled"]
    images = names.how_many(manifest["count"], "image")
    facts = [f"{images} of {a.size}×{a.size} in {a.out}", f"classes: {classes}"]
    facts += [f"splits: {splits}"] if splits else []
    facts += [f"{names.how_many(skipped, 'file')} skipped"] if skipped else []
    were = "was" if upscaled == 1 else "were"
    facts += [f"{upscaled} {were} smaller and {were} enlarged"] if upscaled else []
    say("; ".join(facts) + ".")


def _classes(a: Namespace) -> bool | str | Path:
    """What --classes and --no-classes mean to `prepare`."""
    known: dict[str, bool | str] = {"auto": True, "none": False, "folders": "folders"}
    return known.get(a.classes, Path(a.classes))


def _verify(a: Namespace) -> None:
    from minigen.data import PreparedImages

    images = PreparedImages(a.folder)
    images.verify()
    count = names.how_many(len(images), "image")
    say(f"{count} in {a.folder}: whole, every pixel as it was prepared.")


def _reproduce(a: Namespace) -> None:
    from minigen.paper import reproduce

    plan = reproduce.plan(a.table, a.seeds, a.steps, a.out)
    say(reproduce.in_words(plan))
    new = 0
    for cell in reproduce.reproduce(plan.name, a.seeds, a.steps, a.out):
        say("  ".join(f"{k} {v}" for k, v in cell.items() if k != "options"))
        new += 1
    say(reproduce.as_text(plan.name, reproduce.measured_file(plan.name, a.out)))
    if new:
        say(f"New cells: {new}, in {plan.path}")


def _config(cls: Any, a: Namespace) -> Any:
    import dataclasses

    from minigen.engine import settings

    fields = [f.name for f in dataclasses.fields(cls)]
    given: dict[str, Any] = {name: getattr(a, name) for name in fields if hasattr(a, name)}
    return settings.make_config(cls, **given)


def _say_settings(config: Any) -> None:
    import dataclasses

    say("\n".join(f"{k} = {v}" for k, v in dataclasses.asdict(config).items()))


def _train_stage1(a: Namespace) -> None:
    from minigen.engine.settings import Stage1
    from minigen.engine.stage1 import train_stage1

    config = _config(Stage1, a)
    path = train_stage1(config, a.resume, begin=lambda: _say_settings(config))
    say(f"Stage 1 is in {path}")


def _train_stage2(a: Namespace) -> None:
    from minigen.engine.settings import Stage2
    from minigen.engine.stage2 import train_stage2
    from minigen.files import weights_file

    config, weights = _config(Stage2, a), weights_file(a.autoencoder, "IVQVAE")
    path = train_stage2(config, weights, a.resume, begin=lambda: _say_settings(config))
    say(f"Stage 2 is in {path}")


def _encode(a: Namespace) -> None:
    from minigen.engine.encoding import encode_images
    from minigen.files import weights_file

    weights = weights_file(a.autoencoder, "IVQVAE")
    path = encode_images(a.data, weights, a.out, a.batch_size, a.device, overwrite=a.overwrite)
    say(f"Latents are in {path}")


def _sample(a: Namespace) -> None:
    from minigen import sample_command

    sample_command.sample(a, _first())


def _fid(a: Namespace) -> None:
    from minigen import sample_command

    sample_command.fid(a)


def _bench(a: Namespace) -> None:
    from minigen.engine import settings
    from minigen.paper import bench, quality

    if a.quality is not None:
        say(quality.report(a.quality or quality.MINUTES, a.seeds, a.out))
    elif a.seeds != [0] or a.out:
        raise DataError("--seeds and --out belong to --quality: add it, or leave them out.")
    else:
        say(bench.bench(a.preset, settings.check_number("seconds", a.seconds, low=0, high=3600)))


def _plan(a: Namespace) -> None:
    if a.preset is None:
        from minigen.engine import presets

        say(presets.table())
        return
    from minigen.engine.plan import plan

    say(plan(a.preset, a.images, a.share, a.gpus))


RUN = {"prepare": _prepare, "verify": _verify, "reproduce": _reproduce,
       "train-ivqvae": _train_stage1, "encode": _encode, "train-fftd": _train_stage2,
       "sample": _sample, "fid": _fid, "plan": _plan, "bench": _bench}
STOPPED = "stopped; nothing half-written was kept, and what was finished stays."
NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
# what torchrun's other processes have no share in
ALONE = ("prepare", "verify", "reproduce", "bench", "plan")


def main(argv: Sequence[object] | None = None) -> int:
    """Run a command line. Returns: the exit code."""
    asked: list[int] = []
    # closed by whoever started us
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")      # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")      # noqa: SIM115
    words = list(map(str, sys.argv[1:] if argv is None else argv))
    try:
        with stoppable(asked):
            from minigen import commands  # here, so that Ctrl-C is answered while it is imported

            if any("\0" in word for word in words):
                raise DataError("A name with a zero byte in it names no file.")
            if not words:
                say(commands.BRIEF)
                return 0
            args = commands.parse(words)
            if _first() or args.command not in ALONE:
                RUN[args.command](args)
    except DataError as e:
        return _refused(str(e))
    except BrokenPipeError:                       # the reader of our output has left: `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as e:
        return _refused(disk.sentence_of(e))
    except KeyboardInterrupt as e:
        _refused(f"{e}." if str(e) else STOPPED)
        return 128 + getattr(e, "number", signal.SIGINT)
    except Exception as e:
        if asked:                      # in the middle of an import, which then fails in its own way
            _refused(STOPPED)
            return 128 + asked[-1]
        if _is_of_memory(e):
            return _refused("The memory does not suffice for this: a smaller --batch-size, or "
                            "--size?")
        raise
    return 0


def _is_of_memory(error: Exception) -> bool:
    told = isinstance(error, RuntimeError) and any(w in str(error).lower() for w in NO_MEMORY)
    return told or isinstance(error, MemoryError)


def _first() -> bool:
    """Whether this is the only process, or torchrun's first."""
    rank, world = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    return rank in ("", "0") or world in ("", "1")


def _refused(sentence: str) -> int:
    say(f"minigen: {sentence}", sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
