"""Runs that are killed with SIGKILL at random moments and go on, beside runs that nobody touches.

Six configurations, each as a run that ends by itself and as chains: a run is started, killed at a random moment, and
started again by the same command, until it ends. A third of the moments are drawn between its start and the time that a
whole run takes, most of which are imports and compilations, the others after its first checkpoint. All files it leaves
are then compared with those of the run that was not killed, to the bit: every value of the newest checkpoint, and all
rows of metrics.csv, curvature.csv and results.json but for their seconds. Of several ranks one, drawn at random, is
killed.
"""
from __future__ import annotations

import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common

ROOT = Path(__file__).resolve().parents[1]
DIGITS = ROOT / "configs" / "resnet" / "resnet18_digits.yaml"
SHORT = ["--train.epochs", "4", "--train.checkpoint_every_steps", "5", "--data.batch_size", "96",
         "--data.eval_batch_size", "360"]
LENET = [*SHORT, "--model.name", "lenet5", "--data.image_size", "32"]
BERT = {"vocab_size": 256, "hidden_size": 32, "layers": 1, "heads": 2, "intermediate_size": 64, "max_positions": 32,
        "dropout": 0.1, "attention_dropout": 0.1}
ENDS, STANDS = 900.0, 120.0  # seconds a run may take, and a launcher after one of its ranks was killed
EARLY = 1 / 3  # share of the kills that may come before the first checkpoint
RESUMED = re.compile(r"^going on after batch (\d+) ", re.MULTILINE)
TRACEBACK = re.compile(r"Traceback \(most recent|Fatal Python error|core dumped")


@dataclass(frozen=True)
class Case:
    """A configuration: the words after ``python -m models.train``, and the number of processes."""

    words: Sequence[str]
    ranks: int = 1
    needs_text: bool = False

    def command(self, folder: Path, text: Path) -> list[str]:
        """The whole command, with runs in ``folder``."""
        words = [*self.words, "--train.run_dir", str(folder)]
        words += ["--data.path", str(text)] if self.needs_text else []
        launcher = ["-m", "models.launch", "--workers", str(self.ranks), "models.train"]
        return [sys.executable, *(launcher if self.ranks > 1 else ["-m", "models.train"]), *words]


CASES = {
    "resnet": Case(["--config", str(DIGITS), *SHORT, "--model.base_width", "4", "--optimizer.frequency", "4"]),
    "lenet": Case(["--config", str(DIGITS), *LENET, "--optimizer.frequency", "3", "--optimizer.running_average", "0.9",
                   "--curvature.update.policy", "trace"]),
    "lookahead": Case(["--config", str(DIGITS), *LENET, "--optimizer.name", "lookahead(adam)",
                       "--optimizer.learning_rate.initial", "0.001"]),
    "dynamic": Case(["--config", str(DIGITS), *LENET, "--optimizer.name", "momentum", "--train.accumulate_steps", "3",
                     "--loss_scale.policy", "dynamic", "--loss_scale.init", "3.0e+38", "--loss_scale.window", "2",
                     "--optimizer.learning_rate.initial", "0.01"]),
    "bert": Case(["--config", str(ROOT / "configs" / "bert" / "bert_small.yaml"), "--train.epochs", "5",
                  "--train.sink_size", "12", "--train.checkpoint_every_steps", "5", "--data.batch_size", "16",
                  "--data.eval_batch_size", "16", "--optimizer.frequency", "4",
                  *(word for key, value in BERT.items() for word in (f"--model.bert.{key}", str(value)))],
                 needs_text=True),
    "ranks": Case(["--config", str(DIGITS), *LENET, "--optimizer.frequency", "4", "--data.batch_size", "48"], ranks=2),
}


@dataclass(frozen=True)
class Moment:
    """When a run is killed: so many ``seconds`` after its start, or after its first checkpoint in the folder ``runs``.
    """

    seconds: float
    runs: Path | None = None

    def passes(self, process: subprocess.Popen) -> bool:
        """Wait for it; whether the process still runs then."""
        before = newest(self.runs) if self.runs else None
        while self.runs and process.poll() is None and newest(self.runs) == before:
            time.sleep(0.01)
        try:
            process.wait(self.seconds)
            return False
        except subprocess.TimeoutExpired:
            return True


