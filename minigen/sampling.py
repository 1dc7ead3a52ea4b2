"""Chapter 8: encoding a data set and drawing many images, in parts that are written whole, so that a stopped run goes on.

Image k of a run depends on (seed, k) only: not on how many processes share the work, nor (but for rounding, at most one grey
level) on the batch size.
"""

import hashlib
import json
import shutil
import time
import zipfile
from pathlib import Path

import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from tqdm.auto import tqdm

from minigen import ddim, ddpm, fftd, ivqvae, latents, training
from minigen.data import to_uint8
from minigen.diffusion import Diffusion
from minigen.errors import DataError
from minigen.files import load_weights, replacing, sha256_of
from minigen.guidance import Guided
from minigen.settings import Images


def parts(folder, total, size, key, make, progress=True):
    """Fill a folder with part-00000.safetensors …, each `make(first, last)` → {name: tensor}, for 0 … total in steps of `size`.

    key: what the parts depend on, as a dictionary; a folder of another key is refused. Parts that are there and whole are kept.
    With several processes each makes every world-size-th part. Returns: the paths, in order.
    Raises: DataError for a folder of another run.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    told, path = json.dumps(dict(key, part=size), sort_keys=True), folder / "parts.json"
    if path.exists() and path.read_text(encoding="utf-8") != told:
        before = json.loads(path.read_text(encoding="utf-8"))
        now = json.loads(told)
        k = sorted(k for k in before.keys() | now.keys() if before.get(k) != now.get(k))[0]
        raise DataError(f"'{folder}' holds parts made with {k}={before.get(k)!r}, not {now.get(k)!r}: choose another folder.")
    if training.rank() == 0:
        with replacing(path) as temporary:
            temporary.write_text(told, encoding="utf-8")
    if training.world() == 1:
        for left in folder.glob(".part-*"):               # what a killed run had begun to write
            left.unlink()
    paths = [folder / f"part-{k:05d}.safetensors" for k in range(-(-total // size))]
    with tqdm(total=total, unit="image", desc=folder.name, disable=not progress or training.rank() > 0) as bar:
        for k, path in enumerate(paths):
            first, last = k * size, min(total, (k + 1) * size)
            if k % training.world() == training.rank() and not _whole(path, last - first):
                with replacing(path) as temporary:
                    save_file({name: t.contiguous() for name, t in make(first, last).items()}, temporary)
            bar.update(last - first)
    return paths


def _whole(path, n):
    """Whether a part can be read and has n rows: the last one of a shorter run is made again."""
    try:
        with safe_open(path, "pt") as f:
            return all(f.get_slice(name).get_shape()[0] == n for name in f.keys())  # noqa: SIM118
    except (OSError, SafetensorError):
        return False


def encode(data, weights, out, batch_size=64, device=None, progress=True):
    """Latents of every image and of its mirror image, into the file `out` (and parts beside it until it is whole).

    Mirrored images are encoded, not their latents mirrored: the two differ. What is there already, of the same images by the same
    weights, is kept. Returns: the path.
    """
    device, out = training.pick_device(device), Path(out)
    model = load_weights(ivqvae.IVQVAE, Path(weights)).to(device)
    images = Images(data, model.config["size"])
    mark = latents.fingerprint(model)
    if out.exists() and (there := read_latents(out))["tokenizer"] == mark and there["data"] == images.digest:
        return out                                        # whole, of the same data by the same autoencoder

    def make(first, last):
        i = torch.arange(first, last)
        x = images(i).to(device)
        return {name: latents.encode(model, x.flip(-1) if mirrored else x, batch_size).z.cpu()
                for name, mirrored in (("z", False), ("flipped", True))}

    with training.processes(device):
        folder = out.with_suffix(".parts")
        paths = parts(folder, len(images), 512, dict(data=images.digest, tokenizer=mark), make, progress)
        if training.world() > 1:
            torch.distributed.barrier()
        if training.rank() == 0:
            loaded = [load_file(p) for p in paths]
            whole = {name: torch.cat([part[name] for part in loaded]) for name in ("z", "flipped")}
            if images.labels is not None and bool((images.labels >= 0).all()):
                whole["labels"] = images.labels.long().contiguous()
            with replacing(out) as temporary:
                save_file(whole, temporary, metadata=dict(tokenizer=mark, data=images.digest, classes=json.dumps(images.classes)))
            shutil.rmtree(folder)
    return out


def read_latents(path):
    """What `encode` wrote: z, flipped, labels (or None), tokenizer, data, classes. Raises: DataError for another file."""
    try:
        with safe_open(path, "pt") as f:
            meta, tensors = f.metadata() or {}, {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as e:
        raise DataError(f"'{path}' holds no latents ({e}): python -m minigen encode --out {path}") from None
    if not {"z", "flipped"} <= tensors.keys() or "tokenizer" not in meta:
        raise DataError(f"'{path}' is a safetensors file, but not one that `python -m minigen encode` wrote.")
    return {"labels": None} | tensors | dict(tokenizer=meta["tokenizer"], data=meta["data"], classes=json.loads(meta["classes"]))


class Sampler:
    """Faces from weights of both stages. `sampler(first, last)` → uint8 images k = first … last − 1, (n, 3, S, S).

    steps, eta, spacing: DDIM's. label: a class for all, or None. scale: guidance.
    """

    def __init__(self, weights, autoencoder, seed=0, steps=500, eta=0.0, label=None, scale=1.0, batch_size=64, device=None):
        self.device = training.pick_device(device)
        self.model, self.decoder = load_weights(fftd.FFTD, weights), load_weights(ivqvae.IVQVAE, autoencoder)
        if self.model.card.get("tokenizer") != latents.fingerprint(self.decoder):
            raise DataError(f"{Path(weights).name} was trained on latents of another autoencoder than {Path(autoencoder).name}.")
        if label is None and scale != 1:
            raise DataError(f"--scale {scale} guides towards a class: name one with --label.")
        ddim.timesteps(Diffusion().T, steps)              # a wrong number of steps is told now
        if label is not None and not self.model.num_classes:
            raise DataError("This model was trained without classes: leave --label out.")
        if label is not None and not 0 <= label < self.model.num_classes:
            raise DataError(f"--label is 0 to {self.model.num_classes - 1}; got {label}.")
        self.seed, self.steps, self.eta, self.label, self.scale, self.batch_size = seed, steps, eta, label, scale, batch_size
        self.model.to(self.device), self.decoder.to(self.device)
        self.key = dict(seed=seed, steps=steps, eta=eta, label=label, scale=scale, weights=latents.fingerprint(self.model)[:16],
                        autoencoder=latents.fingerprint(self.decoder)[:16])

    def __call__(self, first, last):
        c, grid = self.model.config["latent_channels"], self.model.config["grid"]
        dice = [training.generator_of(self.seed, "image", k) for k in range(first, last)]
        noise = ddpm.draw_like(torch.empty(last - first, c, grid, grid), dice).to(self.device)
        y = None if self.label is None else torch.full((last - first,), self.label, device=self.device)
        net = self.model if y is None else Guided(self.model, self.model.num_classes, self.scale)
        z = ddpm.last(ddim.ddim_sample(net, Diffusion(), noise, y, steps=self.steps, eta=self.eta, generator=dice,
                                       batch_size=self.batch_size))
        return to_uint8(latents.decode(self.decoder, z, self.batch_size)).cpu()


def sample(sampler, out, n, png=False, as_zip=False, progress=True):
    """Draw images 0 … n − 1 into `out`, in parts of 64; with png as files, with as_zip as one zip of PNG. Returns: seconds."""
    out, start = Path(out), time.perf_counter()
    with training.processes(sampler.device):
        paths = parts(out, n, 64, sampler.key, lambda first, last: {"images": sampler(first, last)}, progress)
        if training.world() > 1:
            torch.distributed.barrier()
        if training.rank() == 0 and (png or as_zip):
            _export(paths, out, as_zip)
    return time.perf_counter() - start


def _export(paths, out, as_zip):
    if as_zip:
        with replacing(out / "images.zip") as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for k, x in enumerate(drawn(paths)):
                with archive.open(f"{k:06d}.png", "w") as f:
                    Image.fromarray(x.movedim(0, -1).numpy()).save(f, "PNG")
        return
    for k, x in enumerate(drawn(paths)):
        with replacing(out / f"{k:06d}.png") as temporary:
            Image.fromarray(x.movedim(0, -1).numpy()).save(temporary, "PNG")


def drawn(paths):
    """Images of the parts one by one, uint8 (3, S, S); `paths` as `parts` returns them, or their folder."""
    for path in sorted(Path(paths).glob("part-*.safetensors")) if isinstance(paths, str | Path) else paths:
        yield from load_file(path)["images"]


def digest_of(paths):
    """One SHA-256 over all parts, to tell two runs' images apart."""
    return hashlib.sha256("".join(sha256_of(p) for p in sorted(paths)).encode()).hexdigest()
