"""How slow this computer is just now, so that a limit of time allows the same work everywhere.

    python tools/pace.py          # says how many times as long a fixed piece of work takes

A test that waits for something multiplies its limit by `slowness()`: on an older machine, or one
whose cores are busy, nothing fails for time alone.
"""

import statistics
import time

import numpy as np

# seconds of `work` on the two-core machine where the limits were chosen, with nothing beside it
REFERENCE = 0.025


def work() -> float:
    """A fixed piece of work, a loop of Python and products of matrices; returns its seconds."""
    start, total = time.perf_counter(), 0
    for k in range(300_000):
        total += k * k % 7
    a: np.ndarray = np.full((256, 256), 0.5, dtype=np.float32)
    for _ in range(20):
        a = a @ a / 128  # stays 0.5
    return time.perf_counter() - start


def slowness(times: int = 7) -> float:
    """How many times as long as on the reference machine the work takes now; at least 1.

    It is by the clock, and so counts what else the cores do; the median of so many times.
    """
    return max(1.0, statistics.median(work() for _ in range(times)) / REFERENCE)


if __name__ == "__main__":
    print(f"{slowness():.2f} times as slow as the reference (1 where it is as fast or faster)")
