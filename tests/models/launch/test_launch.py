"""Starting ranks: what msrun is asked for, and who is named when one fails; small programs instead of training."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from models.launch import __main__ as launch
from models.launch import ending, watching
from models.launch.alive import ended, hold, mark_of, process_of, runs, tell
from models.launch.job import Job
from models.launch.screen import Screen
from models.launch.signals import Signals
from tests.helpers import environment
from tests.helpers.launches import Launch, await_end


def job_of(*words):
    return launch.create_parser().parse_args([*words, "models.train", "--seed", "1"], Job())


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
    assert watching.find_msrun() == str(msrun)
    own = tmp_path / "bin" / "msrun"
    own.parent.mkdir()
    own.touch(0o755)
    assert watching.find_msrun() == str(own)


def test_workers_beside_a_rank_table_must_agree(table, monkeypatch):
    monkeypatch.setenv("SERVER_ID", "10.0.0.1")
    with pytest.raises(ValueError, match="--workers=8; must be 2, the devices of this machine"):
        launch.apply_rank_table(job_of("--workers", "8", "--rank-table", table))


def test_a_missing_rank_table_is_one_line(capsys, tmp_path):
    assert launch.main(["--rank-table", str(tmp_path / "no.json"), "models.train"]) == 1
    assert capsys.readouterr().err.startswith("error: [Errno 2] No such file")


def test_a_mark_tells_how_a_rank_ended(tmp_path):
    assert ended(tmp_path, 0) is None and not runs(tmp_path, 0)
    mark = hold(tmp_path, 0)
    assert ended(tmp_path, 0) is None and runs(tmp_path, 0) and process_of(tmp_path, 0) == os.getpid()
    tell(mark, "ended well")
    assert ended(tmp_path, 0) is None  # until it has ended
    tell(mark, "ended with status 3")
    assert ended(tmp_path, 0) == "ended with status 3"  # nothing changes that
    mark.close()
    assert ended(tmp_path, 0) == "ended with status 3" and not runs(tmp_path, 0)
    mark_of(tmp_path, 1).write_text("99\n\n")
    assert ended(tmp_path, 1) == ""
    assert ending.failures(tmp_path, range(3)) == {0: "ended with status 3", 1: ""}


@pytest.mark.parametrize("words, named, first", [
    ({0: "ended with status 1", 1: ""}, None, 1),  # the first missed the second, which somebody killed
    ({0: "", 1: "ended with status 1"}, 1, 1),  # msrun has killed the first
    ({0: "ended with status 1", 1: "ended with status 1"}, None, 1),  # whichever said so before
    ({0: "", 1: ""}, 1, 1)])
def test_the_failure_that_made_others_fail_is_first(words, named, first, tmp_path):
    for age, (rank, word) in enumerate(words.items()):
        mark_of(tmp_path, rank).write_text(f"{rank + 10}\n{word}\n")
        os.utime(mark_of(tmp_path, rank), (1000 - age, 1000 - age))
    if named is not None:
        (tmp_path / "msrun.log").write_text(f"[ERROR] ME: Worker process {named + 10} exit with exception. Error code: "
                                            "-9.\n")
    assert next(iter(ending.failures(tmp_path, range(2)))) == first


@pytest.mark.parametrize("log, word, status, line", [
    ("epoch 1\nerror: data.path=x; must be a folder\n[INFO] bye\n", "ended with status 1", 0,
     "error: data.path=x; must be a folder; said by rank 1, whose log is {0}"),
    ("Traceback\nRuntimeError: broken\n----\n- C++ Call Stack:\nfile.cc:37 Initialize\n", "ended with status 1", 0,
     "error: rank 1 ended with status 1; the other ranks were stopped; its last line is 'RuntimeError: broken'; its "
     "log is {0}; the same command goes on with the newest checkpoint"),
    ("interrupted at step 3; the same command goes on\n", "", 143,
     "error: rank 1 ended with status 143; the other ranks were stopped; its last line is 'interrupted at step 3; the "
     "same command goes on'; its log is {0}; the same command goes on with the newest checkpoint"),
    ("epoch 1\n", "", -11, "error: rank 1 was killed by SIGSEGV; the other ranks were stopped; its log is {0}; the "
     "same command goes on with the newest checkpoint"),
    ("", "", 0, "error: rank 1 was killed; the other ranks were stopped; its log is {0}; the same command goes on with "
     "the newest checkpoint")])
def test_what_is_said_of_a_rank(log, word, status, line, tmp_path):
    mark_of(tmp_path, 1).write_text(f"11\n{word}\n")
    path = tmp_path / "worker_1.log"
    path.write_text(log)
    if status:
        (tmp_path / "msrun.log").write_text(f"Worker process 11 exit with exception. Error code: {status}.\n")
    assert ending.line_of_rank(tmp_path, 1, word) == line.format(path)


def test_the_screen_shows_progress_at_once_and_no_remarks_of_mindspore(tmp_path, capfdbinary):
    path = tmp_path / "log"
    shown = []
    with Screen(path) as screen:
        for text in (b"", b"epoch 1\r", b"epoch 2", b"\n[IN", b"FO] DISTRIBUTED(1): bye\nend\n[IN", b"PUT]\n"):
            with open(path, "ab") as stream:
                stream.write(text)
            screen.follow()
            shown.append(capfdbinary.readouterr().out)
    assert shown == [b"", b"epoch 1\r", b"epoch 2", b"\n", b"end\n", b"[INPUT]\n"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_anything_is_started(number, capsys, monkeypatch):
    before = signal.getsignal(number)
    monkeypatch.setattr(launch, "check_settings", lambda job: os.kill(os.getpid(), number))
    assert launch.main(["--workers", "2", "models"]) == 128 + number
    assert capsys.readouterr() == (
        "", "interrupted before the first step; nothing was done, the same command starts again\n")
    assert signal.getsignal(number) == before


def test_signals_that_are_ignored_stay_so():
    """nohup, and & of a script."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signals.number is None and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_process_that_ends_with_the_launcher_leaves_signals_to_its_own_threads(tmp_path):
    """And is killed when the launcher lets go of its lock, though its parent lives."""
    program = ("import os, signal, time; from pathlib import Path; from models.launch.alive import end_with_launcher\n"
               "end_with_launcher(Path())\n"
               "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\n"
               "os.kill(os.getpid(), signal.SIGTERM)\n"
               "time.sleep(0.2)\n"
               "print(signal.sigpending(), flush=True)\n"
               "time.sleep(300)")
    with hold(tmp_path, "launcher") as mark:
        process = subprocess.Popen([sys.executable, "-c", program], env=environment(), stdout=subprocess.PIPE,
                                   text=True)
        assert process.stdout.readline() == f"{ {signal.SIGTERM} }\n"
        mark.close()
        assert process.wait(10) == -signal.SIGKILL


