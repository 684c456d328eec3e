"""SIGINT, SIGTERM and SIGHUP to the launcher."""
from __future__ import annotations

import signal
import time
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ECHO = 0.5  # seconds in which a signal that comes again is the same: to the process, and to its group


class Interrupted(BaseException):
    """Raised where a signal comes while nothing has been started yet."""


class Signals:
    """Notes the signals that ask the launcher to end, but for those it was told to ignore.

    Attributes:
        number: the first that came, None before.
        again: whether one came after it: end at once.
        started: processes run, which are to end first; until then a signal raises ``Interrupted``.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.again = self.started = False
        self._came = 0.0
        self._before: dict[int, Any] = {}

    @property
    def status(self) -> int:
        """Exit status of a process that the signal ends."""
        return 128 + (self.number or signal.SIGINT)

    def __enter__(self) -> Signals:
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup, & of a script
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def forget(self) -> None:
        """What was asked for has become idle: the work is done."""
        self.number = None

    def _note(self, number: int, _: object) -> None:
        if self.number is None:
            self.number, self._came = number, time.monotonic()
            if not self.started:
                raise Interrupted
        elif time.monotonic() - self._came > ECHO:
            self.again = True
