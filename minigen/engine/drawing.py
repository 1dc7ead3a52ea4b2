"""Chapter 8: encoding a data set and drawing many images, in parts that are written whole, so that a stopped run goes on.

Image k of a run depends on (seed, k) only: not on how many processes share the work, nor (but for rounding, at most one grey
level) on the batch size.
"""

import json
import math
import os
import time
from pathlib import Path

import torch
from PIL import Image, PngImagePlugin
from tqdm.auto import tqdm

from minigen import ddim, ddpm, fftd, ivqvae, latents, room, stops
from minigen.data import ATTRIBUTES, to_uint8
from minigen.diffusion import Diffusion
from minigen.engine import loop
from minigen.engine.images import Images
from minigen.engine.parts import MARK, check_export, drawn, export, is_ours, parts, read_part, remove
from minigen.engine.settings import MANY, SEEDS, check_number
from minigen.errors import DataError, Diverged
from minigen.files import load_weights, read_tensors, replacing, save_tensors
from minigen.guidance import Guided
from minigen.names import listed, near

__all__ = ["Sampler", "classes_of", "drawn", "encode", "parts", "picture", "read_latents", "sample"]


def encode(data, weights, out, batch_size=64, device=None, progress=True, overwrite=False):
    """Latents of every image and of its mirror image, into the file `out` (and parts beside it until it is whole).

    Mirrored images are encoded, not their latents mirrored: the two differ. What is there already, of the same images by the same
    weights, is kept; latents of others are replaced only with overwrite, and any other file never. Returns: the path.
    Raises: DataError for data, weights or a device that cannot be used, and for a file that may not be replaced.
    """
    device, out = loop.pick_device(device or ""), Path(out)
    batch_size = check_number("batch_size", batch_size, int, low=1, high=10**6)
    model = load_weights(ivqvae.IVQVAE, Path(weights)).to(device)
    images = Images(data, model.config["size"], verify=True)
    mark = latents.fingerprint(model)
    there_before, folder = os.path.lexists(out), out.with_suffix(".parts")
    if out == folder or out.is_dir():
        raise DataError(f"'{out}' cannot be the file of the latents: choose another --out, such as runs/latents.safetensors.")
    if out.exists():
        there = read_latents(out)
        if there["tokenizer"] == mark and there["data"] == images.mark:
            return out                                    # whole, of the same data by the same autoencoder
        if not overwrite:
            raise DataError(f"'{out}' holds latents of other images or of another autoencoder: choose another --out, or pass "
                            "--overwrite to replace them.")
    room.require_disk(out, 2 * 4 * len(images) * model.config["code_dim"] * model.grid**2, f"Latents of {len(images)} images")

    def make(first, last):
        x = images(torch.arange(first, last)).to(device)
        found = {name: latents.encode(model, x.flip(-1) if mirrored else x, batch_size).z.cpu()
                 for name, mirrored in (("z", False), ("flipped", True))}
        if not all(bool(torch.isfinite(z).all()) for z in found.values()):
            raise Diverged(f"The latents of '{weights}' hold NaN or infinity: it was not trained, or its statistics are damaged.")
        return found

    with loop.processes(device):
        paths = parts(folder, len(images), 512, dict(data=images.mark, tokenizer=mark), make, progress)
        if loop.rank() == 0:
            if os.path.lexists(out) and not there_before:
                raise DataError(f"'{out}' has appeared meanwhile and was left as it is: move it away and run again.")
            loaded = [read_part(folder, k) for k in range(len(paths))]
            whole = {name: torch.cat([part[name] for part in loaded]) for name in ("z", "flipped")}
            if images.labels is not None:
                whole["labels"] = images.labels.long()
            save_tensors(out, whole, tokenizer=mark, data=images.mark, classes=json.dumps(images.classes))
            remove(folder, paths)
    return out


