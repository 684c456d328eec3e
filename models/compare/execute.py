"""Runs, each in a process of its own, one after another; a bar over all of them, a line for each."""
from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from models.command_line import LoadError
from models.compare.runs import OUTCOME, Outcome, Run, metrics_of
from models.config import dump_config

LOG, SETTINGS, TIMES = "log.txt", "config.yaml", "step_seconds.json"
PROGRAM = [sys.executable, "-m", "models.train"]
TIMING = [sys.executable, "-m", "models.compare.timing"]
DIVERGED = "training has diverged"
POLL_SECONDS, ATTEMPTS = 0.5, 3
STALL_SECONDS, STALL_USE = 300.0, 0.2


def run_all(runs: Sequence[Run], target: float) -> list[Outcome]:
    """Outcomes of ``runs`` in order; those that have ended are read, those interrupted go on.

    Raises:
        LoadError: a run could not be made; the message says why or where its log is.
    """
    outcomes = []
    # progress counts runs: how long they are is not known before their data is read
    with tqdm(total=len(runs), unit="run", dynamic_ncols=True, disable=None, leave=False) as bar:
        for number, run in enumerate(runs, 1):
            outcome = run.outcome()
            if outcome is None:
                bar.set_description_str(run.describe())
                outcome = _make(run, bar)
                tqdm.write(f"{number}/{len(runs)} {run.describe()}: {summary(outcome, target)}", file=sys.stdout)
                sys.stdout.flush()
            outcomes.append(outcome)
            bar.update()
    return outcomes


def summary(outcome: Outcome, target: float) -> str:
    """How a run ended, in a few words."""
    if outcome.accuracy is None:
        return "diverged"
    steps = outcome.steps_to(target)
    reached = "not reached" if steps is None else f"after {steps} steps"
    return f"accuracy {100 * outcome.accuracy:.2f} %, target {reached}"


def _make(run: Run, bar: tqdm) -> Outcome:
    folder = run.folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SETTINGS).write_text(dump_config(run.config), encoding="utf-8")
    for _ in range(ATTEMPTS):
        status, memory = _train(folder, bar)
        if status is not None:
            break
        tqdm.write(f"{run.describe()}: stood still; its process is ended and the run goes on", file=sys.stdout)
    else:
        raise LoadError(f"stood still {ATTEMPTS} times (log: {folder / LOG})")
    ended = _how_it_ended(status, folder)
    sizes = [path.stat().st_size for path in sorted(folder.glob("*/*/checkpoints/step-*.ckpt"))[-1:]]
    facts = {"ended": ended, "peak_memory": memory, "state_bytes": sum(sizes), "label": run.label,
             "setting": run.setting, "seed": run.seed}
    part = folder / f"{OUTCOME}.part"
    part.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    part.replace(folder / OUTCOME)
    return run.outcome()


def _train(folder: Path, bar: tqdm) -> tuple[int | None, int]:
    """Exit status, None if it stood still, and peak memory in bytes of one process that trains."""
    words = ["--config", str(folder / SETTINGS), "--train.run_dir", str(folder), "--train.resume", "auto"]
    with open(folder / LOG, "a", encoding="utf-8") as log:
        process = subprocess.Popen([*PROGRAM, *words], stdout=log, stderr=subprocess.STDOUT, env=_environment())
        try:
            return _wait(process, folder, bar)
        except BaseException:
            process.terminate()
            process.wait()
            raise


def time_in_turn(best: Sequence[Run], output: Path) -> dict[str, list[float]]:
    """Seconds a step of the best settings in turn, see models.compare.timing; measured once for the same runs.

    Raises:
        LoadError: the measurement ended early; the message says why or where its log is.
    """
    path, part = output / TIMES, output / f"{TIMES}.part"
    wanted = {run.label: run.folder.name for run in best}
    if path.exists() and (found := json.loads(path.read_text(encoding="utf-8")))["runs"] == wanted:
        return found["seconds"]
    pairs = [f"{run.label}={run.folder / SETTINGS}" for run in best]
    with open(output / LOG, "w", encoding="utf-8") as log:
        status = subprocess.call([*TIMING, "--output", str(part), *pairs], stdout=log, stderr=subprocess.STDOUT,
                                 env=_environment())
    _how_it_ended(status, output)
    seconds = json.loads(part.read_text(encoding="utf-8"))
    part.write_text(json.dumps({"runs": wanted, "seconds": seconds}, indent=1) + "\n", encoding="utf-8")
    part.replace(path)
    return seconds


def _environment() -> dict[str, str]:
    """That of this process, in which a run also finds the package where this one was found."""
    root = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}


def _wait(process: subprocess.Popen, folder: Path, bar: tqdm) -> tuple[int | None, int]:
    """As ``_train``, telling meanwhile how far the run is."""
    watch = Watch(process.pid)
    while True:
        done, status, usage = os.wait4(process.pid, os.WNOHANG)
        if done:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, usage.ru_maxrss * 1024  # kibibytes on Linux
        rows = [] if bar.disable else metrics_of(folder)
        if rows:
            bar.set_postfix_str(f"epoch {rows[-1]['epoch']:.1f} loss {rows[-1]['loss']:.3f}")
        if watch.stands_still():
            process.kill()
            process.wait()
            return None, 0
        time.sleep(POLL_SECONDS)


class Watch:
    """Notices a process that uses no processor time: MindSpore's data pipelines now and then wait for ever."""

    def __init__(self, pid: int) -> None:
        self.path = Path(f"/proc/{pid}/stat")
        self.used, self.since = 0.0, time.monotonic()

    def stands_still(self) -> bool:
        """Whether it hardly used a processor for STALL_SECONDS, less than if it were starved, nor was suspended."""
        try:
            fields = self.path.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            return False
        used = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        if used >= self.used + STALL_USE or fields[0] in "Tt":
            self.used, self.since = used, time.monotonic()
        return time.monotonic() - self.since > STALL_SECONDS


def _how_it_ended(status: int, folder: Path) -> str:
    if status == 0:
        return "finished"
    lines = (folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    if status == 1 and errors and DIVERGED in errors[-1]:
        return "diverged"
    if status in (129, 130, 143):  # SIGHUP, SIGINT, SIGTERM, see models.interruption
        raise KeyboardInterrupt
    reason = errors[-1].removeprefix("error: ") if errors else f"ended with status {status}"
    raise LoadError(f"{reason} (log: {folder / LOG})")
