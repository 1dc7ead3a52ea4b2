"""Chapter 8: the paper end to end. Stage 1 trains IVQ-VAE on images, stage 2 trains FFTD on its latents.

Source: Liu, Chen, Gao 2026, Algorithms 1 and 2, §5.
"""

import contextlib
import dataclasses
import math
from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel

from minigen import ddim, ddpm, fftd, ivqvae, latents, room
from minigen.diffusion import Diffusion
from minigen.engine import loop
from minigen.engine.images import Images
from minigen.errors import DataError
from minigen.files import load_weights, replacing, save_weights
from minigen.gan import discriminator_loss, evaluating
from minigen.perceptual import LPIPS, ToyPerceptual
from minigen.plots import image_grid, to_png


def rate_factor(config, step):
    """The learning rate's factor at a step (from 1): 1 without config.decay, else up over a tenth, down along half a cosine."""
    if not config.decay:
        return 1.0
    rise = max(1, config.steps // 10)
    return step / rise if step <= rise else 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, config.steps - rise)))


def _autocast(config, device):
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")


def _save_grid(path, images, columns=8, **titles):
    with replacing(path) as temporary:
        temporary.write_bytes(to_png(image_grid(images, columns=columns, **titles)))


def _require_trained(average):
    if not int(average.n_averaged):
        raise DataError("No step had a finite gradient, so nothing was learned and no weights are written: begin anew in another "
                        "--out with a smaller learning rate, or float32 instead of bf16.")


def _parallel(model):
    """The model as it is trained: by itself, or as DistributedDataParallel among other processes."""
    return model if loop.world() == 1 else DistributedDataParallel(model, broadcast_buffers=False)


