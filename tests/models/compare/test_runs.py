"""Runs of a comparison: what is run, what is read, best settings, tables; training itself is faked."""
from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from models.compare import execute
from models.compare.__main__ import main
from models.compare.picture import band, losses
from models.compare.results import Result, best_number, report, verdict
from models.compare.runs import Outcome, describe_setting
from tests.helpers import CONFIGS, HELPERS

FILE = """
config: base.yaml
target: 0.93
budget: 2
seeds: 2
search: grid
optimizers:
  thor: {ranges: {optimizer.learning_rate.initial: [0.2, 0.1]}}
  adam: {ranges: {optimizer.learning_rate.initial: [0.05, 0.01]}}
"""


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """A comparison in the working directory, and the runs that were made so far."""
    (tmp_path / "base.yaml").write_text("model: {name: convnet3}\n")
    (tmp_path / "few.yaml").write_text(FILE)
    monkeypatch.setattr(execute, "PROGRAM", [sys.executable, str(HELPERS / "fake_train.py")])
    monkeypatch.setattr(execute, "TIMING", [sys.executable, str(HELPERS / "fake_timing.py")])
    monkeypatch.setattr(execute, "POLL_SECONDS", 0.01)
    monkeypatch.setenv("FAKE_TRAIN_CALLS", str(tmp_path / "calls.txt"))
    return lambda: (tmp_path / "calls.txt").read_text().splitlines() if (tmp_path / "calls.txt").exists() else []


def rows_of(path: str) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_first_settings_of_all_then_the_second_then_seeds_of_the_best(calls, capsys):
    assert main(["--config", "few.yaml"]) == 0
    assert calls() == ["thor 1", "adam 1"] * 2 + ["thor 2", "adam 2"]
    thor, adam = rows_of("runs/compare/few/table.csv")
    assert json.loads(thor["setting"]) == {"optimizer.learning_rate.initial": 0.1}
    assert json.loads(adam["setting"]) == {"optimizer.learning_rate.initial": 0.01}
    assert (thor["settings_tried"], thor["seeds"], thor["seeds_finished"]) == ("2", "2", "2")
    assert float(thor["accuracy_mean"]) == pytest.approx(0.92) and float(adam["accuracy_mean"]) == pytest.approx(1.01)
    assert (thor["seeds_at_target"], thor["steps_to_target"], thor["seconds_to_target"]) == ("0", "", "")
    assert (adam["seeds_at_target"], float(adam["steps_to_target"])) == ("2", 20)
    assert (float(thor["seconds_per_step"]), float(adam["seconds_per_step"])) == (1.0, 2.0)
    assert (float(adam["seconds_to_target"]), adam["in_turn"]) == (40, "True")
    assert json.loads(adam["seconds_per_step_quartiles"]) == [1.5, 2.5]
    assert float(adam["state_mib"]) == 1 and float(adam["peak_memory_mib"]) > 5
    assert [row["seed"] for row in rows_of("runs/compare/few/runs.csv")] == ["1"] * 4 + ["2"] * 2
    out = capsys.readouterr().out
    assert "in final accuracy thor is behind adam\nthor did not reach the target; adam did\n" in out
    assert Path("runs/compare/few/curves.png").read_bytes().startswith(b"\x89PNG")
    assert Path("runs/compare/few/table.md").read_text().startswith("| optimizer | best setting |")


def test_what_has_ended_is_not_run_again_and_more_budget_goes_on(calls):
    assert main(["--config", "few.yaml", "--budget", "1", "--seeds", "1"]) == 0
    assert calls() == ["thor 1", "adam 1"]
    assert main(["--config", "few.yaml", "--budget", "1", "--seeds", "1"]) == 0
    assert len(calls()) == 2
    assert main(["--config", "few.yaml", "--seeds", "1"]) == 0
    assert calls()[2:] == ["thor 1", "adam 1"]
    assert main(["--config", "few.yaml", "--seeds", "1", "--train.epochs", "3"]) == 0
    assert len(calls()) == 8


def test_times_in_turn_are_taken_once_for_the_same_best_settings(calls):
    for words, count in (([], 1), ([], 1), (["--optimizers", "adam"], 2), (["--optimizers", "adam"], 2)):
        assert main(["--config", "few.yaml", "--seeds", "1", *words]) == 0
        assert Path("timed.txt").read_text().splitlines()[count - 1:] == ["adam" if words else "thor adam"]


def test_where_nothing_was_timed_in_turn_the_runs_say_it():
    result = Result("adam", {}, 1, 0, (Outcome("finished", 0, 0, [row(i, per_epoch=100) for i in range(1, 41)]),), 0.9)
    assert result.step_seconds == pytest.approx(0.1) and result.numbers()["in_turn"] is False


