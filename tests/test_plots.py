import math

import matplotlib.pyplot as plt
import pytest
import torch

from minigen import plots


def test_figures_are_returned_and_none_is_left_open():
    figures = [plots.image_grid(torch.zeros(5, 3, 8, 8), columns=2, titles=list("abcde"), row_titles=list("xyz")),
               plots.curves({"a": [3, 2, 1], "b": torch.tensor([1.0, 2, 3])}, smooth=2),
               plots.points([torch.randn(9, 2), {"x": torch.randn(3, 2)}], titles=["1", "2"])]
    for fig in figures:
        assert plots.to_png(fig).startswith(b"\x89PNG")
    assert plt.get_fignums() == []


def test_the_same_figure_has_the_same_bytes():
    a, b = (plots.to_png(plots.image_grid(torch.linspace(-1, 1, 192).reshape(1, 3, 8, 8))) for _ in range(2))
    assert a == b


def test_grid_shows_the_pixels_it_was_given():
    x = torch.tensor([-1.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    shown = plots.image_grid(x).axes[0].images[0].get_array()
    assert shown.shape == (4, 4, 3) and shown[0, 0].tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(("images", "words"), [
    (torch.rand(2, 3, 4, 4) * 255, r"must lie in \[-1, 1\]"),
    (torch.zeros(3, 4, 4), "shape"),
    (torch.zeros(2, 4, 4, 3), "shape"),
    (torch.full((1, 3, 4, 4), math.nan), "NaN"),
    (torch.zeros(0, 3, 4, 4), "no image"),
    ([1, 2], "got list"),
])
def test_images_that_cannot_be_shown(images, words):
    with pytest.raises(ValueError, match=words):
        plots.image_grid(images)


def test_running_mean():
    assert plots.smoothed([1, 2, 3, 4], 2) == [1, 1.5, 2.5, 3.5]
    assert plots.smoothed([5.0], 10) == [5]


def test_show_needs_a_caption_and_gives_it_as_alternative_text(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda *a, **k: shown.append((a, k)))
    plots.show(plots.panels()[0], "An empty panel.")
    (bundle,), options = shown[0]
    assert options["metadata"]["image/png"]["alt"] == bundle["text/plain"] == "An empty panel."
    with pytest.raises(ValueError, match="caption"):
        plots.show(plots.panels()[0], " ")
