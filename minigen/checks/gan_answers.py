"""Chapter 1's exercises, answered: what stands in below an exercise until a learner's passes."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Penalty = Callable[[Any, Tensor], Tensor]


def best_discriminator(p: Tensor, q: Tensor) -> Tensor:
    return p / (p + q)


def d_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def g_loss(fake_logits: Tensor) -> Tensor:
    return F.softplus(-fake_logits).mean()


def hinge_d_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    return 0.5 * (F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean())


def discriminator_step(
    generator: Any, discriminator: Any, optimiser: torch.optim.Optimizer, x: Tensor, z: Tensor,
    penalty: Penalty | None = None,
) -> float:
    loss = d_loss(discriminator(x), discriminator(generator(z).detach()))
    total = loss if penalty is None else loss + penalty(discriminator, x)
    optimiser.zero_grad()
    total.backward()
    optimiser.step()
    return loss.item()


def gan_loop(
    generator: Any, discriminator: Any, opt_g: torch.optim.Optimizer,
    opt_d: torch.optim.Optimizer, data: Iterable[tuple[Tensor, ...]], rng: torch.Generator,
    penalty: Penalty | None = None, loss: Callable[[Tensor], Tensor] = g_loss,
) -> Iterator[tuple[float, float]]:
    for (x,) in data:
        z = torch.randn(len(x), generator.latent_dim, generator=rng).to(x.device)
        for_d = discriminator_step(generator, discriminator, opt_d, x, z, penalty)
        for_g = loss(discriminator(generator(z)))
        opt_g.zero_grad()
        for_g.backward()
        opt_g.step()
        yield for_d, for_g.item()


def modes_covered(points: Tensor, centres: Tensor, radius: float) -> int:
    nearest = torch.cdist(centres, points).min(dim=1).values
    return int((nearest < radius).sum())


def with_label(x: Tensor, y: Tensor, num_classes: int) -> Tensor:
    maps = F.one_hot(y, num_classes).to(x.dtype)[:, :, None, None]
    return torch.cat([x, maps.expand(-1, -1, *x.shape[2:])], dim=1)
