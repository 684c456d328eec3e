"""The scaling benchmark: what it refuses, and its tables. Nothing is timed here."""
from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

import pytest

from benchmarks import common, scaling
from models.planner.report import numbers, report
from models.planner.search import make_plans
from tests.helpers.planner_cases import PROFILE, job


def seconds(factor: float) -> dict[str, float]:
    return {"first_order": 1.0 * factor, "stale": 1.2 * factor, "refresh": 2.0 * factor}


def test_efficiency_is_the_speed_of_a_process_beside_one_alone():
    shares = scaling.efficiency(seconds(1.0), {"first_order": 0.5, "stale": 0.75, "refresh": 2.0})
    assert shares == pytest.approx({"first_order": 1.0, "stale": 0.8, "refresh": 0.5})


def test_report_holds_measurements_predictions_and_traffic():
    plans = [make_plans(job(), PROFILE, 2)]
    step = {mode: plan.step for mode, plan in plans[0].items()}
    made = {"one": {"data": seconds(1000.0)}, "batch_size": 10, "config": "two_dense.yaml", "machine": common.machine(),
            "two": {"data": seconds(800.0), "hybrid": {"refresh": 1250.0}, "link": {"latency": 2e-4, "bandwidth": 5e8}},
            "repeats": 3, "warmup": 1, "planned": numbers(job(), PROFILE, plans),
            "planner_report": report(job(), PROFILE, plans)}
    lines = scaling.report(made).splitlines()
    assert lines[1].endswith("link alpha 200 us, beta 500 MB/s")
    steps = [line for line in lines if line.startswith(("first order ", "stale ", "refresh, "))]
    rows = {line[:17].strip(): line[17:].split() for line in steps}
    assert rows["stale"] == ["1200000.0", "960000.0", "0.62", f"{1e3 * step['data'].stale:.1f}",
                             f"{step['data'].stale / 960:.2f}"]
    assert rows["refresh, hybrid"][:4] == ["2000000.0", "1250000.0", "0.80", f"{1e3 * step['hybrid'].refresh:.1f}"]
    sent = {line.split(":")[0]: line.split()[-2:] for line in lines
            if line.startswith(("data:", "upstream:", "hybrid:"))}
    triangles, whole = 4 * (15 + 19), 4 * (13 + 20)
    assert sent["data"] == [f"{triangles / 1024:.1f}", f"{triangles / whole:.3f}"]
    assert sent["upstream"] == [f"{whole / 1024:.1f}", "1"]
    assert lines[-1].split()[:2] == ["2", "data"]


@pytest.mark.parametrize("words, message", [
    (["--batch-size", "7"], "--batch-size=7; must be even, half a process; use 8"),
    (["--repeats", "0"], "'0'; must be an int >= 1"),
])
def test_wrong_arguments(words, message, capsys):
    with pytest.raises(SystemExit) as stop:
        scaling.main(words)
    assert stop.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize("words, message", [
    (["--json", "no/such/file.json"], "error: --json=no/such/file.json; its folder does not exist"),
    (["--profile", "no/such/file.yaml"], "error: --profile=no/such/file.yaml; its folder does not exist"),
    (["--config", "no.yaml"], "error: no.yaml: cannot read the config"),
    (["--optimizer.name", "adam"],
     "error: optimizer.name='adam'; must be thor, thor_robust, kfac or spngd; choose another --config"),
])
def test_what_cannot_be_measured_is_one_line(words, message, capsys):
    assert scaling.main(words) == 1
    error = capsys.readouterr().err
    assert error.startswith(message) and error.count("\n") == 1


def test_one_core_is_not_enough(monkeypatch, capsys):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert scaling.main([]) == 1
    assert capsys.readouterr().err.startswith("error: 1 core is free for 2 processes; must be at least 2")


def test_a_process_that_fails_tells_its_last_lines(tmp_path):
    command = [sys.executable, "-c", "import sys; sys.exit('no such device')"]
    with pytest.raises(common.BenchmarkError, match="failed: no such device"):
        scaling.start(command, str(tmp_path), [0, 1])


def test_ranks_are_told_the_same_work():
    options = scaling.create_parser().parse_args(["--batch-size", "8", "--config", "c.yaml", "--repeats", "2"])
    assert scaling.own_words(options) == ["--config", str(Path("c.yaml").absolute()), "--batch-size", "8", "--warmup",
                                          str(scaling.WARMUP), "--repeats", "2"]
    assert scaling.at_batch(_config(), 4).data.batch_size == 4


def _config():
    from models.config import load_config

    return dataclasses.replace(load_config(None, []), seed=2)
