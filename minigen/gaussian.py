"""Chapter 0: the simplest generator of images, one Gaussian over all pixels, and its eigenfaces.

And a mixture of Gaussians, which chapter 2 fits to codes.
Sources: Turk & Pentland 1991 (eigenfaces), Dempster et al. 1977 (expectation–maximisation).
"""

import math

import torch
from torch import Tensor

from minigen.common import generator
from minigen.inputs import images as checked
from minigen.inputs import number, tensor, whole

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


class GaussianMixture:
    """k Gaussians, each with a weight and a full covariance, fitted by expectation–maximisation.

    It begins with the vectors dealt out to the nearest of k of them. `floor` is added to the
    diagonal of every covariance, so that none becomes singular. Introduced in chapter 2.
    Shapes: z (N, D), N ≥ k; weights (k,), means (k, D), roots (k, D, D), the covariances' Cholesky
        factors.
    Source: Dempster, Laird & Rubin 1977.
    Raises: ValueError for vectors of another shape or not finite, and fewer than k of them.
    """

    def __init__(self, z: Tensor, k: int, steps: int = 20, floor: float = 0.01, seed: int = 0):
        z = tensor(z, "z", ("N", "D")).detach().float()
        if not bool(torch.isfinite(z).all()):
            raise ValueError("z holds NaN or infinite values")
        n, d = z.shape
        start = z[torch.randperm(n, generator=generator(seed))[: whole(k, "k", 1, n)]]
        whole(steps, "steps")
        number(floor, "floor", positive=True)
        pairs = (z[:, :, None] * z[:, None]).flatten(1)                     # (N, D²)
        share = torch.nn.functional.one_hot(torch.cdist(z, start).argmin(1), k).float()
        for _ in range(steps):
            size = share.sum(0).clamp_min(1e-6)[:, None]                    # (k, 1)
            self.weights = (size / size.sum()).squeeze(1)
            self.means = share.T @ z / size
            square = (share.T @ pairs / size).view(k, d, d)
            covariance = square - self.means[:, :, None] * self.means[:, None]
            self.roots = torch.linalg.cholesky(covariance + floor * torch.eye(d))
            share = self._log_joint(z).softmax(1)                           # (N, k)

    def _log_joint(self, z: Tensor) -> Tensor:
        """Log of weight times density, of each vector under each Gaussian. Shapes: → (N, k)."""
        inverse = torch.linalg.inv(self.roots)
        white = torch.einsum("kij,nj->nki", inverse, z)
        white = white - torch.einsum("kij,kj->ki", inverse, self.means)
        volume = inverse.diagonal(dim1=1, dim2=2).log().sum(1)              # (k,)
        constant = 0.5 * z.shape[1] * math.log(2 * math.pi)
        return self.weights.log() + volume - constant - 0.5 * white.square().sum(2)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density in nats. Shapes: (N, D) → (N,)."""
        return self._log_joint(tensor(z, "z", ("N", self.means.shape[1])).float()).logsumexp(1)

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """n vectors: a Gaussian by its weight, then a draw of it. Shapes: (n, D)."""
        random = generator(seed)
        which = torch.multinomial(self.weights, whole(n, "n"), True, generator=random)
        eps = torch.randn(n, self.means.shape[1], 1, generator=random)
        return self.means[which] + (self.roots[which] @ eps).squeeze(2)

    @property
    def parameters(self) -> int:
        """How many numbers the model has learned: weights, means and symmetric covariances."""
        k, d = self.means.shape
        return k - 1 + k * (d + d * (d + 1) // 2)
