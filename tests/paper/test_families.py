"""Every family within its seconds, and what a clock counts."""

import time

import pace
import pytest
import torch

from minigen import metrics
from minigen.data import ToyFaces
from minigen.errors import DataError
from minigen.paper import families


def burn(seconds):
    """Keep the processor busy for so long."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


@pytest.fixture
def quick(monkeypatch):
    """Trials of two steps, few components."""
    monkeypatch.setattr(families, "TRIAL", 3)
    monkeypatch.setattr(families, "COMPONENTS", 4)


def test_a_clock_counts_the_processor_and_can_be_stopped():
    clock = families.Clock(10.0)
    time.sleep(0.3)
    assert 9.95 < clock.left <= 10
    burn(0.2)
    with clock.stopped():
        burn(0.4)
    assert 9.7 < clock.left < 9.81


@pytest.mark.parametrize("seconds, batch, steps", [(0.6, 8, 30), (0.2, 4, 20), (0.1, 2, 20)])
def test_the_steps_fit_and_few_ones_get_smaller_batches(seconds, batch, steps, monkeypatch):
    """A step takes 2.5 ms an image; 15 steps are few."""
    monkeypatch.setattr(families, "TRIAL", 6)
    monkeypatch.setattr(families, "FEW", 15)
    begun = []

    def begin(count, size):
        def training():
            burn(0.05)                            # what the first step alone takes
            for _ in range(count):
                burn(0.0025 * size)
                yield None

        begun.append((count, size))
        return f"model {len(begun)}", training()

    clock = families.Clock(seconds + 1)
    model = clock.train("part", begin, 8, seconds)
    planned, size = clock.steps["part"]
    assert size == batch and abs(planned - steps) <= 0.15 * steps
    assert model == f"model {len(begun)}" and begun[-1] == (planned, batch)
    assert [b for b in begun[:-1]] == [(6, 8 // 2**k) for k in range(len(begun) - 1)]
    assert abs(clock.left - (1 - 0.05)) < 0.2 * seconds      # the trials took none of it


def test_too_few_seconds_are_refused():
    def begin(count, size):
        return None, (burn(0.02) for _ in range(count))

    with pytest.raises(DataError, match=r"0\.01 minutes are too few for X: a step takes 0\.02 s, "
                                        r"and there are 0\.03 s for all\."):
        families.Clock(0.6).train("X", begin, 4, 0.03)


def test_the_average_reaches_back_over_the_same_share_of_every_length():
    assert families.decay_of("gan", 20_000) == pytest.approx(0.998)
    assert families.decay_of("unet", 22_000) == pytest.approx(0.9995)
    assert families.decay_of("fftd", 8000) == pytest.approx(0.999)
    assert families.decay_of("fftd", 80) == pytest.approx(0.9) and families.decay_of("gan", 20) == 0


def test_as_much_is_encoded_as_its_share_allows(monkeypatch):
    images = torch.arange(5000.0)

    def encode(part):
        burn(0.05)
        return 2 * part

    whole = families._encoded(families.Clock(100.0), encode, images)
    assert torch.equal(whole, 2 * images)
    clock = families.Clock(1.2)                   # a tenth of it suffices for two parts, and a bit
    assert torch.equal(families._encoded(clock, encode, images), 2 * images[:3000])


# the parts of each family, and seconds that hold a few steps of each
PARTS = {
    "GAN": (["GAN"], 2),
    "VAE": (["VAE"], 2),
    "VAE + mixture of Gaussians": (["VAE"], 2.5),
    "VQ-VAE + PixelCNN": (["VQ-VAE", "PixelCNN"], 3),
    "IVQ-VAE + FFTD": (["IVQ-VAE", "FFTD"], 6),
    "U-Net on pixels": (["U-Net"], 3),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_family_keeps_to_its_seconds_and_draws(name, quick, monkeypatch):
    monkeypatch.setattr(families, "SOLVER_STEPS", 2)
    asked, took, train = [], [], families.Clock.train

    def timed(clock, part, begin, batch, seconds):
        left = clock.left
        model = train(clock, part, begin, batch, seconds)
        asked.append(seconds)
        took.append(left - clock.left)
        return model

    monkeypatch.setattr(families.Clock, "train", timed)
    images, (parts, seconds) = ToyFaces(1000, seed=0).images(), PARTS[name]
    slow = min(4, pace.slowness())               # beside others a step's own time grows too
    seconds *= slow
    clock = families.Clock(seconds)
    sample = families.FAMILIES[name](images, clock, 3)
    assert abs(clock.left) < 0.4 * seconds and list(clock.steps) == parts
    assert all(steps >= 2 for steps, _ in clock.steps.values())
    for planned, used in zip(asked, took, strict=True):      # of each part
        assert abs(planned - used) < 0.4 * planned + 0.2 * slow
    if len(parts) == 2:
        share = {"VQ-VAE": 1 / 2, "IVQ-VAE": 2 / 3}[parts[0]]
        assert asked[0] == pytest.approx(share * seconds)
        assert 0 < seconds - sum(took) - clock.left < 0.1 * seconds + slow   # encoding
    drawn = sample(130)
    assert drawn.shape == (130, 3, 32, 32) and float(drawn.abs().max()) < 4
    assert torch.equal(sample(130), drawn) and not drawn.requires_grad
    assert metrics.toy_frechet(drawn) > 20


def test_the_gaussian_is_chapter_0s_and_fits_whatever_the_seconds():
    images = ToyFaces(300, seed=0).images()
    clock = families.Clock(0.001)
    drawn = families.FAMILIES["Gaussian"](images, clock, 5)(40)
    assert torch.equal(drawn, families.GaussianModel(images).sample(40, seed=5))
    assert clock.steps == {} and clock.left < 0
    assert set(families.FAMILIES) == {"Gaussian", *PARTS}
