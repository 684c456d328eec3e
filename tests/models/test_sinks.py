"""Sinks end wherever something is due, and what they leave behind is that of single steps."""
from __future__ import annotations

import csv
import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from models import checkpoint, registry, train
from models.callbacks import MetricsFile, TrainingState
from models.callbacks.agreement import Agreement
from models.command_line import DivergedError
from models.config import Config, DeviceConfig, ParallelConfig, TrainConfig, load_config
from models.session import create_session
from models.sinks import Sinks, plan_sinks
from tests.helpers import DIGITS
from tests.helpers.fake_run import FakeContext, fake_session
from tests.helpers.sink_model import SinkModel

SETTINGS = ["--model.name", "flat", "--data.batch_size", "128", "--data.eval_batch_size", "360", "--train.epochs",
            "2", "--train.sink", "true", "--train.sink_size", "10", "--train.checkpoint_every_steps", "5",
            "--train.checkpoint_keep", "99", "--optimizer.frequency", "4", "--optimizer.learning_rate.initial", "0.02",
            "--device.mode", "pynative"]


def config_of(target: str, **options) -> Config:
    return Config(device=DeviceConfig(target=target), train=TrainConfig(**{"epochs": 3, "sink": True, **options}))


@pytest.mark.parametrize("per_epoch, every, accumulate, done, length", [
    (5004, 0, 1, 0, 139),      # 50 sinks would have 100.08 steps
    (1000, 0, 1, 0, 20),
    (1000, 500, 1, 0, 20),
    (1000, 300, 1, 0, 20),     # 300 and 1000 share 100
    (5004, 500, 1, 0, 4),      # they share no more
    (5003, 0, 1, 0, 5003),     # a prime
    (5003, 500, 1, 0, 1),
    (40032, 100, 8, 0, 32),    # 800 micro-batches a checkpoint
    (28, 0, 1, 0, 14),         # sinks of fewer than 10 steps are not worth it
    (7, 0, 1, 0, 7),
    (1000, 500, 1, 1500, 20),
    (1000, 0, 1, 1505, 5),     # resumed where no sink of 20 begins
    (1000, 0, 1, 1001, 1),
])
def test_a_sink_ends_with_every_epoch_checkpoint_and_resumed_batch(per_epoch, every, accumulate, done, length):
    config = config_of("Ascend", checkpoint_every_steps=every, accumulate_steps=accumulate)
    sinks = plan_sinks(config, per_epoch, done)
    assert sinks == Sinks(3 * per_epoch // length, length, done // length)
    assert [due % length for due in (per_epoch, every * accumulate, done)] == [0, 0, 0]


@pytest.mark.parametrize("options, done, expected", [
    (dict(sink=False), 15, Sinks(3, -1, 1)),
    (dict(), 15, Sinks(3, -1, 1)), (dict(sink_size=10), 0, Sinks(3, 10, 0)), (dict(sink_size=10), 15, Sinks(6, 5, 3)),
    (dict(sink_size=10, checkpoint_every_steps=3), 10, Sinks(3, 10, 1))])
def test_without_a_device_there_are_epochs_that_end_where_they_should(options, done, expected):
    assert plan_sinks(config_of("CPU", **options), 10, done) == expected


def test_without_a_sink_a_device_trains_passes():
    assert plan_sinks(config_of("GPU", sink=False), 10, 15) == Sinks(3, -1, 1)


class Run:
    """A finished training run of a Dense layer in a folder of its own."""

    def __init__(self, folder: Path, sinks: bool, start: Path | None = None) -> None:
        self.session = create_session(load_config(DIGITS, SETTINGS))
        if sinks:
            device = dataclasses.replace(self.session.config.device, target="GPU")
            evaluation = self.session.task.evaluation(self.session.network)
            self.session.model = SinkModel(self.session.step, **evaluation)
            self.session.config = dataclasses.replace(self.session.config, device=device)
        self.folder = SimpleNamespace(path=folder, checkpoints=folder / "checkpoints")
        done = checkpoint.restore(self.session, start) if start else 0
        self.results = train.fit(self.session, self.folder, done)

    def rows(self, name: str) -> list[dict[str, str]]:
        with open(self.folder.path / name, newline="", encoding="utf-8") as stream:
            return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(stream)]

    def checkpoints(self) -> dict[str, dict[str, np.ndarray]]:
        """Parameters by name, of every checkpoint by name."""
        return {path.name: {name: value.asnumpy() for name, value in ms.load_checkpoint(str(path)).items()
                            if hasattr(value, "asnumpy")} for path in self.folder.checkpoints.iterdir()}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of single steps and the same in sinks, 20 batches in two epochs."""
    registry.register_network("flat")(lambda model, data: nn.SequentialCell(nn.Flatten(), nn.Dense(64, 10)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("models.callbacks.files.draw_curves", lambda rows, path: draw(path))
        patch.setattr("models.callbacks.curvature.draw_curvature", lambda rows, path: draw(path))
        yield [Run(tmp_path_factory.mktemp(name), name == "sinks") for name in ("steps", "sinks")]
    registry.unregister_network("flat")


def draw(path: Path) -> None:
    """A picture that grows whenever it is drawn."""
    with open(path, "a", encoding="utf-8") as stream:
        stream.write("drawn ")


@pytest.mark.slow
def test_sinks_are_cut_and_the_epochs_are_the_same(runs):
    steps, sinks = runs
    assert sinks.session.model.sinks == [5] * 4
    assert sinks.results == steps.results
    for run in runs:
        assert [(run.folder.path / name).read_text() for name in ("curves.png", "curvature.png")] == ["drawn " * 2] * 2


@pytest.mark.slow
def test_checkpoints_of_sinks_are_those_of_steps(runs):
    steps, sinks = (run.checkpoints() for run in runs)
    assert sorted(sinks) == sorted(steps) == [f"step-{batches:06d}.ckpt" for batches in range(5, 21, 5)]
    for name, values in steps.items():
        differing = [key for key, value in values.items() if not np.array_equal(value, sinks[name][key])]
        assert differing == [], name


@pytest.mark.slow
def test_metrics_of_sinks_are_the_rows_of_their_last_steps(runs):
    steps, sinks = (run.rows("metrics.csv") for run in runs)
    assert [int(row["step"]) for row in steps] == list(range(1, 21))
    assert sinks == steps[4::5]
    assert [row["step"] for row in sinks if row["eval_accuracy"]] == ["10", "20"]


@pytest.mark.slow
def test_curvature_of_sinks_has_the_last_refresh_of_each_at_its_own_step(runs):
    steps, sinks = (run.rows("curvature.csv") for run in runs)
    assert sorted({int(row["step"]) for row in steps}) == list(range(0, 20, 4))
    last = {4, 8, 12, 16}  # of steps 0 to 4, 5 to 9, ...
    assert sinks == [row for row in steps if int(row["step"]) in last]


@pytest.mark.slow
@pytest.mark.parametrize("sinks", [False, True])
def test_a_run_resumes_in_the_middle_of_an_epoch(runs, tmp_path, sinks):
    """Without a device, too, where the data are cut into epochs of sink_size: the evaluation after 10 batches comes."""
    whole = runs[sinks]
    resumed = Run(tmp_path, sinks, whole.folder.checkpoints / "step-000005.ckpt")
    assert not sinks or resumed.session.model.sinks == [5] * 3
    assert resumed.rows("metrics.csv") == [row for row in whole.rows("metrics.csv") if int(row["step"]) > 5]
    assert resumed.rows("curvature.csv") == [row for row in whole.rows("curvature.csv") if int(row["step"]) >= 5]
    final, expected = (run.checkpoints()["step-000020.ckpt"] for run in (resumed, whole))
    assert all(np.array_equal(final[name], value) for name, value in expected.items())


def report_sinks(session, callbacks, length: int, count: int, losses=lambda batch: 1.0) -> FakeContext:
    """Call ``callbacks`` as a sink of ``length`` steps does, ``count`` times."""
    context = FakeContext()
    for callback in callbacks:
        callback.on_train_begin(context)
    for batch in range(length, length * count + 1, length):
        context.parameters.cur_step_num = batch
        context.parameters.net_outputs = ms.Tensor(losses(batch), ms.float32)
        for name in ("on_train_step_end", "on_train_epoch_end"):
            for callback in callbacks:
                getattr(callback, name)(context)
    return context


def test_fifty_rows_of_many_sinks(tmp_path):
    session = fake_session(per_epoch=600, epochs=2)
    state = TrainingState(session)
    metrics = MetricsFile(state, tmp_path / "m.csv")
    report_sinks(session, [state, metrics], 10, 120)  # 12 would give 50 rows
    steps = [int(row["step"]) for row in metrics.rows()]
    assert steps[:5] == [20, 30, 40, 50, 60] and len(steps) == 100 and {600, 1200} <= set(steps)


def test_a_loss_that_is_not_finite_is_divergence_where_a_sink_skipped_no_update():
    session = fake_session(per_epoch=300, epochs=9)
    skipped = ms.Parameter(ms.Tensor(0, ms.int32), name="overflowed_updates", requires_grad=False)
    session.step.insert_param_to_cell("skipped", skipped)

    def losses(batch):
        if batch == 150:  # one of its updates overflowed; all after it were applied
            ms.ops.assign_add(skipped, ms.Tensor(1, ms.int32))
        return math.nan if batch in (150, 450) else 1.0

    with pytest.raises(DivergedError, match="at batch 450 "):
        report_sinks(session, [TrainingState(session)], 150, 4, losses)


def test_ranks_are_compared_when_the_sink_ends_in_which_it_is_due():
    session, seen = fake_session(per_epoch=60), []
    session.config = dataclasses.replace(session.config, parallel=ParallelConfig(check_every=25))
    state = TrainingState(session)

    def gather(values):
        seen.append(state.batches)
        return np.stack([values, values])

    session.ranks = SimpleNamespace(gather=gather)
    report_sinks(session, [state, Agreement(state)], 20, 6)
    assert seen == [40, 60, 80, 100]
