"""What the entries say, and with which status they end, when they cannot start."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest

from models import command_line, evaluate, train

ENTRIES = {"train": train.main, "evaluate": lambda words: evaluate.main([*words, "--checkpoint", "x.ckpt"])}


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(f"model: {{base_width: 4}}\ntrain: {{epochs: 1, run_dir: {tmp_path / 'runs'}}}\n")
    return str(path)


def failure(capsys, entry, *words):
    """The one line on stderr of an entry that ends with status 1."""
    status = entry([*words])
    out, err = capsys.readouterr()
    assert (status, out, err.count("\n")) == (1, "", 1)
    return err


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
@pytest.mark.parametrize("words, expected", [
    (["--config", "no.yaml"], "error: no.yaml: cannot read the config: No such file or directory; "),
    (["--optimizer.frequncy", "5"], "error: --optimizer.frequncy: unknown key optimizer.frequncy; did you "),
    (["--train.epochs", "0"], "error: --train.epochs: train.epochs=0; must be an int >= 1"),
    (["--data.name", "mnist"], "error: data.path is empty; "),
    (["--train.epochs", "1000000000"], "error: --train.epochs: train.epochs=1000000000; must be an int >= 1; use at "
     "most 1000000\n"),
    (["--optimizer.learning_rate.initial", "1e39"], "error: --optimizer.learning_rate.initial: "
     "optimizer.learning_rate.initial=1e+39; must be a number >= 0; float32 rounds it to inf, use a number it can "
     "hold\n"),
    (["--train", "&a {epochs: *a}"], "error: --train: not valid YAML: an anchor whose value contains itself; write the "
     "value out\n"),
    (["--train.run_dir="], "error: --train.run_dir: train.run_dir=''; must be the path of a folder; it is empty, use . "
     "for the present folder\n"),
    (["--data.name", "mnist", "--data.path", "/no/where"], "error: data.path=/no/where; no such folder; "),
    (["--device.target", "Ascend"], "error: device.target=Ascend; this MindSpore cannot use it "),
])
def test_what_cannot_be_loaded_is_told_in_one_line(entry, words, expected, config, capsys, tmp_path):
    words = words if "--config" in words else ["--config", config, *words]
    assert failure(capsys, entry, *words).startswith(expected)
    assert not (tmp_path / "runs").exists()


def test_one_process_evaluates_what_several_devices_have_trained_but_does_not_train_it(config, capsys):
    words = ["--config", config, "--parallel.device_num", "8"]
    assert failure(capsys, train.main, *words).startswith("error: parallel.device_num=8; must be 1 where one process ")
    assert failure(capsys, ENTRIES["evaluate"], *words).startswith("error: checkpoint=x.ckpt; is not a file; ")


@pytest.mark.parametrize("entry", [train.main, evaluate.main])
@pytest.mark.parametrize("words, expected", [
    ([], "the following arguments are required: --config"),
    (["--config", "CONFIG", "--seed"], "--seed: needs a value; write --section.key value"),
    (["--config", "CONFIG", "seed", "1"], "command line: 'seed'; must be --section.key value"),
])
def test_a_command_line_of_another_form_is_usage(entry, words, expected, config, capsys):
    if entry is evaluate.main and words:
        words = [*words[:2], "--checkpoint", "x.ckpt", *words[2:]]
    with pytest.raises(SystemExit) as ended:
        entry([config if word == "CONFIG" else word for word in words])
    out, err = capsys.readouterr()
    assert ended.value.code == 2
    assert err.startswith("usage: python -m models.") and expected in err.splitlines()[-1]


def test_a_run_of_too_many_steps_is_refused_before_its_schedules_are_made(config, capsys, tmp_path):
    assert failure(capsys, train.main, "--config", config, "--train.epochs", "1000000") == (
        "error: train.epochs=1000000; must be so few that the run has at most 16777216 steps; it would have 22000000\n")
    assert not (tmp_path / "runs").exists()


def test_memory_that_does_not_suffice_is_told_in_one_line(capsys):
    def entry():
        with command_line.loading():
            np.empty(2 ** 60, np.uint8)
    assert command_line.run(entry) == 1
    assert capsys.readouterr().err == (
        "error: not enough memory to set the run up; Unable to allocate 1.00 EiB for an array with shape "
        "(1152921504606846976,) and data type uint8; make the network, the batch or the run smaller\n")


def test_too_large_a_batch_starts_no_run(config, capsys, tmp_path):
    assert failure(capsys, train.main, "--config", config, "--data.batch_size", "5000").startswith(
        "error: data.batch_size=5000; must be at most ")
    assert not (tmp_path / "runs").exists()


def test_a_place_to_resume_from_must_exist(config, capsys, tmp_path):
    assert failure(capsys, train.main, "--config", config, "--train.resume", str(tmp_path / "no")).startswith(
        f"error: train.resume='{tmp_path}/no'; must be auto, never, or the path of a run folder or ")


def checkpoint(path, **values):
    tensors = [{"name": name, "data": ms.Tensor(value)} for name, value in values.items()]
    ms.save_checkpoint(tensors, str(path))
    return str(path)


def test_checkpoints_that_do_not_fit_are_refused(config, capsys, tmp_path):
    def refusal(path):
        line = failure(capsys, evaluate.main, "--config", config, "--checkpoint", str(path))
        assert line.startswith(f"error: checkpoint={path}; ")
        return line

    assert "; is not a file; " in refusal(tmp_path / "no.ckpt")
    (tmp_path / "text.ckpt").write_text("no weights\n" * 50)
    assert "; is truncated or no checkpoint; " in refusal(tmp_path / "text.ckpt")
    other = checkpoint(tmp_path / "other.ckpt", weight=np.ones(3, np.float32))
    assert "; has no conv1.weight; " in refusal(other)
    wide = checkpoint(tmp_path / "wide.ckpt", **{"conv1.weight": np.ones((8, 1, 3, 3), np.float32)})
    assert "; conv1.weight has shape (8, 1, 3, 3), the network (4, 1, 3, 3); " in refusal(wide)
    diverged = checkpoint(tmp_path / "nan.ckpt", **{"conv1.weight": np.full((4, 1, 3, 3), np.nan, np.float32)})
    assert refusal(diverged).endswith("; conv1.weight is not finite; it is of a run that diverged, or damaged\n")
    unsealed = checkpoint(tmp_path / "unsealed.ckpt", **{"run.batches": np.int64([3])})
    assert refusal(unsealed).endswith("; has lost its checksum, without which damage is not seen; use another one\n")
