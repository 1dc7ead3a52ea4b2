"""Repairing networks, line drawings, strokes, SDEdit."""

import copy

import pytest
import torch

from minigen import ddpm, translation
from minigen.common import generator
from minigen.data import ToyFaces
from minigen.diffusion import Diffusion, cosine_betas
from minigen.ivqvae import PatchDiscriminator
from minigen.perceptual import ToyPerceptual
from minigen.unet import UNet

D = Diffusion(cosine_betas(1000))


def network():
    torch.manual_seed(0)
    return UNet(size=32, width=4, multipliers=(1, 2), attention_at=None)


def pairs(n=32, seed=0):
    x = ToyFaces(n, seed=1).images()
    g = generator(seed)
    while True:
        yield x + 0.5 * torch.randn(x.shape, generator=g), x


def test_an_untrained_network_repairs_nothing():
    x = ToyFaces(2, seed=1).images()
    torch.testing.assert_close(translation.repaired(network(), x), x)


def test_squared_error_alone_is_the_plain_loss():
    """The first step's parts, computed by hand before it."""
    net = network()
    damaged, whole = next(pairs())
    step = next(translation.train_repair(net, iter([(damaged, whole)]), steps=1))
    assert step.pixel == pytest.approx(float((damaged - whole).square().mean()), rel=1e-5)
    assert step[2:] == (0, 0, 0)


@pytest.mark.parametrize("shown", [False, True])
def test_all_parts_of_the_loss(shown):
    net, perceptual = network(), ToyPerceptual()
    judge = PatchDiscriminator(8, 1, channels=6 if shown else 3)
    before = [p.clone() for p in judge.parameters()]
    damaged, whole = (x.clamp(-1, 1) for x in next(pairs()))
    with torch.no_grad():
        seen = torch.cat([damaged, damaged], 1) if shown else damaged
        fooled = -judge(seen).mean()
    step = next(translation.train_repair(
        net, iter([(damaged, whole)]), steps=1, squared=False, perceptual=perceptual, judge=judge,
        pairs=shown))
    assert step.pixel == pytest.approx(float((damaged - whole).abs().mean()), rel=1e-5)
    assert step.perceptual == pytest.approx(float(perceptual(damaged, whole).mean()), rel=1e-4)
    assert step.adversarial == pytest.approx(float(fooled), rel=1e-3, abs=1e-5)
    assert any(not torch.equal(p, q) for p, q in zip(judge.parameters(), before, strict=True))
    assert all(p.requires_grad for p in judge.parameters())


def test_every_part_of_the_loss_moves_the_network():
    """Adam's first step goes against the sign of the gradient, which is computed by hand."""
    net, judge, perceptual = network(), PatchDiscriminator(8, 1), ToyPerceptual()
    for p in net.last.parameters():
        torch.nn.init.normal_(p, std=0.05, generator=generator(3))
    damaged, whole = (x.clamp(-1, 1) for x in next(pairs()))
    got = translation.repaired(net, damaged)
    seen = got.clamp(-1, 1)
    parts = ((got - whole).square().mean(), perceptual(seen, whole).mean(), -judge(seen).mean())
    last = net.last[2].bias
    slopes = [torch.autograd.grad(part, last, retain_graph=True)[0] for part in parts]
    # weighed so that the part beside the pixels' decides the signs
    for further, options in ((0 * slopes[0], {}), (slopes[1], dict(perceptual=perceptual)),
                             (1e4 * slopes[2], dict(judge=judge, weight=1e4))):
        trained = copy.deepcopy(net)
        next(translation.train_repair(trained, iter([(damaged, whole)]), steps=1,
                                      **copy.deepcopy(options)))
        moved = trained.last[2].bias.detach() - last.detach()
        assert torch.equal(moved.sign(), -(slopes[0] + further).sign()), options.keys()


def test_training_repairs():
    net = network()
    steps = list(translation.train_repair(net, pairs(), steps=60, lr=3e-3))
    assert steps[-1].pixel < 0.5 * steps[0].pixel


def test_outlines_are_dark_where_colours_change_and_paper_elsewhere():
    x = torch.full((1, 3, 8, 8), -1.0)
    x[:, 1, :, 4:] = 1                                   # an edge in green only
    drawn = translation.outlines(x)
    assert float(drawn[..., :2].min()) == 1 and float(drawn[..., 6:].min()) == 1
    assert float(drawn[..., 3:5].max()) == -1
    torch.testing.assert_close(drawn[:, 0], drawn[:, 2])
    # half a step of colour, half as dark: |∇x| of a step of 0.2 is 0.1 by Sobel's filters
    x = torch.zeros(1, 3, 8, 8)
    x[..., 4:] = 0.2
    assert float(translation.outlines(x)[0, 0, 4, 3]) == pytest.approx(1 - 2 * 2 * 0.1)


