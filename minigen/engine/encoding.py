"""Chapter 8: the latents of a data set, made once for stage 2.

They are made in parts that are written whole, so that a stopped run goes on.
"""

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minigen import latents, room
from minigen.engine.images import Images
from minigen.engine.parts import parts, read_part, remove
from minigen.engine.processes import pick_device, processes, rank
from minigen.engine.settings import check_number
from minigen.errors import DataError, Diverged
from minigen.files import load_weights, read_tensors, save_tensors
from minigen.ivqvae import IVQVAE

PART = 512                                        # images


def encode_images(
    data: str | os.PathLike, weights: Path | str, out: Path | str, batch_size: int = 64,
    device: str | None = None, progress: bool = True, overwrite: bool = False,
) -> Path:
    """Latents of every image and of its mirror image, into the file `out`.

    Mirrored images are encoded, not their latents mirrored: the two differ. Until the file is
    whole, parts lie beside it. What is there already, of the same images by the same weights, is
    kept; latents of others are replaced only with overwrite, and any other file never.
    Returns: the path. Raises: DataError for data, weights or a device that cannot be used, and for
    a file that may not be replaced.
    """
    target, out = pick_device(device or ""), Path(out)
    batch_size = check_number("batch_size", batch_size, int, low=1, high=10**6)
    model = load_weights(IVQVAE, Path(weights)).to(target)
    images = Images(data, model.config["size"], verify=True)
    mark, n = latents.fingerprint(model), len(images)
    existed, folder = os.path.lexists(out), out.with_suffix(".parts")
    if out == folder or out.is_dir():
        raise DataError(f"'{out}' cannot be the file of the latents: choose another --out, such as "
                        "runs/latents.safetensors.")
    if out.exists():
        existing = read_latents(out)
        if existing["tokenizer"] == mark and existing["data"] == images.mark:
            return out                            # whole, of the same data by the same autoencoder
        if not overwrite:
            raise DataError(f"'{out}' holds latents of other images or of another autoencoder: "
                            "choose another --out, or pass --overwrite to replace them.")
    floats = 2 * n * model.config["code_dim"] * model.grid**2
    room.require_disk(out, 4 * floats, f"Latents of {n} images")

    def make(first: int, last: int) -> dict[str, Tensor]:
        x = images(torch.arange(first, last)).to(target)                    # (B, 3, S, S)
        made = {"z": latents.encode(model, x, batch_size).z.cpu(),          # (B, C, grid, grid)
                "flipped": latents.encode(model, x.flip(-1), batch_size).z.cpu()}
        if not all(bool(torch.isfinite(z).all()) for z in made.values()):
            raise Diverged(f"The latents of '{weights}' hold NaN or infinity: it was not trained, "
                           "or its statistics are damaged.")
        return made

    with processes(target):
        key = dict(data=images.mark, tokenizer=mark)
        paths = parts(folder, n, PART, key, make, progress)
        if rank() == 0:
            if os.path.lexists(out) and not existed:
                raise DataError(f"'{out}' has appeared meanwhile and was left as it is: move it "
                                "away and run again.")
            loaded = [read_part(folder, k) for k in range(len(paths))]
            names = ("z", "flipped")
            whole = {name: torch.cat([part[name] for part in loaded]) for name in names}
            if images.labels is not None:
                whole["labels"] = images.labels.long()
            classes = json.dumps(images.classes)
            save_tensors(out, whole, tokenizer=mark, data=images.mark, classes=classes)
            remove(folder, paths)
    return out


def read_latents(path: Path | str) -> dict[str, Any]:
    """What `encode_images` wrote: z, flipped, labels (or None), tokenizer, data, classes.

    Raises: DataError for another file, and for latents that do not hold together.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"There are no latents '{path}': python -m minigen encode --out {path}")
    tensors, meta = read_tensors(path, "file of latents")
    if not ({"z", "flipped"} <= tensors.keys()
            and {"tokenizer", "data", "classes"} <= meta.keys()):
        raise DataError(f"'{path}' is a safetensors file, but not one that `python -m minigen "
                        "encode` wrote.")
    try:
        classes = _classes(meta["classes"])
        _require_whole(tensors, classes)
    except (ValueError, RecursionError) as e:
        raise DataError(f"The latents in '{path}' do not hold together ({e}): encode again, into "
                        "another file.") from None
    return dict(z=tensors["z"], flipped=tensors["flipped"], labels=tensors.get("labels"),
                tokenizer=meta["tokenizer"], data=meta["data"], classes=classes)


def _classes(text: str) -> list[str]:
    classes = json.loads(text)
    if not isinstance(classes, list) or not all(isinstance(c, str) for c in classes):
        raise ValueError("its classes are no list of names")
    return classes


def _require_whole(tensors: dict[str, Tensor], classes: list[str]) -> None:
    """Raise ValueError where shapes, types or values of latents and labels do not go together."""
    z, flipped, labels = tensors["z"], tensors["flipped"], tensors.get("labels")
    square = z.ndim == 4 and z.shape == flipped.shape and z.numel() and z.shape[2] == z.shape[3]
    if not square or z.dtype != torch.float32 or flipped.dtype != torch.float32:
        raise ValueError(f"z and flipped are {z.dtype} {tuple(z.shape)} and {flipped.dtype} "
                         f"{tuple(flipped.shape)}")
    if not (torch.isfinite(z).all() and torch.isfinite(flipped).all()):
        raise ValueError("they hold NaN or infinity")
    if labels is None:
        return
    if labels.dtype != torch.int64 or labels.shape != (len(z),):
        raise ValueError(f"{len(z)} latents have labels of shape {tuple(labels.shape)}")
    least, most = int(labels.min()), int(labels.max())
    if not (least >= 0 and most < len(classes)):
        raise ValueError(f"labels go from {least} to {most}, with {len(classes)} classes")
