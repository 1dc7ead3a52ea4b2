import re
import sys
import types

import pytest
import torch

from minigen.data import ToyFaces, to_uint8
from minigen.engine import evaluate
from minigen.engine.images import Images
from minigen.errors import DataError
from minigen.files import save_tensors
from minigen.metrics import frechet_distance, gaussian_statistics
from tests.conftest import defaults, peer


def test_kid_equals_torchmetrics_on_one_subset():
    kid = peer("torchmetrics.image.kid")

    class Flat(torch.nn.Module):
        num_features = 12

        def forward(self, x):
            return x.flatten(1).float() / 100

    a, b = (torch.randint(256, (40, 3, 2, 2), dtype=torch.uint8) for _ in range(2))
    theirs = kid.KernelInceptionDistance(feature=Flat(), subsets=1, subset_size=40)
    theirs.update(a, real=True)
    theirs.update(b, real=False)
    ours = evaluate.kernel_distance(Flat()(b), Flat()(a))
    assert ours == pytest.approx(float(theirs.compute()[0]), rel=1e-3, abs=1e-4)


def test_kid_of_one_distribution_is_around_zero_and_of_two_is_not():
    a, b = torch.randn(500, 8), torch.randn(400, 8)
    assert abs(evaluate.kernel_distance(a, b)) < 0.05 < evaluate.kernel_distance(a, b + 1)


def test_precision_and_recall_tell_blur_from_collapse():
    real = torch.randn(300, 4)
    assert min(evaluate.precision_recall(real, torch.randn(300, 4))) > 0.7
    # collapsed onto one real image: all plausible, none of the variety, whatever the draw
    precision, recall = evaluate.precision_recall(real, real[:1] + 0.01 * torch.randn(300, 4))
    assert precision == 1 and recall < 0.02
    precision, recall = evaluate.precision_recall(real, 20 + torch.randn(300, 4))
    assert precision == recall == 0


def test_the_line_states_the_protocol_and_the_reference_is_computed_once(tmp_path, monkeypatch):
    images, samples = Images("toyfaces:200", 32), to_uint8(ToyFaces(150, seed=9).images())
    protocol = dict(steps=50, seed=3)
    got = evaluate.evaluate(samples, images, features="toy", cache=tmp_path, protocol=protocol)
    for words in ("not FID", "150 samples against 200 training images at 32 pixels", "steps 50",
                  "seed 3", "not KID"):
        assert words in got["line"]
    assert got["distance"] < 400 and len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(evaluate, "features_of", lambda s, n, batch_size=64: torch.randn(150, 64))
    # the reference comes from the cache
    evaluate.evaluate(samples, images, features="toy", cache=tmp_path)


def test_few_samples_are_called_bias(tmp_path):
    samples, images = to_uint8(ToyFaces(20).images()), Images("toyfaces:20", 32)
    got = evaluate.evaluate(samples, images, features="toy", cache=tmp_path)
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
    with pytest.raises(DataError, match=r"minigen\[full\].*pip install torch-fidelity.*not FID"):
        evaluate.inception_features()


