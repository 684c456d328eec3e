"""The entries as processes of their own: nothing but the one line reaches the screen."""
from __future__ import annotations

import os
import subprocess
import sys

import mindspore as ms
import numpy as np

from tests.helpers import ROOT


def run(module, *words):
    environment = {name: value for name, value in os.environ.items() if name != "GLOG_v"}
    return subprocess.run([sys.executable, "-m", module, *map(str, words)], cwd=ROOT, env=environment,
                          capture_output=True, text=True, check=False)


def test_a_truncated_checkpoint_is_one_line_and_status_1(tmp_path):
    path = tmp_path / "part.ckpt"
    ms.save_checkpoint([{"name": "weight", "data": ms.Tensor(np.ones(100, np.float32))}], str(path),
                       crc_check=True)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:200])
    result = run("models.evaluate", "--config", "configs/resnet/resnet18_digits.yaml", "--checkpoint", path)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (f"error: checkpoint={path}; is truncated or no checkpoint; use another one\n")


def test_a_wrong_flag_is_one_line_and_status_1():
    result = run("models.train", "--config", "configs/resnet/resnet18_digits.yaml", "--train.epoch", "3")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "error: --train.epoch: unknown key train.epoch; did you mean train.epochs?\n"


def test_no_config_is_usage_and_status_2():
    result = run("models.train")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        "usage: python -m models.train --config FILE [options] [--section.key value ...]",
        "python -m models.train: error: the following arguments are required: --config"]
