"""Chapter 0's whole generator, checked by what it draws: mean, covariance, range."""

from collections.abc import Callable

import torch
from torch import Tensor

from minigen.checks.compare import Answer, Wrong, unchanged
from minigen.checks.gaussian_parts import near, spread

DRAWS = 20_000
Near = Callable[[Tensor], bool]


def _pictures(n: int, seed: int, size: float = 0.03) -> Tensor:
    """n pictures (1, 2, 3) whose six numbers go together, so small that no draw is clipped."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(6, 6, generator=generator)
    mix = mix / mix.square().sum(0).sqrt()
    x = torch.randn(n, 6, generator=generator) @ mix
    return (size * (x - x.mean(0)) + torch.linspace(-0.2, 0.15, 6)).view(n, 1, 2, 3)


def _many_numbers() -> Tensor:
    """160 pictures (2, 8, 8) that vary along all of 128 directions, along each by as much."""
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(160, 128, generator=generator)
    flat = torch.linalg.qr(x - x.mean(0)).Q * 160**0.5
    return (0.03 * flat + 0.1).view(160, 2, 8, 8)


def _drawn(answer: Answer, images: Tensor, n: int, seed: int = 1) -> Tensor:
    """What the answer draws, if it is n finite images of the shape given."""
    before = images.clone()
    try:
        got = answer(before, n, torch.Generator().manual_seed(seed))
    except RuntimeError as e:
        if "is invalid for input of size" in str(e):
            e.args = (f"{e}. The function has to work for images of any shape; these are "
                      f"{tuple(images.shape)}. Is there a shape that is written out, where "
                      "*images.shape[1:] belongs?",)
        raise
    unchanged({"images": (before, images)})
    if got is None:
        raise Wrong("Your function returned None. Is there a `return`?")
    if not isinstance(got, Tensor):
        raise Wrong(f"Your function returned a {type(got).__name__}; a tensor is wanted.")
    want = (n, *images.shape[1:])
    if tuple(got.shape) != want:
        hint = ""
        if got.ndim == 2 and got[0].numel() == images[0].numel():
            hint = " Give each row the shape of an image again."
        elif len(got) == len(images) != n:
            hint = " n says how many to draw, not the number of images given."
        raise Wrong(f"{len(images)} images, n = {n}: the shape is {tuple(got.shape)}; {want} is "
                    f"wanted.{hint}")
    if not torch.isfinite(got).all():
        raise Wrong(f"From {len(images)} images of {images[0].numel()} numbers come NaN: is there "
                    "a root of a variance that rounding put below 0?")
    if got.dtype != torch.float32:
        raise Wrong(f"The type is {got.dtype}; torch.float32 is wanted, as the images are.")
    return got.detach()


def new_faces(answer: Answer) -> None:
    images = _pictures(30, seed=0)
    few = _drawn(answer, images, 3)
    if torch.equal(few[0], few[1]):
        raise Wrong("All draws are alike: one row of noise for each, (n, R).")
    got = _drawn(answer, images, DRAWS)
    if not torch.equal(got, _drawn(answer, images, DRAWS)):
        raise Wrong("Twice the same generator, two results: draw the noise with "
                    "torch.randn(…, generator=generator).")
    if torch.equal(got, _drawn(answer, images, DRAWS, seed=2)):
        raise Wrong("Another generator, the same draws: draw the noise from the generator that is "
                    "given, and do not seed it yourself.")
    nearest = (got[:50, None] - images).flatten(2).abs().amax(2).amin(1)
    if nearest.max() < 1e-5:
        raise Wrong("Those are the images given, every one of them: new ones are wanted.")
    _right_crowd(images, got)
    _clipped(_drawn(answer, _pictures(30, seed=1, size=1.5), 1000))
    for few_images in (_pictures(4, seed=2), _pictures(30, seed=3).repeat(1, 3, 1, 1)):
        _right_crowd(few_images, _drawn(answer, few_images, DRAWS))
    images = _many_numbers()
    got = _drawn(answer, images, DRAWS)
    _all_directions(images, got)
    _right_crowd(images, got)


def _all_directions(images: Tensor, drawn: Tensor) -> None:
    """Raise where the draws vary along fewer directions than the images."""
    want, got = (int((torch.linalg.eigvalsh(torch.cov(x.flatten(1).double().T)) > 1e-5).sum())
                 for x in (images, drawn))
    if got < want:
        raise Wrong(f"Your draws vary along {got} directions, the {len(images)} images of "
                    f"{images[0].numel()} numbers along {want}: are some of the eigenfaces "
                    "left out?")


def _clipped(wide: Tensor) -> None:
    """Raise unless draws of which about half leave [-1, 1] were clipped to it."""
    most = float(wide.abs().max())
    if most > 1 + 1e-6:
        raise Wrong(f"Your draws reach {most:.2f}: clip them to [-1, 1], .clamp(-1, 1).")
    if (wide.abs() > 1 - 1e-6).float().mean() < 0.2:
        raise Wrong("Draws that leave [-1, 1] are clipped, .clamp(-1, 1): yours are squeezed into "
                    "it some other way, which moves all the others, too.")


def _right_crowd(images: Tensor, drawn: Tensor) -> None:
    """Raise unless the draws have the images' mean and covariance."""
    x, y = images.flatten(1).double(), drawn.flatten(1).double()
    mean, cov = x.mean(0), torch.cov(x.T, correction=0)
    got_mean, got_cov = y.mean(0), torch.cov(y.T, correction=0)
    what = f"{DRAWS:,} draws from {len(x)} images of {x.shape[1]} numbers"

    def alike(value: Tensor) -> bool:
        return near(got_cov, value, 0.07)

    _name_spread(x, got_cov, alike)
    far = (got_mean - mean).abs().max()
    tolerance = 6 * float((cov.diagonal().max() / DRAWS).sqrt())
    if far > tolerance:
        for meaning, value in (("The mean is missing.", 0 * mean),
                               ("The mean is subtracted; it is added.", -mean),
                               ("The mean was added twice.", 2 * mean),
                               ("The draws were squeezed by tanh, which moves all of them: clip "
                                "those that leave [-1, 1], .clamp(-1, 1).", mean.tanh())):
            if (got_mean - value).abs().max() < tolerance:
                raise Wrong(meaning)
        raise Wrong(f"In {what} the mean face is off by up to {float(far):.2g}. Is the noise of "
                    "mean 0, and is the images' mean added as it is?")
    if alike(cov):
        return
    ratio = float((got_cov * cov).sum() / cov.square().sum())
    if alike(ratio * cov):
        raise Wrong(f"In {what} the covariance is {ratio:.2g} times the images'.")
    worst = float((got_cov - cov).abs().max() / cov.abs().max())
    raise Wrong(f"In {what} the covariance is another than the images': off by up to "
                f"{100 * worst:.0f} % of the largest.")


