"""Chapter 4's training step, checked: the autoencoder's, and from its start the judge's."""

import copy
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigen.checks.compare import Answer, Wrong, unchanged
from minigen.checks.ivqvae_answers import balance

LAMBDA = 0.25


class _Tiny(nn.Module):
    """An autoencoder of thirteen numbers that counts how often it is run."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(0.7))
        self.last = nn.Conv2d(3, 3, 1)
        self.runs = 0

    def forward(self, x: Tensor) -> tuple[Tensor, SimpleNamespace]:
        self.runs += 1
        return self.last(self.a * x), SimpleNamespace(loss=(self.a - 2).square())


class _World(NamedTuple):
    """Two networks, their optimisers, a batch."""

    model: _Tiny
    judge: nn.Module
    optimisers: tuple[torch.optim.Optimizer, torch.optim.Optimizer]
    x: Tensor

    @classmethod
    def fresh(cls, seed: int) -> "_World":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model, x = _Tiny(), torch.rand(4, 3, 4, 4) * 2 - 1
            top = nn.Conv2d(4, 1, 1)
            nn.init.normal_(top.weight, std=2.0)             # logits on both sides of ±1
            judge = nn.Sequential(nn.Conv2d(3, 4, 2, 2), nn.Tanh(), top)
        for p in (*model.parameters(), *judge.parameters()):
            p.grad = torch.full_like(p, 0.5)          # left over from an earlier step
        optimisers = (torch.optim.SGD(model.parameters(), lr=0.1),
                      torch.optim.SGD(judge.parameters(), lr=0.2))
        return cls(model, judge, optimisers, x)


def _distance(x: Tensor, y: Tensor) -> Tensor:
    return 3 * (x - y).square().mean((1, 2, 3))


class _After(NamedTuple):
    """What a step leaves behind: the three numbers, and both networks' weights in a row."""

    numbers: Tensor
    model: Tensor
    judge: Tensor

    def like(self, other: "_After") -> bool:
        return all(torch.allclose(a, b, rtol=1e-4, atol=1e-6)
                   for a, b in zip(self, other, strict=True))


