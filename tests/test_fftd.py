import copy
import math

import pytest
import torch
from torch import nn

from minigen import fftd
from minigen.common import time_features
from minigen.fftd import FFTD, PRESETS, Block
from tests.conftest import defaults, layers, peer, said, size_of

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
            model = FFTD(**PRESETS["paper"] | dict(fusion=fusion))
        counts[fusion] = sum(p.numel() for p in model.parameters()) / 1e6
    assert counts["adaptive"] == pytest.approx(14.98, rel=0.02)
    assert counts["add"] == pytest.approx(9.54, rel=0.05)
    assert counts["concat"] == pytest.approx(11.49, rel=0.05)


@pytest.mark.parametrize("config", [
    {}, dict(levels=1), dict(levels=3), dict(fusion="add"), dict(fusion="concat"), dict(patch=2),
    dict(patch=4, levels=1), dict(grid=1, levels=1), dict(grid=8, levels=3),
    dict(grid=16, patch=2, latent_channels=8), dict(depth=3, num_classes=4)])
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
    assert [tuple(m.shape[1:]) for m in trace] == [(32, n, n) for n in (4, 2, 1, 2, 4)]


def test_gradients_reach_every_parameter_within_two_steps():
    torch.manual_seed(0)
    model = FFTD(**TINY, num_classes=3)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    z, goal = torch.randn(2, 8, 4, 4, 4)
    t, y = torch.randint(1000, (8,)), torch.arange(8) % 4
    for _ in range(3):
        optimiser.zero_grad()
        (model(z, t, y) - goal).square().mean().backward()
        optimiser.step()                               # two steps; the third gradient is looked at
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
    out = nn.functional.pixel_shuffle(fftd.to_map(tokens), model.config["patch"])
    want = torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]])
    assert torch.equal(out[0, 0], want)


def test_positions_equal_diffusers():
    embeddings = peer("diffusers.models.embeddings")
    theirs = embeddings.get_2d_sincos_pos_embed(32, 4, base_size=4, output_type="pt")
    torch.testing.assert_close(fftd.positions(32, 4), theirs.float(), rtol=0, atol=1e-6)


def test_one_item_is_the_same_in_a_batch():
    model, z = woken(num_classes=3), torch.randn(5, 4, 4, 4)
    t, y, null = torch.tensor([70]), torch.tensor([0, 1, 2, 3, 0]), torch.full((5,), 3)
    whole = model(z, t, y)
    torch.testing.assert_close(whole[3:4], model(z[3:4], t, y[3:4]), rtol=0, atol=1e-5)
    torch.testing.assert_close(whole, model(z, torch.full((5,), 70), y), rtol=0, atol=1e-5)
    torch.testing.assert_close(model(z, t), model(z, t, null), rtol=0, atol=1e-5)
    assert not torch.allclose(whole, model(z, torch.tensor([900]), y), atol=1e-4)


def test_what_depends_on_t_alone_is_computed_once():
    model, sizes = woken(), []
    model.norms[0].register_forward_hook(lambda m, i, o: sizes.append(len(o)))
    model(torch.randn(64, 4, 4, 4), torch.tensor([5]))
    assert sizes == [1]


def copied(layer, weight, bias):
    """Fill a layer of diffusers' with weights of ours."""
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)


