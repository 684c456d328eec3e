"""Ratios, tables and JSON of the benchmarks."""
from __future__ import annotations

import argparse
import json

import numpy as np
import pytest

from benchmarks import common


def test_ratio_is_the_median_over_rounds_with_quartiles():
    numerator, denominator = np.array([2.0, 4.0, 12.0, 8.0, 20.0]), np.array([2.0, 2.0, 2.0, 4.0, 4.0])
    assert common.ratio(numerator, denominator) == {"ratio": 2.0, "low": 2.0, "high": 5.0}


@pytest.mark.parametrize("frequency, expected", [(1, 3.0), (2, 2.0), (100, 1.02)])
def test_amortised(frequency, expected):
    assert common.amortised(1.0, 3.0, frequency) == pytest.approx(expected)


def test_spread():
    assert common.spread({"ratio": 1.08, "low": 1.0, "high": 1.125}) == "1.080 (1.000 to 1.125)"


def test_table_aligns_columns():
    assert common.table([("a", "bb"), ("ccc", 1)]) == "a    bb\n---  --\nccc  1"


def test_json_is_written_whole(tmp_path):
    path = tmp_path / "numbers.json"
    common.write_json(str(path), {"stale_ratio": 1.5})
    assert json.loads(path.read_text()) == {"stale_ratio": 1.5}
    assert [file.name for file in tmp_path.iterdir()] == ["numbers.json"]


def test_no_json_without_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    common.write_json(None, {})
    assert list(tmp_path.iterdir()) == []


def test_json_in_a_missing_folder_is_refused_before_measuring(tmp_path):
    with pytest.raises(common.BenchmarkError, match="its folder does not exist"):
        common.check_writable(str(tmp_path / "no" / "file.json"))


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.5"])
def test_at_least_refuses(text):
    with pytest.raises(argparse.ArgumentTypeError, match="must be an int >= 1"):
        common.at_least(1)(text)


def test_expected_errors_are_one_line(capsys):
    def entry():
        raise common.BenchmarkError("first\n  second")

    assert common.run(entry) == 1
    assert capsys.readouterr().err == "error: first second\n"


def test_machine_names_versions():
    facts = common.machine()
    assert set(facts["versions"]) == {"mindspore", "numpy", "scipy"}
    assert facts["versions"]["numpy"] == np.__version__
    assert facts["cores"] >= 1
    assert f"numpy {np.__version__}" in common.describe(facts)


def test_a_measurement_is_printed_and_written(tmp_path, capsys):
    path = tmp_path / "numbers.json"
    status = common.run_measurement(lambda: {"s": 1}, lambda numbers: f"took {numbers['s']}", str(path))
    assert (status, capsys.readouterr().out, json.loads(path.read_text())) == (0, "took 1\n", {"s": 1})


def test_nothing_is_measured_for_a_json_file_that_cannot_be_written(capsys):
    assert common.run_measurement(lambda: pytest.fail("measured"), str, "no/such/file.json") == 1
    assert "its folder does not exist" in capsys.readouterr().err
