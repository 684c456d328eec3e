"""curvature.csv: a row for each layer at each refresh, continued after a kill; the heat map; the counts on screen."""
from __future__ import annotations

import csv
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from models.callbacks.curvature import COLUMNS, CurvatureFile, CurvaturePicture, draw_curvature, read_rows
from models.callbacks.progress import _numbers
from models.callbacks.state import TrainingState
from models.config import Config, TrainConfig
from tests.helpers.fake_run import FakeContext, FakeDataset
from thor import THOR
from thor.curvature import TracePolicy
from thor.train import make_train_step

pytestmark = pytest.mark.usefixtures("pynative")


class Run:
    """Two Dense layers trained by hand, with the callbacks of a run."""

    def __init__(self, path):
        ms.set_seed(1)
        network = nn.SequentialCell(nn.Dense(4, 3, weight_init="ones"), nn.Dense(3, 2, weight_init="ones"))
        self.optimizer = THOR(network, 0.1, 0.1, 0.9, batch_size=5, update=TracePolicy(2, 0.05, 0.001))
        self.step = make_train_step(nn.WithLossCell(network, nn.MSELoss()), self.optimizer)
        session = SimpleNamespace(config=Config(train=TrainConfig(epochs=4)), optimizer=self.optimizer, step=self.step,
                                  train_set=FakeDataset(), batches_per_epoch=4)
        self.state = TrainingState(session)
        self.record = CurvatureFile(self.state, path)
        self.callbacks = [self.state, self.record]
        self.context = FakeContext()

    def train(self, first, count):
        for callback in self.callbacks:
            callback.on_train_begin(self.context)
        rng = np.random.default_rng(0)
        data = [(rng.standard_normal((5, 4)), rng.standard_normal((5, 2))) for _ in range(16)]
        for batch, (x, t) in enumerate(data[first:first + count], start=first + 1):
            for callback in self.callbacks:
                callback.on_train_step_begin(self.context)
            self.context.parameters.cur_step_num = batch
            self.context.parameters.net_outputs = self.step(ms.Tensor(x, ms.float32), ms.Tensor(t, ms.float32))
            for callback in self.callbacks:
                callback.on_train_step_end(self.context)


def test_rows_say_what_the_optimizer_reports(tmp_path):
    run = Run(tmp_path / "curvature.csv")
    run.train(0, 5)
    rows = read_rows(run.record.path)
    assert tuple(rows[0]) == COLUMNS
    assert [(int(row["step"]), row["layer"]) for row in rows] == [(s, n) for s in (0, 2, 4) for n in ("0", "1")]
    assert [row["status"] for row in rows[:2]] == ["refreshed"] * 2 and rows[0]["change"] == ""
    for row, layer in zip(rows[-2:], run.optimizer.curvature_report(), strict=True):
        assert (row["layer"], row["status"], int(row["refreshes"])) == (layer.name, layer.status, layer.refreshes)
        assert float(row["trace"]) == pytest.approx(layer.trace, rel=1e-5)
        assert float(row["change"]) == pytest.approx(layer.change, rel=1e-5)
        assert float(row["condition"]) == pytest.approx(layer.condition, rel=1e-5)
        assert float(row["damping"]) == pytest.approx(run.state.damping) and float(row["seconds"]) > 0
    refreshed = sum(row["status"] == "refreshed" for row in rows[-2:])
    assert run.state.refreshed == (refreshed, 2)
    assert _numbers(run.state)["refreshed"] == f"{refreshed} of 2 layers"


def test_a_resumed_run_drops_rows_of_steps_it_does_again(tmp_path):
    path = tmp_path / "curvature.csv"
    run = Run(path)
    run.train(0, 7)
    whole = read_rows(path)
    path.write_text(path.read_text()[:-9])  # a kill may cut the last line
    run.optimizer.global_step.set_data(ms.Tensor([3], ms.int32))
    again = CurvatureFile(run.state, path)
    again.on_train_begin(run.context)
    assert read_rows(path) == [row for row in whole if int(row["step"]) < 3]


def test_other_optimizers_leave_no_file(tmp_path):
    run = Run(tmp_path / "curvature.csv")
    run.state.session.optimizer = nn.Momentum([ms.Parameter(ms.Tensor([1.0]), name="w")], 0.1, 0.9)
    record = CurvatureFile(run.state, tmp_path / "none.csv")
    picture = CurvaturePicture(record, tmp_path / "none.png")
    record.on_train_begin(run.context)
    record.on_train_step_begin(run.context)
    record.on_train_step_end(run.context)
    picture.on_train_epoch_end(run.context)
    assert not list(tmp_path.glob("none*"))


def test_the_heat_map_is_drawn_for_every_fate(tmp_path):
    path = tmp_path / "curvature.csv"
    fates = [("a", 0, "refreshed", ""), ("b", 0, "refreshed", ""), ("a", 5, "kept", "0.004"), ("b", 5, "stopped", "0")]
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        writer.writerows([step, layer, fate, 1, "2.0", change, "3.0", "0.1", "0.5"]
                         for layer, step, fate, change in fates)
    draw_curvature(read_rows(path), tmp_path / "curvature.png")
    assert (tmp_path / "curvature.png").read_bytes()[:4] == b"\x89PNG"
