"""Chapter 1's step of the discriminator, checked, and the small networks that it is tried on."""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigen import gan
from minigen.checks.compare import Answer, Wrong, expect, value_of


class Generator(nn.Module):
    """A small generator that keeps the noise it was given, and feels a gradient that comes back."""

    latent_dim = 3

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.given: list[Tensor] = []
        self.felt = False

    def forward(self, z: Tensor) -> Tensor:
        if not isinstance(z, Tensor) or z.ndim != 2 or z.shape[1] != 3:
            shape = tuple(z.shape) if isinstance(z, Tensor) else type(z).__name__
            raise Wrong("The generator takes noise of shape (len(x), generator.latent_dim); it was "
                        f"given {shape}.")
        self.given.append(z.detach().clone())
        fake = self.layer(z)
        if fake.requires_grad:
            fake.register_hook(self._feel)
        return fake

    def _feel(self, slope: Tensor) -> None:
        self.felt = True


class Counted(torch.optim.SGD):
    """Plain descent that writes down whose step it was."""

    def __init__(self, model: nn.Module, name: str, log: list[str], lr: float = 0.1):
        super().__init__(model.parameters(), lr=lr)
        self.name, self.log = name, log

    def step(self, closure: Any = None) -> Any:
        self.log.append(self.name)
        return super().step(closure)


def networks() -> tuple[Generator, nn.Sequential]:
    """A generator and a discriminator of points in the plane."""
    return Generator(), nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))


def penalty_of_logits(discriminator: Any, x: Tensor) -> Tensor:
    """Something to be added to D's loss."""
    return 0.4 * discriminator(x).square().mean()


def alike(a: nn.Module, b: nn.Module, tol: float = 1e-5) -> bool:
    """Whether two networks have the same weights."""
    pairs = zip(a.parameters(), b.parameters(), strict=True)
    return all(torch.allclose(p, q, atol=tol) for p, q in pairs)


def left_alone(g: nn.Module, d: nn.Module) -> None:
    """Raise `Wrong` where an answer left a network that cannot be trained on."""
    for model, name in ((g, "generator"), (d, "discriminator")):
        if not all(p.requires_grad for p in model.parameters()):
            raise Wrong(f"The {name} was left with requires_grad off: it could not be trained any "
                        "more. Leave it as you found it.")
        if not model.training:
            raise Wrong(f"The {name} was left in eval mode: leave it as you found it.")


def discriminator_step(answer: Answer) -> None:
    """Check one step of D, without a penalty and with one."""
    for penalty in (None, penalty_of_logits):
        torch.manual_seed(1)
        g, d = networks()
        x, z = torch.randn(6, 2) + 2, torch.randn(6, 3)
        _one_step(answer, g, d, x, z, penalty)


def _one_step(answer: Answer, g: Generator, d: nn.Module, x: Tensor, z: Tensor,
              penalty: Any) -> None:
    before_g, start, fake = copy.deepcopy(g.state_dict()), copy.deepcopy(d), g(z).detach()
    plain = gan.discriminator_loss(start(x), start(fake))
    extra = penalty(start, x) if penalty else 0 * plain
    slopes = torch.autograd.grad(plain, list(start.parameters()), retain_graph=True)
    more = torch.autograd.grad(extra, list(start.parameters()), retain_graph=True)
    seen: list[Tensor] = []

    def watched(discriminator: Any, batch: Tensor) -> Tensor:
        seen.append(batch.detach().clone())
        return penalty(discriminator, batch)

    g.given.clear()
    log: list[str] = []
    for p in [*d.parameters(), *g.parameters()]:
        p.grad = torch.ones_like(p)               # left over from earlier steps, as in a real loop
    given = (x.clone(), z.clone()) + ((watched,) if penalty else ())
    got = answer(g, d, Counted(d, "D", log), *given)
    if g.felt or any(p.grad is not None and not bool((p.grad == 1).all()) for p in g.parameters()):
        raise Wrong("The step left a gradient in the generator, or sent one there: detach its "
                    "samples, generator(z).detach().")
    if any(p.grad is None for p in g.parameters()):
        raise Wrong("You cleared the generator's gradients: this step leaves the generator as it "
                    "was, its gradients too. With generator(z).detach() there is nothing to clear.")
    if any(not torch.equal(v, before_g[k]) for k, v in g.state_dict().items()):
        raise Wrong("The generator's weights changed; this step is the discriminator's.")
    if not any(torch.equal(one, z) for one in g.given):
        raise Wrong("The generator was not given the noise z that your function is given.")
    _returned(got, start, d, x, fake, float(plain.detach()), float(extra.detach()))
    if penalty and not any(torch.equal(one, x) for one in seen):
        raise Wrong("The penalty was not asked about the real images: penalty(discriminator, x)."
                    if seen else "The penalty was left out: where there is one, add "
                    "penalty(discriminator, x) to the loss before backward().")
    _moved(start, d, slopes, more, log)


