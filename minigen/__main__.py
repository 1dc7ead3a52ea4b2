"""The command line, `python -m minigen COMMAND --help`: prepare, verify, reproduce, and chapter 8's train-ivqvae, encode,
train-fftd, sample, fid, bench.

Exit code 0: done. 2: your input, told in one sentence, mended by you. 130, 143: stopped by Ctrl-C or SIGTERM, and what was
finished is kept. Anything else is a bug and shows where. What needs torch is imported when it is used.
"""

import argparse
import dataclasses
import itertools
import os
import signal
import sys
from pathlib import Path

from minigen import disk
from minigen.errors import DataError, say
from minigen.stops import stoppable


def _prepare(a):
    from minigen.data import prepare

    manifest = prepare(a.source, a.out, a.size, split=a.split, kernel=a.kernel, use_classes=_classes(a), overwrite=a.overwrite,
                       image_column=a.image_column, label_column=a.label_column)
    for entry in manifest["skipped"]:
        say(f"skipped {entry['name']}: {entry['reason']}")
    for note in manifest["notes"]:
        say(note)
    classes = ", ".join(f"{c} {n}" for c, n in manifest["class_counts"].items()) or "none"
    splits = ", ".join(f"{s} {n}" for s, n in manifest["splits"].items())
    say(f"{manifest['count']} images of {a.size}×{a.size} in {a.out}; classes: {classes}"
        + (f"; splits: {splits}" if splits else "")
        + (f"; {len(manifest['skipped'])} files skipped" if manifest["skipped"] else "")
        + (f"; {manifest['upscaled']} were smaller and were enlarged" if manifest["upscaled"] else "") + ".")


def _classes(a):
    """What --classes and --no-classes mean to `prepare`."""
    return {"auto": True, "none": False, "folders": "folders"}.get(a.classes, Path(a.classes))


def _verify(a):
    from minigen.data import PreparedImages

    images = PreparedImages(a.folder)
    images.verify()
    say(f"{len(images)} images in {a.folder}: whole, every pixel as it was prepared.")


def _reproduce(a):
    from minigen import reproduce

    for cell in reproduce.reproduce(a.table, a.seeds, a.steps, a.out):
        say("  ".join(f"{k} {v}" for k, v in cell.items() if k != "options"))
    say(reproduce.as_text(a.table, a.out))


def _options(parser, cls):
    """An option for every field of a config class; what is not given is left to the preset."""
    for field in dataclasses.fields(cls):
        kind, told = type(field.default), field.metadata
        options = dict(type=kind, metavar=kind.__name__)
        if kind is bool:
            options = dict(action=argparse.BooleanOptionalAction)
        if told["choices"]:
            options = dict(choices=told["choices"])
        name = f"--{field.name.replace('_', '-')}"
        default = "" if field.default == "" else f" (small: {field.default})"
        parser.add_argument(name, default=argparse.SUPPRESS, help=told["text"] + default, **options)


def _config(cls, a):
    from minigen import settings

    given = {f.name: getattr(a, f.name) for f in dataclasses.fields(cls) if hasattr(a, f.name)}
    if a.paper_protocol:
        given = dict(preset="paper", batch_size=1, steps=4_000_000) | given
        if cls is settings.Stage1:
            given.setdefault("discriminator_start", min(250_000, given["steps"]))
    config = settings.make_config(cls, **given)
    if _first():
        say("\n".join(f"{k} = {v}" for k, v in dataclasses.asdict(config).items()))
    return config


def _train_ivqvae(a):
    from minigen import celebahq, settings

    say(f"Stage 1 is in {celebahq.train_ivqvae(_config(settings.Stage1, a), a.resume)}")


def _train_fftd(a):
    from minigen import celebahq, settings

    say(f"Stage 2 is in {celebahq.train_fftd(_config(settings.Stage2, a), a.autoencoder, a.resume)}")


def _encode(a):
    from minigen import sampling

    path = sampling.encode(a.data, a.autoencoder, a.out, a.batch_size, a.device, overwrite=a.overwrite)
    say(f"Latents are in {path}")


def _sampler(a):
    from minigen import sampling

    return sampling.Sampler(a.weights, a.autoencoder, a.seed, a.steps, a.eta, a.label, a.scale, a.batch_size, a.device)


def _sample(a):
    from minigen import sampling

    seconds = sampling.sample(_sampler(a), a.out, a.images, a.png, a.zip)
    say(f"{a.images} images in {a.out}, {seconds:.1f} s, {1000 * seconds / a.images:.1f} ms an image.")


