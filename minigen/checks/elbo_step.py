"""Chapter 2's training step, checked: encode, sample, decode, loss, and one step of the weights."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from minigen.checks.compare import Answer, Wrong, expect, value_of
from minigen.checks.vae_answers import gaussian_kl, negative_elbo, reparameterised

LR = 0.01


class _Spy(nn.Module):
    """A small linear VAE that keeps what it was asked."""

    def __init__(self, latent_dim: int = 3, pixels: int = 12):
        super().__init__()
        self.latent_dim = latent_dim
        self.encoder = nn.Linear(pixels, 2 * latent_dim)
        self.decoder = nn.Linear(latent_dim, pixels)
        self.encoded: list[Tensor] = []
        self.decoded: list[Tensor] = []

    def encode(self, x: Tensor, y: None = None) -> tuple[Tensor, Tensor]:
        self.encoded.append(x.detach().clone())
        mean, logvar = self.encoder(x.flatten(1)).chunk(2, dim=1)
        return mean + 0.5, logvar - 0.5

    def decode(self, z: Tensor, y: None = None) -> Tensor:
        if not isinstance(z, Tensor) or z.shape[1:] != (self.latent_dim,):
            raise Wrong("decode takes one code for each image, a tensor of shape "
                        f"(B, {self.latent_dim}): z, drawn with the mean and the log-variance.")
        self.decoded.append(z.detach().clone())
        return self.decoder(z).view(len(z), 3, 2, 2)

    def forward(self, x: Tensor, y: None = None, generator: Any = None) -> None:
        raise Wrong("model(x) draws noise of its own. Go in three steps: model.encode(x), z with "
                    "the eps that is given, model.decode(z).")


def check(answer: Answer) -> None:
    for batch, beta in ((5, 0.3), (4, 2.0)):
        start, x, eps = _Spy(), torch.randn(batch, 3, 2, 2), torch.randn(batch, 3)
        spy, got = _one_step(answer, start, x, beta, eps)
        mean, logvar = start.encode(x)
        z = reparameterised(mean, logvar, eps)
        _asked_once(spy, x)
        _expect_code(spy.decoded[0], mean.detach(), logvar.detach(), eps)
        x_hat = start.decode(z)
        try:
            _expect_numbers(got, x, x_hat.detach(), mean.detach(), logvar.detach(), beta)
        except Wrong as e:
            if not e.named:
                _heeds_beta(answer, start, x, eps)
            raise
        loss = negative_elbo(x, x_hat, mean, logvar, beta)
        _expect_moved(spy, start, loss, _detached(start, x, eps, beta))


def _one_step(
    answer: Answer, start: _Spy, x: Tensor, beta: float, eps: Tensor
) -> tuple[_Spy, Any]:
    """(the model after the answer's step, what the answer returned); start is left as it was."""
    spy = copy.deepcopy(start)
    for p in spy.parameters():
        p.grad = torch.ones_like(p)               # left over from an earlier step
    optimiser = torch.optim.SGD(spy.parameters(), lr=LR)
    try:
        return spy, answer(spy, optimiser, x.clone(), beta, eps.clone())
    except RuntimeError as e:
        if "inplace operation" in str(e):
            raise Wrong("The weights moved before loss.backward(), with the gradients of the "
                        "step before: optimiser.step() comes last.") from None
        raise


def _heeds_beta(answer: Answer, start: _Spy, x: Tensor, eps: Tensor) -> None:
    """Raise `Wrong` where the loss that is returned is the same for two β."""
    one, other = (_one_step(answer, start, x, beta, eps)[1][0] for beta in (0.3, 2.0))
    if _is(one, torch.as_tensor(float(other))):
        raise Wrong("With β = 0.3 and with β = 2 the loss is the same: the price of the rate is "
                    "the argument beta.")


def _asked_once(spy: _Spy, x: Tensor) -> None:
    for calls, name in ((spy.encoded, "encode"), (spy.decoded, "decode")):
        if len(calls) != 1:
            raise Wrong(f"In one step the model is asked to {name} once; yours asked "
                        f"{len(calls)} times.")
    if spy.encoded[0].shape != x.shape or not torch.allclose(spy.encoded[0], x):
        raise Wrong("The encoder was shown something else than the images x.")


def _expect_code(z: Tensor, mean: Tensor, logvar: Tensor, eps: Tensor) -> None:
    deviation = (0.5 * logvar).exp()
    mistakes = {
        ("Mean and log-variance are swapped in z: encode returns the mean first, and "
         "reparameterised takes it first."): reparameterised(logvar, mean, eps),
        "You decoded the mean: nothing is drawn. z = mean + σ·eps.": mean,
        "You decoded the noise alone: that is how a *new* face is drawn. z = mean + σ·eps.": eps,
        "You multiplied eps by the variance: the deviation is e^(v/2).":
            mean + logvar.exp() * eps,
        "You multiplied eps by the log-variance itself: the deviation is e^(v/2).":
            mean + logvar * eps,
        "eps is not scaled with the deviation, e^(v/2).": mean + eps,
        "The mean is missing in z.": deviation * eps,
        "The noise is subtracted: z = mean + σ·eps.": mean - deviation * eps,
    }
    try:
        expect(z, reparameterised(mean, logvar, eps), "the code that was decoded", mistakes)
    except Wrong as e:
        if str(e) in mistakes:
            raise
        raise Wrong("What was decoded is not mean + σ·eps with the eps that is given: either the "
                    "noise is another, or the two are put together otherwise.") from None


def _expect_numbers(
    got: Any, x: Tensor, x_hat: Tensor, mean: Tensor, logvar: Tensor, beta: float
) -> None:
    if got is None:
        raise Wrong("Your function returned None: return the loss and the rate, two numbers.")
    if not isinstance(got, tuple | list) or len(got) != 2:
        raise Wrong("Return two numbers, the loss and the rate: return loss.item(), rate.item().")
    if any(isinstance(v, Tensor) and v.requires_grad for v in got):
        raise Wrong("Return numbers, with .item(): the tensors would keep the whole graph alive.")
    want, rate = negative_elbo(x, x_hat, mean, logvar, beta), gaussian_kl(mean, logvar).mean()
    distortion = want - beta * rate
    turned = gaussian_kl(logvar, mean).mean()
    if _is(got[0], rate) and _is(got[1], want):
        raise Wrong("The two are swapped: the loss comes first, then the rate.")
    mistakes: Mapping[str, Tensor] = {
        "The loss is without its rate: add β times the KL.": distortion,
        "The loss is without its distortion.": beta * rate,
        "β is missing in the loss.": distortion + rate,
        "The price is 1/β: multiply the rate by β, do not divide it.": distortion + rate / beta,
        "The distortion is divided by β: it is the rate that has a price, and is multiplied.":
            distortion / beta + rate,
        "β is on both terms: it is the price of the rate only.": beta * (distortion + rate),
        "Mean and log-variance are swapped in the KL: the mean comes first.":
            distortion + beta * turned,
        "β is on the distortion; it is the price of the rate.": beta * distortion + rate,
        "The rate is subtracted in the loss; it is added.": distortion - beta * rate,
        "The loss is summed over the batch: take the mean of the images.": len(x) * want,
        "The squared error is averaged over the pixels: sum it over each image.":
            distortion / x[0].numel() + beta * rate,
        "The ½ of the squared error is missing.": 2 * distortion + beta * rate,
        "The ½ is on both terms: the KL has its own already.": distortion + beta * rate / 2,
        "The sign is turned: the ELBO grows, the loss falls.": -want,
    }
    expect(value_of(got[0]), want, "the loss that is returned", mistakes, tol=1e-3)
    expect(value_of(got[1]), rate, "the rate that is returned", {
        "The second number is the rate without its price: leave β out.": beta * rate,
        "The rate is summed over the batch: take the mean of the images.": len(x) * rate,
        "The second number is the distortion; the rate is wanted.": distortion,
        "The second number is the loss again; the rate is wanted.": want,
        "The rate is averaged over the dimensions: sum them.": rate / mean.shape[1],
        "Mean and log-variance are swapped in the rate: the mean comes first.": turned,
    }, tol=1e-3)


def _is(got: Any, want: Tensor) -> bool:
    """Whether something returned is this number."""
    try:
        return abs(float(got) - float(want)) < 1e-3 * abs(float(want))
    except (TypeError, ValueError):
        return False


def _detached(start: _Spy, x: Tensor, eps: Tensor, beta: float) -> dict[str, Tensor]:
    """{what was cut off: the loss of the same value without that gradient}."""
    mean, logvar = start.encode(x)
    z = reparameterised(mean, logvar, eps)

    def loss(code: Tensor, m: Tensor, v: Tensor) -> Tensor:
        return negative_elbo(x, start.decode(code), m, v, beta)

    return {
        "z is detached: the squared error no longer teaches the encoder.":
            loss(z.detach(), mean, logvar),
        "The mean's gradient through z is cut: mean, log-variance and eps go into z undetached.":
            loss(reparameterised(mean.detach(), logvar, eps), mean, logvar),
        "The deviation is detached: σ is part of z, and learns from it.":
            loss(reparameterised(mean, logvar.detach(), eps), mean, logvar),
        "The rate is detached: the encoder never feels its price.":
            loss(z, mean.detach(), logvar.detach()),
        "The encoder is cut off: keep mean and log-variance in the graph.":
            loss(z.detach(), mean.detach(), logvar.detach()),
    }


def _moved(start: _Spy, loss: Tensor, left: float = 0.0) -> list[Tensor]:
    """The weights one step down a loss; left: what stood in the gradients before."""
    slopes = torch.autograd.grad(loss, list(start.parameters()), retain_graph=True,
                                 allow_unused=True, materialize_grads=True)
    return [p.detach() - LR * (s + left) for p, s in zip(start.parameters(), slopes, strict=True)]


def _expect_moved(spy: _Spy, start: _Spy, loss: Tensor, cut: Mapping[str, Tensor]) -> None:
    now, before = list(spy.parameters()), list(start.parameters())
    if _alike(now, _moved(start, loss)):
        return
    if _alike(now, before):
        raise Wrong("The loss is right, but the weights did not move: loss.backward(), then "
                    "optimiser.step(), with zero_grad before both.")
    for meaning, other in cut.items():
        if _alike(now, _moved(start, other)) or _alike(now, _moved(start, other, 1.0)):
            raise Wrong(meaning)
    if _alike(now, _moved(start, loss, 1.0)):
        raise Wrong("The gradients of the step before were still there: optimiser.zero_grad().")
    if _alike(now, _moved(start, -loss)):
        raise Wrong("The weights climbed: the loss that goes backward has the wrong sign.")
    raise Wrong("The numbers are right, but the weights did not move by one step of the optimiser "
                "down the gradient of that loss.")


def _alike(a: list[Any], b: list[Any]) -> bool:
    return all(torch.allclose(p, q, atol=1e-5) for p, q in zip(a, b, strict=True))
