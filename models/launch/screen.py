"""What the launcher shows of the first rank's log, and what the logs say of an ending."""
from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import IO

LAST = (b"error: ", b"interrupted")  # lines a process may end with; the launcher says them itself
TAIL = 65536  # bytes of a log looked at for its last line
LONGEST = 1000  # characters of it that are shown
REASON = re.compile(r"error: |interrupted|[\w.]*(Error|Exception|Exit|Interrupt)\b")


class Screen:
    """Copies what is appended to a file to standard output, without the remarks MindSpore makes as ranks part.

    A line a process may end with is held back until another follows, so that it is not said twice.
    """

    REMARK = b"[INFO] "

    def __init__(self, path: Path) -> None:
        self.path, self.held, self.last = path, b"", b""
        self.stream: IO[bytes] | None = None

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        if self.stream:
            self.stream.close()

    def follow(self) -> None:
        """Copy what is new."""
        if self.stream is None and self.path.exists():
            self.stream = open(self.path, "rb")
        if not self.stream:
            return
        lines = (self.held + self.stream.read()).splitlines(keepends=True)
        self.held = lines.pop() if lines and self.may_be_held(lines[-1]) else b""
        for line in lines:
            if line.startswith(LAST):
                self.last += line
            elif not line.startswith(self.REMARK):
                show(self.last + line)
                self.last = b""

    def release(self) -> None:
        """Show what was held back: nothing else says it."""
        show(self.last + self.held)
        self.last = self.held = b""

    def may_be_held(self, line: bytes) -> bool:
        """Whether a line that has not ended is, or could become, one that is not shown."""
        ended = line.endswith((b"\n", b"\r"))
        return not ended and any(start.startswith(line[:len(start)]) for start in (self.REMARK, *LAST))


def show(text: bytes) -> None:
    """Write to standard output; where nobody reads it any more, training goes on unseen."""
    try:
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)


def last_words(log: Path) -> str:
    """The line of a log that says how its process ended: its last error, else its last line; "" if there is none."""
    try:
        with open(log, "rb") as stream:
            stream.seek(max(0, log.stat().st_size - TAIL))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("[")]
    chosen = [line for line in lines if REASON.match(line)] or lines
    return "".join(letter for letter in chosen[-1] if letter.isprintable())[:LONGEST] if chosen else ""
