"""Chapter 6's exercises, answered: what stands in below an exercise until a learner's passes."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Guess = Callable[[Tensor, int], tuple[Tensor, Tensor]]


def ddim_move(xt: Tensor, eps: Tensor, ab: Any, ab_prev: Any) -> Tensor:
    x0 = (xt - (1 - ab) ** 0.5 * eps) / ab**0.5
    return ab_prev**0.5 * x0 + (1 - ab_prev) ** 0.5 * eps


def step_noise(ab: Any, ab_prev: Any, eta: float) -> Any:
    return eta * ((1 - ab_prev) / (1 - ab)) ** 0.5 * (1 - ab / ab_prev) ** 0.5


def trailing(T: int, steps: int) -> list[int]:
    return list(range(T - 1, -1, -(T // steps)))


def ddim_loop(
    guess: Guess, alpha_bar: Tensor, xT: Tensor, times: Sequence[int], eta: float = 0.0,
    draw: Callable[[Tensor], Tensor] = torch.randn_like,
) -> list[Tensor]:
    states = [xT]
    for t, s in zip(times, [*times[1:], None], strict=True):
        ab, ab_prev = alpha_bar[t], 1.0 if s is None else alpha_bar[s]
        x0, eps = guess(states[-1], t)
        sigma = step_noise(ab, ab_prev, eta)
        x = ab_prev**0.5 * x0 + (1 - ab_prev - sigma**2) ** 0.5 * eps
        states.append(x + sigma * draw(x) if eta > 0 and s is not None else x)
    return states


def middle_guess(
    x0: Tensor, x0_before: Tensor, lam_before: float, lam: float, lam_next: float
) -> Tensor:
    return x0 + (x0 - x0_before) / (lam - lam_before) * (lam_next - lam) / 2


def on_the_arc(a: Tensor, b: Tensor, w: float) -> Tensor:
    theta = torch.arccos((a @ b) / (a.norm() * b.norm()))
    return (torch.sin((1 - w) * theta) * a + torch.sin(w * theta) * b) / torch.sin(theta)


def guided_eps(conditional: Tensor, unconditional: Tensor, s: float) -> Tensor:
    return unconditional + s * (conditional - unconditional)


def two_at_once(unconditional: Tensor, answers: Sequence[Tensor], scales: Sequence[float]
                ) -> Tensor:
    pairs = zip(scales, answers, strict=True)
    return sum((s * (a - unconditional) for s, a in pairs), unconditional)


def keep_known(x: Tensor, known: Tensor, mask: Tensor, ab_prev: float, noise: Tensor) -> Tensor:
    return torch.where(mask.bool(), ab_prev**0.5 * known + (1 - ab_prev) ** 0.5 * noise, x)
