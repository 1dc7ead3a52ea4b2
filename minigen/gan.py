"""Chapter 1: generative adversarial networks. Losses from logits, DCGAN, a conditional GAN, and a training loop.

Sources: Goodfellow et al. 2014 (the game), Radford et al. 2015 (DCGAN), Mirza & Osindero 2014 (conditional),
Salimans et al. 2016 (feature matching, minibatch discrimination, label smoothing), Lim & Ye 2017 (hinge),
Mescheder et al. 2018 (R1 penalty).
"""

import itertools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from minigen.common import as_tensor, counted, evaluating, filled
from minigen.common import generator as seeded
from minigen.inputs import alike, images, in_range, is_whole, labels, number, tensor, told, wholes

LOSSES = ("minimax", "nonsaturating", "hinge")


def _checked(kind, *logits):
    if kind not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}; got '{kind}'")
    for x in logits:
        filled(tensor(x, "logits"), "logits")
    return kind


def discriminator_loss(real_logits, fake_logits, kind="nonsaturating", smooth=0.0):
    """The discriminator's loss, to be minimised; D = sigmoid(logit).

    minimax, nonsaturating:  −E[log D(x)] − E[log(1 − D(G(z)))] = E[softplus(−r)] + E[softplus(f)]
    hinge:                   ½ (E[max(0, 1 − r)] + E[max(0, 1 + f)])
    With one-sided label smoothing the target of real images is 1 − smooth instead of 1.

    At logits 0: 2 log 2 and 1. Shapes: any; result a scalar.
    Source: Goodfellow 2014, Eq. 1; IVQ-VAE + FFTD, Eq. 14 with the hinge restored; Salimans 2016, §3.4.
    """
    number(smooth, "smooth", 0, 1)
    if _checked(kind, real_logits, fake_logits) == "hinge":
        if smooth:
            raise ValueError("label smoothing belongs to the losses with probabilities; the hinge loss has no labels")
        return 0.5 * (F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean())
    real = (1 - smooth) * F.softplus(-real_logits) + smooth * F.softplus(real_logits)
    return real.mean() + F.softplus(fake_logits).mean()


def generator_loss(fake_logits, kind="nonsaturating"):
    """The generator's loss, to be minimised.

    minimax:        E[log(1 − D(G(z)))] = −E[softplus(f)]     (its gradient dies where D is sure: f → −∞)
    nonsaturating:  −E[log D(G(z))] = E[softplus(−f)]
    hinge:          −E[f]

    Shapes: any; result a scalar. Source: Goodfellow 2014, §3; IVQ-VAE + FFTD, Eq. 13.
    """
    kind = _checked(kind, fake_logits)
    if kind == "hinge":
        return -fake_logits.mean()
    return -F.softplus(fake_logits).mean() if kind == "minimax" else F.softplus(-fake_logits).mean()


def optimal_discriminator(p, q):
    """D*(x) = p(x) / (p(x) + q(x)) for densities p of the data and q of the generator. Source: Goodfellow 2014, Prop. 1."""
    _densities(p, q)
    return p / (p + q)


def _densities(p, q, dx=1.0):
    alike(p, q, "the density p", "q")
    number(dx, "dx", positive=True)
    in_range(torch.stack([p, q]), 0, math.inf, "densities")


def game_value(p, q, dx):
    """V(D*, G) = ∫ p log D* + q log(1 − D*) dx of two densities on a grid, in nats; −log 4 where they agree."""
    _densities(p, q, dx)
    return float((torch.xlogy(p, p / (p + q)) + torch.xlogy(q, q / (p + q))).nan_to_num().sum() * dx)


def js_divergence(p, q, dx):
    """Jensen–Shannon divergence of two densities on a grid, in nats: (V(D*, G) + log 4) / 2, from 0 to log 2."""
    return (game_value(p, q, dx) + math.log(4)) / 2


def feature_matching_loss(real_features, fake_features):
    """‖E f(x) − E f(G(z))‖², f a layer of the discriminator. Shapes: (B, D) each. Source: Salimans 2016, §3.1."""
    filled(tensor(real_features, "real features", ("B", ...)), "real features")
    filled(tensor(fake_features, "fake features", ("B", *real_features.shape[1:])), "fake features")
    return (real_features.detach().mean(0) - fake_features.mean(0)).pow(2).sum()


def r1_penalty(discriminator, x, *y):
    """½ E‖∇ₓ logit(x)‖² on real images: keeps the discriminator from growing ever steeper around the data.

    Shapes: x (B, …), y (B,) labels if conditional; result a scalar with a graph, to be weighted and added to the loss.
    Source: Mescheder, Geiger, Nowozin 2018, Eq. 9.
    """
    x = filled(tensor(x, "x", ("B", ...)), "x").detach().requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(x, *y).sum(), x, create_graph=True)
    return 0.5 * slope.flatten(1).square().sum(1).mean()