def newest(runs: Path) -> str:
    """Name of the newest checkpoint of the runs in a folder, "" where there is none."""
    return max((path.name for path in runs.glob("*/*/checkpoints/step-*.ckpt")), default="")


@dataclass
class Tally:
    """What was counted of a configuration.

    Attributes:
        kills: SIGKILLs sent.
        resumed: steps after which runs went on.
        chains, identical: runs that were killed and came to their end; those that left what an untouched one leaves.
        tracebacks: programs that printed one, or crashed.
        lost: files missing, left over or different, by name.
        hangs: programs that had to be ended.
    """

    kills: int = 0
    resumed: list[int] = field(default_factory=list)
    chains: int = 0
    identical: int = 0
    tracebacks: int = 0
    lost: list[str] = field(default_factory=list)
    hangs: int = 0


def measure(kills: int, seed: int, names: Sequence[str], output: Path) -> dict[str, Any]:
    """Kill ``kills`` times, shared among the configurations ``names``; their tallies.

    Args:
        kills: SIGKILLs in all.
        seed: of the moments and the ranks.
        names: of CASES.
        output: folder of all runs; must be new or empty.
    """
    if output.exists() and any(output.iterdir()):
        raise common.BenchmarkError(f"--output={output}; must be a new or an empty folder; choose another one")
    output.mkdir(parents=True, exist_ok=True)
    tallies = {}
    for place, name in enumerate(names):
        share = kills // len(names) + (place < kills % len(names))
        tallies[name] = vars(kill_and_resume(CASES[name], share, random.Random(f"{seed} {name}"), output / name))
        print(f"{name}: {tallies[name]}", flush=True)
    return {"cases": tallies, "seed": seed, "machine": common.machine()}


def kill_and_resume(case: Case, kills: int, moments: random.Random, folder: Path) -> Tally:
    """Chains of runs of ``case`` until ``kills`` were sent, each to its end."""
    text = prepare_text(folder) if case.needs_text else folder
    tally = Tally()
    seconds = _run(case.command(folder / "whole", text), folder, tally, Moment(ENDS), moments)
    whole = left(folder / "whole")
    if not whole:
        raise common.BenchmarkError(f"the run nobody touches has failed; see {folder}/output.txt")
    rows = seconds_of_rows(folder / "whole")
    trains = rows[-1] - rows[len(rows) // 4]
    while tally.kills < kills:
        runs = folder / f"killed-{tally.chains + 1}"
        while not any(runs.glob("*/*/results.json")):
            early = moments.random() < EARLY
            moment = Moment(moments.uniform(0.0, seconds if early else trains), None if early else runs)
            sent = tally.kills
            _run(case.command(runs, text), folder, tally, moment if sent < kills else Moment(ENDS), moments)
            if tally.kills == sent and not any(runs.glob("*/*/results.json")):
                break  # it ended by itself, and not well
        tally.chains += 1
        found = left(runs)
        differing = sorted(name for name in {*whole, *found} if whole.get(name) != found.get(name))
        tally.lost += differing
        tally.identical += not differing
    return tally


def _run(command: list[str], folder: Path, tally: Tally, moment: Moment, moments: random.Random) -> float:
    """Start a run, and kill it if ``moment`` comes before its end; the seconds it took."""
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GLOG_v": "4"}
    with open(folder / "output.txt", "ab+") as output:
        start = output.seek(0, os.SEEK_END)
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT,
                                   start_new_session=True)
        try:
            if moment.passes(process):
                _stop(process, moment.seconds < ENDS, moments, tally)
        except BaseException:
            end(process)
            raise
        output.seek(start)
        said = output.read().decode(errors="replace")
    tally.resumed += [int(step) for step in RESUMED.findall(said)]
    crashed = process.returncode < 0 and process.returncode != -signal.SIGKILL
    tally.tracebacks += bool(TRACEBACK.search(said)) or crashed
    return time.monotonic() - began


