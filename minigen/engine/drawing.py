"""Chapter 8: many images, in parts that are written whole, so that a stopped run goes on.

Image k of a run depends on (seed, k) only: not on how many processes share the work, nor (but for
rounding, at most one grey level) on the batch size.
"""

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image, PngImagePlugin
from torch import Tensor
from tqdm.auto import tqdm

from minigen import (
    ddim,
    ddpm,
    fftd,
    flow_matching,
    ivqvae,
    latents,
    room,
    stops,
    text_to_image,
)
from minigen.data import ATTRIBUTES, to_uint8
from minigen.engine.loop import generator_of
from minigen.engine.parts import MARK, check_export, export, is_ours, parts
from minigen.engine.processes import pick_device, processes, rank
from minigen.engine.sampling import SamplingFFTD
from minigen.engine.settings import MANY, SEEDS, check_number
from minigen.errors import DataError, Diverged
from minigen.files import load_weights, replacing
from minigen.guidance import Guided
from minigen.names import how_many, listed, near
from minigen.prompts import DENIALS, read, split, tokenise

PART = 64                                         # images
MOST_IN_A_PICTURE = 1024
OTHERS = {".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff"}      # kinds of pictures
SIDE = 128                                        # pixels of a face in it: 32×32, four times


def classes_of(model: Any) -> list[str]:
    """The names of a model's classes in label order, from its card; [] if they are not known."""
    card = model.card
    names = card.get("classes") or ATTRIBUTES.get(str(card.get("labels")), ())
    are_names = isinstance(names, list | tuple) and all(isinstance(n, str) for n in names)
    return list(names) if are_names and len(names) == model.num_classes else []


def _label_of(label: str | int | None, model: Any) -> int | None:
    """The number of a class, given by name or number; where classes are called "1", "2", a name."""
    if label is None:
        return None
    if not model.num_classes:
        raise DataError("This model was trained without classes: leave --label out.")
    names, last = classes_of(model), model.num_classes - 1
    if label in names:
        return names.index(str(label))
    wanted = f"{listed(names)}, or its number, 0 to {last}" if names else f"0 to {last}"
    if isinstance(label, str) and not (label.isascii() and label.isdigit()):
        raise DataError(f"--label is {wanted}; got '{label}'{near(label, names) or '.'}")
    number = int(label) if isinstance(label, str) else check_number("label", label, int)
    if not 0 <= number <= last:
        raise DataError(f"--label is {wanted}; got {number}.")
    return number


def _check_asked(label: str | int | None, prompt: str | None, negative: str) -> None:
    """Raises: DataError for a prompt beside a label, and a negative prompt without one."""
    if prompt is None:
        if negative:
            raise DataError("--negative says what a --prompt shall not bring: give that too.")
        return
    if label is not None:
        raise DataError("--prompt and --label are two ways of asking: leave one out.")
    read(prompt)
    if denied := [word for word in split(negative) if word in DENIALS]:
        raise DataError(f"--negative names the thing itself, such as glasses, without a word such "
                        f"as '{denied[0]}'.")
    try:
        tokenise([negative])
    except DataError as e:
        raise DataError(f"--negative: {e}") from None