@pytest.mark.parametrize("x", [
    torch.zeros(4, 3, 32, 32), torch.zeros(4, 32, 32, 3, dtype=torch.uint8), [1, 2, 3],
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
    got = evaluate.reference_features(images, images.digest, "toy", tmp_path, network)
    assert torch.equal(got, want)


def test_precision_and_recall_by_hand():
    """On a line: every real's second nearest other decides what is near it."""
    real, fake = (
        torch.tensor([[0.0], [1.0], [3.0], [7.0]]),
        torch.tensor([[-2.9], [4.0], [20.0], [21.0], [30.0]]),
    )
    # radii of the reals 3, 2, 3, 6 (second nearest), of the fakes 22.9, 16, 10, 9, 10
    assert evaluate.precision_recall(real, fake, k=2) == (pytest.approx(2 / 5), 1.0)
    near = torch.tensor([[-2.9], [4.0], [14.0], [14.5], [14.6]])
    # radii of the reals 7, 6, 4, 7 (third nearest), of these fakes 17.4, 10.5, …
    assert evaluate.precision_recall(real, near) == (pytest.approx(3 / 5), 1.0)
    assert evaluate.precision_recall(real, torch.tensor([[13.0]] * 4)) == (
        1.0,
        0.0,
    )  # at the edge is near


def test_kid_by_hand():
    a, b = torch.randn(3, 2, dtype=torch.float64), torch.randn(4, 2, dtype=torch.float64)

    def k(x, y):
        return (float(x @ y) / 2 + 1) ** 3

    within = [
        sum(k(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j)
        / (len(s) * (len(s) - 1))
        for s in (a, b)
    ]
    across = sum(k(x, y) for x in a for y in b) / 12
    assert evaluate.kernel_distance(a, b) == pytest.approx(sum(within) - 2 * across)


def test_features_are_taken_batch_by_batch_in_order():
    sizes = []

    def network(x):
        sizes.append(len(x))
        assert not torch.is_grad_enabled()
        return x.flatten(1).float()

    images = torch.randint(256, (130, 3, 2, 2), dtype=torch.uint8)
    assert torch.equal(evaluate.features_of(iter(images), network), images.flatten(1).float())
    assert sizes == [64, 64, 2]
    sizes.clear()
    evaluate.features_of(images[:6], network, batch_size=3)
    assert sizes == [3, 3]
    with pytest.raises(DataError):
        evaluate.features_of([], network)


class Folder:
    """Stands in for prepared images: 140 of them, whose first number is their index."""

    digest, size = "sha256:0123 4567", 16
    folder = types.SimpleNamespace(manifest=dict(resize=dict(kernel="bicubic")))

    def __init__(self):
        self.asked = []

    def __len__(self):
        return 140

    def __call__(self, i):
        self.asked.append(len(i))
        x = torch.zeros(len(i), 3, 16, 16)
        x[:, 0, 0, 0] = i / 127.5 - 1
        return x


def first_numbers(x):
    """Three features of an image; the first is its index."""
    x = x.flatten(1).float()
    return torch.stack([x[:, 0], x[:, 1], x[:, 2] - x[:, 0] % 7], 1)


def test_reference_features_are_kept_by_data_network_and_number(tmp_path):
    images = Folder()
    found = evaluate.reference_features(images, images.digest, "toy", tmp_path, first_numbers)
    assert found[:, 0].tolist() == list(range(140)) and images.asked == [64, 64, 12]
    few = evaluate.reference_features(
        images, images.digest, "toy", tmp_path, first_numbers, limit=70
    )
    assert torch.equal(few, found[:70]) and images.asked[3:] == [64, 6]
    assert (
        len(
            evaluate.reference_features(
                images, images.digest, "toy", tmp_path, first_numbers, limit=999
            )
        )
        == 140
    )
    for digest, name in (("another", "toy"), (images.digest, "inception")):
        before = len(images.asked)
        evaluate.reference_features(images, digest, name, tmp_path, first_numbers)
        assert len(images.asked) == before + 3
    assert len(list(tmp_path.iterdir())) == 4 and all(
        p.suffix == ".safetensors" for p in tmp_path.iterdir()
    )


LINE = re.compile(
    r"(?P<name>.+) (?P<distance>[-\d.]+), (?P<second>.+) (?P<kid>[-+\d.e]+),\n"
    r"precision (?P<precision>[\d.]+), recall (?P<recall>[\d.]+) \(.*10,000.*\):\n"
    r"(?P<fakes>\d+) samples against (?P<reals>\d+) training images at (?P<size>\d+) "
    r"pixels(?P<resize>.*),\n(?P<where>.+?)(?P<told>, steps 50, seed 3)?(?P<few>\n.*)?"
)


def test_the_line_of_a_collapsed_set(tmp_path):
    """Sixty times one training face: every sample is plausible, and next to nothing of the data
    is reached."""
    images = Images("toyfaces:100", 32)
    samples = to_uint8(images(torch.tensor([7]))).expand(60, -1, -1, -1)
    got = evaluate.evaluate(
        samples, images, features="toy", cache=tmp_path, protocol=dict(steps=50, seed=3), limit=90
    )
    network = evaluate.classifier_features()
    fake, real = network(samples), network(to_uint8(images(torch.arange(90))))
    want = frechet_distance(*gaussian_statistics(fake), *gaussian_statistics(real))
    unit = real.square().mean().sqrt()                        # features of no size of their own
    kid = evaluate.kernel_distance(real / unit, fake / unit)
    assert got["distance"] == pytest.approx(want) and got["kid"] == pytest.approx(kid)
    assert got["precision"] == 1 and got["recall"] == pytest.approx(1 / 90)
    line = LINE.fullmatch(got["line"]).groupdict()
    assert (
        line["name"] == "toy Fréchet distance (not FID)"
        and line["second"] == "kernel distance (not KID)"
    )
    assert (line["distance"], line["kid"]) == (f"{want:.2f}", f"{kid:.4f}")
    assert (line["precision"], line["recall"]) == ("1.00", "0.01")
    assert (line["fakes"], line["reals"], line["size"], line["resize"]) == ("60", "90", "32", "")
    assert "classifier" in line["where"] and "Inception" not in line["where"]
    assert line["told"] == ", steps 50, seed 3" and "60" in line["few"] and "64" in line["few"]


def test_no_line_is_too_long_for_a_notebook(tmp_path):
    protocol = dict(DDIM_steps=500, eta=0.0, seed=0, label=None, guidance=1.0, weights="EMA")
    for features in ("toy", ("inception", evaluate.classifier_features())):
        got = evaluate.evaluate(
            to_uint8(ToyFaces(20).images()), Images("toyfaces:20", 32), features=features,
            cache=tmp_path, protocol=protocol,
        )
        assert max(map(len, got["line"].splitlines())) <= 94
        told = " ".join(got["line"].split())
        assert "DDIM_steps 500, eta 0.0, seed 0, label None, guidance 1.0, weights EMA" in told


class Inception(torch.nn.Module):
    """Stands in for torch-fidelity's network: the same call, three features of a kind."""

    def __init__(self, name, features):
        super().__init__()
        self.made = (name, features)
        last.append(self)

    def forward(self, x):
        assert x.dtype == torch.uint8 and not self.training
        return (first_numbers(x)[:, :, None, None], "something else")


last = []


@pytest.fixture
def inception(monkeypatch):
    module = types.ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.FeatureExtractorInceptionV3 = Inception
    monkeypatch.setitem(sys.modules, "torch_fidelity", types.ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def test_the_inception_network_is_the_published_one(inception, tmp_path):
    network, x = (
        evaluate.inception_features(),
        torch.randint(256, (5, 3, 16, 16), dtype=torch.uint8),
    )
    assert torch.equal(network(x), first_numbers(x)) and last[-1].made == (
        "inception-v3-compat",
        ["2048"],
    )
    images, samples = Folder(), torch.randint(256, (9, 3, 16, 16), dtype=torch.uint8)
    got = evaluate.evaluate(samples, images, cache=tmp_path)
    line = LINE.fullmatch(got["line"]).groupdict()
    assert (line["name"], line["second"], line["fakes"], line["reals"], line["size"]) == (
        "FID",
        "KID",
        "9",
        "140",
        "16",
    )
    assert (
        "bicubic" in line["resize"]
        and "Inception" in line["where"]
        and line["told"] is line["few"] is None
    )


def test_a_network_that_cannot_be_fetched_is_told(inception):
    def fail(*args):
        raise OSError("offline")

    inception.FeatureExtractorInceptionV3 = fail
    with pytest.raises(DataError, match="OSError"):
        evaluate.inception_features()


@pytest.mark.parametrize(
    ("fakes", "reals", "enough"), [(5, 5, True), (4, 50, False), (50, 4, False)]
)
def test_five_images_on_each_side_are_enough(fakes, reals, enough, tmp_path):
    samples = to_uint8(ToyFaces(fakes, seed=3).images())

    def run():
        return evaluate.evaluate(
            samples, Images("toyfaces:50", 32), features="toy", cache=tmp_path, limit=reals
        )

    if enough:
        assert "5 samples against 5 training images" in run()["line"]
    else:
        with pytest.raises(DataError):
            run()


def test_the_value_is_called_bias_up_to_as_many_samples_as_features(tmp_path):
    samples = to_uint8(ToyFaces(65, seed=3).images())
    for n, few in ((64, True), (65, False)):
        got = evaluate.evaluate(
            samples[:n], Images("toyfaces:20", 32), features="toy", cache=tmp_path
        )
        assert ("bias" in got["line"]) is few


def test_the_last_three_are_of_ten_thousand_images_chosen_by_seed_zero(monkeypatch, tmp_path):
    fake, real = torch.randn(10_500, 2), torch.randn(10_050, 2)
    seen = []
    monkeypatch.setattr(evaluate, "features_of", lambda *a: fake)
    monkeypatch.setattr(evaluate, "reference_features", lambda *a: real)
    monkeypatch.setattr(
        evaluate, "precision_recall", lambda a, b: seen.extend([a, b]) or (0.25, 0.75)
    )
    monkeypatch.setattr(
        evaluate, "kernel_distance", lambda a, b: float(a is seen[0] and b is seen[1])
    )
    inception = ("inception", lambda x: x)                    # whose features are not divided
    got = evaluate.evaluate(None, Folder(), features=inception, cache=tmp_path)
    for x, got_x in ((real, seen[0]), (fake, seen[1])):
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
        assert torch.equal(got_x, x[order[:10_000]])
    assert (got["precision"], got["recall"], got["kid"]) == (0.25, 0.75, 1)
    assert "precision 0.25, recall 0.75 (the last three of at most 10,000" in got["line"]
    assert "\n10500 samples against 10050" in got["line"]


def test_larger_pictures_are_averaged_down_for_the_classifier():
    x = to_uint8(ToyFaces(3, seed=3).images())
    large = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    network = evaluate.classifier_features()
    torch.testing.assert_close(network(large), network(x), rtol=1e-4, atol=1e-4)


def test_the_nearest_is_the_nearest_in_features():
    reference = torch.tensor([[0.0, 0, 0], [50, 0, 0], [100, 0, 0]])
    x = torch.zeros(4, 3, 16, 16, dtype=torch.uint8)
    x[:, 0, 0, 0] = torch.tensor([90, 30, 20, 60])
    assert evaluate.nearest(x, first_numbers, reference).tolist() == [2, 1, 0, 1]


def test_what_is_taken_unless_told():
    assert set(evaluate.FEATURES) == {"inception", "toy"}
    assert defaults(evaluate.features_of) == dict(batch_size=64) and defaults(
        evaluate.precision_recall
    ) == dict(k=3)
    assert defaults(evaluate.reference_features) == dict(network=None, limit=None)
    assert defaults(evaluate.evaluate) == dict(
        features="inception", cache="runs/cache", protocol=None, limit=None, device="cpu"
    )
