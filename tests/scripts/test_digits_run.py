"""The README's first command, half as long: its files, its accuracy, and the evaluation of its checkpoint."""
from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import DIGITS, ROOT, environment

pytestmark = pytest.mark.slow


def command(script: str, arguments: list[str], module: str, module_arguments: list[str]) -> list[str]:
    """The script in the environment the tests run in; without a script-made environment, what it would call."""
    if (Path(sys.prefix) / ".ready-zoo").exists():
        return ["bash", str(ROOT / "scripts" / script), *arguments]
    return [sys.executable, "-m", module, *module_arguments]


def execute(words: list[str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment(VENV=sys.prefix))
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory) -> tuple[Path, str]:
    """Run folder and screen of a run with the shipped settings, of 8 epochs instead of 16."""
    runs = tmp_path_factory.mktemp("runs")
    place = ["--train.run_dir", str(runs), "--train.epochs", "8"]
    screen = execute(command("run_standalone_train.sh", place, "models.train", ["--config", str(DIGITS), *place]))
    (folder,) = runs.glob("*/*")
    return folder, screen


def test_accuracy(digits_run):
    folder, screen = digits_run
    accuracy = json.loads((folder / "results.json").read_text())["top_1_accuracy"]
    assert accuracy >= 0.98
    assert f"test accuracy    {100 * accuracy:.2f} %" in screen


def test_files(digits_run):
    folder, screen = digits_run
    assert {"checkpoints", "config.yaml", "curves.png", "metrics.csv", "parameters.txt", "results.json"} <= {
        path.name for path in folder.iterdir()}
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as stream:
        evaluated = [row for row in csv.DictReader(stream) if row["eval_accuracy"]]
    assert [float(row["epoch"]) for row in evaluated] == list(range(1, len(evaluated) + 1))
    assert str(folder / "curves.png") in screen and "wall-clock time" in screen


def test_evaluation_of_the_checkpoint(digits_run):
    folder, _ = digits_run
    checkpoint = max((folder / "checkpoints").glob("*.ckpt"))
    screen = execute(command("run_eval.sh", ["none", str(checkpoint), str(DIGITS)], "models.evaluate",
                             ["--config", str(DIGITS), "--checkpoint", str(checkpoint)]))
    found = re.search(r"'top_1_accuracy': ([0-9.]+)", screen)
    expected = json.loads((folder / "results.json").read_text())["top_1_accuracy"]
    assert found and float(found.group(1)) == pytest.approx(expected, abs=1e-6)
