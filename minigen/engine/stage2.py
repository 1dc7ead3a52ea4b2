"""Chapter 8: stage 2 of the paper, FFTD trained on the latents of stage 1.

Source: Liu, Chen, Gao 2026, Algorithm 2, §5.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minigen import ddim, ddpm, fftd, latents, room
from minigen.engine import presets, stages
from minigen.engine.encoding import read_latents
from minigen.engine.loop import generator_of, step_if_finite
from minigen.engine.processes import mine, pick_device, processes, world
from minigen.engine.settings import Stage2
from minigen.errors import DataError
from minigen.files import load_weights, save_weights
from minigen.ivqvae import IVQVAE


class FFTDTask:
    """Algorithm 2, a step at a time, for `loop.train`.

    1. IVQ-VAE is frozen, 2. z_q = Quantize(E(x), Z) of every image         encoding
    3. initialise θ of FFTD at random                                       __init__
    4. for every batch: t, z_t, ε_θ, the loss, a gradient step on θ         step

    stored: what `read_latents` gives, and their autoencoder. The latents lie on the device, those
    of the mirrored images beside them.
    """

    def __init__(self, config: Stage2, device: torch.device, stored: dict[str, Any]) -> None:
        torch.manual_seed(config.seed)
        self.config, self.device = config, device
        self.stored = stored
        self.z = torch.stack([stored["z"], stored["flipped"]]).to(device)   # (2, N, C, grid, grid)
        labelled = stored["labels"] is not None and config.labels
        self.y = stored["labels"].to(device) if labelled else None
        self.null = len(stored["classes"]) if labelled else 0
        options = dict(fusion=config.fusion, levels=config.levels, dropout=config.dropout,
                       prediction=config.prediction, schedule=config.schedule)
        shape = dict(latent_channels=self.z.shape[2], grid=self.z.shape[3], num_classes=self.null)
        try:
            arguments = presets.network("FFTD", config.preset) | options | shape
            self.model = fftd.FFTD(**arguments).to(device)
            self.diffusion = ddpm.diffusion_of(self.model)
        except ValueError as e:                   # these latents do not allow so many levels, say
            raise DataError(f"FFTD cannot be built for '{config.latents}': {e}.") from None
        t = torch.zeros(1, dtype=torch.long, device=device)
        with stages.autocast(config, device):
            each = room.kept_for_backward(self.model, self.z[0, :1], t)
        fixed = 5 * room.bytes_of(self.model)
        self.memory = room.require_memory(config.batch_size // world(), each, device, fixed)
        cuda = device.type == "cuda"
        self.optimiser = torch.optim.Adam(self.model.parameters(), config.lr,
                                          fused=stages.fused(device))
        self.moments = 2 * room.bytes_of(list(self.model.parameters()))
        self.average = ddpm.ema(self.model, config.ema)
        self.scaler = stages.loss_scaler(config, device)
        self.running_model: Any = stages.parallel(self.model)
        if config.compile:
            mode = "reduce-overhead" if cuda else "default"
            self.running_model = torch.compile(self.running_model, mode=mode)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return dict(model=self.model.state_dict(), average=self.average.state_dict(),
                    optimiser=self.optimiser.state_dict(), scale=self.scaler.state_dict())

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scale"])

    def step(self, step: int, indices: Tensor, flips: Tensor) -> dict[str, Any]:
        """Algorithm 2, part 4: one batch. Returns: the loss.

        indices, flips: (B,), which images, and which of them mirrored.
        """
        c, shape = self.config, self.z.shape[2:]
        generator = generator_of(c.seed, "noise", step)
        # t ~ Uniform (counted from 0), ε ~ N(0, 1), which labels are left out: every process draws
        # for the whole batch and takes its own
        t = torch.randint(self.diffusion.T, (c.batch_size,), generator=generator)
        eps = torch.randn(c.batch_size, *shape, generator=generator)
        dropped = torch.rand(c.batch_size, generator=generator) < c.drop_label
        t, eps, dropped = (mine(x).to(self.device) for x in (t, eps, dropped))
        indices, flips = indices.to(self.device), flips.to(self.device)
        z_0 = self.z[flips.long(), indices]                                 # (B, C, grid, grid)
        y = None if self.y is None else torch.where(dropped, self.null, self.y[indices])
        self.model.train()
        with stages.autocast(c, self.device):
            # noise z_t = √ᾱ_t z_0 + √(1 − ᾱ_t) ε (Eq. 28), denoise ε_θ = FFTD(z_t, t, y),
            # loss ‖ε − ε_θ‖² (Eq. 27); for --prediction v or x0 the same of v, x_0
            loss = ddpm.simple_loss(self.running_model, self.diffusion, z_0, t, eps, y)
        # gradient step on θ
        self.optimiser.zero_grad()
        self.scaler.scale(loss).backward()
        rate = stages.rate_factor(c, step)
        stepped = step_if_finite(self.optimiser, scale=rate, scaler=self.scaler)
        if stepped:
            self.average.update_parameters(self.model)
        return dict(loss=loss.detach(), skipped=not stepped)

    def sample(self, path: Path) -> None:
        """Sixteen images of the averaged model, in 50 steps."""
        generator = generator_of(self.config.seed, "grid")
        noise = torch.randn(16, *self.z.shape[2:], generator=generator).to(self.device)
        z = ddpm.last(ddim.ddim_sample(self.average.module, self.diffusion, noise, steps=50))
        autoencoder = self.stored["autoencoder"].to(self.device)
        stages.save_grid(path, latents.decode(autoencoder, z, 16).cpu())

    def export(self, path: Path, steps: int) -> None:
        """The averaged weights after `steps` steps."""
        stages.require_trained(self.average)
        tokenizer, classes = self.stored["tokenizer"], self.stored["classes"]
        save_weights(path, self.average.module, tokenizer=tokenizer, classes=classes, steps=steps,
                     seed=self.config.seed)


def train_stage2(
    config: Stage2, autoencoder: Path | str, resume: bool = False, progress: bool = True,
    begin: Callable[[], object] | None = None,
) -> Path:
    """Stage 2: train FFTD on latents that `encode_images` made with the weights `autoencoder`.

    Writes what stage 1 writes; returns the path of fftd.safetensors. begin: as stage 1's.
    Raises: DataError where the latents are of another autoencoder.
    """
    device = pick_device(config.device)
    with processes(device):
        model = load_weights(IVQVAE, Path(autoencoder))
        stored = read_latents(config.latents)
        shape, wanted = stored["z"].shape[1:], (model.config["code_dim"], model.grid, model.grid)
        if stored["tokenizer"] != latents.fingerprint(model):
            raise DataError(f"'{config.latents}' was made with another autoencoder than "
                            f"'{autoencoder}': encode again.")
        if shape != wanted:
            raise DataError(f"'{config.latents}' holds latents of shape {tuple(shape)}, which "
                            f"'{autoencoder}' does not make: encode again.")
        task = FFTDTask(config, device, stored | dict(autoencoder=model))
        path = stages.run(task, "fftd", config, len(stored["z"]), resume, progress,
                          begin, tokenizer=stored["tokenizer"], data_digest=stored["data"])
        del task                  # DistributedDataParallel must be gone before the processes part
    return path
