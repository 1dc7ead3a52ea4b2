"""The command line, `python -m minigen COMMAND --help`: prepare, reproduce, and chapter 8's train-ivqvae, encode, train-fftd,
sample, fid, bench. Exit code 2: your input, mended by you; 130: stopped, and saved.
"""

import argparse
import dataclasses
import itertools
import sys
from pathlib import Path

from minigen.data import prepare
from minigen.data.prepared import KERNELS


def _prepare(a):
    manifest = prepare(a.source, a.out, a.size, split=a.split, kernel=a.kernel, use_classes=not a.no_classes,
                       overwrite=a.overwrite)
    for entry in manifest["skipped"]:
        print(f"skipped {entry['name']}: {entry['reason']}")
    classes = ", ".join(f"{c} {n}" for c, n in manifest["class_counts"].items()) or "none"
    splits = ", ".join(f"{s} {n}" for s, n in manifest["splits"].items())
    print(f"{manifest['count']} images of {a.size}×{a.size} in {a.out}; classes: {classes}"
          + (f"; splits: {splits}" if splits else "")
          + (f"; {len(manifest['skipped'])} files skipped" if manifest["skipped"] else "")
          + (f"; {manifest['upscaled']} were smaller and were enlarged" if manifest["upscaled"] else "") + ".")


def _reproduce(a):
    from minigen import reproduce

    for cell in reproduce.reproduce(a.table, a.seeds, a.steps, a.out):
        print("  ".join(f"{k} {v}" for k, v in cell.items() if k != "options"), flush=True)
    print(reproduce.as_text(a.table, a.out))


def _options(parser, cls):
    """An option for every field of a config class; what is not given is left to the preset."""
    for field in dataclasses.fields(cls):
        kind = type(field.default)
        options = dict(action=argparse.BooleanOptionalAction) if kind is bool else dict(type=kind, metavar=kind.__name__)
        name = f"--{field.name.replace('_', '-')}"
        parser.add_argument(name, default=argparse.SUPPRESS, help=f"small: {field.default!r}", **options)


def _config(cls, a):
    from minigen import settings

    given = {f.name: getattr(a, f.name) for f in dataclasses.fields(cls) if hasattr(a, f.name)}
    if getattr(a, "paper_protocol", False):
        given = dict(preset="paper", batch_size=1, steps=4_000_000) | given
        if cls is settings.Stage1:
            given.setdefault("discriminator_start", 250_000)
    config = settings.make_config(cls, **given)
    print("\n".join(f"{k} = {v}" for k, v in dataclasses.asdict(config).items()), flush=True)
    return config


def _train_ivqvae(a):
    from minigen import celebahq, settings

    print("Stage 1 is in", celebahq.train_ivqvae(_config(settings.Stage1, a), a.resume))


def _train_fftd(a):
    from minigen import celebahq, settings

    print("Stage 2 is in", celebahq.train_fftd(_config(settings.Stage2, a), a.autoencoder, a.resume))


def _encode(a):
    from minigen import sampling

    print("Latents are in", sampling.encode(a.data, a.autoencoder, a.out, a.batch_size))


def _sampler(a):
    from minigen import sampling

    return sampling.Sampler(a.weights, a.autoencoder, a.seed, a.steps, a.eta, a.label, a.scale, a.batch_size)


def _sample(a):
    from minigen import sampling

    seconds = sampling.sample(_sampler(a), a.out, a.images, a.png, a.zip)
    print(f"{a.images} images in {a.out}, {seconds:.1f} s, {1000 * seconds / a.images:.1f} ms an image.")


def _fid(a):
    from minigen import evaluate, files, ivqvae, sampling, settings, training

    decoder = files.load_weights(ivqvae.IVQVAE, a.autoencoder)
    images = settings.Images(a.data, decoder.config["size"])
    sampler = _sampler(a)
    sampling.sample(sampler, a.out, a.images)
    if training.rank() == 0:
        protocol = dict(DDIM_steps=a.steps, eta=a.eta, seed=a.seed, label=a.label, guidance=a.scale, weights="EMA")
        drawn = itertools.islice(sampling.drawn(a.out), a.images)
        result = evaluate.evaluate(drawn, images, features=a.features, cache=a.cache, protocol=protocol, device=sampler.device)
        print(result["line"])


def _bench(a):
    from minigen import bench

    print(bench.bench(a.preset, a.seconds))


