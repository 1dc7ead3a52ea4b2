"""Controls over ipywidgets: a figure that follows them, and a still one where no kernel runs."""

import html
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from matplotlib.figure import Figure

from minigen.inputs import described, is_number, refuse
from minigen.plots import below, folded, picture, show

# Runs in the page when the controls are shown (as the text of a widget a <script> would not).
# The still picture, known by its words, steps aside for the live one, and takes its caption, the
# output after it, along; in a page without a kernel both stay. ipywidgets has no names for a screen
# reader: the box gets one, and the handle of a slider and the number beside it their label's.
WHEN_SHOWN = """<style data-still="{still}" data-name="{name}" onload="
    const box = this.closest('.minigen-explore'), cell = box.closest('.jp-OutputArea') ?? document;
    for (const image of cell.querySelectorAll('img')) {
        if (image.alt !== this.dataset.still || box.contains(image))
            continue;
        const still = image.closest('.jp-OutputArea-child');
        for (const part of still ? [still, still.nextElementSibling] : [image])
            part.style.display = 'none';
    }
    box.setAttribute('role', 'group');
    box.setAttribute('aria-label', this.dataset.name);
    box.querySelector('.minigen-said').setAttribute('role', 'status');
    const name = () => box.querySelectorAll('.widget-slider').forEach(slider => {
        const label = slider.querySelector('label').textContent;
        slider.querySelector('[role=slider]')?.setAttribute('aria-label', label);
        const number = slider.querySelector('[contenteditable=true]');
        number?.setAttribute('role', 'textbox');
        number?.setAttribute('aria-label', label + ', as a number');
    });
    name();
    new MutationObserver(name).observe(box, {childList: true, subtree: true});
">.minigen-explore .minigen-said { white-space: normal; height: auto; min-height: 1.6em }</style>"""


def explore(draw: Callable[..., Figure], static: Figure, caption: str, **controls: Any) -> Any:
    """Show controls whose values go to `draw(**values) -> Figure`, and the picture beside them.

    A control is (low, high, start) of integers or floats, a slider; or (list of choices, start): a
    menu where the choices are words, a slider where they are numbers; or words, a line to write in.
    Where no kernel runs, the figure `static` stands there, its caption below. A line under the live
    picture says when it is being drawn, and answers a value that `draw` cannot take; the picture
    then stays as it was.
    Returns: the widget (None where ipywidgets is missing, which is said).
    """
    if not callable(draw):
        refuse("draw", "a function of the sliders' values that returns a Figure", described(draw))
    try:
        import ipywidgets as w
    except ImportError:
        print("The sliders need ipywidgets: pip install ipywidgets. The static figure is below.")
        show(static, caption)
        return None
    from IPython.display import display

    caption = folded(caption)
    label = f"{0.55 * max(map(len, controls), default=0) + 1:.1f}em"
    inputs = {name: _control(w, name, spec, label) for name, spec in controls.items()}
    live, message = w.HTML(), w.Label(layout=w.Layout(flex="1 1 100%"))
    message.add_class("minigen-said")
    group = "A picture that follows " + ", ".join(c.description for c in inputs.values())
    script = w.HTML(layout=w.Layout(display="none"))
    script.value = (WHEN_SHOWN.replace("{name}", html.escape(group))
                              .replace("{still}", html.escape(caption)))

    def update(change: Any = None) -> None:
        chosen = {name: c.value for name, c in inputs.items()}
        message.value, answer = "drawing …", ""
        try:
            live.value = picture(draw(**chosen), f"The picture for {_in_words(chosen)}.")
        except ValueError as e:
            if change is None:                    # the first picture: an error here fails the cell
                raise
            answer = f"Not drawn: {e}"
        finally:
            message.value = answer

    update()
    for c in inputs.values():
        c.observe(update, "value")
    # beside the picture the controls are a column of this width or more: a slider needs a track to
    # be set by; where a wide picture leaves less they stand above it, side by side
    least = "18em" if all(isinstance(c, w.Dropdown) for c in inputs.values()) else "25em"
    column = w.Box(list(inputs.values()), layout=w.Layout(
        flex=f"3 1 {least}", flex_flow="row wrap", align_content="flex-start"))
    live.layout = w.Layout(flex="1 1 auto", max_width="100%", margin="4px 0")
    box = w.Box([column, live, message, script], layout=w.Layout(flex_flow="row wrap"))
    box.add_class("minigen-explore")
    display({"text/html": picture(static, caption), "text/plain": caption}, raw=True)
    display(below(caption))
    display(box)
    return box


def _in_words(chosen: Mapping[str, Any]) -> str:
    """{"hair_length": "long", "scale": 1.5} as "hair length long, scale 1.5"."""
    words = []
    for name, value in chosen.items():
        value = f"{value:.4g}" if isinstance(value, float) else value
        words.append(f"{name.replace('_', ' ')} {value}")
    return ", ".join(words)


def _control(w: Any, name: str, spec: Any, label: str) -> Any:
    """The widget of a control; w is ipywidgets, label the width of its name."""
    layout = w.Layout(flex="1 1 25em", max_width="34em", min_width="0", margin="2px 8px 2px 0")
    style = dict(description=name.replace("_", " "), style={"description_width": label},
                 layout=layout)
    if isinstance(spec, str):
        layout.max_width = "52em"                 # continuous_update off: drawn when Enter is hit
        return w.Text(value=spec, continuous_update=False, **style)
    listed = isinstance(spec, list | tuple) and len(spec) > 0
    choosing = listed and isinstance(spec[0], list) and len(spec) == 2 and len(spec[0]) > 0
    if not choosing and not (listed and len(spec) == 3 and all(map(is_number, spec))):
        wanted = "(low, high, start), ([choices], start) or words"
        refuse(f"the control '{name}'", wanted, described(spec))
    # continuous_update off: one redraw a drag, not one a step
    slider = style | dict(continuous_update=False)
    if choosing:
        choices, start = spec
        if start not in choices:
            known = ", ".join(map(str, choices))
            raise ValueError(f"the control '{name}' starts at {start}, which is not among {known}")
        if all(map(is_number, choices)):
            return w.SelectionSlider(options=choices, value=start, **slider)
        return w.Dropdown(options=choices, value=start, **style)
    low, high, start = spec
    if not low <= start <= high:
        raise ValueError(f"the control '{name}' starts at {start}, outside {low} to {high}")
    if all(isinstance(v, int) for v in spec):
        return w.IntSlider(value=start, min=low, max=high, **slider)
    step = _step(low, high, start)
    digits = 2 if step is None else max(2, -math.floor(math.log10(step)))
    return w.FloatSlider(
        value=start, min=low, max=high, step=step, readout_format=f".{digits}f", **slider)


def _step(low: float, high: float, start: float) -> float | None:
    """The largest 1, 2 or 5 × 10^k that leads from low to start and to high in 80 steps or more.

    A slider jumps to the nearest step, so a start between two would show a number of its own.
    Returns: None, a slider without steps, where not even a 10,000th of the range leads there.
    """
    origin, end, at = (Fraction(str(float(v))) for v in (low, high, start))
    width = end - origin
    if not width:
        return None
    top = math.floor(math.log10(width))
    for exponent in range(top, top - 6, -1):
        for digit in (5, 2, 1):
            step = digit * Fraction(10) ** exponent
            fits = (width / step).denominator == ((at - origin) / step).denominator == 1
            if fits and 80 <= width / step <= 10_000:
                return float(step)
    return None
