"""python -m models.devicecheck: its table, its exit status, and errors in one line."""
from __future__ import annotations

import re
import subprocess
import sys

import pytest

from models.devicecheck.__main__ import main
from tests.helpers import CONFIGS, environment
from tests.helpers.compilation import stubs

LENET = str(CONFIGS / "lenet/lenet5_fashion_mnist_momentum.yaml")
THOR = str(CONFIGS / "lenet/lenet5_fashion_mnist.yaml")


@pytest.mark.parametrize("words, line", [
    (["--target", "GPU", "--config", LENET, "--graphs", "stale"],
     "error: graphs='stale'; must be of step, sink with optimizer.name=momentum; leave it out for all of them"),
    (["--target", "GPU", "--config", THOR, "--ranks", "8"],
     "error: ranks=8; must be 1 on GPU, whose collectives are not simulated; leave it out"),
    (["--target", "Ascend", "--config", THOR, "--ranks", "8", "--rank", "8"],
     "error: rank=8; must be an int from 0 to 7; there are 8 ranks"),
], ids=["graphs", "ranks", "rank"])
def test_wrong_options_are_one_line(words, line, capsys):
    assert main(words) == 1
    assert capsys.readouterr().err.splitlines() == [line]


def test_a_device_mindspore_does_not_know(capsys):
    with pytest.raises(SystemExit) as error:
        main(["--target", "TPU", "--config", LENET])
    assert error.value.code == 2 and "invalid choice: 'TPU'" in capsys.readouterr().err


@pytest.mark.parametrize("overrides, status, result, last", [
    ((), 0, "ok", "1 of 1 graphs compile"),
    (("--optimizer.name", "heun", "--train.accumulate_steps", "2"), 1, "accumulate_steps=2; must be 1 for Heun, .+",
     "0 of 1 graphs compile"),
], ids=["compiles", "does not"])
@pytest.mark.usefixtures("stub_cache")
def test_table_and_status(overrides, status, result, last, tmp_path):
    stubs("GPU")
    run = subprocess.run([sys.executable, "-m", "models.devicecheck", "--target", "GPU", "--config", LENET, "--graphs",
                          "step", *overrides], cwd=tmp_path, capture_output=True, text=True, check=False,
                         env=environment())
    lines = run.stdout.splitlines()
    assert run.returncode == status, run.stderr
    assert lines[0].startswith(f"{LENET} for GPU, one device, stubs in ")
    assert lines[1] == "graph          seconds  peak MiB  result"
    assert re.fullmatch(rf"step +\d+\.\d +\d+  {result}", lines[2]) and lines[3] == last
    assert not list(tmp_path.iterdir())
