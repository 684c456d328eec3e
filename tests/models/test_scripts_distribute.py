"""scripts/run_distribute_train.sh: what it refuses, before anything is installed or started."""
from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIG = "configs/resnet/resnet18_digits.yaml"


def run(*arguments, venv):
    return subprocess.run(["bash", str(ROOT / "scripts" / "run_distribute_train.sh"), *arguments], cwd=ROOT,
                          env={**os.environ, "VENV": str(venv)}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [[], [CONFIG], ["--workers", "2"], ["--workers"],
                                       ["--workers", "2", "--seed", "1"]])
def test_missing_arguments_show_the_usage(arguments, tmp_path):
    result = run(*arguments, venv=tmp_path / "venv")
    assert result.returncode == 1 and result.stderr.startswith("usage: bash run_distribute_train.sh --workers N")
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize("arguments, message", [
    (["--workers", "0", CONFIG], "error: --workers=0; must be an int >= 1"),
    (["--workers", "two", CONFIG], "error: --workers=two; must be an int >= 1"),
    (["--workers", "2", "--nodes", "2", "--node-rank", "2", CONFIG], "error: --node-rank=2; must be below --nodes=2"),
    (["--workers", "2", "--master", "here", CONFIG], "error: --master=here; must be ADDRESS:PORT"),
    (["--workers", "2", "no.yaml"], "error: CONFIG_PATH=no.yaml is not a file"),
])
def test_wrong_arguments_are_one_line(arguments, message, tmp_path):
    result = run(*arguments, venv=tmp_path / "venv")
    assert (result.returncode, result.stderr, result.stdout) == (1, message + "\n", "")
    assert not (tmp_path / "venv").exists()


def test_help(tmp_path):
    result = run("--help", venv=tmp_path / "venv")
    assert result.returncode == 0 and result.stdout.startswith("usage: ")