class IVQVAETask:
    """Algorithm 1, a step at a time, for `loop.train`."""

    def __init__(self, config, device):
        torch.manual_seed(config.seed)
        self.config, self.device = config, device
        preset = ivqvae.PRESETS[config.preset]
        self.images = Images(config.data, preset["size"], verify=True)
        self.model = ivqvae.IVQVAE(**preset).to(device)
        x = torch.zeros(1, 3, preset["size"], preset["size"], device=device)
        each = sum(room.kept_for_backward(net, v) for net, v in (
            (self.model.encoder, x), (self.model.decoder, self.model.encoder(x).detach())))
        room.require_memory(config.batch_size // loop.world() // config.accumulate, each, device)
        self.judge = ivqvae.PatchDiscriminator(**(dict(width=32, layers=2) if config.preset == "small" else {})).to(device)
        if (config.perceptual == "lpips" and preset["size"] < 64) or (config.perceptual == "toy" and preset["size"] != 32):
            sizes = {"lpips": "64 pixels and more", "toy": "32 pixels"}[config.perceptual]
            raise DataError(f"--perceptual {config.perceptual} is for {sizes}; the {config.preset} preset has {preset['size']}: "
                            "choose another, or none.")
        self.perceptual = {"toy": ToyPerceptual, "lpips": LPIPS, "none": lambda: None}[config.perceptual]()
        if self.perceptual is not None:
            self.perceptual.to(device)
        fused = dict(betas=(0.5, 0.9), lr=config.lr, fused=device.type == "cuda")
        self.optimisers = {"model": torch.optim.Adam(self.model.parameters(), **fused),
                           "judge": torch.optim.Adam(self.judge.parameters(), **fused)}
        self.average = ddpm.ema(self.model, config.ema)
        if config.init_images:
            self._start_codebook()
        self.running, self.judging = _parallel(self.model), _parallel(self.judge)
        if config.compile:
            self.running = torch.compile(self.running)

    def _start_codebook(self):
        """k-means over the latents of some images."""
        codes, places, n = self.model.quantizer.num_codes, self.model.grid**2, len(self.images)
        picks = torch.randperm(n, generator=loop.generator_of(self.config.seed, "codebook"))[: self.config.init_images]
        if len(picks) * places < codes:
            raise DataError(f"A codebook of {codes} codes starts from at least {math.ceil(codes / places)} images of {places} "
                            f"vectors; --init-images {self.config.init_images} of {n} images gives {len(picks)}: take more, or "
                            "--init-images 0 for a random start.")
        with torch.no_grad():
            z = torch.cat([self.model.encode(self.images(part).to(self.device)) for part in picks.split(32)])
        self.model.quantizer.init_codebook(z)

    def state(self):
        return dict(model=self.model.state_dict(), judge=self.judge.state_dict(), average=self.average.state_dict(),
                    **{f"optimiser_{k}": o.state_dict() for k, o in self.optimisers.items()})

    def load(self, state):
        self.model.load_state_dict(state["model"]), self.judge.load_state_dict(state["judge"])
        self.average.load_state_dict(state["average"])
        for k, o in self.optimisers.items():
            o.load_state_dict(state[f"optimiser_{k}"])

    def step(self, step, indices, flips):
        c, factor, judged = self.config, rate_factor(self.config, step), step >= self.config.discriminator_start
        self.model.train(), self.judge.train()
        parts, seen, pairs = list(zip(indices.chunk(c.accumulate), flips.chunk(c.accumulate), strict=True)), {}, []
        with self.model.quantizer.one_update():           # the codebook moves once a step, not once a part
            for k, (i, f) in enumerate(parts):
                x, share = self.images(i, f).to(self.device), len(i) / len(indices)
                waiting = self.running.no_sync() if loop.world() > 1 and k < len(parts) - 1 else contextlib.nullcontext()
                with waiting:
                    with _autocast(c, self.device):
                        x_hat, quantized = self.running(x)
                        self.judge.requires_grad_(False)
                        losses = ivqvae.mixed_loss(x, x_hat.float(), quantized.loss, self.perceptual,
                                                   self.judge if judged else None, c.lambda_d, 1 - c.lambda_d)
                    (share * losses.total).backward()
                for name, value in losses._asdict().items():
                    seen[name] = seen.get(name, 0) + share * value.detach()
                pairs.append((x, x_hat.detach().float(), share))
        skipped = not loop.step_if_finite(self.optimisers["model"], clip=10.0, scale=factor)
        self.judge.requires_grad_(True)
        if judged and not skipped:
            for x, x_hat, share in pairs:
                with _autocast(c, self.device):
                    d_loss = discriminator_loss(self.judging(x).float(), self.judging(x_hat).float(), "hinge")
                (share * d_loss).backward()
                seen["discriminator"] = seen.get("discriminator", 0) + share * d_loss.detach()
            seen["judge_skipped"] = torch.tensor(float(not loop.step_if_finite(self.optimisers["judge"], 10.0, factor)))
        for name in ("discriminator", "judge_skipped"):
            seen.setdefault(name, torch.zeros(()))
        for optimiser in self.optimisers.values():
            optimiser.zero_grad()
        if not skipped:
            self.average.update_parameters(self.model)
            self.average.module.quantizer.load_state_dict(self.model.quantizer.state_dict())   # the codebook in use, not its mean
        return seen | dict(skipped=skipped)

    def sample(self, path):
        x = self.images(torch.arange(min(8, len(self.images))))
        with evaluating(self.average.module) as model:
            x_hat = model.decode_indices(model.encode_indices(x.to(self.device))).cpu()
        _save_grid(path, torch.cat([x, x_hat]), len(x), row_titles=["real", "tokens"])

    def export(self, path, steps):
        """The averaged weights after `steps` steps, with the latents' statistics over (at most 20,000) training images."""
        _require_trained(self.average)
        with evaluating(self.average.module) as model:
            some = torch.randperm(len(self.images), generator=loop.generator_of(self.config.seed, "statistics"))[:20_000]
            z = torch.cat([model.quantizer.embed(model.encode_indices(self.images(p).to(self.device))) for p in some.split(64)])
            per_channel = z.movedim(1, 0).flatten(1)
            model.latent_mean.copy_(per_channel.mean(1)), model.latent_std.copy_(per_channel.std(1).clamp_min(1e-6))
        save_weights(path, self.average.module, data=self.images.digest, steps=steps, seed=self.config.seed)


class FFTDTask:
    """Algorithm 2, a step at a time, for `loop.train`; the latents lie on the device, mirrored ones beside them."""

    def __init__(self, config, device, stored):
        torch.manual_seed(config.seed)
        self.config, self.device, self.stored = config, device, stored
        preset = fftd.PRESETS[config.preset] | dict(fusion=config.fusion, levels=config.levels, dropout=config.dropout)
        self.z = torch.stack([stored["z"], stored["flipped"]]).to(device)
        self.y = None if stored["labels"] is None or not config.labels else stored["labels"].to(device)
        self.null = 0 if self.y is None else len(stored["classes"])
        preset.update(latent_channels=self.z.shape[2], grid=self.z.shape[3], num_classes=self.null)
        try:
            self.model, self.diffusion = fftd.FFTD(**preset).to(device), Diffusion()
        except ValueError as e:                           # these latents do not allow so many levels, say
            raise DataError(f"FFTD cannot be built for '{config.latents}': {e}.") from None
        each = room.kept_for_backward(self.model, self.z[0, :1], torch.zeros(1, dtype=torch.long, device=device))
        room.require_memory(config.batch_size // loop.world(), each, device)
        self.optimiser = torch.optim.Adam(self.model.parameters(), config.lr, fused=device.type == "cuda")
        self.average = ddpm.ema(self.model, config.ema)
        self.running = _parallel(self.model)
        if config.compile:
            self.running = torch.compile(self.running, mode="reduce-overhead" if device.type == "cuda" else "default")

    def state(self):
        return dict(model=self.model.state_dict(), average=self.average.state_dict(), optimiser=self.optimiser.state_dict())

    def load(self, state):
        self.model.load_state_dict(state["model"]), self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])

    def step(self, step, indices, flips):
        c, dice = self.config, loop.generator_of(self.config.seed, "noise", step)
        t = loop.mine(torch.randint(self.diffusion.T, (c.batch_size,), generator=dice)).to(self.device)
        eps = loop.mine(torch.randn(c.batch_size, *self.z.shape[2:], generator=dice)).to(self.device)
        dropped = loop.mine(torch.rand(c.batch_size, generator=dice)).to(self.device) < c.drop_label
        indices, flips = indices.to(self.device), flips.to(self.device)
        y = () if self.y is None else (torch.where(dropped, self.null, self.y[indices]),)
        self.model.train()
        with _autocast(c, self.device):
            loss = ddpm.simple_loss(self.running, self.diffusion, self.z[flips.long(), indices], t, eps, *y)
        self.optimiser.zero_grad()
        loss.backward()
        skipped = not loop.step_if_finite(self.optimiser, scale=rate_factor(c, step))
        if not skipped:
            self.average.update_parameters(self.model)
        return dict(loss=loss.detach(), skipped=skipped)

    def sample(self, path):
        noise = torch.randn(16, *self.z.shape[2:], generator=loop.generator_of(self.config.seed, "grid")).to(self.device)
        z = ddpm.last(ddim.ddim_sample(self.average.module, self.diffusion, noise, steps=50))
        _save_grid(path, latents.decode(self.stored["autoencoder"].to(self.device), z, 16).cpu())

    def export(self, path, steps):
        """The averaged weights after `steps` steps."""
        _require_trained(self.average)
        save_weights(path, self.average.module, tokenizer=self.stored["tokenizer"], classes=self.stored["classes"],
                     steps=steps, seed=self.config.seed)


