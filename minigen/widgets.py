"""Controls over ipywidgets: a figure that follows them, and a still one for readers without a kernel."""

import html

from minigen.inputs import is_number, refuse, told
from minigen.plots import below, folded, picture, show

# Runs in the page when the controls are shown (as the text of a widget a <script> would not). ipywidgets gives the
# handle of a slider, and the number beside it, no name for a screen reader: they get the label's. And the still
# picture, known by its words, steps aside for the live one; in a page without a kernel it stays.
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


def explore(draw, static, caption, **controls):
    """Show controls whose values go to `draw(**values) -> Figure`, its picture beside them and the caption below.

    A control is (low, high, start) of integers or floats, a slider; or (list of choices, start): a menu where the
    choices are words, a slider where they are numbers. Where no kernel runs, the figure `static` stands there.
    A value `draw` cannot take is answered below the picture, which stays as it was.
    Returns: the widget (None where ipywidgets is missing, which is said).
    """
    if not callable(draw):
        refuse("draw", "a function of the sliders' values that returns a Figure", told(draw))
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
    script = w.HTML(WHEN_SHOWN.replace("{still}", html.escape(caption)), layout=w.Layout(display="none"))

    def say(words):
        message.value, message.layout.display = words, None if words else "none"

    def update(change=None):
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
    # the picture's column takes what is free, so the controls stay a narrow one; below it they fill the row
    column = w.Box(list(inputs.values()), layout=w.Layout(flex="1 1 18em", flex_flow="row wrap", align_content="flex-start"))
    shown = w.VBox([live, message], layout=w.Layout(flex="1000 1 auto", max_width="100%", margin="4px 0"))
    box = w.Box([column, shown, script], layout=w.Layout(flex_flow="row wrap"))
    box.add_class("minigen-explore")
    display({"text/html": picture(static, caption), "text/plain": caption}, raw=True)
    display(box)
    display(below(caption))
    return box


def _in_words(chosen):
    """{"hair_length": "long", "scale": 1.5} as "hair length long, scale 1.5"."""
    return ", ".join(f"{name.replace('_', ' ')} {f'{v:.4g}' if isinstance(v, float) else v}"
                     for name, v in chosen.items())


def _control(w, name, spec, label):
    listed = isinstance(spec, list | tuple) and len(spec) > 0
    choosing = listed and isinstance(spec[0], list) and len(spec) == 2 and len(spec[0]) > 0
    if not choosing and not (listed and len(spec) == 3 and all(map(is_number, spec))):
        refuse(f"the control '{name}'", "(low, high, start) or ([choices], start)", told(spec))
    style = dict(description=name.replace("_", " "), style={"description_width": label},
                 layout=w.Layout(flex="1 1 18em", max_width="26em", min_width="0", margin="2px 8px 2px 0"))
    if choosing:
        choices, start = spec
        if start not in choices:
            raise ValueError(f"the control '{name}' starts at {start}, which is not among {', '.join(map(str, choices))}")
        if all(map(is_number, choices)):
            return w.SelectionSlider(options=choices, value=start, continuous_update=False, **style)
        return w.Dropdown(options=choices, value=start, **style)
    low, high, start = spec
    if not low <= start <= high:
        raise ValueError(f"the control '{name}' starts at {start}, outside {low} to {high}")
    # continuous_update off: one redraw a drag, not one a step
    if all(isinstance(v, int) for v in spec):
        return w.IntSlider(value=start, min=low, max=high, continuous_update=False, **style)
    return w.FloatSlider(value=start, min=low, max=high, step=(high - low) / 100, continuous_update=False, **style)
