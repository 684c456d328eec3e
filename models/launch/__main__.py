"""Start one process for each device with MindSpore's msrun, show the first, and name the one that failed.

``python -m models.launch --workers N [--nodes M --node-rank R --master ADDRESS:PORT] MODULE ARGUMENT...``
``python -m models.launch --rank-table FILE MODULE ARGUMENT...``
"""
from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from models.launch.alive import FOLDER, WELL, ended
from models.launch.arguments import PORT, Unusable, add_options, check_node
from models.launch.rank_table import own_addresses, read_rank_table

VISIBLE = "ASCEND_RT_VISIBLE_DEVICES"
WORKER = Path(__file__).with_name("worker.py")
PATIENCE = 15.0  # seconds msrun has to end what is left after a rank has failed
HEARTBEAT = 30  # seconds after which machines notice that another one is gone


class Job(argparse.Namespace):
    """What msrun is to start: workers a machine, nodes, node_rank, master, module and its arguments."""

    @property
    def ranks(self) -> range:
        """The ranks on this machine."""
        return range(self.node_rank * self.workers, (self.node_rank + 1) * self.workers)


def main(words: Sequence[str] | None = None) -> int:
    """Start as the command line says and wait; 0 if all ranks ended well."""
    made = create_parser()
    try:
        job = made.parse_args(words, Job())
        check_node(job)
        if job.rank_table:
            apply_rank_table(job)
    except (Unusable, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not job.workers:
        made.error("--workers or --rank-table is needed")
    logs = Path("runs", "logs", f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}").absolute()
    logs.mkdir(parents=True)
    print(f"logs of the ranks: {logs}/worker_*.log", flush=True)
    return watch(start(job, logs), job, logs)


def create_parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m models.launch", allow_abbrev=False,
                                   description="Start one process for each device.")
    add_options(made)
    made.add_argument("module", help="what each process runs")
    made.add_argument("arguments", nargs=argparse.REMAINDER)
    return made


def apply_rank_table(job: Job) -> None:
    """Take processes, machines and devices from the rank table.

    Raises:
        OSError, ValueError: it cannot be used.
    """
    table = read_rank_table(job.rank_table)
    own = os.environ.get("SERVER_ID")
    job.nodes, job.node_rank = len(table.servers), table.node_of([own] if own else own_addresses())
    server = table.servers[job.node_rank]
    if job.workers and job.workers != len(server.devices):
        raise ValueError(f"--workers={job.workers}; must be {len(server.devices)}, the devices of this machine in "
                         f"{job.rank_table}; leave it out")
    job.workers = len(server.devices)
    address = table.servers[0].address if job.nodes > 1 else "127.0.0.1"
    job.master = f"{address}:{os.environ.get('MASTER_PORT', PORT)}"
    choose_devices(server.devices, job.rank_table)


def choose_devices(devices: Sequence[int], rank_table: str) -> None:
    """Show ``devices`` alone to CANN, which wants them ascending and counts them from 0: as msrun counts its processes.

    Raises:
        ValueError: the environment shows others.
    """
    wanted, present = ",".join(map(str, sorted(devices))), os.environ.get(VISIBLE)
    if present is not None and present != wanted:
        raise ValueError(f"{VISIBLE}={present}; must be {wanted}, the devices of this machine in {rank_table}; "
                         "leave it unset")
    os.environ[VISIBLE] = wanted


def start(job: Job, logs: Path) -> subprocess.Popen:
    """msrun, in a process group of its own."""
    address, _, port = job.master.rpartition(":")
    total = job.workers * job.nodes
    command = [find_msrun(), f"--worker_num={total}", f"--local_worker_num={job.workers}",
               f"--node_rank={job.node_rank}", f"--master_addr={address}", f"--master_port={port}",
               f"--log_dir={logs}", "--join=True", str(WORKER), job.module, *job.arguments, "--parallel.device_num",
               str(total)]
    environment = {**os.environ, FOLDER: str(logs), "MS_NODE_TIMEOUT": str(HEARTBEAT),
                   "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"}
    with open(logs / "msrun.log", "wb") as output:
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment,
                                start_new_session=True)


def find_msrun() -> str:
    """msrun beside this Python, or on PATH where this environment sees MindSpore outside it."""
    beside = Path(sys.executable).parent / "msrun"
    return str(beside) if beside.exists() else shutil.which("msrun") or str(beside)


def watch(msrun: subprocess.Popen, job: Job, logs: Path) -> int:
    """Show the first rank's output until all have ended; 0 if they ended well, else 1 and a line about the first."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    failed: dict[int, str] = {}
    since = None
    with Screen(logs / f"worker_{job.ranks[0]}.log") as screen:
        try:
            while msrun.poll() is None and not _overdue(since):
                screen.follow()
                failed = failed or failures(logs, job.ranks)
                since = since or (time.monotonic() if failed else None)
                time.sleep(0.2)
        except KeyboardInterrupt:
            return 130
        finally:
            stop(msrun, logs)
            screen.follow()
    failed = failed or failures(logs, job.ranks)
    if msrun.returncode == 0 and not failed:
        return 0
    for rank, word in failed.items():
        print(f"error: rank {rank} {word or 'was killed'}; the other ranks were stopped; its log is "
              f"{logs}/worker_{rank}.log; the same command goes on with the newest checkpoint", file=sys.stderr)
    if not failed:
        print(f"error: msrun ended with status {msrun.returncode}; see {logs}/msrun.log", file=sys.stderr)
    return 1


def _overdue(since: float | None) -> bool:
    """Whether msrun has had its time since a rank failed."""
    return since is not None and time.monotonic() - since > PATIENCE


def failures(logs: Path, ranks: range) -> dict[int, str]:
    """The ranks that have ended other than well, and how."""
    words = {rank: ended(logs, rank) for rank in ranks}
    return {rank: word for rank, word in words.items() if word is not None and word != WELL}


def stop(msrun: subprocess.Popen, logs: Path) -> None:
    """End msrun and what it has started, if they still run."""
    if msrun.poll() is None:
        msrun.send_signal(signal.SIGINT)  # ends its workers, each in a group of its own
        try:
            msrun.wait(5)
        except subprocess.TimeoutExpired:
            pass
    try:
        os.killpg(msrun.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    msrun.wait()


class Screen:
    """Copies what is appended to a file to standard output, without the remarks MindSpore makes as ranks part."""

    REMARK = b"[INFO] "

    def __init__(self, path: Path) -> None:
        self.path, self.stream, self.held = path, None, b""

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        if self.stream:
            self.stream.close()

    def follow(self) -> None:
        """Copy what is new."""
        if self.stream is None and self.path.exists():
            self.stream = open(self.path, "rb")
        if self.stream:
            lines = (self.held + self.stream.read()).splitlines(keepends=True)
            self.held = lines.pop() if lines and self.may_be_remark(lines[-1]) else b""
            sys.stdout.buffer.write(b"".join(line for line in lines if not line.startswith(self.REMARK)))
            sys.stdout.buffer.flush()

    def may_be_remark(self, line: bytes) -> bool:
        """Whether a line that has not ended is, or could become, a remark."""
        return not line.endswith((b"\n", b"\r")) and self.REMARK.startswith(line[:len(self.REMARK)])


if __name__ == "__main__":
    sys.exit(main())
