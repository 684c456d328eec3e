"""Launches of small programs over msrun, and which of their processes still run."""
from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.helpers import ROOT, environment


class Launch:
    """``python -m models.launch`` of a module that holds a program, with two ranks.

    Attributes:
        master: address and port of the scheduler.
        logs: the folder of the logs.
        out: standard output behind the line that names the logs, after ``end``.
    """

    def __init__(self, folder: Path, program: str, **variables: str) -> None:
        (folder / "small_program.py").write_text(program)
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.master = f"127.0.0.1:{listener.getsockname()[1]}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "models.launch", "--workers", "2", "--master", self.master, "small_program"],
            cwd=folder, env=environment(PYTHONPATH=f"{ROOT}:{folder}", **variables), text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.logs = Path(self.process.stdout.readline().removeprefix("logs of the ranks: ")).parent

    def started(self) -> dict[str, int]:
        """Ids of all processes, once the program has printed something in each."""
        names = ("worker_0", "worker_1", "scheduler")
        while not all((self.logs / f"{name}.log").exists() and (self.logs / f"{name}.log").read_text()
                      for name in names):
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.05)
        ids = {name: int((self.logs / f"{name}.mark").read_text().split()[0]) for name in names}
        return {**ids, "msrun": parent(ids["worker_0"])}

    def end(self, seconds: float) -> tuple[int, str]:
        """Status and standard error."""
        self.out, err = self.process.communicate(timeout=seconds)
        return self.process.returncode, err


def parent(process: int) -> int:
    return int(re.search(r"PPid:\s*(\d+)", Path(f"/proc/{process}/status").read_text()).group(1))


def running(ids: dict[str, int]) -> list[str]:
    """Those that still run; what has ended is a zombie until its parent or init has noticed."""
    def runs(process: int) -> bool:
        try:
            return "zombie" not in Path(f"/proc/{process}/status").read_text()
        except OSError:
            return False
    return [name for name, process in ids.items() if runs(process)]


def await_end(ids: dict[str, int], seconds: float = 5) -> list[str]:
    """Those that still run after the moment that the kernel takes to end a process whose files it has closed."""
    until = time.monotonic() + seconds
    while running(ids) and time.monotonic() < until:
        time.sleep(0.05)
    return running(ids)
