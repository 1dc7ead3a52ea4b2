"""The command line: `python -m minigen prepare …`, `python -m minigen reproduce …`. Exit code 2: your input, mended by you."""

import argparse
import sys
from pathlib import Path

from minigen.data import prepare
from minigen.data.prepared import KERNELS
from minigen.errors import DataError


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
    p.add_argument("table", help="table1 or table7")
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default 0 1 2")
    p.add_argument("--steps", type=int, help="training steps of a cell (default: the table's)")
    p.add_argument("--out", type=Path, help="results file (default data/reproduce/TABLE.json)")
    p.set_defaults(run=_reproduce)
    args = parser.parse_args(argv)
    try:
        args.run(args)
    except DataError as e:
        print(f"minigen: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("minigen: stopped; nothing half-written was kept, and what was finished stays.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
