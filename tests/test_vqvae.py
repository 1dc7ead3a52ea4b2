import math
import subprocess
import sys
import textwrap

import pace
import pytest
import torch
import torch.nn.functional as F

from minigen import vqvae
from minigen.data import ToyFaces, batches
from minigen.vqvae import VectorQuantizer
from tests.conftest import defaults, layers, one_cycle, peer, said, size_of


def z_and(quantizer, shape=(3, 4, 2, 5), seed=0):
    """A map that is neither square nor symmetric, with a gradient."""
    z = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    return z, quantizer(z)


def gradients(loss, z, codebook):
    return torch.autograd.grad(loss, (z, codebook), retain_graph=True)


def test_nearest_code_equals_brute_force_in_float64():
    z, codebook = torch.randn(500, 4), torch.randn(64, 4)
    want = torch.cdist(z.double(), codebook.double()).argmin(1)
    assert torch.equal(vqvae.nearest_code(z, codebook), want)
    z, codebook = torch.tensor([[3.0]]), torch.tensor([[0.0], [10.0]])
    assert vqvae.nearest_code(z, codebook).tolist() == [0]  # not the largest z·e


def test_chunks_change_nothing(monkeypatch):
    z, codebook = torch.randn(101, 4), torch.randn(64, 4)
    whole = vqvae.nearest_code(z, codebook)
    monkeypatch.setattr(vqvae, "CHUNK", 7 * 64)
    assert torch.equal(vqvae.nearest_code(z, codebook), whole)


def test_autocast_does_not_blur_the_distances():
    z, codebook = 10 + torch.randn(500, 4) / 10, 10 + torch.randn(64, 4) / 10
    want = vqvae.nearest_code(z, codebook)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(vqvae.nearest_code(z, codebook), want)
    quantizer = VectorQuantizer(64, 4)
    map_ = torch.randn(2, 4, 3, 3)
    want = quantizer(map_).indices
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(quantizer(map_).indices, want)


def test_equal_to_diffusers_in_indices_loss_and_both_gradients():
    diffusers = peer("diffusers.models.autoencoders.vae")
    ours = VectorQuantizer(64, 4, beta=0.25)
    theirs = diffusers.VectorQuantizer(n_e=64, vq_embed_dim=4, beta=0.25, legacy=False)
    theirs.embedding.weight.data.copy_(ours.codebook)
    z, out = z_and(ours)
    their_q, their_loss, (_, _, their_indices) = theirs(z)
    assert torch.equal(out.indices.flatten(), their_indices)
    assert torch.allclose(out.z_q, their_q, atol=1e-6)
    assert torch.allclose(out.loss, their_loss, atol=1e-6)
    slopes = gradients(out.loss, z, ours.codebook)
    their_slopes = gradients(their_loss, z, theirs.embedding.weight)
    for a, b in zip(slopes, their_slopes, strict=True):
        assert torch.allclose(a, b, atol=1e-6) and a.abs().max() > 0


def test_the_peers_legacy_default_has_beta_on_the_other_term():
    diffusers = peer("diffusers.models.autoencoders.vae")
    ours = VectorQuantizer(64, 4, beta=0.25)
    legacy = diffusers.VectorQuantizer(n_e=64, vq_embed_dim=4, beta=0.25)
    legacy.embedding.weight.data.copy_(ours.codebook)
    z, out = z_and(ours)
    dz, de = gradients(out.loss, z, ours.codebook)
    legacy_dz, legacy_de = gradients(legacy(z)[1], z, legacy.embedding.weight)
    assert torch.allclose(legacy_dz, 4 * dz, atol=1e-6)
    assert torch.allclose(de, 4 * legacy_de, atol=1e-6)


def their_quantizer(**options):
    package = peer("vector_quantize_pytorch")
    return package.VectorQuantize(dim=4, codebook_size=64, rotation_trick=False,
                                  accept_image_fmap=True, **options)


