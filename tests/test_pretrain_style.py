"""The recipes of tools/pretrain_style.py run from end to end, on a few steps."""

import pretrain_style
import torch

from minigen import files, style_decoder
from minigen.data import ATTRIBUTES
from minigen.metrics import attribute_classifier
from minigen.styles import STYLES


def test_adain_writes_what_it_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain_style, "OUT", tmp_path)
    card = pretrain_style.RECIPES["adain"](
        steps=2, batch_size=4, width=8, faces=60, pictures=2, counted=5)
    decoder = files.load_weights(style_decoder.StyleDecoder, tmp_path / "adain.safetensors")
    assert decoder.card == card
    assert card["still_read"].keys() == card["still_read_at_1"].keys() == set(STYLES)
    for name in STYLES:
        assert len(card["still_read"][name]) == len(card["strengths"])
        assert len(card["still_read_at_1"][name]) == len(ATTRIBUTES)
    # of the weights as they are stored, in 16 bits
    shares = torch.stack([pretrain_style.still_read(decoder, "print", [1.0], 5, k)
                          for k in range(3)])
    assert card["still_read"]["print"][-1][0] == round(float(shares.mean()), 3)


def test_all_is_read_where_nothing_is_painted(monkeypatch):
    monkeypatch.setattr(style_decoder, "stylise", lambda decoder, x, pictures, strength: x)
    share = pretrain_style.still_read(None, "crayon", [1.0], 40, 0)
    assert share.shape == (1, len(ATTRIBUTES)) and share.min() > 0.9
    assert not attribute_classifier().training
