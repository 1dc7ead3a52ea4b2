"""Chapter 8: how good are the images? FID with the standard Inception network, KID, the nearest training images.

The printed line states the whole protocol, because the value alone means nothing. Source: Heusel et al. 2017 (FID),
Binkowski et al. 2018 (KID), Kynkäänniemi et al. 2019 (precision, recall); Liu, Chen, Gao 2026, Eq. 31.
"""

from pathlib import Path

import torch
import torch.nn.functional as F

from minigen.data import from_uint8, to_uint8
from minigen.errors import DataError
from minigen.files import read_tensors, save_tensors
from minigen.metrics import frechet_distance, gaussian_statistics, toy_features

INSTEAD = "Without it, --features toy measures with the course's classifier of 32×32 ToyFaces, which is not FID."


def inception_features(device="cpu"):
    """The network of the published FIDs, from torch-fidelity: uint8 images (B, 3, H, W) → (B, 2048). It resizes to 299 itself.

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
        raise DataError(f"The Inception network's weights could not be fetched ({type(e).__name__}); FID needs a network "
                        f"connection once. {INSTEAD}") from None
    return lambda x: network(x.to(device))[0].flatten(1).cpu()


def classifier_features(device="cpu"):
    """The course's own features, of ToyFaces at 32×32: uint8 images → (B, 64). Larger ones are averaged down. It is not FID."""
    return lambda x: toy_features(F.interpolate(from_uint8(x), 32, mode="area"))


FEATURES = {"inception": inception_features, "toy": classifier_features}
FEWEST = 5


def network_of(features, device="cpu"):
    """The network called `features`. Raises: DataError for another name, and where it cannot be had."""
    if features not in FEATURES:
        raise DataError(f"features are {' or '.join(FEATURES)}; got '{features}'.")
    return FEATURES[features](device)


@torch.no_grad()
def features_of(images, network, batch_size=64):
    """Features of an iterable of uint8 images (3, S, S), a batch at a time. Shapes: → (N, D).

    Raises: DataError for images of another kind (`to_uint8` of minigen.data makes them), or none.
    """
    batch, found = [], []
    for x in images:
        if not isinstance(x, torch.Tensor) or x.dtype != torch.uint8 or x.ndim != 3 or x.shape[0] != 3:
            got = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, torch.Tensor) else type(x).__name__
            raise DataError(f"images to measure are uint8 of shape (3, S, S), 0 to 255; got {got}. Floats in [-1, 1] become so "
                            "by minigen.data.to_uint8.")
        batch.append(x)
        if len(batch) == batch_size:
            found.append(network(torch.stack(batch)))
            batch = []
    if batch:
        found.append(network(torch.stack(batch)))
    if not found:
        raise DataError("There is no image to measure.")
    return torch.cat(found)


def reference_features(images, digest, name, cache, network=None, limit=None):
    """Features of the reference images, computed once: kept in `cache` under the digest of the data and the network's name.

    A file there that is damaged, or not of these images, is made anew.
    """
    limit = len(images) if limit is None else min(limit, len(images))
    path = Path(cache) / f"{name}-{limit}-{digest.replace(':', '-').replace(' ', '-')[:40]}.safetensors"
    try:
        kept = read_tensors(path)[0]["features"]
        if kept.ndim == 2 and len(kept) == limit and kept.dtype == torch.float32 and torch.isfinite(kept).all():
            return kept
    except (DataError, KeyError):                         # not there yet, or torn
        pass
    found = features_of((x for i in torch.arange(limit).split(64) for x in to_uint8(images(i))), network)
    save_tensors(path, {"features": found})
    return found


def kernel_distance(a, b):
    """KID: the unbiased squared maximum mean discrepancy with the kernel (x·y / D + 1)³.

    Unlike FID's, its expectation does not depend on the number of images: around 0 for two samples of one distribution.
    Shapes: (N, D), (M, D) → a float. Source: Binkowski et al. 2018, §4.
    """
    a, b = a.double(), b.double()

    def kernel(x, y):
        return (x @ y.T / x.shape[1] + 1) ** 3

    n, m = len(a), len(b)
    aa, bb = kernel(a, a), kernel(b, b)
    return float((aa.sum() - aa.trace()) / (n * (n - 1)) + (bb.sum() - bb.trace()) / (m * (m - 1)) - 2 * kernel(a, b).mean())


def precision_recall(real, fake, k=3):
    """Share of fakes near a real image (within its k-th nearest real's distance), and of reals so near a fake.

    Shapes: (N, D) each → two floats. Source: Kynkäänniemi et al. 2019, §2.
    """
    def covered(centres, points):
        radius = torch.cdist(centres, centres).kthvalue(k + 1, dim=1).values
        return float((torch.cdist(points, centres) <= radius).any(1).float().mean())

    return covered(real, fake), covered(fake, real)


def evaluate(samples, images, *, features="inception", cache="runs/cache", protocol=None, limit=None, device="cpu"):
    """Distances between samples (uint8 images) and `engine.images.Images`: a dictionary, with the protocol's line as "line".

    features: a name of `FEATURES`, or (name, network) of one that is loaded already. limit: use only so many reference images.
    Raises: DataError for unknown features, images of another kind, or fewer than 5 on a side.
    """
    features, network = (features, network_of(features, device)) if isinstance(features, str) else features
    fake = features_of(samples, network)
    real = reference_features(images, images.digest, features, cache, network, limit)
    if real.shape[1] != fake.shape[1]:
        raise DataError(f"The features kept in '{cache}' are {real.shape[1]} numbers an image, not {fake.shape[1]}: choose "
                        "another --cache, or delete that one.")
    if min(len(fake), len(real)) < FEWEST:
        raise DataError(f"At least {FEWEST} images on each side are needed; got {len(fake)} samples and {len(real)} references.")
    distance = frechet_distance(*gaussian_statistics(fake), *gaussian_statistics(real))
    some = [x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:10_000]] for x in (real, fake)]
    precision, recall = precision_recall(*some)
    name = "FID" if features == "inception" else "toy Fréchet distance (not FID)"
    few = "" if len(fake) > fake.shape[1] else f"; {len(fake)} samples for {fake.shape[1]} features: the value is mostly bias"
    told = "".join(f", {k} {v}" for k, v in (protocol or {}).items())
    kid = kernel_distance(*some)
    resize = "" if images.folder is None else f", resized by {images.folder.manifest['resize']['kernel']}"
    second = "KID" if features == "inception" else "kernel distance (not KID)"
    where = "torch-fidelity Inception, its own resizing to 299" if features == "inception" else "classifier features"
    line = (f"{name} {distance:.2f}, {second} {kid:.5g}, precision {precision:.2f}, recall {recall:.2f}: {len(fake)} samples "
            f"against {len(real)} training images at {images.size} pixels{resize} (the last three of at most 10,000 each), "
            f"{where}{told}{few}")
    return dict(distance=distance, kid=kid, precision=precision, recall=recall, line=line)


def nearest(samples, network, reference):
    """Index of the reference image nearest to each sample, in the network's features. Shapes: (N,)."""
    return torch.cdist(features_of(samples, network), reference).argmin(1)
