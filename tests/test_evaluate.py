import pytest
import torch

from minigen import evaluate
from minigen.data import ToyFaces, to_uint8
from minigen.errors import DataError
from minigen.files import save_tensors
from minigen.images import Images
from tests.conftest import peer


def test_kid_equals_torchmetrics_on_one_subset():
    kid = peer("torchmetrics.image.kid")

    class Flat(torch.nn.Module):
        num_features = 12

        def forward(self, x):
            return x.flatten(1).float() / 100

    a, b = (torch.randint(256, (40, 3, 2, 2), dtype=torch.uint8) for _ in range(2))
    theirs = kid.KernelInceptionDistance(feature=Flat(), subsets=1, subset_size=40)
    theirs.update(a, real=True), theirs.update(b, real=False)
    ours = evaluate.kernel_distance(Flat()(b), Flat()(a))
    assert ours == pytest.approx(float(theirs.compute()[0]), rel=1e-3, abs=1e-4)


def test_kid_of_one_distribution_is_around_zero_and_of_two_is_not():
    a, b = torch.randn(500, 8), torch.randn(400, 8)
    assert abs(evaluate.kernel_distance(a, b)) < 0.05 < evaluate.kernel_distance(a, b + 1)


def test_precision_and_recall_tell_blur_from_collapse():
    real = torch.randn(300, 4)
    assert min(evaluate.precision_recall(real, torch.randn(300, 4))) > 0.7
    precision, recall = evaluate.precision_recall(real, 0.1 * torch.randn(300, 4))
    assert precision > 0.9 > 0.3 > recall                      # collapsed: plausible, not varied
    precision, recall = evaluate.precision_recall(real, 20 + torch.randn(300, 4))
    assert precision == recall == 0


def test_the_line_states_the_protocol_and_the_reference_is_computed_once(tmp_path, monkeypatch):
    images, samples = Images("toyfaces:200", 32), to_uint8(ToyFaces(150, seed=9).images())
    got = evaluate.evaluate(samples, images, features="toy", cache=tmp_path, protocol=dict(steps=50, seed=3))
    for words in ("not FID", "150 samples against 200 training images at 32 pixels", "steps 50", "seed 3", "not KID"):
        assert words in got["line"]
    assert got["distance"] < 400 and len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(evaluate, "features_of", lambda s, n, batch_size=64: torch.randn(150, 64))
    evaluate.evaluate(samples, images, features="toy", cache=tmp_path)         # the reference comes from the cache


def test_few_samples_are_called_bias(tmp_path):
    got = evaluate.evaluate(to_uint8(ToyFaces(20).images()), Images("toyfaces:20", 32), features="toy", cache=tmp_path)
    assert "mostly bias" in got["line"]


def test_the_nearest_image_of_a_training_image_is_itself(tmp_path):
    images, network = Images("toyfaces:30", 32), evaluate.classifier_features()
    x = to_uint8(images(torch.arange(30)))
    reference = evaluate.features_of(x, network)
    assert evaluate.nearest(x[5:9], network, reference).tolist() == [5, 6, 7, 8]


def test_what_is_missing_is_said(monkeypatch):
    with pytest.raises(DataError, match="inception or toy; got 'vgg'"):
        evaluate.evaluate([], None, features="vgg")
    import builtins
    real_import = builtins.__import__

    def without(name, *args, **kw):
        if name.startswith("torch_fidelity"):
            raise ImportError(name)
        return real_import(name, *args, **kw)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError, match=r"pip install torch-fidelity.*not FID"):
        evaluate.inception_features()


@pytest.mark.parametrize("x", [torch.zeros(4, 3, 32, 32), torch.zeros(4, 32, 32, 3, dtype=torch.uint8), [1, 2, 3],
                               torch.zeros(4, 1, 32, 32, dtype=torch.uint8)])
def test_images_that_are_not_bytes_are_refused_with_the_way_out(tmp_path, x):
    with pytest.raises(DataError, match=r"uint8 of shape \(3, S, S\).*to_uint8"):
        evaluate.evaluate(x, Images("toyfaces:20", 32), features="toy", cache=tmp_path)


@pytest.mark.parametrize("harm", ["torn", "rows", "nan", "folder of another"])
def test_a_damaged_cache_is_made_anew(tmp_path, harm):
    images, network = Images("toyfaces:20", 32), evaluate.classifier_features()
    want = evaluate.reference_features(images, images.digest, "toy", tmp_path, network)
    (path,) = tmp_path.iterdir()
    if harm == "torn":
        path.write_bytes(path.read_bytes()[:100])
    else:
        bad = {"rows": want[:5], "nan": want * float("nan"), "folder of another": want[0]}[harm]
        save_tensors(path, {"features": bad})
    assert torch.equal(evaluate.reference_features(images, images.digest, "toy", tmp_path, network), want)
