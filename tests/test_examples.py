"""The examples run as programs, do what they say, and are short."""
from __future__ import annotations

import os
import runpy
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


@pytest.fixture
def examples(monkeypatch, pynative):
    """Examples are imported as a program finds them, in the mode that it has by default."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    monkeypatch.setattr(base, "_KINDS", dict(base._KINDS))


@pytest.mark.slow
def test_an_example_runs_as_a_program():
    run = subprocess.run([sys.executable, str(ROOT / "examples" / "four_lines.py")], capture_output=True, text=True,
                         env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=600)
    assert run.returncode == 0, run.stderr
    assert "of the digits held out are right after 3 epochs" in run.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("examples")
@pytest.mark.parametrize("name, printed", [
    ("own_loop.py", "16x1x3x3  second order: A 1x9x9, G 1x16x16"),
    ("resume.py", "all bit-identical after stopping at step 12 of 25"),
])
def test_example_runs(name, printed, capsys):
    runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
    assert printed in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("examples")
def test_the_own_layer_trains_as_a_dense_layer_does(capsys):
    import own_layer

    weights = []

    def columns(inputs, outputs):
        cell = own_layer.Columns(inputs, outputs)
        weights.append(cell.weight.asnumpy().T.copy())
        return cell

    def dense(inputs, outputs):
        return nn.Dense(inputs, outputs, weight_init=ms.Tensor(weights.pop(0)), has_bias=False)

    losses = []
    for create in (columns, dense):
        ms.set_seed(1)
        losses.append(own_layer.main(create))
    assert losses[0][-1] < 0.3 * losses[0][0]
    np.testing.assert_allclose(*losses, rtol=1e-3)
    assert "64x32  second order: A 1x64x64, G 1x32x32" in capsys.readouterr().out.split("loss")[0]


def test_all_examples_are_run_and_short():
    assert [path.name for path in EXAMPLES] == ["four_lines.py", "own_layer.py", "own_loop.py", "resume.py"]
    texts = [path.read_text(encoding="utf-8") for path in EXAMPLES]
    assert all(len(text.splitlines()) <= 60 and text.endswith('\nif __name__ == "__main__":\n    main()\n')
               for text in texts)
