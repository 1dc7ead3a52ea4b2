"""The 1,797 scanned handwritten digits of the UCI repository, 8×8 pixels. See data/README.md for the source."""

import numpy as np
import torch

from minigen.files import data_path


class Digits(torch.utils.data.Dataset):
    """All scans: `digits.images` (1797, 1, 8, 8) in [-1, 1], 17 grey levels; `digits.labels` (1797,), 0 to 9."""

    def __init__(self):
        with np.load(data_path("digits.npz"), allow_pickle=False) as f:
            self.images = torch.from_numpy(f["images"]).float().unsqueeze(1) / 8 - 1
            self.labels = torch.from_numpy(f["labels"]).long()

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return self.images[i], self.labels[i]
