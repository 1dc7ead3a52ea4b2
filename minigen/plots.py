"""Figures of the course. Every function returns a matplotlib Figure; `show` puts it in a notebook.

Figures are made without pyplot, so nothing is drawn twice and none is left open.
"""

import base64
import html
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend import Legend
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from minigen.common import as_tensor
from minigen.inputs import described, number, refuse, tensor, whole, wholes

# Okabe & Ito's colours, told apart by colour-blind readers
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (8, 3)), (0, (2, 1)))  # with colours
GROUND = "#f3f1ec"  # off-white: a sheet of white glares on a dark page
FRAME = ("max-width: 100%; box-sizing: border-box; padding: 8px; border-radius: 8px; "
         f"background: {GROUND}")
WIDTH = 7.2  # inches; two thirds of a notebook's column at 100 dots an inch


def panels(rows: int = 1, columns: int = 1, height: float = 2.6, width: float = WIDTH,
           **subplots: Any) -> tuple[Figure, np.ndarray]:
    """rows × columns axes in the course's style. Returns: (figure, array of axes, always 2-D)."""
    wholes(rows=rows, columns=columns)
    number(height, "height", positive=True)
    number(width, "width", positive=True)
    fig = Figure(figsize=(width, height * rows), layout="constrained", facecolor=GROUND)
    axes = fig.subplots(rows, columns, squeeze=False, **subplots)
    for ax in axes.flat:
        ax.set_prop_cycle(color=COLOURS)
        ax.set_facecolor("none")
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
    return fig, axes


