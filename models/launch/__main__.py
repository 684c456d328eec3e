"""Start one process for each device with MindSpore's msrun, show the first, and name the one that failed.

``python -m models.launch --workers N [--nodes M --node-rank R --master ADDRESS:PORT] MODULE ARGUMENT...``
``python -m models.launch --rank-table FILE MODULE ARGUMENT...``
"""
from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from models.launch.arguments import LAST_PORT, PORT, Unusable, add_options, check_node, number, shown
from models.launch.ending import NOTHING_DONE, say
from models.launch.job import Job
from models.launch.preflight import check_master, check_settings
from models.launch.rank_table import own_addresses, read_rank_table
from models.launch.signals import Interrupted, Signals
from models.launch.watching import watch

VISIBLE = "ASCEND_RT_VISIBLE_DEVICES"


def main(words: Sequence[str] | None = None) -> int:
    """Start as the command line says and wait; 0 if all ranks ended well, 128 and the number of a signal, else 1."""
    with Signals() as signals:
        try:
            job = read_job(words)
            status = check_settings(job)
            if status:
                return status
            check_master(job)
            return watch(job, make_logs(), signals)
        except Interrupted:
            say(NOTHING_DONE)
            return signals.status
        except (Unusable, OSError, ValueError) as error:
            say(f"error: {error}")
            return 1


def read_job(words: Sequence[str] | None) -> Job:
    """What the command line asks for; Unusable, OSError, ValueError where it cannot be used."""
    made = create_parser()
    job = made.parse_args(words, Job())
    check_node(job)
    if job.rank_table:
        apply_rank_table(job)
    if not job.workers:
        made.error("--workers or --rank-table is needed")
    return job


def make_logs() -> Path:
    """A new folder for the logs of the ranks."""
    logs = Path("runs", "logs", f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}").absolute()
    logs.mkdir(parents=True)
    print(f"logs of the ranks: {logs}/worker_*.log", flush=True)
    return logs


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
    port = os.environ.get("MASTER_PORT", str(PORT))
    if not 1 <= number(port) <= LAST_PORT:
        raise ValueError(f"MASTER_PORT={shown(port)}; must be a port from 1 to {LAST_PORT}; choose a free one")
    job.master = f"{address}:{port}"
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


def leave(status: int) -> None:
    """End the process; at once where a signal did, which may have cut off an import of MindSpore."""
    if status > 128:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    leave(main())