def test_equals_diffusers_dit():
    """levels=1 and fusion="add" is DiT with one adaptive norm for all blocks, here copied into each
    block of diffusers' DiT."""
    theirs = peer("diffusers").DiTTransformer2DModel(
        num_attention_heads=4, attention_head_dim=16, in_channels=4, out_channels=4, num_layers=3,
        sample_size=4, patch_size=1, num_embeds_ada_norm=3, norm_eps=1e-6)
    ours = woken(dim=64, heads=4, depth=3, levels=1, fusion="add", num_classes=3)
    with torch.no_grad():
        copied(theirs.pos_embed.proj, ours.embed.weight, ours.embed.bias)
        for block, mine in zip(theirs.transformer_blocks, ours.blocks, strict=True):
            norm, attention, feed_forward = block.norm1, block.attn1, block.ff.net
            norm.emb.time_proj.downscale_freq_shift = 0
            for layer, of in ((norm.emb.timestep_embedder.linear_1, ours.time[0]),
                              (norm.emb.timestep_embedder.linear_2, ours.time[2]),
                              (attention.to_out[0], mine.out),
                              (feed_forward[0].proj, mine.feed_forward[0]),
                              (feed_forward[2], mine.feed_forward[3])):
                copied(layer, of.weight, of.bias)
            norm.emb.class_embedder.embedding_table.weight.copy_(ours.label.weight)
            copied(norm.linear, ours.norms[0].weight, ours.norms[0].bias + mine.table.flatten())
            to_qkv = (attention.to_q, attention.to_k, attention.to_v)
            weights, biases = mine.qkv.weight.chunk(3), mine.qkv.bias.chunk(3)
            for layer, weight, bias in zip(to_qkv, weights, biases, strict=True):
                copied(layer, weight, bias)
        copied(theirs.proj_out_1, ours.last_norm.weight, ours.last_norm.bias)
        copied(theirs.proj_out_2, ours.last.weight, ours.last.bias)
        z = torch.randn(5, 4, 4, 4)
        t, y = torch.tensor([0, 10, 400, 900, 999]), torch.tensor([0, 1, 2, 3, 0])
        want = theirs.eval()(z, timestep=t, class_labels=y).sample
        assert float((want - ours(z, t, y)).abs().max()) < 1e-5


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
    (lambda: FFTD(grid=6, levels=3), "6×6 tokens do not allow"),
    (lambda: FFTD(levels=4), "have 1 to 3 levels; got 4"),
    (lambda: FFTD(dim=30, heads=4), "must divide dim=30"),
    (lambda: FFTD(fusion="multiply"), "add, concat, adaptive; got 'multiply'"),
    (lambda: FFTD(dim=40, heads=4), "divides dim by 16; got 40"),
    (lambda: FFTD(**TINY)(torch.zeros(1, 4, 8, 8), ONE), r"\(B, 4, 4, 4\); got \(1, 4, 8, 8\)"),
    (lambda: FFTD(**TINY)(torch.zeros(1, 4, 4, 4), ONE, ONE), "without classes"),
    (lambda: FFTD(**TINY, num_classes=2)(torch.zeros(1, 4, 4, 4), ONE, 3 * ONE), "or 2 for none")])
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()


ADAPTIVE = """Linear 128 2; SiLU; Linear 2 32; Conv2d 64 8 3 1 1; SiLU; Conv2d 8 8 3 1 1; SiLU;
    Conv2d 8 1 3 1 1; LayerNorm 32; LayerNorm 32; Linear 64 32"""


def test_the_architecture_layer_by_layer():
    block = "Linear 32 96; Linear 32 32; Linear 32 64; GELU tanh; Dropout 0.1; Linear 64 32"
    fusions = {"add": "; AddFusion", "concat": "; Linear 64 32", "adaptive": "; " + said(ADAPTIVE)}
    for fusion, fuse in fusions.items():
        model = FFTD(
            dim=32,
            heads=2,
            depth=3,
            num_classes=3,
            patch=2,
            mlp_ratio=2,
            dropout=0.1,
            fusion=fusion,
        )
        assert layers(model) == "; ".join(
            [
                "Conv2d 4 32 2 2 0; Linear 256 32; SiLU; Linear 32 32; Embedding 4 32",
                "Linear 32 192; Linear 32 192",
                *[block + fuse] * 3,
                "Conv2d 32 32 3 2 1; Upsample 2.0 nearest; Conv2d 32 32 3 1 1" + fuse,
                "Linear 32 64; Linear 32 16",
            ]
        )


def test_sizes_of_the_presets():
    """The network of chapter 7 and the paper's (14.98 M in its Table 9), as the text names them."""
    sizes = [size_of(lambda p=p: FFTD(**p)) for p in ({}, PRESETS["small"], PRESETS["paper"])]
    assert sizes == [2_423_274, 2_423_274, 14_943_918]
    shared = dict(latent_channels=4, grid=4, patch=1, depth=5, levels=2, fusion="adaptive")
    assert PRESETS["paper"] == shared | dict(dim=320, heads=5)
    assert PRESETS["small"] == shared | dict(dim=128, heads=4)
    assert (fftd.FUSIONS, fftd.TIME_FEATURES) == (("add", "concat", "adaptive"), 256)


