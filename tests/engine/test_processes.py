import pytest
import torch

from minigen.engine import processes
from minigen.errors import DataError


def test_alone():
    assert processes.world() == 1 and processes.rank() == 0
    assert processes.mine(torch.arange(4)).tolist() == [0, 1, 2, 3]
    assert processes.from_first(lambda: 5) == 5
    processes.wait_for_all()
    with processes.processes(torch.device("cpu")):
        pass


def test_shares_are_every_nth_row(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    shares = []
    for k in range(3):
        monkeypatch.setenv("RANK", str(k))
        shares.append(processes.mine(torch.arange(7)).tolist())
    assert shares == [[0, 3, 6], [1, 4], [2, 5]]


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (dict(RANK="1"), "RANK=1 .* none of 1 processes"),
        (dict(WORLD_SIZE="0"), "WORLD_SIZE .* is 0"),
        (dict(WORLD_SIZE="x"), "WORLD_SIZE .* not a whole number"),
        (dict(RANK="1.5"), "RANK .* not a whole number"),
        (dict(WORLD_SIZE="2", RANK="2"), "RANK=2 .* none of 2"),
        (dict(WORLD_SIZE="2", RANK="-1"), "RANK=-1"),
    ],
)
def test_an_environment_that_torchrun_did_not_set(monkeypatch, env, words):
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DataError, match=words):
        processes.rank()


def test_several_without_torchrun(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with (
        pytest.raises(DataError, match="MASTER_ADDR is not set: start with torchrun"),
        processes.processes(torch.device("cpu")),
    ):
        pass


@pytest.mark.parametrize("name", ["cuda:99", "abc", "meta", "cpu:5", "xpu", "1.5", "cuda:-2"])
def test_a_device_that_is_not_there(name):
    with pytest.raises(DataError, match=f"device '{name}'.*cpu"):
        processes.pick_device(name)


def test_cuda_without_a_driver(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert processes.pick_device("").type == "cpu"
    with pytest.raises(DataError, match="no device 'cuda'; it has cpu"):
        processes.pick_device("cuda")


@pytest.mark.parametrize(("device", "backend"), [("cpu", "gloo"), ("cuda", "nccl")])
def test_gpus_speak_nccl_and_processors_gloo_and_all_leave_together(monkeypatch, device, backend):
    done = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setattr(processes.dist, "init_process_group", done.append)
    monkeypatch.setattr(processes.dist, "barrier", lambda: done.append("wait"))
    monkeypatch.setattr(processes.dist, "destroy_process_group", lambda: done.append("leave"))
    with processes.processes(torch.device(device)):
        done.append("work")
    assert done == [backend, "work", "wait", "leave"]
    done.clear()
    with pytest.raises(ZeroDivisionError), processes.processes(torch.device(device)):
        raise ZeroDivisionError
    assert done == [backend, "leave"]


def test_each_process_of_torchrun_takes_its_own_gpu(monkeypatch):
    taken = []
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    assert str(processes.pick_device()) == "cuda:1" and [str(d) for d in taken] == ["cuda:1"]
    assert str(processes.pick_device("cuda:0")) == "cuda:0" and len(taken) == 1