def test_equal_to_vector_quantize_pytorch_with_a_learned_codebook():
    ours = VectorQuantizer(64, 4, beta=1.0)
    theirs = their_quantizer(learnable_codebook=True, ema_update=False, commitment_weight=1.0)
    theirs._codebook.embed.data.copy_(ours.codebook[None])
    z, out = z_and(ours)
    their_q, their_indices, their_loss = theirs(z)
    # their loss is one mean squared error whose two sides get its gradient; its value is half of
    # ours at β = 1
    assert torch.equal(out.indices, their_indices) and torch.allclose(out.z_q, their_q, atol=1e-6)
    assert torch.allclose(out.commitment_loss, their_loss.squeeze(), atol=1e-6)
    slopes = gradients(out.loss, z, ours.codebook)
    their_slopes = gradients(their_loss.sum(), z, theirs._codebook.embed)
    for a, b in zip(slopes, their_slopes, strict=True):
        assert torch.allclose(a, b.squeeze(0) if b.ndim == 3 else b, atol=1e-6)


def test_running_averages_equal_those_of_vector_quantize_pytorch():
    ours = VectorQuantizer(64, 4, beta=0.25, decay=0.99, eps=1e-5).train()
    theirs = their_quantizer(
        decay=0.99, eps=1e-5, commitment_weight=0.25, threshold_ema_dead_code=0).train()
    book = theirs._codebook
    book.embed.data.copy_(ours.codebook[None])
    book.embed_avg.data.copy_(ours.codebook[None])
    book.cluster_size.data.fill_(1)
    for seed in range(5):
        z, out = z_and(ours, seed=seed)
        _, their_indices, their_loss = theirs(z)
        assert torch.equal(out.indices, their_indices)
        assert torch.allclose(out.loss, their_loss.squeeze(), atol=1e-6)
        (slope,), (their_slope,) = (torch.autograd.grad(x, z) for x in (out.loss, their_loss.sum()))
        assert torch.allclose(slope, their_slope, atol=1e-6)
        assert torch.allclose(ours.codebook, book.embed[0], atol=1e-6)
        assert torch.allclose(ours.cluster_size, book.cluster_size[0], atol=1e-6)
        assert torch.allclose(ours.embed_avg, book.embed_avg[0], atol=1e-6)


def test_gradients_are_closed_forms_and_beta_is_on_the_commitment():
    quantizer = VectorQuantizer(8, 4, beta=0.25)
    z, out = z_and(quantizer)
    dz, de = gradients(out.loss, z, quantizer.codebook)
    e = quantizer.embed(out.indices)
    assert torch.allclose(dz, 2 * 0.25 * (z - e) / z.numel(), atol=1e-7)
    rows = lambda t: t.movedim(1, -1).reshape(-1, 4)  # noqa: E731
    want = torch.zeros(8, 4).index_add_(0, out.indices.flatten(), 2 * rows(e - z) / z.numel())
    assert torch.allclose(de, want.detach(), atol=1e-7)


def test_straight_through():
    quantizer = VectorQuantizer(8, 4)
    z, out = z_and(quantizer)
    assert torch.allclose(out.z_q, quantizer.embed(out.indices), atol=1e-6)
    (dz,) = torch.autograd.grad(out.z_q.sum(), z, retain_graph=True)
    assert torch.equal(dz, torch.ones_like(z))
    assert torch.autograd.grad(out.z_q.sum(), quantizer.codebook, allow_unused=True) == (None,)


def test_quantising_twice_changes_nothing_and_indices_keep_their_places():
    quantizer = VectorQuantizer(8, 4).eval()
    _, out = z_and(quantizer)
    again = quantizer(quantizer.embed(out.indices))
    assert torch.equal(again.indices, out.indices) and again.loss == 0
    codes = torch.arange(8).view(1, 2, 4)
    assert torch.equal(quantizer(quantizer.embed(codes)).indices, codes)
    embedded = quantizer.embed(codes)
    assert embedded.shape == (1, 4, 2, 4)
    assert torch.equal(embedded[0, :, 1, 0], quantizer.codebook[4])


