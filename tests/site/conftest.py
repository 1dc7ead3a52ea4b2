"""The playground's tools, which are not on the path of the other tests."""

import importlib.util
import sys
from pathlib import Path

import pytest

from tests.conftest import peer

PLAYGROUND = Path(__file__).resolve().parents[2] / "tools" / "site" / "playground"


@pytest.fixture(scope="session")
def playground():
    """tools/site/playground/build.py as a module; what it imports itself can be imported too."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        peer(name)
    sys.path.insert(0, str(PLAYGROUND))
    spec = importlib.util.spec_from_file_location("playground_build", PLAYGROUND / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(PLAYGROUND))


@pytest.fixture(scope="session")
def networks(playground, tmp_path_factory):
    """All networks written: (their folder, {name: difference to torch})."""
    import export

    folder = tmp_path_factory.mktemp("models")
    return folder, export.write(folder)
