import pytest
import torch
from torch import nn

from minigen import ddim, ddpm
from minigen.diffusion import Diffusion, cosine_betas
from minigen.guidance import Composed, Guided, drop_labels
from tests.conftest import defaults


class Toy(nn.Module):
    """Answers 2 + y in every channel for a label and 1 for the null label 3; notes what's asked."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def forward(self, x, t, y):
        self.asked.append(len(x))
        return torch.where(y == 3, 1.0, 2.0 + y).view(-1, 1, 1, 1) + 0 * x + 0 * t.view(-1, 1, 1, 1)


X, T, Y = torch.randn(2, 4, 3, 3), torch.tensor([7]), torch.tensor([0, 2])


def run(scale):
    model = Toy()
    return Guided(model, 3, scale)(X, T, Y), model.asked


def test_scale_one_is_the_conditional_model_asked_once():
    out, asked = run(1.0)
    assert torch.equal(out, Toy()(X, T, Y)) and asked == [2]


def test_scale_zero_is_the_unconditional_model():
    out, asked = run(0.0)
    assert torch.equal(out, torch.ones_like(X)) and asked == [2]


def test_every_channel_is_guided_and_the_answer_is_linear_in_the_scale():
    (out, asked), (twice, _) = run(3.0), run(5.0)
    conditional = Toy()(X, T, Y)
    torch.testing.assert_close(out, 1 + 3 * (conditional - 1))
    torch.testing.assert_close(twice, 1 + 5 * (conditional - 1))
    assert asked == [4]                                              # both questions in one batch


def test_a_time_for_each_image():
    both = Guided(Toy(), 3, 2.0)(X, torch.tensor([1, 2]), Y)
    torch.testing.assert_close(both, run(2.0)[0])


def test_a_model_that_ignores_labels_is_not_changed_by_guidance():
    out = Guided(lambda x, t, y: 3 * x, 3, 8.0)(X, T, Y)
    torch.testing.assert_close(out, 3 * X)


def test_dropped_labels():
    y = torch.arange(5).repeat(4000)
    before = y.clone()
    dropped = drop_labels(y, 5, 0.1, torch.Generator().manual_seed(0))
    assert torch.equal(y, before) and dropped.data_ptr() != y.data_ptr()
    share = float((dropped == 5).float().mean())
    assert abs(share - 0.1) < 4 * (0.09 / 20_000) ** 0.5
    assert torch.equal(dropped[dropped != 5], y[dropped != 5])
    assert bool((drop_labels(y, 5, 1.0) == 5).all()) and torch.equal(drop_labels(y, 5, 0.0), y)


@pytest.mark.parametrize(("call", "words"), [
    (lambda: drop_labels(Y, 3, 1.5), "0 to 1; got 1.5"),
    (lambda: Guided(Toy(), 3, 2.0)(X, T), "guidance needs labels"),
    (lambda: Guided(Toy(), 3, 1.0)(X, T, torch.tensor([0, 3])), "0 to 2; got 0 to 3"),
    (lambda: Guided(Toy(), 3, 2.0)(X, T, torch.tensor([-1, 1])), "got -1 to 1"),
    (lambda: Guided(lambda x, t, y: x[:1], 3, 1.0)(X, T, Y), "the model must answer")])
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_five_images_with_a_label_each():
    """ε_u + 3 (ε_c − ε_u), image by image: the first half of the doubled batch is the one with
    labels."""
    x, y, t = (
        torch.randn(5, 4, 3, 3),
        torch.tensor([2, 0, 1, 2, 0]),
        torch.tensor([7, 8, 9, 10, 11]),
    )

    def model(x, t, y):
        return (1.0 + y).view(-1, 1, 1, 1) * x + t.view(-1, 1, 1, 1)

    got = Guided(model, 3, 3.0)(x, t, y)
    for k in range(5):
        conditional, unconditional = (1 + y[k]) * x[k] + t[k], 4 * x[k] + t[k]
        torch.testing.assert_close(got[k], unconditional + 3 * (conditional - unconditional))
    torch.testing.assert_close(Guided(model, 3, 3.0)(x, t[:1], y)[0], got[0])


def test_what_is_taken_unless_told():
    assert defaults(Guided) == defaults(Composed) == dict(scale=1.0)
    assert defaults(drop_labels) == dict(p=0.1, generator=None)


def test_any_label_below_the_null_label_may_be_dropped_or_asked_for():
    assert Guided(Toy(), 3, 2.0)(X, T, torch.tensor([0, 2])).shape == X.shape
    assert Guided(lambda x, t, y: x, 3, 1.0)(X[:0], T, Y[:0]).shape == (0, 4, 3, 3)
    y = torch.zeros(8, dtype=torch.long)
    chance = torch.rand(8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(drop_labels(y, 3, 0.5, torch.Generator().manual_seed(1)) == 3, chance < 0.5)


def test_the_limits_of_labels_and_chances():
    for p in (-0.01, 1.01):
        with pytest.raises(ValueError):
            drop_labels(Y, 3, p)
    for y in ([0, 3], [-1, 0]):
        for scale in (0.0, 1.0, 2.0):
            with pytest.raises(ValueError):
                Guided(Toy(), 3, scale)(X, T, torch.tensor(y))


PAIRS = torch.tensor([[0, 2], [1, 2], [1, 0]])


def test_two_labels_at_once_by_hand():
    """1 without a label and 2 + y with one: 1 + s (1 + y_0) + r (1 + y_1)."""
    y = torch.tensor([0, 2])
    out = Composed(Toy(), 3, PAIRS, (2.0, 5.0))(X, T, y)
    torch.testing.assert_close(out[0], torch.full_like(X[0], 1 + 2 * 1 + 5 * 3))
    torch.testing.assert_close(out[1], torch.full_like(X[0], 1 + 2 * 2 + 5 * 1))
    model = Toy()
    Composed(model, 3, PAIRS, 1.5)(X, torch.tensor([1, 2]), y)
    assert model.asked == [6]                                  # three questions in one batch


def varied(x, t, y):
    """Answers that depend on image, time and label, not in proportion."""
    return torch.sin((1 + y).view(-1, 1, 1, 1) * x) + t.view(-1, 1, 1, 1)


def test_scale_zero_asks_nothing_and_one_label_is_guided():
    model, y, t = Toy(), torch.tensor([2, 1]), torch.tensor([3, 4])
    assert torch.equal(Composed(model, 3, PAIRS, 0.0)(X, T, y), torch.ones_like(X))
    assert model.asked == [2]
    for scale in (0.0, 1.0, 2.5):
        single = Composed(varied, 3, torch.tensor([[2], [0], [1]]), scale)(X, t, y)
        torch.testing.assert_close(single, Guided(varied, 3, scale)(X, t, torch.tensor([1, 0])))
        left = Composed(varied, 3, PAIRS, (scale, 0.0))(X, t, y)
        torch.testing.assert_close(left, Guided(varied, 3, scale)(X, t, PAIRS[y, 0]))


@pytest.mark.parametrize("prediction", ["v", "x0"])
def test_to_guide_v_or_x0_is_to_guide_eps(prediction):
    """Every view of an answer is the same straight function of it, so they may be mixed alike."""
    D, y = Diffusion(), torch.tensor([1, 2])
    at = torch.tensor([400])

    def as_eps(x, t, y):
        return D.views(varied(x, t, y), x, t, prediction)[1]

    for one, other in ((Guided(varied, 3, 3.0), Guided(as_eps, 3, 3.0)),
                       (Composed(varied, 3, PAIRS, 2.0), Composed(as_eps, 3, PAIRS, 2.0))):
        x0, eps = D.views(one(X, at, y), X, at, prediction)
        torch.testing.assert_close(eps, other(X, at, y), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(x0, D.views(eps, X, at)[0], rtol=1e-4, atol=1e-4)


def test_labels_that_say_nothing_of_each_other_compose_exactly():
    """Two numbers, each a Gaussian; label 0 narrows the first, label 1 the second.

    Told one at a time and composed with scale 1, the samples are those of both at once.
    """
    D = Diffusion(cosine_betas())

    def best(x, t, mean, var):
        a = D.at(D.alpha_bar, t, x)
        return (1 - a).sqrt() * (x - a.sqrt() * mean) / (a * var + 1 - a)

    def told(x, t, y):
        """mean 0, variance 1 unless told; 2 is the null label"""
        y = y.view(-1, 1)
        first = torch.where(y == 0, best(x, t, 2.0, 0.1), best(x, t, 0.0, 1.0))
        second = torch.where(y == 1, best(x, t, -1.0, 0.3), best(x, t, 0.0, 1.0))
        return torch.cat([first[:, :1], second[:, 1:]], 1)

    def both(x, t):
        return torch.cat([best(x, t, 2.0, 0.1)[:, :1], best(x, t, -1.0, 0.3)[:, 1:]], 1)

    x, y = torch.randn(6, 2, dtype=torch.float64), torch.zeros(6, dtype=torch.long)
    composed = Composed(told, 2, torch.tensor([[0, 1]]))
    got = ddpm.last(ddim.ddim_sample(composed, D, x, y, steps=20))
    torch.testing.assert_close(got, ddpm.last(ddim.ddim_sample(both, D, x, steps=20)))


@pytest.mark.parametrize(("call", "words"), [
    (lambda: Composed(Toy(), 3, torch.tensor([0, 1])), "combinations"),
    (lambda: Composed(Toy(), 3, torch.tensor([[0, 3]])), "0 to 2; got 0 to 3"),
    (lambda: Composed(Toy(), 3, PAIRS, (1.0,)), "one number, or 2"),
    (lambda: Composed(Toy(), 3, PAIRS, (1.0, -1.0)), "at least 0"),
    (lambda: Composed(Toy(), 3, PAIRS[:, :0]), "one number, or 0"),
    (lambda: Composed(Toy(), 3, PAIRS)(X, T), "guidance needs labels"),
    (lambda: Composed(Toy(), 3, PAIRS)(X, T, torch.tensor([0, 3])), "0 to 2; got 0 to 3")])
def test_what_cannot_be_composed(call, words):
    with pytest.raises(ValueError, match=words):
        call()
