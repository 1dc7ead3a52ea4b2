"""Chapter 8: how good are the images? FID with the standard Inception network, KID, neighbours.

What is printed states the whole protocol, because the value alone means nothing. Source: Heusel
et al. 2017 (FID), Binkowski et al. 2018 (KID), Kynkäänniemi et al. 2019 (precision, recall); Liu,
Chen, Gao 2026, Eq. 31.
"""

import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from minigen.data import from_uint8, to_uint8
from minigen.engine.images import Images
from minigen.errors import DataError
from minigen.files import read_tensors, save_tensors
from minigen.metrics import frechet_distance, gaussian_statistics, toy_features

INSTEAD = ("Without it, --features toy measures with the course's classifier of 32×32 ToyFaces, "
           "which is not FID.")

Network = Callable[[Tensor], Tensor]              # uint8 images (B, 3, H, W) → features (B, D)


def inception_features(device: torch.device | str = "cpu") -> Network:
    """The network of the published FIDs, from torch-fidelity; it resizes to 299 itself.

    Shapes: uint8 images (B, 3, H, W) → (B, 2048).
    Raises: DataError where torch-fidelity or its weights (91 MB, fetched once) cannot be had.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError:
        raise DataError("FID needs the Inception network of torch-fidelity: pip install "
                        f"\"minigen[full]\", or pip install torch-fidelity. {INSTEAD}") from None
    try:
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"]).to(device).eval()
    except Exception as e:  # whatever the download raises
        raise DataError("The Inception network's weights could not be fetched "
                        f"({type(e).__name__}); FID needs a network connection once. "
                        f"{INSTEAD}") from None
    return lambda x: network(x.to(device))[0].flatten(1).cpu()


def classifier_features(device: torch.device | str = "cpu") -> Network:
    """The course's own features, of ToyFaces at 32×32; larger images are averaged down. Not FID.

    Shapes: uint8 images (B, 3, H, W) → (B, 64).
    """
    return lambda x: toy_features(F.interpolate(from_uint8(x), 32, mode="area"))


FEATURES = {"inception": inception_features, "toy": classifier_features}
FEWEST = 5


def network_of(features: str, device: torch.device | str = "cpu") -> Network:
    """The network called `features`.

    Raises: DataError for another name, and where it cannot be had.
    """
    if features not in FEATURES:
        raise DataError(f"features are {' or '.join(FEATURES)}; got '{features}'.")
    return FEATURES[features](device)


@torch.no_grad()
def features_of(images: Iterable[Tensor], network: Network, batch_size: int = 64) -> Tensor:
    """Features of an iterable of uint8 images (3, S, S), a batch at a time. Shapes: → (N, D).

    Raises: DataError for images of another kind (`to_uint8` of minigen.data makes them), or none.
    """
    batch: list[Tensor] = []
    found: list[Tensor] = []
    for x in images:
        _require_image(x)
        batch.append(x)
        if len(batch) == batch_size:
            found.append(network(torch.stack(batch)))
            batch = []
    if batch:
        found.append(network(torch.stack(batch)))
    if not found:
        raise DataError("There is no image to measure.")
    return torch.cat(found)


def _require_image(x: object) -> None:
    if isinstance(x, Tensor) and x.dtype == torch.uint8 and x.ndim == 3 and x.shape[0] == 3:
        return
    got = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
    raise DataError(f"images to measure are uint8 of shape (3, S, S), 0 to 255; got {got}. Floats "
                    "in [-1, 1] become so by minigen.data.to_uint8.")


def reference_features(
    images: Images, digest: str, name: str, cache: Path | str,
    network: Network | None = None, limit: int | None = None,
) -> Tensor:
    """Features of the reference images, computed once. Shapes: → (limit, D).

    They are kept in `cache` under the digest of the data and the network's name. A file there that
    is damaged, or not of these images, is made anew.
    """
    limit = len(images) if limit is None else min(limit, len(images))
    short = digest.replace(":", "-").replace(" ", "-")[:40]
    path = Path(cache) / f"{name}-{limit}-{short}.safetensors"
    if (kept := _kept(path)) is not None and len(kept) == limit:
        return kept
    if network is None:
        raise DataError(f"There are no whole features of {limit} images in '{path}': pass the "
                        "network that measures them.")
    batches = (to_uint8(images(i)) for i in torch.arange(limit).split(64))
    found = features_of((x for batch in batches for x in batch), network)
    save_tensors(path, {"features": found})
    return found


def _kept(path: Path) -> Tensor | None:
    """The features in a file, or None where there are none, or torn."""
    try:
        kept = read_tensors(path)[0]["features"]
    except (DataError, KeyError):
        return None
    whole = kept.ndim == 2 and kept.dtype == torch.float32 and bool(torch.isfinite(kept).all())
    return kept if whole else None


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """KID: the unbiased squared maximum mean discrepancy with the kernel (x·y / D + 1)³.

    Unlike FID's, its expectation does not depend on the number of images: around 0 for two samples
    of one distribution.
    Shapes: (N, D), (M, D) → a float. Source: Binkowski et al. 2018, §4.
    """
    a, b = a.double(), b.double()

    def kernel(x, y):
        return (x @ y.T / x.shape[1] + 1) ** 3

    def within(x):                                # the mean over all pairs of two different rows
        pairs, n = kernel(x, x), len(x)
        return (pairs.sum() - pairs.trace()) / (n * (n - 1))

    return float(within(a) + within(b) - 2 * kernel(a, b).mean())


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> tuple[float, float]:
    """Share of fakes near a real image, and of reals near a fake.

    Near is: within the distance of its k-th nearest of its kind.
    Shapes: (N, D) each → two floats. Source: Kynkäänniemi et al. 2019, §2.
    """
    def covered(centres, points):
        radius = torch.cdist(centres, centres).kthvalue(k + 1, dim=1).values
        return float((torch.cdist(points, centres) <= radius).any(1).float().mean())

    return covered(real, fake), covered(fake, real)


def evaluate(
    samples: Iterable[Tensor], images: Images, *, features: str | tuple[str, Network] = "inception",
    cache: Path | str = "runs/cache", protocol: dict[str, Any] | None = None,
    limit: int | None = None, device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Distances between samples (uint8 images) and `images`.

    Returns: distance, kid, precision, recall by name, and as "line" their text, with the protocol.
    kid is KID with Inception's features only; others, whose size is arbitrary, are divided by their
    root mean square over the reference first.
    features: a name of `FEATURES`, or (name, network) of one that is loaded already. limit: use
    only so many reference images.
    Raises: DataError for unknown features, images of another kind, or fewer than 5 on a side.
    """
    if isinstance(features, str):
        name, network = features, network_of(features, device)
    else:
        name, network = features
    fake = features_of(samples, network)
    real = reference_features(images, images.digest, name, cache, network, limit)
    if real.shape[1] != fake.shape[1]:
        raise DataError(f"The features kept in '{cache}' are {real.shape[1]} numbers an image, not "
                        f"{fake.shape[1]}: choose another --cache, or delete that one.")
    if min(len(fake), len(real)) < FEWEST:
        raise DataError(f"At least {FEWEST} images on each side are needed; got {len(fake)} "
                        f"samples and {len(real)} references.")
    distance = frechet_distance(*gaussian_statistics(fake), *gaussian_statistics(real))
    real_part, fake_part = _at_most(real), _at_most(fake)
    precision, recall = precision_recall(real_part, fake_part)
    if name != "inception":
        unit = real.square().mean().sqrt()
        real_part, fake_part = real_part / unit, fake_part / unit
    kid = kernel_distance(real_part, fake_part)
    values = dict(distance=distance, kid=kid, precision=precision, recall=recall)
    return values | dict(line=_line(values, name, fake, real, images, protocol or {}))


