"""Checkpoints: atomic, complete, kept in number, refused when damaged or foreign."""
from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest

from models import checkpoint
from models.checkpoint import CheckpointCallback, config_digest
from models.command_line import DivergedError
from models.config import Config, TrainConfig
from models.ranks import Ranks
from tests.helpers.fake_run import drive, fake_session


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def train_some(session, steps: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    for _ in range(steps):
        x, y = rng.standard_normal((4, 2)), np.ones((4, 3))
        session.step(ms.Tensor(x, ms.float32), ms.Tensor(y, ms.float32))
    return state(session)


def state(session) -> dict[str, np.ndarray]:
    return {p.name: p.asnumpy().copy() for _, p in session.step.parameters_and_names()}


def damage(path: Path, how) -> None:
    content = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(how(content))


def test_restoring_gives_every_parameter_and_the_place_in_the_data(tmp_path):
    session = fake_session()
    expected = train_some(session)
    checkpoint.save(session, tmp_path, 3)
    other = fake_session()
    assert checkpoint.restore_newest(other, tmp_path) == 3 == other.train_set.first
    found = state(other)
    assert set(found) == set(expected) and {"moments.weight", "global_step"} <= set(found)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, name)


@pytest.mark.parametrize("count, batches, steps", [(1, 8, 3), (2, 4, 2), (3, 2, 1)])
def test_another_number_of_devices_counts_the_same_samples_as_seen(tmp_path, count, batches, steps):
    """Three steps in eight batches; the rest of a batch that was not whole is seen again."""
    session = fake_session()
    train_some(session)
    checkpoint.save(session, tmp_path, 8)
    other = fake_session()
    other.ranks = Ranks(0, count)
    assert checkpoint.restore_newest(other, tmp_path) == batches == other.train_set.first
    assert state(other)["global_step"].tolist() == [steps]


@pytest.mark.parametrize("last, expected", [(6, 2), (-1, -1)])
def test_the_step_of_the_last_refresh_follows_the_count_of_steps(last, expected):
    counters = {name: ms.Parameter(ms.Tensor([value], ms.int32), name=name)
                for name, value in (("optimizer.global_step", 9), ("optimizer.step_of_last_refresh", last))}
    session = fake_session()
    session.ranks, session.step = Ranks(0, 3), SimpleNamespace(parameters_dict=lambda: counters)
    assert checkpoint.rescaled(session, 9, session.config.data.batch_size) == 3
    assert [int(counter.asnumpy()[0]) for counter in counters.values()] == [3, expected]


def test_an_empty_or_missing_folder_starts_anew(tmp_path):
    session = fake_session()
    (tmp_path / "part.ckpt").write_bytes(b"left by a kill")
    assert checkpoint.restore_newest(session, tmp_path) == 0
    assert checkpoint.restore_newest(session, tmp_path / "missing") == 0


def test_the_newest_are_kept_by_number_not_by_name(tmp_path):
    session = fake_session(checkpoint_keep=2)
    for batches in (5, 999_999, 1_000_000):
        checkpoint.save(session, tmp_path, batches)
    assert names(tmp_path) == ["step-1000000.ckpt", "step-999999.ckpt"]
    assert checkpoint.restore_newest(session, tmp_path) == 1_000_000


def test_what_a_kill_left_beyond_those_kept_is_deleted(tmp_path):
    """Killed after the newest was written, before the oldest was deleted; one that is damaged does not count."""
    session = fake_session(checkpoint_keep=9)
    for batches in range(1, 6):
        checkpoint.save(session, tmp_path, batches)
    damage(tmp_path / "step-000005.ckpt", lambda content: content[:-1])
    session = fake_session(checkpoint_keep=2)
    assert checkpoint.restore_newest(session, tmp_path) == 4
    assert names(tmp_path) == ["step-000004.ckpt", "step-000005.ckpt"]
    damage(tmp_path / "step-000004.ckpt", lambda content: content[:-1])
    checkpoint.save(fake_session(checkpoint_keep=9), tmp_path, 3)
    assert checkpoint.restore_newest(session, tmp_path) == 3
    assert names(tmp_path) == ["step-000003.ckpt", "step-000004.ckpt", "step-000005.ckpt"]


def test_a_failed_write_leaves_the_older_checkpoint_and_no_new_name(tmp_path, monkeypatch):
    session = fake_session(checkpoint_keep=1)
    checkpoint.save(session, tmp_path, 1)

    def half(cell, path, **options):
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(ms, "save_checkpoint", half)
    with pytest.raises(OSError, match="disk full"):
        checkpoint.save(session, tmp_path, 2)
    assert names(tmp_path) == ["step-000001.ckpt"]
    monkeypatch.undo()
    checkpoint.save(session, tmp_path, 3)
    assert names(tmp_path) == ["step-000003.ckpt"]