class MinibatchDiscrimination(nn.Module):
    """Appends to each row how close the others of its batch are: o_b = Σ_{j≠i} exp(−‖M_ib − M_jb‖₁).

    A generator whose samples are all alike is found out, since real batches are not.
    Shapes: (B, D) → (B, D + kernels). Source: Salimans 2016, §3.2.
    """

    def __init__(self, features, kernels=8, kernel_dim=4):
        super().__init__()
        wholes(features=features, kernels=kernels, kernel_dim=kernel_dim)
        self.tensor = nn.Parameter(0.1 * torch.randn(features, kernels, kernel_dim))

    def forward(self, x):
        tensor(x, "x", ("B", len(self.tensor)), like=self.tensor)
        m = torch.einsum("bd,dkl->bkl", x, self.tensor)
        distance = (m[:, None] - m[None]).abs().sum(-1)      # (B, B, kernels)
        near = torch.exp(-distance).sum(1) - 1               # without itself
        return torch.cat([x, near], dim=1)


def _dcgan_init(module):
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1, 0.02)


def _he_init(module):
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, 0.2)


class Generator(nn.Module):
    """DCGAN generator: z (and a label) → a 4×4 map → transposed convolutions, batch norm, ReLU → tanh.

    Shapes: z (B, latent_dim), y (B,) integers if num_classes; image (B, 3, size, size) in (-1, 1), size = 4·2^k.
    Source: Radford 2015, §3; Mirza & Osindero 2014 for the label.
    """

    def __init__(self, latent_dim=64, width=32, size=32, num_classes=0):
        super().__init__()
        wholes(latent_dim=latent_dim, width=width)
        wholes(0, num_classes=num_classes)
        self.config = dict(latent_dim=latent_dim, width=width, size=size, num_classes=num_classes)
        self.latent_dim, self.num_classes = latent_dim, num_classes
        ups = stages_of(size)
        channels = [int(width) * 2**i for i in reversed(range(ups))]
        self.first = nn.Sequential(nn.Linear(latent_dim + num_classes, channels[0] * 16, bias=False),
                                   nn.Unflatten(1, (channels[0], 4, 4)), nn.BatchNorm2d(channels[0]), nn.ReLU())
        layers = []
        for c_in, c_out in itertools.pairwise(channels):
            layers += [nn.ConvTranspose2d(c_in, c_out, 4, 2, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()]
        self.rest = nn.Sequential(*layers, nn.ConvTranspose2d(channels[-1], 3, 4, 2, 1), nn.Tanh())
        self.apply(_dcgan_init)

    def forward(self, z, y=None):
        tensor(z, "z", ("B", self.latent_dim), like=self.first[0].weight)
        return self.rest(self.first(with_label(z, y, self.num_classes)))


class Discriminator(nn.Module):
    """DCGAN discriminator: strided convolutions, batch norm (not on the first layer), leaky ReLU, one logit.

    A label enters as num_classes constant channels beside the image. Without batch_norm (He initialisation instead)
    it can be trained with `r1_penalty`, which needs each logit to depend on its own image only.
    Shapes: x (B, 3, size, size), y (B,) integers if num_classes; logit (B,); `features(x, y)` (B, D).
    """

    def __init__(self, width=32, size=32, num_classes=0, batch_norm=True):
        super().__init__()
        wholes(width=width)
        wholes(0, num_classes=num_classes)
        self.config = dict(width=width, size=size, num_classes=num_classes, batch_norm=batch_norm)
        self.num_classes = num_classes
        channels = [width * 2**i for i in range(stages_of(size))]
        layers = [nn.Conv2d(3 + num_classes, channels[0], 4, 2, 1), nn.LeakyReLU(0.2)]
        for c_in, c_out in itertools.pairwise(channels):
            norm = [nn.BatchNorm2d(c_out)] if batch_norm else []
            layers += [nn.Conv2d(c_in, c_out, 4, 2, 1, bias=not batch_norm), *norm, nn.LeakyReLU(0.2)]
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Linear(channels[-1] * 16, 1)
        self.apply(_dcgan_init if batch_norm else _he_init)

    def features(self, x, y=None):
        images(x, ("B", 3, self.config["size"], self.config["size"]), like=self.head.weight)
        return self.body(with_label(x, y, self.num_classes))

    def forward(self, x, y=None):
        return self.head(self.features(x, y)).squeeze(1)


def stages_of(size):
    """How often a size is halved down to 4. Raises: ValueError for one that is not 4·2^k."""
    stages = int(size).bit_length() - 3 if is_whole(size) and size >= 8 else 0
    if stages < 1 or size != 4 * 2**stages:
        raise ValueError(f"size must be 8, 16, 32, 64, …; got {told(size)}")
    return stages


def with_label(x, y, num_classes):
    """x with the one-hot label as further channels (constant maps for an image); x itself if num_classes is 0.

    Shapes: x (B, C, …), y (B,) integers → (B, C + num_classes, …). Raises: ValueError for other y.
    """
    tensor(x, "x", ("B", "C", ...))
    wholes(0, num_classes=num_classes)
    if not num_classes:
        if y is not None:
            raise ValueError("this network is not conditional: it takes no labels y")
        return x
    if y is None:
        raise ValueError(f"this network is conditional: pass labels y, (B,) integers from 0 to {num_classes - 1}")
    one_hot = F.one_hot(labels(y, len(x), num_classes), num_classes).to(x.dtype)
    if x.ndim == 4:
        one_hot = one_hot[:, :, None, None].expand(-1, -1, *x.shape[2:])
    return torch.cat([x, one_hot], dim=1)


@dataclass
class GANStep:
    """One step of `train_gan`: its number (from 1), both losses, and D's mean probability of "real" for each batch."""

    step: int
    d_loss: float
    g_loss: float
    d_real: float
    d_fake: float


def train_gan(generator, discriminator, data, *, steps=None, loss="nonsaturating", lr=2e-4, betas=(0.5, 0.999),
              smooth=0.0, feature_matching=False, r1=0.0, r1_every=8, decay=False, seed=0):
    """Train both networks in turns, one step each for every batch of `data`; yields a `GANStep` a step.

    The caller keeps the loop: progress bars, plots and an early end belong to it.
    `data` yields (x,) or (x, y) and, with steps=None, its end is the end of the training.
    feature_matching: the generator minimises `feature_matching_loss`; the discriminator needs `.features`.
    r1: weight of `r1_penalty`, added every r1_every steps and r1_every times as strong.
    decay: over the second half of `steps` the learning rate falls linearly to zero.
    Source: Goodfellow 2014, Algorithm 1 with k = 1; Adam's settings are DCGAN's.
    Raises: ValueError where `data` ends before `steps`, and for settings that cannot be.
    """
    if decay and not steps:
        raise ValueError("decay needs to know the number of steps: train_gan(..., steps=20_000, decay=True)")
    if feature_matching and not hasattr(discriminator, "features"):
        raise ValueError("feature matching needs a discriminator with a method `features`")
    if not isinstance(betas, list | tuple) or len(betas) != 2:
        raise ValueError(f"betas must be two numbers from 0 to below 1; got {told(betas)}")
    betas = tuple(float(number(beta, "each of betas", 0, 1 - 1e-9)) for beta in betas)
    number(r1, "r1", 0)
    wholes(r1_every=r1_every)
    opt_g = torch.optim.Adam(generator.parameters(), lr=number(lr, "lr", 0), betas=betas)
    opt_d = torch.optim.Adam(discriminator.parameters(), lr=lr, betas=betas)
    noise = seeded(seed)
    device = next(generator.parameters()).device
    generator.train(), discriminator.train()
    for step, (x, *y) in counted(data, steps):
        for group in opt_g.param_groups + opt_d.param_groups:
            group["lr"] = lr * min(1.0, 2 * (1 - (step - 1) / steps)) if decay else lr
        x, y = x.to(device), [label.to(device) for label in y]
        fake = generator(torch.randn(len(x), generator.latent_dim, generator=noise).to(device), *y)

        real_logits, fake_logits = discriminator(x, *y), discriminator(fake.detach(), *y)
        d_loss = discriminator_loss(real_logits, fake_logits, loss, smooth)
        penalty = r1_every * r1 * r1_penalty(discriminator, x, *y) if r1 and step % r1_every == 0 else 0.0
        opt_d.zero_grad()
        (d_loss + penalty).backward()
        opt_d.step()

        discriminator.requires_grad_(False)      # the generator's step needs no gradient of D's weights
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


def sample(generator, n, y=None, seed=0, batch_size=256):
    """n images from z ~ N(0, I) in eval mode. They depend on n and the seed, not on the batch size."""
    if y is not None and not getattr(generator, "num_classes", 0):
        raise ValueError("this generator is not conditional: it takes no labels y")
    wholes(n=n, batch_size=batch_size)
    z = torch.randn(n, generator.latent_dim, generator=seeded(seed))
    inputs = [z] if y is None else [z, labels(as_tensor(y, "labels"), n, generator.num_classes)]
    device = next(generator.parameters()).device
    with evaluating(generator):
        return torch.cat([generator(*(t[i : i + batch_size].to(device) for t in inputs)).cpu() for i in range(0, n, batch_size)])