def _fid(a):
    from minigen import evaluate, images, sampling, settings, training

    settings.check_number("images", a.images, int, low=evaluate.FEWEST, high=settings.MANY)
    sampler = _sampler(a)
    data = images.Images(a.data, sampler.decoder.config["size"], verify=True)
    if len(data) < evaluate.FEWEST:
        raise DataError(f"'{a.data}' holds {len(data)} images; at least {evaluate.FEWEST} are needed to compare with.")
    network = evaluate.network_of(a.features, sampler.device)          # before an hour is spent on drawing
    sampling.sample(sampler, a.out, a.images)
    if training.rank() == 0:
        protocol = dict(DDIM_steps=a.steps, eta=a.eta, seed=a.seed, label=a.label, guidance=a.scale, weights="EMA")
        drawn = itertools.islice(sampling.drawn(a.out), a.images)
        say(evaluate.evaluate(drawn, data, features=(a.features, network), cache=a.cache, protocol=protocol)["line"])


def _bench(a):
    from minigen import bench, settings

    say(bench.bench(a.preset, settings.check_number("seconds", a.seconds, low=0, high=3600)))


def _add_prepare(commands):
    p = commands.add_parser("prepare", help="turn a folder, zip or parquet of images into one memory map",
                            description="Centre-crop, resize and store images as one uint8 memory map with a manifest.")
    p.add_argument("source", type=Path, help="folder (class sub-folders or not), .zip, .parquet or folder of them")
    p.add_argument("--out", type=Path, required=True, help="folder to make, such as data/NAME")
    p.add_argument("--size", type=int, default=256, help="side in pixels (default 256)")
    p.add_argument("--split", help="only this split, where the source has train/val/test")
    p.add_argument("--kernel", default="lanczos", choices=("lanczos", "bicubic", "bilinear", "box"),
                   help="resize filter (default lanczos)")
    p.add_argument("--classes", default="auto", metavar="auto|folders|none|FILE",
                   help="where classes come from: what is found (auto), each folder, none, or a file of labels (CSV rows "
                        "file,class or JSON)")
    p.add_argument("--no-classes", dest="classes", action="store_const", const="none", help="the same as --classes none")
    p.add_argument("--image-column", help="of parquet, where names and types do not tell")
    p.add_argument("--label-column", help="of parquet, where names and types do not tell")
    p.add_argument("--overwrite", action="store_true", help="replace an --out that was prepared before")
    p.set_defaults(run=_prepare)
    p = commands.add_parser("verify", help="is a prepared folder whole?", description="Compare every pixel with the manifest.")
    p.add_argument("folder", type=Path, help="a folder of `prepare`")
    p.set_defaults(run=_verify)


def _add_reproduce(commands):
    p = commands.add_parser("reproduce", help="measure one of the paper's tables at small scale",
                            description="Train and measure every cell of a table, go on where a run was stopped, print it.")
    p.add_argument("table", help="table1, 2, 3, 7, 8, 9, table3_pixels or guidance")
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default 0 1 2")
    p.add_argument("--steps", type=int, help="training steps (or images) of a cell (default: the table's)")
    p.add_argument("--out", type=Path, help="results file (default data/reproduce/TABLE.json)")
    p.set_defaults(run=_reproduce)


