"""Ctrl-C and SIGTERM, told apart and answered alike: whatever is being done ends in good order."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

# the signals that came while `stoppable` was at work, for those who missed them
PENDING: list[int] = []


def raise_pending() -> None:
    """Raise `Asked` where a signal came and what it raised was swallowed, as some imports do."""
    if PENDING:
        raise Asked(PENDING[-1])


class Asked(KeyboardInterrupt):
    """Ctrl-C or SIGTERM, by its number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def _importing(frame: FrameType | None) -> bool:
    """Whether Python stands in an import there."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


@contextlib.contextmanager
def stoppable(asked: list[int]) -> Iterator[None]:
    """SIGTERM inside the block is raised like Ctrl-C, so that everything is left in good order.

    In the middle of an import it is raised when that has ended: torch's aborts the process.
    asked: a list to which the number of either signal is added.
    """
    PENDING.clear()

    def stop(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        PENDING.append(number)
        answer(number, frame)

    def answer(number: int, frame: FrameType | None) -> None:
        if _importing(frame) and hasattr(signal, "setitimer"):  # Windows has none
            signal.signal(signal.SIGALRM, lambda _, later: answer(number, later))
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            return
        raise Asked(number)

    both = (signal.SIGTERM, signal.SIGINT)
    wanted = [n for n in both if signal.getsignal(n) is not signal.SIG_IGN]
    try:
        before = {n: signal.signal(n, stop) for n in wanted}
        if hasattr(signal, "setitimer"):
            before[signal.SIGALRM] = signal.getsignal(signal.SIGALRM)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
        PENDING.clear()
