"""Chapter 0's exercises, answered: what stands in below an exercise until a learner's passes."""

import torch
from torch import Tensor


def to_unit_range(byte_images: Tensor) -> Tensor:
    return byte_images.float() / 127.5 - 1


def mean_face(batch: Tensor) -> Tensor:
    return batch.mean(0)


def eigenfaces_of(centred: Tensor) -> tuple[Tensor, Tensor]:
    variances, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
    return vectors.flip(1), variances.flip(0).clamp_min(0)


def gaussian_draw(mean: Tensor, eigenfaces: Tensor, variances: Tensor, noise: Tensor) -> Tensor:
    return mean + (noise * variances.sqrt()) @ eigenfaces.T


def new_faces(images: Tensor, n: int, generator: torch.Generator) -> Tensor:
    mean = mean_face(images).flatten()
    eigenfaces, variances = eigenfaces_of(images.flatten(1) - mean)
    noise = torch.randn(n, len(variances), generator=generator)
    return gaussian_draw(mean, eigenfaces, variances, noise).clamp(-1, 1).view(n, *images.shape[1:])


def frechet_1d(mean1: float, var1: float, mean2: float, var2: float) -> float:
    return (mean1 - mean2) ** 2 + (var1**0.5 - var2**0.5) ** 2
