import pytest
import torch
from torch import nn

from minigen import metrics
from minigen.data import ATTRIBUTES, ToyFaces
from tests.conftest import peer


def stats(n=500, d=6, seed=0, scale=1.0):
    g = torch.Generator().manual_seed(seed)
    return metrics.gaussian_statistics(scale * torch.randn(n, d, generator=g) @ torch.randn(d, d, generator=g))


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
    assert metrics.frechet_distance(*turned[0], *turned[1]) == pytest.approx(metrics.frechet_distance(*p, *q))


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


@pytest.mark.parametrize(("features", "words"), [(torch.zeros(1, 3), "N at least 2"), (torch.zeros(3), "N at least 2"),
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
    noisy = metrics.toy_frechet((x + 0.2 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(-1, 1))
    assert real < noisy and real < metrics.toy_frechet(x[:1].repeat(1000, 1, 1, 1))
    assert metrics.toy_frechet(x[torch.randperm(1000)]) == pytest.approx(real, rel=1e-4)


def test_inception_score():
    assert metrics.inception_score(torch.eye(5).repeat(4, 1)) == pytest.approx(5)
    assert metrics.inception_score(torch.full((8, 5), 0.2)) == pytest.approx(1)
    assert metrics.inception_score(torch.eye(5)[:1].repeat(9, 1)) == pytest.approx(1)
    faces = ToyFaces(500, seed=4)
    p = metrics.attribute_probabilities(faces.images(), "hair")
    assert torch.allclose(p.sum(1), torch.ones(500), atol=1e-5) and 4.5 < metrics.inception_score(p) <= 5


def test_results_table_grows_by_chapter():
    assert all({"model", "chapter", "parameters", "frechet"} <= set(r) for r in metrics.results())
    first, both = metrics.results_table(0), metrics.results_table(1, GAN=12.3)
    assert "Gaussian" in first and "GAN" not in first and "GAN" in both and "12.30" in both