def _export(task, path, steps, before):
    """The weights, unless a file has come to their place since the training began."""
    if path.exists() and not before:
        raise DataError(f"'{path}' has appeared meanwhile and was left as it is: move it away and go on with --resume.")
    task.export(path, steps)


def train_ivqvae(config, resume=False, progress=True):
    """Stage 1. Writes config.json, losses.csv, sample grids, checkpoints, and at the end ivqvae.safetensors. Returns its path."""
    device = loop.pick_device(config.device)
    with loop.processes(device):
        task = IVQVAETask(config, device)
        told = dataclasses.asdict(config) | dict(data_digest=task.images.digest)       # the same path may hold other data
        before = (Path(config.out) / "ivqvae.safetensors").exists()
        last = loop.train(task, config.out, kind="ivqvae", config=told, n=len(task.images), resume=resume, progress=progress)
        path = Path(config.out) / "ivqvae.safetensors"
        if loop.rank() == 0:
            _export(task, path, last, before)
        del task                                          # DistributedDataParallel must be gone before the processes part
    return path


def train_fftd(config, autoencoder, resume=False, progress=True):
    """Stage 2, on latents that `encode` made with the weights `autoencoder`. Returns the path of fftd.safetensors."""
    from minigen.engine.drawing import read_latents

    device = loop.pick_device(config.device)
    with loop.processes(device):
        model = load_weights(ivqvae.IVQVAE, Path(autoencoder))
        stored = read_latents(config.latents)
        if stored["tokenizer"] != latents.fingerprint(model):
            raise DataError(f"'{config.latents}' was made with another autoencoder than '{autoencoder}': encode again.")
        if stored["z"].shape[1:] != (model.config["code_dim"], model.grid, model.grid):
            raise DataError(f"'{config.latents}' holds latents of shape {tuple(stored['z'].shape[1:])}, which '{autoencoder}' "
                            "does not make: encode again.")
        task = FFTDTask(config, device, stored | dict(autoencoder=model))
        told = dataclasses.asdict(config) | dict(tokenizer=stored["tokenizer"], data_digest=stored["data"])
        before = (Path(config.out) / "fftd.safetensors").exists()
        last = loop.train(task, config.out, kind="fftd", config=told, n=task.z.shape[1], resume=resume, progress=progress)
        path = Path(config.out) / "fftd.safetensors"
        if loop.rank() == 0:
            _export(task, path, last, before)
        del task
    return path
