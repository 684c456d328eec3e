"""The programs: help, wrong arguments, and their pure functions."""
from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

from benchmarks import inverse, memory, step_time, time_to_target
from benchmarks.common import BenchmarkError
from benchmarks.workload import Work

PROGRAMS = {"step_time": step_time, "inverse": inverse, "memory": memory, "time_to_target": time_to_target}


@pytest.mark.parametrize("name", PROGRAMS)
def test_help(name, capsys):
    with pytest.raises(SystemExit) as stop:
        PROGRAMS[name].main(["--help"])
    assert stop.value.code == 0
    assert f"python -m benchmarks.{name}" in capsys.readouterr().out


@pytest.mark.parametrize("name, words, message", [
    ("step_time", ["--model", "resnet51"], "invalid choice: 'resnet51'"),
    ("step_time", ["--batch-size", "0"], "'0'; must be an int >= 1"),
    ("step_time", ["--frequency", "often"], "'often'; must be an int >= 1"),
    ("inverse", ["--repeats", "0"], "'0'; must be an int >= 1"),
    ("memory", ["--batch-size", "3"], "unrecognized arguments"),
    ("time_to_target", ["--optimizers"], "expected at least one argument"),
])
def test_wrong_arguments(name, words, message, capsys):
    with pytest.raises(SystemExit) as stop:
        PROGRAMS[name].main(words)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", PROGRAMS)
def test_missing_json_folder_is_one_line(name, capsys):
    assert PROGRAMS[name].main(["--json", "no/such/file.json"]) == 1
    assert capsys.readouterr().err == "error: --json=no/such/file.json; its folder does not exist; " \
                                      "create it or choose another file\n"


def test_step_time_summary_and_report():
    seconds = {"momentum": np.array([1.0, 1.0, 2.0]), "stale": np.array([1.1, 1.1, 2.4]),
               "refresh": np.array([1.5, 1.4, 4.0])}
    numbers = step_time.summary(seconds, frequency=2)
    assert numbers["momentum_s"] == 1.0
    assert numbers["stale_ratio"] == pytest.approx(1.1)
    assert numbers["refresh_ratio"] == pytest.approx(1.5)
    assert numbers["amortised_ratio"] == pytest.approx(1.3)


def test_compile_ratio_leaves_the_step_out():
    first = {"momentum": 3.0, "stale": 5.0, "refresh": 8.0}
    seconds = {"momentum": np.array([1.0]), "stale": np.array([1.0]), "refresh": np.array([2.0])}
    numbers = step_time.compile_summary(first, seconds)
    assert numbers["compile_ratio"] == pytest.approx((4 + 6) / 2)
    assert numbers["first_ratio"] == pytest.approx(13 / 3)


def test_lapack_reference_inverts():
    blocks = [inverse.random_blocks(2, 5, seed=0)]
    damping = [np.full((2, 1, 1), 0.5, np.float32)]
    expected = np.linalg.inv(blocks[0].astype(np.float64) + 0.5 * np.eye(5))
    assert inverse.relative_error(expected, inverse.invert_by_lapack(blocks, damping)[0]) < 1e-6


def test_memory_counts_lenet_by_hand(capsys):
    numbers = memory.measure(Work(model="lenet5", image_size=32, classes=10))
    columns, rows = (75, 150, 400, 120, 84), (6, 16, 120, 84, 10)
    blocks = sum(-(-dim // 128) * min(dim, 128) ** 2 for dim in columns + rows)
    assert numbers["factors_mib"] == pytest.approx((blocks + 5 * 2) * 4 / 2 ** 20)
    assert numbers["rest_mib"] == pytest.approx(blocks * 4 / 2 ** 20, abs=1e-3)
    assert numbers["dense_copy_mib"] == pytest.approx(sum(d * d for d in columns + rows) * 4 / 2 ** 20)


def test_shipped_search_is_fair_and_loads():
    from models.config import load_config

    search = time_to_target.read_search(time_to_target.HERE / "time_to_target.yaml")
    assert set(search["settings"]) == {"thor", "momentum", "adam", "adamw", "lamb"}
    order = time_to_target.plan(search, None)
    assert [name for name, _ in order[:5]] == list(search["settings"])
    for name, setting in order:
        options = time_to_target.argparse.Namespace(seed=3, data_path="here")
        config = load_config(search["config"], time_to_target.overrides(name, setting, options))
        assert (config.optimizer.name, config.seed, config.data.path) == (name, 3, "here")
        assert config.train.epochs == setting["train.epochs"]


@pytest.mark.parametrize("change, message", [
    ({"settings": {"thor": [{}], "adam": [{}, {}]}}, "each with as many settings"),
    ({"settings": {"momentum": [{}], "adam": [{}]}}, "must be thor and others"),
    ({"extra": 1}, "must have exactly the keys"),
])
def test_unfair_or_wrong_searches_are_refused(change, message, tmp_path):
    path = tmp_path / "search.yaml"
    search = {"config": "c.yaml", "target": 0.9, "evaluate_every_steps": 5,
              "settings": {"thor": [{}], "adam": [{}]}}
    path.write_text(yaml.safe_dump({**search, **change}))
    with pytest.raises(BenchmarkError, match=message):
        time_to_target.read_search(path)


def test_unknown_optimizer_of_a_search():
    with pytest.raises(BenchmarkError, match="must be among thor, adam"):
        time_to_target.plan({"settings": {"thor": [{}], "adam": [{}]}}, ["sgd"])


def finished(name, seconds, reached=True):
    return {"identity": {"optimizer": name, "setting": {}}, "seconds": seconds, "steps": 10,
            "reached": reached, "accuracies": [[10, 0.9]]}


def test_time_ratio_is_to_the_best_of_the_others():
    numbers = time_to_target.summary([finished("thor", 30.0), finished("thor", 20.0), finished("adam", 50.0),
                                      finished("lamb", 40.0), finished("momentum", 5.0, reached=False)])
    assert numbers["best_s"] == {"thor": 20.0, "adam": 50.0, "lamb": 40.0, "momentum": None}
    assert numbers["time_ratio"] == 0.5


def test_no_time_ratio_when_nobody_else_reached_it():
    assert time_to_target.summary([finished("thor", 1.0), finished("adam", 1.0, False)])["time_ratio"] is None


def test_damaged_state_is_refused(tmp_path):
    path = tmp_path / "runs.json"
    path.write_text(json.dumps([1]))
    with pytest.raises(BenchmarkError, match="not a file of finished runs"):
        time_to_target.read_state(str(path))
    assert time_to_target.read_state(str(tmp_path / "none.json")) == []


class FakeSession:
    """Accuracy grows by 0.1 an evaluation; the loss is 1."""

    batches_per_epoch = 4

    def __init__(self):
        self.steps = self.evaluations = 0
        self.train_set = self

    def create_tuple_iterator(self, num_epochs):
        return iter([()] * self.batches_per_epoch)

    def step(self):
        self.steps += 1
        return self

    def asnumpy(self):
        return np.float32(1.0)

    def evaluate(self):
        self.evaluations += 1
        return {"top_1_accuracy": 0.1 * self.evaluations}


@pytest.mark.parametrize("target, limit, steps, reached", [(0.25, 100, 9, True), (0.95, 7, 7, False)])
def test_training_stops_at_the_target_or_the_limit(target, limit, steps, reached):
    session = FakeSession()
    result = time_to_target.train_session(session, target, every=3, limit=limit)
    assert (result["steps"], session.steps, result["reached"]) == (steps, steps, reached)
    assert result["accuracies"][-1][0] == steps
