"""SIGINT, SIGTERM and SIGHUP: one line, the status a shell expects, and the last finished step is not lost."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from models import train
from models.interruption import NOTHING
from tests.helpers import environment, zoo_process
from tests.helpers.zoo_process import end, holds_signals, left, run, start, wait_for

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
PROGRAM = """
from models import interruption
interruption.hold_signals(lambda: "interrupted at step 3")
import sys, time
from models.interruption import INTERRUPTION
def ready():
    print("ready", flush=True)
"""


def program(work: str) -> subprocess.Popen:
    """A process that does ``work``, once that calls ready()."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM + work], text=True, env=environment(),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", SIGNALS)
def test_while_it_imports_a_command_ends_at_once(number):
    process = start()
    wait_for(lambda: holds_signals(process), process)
    os.killpg(process.pid, number)
    assert end(process) == (128 + number, "", f"{NOTHING}\n")
    assert not Path("runs").exists()


def test_a_signal_the_command_was_told_to_ignore_is_ignored():
    process = start(ignores=(signal.SIGHUP,))
    wait_for(lambda: holds_signals(process), process)
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.send_signal(signal.SIGTERM)
    assert end(process)[0] == 143


@pytest.mark.parametrize("patience", [0.0, 1.0])
def test_a_main_thread_that_does_not_look_is_ended_after_its_patience(patience):
    process = program(f"INTERRUPTION.looks({patience})\nready()\ntime.sleep(60)")
    sent = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert end(process) == (143, "", "interrupted at step 3\n")
    assert patience <= time.monotonic() - sent < patience + 10


def test_what_is_written_is_finished_and_a_second_signal_leaves_at_once():
    process = program("with INTERRUPTION.writing():\n ready()\n time.sleep(60)")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)  # to the process, then to its group: the same
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1.0)
    process.send_signal(signal.SIGINT)
    assert end(process) == (130, "", "interrupted at step 3\n")


def test_a_command_that_is_done_is_done():
    process = program("INTERRUPTION.over()\nready()\ntime.sleep(1)\nsys.exit(0)")
    process.send_signal(signal.SIGTERM)
    assert end(process) == (0, "", "")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """What a run leaves that nothing stops."""
    place = tmp_path_factory.mktemp("uninterrupted")
    before = os.getcwd()
    os.chdir(place)
    assert train.main(zoo_process.WORDS) == 0
    found = left(zoo_process.folder())
    os.chdir(before)
    return found


@pytest.mark.slow
def test_interrupted_where_it_hurts_a_run_goes_on_bit_for_bit(uninterrupted, capsys):
    """After step 6, where no checkpoint is due; in the evaluation after the first epoch of 11; in a checkpoint; in the
    last evaluation, whose loss the checkpoint owes.
    """
    for asked, status, step in (("step 6:SIGINT", 130, 7), ("evaluation 1:SIGTERM", 143, 11), ("save:SIGHUP", 129, 12),
                                ("evaluation 2:SIGTERM", 143, 33)):
        ended, _, err = run(SIGNALS=asked)
        assert (ended, err) == (status, f"interrupted at step {step}; the same command goes on\n"), asked
        names = {path.name for path in (zoo_process.folder() / "checkpoints").iterdir()}
        assert f"step-{step:06d}.ckpt" in names and not [name for name in names if "part" in name]
    assert train.main(zoo_process.WORDS) == 0
    out, err = capsys.readouterr()
    assert err == "" and "going on after batch 33 " in out and "epoch 3/3 " in out
    found = left(zoo_process.folder())
    assert found["bits"].pop("run.owed_loss") and found == uninterrupted


@pytest.mark.slow
def test_while_it_compiles_or_trains_a_run_ends_with_one_line_whenever_it_is_asked_to():
    process = start("--train.epochs", "2000")
    assert process.stdout.readline().startswith("run folder ")
    os.killpg(process.pid, signal.SIGTERM)
    assert end(process) == (143, "", f"{NOTHING}\n")
    process = start("--train.epochs", "2000")
    checkpoint = "checkpoints/step-*.ckpt"
    wait_for(lambda: [*Path().glob(f"runs/*/*/{checkpoint}")], process)
    process.send_signal(signal.SIGINT)
    status, _, err = end(process)
    newest = max(Path().glob(f"runs/*/*/{checkpoint}"))
    assert (status, err) == (130, f"interrupted at step {int(newest.stem[5:])}; the same command goes on\n")
