"""Time to a target: the search is fair, steps and seconds a step give the time, training stops where it should."""
from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

from benchmarks import target_results, time_to_target
from benchmarks.common import BenchmarkError
from benchmarks.plot_runs import draw_curves

TIMES = {"stale": np.array([1.0, 1.0, 1.0]), "refresh": np.array([5.0, 5.0, 5.0]),
         "adam": np.array([2.0, 2.0, 4.0]), "lamb": np.array([1.0, 1.0, 1.0])}


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
    assert time_to_target.frequency(search) == 20


@pytest.mark.parametrize("change, message", [
    ({"settings": {"thor": [{}], "adam": [{}, {}]}}, "each with as many settings"),
    ({"settings": {"momentum": [{}], "adam": [{}]}}, "must be thor and others"),
    ({"settings": {"thor": [{"optimizer.frequency": 5}], "adam": [{}]}}, "optimizer.frequency"),
    ({"extra": 1}, "must have exactly the keys"),
])
def test_unfair_or_wrong_searches_are_refused(change, message, tmp_path):
    path = tmp_path / "search.yaml"
    search = {"config": "c.yaml", "target": 0.9, "evaluate_every_steps": 5,
              "settings": {"thor": [{}], "adam": [{}]}}
    path.write_text(yaml.safe_dump({**search, **change}))
    with pytest.raises(BenchmarkError, match=message):
        time_to_target.read_search(path)


def test_plan_goes_round_the_optimizers_and_may_be_shortened():
    search = {"settings": {"thor": [{"a": 1}, {"a": 2}], "adam": [{"b": 1}, {"b": 2}]}}
    assert time_to_target.plan(search, None, 1) == [("thor", {"a": 1}), ("adam", {"b": 1})]
    assert time_to_target.plan(search, ["adam"], 9) == [("adam", {"b": 1}), ("adam", {"b": 2})]
    with pytest.raises(BenchmarkError, match="must be among thor, adam"):
        time_to_target.plan(search, ["sgd"])


@pytest.mark.parametrize("steps, refreshes", [(1, 1), (20, 1), (21, 2), (40, 2), (50, 3)])
def test_thor_pays_for_its_refreshes_up_to_the_target(steps, refreshes):
    assert target_results.seconds_for("thor", steps, TIMES, 20)[0] == steps + 4 * refreshes
    assert list(target_results.seconds_for("adam", steps, TIMES, 20)) == [2 * steps, 2 * steps, 4 * steps]


def finished(name, steps, reached=True, accuracy=0.9):
    return {"identity": {"optimizer": name, "setting": {}}, "steps": steps, "reached": reached,
            "accuracies": [[steps // 2, 0.5], [steps, accuracy]]}


RUNS = [finished("thor", 60), finished("thor", 40), finished("adam", 80), finished("lamb", 120),
        finished("lamb", 30, False, 0.7), finished("adam", 90)]


def test_time_ratio_is_steps_times_seconds_a_step_to_the_best_of_the_others():
    numbers = target_results.summary(RUNS, TIMES, every=20, target=0.9)
    assert {name: (best["steps"], best["seconds"]) for name, best in numbers["best"].items()} == {
        "thor": (40, 48.0), "adam": (80, 160.0), "lamb": (120, 120.0)}
    assert (numbers["best_other"], numbers["settings_each"]) == ("lamb", 2)
    assert numbers["time_ratio"] == pytest.approx(0.4)
    assert numbers["steps_ratio"] == pytest.approx(1 / 3)
    assert numbers["step_ratio"] == pytest.approx(1.2)


def test_no_time_ratio_when_nobody_else_reached_it():
    numbers = target_results.summary([finished("thor", 10), finished("adam", 10, False, 0.885)], TIMES, 20, 0.9)
    assert (numbers["time_ratio"], numbers["best"]["adam"]) == (None, None)
    assert numbers["lower"]["0.89"]["time_ratio"] is None
    assert numbers["lower"]["0.88"]["steps_ratio"] == 1


def test_report_says_steps_seconds_and_ratio():
    numbers = {**target_results.summary(RUNS, TIMES, every=20, target=0.9), "warmup": 1, "repeats": 3,
               "machine": time_to_target.common.machine()}
    lines = target_results.report(numbers).splitlines()
    at = lines.index("to 90 % test accuracy")
    assert lines[at + 3].split() == ["thor", "2", "of", "2", "40", "1.2000", "48.0"]
    assert lines[at + 6] == ("THOR to lamb, the best of the others: time 0.400 (0.400 to 0.400) = "
                             "steps 0.333 x seconds a step 1.200")
    assert "to 88 % test accuracy" in lines


def test_curves_mark_the_best_run_and_are_drawn(tmp_path):
    numbers = target_results.summary(RUNS, TIMES, every=20, target=0.9)
    drawn = target_results.curves(numbers)
    assert [curve["best"] for curve in drawn] == [False, True, True, True, False, False]
    assert drawn[1] == {"name": "thor", "steps": [20, 40], "seconds": [24.0, 48.0], "best": True,
                        "accuracies": [0.5, 0.9]}
    draw_curves(drawn, 0.9, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"


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
