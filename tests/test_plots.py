import base64
import io
import math
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from minigen import plots
from tests.conftest import defaults


def test_figures_are_returned_and_none_is_left_open():
    figures = [plots.image_grid(torch.zeros(5, 3, 8, 8), columns=2, titles=list("abcde"),
                                row_titles=list("xyz")),
               plots.curves({"a": [3, 2, 1], "b": torch.tensor([1.0, 2, 3])}, smooth=2),
               plots.points([torch.randn(9, 2), {"x": torch.randn(3, 2)}], titles=["1", "2"])]
    for fig in figures:
        assert plots.to_png(fig).startswith(b"\x89PNG")
    assert plt.get_fignums() == []


def test_the_same_figure_has_the_same_bytes():
    x = torch.linspace(-1, 1, 192).reshape(1, 3, 8, 8)
    a, b = (plots.to_png(plots.image_grid(x)) for _ in range(2))
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


class Images(HTMLParser):
    """The attributes of every <img>, read as a browser reads them."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        assert tag == "img"
        self.found.append(dict(attrs))


def images_of(text):
    reader = Images()
    reader.feed(text)
    return reader.found


def png_of(text):
    (image,) = images_of(text)
    kind, _, letters = image["src"].partition(",")
    assert kind == "data:image/png;base64"
    return base64.b64decode(letters, validate=True)


def test_a_picture_lies_on_a_quiet_ground_and_fits_its_page():
    for fig in (plots.panels()[0], plots.image_grid(torch.zeros(1, 3, 4, 4), row_titles=["a"])):
        corner = Image.open(io.BytesIO(plots.to_png(fig))).convert("RGB").getpixel((0, 0))
        assert "#{:02x}{:02x}{:02x}".format(*corner) == plots.GROUND
    style = images_of(plots.picture(fig, "x"))[0]["style"]
    assert "max-width: 100%" in style and f"background: {plots.GROUND}" in style
    assert 0.75 < luminance(plots.GROUND) < 0.9              # white, 1, glares on a dark page
    assert (luminance(plots.GROUND) + 0.05) / 0.05 > 4.5      # contrast of its black letters
    for colour in plots.COLOURS[:3]:                         # and of the first lines
        assert (luminance(plots.GROUND) + 0.05) / (luminance(colour) + 0.05) > 3


def luminance(colour):
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def test_show_needs_a_caption_and_gives_it_as_alternative_text(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda *a, **k: shown.append((a, k)))
    caption = 'An "empty" panel, 0 < 1 & <b>.'
    plots.show(plots.panels()[0], caption)
    (bundle,), options = shown[0]
    assert options["raw"] is True and set(bundle) == {"text/html", "text/plain"}
    assert images_of(bundle["text/html"])[0]["alt"] == bundle["text/plain"] == caption
    # Markdown would take <b> for a tag
    assert shown[1][0][0].data == '*An "empty" panel, 0 &lt; 1 & &lt;b>.*'
    with pytest.raises(ValueError, match="caption"):
        plots.show(plots.panels()[0], " ")


def test_a_wrapped_caption_is_one_line(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda *a, **k: shown.append((a, k)))
    plots.show(plots.panels()[0], """An empty
         panel,   wrapped.""")
    assert shown[0][0][0]["text/plain"] == "An empty panel, wrapped."
    assert shown[1][0][0].data == "*An empty panel, wrapped.*"


def test_panels_have_the_courses_style():
    fig, axes = plots.panels(2, 3, height=2.0, sharex=True)
    assert axes.shape == (2, 3) and fig.get_size_inches().tolist() == [plots.WIDTH, 4.0]
    assert plots.panels()[1].shape == (1, 1) and plots.panels()[0].get_size_inches().tolist() == [
        7.2,
        2.6,
    ]
    ax = axes[0, 0]
    assert (
        not ax.spines["top"].get_visible()
        and not ax.spines["right"].get_visible()
        and ax.spines["left"].get_visible()
    )
    assert [line.get_color() for line in (*ax.plot([1, 2]), *ax.plot([1, 2]))] == [
        "#0072B2",
        "#D55E00",
    ]
    assert (
        ax.get_shared_x_axes().joined(ax, axes[1, 0])
        and ax.yaxis.get_ticklabels()[0].get_fontsize() == 8
    )
    assert len(set(plots.COLOURS)) == 7


def test_a_grid_of_five_in_two_columns():
    x = torch.linspace(-1, 1, 5).view(5, 1, 1, 1).expand(5, 1, 4, 8)
    fig = plots.image_grid(x, columns=2, titles=list("abcd"), row_titles=list("xyz"))
    assert len(fig.axes) == 6
    for k, ax in enumerate(fig.axes):
        assert len(ax.images) == (k < 5) and ax.get_title() == "abcd"[k : k + 1]
        assert ax.get_ylabel() == ("xyz"[k // 2] if k % 2 == 0 else "")
        assert (
            not ax.get_xticks().size
            and not ax.get_yticks().size
            and not any(s.get_visible() for s in ax.spines.values())
        )
        if k < 5:
            image = ax.images[0]
            assert float(image.get_array()[0, 0]) == pytest.approx(k / 4) and image.get_clim() == (
                0,
                1,
            )
            assert image.get_interpolation() == "nearest" and image.get_cmap().name == "gray"
    # two columns and the row's names, three rows half as high as wide, two lines of titles
    assert fig.get_size_inches().tolist() == pytest.approx([2.7, 3 * 1.35 / 2 + 0.48])
    assert fig.axes[0].yaxis.label.get_rotation() == 0


def test_the_width_of_a_grid():
    x = torch.zeros(9, 3, 4, 4)
    for options, want in (
        ({}, [7.2, 1.8 + 0.02]),
        (dict(columns=3), [2.7, 2.7 + 0.02]),
        (dict(columns=20), [7.2, 0.8 + 0.02]),
        (dict(columns=3, width=6), [6, 6 + 0.02]),
    ):
        assert plots.image_grid(x, **options).get_size_inches().tolist() == pytest.approx(want)
    assert len(plots.image_grid(x).axes) == 16 and len(plots.image_grid(x, columns=20).axes) == 9


def test_images_a_little_out_of_range_are_clipped():
    shown = plots.image_grid(torch.full((1, 3, 2, 2), 1.005)).axes[0].images[0].get_array()
    assert float(shown.max()) == 1
    for value in (1.02, -1.02):
        with pytest.raises(ValueError):
            plots.image_grid(torch.full((1, 3, 2, 2), value))


def test_curves_have_their_names_colours_and_smoothed_lines():
    series = {"a": [4.0, 2.0, 1.0], "b": torch.tensor([1.0, 2.0, 3.0], requires_grad=True)}
    (ax,) = plots.curves(series, xlabel="t", ylabel="y", title="T", logy=True).axes
    assert [line.get_xydata().tolist() for line in ax.lines] == [
        [[1, 4], [2, 2], [3, 1]],
        [[1, 1], [2, 2], [3, 3]],
    ]
    assert [(line.get_label(), line.get_color(), line.get_linewidth()) for line in ax.lines] == [
        ("a", plots.COLOURS[0], 1.5),
        ("b", plots.COLOURS[1], 1.5),
    ]
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title(), ax.get_yscale()) == (
        "t",
        "y",
        "T",
        "log",
    )
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["a", "b"]
    fig, axes = plots.panels(1, 2)
    assert plots.curves(series, x=[0.5, 1.0, 8.0], smooth=2, ax=axes[0, 1]) is fig
    raw, smooth = axes[0, 1].lines[:2]
    assert raw.get_ydata().tolist() == [4, 2, 1] and smooth.get_ydata().tolist() == [4, 3, 1.5]
    assert (
        raw.get_alpha() == 0.2
        and raw.get_linewidth() == 0.7
        and raw.get_color() == smooth.get_color()
    )
    assert raw.get_xdata().tolist() == smooth.get_xdata().tolist() == [0.5, 1.0, 8.0]
    assert (
        smooth.get_label() == "a" and axes[0, 1].get_yscale() == "linear" and not axes[0, 0].lines
    )
    (ax,) = plots.curves({str(k): [k] for k in range(8)}).axes
    assert ax.lines[7].get_color() == plots.COLOURS[0]  # the eighth begins anew
    ticks = plots.curves({"a": list(range(100))}).axes[0].get_xticks()
    assert all(float(t).is_integer() for t in ticks) and len(ticks) <= 8


def test_points_are_where_they_were_given():
    clouds = [
        torch.tensor([[1.0, 2.0], [0.5, -1.0]]),
        {"real": torch.zeros(3, 2), "fake": torch.ones(2, 2)},
        torch.zeros(1, 2),
    ]
    fig = plots.points(clouds, columns=2, limit=2.5, titles=list("abc"), size=7)
    assert len(fig.axes) == 4 and fig.get_size_inches().tolist() == pytest.approx(
        [7.2, 2 * (3.6 + 0.2) + 0.25]
    )
    first, second, _, empty = fig.axes
    assert first.collections[0].get_offsets().tolist() == [[1, 2], [0.5, -1]]
    assert [len(c.get_offsets()) for c in second.collections] == [3, 2]
    assert (
        first.collections[0].get_sizes().tolist() == [7] and first.collections[0].get_alpha() == 0.5
    )
    assert first.get_xlim() == first.get_ylim() == (-2.5, 2.5) and first.get_aspect() == 1
    assert [ax.get_title() for ax in fig.axes] == [
        "a",
        "b",
        "c",
        "",
    ] and not first.get_xticks().size
    assert (
        first.spines["top"].get_visible()
        and not empty.spines["left"].get_visible()
        and not empty.collections
    )
    assert not any(ax.get_legend() for ax in fig.axes)        # one for the whole figure
    (named,) = plots.points([clouds[1], clouds[1]]).legends
    assert [t.get_text() for t in named.get_texts()] == ["real", "fake"]
    unnamed = plots.points([clouds[0], {"": clouds[2]}], columns=2)
    assert unnamed.legends == [] and unnamed.get_figheight() == pytest.approx(3.8)


def test_a_picture_has_a_hundred_dots_an_inch_and_no_date():
    for options, want in (({}, (720, 260)), (dict(dpi=50), (360, 130))):
        picture = Image.open(io.BytesIO(plots.to_png(plots.panels()[0], **options)))
        assert picture.size == want and "Software" not in picture.info


def test_the_caption_stands_below_the_picture(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda *a, **k: shown.append((a, k)))
    fig = plots.panels()[0]
    plots.show(fig, "What is *seen*.")
    (picture, _), (words, _) = shown
    assert png_of(picture[0]["text/html"]) == plots.to_png(fig)
    assert words[0].data == "*What is *seen*.*"


def test_running_means_of_three():
    assert plots.smoothed([3, 6, 9, 0, 3], 3) == [3, 4.5, 6, 5, 4] and plots.smoothed(
        [1, 5], 1
    ) == [1, 5]


def test_what_is_taken_unless_told():
    assert defaults(plots.panels) == dict(rows=1, columns=1, height=2.6, width=7.2)
    assert defaults(plots.image_grid) == dict(columns=8, titles=None, row_titles=None, width=None)
    assert defaults(plots.curves) == dict(
        xlabel="step", ylabel="", x=None, smooth=1, logy=False, ax=None, title=None, height=2.6
    )
    assert defaults(plots.points) == dict(columns=4, limit=3.0, titles=None, size=3) and defaults(
        plots.to_png
    ) == dict(dpi=100)


def test_curves_bring_their_colours_and_grids_stand_close():
    ax = Figure().subplots()
    ax.plot([1, 2])
    plots.curves({"a": [1, 2], "b": [2, 1]}, ax=ax)
    assert [line.get_color() for line in ax.lines[1:]] == list(plots.COLOURS[:2])
    pads = plots.image_grid(torch.zeros(4, 1, 2, 2), columns=2).get_layout_engine().get()
    assert (pads["w_pad"], pads["h_pad"]) == (0.01, 0.01)
    assert (pads["wspace"], pads["hspace"]) == (0.02, 0.02)


def test_one_value_out_of_range_is_enough():
    for wrong in (1.02, -1.02, math.inf, -math.inf, math.nan):
        x = torch.zeros(2, 1, 4, 4)
        x[1, 0, 2, 3] = wrong
        with pytest.raises(ValueError):
            plots.image_grid(x)


def test_letters_are_of_eight_and_nine_points():
    grid = plots.image_grid(torch.zeros(2, 1, 2, 2), titles=["a"], row_titles=["b"]).axes[0]
    assert (grid.title.get_fontsize(), grid.yaxis.label.get_fontsize()) == (8, 8)
    assert (grid.yaxis.label.get_ha(), grid.yaxis.label.get_va()) == ("right", "center")
    (ax,) = plots.curves({"a": [1, 2]}, ylabel="y", title="t").axes
    sizes = [t.get_fontsize() for t in (ax.xaxis.label, ax.yaxis.label, ax.title)]
    assert sizes == [9, 9, 9] and ax.get_legend().get_texts()[0].get_fontsize() == 8
    fig = plots.points([{"a": torch.zeros(1, 2)}], titles=["t"])
    assert fig.axes[0].title.get_fontsize() == 9
    assert fig.legends[0].get_texts()[0].get_fontsize() == 8 and not fig.legends[0].get_frame_on()


def drawn(fig):
    """The figure, laid out as it is when it is saved."""
    fig.draw_without_rendering()
    return fig


@pytest.mark.parametrize("names", [
    ["a"], ["p, data", "q, generator", "D*"], [f"a long name {k}" for k in range(7)]])
@pytest.mark.parametrize("columns", [1, 2, 3])
def test_a_legend_stands_above_its_axes_and_below_the_title(names, columns):
    fig, axes = plots.panels(1, columns, height=3)
    for ax in axes.flat:
        plots.curves({name: [0, 1] for name in names}, ax=ax, title="A title")
    drawn(fig)
    for ax in axes.flat:
        box = ax.get_legend().get_window_extent()
        assert box.y0 >= ax.get_window_extent().y1
        assert box.y1 <= ax.title.get_window_extent().y0 + 1
        assert [t.get_text() for t in ax.get_legend().get_texts()] == names
        assert 0 <= ax.title.get_window_extent().y1 <= fig.bbox.y1 + 1
        assert box.x1 <= fig.bbox.x1


def test_a_legend_of_a_figure_names_each_line_once_and_takes_the_place_of_the_others():
    fig, axes = plots.panels(1, 3)
    for k, ax in enumerate(axes.flat):
        plots.curves({"a": [1, 2], "b": [2, 1]}, ax=ax, title=f"t = {k}")
    legend = plots.legend(fig)
    drawn(fig)
    assert [t.get_text() for t in legend.get_texts()] == ["a", "b"]
    for ax in axes.flat:
        assert ax.get_legend() is None
        assert legend.get_window_extent().y0 >= ax.title.get_window_extent().y1
    assert plots.legend(axes[0, 0], fontsize=6).get_texts()[0].get_fontsize() == 6
    with pytest.raises(ValueError, match="label="):
        plots.legend(plots.panels()[1][0, 0])


def test_lines_differ_by_dash_as_well_as_colour():
    (ax,) = plots.curves({str(k): [k, k] for k in range(7)}).axes
    looks = [line._unscaled_dash_pattern[1] for line in ax.lines]
    assert looks[0] is None                                              # the first one is solid
    assert len({str(look) for look in looks}) == 7


def test_a_heat_map_has_a_scale_and_no_ticks():
    fig, axes = plots.panels(1, 2)
    values = [[0.0, 1.0], [2.0, 4.0]]
    image = plots.heat(axes[0, 0], values, title="w", low=-1, high=5, colours="magma")
    plots.heat(axes[0, 1], torch.tensor([[0.0, math.nan, 3.0]], requires_grad=True), aspect="auto")
    assert image.get_clim() == (-1, 5) and image.get_cmap().name == "magma"
    (other,) = axes[0, 1].images
    assert other.get_clim() == (0, 3) and other.get_cmap().name == "viridis"
    assert axes[0, 0].get_title() == "w" and not axes[0, 0].get_xticks().size
    assert len(fig.axes) == 4 and image.colorbar.ax.get_ylim() == (-1, 5)
    with pytest.raises(ValueError, match=r"values must be of shape \(rows, columns\)"):
        plots.heat(axes[0, 0], torch.zeros(3))
