"""Excursion 3's style exercises, checked: Gram matrices and AdaIN, their values and gradients."""

import torch
from torch import Tensor

from minigen.checks import pictures_answers as right
from minigen.checks.compare import Answer, Wrong, expect, value_of
from minigen.checks.text_cases import same_gradients

# pictures, channels, height, width; in the first no two axes are alike, and no divisor of the sums
# is another; in the last there are as many channels as places, so that a wrong product fits
GRAMS = ((2, 3, 4, 5), (3, 4, 2, 3), (2, 6, 2, 3))
# content, height and width of the style, ε: in the first it is too small to be seen
ADAINS = (((2, 3, 4, 5), (3, 2), 1e-5), ((3, 4, 2, 3), (5, 4), 0.3), ((2, 2, 3, 3), (3, 3), 0.05))


def _same_type(got: Tensor, dtype: torch.dtype, what: str) -> None:
    if got.dtype != dtype:
        raise Wrong(f"The type is {got.dtype}; {what} {dtype}: keep it.")


def gram(answer: Answer) -> None:
    for case, shape in enumerate(GRAMS):
        dtype = torch.float64 if case == 1 else torch.float32
        f = torch.randn(shape, dtype=dtype) + 0.7
        got = answer(f)
        expect(value_of(got), right.gram(f), f"features of shape {shape}", _mistakes_of_gram(f))
        _same_type(got, dtype, "the features have")
        same_gradients(answer, right.gram, {"features": f})


def _mistakes_of_gram(f: Tensor) -> dict[str, Tensor]:
    batch, channels, height, width = f.shape
    flat = f.flatten(2)                                                  # (B, C, H·W)
    total, places = flat @ flat.mT, height * width
    centred = flat - flat.mean(2, keepdim=True)
    unit = flat / flat.norm(dim=2, keepdim=True)
    mixed = f.reshape(batch, places, channels)
    crossed = f.permute(0, 2, 3, 1).reshape(batch, channels, places)
    mistakes = {
        "The division by the number of places, H W, is missing.": total,
        ("You divided by C H W, as some papers do: here by H W, the number of places that are "
         "summed over."): total / (channels * places),
        "You divided by the number of channels: by H W, the places that are summed over.":
            total / channels,
        "You divided by the number of pictures too: each picture has a matrix of its own.":
            total / (batch * places),
        "You divided by the root of H W: by H W itself.": total / places**0.5,
        "You divided by the height alone: by H W.": total / height,
        "You divided by the width alone: by H W.": total / width,
        "You divided by H W − 1: by H W, nothing is estimated.": total / (places - 1),
        ("The product is the wrong way round: it compares places, and a Gram matrix compares "
         "channels, F Fᵀ with F (C, H W)."): flat.mT @ flat / places,
        "The pictures were mixed: all share one matrix. Each has its own, (B, C, C).":
            total.mean(0) / places,
        "The pictures were summed into one matrix: each has its own, (B, C, C).":
            total.sum(0) / places,
        "You took the first picture's matrix for all.": (total[:1] / places).expand_as(total),
        "The mean is removed: that is a covariance. A Gram matrix takes the features as they are.":
            centred @ centred.mT / places,
        ("The channels were brought to length 1: those are cosines, and how strong a channel is "
         "has gone."): unit @ unit.mT,
        ("Only the channels' means were multiplied: first multiply at each place, then take the "
         "mean."): flat.mean(2)[:, :, None] * flat.mean(2)[:, None],
        "That is its diagonal only, each channel with itself: each two channels are wanted.":
            flat.square().mean(2),
        "Off the diagonal there are zeros: each two channels are wanted.":
            torch.diag_embed(flat.square().mean(2)),
        "The places have to be in one row, (B, C, H W), before the product: you multiplied rows.":
            f @ f.mT / places,
        "You summed products of rows of a picture: flatten the places first.": f @ f.mT,
        "A root was taken: that belongs to a norm.": (total / places).abs().sqrt(),
    }
    if channels != places:
        mistakes["The product is the wrong way round: it compares places (and you divided by C); "
                 "a Gram matrix compares channels, F Fᵀ with F (C, H W)."] = (
            flat.mT @ flat / channels)
        mistakes["reshape to (B, H W, C) does not exchange axes, it cuts the numbers anew: flatten "
                 "the places, features.flatten(2)."] = mixed.mT @ mixed / places
        mistakes["The axes were exchanged before the numbers were cut anew: keep channels where "
                 "they are, features.flatten(2)."] = crossed @ crossed.mT / places
    return mistakes


