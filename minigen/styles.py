"""Pictures that are nothing but style, drawn by code: crayon, stained glass, print.

Like ToyFaces they are given by signed distances (negative inside) whose edge is smoothed over one
pixel, so the same picture can be drawn at 32×32 or 256×256. Nothing is read from disk.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from minigen.common import generator as seeded
from minigen.data.toyfaces import from_hexadecimal
from minigen.inputs import described, refuse, whole

# colours as RGB hexadecimal: first the ground (paper, or the lead between panes), then the rest
PALETTES = {
    "crayon": (("f6f0df", "d2402f", "2f62b5", "eab32b", "3f8f4e"),
               ("faf4e8", "7a3fa0", "e0702a", "2a9d9a", "d63f7c"),
               ("efe6d0", "1f4f8f", "b5392c", "4f9a3a", "e59a1f"),
               ("f3efe6", "c2336b", "3b7fc4", "f0c030", "6a4a9c")),
    "stained glass": (("17130f", "c41e2f", "1f4fb0", "f0b323", "2f8f4a", "7a2f8f"),
                      ("14141a", "2a6fd0", "16a3b8", "e8e2a0", "d9482a", "3a3a9a"),
                      ("191410", "e07b1a", "b3202a", "f3d04a", "5a8f2a", "1f7f7f"),
                      ("120f14", "8f2a7a", "d03f6a", "3f6fd9", "f0c860", "2aa06a")),
    "print": (("f4ecd8", "d8432b", "1f4e79"),
              ("f7f1e3", "1d7874", "e0a526"),
              ("f1ead9", "2b2b2b", "d13a3a"),
              ("f6efe0", "5b3a8e", "ee7a3b")),
}
STYLES = tuple(PALETTES)


def draw_style(name: str, size: int = 32, seed: int = 0) -> Tensor:
    """One picture of a style, (1, 3, size, size) in [-1, 1]; another seed gives another picture.

    A seed's picture is the same at every size. name: one of `STYLES`.
    Raises: ValueError for another name, or a size under 8.
    """
    if not isinstance(name, str) or name not in STYLES:
        refuse("a style", f"one of {', '.join(STYLES)}", described(name))
    whole(size, "size", 8)
    dice = seeded(seed)
    palettes = PALETTES[name]
    hexes = palettes[int(torch.randint(len(palettes), (1,), generator=dice))]
    ground, *colours = from_hexadecimal(hexes)[:, :, None, None]         # (3, 1, 1) each
    order = torch.randperm(len(colours), generator=dice).tolist()
    axis = (torch.arange(size) + 0.5) * 2 / size - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    drawn = _DRAW[name](x, y, ground, [colours[k] for k in order], dice)
    return drawn.clamp(-1, 1)[None]


def _uniform(dice: torch.Generator, *shape: int) -> Tensor:
    """Chance in [-1, 1]."""
    return torch.rand(*shape, generator=dice) * 2 - 1


def _noise(x: Tensor, cells: int, dice: torch.Generator) -> Tensor:
    """Smooth noise, about -1 to 1, of `cells` numbers along a side; the same at every size."""
    table = _uniform(dice, 1, 1, cells + 2, cells + 2)
    size, axis = len(x), x[:1]                           # axis (1, size): the places of a row
    places = torch.stack([axis.expand(size, size), axis.T.expand(size, size)], -1)[None]
    return F.grid_sample(table, places, "bicubic", "border", align_corners=True)[0, 0]


def _cover(distance: Tensor) -> Tensor:
    """How much of a pixel a shape covers."""
    pixel = 2 / distance.shape[-1]
    return (0.5 - distance / pixel).clamp(0, 1)


def _nearest(x: Tensor, y: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Voronoi cells: which point is nearest, and the distance to the border of its cell.

    The border with another cell is the line half-way between the two points.
    Shapes: points (P, 2) → (H, W), (H, W).
    """
    squares = (x - points[:, :1, None]).square() + (y - points[:, 1:, None]).square()  # (P, H, W)
    cell = squares.argmin(0)
    apart = torch.cdist(points, points)[cell].movedim(-1, 0).clamp_min(1e-6)           # (P, H, W)
    border = (squares - squares.amin(0)) / (2 * apart)
    own = torch.arange(len(points)).view(-1, 1, 1) == cell
    return cell, border.masked_fill(own, math.inf).amin(0)


