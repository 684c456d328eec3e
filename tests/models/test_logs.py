"""Logs hold the rows of metrics.csv, a resumed run goes on with them, and one without its package is refused."""
from __future__ import annotations

import importlib.util
import struct
from pathlib import Path

import pytest

from models import logs
from models.callbacks import MetricsFile, TrainingState
from models.callbacks.evaluation import Evaluation
from models.callbacks.log import ScalarLog
from models.config import ConfigError, load_config
from models.logs import check_installed
from models.session import create_session
from models.wire import BYTES, fields, varint
from tests.helpers import DIGITS
from tests.helpers.fake_run import drive, fake_session


def run(folder: Path, name: str, batches: int, start: int = 0) -> MetricsFile:
    """Batches ``start`` to ``batches`` of a run that evaluates every ten."""
    session = fake_session(optimizer="thor")
    session.train_set.start_at(start)
    for _ in range(start // 10):
        session.evaluate()
    state = TrainingState(session)
    metrics = MetricsFile(state, folder / "metrics.csv")
    log = ScalarLog(metrics, name, folder / name)
    drive(session, [state, Evaluation(state), metrics, log], batches - start)
    log.close()
    return metrics


def records(path: Path):
    """The payloads of a file of TFRecord framing, with any checksums."""
    content, place = path.read_bytes(), 0
    while place < len(content):
        length = struct.unpack_from("<Q", content, place)[0]
        yield memoryview(content)[place + 12:place + 12 + length]
        place += 16 + length


def events(path: Path):
    """(step, tag, value) of an event file: the step is field 2, and field 5 holds values of tag 1 and number 2."""
    for record in records(path):
        parts = {number: value for number, _, value in fields(record)}
        for number, kind, value in fields(parts.get(5, b"")):
            if (number, kind) == (1, BYTES):
                inner = {place: field for place, _, field in fields(value)}
                yield varint(parts[2], 0)[0], bytes(inner[1]).decode(), struct.unpack("<f", bytes(inner[2]))[0]


class Listed:
    """A log that remembers."""

    def __init__(self, folder: Path, start: int) -> None:
        self.rows, self.start, self.closed = [], start, False

    def add(self, scalars, step) -> None:
        self.rows.append((step, scalars))

    def close(self) -> None:
        self.closed = True


def test_a_log_gets_each_row_once_and_goes_on_where_a_run_does(tmp_path, monkeypatch):
    made = []
    monkeypatch.setitem(logs.WRITERS, "summary", lambda *arguments: made.append(Listed(*arguments)) or made[-1])
    run(tmp_path, "summary", 13)
    rows = list(run(tmp_path, "summary", 20, start=10).rows())
    first, second = made
    assert (first.start, second.start, first.closed) == (0, 10, True)
    assert [step for step, _ in first.rows] == list(range(1, 14))
    assert [step for step, _ in second.rows] == list(range(11, 21))
    logged = dict(first.rows[:10] + second.rows)
    for row in rows:
        scalars = logged[row["step"]]
        assert set(scalars) >= {"train/loss", "train/learning_rate", "train/damping", "train/skipped_updates"}
        assert scalars["train/loss"] == pytest.approx(row["loss"], rel=1e-8)
        assert scalars.get("held_out/accuracy", 0) == pytest.approx(row["eval_accuracy"] or 0)
    assert [step for step, scalars in logged.items() if "held_out/loss" in scalars] == [10, 20]


def test_tensorboard_finds_the_rows_of_metrics(tmp_path):
    rows = list(run(tmp_path, "tensorboard", 20).rows())
    run(tmp_path, "tensorboard", 30, start=20)
    first, second = sorted((tmp_path / "tensorboard").iterdir(), key=lambda path: path.suffix)
    found = list(events(first))
    assert [(step, value) for step, tag, value in found if tag == "train/loss"] == [
        (row["step"], pytest.approx(row["loss"], rel=1e-6)) for row in rows]
    assert [(step, value) for step, tag, value in found if tag == "held_out/accuracy"] == [
        (10, pytest.approx(0.5)), (20, pytest.approx(0.6))]
    assert min(step for step, tag, _ in events(second) if tag == "train/loss") == 21


def test_mindspore_writes_its_summaries(tmp_path):
    run(tmp_path, "summary", 3)
    file, = (tmp_path / "summary").iterdir()
    content = b"".join(map(bytes, records(file)))
    assert file.name.endswith("_MS") and content.count(b"train/loss") == 3


def test_a_log_without_its_package_is_refused_before_anything_is_built(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    line = ("train.log=['tensorboard']; must be without tensorboard where tensorboardX is not installed; install it "
            "with pip install tensorboardX, or leave tensorboard out")
    with pytest.raises(ConfigError) as raised:
        create_session(load_config(DIGITS, ["--train.log=[tensorboard]"]))
    assert str(raised.value) == line
    check_installed(["summary"])


@pytest.mark.parametrize("value", ["[tensorboards]", "3", "[summary, summary]", "{summary: 1}"])
def test_names_that_are_no_logs_are_refused(value):
    with pytest.raises(ConfigError, match="^--train.log: train.log"):
        load_config(None, [f"--train.log={value}"])
