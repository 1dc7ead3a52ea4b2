"""Chapter 1: generative adversarial networks. Losses from logits, DCGAN, labels, a training loop.

Sources: Goodfellow et al. 2014 (the game), Radford et al. 2015 (DCGAN), Mirza & Osindero 2014
(conditional), Salimans et al. 2016 (feature matching, minibatch discrimination, label smoothing),
Lim & Ye 2017 (hinge), Mescheder et al. 2018 (R1 penalty).
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigen.common import Batches, as_tensor, counted, evaluating, filled, stages_of, with_label
from minigen.common import generator as seeded
from minigen.inputs import alike, described, images, in_range, labels, number, tensor, wholes

LOSSES = ("minimax", "nonsaturating", "hinge")


def _checked(kind: str, *logits: Tensor) -> str:
    if kind not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}; got '{kind}'")
    for x in logits:
        filled(tensor(x, "logits"), "logits")
    return kind


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor, kind: str = "nonsaturating",
                       smooth: float = 0.0) -> Tensor:
    """The discriminator's loss, to be minimised; D = sigmoid(logit).

    minimax, nonsaturating:  −E[log D(x)] − E[log(1 − D(G(z)))] = E[softplus(−r)] + E[softplus(f)]
    hinge:                   ½ (E[max(0, 1 − r)] + E[max(0, 1 + f)])
    With one-sided label smoothing the target of real images is 1 − smooth instead of 1.

    At logits 0: 2 log 2 and 1. Shapes: any; result a scalar.
    Source: Goodfellow 2014, Eq. 1; IVQ-VAE + FFTD, Eq. 14, hinge restored; Salimans 2016, §3.4.
    """
    number(smooth, "smooth", 0, 1)
    if _checked(kind, real_logits, fake_logits) == "hinge":
        if smooth:
            raise ValueError("label smoothing belongs to the losses with probabilities; "
                             "the hinge loss has no labels")
        return 0.5 * (F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean())
    real = (1 - smooth) * F.softplus(-real_logits) + smooth * F.softplus(real_logits)
    return real.mean() + F.softplus(fake_logits).mean()


def generator_loss(fake_logits: Tensor, kind: str = "nonsaturating") -> Tensor:
    """The generator's loss, to be minimised.

    minimax:        E[log(1 − D(G(z)))] = −E[softplus(f)]   (no gradient where D is sure: f → −∞)
    nonsaturating:  −E[log D(G(z))] = E[softplus(−f)]
    hinge:          −E[f]

    Shapes: any; result a scalar. Source: Goodfellow 2014, §3; IVQ-VAE + FFTD, Eq. 13.
    """
    kind = _checked(kind, fake_logits)
    if kind == "hinge":
        return -fake_logits.mean()
    return -F.softplus(fake_logits).mean() if kind == "minimax" else F.softplus(-fake_logits).mean()


def optimal_discriminator(p: Tensor, q: Tensor) -> Tensor:
    """D* = p / (p + q), densities of data and generator. Source: Goodfellow 2014, Prop. 1."""
    _densities(p, q)
    return p / (p + q)


def _densities(p: Tensor, q: Tensor, dx: float = 1.0) -> None:
    alike(p, q, "the density p", "q")
    number(dx, "dx", positive=True)
    in_range(torch.stack([p, q]), 0, math.inf, "densities")


def game_value(p: Tensor, q: Tensor, dx: float) -> float:
    """V(D*, G) = ∫ p log D* + q log(1 − D*) dx on a grid, in nats; −log 4 where p and q agree."""
    _densities(p, q, dx)
    integrand = torch.xlogy(p, p / (p + q)) + torch.xlogy(q, q / (p + q))
    return float(integrand.nan_to_num().sum() * dx)     # where both are 0 nothing is played


def js_divergence(p: Tensor, q: Tensor, dx: float) -> float:
    """Jensen–Shannon divergence on a grid, in nats: (V(D*, G) + log 4) / 2, from 0 to log 2."""
    return (game_value(p, q, dx) + math.log(4)) / 2


def feature_matching_loss(real_features: Tensor, fake_features: Tensor) -> Tensor:
    """‖E f(x) − E f(G(z))‖², f a layer of D. Shapes: (B, D) each. Source: Salimans 2016, §3.1."""
    filled(tensor(real_features, "real features", ("B", ...)), "real features")
    shape = ("B", *real_features.shape[1:])
    filled(tensor(fake_features, "fake features", shape), "fake features")
    return (real_features.detach().mean(0) - fake_features.mean(0)).pow(2).sum()


def r1_penalty(discriminator: Callable[..., Tensor], x: Tensor, *y: Tensor) -> Tensor:
    """½ E‖∇ₓ logit(x)‖² on real images: keeps the discriminator from growing ever steeper there.

    Shapes: x (B, …), y (B,) labels if conditional; a scalar with a graph, to be part of the loss.
    Source: Mescheder, Geiger, Nowozin 2018, Eq. 9.
    """
    x = filled(tensor(x, "x", ("B", ...)), "x").detach().requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(x, *y).sum(), x, create_graph=True)
    return 0.5 * slope.flatten(1).square().sum(1).mean()


class MinibatchDiscrimination(nn.Module):
    """Appends to each row how close the others are: o_b = Σ_{j≠i} exp(−‖M_ib − M_jb‖₁).

    A generator whose samples are all alike is found out, since real batches are not.
    Shapes: (B, D) → (B, D + kernels). Source: Salimans 2016, §3.2.
    """

    def __init__(self, features: int, kernels: int = 8, kernel_dim: int = 4):
        super().__init__()
        wholes(features=features, kernels=kernels, kernel_dim=kernel_dim)
        self.tensor = nn.Parameter(0.1 * torch.randn(features, kernels, kernel_dim))

    def forward(self, x: Tensor) -> Tensor:
        tensor(x, "x", ("B", len(self.tensor)), like=self.tensor)
        m = torch.einsum("bd,dkl->bkl", x, self.tensor)      # (B, kernels, kernel_dim)
        distance = (m[:, None] - m[None]).abs().sum(-1)      # (B, B, kernels)
        near = torch.exp(-distance).sum(1) - 1               # (B, kernels), without itself
        return torch.cat([x, near], dim=1)                   # (B, D + kernels)


def _dcgan_init(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1, 0.02)


def _he_init(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, 0.2)


class Generator(nn.Module):
    """DCGAN generator: z (and a label) → a 4×4 map → transposed convolutions, norm, ReLU → tanh.

    Shapes: z (B, latent_dim), y (B,) integers if num_classes; image (B, 3, size, size) in (-1, 1),
    size = 4·2^k.
    Source: Radford 2015, §3; Mirza & Osindero 2014 for the label.
    """

    def __init__(self, latent_dim: int = 64, width: int = 32, size: int = 32,
                 num_classes: int = 0):
        super().__init__()
        wholes(latent_dim=latent_dim, width=width)
        wholes(0, num_classes=num_classes)
        self.config = dict(latent_dim=latent_dim, width=width, size=size, num_classes=num_classes)
        self.latent_dim, self.num_classes = latent_dim, num_classes
        channels = [int(width) * 2**i for i in reversed(range(stages_of(size)))]
        self.first = nn.Sequential(
            nn.Linear(latent_dim + num_classes, channels[0] * 16, bias=False),
            nn.Unflatten(1, (channels[0], 4, 4)), nn.BatchNorm2d(channels[0]), nn.ReLU())
        layers: list[nn.Module] = []
        for c_in, c_out in itertools.pairwise(channels):
            double = nn.ConvTranspose2d(c_in, c_out, 4, 2, 1, bias=False)
            layers += [double, nn.BatchNorm2d(c_out), nn.ReLU()]
        self.rest = nn.Sequential(*layers, nn.ConvTranspose2d(channels[-1], 3, 4, 2, 1), nn.Tanh())
        self.apply(_dcgan_init)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        tensor(z, "z", ("B", self.latent_dim), like=self.first[0].weight)
        h = self.first(with_label(z, y, self.num_classes))   # (B, channels, 4, 4)
        return self.rest(h)                                  # (B, 3, size, size)


class Discriminator(nn.Module):
    """DCGAN discriminator: strided convolutions, batch norm, leaky ReLU, one logit.

    The first layer has no norm. A label enters as num_classes constant channels beside the image.
    Without batch_norm (He initialisation instead) it can be trained with `r1_penalty`, which needs
    each logit to depend on its own image only.
    Shapes: x (B, 3, size, size), y (B,) if num_classes; logit (B,); `features(x, y)` (B, D).
    """

    def __init__(self, width: int = 32, size: int = 32, num_classes: int = 0,
                 batch_norm: bool = True):
        super().__init__()
        wholes(width=width)
        wholes(0, num_classes=num_classes)
        self.config = dict(width=width, size=size, num_classes=num_classes, batch_norm=batch_norm)
        self.num_classes = num_classes
        channels = [width * 2**i for i in range(stages_of(size))]
        layers = [nn.Conv2d(3 + num_classes, channels[0], 4, 2, 1), nn.LeakyReLU(0.2)]
        for c_in, c_out in itertools.pairwise(channels):
            halve = nn.Conv2d(c_in, c_out, 4, 2, 1, bias=not batch_norm)
            norm = [nn.BatchNorm2d(c_out)] if batch_norm else []
            layers += [halve, *norm, nn.LeakyReLU(0.2)]
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Linear(channels[-1] * 16, 1)
        self.apply(_dcgan_init if batch_norm else _he_init)

    def features(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """What the last layer judges, (B, D)."""
        images(x, ("B", 3, self.config["size"], self.config["size"]), like=self.head.weight)
        return self.body(with_label(x, y, self.num_classes))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.head(self.features(x, y)).squeeze(1)     # (B, D) → (B, 1) → (B,)


@dataclass
class GANStep:
    """A step (from 1) of `train_gan`: both losses, D's mean probability of "real" in each batch."""

    step: int
    d_loss: float
    g_loss: float
    d_real: float
    d_fake: float


