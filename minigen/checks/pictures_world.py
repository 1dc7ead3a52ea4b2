"""Excursion 3's step of pix2pix in small: two networks, and the step, right or wrong in one way."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from minigen.checks.compare import Wrong, value_of
from minigen.gan import discriminator_loss

# of each world: channels of a drawing, pictures, the weight, whether the optimisers are Adam. In
# the first a drawing has a face's shape, so that one fits where the other belongs
CASES = ((3, 3, 0.6, False), (1, 2, 2.5, False), (1, 4, 0.3, True))
SIZE = 4


class Draws(nn.Module):
    """A small generator, which feels a gradient that comes back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(channels, 3, 3, padding=1)
        self.channels = channels
        self.felt = False

    def forward(self, drawing: Any) -> Tensor:
        if not isinstance(drawing, Tensor) or drawing.shape[1:] != (self.channels, SIZE, SIZE):
            raise Wrong("The generator takes drawings, here of shape "
                        f"(B, {self.channels}, {SIZE}, {SIZE}); it was given {_shape(drawing)}.")
        fake = 1.5 * torch.tanh(self.layer(drawing))
        if fake.requires_grad:
            fake.register_hook(self._feel)
        return fake

    def _feel(self, slope: Tensor) -> None:
        self.felt = True


class Judges(nn.Module):
    """A small judge of pairs, a logit a patch, on both sides of ±1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(channels + 3, 6, 2, 2), nn.Conv2d(6, 1, 1)
        nn.init.normal_(self.last.weight, std=2.0)

    def forward(self, pair: Any, *more: Any) -> Tensor:
        wanted = (self.first.in_channels, SIZE, SIZE)
        if more or not isinstance(pair, Tensor) or pair.ndim != 4 or pair.shape[1:] != wanted:
            got = "two arguments" if more else _shape(pair)
            raise Wrong(f"The judge takes a pair as one tensor, here of shape (B, {wanted[0]}, "
                        f"{SIZE}, {SIZE}): torch.cat([drawing, picture], 1); it was given {got}.")
        return self.last(torch.tanh(self.first(pair)))


def _shape(x: Any) -> str:
    return f"the shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"


class World(NamedTuple):
    """Two networks and their optimisers; batches, a drawing and a face each; the loss's weight."""

    generator: Draws
    judge: Judges
    opt_g: torch.optim.Optimizer
    opt_d: torch.optim.Optimizer
    batches: list[tuple[Tensor, Tensor]]
    weight: float

    @classmethod
    def fresh(cls, case: int) -> "World":
        channels, n, weight, adam = CASES[case]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(case)
            g, d = Draws(channels), Judges(channels)
            faces = torch.rand(2, n, 3, SIZE, SIZE) * 1.8 - 0.6     # brighter than what is drawn
            drawings = torch.rand(2, n, channels, SIZE, SIZE) * 2 - 1
        for p in (*g.parameters(), *d.parameters()):
            p.grad = torch.full_like(p, 0.5)              # left over from an earlier step
        if adam:                                # a large ε: no sign of a gradient that is rounding
            opt_g, opt_d = (torch.optim.Adam(net.parameters(), lr=lr, betas=(0.5, 0.9), eps=1e-3)
                            for net, lr in ((g, 0.02), (d, 0.05)))
            return cls(g, d, opt_g, opt_d, list(zip(drawings, faces, strict=True)), weight)
        return cls(g, d, torch.optim.SGD(g.parameters(), lr=0.1),
                   torch.optim.SGD(d.parameters(), lr=0.2),
                   list(zip(drawings, faces, strict=True)), weight)


class After(NamedTuple):
    """What a step leaves behind: the two losses, and both networks' weights in a row."""

    losses: Tensor
    generator: Tensor
    judge: Tensor

    def like(self, other: "After") -> bool:
        return all(torch.allclose(a, b, rtol=1e-4, atol=2e-5)
                   for a, b in zip(self, other, strict=True))


def row(net: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


Pair = Callable[[Tensor, Tensor, Tensor], Tensor]          # drawing, picture, the real face


def pair_of(drawing: Tensor, picture: Tensor, face: Tensor) -> Tensor:
    return torch.cat([drawing, picture], 1)


def turned(drawing: Tensor, picture: Tensor, face: Tensor) -> Tensor:
    return torch.cat([picture, drawing], 1)


def with_face(drawing: Tensor, picture: Tensor, face: Tensor) -> Tensor:
    return torch.cat([face, picture], 1)


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    return discriminator_loss(real, fake, "hinge")


def absolute(fake: Tensor, face: Tensor, drawing: Tensor) -> Tensor:
    return (fake - face).abs().mean()


def step(
    w: World, drawing: Tensor, face: Tensor, real_pair: Pair = pair_of, fake_pair: Pair = pair_of,
    own_pair: Pair = pair_of, d_of: Callable[[Tensor, Tensor], Tensor] = hinge,
    g_of: Callable[[Tensor], Tensor] = lambda logits: -logits.mean(),
    l1: Callable[[Tensor, Tensor, Tensor], Tensor] = absolute,
    total: Callable[[Tensor, Tensor, float], Tensor] = lambda a, b, weight: a + weight * b,
    told: Callable[..., tuple] = lambda d, g, a, b: (d, g), detach: bool = True,
    detach_own: bool = False, clear: str = "gd", move: tuple[int, int] = (1, 1),
    first: str = "d", swapped: bool = False, d_too: bool = False, sign: tuple[int, int] = (1, 1),
    given: Callable[[Tensor, Tensor], Tensor] = lambda drawing, face: drawing,
) -> tuple:
    """The step, or one that goes wrong in one way."""
    opt_g, opt_d = (w.opt_d, w.opt_g) if swapped else (w.opt_g, w.opt_d)
    fake = w.generator(given(drawing, face))

    def of_judge() -> Tensor:
        if not detach and "g" in clear:
            opt_g.zero_grad()                                     # too early to be of use
        loss = d_of(w.judge(real_pair(drawing, face, face)),
                    w.judge(fake_pair(drawing, fake.detach() if detach else fake, face)))
        if "d" in clear:
            opt_d.zero_grad()
        (sign[1] * loss).backward(retain_graph=not detach)
        for _ in range(move[1]):
            opt_d.step()
        return loss

    d_loss = of_judge() if first == "d" else fake
    a = l1(fake, face, drawing)
    b = g_of(w.judge(own_pair(drawing, fake.detach() if detach_own else fake, face)))
    g_loss = total(a, b, w.weight)
    if "g" in clear and detach:
        opt_g.zero_grad()
    (sign[0] * g_loss).backward()
    for _ in range(move[0]):
        opt_g.step()
    if d_too:
        opt_d.step()
    d_loss = of_judge() if first == "g" else d_loss
    return told(d_loss, g_loss, a, b)


def after(w: World, losses: tuple) -> After:
    """What stands now, with the two losses that were told."""
    return After(torch.tensor([float(value_of(v)) for v in losses]), row(w.generator), row(w.judge))


def stepped(case: int, steps: int, **how: Any) -> list[After]:
    """What each of the first steps in a world leaves behind; how: what goes wrong in them."""
    w = World.fresh(case)
    return [after(w, step(w, *batch, **how)) for batch in w.batches[:steps]]
