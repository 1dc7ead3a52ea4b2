"""Controls over ipywidgets: a figure that follows them, and a still one where no kernel runs."""

import html
from collections.abc import Callable, Mapping
from typing import Any

from matplotlib.figure import Figure

from minigen.inputs import described, is_number, refuse
from minigen.plots import below, folded, picture, show

# Runs in the page when the controls are shown (as the text of a widget a <script> would not).
# ipywidgets gives the handle of a slider, and the number beside it, no name for a screen reader:
# they get the label's. And the still picture, known by its words, steps aside for the live one; in
# a page without a kernel it stays.
WHEN_SHOWN = """<style data-still="{still}" onload="
    const box = this.closest('.minigen-explore'), cell = box.closest('.jp-OutputArea') ?? document;
    for (const image of cell.querySelectorAll('img'))
        if (image.alt === this.dataset.still)
            (image.closest('.jp-OutputArea-child') ?? image).style.display = 'none';
    const name = () => box.querySelectorAll('.widget-slider').forEach(slider => {
        const label = slider.querySelector('label').textContent;
        slider.querySelector('[role=slider]')?.setAttribute('aria-label', label);
        const number = slider.querySelector('[contenteditable=true]');
        number?.setAttribute('role', 'textbox');
        number?.setAttribute('aria-label', label + ', as a number');
    });
    name();
    new MutationObserver(name).observe(box, {childList: true, subtree: true});
"></style>"""


def explore(draw: Callable[..., Figure], static: Figure, caption: str, **controls: Any) -> Any:
    """Show controls whose values go to `draw(**values) -> Figure`, and the picture beside them.

    A control is (low, high, start) of integers or floats, a slider; or (list of choices, start): a
    menu where the choices are words, a slider where they are numbers. The caption stands below.
    Where no kernel runs, the figure `static` stands there. A value `draw` cannot take is answered
    below the picture, which stays as it was.
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
    live, message = w.HTML(), w.Label()
    named = WHEN_SHOWN.replace("{still}", html.escape(caption))
    script = w.HTML(named, layout=w.Layout(display="none"))

    def say(words: str) -> None:
        message.value = words
        message.layout.display = None if words else "none"

    def update(change: Any = None) -> None:
        chosen = {name: c.value for name, c in inputs.items()}
        try:
            live.value = picture(draw(**chosen), f"The picture for {_in_words(chosen)}.")
            say("")
        except ValueError as e:
            if change is None:                    # the first picture: an error here fails the cell
                raise
            say(f"Not drawn: {e}")

    update()
    for c in inputs.values():
        c.observe(update, "value")
    # the picture's column takes what is free, so the controls stay a narrow one; below it they fill
    # the row
    narrow = w.Layout(flex="1 1 18em", flex_flow="row wrap", align_content="flex-start")
    column = w.Box(list(inputs.values()), layout=narrow)
    free = w.Layout(flex="1000 1 auto", max_width="100%", margin="4px 0")
    shown = w.VBox([live, message], layout=free)
    box = w.Box([column, shown, script], layout=w.Layout(flex_flow="row wrap"))
    box.add_class("minigen-explore")
    display({"text/html": picture(static, caption), "text/plain": caption}, raw=True)
    display(box)
    display(below(caption))
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
    listed = isinstance(spec, list | tuple) and len(spec) > 0
    choosing = listed and isinstance(spec[0], list) and len(spec) == 2 and len(spec[0]) > 0
    if not choosing and not (listed and len(spec) == 3 and all(map(is_number, spec))):
        wanted = "(low, high, start) or ([choices], start)"
        refuse(f"the control '{name}'", wanted, described(spec))
    layout = w.Layout(flex="1 1 18em", max_width="26em", min_width="0", margin="2px 8px 2px 0")
    style = dict(description=name.replace("_", " "), style={"description_width": label},
                 layout=layout)
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
    return w.FloatSlider(value=start, min=low, max=high, step=(high - low) / 100, **slider)
