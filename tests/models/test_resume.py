"""A run killed with SIGKILL at a random batch and resumed equals an uninterrupted one, bit for bit."""
from __future__ import annotations

import csv
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import environment

BATCHES = 33


def run(folder: Path, optimizer: str, kill_at: int = 0) -> subprocess.CompletedProcess:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.helpers.tiny_run", str(folder), optimizer, str(kill_at)]
    return subprocess.run(command, cwd=folder, env=environment(GLOG_v="3"), capture_output=True, text=True, timeout=240)


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as stream:
        return [{key: value for key, value in row.items() if key != "seconds"}
                for row in csv.DictReader(stream)]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    done: dict[str, Path] = {}

    def get(optimizer: str) -> Path:
        if optimizer not in done:
            folder = tmp_path_factory.mktemp(optimizer)
            result = run(folder, optimizer)
            assert result.returncode == 0, result.stderr
            done[optimizer] = folder
        return done[optimizer]
    return get


@pytest.mark.parametrize("optimizer", ["momentum", "thor"])
def test_killed_and_resumed_equals_uninterrupted(tmp_path, uninterrupted, optimizer):
    kill_at = random.SystemRandom().randint(5, BATCHES - 1)
    killed = run(tmp_path, optimizer, kill_at)
    assert killed.returncode == -9, killed.stderr
    assert not (tmp_path / "final.npz").exists()
    resumed = run(tmp_path, optimizer)
    assert resumed.returncode == 0, resumed.stderr
    saved = [batch for batch in range(BATCHES) if (batch % 4 == 0 or batch % 11 == 0) and batch <= kill_at]
    if kill_at == saved[-1] and f"began with batch {kill_at}\n" not in resumed.stdout:
        saved.pop()  # an epoch's checkpoint comes after its last batch, and so after the kill
    assert f"began with batch {saved[-1]}\n" in resumed.stdout, f"killed after batch {kill_at}"
    final, expected = np.load(tmp_path / "final.npz"), np.load(uninterrupted(optimizer) / "final.npz")
    assert set(final) == set(expected) and "calls" in "".join(expected)
    differing = [name for name in expected if not np.array_equal(final[name], expected[name])]
    assert differing == [], f"killed after batch {kill_at}"
    assert rows(tmp_path) == rows(uninterrupted(optimizer)), f"killed after batch {kill_at}"


def test_skipped_steps_made_updates_lag_behind_batches(uninterrupted):
    final = np.load(uninterrupted("momentum") / "final.npz")
    assert 0 < int(final["global_step"][0]) < BATCHES


def test_metrics_have_a_row_for_every_batch_and_an_evaluation_for_every_epoch(uninterrupted):
    found = rows(uninterrupted("thor"))
    assert [int(row["step"]) for row in found] == list(range(1, BATCHES + 1))
    assert [int(row["step"]) for row in found if row["eval_accuracy"]] == [11, 22, 33]
    dampings = [float(row["damping"]) for row in found]
    assert dampings == sorted(set(dampings), reverse=True)