def _row(net: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def _hinge(real: Tensor, fake: Tensor) -> Tensor:
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def _weighed(l1: Tensor, p: Tensor, g: Tensor, vq: Tensor, w: Tensor) -> Tensor:
    return l1 + p + LAMBDA * balance(l1 + p, g, w) * g + (1 - LAMBDA) * vq


def _stepped(
    seed: int, judged: bool, total: Callable[..., Tensor] = _weighed, sign: float = -1.0,
    square: bool = False, clear: str = "both", move: Sequence[int] = (0, 1), first: int = 0,
    d_loss: Callable[[Tensor, Tensor], Tensor] = _hinge, anew: bool = False
) -> _After:
    """The step, or one that goes wrong in one way."""
    model, judge, optimisers, x = _World.fresh(seed)
    x_hat, quantized = model(x)
    error = (x_hat - x).square() if square else (x_hat - x).abs()
    l1, p, g, loss_d = error.mean(), _distance(x_hat, x).mean(), torch.zeros(()), torch.zeros(())

    def judges_step() -> Tensor:
        seen = model(x)[0] if anew else x_hat
        loss = d_loss(judge(x), judge(seen.detach()))
        if clear not in ("model", "early"):
            optimisers[1].zero_grad()
        loss.backward()
        if 1 in move:
            optimisers[1].step()
        return loss

    if judged and first == 1:
        loss_d = judges_step()
    if judged:
        g = sign * judge(x_hat).mean()
    if clear != "judge":
        optimisers[0].zero_grad()
    if clear == "early":
        optimisers[1].zero_grad()
    loss = total(l1, p, g, quantized.loss, model.last.weight) if judged else (
        l1 + p + (1 - LAMBDA) * quantized.loss)
    loss.backward()
    if 0 in move:
        optimisers[0].step()
    if judged and first == 0:
        loss_d = judges_step()
    numbers = torch.stack([l1, g, loss_d]).detach()
    return _After(numbers, _row(model), _row(judge))


def _bce(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-real).mean() + F.softplus(fake).mean()


# the sentence that names a mistake, and the step that has it
WRONG: dict[str, dict[str, Any]] = {
    "The sign of L_G is wrong: the decoder wants the judge's logits high, L_G = −mean.":
        dict(sign=1.0),
    "The balance is missing: L_G is multiplied by balance(l1 + perceptual, L_G, weight).":
        dict(total=lambda a, p, g, v, w: a + p + LAMBDA * g + (1 - LAMBDA) * v),
    "The reconstruction in the balance is L1 and the perceptual loss together: you gave it L1.":
        dict(total=lambda a, p, g, v, w:
             a + p + LAMBDA * balance(a, g, w) * g + (1 - LAMBDA) * v),
    "λ_d is missing before the adversarial loss.":
        dict(total=lambda a, p, g, v, w: a + p + balance(a + p, g, w) * g + (1 - LAMBDA) * v),
    "λ_vq = 1 − λ_d is missing before the quantizer's loss.":
        dict(total=lambda a, p, g, v, w: a + p + LAMBDA * balance(a + p, g, w) * g + v),
    "The perceptual loss is missing in the total.":
        dict(total=lambda a, p, g, v, w:
             a + LAMBDA * balance(a + p, g, w) * g + (1 - LAMBDA) * v),
    "The perceptual loss is missing everywhere: distance(x_hat, x).mean().":
        dict(total=lambda a, p, g, v, w: a + LAMBDA * balance(a, g, w) * g + (1 - LAMBDA) * v),
    "The quantizer's loss is missing: quantized.loss.":
        dict(total=lambda a, p, g, v, w: a + p + LAMBDA * balance(a + p, g, w) * g),
    "The adversarial loss is missing in the total.":
        dict(total=lambda a, p, g, v, w: a + p + (1 - LAMBDA) * v),
    "That is the squared error: L1 is the absolute one.": dict(square=True),
    "The autoencoder's gradients of the step before were still there: zero_grad before backward.":
        dict(clear="judge"),
    ("The judge's gradients of the step before were still there: its zero_grad, before its "
     "backward, is missing."): dict(clear="model"),
    ("The judge's gradients still held what the autoencoder's backward had left in them: its "
     "zero_grad comes right before its own backward."): dict(clear="early"),
    "The autoencoder's weights did not move: its optimiser's step is missing.": dict(move=(1,)),
    "The judge's weights did not move: its optimiser's step is missing.": dict(move=(0,)),
    "The judge's step came first: the autoencoder's comes first.": dict(first=1),
    "Real and reconstructed are swapped in the judge's loss.":
        dict(d_loss=lambda r, f: _hinge(f, r)),
    "The judge's loss is the hinge's: you took the logarithms of chapter 1.": dict(d_loss=_bce),
    "The judge's loss is without max(0, ·): then it falls for ever.":
        dict(d_loss=lambda r, f: 0.5 * ((1 - r).mean() + (1 + f).mean())),
    "The ½ before the judge's two terms is missing.": dict(d_loss=lambda r, f: 2 * _hinge(r, f)),
    "The judge saw the real images only.": dict(d_loss=lambda r, f: 0.5 * F.relu(1 - r).mean()),
    "The judge saw the reconstructions only.": dict(d_loss=lambda r, f: 0.5 * F.relu(1 + f).mean()),
}


def _numbers(got: Any) -> Tensor:
    if got is None:
        raise Wrong("Your function returned None; three numbers are wanted: L1, L_G and the "
                    "judge's loss.")
    if not isinstance(got, tuple | list) or len(got) != 3:
        raise Wrong(f"Your function returned a {type(got).__name__}; three numbers are wanted: L1, "
                    "L_G and the judge's loss.")
    if any(isinstance(v, Tensor) and v.requires_grad for v in got):
        raise Wrong("Return numbers, .item(): a tensor would keep the whole graph alive.")
    try:
        return torch.tensor([float(v) for v in got])
    except (TypeError, ValueError, RuntimeError):
        raise Wrong("What you return is not three numbers: L1, L_G, the judge's loss.") from None


def _run(answer: Answer, seed: int, step: int, start: int) -> _After:
    model, judge, optimisers, x = _World.fresh(seed)
    before = x.clone()
    try:
        got = answer(model, judge, optimisers, x, _distance, model.last.weight, LAMBDA, step, start)
    except RuntimeError as e:
        if "second time" not in str(e) and "modified by an inplace" not in str(e):
            raise
        raise Wrong("A backward went through a graph that is gone. Either the judge's step goes "
                    "back into the autoencoder, where x_hat.detach() belongs, or one loss is "
                    "taken backward twice.") from None
    numbers = _numbers(got)
    unchanged({"images": (x, before)})
    if model.runs != 1:
        raise Wrong(f"The autoencoder was run {model.runs} times: one x_hat serves both steps.")
    if not all(p.requires_grad for p in (*model.parameters(), *judge.parameters())):
        raise Wrong("Your function left weights that no longer want a gradient.")
    return _After(numbers, _row(model), _row(judge))


def _compare(got: _After, seed: int, judged: bool, when: str, wrong: dict[str, _After]) -> None:
    want = _stepped(seed, judged)
    if got.like(want):
        return
    for meaning, after in wrong.items():
        if got.like(after):
            raise Wrong(meaning)
    for i, name in enumerate(("the first number, L1,", "the second number, L_G,",
                              "the third number, the judge's loss,")):
        if not torch.isclose(got.numbers[i], want.numbers[i], rtol=1e-4, atol=1e-6):
            raise Wrong(f"{when} {name} is {got.numbers[i]:.4g}; {want.numbers[i]:.4g} is wanted.")
    if not torch.allclose(got.model, want.model, rtol=1e-4, atol=1e-6):
        raise Wrong(f"{when} the three numbers are right, but the autoencoder's weights did not "
                    "move by one step down the gradient of the total loss.")
    raise Wrong(f"{when} the three numbers and the autoencoder are right, but the judge's weights "
                "did not move by one step down the gradient of its loss.")


def check(answer: Answer) -> None:
    for seed in (0, 1):
        judged, plain = _stepped(seed, True), _stepped(seed, False)
        early = copy.deepcopy(judged)
        only_d = _After(early.numbers * torch.tensor([1.0, 0.0, 1.0]), plain.model, early.judge)
        wrong = {meaning: _stepped(seed, True, **how) for meaning, how in WRONG.items()}
        wrong["Nothing was judged: from step `start` on, that step included, the judge counts."] = (
            plain)
        for step, when in ((9, "At step 9, with start 5,"), (5, "At step 5, with start 5,")):
            _compare(_run(answer, seed, step, 5), seed, True, when, wrong)
        _compare(_run(answer, seed, 4, 5), seed, False, "At step 4, with start 5,", {
            "Before `start` the judge must not count, nor learn.": judged,
            "Before `start` the judge must not learn either.": only_d,
            "Before `start` L_G must not count.": _After(
                early.numbers * torch.tensor([1.0, 1.0, 0.0]), judged.model, plain.judge),
            "The autoencoder learns before `start` too.": _After(
                plain.numbers, _row(_World.fresh(seed).model), plain.judge),
        })
