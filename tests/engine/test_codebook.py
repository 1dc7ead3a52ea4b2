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


def counting(codes, vectors, **how):
    return codebook.CountingQuantizer(VectorQuantizer(codes, 2, **how), vectors)


def noted(q, indices):
    """Use and perplexity after a step in which these codes were chosen."""
    q._update(q.codebook.detach()[indices], indices)
    return {name: float(value) for name, value in q.used().items()}


def test_use_and_perplexity_of_what_is_known():
    q = counting(8, 8)                                        # a window of five steps
    first = noted(q, torch.arange(8))
    assert first["use"] == 1 and first["perplexity"] == pytest.approx(8)
    for _ in range(4):
        got = noted(q, torch.zeros(8, dtype=torch.long))
    assert got["use"] == 1                                    # step 1 still lies in the window
    got = noted(q, torch.zeros(8, dtype=torch.long))
    assert got["use"] == 1 / 8 and 1 < got["perplexity"] < 8
    one = noted(counting(8, 8), torch.full((4,), 3))
    assert one["perplexity"] == pytest.approx(1) and one["use"] == 1 / 8
    p = torch.tensor([0.75, 0.25])
    got = noted(counting(2, 4), torch.tensor([0, 0, 0, 1]))["perplexity"]
    assert got == pytest.approx(math.exp(-float((p * p.log()).sum())))
    assert counting(4, 4).used()["use"] == 0                  # before the first step


def test_use_goes_on_from_its_clock():
    a, b = counting(16, 8), counting(16, 8)
    steps = [torch.randint(16, (8,)) for _ in range(6)]
    for chosen in steps[:3]:
        noted(a, chosen)
    b.set_clock({name: value.clone() for name, value in a.clock().items()})
    for chosen in steps[3:]:
        assert noted(a, chosen) == noted(b, chosen)


def test_a_revived_code_is_in_use_only_when_a_vector_chose_it():
    q = counting(64, 8, decay=0.9, revive_below=0.05)
    z = torch.zeros(1, 2, 2, 4)
    for _ in range(q.window):
        q.train()(z)
    assert int((q.last < 0).sum()) == 8 and float(q.used()["use"]) == 1 / 64


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
    q = codebook.CountingQuantizer(q, vectors)
    if not large:
        q.revives, q.revive_below = False, 0.05               # the rule of a small codebook
    for _ in range(steps):
        q.train()(torch.randn(1, 2, 8, vectors // 8))
    return 1 - float(q.used()["use"])


def test_codes_that_begin_dead_are_revived_in_time():
    assert dead_after(400, large=True) < 0.1 < dead_after(400, large=False)


def test_a_code_is_dead_when_none_chose_it_in_the_window():
    q = counting(64, 8, decay=0.9, revive_below=0.05)
    assert q.window == 40 and q.revives
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


def test_a_codebook_that_counts_is_an_ordinary_one_for_whoever_loads_it(tmp_path):
    arguments = dict(size=32, width=4, multipliers=(1, 1, 1), num_codes=2048, revive_below=0.05)
    model = codebook.autoencoder(arguments, batch_size=1)
    assert model.quantizer.revives and model.quantizer.revive_below == 0
    save_weights(tmp_path / "m.safetensors", model)
    loaded = load_weights(IVQVAE, tmp_path / "m.safetensors")
    assert type(loaded.quantizer) is VectorQuantizer
    assert loaded.config["decay"] == model.quantizer.decay == 1 - 1 / 160
    small = codebook.autoencoder(dict(size=32), batch_size=32)
    assert not small.quantizer.revives and small.quantizer.revive_below == 0.05
    assert small.config["decay"] == 0.99
    clock = dict(steps=torch.tensor(7), last=torch.arange(2048), counts=torch.rand(2048))
    model.quantizer.set_clock(clock)
    for name, value in model.quantizer.clock().items():
        assert torch.equal(value, clock[name])