def test_levels_and_links_of_deeper_nets():
    for depth, levels, want, links in (
        (7, 3, [0, 1, 2, 2, 2, 1, 0], 3),
        (4, 2, [0, 1, 1, 0], 2),
        (3, 2, [0, 1, 0], 1),
        (1, 1, [0], 0),
    ):
        model = FFTD(**TINY, depth=depth, levels=levels)
        assert model.level_of == want and len(model.links) == links
        assert len(model.down) == len(model.up) == levels - 1 and len(model.norms) == levels
        assert model(torch.randn(1, 4, 4, 4), ONE).shape == (1, 4, 4, 4)


def test_weights_start_as_dits_do():
    """Uniform within √(6 / (in + out)) for the blocks and the patches, √0.0004 for time and
    labels, zero for gates and last layer."""
    model = FFTD(dim=64, heads=4, patch=2, num_classes=40, levels=1).requires_grad_(False)
    for block in model.blocks:
        for layer in (block.qkv, block.out, block.feed_forward[0], block.feed_forward[3]):
            limit = math.sqrt(6 / sum(layer.weight.shape))
            assert 0.98 * limit < float(layer.weight.abs().max()) <= limit
            assert (
                float(layer.weight.std()) == pytest.approx(limit / math.sqrt(3), rel=0.05)
                and not layer.bias.any()
            )
        assert block.table.shape == (6, 64) and not block.table.any()
    limit = math.sqrt(6 / (16 + 64))
    assert (
        0.95 * limit < float(model.embed.weight.abs().max()) <= limit and not model.embed.bias.any()
    )
    for table in (model.time[0].weight, model.time[2].weight, model.label.weight):
        assert float(table.std()) == pytest.approx(0.02, rel=0.05)
    for layer in (*model.norms, model.last_norm, model.last):
        assert not layer.weight.any() and not layer.bias.any()


def test_positions_by_hand():
    """Column first, then row; sines before cosines; the second frequency is a hundredth of the
    first."""
    got = fftd.positions(8, 3)
    assert got.shape == (9, 8) and got.dtype == torch.float32
    for place in range(9):
        row, column = divmod(place, 3)
        want = [f(at * w) for at in (column, row) for f in (math.sin, math.cos) for w in (1, 0.01)]
        assert got[place].tolist() == pytest.approx(want, abs=1e-6)


