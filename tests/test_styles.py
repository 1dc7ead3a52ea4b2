import itertools

import pytest
import torch

from minigen.data import shrunk
from minigen.styles import PALETTES, STYLES, draw_style


@pytest.mark.parametrize("name", STYLES)
def test_a_seed_is_a_picture_and_other_seeds_are_others(name):
    drawn = [draw_style(name, seed=k) for k in range(5)]
    for x in drawn:
        assert x.shape == (1, 3, 32, 32) and x.dtype == torch.float32
        assert -1 <= float(x.min()) < float(x.max()) <= 1
    assert torch.equal(draw_style(name, seed=3), drawn[3])
    for a, b in itertools.combinations(drawn, 2):
        assert float((a - b).abs().mean()) > 0.1
    state = torch.get_rng_state()
    draw_style(name)
    assert torch.equal(torch.get_rng_state(), state)      # nobody else's chance is moved


@pytest.mark.parametrize("name", STYLES)
def test_the_same_picture_at_every_size(name):
    small, large = draw_style(name, 32, seed=2), draw_style(name, 128, seed=2)
    other = draw_style(name, 128, seed=3)
    apart = (shrunk(large, 32) - small).abs().mean()
    assert apart < 0.12 and 3 * apart < (shrunk(other, 32) - small).abs().mean()


def test_what_each_style_is_made_of():
    size = 256
    light = {name: (draw_style(name, size, seed=0)[0].mean(0)) for name in STYLES}
    # a share of dark lead between panes that are not dark
    lead = (light["stained glass"] < -0.75).float().mean()
    assert 0.15 < lead < 0.5
    # paper shines through everywhere: between strokes, between dots
    for name in ("crayon", "print"):
        bright = (light[name] > 0.7).float()
        assert 0.1 < bright.mean() < 0.8
        quarters = bright.unfold(0, size // 2, size // 2).unfold(1, size // 2, size // 2)
        assert (quarters.mean((2, 3)) > 0.01).all()


def test_a_pane_has_its_point_and_its_border_lies_half_way():
    from minigen.styles import _nearest

    points = torch.tensor([[-0.5, 0.0], [0.5, 0.0]])
    x = torch.tensor([[-0.3, 0.1]])
    y = torch.tensor([[0.7, -0.2]])
    cell, border = _nearest(x, y, points)
    assert cell.tolist() == [[0, 1]]
    assert torch.allclose(border, x.abs())                # the border is the line x = 0


def test_every_palette_has_its_ground_and_inks():
    for name, palettes in PALETTES.items():
        assert len(palettes) >= 4 and len({len(p) for p in palettes}) == 1, name


def test_what_cannot_be_drawn_is_refused_in_one_sentence():
    for name in ("oil", None, 3, ["crayon"]):
        with pytest.raises(ValueError, match="a style must be one of crayon, stained glass, print"):
            draw_style(name)
    for size in (7, 32.0, "32", True):
        with pytest.raises(ValueError, match="size must be a whole number, at least 8"):
            draw_style("print", size)
    with pytest.raises(ValueError, match="seed must be a whole number"):
        draw_style("print", seed=0.5)