def test_a_stroke_covers_what_lies_within_its_width():
    red, blue = (1.0, -1.0, -1.0), (-1.0, -1.0, 1.0)
    image = translation.paint([(red, [(-1, 0), (1, 0)], 0.5), (blue, [(0, 0)], 0.375)], 16)
    assert image.shape == (1, 3, 16, 16)
    column = image[0, :, :, 0]                           # across the red line: 4 of 16 pixels
    torch.testing.assert_close(column[:, 7:9], torch.tensor(red)[:, None].expand(3, 2))
    half = 0.5 - (0.1875 - 0.25) * 8                     # the outer two: their centres are inside
    assert half == 1 and float(column[1, [6, 9]].max()) == -1
    assert float(column[:, [0, 15]].min()) == 1          # paper
    torch.testing.assert_close(image[0, :, 7, 7], torch.tensor(blue))
    bent = translation.paint([(red, [(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5)], 0.2)], 16)
    assert float(bent[0, 1, 4, 8]) < -0.5 and float(bent[0, 1, 8, 12]) < -0.5
    assert float(bent[0, 1, 8, 8]) == 1


def delta(x, t, y=None):
    """The perfect network of a world of one picture, 0.25 everywhere: it answers ε."""
    share = D.alpha_bar[t].view(-1, 1, 1, 1).to(x)
    return (x - share.sqrt() * 0.25) / (1 - share).sqrt()


def keeping(x, t, y=None):
    """A network that knows no pictures but what it is given: x̂_0 = x_t / √ᾱ_t, no noise at all."""
    return torch.zeros_like(x)


def test_strength_0_gives_the_picture_back_and_1_forgets_it():
    a, b = torch.randn(2, 3, 1, 4, 4, generator=generator(0))
    same = list(translation.sdedit_sample(delta, D, a, strength=0, generator=generator(1)))
    assert len(same) == 1 and torch.equal(same[0].x, a) and same[0].x is not a
    forgot = [ddpm.last(translation.sdedit_sample(keeping, D, x, strength=1, clip=None,
                                                  generator=generator(1))) for x in (a, b)]
    torch.testing.assert_close(*forgot, rtol=0, atol=0)
    # in a world of one picture every strength above 0 ends there
    x = ddpm.last(translation.sdedit_sample(delta, D, a.double(), strength=0.3, clip=None,
                                            generator=generator(1)))
    torch.testing.assert_close(x, torch.full_like(x, 0.25), atol=1e-5, rtol=0)


def test_between_them_the_noise_is_that_of_its_step():
    x = torch.full((2, 1, 64, 64), 0.5)
    first = next(translation.sdedit_sample(keeping, D, x, strength=0.4, steps=4, clip=None,
                                           generator=generator(0)))
    assert first.t == 399
    begun = first.x0 * D.alpha_bar[399].sqrt().float()   # `keeping` guesses x_t / √ᾱ_t
    assert float(begun.mean()) == pytest.approx(0.5 * float(D.alpha_bar[399].sqrt()), abs=0.03)
    assert float(begun.std()) == pytest.approx(float((1 - D.alpha_bar[399]).sqrt()), rel=0.03)
    states = list(translation.sdedit_sample(keeping, D, x, strength=0.004, steps=20))
    assert [s.t for s in states] == [3, 2, 1, 0]          # no more steps than there are times


FACE = torch.zeros(1, 3, 32, 32)


@pytest.mark.parametrize(("call", "words"), [
    (lambda: next(translation.sdedit_sample(delta, D, FACE, strength=1.2)), "strength .* 0 to 1"),
    (lambda: next(translation.sdedit_sample(delta, D, FACE, strength=-0.1)), "strength"),
    (lambda: next(translation.sdedit_sample(delta, D, FACE[0], strength=0.5)), "batch of one"),
    (lambda: translation.outlines(FACE + 200), "bytes become floats"),
    (lambda: translation.outlines(FACE, 0), "strength must be positive"),
    (lambda: translation.paint([((1, 1, 1), [], 0.1)]), "the points of stroke 0"),
    (lambda: translation.paint([((1, 1, 1), [(0, 0, 0)], 0.1)]), "the points of stroke 0"),
    (lambda: translation.paint([((1, 1), [(0, 0)], 0.1)]), "the colour of stroke 0"),
    (lambda: translation.paint([((255, 0, 0), [(0, 0)], 0.1)]), "the colour of stroke 0"),
    (lambda: translation.paint([((1, 1, 1), [(0, 0)], 0)]), "the width of stroke 0"),
    (lambda: translation.paint([], size=4), "size"),
    (lambda: translation.paint([], paper=(255, 255, 255)), "the paper must be three numbers"),
    (lambda: translation.paint([((1, 1, 1), [(0, float("nan"))], 0.1)]), "the points of stroke 0"),
    (lambda: translation.paint([((1, 1, 1), [(0, 0)])]), "stroke 0 must be .colour, points, width"),
    (lambda: next(translation.sdedit_sample(delta, D, FACE, strength=0, steps=-3)), "steps"),
    (lambda: next(translation.train_repair(network(), [(FACE, FACE)], steps=1, pairs=True)),
     "pairs are for a judge"),
    (lambda: next(translation.train_repair(network(), [(FACE, FACE[:, :, ::2])], steps=1)),
     "the damaged and the whole differ"),
    (lambda: next(translation.train_repair(network(), [(FACE, FACE)], steps=1, weight=-1)),
     "weight"),
])
def test_bad_input_gets_one_sentence(call, words):
    with pytest.raises(ValueError, match=words) as e:
        call()
    assert "\n" not in str(e.value)
