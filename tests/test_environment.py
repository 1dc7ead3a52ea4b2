import os
import sys

import pytest
import torch

import minigen

environment = sys.modules["minigen.environment"]  # `minigen.environment` is the function


def test_scale(monkeypatch):
    monkeypatch.delenv("MINIGEN_SCALE", raising=False)
    assert minigen.scale() == "small"
    monkeypatch.setenv("MINIGEN_SCALE", "full")
    assert minigen.scale() == "full"
    monkeypatch.setenv("MINIGEN_SCALE", "huge")
    with pytest.raises(ValueError, match="'small' or 'full'; it is 'huge'"):
        minigen.scale()


def test_small_scale_stays_on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("MINIGEN_SCALE", "small")
    assert minigen.device() == torch.device("cpu")
    monkeypatch.setenv("MINIGEN_SCALE", "full")
    assert minigen.device() == torch.device("cuda")


def test_environment_speaks_plainly(capsys, monkeypatch):
    monkeypatch.setenv("MINIGEN_SCALE", "small")
    minigen.environment()
    out = capsys.readouterr().out
    assert "Python" in out and torch.__version__ in out and "Scale: small, computing on cpu." in out


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


THREADS = [(8, 8, 7), (2, 2, 1), (1, 1, 1), (4, 8, 4), (8, 1, 1)]


@pytest.mark.parametrize(("have", "on", "set_to"), THREADS)
def test_setup_leaves_a_core_to_everything_else(monkeypatch, threads, have, on, set_to):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "MINIGEN_SCALE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(environment, "cores", lambda: on)
    threads(have)
    assert minigen.setup() == ("small", torch.device("cpu"))
    assert torch.get_num_threads() == set_to


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_setup_respects_a_number_of_your_own(monkeypatch, threads, name):
    monkeypatch.setenv(name, "2")
    monkeypatch.setattr(environment, "cores", lambda: 2)
    threads(2)
    minigen.setup()
    assert torch.get_num_threads() == 2


def test_cores_are_those_this_process_may_use():
    assert 1 <= environment.cores() <= os.cpu_count()
