"""Starting ranks: what msrun is asked for, and who is named when one fails; small programs instead of training."""
from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from models.launch import __main__ as launch
from models.launch.alive import ended, hold, mark_of, tell
from tests.helpers import ROOT, environment


def job_of(*words):
    return launch.create_parser().parse_args([*words, "models.train", "--seed", "1"], launch.Job())


def test_the_ranks_of_a_machine():
    job = job_of("--workers", "4", "--nodes", "3", "--node-rank", "2", "--master", "10.0.0.1:99")
    assert list(job.ranks) == [8, 9, 10, 11] and (job.module, job.arguments) == ("models.train", ["--seed", "1"])


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "restored afterwards")
    monkeypatch.delenv("ASCEND_RT_VISIBLE_DEVICES")
    path = tmp_path / "ranks.json"
    path.write_text(json.dumps({"server_list": [
        {"server_id": address, "device": [{"device_id": str(device), "rank_id": str(first + i)}
                                          for i, device in enumerate((2, 3))]}
        for address, first in (("10.0.0.1", 0), ("10.0.0.2", 2))]}))
    return str(path)


def test_a_rank_table_says_it_all(table, monkeypatch):
    monkeypatch.setenv("SERVER_ID", "10.0.0.2")
    monkeypatch.setenv("MASTER_PORT", "9000")
    job = job_of("--rank-table", table)
    launch.apply_rank_table(job)
    assert (job.workers, job.nodes, job.node_rank, job.master) == (2, 2, 1, "10.0.0.1:9000")
    assert os.environ["ASCEND_RT_VISIBLE_DEVICES"] == "2,3"


@pytest.mark.parametrize("devices, present, visible", [
    ((4, 5), None, "4,5"), ((5, 4), None, "4,5"), ((4, 5), "4,5", "4,5")])
def test_devices_of_the_table_are_those_ranks_count(devices, present, visible, monkeypatch):
    """CANN reads ascending ids alone; msrun numbers the devices it shows from 0."""
    monkeypatch.setenv(launch.VISIBLE, "restored afterwards")
    monkeypatch.delenv(launch.VISIBLE)
    if present:
        monkeypatch.setenv(launch.VISIBLE, present)
    launch.choose_devices(devices, "ranks.json")
    assert os.environ[launch.VISIBLE] == visible


def test_other_visible_devices_than_those_of_the_table_are_refused(monkeypatch):
    monkeypatch.setenv(launch.VISIBLE, "0,1")
    with pytest.raises(ValueError, match="^ASCEND_RT_VISIBLE_DEVICES=0,1; must be 4,5, the devices of this machine in "
                                         "ranks.json; leave it unset$"):
        launch.choose_devices((4, 5), "ranks.json")


def test_msrun_is_found_on_path_where_mindspore_is_not_in_the_environment(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    msrun = tmp_path / "system" / "msrun"
    msrun.parent.mkdir()
    msrun.touch(0o755)
    monkeypatch.setenv("PATH", str(msrun.parent))
    assert launch.find_msrun() == str(msrun)
    own = tmp_path / "bin" / "msrun"
    own.parent.mkdir()
    own.touch(0o755)
    assert launch.find_msrun() == str(own)


def test_workers_beside_a_rank_table_must_agree(table, monkeypatch):
    monkeypatch.setenv("SERVER_ID", "10.0.0.1")
    with pytest.raises(ValueError, match="--workers=8; must be 2, the devices of this machine"):
        launch.apply_rank_table(job_of("--workers", "8", "--rank-table", table))


def test_a_missing_rank_table_is_one_line(capsys, tmp_path):
    assert launch.main(["--rank-table", str(tmp_path / "no.json"), "models.train"]) == 1
    assert capsys.readouterr().err.startswith("error: [Errno 2] No such file")


@pytest.mark.parametrize("words, message", [
    (["--workers", "0"], "--workers=0; must be an int >= 1"),
    (["--workers", "2", "--nodes", "2", "--node-rank", "2"], "--node-rank=2; must be below --nodes=2"),
    (["--workers", "2", "--master", "here"], "--master=here; must be ADDRESS:PORT")])
def test_options_that_cannot_be_used_are_one_line(words, message, capsys):
    assert launch.main([*words, "models.train"]) == 1
    assert capsys.readouterr().err == f"error: {message}\n"


def test_a_mark_tells_how_a_rank_ended(tmp_path):
    assert ended(tmp_path, 0) is None
    mark = hold(tmp_path, 0)
    assert ended(tmp_path, 0) is None
    tell(mark, "ended with status 3")
    mark.close()
    assert ended(tmp_path, 0) == "ended with status 3"
    mark_of(tmp_path, 1).write_text("started\n")
    assert ended(tmp_path, 1) == ""
    assert launch.failures(tmp_path, range(3)) == {0: "ended with status 3", 1: ""}


def test_the_screen_shows_progress_at_once_and_no_remarks_of_mindspore(tmp_path, capfdbinary):
    path = tmp_path / "log"
    shown = []
    with launch.Screen(path) as screen:
        for text in (b"", b"epoch 1\r", b"epoch 2", b"\n[IN", b"FO] DISTRIBUTED(1): bye\nend\n[IN", b"PUT]\n"):
            with open(path, "ab") as stream:
                stream.write(text)
            screen.follow()
            shown.append(capfdbinary.readouterr().out)
    assert shown == [b"", b"epoch 1\r", b"epoch 2", b"\n", b"end\n", b"[INPUT]\n"]


def start(tmp_path, program, workers=2):
    """``python -m models.launch`` of a module that holds ``program``."""
    (tmp_path / "small_program.py").write_text(program)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "models.launch", "--workers", str(workers), "--master", f"127.0.0.1:{port}",
               "small_program"]
    return subprocess.Popen(command, cwd=tmp_path, env=environment(PYTHONPATH=f"{ROOT}:{tmp_path}"), text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


JOIN = """import os, sys, time
from mindspore.communication import init, get_rank
import mindspore as ms
ms.set_device("CPU")
init()
print("rank", get_rank(), flush=True)
open(f"pid_{get_rank()}", "w").write(str(os.getpid()))
"""


@pytest.mark.slow
def test_the_first_rank_is_shown_and_success_is_status_0(tmp_path):
    process = start(tmp_path, JOIN)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert out.splitlines()[0].startswith("logs of the ranks: ") and "rank 0" in out and "rank 1" not in out


@pytest.mark.slow
def test_a_rank_that_fails_is_named(tmp_path):
    process = start(tmp_path, JOIN + "if get_rank() == 1: sys.exit(3)\ntime.sleep(300)\n")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1 and err.startswith("error: rank 1 ended with status 3; the other ranks were stopped")


@pytest.mark.slow
def test_a_killed_rank_ends_all_and_is_named(tmp_path):
    """The issue's bound is 60 seconds; the other rank would sleep for 300."""
    process = start(tmp_path, JOIN + "time.sleep(300)\n")
    pids = [tmp_path / f"pid_{rank}" for rank in range(2)]
    while not all(path.exists() and path.read_text() for path in pids):
        assert process.poll() is None
        time.sleep(0.1)
    first, second = (int(path.read_text()) for path in pids)
    os.kill(second, signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and err.startswith("error: rank 1 was killed; the other ranks were stopped")
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
