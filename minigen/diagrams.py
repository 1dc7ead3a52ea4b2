"""Chapter 5: networks drawn as diagrams, from their own configuration."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from minigen.inputs import described, refuse
from minigen.plots import COLOURS, panels

BLOCK, ATTENDING, SKIP = COLOURS[5], COLOURS[4], COLOURS[2]


def unet_diagram(config: dict[str, Any]) -> Figure:
    """The U of a `UNet`: a box a stage, its channels and resolution in it, and what joins them.

    config: the network's, or its arguments as in `unet.PRESETS`. A box is the wider the more
    channels it has, and the higher the more pixels. Returns: the Figure.
    """
    needed = ("size", "width", "multipliers", "blocks", "attention_at")
    if not isinstance(config, dict) or not set(needed) <= config.keys():
        refuse("config", f"a network's, with {', '.join(needed)}", described(config))
    size, attention_at = config["size"], config["attention_at"]
    channels = [config["width"] * m for m in config["multipliers"]]
    n = len(channels)
    fig, axes = panels(height=4.2)
    ax = axes[0, 0]
    ax.set(xlim=(-1.6, 2 * n + 1.6), ylim=(-n - 0.75, 1.3), xticks=[], yticks=[])
    ax.spines[:].set_visible(False)

    def box(x: float, level: int, c: int, blocks: int) -> tuple[float, float]:
        """A stage; returns half its width and height."""
        resolution = size // 2**level
        half = 0.36 + 0.12 * (c / max(channels)) ** 0.5, 0.29 + 0.1 * (resolution / size) ** 0.5
        attends = resolution == attention_at
        ax.add_patch(FancyBboxPatch(
            (x - half[0], -level - half[1]), 2 * half[0], 2 * half[1], zorder=2,
            boxstyle="round,pad=0,rounding_size=0.06", edgecolor="black", linewidth=0.8,
            facecolor=ATTENDING if attends else BLOCK))
        words = f"{c}\n{resolution}×{resolution}" + (f"\n{blocks} blocks" if blocks > 1 else "")
        ax.text(x, -level, words, ha="center", va="center", fontsize=7, zorder=3)
        return half

    halves = [box(i, i, c, config["blocks"]) for i, c in enumerate(channels)]
    bottom = box(n, n, channels[-1], 2)
    for i, c in enumerate(channels):
        box(2 * n - i, i, c, config["blocks"])
    ends = [*halves, bottom]
    for i in range(n):
        right, low, high = ends[i][0], ends[i][1], ends[i + 1][1]
        start, end = 0.6 * right, 1 - 0.4 * right           # from the middle of the left box
        _arrow(ax, (i + start, -i - low), (i + end, -i - 1 + high))
        _arrow(ax, (2 * n - i - end, -i - 1 + high), (2 * n - i - start, -i - low))
        _arrow(ax, (i + right, -i), (2 * n - i - right, -i), SKIP, "--")
    ax.text(n, 0.08, "skip: what the left side made is joined to what comes from below",
            ha="center", fontsize=7, color=SKIP)
    ax.text(0.62, -0.45, "halve", fontsize=7)
    ax.text(2 * n - 0.62, -0.45, "double", fontsize=7, ha="right")
    _ends(ax, n, halves[0][0], config.get("channels", 3))
    dim = 4 * config["width"]
    ax.text(n, 1.02, f"t → sines and cosines → a vector of {dim}, added in every block",
            ha="center", va="center", fontsize=8,
            bbox=dict(boxstyle="round,pad=0.35", facecolor="white", edgecolor=COLOURS[1]))
    ax.text(-1.55, -n - 0.6, "a number: channels; n×n: pixels", fontsize=7)
    ax.text(2 * n + 1.55, -n - 0.6, "with attention", fontsize=7, ha="right",
            bbox=dict(boxstyle="round,pad=0.3", facecolor=ATTENDING, edgecolor="none"))
    return fig


def _ends(ax: Axes, n: int, half: float, channels: int) -> None:
    """What goes in and what comes out."""
    for words, at, start, end in (
            (f"$x_t$\n{channels}", -1.35, -1.15, -half),
            (f"output\n{channels}", 2 * n + 1.3, 2 * n + half, 2 * n + 0.98)):
        ax.text(at, 0, words, ha="center", va="center", fontsize=8)
        _arrow(ax, (start, 0), (end, 0))


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float],
           colour: str = "black", style: str = "-") -> None:
    ax.annotate("", end, start, zorder=1, arrowprops=dict(
        arrowstyle="-|>", color=colour, linestyle=style, lw=1, shrinkA=0, shrinkB=0))
