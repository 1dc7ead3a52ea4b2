import pytest
import torch
from torch import nn

from minigen.guidance import Guided, drop_labels
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
    assert defaults(Guided) == dict(scale=1.0)
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
