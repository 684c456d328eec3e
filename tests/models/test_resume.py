"""A run that ends at a random batch and goes on equals an uninterrupted one, bit for bit."""
from __future__ import annotations

import csv
import random
from pathlib import Path

import numpy as np
import pytest

from models import callbacks, registry
from tests.helpers.interrupted import left_after
from tests.helpers.tiny_run import NETWORKS, main

pytestmark = pytest.mark.slow

BATCHES = 33


def random_batch() -> int:
    return random.SystemRandom().randint(5, BATCHES - 1)


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as stream:
        return [{key: value for key, value in row.items() if key != "seconds"}
                for row in csv.DictReader(stream)]


@pytest.fixture(autouse=True)
def tiny_networks():
    """The networks of those names."""
    for name, build in NETWORKS.items():
        registry.register_network(name)(build)
    yield
    for name in NETWORKS:
        registry.unregister_network(name)


def run_and_resume(folder: Path, optimizer: str) -> tuple[Path, Path, int]:
    """A whole run; what SIGKILL at a random batch would have left of it; that batch."""
    end = random_batch()
    whole, resumed = folder / "whole", folder / "resumed"
    whole.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callbacks, "build_callbacks", left_after(end, resumed))
        main(whole, optimizer)
    return whole, resumed, end


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


def test_steps_that_were_skipped_stay_skipped(tmp_path, capsys):
    """With a loss scale that overflows now and then, updates lag behind batches."""
    whole, resumed, end = run_and_resume(tmp_path, "momentum")
    assert 0 < int(np.load(whole / "final.npz")["global_step"][0]) < BATCHES
    capsys.readouterr()
    main(resumed, "momentum")
    assert_goes_on_as(resumed, whole, end, capsys.readouterr().out)


def test_ended_and_resumed_equals_uninterrupted(tmp_path, capsys):
    """THOR, compiled; and its metrics: a row for every batch, an evaluation for every epoch."""
    whole, resumed, end = run_and_resume(tmp_path, "thor")
    capsys.readouterr()
    main(resumed, "thor")
    assert_goes_on_as(resumed, whole, end, capsys.readouterr().out)
    found = rows(resumed)
    assert [int(row["step"]) for row in found] == list(range(1, BATCHES + 1))
    assert [int(row["step"]) for row in found if row["eval_accuracy"]] == [11, 22, 33]
    dampings = [float(row["damping"]) for row in found]
    assert dampings == sorted(set(dampings), reverse=True)
