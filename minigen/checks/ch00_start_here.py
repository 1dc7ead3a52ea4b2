"""Checks of chapter 0's exercises."""

import torch

from minigen.checks.compare import Answer, Wrong, expect
from minigen.metrics import frechet_distance


def check_to_unit_range(answer: Answer) -> None:
    every = torch.arange(256, dtype=torch.uint8)
    want = every.float() / 127.5 - 1
    mistakes = {
        "Your result lies in [0, 1]: stretch it to [-1, 1].": every / 255,
        "Your result reaches from 0 to 2: the shift by -1 is missing.": every / 127.5,
        "Dividing by 128 makes 255 a little less than 1: half of 255 is 127.5.": every / 128 - 1,
        "Bytes wrap around at 256: turn them into floats before the arithmetic.":
            (every * 2).float() / 255 - 1,
    }
    got = answer(every.clone())
    expect(got, want, "the bytes 0 to 255", mistakes)
    if got.dtype != torch.float32:
        raise Wrong(f"The type is {got.dtype}; torch.float32 is wanted, the networks' type.")
    image = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8)
    expect(answer(image.clone()), image.float() / 127.5 - 1, "an image batch (2, 3, 4, 5)")


def check_mean_face(answer: Answer) -> None:
    for shape in ((5, 3, 4, 6), (2, 1, 8, 8)):
        x = torch.rand(shape) * 2 - 1
        mistakes = {
            "You averaged over the channels: the faces are along the first axis, dim=0.": x.mean(1),
            "You summed the faces: divide by how many there are.": x.sum(0),
            "You kept the batch axis; the mean face has shape (C, H, W).": x.mean(0, keepdim=True),
            "That is the mean of each channel: keep the pixels apart.": x.mean((0, 2, 3)),
            "That is one number: keep the pixels apart and average over the faces only.": x.mean(),
        }
        expect(answer(x.clone()), x.mean(0), f"faces of shape {shape}", mistakes)


def check_gaussian_draw(answer: Answer) -> None:
    mean, noise = torch.randn(12), torch.randn(5, 4)
    eigenfaces = torch.linalg.qr(torch.randn(12, 4)).Q
    variances = torch.tensor([9.0, 4.0, 1.0, 0.25])
    want = mean + (noise * variances.sqrt()) @ eigenfaces.T
    mistakes = {
        ("You scaled by the variances: the noise is scaled by the standard deviation, their square "
         "root."):
            mean + (noise * variances) @ eigenfaces.T,
        "The mean is missing.": want - mean,
        "The noise is not scaled by the standard deviations.": mean + noise @ eigenfaces.T,
        "The mean is subtracted; it is added.": want - 2 * mean,
    }
    got = answer(mean, eigenfaces, variances, noise)
    expect(got, want, "12 pixels, 4 eigenfaces and 5 draws", mistakes)


def check_frechet_1d(answer: Answer) -> None:
    for m1, v1, m2, v2 in ((0.0, 1.0, 0.0, 1.0), (1.0, 4.0, -2.0, 0.25), (0.3, 0.09, 0.1, 2.0)):
        one = [torch.tensor([m]).double() for m in (m1, m2)]
        cov = [torch.tensor([[v]]).double() for v in (v1, v2)]
        mistakes = {
            ("You took the difference of the variances: take that of the standard deviations, "
             "their roots."):
                torch.tensor((m1 - m2) ** 2 + (v1 - v2) ** 2),
            "The squares are missing.": torch.tensor(abs(m1 - m2) + abs(v1**0.5 - v2**0.5)),
            "The means are missing.": torch.tensor((v1**0.5 - v2**0.5) ** 2),
            "The spread is missing: only the means are compared.": torch.tensor((m1 - m2) ** 2),
            "By custom the distance is left squared: no root at the end.":
                torch.tensor(((m1 - m2) ** 2 + (v1**0.5 - v2**0.5) ** 2) ** 0.5),
        }
        want = frechet_distance(one[0], cov[0], one[1], cov[1])
        given = f"N({m1}, {v1}) and N({m2}, {v2})"
        expect(answer(m1, v1, m2, v2), want, given, mistakes, tol=1e-5)