def read_latents(path):
    """What `encode` wrote: z, flipped, labels (or None), tokenizer, data, classes.

    Raises: DataError for another file, and for latents that do not hold together.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"There are no latents '{path}': python -m minigen encode --out {path}")
    tensors, meta = read_tensors(path, "file of latents")
    if not {"z", "flipped"} <= tensors.keys() or not {"tokenizer", "data", "classes"} <= meta.keys():
        raise DataError(f"'{path}' is a safetensors file, but not one that `python -m minigen encode` wrote.")
    z, flipped, labels = tensors["z"], tensors["flipped"], tensors.get("labels")
    try:
        classes = json.loads(meta["classes"])
        if not isinstance(classes, list) or not all(isinstance(c, str) for c in classes):
            raise ValueError("its classes are no list of names")
        square = z.ndim == 4 and z.shape == flipped.shape and z.numel() and z.shape[2] == z.shape[3]
        if not square or z.dtype != torch.float32 or flipped.dtype != torch.float32:
            raise ValueError(f"z and flipped are {z.dtype} {tuple(z.shape)} and {flipped.dtype} {tuple(flipped.shape)}")
        if not (torch.isfinite(z).all() and torch.isfinite(flipped).all()):
            raise ValueError("they hold NaN or infinity")
        if labels is not None and (labels.dtype != torch.int64 or labels.shape != (len(z),)):
            raise ValueError(f"{len(z)} latents have labels of shape {tuple(labels.shape)}")
        if labels is not None and not (int(labels.min()) >= 0 and int(labels.max()) < len(classes)):
            raise ValueError(f"labels go from {int(labels.min())} to {int(labels.max())}, with {len(classes)} classes")
    except (ValueError, RecursionError) as e:
        raise DataError(f"The latents in '{path}' do not hold together ({e}): encode again, into another file.") from None
    return dict(z=z, flipped=flipped, labels=labels, tokenizer=meta["tokenizer"], data=meta["data"], classes=classes)


def classes_of(model):
    """The names of a model's classes in label order, from its card; [] where they are not known."""
    card = model.card
    names = card.get("classes") or ATTRIBUTES.get(str(card.get("labels")), ())
    told = isinstance(names, list | tuple) and all(isinstance(n, str) for n in names)
    return list(names) if told and len(names) == model.num_classes else []


def _label_of(label, model):
    """The number of a class, given by name or number; where classes are called "1", "2", a name."""
    if label is None:
        return None
    if not model.num_classes:
        raise DataError("This model was trained without classes: leave --label out.")
    names, last = classes_of(model), model.num_classes - 1
    if label in names:
        return names.index(label)
    wanted = f"{listed(names)}, or its number, 0 to {last}" if names else f"0 to {last}"
    if isinstance(label, str) and not (label.isascii() and label.isdigit()):
        raise DataError(f"--label is {wanted}; got '{label}'{near(label, names) or '.'}")
    label = int(label) if isinstance(label, str) else check_number("label", label, int)
    if not 0 <= label <= last:
        raise DataError(f"--label is {wanted}; got {label}.")
    return label


class Sampler:
    """Faces from weights of both stages. `sampler(first, last)` → uint8 images k = first … last − 1, (n, 3, S, S).

    steps, eta: DDIM's. label: a class for all, by number or name, or None. scale: guidance, 0 to 1000.
    Raises: DataError for weights that do not belong together, and for settings outside their range.
    """

    def __init__(self, weights, autoencoder, seed=0, steps=500, eta=0.0, label=None, scale=1.0, batch_size=64, device=None):
        self.device = loop.pick_device(device or "")
        self.seed = check_number("seed", seed, int, *SEEDS)
        self.steps = check_number("steps", steps, int, low=1)
        try:
            ddim.timesteps(Diffusion().T, self.steps)
        except ValueError as e:                           # more than the model knows
            raise DataError(str(e)) from None
        self.eta = check_number("eta", eta, low=0, high=1)
        self.scale = check_number("scale", scale, low=0, high=1000)
        self.batch_size = check_number("batch_size", batch_size, int, low=1, high=10**6)
        self.model, self.decoder = load_weights(fftd.FFTD, weights), load_weights(ivqvae.IVQVAE, autoencoder)
        if self.model.card.get("tokenizer") != latents.fingerprint(self.decoder):
            raise DataError(f"{Path(weights).name} was trained on latents of another autoencoder than "
                            f"{Path(autoencoder).name}: name its own with --autoencoder.")
        if label is None and self.scale != 1:
            raise DataError(f"--scale {scale} guides towards a class: name one with --label.")
        self.label = label = _label_of(label, self.model)
        self.model.to(self.device), self.decoder.to(self.device)
        self.key = dict(seed=self.seed, steps=self.steps, eta=self.eta, label=label, scale=self.scale,
                        weights=latents.fingerprint(self.model)[:16], autoencoder=latents.fingerprint(self.decoder)[:16])

    def __call__(self, first, last):
        c, grid = self.model.config["latent_channels"], self.model.config["grid"]
        dice = [loop.generator_of(self.seed, "image", k) for k in range(first, last)]
        noise = ddpm.draw_like(torch.empty(last - first, c, grid, grid), dice).to(self.device)
        y = None if self.label is None else torch.full((last - first,), self.label, device=self.device)
        net = self.model if y is None else Guided(self.model, self.model.num_classes, self.scale)
        z = ddpm.last(ddim.ddim_sample(net, Diffusion(), noise, y, steps=self.steps, eta=self.eta, generator=dice,
                                       batch_size=self.batch_size))
        if not bool(torch.isfinite(z).all()):
            raise Diverged(f"The drawn latents hold NaN or infinity: a smaller --scale than {self.scale:g}?")
        return to_uint8(latents.decode(self.decoder, z, self.batch_size)).cpu()