def test_eval_mode_changes_nothing():
    quantizer = VectorQuantizer(8, 4, decay=0.9, revive_below=0.5).eval()
    before = {k: v.clone() for k, v in quantizer.state_dict().items()}
    z_and(quantizer)
    assert all(torch.equal(v, before[k]) for k, v in quantizer.state_dict().items())


def test_running_averages_by_hand():
    quantizer = VectorQuantizer(2, 1, decay=0.99, eps=0.0).train()
    start = torch.tensor([[0.0], [100.0]])
    quantizer._set(slice(None), start, torch.ones(2))
    z = torch.tensor([1.0, 2.0, 6.0]).view(3, 1, 1, 1)                # all on code 0, mean 3
    for step in range(1, 6):
        quantizer(z)
        kept = 0.99**step
        n0 = quantizer.cluster_size[0]
        assert float(n0) == pytest.approx(kept + (1 - kept) * 3, rel=1e-5)
        far = float((quantizer.codebook[0, 0] - 3) * n0)
        assert far == pytest.approx(kept * (0 - 3), rel=1e-4)
    assert float(quantizer.codebook[1, 0]) == pytest.approx(100, rel=1e-3)  # an unused code stays


def test_a_code_that_nobody_uses_stays_where_it_is():
    quantizer = VectorQuantizer(2, 1, decay=0.9).train()
    quantizer._set(slice(None), torch.tensor([[0.0], [100.0]]), torch.ones(2))
    for _ in range(2000):
        quantizer(torch.ones(3, 1, 1, 1))
    # not pulled to 0 by the smoothing
    assert float(quantizer.codebook[1, 0]) == pytest.approx(100, rel=0.02)


def test_a_dead_code_is_revived_and_survives_the_next_update():
    torch.manual_seed(0)
    quantizer = VectorQuantizer(4, 2, decay=0.9, revive_below=0.05).train()
    codes = torch.tensor([[0.0, 0], [1, 0], [0, 1], [50, 50]])
    counts = torch.tensor([9.0, 9, 9, 0])
    quantizer._set(slice(None), codes, counts)
    z = torch.randn(2, 2, 3, 3)
    quantizer(z)
    rows = z.movedim(1, -1).reshape(-1, 2)
    assert (rows == quantizer.codebook[3]).all(1).any()
    revived = quantizer.codebook[3].clone()
    quantizer(z)
    assert (quantizer.codebook[3] - revived).norm() < 1.5 and quantizer.cluster_size[3] > 1
    gradient = VectorQuantizer(4, 2, revive_below=0.05).train()
    gradient._set(slice(None), codes, counts)
    gradient(z)
    assert (rows == gradient.codebook[3]).all(1).any()


def test_healthy_codes_are_never_revived():
    quantizer = VectorQuantizer(16, 2, decay=0.99, revive_below=0.05).train()
    # one vector a code: every code gets its share
    z = quantizer.codebook.T.reshape(1, 2, 4, 4).clone()
    before = quantizer.codebook.clone()
    for _ in range(50):
        quantizer(z)
    assert torch.allclose(quantizer.codebook, before, atol=1e-3)


def test_kmeans_equals_scikit_learns_from_the_same_start():
    cluster = peer("sklearn.cluster")
    points = torch.randn(300, 2, dtype=torch.float64)
    start = points[torch.randperm(300, generator=torch.Generator().manual_seed(0))[:5]]
    theirs = cluster.KMeans(
        5, init=start.numpy(), n_init=1, max_iter=300, tol=0, algorithm="lloyd").fit(points.numpy())
    ours = vqvae.kmeans(points, 5, steps=100)
    assert torch.allclose(ours, torch.as_tensor(theirs.cluster_centers_), atol=1e-8)
    few = torch.tensor([[0.0], [0.0], [0.0], [0.0], [1.0], [2.0]])  # repeated points: one centre
    assert vqvae.kmeans(few, 3, steps=0).flatten().sort().values.tolist() == [0, 1, 2]
    assert len(vqvae.kmeans(few, 5)) == 5
    with pytest.raises(ValueError, match="7 centres need at least 7 points; got 3"):
        vqvae.kmeans(points[:3], 7)


