import copy

import pytest
import torch
from torch import nn

from minigen import fftd
from minigen.fftd import FFTD, PRESETS, AdaptiveFusion, Block
from tests.conftest import peer

ONE = torch.tensor([1])
TINY = dict(dim=32, heads=2)


def woken(**config):
    """A model whose parameters that start at zero do not, so that everything shows."""
    torch.manual_seed(0)
    model = FFTD(**TINY | config)
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 0 or not p.any():
                p.add_(torch.randn_like(p) * 0.1)
    return model.eval()


def test_the_papers_parameter_counts():
    counts = {}
    for fusion in fftd.FUSIONS:
        with torch.device("meta"):
            counts[fusion] = sum(p.numel() for p in FFTD(**PRESETS["paper"] | dict(fusion=fusion)).parameters()) / 1e6
    assert counts["adaptive"] == pytest.approx(14.98, rel=0.02)
    assert counts["add"] == pytest.approx(9.54, rel=0.05) and counts["concat"] == pytest.approx(11.49, rel=0.05)


@pytest.mark.parametrize("config", [
    {}, dict(levels=1), dict(levels=3), dict(fusion="add"), dict(fusion="concat"), dict(patch=2), dict(patch=4, levels=1),
    dict(grid=1, levels=1), dict(grid=8, levels=3), dict(grid=16, patch=2, latent_channels=8), dict(depth=3, num_classes=4)])
def test_output_is_exactly_zero_before_training(config):
    model = FFTD(**TINY | config)
    z = torch.randn(2, model.config["latent_channels"], *[model.config["grid"]] * 2)
    assert torch.equal(model(z, torch.tensor([3, 500])), torch.zeros_like(z))


def test_the_u_has_the_levels_it_says():
    assert FFTD(**TINY).level_of == [0, 1, 1, 1, 0] and len(FFTD(**TINY).links) == 2
    assert FFTD(**TINY, levels=3).level_of == [0, 1, 2, 1, 0]
    plain = FFTD(**TINY, levels=1)
    assert plain.level_of == [0] * 5 and not plain.links and not plain.down
    trace = []
    FFTD(**TINY, levels=3)(torch.randn(2, 4, 4, 4), torch.tensor([3]), trace=trace)
    assert [tuple(m.shape[1:]) for m in trace] == [(32, 4, 4), (32, 2, 2), (32, 1, 1), (32, 2, 2), (32, 4, 4)]


def test_gradients_reach_every_parameter_within_two_steps():
    torch.manual_seed(0)
    model = FFTD(**TINY, num_classes=3)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    z, t, y, goal = torch.randn(8, 4, 4, 4), torch.randint(1000, (8,)), torch.arange(8) % 4, torch.randn(8, 4, 4, 4)
    for _ in range(3):
        optimiser.zero_grad()
        (model(z, t, y) - goal).square().mean().backward()
        optimiser.step()                                  # two steps; the third gradient is looked at
    for name, p in model.named_parameters():
        assert p.grad is not None and bool(p.grad.any()), name


def test_tokens_and_maps_are_in_reading_order():
    pixel = torch.zeros(1, 1, 4, 4)
    pixel[0, 0, 1, 2] = 1
    assert fftd.to_tokens(pixel)[0, :, 0].nonzero().item() == 6
    assert torch.equal(fftd.to_map(fftd.to_tokens(pixel)), pixel)
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(fftd.to_map(fftd.to_tokens(x)), x)


def test_patches_come_out_where_they_went_in():
    model = FFTD(**TINY, patch=2, levels=1, latent_channels=3)
    tokens = torch.arange(4.0)[None, :, None].expand(1, 4, 12)                 # token k says k
    out = nn.functional.pixel_shuffle(fftd.to_map(tokens), model.patch)
    assert torch.equal(out[0, 0], torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]))


def test_positions_equal_diffusers():
    theirs = peer("diffusers.models.embeddings").get_2d_sincos_pos_embed(32, 4, base_size=4, output_type="pt")
    torch.testing.assert_close(fftd.positions(32, 4), theirs.float(), rtol=0, atol=1e-6)


def test_adaptive_fusion_starts_as_a_sum():
    x1, x2 = torch.randn(2, 16, 32), torch.randn(2, 16, 32)
    torch.testing.assert_close(AdaptiveFusion(32)(x1, x2), x1 + x2)
    torch.testing.assert_close(fftd.ConcatFusion(32)(x1, x2), x1 + x2)


def test_adaptive_fusion_is_its_equations():
    torch.manual_seed(0)
    fusion = AdaptiveFusion(32)
    for p in fusion.parameters():
        nn.init.normal_(p, std=0.3)
    x1, x2 = torch.randn(3, 4, 32), torch.randn(3, 4, 32)
    out, w = fusion(x1, x2, return_weights=True)
    both = torch.cat([x1, x2], 2)
    p = torch.cat([both.mean(1), both.max(1).values], 1)                       # Eqs. 18, 19
    assert p.shape == (3, 128) and torch.equal(w["p"], p)
    first, _, second = fusion.channel
    channel = torch.sigmoid(second(nn.functional.silu(first(p))))              # Eq. 20
    torch.testing.assert_close(w["w_channel"], channel[:, None])
    c1, _, c2, _, c3 = fusion.spatial
    spatial = torch.sigmoid(c3(nn.functional.silu(c2(nn.functional.silu(c1(both.mT.reshape(3, 64, 2, 2)))))))   # Eqs. 21, 22
    torch.testing.assert_close(w["w_spatial"], spatial.reshape(3, 4, 1))
    assert bool((w["w_spatial"] > 0).all() and (w["w_spatial"] < 1).all())
    want = channel[:, None] * fusion.norm1(x1) + spatial.reshape(3, 4, 1) * fusion.norm2(x2) + fusion.s * fusion.linear(both)
    torch.testing.assert_close(out, want)                                      # Eqs. 23 to 25