class Sampler:
    """Faces from weights of both stages. Algorithm 3: DDIM, or a flow's Euler, quantise, decode.

    `sampler(first, last)` → uint8 images k = first … last − 1, (n, 3, S, S).

    steps, eta: DDIM's, or of a flow steps alone; `step` is what one is called, "DDIM step" or
    "Euler step". label: a class for all, by number or name, or None. scale: guidance, 0 to 1000.
    prompt, negative: in the place of a label, sentences of what is wanted and what is not.
    Raises: DataError for weights that do not belong together, for settings outside their range, and
    for a prompt that nobody can draw.
    """

    def __init__(
        self, weights: Path | str, autoencoder: Path | str, seed: int = 0, steps: int = 500,
        eta: float = 0.0, label: str | int | None = None, scale: float = 1.0,
        batch_size: int = 64, device: str | None = None, prompt: str | None = None,
        negative: str = "",
    ) -> None:
        _check_asked(label, prompt, negative)
        self.device = pick_device(device or "")
        self.seed = check_number("seed", seed, int, *SEEDS)
        told = text_to_image.TextFFTD if prompt is not None else fftd.FFTD
        self.model: Any = load_weights(told, weights)
        self.diffusion = ddpm.diffusion_of(self.model)
        self.steps = check_number("steps", steps, int, low=1, high=self.diffusion.T)
        self.eta = check_number("eta", eta, low=0, high=1)
        self.step = "Euler step" if self.model.prediction == "velocity" else "DDIM step"
        if self.eta and self.model.prediction == "velocity":
            raise DataError(f"{Path(weights).name} is a flow, whose steps add no noise: leave "
                            "--eta out.")
        self.scale = check_number("scale", scale, low=0, high=1000)
        self.batch_size = check_number("batch_size", batch_size, int, low=1, high=10**6)
        self.decoder = load_weights(ivqvae.IVQVAE, autoencoder)
        if self.model.card.get("tokenizer") != latents.fingerprint(self.decoder):
            raise DataError(f"{Path(weights).name} was trained on latents of another autoencoder "
                            f"than {Path(autoencoder).name}: name its own with --autoencoder.")
        if label is None and prompt is None and self.scale != 1:
            raise DataError(f"--scale {scale} guides towards a class: name one with --label, or "
                            "say what is wanted with --prompt.")
        if negative and self.scale <= 1:
            raise DataError("--negative works by guidance: --scale must be above 1 with it; got "
                            f"{scale:g}.")
        self.prompt, self.negative = prompt, negative
        self.label = _label_of(label, self.model)
        self.model.to(self.device)
        self.decoder.to(self.device)
        self.net = self._made_ready()
        self.key: dict[str, Any] = dict(
            seed=self.seed, steps=self.steps, eta=self.eta, label=self.label, scale=self.scale,
            prompt=prompt, negative=negative,
            weights=latents.fingerprint(self.model)[:16],
            autoencoder=latents.fingerprint(self.decoder)[:16])

    def _made_ready(self) -> Any:
        """The network as it is asked: with a table of all steps, unless sentences steer it."""
        if self.prompt is not None:
            return text_to_image.Prompted(self.model, [self.prompt], self.scale, self.negative)
        if self.model.prediction == "velocity":
            shares = torch.tensor(flow_matching.marks(self.steps)[:-1])
            at = (flow_matching.LONGEST * shares).tolist()
        else:
            at = ddim.timesteps(self.diffusion.T, self.steps)
        return SamplingFFTD(self.model, at, [] if self.label is None else [self.label])

    def __call__(self, first: int, last: int) -> Tensor:
        channels, grid = self.model.config["latent_channels"], self.model.config["grid"]
        generators = [generator_of(self.seed, "image", k) for k in range(first, last)]
        shape = torch.empty(last - first, channels, grid, grid)
        z_T = ddpm.draw_like(shape, generators).to(self.device)             # (n, C, grid, grid)
        net, y = self.net, None
        if self.label is not None:
            net = Guided(net, self.model.num_classes, self.scale)
            y = torch.full((last - first,), self.label, device=self.device)
        if self.prompt is not None:
            y = torch.zeros(last - first, dtype=torch.long, device=self.device)
        if self.model.prediction == "velocity":
            states: Any = flow_matching.euler_sample(
                net, z_T, y, steps=self.steps, batch_size=self.batch_size)
        else:
            states = ddim.ddim_sample(
                net, self.diffusion, z_T, y, steps=self.steps, eta=self.eta,
                generator=generators, batch_size=self.batch_size)
        z_0 = ddpm.last(states)
        if not bool(torch.isfinite(z_0).all()):
            raise Diverged("The drawn latents hold NaN or infinity: a smaller --scale than "
                           f"{self.scale:g}?")
        return to_uint8(latents.decode(self.decoder, z_0, self.batch_size)).cpu()


