"""The scripts for several devices: what they start, with a stand-in for Python, and what they refuse."""
from __future__ import annotations

import pytest

from tests.helpers import DIGITS, ROOT
from tests.helpers.scripts import log, run

SCRIPT, GPU = "run_distribute_train.sh", "run_distribute_train_gpu.sh"
CONFIG = str(DIGITS)


def started(sandbox):
    last = log(sandbox)[-1]
    assert last.startswith(f"{ROOT}: -m models.launch ")
    return last.removeprefix(f"{ROOT}: -m models.launch ")


@pytest.mark.parametrize("words, launch", [
    (["--workers", "2"], "--workers 2 --nodes 1 --node-rank 0 --master 127.0.0.1:8118"),
    (["--workers", "8", "--nodes", "4", "--node-rank", "3", "--master", "10.0.0.1:99"],
     "--workers 8 --nodes 4 --node-rank 3 --master 10.0.0.1:99"),
])
def test_the_form_for_any_device(words, launch, sandbox):
    result = run(SCRIPT, *words, CONFIG, "--parallel.curvature", "hybrid", **sandbox)
    assert result.returncode == 0, result.stderr
    assert started(sandbox) == f"{launch} models.train --config {CONFIG} --parallel.curvature hybrid"


@pytest.mark.parametrize("words, overrides", [
    (["none", CONFIG], ""),
    (["data", CONFIG, "--seed", "2"], " --data.path {0}/data --seed 2"),
    (["data", CONFIG, "a.ckpt"], " --data.path {0}/data --train.resume {0}/a.ckpt"),
    (["none", CONFIG, "a.ckpt", "--seed", "2"], " --train.resume {0}/a.ckpt --seed 2"),
])
def test_the_form_for_ascend_servers(words, overrides, sandbox, tmp_path):
    (tmp_path / "data").mkdir()
    for name in ("ranks.json", "a.ckpt"):
        (tmp_path / name).write_text("{}")
    result = run(SCRIPT, "ranks.json", *words, cwd=tmp_path, **sandbox)
    assert result.returncode == 0, result.stderr
    assert started(sandbox) == (f"--rank-table {tmp_path}/ranks.json models.train --config {CONFIG}"
                                + overrides.format(tmp_path))


@pytest.mark.parametrize("variables, workers", [
    ({"DEVICE_NUM": "4"}, 4), ({"CUDA_VISIBLE_DEVICES": "0,2,5"}, 3), ({"CUDA_VISIBLE_DEVICES": "1"}, 1)])
def test_gpus_of_one_machine(variables, workers, sandbox):
    result = run(GPU, "models", CONFIG, "--seed", "2", **variables, **sandbox)
    assert result.returncode == 0, result.stderr
    assert started(sandbox) == (f"--workers {workers} --nodes 1 --node-rank 0 --master 127.0.0.1:8118 models.train "
                                f"--config {CONFIG} --device.target GPU --data.path {ROOT}/models --seed 2")


@pytest.mark.parametrize("script, arguments", [
    (SCRIPT, []), (SCRIPT, ["--workers", "2"]), (SCRIPT, ["--workers"]), (SCRIPT, ["--workers", "2", "--seed", "1"]),
    (SCRIPT, [CONFIG]), (SCRIPT, ["setup.py", "none"]), (SCRIPT, ["setup.py", "none", "--seed", "1"]),
    (GPU, []), (GPU, ["none"]), (GPU, ["none", "--seed", "1"]),
])
def test_missing_arguments_show_the_usage(script, arguments, sandbox):
    result = run(script, *arguments, **sandbox)
    assert result.returncode == 1 and result.stderr.startswith(f"usage: bash {script} ")
    assert result.stderr.count("\n") == 1
    assert not sandbox["VENV"].exists()


@pytest.mark.parametrize("script, arguments, message", [
    (SCRIPT, ["--workers", "0", CONFIG], "error: --workers=0; must be an int from 1 to 4096"),
    (SCRIPT, ["--workers", "two", CONFIG], "error: --workers=two; must be an int from 1 to 4096"),
    (SCRIPT, ["--workers", "9" * 5000, CONFIG],
     f"error: --workers={'9' * 200}... (5000 characters); must be an int from 1 to 4096"),
    (SCRIPT, ["--workers", "2", "--nodes", "2", "--node-rank", "2", CONFIG],
     "error: --node-rank=2; must be below --nodes=2"),
    *[(SCRIPT, ["--workers", "2", "--master", value, CONFIG], f"error: --master={value}; must be ADDRESS:PORT with a "
       "port from 1 to 65535; give the first machine's name or IPv4 address and a free port of it")
      for value in ("here", "here:65536")],
    (SCRIPT, ["--workers", "2", "a" * 300], f"error: CONFIG_PATH={'a' * 200}... (300 characters) is not a file"),
    (SCRIPT, ["--workers", "2", "no.yaml"], "error: CONFIG_PATH=no.yaml is not a file"),
    (SCRIPT, ["no.json", "none", CONFIG], "error: RANK_TABLE_FILE=no.json is not a file"),
    (SCRIPT, ["setup.py", "no", CONFIG], "error: DATASET_PATH=no is not a directory"),
    (SCRIPT, ["setup.py", "none", "no.yaml"], "error: CONFIG_PATH=no.yaml is not a file"),
    (SCRIPT, ["setup.py", "none", CONFIG, "no.ckpt"], "error: RESUME_CKPT=no.ckpt is not a file"),
    (GPU, ["no", CONFIG], "error: DATASET_PATH=no is not a directory"),
    (GPU, ["none", "no.yaml"], "error: CONFIG_PATH=no.yaml is not a file"),
])
def test_wrong_arguments_are_one_line(script, arguments, message, sandbox):
    result = run(script, *arguments, **sandbox)
    assert (result.returncode, result.stderr, result.stdout) == (1, message + "\n", "")
    assert not sandbox["VENV"].exists()


@pytest.mark.parametrize("value", ["many", "0", "-1", "4097", "99999999999999999999", "9" * 5000])
def test_a_number_of_gpus_that_is_none(value, sandbox):
    result = run(GPU, "none", CONFIG, DEVICE_NUM=value, **sandbox)
    shown = value if len(value) < 200 else f"{value[:200]}... (5000 characters)"
    assert (result.returncode, result.stderr) == (1, f"error: DEVICE_NUM={shown}; must be an int from 1 to 4096\n")


@pytest.mark.parametrize("script", [SCRIPT, GPU])
def test_help(script, sandbox):
    result = run(script, "--help", **sandbox)
    assert result.returncode == 0 and result.stdout.startswith(f"usage: bash {script} ")
