import importlib
import os
import signal
import sys
import threading
import time

import pytest

from minigen.stops import Asked, raise_pending, stoppable


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_are_raised_with_their_number_and_the_handlers_come_back(number):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    before, asked = signal.getsignal(number), []
    with pytest.raises(Asked) as stopped, stoppable(asked):
        os.kill(os.getpid(), number)
        signal.pause()
    assert stopped.value.number == number and asked == [number]
    assert isinstance(stopped.value, KeyboardInterrupt) and signal.getsignal(number) is before


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stoppable([]):
            os.kill(os.getpid(), signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread_nothing_is_changed():
    done = []

    def work():
        with stoppable([]):
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]


def test_what_was_raised_and_swallowed_is_raised_again():
    with pytest.raises(Asked), stoppable([]):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        except BaseException:  # as some imports do
            pass
        raise_pending()
    raise_pending()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="Windows has no timer")
def test_an_import_ends_before_the_signal_is_raised(tmp_path, monkeypatch):
    """Raised in the middle of torch's import it would abort the process."""
    lines = ["import os, signal, time", "os.kill(os.getpid(), signal.SIGTERM)", "time.sleep(0.2)"]
    (tmp_path / "slow_to_import.py").write_text("\n".join([*lines, "done = 1"]))
    monkeypatch.syspath_prepend(tmp_path)
    asked, alarm = [], signal.getsignal(signal.SIGALRM)
    with pytest.raises(Asked), stoppable(asked):
        importlib.import_module("slow_to_import")
        time.sleep(5)
    assert sys.modules["slow_to_import"].done == 1 and asked == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGALRM) is alarm
