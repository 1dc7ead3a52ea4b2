import numpy as np
import pytest
import torch

from minigen.gaussian import GaussianModel
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