def sample(sampler, out, n, png=False, as_zip=False, progress=True):
    """Draw images 0 … n − 1 into `out`, in parts of 64; with png as files, with as_zip as one zip of PNG. Returns: seconds.

    Raises: DataError for an n that is no number of images, a folder with other files, a disk without room.
    """
    out, start, size = Path(out), time.perf_counter(), sampler.decoder.config["size"]
    n = check_number("images", n, int, low=1, high=MANY)
    room.require_disk(out, n * 3 * size**2, f"{n:,} images of {size}×{size}")
    check_export(out, n, png, as_zip)
    with loop.processes(sampler.device):
        parts(out, n, 64, sampler.key, lambda first, last: {"images": sampler(first, last)}, progress)
        if loop.rank() == 0:
            export(out, n, png, as_zip)
    return time.perf_counter() - start


MOST_IN_A_PICTURE = 1024
SIDE = 128                                                # pixels of a face: 32×32 at four times


def picture(sampler, out, n, progress=True):
    """Draw images 0 … n − 1 and write them as one PNG, row by row; small ones are enlarged.

    A picture that minigen wrote is replaced, any other file never. Returns: seconds.
    Raises: DataError for an n that does not fit into a picture, a file in the way, a disk without room.
    """
    out, start, size = Path(out), time.perf_counter(), sampler.decoder.config["size"]
    n = check_number("images", n, int, low=1, high=MANY)
    if n > MOST_IN_A_PICTURE:
        raise DataError(f"A picture holds at most {MOST_IN_A_PICTURE:,} images; got {n:,}: for more "
                        "choose a folder, --out runs/samples.")
    _check_picture(out)
    room.require_disk(out, n * 3 * max(SIDE, size)**2, f"A picture of {n:,} images")
    images = []
    at_once = not progress or n <= sampler.batch_size
    with tqdm(total=n, unit="image", desc="drawing", disable=at_once) as bar:
        for first in range(0, n, sampler.batch_size):
            stops.check()
            images.append(sampler(first, min(n, first + sampler.batch_size)))
            bar.update(len(images[-1]))
    told = PngImagePlugin.PngInfo()
    told.add_text("Software", MARK)
    told.add_text("Description", f"{n} images drawn by minigen, {json.dumps(sampler.key)}")
    _check_picture(out)                                   # again: something may have come meanwhile
    with replacing(out) as temporary:
        Image.fromarray(_in_rows(torch.cat(images)).numpy()).save(temporary, "PNG", pnginfo=told)
    return time.perf_counter() - start


def _check_picture(out):
    if os.path.lexists(out) and not (out.is_file() and is_ours(out)):
        raise DataError(f"'{out}' was not drawn by `minigen sample` and would be replaced: choose "
                        "another --out.")


def _in_rows(images):
    """Images (N, 3, S, S) as one (H, W, 3): nearly a square, on white, a pixel between them."""
    n, _, _, size = images.shape
    columns = math.ceil(math.sqrt(n))
    rows, factor = math.ceil(n / columns), max(1, SIDE // size)
    sheet = torch.full((rows * (size + 1) + 1, columns * (size + 1) + 1, 3), 255, dtype=torch.uint8)
    for k, x in enumerate(images):
        top, left = 1 + k // columns * (size + 1), 1 + k % columns * (size + 1)
        sheet[top : top + size, left : left + size] = x.movedim(0, -1)
    return sheet.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
