import importlib
import os

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded():
    """Every test begins with the same random numbers, alone, in order or shuffled."""
    torch.manual_seed(0)


def peer(name):
    """A library the tests compare with: skipped where it is not installed, but never in CI."""
    try:
        return importlib.import_module(name)
    except ImportError:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"the peer {name} is not installed: pip install -r requirements-test.txt")