def _at_most(x: Tensor, n: int = 10_000) -> Tensor:
    """At most n rows, chosen by seed 0."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    return x[order[:n]]


def _line(
    values: dict[str, float], features: str, fake: Tensor, real: Tensor, images: Images,
    protocol: dict[str, Any],
) -> str:
    """What was measured, on what and how, in a few lines short enough for a notebook."""
    if features == "inception":
        names = ("FID", "KID")
        network = "torch-fidelity Inception, its own resizing to 299"
    else:
        names = ("toy Fréchet distance (not FID)", "kernel distance (not KID)")
        network = "classifier features (the kernel's over their rms)"
    (n, dim), m = fake.shape, len(real)
    resize = ""
    if images.folder is not None:
        resize = f", resized by {images.folder.manifest['resize']['kernel']}"
    details = "".join(f", {k} {v}" for k, v in protocol.items())
    lines = [
        f"{names[0]} {values['distance']:.2f}, {names[1]} {values['kid']:.4f},",
        f"precision {values['precision']:.2f}, recall {values['recall']:.2f} "
        "(the last three of at most 10,000 each):",
        f"{n} samples against {m} training images at {images.size} pixels{resize},",
        network + details,
    ]
    if n <= dim:
        lines.append(f"{n} samples for {dim} features: the value is mostly bias")
    return "\n".join(textwrap.fill(line, 90) for line in lines)


def nearest(samples: Iterable[Tensor], network: Network, reference: Tensor) -> Tensor:
    """Index of the reference image nearest to each sample, in the network's features.

    Shapes: N samples, reference (M, D) → (N,).
    """
    return torch.cdist(features_of(samples, network), reference).argmin(1)
