"""Chapter 0: the simplest generator of images, one Gaussian over all pixels, and its eigenfaces.

Source: Turk & Pentland 1991 (eigenfaces).
"""

import torch
from torch import Tensor

from minigen.common import generator
from minigen.inputs import images as checked
from minigen.inputs import tensor, whole

RANGE = 10.0  # any scale is a Gaussian's to fit; bytes are not meant


class GaussianModel:
    """x ~ N(μ, U diag(λ) Uᵀ), fitted to images by maximum likelihood.

    U holds the eigenfaces, the axes of the cloud of images, λ the variances along them.
    Shapes: images (N, C, H, W) with N ≥ 2; mean (D,); eigenfaces (D, R), variances (R,) descending,
        D = C·H·W, R = min(N − 1, D).
    Raises: ValueError for fewer than two images, for images that are bytes or of another shape.
    """

    def __init__(self, images: Tensor):
        checked(images, ("N", "C", "H", "W"), largest=RANGE)
        if len(images) < 2:
            got = tuple(images.shape)
            raise ValueError(f"images must be (N, C, H, W) with N at least 2; got {got}")
        if not bool(torch.isfinite(images).all()):
            raise ValueError("images hold NaN or infinite values")
        self.shape = tuple(images.shape[1:])
        flat = images.flatten(1).double()             # (N, D)
        self.mean = flat.mean(0)
        centred = flat - self.mean
        rank = min(len(flat) - 1, flat.shape[1])
        # D×D and N×N have the same eigenvalues above 0, so the smaller of the two is solved
        if len(flat) > flat.shape[1]:
            values, vectors = torch.linalg.eigh(centred.T @ centred)        # (D,), (D, D)
        else:
            values, small = torch.linalg.eigh(centred @ centred.T)          # (N,), (N, N)
            vectors = centred.T @ small / values.clamp_min(1e-12).sqrt()    # (D, N)
        self.variances = values.flip(0)[:rank].clamp_min(0) / len(flat)
        self.eigenfaces = vectors.flip(1)[:, :rank]

    def encode(self, images: Tensor, components: int) -> Tensor:
        """Coordinates along the first eigenfaces, Uᵀ(x − μ).

        Shapes: (B, C, H, W) → (B, components).
        """
        checked(images, ("B", *self.shape), largest=RANGE)
        whole(components, "components", 1, len(self.variances))
        return (images.flatten(1).double() - self.mean) @ self.eigenfaces[:, :components]

    def decode(self, coordinates: Tensor) -> Tensor:
        """μ + U c. Shapes: (B, components) → (B, C, H, W) float32; may leave [-1, 1]."""
        tensor(coordinates, "coordinates", ("B", "K"))
        components = coordinates.shape[1]
        whole(components, "the number of coordinates", 1, len(self.variances))
        flat = self.mean + coordinates.double() @ self.eigenfaces[:, :components].T    # (B, D)
        return flat.reshape(-1, *self.shape).float()

    def sample(self, n: int, components: int | None = None, seed: int = 0) -> Tensor:
        """n draws μ + U √λ ε, clipped to [-1, 1], with all eigenfaces or the first few.

        Shapes: (n, C, H, W).
        """
        if components is not None:
            whole(components, "components", 1, len(self.variances))
        scale = self.variances[:components].sqrt()
        shape = (whole(n, "n"), len(scale))
        eps = torch.randn(shape, generator=generator(seed), dtype=torch.float64)
        return self.decode(eps * scale).clamp(-1, 1)

    @property
    def parameters(self) -> int:
        """How many numbers the model has learned: the mean and a symmetric covariance."""
        d = len(self.mean)
        return d + d * (d + 1) // 2
