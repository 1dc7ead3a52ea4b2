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
    assert digits.images.min() == -1 and digits.images.max() == 1 and digits.images.dtype == torch.float32
