"""The pretraining scripts: arguments, paths, and that the first makes its data when none is given."""
from __future__ import annotations

import pytest

from tests.helpers import ROOT
from tests.helpers.scripts import log, run

SCRIPT = "run_standalone_pretrain.sh"
SMALL = f"{ROOT}/configs/bert/bert_small.yaml"
DATA = f"{ROOT}/runs/bert_data"


def test_without_arguments_data_are_made_and_a_small_bert_is_pretrained(sandbox, tmp_path):
    result = run(SCRIPT, cwd=tmp_path, **sandbox)
    assert (result.returncode, result.stdout) == (0, "")
    lines = log(sandbox)
    assert lines[:2] == ["venv", "pip .[zoo]"]
    assert lines[2].startswith(f"{ROOT}: -m models.bert.prepare --output {DATA} --vocab_size ")
    assert lines[3:] == [f"{ROOT}: -m models.train --config {SMALL} --data.path {DATA}"]


def test_overrides_go_to_training(sandbox):
    run(SCRIPT, "--optimizer.frequency", "5", **sandbox)
    assert log(sandbox)[-1].endswith(f"--data.path {DATA} --optimizer.frequency 5")


def test_given_data_and_config_are_used(sandbox, tmp_path):
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
def test_wrong_arguments_are_refused(arguments, expected, sandbox):
    result = run(SCRIPT, *arguments, **sandbox)
    assert (result.returncode, result.stdout) == (1, "") and result.stderr.startswith(expected)
    assert not sandbox["VENV"].exists()


def test_a_device_and_an_epoch_size_need_no_data_made(sandbox, tmp_path):
    (tmp_path / "data").mkdir()
    result = run(SCRIPT, "0", "3", "data", "none", cwd=tmp_path, CONFIG_PATH=SMALL, **sandbox)
    assert result.returncode == 0, result.stderr
    assert log(sandbox)[2:] == [f"{ROOT}: -m models.train --config {SMALL} --device.device_id 0 --parallel.device_num "
                                f"1 --train.epochs 3 --data.path {tmp_path}/data"]


DISTRIBUTED = "run_distribute_pretrain.sh"


def test_several_devices_train_from_the_five_arguments(sandbox, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "ranks.json").write_text("{}")
    result = run(DISTRIBUTED, "8", "3", "data", "none", "ranks.json", "--seed", "2", cwd=tmp_path, **sandbox)
    assert result.returncode == 0, result.stderr
    assert log(sandbox)[-1] == (
        f"{ROOT}: -m models.launch --workers 8 --rank-table {tmp_path}/ranks.json models.train --config "
        f"{ROOT}/configs/bert/bert_large_ascend_8p.yaml --train.epochs 3 --data.path {tmp_path}/data --seed 2")


@pytest.mark.parametrize("arguments, expected", [
    (["8", "3", "models", "none"], "usage: bash run_distribute_pretrain.sh DEVICE_NUM EPOCH_SIZE "),
    (["8", "3", "models", "none", "--seed", "1"], "usage: bash run_distribute_pretrain.sh DEVICE_NUM EPOCH_SIZE "),
    (["eight", "3", "models", "none", "none"], "error: DEVICE_NUM=eight; must be an int from 1 to 4096\n"),
    (["8", "0", "models", "none", "none"], "error: EPOCH_SIZE=0; must be an int from 1 to 1000000\n"),
    (["9" * 5000, "3", "models", "none", "none"],
     f"error: DEVICE_NUM={'9' * 200}... (5000 characters); must be an int from 1 to 4096\n"),
    (["8", "3", "no", "none", "none"], "error: DATA_DIR=no is not a directory\n"),
    (["8", "3", "models", "no", "none"], "error: SCHEMA_DIR=no is not a file or directory\n"),
    (["8", "3", "models", "none", "no"], "error: RANK_TABLE_FILE=no is not a file\n"),
])
def test_wrong_arguments_for_several_devices_are_refused(arguments, expected, sandbox):
    result = run(DISTRIBUTED, *arguments, **sandbox)
    assert (result.returncode, result.stdout) == (1, "") and result.stderr.startswith(expected)
    assert not sandbox["VENV"].exists()


def test_another_configuration_for_several_devices(sandbox):
    result = run(DISTRIBUTED, "2", "1", "models", "none", "none", CONFIG_PATH="no.yaml", **sandbox)
    assert (result.returncode, result.stderr) == (1, "error: CONFIG_PATH=no.yaml is not a file\n")
