import numpy as np
import torch

from minigen.data import Digits
from tests.conftest import peer


def test_digits_are_the_scans_of_scikit_learn():
    digits, theirs = Digits(), peer("sklearn.datasets").load_digits()
    assert len(digits) == 1797
    assert np.array_equal(((digits.images.squeeze(1) + 1) * 8).numpy(), theirs.images)
    assert np.array_equal(digits.labels.numpy(), theirs.target)


def test_range_and_item():
    digits = Digits()
    image, label = digits[0]
    assert image.shape == (1, 8, 8) and int(label) == 0
    assert digits.images.min() == -1 and digits.images.max() == 1
    assert digits.images.dtype == torch.float32


def test_types_and_lengths():
    digits = Digits()
    assert digits.images.shape == (1797, 1, 8, 8) and digits.labels.dtype == torch.int64
    image, label = digits[5]
    assert (
        image.dtype == torch.float32
        and torch.equal(image, digits.images[5])
        and label == digits.labels[5]
    )
