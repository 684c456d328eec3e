"""Which processes are alive, told by locks on files: a process that dies, however it dies, lets go of its lock."""
from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

FOLDER = "THOR_LAUNCH_FOLDER"  # environment variable
WELL = "ended well"


def mark_of(folder: Path, rank: int) -> Path:
    """The file of a rank."""
    return folder / f"worker_{rank}.mark"


def hold(folder: Path, rank: int) -> IO[str]:
    """Lock the file of this process's rank until the process ends."""
    mark = open(mark_of(folder, rank), "w", encoding="utf-8")
    fcntl.flock(mark, fcntl.LOCK_EX)
    mark.write("started\n")
    mark.flush()
    return mark


def tell(mark: IO[str], text: str) -> None:
    """Write how the process ends."""
    mark.seek(0)
    mark.truncate()
    mark.write(text + "\n")
    mark.flush()


def ended(folder: Path, rank: int) -> str | None:
    """How a rank has ended; "" where it could not say so any more, None where it runs or has not begun."""
    try:
        with open(mark_of(folder, rank), encoding="utf-8") as mark:
            fcntl.flock(mark, fcntl.LOCK_SH | fcntl.LOCK_NB)
            text = mark.read().strip()
    except (FileNotFoundError, BlockingIOError):
        return None
    return {"": None, "started": ""}.get(text, text)


def folder_of_launch() -> Path | None:
    """Where this process's file is; None if it has none, as msrun's scheduler, which runs the same program."""
    is_worker = os.environ.get("MS_ROLE") != "MS_SCHED"
    return Path(os.environ[FOLDER]) if is_worker and os.environ.get(FOLDER) else None
