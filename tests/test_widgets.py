import builtins

import pytest
import torch

from minigen import widgets
from minigen.plots import image_grid


@pytest.fixture
def shown(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda *a, **k: shown.append(a[0]))
    return shown


def grey(level, kind="a"):
    if level > 0.9:
        raise ValueError("too bright")
    return image_grid(torch.full((1, 3, 8, 8), float(level)))


def test_a_moved_slider_changes_the_picture(shown):
    box = widgets.explore(grey, grey(0), "A grey square.", level=(-1.0, 1.0, 0.0), kind=(["a", "b"], "a"))
    slider, menu, image, message = box.children
    before = image.value
    slider.value = 0.5
    assert image.value != before and message.value == ""
    slider.value = 1.0                                     # draw refuses it: said, and the picture stays
    assert "too bright" in message.value
    menu.value = "b"
    slider.value = 0.0
    assert image.value == before and message.value == ""
    assert "image/png" in shown[1]                         # the static figure beside it


def test_the_first_picture_fails_aloud(shown):
    with pytest.raises(ValueError, match="too bright"):
        widgets.explore(grey, grey(0), "x", level=(0.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="outside"):
        widgets.explore(grey, grey(0), "x", level=(0.0, 1.0, 2.0))
    with pytest.raises(ValueError, match="not among a, b"):
        widgets.explore(grey, grey(0), "x", level=(0.0, 1.0, 0.0), kind=(["a", "b"], "c"))


def test_without_ipywidgets_the_static_figure_is_shown(shown, monkeypatch, capsys):
    real = builtins.__import__

    def missing(name, *a, **k):
        if name == "ipywidgets":
            raise ImportError
        return real(name, *a, **k)

    monkeypatch.setattr(builtins, "__import__", missing)
    assert widgets.explore(grey, grey(0), "A grey square.", level=(0, 1, 0)) is None
    assert "pip install ipywidgets" in capsys.readouterr().out and "image/png" in shown[0]
