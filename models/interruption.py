"""How a command ends on SIGINT, SIGTERM and SIGHUP: with one line, and status 128 plus the signal's number.

MindSpore's data pipelines install handlers of their own for SIGINT, and Python calls its handlers only between two
bytecodes of the main thread, which a compilation keeps busy for many seconds. So these signals are blocked in all
threads (``hold_signals`` comes before anything starts one) and a thread waits for them. The main thread looks whether
one came where it can save its work (``INTERRUPTION.check``); where it does not look for some seconds, the waiting
thread says the line and ends the process. Signals that come while the process imports end it at once.

Importing this module imports neither MindSpore nor anything that starts threads.
"""
from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ECHO = 0.5  # seconds in which a signal that comes again is the same: to the process, and to its group
LEAST, MOST = 2.0, 20.0  # seconds the main thread has to look; schedulers send SIGKILL after 30
STEPS_KEPT = 5


class Interrupted(Exception):
    """The process was asked to end, and its work is saved; told in one line.

    Args:
        line: to print.
        status: of the process.
    """

    def __init__(self, line: str, status: int) -> None:
        super().__init__(line)
        self.status = status


class Asked(Exception):
    """Raised by the main thread where it looks and a signal has come."""


class Interruption:
    """The signal that has come, if any, and who answers it.

    Attributes:
        describe: the line for a process that ends now.
        patience: seconds the main thread has to look before the process ends without it; 0: it does not look.
    """

    def __init__(self, describe: Callable[[], str]) -> None:
        self.describe = describe
        self.patience = 0.0
        self._number: int | None = None
        self._noticed = self._over = False
        self._told = threading.Lock()
        self._writing = 0
        self._seconds: list[float] = []
        self._last: float | None = None

    @property
    def status(self) -> int:
        """Exit status of a process that the signal ends."""
        return 128 + (self._number or signal.SIGINT)

    def looks(self, patience: float) -> None:
        """The main thread looks from now on; ``patience`` is for the first time, later ``check`` shows how often."""
        self._seconds, self._last = [], None
        self.patience = patience

    def check(self) -> None:
        """Raise ``Asked`` if a signal has come."""
        now = time.monotonic()
        if self._last is not None:
            self._seconds = [*self._seconds[1 - STEPS_KEPT:], now - self._last]
        self._last = now
        self.patience = min(max(LEAST, 3 * min(self._seconds, default=0.0)), MOST)  # the least: others compile
        if self._number is not None:
            self._noticed = True
            raise Asked

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """What is written within is finished, however long it takes, unless a signal comes again."""
        self._writing += 1
        try:
            yield
        finally:
            self._writing -= 1

    def over(self) -> None:
        """The work is done: signals change nothing any more."""
        self._over = True

    def tell(self, line: str) -> None:
        """Print the last line on stderr, unless one was printed already."""
        if self._told.acquire(blocking=False) and line:
            start = "\n" if os.isatty(2) else ""  # below the progress bar and ^C
            with contextlib.suppress(OSError):  # after SIGHUP the terminal is gone
                os.write(2, f"{start}{line}\n".encode())

    def answer(self, signals: Iterable[int]) -> None:
        """Wait for one of ``signals``, which are blocked, and see to it that the process ends; does not return."""
        self._number = signal.sigwait(signals)
        came = time.monotonic()
        while not self._has_waited(came):
            again = signal.sigtimedwait(signals, 0.05)
            if again is not None and time.monotonic() - came > ECHO and not self._over:
                break
        self.tell(self.describe())
        os._exit(self.status)

    def _has_waited(self, came: float) -> bool:
        if self._over or self._noticed or self._writing:
            return False
        return time.monotonic() - came >= self.patience


NOTHING = "interrupted before the first step; nothing was done, the same command starts again"
INTERRUPTION = Interruption(lambda: NOTHING)


def hold_signals(describe: Callable[[], str] | None = None) -> None:
    """From now on ``INTERRUPTION`` answers SIGINT, SIGTERM and SIGHUP, but for those this process was told to ignore.

    Args:
        describe: the line to end with; default: that nothing was done.
    """
    if describe is not None:
        INTERRUPTION.describe = describe
    held = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]  # nohup, & of a script
    signal.pthread_sigmask(signal.SIG_BLOCK, held)
    os.register_at_fork(after_in_child=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, held))
    if held:
        threading.Thread(target=INTERRUPTION.answer, args=(held,), daemon=True, name="signals").start()


def end_with(error: Interrupted) -> int:
    """Say the line of ``error``; the exit status."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    INTERRUPTION.tell(str(error))
    return error.status