def test_the_screen_holds_back_what_the_launcher_says_at_the_end(tmp_path, capfdbinary):
    path = tmp_path / "log"
    path.write_bytes(b"error: one, which was not the end\nepoch 1\nerror: two\n[INFO] bye\n")
    with Screen(path) as screen:
        screen.follow()
        assert capfdbinary.readouterr().out == b"error: one, which was not the end\nepoch 1\n"
        screen.release()
    assert capfdbinary.readouterr().out == b"error: two\n"


def test_nobody_reads_the_screen_any_more(tmp_path):
    """Training goes on, unseen: ``... | head -1``."""
    (tmp_path / "log").write_bytes(b"epoch 1\n" * 9)
    program = ("from pathlib import Path; from models.launch.screen import Screen\n"
               "with Screen(Path('log')) as screen: screen.follow(); screen.release()\n"
               "Path('done').touch()")
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", program], env=environment(), stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr, (tmp_path / "done").exists()) == (0, b"", True)


JOIN = """print("begins", flush=True)
from mindspore.communication import init, get_rank
init()
print("rank", get_rank(), flush=True)
"""


@pytest.mark.slow
def test_the_first_rank_is_shown_and_success_is_status_0(tmp_path):
    launch = Launch(tmp_path, JOIN, GLOG_v="4")
    ids = launch.started()
    assert launch.end(100) == (0, "")
    assert launch.out == "begins\nrank 0\n" and await_end(ids) == []