def test_a_block_written_out():
    torch.manual_seed(0)
    block = Block(8, 2, fftd.ConcatFusion, mlp_ratio=3, dropout=0.5).eval()
    nn.init.normal_(block.table)
    nn.init.normal_(block.fuse.linear.weight)
    x = 1e-3 * torch.randn(2, 4, 8)  # small, so that ε matters
    modulation = torch.randn(2, 6, 8)
    b1, a1, g1, b2, a2, g2 = (modulation[:, k, None] + block.table[k] for k in range(6))

    def normed(h):
        centred = h - h.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    def attend(h):
        q, k, v = (part.view(2, 4, 2, 4).transpose(1, 2) for part in block.qkv(h).chunk(3, -1))
        weights = torch.softmax(q @ k.mT / 2, -1)  # √4 numbers a head
        return block.out((weights @ v).transpose(1, 2).reshape(2, 4, 8))

    x1 = x + g1 * attend(normed(x) * (1 + a1) + b1)
    x2 = g2 * block.feed_forward(normed(x1) * (1 + a2) + b2)
    got = block(x, modulation)
    torch.testing.assert_close(got, block.fuse(x1, x2), rtol=1e-4, atol=1e-5)
    for got, want in zip(block.streams(x, modulation), (x1, x2), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    assert torch.equal(block.attend(x), block.attend(x))
    block.train()
    assert not torch.equal(
        block.attend(x), block.attend(x)
    )  # attention drops out in training alone
    assert block.feed_forward[0].out_features == 24


@pytest.mark.parametrize("fusion", fftd.FUSIONS)
def test_a_pass_written_out(fusion):
    """Down and up over two levels: positions are added where the level changes, then the partner
    on the left is fused in."""
    model = woken(fusion=fusion, num_classes=3, patch=2, grid=8)
    z, t, y = torch.randn(2, 4, 8, 8), torch.tensor([7, 400]), torch.tensor([2, 3])
    c = model.time(time_features(t, 256)) + model.label.weight[y]
    torch.testing.assert_close(model.condition(t, y), c)
    c = c * torch.sigmoid(c)
    fine, coarse = (norm(c).view(2, 6, 32) for norm in model.norms)
    down = lambda x: fftd.to_tokens(model.down[0](fftd.to_map(x)))  # noqa: E731
    up = lambda x: fftd.to_tokens(model.up[0](fftd.to_map(x)))  # noqa: E731
    x0 = model.blocks[0](fftd.to_tokens(model.embed(z)) + fftd.positions(32, 4), fine)
    x1 = model.blocks[1](down(x0) + fftd.positions(32, 2), coarse)
    x2 = model.blocks[2](x1, coarse)
    x3 = model.blocks[3](model.links[1](x1, x2), coarse)
    x4 = model.blocks[4](model.links[0](x0, up(x3) + fftd.positions(32, 4)), fine)
    shift, scale = model.last_norm(c)[:, None].split(32, -1)
    out = model.last(nn.functional.layer_norm(x4, (32,), eps=1e-6) * (1 + scale) + shift)
    trace = []
    got = model(z, t, y, trace=trace)
    torch.testing.assert_close(
        got, nn.functional.pixel_shuffle(fftd.to_map(out), 2), rtol=1e-4, atol=1e-5
    )
    for seen, want in zip(trace, (x0, x1, x2, x3, x4), strict=True):
        torch.testing.assert_close(seen, fftd.to_map(want), rtol=1e-4, atol=1e-5)
    assert not [n for n in model.state_dict() if n.startswith("positions")]


def test_no_link_without_levels():
    model = woken(levels=1, depth=2, fusion="add")
    z = torch.randn(2, 4, 4, 4)
    c = nn.functional.silu(model.condition(ONE))
    x = fftd.to_tokens(model.embed(z)) + fftd.positions(32, 4)
    for block in model.blocks:
        x = block(x, model.norms[0](c).view(1, 6, 32))
    shift, scale = model.last_norm(c)[:, None].chunk(2, -1)
    out = model.last(fftd.modulate(nn.functional.layer_norm(x, (32,), eps=1e-6), shift, scale))
    torch.testing.assert_close(model(z, ONE), fftd.to_map(out), rtol=1e-4, atol=1e-5)


def test_modulate_by_hand():
    x, shift, scale = (
        torch.tensor([[[2.0, 3.0]]]),
        torch.tensor([[[10.0, 20.0]]]),
        torch.tensor([[[0.5, -1.0]]]),
    )
    assert fftd.modulate(x, shift, scale).tolist() == [[[13.0, 20.0]]]


def test_what_is_taken_unless_told():
    assert defaults(Block) == dict(mlp_ratio=4, dropout=0.0)
    assert defaults(FFTD) == dict(
        latent_channels=4,
        grid=4,
        patch=1,
        dim=128,
        depth=5,
        heads=4,
        levels=2,
        fusion="adaptive",
        num_classes=0,
        mlp_ratio=4,
        dropout=0.0,
        prediction="eps",
        schedule=None,
        fusion_start="sum",
    )


def test_a_model_is_rebuilt_from_its_config():
    config = dict(latent_channels=3, grid=8, patch=2, dim=32, depth=3, heads=2, levels=2)
    config |= dict(fusion="concat", num_classes=4, mlp_ratio=2, dropout=0.1)
    config |= dict(prediction="v", schedule="cosine", fusion_start="norms")
    model = FFTD(**config)
    assert model.config == config and layers(FFTD(**model.config)) == layers(model)


def test_the_limits_of_the_sizes():
    wrong = (dict(patch=0), dict(patch=3), dict(levels=0), dict(levels=4), dict(dim=48, heads=5))
    for config in wrong:
        with pytest.raises(ValueError):
            FFTD(**TINY | config)
    with pytest.raises(ValueError):
        FFTD(dim=6, heads=2, fusion="add")  # four kinds of position features
    model, z = FFTD(**TINY, num_classes=3), torch.zeros(2, 4, 4, 4)
    assert model(z, ONE, torch.tensor([0, 3])).shape == z.shape
    for y in ([0, 4], [-1, 0]):
        with pytest.raises(ValueError):
            model(z, ONE, torch.tensor(y))
    for shape in ((2, 3, 4, 4), (2, 4, 4, 8), (2, 4, 8, 4)):
        with pytest.raises(ValueError):
            model(torch.zeros(shape), ONE)
