import math

import pytest
import torch
from torch import nn

from minigen import style
from minigen.data import ToyFaces
from minigen.metrics import attribute_classifier
from minigen.perceptual import ToyPerceptual
from minigen.styles import draw_style


def maps(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_gram_by_hand():
    f = torch.tensor([[[[1.0, 2.0]], [[3.0, -1.0]]]])              # two channels, two places
    assert torch.equal(style.gram(f), torch.tensor([[[2.5, 0.5], [0.5, 5.0]]]))


def test_gram_by_a_double_loop():
    f = maps(2, 3, 4, 5)
    g = style.gram(f)
    for b in range(2):
        for i in range(3):
            for j in range(3):
                together = sum(f[b, i, y, x] * f[b, j, y, x] for y in range(4) for x in range(5))
                assert torch.isclose(g[b, i, j], together / 20)


def test_gram_knows_no_places_and_no_size():
    f = maps(2, 3, 4, 6)
    shuffled = f.flatten(2)[:, :, torch.randperm(24)].view(2, 3, 4, 6)
    assert torch.allclose(style.gram(shuffled), style.gram(f))
    assert torch.allclose(style.gram(f.repeat(1, 1, 2, 3)), style.gram(f))


def test_losses_are_shares():
    f = [maps(2, 3, 4, 4), maps(2, 5, 2, 2, seed=1)]
    targets = [style.gram(h) for h in f]
    assert torch.equal(style.style_loss(f, targets), torch.zeros(2, dtype=torch.float64))
    for loss in (style.style_loss([0 * h for h in f], targets),
                 style.content_loss(0 * f[0], f[0]),
                 style.moments_loss([0 * h for h in f], f)):
        assert torch.allclose(loss, torch.ones(2, dtype=torch.float64), atol=1e-2)
    # each layer by its own size: ten times the maps and the targets is the same loss
    a = style.style_loss([maps(2, 3, 4, 4, seed=3), f[1]], targets)
    b = style.style_loss([10 * maps(2, 3, 4, 4, seed=3), f[1]], [100 * targets[0], targets[1]])
    assert torch.allclose(a, b) and (a > 0).all()
    # one style for all is the same as that style for each
    assert torch.equal(style.style_loss(f, [g[:1] for g in targets]),
                       style.style_loss(f, [g[:1].expand_as(g) for g in targets]))


def test_style_loss_by_hand():
    h = torch.ones(1, 1, 2, 2)
    assert style.style_loss([3 * h], [style.gram(2 * h)]).item() == (9 - 4) ** 2 / 16
    assert style.content_loss(3 * h, 2 * h).item() == 1 / 4
    assert math.isclose(style.moments_loss([3 * h], [2 * h]).item(), 1 / 4, rel_tol=1e-4)


def test_gradients_of_the_losses():
    f, target = maps(2, 3, 2, 2).requires_grad_(), style.gram(maps(2, 3, 3, 3, seed=1))
    assert torch.autograd.gradcheck(style.gram, f)
    assert torch.autograd.gradcheck(lambda f: style.style_loss([f], [target]), f)
    assert torch.autograd.gradcheck(style.adain, (f, maps(2, 3, 3, 2, seed=2).requires_grad_()))


def test_toy_maps_are_the_classifiers_after_each_relu():
    x = ToyFaces(2, seed=4).images()
    h, expected = x, []
    for layer in attribute_classifier().body[:15]:
        h = layer(h)
        if isinstance(layer, nn.ReLU):
            expected.append(h)
    found = style.toy_maps(x)
    assert len(found) == 5 and all(map(torch.equal, found, expected))
    sizes = [tuple(h.shape[1:]) for h in style.toy_maps(ToyFaces(1, size=64).images())]
    assert sizes == [(32, 64, 64), (32, 32, 32), (64, 16, 16), (64, 16, 16), (64, 8, 8)]
    lengths = [h.norm(dim=1) for h in ToyPerceptual().features(x)]
    assert all(torch.allclose(t[t > 0], torch.ones(())) for t in lengths)   # those are scaled


def test_adain_by_hand():
    content = torch.tensor([[[[1.0, 3.0]]]])                       # mean 2, deviation 1
    wanted = torch.tensor([[[[10.0, 20.0, 30.0, 40.0]]]])          # mean 25, variance 125
    found = style.adain(content, wanted, eps=0.0)
    root = 125**0.5
    assert torch.allclose(found, torch.tensor([[[[25 - root, 25 + root]]]]))
    found = style.adain(content, wanted, eps=3.0)                  # deviations 2 and √128
    assert torch.allclose(found, torch.tensor([[[[25 - 128**0.5 / 2, 25 + 128**0.5 / 2]]]]))


def test_adain_has_the_styles_moments_and_its_own_content():
    c, s = maps(2, 3, 4, 5), 3 * maps(2, 3, 6, 2, seed=1) - 1
    found = style.adain(c, s, eps=0.0)
    for a, b in zip(style.moments(found, 0.0), style.moments(s, 0.0), strict=True):
        assert torch.allclose(a, b)
    assert torch.allclose(style.adain(c, c), c)
    assert torch.allclose(style.adain(found, c, eps=0.0), c)       # and back
    assert torch.allclose(style.adain(5 * c - 2, s, eps=0.0), found)
    assert torch.allclose(style.adain(c, s[:1]), style.adain(c, s[:1].expand_as(s)))
    flat = c.clone()
    flat[:, 0] = 7.0
    mean = style.moments(s)[0]
    assert torch.allclose(style.adain(flat, s)[:, 0], mean[:, 0].expand(2, 4, 5))


def test_adain_is_torchs_instance_norm_scaled():
    c, s = maps(1, 3, 4, 5), maps(1, 3, 2, 2, seed=1)
    mean, deviation = style.moments(s)
    peer = nn.functional.instance_norm(c, weight=deviation.flatten(), bias=mean.flatten())
    assert torch.allclose(style.adain(c, s), peer)


def test_pixels_get_the_style_and_keep_to_their_range():
    x, s = ToyFaces(2, seed=3).images(), draw_style("stained glass")
    states = list(style.restyled(x, s, steps=3))
    assert [t.step for t in states] == [1, 2, 3]
    assert states[-1].style < states[0].style
    with torch.no_grad():
        target = [style.gram(h) for h in style.toy_maps(s)]
        before = style.style_loss(style.toy_maps(x), target).mean()
        after = style.style_loss(style.toy_maps(states[-1].x), target).mean()
    assert after < before / 3 and math.isclose(after, states[-1].style, rel_tol=1e-4)
    assert states[-1].x.shape == x.shape and states[-1].x.abs().max() <= 1
    again = list(style.restyled(x, s, steps=3))[-1].x
    assert torch.equal(again, states[-1].x)
    assert not any(p.requires_grad for p in attribute_classifier().parameters())


def test_content_alone_leaves_the_picture_and_a_seed_begins_from_chance():
    x = ToyFaces(1, seed=3).images()
    s = draw_style("print")
    still = list(style.restyled(x, s, steps=2, weight=0, smooth=0))[-1]
    assert (still.x - x).abs().mean() < 0.05
    a, b, c = (next(style.restyled(x, s, steps=1, layer=0, noise=1.0, seed=k)).x
               for k in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_each_term_draws_its_own_way():
    """From chance, the content's alone leads to its map, and smoothness alone to flat pixels."""
    x, s = ToyFaces(1, seed=3).images(), draw_style("print")
    near = list(style.restyled(x, s, steps=4, weight=0, smooth=0, noise=1.0))
    assert near[-1].content < near[0].content < 1
    flat = list(style.restyled(x, s, steps=4, weight=0, smooth=5.0, layer=0, noise=1.0))

    def rough(z):
        return float(z.diff(dim=2).square().mean() + z.diff(dim=3).square().mean())

    assert rough(flat[-1].x) < 0.1 * rough(near[-1].x)


def test_what_does_not_fit_is_refused_in_one_sentence():
    x, s = ToyFaces(2, seed=3).images(), draw_style("crayon")
    for wrong in (s.expand(3, -1, -1, -1), s[:, :1]):
        with pytest.raises(ValueError, match=r"content and style do not fit|style must be \(B, 3"):
            next(style.restyled(x, wrong))
    with pytest.raises(ValueError, match="content and style do not fit"):
        style.adain(maps(2, 3, 4, 4), maps(2, 4, 4, 4))
    with pytest.raises(ValueError, match=r"features must be \(B, C, H, W\)"):
        style.gram(maps(2, 3, 4))
    with pytest.raises(ValueError, match="one for each of the 2 layers"):
        style.style_loss([maps(2, 3, 4, 4)] * 2, [maps(2, 3, 3)])
    with pytest.raises(ValueError, match="do not fit"):
        style.style_loss([maps(2, 3, 4, 4)], [maps(2, 4, 4)])
    with pytest.raises(ValueError, match="as many channels and places"):
        style.content_loss(maps(2, 3, 4, 4), maps(2, 3, 4, 5))
    for wrong in (dict(steps=0), dict(weight=-1), dict(layer=6), dict(noise=2), dict(smooth=-1)):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            next(style.restyled(x, s, **wrong))