@pytest.mark.parametrize("how", [
    lambda b: b[:len(b) // 2], lambda b: b[:-1], lambda b: b"", lambda b: b"text",
    lambda b: b[:60] + bytes([b[60] ^ 1]) + b[61:]])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path, caplog, how):
    session = fake_session()
    checkpoint.save(session, tmp_path, 1)
    damage(checkpoint.save(session, tmp_path, 2), how)
    with caplog.at_level(logging.WARNING, "models"):
        assert checkpoint.restore_newest(session, tmp_path) == 1
    assert [record.getMessage() for record in caplog.records if record.name == "models"] == [
        f"checkpoint={tmp_path / 'step-000002.ckpt'}; is truncated or damaged; using the next older one"]


def test_only_damaged_checkpoints_are_an_error_in_one_line(tmp_path):
    session = fake_session()
    damage(checkpoint.save(session, tmp_path, 1), lambda b: b[:30])
    message = "step-000001.ckpt; is truncated or damaged; no checkpoint in .* can be used"
    with pytest.raises(ValueError, match=message):
        checkpoint.restore_newest(session, tmp_path)
    assert names(tmp_path) == ["step-000001.ckpt"]


def test_a_checkpoint_of_another_network_names_the_parameter_and_loads_nothing(tmp_path):
    path = checkpoint.save(fake_session(width=4), tmp_path, 1)
    session = fake_session(width=3)
    before = state(session)
    with pytest.raises(ValueError, match=r"weight is Float32 \(4, 2\), here it is Float32 \(3, 2\)"):
        checkpoint.restore(session, path)
    assert all(np.array_equal(before[name], value) for name, value in state(session).items())


def test_a_missing_parameter_is_named(tmp_path):
    session = fake_session()
    path = tmp_path / "step-000001.ckpt"
    facts = {checkpoint.BATCHES: 1, checkpoint.SEED: 1, checkpoint.DIGEST: "x"}
    ms.save_checkpoint(session.network, str(path), append_dict=facts, crc_check=True)
    with pytest.raises(ValueError, match="has no .*(global_step|moments|momentum|learning_rate)"):
        checkpoint.restore(session, path)


def test_weights_alone_are_not_a_checkpoint_of_a_run(tmp_path):
    session = fake_session()
    path = tmp_path / "weights.ckpt"
    ms.save_checkpoint(session.network, str(path))
    with pytest.raises(ValueError, match="has no run.batches, so it is not one of a training run"):
        checkpoint.restore(session, path)
    with pytest.raises(FileNotFoundError, match="checkpoint=nowhere.ckpt; is not a file"):
        checkpoint.restore(session, Path("nowhere.ckpt"))


def test_parameters_that_are_not_finite_are_never_saved(tmp_path):
    session = fake_session()
    session.network.weight.set_data(ms.Tensor(np.full((3, 2), np.inf), ms.float32))
    with pytest.raises(DivergedError, match="parameter weight is not finite after batch 7"):
        checkpoint.save(session, tmp_path, 7)
    assert names(tmp_path) == []


def test_digest_ignores_where_a_run_is_kept():
    config = Config()
    moved = dataclasses.replace(config, train=TrainConfig(run_dir="elsewhere", resume="never"))
    assert config_digest(moved) == config_digest(config)
    assert config_digest(dataclasses.replace(config, seed=2)) != config_digest(config)


@pytest.mark.parametrize("options, expected", [
    (dict(checkpoint_every_epochs=1), [10, 20, 30]),
    (dict(checkpoint_every_epochs=2), [20]),
    (dict(checkpoint_every_epochs=0, checkpoint_every_steps=4), [4, 8, 12, 16, 20, 24, 28, 32]),
    (dict(checkpoint_every_epochs=0, checkpoint_every_steps=4, accumulate_steps=3), [12, 24]),
    (dict(checkpoint_every_epochs=0), [])])
def test_checkpoints_come_when_the_config_says(tmp_path, options, expected):
    session = fake_session(checkpoint_keep=99, **options)
    callback = CheckpointCallback(session, tmp_path)
    context = drive(session, [callback], 33)
    assert names(tmp_path) == [f"step-{batch:06d}.ckpt" for batch in expected]
    callback.on_train_end(context)
    assert "step-000033.ckpt" in names(tmp_path)
