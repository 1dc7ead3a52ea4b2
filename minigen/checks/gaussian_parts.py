"""The parts of chapter 0's Gaussian, checked: its axes, and a draw."""

from typing import Any

import torch
from torch import Tensor

from minigen.checks import start_answers as right
from minigen.checks.compare import Answer, Wrong, expect, unchanged


def spread(axes: Tensor, variances: Tensor) -> Tensor:
    """U diag(λ) Uᵀ"""
    return (axes * variances) @ axes.T


def near(got: Tensor, want: Tensor, tol: float = 1e-3) -> bool:
    """Whether no entry is off by more than tol times the largest that is wanted."""
    return got.shape == want.shape and float((got - want).abs().max()) <= tol * float(
        want.abs().max())


def eigenfaces_of(answer: Answer) -> None:
    for n, d in ((40, 6), (5, 12)):
        x = torch.randn(n, d) @ torch.randn(d, d)
        x = x - x.mean(0)
        before = x.clone()
        axes, variances = _two_of(answer(before), n, d)
        unchanged({"images": (before, x)})
        _right_axes(x, axes.double(), variances.double())
        if variances.min() < 0:
            raise Wrong("Rounding puts a variance that should be 0 a little below 0, and its root "
                        "would be NaN: .clamp_min(0).")


def _two_of(got: Any, n: int, d: int) -> tuple[Tensor, Tensor]:
    """Eigenfaces and variances, if they are two tensors of the shapes wanted."""
    if got is None:
        raise Wrong("Your function returned None. Is there a `return`?")
    if not isinstance(got, tuple | list) or len(got) != 2 or not all(
            isinstance(t, Tensor) for t in got):
        what = f"{len(got)} things" if isinstance(got, tuple | list) else type(got).__name__
        raise Wrong(f"Return two tensors, `return eigenfaces, variances`; yours returned {what}.")
    axes, variances = got
    if axes.ndim == 1 and variances.ndim == 2:
        raise Wrong("The two are swapped: the eigenfaces come first, then the variances.")
    if axes.is_complex() or variances.is_complex():
        raise Wrong("The numbers are complex: torch.linalg.eig is for any matrix and in no order; "
                    "a covariance is symmetric, torch.linalg.eigh.")
    if axes.ndim != 2 or variances.ndim != 1:
        raise Wrong(f"The shapes are {tuple(axes.shape)} and {tuple(variances.shape)}; ({d}, R) "
                    "and (R,) are wanted.")
    if not torch.isfinite(axes).all() or not torch.isfinite(variances).all():
        raise Wrong(f"For {n} images of {d} numbers the result holds NaN or infinity.")
    if axes.dtype != torch.float32 or variances.dtype != torch.float32:
        raise Wrong(f"The types are {axes.dtype} and {variances.dtype}; torch.float32 is wanted, "
                    "as the images are.")
    if axes.shape != (d, len(variances)):
        if axes.shape == (len(variances), d):
            raise Wrong("Your eigenfaces are the rows: they are wanted as columns, the transpose.")
        raise Wrong(f"For {n} images of {d} numbers the eigenfaces have the shape "
                    f"{tuple(axes.shape)}; ({d}, R) is wanted, a column each. Is it the matrix of "
                    "the pixels, images.T @ images, whose eigenvectors you took?")
    return axes, variances


