import math

import pytest
import torch

from minigen.engine import codebook
from minigen.engine.images import Images
from minigen.errors import DataError
from minigen.ivqvae import IVQVAE
from minigen.vqvae import VectorQuantizer

CPU = torch.device("cpu")


def test_the_look_back_fits_codes_and_batch():
    assert codebook.window(512, 512) == 10 and codebook.window(16_384, 2048) == 80
    assert codebook.window(16_384, 512) == 320 and codebook.window(1, 10**6) == 1
    assert codebook.decay_for(0.99, 512, 512) == 0.99        # the small preset, as it was
    assert codebook.decay_for(0.99, 16_384, 512) == pytest.approx(1 - 1 / 320)
    assert codebook.decay_for(None, 16_384, 512) is None


def test_use_and_perplexity_of_what_is_known():
    use = codebook.Use(8, 8, CPU)                             # a window of ten steps
    first = use.note(1, torch.arange(8).view(2, 2, 2))
    assert float(first["use"]) == 1 and float(first["perplexity"]) == pytest.approx(8)
    for step in range(2, 11):
        got = use.note(step, torch.zeros(2, 2, 2, dtype=torch.long))
    assert float(got["use"]) == 1                             # step 1 still lies in the window
    got = use.note(11, torch.zeros(8, dtype=torch.long))
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


def dead_after(steps, codes=1024, vectors=64, fit=True):
    """The share of codes that a fixed cloud of vectors does not use, after a bad start."""
    torch.manual_seed(0)
    decay = codebook.decay_for(0.99, codes, vectors) if fit else 0.99
    q = VectorQuantizer(codes, 2, decay=decay, revive_below=0.05).train()
    q.codebook[codes // 2 :] += 50                            # half of them where nothing lies
    q.embed_avg.copy_(q.codebook)
    if fit:
        q.cluster_size.fill_(vectors / codes)
        q.embed_avg.copy_(q.codebook * vectors / codes)
    use = codebook.Use(codes, vectors, CPU)
    for step in range(1, steps + 1):
        got = use.note(step, q(torch.randn(1, 2, 8, vectors // 8)).indices)
    return 1 - float(got["use"])


def test_codes_that_begin_dead_are_revived_where_the_counts_fit_the_batch():
    assert dead_after(1200) < 0.1 < dead_after(400)


def test_no_more_codes_are_revived_than_there_are_vectors():
    q = VectorQuantizer(64, 2, decay=0.99, revive_below=0.5).train()
    with torch.no_grad():
        q.codebook.fill_(100.0)
        q.cluster_size.zero_()
    q(torch.randn(1, 2, 2, 4))                                # eight vectors
    moved = (q.codebook < 50).any(1)
    assert int(moved[1:].sum()) <= 8                          # code 0 was chosen and moved itself