def _add_chapter8(commands):
    """The commands of chapter 8."""
    from minigen import settings

    note = ("A run that goes on with --resume equals an undisturbed one bit for bit on a CPU with the same numbers of threads "
            "and processes.")
    p = commands.add_parser("train-ivqvae", help="stage 1: train the autoencoder", description=f"Stage 1 (Algorithm 1). {note}")
    _options(p, settings.Stage1)
    p.set_defaults(run=_train_ivqvae)
    q = commands.add_parser("train-fftd", help="stage 2: train the Transformer on latents",
                            description=f"Stage 2 (Algorithm 2). {note}")
    _options(q, settings.Stage2)
    q.add_argument("--autoencoder", type=Path, required=True, help="ivqvae.safetensors of stage 1")
    q.set_defaults(run=_train_fftd)
    for x in (p, q):
        x.add_argument("--resume", action="store_true", help="go on from the newest whole checkpoint in --out")
        x.add_argument("--paper-protocol", action="store_true", help="the paper's batch of 1 and 4,000,000 steps")
    p = commands.add_parser("encode", help="latents of all images, once", description="Encode images and mirror images.")
    p.add_argument("data", help="a folder of `prepare`, or toyfaces:N")
    p.add_argument("--autoencoder", type=Path, required=True, help="ivqvae.safetensors of stage 1")
    p.add_argument("--out", type=Path, default=Path("runs/latents.safetensors"), help="file to write")
    p.add_argument("--overwrite", action="store_true", help="replace latents of other images or another autoencoder")
    p.set_defaults(run=_encode)
    q = commands.add_parser("sample", help="draw images", description="Draw images; image k depends on the seed and k only.")
    q.add_argument("--png", action="store_true", help="also as PNG files")
    q.add_argument("--zip", action="store_true", help="also as one zip of PNG")
    q.set_defaults(run=_sample)
    r = commands.add_parser("fid", help="draw images and measure them", description="FID and KID of samples against the data.")
    r.add_argument("--data", required=True, help="a folder of `prepare`, or toyfaces:N")
    r.add_argument("--features", default="inception", help="inception, or toy for 32×32 ToyFaces")
    r.add_argument("--cache", type=Path, default=Path("runs/cache"), help="where reference features are kept")
    r.set_defaults(run=_fid)
    for x in (q, r):
        x.add_argument("--weights", type=Path, required=True, help="fftd.safetensors of stage 2")
        x.add_argument("--autoencoder", type=Path, required=True, help="ivqvae.safetensors of stage 1")
        x.add_argument("--out", type=Path, default=Path("runs/samples"), help="folder of the images")
        x.add_argument("--images", type=int, default=64, help="how many (default 64)")
        x.add_argument("--steps", type=int, default=500, help="DDIM steps (default 500)")
        x.add_argument("--eta", type=float, default=0.0, help="0 (default): no chance; 1: as much noise as DDPM")
        x.add_argument("--seed", type=int, default=0, help="of the noise (default 0)")
        x.add_argument("--label", type=int, help="ask for this class")
        x.add_argument("--scale", type=float, default=1.0, help="guidance (1: none)")
    for x in (p, q, r):
        x.add_argument("--batch-size", type=int, default=64, help="images at once (default 64)")
        x.add_argument("--device", default="", help="cpu, cuda, cuda:1 …; default: the GPU where there is one")
    p = commands.add_parser("bench", help="how fast this machine is", description="Throughput of both stages beside diffusers'.")
    p.add_argument("--preset", default="small", choices=("small", "paper"))
    p.add_argument("--seconds", type=float, default=5.0, help="for each measurement")
    p.set_defaults(run=_bench)


STOPPED = "stopped; nothing half-written was kept, and what was finished stays."
NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
ALONE = ("prepare", "verify", "reproduce", "bench")       # what torchrun's other processes have no share in


def main(argv=None):
    asked = []
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")      # noqa: SIM115 (closed by whoever started us)
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")      # noqa: SIM115
    try:
        with stoppable(asked):
            if any("\0" in word for word in map(str, sys.argv[1:] if argv is None else argv)):
                raise DataError("A name with a zero byte in it names no file.")
            parser = argparse.ArgumentParser(prog="python -m minigen", description="Tools of the minigen course.")
            commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
            _add_prepare(commands)
            _add_reproduce(commands)
            _add_chapter8(commands)
            args = parser.parse_args(argv)
            if _first() or args.command not in ALONE:
                args.run(args)
    except DataError as e:
        return _told(str(e))
    except BrokenPipeError:                               # the reader of our output has left: `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as e:
        return _told(disk.sentence_of(e))
    except KeyboardInterrupt as e:
        _told(f"{e}." if str(e) else STOPPED)
        return 128 + getattr(e, "number", signal.SIGINT)
    except Exception as e:
        if asked:                                         # in the middle of an import, which then fails in its own way
            _told(STOPPED)
            return 128 + asked[-1]
        if isinstance(e, MemoryError) or (isinstance(e, RuntimeError) and any(words in str(e).lower() for words in NO_MEMORY)):
            return _told("The memory does not suffice for this: a smaller --batch-size, or --size?")
        raise
    return 0


def _first():
    """Whether this is the only process, or torchrun's first."""
    return os.environ.get("RANK", "0") in ("", "0") or os.environ.get("WORLD_SIZE", "1") in ("", "1")


def _told(sentence):
    say(f"minigen: {sentence}", sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
