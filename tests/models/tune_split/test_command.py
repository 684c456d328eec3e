"""python -m models.tune_split: whole factors of real batches, the table, the picture, the value for the config."""
from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mindspore import Tensor, nn

from models.tune_split import __main__ as tune_split
from models.tune_split.measure import measure_factors
from thor import THOR
from thor.train import make_train_step

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / "configs" / "resnet" / "resnet18_digits.yaml"


def test_factors_are_whole_and_averaged_over_batches():
    network = nn.Dense(150, 3)
    step = make_train_step(nn.WithLossCell(network, nn.MSELoss()),
                           THOR(network, 0.1, 0.1, 0.9, batch_size=8, split_dim=None))
    rng = np.random.default_rng(0)
    batches = [(rng.standard_normal((8, 150)).astype(np.float32), rng.standard_normal((8, 3)).astype(np.float32))
               for _ in range(3)]
    a, g = measure_factors(step, [tuple(map(Tensor, batch)) for batch in batches])
    expected = sum(x.T.astype(np.float64) @ x / 8 for x, _ in batches)
    assert a.shape == (150, 150) and g.shape == (3, 3)
    np.testing.assert_allclose(a / a.trace(), expected / expected.trace(), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("pynative")
def test_the_command_prints_the_table_and_draws_the_curves(tmp_path, capsys):
    picture = tmp_path / "split.png"
    words = ["--config", str(CONFIG), "--batches", "1", "--picture", str(picture), "--model.name", "lenet5",
             "--data.image_size", "32", "--device.mode", "pynative"]
    assert tune_split.main(words) == 0
    out = capsys.readouterr().out
    chosen = int(re.search(r"use optimizer.split_dim: (\d+)", out)[1])
    table = [line for line in out.splitlines() if "%" in line and "factors" not in line]
    candidates = [int(line.split()[0]) for line in table]
    assert chosen in candidates and candidates[0] == 1 and len(candidates) > 3
    assert [line for line in table if line.endswith("<")] == [line for line in table if int(line.split()[0]) == chosen]
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_no_batches_are_refused(capsys):
    with pytest.raises(SystemExit) as raised:
        tune_split.main(["--config", str(CONFIG), "--batches", "0"])
    assert raised.value.code == 2 and "--batches=0; must be an int >= 1" in capsys.readouterr().err


def test_help_does_not_wait_for_mindspore():
    program = ("import contextlib, sys; from models.tune_split.__main__ import main\n"
               "with contextlib.suppress(SystemExit): main(['--help'])\n"
               "sys.exit('mindspore' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: python -m models.tune_split --config FILE")