def _right_axes(x: Tensor, axes: Tensor, variances: Tensor) -> None:
    n, x = len(x), x.double()
    want = x.T @ x / n
    rising = bool((variances.diff() > 1e-6 * variances.abs().max()).any())
    if near(spread(axes, variances), want) and not rising:
        return
    if near(spread(axes, variances), want):
        raise Wrong("Smallest first: eigh counts upwards, so turn both round, .flip.")
    if near(spread(axes.flip(1), variances), want):
        raise Wrong("Eigenfaces and variances are in opposite orders: turn both round, the "
                    "eigenfaces along their columns, .flip(1).")
    for upside_down in (axes.flip(0), axes.flip(0, 1)):
        if near(spread(upside_down, variances), want):
            raise Wrong("The eigenfaces were turned upside down: .flip(1) turns the order of the "
                        "columns, .flip(0) that of the pixels.")
    order = "" if not rising else " And the largest comes first."
    if len(axes) == len(variances) and near(spread(axes.T, variances), want):
        raise Wrong("Your eigenfaces are the rows: they are wanted as columns, the transpose.")
    named = {
        "You did not divide by the number of images: a variance is a mean.": variances / n,
        f"You divided by N - 1 = {n - 1}; Σ has 1/N, so divide by {n}.": variances * (n - 1) / n,
        "You divided by the number of pixels; Σ is a mean over the images.":
            variances * x.shape[1] / n,
        "Those are the standard deviations: λ are the variances, no root.": variances.square(),
        "Those are singular values: the variance is s²/N.": variances.square() / n,
        "You divided by N twice.": variances * n,
        "Those are the squares of the variances.": variances.clamp_min(0).sqrt(),
    }
    for meaning, value in named.items():
        if near(spread(axes, value), want):
            raise Wrong(meaning + order)
    lengths = axes.square().sum(0)
    if (lengths - 1).abs().max() > 1e-3:
        raise Wrong(f"A column has the length {float(lengths.max().sqrt()):.3g}: eigenvectors have "
                    "length 1. Is a normalisation missing?")
    if len(variances) < min(n - 1, x.shape[1]):
        raise Wrong(f"There are {len(variances)} eigenfaces; {n} images of {x.shape[1]} numbers "
                    f"have {min(n - 1, x.shape[1])}.")
    raise Wrong("U diag(λ) Uᵀ does not give the images' covariance matrix, images.T @ images / N.")


def gaussian_draw(answer: Answer) -> None:
    for pixels, rank in ((6, 6), (12, 4)):
        mean, noise = torch.randn(pixels), torch.randn(5, rank)
        axes = torch.linalg.qr(torch.randn(pixels, rank)).Q
        variances = torch.tensor([9.0, 4.0, 2.0, 1.0, 0.5, 0.25])[:rank]
        root = variances.sqrt()
        want = right.gaussian_draw(mean, axes, variances, noise)
        mistakes = {
            ("You scaled by the variances: the noise is scaled by the standard deviation, their "
             "square root."): mean + (noise * variances) @ axes.T,
            "The root was taken twice: √λ is the standard deviation.":
                mean + (noise * root.sqrt()) @ axes.T,
            "You divided by the standard deviations: noise is stretched by them.":
                mean + (noise / root) @ axes.T,
            "The mean is missing.": want - mean,
            "The noise is not scaled by the standard deviations.": mean + noise @ axes.T,
            "The noise is neither scaled nor is the mean added.": noise @ axes.T,
            "The mean is subtracted; it is added.": want - 2 * mean,
            "The noise is subtracted; it is added.": 2 * mean - want,
            "You clipped the result: here it is left as it is.": want.clamp(-1, 1),
            "All rows got the first row's noise.": want[:1].expand_as(want),
        }
        if pixels == rank:
            mistakes |= {
                "Eigenfaces are columns, and samples are rows: @ eigenfaces.T, the transpose.":
                    mean + (noise * root) @ axes,
                "First stretch along the eigenfaces, then turn: you scaled the pixels.":
                    mean + noise @ axes.T * root,
                ("The mean is of pixels: it is added at the end, after the turn, and is not "
                 "stretched."): (mean + noise * root) @ axes.T,
            }
        given = [t.clone() for t in (mean, axes, variances, noise)]
        got = answer(*given)
        again = answer(*[t.clone() for t in (mean, axes, variances, noise)])
        if isinstance(got, Tensor) and isinstance(again, Tensor) and not torch.equal(got, again):
            raise Wrong("Twice the same noise, two results: take the noise that is given, draw "
                        "none of your own.")
        expect(got, want, f"{pixels} pixels, {rank} eigenfaces and 5 draws", mistakes)
        names = ("mean", "eigenfaces", "variances", "noise")
        olds = (mean, axes, variances, noise)
        unchanged({k: (now, old) for k, now, old in zip(names, given, olds, strict=True)})
