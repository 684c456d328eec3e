"""msrun and what it starts, from the start to the last process's end."""
from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from models.launch import ending
from models.launch.alive import FOLDER, LAUNCHER, WELL, die_with_parent, ended, hold, process_of, send
from models.launch.job import Job
from models.launch.screen import Screen
from models.launch.signals import Signals

WORKER = Path(__file__).with_name("worker.py")
HEARTBEAT = 30  # seconds after which machines notice that another one is gone
POLL = 0.2  # seconds between looks
SETTLE = 3.0  # seconds in which what belongs to one failure is seen
PATIENCE = 25.0  # seconds the first rank has to save what it has done; it ends by itself before


def start(job: Job, logs: Path) -> subprocess.Popen:
    """msrun, in a process group of its own; it ends when this process does."""
    address, _, port = job.master.rpartition(":")
    command = [find_msrun(), f"--worker_num={job.total}", f"--local_worker_num={job.workers}",
               f"--node_rank={job.node_rank}", f"--master_addr={address}", f"--master_port={port}",
               f"--log_dir={logs}", "--join=True", f"--tail_worker_log={job.total}",  # a rank there is not: no tail
               str(WORKER), job.module, *job.module_words]
    environment = {**os.environ, FOLDER: str(logs), "MS_NODE_TIMEOUT": str(HEARTBEAT),
                   "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"}
    with open(logs / "msrun.log", "wb") as output:
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment,
                                start_new_session=True, preexec_fn=die_with_parent)


def find_msrun() -> str:
    """msrun beside this Python, or on PATH where this environment sees MindSpore outside it."""
    beside = Path(sys.executable).parent / "msrun"
    return str(beside) if beside.exists() else shutil.which("msrun") or str(beside)


def watch(job: Job, logs: Path, signals: Signals) -> int:
    """Start all, show the first rank's output until they have ended; 0 if they ended well, else a line and a status.

    Raises:
        OSError: msrun cannot be started.
    """
    signals.started = True
    with Screen(logs / f"worker_{job.ranks[0]}.log") as screen, hold(logs, LAUNCHER) as mark:
        msrun = start(job, logs)
        try:
            line = follow(msrun, job, logs, signals, screen)
        finally:
            stop(msrun, job, logs, mark)
            if not signals.number:  # what a rank may say of a signal is in its log
                screen.follow()
        if line is None:
            screen.release()
            return 0
        ending.say(line or ending.line_of_scheduler(job, logs))
        return signals.status if signals.number else 1


def follow(msrun: subprocess.Popen, job: Job, logs: Path, signals: Signals, screen: Screen) -> str | None:
    """Wait for the end of all ranks, or a failure; its line, "" if it is the scheduler's, None if all is well."""
    until = None
    while True:
        screen.follow()
        if signals.number and let_save(job, logs, signals):
            return ending.line_of_interruption(screen.path)
        status, failed = msrun.poll(), ending.failures(logs, job.ranks)
        if failed and status is None:
            rank, word = next(iter(failed.items()))
            status = None if word else await_msrun(msrun, logs, rank)
        if status and (status < 0 or not failed):
            return ending.line_of_msrun(logs, status)
        if failed:
            return ending.line_of_rank(logs, *next(iter(failed.items())))
        if status == 0 or job.nodes == 1 and all(ended(logs, rank) == WELL for rank in job.ranks):
            return None  # the scheduler looks only every five seconds whether it is alone
        if ending.scheduler_failed(logs):  # ranks that fail for the same reason say it better
            until = until or time.monotonic() + SETTLE
            if time.monotonic() > until:
                return ""
        time.sleep(POLL)


def await_msrun(msrun: subprocess.Popen, logs: Path, rank: int) -> int | None:
    """Give msrun time to say how a rank was killed, or to have been killed itself; its status, None while it runs."""
    until = time.monotonic() + SETTLE
    while msrun.poll() is None and process_of(logs, rank) not in ending.statuses(logs) and time.monotonic() < until:
        time.sleep(POLL)
    return msrun.returncode


def let_save(job: Job, logs: Path, signals: Signals) -> bool:
    """Ask the first rank of all, if it runs here, to end with its last step saved; False if it ended well instead."""
    asked = 0 in job.ranks and send(logs, 0, signals.number)
    until = time.monotonic() + PATIENCE
    while asked and not signals.again and ended(logs, 0) is None and time.monotonic() < until:
        time.sleep(POLL)
    if asked and ended(logs, 0) == WELL:
        signals.forget()
        return False
    return True


def stop(msrun: subprocess.Popen, job: Job, logs: Path, mark: IO[str]) -> None:
    """End msrun and what it has started, if they still run, and wait until nothing does.

    Args:
        mark: the lock with which the launcher holds the ranks; let go here.
    """
    try:
        os.killpg(msrun.pid, signal.SIGKILL)  # with it the scheduler; the ranks, in groups of their own, follow
    except ProcessLookupError:
        pass
    msrun.wait()
    mark.close()
    until = time.monotonic() + SETTLE
    while ending.running(logs, job.ranks) and time.monotonic() < until:
        for who in ending.running(logs, job.ranks):
            send(logs, who, signal.SIGKILL)
        time.sleep(POLL / 10)
