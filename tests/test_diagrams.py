import re

import pytest
import torch

from minigen.diagrams import ATTENDING, unet_diagram
from minigen.unet import PRESETS, UNet


def boxes(fig):
    """(channels, resolution) of every box, from left to right, and which of them attend."""
    (ax,) = fig.axes
    texts = sorted(
        (t.get_position()[0], *map(int, re.findall(r"\d+", t.get_text())[:2]))
        for t in ax.texts if re.match(r"\d+\n\d+×\d+", t.get_text()))
    fills = sorted((p.get_x() + p.get_width() / 2, p.get_facecolor()) for p in ax.patches
                   if hasattr(p, "get_boxstyle"))
    return [t[1:] for t in texts], [f[1] for f in fills]


@pytest.mark.parametrize("config", [*PRESETS.values(), dict(
    size=16, width=8, multipliers=(1, 3), blocks=1, attention_at=None)])
def test_the_diagram_is_of_the_network_that_is_built(config):
    with torch.device("meta"):
        net = UNet(**config)
    made = []
    stages = [*net.down, [net.middle[-1]], *net.up]

    def keep(block, args, result):
        made.append(tuple(result.shape[1:3]))

    for stage in stages:
        stage[-1][0].register_forward_hook(keep)
    size = config["size"]
    with torch.device("meta"):
        net(torch.zeros(1, 3, size, size), torch.zeros(1, dtype=torch.long))
    shown, fills = boxes(unet_diagram(config))
    assert shown == made
    attends = [resolution == config["attention_at"] for _, resolution in shown]
    from matplotlib.colors import to_rgba

    assert [f == to_rgba(ATTENDING) for f in fills] == attends


def test_the_diagram_says_how_long_the_vector_of_the_time_is():
    words = " ".join(t.get_text() for t in unet_diagram(PRESETS["small"]).axes[0].texts)
    assert "a vector of 64" in words and "blocks" in words
    assert "2 blocks" in " ".join(
        t.get_text() for t in unet_diagram(PRESETS["paper"]).axes[0].texts)


@pytest.mark.parametrize("wrong", [None, {}, dict(size=32), "small"])
def test_what_is_no_configuration(wrong):
    with pytest.raises((ValueError, TypeError), match="config must be"):
        unet_diagram(wrong)
