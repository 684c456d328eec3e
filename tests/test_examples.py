"""The examples run as programs, do what they say, and are short."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from thor.layers import base

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("name, printed", [
    ("four_lines.py", "of the digits held out are right after 3 epochs"),
    ("own_loop.py", "16x1x3x3  second order: A 1x9x9, G 1x16x16"),
    ("own_layer.py", "64x32  second order: A 1x64x64, G 1x32x32"),
    ("resume.py", "all bit-identical after stopping at step 12 of 25"),
])
def test_example_runs(name, printed):
    run = subprocess.run([sys.executable, str(ROOT / "examples" / name)], capture_output=True, text=True,
                         env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=600)
    assert run.returncode == 0, run.stderr
    assert printed in run.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("pynative")
def test_the_own_layer_trains_as_a_dense_layer_does(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    monkeypatch.setattr(base, "_KINDS", dict(base._KINDS))
    import own_layer

    def twin(create):
        def linear(inputs, outputs):
            weight = np.random.default_rng(inputs).normal(0, inputs ** -0.5, (inputs, outputs)).astype(np.float32)
            return create(weight)
        return linear

    def columns(weight):
        cell = own_layer.Columns(*weight.shape)
        cell.weight.set_data(ms.Tensor(weight))
        return cell

    losses = []
    for create in (columns, lambda weight: nn.Dense(*weight.shape, weight_init=ms.Tensor(weight.T), has_bias=False)):
        ms.set_seed(1)
        losses.append(own_layer.main(twin(create)))
    assert losses[0][-1] < 0.3 * losses[0][0]
    np.testing.assert_allclose(*losses, rtol=1e-3)


def test_all_examples_are_run_and_short():
    assert [path.name for path in EXAMPLES] == ["four_lines.py", "own_layer.py", "own_loop.py", "resume.py"]
    assert all(len(path.read_text(encoding="utf-8").splitlines()) <= 60 for path in EXAMPLES if path.name)