def draw_images(
    sampler: Sampler, out: Path | str, n: int, png: bool = False, as_zip: bool = False,
    progress: bool = True,
) -> float:
    """Draw images 0 … n − 1 into `out`, in parts of 64. Returns: seconds.

    png: also as files, one an image. as_zip: also as one zip of PNG.
    Raises: DataError for an n that is no number of images, a folder with other files, a disk
    without room; for an `out` that is the name of a picture.
    """
    start = time.perf_counter()
    out, size = Path(out), sampler.decoder.config["size"]
    n = check_number("images", n, int, low=1, high=MANY)
    if out.suffix.lower() in OTHERS:
        raise DataError(f"Pictures are written as PNG, so '{out}' cannot be one: choose "
                        f"--out {out.with_suffix('.png')}, or a folder such as --out runs/samples.")
    if out.suffix.lower() == ".png":
        raise DataError(f"'{out}' is the name of one picture, and a folder is needed: choose "
                        "--out runs/samples.")
    room.require_disk(out, n * 3 * size**2, f"{how_many(n, 'image')} of {size}×{size}")
    check_export(out, n, png, as_zip)

    def make(first: int, last: int) -> dict[str, Tensor]:
        return {"images": sampler(first, last)}

    with processes(sampler.device):
        parts(out, n, PART, sampler.key, make, progress)
        if rank() == 0:
            export(out, n, png, as_zip)
    return time.perf_counter() - start


def draw_picture(sampler: Sampler, out: Path | str, n: int, progress: bool = True) -> float:
    """Draw images 0 … n − 1 and write them as one PNG, row by row; small ones are enlarged.

    A picture that minigen wrote is replaced, any other file never. Returns: seconds.
    Raises: DataError for an n that does not fit into a picture, a file in the way, a disk without
    room.
    """
    start = time.perf_counter()
    out, size = Path(out), sampler.decoder.config["size"]
    n = check_number("images", n, int, low=1, high=MANY)
    if n > MOST_IN_A_PICTURE:
        raise DataError(f"A picture holds at most {MOST_IN_A_PICTURE:,} images; got {n:,}: for "
                        "more choose a folder, --out runs/samples.")
    _check_picture(out)
    room.require_disk(out, n * 3 * max(SIDE, size) ** 2, f"A picture of {how_many(n, 'image')}")
    images = []
    at_once = not progress or n <= sampler.batch_size
    with tqdm(total=n, unit="image", desc="drawing", disable=at_once) as bar:
        for first in range(0, n, sampler.batch_size):
            stops.raise_pending()
            images.append(sampler(first, min(n, first + sampler.batch_size)))
            bar.update(len(images[-1]))
    mark = PngImagePlugin.PngInfo()
    mark.add_text("Software", MARK)
    mark.add_text("Description", f"{n} images drawn by minigen, {json.dumps(sampler.key)}")
    sheet = Image.fromarray(_in_rows(torch.cat(images)).numpy())
    _check_picture(out)                           # again: something may have come meanwhile
    with replacing(out) as temporary:
        sheet.save(temporary, "PNG", pnginfo=mark)
    return time.perf_counter() - start


def _check_picture(out: Path) -> None:
    if os.path.lexists(out) and not (out.is_file() and is_ours(out)):
        raise DataError(f"'{out}' was not drawn by `minigen sample` and would be replaced: choose "
                        "another --out.")


def _in_rows(images: Tensor) -> Tensor:
    """Images (N, 3, S, S) as one (H, W, 3): nearly a square, on white, a pixel between them."""
    n, _, _, size = images.shape
    columns = math.ceil(math.sqrt(n))
    rows, factor = math.ceil(n / columns), max(1, SIDE // size)
    height, width = rows * (size + 1) + 1, columns * (size + 1) + 1
    sheet = torch.full((height, width, 3), 255, dtype=torch.uint8)
    for k, x in enumerate(images):
        top, left = 1 + k // columns * (size + 1), 1 + k % columns * (size + 1)
        sheet[top : top + size, left : left + size] = x.movedim(0, -1)
    return sheet.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
