import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from minigen import metrics
from minigen.data import ATTRIBUTES, ToyFaces
from minigen.files import data_path
from tests.conftest import defaults, layers, peer, said


def stats(n=500, d=6, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    independent = torch.randn(n, d, generator=generator)
    mixed = scale * independent @ torch.randn(d, d, generator=generator)
    return metrics.gaussian_statistics(mixed)


def test_frechet_of_diagonal_covariances_is_the_closed_form():
    m1, m2, a, b = torch.rand(4, 5, dtype=torch.float64)
    want = (m1 - m2).square().sum() + (a.sqrt() - b.sqrt()).square().sum()
    assert metrics.frechet_distance(m1, a.diag(), m2, b.diag()) == pytest.approx(float(want))


def test_frechet_identities():
    p, q = stats(), stats(seed=1, scale=2)
    assert metrics.frechet_distance(*p, *p) < 1e-9
    assert metrics.frechet_distance(*p, *q) == pytest.approx(metrics.frechet_distance(*q, *p))
    turn = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64)).Q
    turned = [(turn @ m, turn @ c @ turn.T) for m, c in (p, q)]
    distance = metrics.frechet_distance(*turned[0], *turned[1])
    assert distance == pytest.approx(metrics.frechet_distance(*p, *q))


def test_frechet_equals_scipys_matrix_root():
    p, q = stats(), stats(seed=1)
    root = peer("scipy.linalg").sqrtm((p[1] @ q[1]).numpy())
    want = (p[0] - q[0]).square().sum() + p[1].trace() + q[1].trace() - 2 * root.real.trace()
    assert metrics.frechet_distance(*p, *q) == pytest.approx(float(want), rel=1e-8)


def test_frechet_equals_torchmetrics():
    fid = peer("torchmetrics.image.fid").FrechetInceptionDistance

    class Pixels(nn.Module):
        num_features = 12

        def forward(self, x):
            return x.flatten(1).double() / 255

    x, y = torch.randint(0, 256, (2, 300, 3, 2, 2), dtype=torch.uint8)
    y = y // 2
    peer_metric = fid(feature=Pixels(), input_img_size=(3, 2, 2)).set_dtype(torch.float64)
    peer_metric.update(x, real=True)
    peer_metric.update(y, real=False)
    ours = metrics.frechet_distance(*metrics.gaussian_statistics(x.flatten(1).double() / 255),
                                    *metrics.gaussian_statistics(y.flatten(1).double() / 255))
    assert ours == pytest.approx(float(peer_metric.compute()), rel=1e-5)


def test_frechet_of_a_covariance_without_full_rank():
    few = metrics.gaussian_statistics(torch.randn(4, 10))
    assert metrics.frechet_distance(*few, *few) < 1e-6


def by_eigenvalues(mean1, cov1, mean2, cov2):
    """The distance as the docstring has it, with both roots from numpy's eigenvalues."""
    def root(cov):
        values, vectors = np.linalg.eigh(cov.numpy())
        return (vectors * np.sqrt(values.clip(0))) @ vectors.T

    cross = root(torch.from_numpy(root(cov1) @ cov2.numpy() @ root(cov1)))
    return float((mean1 - mean2).square().sum() + cov1.trace() + cov2.trace()) - 2 * cross.trace()


@pytest.mark.parametrize("rows", [(400, 400), (40, 400), (400, 40), (40, 30), (2, 400), (2, 2)])
def test_frechet_with_fewer_samples_than_dimensions(rows):
    """Either covariance singular, or both, in 64 dimensions: as scipy's root and as eigenvalues."""
    p, q = stats(rows[0], 64), stats(rows[1], 64, seed=1, scale=2)
    for (_, cov), n in zip((p, q), rows, strict=True):
        factor = metrics._factor(cov)
        assert factor.shape[1] == min(64, n - 1)
        torch.testing.assert_close(factor @ factor.T, cov, rtol=0, atol=1e-11 * float(cov.max()))
    ours = metrics.frechet_distance(*p, *q)
    assert ours == pytest.approx(by_eigenvalues(*p, *q), rel=1e-6)
    root = peer("scipy.linalg").sqrtm((p[1] @ q[1]).numpy())
    want = (p[0] - q[0]).square().sum() + p[1].trace() + q[1].trace() - 2 * root.real.trace()
    assert ours == pytest.approx(float(want), rel=1e-6)