def _returned(got: Any, start: nn.Module, d: nn.Module, x: Tensor, fake: Tensor, want: float,
              extra: float) -> None:
    def loss(model: nn.Module, kind: str = "nonsaturating") -> Tensor:
        return gan.discriminator_loss(model(x), model(fake), kind).detach()

    mistakes = {
        "Real and fake are swapped.": gan.discriminator_loss(start(fake), start(x)).detach(),
        "That is the hinge loss: take the one of exercise 1.2.": loss(start, "hinge"),
        "Only the real half of the loss is there.": F.softplus(-start(x)).mean().detach(),
        "Only the fake half of the loss is there.": F.softplus(start(fake)).mean().detach(),
        "That is the loss after the step: return the one from before.": loss(d),
        "That is the generator's loss: this step is the discriminator's.":
            F.softplus(-start(fake)).mean().detach(),
    }
    if extra:
        mistakes["The returned loss holds the penalty: add it to what you call backward() on, and "
                 "return the loss of exercise 1.2 alone. (After `total = loss`, `total += …` "
                 "changes `loss` as well; `total = loss + …` does not.)"
                 ] = torch.tensor(want + extra)
    expect(value_of(got), want, "the loss that is returned", mistakes)
    if isinstance(got, Tensor) and got.requires_grad:
        raise Wrong("Return a number, loss.item(): a tensor would keep its whole graph alive.")


def _moved(start: nn.Module, d: nn.Module, slopes: Any, more: Any, log: list[str]) -> None:
    def where(f: Any) -> list[Tensor]:
        triples = zip(start.parameters(), slopes, more, strict=True)
        return [f(p.detach(), s, m) for p, s, m in triples]

    def at(f: Any) -> bool:
        pairs = zip(d.parameters(), where(f), strict=True)
        return all(torch.allclose(p, q, atol=1e-5) for p, q in pairs)

    if at(lambda p, s, m: p - 0.1 * (s + m)):
        return
    if at(lambda p, s, m: p):
        raise Wrong("The discriminator's weights did not move: zero_grad(), backward(), step(), "
                    "once each and in this order.")
    if at(lambda p, s, m: p - 0.1 * (s + m + 1)) or at(lambda p, s, m: p - 0.1):
        raise Wrong("The step went down old gradients: call optimiser.zero_grad() before "
                    "backward(), and backward() before step().")
    if at(lambda p, s, m: p + 0.1 * (s + m)):
        raise Wrong("The step went up the loss: its sign is wrong where you call backward().")
    if at(lambda p, s, m: p - 0.1 * s):
        raise Wrong("The penalty was left out of the step: add penalty(discriminator, x) to the "
                    "loss before backward().")
    if at(lambda p, s, m: p - 0.1 * (s - m)):
        raise Wrong("You subtracted the penalty: it is added to the loss.")
    if len(log) > 1:
        raise Wrong(f"The optimiser took {len(log)} steps: one is wanted.")
    raise Wrong("The discriminator's weights are not where one step of the optimiser takes them: "
                "zero_grad(), backward(), step(), once each and in this order, on the loss that "
                "is returned (and the penalty, where there is one).")
