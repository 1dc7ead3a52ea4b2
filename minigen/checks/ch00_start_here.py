"""Checks of chapter 0's exercises."""

from typing import Any

import torch
from torch import Tensor

from minigen.checks import gaussian_crowd, gaussian_parts
from minigen.checks.compare import Answer, Wrong, expect, unchanged
from minigen.checks.start_answers import (  # noqa: F401  (found by name: minigen.checks.yours)
    eigenfaces_of,
    frechet_1d,
    gaussian_draw,
    mean_face,
    new_faces,
    to_unit_range,
)
from minigen.metrics import frechet_distance


def check_to_unit_range(answer: Answer) -> None:
    every = torch.arange(256, dtype=torch.uint8)
    image = torch.randint(3, 250, (2, 3, 4, 5), dtype=torch.uint8)
    for given, what in ((every, "the bytes 0 to 255"), (image, "an image batch (2, 3, 4, 5)")):
        x = given.float()
        low, high = x.min(), x.max()
        mistakes = {
            "Your result lies in [0, 1]: stretch it to [-1, 1].": x / 255,
            "Your result reaches from 0 to 2: the shift by -1 is missing.": x / 127.5,
            "Your result lies in [-1, 0]: divide by 127.5, not by 255.": x / 255 - 1,
            "Your result lies in [-0.5, 0.5]: it is to reach from -1 to 1.": x / 255 - 0.5,
            "Your result reaches from 1 to 3: subtract 1, do not add it.": x / 127.5 + 1,
            "Dividing by 128 makes 255 a little less than 1: half of 255 is 127.5.": x / 128 - 1,
            "Dividing by 127 makes 255 a little more than 1: half of 255 is 127.5.": x / 127 - 1,
            "128 for 127.5: then 255 is a little less than 1.": (x - 128) / 128,
            "The 1 was subtracted from the bytes: it comes off after the division.":
                (x - 1) / 127.5,
            "Bytes wrap around at 256: turn them into floats before the arithmetic.":
                (given * 2).float() / 255 - 1,
            ("Bytes wrap around at 256 and know no number below 0: turn them into floats before "
             "the arithmetic."): (given - 128).float() / 127.5,
            ("You stretched by the batch's own smallest and largest byte: another batch would be "
             "stretched otherwise. 0 is always -1, and 255 always 1."):
                2 * (x - low) / (high - low) - 1,
            "You standardised the batch: its mean is not wanted, only the range of a byte.":
                (x - x.mean()) / x.std(),
        }
        got = answer(given.clone())
        _type_of(got, x / 127.5 - 1)
        expect(got, x / 127.5 - 1, what, mistakes)


def _type_of(got: Any, want: Tensor) -> None:
    """Raise where the values are right, up to rounding, and the type is not."""
    if not isinstance(got, Tensor) or got.shape != want.shape or got.dtype == torch.float32:
        return
    near = torch.allclose(got.float(), want, atol=0.01)
    if near or torch.equal(got.float(), want.to(torch.uint8).float()):
        raise Wrong(f"The type is {got.dtype}; torch.float32 is wanted, the networks' type.")


def check_mean_face(answer: Answer) -> None:
    for shape in ((5, 3, 4, 6), (2, 1, 8, 8)):
        x = torch.rand(shape) * 2 - 1
        mistakes = {
            "You averaged over the channels: the faces are along the first axis, dim=0.": x.mean(1),
            "You averaged over the rows of pixels: the faces are along dim=0.": x.mean(2),
            "You averaged along each row of pixels: the faces are along dim=0.": x.mean(3),
            "You summed the faces: divide by how many there are.": x.sum(0),
            "You kept the batch axis; the mean face has shape (C, H, W).": x.mean(0, keepdim=True),
            "That is the mean of each channel: keep the pixels apart.": x.mean((0, 2, 3)),
            "That is a grey value for each face: average over the faces, dim=0.":
                x.mean((1, 2, 3)),
            "That is one number: keep the pixels apart and average over the faces only.": x.mean(),
            "You divided by one face too few: the mean is the sum over all of them, by their "
            "number.": x.sum(0) / (len(x) - 1),
            "That is the deviation; the mean is wanted.": x.std(0),
            "That is the first face only.": x[0],
            "You clipped the mean to [0, 1]: pixels reach from -1 to 1.": x.mean(0).clamp(0, 1),
            "You flattened the mean face: keep its shape (C, H, W).": x.mean(0).flatten(),
        }
        if len(x) > 2:
            mistakes["That is the median; the mean is wanted."] = x.median(0).values
        before = x.clone()
        expect(answer(before), x.mean(0), f"faces of shape {shape}", mistakes)
        unchanged({"faces": (before, x)})


def check_eigenfaces_of(answer: Answer) -> None:
    gaussian_parts.eigenfaces_of(answer)


def check_gaussian_draw(answer: Answer) -> None:
    gaussian_parts.gaussian_draw(answer)


def check_new_faces(answer: Answer) -> None:
    gaussian_crowd.new_faces(answer)


def check_frechet_1d(answer: Answer) -> None:
    for m1, v1, m2, v2 in ((0.0, 1.0, 0.0, 1.0), (1.0, 4.0, -2.0, 0.25), (0.3, 0.09, 0.1, 2.0)):
        one = [torch.tensor([m]).double() for m in (m1, m2)]
        cov = [torch.tensor([[v]]).double() for v in (v1, v2)]
        apart, s1, s2 = (m1 - m2) ** 2, v1**0.5, v2**0.5
        want = frechet_distance(one[0], cov[0], one[1], cov[1])
        mistakes = {
            ("You took the difference of the variances: take that of the standard deviations, "
             "their roots."): apart + (v1 - v2) ** 2,
            "You added the standard deviations: take their difference.": apart + (s1 + s2) ** 2,
            "You added the means: take their difference.": (m1 + m2) ** 2 + (s1 - s2) ** 2,
            "The squares are missing.": abs(m1 - m2) + abs(s1 - s2),
            "The square over the standard deviations is missing.": apart + abs(s1 - s2),
            "The square over the means is missing.": abs(m1 - m2) + (s1 - s2) ** 2,
            ("Either the roots are missing, or the square over the standard deviations: that is "
             "the difference of the variances."): apart + abs(v1 - v2),
            "The cross term -2 σ1 σ2 is missing: that is the sum of the variances.":
                apart + v1 + v2,
            "The cross term holds the standard deviations, not the variances.":
                apart + v1 + v2 - 2 * v1 * v2,
            "The cross term is counted once; it is twice σ1 σ2.": apart + v1 + v2 - s1 * s2,
            "The means are missing.": (s1 - s2) ** 2,
            "The spread is missing: only the means are compared.": apart,
            "The two squares are added, not subtracted.": apart - (s1 - s2) ** 2,
            "That is the sum, squared: square each difference by itself.":
                (m1 - m2 + s1 - s2) ** 2,
            "By custom the distance is left squared: no root at the end.": want**0.5,
        }
        given = f"N({m1}, {v1}) and N({m2}, {v2})"
        named = {meaning: torch.tensor(value) for meaning, value in mistakes.items()}
        expect(answer(m1, v1, m2, v2), want, given, named, tol=1e-5)
