"""pytest and nbval for the whole repository.

The bare `pytest` and `pytest --nbval notebooks/` need no flag.
"""

import os
import tempfile

import pace
import pytest

os.environ.pop("MPLBACKEND", None)  # an inherited Agg would switch off the notebooks' figures
os.environ["MINIGEN_HOME"] = tempfile.mkdtemp()  # the tests keep away from anyone's progress
os.environ.setdefault("MINIGEN_SCALE", "small")


# Signals, named pipes, memory use or `make`: what these are about, Windows has not.
# By file, or file and name.
NOT_ON_WINDOWS = (
    "test_stops.py", "test_crash.py", "test_colab.py::test_ten_cells",
    "engine/test_loop.py::test_asked_to_stop", "engine/test_loop.py::test_ctrl_c_and_sigterm",
    "test_main.py::test_stopped_at_any_time", "test_layout.py::test_a_pipe_or_device",
    "test_vqvae.py::test_a_large_codebook", "test_ivqvae.py::test_the_papers_preset_does_a_step",
    "test_release.py::test_make_", "test_release.py::test_a_path_that_make_cannot_take",
)


def pytest_configure(config):
    path = getattr(config.option, "nbval_sanitize_with", None)
    if path:  # nbval opens it relative to the current folder
        config.option.nbval_sanitize_with = str(config.rootpath / path)
    if getattr(config.option, "nbval", False):  # on a slow or busy machine no cell fails for time
        slowness = pace.slowness()
        config.option.nbval_cell_timeout *= slowness
        config.option.nbval_kernel_startup_timeout *= slowness


def pytest_collection_modifyitems(config, items):
    chosen = config.getoption("-m")
    for item in items:
        if hasattr(item, "output_timeout"):  # nbval's 5 s for a cell's last words
            item.output_timeout = config.option.nbval_kernel_startup_timeout
        if os.name == "nt" and item.nodeid.removeprefix("tests/").startswith(NOT_ON_WINDOWS):
            item.add_marker(pytest.mark.skip(reason="Windows has no such thing"))
        if "slow" in item.keywords and "slow" not in chosen:
            item.add_marker(pytest.mark.skip(reason="slow: run by `make test-full`"))
