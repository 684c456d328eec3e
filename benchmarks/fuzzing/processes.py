"""Cases one after another in a forked process: one that crashes or hangs costs a fork, not an import of MindSpore."""
from __future__ import annotations

import faulthandler
import os
import pickle
import re
import select
import signal
import struct
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from typing import Any

ACCEPTED, LINE, LINES, TRACEBACK, CRASH, HANG = OUTCOMES = (
    "accepted", "one line", "several lines", "traceback", "crash", "hang")
USAGE = re.compile(r"^usage:.*\n(?:^[ \t]+.*\n)*", re.MULTILINE)
TERMINATION = re.compile(r"^(Traceback \(most recent|terminate called|Fatal Python error)", re.MULTILINE)


def run_all(cases: Sequence[Any], work: Callable[[Any], int], limit: float) -> list[tuple[str, str]]:
    """Run ``work`` on each case.

    Args:
        cases: what ``work`` takes.
        work: gives an exit status, having written to stderr what a command would have.
        limit: seconds of a case.

    Returns:
        (outcome, what stood on stderr) of each.
    """
    results: list[tuple[str, str]] = []
    while len(results) < len(cases):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _serve(cases[len(results):], work, writing)
        os.close(writing)
        with os.fdopen(reading, "rb", 0) as stream:
            while len(results) < len(cases):
                result = _receive(stream, limit, child)
                results.append(result)
                if result[0] in (CRASH, HANG):
                    break
            else:
                os.waitpid(child, 0)
    return results


def classify(status: int, text: str) -> str:
    """How a command ended that gave ``status`` and wrote ``text`` to stderr; its usage is not counted."""
    if TERMINATION.search(text):
        return TRACEBACK
    if status == 0:
        return ACCEPTED
    lines = [line for line in USAGE.sub("", text).splitlines() if line.strip()]
    return LINE if len(lines) == 1 else LINES


def _serve(cases: Sequence[Any], work: Callable[[Any], int], pipe: int) -> None:
    """The forked process: it never returns."""
    os.setsid()
    faulthandler.disable()  # a crash is counted, not shown
    with tempfile.TemporaryFile() as screen:
        os.dup2(screen.fileno(), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.stdout, sys.stderr = (open(number, "w", 1, closefd=False) for number in (1, 2))
        for case in cases:
            screen.truncate(0)
            screen.seek(0)
            try:
                status = work(case)
            except SystemExit as ended:
                status = ended.code if isinstance(ended.code, int) else 1
            except BaseException:
                traceback.print_exc()
                status = 1
            screen.seek(0)
            text = screen.read().decode(errors="replace")
            answer = pickle.dumps((classify(status, text), text[-4000:]))
            os.write(pipe, struct.pack("<I", len(answer)) + answer)
    os._exit(0)


def _receive(stream: Any, limit: float, child: int) -> tuple[str, str]:
    """The next result, or how the process ended that gives none."""
    if not select.select([stream], [], [], limit)[0]:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return HANG, f"no end within {limit:g} s"
    head = stream.read(4)
    if len(head) < 4:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return CRASH, signal.strsignal(-status) or "" if status < 0 else f"exit status {status}"
    left, content = struct.unpack("<I", head)[0], b""
    while len(content) < left:
        content += stream.read(left - len(content))
    return pickle.loads(content)
