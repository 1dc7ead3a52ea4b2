"""The 1,797 scanned handwritten digits of the UCI repository, 8×8 pixels.

See data/README.md for the source.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from minigen.files import data_path


class Digits(torch.utils.data.Dataset):
    """All scans: `digits.images` in [-1, 1], of 17 grey levels, and `digits.labels`, 0 to 9.

    Shapes: images (1797, 1, 8, 8), float32; labels (1797,), integers.
    """

    def __init__(self) -> None:
        with np.load(data_path("digits.npz"), allow_pickle=False) as f:
            self.images = torch.from_numpy(f["images"]).float().unsqueeze(1) / 8 - 1
            self.labels = torch.from_numpy(f["labels"]).long()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: Any) -> tuple[Tensor, Tensor]:
        return self.images[i], self.labels[i]