def test_a_covariance_whose_first_rows_do_not_tell_all():
    """Cholesky ends at a feature that never moves, or repeats another; then eigenvalues are asked
    for, and none is lost."""
    x, y = (torch.randn(200, 8, generator=torch.Generator().manual_seed(k)) for k in (0, 1))
    for change in (lambda x: x.index_fill(1, torch.tensor(3), 0.0),
                   lambda x: torch.cat([x[:, :3], x[:, :1], x[:, 3:]], 1)):
        p, q = (metrics.gaussian_statistics(change(f)) for f in (x, 2 * y))
        factor = metrics._factor(p[1])
        assert factor.shape[1] == torch.linalg.matrix_rank(p[1])
        torch.testing.assert_close(factor @ factor.T, p[1], rtol=0, atol=1e-12)
        assert metrics.frechet_distance(*p, *q) == pytest.approx(by_eigenvalues(*p, *q), rel=1e-6)


def test_frechet_of_points_and_of_a_few_directions():
    """No spread at all leaves the means and the other's trace; nearly none is not singular."""
    mean, none, one = torch.zeros(5), torch.zeros(5, 5), torch.eye(5)
    assert metrics.frechet_distance(mean, none, mean + 2, none) == pytest.approx(20)
    assert metrics.frechet_distance(mean, none, mean, one) == pytest.approx(5)
    assert metrics.frechet_distance(mean, one, mean, none) == pytest.approx(5)
    thin = torch.tensor([1.0, 1e-6, 1e-12, 0, 0], dtype=torch.float64).diag()
    want = (1 - thin.diagonal().sqrt()).square().sum()
    assert metrics.frechet_distance(mean, thin, mean, one) == pytest.approx(float(want))
    assert metrics.frechet_distance(mean, thin, mean, thin) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("features", "words"), [
    (torch.zeros(1, 3), "N at least 2"),
    (torch.zeros(3), "N at least 2"),
    (torch.tensor([[1.0], [float("nan")]]), "NaN")])
def test_bad_features(features, words):
    with pytest.raises(ValueError, match=words):
        metrics.gaussian_statistics(features)


def test_classifier_reads_every_attribute():
    faces = ToyFaces(1000, seed=99)
    read = metrics.predict_attributes(faces.images())
    for name in ATTRIBUTES:
        assert (read[name] == faces[name]).float().mean() > 0.97, name
    assert metrics.obedience(faces.images(), "glasses", 1 - faces["glasses"]) < 0.03


def test_classifier_refuses_unnormalised_images():
    with pytest.raises(ValueError, match=r"must lie in \[-1, 1\]"):
        metrics.toy_frechet(torch.full((200, 3, 32, 32), 255.0))
    with pytest.raises(ValueError, match="shape"):
        metrics.toy_features(torch.zeros(2, 3, 64, 64))
    with pytest.raises(ValueError, match="at least 128"):
        metrics.toy_frechet(torch.zeros(10, 3, 32, 32))


def test_toy_frechet_orders_sets_as_eyes_do():
    x = ToyFaces(1000, seed=50).images()
    real = metrics.toy_frechet(x)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    noisy = metrics.toy_frechet((x + 0.2 * noise).clamp(-1, 1))
    assert real < noisy and real < metrics.toy_frechet(x[:1].repeat(1000, 1, 1, 1))
    assert metrics.toy_frechet(x[torch.randperm(1000)]) == pytest.approx(real, rel=1e-4)


def test_inception_score():
    assert metrics.inception_score(torch.eye(5).repeat(4, 1)) == pytest.approx(5)
    assert metrics.inception_score(torch.full((8, 5), 0.2)) == pytest.approx(1)
    assert metrics.inception_score(torch.eye(5)[:1].repeat(9, 1)) == pytest.approx(1)
    faces = ToyFaces(500, seed=4)
    p = metrics.attribute_probabilities(faces.images(), "hair")
    assert torch.allclose(p.sum(1), torch.ones(500), atol=1e-5)
    assert 4.5 < metrics.inception_score(p) <= 5


