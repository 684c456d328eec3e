"""The networks "plain" and "tiny_sharp", in a process that sends itself a signal.

Which one says SIGNALS in the environment, as WHERE:NAME, such as "step 7:SIGTERM".
WHERE is ``step N``, after step N; ``evaluation N``, before the first batch of the Nth of the process; or ``save``,
within a checkpoint.
"""
from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import mindspore as ms

from models import callbacks, session
from models.registry import register_network
from tests.helpers import plain_network  # noqa: F401, it registers itself
from tests.helpers.interrupted import after_batch
from tests.helpers.tiny_run import NETWORKS

TAKEN = 0.3  # seconds in which the signal reaches its thread


def send(name: str) -> None:
    os.kill(os.getpid(), getattr(signal, name))
    time.sleep(TAKEN)


def sending_before(call: Callable, name: str, number: int = 1) -> Callable:
    """``call``, the ``number``-th time not before the signal."""
    calls = itertools.count(1)

    def sends(*arguments: Any, **options: Any) -> Any:
        if next(calls) == number:
            send(name)
        return call(*arguments, **options)
    return sends


register_network("tiny_sharp")(NETWORKS["tiny_sharp"])
where, _, name = os.environ.get("SIGNALS", "").partition(":")
if where.startswith("step "):
    callbacks.build_callbacks = after_batch(int(where.split()[1]), lambda folder: send(name))
elif where.startswith("evaluation "):
    session.evaluate = sending_before(session.evaluate, name, int(where.split()[1]))
elif where == "save":
    ms.save_checkpoint = sending_before(ms.save_checkpoint, name)
