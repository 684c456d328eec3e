"""Which processes are alive, told by locks on files: a process that dies, however it dies, lets go of its lock.

Every rank, msrun's scheduler and the launcher hold one. Whoever was started ends with the launcher.
"""
from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import threading
from pathlib import Path
from typing import IO

FOLDER = "THOR_LAUNCH_FOLDER"  # environment variable
WELL = "ended well"
LAUNCHER, SCHEDULER = "launcher", "scheduler"
_PR_SET_PDEATHSIG = 1  # prctl(2)


def mark_of(folder: Path, who: int | str) -> Path:
    """The file of a rank, of the scheduler or of the launcher."""
    return folder / (f"worker_{who}.mark" if isinstance(who, int) else f"{who}.mark")


def hold(folder: Path, who: int | str) -> IO[str]:
    """Lock the file of this process until the process ends."""
    mark = open(mark_of(folder, who), "w", encoding="utf-8")
    fcntl.flock(mark, fcntl.LOCK_EX)
    tell(mark, "")
    return mark


def tell(mark: IO[str], text: str) -> None:
    """Write how the process ends, after its id."""
    mark.seek(0)
    mark.truncate()
    mark.write(f"{os.getpid()}\n{text}\n")
    mark.flush()


def _state(folder: Path, who: int | str) -> tuple[bool, list[str]]:
    """Whether the process runs, and the lines of its file."""
    try:
        with open(mark_of(folder, who), encoding="utf-8") as mark:
            try:
                fcntl.flock(mark, fcntl.LOCK_SH | fcntl.LOCK_NB)
                is_running = False
            except BlockingIOError:
                is_running = True
            return is_running, mark.read().splitlines()
    except FileNotFoundError:
        return False, []


def runs(folder: Path, who: int | str) -> bool:
    """Whether a process has begun and not ended."""
    return _state(folder, who)[0]


def ended(folder: Path, who: int | str) -> str | None:
    """How a process has ended or, where not well, is ending; "" if it could not say so, None if it runs or never began.
    """
    is_running, lines = _state(folder, who)
    if len(lines) < 2 or is_running and lines[1] in ("", WELL):
        return None
    return lines[1]


def process_of(folder: Path, who: int | str) -> int:
    """The id a process has or had, 0 where it has not begun."""
    lines = _state(folder, who)[1]
    return int(lines[0]) if lines else 0


def send(folder: Path, who: int | str, number: int) -> bool:
    """Send a signal to a process; whether it runs."""
    is_running, lines = _state(folder, who)
    if not is_running or not lines:
        return False
    try:
        os.kill(int(lines[0]), number)
    except ProcessLookupError:
        return False
    return True


def die_with_parent() -> None:
    """From now on SIGKILL ends this process when the one that started it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def end_with_launcher(folder: Path) -> None:
    """From now on SIGKILL ends this process when msrun, which started it, or the launcher ends.

    The kernel sees to the former even while a compilation keeps Python's threads waiting; a thread to the latter, also
    where msrun ended before this was called.
    """
    die_with_parent()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # the thread's mask: no signal is for it
    threading.Thread(target=_outlive_nobody, args=(folder,), daemon=True, name="launcher").start()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _outlive_nobody(folder: Path) -> None:
    try:
        with open(mark_of(folder, LAUNCHER), encoding="utf-8") as mark:
            fcntl.flock(mark, fcntl.LOCK_SH)  # until the launcher lets go
    except OSError:
        return  # no file, or no locks on this file system
    os.kill(os.getpid(), signal.SIGKILL)


def folder_of_launch() -> Path | None:
    """Where this process's file is; None if it was not started by the launcher."""
    return Path(os.environ[FOLDER]) if os.environ.get(FOLDER) else None


def own_name() -> int | str:
    """This process among those of the launch; msrun's scheduler runs the same program as the ranks."""
    return SCHEDULER if os.environ.get("MS_ROLE") == "MS_SCHED" else int(os.environ["RANK_ID"])
