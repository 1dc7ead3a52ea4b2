"""A limit of time grows with the computer's slowness and never shrinks."""

import pace
import pytest


def test_slowness_is_the_median_against_the_reference(monkeypatch):
    took = iter([9.0, 3.0, 1.0])
    monkeypatch.setattr(pace, "work", lambda: pace.REFERENCE * next(took))
    assert pace.slowness(times=3) == pytest.approx(3)


def test_a_fast_computer_gets_the_limits_as_they_are(monkeypatch):
    monkeypatch.setattr(pace, "work", lambda: pace.REFERENCE / 2)
    assert pace.slowness() == 1


def test_the_work_takes_its_time():
    assert pace.work() > pace.REFERENCE / 20


def test_cells_of_notebooks_get_it_and_other_runs_are_not_kept_waiting(monkeypatch, request):
    class Options:
        nbval, nbval_cell_timeout, nbval_kernel_startup_timeout = True, 300.0, 60.0

    class Config:
        option = Options()

    (plugin,) = [p for name, p in request.config.pluginmanager.list_name_plugin()
                 if name == str(request.config.rootpath / "conftest.py")]
    monkeypatch.setattr(pace, "slowness", lambda: 4.0)
    plugin.pytest_configure(Config)
    assert (Options.nbval_cell_timeout, Config.option.nbval_cell_timeout) == (300, 1200)
    assert Config.option.nbval_kernel_startup_timeout == 240
    Config.option = Options()
    Config.option.nbval = False
    plugin.pytest_configure(Config)
    assert Config.option.nbval_cell_timeout == 300
