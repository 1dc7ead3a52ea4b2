"""Excursion 4's step in small: a network, partly frozen; the step, right or wrong in one way."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from minigen import ddpm
from minigen.checks.compare import Wrong, value_of
from minigen.checks.personal_answers import Batch
from minigen.diffusion import Diffusion

WORDS = 12                          # more than time steps, so that a time fits where a word belongs
BETAS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)


class Case(NamedTuple):
    """A world: pictures of one's own, known ones, their weight, the length of a sentence.

    words: 0 where a sentence is one number, of the shape (B,) that t has.
    bright: how large pictures and noise are, and with them the loss and its gradient.
    """

    own: int
    known: int
    weight: float
    words: int
    prediction: str
    bright: float


# in the first the gradient is shorter than 1, in the others longer
CASES = (
    Case(2, 3, 0.7, 0, "eps", 0.3), Case(3, 2, 1.7, 3, "v", 3.0), Case(4, 7, 0.4, 5, "x0", 3.0))


class Draws(nn.Module):
    """A small network that guesses at what noise hides, told of the time and of a sentence."""

    def __init__(self, prediction: str) -> None:
        super().__init__()
        self.prediction = prediction
        self.words = nn.Embedding(WORDS, 6)
        self.first, self.last = nn.Linear(8, 6), nn.Linear(6, 8)
        self.words.weight.requires_grad_(False)                  # the frozen part

    def forward(self, x: Tensor, t: Tensor, ids: Any = None) -> Tensor:
        if not isinstance(ids, Tensor) or ids.is_floating_point() or len(ids) != len(x):
            got = (f"a tensor of shape {tuple(ids.shape)} and {ids.dtype}"
                   if isinstance(ids, Tensor) else "none" if ids is None
                   else f"a {type(ids).__name__}")
            raise Wrong("The model is told a sentence for each picture, ids: whole numbers, as "
                        f"many rows as z has; it was given {got}. The order is simple_loss(model, "
                        "diffusion, z, t, eps, ids).")
        told = self.words(ids.view(len(ids), -1)).mean(1) + t[:, None] / len(BETAS)
        return self.last(torch.tanh(self.first(x.flatten(1)) + told)).view(x.shape)


class World(NamedTuple):
    """A network, what learns of it, and batches, one's own and known ones."""

    model: Draws
    diffusion: Diffusion
    optimiser: torch.optim.Optimizer
    batches: list[tuple[Batch, Batch]]
    weight: float

    @classmethod
    def fresh(cls, case: int) -> "World":
        own, known, weight, words, prediction, bright = CASES[case]

        def batch(n: int) -> Batch:
            ids = torch.randint(len(BETAS), (n, words) if words else (n,))
            return (bright * torch.randn(n, 2, 2, 2), ids, torch.randint(len(BETAS), (n,)),
                    bright * torch.randn(n, 2, 2, 2))

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(case)
            model = Draws(prediction)
            batches = [(batch(own), batch(known)) for _ in range(2)]
        for p in model.parameters():
            p.grad = torch.full_like(p, 0.3)     # left over from an earlier step, before it froze
        groups = [dict(params=list(model.first.parameters()), lr=0.5),
                  dict(params=list(model.last.parameters()), lr=0.2)]
        return cls(model, Diffusion(BETAS), torch.optim.SGD(groups), batches, weight)

    def learned(self) -> list[nn.Parameter]:
        return [p for group in self.optimiser.param_groups for p in group["params"]]


class After(NamedTuple):
    """What a step leaves behind: the two losses, and all weights in a row."""

    losses: Tensor
    weights: Tensor

    def like(self, other: "After") -> bool:
        return all(torch.allclose(a, b, rtol=1e-4, atol=2e-5)
                   for a, b in zip(self, other, strict=True))


def after(w: World, losses: tuple) -> After:
    """What stands now, with the two losses that were told."""
    return After(torch.tensor([float(value_of(v)) for v in losses]),
                 torch.cat([p.detach().flatten() for p in w.model.parameters()]))


