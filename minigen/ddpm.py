"""Chapter 5: DDPM. The loss, the training, the running average of weights, sampling step by step.

Sources: Ho et al. 2020 (DDPM); Liu, Chen, Gao 2026, §3.3.
"""

import collections
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm.auto import tqdm

from minigen.common import Batches, counted, evaluating, filled, one_cycle
from minigen.common import generator as seeded
from minigen.diffusion import SCHEDULES, Diffusion, learned_variance
from minigen.inputs import described, images, is_number, labels, number, refuse, tensor, whole

SCALE = 100.0  # far beyond any image in [-1, 1] or normalised latent, and short of bytes

# a network, or any function: (x, t) or (x, t, y) → what it makes of x
Denoiser = Callable[..., Tensor]
# one for all images, or one for each
Generators = torch.Generator | list[torch.Generator] | tuple[torch.Generator, ...] | None


def simple_loss(model: Denoiser, diffusion: Diffusion, x0: Tensor, t: Tensor, eps: Tensor,
                y: Tensor | None = None, prediction: str | None = None) -> Tensor:
    """Mean squared error of the network's view of a noised batch, every step weighted alike.

    E ‖ε − ε_θ(√ᾱ_t x_0 + √(1 − ᾱ_t) ε, t, y)‖², or x_0 or v in the place of ε.
    prediction: as in `prediction_of`. Shapes: x0, eps (B, …), t (B,); result a scalar.
    Source: Ho et al. 2020, Eq. 14; Liu, Chen, Gao 2026, Eq. 27.
    """
    prediction = prediction_of(model, prediction)
    xt = diffusion.add_noise(x0, t, eps)
    output = ask(model, xt, t, y)
    target = diffusion.target(x0, eps, t, prediction)
    return (output - target).square().mean()


def prediction_of(model: Denoiser, prediction: str | None = None) -> str:
    """What a network predicts, "eps", "x0", "v" or "velocity", as it says: `model.prediction`.

    A function that says nothing predicts ε, unless `prediction` names something else.
    Raises: ValueError where `prediction` contradicts the network.
    """
    own = getattr(_bare(model), "prediction", None)
    if own is not None and prediction not in (None, own):
        raise ValueError(f"this network predicts {own}, and prediction='{prediction}' was asked "
                         "for: leave the argument out")
    return own or prediction or "eps"


def schedule_of(model: Denoiser) -> str | None:
    """The noise schedule a network was trained on, as it says itself; None where it does not."""
    return getattr(_bare(model), "schedule", None)


def diffusion_of(model: Denoiser) -> Diffusion:
    """The forward process that a network was trained on: `model.schedule`, else DDPM's linear."""
    return Diffusion(SCHEDULES[schedule_of(model) or "linear"]())


def check_diffusion(model: Denoiser, diffusion: Diffusion) -> None:
    """Raises: ValueError for another forward process than the one a network was trained on."""
    schedule = schedule_of(model)
    if schedule is None:
        return
    own = diffusion_of(model)
    if own.T != diffusion.T or not torch.allclose(own.alpha_bar, diffusion.alpha_bar.cpu()):
        raise ValueError(f"this network was trained on the {schedule} schedule of {own.T} steps, "
                         "and this diffusion is another: take ddpm.diffusion_of(model)")


def _bare(model: Denoiser) -> Denoiser:
    """The network inside torch's wrappers: averages, compiled ones, those of several processes."""
    while isinstance(inner := getattr(model, "module", getattr(model, "_orig_mod", None)),
                     nn.Module):
        model = inner
    return model


def ask(model: Denoiser, x: Tensor, t: Tensor, y: Tensor | None = None,
        channels: int = 1) -> Tensor:
    """model(x, t) or model(x, t, y), its answer's shape checked.

    Shapes: x (B, C, …) → (B, channels · C, …).
    """
    tensor(x, "x", ("B", "C", ...))
    output = model(x, t) if y is None else model(x, t, y)
    want = (len(x), channels * x.shape[1], *x.shape[2:])
    if not isinstance(output, torch.Tensor) or output.shape != want:
        gave = tuple(output.shape) if isinstance(output, torch.Tensor) else described(output)
        c = x.shape[1]
        why = ""
        if channels == 1 and gave == (len(x), 2 * c, *x.shape[2:]):
            why = (': this network also answers a variance, which variance="learned" in '
                   "ddpm_sample reads; elsewhere pass its first half, lambda x, t: "
                   f"model(x, t)[:, :{c}]")
        elif channels == 2 and gave == tuple(x.shape):
            why = ": this network answers no variance; learn_variance=True builds one that does"
        raise ValueError(f"the model must answer a {tuple(x.shape)} input with the shape {want}; "
                         f"it gave {gave}{why}")
    return output


