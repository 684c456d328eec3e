"""The table of goals: what is met, from whose numbers, without running a benchmark again."""
from __future__ import annotations

import json

import pytest

from benchmarks import __main__ as goals

MACHINE = {"date": "2026-01-01", "cores": 2, "processor": "X", "instruction_sets": "avx2", "load": 1.0,
           "onednn_max_cpu_isa": "", "python": "3.11", "mindspore": "2.10", "numpy": "1", "scipy": "1"}
STEPS = {"stale_ratio": 1.10, "refresh_ratio": 1.6, "amortised_ratio": 1.105, "compile_ratio": 9.0, "momentum_s": 2.0,
         "floor_s": {"stale": 0.1, "refresh": 0.5}, "work": {"frequency": 100}, "machine": MACHINE}


def rows(screen: str) -> list[str]:
    return [line for line in screen.splitlines() if line.endswith(("met", "missed"))]


@pytest.fixture
def no_machine(monkeypatch):
    monkeypatch.setattr(goals.common, "describe", lambda machine: "a machine")


def test_numbers_that_are_there_are_not_measured_again(tmp_path, capsys, no_machine):
    (tmp_path / "resnet50.json").write_text(json.dumps(STEPS))
    (tmp_path / "time_to_target.json").write_text(json.dumps({"time_ratio": None, "steps_ratio": None,
                                                              "machine": MACHINE}))
    assert goals.main(["--output", str(tmp_path), "--only", "resnet50", "time_to_target", "peers"]) == 0
    found = [line.split("  ")[-1].strip() for line in rows(capsys.readouterr().out)]
    assert found == ["met", "missed", "met", "missed", "missed"]


def test_floors_are_one_and_what_the_products_take():
    first, refresh, amortised = (goal.floor(STEPS) for goal in goals.GOALS[:3])
    assert (first, refresh) == (1.05, 1.25) and amortised == pytest.approx((1.25 + 99 * 1.05) / 100)


def test_a_benchmark_that_fails_is_named_in_one_line(tmp_path, capsys, monkeypatch):
    called = []
    monkeypatch.setattr(goals.subprocess, "call", lambda command: called.append(command) or 3)
    assert goals.main(["--output", str(tmp_path), "--only", "memory"]) == 1
    assert called[0][1:] == ["-m", "benchmarks.memory", "--json", str(tmp_path / "memory.json")]
    assert capsys.readouterr().err == "error: benchmarks.memory ended with status 3\n"


def test_every_goal_has_a_program_that_can_be_imported():
    assert {goal.program for goal in goals.GOALS} == set(goals.PROGRAMS)
    for module, *_ in goals.PROGRAMS.values():
        __import__(f"benchmarks.{module}")