def test_gradcheck_of_adaptive_fusion():
    torch.manual_seed(0)
    fusion = AdaptiveFusion(16).double()
    for p in fusion.parameters():
        nn.init.normal_(p, std=0.3)
    x1, x2 = (torch.randn(2, 4, 16, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(fusion, (x1, x2), eps=1e-6, atol=1e-5)


def test_one_item_is_the_same_in_a_batch():
    model, z, y = woken(num_classes=3), torch.randn(5, 4, 4, 4), torch.tensor([0, 1, 2, 3, 0])
    whole = model(z, torch.tensor([70]), y)
    torch.testing.assert_close(whole[3:4], model(z[3:4], torch.tensor([70]), y[3:4]), rtol=0, atol=1e-5)
    torch.testing.assert_close(whole, model(z, torch.full((5,), 70), y), rtol=0, atol=1e-5)
    torch.testing.assert_close(model(z, torch.tensor([70])), model(z, torch.tensor([70]), torch.full((5,), 3)), rtol=0, atol=1e-5)
    assert not torch.allclose(whole, model(z, torch.tensor([900]), y), atol=1e-4)


def test_what_depends_on_t_alone_is_computed_once():
    model, sizes = woken(), []
    model.norms[0].register_forward_hook(lambda m, i, o: sizes.append(len(o)))
    model(torch.randn(64, 4, 4, 4), torch.tensor([5]))
    assert sizes == [1]


def test_equals_diffusers_dit():
    """levels=1 and fusion="add" is DiT with one adaptive norm for all blocks; copied into each block of diffusers' DiT."""
    theirs = peer("diffusers").DiTTransformer2DModel(
        num_attention_heads=4, attention_head_dim=16, in_channels=4, out_channels=4, num_layers=3, sample_size=4, patch_size=1,
        num_embeds_ada_norm=3, norm_eps=1e-6)
    ours = woken(dim=64, heads=4, depth=3, levels=1, fusion="add", num_classes=3)
    with torch.no_grad():
        theirs.pos_embed.proj.weight.copy_(ours.embed.weight), theirs.pos_embed.proj.bias.copy_(ours.embed.bias)
        for block, mine in zip(theirs.transformer_blocks, ours.blocks, strict=True):
            block.norm1.emb.time_proj.downscale_freq_shift = 0
            for linear, of in ((block.norm1.emb.timestep_embedder.linear_1, ours.time[0]), (block.attn1.to_out[0], mine.out),
                               (block.norm1.emb.timestep_embedder.linear_2, ours.time[2]),
                               (block.ff.net[0].proj, mine.feed_forward[0]), (block.ff.net[2], mine.feed_forward[3])):
                linear.weight.copy_(of.weight), linear.bias.copy_(of.bias)
            block.norm1.emb.class_embedder.embedding_table.weight.copy_(ours.label.weight)
            block.norm1.linear.weight.copy_(ours.norms[0].weight)
            block.norm1.linear.bias.copy_(ours.norms[0].bias + mine.table.flatten())
            for to, weight, bias in zip((block.attn1.to_q, block.attn1.to_k, block.attn1.to_v), mine.qkv.weight.chunk(3),
                                        mine.qkv.bias.chunk(3), strict=True):
                to.weight.copy_(weight), to.bias.copy_(bias)
        theirs.proj_out_1.weight.copy_(ours.last_norm.weight), theirs.proj_out_1.bias.copy_(ours.last_norm.bias)
        theirs.proj_out_2.weight.copy_(ours.last.weight), theirs.proj_out_2.bias.copy_(ours.last.bias)
        z, t, y = torch.randn(5, 4, 4, 4), torch.tensor([0, 10, 400, 900, 999]), torch.tensor([0, 1, 2, 3, 0])
        assert float((theirs.eval()(z, timestep=t, class_labels=y).sample - ours(z, t, y)).abs().max()) < 1e-5


def test_block_with_a_sum_is_the_identity_at_first():
    x = torch.randn(2, 4, 32)
    assert torch.equal(Block(32, 2, fftd.AddFusion)(x, torch.zeros(1, 6, 32)), x)


def test_autocast_and_compile():
    model, z = woken(), torch.randn(2, 4, 4, 4)
    plain = model(z, torch.tensor([5]))
    with torch.autocast("cpu", torch.bfloat16):
        low = model(z, torch.tensor([5]))
    assert bool((low.float() - plain).abs().max() < 0.1 * plain.abs().max())
    compiled = torch.compile(copy.deepcopy(model), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(z, torch.tensor([5])), plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("call", "words"), [
    (lambda: FFTD(grid=6, patch=4), "6×6 grid cannot be cut into patches of 4×4"),
    (lambda: FFTD(grid=6, levels=3), "6×6 tokens do not allow"), (lambda: FFTD(levels=4), "have 1 to 3 levels; got 4"),
    (lambda: FFTD(dim=30, heads=4), "must divide dim=30"),
    (lambda: FFTD(fusion="multiply"), "add, concat, adaptive; got 'multiply'"),
    (lambda: FFTD(dim=40, heads=4), "divides dim by 16; got 40"),
    (lambda: FFTD(**TINY)(torch.zeros(1, 4, 8, 8), ONE), r"\(B, 4, 4, 4\); got \(1, 4, 8, 8\)"),
    (lambda: FFTD(**TINY)(torch.zeros(1, 4, 4, 4), ONE, ONE), "without classes"),
    (lambda: FFTD(**TINY, num_classes=2)(torch.zeros(1, 4, 4, 4), ONE, 3 * ONE), "0 to 1, or 2 for none")])
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()
