import urllib.error
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from minigen import perceptual
from minigen.data import ToyFaces
from minigen.errors import DataError
from minigen.metrics import attribute_classifier
from tests.conftest import peer


def random_lpips():
    """LPIPS with a random trunk and its real weights: enough to test with, never for training."""
    lpips = peer("lpips")
    with pytest.warns(UserWarning):  # lpips' own, about torchvision's arguments
        return lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)


def test_lpips_is_the_packages():
    network = random_lpips()
    x, y = torch.rand(2, 3, 3, 64, 64) * 2 - 1
    ours = perceptual.LPIPS(network)
    assert ours(x, y).shape == (3,) and torch.allclose(ours(x, y), network(x, y).flatten())
    # the other range, said to the package, is the same distance: ours takes [-1, 1]
    want = network((x + 1) / 2, (y + 1) / 2, normalize=True).flatten()
    assert torch.allclose(ours(x, y), want, atol=1e-5)


def test_it_stays_in_eval_mode_whatever_the_parent_does():
    lpips, toy = perceptual.LPIPS(random_lpips()), perceptual.ToyPerceptual()
    for distance, size in ((lpips, 64), (toy, 32)):
        parent = nn.ModuleList([distance]).train()
        assert not any(m.training for m in distance.modules())
        x, y = torch.rand(2, 1, 3, size, size)
        assert torch.equal(parent[0](x, y), parent[0](x, y))
        assert not any(p.requires_grad for p in distance.parameters())
        x.requires_grad_()
        (slope,) = torch.autograd.grad(distance(x, y).sum(), x)
        assert slope.abs().max() > 0  # the weights are frozen, the gradient passes


def test_no_network_is_one_clear_sentence(monkeypatch):
    peer("lpips")
    models = peer("torchvision.models")

    def offline(*args, **kwargs):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(models.VGG16_Weights, "get_state_dict", offline)
    with pytest.raises(DataError, match=r"vgg16-397923af.pth.*torch.hub.get_dir.*ToyPerceptual"):
        perceptual.LPIPS()


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lpips", None)
    with pytest.raises(DataError, match=r"needs the package lpips: pip install .minigen\[full\]"):
        perceptual.LPIPS()


def test_small_images_are_not_for_lpips():
    with pytest.raises(ValueError, match="64 pixels and more"):
        perceptual.LPIPS(nn.Identity())(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32))


def test_the_classifier_is_left_alone_and_no_feature_gives_no_nan():
    distance = perceptual.ToyPerceptual()
    assert distance.body[0] is not attribute_classifier().body[0]
    for p in distance.parameters():
        p.data.zero_()                                       # every feature is zero
    x = torch.zeros(1, 3, 32, 32, requires_grad=True)
    (slope,) = torch.autograd.grad(distance(x, torch.ones(1, 3, 32, 32)).sum(), x)
    assert torch.isfinite(slope).all()


def test_toy_distance_by_hand():
    distance, faces = perceptual.ToyPerceptual(), ToyFaces(6, seed=5).images()
    x, y = faces[:3], faces[3:]
    assert torch.equal(distance(x, x), torch.zeros(3))
    assert torch.allclose(distance(x, y), distance(y, x))
    h, g = x, y
    total = 0
    for i, layer in enumerate(attribute_classifier().body[:15]):
        h, g = layer(h), layer(g)
        if i % 3 == 2:
            a, b = (t / t.norm(dim=1, keepdim=True).clamp_min(1e-10) for t in (h, g))
            total = total + ((a - b) ** 2).sum(1).mean((1, 2)) / 5
    assert torch.allclose(distance(x, y), total, atol=1e-5)


def test_it_sees_what_squared_error_does_not():
    face = ToyFaces(1, seed=5).images()
    shift = face + 0.1                                       # a little lighter
    noise = face + 0.1 * torch.randn(face.shape, generator=torch.Generator().manual_seed(0)).sign()
    assert torch.allclose((shift - face).square().mean(), (noise - face).square().mean(), atol=1e-6)
    distance = perceptual.ToyPerceptual()
    assert distance(noise, face) > 2 * distance(shift, face)


def test_lpips_takes_64_pixels_and_more_on_both_sides():
    def network(x, y):
        return (x - y).mean((1, 2, 3)).view(-1, 1, 1, 1)

    distance = perceptual.LPIPS(network_of(network))
    assert distance(torch.ones(2, 3, 64, 64), torch.zeros(2, 3, 64, 64)).tolist() == [1, 1]
    for shape in ((1, 3, 63, 64), (1, 3, 64, 63)):
        with pytest.raises(ValueError):
            distance(torch.zeros(shape), torch.zeros(shape))


