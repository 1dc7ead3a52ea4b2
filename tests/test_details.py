import pytest
import torch
from torch import nn

from minigen import ddpm, details
from minigen.common import generator as seeded
from minigen.data import ToyFaces
from minigen.diffusion import Diffusion, cosine_betas
from minigen.perceptual import ToyPerceptual

COSINE = Diffusion(cosine_betas())


class Says(nn.Module):
    """Answers what makes its guess of x_0 the picture `guess`, as any of the three predictions."""

    def __init__(self, guess, prediction):
        super().__init__()
        self.guess, self.prediction = guess, prediction

    def forward(self, x, t, y=None):
        eps = COSINE.views(self.guess, x, t, "x0")[1]
        return COSINE.target(self.guess, eps, t, self.prediction)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_it_is_the_squared_error_and_the_distance_of_what_can_be_seen(prediction):
    d = ToyPerceptual()
    x0, other = ToyFaces(6, seed=0).images(), ToyFaces(6, seed=1).images()
    eps = torch.randn(x0.shape, generator=seeded(0))
    t = torch.tensor([10, 200, 450, 550, 800, 990])          # noise below 1 in the first three
    net = Says(other, prediction)
    plain = ddpm.simple_loss(net, COSINE, x0, t, eps)
    for weight in (0.0, 0.5, 2.0):
        want = plain + weight * d(other[:3], x0[:3]).sum() / 6
        got = details.detail_loss(d, weight)(net, COSINE, x0, t, eps)
        assert torch.allclose(got, want, rtol=1e-4)
    for most, seen in ((0.0, 0), (0.5, 2), (1e9, 6)):
        want = plain + d(other[:seen], x0[:seen]).sum() / 6
        got = details.detail_loss(d, 1.0, most)(net, COSINE, x0, t, eps)
        assert torch.allclose(got, want, rtol=1e-4)


def test_a_guess_beyond_the_range_is_cut_and_still_learns():
    x0 = ToyFaces(2, seed=0).images()
    guess = (x0 + 1.5).requires_grad_()
    t, eps = torch.tensor([100]), torch.randn(x0.shape, generator=seeded(0))
    loss = details.detail_loss(ToyPerceptual(), 1.0)
    plain = ddpm.simple_loss(Says(guess, "x0"), COSINE, x0, t.expand(2), eps)
    whole = loss(Says(guess, "x0"), COSINE, x0, t.expand(2), eps)
    want = ToyPerceptual()(guess.detach().clamp(-1, 1), x0).mean()
    assert torch.allclose(whole - plain, want, atol=1e-4)
    (slope,) = torch.autograd.grad(whole - plain, guess)
    assert (slope != 0).float().mean() > 0.9


def test_labels_reach_the_network_and_bad_numbers_are_told():
    def net(x, t, y=None):
        return 0 * x + (3 if y is None else y[:, None, None, None])

    x0, t = ToyFaces(2, seed=0).images(), torch.tensor([300, 300])
    eps = torch.randn(x0.shape, generator=seeded(0))
    loss = details.detail_loss(ToyPerceptual())
    values = {float(loss(net, COSINE, x0, t, eps, torch.full((2,), y))) for y in range(4)}
    assert len(values) == 4 and float(loss(net, COSINE, x0, t, eps)) in values
    for bad in (dict(weight=-1), dict(most_noise=-0.1), dict(weight=float("nan"))):
        with pytest.raises(ValueError, match=next(iter(bad))):
            details.detail_loss(ToyPerceptual(), **bad)
