import math

import pytest
import torch

from minigen.engine import codebook
from minigen.engine.images import Images
from minigen.errors import DataError
from minigen.files import load_weights, save_weights
from minigen.ivqvae import IVQVAE
from minigen.vqvae import VectorQuantizer

CPU = torch.device("cpu")


def test_the_look_back_fits_codes_and_batch():
    assert codebook.window(512, 512) == 5 and codebook.window(16_384, 2048) == 40
    assert codebook.window(16_384, 512) == 160 and codebook.window(1, 10**6) == 1
    assert codebook.decay_for(0.99, 512, 512) == 0.99        # the small preset, as it was
    assert codebook.decay_for(0.99, 16_384, 512) == pytest.approx(1 - 1 / 160)
    assert codebook.decay_for(None, 16_384, 512) is None


def test_use_and_perplexity_of_what_is_known():
    use = codebook.Use(8, 8, CPU)                             # a window of five steps
    first = use.note(1, torch.arange(8).view(2, 2, 2))
    assert float(first["use"]) == 1 and float(first["perplexity"]) == pytest.approx(8)
    for step in range(2, 6):
        got = use.note(step, torch.zeros(2, 2, 2, dtype=torch.long))
    assert float(got["use"]) == 1                             # step 1 still lies in the window
    got = use.note(6, torch.zeros(8, dtype=torch.long))
    assert float(got["use"]) == 1 / 8 and 1 < float(got["perplexity"]) < 8
    one = codebook.Use(8, 8, CPU).note(1, torch.full((4,), 3))
    assert float(one["perplexity"]) == pytest.approx(1) and float(one["use"]) == 1 / 8
    p = torch.tensor([0.75, 0.25])
    got = codebook.Use(2, 4, CPU).note(1, torch.tensor([0, 0, 0, 1]))["perplexity"]
    assert float(got) == pytest.approx(math.exp(-float((p * p.log()).sum())))


def test_use_goes_on_from_its_state():
    a, b = codebook.Use(16, 8, CPU), codebook.Use(16, 8, CPU)
    steps = [torch.randint(16, (8,)) for _ in range(6)]
    for k, chosen in enumerate(steps[:3], 1):
        a.note(k, chosen)
    b.load(a.state())
    for k, chosen in enumerate(steps[3:], 4):
        one, two = a.note(k, chosen), b.note(k, chosen)
        assert all(torch.equal(one[name], two[name]) for name in one)


def tiny(**changes):
    return IVQVAE(**dict(size=32, width=4, multipliers=(1, 1, 1), num_codes=64) | changes)


def test_the_start_lies_among_the_latents_and_counts_like_a_batch():
    torch.manual_seed(0)
    model, images = tiny(), Images("toyfaces:16", 32)
    codebook.start(model, images, 16, seed=0, vectors=128)
    q = model.quantizer
    assert torch.allclose(q.cluster_size, torch.full((64,), 2.0))
    torch.testing.assert_close(q.embed_avg, 2 * q.codebook)
    z = model.encode(images(torch.arange(16))).movedim(1, -1).reshape(-1, 4)
    low, high = z.amin(0), z.amax(0)
    assert ((q.codebook >= low) & (q.codebook <= high)).all()
    with pytest.raises(DataError, match="512 codes starts from at least 8 images of 64 vectors"):
        codebook.start(tiny(num_codes=512), images, 4, seed=0, vectors=128)
    codebook.start(tiny(decay=None, revive_below=0.0), images, 16, seed=0, vectors=128)


def dead_after(steps, large, codes=1024, vectors=64):
    """The share of codes that a fixed cloud of vectors does not use, half of them far from it."""
    torch.manual_seed(0)
    q = VectorQuantizer(codes, 2, decay=codebook.decay_for(0.99, codes, vectors), revive_below=0.05)
    q.codebook[codes // 2 :] += 50
    q.embed_avg.copy_(q.codebook)
    if large:
        q = codebook.LargeQuantizer(q, vectors)
    use = codebook.Use(codes, vectors, CPU)
    for step in range(1, steps + 1):
        got = use.note(step, q.train()(torch.randn(1, 2, 8, vectors // 8)).indices)
    return 1 - float(got["use"])


def test_codes_that_begin_dead_are_revived_in_time():
    assert dead_after(400, large=True) < 0.1 < dead_after(400, large=False)


def test_a_code_is_dead_when_none_chose_it_in_the_window():
    q = codebook.LargeQuantizer(VectorQuantizer(64, 2, decay=0.9, revive_below=0.05), 8)
    assert q.window == 40
    q.codebook.fill_(100.0)
    q.embed_avg.fill_(100.0)
    z = torch.randn(1, 2, 2, 4)                               # eight vectors, all of one code
    for _ in range(39):
        q.train()(z)
    assert (q.codebook[1:] > 90).all()
    q(z)
    moved = (q.codebook[1:] < 50).any(1)
    assert int(moved.sum()) == 8                              # a vector each, all different
    assert len(q.codebook[1:][moved].unique(dim=0)) == 8
    q(z)
    assert int((q.codebook[1:] < 50).any(1).sum()) == 16      # the next eight's turn
    assert q.eval()(z) and int((q.codebook[1:] < 50).any(1).sum()) == 16


def test_a_large_codebook_is_an_ordinary_one_for_whoever_loads_it(tmp_path):
    arguments = dict(size=32, width=4, multipliers=(1, 1, 1), num_codes=2048, revive_below=0.05)
    model = codebook.autoencoder(arguments, batch_size=1)
    assert isinstance(model.quantizer, codebook.LargeQuantizer)
    save_weights(tmp_path / "m.safetensors", model)
    loaded = load_weights(IVQVAE, tmp_path / "m.safetensors")
    assert type(loaded.quantizer) is VectorQuantizer
    assert loaded.config["decay"] == model.quantizer.decay == 1 - 1 / 160
    small = codebook.autoencoder(dict(size=32), batch_size=32)
    assert type(small.quantizer) is VectorQuantizer and small.config["decay"] == 0.99
    clock = dict(steps=torch.tensor(7), last=torch.arange(2048))
    model.quantizer.set_clock(clock)
    assert torch.equal(model.quantizer.clock()["last"], clock["last"])
