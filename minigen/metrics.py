"""The course's yardstick: Fréchet distance between feature statistics, and attributes of an image.

At small scale the features are those of a classifier trained on ToyFaces' attributes. A distance
measured with them is a *toy Fréchet distance*; it is not FID, which needs the Inception network,
and the two cannot be compared.
"""

import functools
import json
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from minigen.common import as_tensor, filled
from minigen.data.toyfaces import ATTRIBUTES, attribute_values
from minigen.files import data_path, load_weights
from minigen.inputs import alike, in_range, labels, refuse, tensor, wholes
from minigen.inputs import images as checked

# the protocol of every row of the results table
N_SAMPLES = 2000
N_REFERENCE = 10_000
REFERENCE_SEED = 1


def gaussian_statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance (unbiased) of feature vectors, in float64.

    Shapes: features (N, D); result (D,), (D, D).
    Raises: ValueError for fewer than two rows or a value not finite.
    """
    x = tensor(features, "features").detach().cpu().double()
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(f"features must be (N, D) with N at least 2; got {tuple(x.shape)}")
    if not torch.isfinite(x).all():
        raise ValueError("features hold NaN or infinite values")
    return x.mean(0), torch.cov(x.T).reshape(x.shape[1], x.shape[1])


def _factor(cov: Tensor) -> Tensor:
    """F with F Fᵀ = cov but for rounding. Shapes: (D, D) → (D, rank).

    That of Cholesky. It ends early, at the rank, where there were fewer samples than dimensions;
    what its rows do not explain decides whether that was all. If not, F comes from eigenvalues.
    """
    factor, failed = torch.linalg.cholesky_ex(cov)
    if not bool(failed):
        return factor
    small = len(cov) * torch.finfo(cov.dtype).eps                    # beside the largest: rounding
    bound = small * float(cov.diagonal().max())
    length = int(failed) - 1                                         # so far it went
    first = torch.linalg.cholesky_ex(cov[:length, :length])[0]
    rank = int((first.diagonal().square() > bound).cumprod(0).sum())
    first, rows = first[:rank, :rank], cov[:rank]
    factor = torch.linalg.solve_triangular(first, rows, upper=False).T
    if float((cov - factor @ factor.T).abs().max()) <= bound:
        return factor
    values, vectors = torch.linalg.eigh(cov)
    kept = values > small * values[-1].clamp_min(0)
    return vectors[:, kept] * values[kept].sqrt()


def frechet_distance(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> float:
    """Fréchet distance between two Gaussians, squared as is the custom.

    d² = ‖μ₁ − μ₂‖² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁^½ Σ₂ Σ₁^½)^½

    The last trace is the sum of the roots of the eigenvalues of Σ₁ Σ₂, which are those of the
    symmetric Fᵀ Σ₂ F for any F with F Fᵀ = Σ₁. So no matrix square root is needed, and the narrower
    of the two factors gives the smaller matrix.
    Shapes: (D,), (D, D) twice. Source: IVQ-VAE + FFTD, Eq. 31; Heusel et al. 2017, Eq. 6.
    Raises: ValueError for statistics that are not of two Gaussians in one space: NaN would give 0.
    """
    _check_gaussian(mean1, cov1)
    _check_gaussian(mean2, cov2)
    alike(mean1, mean2, "mean1", "mean2")
    mean1, cov1, mean2, cov2 = (t.double() for t in (mean1, cov1, mean2, cov2))
    factor, other = _factor(cov1), cov2
    if factor.shape[1] == len(cov1):
        factor, other = _factor(cov2), cov1
    cross = torch.linalg.eigvalsh(factor.T @ other @ factor).clamp_min(0).sqrt().sum()
    between_means = (mean1 - mean2).square().sum()
    distance = between_means + cov1.trace() + cov2.trace() - 2 * cross
    return max(0.0, float(distance))


def _check_gaussian(mean: Tensor, cov: Tensor) -> None:
    d = len(filled(tensor(mean, "mean", ("D",)), "mean"))
    tensor(cov, "covariance", (d, d))
    if not bool(torch.isfinite(mean).all()) or not bool(torch.isfinite(cov).all()):
        raise ValueError("mean and covariance must be finite; got NaN or infinite values")
    rounding = 1e-3 * float(cov.abs().max())
    if float((cov - cov.T).abs().max()) > rounding or float(cov.diagonal().min()) < -rounding:
        refuse("covariance", "symmetric, its diagonal at least 0", "another matrix")


class AttributeClassifier(nn.Module):
    """Reads all nine ToyFaces attributes off a 32×32 face; its last hidden layer is the feature.

    Shapes: x (B, 3, 32, 32) in [-1, 1]; `features` (B, 64); `forward` {attribute: logits
        (B, values)}; `predict` (B, 9) integers.
    """

    def __init__(self, width: int = 32, features: int = 64):
        super().__init__()
        wholes(width=width, features=features)
        if width % 8:
            refuse("width", "a multiple of 8 (group normalisation)", width)
        self.config = dict(width=width, features=features)
        wide = 2 * width
        layers: list[nn.Module] = []
        c_in = 3
        for c_out, stride in ((width, 1), (width, 2), (wide, 2), (wide, 1), (wide, 2)):
            layers += [nn.Conv2d(c_in, c_out, 3, stride, 1), nn.GroupNorm(8, c_out), nn.ReLU()]
            c_in = c_out
        layers += [nn.Flatten(), nn.Linear(c_in * 16, 2 * features), nn.ReLU(),
                   nn.Linear(2 * features, features), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(features, len(values)) for name, values in ATTRIBUTES.items()})

    def features(self, x: Tensor) -> Tensor:
        """The feature vectors. Shapes: (B, 3, 32, 32) → (B, 64)."""
        checked(x, ("B", 3, 32, 32), largest=1.01, like=self.body[0].weight)
        return self.body(x)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.features(x)                                 # (B, features)
        return {name: head(h) for name, head in self.heads.items()}

    def predict(self, x: Tensor) -> Tensor:
        """The likeliest value of every attribute. Shapes: (B, 3, 32, 32) → (B, 9)."""
        return torch.stack([logits.argmax(1) for logits in self(x).values()], 1)


@functools.cache
def attribute_classifier() -> AttributeClassifier:
    """The trained classifier of data/pretrained, frozen."""
    return load_weights(AttributeClassifier, "classifier").requires_grad_(False)


# 64 faces on their way through the classifier stay in a processor's caches: with 500 at once the
# same numbers take more than twice as long
@torch.no_grad()
def _in_batches(fn: Callable[[Tensor], Tensor], images: Tensor, batch_size: int = 64) -> Tensor:
    if not bool(torch.isfinite(tensor(images, "images", ("N", 3, 32, 32))).all()):
        raise ValueError("images hold NaN or infinite values")
    return torch.cat([fn(b.float().cpu()) for b in images.split(batch_size)])


def toy_features(images: Tensor) -> Tensor:
    """Classifier features of images. Shapes: (N, 3, 32, 32) in [-1, 1] → (N, 64)."""
    return _in_batches(attribute_classifier().features, images)


def predict_attributes(images: Tensor) -> dict[str, Tensor]:
    """Attributes the classifier reads, by name. Shapes: (N, 3, 32, 32) → (N,) integers each."""
    predicted = _in_batches(attribute_classifier().predict, images)      # (N, 9)
    return dict(zip(ATTRIBUTES, predicted.T, strict=True))


def obedience(images: Tensor, attribute: str, wanted: Tensor | Sequence[int]) -> float:
    """Share of images in which the classifier reads the wanted label.

    Shapes: images (N, 3, 32, 32), wanted (N,).
    Raises: DataError for an unknown attribute, ValueError for labels that are not the images'.
    """
    values = len(attribute_values(attribute))
    filled(tensor(images, "images", ("N", 3, 32, 32)), "images")
    wanted = labels(as_tensor(wanted, "labels"), len(images), values)
    obeyed = predict_attributes(images)[attribute] == wanted.cpu()       # (N,)
    return float(obeyed.float().mean())


@functools.cache
def _toy_reference() -> tuple[Tensor, Tensor]:
    stats = load_file(data_path("pretrained", "toy_reference.safetensors"))
    return stats["mean"], stats["cov"]


def toy_frechet(images: Tensor) -> float:
    """Toy Fréchet distance of images to 10,000 ToyFaces.

    Use 2,000 images: the value falls as their number grows.
    Shapes: images (N, 3, 32, 32) in [-1, 1].
    Raises: ValueError for N < 128, where the covariance has no full rank.
    """
    if len(tensor(images, "images", ("N", 3, ...))) < 128:
        raise ValueError("the toy Fréchet distance needs at least 128 images (64 features); "
                         f"got {len(images)}")
    mean, cov = gaussian_statistics(toy_features(images))
    return frechet_distance(mean, cov, *_toy_reference())


def inception_score(probabilities: Tensor) -> float:
    """exp E_x KL(p(y|x) ‖ p(y)), from 1 to the number of classes.

    Shapes: (N, K), rows that sum to 1. Source: Salimans et al. 2016, §4.
    """
    p = filled(tensor(probabilities, "probabilities", ("N", "K")), "probabilities").double()
    in_range(p, 0, 1.01, "probabilities", "0 to 1")
    in_range(p.sum(1), 0.99, 1.01, "the sum of a row", "1")
    marginal = p.mean(0, keepdim=True)                                   # (1, K)
    kl = (torch.xlogy(p, p) - torch.xlogy(p, marginal)).sum(1)           # (N,)
    return float(kl.mean().exp())


def attribute_probabilities(images: Tensor, attribute: str) -> Tensor:
    """p(value | image) of one attribute by the classifier. Shapes: (N, 3, 32, 32) → (N, values)."""
    attribute_values(attribute)
    return _in_batches(lambda x: F.softmax(attribute_classifier()(x)[attribute], 1), images)


def results(excursion: str = "") -> list[dict[str, Any]]:
    """The rows measured when the longer-trained models were built, oldest chapter first.

    Those of the chapters, and of an excursion that is named, such as "x1".
    """
    rows = json.loads(data_path("pretrained", "results.json").read_text(encoding="utf-8"))
    return [r for r in rows if isinstance(r["chapter"], int) or r["chapter"] == excursion]


def results_table(through_chapter: int = 99, excursion: str = "", **measured_now: float) -> str:
    """The course's table up to a chapter, as text, and the rows of an excursion such as "x1".

    `measured_now={"GAN": 51.2}` adds a column of fresh values.
    """
    rows = [r for r in results(excursion)
            if r["chapter"] == excursion or r["chapter"] <= through_chapter]
    names = max(len(r["model"]) for r in rows)
    head = f"{'model':<{names}}  chapter  parameters  toy Fréchet"
    lines = [head + ("  measured now" if measured_now else "")]
    for r in rows:
        chapter, parameters = f"{r['chapter']}", f"{r['parameters']:,}"
        if not r["parameters"]:  # real faces are no model
            chapter = parameters = "–"
        line = f"{r['model']:<{names}}  {chapter:>7}  {parameters:>10}  {r['frechet']:>11.2f}"
        if r["model"] in measured_now:
            line += f"  {measured_now[r['model']]:>12.2f}"
        lines.append(line)
    return "\n".join(lines)
