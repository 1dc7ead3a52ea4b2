"""What `python -m minigen sample` and `fid` do: draw, and measure what was drawn."""

import itertools
import zlib
from argparse import Namespace
from pathlib import Path
from typing import Any

from minigen import names, prompts
from minigen.arguments import PROGRAM, written
from minigen.engine import drawing, evaluate, images, parts, processes, settings
from minigen.errors import DataError, say
from minigen.files import weights_file


def _sampler(a: Namespace) -> Any:
    told = a.prompt is not None
    weights = (weights_file(a.weights or "text_fftd", "TextFFTD") if told
               else weights_file(a.weights or "fftd", "FFTD"))
    autoencoder = weights_file(a.autoencoder, "IVQVAE")
    a.scale = _usual_scale(a) if a.scale is None else a.scale
    return drawing.Sampler(weights, autoencoder, a.seed, a.steps, a.eta, a.label, a.scale,
                           a.batch_size, a.device, a.prompt, a.negative)


def sample(a: Namespace, first: bool = True) -> None:
    """Draw one picture, or a folder of images. first: whether this process draws a picture."""
    one = a.out.suffix.lower() == ".png" if a.out else not (a.weights or a.png or a.zip)
    if one and (a.png or a.zip):
        raise DataError(f"--png and --zip write into a folder, and '{a.out}' is one picture: "
                        "choose --out runs/samples.")
    if one and not first:                              # one process draws one picture
        return
    images, steps = (16, 50) if one else (64, 500)
    a.images = images if a.images is None else a.images
    a.steps = steps if a.steps is None else a.steps
    count, sampler = names.how_many(a.images, "image"), _sampler(a)
    classes = drawing.classes_of(sampler.model)
    a.out = a.out or Path("runs") / (_picture_name(a, sampler.label, classes) if one else "samples")
    if one:
        seconds = drawing.draw_picture(sampler, a.out, a.images)
        how = f"{names.how_many(a.steps, sampler.step)} on {sampler.device}"
        say(f"{count} in {a.out}, drawn in {seconds:.1f} s ({how}).")
    else:
        seconds = drawing.draw_images(sampler, a.out, a.images, a.png, a.zip)
        each = 1000 * seconds / a.images
        say(f"{count} in {a.out}, {seconds:.1f} s, {each:.1f} ms an image.")
    if one and not a.weights:
        about = f" (hair is {names.listed(classes)})" if classes else ""
        say(f"Try next{about}:\n  " + "\n  ".join(_next(a, sampler.label, classes)))


def _next(a: Namespace, label: int | None, classes: list[str]) -> list[str]:
    """Two commands for other pictures: what was asked for, with one thing changed."""
    asked = _asked(a, label, classes)

    def command(**change: Any) -> str:
        values = {k: (change.get(k, value), usual) for k, (value, usual) in asked.items()}
        options = [f"--{k} {_quoted(v)}" for k, (v, usual) in values.items() if v != usual]
        return " ".join([PROGRAM, "sample", *options])

    hair = asked["label"][0]
    if a.prompt is not None:
        other = command(scale=4.0 if a.scale != 4 else 2.0)
    elif hair is None:
        other = command(label="red")
    elif a.scale == 1:
        other = command(scale=2)
    else:
        other = command(label="red" if hair != "red" else "blond")
    return [command(seed=a.seed + 1), other]


def _asked(a: Namespace, label: int | None, classes: list[str]) -> dict[str, tuple[Any, Any]]:
    """What was asked for, and what is usual."""
    return dict(images=(a.images, 16), steps=(a.steps, 50), seed=(a.seed, 0),
                label=(None if label is None else classes[label], None),
                prompt=(a.prompt and _words(a.prompt), None),
                negative=(_words(a.negative), ""), scale=(a.scale, _usual_scale(a)),
                eta=(a.eta, 0),
                device=(a.device, ""))


def _words(sentence: str) -> str:
    """A sentence as it is read: nothing in it that a shell or a file's name would mind."""
    return " ".join(prompts.split(sentence))


def _usual_scale(a: Namespace) -> float:
    return 1.0 if a.prompt is None else 2.0


def _quoted(value: Any) -> str:
    text = written(value)
    return f'"{text}"' if " " in text else text


def _picture_name(a: Namespace, label: int | None, classes: list[str]) -> str:
    """faces.png, with what was asked for in its name.

    So a picture of something else is not replaced.
    """
    order = ("images", "seed", "label", "prompt", "negative", "scale", "steps", "eta")
    asked = _asked(a, label, classes)
    words = []
    for name in order:
        value, usual = asked[name]
        if value != usual:
            value = f"{value:g}" if isinstance(value, float) else _short(value)
            words.append(f"{'hair' if name == 'label' else name}-{value}")
    return "_".join(["faces", *words]) + ".png"


def _short(value: Any) -> str:
    """A sentence as part of a file's name: its words, of a long one the beginning and a number."""
    if not isinstance(value, str) or value.isalnum():
        return str(value)
    text = value.replace(" ", "-")
    return text if len(text) <= 60 else f"{text[:60]}-{zlib.crc32(text.encode()):08x}"


def fid(a: Namespace) -> None:
    """Draw a folder of images and measure them against a data set."""
    settings.check_number("images", a.images, int, low=evaluate.FEWEST, high=settings.MANY)
    sampler = _sampler(a)
    data = images.Images(a.data, sampler.decoder.config["size"], verify=True)
    if len(data) < evaluate.FEWEST:
        raise DataError(f"'{a.data}' holds {names.how_many(len(data), 'image')}; at least "
                        f"{evaluate.FEWEST} are needed to compare with.")
    network = evaluate.network_of(a.features, sampler.device)     # before an hour goes into drawing
    drawing.draw_images(sampler, a.out, a.images)
    if processes.rank() == 0:
        protocol = {f"{sampler.step}s".replace(" ", "_"): a.steps} | dict(
            eta=a.eta, seed=a.seed, label=a.label, guidance=a.scale, weights="EMA")
        protocol |= {} if a.prompt is None else dict(prompt=a.prompt, negative=a.negative)
        drawn = itertools.islice(parts.drawn(a.out), a.images)
        say(evaluate.evaluate(drawn, data, features=(a.features, network), cache=a.cache,
                              protocol=protocol)["line"])