def test_kmeans_initialisation_beats_random_codes():
    torch.manual_seed(0)
    z = 5 + torch.randn(8, 4, 4, 4)
    quantizer = VectorQuantizer(16, 4, decay=0.99).eval()
    before = quantizer(z).commitment_loss
    quantizer.init_codebook(z)
    assert quantizer(z).commitment_loss < 0.1 * before
    assert torch.allclose(quantizer.embed_avg, quantizer.codebook)
    assert quantizer.cluster_size.unique().tolist() == [1]


def test_perplexity():
    assert vqvae.perplexity(torch.arange(12).view(3, 4), 12) == pytest.approx(12)
    assert vqvae.perplexity(torch.zeros(5, dtype=torch.long), 12) == pytest.approx(1)
    assert vqvae.perplexity(torch.tensor([0, 0, 1, 1]), 12) == pytest.approx(2)


@pytest.mark.parametrize(("make", "words"), [
    (lambda: VectorQuantizer(0, 4), "num_codes=0"),
    (lambda: VectorQuantizer(4, 0), "dim=0"),
    (lambda: VectorQuantizer(4, 4, decay=1.0), "decay must be None or between 0 and 1"),
    (lambda: VectorQuantizer(4, 4, decay=0.0), "decay must be None or between 0 and 1"),
    (lambda: VectorQuantizer(4, 4, revive_below=1.0), "revive_below=1.0"),
    (lambda: VectorQuantizer(4, 4, beta=-1), "beta=-1"),
    (lambda: VectorQuantizer(4, 3)(torch.zeros(1, 4, 2, 2)), r"\(B, 3, H, W\); got \(1, 4, 2, 2\)"),
    (lambda: VectorQuantizer(4, 3)(torch.zeros(1, 3)), r"got \(1, 3\)"),
    (lambda: VectorQuantizer(4, 3)(torch.full((1, 3, 2, 2), float("nan"))), "NaN or infinity"),
    (lambda: VectorQuantizer(4, 3).embed(torch.tensor([[[4]]])),
     "0 to 3, the codebook has 4 codes; got 4 to 4"),
    (lambda: VectorQuantizer(4, 3).embed(torch.tensor([[[-1, 2]]])), "got -1 to 2"),
])
def test_bad_input(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_large_codebook_stays_within_200_megabytes():
    script = """
        import resource, torch
        from minigen.vqvae import nearest_code
        z, codebook = torch.randn(8192, 4), torch.randn(16384, 4)
        nearest_code(z[:8], codebook[:8])                     # the library's own buffers
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        nearest_code(z, codebook)
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    unit = 1 if sys.platform != "darwin" else 1024  # macOS counts bytes
    assert float(done.stdout) / unit < 200


WORKER = """
    import sys, torch, torch.distributed as dist
    from minigen.vqvae import VectorQuantizer
    rank, world, file, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=world)
    torch.manual_seed(0)
    quantizer = VectorQuantizer(32, 4, decay=0.9, revive_below=float(sys.argv[5])).train()
    torch.manual_seed(rank)                                  # each process draws its own revivals
    for step in range(6):
        z = torch.randn(4, 4, 4, 4, generator=torch.Generator().manual_seed(step))
        quantizer(z.chunk(world)[rank])
    from safetensors.torch import save_file
    save_file(quantizer.state_dict(), f"{out}/{world}-{rank}.safetensors")
    if world > 1:                                            # else leaving aborts now and then
        dist.barrier()
        dist.destroy_process_group()