def test_an_interrupted_run_goes_on_and_the_others_stay(calls, monkeypatch, capsys):
    monkeypatch.setenv("FAKE_TRAIN_ADAM", "killed")
    assert main(["--config", "few.yaml", "--seeds", "1"]) == 1
    assert "error: ended with status -9 (log: " in capsys.readouterr().err
    assert calls() == ["thor 1", "adam 1"] and not Path("runs/compare/few/table.csv").exists()
    monkeypatch.delenv("FAKE_TRAIN_ADAM")
    assert main(["--config", "few.yaml", "--seeds", "1"]) == 0
    assert calls()[2:] == ["adam 1", "thor 1", "adam 1"]


def test_a_process_that_stands_still_is_ended_and_its_run_goes_on(calls, monkeypatch, capsys):
    monkeypatch.setenv("FAKE_TRAIN_ADAM", "stalled")
    watches = []

    class FirstStandsStill:
        def __init__(self, pid):
            watches.append(self)

        def stands_still(self):
            return self is watches[0] and any(Path("runs").rglob("again"))

    monkeypatch.setattr(execute, "Watch", FirstStandsStill)
    assert main(["--config", "few.yaml", "--optimizers", "adam", "--budget", "1", "--seeds", "1"]) == 0
    assert calls() == ["adam 1"] * 2
    assert "adam, learning_rate 0.05, seed 1: stood still; its process is ended" in capsys.readouterr().out