def _stop(process: subprocess.Popen, on_purpose: bool, moments: random.Random, tally: Tally) -> None:
    """Kill a run; of several ranks one of them, whereupon the launcher has to end by itself."""
    tally.kills, tally.hangs = tally.kills + on_purpose, tally.hangs + (not on_purpose)
    ranks = sorted(pid for pid, words in descendants(process.pid) if any("launch/worker.py" in word for word in words))
    if not ranks or not on_purpose:
        end(process)
        return
    os.kill(moments.choice(ranks), signal.SIGKILL)
    try:
        process.wait(STANDS)
    except subprocess.TimeoutExpired:
        tally.hangs += 1
        end(process)


def end(process: subprocess.Popen) -> None:
    """SIGKILL for a process and all it has started."""
    for pid in [process.pid, *(pid for pid, _ in descendants(process.pid))]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    process.wait()


def descendants(pid: int) -> Iterator[tuple[int, list[str]]]:
    """Processes that a process and its children have started, with their command lines."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return
    for child in map(int, children):
        try:
            words = Path(f"/proc/{child}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        yield child, words
        yield from descendants(child)


def left(runs: Path) -> dict[str, Any]:
    """What the finished run under ``runs`` leaves, by file, in a form that is equal where runs are."""
    found = sorted(path.parent for path in runs.glob("*/*/results.json"))
    if not found:
        return {}
    files = [path for path in sorted(found[0].rglob("*")) if path.is_file()]
    return {str(path.relative_to(found[0])): READERS.get(path.suffix, lambda path: None)(path) for path in files}


def seconds_of_rows(runs: Path) -> list[float]:
    """Seconds at the rows of metrics.csv of the run under ``runs``."""
    with open(next(runs.glob("*/*/metrics.csv")), newline="", encoding="utf-8") as stream:
        return [float(row["seconds"]) for row in csv.DictReader(stream)]


def _rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as stream:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(stream)]


def _results(path: Path) -> dict[str, float]:
    return {key: value for key, value in json.loads(path.read_text(encoding="utf-8")).items() if key != "seconds"}


def _values(path: Path) -> dict[str, bytes | str]:
    import mindspore as ms

    contents = ms.load_checkpoint(str(path), crc_check=True)
    return {name: value if isinstance(value, str) else np.asarray(value.asnumpy()).tobytes()
            for name, value in contents.items()}


READERS: dict[str, Callable[[Path], Any]] = {".csv": _rows, ".json": _results, ".ckpt": _values}


def prepare_text(folder: Path) -> Path:
    """Pretraining data of made-up sentences, in ``folder``/text."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = random.Random(0)
    words = ["".join(generator.choices("abcdefgh", k=4)) for _ in range(80)]
    sentences = [" ".join(generator.choices(words, k=6)) + "." for _ in range(600)]
    documents = ["\n".join(sentences[start:start + 6]) for start in range(0, len(sentences), 6)]
    (folder / "corpus.txt").write_text("\n\n".join(documents) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "models.bert.prepare", "--output", str(folder / "text"), "--input",
               str(folder / "corpus.txt"), "--vocab_size", str(BERT["vocab_size"]), "--sequence_length", "32",
               "--max_predictions", "5", "--held_out", "0.2"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    if done.returncode:
        raise common.BenchmarkError(f"the text cannot be prepared: {done.stderr.strip()}")
    return folder / "text"


def report(numbers: dict[str, Any]) -> str:
    """The table to print."""
    rows = [("configuration", "kills", "went on after steps", "chains", "identical", "tracebacks", "hangs",
             "lost files")]
    for name, case in numbers["cases"].items():
        steps = case["resumed"]
        span = f"{len(steps)} times, {min(steps)} to {max(steps)}" if steps else "never"
        identical = "yes" if case["identical"] == case["chains"] else f"{case['identical']} of {case['chains']}"
        rows.append((name, case["kills"], span, case["chains"], identical, case["tracebacks"], case["hangs"],
                     ", ".join(sorted(set(case["lost"]))) or "none"))
    return "\n".join([common.describe(numbers["machine"]), f"seed {numbers['seed']}", "", common.table(rows)])
