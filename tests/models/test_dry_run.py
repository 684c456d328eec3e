"""A dry run tells what a run takes, writes nothing, and refuses what the run would refuse, in the same words."""
from __future__ import annotations

import dataclasses

import pytest
from mindspore import nn

from models import checkpoint, train
from models.command_line import LoadError
from models.config import ConfigError, load_config
from models.dry_run import dry_run, state_bytes
from models.registry import register_network, unregister_network
from models.run_folder import open_run_folder
from models.session import create_session
from tests.helpers import CONFIGS, DIGITS

pytestmark = pytest.mark.usefixtures("pynative")
FIRST_ORDER = ["--model.name=two", "--data.batch_size=400", "--train.epochs=4", "--device.mode=pynative",
               "--data.augment=false"]
WORDS = [*FIRST_ORDER, "--optimizer.frequency=5"]


@pytest.fixture(autouse=True)
def two():
    """A convolution of 4 channels and a Dense layer, on images of 8 pixels."""
    register_network("two")(lambda model, data: nn.SequentialCell(
        nn.Conv2d(1, 4, 3, has_bias=True), nn.BatchNorm2d(4), nn.Flatten(), nn.Dense(256, 10)))
    yield
    unregister_network("two")


def lines_of(capsys, *words):
    dry_run(load_config(DIGITS, [*WORDS, *words]))
    return capsys.readouterr().out.splitlines()


def value(lines, name):
    return next(line.strip()[len(name):].strip() for line in lines if line.strip().startswith(f"{name}  "))


def test_layers_steps_refreshes_and_memory(capsys, tmp_path):
    lines = lines_of(capsys)
    assert lines[0] == "dry run of two on digits with thor, CPU: nothing is trained or written"
    assert lines[3].split() == ["0.weight", "4x1x3x3", "second", "order:", "A", "1x9x9,", "G", "1x4x4"]
    assert value(lines, "steps") == "12: 4 epochs of 3 batches of 400"  # 1437 digits
    assert value(lines, "refreshes of curvature") == "3"  # steps 0, 5 and 10
    numbers = 36 + 4 + 4 + 4 + 2560 + 10
    assert value(lines, "trained numbers") == f"{numbers:,} in 6 parameters"
    factors = 9 * 9 + 4 * 4 + 2 * 128 * 128 + 10 * 10
    assert value(lines, "weights") == f"{4 * numbers / 2 ** 20:.2f}"
    assert value(lines, "momentum") == f"{4 * numbers / 2 ** 20:.2f}"
    assert value(lines, "inverses") == f"{4 * factors / 2 ** 20:.2f}"
    assert value(lines, "time").startswith("not estimated; --profile FILE")
    assert value(lines, "the run would") == "begin in a new folder in runs/two_digits_thor"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["thor", "adam", "lookahead(momentum)"])
def test_bytes_are_those_of_a_checkpoint(tmp_path, name):
    session = create_session(load_config(DIGITS, [*FIRST_ORDER, "--optimizer.name", name]))
    sizes = state_bytes(session)
    path = checkpoint.save(session, tmp_path / "checkpoints", 0)
    names = sum(len(parameter.name) for parameter in session.step.get_parameters())
    count = len(list(session.step.get_parameters()))
    assert sum(sizes.values()) < path.stat().st_size < sum(sizes.values()) + names + 80 * (count + 10)
    moments = {"thor": 1, "adam": 2, "lookahead(momentum)": 1}[name]
    assert sizes["momentum"] - 4 * (name != "adam") == moments * sizes["weights"]  # the scalar mu beside them
    assert (sizes["factors"] > 0) == (sizes["inverses"] > 0) == (name == "thor")


def test_it_says_which_run_would_go_on_and_leaves_it_alone(capsys, tmp_path):
    config = load_config(DIGITS, WORDS)
    run = open_run_folder(config)
    for batches in (3, 7):
        checkpoint.save(create_session(config), run.checkpoints, batches)
    run.lock.close()
    (run.path / ".lock").unlink()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    lines = lines_of(capsys)
    assert value(lines, "steps") == "5: 4 epochs of 3 batches of 400, less 7 batches that are done"
    assert value(lines, "refreshes of curvature") == "1"  # step 10
    assert value(lines, "the run would") == f"go on with {run.path} after batch 7"
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_time_is_modelled_where_a_profile_is_given(capsys):
    path = str(CONFIGS / "profiles" / "cpu_process.yaml")
    dry_run(load_config(DIGITS, WORDS), path)
    line = value(capsys.readouterr().out.splitlines(), "time")
    assert "min of steps, modelled by models.planner from CPU process (" in line
    with pytest.raises(LoadError, match="optimizer.name='adam'; must be thor, thor_robust, kfac or spngd"):
        dry_run(load_config(DIGITS, [*FIRST_ORDER, "--optimizer.name=adam"]), path)


def test_time_is_measured_where_such_a_run_was(capsys, tmp_path):
    """Two epochs of 20 batches; those after the first six of each take 0.5 s, all others more."""
    head = "epoch,step,loss,learning_rate,damping,eval_loss,eval_accuracy,seconds"
    seconds = [30 * epoch + (3 * batch if batch <= 6 else 18 + 0.5 * (batch - 6)) for epoch in (0, 1)
               for batch in range(1, 21)]
    rows = [f"{step / 20},{step},1,0.1,0.1,,,{second}" for step, second in enumerate(seconds, 1)]
    for words in (["--optimizer.frequency=9"], ["--seed=8", "--train.epochs=2"]):
        run = open_run_folder(load_config(DIGITS, [*WORDS, *words]))
        (run.path / "metrics.csv").write_text("\n".join([head, *rows]) + "\n")
    line = value(lines_of(capsys), "time")
    assert line == (f"0.1 min of steps, measured in {run.path} (500 ms a batch); without compilation, evaluation, "
                    "checkpoints")  # 12 batches
    assert value(lines_of(capsys, "--data.batch_size=64"), "time").startswith("not estimated")


@pytest.mark.parametrize("words", [
    ["--train.resume=nowhere"], ["--train.resume=other"], ["--parallel.device_num=2"], ["--train.accumulate_steps=99"],
    ["--data.name=mnist", "--data.path=nothing_here"], ["--train.resume=damaged.ckpt"], ["--data.batch_size=2000"]],
    ids=lambda words: words[-1])
def test_what_is_refused_is_what_the_run_refuses(tmp_path, words):
    (tmp_path / "other").mkdir()
    (tmp_path / "damaged.ckpt").write_bytes(b"not a checkpoint")
    config = load_config(DIGITS, [*WORDS, *words])
    lines = []
    for entry in (dry_run, train.train):
        with pytest.raises((ConfigError, LoadError)) as raised:
            entry(dataclasses.replace(config))
        lines.append(str(raised.value))
        assert entry is train.train or not (tmp_path / "runs").exists()
    assert lines[0] == lines[1] and "\n" not in lines[0]


def test_a_profile_without_a_dry_run_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        train.main(["--config", str(DIGITS), "--profile", "x.yaml"])
    assert ended.value.code == 2
    assert "--profile is read by --dry_run alone; give both or none" in capsys.readouterr().err


def test_the_command_ends_with_status_0(capsys):
    assert train.main(["--dry_run", "--config", str(DIGITS), *WORDS]) == 0
    assert capsys.readouterr().out.startswith("dry run of two on digits")