def _add_chapter8(commands):
    """The commands of chapter 8. Its modules are imported only when one of them runs."""
    from minigen import settings

    p = commands.add_parser("train-ivqvae", help="stage 1: train the autoencoder", description="Stage 1 (Algorithm 1).")
    _options(p, settings.Stage1)
    p.set_defaults(run=_train_ivqvae)
    q = commands.add_parser("train-fftd", help="stage 2: train the Transformer on latents", description="Stage 2 (Algorithm 2).")
    _options(q, settings.Stage2)
    q.add_argument("--autoencoder", type=Path, required=True, help="ivqvae.safetensors of stage 1")
    q.set_defaults(run=_train_fftd)
    for x in (p, q):
        x.add_argument("--resume", action="store_true", help="go on from the newest whole checkpoint in --out")
        x.add_argument("--paper-protocol", action="store_true", help="the paper's batch of 1 and 4,000,000 steps")
    p = commands.add_parser("encode", help="latents of all images, once", description="Encode images and mirror images.")
    p.add_argument("data", help="a folder of `prepare`, or toyfaces:N")
    p.add_argument("--autoencoder", type=Path, required=True)
    p.add_argument("--out", type=Path, default=Path("runs/latents.safetensors"))
    p.add_argument("--batch-size", type=int, default=64)
    p.set_defaults(run=_encode)
    p = commands.add_parser("sample", help="draw images", description="Draw images; image k depends on the seed and k only.")
    p.add_argument("--png", action="store_true", help="also as PNG files")
    p.add_argument("--zip", action="store_true", help="also as one zip of PNG")
    p.set_defaults(run=_sample)
    q = commands.add_parser("fid", help="draw images and measure them", description="FID and KID of samples against the data.")
    q.add_argument("--data", required=True, help="a folder of `prepare`, or toyfaces:N")
    q.add_argument("--features", default="inception", help="inception, or toy for 32×32 ToyFaces")
    q.add_argument("--cache", type=Path, default=Path("runs/cache"), help="where reference features are kept")
    q.set_defaults(run=_fid)
    for x in (p, q):
        x.add_argument("--weights", type=Path, required=True, help="fftd.safetensors of stage 2")
        x.add_argument("--autoencoder", type=Path, required=True, help="ivqvae.safetensors of stage 1")
        x.add_argument("--out", type=Path, default=Path("runs/samples"))
        x.add_argument("--images", type=int, default=64, help="how many (default 64)")
        x.add_argument("--steps", type=int, default=500, help="DDIM steps (default 500)")
        x.add_argument("--eta", type=float, default=0.0)
        x.add_argument("--seed", type=int, default=0)
        x.add_argument("--label", type=int, help="ask for this class")
        x.add_argument("--scale", type=float, default=1.0, help="guidance (1: none)")
        x.add_argument("--batch-size", type=int, default=64)
    p = commands.add_parser("bench", help="how fast this machine is", description="Throughput of both stages beside diffusers'.")
    p.add_argument("--preset", default="small", choices=("small", "paper"))
    p.add_argument("--seconds", type=float, default=5.0, help="for each measurement")
    p.set_defaults(run=_bench)


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m minigen", description="Tools of the minigen course.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    p = commands.add_parser("prepare", help="turn a folder, zip or parquet of images into one memory map",
                            description="Centre-crop, resize and store images as one uint8 memory map with a manifest.")
    p.add_argument("source", type=Path, help="folder (class sub-folders or not), .zip, .parquet or folder of them")
    p.add_argument("--out", type=Path, required=True, help="folder to make, such as data/NAME")
    p.add_argument("--size", type=int, default=256, help="side in pixels (default 256)")
    p.add_argument("--split", help="only this split, where the source has train/val/test")
    p.add_argument("--kernel", default="lanczos", choices=KERNELS, help="resize filter (default lanczos)")
    p.add_argument("--no-classes", action="store_true", help="ignore the sub-folders")
    p.add_argument("--overwrite", action="store_true", help="replace an --out that was prepared before")
    p.set_defaults(run=_prepare)
    p = commands.add_parser("reproduce", help="measure one of the paper's tables at small scale",
                            description="Train and measure every cell of a table, go on where a run was stopped, print it.")
    p.add_argument("table", help="table1, 2, 3, 7, 8, 9, table3_pixels or guidance")
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default 0 1 2")
    p.add_argument("--steps", type=int, help="training steps (or images) of a cell (default: the table's)")
    p.add_argument("--out", type=Path, help="results file (default data/reproduce/TABLE.json)")
    p.set_defaults(run=_reproduce)
    _add_chapter8(commands)
    args = parser.parse_args(argv)
    try:
        args.run(args)
    except ValueError as e:                               # DataError is one
        print(f"minigen: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as e:
        print(f"minigen: {e or 'stopped; nothing half-written was kept, and what was finished stays'}.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
