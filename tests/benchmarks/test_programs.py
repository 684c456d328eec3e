"""The programs: help, wrong arguments, and their pure functions."""
from __future__ import annotations

import subprocess

import numpy as np
import pytest

from benchmarks import inverse, memory, peak_memory, peers, step_time, time_to_target
from benchmarks.workload import Work

PROGRAMS = {"step_time": step_time, "inverse": inverse, "memory": memory, "peak_memory": peak_memory,
            "time_to_target": time_to_target, "peers": peers}


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
    assert numbers["factors_mib"] == pytest.approx((blocks + 5 * 7) * 4 / 2 ** 20)
    assert numbers["rest_mib"] == pytest.approx(blocks * 4 / 2 ** 20, abs=1e-3)
    assert numbers["dense_copy_mib"] == pytest.approx(sum(d * d for d in columns + rows) * 4 / 2 ** 20)


def test_peak_memory_is_measured_in_a_process_for_each_optimizer(capsys, monkeypatch):
    peaks = iter(["noise\n600.5\n", "500.0\n"])
    monkeypatch.setattr(peak_memory.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(
        command, 0, next(peaks), ""))
    assert peak_memory.main(["--model", "lenet5", "--batch-size", "8"]) == 0
    assert capsys.readouterr().out.endswith("THOR takes 1.20 of LAMB's\n")


def test_a_side_that_fails_is_told(capsys, monkeypatch):
    monkeypatch.setattr(peak_memory.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(
        command, 1, "", "out of memory"))
    assert peak_memory.main(["--model", "lenet5"]) == 1
    assert capsys.readouterr().err == "error: --side=thor ended with status 1: out of memory\n"
