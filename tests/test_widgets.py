import builtins
import html
import re

import pytest
import torch

from minigen import widgets
from minigen.plots import image_grid, to_png
from tests.test_plots import images_of, png_of


@pytest.fixture
def shown(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda *a, **k: shown.append(a))
    return shown


def grey(level, kind="a"):
    if level > 0.9:
        raise ValueError("too bright")
    return image_grid(torch.full((1, 3, 8, 8), float(level)))


def parts(box):
    """(controls, picture, message) of what explore returns."""
    column, right, _ = box.children
    return column.children, *right.children


def test_a_moved_slider_changes_the_picture(shown):
    controls = dict(level=(-1.0, 1.0, 0.0), kind=(["a", "b"], "a"))
    box = widgets.explore(grey, grey(0), "A grey square.", **controls)
    (slider, menu), picture, message = parts(box)
    before = picture.value
    slider.value = 0.5
    assert png_of(picture.value) == to_png(grey(0.5)) and message.layout.display == "none"
    slider.value = 1.0                             # draw refuses it: said, and the picture stays
    assert "too bright" in message.value and message.layout.display is None
    assert png_of(picture.value) == to_png(grey(0.5))
    menu.value = "b"
    slider.value = 0.0
    assert png_of(picture.value) == png_of(before) and message.layout.display == "none"


def test_a_live_picture_has_alternative_text_that_follows_the_controls(shown):
    def draw(level, kind_of):
        return grey(level)

    controls = dict(level=(-1.0, 1.0, 0.0), kind_of=(["a", "b"], "a"))
    box = widgets.explore(draw, grey(0), "A grey square.", **controls)
    (slider, _), picture, _ = parts(box)
    assert images_of(picture.value)[0]["alt"] == "The picture for level 0, kind of a."
    slider.value = 1 / 3
    assert images_of(picture.value)[0]["alt"] == "The picture for level 0.3333, kind of a."


def test_words_get_a_menu_and_numbers_a_slider(shown):
    def draw(**_):
        return grey(0)

    controls = dict(n=(0, 9, 1), x=(0, 1.5, 1), among=([1, 2, 5], 2), word=(["a", "b"], "b"))
    box = widgets.explore(draw, grey(0), "x", **controls)
    kinds = [type(c).__name__ for c in parts(box)[0]]
    assert kinds == ["IntSlider", "FloatSlider", "SelectionSlider", "Dropdown"]
    assert [c.value for c in parts(box)[0]] == [1, 1, 2, "b"]
    assert [c.description for c in parts(box)[0]] == ["n", "x", "among", "word"]


def test_the_still_picture_comes_first_then_the_controls_and_the_caption(shown):
    box = widgets.explore(grey, grey(-1), """A 'grey' & "square"
        image.""", level=(-1.0, 1.0, 0.0))
    words = """A 'grey' & "square" image."""
    (still,), (live,), (caption,) = shown
    assert png_of(still["text/html"]) == to_png(grey(-1)) and live is box
    assert images_of(still["text/html"])[0]["alt"] == still["text/plain"] == words
    assert caption.data == f"*{words}*"
    assert html.unescape(re.search('data-still="([^"]*)"', box.children[-1].value)[1]) == words
    with pytest.raises(ValueError, match="caption"):
        widgets.explore(grey, grey(0), " ", level=(-1.0, 1.0, 0.0))


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
    assert "pip install ipywidgets" in capsys.readouterr().out
    assert "<img" in shown[0][0]["text/html"]