def _name_spread(x: Tensor, got: Tensor, alike: Near) -> None:
    """Raise what the covariance of the draws says went wrong, where it is a known mistake."""
    n, d = x.shape
    cov = torch.cov(x.T, correction=0)
    if alike(cov):
        return
    values, axes = torch.linalg.eigh(cov)
    values = values.clamp_min(0)
    raw = x.T @ x / n
    flat, turned = torch.linalg.eigh(raw)
    named = {
        "The pixels are drawn independently: their deviations are right, and nothing makes them "
        "agree.": cov.diagonal().diag(),
        "The noise is scaled by the variances: by their roots, the standard deviations.":
            spread(axes, values.square()),
        "The root was taken twice.": spread(axes, values.sqrt()),
        "The noise is not scaled by the standard deviations.": torch.eye(d).double(),
        "Variances and eigenfaces are in opposite orders: turn both round, or neither.":
            spread(axes, values.flip(0)),
        "The covariance was not divided by the number of images.": n * cov,
        "The covariance was divided by the number of images twice.": cov / n,
        f"You divided by N - 1 = {n - 1}; Σ has 1/N.": n / (n - 1) * cov,
        "The eigenfaces are missing: coordinates along them are not pixels yet.": values.diag(),
        "The eigenfaces are missing: coordinates along them are no pixels yet.":
            values.flip(0).diag(),
        "The noise is torch.rand, from 0 to 1: torch.randn.": cov / 12,
        "The mean was not taken off the images before their covariance was taken.":
            spread(turned, flat.clamp_min(0)),
    }
    if len(x) > d:
        lower = torch.linalg.cholesky(cov)
        named["Of Σ = L Lᵀ the wrong half was used: rows of noise go times L.T."] = lower.T @ lower
    for meaning, value in named.items():
        if alike(value):
            raise Wrong(meaning)
    unscaled = (x.mean(0) + torch.randn(DRAWS, d)).clamp(-1, 1)
    if alike(torch.cov(unscaled.T)):
        raise Wrong("The noise is not scaled by the standard deviations.")
    across = axes.T @ (values[:, None] * axes)
    back = axes.flip(1).T @ (values.flip(0)[:, None] * axes.flip(1))
    if any(near(got.abs(), wrong.abs(), 0.07) for wrong in (across, back)):
        raise Wrong("Eigenfaces are columns, and samples are rows: @ eigenfaces.T, the transpose.")
