"""Chapter 1's loop of both networks, checked: whose turn it is, on which loss, with which noise."""

import copy
import traceback
import types
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from minigen import gan
from minigen.checks.compare import Answer, Wrong, expect
from minigen.checks.gan_step import Counted, alike, left_alone, networks, penalty_of_logits

SIZES = (6, 6, 4, 5)


def _batches() -> list[tuple[Tensor]]:
    generator = torch.Generator().manual_seed(5)
    return [(torch.randn(n, 2, generator=generator) + 1,) for n in SIZES]


def _steeper(f: Tensor) -> Tensor:
    return (0.3 * f.square() - f).mean()


def _played(
    g: Any, d: Any, penalty: Any = None, loss: Any = None, fresh: bool = False,
    one_z: bool = False, zero_g: bool = True, zero_d: bool = True, own: Any = None,
    d_too: bool = False, up: bool = False, train_d: bool = True
) -> tuple[Any, Any, list[tuple[float, float]]]:
    """The loop, and what can go wrong in it. fresh: the generator's turn draws new noise."""
    g, d = copy.deepcopy(g), copy.deepcopy(d)
    opt_g, opt_d = (torch.optim.SGD(net.parameters(), lr=0.1) for net in (g, d))
    rng, losses, z = torch.Generator().manual_seed(3), [], torch.zeros(0)
    for (x,) in _batches():
        if not one_z or not len(z):
            z = torch.randn(len(x), 3, generator=rng)
        z = z[: len(x)]
        for_d = gan.discriminator_loss(d(x), d(g(z).detach()))
        total = for_d + penalty(d, x) if penalty else for_d
        if zero_d:
            opt_d.zero_grad()
        total.backward()
        if train_d:
            opt_d.step()
        z2 = torch.randn(len(x), 3, generator=rng) if fresh else z
        for_g = (own or loss or gan.generator_loss)(d(g(z2)))
        if zero_g:
            opt_g.zero_grad()
        (-for_g if up else for_g).backward()
        opt_g.step()
        if d_too:
            opt_d.step()
        losses.append((for_d.item(), for_g.item()))
    return g, d, losses


def gan_loop(answer: Answer) -> None:
    """Check the loop: turns, losses, noise, what it yields and when."""
    torch.manual_seed(2)
    g, d = networks()
    for options in ({}, dict(penalty=penalty_of_logits), dict(loss=_steeper)):
        mine, theirs, log, got = _run(answer, g, d, **options)
        left_alone(mine, theirs)
        _turns(log)
        if not options:
            _repeatable(answer, g, d)
        _as_played(g, d, mine, theirs, got, options)
    _lazy(answer, g, d)


def _run(
    answer: Answer, g: Any, d: Any, data: Any = None, seed: int = 3, **options: Any
) -> tuple[Any, ...]:
    mine, theirs, log = copy.deepcopy(g), copy.deepcopy(d), []  # type: Any, Any, list[str]
    mine.given = []
    extra = [options.get(name) for name in ("penalty", "loss")][: 2 if "loss" in options else 1]
    optimisers = Counted(mine, "G", log), Counted(theirs, "D", log)
    loop = answer(mine, theirs, *optimisers, iter(_batches()) if data is None else data,
                  torch.Generator().manual_seed(seed), *extra)
    if data is not None:
        return mine, theirs, log, loop
    if loop is None:
        raise Wrong("Your function returned None: `yield` both losses after the two steps of every "
                    "batch.")
    if not isinstance(loop, types.GeneratorType):
        raise Wrong(f"Your function returned a {type(loop).__name__}: it should `yield` both "
                    "losses inside its loop, after the two steps of every batch.")
    try:
        got = list(loop)
    except TypeError as e:
        _name_rebound(loop, e)
        raise
    except RuntimeError as e:
        if isinstance(e.__cause__, StopIteration):
            raise Wrong("A next(…) in your loop was asked for more than there is: `for (x,) in "
                        "data:` takes one batch after another and ends where the data end."
                        ) from None
        if "does not require grad" not in str(e):
            raise
        raise Wrong("A loss had no gradient to go back: either a network was left with "
                    "requires_grad off, or what its loss is made of is detached.") from None
    return mine, theirs, log, _losses(got, len(SIZES))


def _name_rebound(loop: types.GeneratorType, e: TypeError) -> None:
    """Raise `Wrong` where the answer's loop gave the name `loss` to a value and then called it."""
    for frame, _ in traceback.walk_tb(e.__traceback__):
        held = frame.f_locals.get("loss")
        said = f"'{type(held).__name__}' object is not callable"
        if frame.f_code is loop.gi_code and not callable(held) and said in str(e):
            raise Wrong("In your function `loss` is the function it is given; your loop gave the "
                        f"name to a value as well, and a {type(held).__name__} cannot be called. "
                        "Give the value another name, such as for_g = loss(…).") from None


def _losses(got: list[Any], n: int) -> list[tuple[float, float]]:
    if len(got) != n:
        raise Wrong(f"From {n} batches your loop yielded {len(got)} times: once after the two "
                    "steps of every batch.")
    for one in got:
        if not isinstance(one, tuple | list) or len(one) != 2:
            raise Wrong("Yield two things, the discriminator's loss and the generator's: "
                        "yield for_d, for_g.")
        for v, whose in zip(one, ("discriminator's", "generator's"), strict=True):
            if isinstance(v, Tensor) and v.requires_grad:
                raise Wrong(f"Yield numbers, .item(): the {whose} loss is a tensor, which would "
                            "keep its whole graph alive.")
    return [(float(a), float(b)) for a, b in got]