def train_gan(generator: Generator, discriminator: Discriminator, data: Batches, *,
              steps: int | None = None, loss: str = "nonsaturating", lr: float = 2e-4,
              betas: Sequence[float] = (0.5, 0.999), smooth: float = 0.0,
              feature_matching: bool = False, r1: float = 0.0, r1_every: int = 8,
              decay: bool = False, seed: int = 0) -> Iterator[GANStep]:
    """Train both networks in turns, a step each for every batch of `data`; yields `GANStep`s.

    The caller keeps the loop: progress bars, plots and an early end belong to it.
    `data` yields (x,) or (x, y) and, with steps=None, its end is the end of the training.
    feature_matching: the generator minimises `feature_matching_loss`; D needs `.features`.
    r1: weight of `r1_penalty`, added every r1_every steps and r1_every times as strong.
    decay: over the second half of `steps` the learning rate falls linearly to zero.
    Source: Goodfellow 2014, Algorithm 1 with k = 1; Adam's settings are DCGAN's.
    Raises: ValueError where `data` ends before `steps`, and for settings that cannot be.
    """
    if decay and not steps:
        raise ValueError("decay needs to know the number of steps: "
                         "train_gan(..., steps=20_000, decay=True)")
    if feature_matching and not hasattr(discriminator, "features"):
        raise ValueError("feature matching needs a discriminator with a method `features`")
    if not isinstance(betas, list | tuple) or len(betas) != 2:
        raise ValueError(f"betas must be two numbers from 0 to below 1; got {described(betas)}")
    beta1, beta2 = (float(number(beta, "each of betas", 0, 1 - 1e-9)) for beta in betas)
    number(r1, "r1", 0)
    wholes(r1_every=r1_every)
    opt_g = torch.optim.Adam(generator.parameters(), lr=number(lr, "lr", 0), betas=(beta1, beta2))
    opt_d = torch.optim.Adam(discriminator.parameters(), lr=lr, betas=(beta1, beta2))
    rng = seeded(seed)
    device = next(generator.parameters()).device
    generator.train()
    discriminator.train()
    for step, (x, *y) in counted(data, steps):
        x, y = x.to(device), [label.to(device) for label in y]
        if decay and steps:
            for group in opt_g.param_groups + opt_d.param_groups:
                group["lr"] = lr * min(1.0, 2 * (1 - (step - 1) / steps))
        z = torch.randn(len(x), generator.latent_dim, generator=rng).to(device)
        fake = generator(z, *y)                  # (B, 3, H, W), judged by both networks' steps

        # the discriminator's step: detached, so that it leaves the generator alone
        real_logits = discriminator(x, *y)
        fake_logits = discriminator(fake.detach(), *y)
        d_loss = discriminator_loss(real_logits, fake_logits, loss, smooth)
        total = d_loss
        if r1 and step % r1_every == 0:
            total = d_loss + r1_every * r1 * r1_penalty(discriminator, x, *y)
        opt_d.zero_grad()
        total.backward()
        opt_d.step()

        # the generator's step, which needs no gradient of D's weights
        discriminator.requires_grad_(False)
        if feature_matching:
            with torch.no_grad():
                real_features = discriminator.features(x, *y)
            g_loss = feature_matching_loss(real_features, discriminator.features(fake, *y))
        else:
            g_loss = generator_loss(discriminator(fake, *y), loss)
        opt_g.zero_grad()
        g_loss.backward()
        opt_g.step()
        discriminator.requires_grad_(True)
        yield GANStep(step, d_loss.item(), g_loss.item(), real_logits.sigmoid().mean().item(),
                      fake_logits.sigmoid().mean().item())


def sample(generator: Generator, n: int, y: Tensor | Sequence[int] | None = None, seed: int = 0,
           batch_size: int = 256) -> Tensor:
    """n images from z ~ N(0, I) in eval mode. They depend on n and the seed, not on batch_size."""
    if y is not None and not getattr(generator, "num_classes", 0):
        raise ValueError("this generator is not conditional: it takes no labels y")
    wholes(n=n, batch_size=batch_size)
    inputs = [torch.randn(n, generator.latent_dim, generator=seeded(seed))]
    if y is not None:
        inputs.append(labels(as_tensor(y, "labels"), n, generator.num_classes))
    device = next(generator.parameters()).device
    with evaluating(generator):
        starts = range(0, n, batch_size)
        parts = ([t[i : i + batch_size].to(device) for t in inputs] for i in starts)
        return torch.cat([generator(*part).cpu() for part in parts])