def test_results_table_grows_by_chapter():
    assert all({"model", "chapter", "parameters", "frechet"} <= set(r) for r in metrics.results())
    first, both = metrics.results_table(0), metrics.results_table(1, GAN=12.3)
    assert "Gaussian" in first and "GAN" not in first and "GAN" in both and "12.30" in both


def test_the_classifier_layer_by_layer():
    assert (
        layers(metrics.AttributeClassifier())
        == said("""
        Conv2d 3 32 3 1 1; GroupNorm 8 32; ReLU; Conv2d 32 32 3 2 1; GroupNorm 8 32; ReLU;
        Conv2d 32 64 3 2 1; GroupNorm 8 64; ReLU; Conv2d 64 64 3 1 1; GroupNorm 8 64; ReLU;
        Conv2d 64 64 3 2 1; GroupNorm 8 64; ReLU; Flatten;
        Linear 1024 128; ReLU; Linear 128 64; ReLU;
        Linear 64 6; Linear 64 5; Linear 64 5; Linear 64 3; Linear 64 5; Linear 64 3; Linear 64 2;
        Linear 64 3; Linear 64 3""")
    )
    assert defaults(metrics.AttributeClassifier) == dict(width=32, features=64)
    assert layers(metrics.AttributeClassifier(16, 10).body).endswith(
        "Linear 512 20; ReLU; Linear 20 10; ReLU"
    )


def test_the_protocol_of_the_results_table():
    """2,000 samples against 10,000 faces of seed 1: every row ever measured was measured so."""
    assert (metrics.N_SAMPLES, metrics.N_REFERENCE, metrics.REFERENCE_SEED) == (2000, 10_000, 1)
    # the reference's own first 2,000 faces are nearer to it than any fresh ones
    own = metrics.toy_frechet(ToyFaces(2000, seed=1).images())
    assert own < 9 < metrics.toy_frechet(ToyFaces(2000, seed=3).images())


def test_statistics_equal_numpys():
    x = torch.randn(7, 3)
    mean, cov = metrics.gaussian_statistics(x)
    assert mean.dtype == cov.dtype == torch.float64
    assert mean.tolist() == pytest.approx(x.double().numpy().mean(0).tolist())
    torch.testing.assert_close(cov, torch.as_tensor(np.cov(x.double().numpy().T)))
    assert metrics.gaussian_statistics(x[:2, :1])[1].shape == (1, 1)
    assert metrics.frechet_distance(mean, cov, mean + 2, cov) == pytest.approx(12)


def test_the_toy_distance_is_frechets_in_the_classifiers_features():
    x, seen = ToyFaces(128, seed=3).images(), []
    classifier = metrics.attribute_classifier()
    assert classifier is metrics.attribute_classifier() and not classifier.training
    assert not any(p.requires_grad for p in classifier.parameters())
    features = classifier.body(x)
    torch.testing.assert_close(metrics.toy_features(x), features)
    assert (
        features.shape == (128, 64) and not metrics.toy_features(x.requires_grad_()).requires_grad
    )
    x = x.detach()
    stats = load_file(data_path("pretrained", "toy_reference.safetensors"))
    want = metrics.frechet_distance(
        *metrics.gaussian_statistics(features), stats["mean"], stats["cov"]
    )
    assert metrics.toy_frechet(x) == pytest.approx(want)
    with pytest.raises(ValueError):
        metrics.toy_frechet(x[:127])
    handle = classifier.register_forward_pre_hook(lambda m, args: seen.append(len(args[0])))
    metrics.attribute_probabilities(ToyFaces(501).images(), "hair")
    handle.remove()
    assert seen == [*7 * [64], 53]


def test_what_is_read_is_the_likeliest_value():
    x = ToyFaces(20, seed=3).images()
    classifier = metrics.attribute_classifier()
    h = classifier.body(x)
    for name, read in metrics.predict_attributes(x).items():
        logits = classifier.heads[name](h)
        assert torch.equal(read, logits.argmax(1))
        torch.testing.assert_close(
            metrics.attribute_probabilities(x, name),
            logits.exp() / logits.exp().sum(1, keepdim=True),
        )
    hair = metrics.predict_attributes(x)["hair"]
    wanted = hair.clone()
    wanted[:5] = (hair[:5] + 1) % 5
    assert metrics.obedience(x, "hair", wanted.tolist()) == 0.75


