"""Callbacks: values in metrics.csv, continuation after a kill, divergence, what the screen shows."""
from __future__ import annotations

import csv
import math
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

from models.callbacks import CurvesPicture, Evaluation, MetricsFile, ProgressBar, TrainingState
from models.callbacks.files import COLUMNS
from models.command_line import DivergedError
from models.optimizers import damping_array, learning_rate_array
from tests.helpers.fake_run import drive, fake_session


def metrics_run(session, path: Path, batches: int) -> MetricsFile:
    state = TrainingState(session)
    metrics = MetricsFile(state, path)
    drive(session, [state, Evaluation(state), metrics], batches)
    return metrics


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def without_seconds(path: Path) -> list[dict[str, str]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in table(path)]


def test_metrics_hold_the_values_of_each_batch(tmp_path):
    session = fake_session(optimizer="thor")
    metrics_run(session, tmp_path / "m.csv", 20)
    rows = table(tmp_path / "m.csv")
    assert tuple(rows[0]) == COLUMNS
    assert [float(row["step"]) for row in rows] == list(range(1, 21))
    assert [float(row["loss"]) for row in rows] == pytest.approx([1 / batch for batch in range(1, 21)])
    assert [float(row["epoch"]) for row in rows] == pytest.approx(np.arange(1, 21) / 10)
    rates, dampings = learning_rate_array(session.config, 10), damping_array(session.config, 10)
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx(list(rates[:20]))
    assert [float(row["damping"]) for row in rows] == pytest.approx(list(dampings[:20]))
    evaluations = [(row["step"], row["eval_loss"], row["eval_accuracy"])
                   for row in rows if row["eval_accuracy"]]
    assert evaluations == [("10", "1", "0.5"), ("20", "1", "0.6")]


def test_long_epochs_have_about_fifty_rows_and_always_their_last_batch(tmp_path):
    metrics_run(fake_session(per_epoch=130), tmp_path / "m.csv", 130)
    steps = [int(row["step"]) for row in table(tmp_path / "m.csv")]
    assert steps == [*range(2, 130, 2), 130]


def test_damping_is_empty_without_thor(tmp_path):
    metrics_run(fake_session(), tmp_path / "m.csv", 1)
    assert table(tmp_path / "m.csv")[0]["damping"] == ""


@pytest.mark.parametrize("cut", [0, 7])
def test_a_resumed_run_drops_later_rows_and_continues(tmp_path, cut):
    whole, killed = tmp_path / "whole.csv", tmp_path / "killed.csv"
    metrics_run(fake_session(), whole, 20)
    metrics_run(fake_session(), killed, 17)
    text = killed.read_text()
    killed.write_text(text[:len(text) - cut])  # a kill may cut the last line
    session = fake_session()
    session.evaluate()  # the first epoch's
    session.train_set.start_at(13)
    metrics_run(session, killed, 7)
    assert without_seconds(killed) == without_seconds(whole)
    seconds = [float(row["seconds"]) for row in table(killed)]
    assert seconds == sorted(seconds)


def test_evaluation_comes_every_so_many_epochs(tmp_path):
    metrics_run(fake_session(eval_every_epochs=2), tmp_path / "m.csv", 40)
    assert [row["step"] for row in table(tmp_path / "m.csv") if row["eval_accuracy"]] == ["20", "40"]


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_run_in_one_line(loss):
    session = fake_session()
    state = TrainingState(session)
    with pytest.raises(DivergedError) as caught:
        drive(session, [state], 20, lambda batch: loss if batch == 12 else 1.0)
    assert str(caught.value) == (f"loss is {loss} at batch 12 (epoch 1.20); training has diverged, or the data "
                                 "hold NaN or Inf; look for these, or lower the learning rate or raise the damping")


def skipping_session(**train):
    """A session whose step counts skipped updates, and losses for ``drive`` that skip where they are not finite."""
    session = fake_session(epochs=30, **train)
    counter = session.step.overflowed = ms.Parameter(ms.Tensor(0, ms.int32), name="step.overflowed_updates")
    every = session.config.train.accumulate_steps

    def losses(finite):
        seen = []

        def loss(batch):
            seen.append(finite(batch))
            if batch % every == 0 and not all(seen[-every:]):
                counter.set_data(ms.Tensor(int(counter.asnumpy()) + 1, ms.int32))
            return 1.0 if seen[-1] else math.nan
        return loss
    return session, losses