def test_a_process_that_works_or_is_suspended_does_not_stand_still(monkeypatch):
    monkeypatch.setattr(execute, "STALL_SECONDS", 0.2)
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        watch = execute.Watch(process.pid)
        watch.used = -1.0
        assert not watch.stands_still()
        os.kill(process.pid, signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        time.sleep(0.3)
        assert not watch.stands_still()
    finally:
        process.kill()
        process.wait()
    assert not execute.Watch(process.pid).stands_still()


def test_a_run_that_cannot_be_made_ends_the_comparison_with_its_own_error(calls, monkeypatch, capsys):
    monkeypatch.setenv("FAKE_TRAIN_THOR", "refused")
    assert main(["--config", "few.yaml"]) == 1
    assert capsys.readouterr().err.startswith("error: data.path=x; is not a folder (log: runs/compare/few/runs/thor/")
    assert calls() == ["thor 1"]


def test_settings_that_diverge_are_told_and_never_best(calls, monkeypatch, capsys):
    monkeypatch.setenv("FAKE_TRAIN_THOR", "diverged")
    assert main(["--config", "few.yaml", "--seeds", "1"]) == 0
    thor = rows_of("runs/compare/few/table.csv")[0]
    assert (thor["settings_diverged"], thor["accuracy_mean"], thor["seeds_finished"]) == ("2", "", "0")
    out = capsys.readouterr().out
    assert "1/4 thor, learning_rate 0.2, seed 1: diverged\n" in out and verdict([]) == ""
    assert main(["--config", "few.yaml", "--seeds", "1"]) == 0
    assert len(calls()) == 4


def test_the_plan_is_printed_without_running(calls, capsys):
    assert main(["--config", "few.yaml", "--optimizers", "adam", "--plan"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "adam, learning_rate 0.05, seed 1", "adam, learning_rate 0.01, seed 1",
        "then 1 runs of the best settings with other seeds"]
    assert calls() == [] and not Path("runs").exists()


def test_wrong_usage(calls, capsys):
    for words, expected in ((["--config", "few.yaml", "--optimizers", "adm"], "optimizer adm is not in few.yaml"),
                            (["--config", "none.yaml"], "none.yaml: cannot read the config"),
                            (["--config", "few.yaml", "--train.epoch", "2"], "did you mean train.epochs?")):
        assert main(words) == 1
        assert expected in capsys.readouterr().err
    with pytest.raises(SystemExit) as raised:
        main(["--config", "few.yaml", "--budget", "0"])
    assert raised.value.code == 2 and "must be an int >= 1" in capsys.readouterr().err


def row(step, accuracy=None, per_epoch=20, seconds=None, loss=1.0):
    return {"epoch": step / per_epoch, "step": float(step), "loss": loss, "eval_accuracy": accuracy,
            "seconds": step * 0.1 if seconds is None else seconds}


def outcome(*accuracies, ended="finished"):
    return Outcome(ended, 2 ** 21, 2 ** 20, [row(20 * (i + 1), accuracy) for i, accuracy in enumerate(accuracies)])


def test_seconds_a_step_leave_out_first_steps_evaluation_and_checkpoints():
    rows = [row(2, seconds=50.0), row(4, seconds=60.0), row(8, seconds=61.0), row(14, seconds=64.0),
            row(18, seconds=66.0), row(20, 0.5, seconds=80.0),  # epoch 1: compiled, evaluated
            row(22, seconds=90.0), row(27, seconds=91.0), row(33, seconds=92.5), row(40, 0.6, seconds=120.0)]
    found = Outcome("finished", 0, 0, rows)
    assert found.step_seconds == pytest.approx((66.0 - 61.0 + 92.5 - 91.0) / (10 + 6))
    assert Outcome("finished", 0, 0, rows[:3]).step_seconds is None


def test_steps_to_a_target_and_the_last_accuracy():
    found = outcome(0.5, 0.9, 0.8)
    assert (found.steps_to(0.85), found.steps_to(0.95), found.accuracy) == (40, None, 0.8)
    assert outcome(0.5, ended="diverged").accuracy is None


@pytest.mark.parametrize("choose, best", [("accuracy", 2), ("steps", 1)])
def test_the_best_setting(choose, best):
    runs = [outcome(0.5, 0.85), outcome(0.9, 0.8), outcome(0.5, 0.95), outcome(0.99, 0.99, ended="diverged")]
    assert best_number(runs, choose, 0.9) == best
    assert best_number([runs[3], runs[3]], choose, 0.9) == 0
    assert best_number([outcome(0.1), outcome(0.2), outcome(0.2)], choose, 0.9) == 1


def test_the_table_puts_the_highest_mean_first_and_says_how_far_seeds_are_apart():
    setting = {"optimizer.learning_rate.initial": 0.1}
    results = [Result("thor", setting, 3, 0, (outcome(0.8, 0.86), outcome(0.9, 0.88)), 0.85),
               Result("sgd", setting, 3, 3, (outcome(ended="diverged"),), 0.85),
               Result("adam", setting, 3, 0, (outcome(0.9, 0.9), outcome(0.9, 0.92)), 0.85)]
    lines = report(results).splitlines()
    assert lines[2].split() == ["adam", "learning_rate", "0.1", "91.00", "%", "(90.00", "to", "92.00)", "2", "of", "2",
                                "20", "-", "-", "2", "1.0"]
    assert lines[3].split()[:9] == ["thor", "learning_rate", "0.1", "87.00", "%", "(86.00", "to", "88.00)", "2"]
    assert lines[4].split()[3:7] == ["diverged", "0", "of", "1"]
    assert verdict(results).splitlines() == ["in final accuracy thor is behind adam",
                                             "in steps to the target thor is behind adam"]
    assert verdict([results[0], results[1]]).splitlines()[0] == "in final accuracy nothing is ahead of thor"


def test_curves_are_means_and_bands_over_the_steps_all_seeds_have():
    steps, mean, low, high = band([(np.array([1, 2, 3]), np.array([1.0, 2.0, 3.0])),
                                   (np.array([1, 3]), np.array([3.0, 5.0]))])
    assert steps.tolist() == [1, 3] and mean.tolist() == [2, 4] and low.tolist() == [1, 3] and high.tolist() == [3, 5]
    assert all(part.size == 0 for part in band([(np.empty(0), np.empty(0)), (np.array([1]), np.array([1.0]))]))
    found = losses(Outcome("finished", 0, 0, [row(1, loss=1.0), row(2, loss=2.0)]))
    assert found[1].tolist() == pytest.approx([1.0, 1.1])


def test_settings_in_words():
    assert describe_setting({"optimizer.learning_rate.initial": 0.1, "optimizer.damping.initial": 0.2,
                             "train.epochs": 3}) == "learning_rate 0.1, damping 0.2, epochs 3"


@pytest.mark.slow
def test_a_real_training_run(tmp_path, capsys):
    (tmp_path / "real.yaml").write_text(f"""
config: {CONFIGS / "resnet" / "resnet18_digits.yaml"}
settings: {{model.name: convnet3, data.batch_size: 32, data.eval_batch_size: 360, train.epochs: 2}}
target: 0.5
optimizers: {{adam: {{ranges: {{optimizer.learning_rate.initial: [0.003]}}}}}}
""")
    assert main(["--config", "real.yaml", "--budget", "1", "--seeds", "1", "--output", "out"]) == 0
    (found,) = rows_of("out/table.csv")
    assert float(found["accuracy_mean"]) > 0.9 and float(found["steps_to_target"]) in (44, 88)
    assert 0 < float(found["seconds_per_step"]) < 5 and 100 < float(found["peak_memory_mib"]) < 10000
    assert float(found["state_mib"]) > 0.1
    assert "1/1 adam, learning_rate 0.003, seed 1: accuracy 9" in capsys.readouterr().out
