"""A full disk, a folder that was moved away: one line with the path and what to do, and nothing half written."""
from __future__ import annotations

import resource
import signal
import subprocess
from pathlib import Path

import mindspore as ms
import pytest

from models import command_line, run_folder, train
from models.callbacks.files import MetricsFile, draw_curves
from models.callbacks.skipped import REASON, REMEDY
from models.callbacks.state import TrainingState
from models.checkpoint_file import checkpoints
from models.files import GONE, ROOM, WriteError, cannot_write, replacing, writing
from tests.helpers import zoo_process
from tests.helpers.fake_run import FakeContext, fake_session
from tests.helpers.zoo_process import end, start, wait_for

FULL = "cannot be written: No space left on device"


@pytest.fixture
def full(tmp_path):
    """A function that lets the disk be full for a file and what is written in its place."""
    def fill(name: str) -> Path:
        (tmp_path / f"{name}.part").symlink_to("/dev/full")
        return tmp_path / name
    return fill


def metrics_of(path: Path) -> MetricsFile:
    return MetricsFile(TrainingState(fake_session()), path)


WRITES = {"metrics.csv": lambda path: metrics_of(path).on_train_begin(FakeContext()),
          "curves.png": lambda path: draw_curves([], path),
          "results.json": lambda path: run_folder.RunFolder(path.parent).finish({"loss": 1.0})}


@pytest.mark.parametrize("name", WRITES)
def test_a_full_disk_leaves_what_was_there_and_nothing_else(full, tmp_path, capsys, name):
    path = full(name)
    path.write_text("epoch,step\n")
    assert command_line.run(lambda: WRITES[name](path)) == 1
    assert capsys.readouterr().err == f"error: file={path}; {FULL}; {ROOM}\n"
    assert [entry.name for entry in tmp_path.iterdir()] == [name] and path.read_text() == "epoch,step\n"


def test_a_row_that_finds_no_room_is_told_with_the_file(tmp_path):
    with pytest.raises(WriteError, match=f"^file={tmp_path}/metrics.csv; {FULL}; {ROOM}$"), \
            writing(tmp_path / "metrics.csv"), open("/dev/full", "a") as stream:
        stream.write("row")


def test_a_folder_that_is_gone_is_told_as_such(tmp_path):
    path = tmp_path / "run" / "metrics.csv"
    with pytest.raises(WriteError, match=f"^file={path}; cannot be written: No such file or directory; {GONE}$"), \
            replacing(path) as part:
        part.write_text("x")


def test_the_reason_is_the_first_line_of_an_error_that_has_no_number(tmp_path):
    assert str(cannot_write(tmp_path / "a", RuntimeError("no\nway"), "checkpoint")) == (
        f"checkpoint={tmp_path}/a; cannot be written: no; {ROOM}")


@pytest.mark.parametrize("where", ["start", "end"])
def test_output_that_cannot_be_written_is_one_line(where):
    """A pipe nobody reads, in the middle of the output or as it ends."""
    process = subprocess.Popen(
        ["python", "-c", "import sys\nfrom models.command_line import run\nsys.stdin.read()\n"
                         f"sys.exit(run(lambda: print('x' * {10 ** 6 if where == 'start' else 1})))"],
        env=zoo_process.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    process.stdin.close()
    assert process.stderr.read().strip() in ("error: standard output was closed",
                                             "error: standard output cannot be written: Broken pipe")
    assert process.wait() == 1


def running(*words: str, every: int = 3) -> subprocess.Popen:
    """A run that has a checkpoint and goes on for long."""
    process = start("--train.epochs", "2000", "--train.checkpoint_every_steps", str(every), *words)
    wait_for(lambda: [*Path().glob("runs/*/*/checkpoints/step-*.ckpt")], process)
    return process


@pytest.mark.slow
@pytest.mark.parametrize("room, every, what", [
    (0, 300, "file={}/metrics.csv"),  # a row follows every second step
    (3000, 3, "checkpoint={}/checkpoints/step-"),
], ids=["metrics", "checkpoint"])
def test_a_disk_that_fills_up_ends_a_run_in_one_line_and_it_goes_on_later(room, every, what):
    process = running("--train.eval_every_epochs", "0", "--data.batch_size", "16", every=every)
    folder = zoo_process.folder()
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    status, _, err = end(process)
    assert status == 1 and err.startswith(f"error: {what.format(folder)}")
    assert err.endswith(f"; cannot be written: File too large; {ROOM}\n") and err.count("\n") == 1
    names = {path.name for path in folder.rglob("*")}
    assert not [name for name in names if "part" in name]
    newest = int(checkpoints(folder / "checkpoints")[0].stem[5:])
    ms.load_checkpoint(str(checkpoints(folder / "checkpoints")[0]), crc_check=True)
    process = start("--train.epochs", "2000", "--train.checkpoint_every_steps", str(every), "--train.eval_every_epochs",
                    "0", "--data.batch_size", "16")
    out = [process.stdout.readline() for _ in range(2)]
    process.send_signal(signal.SIGTERM)
    assert end(process)[0] == 143 and out[1].startswith(f"going on after batch {newest} ")


@pytest.mark.slow
def test_a_run_whose_folder_is_moved_away_ends_in_one_line():
    process = running()
    folder = zoo_process.folder()
    folder.rename("moved")
    status, _, err = end(process)
    assert status == 1 and err.startswith(("error: file=", "error: checkpoint="))
    assert str(folder) in err and err.endswith(f"; cannot be written: No such file or directory; {GONE}\n")
    assert err.count("\n") == 1 and not folder.exists()


@pytest.mark.slow
def test_a_run_that_skips_every_update_ends_in_one_line(capsys):
    """A loss scale that two steps do not bring down."""
    words = ["--model.name", "tiny_sharp", "--data.batch_size", "700", "--train.epochs", "1", "--loss_scale.policy",
             "dynamic", "--loss_scale.init", "3.0e+38"]
    assert train.main([*zoo_process.WORDS, *words]) == 1
    out, err = capsys.readouterr()
    assert err == f"error: all 2 updates were skipped, {REASON}; {REMEDY}\n"
    assert "  skipped 2 updates  " in out
    assert not [*Path().glob("runs/*/*/results.json")]