def _spread(count: int, dice: torch.Generator) -> Tensor:
    """count² points, one somewhere in each square of a grid a little larger than the picture."""
    axis = torch.linspace(-1.1, 1.1, count)
    grid = torch.cartesian_prod(axis, axis)
    return grid + 0.85 / count * _uniform(dice, count * count, 2)


def _crayon(
    x: Tensor, y: Tensor, paper: Tensor, colours: list[Tensor], dice: torch.Generator
) -> Tensor:
    """Fields of parallel strokes on paper, each field in a colour and a direction of its own."""
    field, _ = _nearest(x + 0.1 * _noise(x, 4, dice), y + 0.1 * _noise(x, 4, dice),
                        _spread(3, dice))
    picture = paper.expand(3, *x.shape).clone()
    tooth = _noise(x, 40, dice)                          # wax stays on the hills of the paper
    turn = 3 * _uniform(dice, 1).item()
    for k in range(9):
        angle = turn + 0.55 * _uniform(dice, 1).item() + (k % 2) * math.pi / 2
        across = x * math.cos(angle) + y * math.sin(angle) + 0.05 * _noise(x, 5, dice)
        period = 0.24 + 0.04 * _uniform(dice, 1).item()
        stroke = ((across / period) % 1 - 0.5).abs() * period - 0.072 - 0.02 * _noise(x, 6, dice)
        press = (0.88 + 0.12 * _noise(x, 6, dice) + 0.22 * tooth).clamp(0, 1)
        wax = _cover(stroke) * press * (field == k)
        picture = picture.lerp(colours[k % len(colours)].expand_as(picture), wax)
    return picture


def _stained_glass(
    x: Tensor, y: Tensor, lead: Tensor, colours: list[Tensor], dice: torch.Generator
) -> Tensor:
    """Panes of coloured glass between dark strips of lead."""
    points = _spread(4, dice)
    cell, border = _nearest(x, y, points)
    which = torch.randint(len(colours), (len(points),), generator=dice)
    light = 0.14 * _uniform(dice, len(points))
    panes = torch.stack(colours)[which][:, :, 0, 0] + light[:, None]      # (P, 3)
    glass = panes[cell].movedim(-1, 0) + 0.10 * _noise(x, 9, dice)        # (3, H, W)
    return glass.lerp(lead.expand_as(glass), _cover(border - 0.062))


def _print(
    x: Tensor, y: Tensor, paper: Tensor, colours: list[Tensor], dice: torch.Generator
) -> Tensor:
    """Two inks in dots that grow and shrink, on paper; where they lie on each other both darken."""
    turn = _uniform(dice, 1).item()
    light = (paper + 1) / 2
    picture = light.expand(3, *x.shape).clone()
    for k, ink in enumerate(colours):
        angle = turn + 0.7 * k
        u, v = (x * math.cos(angle) + y * math.sin(angle),
                y * math.cos(angle) - x * math.sin(angle))
        period = 0.30
        du, dv = (((w / period) % 1 - 0.5) * period for w in (u, v))
        tone = 0.5 + 0.75 * _noise(x, 2, dice)           # from bare paper to dots that touch
        radius = period * (0.12 + 0.45 * tone.clamp(0, 1))
        dots = _cover((du.square() + dv.square()).sqrt() - radius)
        picture = picture * (1 - dots * (1 - ((ink + 1) / 2 / light).clamp(0, 1)))
    return picture * 2 - 1


_DRAW: dict[str, Callable[..., Tensor]] = {
    "crayon": _crayon, "stained glass": _stained_glass, "print": _print}
