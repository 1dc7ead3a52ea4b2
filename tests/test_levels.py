import functools

import pytest
import torch
import torch.nn.functional as F

from minigen.data import (
    ToyFaces,
    dequantise,
    enlarged,
    from_uint8,
    quantise,
    shrunk,
    to_uint8,
)
from minigen.data.levels import levels_of

EVERY = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)


def random(seed=0):
    return torch.Generator().manual_seed(seed)


def test_every_level_fills_its_own_piece_of_the_unit_interval():
    for x in (EVERY, from_uint8(EVERY)):
        y = dequantise(x.expand(200, -1, -1, -1), random())
        assert y.dtype == torch.float32 and y.min() >= 0 and y.max() < 1
        assert torch.equal((y * 256).floor(), EVERY.float().expand_as(y))
        places = (y * 256 - EVERY).flatten()                 # u: uniform in [0, 1)
        assert places.mean() == pytest.approx(0.5, abs=4 / (12 * len(places)) ** 0.5)
        assert places.var() == pytest.approx(1 / 12, rel=0.02)
    assert torch.equal(dequantise(EVERY, random()), dequantise(EVERY, random()))
    assert not torch.equal(dequantise(EVERY, random()), dequantise(EVERY, random(1)))


def test_quantise_takes_the_noise_away_again_even_at_its_ends(monkeypatch):
    assert torch.equal(quantise(dequantise(EVERY, random())), from_uint8(EVERY))
    for place in (0, 2**16 - 1):
        ends = functools.partial(lambda p, most, shape, **_: torch.full(shape, p), place)
        monkeypatch.setattr(torch, "randint", ends)
        assert torch.equal(quantise(dequantise(EVERY)), from_uint8(EVERY))


def test_what_leaves_the_interval_goes_to_the_outer_levels():
    assert quantise(torch.tensor([-0.3, 0.0, 0.999, 1.0, 7.0])).tolist() == [-1, -1, 1, 1, 1]


def test_images_between_the_levels_are_refused():
    x = from_uint8(EVERY)
    assert torch.equal(levels_of(x), EVERY.float())
    with pytest.raises(ValueError, match="256 grey levels"):
        dequantise(x * 0.99)
    wrong = [(x * 100, r"\[-1, 1\]"), (x * float("nan"), "got nan"), (x * 1.2, r"\[-1, 1\]"),
             (x[0], r"\(N, C, H, W\)"), (EVERY.long(), "floating point"), ([[1]], "a tensor")]
    for bad, words in wrong:
        with pytest.raises(ValueError, match=words):
            dequantise(bad)


def test_shrunk_is_the_mean_of_the_pixels_on_a_level():
    x = torch.tensor([[-1.0, -1, 1, 1], [-1, -1, 1, 1], [0, 1, -1, 1], [0, 1, -1, 1]])[None, None]
    levels = to_uint8(shrunk(x, 2))[0, 0]
    assert levels.tolist() == [[0, 255], [191, 128]]         # 191.25 and 127.5, to the even one
    faces = ToyFaces(20).images()
    small = shrunk(faces, 16)
    assert torch.equal(small, from_uint8(to_uint8(small))) and small.shape == (20, 3, 16, 16)
    assert (small - F.avg_pool2d(faces, 2)).abs().max() <= 1 / 255 + 1e-6
    assert torch.equal(shrunk(small, 16), small)
    for size in (5, 0, 64):
        with pytest.raises(ValueError, match="size"):
            shrunk(faces, size)
    with pytest.raises(ValueError, match="divisor"):
        shrunk(faces[..., :16], 8)


def test_enlarged_keeps_a_plain_image_and_stays_in_range():
    assert torch.allclose(enlarged(torch.full((2, 3, 16, 16), 0.25), 32), torch.tensor(0.25))
    big = enlarged(shrunk(ToyFaces(20).images(), 16), 32)
    assert big.shape == (20, 3, 32, 32) and big.abs().max() <= 1
    with pytest.raises(ValueError, match="size"):
        enlarged(big, 0)
