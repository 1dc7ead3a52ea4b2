import builtins
import html
import re
from pathlib import Path

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
    column, picture, message, _ = box.children
    return column.children, picture, message


def test_a_moved_slider_changes_the_picture(shown):
    controls = dict(level=(-1.0, 1.0, 0.0), kind=(["a", "b"], "a"))
    box = widgets.explore(grey, grey(0), "A grey square.", **controls)
    (slider, menu), picture, message = parts(box)
    before = picture.value
    slider.value = 0.5
    assert png_of(picture.value) == to_png(grey(0.5)) and message.value == ""
    slider.value = 1.0                             # draw refuses it: said, and the picture stays
    assert message.value == "Not drawn: too bright"
    assert png_of(picture.value) == to_png(grey(0.5))
    menu.value = "b"
    slider.value = 0.0
    assert png_of(picture.value) == png_of(before) and message.value == ""


def test_a_live_picture_has_alternative_text_that_follows_the_controls(shown):
    def draw(level, kind_of):
        return grey(level)

    controls = dict(level=(-1.0, 1.0, 0.0), kind_of=(["a", "b"], "a"))
    box = widgets.explore(draw, grey(0), "A grey square.", **controls)
    (slider, _), picture, _ = parts(box)
    assert images_of(picture.value)[0]["alt"] == "The picture for level 0, kind of a."
    slider.value = 1 / 3
    assert images_of(picture.value)[0]["alt"] == "The picture for level 0.3333, kind of a."


def test_while_a_picture_is_drawn_a_line_says_so(shown):
    said = []

    def draw(level):
        said.extend(box and [parts(box)[2].value])
        return grey(level)

    box = []
    box = widgets.explore(draw, grey(0), "A grey square.", level=(-1.0, 1.0, 0.0))
    (slider,), _, message = parts(box)
    assert message.value == ""
    slider.value = 0.5
    assert said == ["drawing …"] and message.value == ""


def test_the_line_does_not_go_on_after_an_error_of_the_code(shown):
    def draw(level):
        return grey({0.0: 0.0}[level])

    box = widgets.explore(draw, grey(0), "A grey square.", level=(-1.0, 1.0, 0.0))
    (slider,), _, message = parts(box)
    with pytest.raises(KeyError):
        slider.value = 0.5
    assert message.value == ""


def test_a_screen_reader_hears_what_the_controls_are_for(shown):
    controls = dict(hair_length=(["long", "short"], "long"), level=(-1.0, 1.0, 0.0))
    box = widgets.explore(lambda level, **_: grey(level), grey(0), "A grey square.", **controls)
    name = re.search('data-name="([^"]*)"', box.children[-1].value)[1]
    assert name == "A picture that follows hair length, level"


def specs():
    """(low, high, start) of every slider of floats in the course."""
    number = r"(-?\d+\.\d+)"
    slider = re.compile(rf"\w+=\({number}, {number}, {number}\)")
    chapters = sorted((Path(__file__).parents[1] / "solutions").glob("*.py"))
    texts = [c.read_text(encoding="utf-8") for c in chapters]
    return sorted({tuple(map(float, s)) for text in texts for s in slider.findall(text)})


ROUND = {(0.0, 8.0, 2.0): 0.1, (0.0, 1.0, 0.3): 0.01, (-3.0, 3.0, 2.0): 0.05}
FINER = {(0.0, 1.0, 0.333): 0.001, (0.0, 3000.0, 7.0): 1.0, (0.0, 1e-4, 3e-5): 1e-6}


def test_the_courses_sliders_of_floats_are_found():
    assert len(specs()) >= 5 and set(specs()) > set(ROUND)


@pytest.mark.parametrize("spec", sorted({*specs(), *ROUND, *FINER}))
def test_a_slider_starts_on_a_step_of_its_own(shown, spec):
    low, high, start = spec
    ((slider,), _, _) = parts(widgets.explore(lambda x: grey(0), grey(0), "x", x=spec))
    for value in (start, high):
        steps = (value - low) / slider.step
        assert steps == pytest.approx(round(steps), abs=1e-6)
    assert f"{slider.step:e}"[0] in "125" and (high - low) / slider.step >= 79.9
    assert slider.step == pytest.approx((ROUND | FINER).get(spec, slider.step))
    places = 10.0 ** -int(slider.readout_format[1:-1])
    assert places <= slider.step * 1.001, "the number beside it shows every step"
    assert spec in FINER or (high - low) / slider.step <= 200


def test_a_slider_whose_start_is_on_no_round_step_has_none(shown):
    ((slider,), _, _) = parts(widgets.explore(lambda x: grey(0), grey(0), "x", x=(0.0, 1.0, 1 / 3)))
    assert slider.value == 1 / 3 and slider.step is None


def test_words_get_a_menu_and_numbers_a_slider(shown):
    def draw(**_):
        return grey(0)

    controls = dict(n=(0, 9, 1), x=(0, 1.5, 1), among=([1, 2, 5], 2), word=(["a", "b"], "b"))
    box = widgets.explore(draw, grey(0), "x", **controls)
    kinds = [type(c).__name__ for c in parts(box)[0]]
    assert kinds == ["IntSlider", "FloatSlider", "SelectionSlider", "Dropdown"]
    assert [c.value for c in parts(box)[0]] == [1, 1, 2, "b"]
    assert [c.description for c in parts(box)[0]] == ["n", "x", "among", "word"]


def test_words_alone_are_a_line_to_write_in(shown):
    def draw(level, prompt):
        if prompt == "dark red":
            raise ValueError("'dark' is not known")
        return grey(level if prompt else 0)

    box = widgets.explore(draw, grey(0), "x", level=(0.0, 0.8, 0.5), prompt="")
    (_, line), picture, message = parts(box)
    assert type(line).__name__ == "Text" and line.description == "prompt"
    assert not line.continuous_update                 # drawn when Enter is hit, not at each letter
    assert png_of(picture.value) == to_png(grey(0))
    line.value = "light"
    assert png_of(picture.value) == to_png(grey(0.5))
    line.value = "dark red"
    assert message.value == "Not drawn: 'dark' is not known"
    assert png_of(picture.value) == to_png(grey(0.5))


def test_the_still_picture_and_its_caption_come_first_then_the_controls(shown):
    box = widgets.explore(grey, grey(-1), """A 'grey' & "square"
        image.""", level=(-1.0, 1.0, 0.0))
    words = """A 'grey' & "square" image."""
    (still,), (caption,), (live,) = shown              # the page hides the two before the controls
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