"""


@pytest.mark.parametrize("revive_below", [0.0, 0.6])
def test_two_processes_keep_one_codebook(tmp_path, revive_below):
    from safetensors.torch import load_file

    def start(rank, world):
        arguments = (rank, world, tmp_path / f"meet{world}", tmp_path, revive_below)
        script = textwrap.dedent(WORKER)
        return subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)])

    workers = [start(0, 2), start(1, 2), start(0, 1)]
    limit = 120 * pace.slowness()
    assert [w.wait(timeout=limit) for w in workers] == [0, 0, 0]
    one, two, alone = (
        load_file(tmp_path / f"{name}.safetensors") for name in ("2-0", "2-1", "1-0"))
    assert all(torch.equal(one[k], two[k]) for k in one)
    if not revive_below:  # revived codes are random picks; without them all agree
        assert all(torch.allclose(one[k], alone[k], atol=1e-6) for k in one)


def test_vqvae_shapes_and_round_trip():
    model = vqvae.VQVAE(num_codes=16, code_dim=4, width=8, size=16).eval()
    x = torch.rand(3, 3, 16, 16) * 2 - 1
    x_hat, quantized = model(x)
    codes = model.encode_indices(x, batch_size=2)
    assert x_hat.shape == x.shape and codes.shape == (3, 4, 4)
    assert torch.equal(codes, quantized.indices)
    assert torch.allclose(model.decode_indices(codes, batch_size=2), x_hat, atol=1e-6)
    with pytest.raises(ValueError, match="0 to 15"):
        model.decode_indices(codes + 16)


@pytest.mark.parametrize("decay", [None, 0.99])
def test_every_parameter_learns(decay):
    model = vqvae.VQVAE(num_codes=16, code_dim=4, width=8, size=16, decay=decay)
    x_hat, quantized = model(torch.rand(4, 3, 16, 16))
    (F.mse_loss(x_hat, torch.zeros_like(x_hat)) + quantized.loss).backward()
    for name, p in model.named_parameters():
        assert torch.isfinite(p.grad).all() and p.grad.abs().max() > 0, name


def test_training_lowers_the_error_and_repeats_itself():
    x = ToyFaces(256, size=16, seed=0).images()

    def run():
        torch.manual_seed(0)
        model = vqvae.VQVAE(num_codes=16, code_dim=4, width=8, size=16)
        return list(vqvae.train_vqvae(model, batches(x, batch_size=32), steps=80))

    a, b = run(), run()
    assert a == b and a[-1].reconstruction < 0.5 * a[0].reconstruction and a[-1].perplexity > 3


def test_one_update_of_two_parts_is_the_update_of_the_whole():
    z = torch.randn(6, 4, 3, 3)
    whole, parted = (vqvae.VectorQuantizer(8, 4, decay=0.9) for _ in range(2))
    parted.load_state_dict(whole.state_dict())
    whole(z)
    before = parted.codebook.clone()
    with parted.one_update():
        parted(z[:2])
        assert torch.equal(parted.codebook, before)
        parted(z[2:])
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parted.state_dict()[name], value)
    parted(z)  # outside the block each pass moves it again
    assert not torch.equal(parted.cluster_size, whole.cluster_size)


def test_a_block_without_training_moves_nothing():
    quantizer = vqvae.VectorQuantizer(8, 4, decay=0.9).eval()
    before = quantizer.cluster_size.clone()
    with quantizer.one_update():
        quantizer(torch.randn(2, 4, 3, 3))
    assert torch.equal(quantizer.cluster_size, before)


def test_a_block_that_fails_leaves_the_quantizer_as_it_was():
    quantizer = vqvae.VectorQuantizer(8, 4, decay=0.9)
    before = {k: v.clone() for k, v in quantizer.state_dict().items()}
    with pytest.raises(ZeroDivisionError), quantizer.one_update():
        quantizer(torch.randn(2, 4, 3, 3))
        raise ZeroDivisionError
    assert all(torch.equal(v, before[k]) for k, v in quantizer.state_dict().items())
    quantizer(torch.randn(2, 4, 3, 3))
    assert not torch.equal(quantizer.cluster_size, before["cluster_size"])


def test_the_architecture_layer_by_layer():
    assert layers(vqvae.VQVAE(num_codes=16, code_dim=4, width=8, size=8)) == said("""
        Conv2d 3 8 4 2 1; GroupNorm 8 8; SiLU; Conv2d 8 8 3 1 1; GroupNorm 8 8; SiLU;
        Conv2d 8 8 3 1 1; GroupNorm 8 8; SiLU; ConvTranspose2d 8 3 4 2 1; Tanh;
        Conv2d 8 4 1 1 0; Conv2d 4 8 1 1 0; VectorQuantizer""")
    # the size of the network of chapter 3, which its text and the results table name; its
    # codebook is no parameter
    assert size_of(vqvae.VQVAE) == 631_635
    assert size_of(lambda: vqvae.VQVAE(decay=None)) == 631_635 + 512 * 16


def test_the_model_hands_its_options_to_the_quantizer():
    model = vqvae.VQVAE(
        num_codes=16, code_dim=4, width=8, size=8, beta=0.7, decay=0.8, revive_below=0.3
    )
    q = model.quantizer
    assert (q.num_codes, q.dim, q.beta, q.decay, q.revive_below, q.eps) == (
        16,
        4,
        0.7,
        0.8,
        0.3,
        1e-5,
    )
    assert model.config == dict(
        num_codes=16, code_dim=4, width=8, size=8, beta=0.7, decay=0.8, revive_below=0.3
    )


def test_a_new_codebook_is_standard_normal_and_every_code_has_been_used_once():
    for decay in (None, 0.9):
        quantizer = VectorQuantizer(4000, 4, decay=decay)
        assert float(quantizer.codebook.detach().std()) == pytest.approx(1, abs=0.03)
        assert bool((quantizer.cluster_size == 1).all())
    assert torch.equal(quantizer.embed_avg, quantizer.codebook)
    assert "embed_avg" not in VectorQuantizer(4, 2).state_dict()


def test_one_update_by_hand_with_smoothing():
    """Counts and sums are averaged; the code is the sum over the count + ε, counts scaled to keep
    their total."""
    quantizer = VectorQuantizer(3, 1, decay=0.9, eps=0.5).train()
    quantizer._set(
        slice(None), torch.tensor([[0.0], [10.0], [50.0]]), torch.tensor([2.0, 1.0, 5e-4])
    )
    quantizer(torch.tensor([1.0, 2.0, 9.0]).view(3, 1, 1, 1))
    counts = [0.9 * 2 + 0.1 * 2, 0.9 + 0.1, 0.9 * 5e-4]
    sums = [0.1 * 3, 0.9 * 10 + 0.1 * 9]
    total = sum(counts)
    assert quantizer.cluster_size.tolist() == pytest.approx(counts)
    want = [s / ((n + 0.5) / (total + 3 * 0.5) * total) for s, n in zip(sums, counts, strict=False)]
    assert quantizer.codebook.flatten().tolist() == pytest.approx(
        [*want, 50]
    )  # the last is hardly ever used, and stays


def test_a_codebook_learned_by_gradient_counts_with_099():
    quantizer = VectorQuantizer(2, 1).train()
    quantizer.codebook.data.copy_(torch.tensor([[0.0], [9.0]]))
    quantizer(torch.ones(3, 1, 1, 1))
    assert quantizer.cluster_size.tolist() == pytest.approx([0.99 + 0.03, 0.99])


@pytest.mark.parametrize(("count", "dead"), [(1.05, True), (1.2, False)])
def test_a_code_is_dead_below_its_share_of_the_average_count(count, dead):
    """12 vectors on 4 codes: the average is 3, the limit 0.3 of it; the third code's count falls
    by a tenth first."""
    quantizer = VectorQuantizer(4, 1, decay=0.9, revive_below=0.35).train()
    quantizer._set(
        slice(None),
        torch.tensor([[0.0], [10.0], [100.0], [20.0]]),
        torch.tensor([9.0, 9.0, count, 9.0]),
    )
    quantizer(torch.tensor([0.0, 10.0, 20.0] * 4).view(12, 1, 1, 1))
    assert (float(quantizer.codebook[2]) < 50) is dead
    assert float(quantizer.cluster_size[2]) == pytest.approx(3 if dead else 0.9 * count)
    if dead:
        torch.testing.assert_close(quantizer.embed_avg[2], 3 * quantizer.codebook[2])


def test_kmeans_starts_from_different_points_moves_to_means_and_keeps_lonely_centres():
    points = torch.tensor([[0.0], [1.0], [10.0], [11.0], [12.0]])
    assert vqvae.kmeans(points, 2).flatten().sort().values.tolist() == [0.5, 11.0]
    order = torch.randperm(5, generator=torch.Generator().manual_seed(3))
    assert torch.equal(vqvae.kmeans(points, 3, steps=0, seed=3), points[order[:3]])
    start = vqvae.kmeans(points, 2, steps=0, seed=3)
    near = (points - start.T).abs().argmin(1)
    want = [points[near == k].mean() for k in (0, 1)]
    assert vqvae.kmeans(points, 2, steps=1, seed=3).flatten().tolist() == pytest.approx(
        [float(w) for w in want]
    )
    twice = torch.tensor([[3.0], [3.0]])
    assert vqvae.kmeans(twice, 2).tolist() == [[3], [3]]  # one of them without points


def test_counts_and_sums_by_hand():
    counts, sums = vqvae.count_and_sum(
        torch.tensor([[1.0, 2], [3, 4], [5, 6]]), torch.tensor([2, 0, 2]), 4
    )
    assert counts.tolist() == [1, 0, 2, 0] and sums.tolist() == [[3, 4], [0, 0], [6, 8], [0, 0]]


def test_perplexity_of_uneven_use():
    p = (0.5, 0.25, 0.25)
    want = math.exp(-sum(x * math.log(x) for x in p))
    assert vqvae.perplexity(torch.tensor([[0, 0], [1, 2]]), 5) == pytest.approx(want)


@pytest.mark.parametrize("init_batches", [0, 2])
def test_the_loop_written_out(init_batches):
    def fresh():
        torch.manual_seed(0)
        return vqvae.VQVAE(num_codes=8, code_dim=4, width=8, size=8, decay=0.9, revive_below=0.0)

    model, twin = fresh().eval(), fresh()
    data = [(torch.rand(6, 3, 8, 8) * 2 - 1, torch.zeros(6)) for _ in range(5)]
    got = list(vqvae.train_vqvae(model, iter(data), steps=3, lr=0.01, init_batches=init_batches))
    if init_batches:
        with torch.no_grad():
            twin.quantizer.init_codebook(torch.cat([twin.encode(x) for x, _ in data[:2]]))
    optimiser = torch.optim.Adam(twin.parameters(), 0.01)
    for k, (x, _) in enumerate(data[init_batches:][:3]):
        optimiser.param_groups[0].update(lr=one_cycle(0.01, 3)[k])
        z = twin.to_code(twin.encoder(x))
        out = twin.quantizer(z)
        x_hat = twin.decoder(twin.from_code(out.z_q))
        error, commitment = (x - x_hat).square().mean(), (z - out.z_q.detach()).square().mean()
        optimiser.zero_grad()
        (error + 0.25 * commitment).backward()
        optimiser.step()
        want = (k + 1, error.item(), commitment.item(), vqvae.perplexity(out.indices, 8))
        assert got[k] == pytest.approx(want, rel=1e-4)
    assert model.training
    for p, q in zip(model.state_dict().values(), twin.state_dict().values(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-4)


def test_the_learning_rate_is_one_cycle(optimiser_steps):
    data = [(torch.rand(2, 3, 8, 8),)] * 20
    model = vqvae.VQVAE(num_codes=4, code_dim=2, width=8, size=8)
    list(vqvae.train_vqvae(model, iter(data), steps=20, lr=0.01, init_batches=0))
    assert [s["lr"] for _, s, _ in optimiser_steps] == pytest.approx(one_cycle(0.01, 20))
    assert {name for name, _, _ in optimiser_steps} == {"Adam"}


def test_what_is_taken_unless_told():
    assert (vqvae.CHUNK, vqvae.UNUSED) == (2**22, 1e-3)
    assert (
        defaults(vqvae.kmeans) == defaults(VectorQuantizer.init_codebook) == dict(steps=10, seed=0)
    )
    assert defaults(VectorQuantizer) == dict(beta=0.25, decay=None, eps=1e-5, revive_below=0.0)
    assert defaults(vqvae.VQVAE) == dict(
        num_codes=512, code_dim=16, width=32, size=32, beta=0.25, decay=0.99, revive_below=0.05
    )
    assert defaults(vqvae.train_vqvae) == dict(lr=2e-3, init_batches=4)
    assert defaults(vqvae.Tokenizer.encode_indices) == dict(batch_size=256)
    assert defaults(vqvae.Tokenizer.decode_indices) == dict(batch_size=256)


def test_double_precision_is_kept():
    """Points and codes far from zero, whose distances float32 does not see beside their lengths."""
    z, codebook = (1e4 + torch.randn(n, 4, dtype=torch.float64) for n in (200, 64))
    want = torch.cdist(z, codebook, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
    assert torch.equal(vqvae.nearest_code(z, codebook), want)
    assert not torch.equal(vqvae.nearest_code(z.float(), codebook.float()), want)


def test_the_limits_of_the_quantizers_options():
    VectorQuantizer(1, 1, beta=0, decay=0.001, eps=0, revive_below=0.0)
    VectorQuantizer(1, 1, decay=0.999, revive_below=0.999)
    wrong = (dict(beta=-0.1), dict(eps=-1e-6), dict(revive_below=-0.1), dict(decay=1.5))
    for options in (*wrong, dict(decay=-0.5)):
        with pytest.raises(ValueError):
            VectorQuantizer(4, 4, **options)
    z = torch.zeros(2, 4, 3, 3)
    z[1, 2, 0, 1] = float("inf")
    for bad in (z, torch.zeros(2, 3, 3, 4), torch.zeros(2, 4, 3)):
        with pytest.raises(ValueError):
            VectorQuantizer(4, 4)(bad)
    points = torch.randn(5, 2)
    assert vqvae.kmeans(points, 5).shape == (5, 2)
    with pytest.raises(ValueError):
        vqvae.kmeans(points, 6)
    assert VectorQuantizer(4, 2).embed(torch.tensor([[[0, 3]]])).shape == (1, 2, 1, 2)
    for bad in ([[0, 4]], [[-1, 0]]):
        with pytest.raises(ValueError):
            VectorQuantizer(4, 2).embed(torch.tensor([bad]))


def test_the_commitment_moves_vectors_and_the_codebooks_loss_moves_codes():
    """Both have the same value; what tells them apart is whom they teach."""
    quantizer = VectorQuantizer(8, 4)
    z, out = z_and(quantizer)
    codes = quantizer.codebook
    for loss, taught, untaught in ((out.commitment_loss, z, codes), (out.codebook_loss, codes, z)):
        (grad,) = torch.autograd.grad(loss, taught, retain_graph=True)
        assert grad.abs().max() > 0
        assert torch.autograd.grad(loss, untaught, allow_unused=True, retain_graph=True) == (None,)