def ema(model: nn.Module, decay: float = 0.9999) -> AveragedModel:
    """A running average of a model's weights, d · average + (1 − d) · weights.

    d = min(decay, (1 + n) / (10 + n)) after n steps

    The warm-up, d small at first, lets it forget the untrained weights; a constant 0.9999 would
    still hold 37 % of them after 10,000 steps. (torch's AveragedModel copies the weights at its
    first update; n is 1 at the second.) Call `.update_parameters(model)` after each step and sample
    from `.module`. Averages of 16-bit weights would stand still, so give it a float32 model.
    """
    number(decay, "decay", 0, 1)
    if not isinstance(model, nn.Module):
        refuse("the model", "a torch.nn.Module, whose weights are averaged", described(model))

    @torch.no_grad()
    def average(averaged, current, n):
        d = min(decay, (1 + int(n)) / (10 + int(n)))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 - d)
        else:
            torch._foreach_copy_(averaged, current)

    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)


class DDPMStep(NamedTuple):
    """One step of `train_ddpm`: its number (from 1) and the batch's loss."""

    step: int
    loss: float


def train_ddpm(model: nn.Module, data: Batches, diffusion: Diffusion, *, steps: int,
               loss: Callable[..., Tensor] = simple_loss, lr: float = 1e-3,
               average: AveragedModel | None = None, clip: float = 1.0,
               seed: int = 0) -> Iterator[DDPMStep]:
    """Train on batches (x,) or (x, y), each image at a random time step; a `DDPMStep` a step.

    loss: function (model, diffusion, x0, t, eps, y) → scalar, as `simple_loss`.
    average: an `ema` to keep up to date. clip: longest gradient; longer ones are shortened to it.
    The learning rate follows one cycle up to `lr`.
    Source: Ho et al. 2020, Algorithm 1; Liu, Chen, Gao 2026, Algorithm 2.
    Raises: ValueError where `data` ends before `steps`.
    """
    check_diffusion(model, diffusion)
    if clip != math.inf:
        number(clip, "clip", positive=True)
    optimiser = torch.optim.Adam(model.parameters(), lr=number(lr, "lr", 0))
    schedule = one_cycle(optimiser, lr, steps)
    generator = seeded(seed)
    device = next(model.parameters()).device
    model.train()
    for step, (x0, *y) in counted(data, steps):
        images(x0, ("B", ...), "x0", SCALE)
        t = torch.randint(diffusion.T, (len(x0),), generator=generator)
        eps = torch.randn(x0.shape, generator=generator)
        x0, t, eps, *y = (v.to(device) for v in (x0, t, eps, *y))
        value = loss(model, diffusion, x0, t, eps, *y)
        optimiser.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimiser.step()
        schedule.step()
        if average is not None:
            average.update_parameters(model)
        yield DDPMStep(step, value.item())


class Denoised(NamedTuple):
    """A state of sampling: a time step, x after it, and the guess of x_0 behind it.

    t is the step just undone, in inversion the one reached.
    """

    t: int
    x: Tensor
    x0: Tensor


def draw_like(x: Tensor, generator: Generators = None) -> Tensor:
    """Standard normal noise in x's shape.

    With a list of generators, one for each image, image k depends on its own only.
    """
    tensor(x, "x", ("N", ...))
    each = generator if isinstance(generator, list | tuple) else [generator]
    if not each or not all(g is None or isinstance(g, torch.Generator) for g in each):
        wanted = "a torch.Generator, or a list of them"
        refuse("generator", wanted, described(generator), "torch.Generator().manual_seed(0)")
    if not isinstance(generator, list | tuple):
        return torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
    if len(each) != len(x):
        wanted = "give one, or one for each"
        raise ValueError(f"{len(each)} generators for {len(x)} images: {wanted}")
    drawn = [torch.randn(x.shape[1:], generator=g, dtype=x.dtype) for g in each]
    return torch.stack(drawn).to(x.device)


