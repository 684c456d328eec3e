"""A run that ends at a random batch and goes on equals an uninterrupted one, bit for bit."""
from __future__ import annotations

import csv
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models import callbacks, registry
from tests.helpers import environment
from tests.helpers.interrupted import left_after
from tests.helpers.tiny_run import NETWORKS, main

pytestmark = pytest.mark.slow

BATCHES = 33


def random_batch() -> int:
    return random.SystemRandom().randint(5, BATCHES - 1)


def run(folder: Path, kill_at: int = 0) -> subprocess.CompletedProcess:
    """THOR in a process of its own."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.helpers.tiny_run", str(folder), "thor", str(kill_at)]
    return subprocess.run(command, cwd=folder, env=environment(GLOG_v="3"), capture_output=True, text=True, timeout=240)


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as stream:
        return [{key: value for key, value in row.items() if key != "seconds"}
                for row in csv.DictReader(stream)]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("thor")
    result = run(folder)
    assert result.returncode == 0, result.stderr
    return folder


def assert_goes_on_as(resumed: Path, whole: Path, end: int, output: str) -> None:
    """The run in ``resumed``, which ended after batch ``end``, went on from its checkpoint and became ``whole``."""
    saved = [batch for batch in range(BATCHES) if (batch % 4 == 0 or batch % 11 == 0) and batch <= end]
    if end == saved[-1] and f"began with batch {end}\n" not in output:
        saved.pop()  # an epoch's checkpoint comes after its last batch, and so after the end
    assert f"began with batch {saved[-1]}\n" in output, f"ended after batch {end}"
    final, expected = np.load(resumed / "final.npz"), np.load(whole / "final.npz")
    assert set(final) == set(expected) and "calls" in "".join(expected)
    differing = [name for name in expected if not np.array_equal(final[name], expected[name])]
    assert differing == [], f"ended after batch {end}"
    assert rows(resumed) == rows(whole), f"ended after batch {end}"


def test_killed_and_resumed_equals_uninterrupted(tmp_path, uninterrupted):
    end = random_batch()
    killed = run(tmp_path, end)
    assert killed.returncode == -9, killed.stderr
    assert not (tmp_path / "final.npz").exists()
    resumed = run(tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert_goes_on_as(tmp_path, uninterrupted, end, resumed.stdout)


@pytest.fixture
def tiny_sharp():
    """The network of that name."""
    registry.register_network("tiny_sharp")(NETWORKS["tiny_sharp"])
    yield
    registry.unregister_network("tiny_sharp")


@pytest.mark.usefixtures("tiny_sharp")
def test_steps_that_were_skipped_stay_skipped(tmp_path, monkeypatch, capsys):
    """With a loss scale that overflows now and then, updates lag behind batches."""
    end = random_batch()
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    whole.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(callbacks, "build_callbacks", left_after(end, resumed))
        main(whole, "momentum")
    assert 0 < int(np.load(whole / "final.npz")["global_step"][0]) < BATCHES
    capsys.readouterr()
    main(resumed, "momentum")
    assert_goes_on_as(resumed, whole, end, capsys.readouterr().out)


def test_metrics_have_a_row_for_every_batch_and_an_evaluation_for_every_epoch(uninterrupted):
    found = rows(uninterrupted)
    assert [int(row["step"]) for row in found] == list(range(1, BATCHES + 1))
    assert [int(row["step"]) for row in found if row["eval_accuracy"]] == [11, 22, 33]
    dampings = [float(row["damping"]) for row in found]
    assert dampings == sorted(set(dampings), reverse=True)
