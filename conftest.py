"""pytest and nbval for the whole repository: the bare `pytest` and `pytest --nbval notebooks/` need no flag."""

import os
import tempfile

import pytest

os.environ.pop("MPLBACKEND", None)                     # an inherited Agg would switch off the notebooks' figures
os.environ["MINIGEN_HOME"] = tempfile.mkdtemp()        # the tests keep away from anyone's progress
os.environ.setdefault("MINIGEN_SCALE", "small")


def pytest_configure(config):
    path = getattr(config.option, "nbval_sanitize_with", None)
    if path:                                           # nbval opens it relative to the current folder
        config.option.nbval_sanitize_with = str(config.rootpath / path)


def pytest_collection_modifyitems(config, items):
    chosen = config.getoption("-m")
    for item in items:
        if "slow" in item.keywords and "slow" not in chosen:
            item.add_marker(pytest.mark.skip(reason="slow: run by `make test-full`"))
