"""MindSpore's own data sink, over stubs of a GPU's drivers: callbacks are called when the plan of sinks says.

Kernels are not launched, so no value is meant; values of sinks are those of tests/models/test_sinks.py.
"""
from __future__ import annotations

import csv
import subprocess
import sys

import pytest

from models.devicecheck.environment import device_environment
from tests.helpers import DIGITS, ROOT
from tests.helpers.compilation import stubs

SETTINGS = ["--device.target", "GPU", "--optimizer.name", "momentum", "--data.batch_size", "64", "--train.sink", "true",
            "--train.sink_size", "40", "--train.epochs", "2", "--train.checkpoint_every_steps", "20",
            "--train.checkpoint_keep", "99", "--train.run_dir", "runs"]


@pytest.mark.slow
@pytest.mark.usefixtures("stub_cache")
def test_the_sink_of_a_gpu_reports_where_epochs_and_checkpoints_end(tmp_path):
    """80 batches, an epoch of 40, a checkpoint every 20: sinks of 10."""
    variables = {**device_environment("GPU", stubs("GPU")), "MS_KERNEL_LAUNCH_SKIP": "all", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.helpers.gpu_sink_run", "--config", str(DIGITS), *SETTINGS]
    result = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=500,
                            check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.startswith("sinks of 10 steps, one of which ends with every epoch and every checkpoint\n")
    folder = next((tmp_path / "runs").glob("*/*"))
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == [
        f"step-{batches:06d}.ckpt" for batches in (20, 40, 60, 80)]
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["step"]) for row in rows] == list(range(10, 81, 10))
    assert [row["step"] for row in rows if row["eval_accuracy"]] == ["40", "80"]
    assert [line.split("  ")[0] for line in result.stdout.splitlines() if line.startswith("epoch")] == [
        "epoch 1/2", "epoch 2/2"]
