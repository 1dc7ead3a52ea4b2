import numpy as np
import pytest
import torch

from minigen.gaussian import GaussianMixture, GaussianModel
from tests.conftest import defaults, peer


@pytest.mark.parametrize("n", [20, 200])                 # fewer and more images than the 48 pixels
def test_equals_scikit_learns_pca(n):
    x = torch.randn(n, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    ours = GaussianModel(x)
    theirs = peer("sklearn.decomposition").PCA().fit(x.flatten(1).double().numpy())
    r = len(ours.variances)
    assert r == min(n - 1, 48)
    assert np.allclose(ours.mean.numpy(), theirs.mean_)
    variances = theirs.explained_variance_[:r] * (n - 1) / n
    assert np.allclose(ours.variances.numpy(), variances, atol=1e-9)
    overlap = np.abs((ours.eigenfaces.numpy()[:, :10] * theirs.components_[:10].T).sum(0))
    assert np.allclose(overlap, 1, atol=1e-6)


def test_all_components_rebuild_the_images():
    x = torch.rand(12, 1, 5, 5) * 2 - 1
    model = GaussianModel(x)
    assert torch.allclose(model.decode(model.encode(x, 11)), x, atol=1e-5)
    errors = [(model.decode(model.encode(x, k)) - x).square().mean() for k in (1, 4, 8, 11)]
    assert errors == sorted(errors, reverse=True)


def test_samples_have_the_mean_and_covariance_of_the_images():
    generator = torch.Generator().manual_seed(0)
    independent = torch.randn(500, 1, 3, 3, generator=generator)
    x = 0.1 * independent @ torch.randn(3, 3, generator=generator)
    s = GaussianModel(x).sample(50_000)
    assert torch.allclose(s.mean(0), x.mean(0), atol=0.01)
    assert torch.allclose(torch.cov(s.flatten(1).T), torch.cov(x.flatten(1).T), atol=0.01)


def test_seed_range_and_errors():
    model = GaussianModel(torch.rand(9, 3, 4, 4))
    assert torch.equal(model.sample(3, seed=1), model.sample(3, seed=1))
    assert model.sample(50).abs().max() <= 1 and model.sample(4, components=2).shape == (4, 3, 4, 4)
    assert model.parameters == 48 + 48 * 49 // 2
    with pytest.raises(ValueError, match="N at least 2"):
        GaussianModel(torch.rand(1, 3, 4, 4))


def test_coordinates_and_samples_by_hand():
    x = torch.rand(12, 1, 2, 3) - 0.5
    model = GaussianModel(x)
    flat = x.flatten(1).double()
    coordinates = (flat - flat.mean(0)) @ model.eigenfaces[:, :2]
    torch.testing.assert_close(model.encode(x, 2), coordinates)
    torch.testing.assert_close(
        model.decode(coordinates),
        (flat.mean(0) + coordinates @ model.eigenfaces[:, :2].T).float().view_as(x),
    )
    for components, r in ((None, 6), (2, 2)):
        eps = torch.randn(5, r, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        want = model.decode(eps * model.variances[:r].sqrt()).clamp(-1, 1)
        torch.testing.assert_close(model.sample(5, components, seed=3), want)
    assert bool((model.variances.diff() <= 0).all()) and defaults(GaussianModel.sample) == dict(
        components=None, seed=0
    )
    assert model.sample(1).dtype == torch.float32


@pytest.mark.parametrize("n", [10, 48, 49, 200])
def test_eigenfaces_are_of_length_one_at_right_angles(n):
    model = GaussianModel(torch.randn(n, 3, 4, 4))
    r = min(n - 1, 48)
    assert model.eigenfaces.shape == (48, r)
    assert torch.allclose(
        model.eigenfaces.T @ model.eigenfaces, torch.eye(r, dtype=torch.float64), atol=1e-6
    )


def test_images_that_are_alike_have_no_variance_and_no_nan():
    model = GaussianModel(torch.full((3, 1, 2, 2), 0.5))
    assert float(model.variances.abs().max()) == 0 and torch.isfinite(model.eigenfaces).all()
    torch.testing.assert_close(model.sample(2), torch.full((2, 1, 2, 2), 0.5))
    assert GaussianModel(2 * torch.randn(9, 1, 3, 3)).sample(50).abs().max() == 1


@pytest.mark.parametrize("n", [9, 30])
def test_few_different_images_have_few_variances_and_samples_are_numbers(n):
    """Three images over and over: two axes, and eigenvalues that rounding would push below zero."""
    x = (torch.rand(3, 1, 3, 4) - 0.5).repeat(n // 3, 1, 1, 1)
    model = GaussianModel(x)
    assert float(model.variances.min()) >= 0 and int((model.variances > 1e-6).sum()) == 2
    assert torch.isfinite(model.sample(20)).all()
    torch.testing.assert_close(model.decode(model.encode(x, 2)), x, rtol=0, atol=1e-5)


def two_clouds(n=600):
    random = torch.Generator().manual_seed(0)
    far = (torch.rand(n, generator=random) < 0.25).float()
    z = torch.randn(n, 2, generator=random) * torch.tensor([1.0, 0.3])
    return z + 6 * far[:, None], far


def test_a_mixture_finds_two_clouds():
    z, far = two_clouds()
    mixture = GaussianMixture(z, 2)
    order = mixture.means[:, 0].argsort()
    assert torch.allclose(mixture.weights[order][1], far.mean(), atol=0.01)
    assert torch.allclose(mixture.means[order][1], z[far == 1].mean(0), atol=0.05)
    covariance = mixture.roots @ mixture.roots.mT
    want = torch.cov(z[far == 0].T) + 0.01 * torch.eye(2)
    assert torch.allclose(covariance[order][0], want, atol=0.05)
    s = mixture.sample(20_000, seed=1)
    assert torch.allclose(s.mean(0), z.mean(0), atol=0.1)
    assert abs(float((s[:, 0] > 3).float().mean()) - float(far.mean())) < 0.02
    assert mixture.parameters == 1 + 2 * (2 + 3)


def test_a_mixtures_density_is_torchs_and_em_raises_it():
    z, _ = two_clouds()
    means = []
    for steps in (1, 3, 10):
        mixture = GaussianMixture(z, 3, steps=steps, floor=1e-4)
        parts = torch.distributions.MultivariateNormal(mixture.means, scale_tril=mixture.roots)
        whole = torch.distributions.MixtureSameFamily(
            torch.distributions.Categorical(mixture.weights), parts)
        assert torch.allclose(mixture.log_prob(z), whole.log_prob(z), atol=1e-3)
        means.append(float(mixture.log_prob(z).mean()))
    assert means == sorted(means)


def test_one_gaussian_is_a_mixture_of_one():
    z, _ = two_clouds()
    mixture = GaussianMixture(z, 1, steps=2)
    assert torch.allclose(mixture.means[0], z.mean(0), atol=1e-4)
    want = torch.cov(z.T, correction=0) + 0.01 * torch.eye(2)
    assert torch.allclose(mixture.roots[0] @ mixture.roots[0].T, want, atol=1e-3)


def test_what_a_mixture_refuses():
    z, _ = two_clouds(20)
    for wrong, words in ((z[0], "z must"), (z * float("nan"), "NaN"), ([1.0], "tensor")):
        with pytest.raises(ValueError, match=words):
            GaussianMixture(wrong, 2)
    for options in (dict(k=0), dict(k=21), dict(k=2, steps=0), dict(k=2, floor=0.0)):
        with pytest.raises(ValueError):
            GaussianMixture(z, **options)
    with pytest.raises(ValueError):
        GaussianMixture(z, 2).log_prob(z[:, :1])
    assert defaults(GaussianMixture) == dict(steps=20, floor=0.01, seed=0)
