"""Chapter 4: perceptual distances, measured in the features of a network that has learned to see.

LPIPS(x, y) = Σ_layers mean_positions Σ_channels w (f̂(x) − f̂(y))²,
f̂ the features scaled to length 1 over the channels.
Source: Zhang et al. 2018, Eq. 1 (whose w is squared). The paper's Eq. 12 has one weight a layer and
does not scale; like VQGAN, the course uses LPIPS as published.
"""

import copy
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from minigen.errors import DataError
from minigen.inputs import alike, images
from minigen.metrics import attribute_classifier

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and deviation of its pixels


class _Frozen(nn.Module):
    """A judge that stays in eval mode, whatever its parent does; its weights never learn."""

    def train(self, mode: bool = True) -> "_Frozen":
        return super().train(False)

    def freeze(self) -> "_Frozen":
        return self.requires_grad_(False).train(False)


def _of_length_1(h: Tensor) -> Tensor:
    """h / √Σ_channels h², and 0 where no channel fires.

    The same as F.normalize(h, dim=1), in half its time: a norm over channels is slow on processors.
    """
    half = h.dtype == torch.float16                             # it holds no 260², and no 1e10
    wide, smallest = (h.float(), 1e-7) if half else (h, 1e-20)
    return (wide * wide.square().sum(1, keepdim=True).clamp_min(smallest).rsqrt()).to(h.dtype)


class ToyPerceptual(_Frozen):
    """The same idea at small scale: five layers of the ToyFaces attribute classifier.

    Every channel and layer is weighted alike. Call it what it is: it is not LPIPS, and the two
    cannot be compared. Needs no download.
    Shapes: x, y (B, 3, 32, 32) in [-1, 1] → (B,).
    """

    def __init__(self) -> None:
        super().__init__()
        # five times convolution, norm, ReLU; a copy, so that moving it to a GPU leaves the
        # classifier where it is
        self.body = nn.Sequential(*copy.deepcopy(list(attribute_classifier().body)[:15]))
        self.freeze()

    def maps(self, x: Tensor) -> list[Tensor]:
        """The five maps after each ReLU, as they are; (B, C, H, W). Pictures of any size."""
        images(x, like=self.body[0].weight)
        maps = []
        for i, layer in enumerate(self.body):
            x = layer(x)
            if i % 3 == 2:                       # a ReLU
                maps.append(x)
        return maps

    def features(self, x: Tensor) -> list[Tensor]:
        """The five maps after each ReLU, scaled to length 1 over the channels; (B, C, H, W)."""
        images(x, ("B", 3, 32, 32), like=self.body[0].weight)
        return [_of_length_1(h) for h in self.maps(x)]

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        alike(x, y, "x", "y")
        pairs = zip(self.features(x), self.features(y), strict=True)
        first, *others = ((a - b).square().sum(1).mean((1, 2)) for a, b in pairs)    # (B,) each
        return sum(others, first) / 5


class LPIPS(_Frozen):
    """LPIPS on VGG16, from the `lpips` package, for images of 64 pixels and more.

    Its convolutions are ImageNet's (vgg16-397923af.pth, 528 MB), fetched by torchvision on first
    use.
    Shapes: x, y (B, 3, H, W) in [-1, 1] → (B,).
    Raises: DataError where the package or the weights cannot be had (random weights are never used
    instead), ValueError for smaller images.
    """

    def __init__(self, network: nn.Module | None = None):
        super().__init__()
        self.network = _vgg_lpips() if network is None else network
        self.freeze()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        alike(images(x, name="x"), images(y, name="y"), "x", "y")
        if min(x.shape[2:]) < 64:
            raise ValueError("LPIPS is for images of 64 pixels and more; "
                             f"got {tuple(x.shape)}. For 32×32: ToyPerceptual")
        return self.network(x, y).flatten()      # (B, 1, 1, 1) → (B,)


def _vgg_lpips() -> nn.Module:
    try:
        import lpips
        from torchvision.models import VGG16_Weights
    except ImportError as e:
        raise DataError(f"LPIPS needs the package {e.name}: pip install \"minigen[full]\", or pip "
                        "install lpips torchvision.") from None
    # fetched here, so that the error is ours
    _imagenet(VGG16_Weights.IMAGENET1K_V1, "LPIPS needs VGG16's ImageNet weights",
              "minigen.perceptual.ToyPerceptual, the small-scale distance (32×32 faces)")
    with warnings.catch_warnings():
        # lpips still says pretrained=True to torchvision
        warnings.simplefilter("ignore", UserWarning)
        return lpips.LPIPS(net="vgg", verbose=False)


class VGGMaps(_Frozen):
    """relu1_1, relu2_1, … relu5_1 of VGG19, for photographs: Gatys et al.'s layers of style.

    network: layers to take the place of torchvision's, whose ImageNet weights (548 MB) are fetched
    on first use; of each block between poolings the first ReLU's map is given.
    Shapes: x (B, 3, H, W) in [-1, 1] → a map a block, H and W halved each time.
    Raises: DataError where the weights cannot be had (random ones are never used instead).
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: nn.Sequential | None = None):
        super().__init__()
        self.network = _vgg() if network is None else network
        for name, values in zip(("mean", "deviation"), IMAGENET, strict=True):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)
        self.freeze()

    def forward(self, x: Tensor) -> list[Tensor]:
        images(x)
        h = ((x + 1) / 2 - self.mean) / self.deviation
        maps, first = [], True
        for layer in self.network:
            h = layer(h)
            if isinstance(layer, nn.ReLU) and first:
                maps.append(h)
                first = False
            first = first or isinstance(layer, nn.MaxPool2d | nn.AvgPool2d)
        return maps


def _vgg() -> nn.Sequential:
    try:
        from torchvision.models import VGG19_Weights, vgg19
    except ImportError as e:
        raise DataError(f"VGGMaps needs the package {e.name}: pip install torchvision.") from None
    weights = VGG19_Weights.IMAGENET1K_V1
    _imagenet(weights, "VGGMaps needs VGG19's ImageNet weights",
              "minigen.style.toy_maps, the features at small scale (cartoon faces)")
    return vgg19(weights=weights).features


def _imagenet(weights: Any, needs: str, instead: str) -> None:
    """Fetch the weights of a network of torchvision that has seen ImageNet, where they are not yet.

    weights: such as VGG16_Weights.IMAGENET1K_V1; needs: who needs what, in words.
    Raises: DataError where it cannot be had, which says where the file can be put and what does
        `instead`.
    """
    try:
        weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as e:  # no network, no place on the disk, a torn download
        file = weights.url.rsplit("/", 1)[1]
        raise DataError(
            f"{needs}, and they could not be fetched ({e}). Either put the file at "
            f"checkpoints/{file} in the folder torch.hub.get_dir() names, or use {instead}."
        ) from None
