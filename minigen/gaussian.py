"""Chapter 0: the simplest generator of images, one Gaussian over all pixels, and its axes, the eigenfaces.

Source: Turk & Pentland 1991 (eigenfaces).
"""

import torch

from minigen.common import generator
from minigen.inputs import images as checked
from minigen.inputs import tensor, whole

RANGE = 10.0  # any scale is a Gaussian's to fit; bytes are not meant


class GaussianModel:
    """x ~ N(μ, U diag(λ) Uᵀ), fitted to images by maximum likelihood; U holds the eigenfaces, λ their variances.

    Shapes: images (N, C, H, W) with N ≥ 2; mean (D,); eigenfaces (D, R), variances (R,) descending,
        D = C·H·W, R = min(N − 1, D).
    Raises: ValueError for fewer than two images, for images that are bytes or of another shape.
    """

    def __init__(self, images):
        checked(images, ("N", "C", "H", "W"), largest=RANGE)
        if len(images) < 2:
            raise ValueError(f"images must be (N, C, H, W) with N at least 2; got {tuple(images.shape)}")
        if not bool(torch.isfinite(images).all()):
            raise ValueError("images hold NaN or infinite values")
        self.shape = tuple(images.shape[1:])
        flat = images.flatten(1).double()
        self.mean = flat.mean(0)
        centred = flat - self.mean
        rank = min(len(flat) - 1, flat.shape[1])
        if len(flat) > flat.shape[1]:                 # the smaller of the two symmetric matrices
            values, vectors = torch.linalg.eigh(centred.T @ centred)
        else:
            values, small = torch.linalg.eigh(centred @ centred.T)
            vectors = centred.T @ small / values.clamp_min(1e-12).sqrt()
        self.variances = values.flip(0)[:rank].clamp_min(0) / len(flat)
        self.eigenfaces = vectors.flip(1)[:, :rank]

    def encode(self, images, components):
        """Coordinates along the first eigenfaces, Uᵀ(x − μ). Shapes: (B, C, H, W) → (B, components)."""
        checked(images, ("B", *self.shape), largest=RANGE)
        whole(components, "components", 1, len(self.variances))
        return (images.flatten(1).double() - self.mean) @ self.eigenfaces[:, :components]

    def decode(self, coordinates):
        """μ + U c. Shapes: (B, components) → (B, C, H, W) float32; may leave [-1, 1]."""
        tensor(coordinates, "coordinates", ("B", "K"))
        whole(coordinates.shape[1], "the number of coordinates", 1, len(self.variances))
        flat = self.mean + coordinates.double() @ self.eigenfaces[:, : coordinates.shape[1]].T
        return flat.reshape(-1, *self.shape).float()

    def sample(self, n, components=None, seed=0):
        """n draws μ + U √λ ε, clipped to [-1, 1], with all eigenfaces or the first few. Shapes: (n, C, H, W)."""
        if components is not None:
            whole(components, "components", 1, len(self.variances))
        scale = self.variances[:components].sqrt()
        shape = (whole(n, "n"), len(scale))
        noise = torch.randn(shape, generator=generator(seed), dtype=torch.float64)
        return self.decode(noise * scale).clamp(-1, 1)

    @property
    def parameters(self):
        """How many numbers the model has learned: the mean and a symmetric covariance."""
        d = len(self.mean)
        return d + d * (d + 1) // 2