def network_of(function):
    class Network(nn.Module):
        def forward(self, x, y):
            return function(x, y)

    return Network()


def test_five_maps_of_length_one():
    maps = perceptual.ToyPerceptual().features(ToyFaces(2, seed=5).images())
    assert [tuple(m.shape[1:]) for m in maps] == [
        (32, 32, 32),
        (32, 16, 16),
        (64, 8, 8),
        (64, 8, 8),
        (64, 4, 4),
    ]
    for m in maps:
        length = m.norm(dim=1)
        assert bool(((length - 1).abs() < 1e-5).logical_or(length == 0).all())


@pytest.mark.parametrize("kind", (torch.float32, torch.bfloat16, torch.float16))
def test_length_one_agrees_with_torchs_own_and_nothing_stays_nothing(kind):
    h = torch.randn(2, 8, 3, 3, generator=torch.Generator().manual_seed(0)).relu().to(kind)
    h[0, :, 0, 0], h[1, :, 2, 2] = 0, torch.tensor([1e-11] + [0] * 7)
    h[0, :, 1, 1], h[0, :, 2, 2] = 300, 1e-3
    mine, theirs = h.clone().requires_grad_(), h.float().requires_grad_()
    one, other = perceptual._of_length_1(mine), F.normalize(theirs, dim=1, eps=1e-10)
    torch.testing.assert_close(one.float(), other, atol=torch.finfo(kind).eps, rtol=0)
    weights = torch.randn(one.shape, generator=torch.Generator().manual_seed(1))
    (one.float() * weights).sum().backward()
    (other * weights).sum().backward()
    seen = h.float().norm(dim=1, keepdim=True) > 1e-3
    off = 64 * torch.finfo(kind).eps
    torch.testing.assert_close(mine.grad.float() * seen, theirs.grad * seen, atol=off, rtol=off)
    assert bool(mine.grad.isfinite().all()) and not bool(one[0, :, 0, 0].any())


def test_the_weights_are_fetched_whole_and_the_packages_network_is_vggs(monkeypatch):
    lpips, models = peer("lpips"), peer("torchvision.models")
    record = []

    class Network(nn.Module):
        def __init__(self, **options):
            super().__init__()
            warnings.warn("pretrained is deprecated", UserWarning, stacklevel=1)
            record.append(options)

    monkeypatch.setattr(
        models.VGG16_Weights,
        "get_state_dict",
        lambda self, **options: record.append((self.name, options)),
    )
    monkeypatch.setattr(lpips, "LPIPS", Network)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the package's warning about torchvision is kept back
        distance = perceptual.LPIPS()
    assert isinstance(distance.network, Network) and not distance.training
    assert record[0][0] == "IMAGENET1K_V1" and record[0][1]["check_hash"] is True
    assert record[1]["net"] == "vgg"


def test_vgg_maps_are_the_first_relu_of_each_block():
    models = peer("torchvision.models")
    torch.manual_seed(0)
    layers = models.vgg.make_layers(models.vgg.cfgs["E"])      # VGG19's
    ours = perceptual.VGGMaps(layers)
    x = torch.rand(2, 3, 32, 48) * 2 - 1
    found = ours(x)
    sizes = [(64, 32, 48), (128, 16, 24), (256, 8, 12), (512, 4, 6), (512, 2, 3)]
    assert [tuple(m.shape[1:]) for m in found] == sizes and all((m >= 0).all() for m in found)
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in perceptual.IMAGENET)
    h = (x / 2 + 0.5 - mean) / deviation
    for index, m in zip((1, 6, 11, 20, 29), found, strict=True):   # relu1_1, relu2_1, …
        assert torch.allclose(m, layers[: index + 1](h), atol=1e-5)
    assert not any(p.requires_grad for p in ours.parameters()) and not ours.train().training


def test_vgg_maps_without_a_network_are_one_clear_sentence(monkeypatch):
    models = peer("torchvision.models")

    def offline(*args, **kwargs):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(models.VGG19_Weights, "get_state_dict", offline)
    with pytest.raises(DataError, match=r"VGG19's.*vgg19-dcbb9e9d.pth.*get_dir.*style.toy_maps"):
        perceptual.VGGMaps()
    monkeypatch.setitem(__import__("sys").modules, "torchvision.models", None)
    with pytest.raises(DataError, match=r"VGGMaps needs the package torchvision"):
        perceptual.VGGMaps()