Step = Callable[[World, Batch, Batch], tuple]
Cut = Callable[[World], Any]


def simple(w: World, batch: Batch) -> Tensor:
    z, ids, t, eps = batch
    return ddpm.simple_loss(w.model, w.diffusion, z, t, eps, ids)


def jointly(w: World, length: float = 1.0, norm: float = 2.0) -> None:
    nn.utils.clip_grad_norm_(w.learned(), length, norm)


def each_by_itself(w: World) -> None:
    for p in w.learned():
        nn.utils.clip_grad_norm_([p], 1.0)


def each_group(w: World) -> None:
    for group in w.optimiser.param_groups:
        nn.utils.clip_grad_norm_(group["params"], 1.0)


def first_group(w: World) -> None:
    nn.utils.clip_grad_norm_(w.optimiser.param_groups[0]["params"], 1.0)


def with_the_frozen(w: World) -> None:
    nn.utils.clip_grad_norm_(w.model.parameters(), 1.0)


def by_value(w: World) -> None:
    nn.utils.clip_grad_value_(w.learned(), 1.0)


def stretched(w: World) -> None:
    """Always 1 long, shorter ones too."""
    length = torch.stack([p.grad.norm() for p in w.learned() if p.grad is not None]).norm()
    for p in w.learned():
        if p.grad is not None:
            p.grad /= length


def uncut(w: World) -> None:
    """No cut, or one at a moment when it is of no use."""


def step(
    w: World, own: Batch, known: Batch, loss: Callable[[World, Batch], Tensor] = simple,
    total: Callable[[Tensor, Tensor, float], Tensor] = lambda a, b, weight: a + weight * b,
    told: Callable[..., tuple] = lambda a, b, weight, whole: (a, b), clear: bool = True,
    backward: bool = True, cut: Cut = jointly, moves: int = 1, late: bool = False,
) -> tuple:
    """The step, or one that goes wrong in one way. late: the losses are those after it."""
    a, b = loss(w, own), loss(w, known)
    whole = total(a, b, w.weight)
    if clear:
        w.optimiser.zero_grad()
    if backward:
        whole.backward()
    cut(w)
    for _ in range(moves):
        w.optimiser.step()
    return told(*((simple(w, own), simple(w, known)) if late else (a, b)), w.weight, whole)


def in_turns(w: World, own: Batch, known: Batch, clear: bool = True, known_first: bool = False,
             cut: Cut = jointly) -> tuple:
    """Each loss with a step of its own, the second loss after the first step."""
    losses: dict[str, Tensor] = {}
    for name in ("known", "own") if known_first else ("own", "known"):
        loss = simple(w, own if name == "own" else known)
        if clear or not losses:
            w.optimiser.zero_grad()
        (loss if name == "own" else w.weight * loss).backward()
        cut(w)
        w.optimiser.step()
        losses[name] = loss
    return losses["own"], losses["known"]


def each_loss_cut(w: World, own: Batch, known: Batch, apart: bool = False, last: bool = True,
                  after_weight: bool = True) -> tuple:
    """A cut after each loss's backward: of what has come together so far, or of each's own part."""
    losses = simple(w, own), simple(w, known)
    parts: list[list[Tensor]] = []
    w.optimiser.zero_grad()
    for loss, weight in zip(losses, (1.0, w.weight), strict=True):
        if apart:
            w.optimiser.zero_grad()
        ((weight if after_weight else 1.0) * loss).backward()
        if apart or last or not parts:
            jointly(w)
        scale = 1.0 if after_weight else weight
        parts.append([scale * p.grad.clone() for p in w.learned() if p.grad is not None])
    if apart:
        for p, one, other in zip(w.learned(), *parts, strict=True):
            p.grad = one + other
        if last:
            jointly(w)
    w.optimiser.step()
    return losses


def stepped(case: int, steps: int, how: Step = step) -> list[After]:
    """What each of the first steps in a world leaves behind; how: the step, right or wrong."""
    w = World.fresh(case)
    return [after(w, how(w, *batches)) for batches in w.batches[:steps]]
