"""Which files are checkpoints, what is refused of them, and how a run ends whose checkpoint cannot be written."""
from __future__ import annotations

import logging
import os
import resource

import mindspore as ms
import numpy as np
import pytest

from models import checkpoint, command_line
from models.checkpoint_file import checkpoints, load
from tests.helpers.fake_run import fake_session
from tests.models.test_checkpoint import damage, names, state

FACTS = {checkpoint.BATCHES: 5, checkpoint.SAMPLES: 64, checkpoint.SEED: 1, checkpoint.DIGEST: "x"}


def written(path, seal=True, facts=None, **values):
    """A checkpoint with the parameters of ``fake_session()``, but for ``values`` and ``facts``."""
    session = fake_session()
    for _, parameter in session.step.parameters_and_names():
        if parameter.name in values:
            parameter.set_data(ms.Tensor(values[parameter.name], parameter.dtype).reshape(parameter.shape))
    ms.save_checkpoint(session.step, str(path), append_dict={**FACTS, **(facts or {})}, crc_check=seal)
    return path


def refusal(path, session=None):
    """The line a checkpoint is refused with, less its beginning; nothing is loaded."""
    session = session or fake_session()
    before = state(session)
    with pytest.raises(ValueError) as raised:
        checkpoint.restore(session, path)
    assert all(np.array_equal(before[name], value) for name, value in state(session).items())
    assert session.train_set.first == 0
    line = str(raised.value)
    assert "\n" not in line and line.startswith(f"checkpoint={path}; ")
    return line.removeprefix(f"checkpoint={path}; ")


def test_files_of_other_names_are_neither_read_nor_deleted(tmp_path):
    session = fake_session(checkpoint_keep=1)
    others = ["step-000030 (copy).ckpt", "step-.ckpt", "step--5.ckpt", "step-000040.ckpt~", "step-1e3.ckpt",
              "step-\N{ARABIC-INDIC DIGIT NINE}.ckpt", "step-000050.ckpt.part"]
    for name in others:
        (tmp_path / name).write_bytes(b"mine")
    checkpoint.save(session, tmp_path, 20)
    checkpoint.save(session, tmp_path, 30)
    assert names(tmp_path) == sorted([*others, "step-000030.ckpt"])
    assert checkpoint.restore_newest(fake_session(), tmp_path) == 30


def test_folders_pipes_and_dangling_links_are_passed_over_for_the_older_checkpoint(tmp_path):
    checkpoint.save(fake_session(), tmp_path, 20)
    (tmp_path / "step-000030.ckpt").mkdir()
    os.mkfifo(tmp_path / "step-000040.ckpt")
    (tmp_path / "step-000050.ckpt").symlink_to(tmp_path / "nowhere")
    assert checkpoints(tmp_path) == [tmp_path / "step-000020.ckpt"]
    assert checkpoint.restore_newest(fake_session(), tmp_path) == 20


def test_a_checkpoint_without_its_checksum_is_refused(tmp_path, caplog):
    """MindSpore reads it, and then with any flip in it."""
    session = fake_session()
    checkpoint.save(session, tmp_path, 1)
    path = checkpoint.save(session, tmp_path, 2)
    damage(path, lambda content: content[:-17])
    expected = "has lost its checksum, without which damage is not seen; use another one"
    assert refusal(path) == expected
    with caplog.at_level(logging.WARNING, "models"):
        assert checkpoint.restore_newest(session, tmp_path) == 1
    assert [record.getMessage() for record in caplog.records if record.name == "models"] == [
        f"checkpoint={path}; {expected}; using the next older one"]
    assert refusal(written(tmp_path / "a.ckpt", seal=False)) == expected


def test_every_flip_in_a_checkpoint_is_refused(tmp_path):
    path = written(tmp_path / "a.ckpt")
    content = path.read_bytes()
    for place in [*range(0, len(content) - 17, 23), *range(len(content) - 17, len(content))]:
        damage(path, lambda _, at=place: content[:at] + bytes([content[at] ^ 4]) + content[at + 1:])
        assert refusal(path).startswith(("is truncated or damaged", "has lost its checksum")), place


