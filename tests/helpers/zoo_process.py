"""``python -m models.train`` in a process of its own: a network of two layers on the digits."""
from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np

from models.checkpoint_file import checkpoints
from tests.helpers import DIGITS, environment

WORDS = ["--config", str(DIGITS), "--imports", "[tests.helpers.asked_to_end]", "--model.name", "plain",
         "--data.augment", "false", "--data.batch_size", "128", "--data.eval_batch_size", "360", "--optimizer.name",
         "momentum", "--train.epochs", "3", "--train.checkpoint_every_steps", "4"]


def start(*words: str, ignores: tuple[int, ...] = (), **variables: str) -> subprocess.Popen:
    """A run under ./runs, leader of a group, which ignores no signal but those named."""
    def signals() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN if number in ignores else signal.SIG_DFL)

    return subprocess.Popen([sys.executable, "-m", "models.train", *WORDS, *words], env=environment(**variables),
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=signals,
                            start_new_session=True)


def end(process: subprocess.Popen) -> tuple[int, str, str]:
    """Exit status, standard output and error output."""
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def run(*words: str, **variables: str) -> tuple[int, str, str]:
    """Start a run and wait for its end."""
    return end(start(*words, **variables))


def wait_for(found: Callable[[], Any], process: subprocess.Popen) -> Any:
    """What ``found`` gives as soon as that is true, while the process runs."""
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        value = found()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"not found; the process ended with {end(process)}")


def holds_signals(process: subprocess.Popen) -> bool:
    """Whether the process blocks SIGTERM."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    blocked = next(line.split()[1] for line in status.splitlines() if line.startswith("SigBlk"))
    return bool(int(blocked, 16) >> (signal.SIGTERM - 1) & 1)


def folder() -> Path:
    """That of the only run there is."""
    return next(Path().glob("runs/*/*"))


def left(of: Path) -> dict[str, Any]:
    """What a finished run leaves but for times: rows of metrics.csv, results, parameters of the newest checkpoint."""
    with open(of / "metrics.csv", newline="", encoding="utf-8") as stream:
        rows = [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(stream)]
    results = json.loads((of / "results.json").read_text(encoding="utf-8"))
    results.pop("seconds")
    newest = checkpoints(of / "checkpoints")[0]
    contents = {name: value for name, value in ms.load_checkpoint(str(newest)).items() if name != "run.config"}
    return {"rows": rows, "results": results, "newest": newest.name,
            "bits": {name: np.asarray(value.asnumpy()).tobytes() for name, value in contents.items()}}