def adain(answer: Answer) -> None:
    for case, (shape, size, eps) in enumerate(ADAINS):
        dtype = torch.float64 if case == 1 else torch.float32
        content = 1.6 * torch.randn(shape, dtype=dtype) + 0.8
        style = torch.randn(*shape[:2], *size, dtype=dtype)
        style = style * torch.linspace(0.5, 2, shape[1], dtype=dtype).view(-1, 1, 1) - 1.1
        given = f"content {shape}, style {tuple(style.shape)} and eps {eps:g}"
        want = right.adain(content, style, eps)
        got = answer(content, style) if case == 0 else answer(content, style, eps)
        expect(value_of(got), want, given, _mistakes_of_adain(content, style, eps))
        _same_type(got, dtype, "content and style have")
        same_gradients(answer, right.adain, {"content": content, "style": style, "eps": eps})
    _flat_channel(answer)


def _flat_channel(answer: Answer) -> None:
    """Raise `Wrong` where a channel without any deviation gives no number."""
    content = torch.randn(2, 3, 4, 4)
    content[:, 1] = 0.5
    style = torch.randn(2, 3, 4, 4) - 1
    got = value_of(answer(content, style))
    if isinstance(got, Tensor) and not bool(got.isfinite().all()):
        raise Wrong("NaN or infinity where a channel is the same at every place: its variance is "
                    "0. ε is added to the variance, below the root.")
    given = "content with a channel that is the same everywhere"
    expect(got, right.adain(content, style), given)


def _mistakes_of_adain(c: Tensor, s: Tensor, eps: float) -> dict[str, Tensor]:
    def moments(x: Tensor, axes: tuple[int, ...] = (2, 3), n: int = 0) -> tuple[Tensor, Tensor]:
        variance, mean = torch.var_mean(x, axes, correction=n, keepdim=True)
        return mean, variance

    def moved(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> Tensor:
        return (b[1] + eps).sqrt() * (c - a[0]) / (a[1] + eps).sqrt() + b[0]

    (m, v), (n, w) = moments(c), moments(s)
    d, e = (v + eps).sqrt(), (w + eps).sqrt()
    plain = (c - m) / d
    mistakes = {
        "Content and style are swapped: the content's places stay, the style's statistics come.":
            d * (s - n) / e + m,
        "The style's deviation is missing: multiply by σ(y).": plain + n,
        "The style's mean is missing: add μ(y).": e * plain,
        "The style is missing: that is instance normalisation; σ(y) and μ(y) follow.": plain,
        "The content's mean is not removed: x − μ(x) first.": e * c / d + n,
        "The content's deviation is missing: divide by σ(x).": e * (c - m) + n,
        "Nothing has changed: σ(y) and μ(y) are the style's.": c,
        "The two deviations are exchanged: divide by the content's, multiply by the style's.":
            d * (c - m) / e + n,
        "The two means are exchanged: take the content's away, add the style's.":
            e * (c - n) / d + m,
        "You multiplied by the style's variance: by its root.": (w + eps) * plain + n,
        "You divided by the content's variance: by its root.": e * (c - m) / (v + eps) + n,
        "You took variances: their roots, the deviations, are wanted.":
            (w + eps) * (c - m) / (v + eps) + n,
        ("The deviations divide by H W − 1, as torch.std does by itself: here by H W "
         "(correction=0)."): moved(moments(c, n=1), moments(s, n=1)),
        "The statistics are the whole batch's: each picture has its own, over the axes (2, 3).":
            moved(moments(c, (0, 2, 3)), moments(s, (0, 2, 3))),
        "The statistics ran over the channels too: each channel has its own, axes (2, 3).":
            moved(moments(c, (1, 2, 3)), moments(s, (1, 2, 3))),
        "You took the first style for all: each picture has its own.":
            moved((m, v), (n[:1], w[:1])),
        "ε is not used: it is added to both variances, below the root.":
            w.sqrt() * (c - m) / v.sqrt() + n,
        "ε was added to the deviations: add it to the variances, below the root.":
            (w.sqrt() + eps) * (c - m) / (v.sqrt() + eps) + n,
        "ε is missing in the style's deviation: √(variance + ε) is meant of both.":
            w.sqrt() * plain + n,
        "ε is missing in the content's deviation: √(variance + ε) is meant of both.":
            e * (c - m) / v.sqrt() + n,
        "The style's mean is multiplied too: it is added last.": e * (plain + n),
        "The style's mean is taken away: add it.": e * plain - n,
        "The mean of the absolute differences is no deviation: the root of the mean square.":
            (s - n).abs().mean((2, 3), keepdim=True) * (c - m) / (
                (c - m).abs().mean((2, 3), keepdim=True)) + n,
    }
    if c.shape == s.shape:
        mistakes["The statistics run over the channels, axis 1: over the places, axes (2, 3)."] = (
            moved(moments(c, (1,)), moments(s, (1,))))
        mistakes["The statistics run over each row of a picture: over all places, (2, 3)."] = (
            moved(moments(c, (3,)), moments(s, (3,))))
        mistakes["The statistics run over each column of a picture: over all places, (2, 3)."] = (
            moved(moments(c, (2,)), moments(s, (2,))))
    return mistakes
