"""Sliders over ipywidgets: a figure that follows them, and a static figure beside it for readers without a kernel."""

from minigen.inputs import is_number, refuse, told
from minigen.plots import show, to_png


def explore(draw, static, caption, **controls):
    """Show sliders whose values go to `draw(**values) -> Figure`, and the figure `static` with its caption below.

    A control is (low, high, start) of integers or floats, or (list of choices, start); each becomes a slider.
    A value `draw` cannot take is answered below the sliders, and the picture stays as it was.
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

    inputs = {name: _control(w, name, spec) for name, spec in controls.items()}
    image = w.Image(format="png", layout=w.Layout(align_self="flex-start", max_width="100%"))    # its own size
    message = w.Label()

    def values():
        return {name: c.value for name, c in inputs.items()}

    def update(change):
        try:
            image.value = to_png(draw(**values()))
            message.value = ""
        except ValueError as e:
            message.value = f"Not drawn: {e}"

    image.value = to_png(draw(**values()))        # the first picture: an error here fails the cell
    for c in inputs.values():
        c.observe(update, "value")
    box = w.VBox([*inputs.values(), image, message])
    display(box)
    show(static, caption)
    return box


def _control(w, name, spec):
    listed = isinstance(spec, list | tuple) and len(spec) > 0
    choosing = listed and isinstance(spec[0], list) and len(spec) == 2 and len(spec[0]) > 0
    if not choosing and not (listed and len(spec) == 3 and all(map(is_number, spec))):
        refuse(f"the control '{name}'", "(low, high, start) or ([choices], start)", told(spec))
    style = dict(description=name.replace("_", " "), style={"description_width": "8em"})
    if choosing:
        choices, start = spec
        if start not in choices:
            raise ValueError(f"the control '{name}' starts at {start}, which is not among {', '.join(map(str, choices))}")
        return w.SelectionSlider(options=choices, value=start, continuous_update=False, **style)
    low, high, start = spec
    if not low <= start <= high:
        raise ValueError(f"the control '{name}' starts at {start}, outside {low} to {high}")
    # continuous_update off: one redraw a drag, not one a step
    if all(isinstance(v, int) for v in spec):
        return w.IntSlider(value=start, min=low, max=high, continuous_update=False, **style)
    return w.FloatSlider(value=start, min=low, max=high, step=(high - low) / 100, continuous_update=False, **style)