@pytest.mark.parametrize("values, facts, expected", [
    ({"weight": [[1, np.nan]] * 3}, {}, "weight is not finite; it is of a run that diverged, or damaged"),
    ({"moments.weight": [[1, -np.inf]] * 3}, {},
     "moments.weight is not finite; it is of a run that diverged, or damaged"),
    ({"global_step": -3}, {}, "global_step is -3, less than 0; it is damaged"),
    ({}, {checkpoint.BATCHES: -1}, "run.batches is -1, not an int >= 0; it is damaged or not of a run"),
    ({}, {checkpoint.BATCHES: 2.5}, "run.batches is 2.5, not an int >= 0; it is damaged or not of a run"),
    ({}, {checkpoint.BATCHES: "many"}, "run.batches is many, not an int >= 0; it is damaged or not of a run"),
    ({}, {checkpoint.SAMPLES: 0}, "run.samples_a_batch is 0, not an int >= 1; it is damaged or not of a run"),
    ({}, {checkpoint.SEED: 2}, "was written with seed=2, here seed=1; set seed to 2"),
])
def test_contents_that_no_run_can_go_on_from_are_refused(tmp_path, values, facts, expected):
    assert refusal(written(tmp_path / "a.ckpt", facts=facts, **values)) == expected


def test_the_checkpoint_all_refused_ones_are_made_from_is_taken(tmp_path):
    assert checkpoint.restore(fake_session(), written(tmp_path / "a.ckpt")) == 5


def failing_end(session, folder, capsys):
    """What a command ends with whose run saves there: its exit status and its line."""
    status = command_line.run(lambda: checkpoint.save(session, folder, 30))
    return status, capsys.readouterr().err


REMEDY = "make room or make its folder writable, the same command then goes on with the newest checkpoint\n"


@pytest.mark.parametrize("folder, reason", [("/proc/self", "No such file or directory"),
                                            ("/proc/version", "Not a directory")])
def test_a_folder_that_cannot_be_written_ends_a_run_in_one_line(tmp_path, capsys, folder, reason):
    """/proc refuses new files to every user."""
    (tmp_path / "checkpoints").symlink_to(folder)
    path = tmp_path / "checkpoints"
    assert failing_end(fake_session(), path, capsys) == (
        1, f"error: checkpoint={path}/step-000030.ckpt; cannot be written: {reason}; {REMEDY}")


def test_a_full_disk_ends_a_run_in_one_line_and_keeps_the_older_checkpoint(tmp_path, capfd):
    session = fake_session(width=3000)
    checkpoint.save(session, tmp_path, 20)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        status = command_line.run(lambda: checkpoint.save(session, tmp_path, 30))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    line = f"error: checkpoint={tmp_path}/step-000030.ckpt; cannot be written: File too large; {REMEDY}"
    assert (status, capfd.readouterr().err) == (1, line)
    assert names(tmp_path) == ["step-000020.ckpt"]
    assert checkpoint.restore_newest(fake_session(width=3000), tmp_path) == 20


def test_a_folder_in_the_place_of_a_new_checkpoint_ends_a_run_in_one_line(tmp_path, capsys):
    (tmp_path / "step-000030.ckpt").mkdir()
    assert failing_end(fake_session(), tmp_path, capsys) == (
        1, f"error: checkpoint={tmp_path}/step-000030.ckpt; cannot be written: Is a directory; {REMEDY}")


def test_nothing_but_the_refusal_is_said_of_a_damaged_file(tmp_path):
    """MindSpore logs a critical line of its own where a file has a type it does not know."""
    path = written(tmp_path / "step-000005.ckpt", seal=False)
    path.write_bytes(path.read_bytes().replace(b"Float32", b"Float3x"))

    def logged_by(read):
        said, handler = [], logging.Handler()
        handler.emit = said.append
        loggers = [logging.getLogger(name) for name in logging.root.manager.loggerDict if name.startswith("ME.")]
        for logger in loggers:
            logger.addHandler(handler)
        with pytest.raises(ValueError):
            read(str(path))
        for logger in loggers:
            logger.removeHandler(handler)
        return len(said)
    with pytest.raises(ValueError):
        ms.load_checkpoint(str(path))  # MindSpore's logger exists from its first line on
    assert logged_by(ms.load_checkpoint) == 1 and logged_by(load) == 0
    assert refusal(path) == "is truncated or damaged"


@pytest.mark.parametrize("new", [b"\x08\x01", b"\x08\x7f", b"\x28\x02"])
def test_a_tensor_of_another_size_than_its_shape_never_reaches_mindspore(tmp_path, new):
    """It copies all bytes into the memory of the shape."""
    path = tmp_path / "step-000005.ckpt"
    ms.save_checkpoint([{"name": "w", "data": ms.Tensor(np.ones((2, 3), np.float32))}], str(path))
    assert load(path)["w"].shape == (2, 3)
    content = path.read_bytes()
    assert content.count(b"\x08\x02\x08\x03") == 1
    path.write_bytes(content.replace(b"\x08\x02\x08\x03", new + b"\x08\x03"))
    with pytest.raises(ValueError, match="^a tensor has another number of bytes than its shape says$"):
        load(path)
