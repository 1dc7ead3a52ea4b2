"""Other libraries' U-Nets beside the course's families in `bench --quality`, where installed.

As many parameters as `unet.PRESETS["small"]` within 2 %, from 16 channels at 32×32 on. They stop at
4×4, ours at 2×2, so the same parameters stand at larger maps: 1.6 and 2.1 times our 71 M
multiply-adds an image, and more by the clock, since lucidrains' Unet attends at every size. All
else is alike: images, forward process, v, one loss, running average, solver, one thread, batches of
16 (halved where under 300 steps fit). Each is trained at two rates, a row each.

The course's own row, "U-Net on pixels", has a second loss, from layers of the network that
measures. The row without it is what can be compared with the others.
"""

import functools
import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from minigen import ddpm, unet
from minigen.data import batches
from minigen.paper.families import Clock, Sampler, decay_of, denoised

RATES = (1e-3, 3e-4)
OURS = "U-Net on pixels, first loss alone"


class Peer(nn.Module):
    """A network of another library, asked as ours is: (x, t) → v. Shapes: (B, 3, 32, 32)."""
    prediction, schedule = "v", "cosine"

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        out: Any = self.net(x, t.expand(len(x)))
        return out if isinstance(out, Tensor) else out.sample


def diffusers_unet() -> Any:
    """diffusers' UNet2DModel of 2.10 M parameters, 116 M multiply-adds an image."""
    from diffusers import UNet2DModel

    kinds = ("DownBlock2D", "DownBlock2D", "AttnDownBlock2D", "DownBlock2D")
    return UNet2DModel(
        sample_size=32, in_channels=3, out_channels=3, layers_per_block=1, norm_num_groups=8,
        block_out_channels=(16, 32, 64, 112), attention_head_dim=8, down_block_types=kinds,
        up_block_types=tuple(kind.replace("Down", "Up") for kind in reversed(kinds)))


def lucidrains_unet() -> nn.Module:
    """denoising-diffusion-pytorch's Unet of 2.09 M parameters, 153 M multiply-adds."""
    from denoising_diffusion_pytorch import Unet

    return Unet(dim=16, dim_mults=(1, 2, 4, 7), flash_attn=False)


def _ours() -> nn.Module:
    return unet.UNet(**unet.PRESETS["small"], prediction="v", schedule="cosine")


def _trained(
    images: Tensor, clock: Clock, seed: int, make: Callable[[], nn.Module], lr: float, name: str
) -> Sampler:
    def begin(steps, batch):
        torch.manual_seed(seed)
        model = Peer(make())
        average = ddpm.ema(model, decay_of("unet", steps))
        data = batches(images, batch_size=batch, seed=seed)
        return average.module, ddpm.train_ddpm(
            model, data, ddpm.diffusion_of(model), steps=steps, lr=lr, average=average, seed=seed)

    model = clock.train(name, begin, 16, clock.left)
    return lambda n: denoised(model, (3, 32, 32), n, seed, clip=(-1, 1)).clamp(-1, 1)


def installed() -> dict[str, Callable[[Tensor, Clock, int], Sampler]]:
    """What can be trained here, by name: the course's U-Net without its second loss, and others.

    A library that is there and cannot be imported is told now, not after hours.
    """
    found: dict[str, Callable[[Tensor, Clock, int], Sampler]] = {
        OURS: functools.partial(_trained, make=_ours, lr=1e-3, name="U-Net")}
    for module, name, make in (("diffusers", "diffusers UNet2DModel", diffusers_unet),
                               ("denoising_diffusion_pytorch", "denoising-diffusion-pytorch Unet",
                                lucidrains_unet)):
        if importlib.util.find_spec(module):
            importlib.import_module(module)
            for lr in RATES:
                found[f"{name}, {lr:g}"] = functools.partial(
                    _trained, make=make, lr=lr, name=name)
    return found
