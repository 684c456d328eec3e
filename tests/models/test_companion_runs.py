"""Runs with the companions through the entries: slow weights are evaluated, THOR inside Lookahead is THOR."""
from __future__ import annotations

import csv
import json

import mindspore as ms
import numpy as np
import pytest

from tests.helpers import DIGITS

SMALL = ["--model.name=convnet3", "--data.batch_size=360", "--data.eval_batch_size=360", "--train.epochs=1",
         "--train.run_dir=runs", "--device.mode=pynative"]


@pytest.mark.parametrize("name", ["lookahead(thor)", "ranger"])
def test_a_run_evaluates_the_slow_weights_and_so_does_its_checkpoint(name, tmp_path):
    from models import evaluate, train
    from models.config import load_config

    refreshed = ["--optimizer.frequency=2"] if name == "lookahead(thor)" else []
    words = [f"--optimizer.name={name}", "--optimizer.lookahead={steps: 2, alpha: 0.5}"]
    config = load_config(DIGITS, [*SMALL, *refreshed, *words])
    results = train.train(config)
    (folder,) = (tmp_path / "runs").glob("*/*")
    (checkpoint,) = (folder / "checkpoints").glob("*.ckpt")
    again = evaluate.evaluate(config, str(checkpoint))
    assert again["loss"] == pytest.approx(results["loss"], rel=1e-6)
    assert (folder / "parameters.txt").exists() == (name == "lookahead(thor)")
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert all(bool(row["damping"]) == (name == "lookahead(thor)") for row in rows)
    assert json.loads((folder / "results.json").read_text())["loss"] == results["loss"]
    values = ms.load_checkpoint(str(checkpoint))
    assert not np.array_equal(values["slow.fc.weight"].asnumpy(), values["fc.weight"].asnumpy())
