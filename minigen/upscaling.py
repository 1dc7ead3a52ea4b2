"""Excursion 3: a small picture made large by diffusion, and a cascade of such steps.

What is drawn is the detail that bicubic interpolation lacks, as in SRDiff; the network is shown the
enlarged picture beside it, as in SR3.
Sources: Saharia et al. 2021 (SR3); Li et al. 2022 (SRDiff); Ho et al. 2022 (cascaded diffusion).
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from minigen import ddim
from minigen.common import Batches
from minigen.common import generator as seeded
from minigen.ddpm import Denoiser, ask, diffusion_of, last, prediction_of, schedule_of
from minigen.inputs import images, labels, number, refuse, tensor, whole
from minigen.measurements import shrink
from minigen.unet import UNet

DETAIL = 0.2                        # about the deviation of what is missing, which makes it 1
OTHER = 1000                        # between the seeds of the two noises, which must not be equal


def larger(x: Tensor, size: int) -> Tensor:
    """Bicubic interpolation to size × size: the old way, which invents nothing.

    Shapes: (N, C, s, s) → (N, C, size, size), in [-1, 1].
    Raises: ValueError for a picture that is not square, or larger already.
    """
    images(x, ("N", "C", "H", "W"), "the picture")
    if x.shape[2] != x.shape[3]:
        refuse("the picture", "square", tuple(x.shape))
    whole(size, "size", x.shape[2])
    grown = F.interpolate(x, (size, size), mode="bicubic", align_corners=False)
    return grown.clamp(-1, 1)


class PictureUNet(UNet):
    """A U-Net that is shown a picture beside the noisy image, in `shown` channels more.

    Shapes: x (B, channels, size, size), t (B,) or (1,), y (B, shown, size, size) → as x.
    Source: Saharia et al. 2021, §2.4. Raises: ValueError where it is shown none.
    """
    card: dict  # what load_weights finds beside the weights

    def __init__(self, shown: int = 4, **unet):
        if unet.get("num_classes"):
            refuse("num_classes", "left out: this network is told by a picture", "classes")
        super().__init__(**unet)
        self.config["shown"] = whole(shown, "shown")
        channels, width = self.config["channels"], self.config["width"]
        self.first = nn.Conv2d(channels + shown, width, 3, 1, 1)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        size, channels = self.config["size"], self.config["channels"]
        tensor(x, "x", ("B", channels, size, size), like=self.first.weight)
        if y is None:
            raise ValueError("which picture? Pass y, the pictures that the images belong to "
                             "(minigen.upscaling.Beside keeps them for a sampler)")
        tensor(y, "y", (len(x), self.config["shown"], size, size), like=self.first.weight)
        return self.through(self.first(torch.cat([x, y], 1)), self.condition(t, None, len(x)))


class Beside(nn.Module):
    """A network with the pictures it is shown, for a sampler: image k's label y is its picture's.

    Shapes: pictures (M, shown, size, size); y (B,) integers 0 … M − 1; else as the model's.
    """

    pictures: Tensor

    def __init__(self, model: Denoiser, pictures: Tensor):
        super().__init__()
        self.model = model
        self.prediction, self.schedule = prediction_of(model), schedule_of(model)
        tensor(pictures, "pictures", ("M", "C", "H", "W"))
        self.register_buffer("pictures", pictures, persistent=False)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        if y is None:
            raise ValueError("which picture? Pass y, the number of each image's picture")
        return ask(self.model, x, t, self.pictures[labels(y, len(x), len(self.pictures))])


def noisy_condition(small: Tensor, size: int, level: float | Tensor = 0.0,
                    generator: Generator | None = None) -> Tensor:
    """What the network is shown: the small picture enlarged, then noised; the level beside it.

    √(1 − s²) x + s ε, and s itself as a fourth channel, s in [0, 1). A model made this way learns
    not to trust the fine detail of what it is shown, and so survives another model's mistakes.
    Shapes: small (N, 3, h, w), level s a number or (N,) → (N, 4, size, size).
    Source: Ho et al. 2022 (conditioning augmentation); Saharia et al. 2022 (Imagen).
    """
    x = larger(images(small, name="the small picture"), size)
    s = torch.as_tensor(level, dtype=x.dtype, device=x.device)
    if s.shape not in ((), (len(x),)) or not bool(((s >= 0) & (s < 1)).all()):
        raise ValueError(f"level is a number from 0 to below 1, or {len(x)} of them")
    s = s.expand(len(x)).view(-1, 1, 1, 1)
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
    noised = (1 - s.square()).sqrt() * x + s * noise
    return torch.cat([noised, s.expand_as(x[:, :1])], 1)


def enlarging_batches(data: Batches, factor: int, most: float = 0.0,
                      seed: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """From batches (x,) of large pictures: (the detail to draw, what the network is shown).

    detail = (x − enlarged) / 0.2, with x shrunk and enlarged; what is shown is that, noised.
    most: levels of noise are drawn evenly from 0 to it. seed: may be that of `train_ddpm`; this
    noise is of another stream than the noise that is to be predicted.
    Shapes: (B, 3, S, S), (B, 4, S, S).
    """
    number(most, "most", 0, 0.99)
    generator = seeded(seed + OTHER)
    for x, *_ in data:
        small = shrink(factor).forward(images(x))
        level = most * torch.rand(len(x), generator=generator)
        detail = (x - larger(small, x.shape[-1])) / DETAIL
        yield detail, noisy_condition(small, x.shape[-1], level, generator)


def enlarge(model: PictureUNet, small: Tensor, *, level: float = 0.0, steps: int = 20,
            eta: float = 0.0, seed: int = 0, batch_size: int = 128) -> Tensor:
    """One of the large pictures that a small one can have been, by DDIM.

    level: of noise put on the small picture first; 0 trusts it, more lets the model mend it.
    Shapes: small (N, 3, h, w) → (N, 3, size, size), the model's size. Source: SR3, Algorithm 2.
    Raises: ValueError for a small picture whose size does not divide the model's, and, where the
        model's card tells what it was trained for, for another factor or more noise.
    """
    size, card = model.config["size"], getattr(model, "card", {})
    images(small, name="the small picture")
    if size % small.shape[2] or size % small.shape[3]:
        refuse("the small picture", f"of a size that divides {size}", tuple(small.shape))
    factor, most = card.get("factor", size // small.shape[2]), card.get("most_noise", 1)
    if size // small.shape[2] != factor:
        refuse("the small picture", f"of {size // factor}×{size // factor} pixels, as in this "
               "model's training", tuple(small.shape))
    if isinstance(level, float | int) and level > most:
        refuse("level", f"at most {most}, as in this model's training", level)
    generator = seeded(seed)
    xT = torch.randn(len(small), 3, size, size, generator=generator)
    shown = noisy_condition(small, size, level, generator)
    rows = torch.arange(len(small))
    sampler = ddim.ddim_sample(Beside(model, shown), diffusion_of(model), xT.to(shown), rows,
                               steps=steps, eta=eta, generator=generator, batch_size=batch_size)
    return (larger(small, size) + DETAIL * last(sampler)).clamp(-1, 1)
