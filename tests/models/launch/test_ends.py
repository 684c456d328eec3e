"""How ranks end, over msrun: what is said, with which status, and that nothing runs afterwards.

What the ranks run here does not train and imports no MindSpore, so that a start takes msrun's own seconds alone.
"""
from __future__ import annotations

import os
import signal
import socket
import time

import pytest

from tests.helpers.launches import Launch, await_end

pytestmark = pytest.mark.slow

BEGINS = """import os, signal, sys, time
scheduler, rank = os.environ["MS_ROLE"] == "MS_SCHED", os.environ["RANK_ID"]
"""
STAYS = """print("hello from", rank, flush=True)
time.sleep(300)
"""
SLEEPS = BEGINS + STAYS
SAVES = BEGINS + """def save(number, frame):
    print("interrupted at step 7; the same command goes on", file=sys.stderr)
    sys.exit(128 + number)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, save)
""" + STAYS
IGNORES = BEGINS + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + STAYS
FAILS = SLEEPS.replace("time.sleep(300)", """if rank == "1" and not scheduler:
    raise ValueError("no such thing")
time.sleep(300)""")
FAILS_TO_LISTEN = SLEEPS.replace("time.sleep(300)", """if scheduler:
    raise RuntimeError("cannot listen")
time.sleep(300)""")


def test_an_exception_in_one_rank_is_said_with_its_line(tmp_path):
    launch = Launch(tmp_path, FAILS)
    ids = launch.started()
    assert launch.end(30) == (1, (
        "error: rank 1 ended with status 1; the other ranks were stopped; its last line is 'ValueError: no such "
        f"thing'; its log is {launch.logs}/worker_1.log; the same command goes on with the newest checkpoint\n"))
    assert launch.out == "hello from 0\n" and await_end(ids) == []


def test_a_killed_rank_ends_all(tmp_path):
    launch = Launch(tmp_path, SLEEPS)
    ids = launch.started()
    os.kill(ids["worker_1"], signal.SIGKILL)
    assert launch.end(30) == (1, (
        "error: rank 1 was killed by SIGKILL, as when memory runs out; the other ranks were stopped; its log is "
        f"{launch.logs}/worker_1.log; the same command goes on with the newest checkpoint\n"))
    assert await_end(ids) == []


@pytest.mark.parametrize("killed", ["launcher", "msrun"])
def test_all_end_with_the_launcher_and_with_msrun(killed, tmp_path):
    launch = Launch(tmp_path, SLEEPS)
    ids = launch.started()
    os.kill(launch.process.pid if killed == "launcher" else ids["msrun"], signal.SIGKILL)
    assert launch.end(30) == {"launcher": (-9, ""), "msrun": (1, (
        "error: msrun was killed by SIGKILL, as when memory runs out; the ranks were stopped; the same command goes on "
        "with the newest checkpoint\n"))}[killed]
    assert await_end(ids) == []


@pytest.mark.parametrize("number, program, line", [
    (signal.SIGINT, SAVES, "interrupted at step 7; the same command goes on\n"),
    (signal.SIGTERM, SLEEPS, "interrupted; the same command goes on\n"),
    (signal.SIGHUP, SAVES, "interrupted at step 7; the same command goes on\n")])
def test_a_signal_ends_all_with_one_line_and_its_status(number, program, line, tmp_path):
    """Sent to the process group, as a terminal does."""
    launch = Launch(tmp_path, program)
    ids = launch.started()
    os.killpg(launch.process.pid, number)
    assert launch.end(30) == (128 + number, line)
    assert launch.out == "hello from 0\n" and await_end(ids) == []


def test_a_second_signal_does_not_wait_for_the_first_rank(tmp_path):
    launch = Launch(tmp_path, IGNORES)
    ids = launch.started()
    for _ in range(2):
        launch.process.send_signal(signal.SIGTERM)
        time.sleep(0.7)
    assert launch.end(30) == (143, "interrupted; the same command goes on\n")
    assert await_end(ids) == []


@pytest.mark.parametrize("taken", [True, False])
def test_a_scheduler_that_fails_is_said(taken, tmp_path):
    """MindSpore's own fails where its port was taken after the launcher looked."""
    launch = Launch(tmp_path, FAILS_TO_LISTEN)
    with socket.socket() as other:
        if taken:
            other.bind(("127.0.0.1", int(launch.master.rpartition(":")[2])))
            other.listen()
        ids = launch.started()
        status, err = launch.end(30)
    assert (status, err) == (1, (
        f"error: --master={launch.master}; must be a free port, another program listens on "
        f"{launch.master.rpartition(':')[2]}; choose another port or end that program\n" if taken else
        f"error: the scheduler on {launch.master} ended with status 1; the ranks were stopped; its last line is "
        f"'RuntimeError: cannot listen'; its log is {launch.logs}/scheduler.log; the same command goes on with the "
        "newest checkpoint\n"))
    assert await_end(ids) == []
