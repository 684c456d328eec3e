"""The fuzzer: every way to end is told from the others, cases repeat, and a tiny run finds nothing."""
from __future__ import annotations

import ctypes
import random
import sys
import time

import pytest

from benchmarks import fuzz
from benchmarks.fuzzing import configurations, datasets
from benchmarks.fuzzing.damage import bytes_damaged, text_damaged
from benchmarks.fuzzing.processes import classify, run_all


def end(case: str) -> int:
    if case == "one line":
        print("error: x", file=sys.stderr)
        return 1
    if case == "usage":
        print("usage: a [-h]\n         --config FILE\na: error: no config", file=sys.stderr)
        raise SystemExit(2)
    if case == "several lines":
        print("error: x\nand y", file=sys.stderr)
        return 1
    if case == "silent":
        return 1
    if case == "traceback":
        raise KeyError("x")
    if case == "crash":
        ctypes.string_at(0)
    if case == "hang":
        time.sleep(60)
    return 0


def test_every_ending_is_told_from_the_others_and_costs_only_itself():
    cases = ["accepted", "crash", "one line", "traceback", "hang", "several lines", "usage", "silent", "accepted"]
    outcomes = [outcome for outcome, _ in run_all(cases, end, limit=3)]
    assert outcomes == ["accepted", "crash", "one line", "traceback", "hang", "several lines", "one line",
                        "several lines", "accepted"]


def test_an_accepted_case_that_wrote_a_traceback_is_one():
    assert classify(0, "a warning\n") == "accepted"
    assert classify(0, "Traceback (most recent call last):\n") == "traceback"


def test_damage_is_a_function_of_the_seed_and_changes_something():
    content, text = bytes(range(256)) * 4, "a: 1\nb:\n  c: 2\n"
    changed = [bytes_damaged(content, random.Random(seed)) for seed in range(100)]
    assert changed == [bytes_damaged(content, random.Random(seed)) for seed in range(100)]
    assert sum(made != content for made in changed) >= 85
    texts = [text_damaged(text, random.Random(seed)) for seed in range(100)]
    assert texts == [text_damaged(text, random.Random(seed)) for seed in range(100)] and len(set(texts)) > 60
    first = [bytes_damaged(content, random.Random(seed), 10) for seed in range(100)]
    assert {made[-100:] for made in first if len(made) >= len(content)} == {content[-100:]}


def test_all_settings_are_overridden():
    names = configurations.settings()
    assert {"seed", "optimizer.damping.initial", "data.path", "model.bert.heads", "train.epochs"} <= set(names)


def test_the_table_counts_by_kind():
    from collections import Counter

    rows = [("a", Counter({"accepted": 2, "crash": 1})), ("b", Counter({"one line": 4}))]
    assert fuzz.table(rows).splitlines()[2:] == [
        "| a | 3 | 2 | 0 | 0 | 0 | 1 | 0 |", "| b | 4 | 0 | 4 | 0 | 0 | 0 | 0 |", "| all | 7 | 2 | 4 | 0 | 0 | 1 | 0 |"]


@pytest.mark.parametrize("part, cases", [("configurations", 20), ("checkpoints", 6)])
def test_a_tiny_run_ends_in_lines(part, cases, capfd):
    assert fuzz.main(["--only", part, "--cases", str(cases), "--seed", "3"]) == 0
    total = capfd.readouterr().out.splitlines()[-1]
    assert total.startswith(f"| all | {cases} |") and total.endswith("| 0 | 0 | 0 | 0 |")


@pytest.mark.slow
def test_a_tiny_run_over_data_ends_in_lines(capfd):
    cases = len(datasets.KINDS)
    assert fuzz.main(["--only", "data", "--cases", str(cases), "--seed", "3"]) == 0
    assert capfd.readouterr().out.splitlines()[-1].endswith("| 0 | 0 | 0 | 0 |")