def _turns(log: list[str]) -> None:
    n = len(SIZES)
    for name, whole in (("G", "generator"), ("D", "discriminator")):
        if name not in log:
            raise Wrong(f"The {whole} never took a step: its turn ends with opt_{name.lower()}"
                        ".step().")
        if log.count(name) != n:
            raise Wrong(f"In {n} batches the {whole}'s optimiser took {log.count(name)} steps: one "
                        "in each is wanted.")
    if log == ["G", "D"] * n:
        raise Wrong("The generator stepped first: in each batch the discriminator's turn comes "
                    "before the generator's.")
    if log != ["D", "G"] * n:
        raise Wrong("The two networks take turns, a step each in every batch; yours stepped in the "
                    f"order {' '.join(log[:6])} …")


def _as_played(g: Any, d: Any, mine: Any, theirs: Any, got: Any, options: Any) -> None:
    for fresh in (False, True):
        right_g, right_d, losses = _played(g, d, fresh=fresh, **options)
        if alike(mine, right_g) and alike(theirs, right_d):
            want = torch.tensor(losses)
            swapped = {"The discriminator's loss is yielded first, then the generator's.":
                       want.flip(1)}
            expect(torch.tensor(got), want, "the losses that are yielded", swapped)
            return
    if alike(mine, g):
        raise Wrong("The generator's weights did not move: in its turn its samples are not "
                    "detached, and zero_grad() comes before backward().")
    if {len(z) for z in mine.given} != set(SIZES):
        raise Wrong("The noise has as many rows as the batch, len(x), which need not be the same "
                    "in each.")
    noise = torch.cat(mine.given)
    if bool((noise >= 0).all()):
        raise Wrong("The noise is never negative: torch.randn, not torch.rand.")
    for meaning, change in _mistakes(options).items():
        for fresh in (False, True):
            bad_g, bad_d, _ = _played(g, d, **({"fresh": fresh} | options | change))
            if alike(mine, bad_g) and alike(theirs, bad_d):
                raise Wrong(meaning)
    if all(torch.equal(z[:4], mine.given[0][:4]) for z in mine.given):
        raise Wrong("Every batch had the same noise: draw z anew inside the loop.")
    who = "generator" if alike(theirs, _played(g, d, **options)[1]) else "networks"
    raise Wrong(f"The {who} did not end where one step each a batch leads. For the discriminator: "
                "discriminator_step, with the penalty it may be given. For the generator: its "
                "loss of discriminator(generator(z)), without detach; zero_grad(), backward(), "
                "step(). And the noise is drawn with generator=rng.")


def _mistakes(options: Any) -> dict[str, dict[str, Any]]:
    ways: dict[str, dict[str, Any]] = {
        "Every batch had the same noise: draw z anew inside the loop.": dict(one_z=True),
        "The generator's old gradients were still there: opt_g.zero_grad() before backward().":
            dict(zero_g=False),
        ("The discriminator's old gradients were still there, those too that the generator's turn "
         "leaves in it: opt_d.zero_grad() before its backward()."): dict(zero_d=False),
        "The generator was taught to be caught: its fakes should be taken for real ones.":
            dict(own=lambda f: F.softplus(f).mean()),
        "The generator's step went up its loss: the sign is wrong.": dict(up=True),
        "The discriminator's weights moved in the generator's turn: only opt_g steps there.":
            dict(d_too=True),
    }
    if "penalty" in options:
        ways["The penalty did not reach the discriminator's step: pass it on to "
             "discriminator_step."] = dict(penalty=None)
    if "loss" in options:
        ways["The generator's loss is the argument `loss`, which need not be g_loss."] = dict(
            own=gan.generator_loss)
    else:
        ways["That is the minimax loss for the generator: take `loss`, which is g_loss unless "
             "another is given."] = dict(own=lambda f: -F.softplus(f).mean())
    return ways


def _repeatable(answer: Answer, g: Any, d: Any) -> None:
    ends = []
    for seed, rng_seed in ((1, 3), (2, 3), (2, 4)):
        torch.manual_seed(seed)
        ends.append(_run(answer, g, d, seed=rng_seed)[0])
    if not _same_noise(ends[0], ends[1]):
        raise Wrong("Twice with equal rngs, two different noises: draw the noise with "
                    "generator=rng.")
    if not alike(ends[0], ends[1], tol=1e-7):
        raise Wrong("Twice with equal rngs, two different results: the noise is the only thing to "
                    "be drawn, and with generator=rng.")
    if _same_noise(ends[1], ends[2]):
        raise Wrong("Another rng, the same noise: draw it with generator=rng, not with a generator "
                    "or a seed of your own.")


def _same_noise(a: Any, b: Any) -> bool:
    """Whether two generators were given the same noise."""
    return len(a.given) == len(b.given) and all(map(torch.equal, a.given, b.given))


def _lazy(answer: Answer, g: Any, d: Any) -> None:
    taken: list[int] = []

    def counted() -> Iterator[tuple[Tensor]]:
        for k, batch in enumerate(_batches()):
            taken.append(k)
            yield batch

    _, _, log, loop = _run(answer, g, d, counted())
    next(loop)
    if len(taken) == len(SIZES):
        raise Wrong("Your loop read the data to its end before the first step: data may be "
                    "endless; take a batch, train, yield, and go on.")
    if len(log) > 2:
        raise Wrong("Your loop trained on before it yielded: yield after the two steps of every "
                    "batch, inside the loop.")