@pytest.mark.parametrize("accumulate_steps", [1, 2])
def test_a_hundred_updates_skipped_in_a_row_are_too_many(accumulate_steps):
    session, losses = skipping_session(accumulate_steps=accumulate_steps)
    state = TrainingState(session)
    first = 100 * accumulate_steps
    drive(session, [state], 140 * accumulate_steps, losses(lambda batch: first - accumulate_steps < batch <= first))
    assert (state.skipped.total, state.skipped.in_a_row) == (139, 40)
    with pytest.raises(DivergedError) as caught:
        drive(session, [TrainingState(session)], 250, losses(lambda batch: False))
    assert str(caught.value) == (
        f"100 updates in a row were skipped up to batch {first}, for overflow or because they were not finite; "
        "training has diverged, or the data hold NaN or Inf; look for these, or lower the loss scale or the "
        "learning rate, or raise the damping (train.skipped_limit is 100)")


def test_the_limit_of_skipped_updates_is_a_setting_and_counts_from_where_a_run_goes_on():
    session, losses = skipping_session(skipped_limit=3)
    session.step.overflowed.set_data(ms.Tensor(50, ms.int32))
    state = TrainingState(session)
    with pytest.raises(DivergedError, match="^3 updates in a row were skipped up to batch 4, "):
        drive(session, [state], 10, losses(lambda batch: batch == 1))
    assert state.skipped.total == 53


def test_updates_that_are_skipped_are_shown_and_written(tmp_path, capsys):
    session, losses = skipping_session()
    state = TrainingState(session)
    drive(session, [state, MetricsFile(state, tmp_path / "m.csv"), ProgressBar(state)], 10,
          losses(lambda batch: batch not in (3, 7)))
    assert [row["skipped_updates"] for row in table(tmp_path / "m.csv")] == list("0011112222")
    assert capsys.readouterr().out.strip().endswith("skipped 2 updates")


def test_a_run_in_which_every_update_was_skipped_is_no_success():
    session, losses = skipping_session(accumulate_steps=2)
    state = TrainingState(session)
    drive(session, [state], 20, losses(lambda batch: False))
    with pytest.raises(DivergedError, match="^all 10 updates were skipped, for overflow or because they were not fin"):
        state.skipped.check_any_applied(20)
    state.skipped.check_any_applied(22)


def test_a_parameter_that_is_not_finite_ends_the_run_though_the_loss_is():
    session = fake_session()
    session.network.weight.set_data(ms.Tensor(np.full((3, 2), np.nan), ms.float32))
    with pytest.raises(DivergedError, match="parameter weight is not finite after batch 10"):
        drive(session, [TrainingState(session)], 20)


def test_training_stops_at_its_last_batch_wherever_it_began():
    session = fake_session()
    assert not drive(session, [TrainingState(session)], 39).stopped
    session.train_set.start_at(33)
    assert drive(session, [TrainingState(session)], 7).stopped


def test_each_epoch_is_a_line_where_there_is_no_terminal(capsys):
    session = fake_session(optimizer="thor")
    state = TrainingState(session)
    drive(session, [state, Evaluation(state), ProgressBar(state)], 20)
    rate = learning_rate_array(session.config, 10)[9]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (f"epoch 1/4  loss 0.1000  lr {rate:.3g}  damping 0.03  held-out loss 1.0000  "
                        "held-out top-1-accuracy 0.5000")
    assert len(lines) == 2


def test_a_terminal_shows_loss_rate_damping_and_time_left(monkeypatch, capsys):
    session = fake_session(optimizer="thor")
    session.train_set.start_at(5)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    state = TrainingState(session)
    bar = ProgressBar(state)
    drive(session, [state, bar], 3)
    text = str(bar.bar)
    bar.bar.close()
    assert "8/40" in text and "loss=0.1250" in text and "damping=0.03" in text and "lr=" in text
    assert bar.bar.n == 8 and bar.bar.initial == 5


def test_curves_are_drawn_from_the_metrics(tmp_path):
    from PIL import Image

    session = fake_session()
    state = TrainingState(session)
    metrics = MetricsFile(state, tmp_path / "m.csv")
    drive(session, [state, Evaluation(state), metrics, CurvesPicture(metrics, tmp_path / "c.png")], 20)
    with Image.open(tmp_path / "c.png") as image:
        assert image.format == "PNG" and image.size == (1200, 480)
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20)}
    assert {(31, 119, 180), (255, 127, 14)} <= colours  # both lines
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.png", "m.csv"]
