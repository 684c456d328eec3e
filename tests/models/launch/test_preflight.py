"""What the launcher refuses before it starts a process: one line, a status that is not 0, nothing written."""
from __future__ import annotations

import os
import socket
import sys

import pytest

from models import train
from models.launch import __main__ as launch
from models.launch import preflight
from tests.helpers import DIGITS

TRAIN = ["models.train", "--config", str(DIGITS)]


def refused(capsys, *words, status=1):
    assert launch.main(list(words)) == status
    shown = capsys.readouterr()
    assert shown.out == "" and os.listdir() == []
    return shown.err


@pytest.mark.parametrize("words", [
    ["--parallel.curvature", "bogus"], ["--optimizer.dampin", "1"], ["--train.epochs", "[1"],
    ["--parallel.device_num", "4", "--seed", "x" * 1000]])
def test_a_wrong_setting_is_said_as_with_one_process(words, capsys):
    assert train.main([*TRAIN[1:], *words]) == 1
    alone = capsys.readouterr()
    assert alone.err.startswith("error: ") and alone.err.count("\n") == 1
    assert refused(capsys, "--workers", "2", *TRAIN, *words) == alone.err


def test_a_command_line_of_no_form_has_the_status_it_has_with_one_process(capsys):
    shown = []
    for entry, words in ((train.main, []), (launch.main, ["--workers", "2", "models.train"])):
        with pytest.raises(SystemExit) as raised:
            entry(words)
        assert raised.value.code == 2
        shown.append(capsys.readouterr())
    assert shown[0] == shown[1]


def test_a_module_that_is_not_there(capsys):
    assert refused(capsys, "--workers", "2", "models.trian") == (
        "error: MODULE=models.trian; must be a module that Python finds, such as models.train; check its name and "
        "PYTHONPATH\n")


@pytest.mark.parametrize("words, message", [
    (["--workers", "0"], "--workers=0; must be an int from 1 to 4096"),
    (["--workers", "-3"], "--workers=-3; must be an int from 1 to 4096"),
    (["--workers", "9" * 5000], f"--workers={'9' * 200}... (5000 characters); must be an int from 1 to 4096"),
    (["--workers", "٣"], "--workers=٣; must be an int from 1 to 4096"),
    (["--workers", "2", "--nodes", "1000000000000"], "--nodes=1000000000000; must be an int from 1 to 65536"),
    (["--workers", "2", "--node-rank", "-1"], "--node-rank=-1; must be an int from 0 to 65535"),
    (["--workers", "2", "--nodes", "2", "--node-rank", "2"], "--node-rank=2; must be below --nodes=2"),
    *[(["--workers", "2", "--master", value], f"--master={value}; must be ADDRESS:PORT with a port from 1 to 65535; "
       "give the first machine's name or IPv4 address and a free port of it")
      for value in ("here", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:port", ":8118", "a b:8118",
                    "127.0.0.1:-1")],
    (["--workers", "2", "--nodes", "2"], "--master=127.0.0.1:8118; must be an address that all 2 machines reach; give "
     "the first machine's address in their network"),
    (["--workers", "2", "--master", "no.machine.invalid:8118"], "--master=no.machine.invalid:8118; must name a "
     "machine, no.machine.invalid has no IPv4 address; give the first machine's address"),
    (["--workers", "2", "--master", "192.0.2.1:8118"], "--master=192.0.2.1:8118; must be an address of this machine, "
     "which is the first; give one of its own, or its number among the machines with --node-rank"),
])
def test_options_that_cannot_be_used_are_one_line(words, message, capsys):
    assert refused(capsys, *words, "models") == f"error: {message}\n"


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost"])
def test_a_port_in_use(address, capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert refused(capsys, "--workers", "2", "--master", f"{address}:{port}", *TRAIN) == (
            f"error: --master=127.0.0.1:{port}; must be a free port, another program listens on {port}; choose another "
            "port or end that program\n")


def test_a_machine_that_is_not_the_first_is_not_the_masters(monkeypatch):
    monkeypatch.setattr(preflight, "LOOPBACK", "no address starts with this")
    job = launch.read_job(["--workers", "2", "--nodes", "2", "--node-rank", "1", "models"])
    with pytest.raises(preflight.Unusable, match="^--node-rank=1; must be 0 on the machine whose address is 127.0.0.1, "
                                                 "the first; number the machines from it on$"):
        preflight.check_master(job)


@pytest.mark.parametrize("port", ["0", "65536", "port", "-1", "9" * 5000])
def test_the_port_of_a_rank_table(port, capsys, tmp_path_factory, monkeypatch):
    table = tmp_path_factory.mktemp("table") / "ranks.json"
    table.write_text('{"server_list": [{"server_id": "a", "device": [{"device_id": "0", "rank_id": "0"}]}]}')
    monkeypatch.setenv("MASTER_PORT", port)
    shown = port if len(port) < 200 else f"{port[:200]}... (5000 characters)"
    assert refused(capsys, "--rank-table", str(table), *TRAIN) == (
        f"error: MASTER_PORT={shown}; must be a port from 1 to 65535; choose a free one\n")


@pytest.mark.parametrize("cores, most", [(1, 16), (4, 16), (32, 128)])
def test_more_workers_than_the_cores_bear(cores, most, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)))
    preflight.check_workers(most, "CPU")
    with pytest.raises(preflight.Unusable, match=f"^--workers={most + 1}; must be at most {most} where {cores} cores "
                                                 r"are free; start fewer, or use more machines \(--nodes\)$"):
        preflight.check_workers(most + 1, "CPU")


@pytest.mark.parametrize("target, visible, devices", [
    ("GPU", "0,2", 2), ("GPU", "GPU-8932f937,GPU-1", 2), ("Ascend", "4", 1), ("GPU", "-1", 0), ("GPU", "", 0),
    ("CPU", None, 0)])
def test_devices_are_those_that_are_visible(target, visible, devices, monkeypatch):
    if visible is not None:
        monkeypatch.setenv(preflight.DEVICES[target][0], visible)
    assert preflight.count_devices(target) == devices


def test_devices_are_those_the_system_has(tmp_path, monkeypatch):
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setitem(preflight.DEVICES, "GPU", ("CUDA_VISIBLE_DEVICES", f"{tmp_path}/nvidia[0-9]*"))
    assert preflight.count_devices("GPU") == 2


def test_more_workers_than_devices(capsys, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert refused(capsys, "--workers", "2", *TRAIN, "--device.target", "GPU") == (
        "error: --workers=2; must be at most 1, the devices of device.target=GPU that this machine shows; start fewer, "
        "or use more machines (--nodes)\n")


def test_logs_that_cannot_be_written(capsys, tmp_path):
    (tmp_path / "runs").write_text("")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    assert launch.main(["--workers", "2", "--master", f"127.0.0.1:{port}", *TRAIN]) == 1
    assert capsys.readouterr().err.startswith("error: [Errno 20] Not a directory: ")


def test_msrun_that_is_not_there(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    assert launch.main(["--workers", "2", "--master", f"127.0.0.1:{port}", *TRAIN]) == 1
    assert capsys.readouterr().err == f"error: [Errno 2] No such file or directory: '{tmp_path}/bin/msrun'\n"
