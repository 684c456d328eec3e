"""Benchmarks over whole runs: what is read from them, told of them, and found by them."""
from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import common, partial, pretraining, update_policies, zoo_runs
from models.config import dump_config

MACHINE = common.machine()


def test_first_step_is_linear_between_evaluations():
    steps, losses = [100, 200, 300], [5.0, 4.0, 3.5]
    assert pretraining.first_step(steps, losses, 4.5) == pytest.approx(150)
    assert pretraining.first_step(steps, losses, 4.0) == pytest.approx(200)
    assert pretraining.first_step(steps, losses, 6.0) == 100
    assert pretraining.first_step(steps, losses, 3.4) is None


RUNS = [{"optimizer": "thor", "setting": {"optimizer.damping.initial": 1}, "steps": [100, 200], "losses": [6.0, 5.0],
         "accuracy": 0.2},
        {"optimizer": "lamb", "setting": {"optimizer.learning_rate.initial": 2}, "steps": [100, 200],
         "losses": [6.5, 5.5], "accuracy": 0.1},
        {"optimizer": "lamb", "setting": {"optimizer.learning_rate.initial": 3}, "steps": [100, 200],
         "losses": [6.5, 6.2], "accuracy": 0.1}]


def test_pretraining_compares_the_best_runs(tmp_path):
    numbers = pretraining.summary(RUNS, {"lamb": 0.5, "thor": 0.6})
    assert (numbers["target_loss"], numbers["thor_steps"], numbers["step_ratio"]) == (5.5, 150, 0.75)
    assert numbers["time_ratio"] == pytest.approx(0.75 * 1.2)
    text = pretraining.report({**numbers, "runs": RUNS, "steps": 200, "machine": MACHINE})
    assert text.endswith("after 150 of 200 steps: 0.75 of the steps, 0.90 of the time")
    assert "lamb       learning_rate 3  6.2000" in text
    pretraining.draw(RUNS, numbers, tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"


def test_pretraining_says_when_the_loss_is_not_reached():
    slow = [{**RUNS[0], "losses": [7.0, 6.9]}, *RUNS[1:]]
    numbers = pretraining.summary(slow, {"lamb": 0.5, "thor": 0.6})
    assert numbers["time_ratio"] is None
    assert pretraining.report({**numbers, "runs": slow, "steps": 200, "machine": MACHINE}).endswith(
        "THOR does not reach LAMB's final loss of 5.5000")


def write_run(folder, config, refreshed):
    """A finished run of two layers and two refreshes."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(dump_config(config))
    (folder / "results.json").write_text(json.dumps({"top_1_accuracy": 0.875, "loss": 0.5}))
    rows = ["step,layer,status", "0,a,refreshed", "0,b,refreshed"]
    rows += [f"5,{layer},{'refreshed' if layer in refreshed else 'kept'}" for layer in "ab"]
    (folder / "curvature.csv").write_text("\n".join(rows) + "\n")


def test_policies_are_read_from_finished_runs_and_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(zoo_runs, "train", lambda *_: pytest.fail("a finished run is run again"))
    words = ["--config", str(common.Path(update_policies.__file__).parents[1] / "configs/resnet/resnet18_digits.yaml"),
             "--runs", str(tmp_path), "--picture", str(tmp_path / "p.png")]
    for name, refreshed in zip(update_policies.POLICIES, ("ab", "a", "", "ab")):
        options = common.argparse.Namespace(config=words[1], runs=str(tmp_path), epochs=2, frequency=20, seed=1)
        config = zoo_runs.load(options.config, update_policies.overrides(options, name))
        write_run(tmp_path / name / "run" / "1", config, refreshed)
    assert update_policies.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    told = {line.split()[0]: line.split() for line in lines if line.startswith(("fixed", "THOR"))}
    assert told["fixed"] == ["fixed", "4", "1.000", "87.50", "%", "0.5000"]
    assert told["THOR"] == ["THOR", "0.01", "0.0", "3", "0.750", "87.50", "%", "0.5000"]
    assert told["THOR_stop"][1:5] == ["0.01", "0.001", "2", "0.500"]
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"


def test_partial_refresh_report():
    seconds = {"stale": np.array([1.0, 1.0]), "some, others stopped": np.array([1.1, 1.1]),
               "some, others kept": np.array([1.2, 1.2]), "all": np.array([1.5, 1.5])}
    stopped, kept, whole = (seconds[name] - seconds["stale"] for name in list(seconds)[1:])
    from benchmarks.workload import Work

    numbers = {"work": vars(Work()), "seconds": seconds, "refreshed": [0, 5], "layers": 10, "machine": MACHINE,
               "repeats": 2, "warmup": 1, "partial_share": common.ratio(stopped, whole),
               "partial_share_kept": common.ratio(kept, whole), "share_of_layers": 0.2, "share_of_floor": 0.15}
    text = partial.report(numbers)
    assert "that of all: 0.200 (0.200 to 0.200) where the others are stopped, 0.400 (0.400 to 0.400) where " in text
    assert text.endswith("share of the layers 0.200, of the work 0.150")
