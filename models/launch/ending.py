"""How the processes of a launch have ended: which was first, and the line that says so."""
from __future__ import annotations

import contextlib
import re
import signal
import sys
from pathlib import Path
from typing import Any

from models.launch.alive import SCHEDULER, WELL, ended, mark_of, process_of, runs
from models.launch.arguments import Unusable
from models.launch.preflight import check_port
from models.launch.screen import last_words

GOES_ON = "the same command goes on with the newest checkpoint"
INTERRUPTED = "interrupted; the same command goes on"
NOTHING_DONE = "interrupted before the first step; nothing was done, the same command starts again"
NAMED = re.compile(rb"Worker process (\d+) exit with exception\. Error code: (-?\d+)")


def failures(logs: Path, ranks: range) -> dict[int, str]:
    """The ranks that have ended other than well, and how; first the one whose failure made the others fail.

    That is the one msrun names in its log before it kills the others. Before it names one, killed ranks come first,
    since the others say that they miss it; afterwards those that said how they ended, in that order.
    """
    words = {rank: ended(logs, rank) for rank in ranks}
    found = {rank: word for rank, word in words.items() if word is not None and word != WELL}
    if len(found) > 1:
        named = statuses(logs)

        def place(rank: int) -> tuple[bool, bool, float]:
            is_word_late = bool(found[rank]) == (not named)
            return process_of(logs, rank) not in named, is_word_late, mark_of(logs, rank).stat().st_mtime
        found = {rank: found[rank] for rank in sorted(found, key=place)}
    return found


def statuses(logs: Path) -> dict[int, int]:
    """By process id, the statuses other than 0 that msrun has met; negative: the signal that killed the process."""
    try:
        return {int(process): int(status) for process, status in NAMED.findall((logs / "msrun.log").read_bytes())}
    except OSError:
        return {}


def running(logs: Path, ranks: range) -> list[int | str]:
    """The ranks, and the scheduler, that still run."""
    return [who for who in (*ranks, SCHEDULER) if runs(logs, who)]


def scheduler_failed(logs: Path) -> bool:
    """Whether msrun's scheduler has ended other than well."""
    return ended(logs, SCHEDULER) not in (None, WELL)


def line_of_rank(logs: Path, rank: int, word: str) -> str:
    """What is said of a rank that ended with ``word``, see ``ended``."""
    log = logs / f"worker_{rank}.log"
    status = statuses(logs).get(process_of(logs, rank), 0)
    words = last_words(log) if word or status > 0 else ""
    if words.startswith("error: "):
        return f"{words}; said by rank {rank}, whose log is {log}"
    last = f"; its last line is {words!r}" if words else ""
    return (f"error: rank {rank} {word or how(status)}; the other ranks were stopped{last}; its log is {log}; "
            f"{GOES_ON}")


def how(status: int) -> str:
    """How a process ended that could not say so; ``status`` as ``statuses`` has it, 0 where nobody knows."""
    if status >= 0:
        return f"ended with status {status}" if status else "was killed"
    name = signal.Signals(-status).name
    return f"was killed by {name}" + (", as when memory runs out" if name == "SIGKILL" else "")


def line_of_scheduler(job: Any, logs: Path) -> str:
    """What is said when the scheduler has failed, once nothing runs any more."""
    try:
        check_port(job)
    except Unusable as error:
        return f"error: {error}"
    word = ended(logs, SCHEDULER) or "was killed"
    words = last_words(logs / "scheduler.log")
    last = f"; its last line is {words!r}" if words else ""
    return (f"error: the scheduler on {job.master} {word}; the ranks were stopped{last}; its log is "
            f"{logs}/scheduler.log; {GOES_ON}")


def line_of_msrun(logs: Path, status: int) -> str:
    """What is said of msrun where no rank has failed before it."""
    if status < 0:
        return f"error: msrun {how(status)}; the ranks were stopped; {GOES_ON}"
    words = last_words(logs / "msrun.log")
    return f"error: msrun ended with status {status}; its last line is {words!r}; its log is {logs}/msrun.log"


def line_of_interruption(log: Path) -> str:
    """What the first rank said when it was asked to end, or else that it was."""
    words = last_words(log)
    return words if words.startswith("interrupted") else INTERRUPTED


def say(line: str) -> None:
    """The last line, on standard error; after SIGHUP there is none."""
    with contextlib.suppress(OSError):
        print(" ".join(line.splitlines()), file=sys.stderr, flush=True)
