import pytest
import torch

import minigen


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
