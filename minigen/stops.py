"""Ctrl-C and SIGTERM, told apart and answered alike: whatever is being done ends in good order."""

import contextlib
import signal

PENDING = []  # the signals that came while `stoppable` was at work, for those who missed them


def check():
    """Raise `Asked` where a signal came and what it raised was swallowed, as some imports do."""
    if PENDING:
        raise Asked(PENDING[-1])


class Asked(KeyboardInterrupt):
    """Ctrl-C or SIGTERM, by its number."""

    def __init__(self, number):
        super().__init__()
        self.number = number


@contextlib.contextmanager
def stoppable(asked):
    """SIGTERM inside the block is raised like Ctrl-C, so that everything is left in good order; `asked` is told of both."""
    PENDING.clear()

    def stop(number, _):
        asked.append(number)
        PENDING.append(number)
        raise Asked(number)

    wanted = [n for n in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(n) is not signal.SIG_IGN]
    try:
        before = {n: signal.signal(n, stop) for n in wanted}
    except ValueError:                                    # not the main thread
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        PENDING.clear()
