import math

import pytest
import torch

from minigen import style
from minigen import style_decoder as sd
from minigen.data import ToyFaces
from minigen.files import load_weights, save_weights
from minigen.metrics import attribute_classifier
from minigen.styles import draw_style


def test_a_decoder_comes_back_from_its_file(tmp_path):
    torch.manual_seed(0)
    decoder = sd.StyleDecoder(layer=3, width=8)
    save_weights(tmp_path / "d.safetensors", decoder)
    back = load_weights(sd.StyleDecoder, tmp_path / "d.safetensors")
    x, s = ToyFaces(2, seed=3).images(), draw_style("crayon", 48)
    assert torch.equal(sd.stylise(back, x, s), sd.stylise(decoder, x, s))
    assert back.config == dict(layer=3, width=8, grain=8)


@pytest.mark.parametrize("layer", range(1, 6))
def test_a_decoder_gives_pictures_of_the_size_it_was_given(layer):
    torch.manual_seed(0)
    decoder = sd.StyleDecoder(layer, width=8)
    x = ToyFaces(2, size=40).images()
    painted = sd.stylise(decoder, x, draw_style("print"), 0.5)
    assert painted.shape == x.shape and painted.abs().max() <= 1


def test_strength_goes_from_the_contents_map_to_adains():
    torch.manual_seed(0)
    decoder = sd.StyleDecoder(width=8)
    x, s = ToyFaces(2, seed=3).images(), draw_style("crayon")
    h = decoder.encode(x)
    moved = style.adain(h, decoder.encode(s))
    for strength in (0.0, 0.25, 1.0):
        want = decoder((1 - strength) * h + strength * moved)
        assert torch.allclose(sd.stylise(decoder, x, s, strength), want, atol=1e-5)
    assert torch.allclose(sd.stylise(decoder, x, x), sd.stylise(decoder, x, x, 0), atol=1e-4)


def test_training_lowers_the_loss_and_moves_the_decoder_only():
    torch.manual_seed(0)
    decoder = sd.StyleDecoder(width=8)
    data = sd.style_batches(ToyFaces(16).images(), draw_style("print").expand(8, -1, -1, -1), 4)
    frozen = [p.clone() for p in attribute_classifier().parameters()]
    losses = [s.loss for s in sd.train_adain(decoder, data, steps=60, weight=0, lr=5e-3)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert all(map(torch.equal, frozen, attribute_classifier().parameters()))


def test_the_style_counts_more_and_more_up_to_half_the_steps():
    torch.manual_seed(0)
    decoder = sd.StyleDecoder(width=8)
    data = sd.style_batches(ToyFaces(8).images(), draw_style("print").expand(8, -1, -1, -1), 4)
    for s in sd.train_adain(decoder, data, steps=4, weight=3.0, lr=1e-3):
        ramp = {1: 0.5, 2: 1.0, 3: 1.0, 4: 1.0}[s.step]
        assert s.loss == pytest.approx(s.content + 3.0 * ramp * s.style, rel=1e-5)
        assert s.style > 0


def test_batches_pair_faces_and_styles():
    faces, styles = torch.arange(6.0).view(6, 1, 1, 1), -torch.arange(1.0, 4).view(3, 1, 1, 1)
    stream = sd.style_batches(faces, styles, 3)
    pairs = [next(stream) for _ in range(4)]
    assert all(len(x) == len(s) == 3 and (x >= 0).all() and (s < 0).all() for x, s in pairs)
    assert sorted(torch.cat([x for x, _ in pairs[:2]]).flatten().tolist()) == [0, 1, 2, 3, 4, 5]


def test_the_canvas_is_laid_out_as_often_as_a_picture_needs_it():
    torch.manual_seed(0)
    decoder = sd.StyleDecoder(width=8, grain=2)
    seen = []
    decoder.body.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    decoder(torch.zeros(2, 32, 20, 40))
    canvas = seen[0][:, 32:]
    assert canvas.shape == (2, 2, 20, 40)
    assert torch.equal(canvas[0, :, 16:20, 16:32], decoder.canvas[0, :, :4])
    plain = sd.StyleDecoder(width=8, grain=0)
    assert plain(torch.zeros(1, 32, 16, 16)).shape == (1, 3, 32, 32)


def test_what_does_not_fit_is_refused_in_one_sentence():
    x, s = ToyFaces(2, seed=3).images(), draw_style("crayon")
    decoder = sd.StyleDecoder(width=8)
    for strength in (-0.1, 1.1, math.nan, "all"):
        with pytest.raises(ValueError, match="strength must be a finite number, 0 to 1"):
            sd.stylise(decoder, x, s, strength)
    with pytest.raises(ValueError, match="content and style do not fit"):
        sd.stylise(decoder, x, s.expand(3, -1, -1, -1))
    with pytest.raises(ValueError, match=r"style must be \(B, 3, H, W\)"):
        sd.stylise(decoder, x, s[:, :1])
    with pytest.raises(ValueError, match="must lie in"):
        sd.stylise(decoder, 127 * x, s)
    with pytest.raises(ValueError, match="multiples of 2; got"):
        sd.stylise(decoder, x[:, :, :31], s)
    with pytest.raises(ValueError, match=r"h must be \(B, 32, H, W\)"):
        decoder(torch.zeros(1, 64, 8, 8))
    with pytest.raises(ValueError, match="layer must be a whole number, 1 to 5"):
        sd.StyleDecoder(6)
