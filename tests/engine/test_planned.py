import dataclasses

from minigen.engine import planned
from minigen.engine.plan import plan


def test_what_does_not_fit_is_told_with_the_way_out():
    small = plan("small")
    larger = dataclasses.replace(small, activations=(1e9, 1e6))          # 32 images of 1 GB
    assert planned._fit(larger, 80) == "fits"
    assert planned._fit(larger, 20) == "--accumulate 2"                  # 16 images in 18 GB
    assert planned._fit(larger, 10) == "--accumulate 4"
    assert planned._fit(larger, 1) == "too small"
    assert planned._fit(dataclasses.replace(small, activations=(1, 1e9)), 40) == "too small"


def test_hours_of_any_size():
    assert [planned._time(h) for h in (0.001, 0.25, 3.14, 681.4)] == ["< 0.01", "0.25", "3.1",
                                                                      "681"]
