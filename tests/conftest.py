import importlib
import os

import pytest


def peer(name):
    """A library the tests compare with: skipped where it is not installed, but never in CI."""
    try:
        return importlib.import_module(name)
    except ImportError:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"the peer {name} is not installed: pip install -r requirements-test.txt")