def guess(model: Denoiser, diffusion: Diffusion, x: Tensor, t: int, y: Tensor | None = None,
          prediction: str | None = None, clip: Sequence[float] | None = None,
          batch_size: int = 256, channels: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """The model asked in batches: (x_0, ε, rest) at one time step t.

    clip=(low, high) bounds x_0, and ε follows it. rest: the output's further channels where
    `channels` is 2 (a learned variance), else empty.
    """
    prediction = prediction_of(model, prediction)
    at = torch.full((1,), t, device=x.device)
    batch_size = whole(batch_size, "batch_size")
    given = [None] * math.ceil(len(x) / batch_size) if y is None else y.split(batch_size)
    pairs = zip(x.split(batch_size), given, strict=True)
    parts = [ask(model, part, at, label, channels) for part, label in pairs]
    further = (channels - 1) * x.shape[1]
    output, rest = torch.cat(parts).split([x.shape[1], further], 1)    # (N, C, …), (N, further, …)
    x0, eps = diffusion.views(output, x, at, prediction)
    if clip is not None:
        x0 = x0.clamp(*clip)
        eps = diffusion.views(x0, x, at, "x0")[1]
    return x0, eps, rest


def ddpm_sample(model: Denoiser, diffusion: Diffusion, xT: Tensor, y: Tensor | None = None, *,
                prediction: str | None = None, variance: str = "small",
                clip: Sequence[float] | None = None, generator: Generators = None,
                batch_size: int = 256, progress: bool = False) -> Iterator[Denoised]:
    """Ancestral sampling from xT ~ N(0, I): all T steps, each a draw at the guessed x_0.

    Yields a `Denoised` for t = T − 1 … 0; the last one's x is the sample (`last` runs to it).

    x_{t−1} = μ̃(x̂_0, x_t) + √v z

    v = β̃_t ("small"), β_t ("large"; β̃_1 at the first, as in DDPM's code), or "learned": the model
    answers with 2·C channels and `learned_variance` reads them. No noise is added at t = 0.
    prediction: what the model predicts; without it, what the model itself says, else ε.
    clip: (-1, 1) keeps pixels in their range; the default None is right for latents.
    generator: for the noise, or a list of one for each image. Samples do not depend on batch_size,
    which only bounds how many the model is given at once.
    Shapes: xT (N, …). Source: Ho et al. 2020, Algorithm 2.
    Raises: ValueError for labels of another length, an unknown variance, a model whose output has
    the wrong shape.
    """
    check_variance(variance)
    check_diffusion(model, diffusion)
    check_sampling(xT, y, clip, batch_size)
    large = diffusion.betas
    if diffusion.T > 1:
        large = torch.cat([diffusion.posterior_variance[1:2], diffusion.betas[1:]])
    channels = 2 if variance == "learned" else 1
    x = xT
    for t in tqdm(range(diffusion.T - 1, -1, -1), desc="sampling", disable=not progress):
        with evaluating(model):
            x0, _, rest = guess(
                model, diffusion, x, t, y, prediction, clip, batch_size, channels)
            at = torch.full((1,), t)
            mean, v = diffusion.posterior(x0, x, at)
            if variance == "large":
                v = diffusion.at(large, at, x)
            elif variance == "learned":
                v = learned_variance(diffusion, rest, at)
            x = mean + v.sqrt() * draw_like(x, generator) if t > 0 else mean    # none at the end
        yield Denoised(t, x, x0)


def check_variance(variance: str) -> None:
    """Raises: ValueError for a variance that is not known by name."""
    if not isinstance(variance, str) or variance not in ("small", "large", "learned"):
        raise ValueError(f"variance must be 'small', 'large' or 'learned'; got '{variance}'")


def check_sampling(xT: Tensor, y: Tensor | None = None, clip: Sequence[float] | None = None,
                   batch_size: int = 1) -> None:
    """Raises: ValueError for what no sampler can begin with."""
    filled(tensor(xT, "what sampling begins with", ("N", "C", ...)), "what sampling begins with")
    whole(batch_size, "batch_size")
    if isinstance(y, torch.Tensor) and y.ndim == 1 and len(y) != len(xT):
        raise ValueError(f"{len(y)} labels for {len(xT)} samples: give one for each")
    if y is not None:
        labels(y, len(xT), what="samples")
    bounds = clip if isinstance(clip, list | tuple) else ()
    both = len(bounds) == 2 and all(map(is_number, bounds))
    if clip is not None and not (both and bounds[0] < bounds[1]):
        refuse("clip", "None or (low, high), as (-1, 1) for pixels", described(clip))


def last(trajectory: Iterable[Any]) -> Tensor:
    """Run a sampler, an iterator of states that have an x, to its end; its final x."""
    states = collections.deque(trajectory if hasattr(trajectory, "__iter__") else (), maxlen=1)
    if not states or not hasattr(states[0], "x"):
        raise ValueError("the trajectory must hold states, as a sampler yields them; got none: "
                         "a sampler runs once, so start it again")
    return states.pop().x
