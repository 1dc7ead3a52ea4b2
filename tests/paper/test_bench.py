import pytest
import torch

from minigen import fftd, ivqvae
from minigen.paper import bench
from tests.conftest import peer


def test_actions_take_turns_and_the_median_counts():
    seen = []
    times = bench.seconds_of({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, 0.01)
    assert set(times) == {"a", "b"} and seen[:16] == ["a", "b"] * 8    # one to warm up, seven turns
    assert all(t >= 0 for t in times.values())


def test_the_peers_have_the_same_width_depth_and_tokens():
    peer("diffusers")
    config = fftd.PRESETS["small"]
    theirs = bench.diffusers_dit(config, "cpu")
    assert theirs(torch.randn(3, 4, 4, 4), torch.tensor([5])).shape == (3, 4, 4, 4)
    vq = bench.diffusers_vq(ivqvae.PRESETS["small"], "cpu")
    assert vq(torch.randn(1, 3, 32, 32)).sample.shape == (1, 3, 32, 32)


def test_the_quantizers_take_a_training_step():
    peer("vector_quantize_pytorch")
    actions = bench.quantizers(16, "cpu", vectors=128)
    assert list(actions) == ["ours", "vector-quantize-pytorch"]
    for act in actions.values():
        act()


def test_both_ways_to_a_distance_find_the_same():
    peer("scipy.linalg")
    torch.manual_seed(0)
    ours, theirs = (act() for act in bench.distances(24).values())
    assert ours == pytest.approx(theirs, rel=1e-6) and ours > 0.01


@pytest.mark.slow
def test_the_report_names_every_measurement():
    report = bench.bench("small", 0.1, "cpu")
    for words in ("batch 1 (the paper's)", "(best)", "500 DDIM steps", "stage 1", "of the roof",
                  "peak memory", "images/s",
                  "quantizer, 512 codes × 4", "Fréchet distance, 256 dimensions"):
        assert words in report