def _blank(ax: Axes) -> None:
    """No ticks and no frame."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)


def _pixels(images: Tensor) -> Tensor:
    if not torch.is_tensor(images) or images.ndim != 4 or images.shape[1] not in (1, 3):
        got = tuple(images.shape) if torch.is_tensor(images) else type(images).__name__
        refuse("images", "a tensor of shape (N, 3, H, W) or (N, 1, H, W)", got)
    x = images.detach().cpu().float()
    if not torch.isfinite(x).all():
        raise ValueError("images hold NaN or infinite values")
    if x.numel() and (x.min() < -1.01 or x.max() > 1.01):
        reach = f"these reach from {x.min():.2f} to {x.max():.2f}"
        raise ValueError(f"images must lie in [-1, 1]; {reach}.\n"
                         "For bytes: x / 127.5 - 1; to clip on purpose: x.clamp(-1, 1)")
    tensor(images, "images")
    return ((x.clamp(-1, 1) + 1) / 2).movedim(1, -1)    # (N, H, W, C) in [0, 1]


def image_grid(images: Tensor, columns: int = 8, titles: Sequence[str] | None = None,
               row_titles: Sequence[str] | None = None, width: float | None = None) -> Figure:
    """Images side by side, pixels kept sharp. Shapes: (N, 3 or 1, H, W) in [-1, 1].

    `titles` names each image, `row_titles` each row. Raises: ValueError for another shape or range.
    """
    x = _pixels(images)
    if not len(x):
        raise ValueError("there is no image to show")
    columns = min(whole(columns, "columns"), len(x))
    rows = math.ceil(len(x) / columns)
    _check_titles(titles, "titles", len(x))
    _check_titles(row_titles, "row_titles", rows, exactly=True)
    if width is not None:
        number(width, "width", positive=True)
    width = width or min(WIDTH, 0.9 * columns + (0.9 if row_titles else 0))
    cell = width / columns
    titled = 0.24 * math.ceil(len(titles) / columns) if titles else 0.02
    height = rows * cell * x.shape[1] / x.shape[2] + titled
    close = ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.01, wspace=0.02, hspace=0.02)
    fig = Figure(figsize=(width, height), layout=close, facecolor=GROUND)
    axes = fig.subplots(rows, columns, squeeze=False)
    for k, ax in enumerate(axes.flat):
        _blank(ax)
        if k < len(x):
            pixels = x[k].squeeze(-1).numpy()
            ax.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            if titles and k < len(titles):
                ax.set_title(titles[k], fontsize=8, pad=2)
        if row_titles and k % columns == 0:
            ax.set_ylabel(row_titles[k // columns], fontsize=8, rotation=0, ha="right", va="center")
    return fig


def _check_titles(titles: Any, name: str, most: int, exactly: bool = False) -> None:
    if titles is None or titles == []:
        return
    if not isinstance(titles, list | tuple):
        refuse(name, "a list of texts", described(titles))
    if len(titles) > most or (exactly and len(titles) < most):
        refuse(name, f"{most} texts" if exactly else f"at most {most} texts", len(titles))


def smoothed(values: Sequence[float] | Tensor, window: int) -> list[float]:
    """Running mean over the last `window` values (fewer at the start)."""
    whole(window, "window")
    x = _numbers(values, "values", torch.float64)
    total = torch.cumsum(torch.cat([torch.zeros(1, dtype=torch.float64), x]), 0)
    n = torch.arange(1, len(x) + 1)
    start = (n - window).clamp_min(0)
    return ((total[n] - total[start]) / (n - start)).tolist()


def _numbers(values: Any, name: str, dtype: torch.dtype | None = None) -> Tensor:
    """A list of numbers as a tensor (N,)."""
    x = as_tensor(values, name, dtype).detach().cpu()
    if x.ndim != 1:
        refuse(name, "a list of numbers", described(x))
    return x


def curves(series: dict[str, Any], xlabel: str = "step", ylabel: str = "",
           x: Sequence[float] | Tensor | None = None, smooth: int = 1, logy: bool = False,
           ax: Axes | None = None, title: str | None = None, height: float = 2.6) -> Figure:
    """Lines by name, {"name": values}, into `ax` or axes of their own. Returns: the Figure.

    smooth > 1 draws the running mean over that many values, the raw line pale behind it.
    """
    if not isinstance(series, dict) or not series:
        refuse("series", 'a dictionary of at least one line, {"name": values}', described(series))
    whole(smooth, "smooth")
    number(height, "height", positive=True)
    x = None if x is None else _numbers(x, "x").tolist()
    fig: Any = panels(height=height)[0] if ax is None else ax.figure
    ax = fig.axes[0] if ax is None else ax
    for k, (name, values) in enumerate(series.items()):
        colour = COLOURS[k % len(COLOURS)]
        values = _numbers(values, f"the line '{name}'").tolist()
        at = range(1, len(values) + 1) if x is None else x
        if not values or len(at) != len(values):
            refuse(f"the line '{name}'", "of one value or more, as many as x has", len(values))
        if smooth > 1:
            ax.plot(at, values, color=colour, alpha=0.2, lw=0.7)
            values = smoothed(values, smooth)
        ax.plot(at, values, color=colour, lw=1.5, ls=DASHES[k % len(DASHES)], label=name)
    ax.set_xlabel(xlabel, fontsize=9)
    ax.set_ylabel(ylabel, fontsize=9)
    if logy:
        ax.set_yscale("log")
    if x is None:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    if title:
        ax.set_title(title, fontsize=9)
    if any(series):
        legend(ax)
    return fig


def legend(ax: Axes | Figure, **options: Any) -> Legend:
    """The legend above the axes, so that it covers no data, in as many rows as their width needs.

    Call it last: it moves the axes' title above itself. Of a Figure it makes one legend for all
    axes, each name once, in place of theirs. `options` go to matplotlib's. Returns: the Legend.
    """
    fig: Any = ax if isinstance(ax, Figure) else ax.figure
    if isinstance(ax, Figure):
        axes = ax.axes
        share = 1.0
        place: dict[str, Any] = dict(loc="outside upper center")
    else:
        axes = [ax]
        share = min(1, ax.get_position().width / 0.775)          # 0.775: of axes alone in a figure
        place = dict(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    named: dict[str, Any] = {}
    for a in axes:
        for handle, name in zip(*a.get_legend_handles_labels(), strict=True):
            named.setdefault(name, handle)
        if before := a.get_legend():
            before.remove()
    if not named:
        raise ValueError("there is nothing to name in a legend: draw with label='…' first")
    needed = [36 + 4.6 * len(name) for name in named]    # points: a short line, a gap, letters
    room = 72 * fig.get_figwidth() * share - 28
    most = len(named) if sum(needed) <= room else max(1, int(room // max(needed)))
    rows = math.ceil(len(named) / most)
    for a in axes:
        if a.get_title():
            above = 10.5 * rows if a is ax else 0
            a.set_title(a.get_title(), fontsize=a.title.get_fontsize(), pad=6 + above)
    style = dict(fontsize=8, frameon=False, ncols=math.ceil(len(named) / rows), handlelength=2.4,
                 columnspacing=1.2, labelspacing=0.3, borderpad=0.2)
    return ax.legend(named.values(), named, **(place | style | options))


def heat(ax: Axes, values: Tensor | Sequence[Sequence[float]], title: str | None = None,
         low: float | None = None, high: float | None = None, colours: str = "viridis",
         **options: Any) -> AxesImage:
    """A map of the values (rows, columns) in colours from `low` to `high`, with a colour bar.

    NaN stays blank. `options` go to matplotlib's imshow. Returns: the image.
    """
    table = as_tensor(values, "values").detach().cpu().float().numpy()
    if table.ndim != 2 or not table.size:
        refuse("values", "of shape (rows, columns)", table.shape)
    image = ax.imshow(table, vmin=low, vmax=high, cmap=colours, interpolation="nearest", **options)
    _blank(ax)
    bar: Any = ax.figure.colorbar(image, ax=ax, shrink=0.8, aspect=15, pad=0.03)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7, length=2)
    bar.locator = MaxNLocator(nbins=4)
    if title:
        ax.set_title(title, fontsize=9)
    return image


def points(sets: Sequence[Tensor | dict[str, Tensor]], columns: int = 4, limit: float = 3.0,
           titles: Sequence[str] | None = None, size: float = 3) -> Figure:
    """Panels of points, one for each of `sets`: (N, 2), or {"name": (N, 2)} over each other."""
    if not isinstance(sets, list | tuple) or not sets:
        refuse("sets", "a list of at least one point cloud (N, 2)", described(sets))
    columns = min(whole(columns, "columns"), len(sets))
    _check_titles(titles, "titles", len(sets), exactly=True)
    number(limit, "limit", positive=True)
    fig, axes = panels(math.ceil(len(sets) / columns), columns, height=WIDTH / columns + 0.2)
    for k, ax in enumerate(axes.flat):
        _blank(ax)
        if k >= len(sets):
            continue
        ax.spines[:].set_visible(True)
        clouds = sets[k] if isinstance(sets[k], dict) else {"": sets[k]}
        for name, p in clouds.items():
            p = tensor(p, "points", ("N", 2)).detach().cpu()
            ax.scatter(p[:, 0], p[:, 1], s=size, alpha=0.5, linewidths=0, label=name)
        ax.set_xlim(-limit, limit)
        ax.set_ylim(-limit, limit)
        ax.set_aspect("equal")
        if titles:
            ax.set_title(titles[k], fontsize=9)
    if any(name for clouds in sets if isinstance(clouds, dict) for name in clouds):
        fig.set_figheight(fig.get_figheight() + 0.25)
        for mark in filter(None, legend(fig, markerscale=3, handlelength=1).legend_handles):
            mark.set_alpha(1)
    return fig


def to_png(fig: Figure, dpi: float = 100) -> bytes:
    """The figure as PNG bytes, the same for the same figure (no date inside)."""
    if not isinstance(fig, Figure):
        refuse("fig", "a matplotlib Figure, as this module's functions return", described(fig))
    number(dpi, "dpi", positive=True)
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def picture(fig: Figure, words: str) -> str:
    """The figure as an HTML image whose alternative text is `words`, the PNG inside it."""
    png = base64.b64encode(to_png(fig)).decode()
    return f'<img src="data:image/png;base64,{png}" alt="{html.escape(words)}" style="{FRAME}">'


def folded(caption: str) -> str:
    """A caption as one line. Raises: ValueError for an empty one."""
    if not isinstance(caption, str) or not caption.strip():
        raise ValueError("a figure needs a caption: it is what a reader who cannot see it gets")
    return " ".join(caption.split())


def below(caption: str) -> Any:
    """The caption below a picture, as IPython's Markdown: its formulas are set, and no tags."""
    from IPython.display import Markdown

    return Markdown(f"*{caption.replace('<', '&lt;')}*")


def show(fig: Figure, caption: str) -> None:
    """Show a figure in the notebook, its caption below and as the image's alternative text.

    A caption may be wrapped: line breaks and what they are indented by count as one space.
    Raises: ValueError for an empty caption.
    """
    from IPython.display import display

    caption = folded(caption)
    # an image in HTML, as no reader of notebooks gives a bare PNG its alternative text
    display({"text/html": picture(fig, caption), "text/plain": caption}, raw=True)
    display(below(caption))
