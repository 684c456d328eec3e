"""The arguments of the scripts as MindSpore's own take them: what Python is given, and what is refused."""
from __future__ import annotations

import os

import pytest

from models.launch import forms
from tests.helpers import DIGITS, ROOT

CONFIG = str(DIGITS)
LARGE = f"{ROOT}/configs/bert/bert_large_ascend_8p.yaml"
ONE_MACHINE = "--nodes 1 --node-rank 0 --master 127.0.0.1:8118 "
# Words before the arguments of training, words they become, and what stands between CONFIG_PATH and the data.
TRAINING = {
    "run_standalone_train": ([], "models.train", ""),
    "run_standalone_train_gpu": ([], "models.train", " --device.target GPU"),
    "run_distribute_train": (["ranks.json"], "models.launch --rank-table {0}/ranks.json models.train", ""),
    "run_distribute_train_gpu": ([], f"models.launch --workers 4 {ONE_MACHINE}models.train", " --device.target GPU"),
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    for name in ("data", "held out"):
        (tmp_path / name).mkdir()
    for name in ("ranks.json", "a.ckpt", "run.yaml", "schema.json"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVICE_NUM", "4")
    monkeypatch.delenv("CONFIG_PATH", raising=False)
    return tmp_path


def words(capsys, script, *given):
    assert forms.main([script, *given]) == 0
    out, err = capsys.readouterr()
    assert err == "" and out.endswith("\0")
    return " ".join(out[:-1].split("\0"))


def refused(capsys, script, *given):
    status = forms.main([script, *given])
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == (status == 1)
    return status, err


@pytest.mark.parametrize("script", TRAINING)
@pytest.mark.parametrize("given, expected", [
    ([], ""),
    (["a.ckpt"], " --train.resume {0}/a.ckpt"),
    (["True", "held out"], " --data.eval_path {0}/held out"),
    (["true", "held out", "a.ckpt"], " --data.eval_path {0}/held out --train.resume {0}/a.ckpt"),
    (["False", "held out"], " --data.eval_path {0}/held out --train.eval_every_epochs 0"),
    (["False", "none", "a.ckpt"], " --train.eval_every_epochs 0 --train.resume {0}/a.ckpt"),
    (["True", "none", "--seed", "2"], " --seed 2"),
])
def test_what_follows_the_configuration_in_training(script, given, expected, place, capsys):
    before, module, device = TRAINING[script]
    found = words(capsys, script, *before, "data", "run.yaml", *given)
    assert found == f"{module} --config {{0}}/run.yaml{device} --data.path {{0}}/data{expected}".format(place)
    if not given:
        assert words(capsys, script, *before, "none", "run.yaml") == f"{module} --config {{0}}/run.yaml{device}".format(
            place)


def test_without_paths_one_device_trains_on_the_digits(place, capsys):
    assert words(capsys, "run_standalone_train") == f"models.train --config {CONFIG}"
    assert words(capsys, "run_standalone_train_gpu", "--seed=2") == (
        f"models.train --config {CONFIG} --device.target GPU --seed=2")


@pytest.mark.parametrize("script, device", [("run_eval", ""), ("run_eval_gpu", " --device.target GPU")])
def test_evaluation(script, device, place, capsys):
    assert words(capsys, script, "data", "a.ckpt", "run.yaml", "--seed", "2") == (
        f"models.evaluate --config {place}/run.yaml --checkpoint {place}/a.ckpt{device} --data.path {place}/data "
        "--seed 2")


@pytest.mark.parametrize("schema", [[], ["none"], ["schema.json"], ["data"]])
def test_pretraining_on_one_device(schema, place, capsys, monkeypatch):
    assert words(capsys, "run_standalone_pretrain", "3", "40", "data", *schema, "--seed", "2") == (
        f"models.train --config {LARGE} --device.device_id 3 --parallel.device_num 1 --train.accumulate_steps 8 "
        f"--train.epochs 40 --data.path {place}/data --seed 2")
    monkeypatch.setenv("CONFIG_PATH", "run.yaml")
    assert words(capsys, "run_standalone_pretrain", "0", "40", "data", *schema) == (
        f"models.train --config {place}/run.yaml --device.device_id 0 --parallel.device_num 1 --train.epochs 40 "
        f"--data.path {place}/data")


def test_pretraining_with_a_configuration_of_its_own(place, capsys):
    assert words(capsys, "run_standalone_pretrain", "data", "run.yaml") == (
        f"models.train --config {place}/run.yaml --data.path {place}/data")


def test_pretraining_on_several_devices_without_a_rank_table(place, capsys):
    assert words(capsys, "run_distribute_pretrain", "8", "3", "data", "schema.json", "none", "--seed", "2") == (
        f"models.launch --workers 8 {ONE_MACHINE}models.train --config {LARGE} --train.epochs 3 --data.path "
        f"{place}/data --seed 2")


@pytest.mark.parametrize("script, counts", [
    ("run_standalone_train", (0, 2, 3, 4, 5)), ("run_standalone_train_gpu", (0, 2, 3, 4, 5)),
    ("run_distribute_train", (3, 4, 5, 6)), ("run_distribute_train_gpu", (2, 3, 4, 5)), ("run_eval", (3,)),
    ("run_eval_gpu", (3,)), ("run_standalone_pretrain", (0, 2, 3, 4)), ("run_distribute_pretrain", (5,))])
def test_another_number_of_arguments_shows_the_usage(script, counts, capsys):
    """Of a number that is taken the first path or number is refused instead: none of them is one."""
    for count in range(8):
        status, _ = refused(capsys, script, *["no"] * count) if count or 0 not in counts else (1, "")
        assert (count, status) == (count, 1 if count in counts else 2)
    assert refused(capsys, script, "no", "--seed", "2")[0] == 2


@pytest.mark.parametrize("script, given, message", [
    ("run_standalone_train", ["data", "no"], "CONFIG_PATH=no is not a file"),
    ("run_standalone_train", ["no", "run.yaml"], "DATASET_PATH=no is not a directory"),
    ("run_standalone_train", ["data", "run.yaml", "True"], "RESUME_CKPT=True is not a file"),
    ("run_standalone_train", ["data", "run.yaml", "a.ckpt", "held out"],
     "RUN_EVAL=a.ckpt; must be True or False; a checkpoint to go on with comes last"),
    ("run_standalone_train_gpu", ["data", "run.yaml", "True", "no"], "EVAL_DATASET_PATH=no is not a file or directory"),
    ("run_distribute_train", ["ranks.json", "data", "run.yaml", "False", "none", "no"], "RESUME_CKPT=no is not a file"),
    ("run_eval_gpu", ["data", "no", "run.yaml"], "CHECKPOINT_PATH=no is not a file"),
    ("run_standalone_pretrain", ["x", "1", "data"], "DEVICE_ID=x; must be an int from 0 to 9999"),
    ("run_standalone_pretrain", ["0", "0", "data"], "EPOCH_SIZE=0; must be an int from 1 to 1000000"),
    ("run_standalone_pretrain", ["0", "1", "no"], "DATA_DIR=no is not a directory"),
    ("run_standalone_pretrain", ["0", "1", "data", "no"], "SCHEMA_DIR=no is not a file or directory"),
    ("run_distribute_train_gpu", ["a" * 300, "run.yaml"],
     f"DATASET_PATH={'a' * 200}... (300 characters) is not a directory"),
])
def test_what_cannot_be_used_is_one_line(script, given, message, place, capsys):
    assert refused(capsys, script, *given) == (1, f"error: {message}\n")


def test_gpus_are_counted_by_nvidia_smi(place, capsys, monkeypatch):
    monkeypatch.delenv("DEVICE_NUM")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(place))
    train = ("run_distribute_train_gpu", "none", "run.yaml")
    assert refused(capsys, *train) == (
        1, "error: nvidia-smi is not on PATH; set DEVICE_NUM to the number of GPUs\n")
    (place / "nvidia-smi").write_text("#!/bin/sh\n[ $1 = --list-gpus ] && echo 'GPU 0: A' && echo 'GPU 1: A'\n")
    os.chmod(place / "nvidia-smi", 0o755)
    assert words(capsys, *train).startswith("models.launch --workers 2 --nodes 1 ")


def test_every_script_that_reads_arguments_has_its_form():
    reading = {path.stem for path in (ROOT / "scripts").glob("run_*.sh") if "\nread_words " in path.read_text()}
    assert reading == set(forms.SCRIPTS)
