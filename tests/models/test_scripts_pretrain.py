"""The pretraining script: arguments, paths, and that it makes its data when none is given."""
from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from test_scripts_standalone import ROOT, log, run, sandbox  # noqa: E402, F401

SCRIPT = "run_standalone_pretrain.sh"
SMALL = f"{ROOT}/configs/bert/bert_small.yaml"
DATA = f"{ROOT}/runs/bert_data"


def test_without_arguments_data_are_made_and_a_small_bert_is_pretrained(sandbox, tmp_path):  # noqa: F811
    result = run(SCRIPT, cwd=tmp_path, **sandbox)
    assert (result.returncode, result.stdout) == (0, "")
    lines = log(sandbox)
    assert lines[:2] == ["venv", "pip .[zoo]"]
    assert lines[2].startswith(f"{ROOT}: -m models.bert.prepare --output {DATA} --vocab_size ")
    assert lines[3:] == [f"{ROOT}: -m models.train --config {SMALL} --data.path {DATA}"]


def test_overrides_go_to_training(sandbox):  # noqa: F811
    run(SCRIPT, "--optimizer.frequency", "5", **sandbox)
    assert log(sandbox)[-1].endswith(f"--data.path {DATA} --optimizer.frequency 5")


def test_given_data_and_config_are_used(sandbox, tmp_path):  # noqa: F811
    (tmp_path / "my data").mkdir()
    (tmp_path / "run.yaml").write_text("seed: 1\n")
    run(SCRIPT, "my data", "run.yaml", "--seed", "3", cwd=tmp_path, **sandbox)
    assert log(sandbox)[2:] == [f"{ROOT}: -m models.train --config {tmp_path}/run.yaml --data.path "
                                f"{tmp_path}/my data --seed 3"]


@pytest.mark.parametrize("arguments, expected", [
    (["data"], "usage: bash run_standalone_pretrain.sh "),
    (["data", "--seed", "1"], "usage: bash run_standalone_pretrain.sh "),
    (["no", "setup.py"], "error: DATA_DIR=no is not a directory\n"),
    (["models", "no.yaml"], "error: CONFIG_PATH=no.yaml is not a file\n"),
])
def test_wrong_arguments_are_refused(arguments, expected, sandbox):  # noqa: F811
    result = run(SCRIPT, *arguments, **sandbox)
    assert (result.returncode, result.stdout) == (1, "") and result.stderr.startswith(expected)
    assert not sandbox["VENV"].exists()
