"""What the command line understands: every command's options and examples.

It needs no torch, so that `--help` answers at once. What a command does is in `minigen.__main__`.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import minigen
from minigen.arguments import (
    NAME,
    NUMBER,
    PATH,
    PROGRAM,
    SWITCH,
    WEIGHTS,
    WHOLE,
    Kind,
    Parser,
    choice,
    option,
    refuse_unknown,
    written,
)
from minigen.engine import presets, settings
from minigen.examples import EXAMPLES
from minigen.names import near

Commands = argparse._SubParsersAction  # what add_subparsers returns
RESULTS = "results file (default: {}.json in runs/reproduce, or in reproduce of MINIGEN_HOME)"
BRIEF = f"""\
minigen {minigen.__version__}: image generation from first principles, in notebooks. Try:

  {PROGRAM} sample                          16 new faces in one picture
  {PROGRAM} sample --label red --scale 2    the same with red hair
  {PROGRAM} sample --prompt "a sad person"  and with a sad face
  {PROGRAM} reproduce table1                the paper's Table 1, small
  {PROGRAM} --help                          all commands
"""


def parse(argv: list[str]) -> argparse.Namespace:
    """The settings that a command line asks for.

    Raises: DataError for a wrong one, in one sentence, with the near word where there is one.
    """
    parser, commands = build()
    if argv[:1] == ["help"]:  # `help sample` is `sample --help`
        argv = [*argv[1:2], "--help"]
    refuse_unknown(parser, argv, commands)
    args, more = parser.parse_known_args(argv)
    if more:
        command = commands[args.command]
        guess = near(f"--{more[0]}", command._option_string_actions)
        command.error(f"{args.command} takes no '{more[0]}'{guess}")
    return args


def build() -> tuple[Parser, dict[str, Parser]]:
    """(the parser, {name: parser} of its commands)."""
    about = "The tools of the minigen course. Each command's --help ends with examples."
    parser = Parser(PROGRAM, description=about)
    version = f"minigen {minigen.__version__}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    _add_sample(commands)
    _add_prepare(commands)
    _add_training(commands)
    _add_fid(commands)
    _add_plan(commands)
    _add_bench(commands)
    _add_reproduce(commands)
    return parser, commands.choices


def _command(commands: Commands, name: str, text: str, description: str) -> Parser:
    return commands.add_parser(
        name, help=text, description=description, prog=f"{PROGRAM} {name}", examples=EXAMPLES[name]
    )


def _add_sample(commands: Commands) -> None:
    p = _command(
        commands,
        "sample",
        "draw new faces",
        "Draw images: without --weights new faces in one picture, by the models that come with "
        "the course. Image k depends on the seed and k only.",
    )
    option(p, "--images", WHOLE, "how many (default: for a picture 16, else 64)")
    option(p, "--steps", WHOLE, "DDIM steps, 1 to 1000 (default: for a picture 50, else 500)")
    _add_sampling(p)
    option(
        p,
        "--out",
        PATH,
        "NAME.png for one picture, or a folder of tensors (default: runs/faces.png, with what was "
        "asked for in its name; with --weights, --png or --zip the folder runs/samples)",
    )
    option(p, "--png", SWITCH, "into a folder, also as one PNG file an image")
    option(p, "--zip", SWITCH, "into a folder, also as one zip of PNG files")


def _add_fid(commands: Commands) -> None:
    p = _command(
        commands,
        "fid",
        "draw images and measure them",
        "FID, KID, precision and recall of samples against the data.",
    )
    data = "images to compare with: a folder of `prepare`, or toyfaces:N"
    option(p, "--data", dict(metavar="DATA"), data, required=True)
    option(p, "--images", WHOLE, "how many", 64)
    option(p, "--steps", WHOLE, "DDIM steps, 1 to 1000", 500)
    _add_sampling(p)
    option(p, "--out", PATH, "folder of the images", Path("runs/samples"))
    features = "network that images are compared by; toy is for 32×32 faces, and not FID"
    option(p, "--features", choice("inception", "toy"), features, "inception")
    option(p, "--cache", PATH, "folder in which the data's features are kept", Path("runs/cache"))


def _add_sampling(p: Parser) -> None:
    """What `sample` and `fid` share."""
    option(p, "--seed", WHOLE, "another number, other images", 0)
    label = (
        "ask for a class by name or number, for the course's faces a hair colour: black, "
        "chestnut, blond, red or grey (default: any)"
    )
    option(p, "--label", dict(metavar="CLASS"), label)
    prompt = "ask for the course's faces in a sentence, in quotes (default: any face)"
    option(p, "--prompt", dict(metavar="SENTENCE"), prompt)
    negative = "with --prompt: what shall not be there, such as glasses (default: nothing)"
    option(p, "--negative", dict(metavar="SENTENCE"), negative, "")
    scale = "guidance, from 0: 1 is none, 2 exaggerates (default: 1, with --prompt 2)"
    option(p, "--scale", NUMBER, scale)
    eta = "0: all chance lies in the first noise; 1: as much new noise as DDPM"
    option(p, "--eta", NUMBER, eta, 0.0)
    text = "an {}.safetensors, or the name of weights of the course"
    option(p, "--weights", WEIGHTS, f"stage 2: {text.format('fftd')} (default: fftd, "
           "with --prompt text_fftd)")
    option(p, "--autoencoder", WEIGHTS, f"stage 1: {text.format('ivqvae')}", "ivqvae")
    _add_machine(p)


def _add_machine(p: Parser) -> None:
    option(p, "--batch-size", WHOLE, "images at once", 64)
    option(p, "--device", NAME, "cpu, cuda, cuda:1 … (default: the GPU where there is one)", "")


def _add_prepare(commands: Commands) -> None:
    p = _command(
        commands,
        "prepare",
        "turn a folder, zip or parquet of images into one memory map",
        "Centre-crop, resize and store images as one uint8 memory map with a manifest.",
    )
    source = "folder (class sub-folders or not), .zip, .parquet or folder of them"
    p.add_argument("source", type=Path, help=source)
    option(p, "--out", PATH, "folder to make, such as data/NAME", required=True)
    option(p, "--size", WHOLE, "side in pixels", 256)
    option(p, "--split", NAME, "only this one of train/val/test in the source (default: all)")
    kernels = choice("lanczos", "bicubic", "bilinear", "box")
    option(p, "--kernel", kernels, "resize filter", "lanczos")
    classes = (
        "where classes come from: what is found (auto), each folder, none, or a file of labels "
        "(CSV rows file,class or JSON)"
    )
    option(p, "--classes", dict(metavar="auto|folders|none|FILE"), classes, "auto")
    none: Kind = dict(dest="classes", action="store_const", const="none")
    p.add_argument("--no-classes", help="the same as --classes none", **none)
    for kind in ("image", "label"):
        text = f"column of {kind}s in parquet (default: the one that names and types tell)"
        option(p, f"--{kind}-column", NAME, text)
    option(p, "--overwrite", SWITCH, "replace an --out that was prepared before")
    about = "Compare every pixel with the manifest."
    p = _command(commands, "verify", "is a prepared folder whole?", about)
    p.add_argument("folder", type=Path, help="a folder of `prepare`")


def _add_training(commands: Commands) -> None:
    note = (
        "A run that goes on with --resume equals an undisturbed one bit for bit on a CPU with "
        "the same numbers of threads and processes."
    )
    about = f"Stage 1 (Algorithm 1). {note}"
    p = _command(commands, "train-ivqvae", "stage 1: train the autoencoder", about)
    _add_settings(p, settings.Stage1)
    about = "Encode images and their mirror images, for stage 2."
    e = _command(commands, "encode", "latents of all images, once", about)
    e.add_argument("data", help="a folder of `prepare`, or toyfaces:N")
    option(e, "--out", PATH, "file to write", Path("runs/latents.safetensors"))
    option(e, "--overwrite", SWITCH, "replace latents of other images or another autoencoder")
    _add_machine(e)
    about = f"Stage 2 (Algorithm 2). {note}"
    q = _command(commands, "train-fftd", "stage 2: train the Transformer on latents", about)
    _add_settings(q, settings.Stage2)
    weights = "stage 1: an ivqvae.safetensors, or the name of weights of the course: ivqvae"
    for x in (e, q):
        option(x, "--autoencoder", WEIGHTS, weights, required=True)
    for x in (p, q):
        option(x, "--resume", SWITCH, "go on from the newest whole checkpoint in --out")


def _add_settings(parser: Parser, cls: type) -> None:
    """An option for every field of a config class; what is not given is left to the preset."""
    kinds: dict[Any, Kind] = {
        int: WHOLE, float: NUMBER, bool: dict(action=argparse.BooleanOptionalAction)
    }
    for field in dataclasses.fields(cls):
        choices = field.metadata["choices"]
        words = NAME if field.name == "device" else dict(metavar="PATH")
        kind = choice(*choices) if choices else kinds.get(type(field.default), words)
        text = field.metadata["text"] + _default_of(cls, field)
        name = f"--{field.name.replace('_', '-')}"
        parser.add_argument(name, help=text, default=argparse.SUPPRESS, **kind)


def _default_of(cls: type, field: dataclasses.Field) -> str:
    """` (default 1000; colab 40000, paper 4000000, fast 125000)`."""
    if field.default == "":
        return ""
    usual = {name: values.get(field.name, field.default)
             for name, values in presets.SETTINGS[cls.__name__].items()}
    others = ", ".join(f"{name} {written(value)}" for name, value in usual.items()
                       if value != field.default)
    return f" (default {written(field.default)}{'; ' if others else ''}{others})"


def _add_bench(commands: Commands) -> None:
    about = ("Throughput of both stages, beside diffusers' where it is there. With --quality: how "
             "good each family of the course becomes in so many minutes of a processor.")
    p = _command(commands, "bench", "how fast this machine is, or how fast models learn", about)
    option(p, "--preset", choice(*presets.NAMES), "sizes of the networks", "small")
    option(p, "--seconds", NUMBER, "seconds for each measurement", 5.0)
    minutes = "processor minutes of each training (default, where none is named: 1 5 20)"
    option(p, "--quality", NUMBER | dict(metavar="MINUTES"), minutes, nargs="*")
    option(p, "--seeds", WHOLE, "with --quality: one training each", [0], nargs="+")
    option(p, "--out", PATH, f"with --quality: {RESULTS.format('quality')}")


def _add_plan(commands: Commands) -> None:
    p = _command(
        commands,
        "plan",
        "what a training needs, before it is begun",
        "Work, memory, disk and hours of both stages of a preset, by arithmetic. Without --preset "
        "all presets beside each other, where they differ from the paper, and why.",
    )
    option(p, "--preset", choice(*presets.NAMES), "which one (default: all, compared)")
    option(p, "--images", WHOLE, "images in the data set (default: 30000, small 4096)")
    option(p, "--share", NUMBER, "of a GPU's peak that a training reaches, an assumption", 0.15)
    option(p, "--gpus", WHOLE, "so many share each batch: what they send, where it stops to pay", 1)


def _add_reproduce(commands: Commands) -> None:
    p = _command(
        commands,
        "reproduce",
        "measure one of the paper's tables at small scale",
        "Train and measure every cell of a table, go on where a run was stopped, print it. The "
        "results that come with the course count as measured.",
    )
    tables = (
        "table1 or just 1, table2, table3, table3_pixels, table7, table8, table9, beyond, "
        "distortion, flow, forgotten, guidance, likelihoods, losses, origins, personal, "
        "predictions, prices, prompting, restoration or sentences"
    )
    p.add_argument("table", help=tables)
    option(p, "--seeds", WHOLE, "one cell each", [0, 1, 2], nargs="+")
    steps = "training steps (or images drawn) of a cell (default: the table's)"
    option(p, "--steps", WHOLE, steps)
    option(p, "--out", PATH, RESULTS.format("TABLE"))
