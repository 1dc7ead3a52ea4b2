"""Chapter 8: stage 1 of the paper, IVQ-VAE trained on images.

Source: Liu, Chen, Gao 2026, Algorithm 1, §5.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from minigen import ddpm, ivqvae, room
from minigen.common import evaluating
from minigen.engine import codebook, presets, stages
from minigen.engine.images import Images
from minigen.engine.loop import generator_of, step_if_finite
from minigen.engine.processes import pick_device, processes, world
from minigen.engine.settings import Stage1
from minigen.errors import DataError
from minigen.files import save_weights
from minigen.gan import discriminator_loss
from minigen.perceptual import LPIPS, ToyPerceptual

CLIP = 10.0                                       # of the gradient's length


class IVQVAETask:
    """Algorithm 1, a step at a time, for `loop.train`.

    1. initialise φ, ψ of the encoder and decoder, and the codebook Z       __init__
    2. for every batch x: encode, quantise, decode, L_total; a gradient
       step on {φ, ψ, Z}; after 250k steps, one on the discriminator's θ_d  step
    3. E, G and Z as they are now, for stage 2                              export
    """

    def __init__(self, config: Stage1, device: torch.device) -> None:
        torch.manual_seed(config.seed)
        self.config, self.device = config, device
        arguments = presets.network("IVQVAE", config.preset)
        arguments["size"] = config.size or arguments["size"]
        self.images = Images(config.data, arguments["size"], verify=True)
        try:
            self.model = codebook.autoencoder(arguments, config.batch_size).to(device)
        except ValueError as e:                   # a size that the compression does not divide
            raise DataError(f"--size {config.size} does not suit {config.preset}: {e}.") from None
        self.vectors = config.batch_size * self.model.grid**2              # to quantise, a step
        judge = presets.network("PatchDiscriminator", config.preset)
        self.discriminator = ivqvae.PatchDiscriminator(**judge).to(device)
        self.perceptual = _perceptual(config, arguments["size"], device)
        self.memory = self._require_memory(arguments["size"])
        adam: dict[str, Any] = dict(betas=(0.5, 0.9), lr=config.lr, fused=stages.fused(device))
        self.optimiser = torch.optim.Adam(self.model.parameters(), **adam)
        self.discriminator_optimiser = torch.optim.Adam(self.discriminator.parameters(), **adam)
        self.moments = 2 * sum(room.bytes_of(list(net.parameters()))
                               for net in (self.model, self.discriminator))
        self.average = ddpm.ema(self.model, config.ema)
        if config.init_images:
            codebook.start(self.model, self.images, config.init_images, config.seed, self.vectors)
        self.scalers = [stages.loss_scaler(config, device) for _ in range(2)]
        self.running_model: Any = stages.parallel(self.model)
        self.running_discriminator = stages.parallel(self.discriminator)
        if config.compile:
            self.running_model = torch.compile(self.running_model)

    def _require_memory(self, size: int) -> float:
        """Bytes that a step needs at least, if there are so many."""
        x = torch.zeros(1, 3, size, size, device=self.device)
        z = self.model.encoder(x).detach()
        with stages.autocast(self.config, self.device):
            each = (room.kept_for_backward(self.model.encoder, x)
                    + room.kept_for_backward(self.model.decoder, z))
        at_once = self.config.batch_size // world() // self.config.accumulate
        networks = [(self.model, 5), (self.discriminator, 4), (self.perceptual, 1)]
        fixed = sum(times * room.bytes_of(net) for net, times in networks if net is not None)
        return room.require_memory(at_once, each, self.device, fixed)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds; in there the discriminator is called judge."""
        state = dict(
            model=self.model.state_dict(), judge=self.discriminator.state_dict(),
            average=self.average.state_dict(), optimiser_model=self.optimiser.state_dict(),
            optimiser_judge=self.discriminator_optimiser.state_dict(), clock=self.codes.clock())
        return state | dict(scales=[s.state_dict() for s in self.scalers])

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.model.load_state_dict(state["model"])
        self.discriminator.load_state_dict(state["judge"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser_model"])
        self.discriminator_optimiser.load_state_dict(state["optimiser_judge"])
        self.codes.set_clock(state["clock"])
        for scaler, its in zip(self.scalers, state["scales"], strict=True):
            scaler.load_state_dict(its)

    def step(self, step: int, indices: Tensor, flips: Tensor) -> dict[str, Any]:
        """Algorithm 1, part 2: one batch. Returns: the losses.

        indices, flips: (B,), which images, and which of them mirrored.
        """
        self.model.train()
        self.discriminator.train()
        rate = stages.rate_factor(self.config, step)
        started = step >= self.config.discriminator_start     # the paper: after 250k steps
        # x ~ D, as parts of shape (B / accumulate, 3, S, S)
        n = self.config.accumulate
        chunks = zip(indices.chunk(n), flips.chunk(n), strict=True)
        parts = [self.images(i, f).to(self.device) for i, f in chunks]
        losses, x_hats = self._autoencoder_step(parts, started, rate)
        losses |= self.codes.used()
        losses |= dict(discriminator=torch.zeros(()), judge_skipped=torch.zeros(()))
        if started and not losses["skipped"]:
            losses |= self._discriminator_step(parts, x_hats, rate)
        self.optimiser.zero_grad()
        self.discriminator_optimiser.zero_grad()
        if not losses["skipped"]:
            self.average.update_parameters(self.model)
            # the codebook in use, not its mean
            self._averaged().quantizer.load_state_dict(self.model.quantizer.state_dict())
        return losses

    def _autoencoder_step(
        self, parts: list[Tensor], started: bool, rate: float
    ) -> tuple[dict[str, Any], list[Tensor]]:
        """{φ, ψ, Z} go down the gradient of L_total. Returns: the losses, and x̂ of every part."""
        c, share, scaler = self.config, 1 / len(parts), self.scalers[0]
        seen: list[list[Tensor]] = []
        x_hats: list[Tensor] = []
        self.discriminator.requires_grad_(False)          # it is asked here, not taught
        with self.model.quantizer.one_update():           # Z moves once a step, not once a part
            for k, x in enumerate(parts):
                with self._exchange(last=k == len(parts) - 1):
                    with stages.autocast(c, self.device):
                        # encode z = E(x), quantise z_q = Quantize(z, Z), decode x̂ = G(z_q)
                        x_hat, quantized = self.running_model(x)
                        # L_total = L_rec + L_P + λ_d L_G + λ_vq L_vq
                        losses = ivqvae.mixed_loss(
                            x, x_hat.float(), quantized.loss, self.perceptual,
                            self.discriminator if started else None, c.lambda_d, 1 - c.lambda_d)
                    scaler.scale(share * losses.total).backward()
                seen.append([value.detach() for value in losses])
                x_hats.append(x_hat.detach().float())
        # gradient step on {φ, ψ, Z}
        stepped = step_if_finite(self.optimiser, CLIP, rate, scaler)
        self.discriminator.requires_grad_(True)
        means = [sum(share * value for value in values) for values in zip(*seen, strict=True)]
        named = dict(zip(ivqvae.Losses._fields, means, strict=True))
        return named | dict(skipped=not stepped), x_hats

    def _exchange(self, last: bool) -> contextlib.AbstractContextManager:
        """Several processes exchange their gradients once a step: with the last part."""
        wait = world() > 1 and not last
        return self.running_model.no_sync() if wait else contextlib.nullcontext()

    def _discriminator_step(
        self, parts: list[Tensor], x_hats: list[Tensor], rate: float
    ) -> dict[str, Tensor]:
        """θ_d goes down the gradient of L_d, Eq. 14. Returns: the loss, and whether it stood."""
        share, total = 1 / len(parts), torch.zeros((), device=self.device)
        scaler = self.scalers[1]
        for x, x_hat in zip(parts, x_hats, strict=True):
            with stages.autocast(self.config, self.device):
                real, fake = self.running_discriminator(x), self.running_discriminator(x_hat)
                loss = discriminator_loss(real.float(), fake.float(), "hinge")
            scaler.scale(share * loss).backward()
            total += share * loss.detach()
        stepped = step_if_finite(self.discriminator_optimiser, CLIP, rate, scaler)
        return dict(discriminator=total, judge_skipped=torch.tensor(float(not stepped)))

    @property
    def codes(self) -> codebook.CountingQuantizer:
        """The codebook that is trained."""
        return cast(codebook.CountingQuantizer, self.model.quantizer)

    def _averaged(self) -> ivqvae.IVQVAE:
        return cast(ivqvae.IVQVAE, self.average.module)

    def sample(self, path: Path) -> None:
        """Some images, and below them what sixteen tokens leave of them."""
        x = self.images(torch.arange(min(8, len(self.images))))
        with evaluating(self._averaged()) as model:
            x_hat = model.decode_indices(model.encode_indices(x.to(self.device))).cpu()
        stages.save_grid(path, torch.cat([x, x_hat]), len(x), row_titles=["real", "tokens"])

    def export(self, path: Path, steps: int) -> None:
        """Algorithm 1, part 3: E, G and Z, averaged over the steps.

        With them the latents' statistics over (at most 20,000) training images, for stage 2.
        """
        stages.require_trained(self.average)
        generator = generator_of(self.config.seed, "statistics")
        chosen = torch.randperm(len(self.images), generator=generator)[:20_000]
        batches = (self.images(part).to(self.device) for part in chosen.split(64))
        with evaluating(self._averaged()) as model:
            z_q = torch.cat([model.quantizer.embed(model.encode_indices(x)) for x in batches])
            per_channel = z_q.movedim(1, 0).flatten(1)                      # (C, N · grid²)
            model.latent_mean.copy_(per_channel.mean(1))
            model.latent_std.copy_(per_channel.std(1).clamp_min(1e-6))
        data, seed = self.images.digest, self.config.seed
        save_weights(path, self._averaged(), data=data, steps=steps, seed=seed)


def _perceptual(config: Stage1, size: int, device: torch.device) -> nn.Module | None:
    """The network of L_P. Raises: DataError for one that does not suit images of this size."""
    kind = config.perceptual
    if (kind == "lpips" and size < 64) or (kind == "toy" and size != 32):
        sizes = {"lpips": "64 pixels and more", "toy": "32 pixels"}[kind]
        raise DataError(f"--perceptual {kind} is for {sizes}; these images have {size}: choose "
                        "another, or none.")
    if kind == "none":
        return None
    return {"toy": ToyPerceptual, "lpips": LPIPS}[kind]().to(device)


def train_stage1(
    config: Stage1, resume: bool = False, progress: bool = True,
    begin: Callable[[], object] | None = None,
) -> Path:
    """Stage 1: train IVQ-VAE on images.

    Writes config.json, losses.csv, sample grids, checkpoints, and at the end ivqvae.safetensors,
    whose path is returned. begin: called once, when all is checked and the training begins.
    """
    device = pick_device(config.device)
    with processes(device):
        task = IVQVAETask(config, device)
        n, digest = len(task.images), task.images.digest
        path = stages.run(task, "ivqvae", config, n, resume, progress, begin,
                          data_digest=digest)
        del task                  # DistributedDataParallel must be gone before the processes part
    return path