def test_images_a_little_out_of_range_are_read():
    edge = torch.full((1, 3, 32, 32), 1.005)
    assert metrics.toy_features(edge).shape == metrics.toy_features(-edge).shape == (1, 64)
    for value in (1.02, -1.02):
        with pytest.raises(ValueError):
            metrics.toy_features(torch.full((1, 3, 32, 32), value))


def test_inception_score_by_hand():
    p = torch.tensor([[0.7, 0.3, 0.0], [0.1, 0.4, 0.5]])
    middle = [0.4, 0.35, 0.25]
    kl = [
        sum(a * math.log(a / m) for a, m in zip(row, middle, strict=True) if a)
        for row in ([0.7, 0.3, 0.0], [0.1, 0.4, 0.5])
    ]
    assert metrics.inception_score(p) == pytest.approx(math.exp(sum(kl) / 2))


def test_the_results_table_line_by_line(monkeypatch):
    rows = [
        dict(model="A", chapter=0, parameters=1234, frechet=3.14159),
        dict(model="Long", chapter=3, parameters=0, frechet=20.0),
    ]
    monkeypatch.setattr(metrics, "results", lambda excursion="": rows)
    head, first, second = metrics.results_table(3).splitlines()
    assert head.split("  ")[-2:] == ["parameters", "toy Fréchet"] and "measured now" not in head
    assert first.split() == ["A", "0", "1,234", "3.14"]
    assert second.split() == ["Long", "–", "–", "20.00"], "what has no parameters is no model"
    assert len(first) == len(second) == len("Long  chapter  parameters  toy Fréchet")
    head, first, second = metrics.results_table(Long=7.777).splitlines()
    assert (
        head.endswith("measured now")
        and first.split()[-1] == "3.14"
        and second.split()[-2:] == ["20.00", "7.78"]
    )
    assert len(second) == len(first) + len("  measured now")
    assert [line.split()[0] for line in metrics.results_table(2).splitlines()[1:]] == ["A"]


def test_an_excursions_rows_stand_in_its_own_table(tmp_path, monkeypatch):
    rows = [dict(model=name, chapter=chapter, parameters=3, frechet=1.0)
            for name, chapter in (("A", 2), ("B", 7), ("C", "x1"), ("D", "x2"))]
    (tmp_path / "results.json").write_text(json.dumps(rows))
    monkeypatch.setattr(metrics, "data_path", lambda folder, name: tmp_path / name)

    def names(**options):
        return [line.split()[0] for line in metrics.results_table(**options).splitlines()[1:]]

    assert names() == ["A", "B"] and names(excursion="x1") == ["A", "B", "C"]
    assert names(through_chapter=2, excursion="x2") == ["A", "D"]
    assert [r["model"] for r in metrics.results()] == ["A", "B"]


def test_a_classifier_is_rebuilt_from_its_config():
    assert metrics.AttributeClassifier(width=8, features=10).config == dict(width=8, features=10)


def test_one_value_out_of_range_is_enough():
    for wrong in (1.02, -1.02):
        x = torch.zeros(2, 3, 32, 32)
        x[1, 2, 3, 4] = wrong
        with pytest.raises(ValueError):
            metrics.toy_features(x)
    features = torch.zeros(3, 2)
    for wrong in (math.nan, math.inf):
        features[2, 1] = wrong
        with pytest.raises(ValueError):
            metrics.gaussian_statistics(features)


def test_single_precision_statistics_are_measured_in_double():
    (m1, c1), (m2, c2) = (tuple(t.float() for t in stats(seed=s, scale=30)) for s in (0, 1))
    want = metrics.frechet_distance(m1.double(), c1.double(), m2.double(), c2.double())
    assert metrics.frechet_distance(m1, c1, m2, c2) == pytest.approx(want, rel=1e-12)
