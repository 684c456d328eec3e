"""The faults: arguments, the table, and one run that is killed and goes on."""
from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from benchmarks import common, faults, kills


def test_wrong_arguments_and_a_folder_in_use(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        faults.main(["kills", "--output", "x", "--only", "resnet51"])
    assert stop.value.code == 2 and "invalid choice: 'resnet51'" in capsys.readouterr().err
    assert faults.main(["kill"]) == 2
    assert capsys.readouterr().err == "error: kill given; must be kills or fuzz first; --help shows both\n"
    (tmp_path / "kept").touch()
    assert faults.main(["kills", "--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (f"error: --output={tmp_path}; must be a new or an empty folder; choose another "
                                       "one\n")


def test_the_table_tells_what_was_counted():
    cases = {"resnet": vars(kills.Tally(7, [5, 20, 15], 2, 2)),
             "ranks": vars(kills.Tally(3, [], 2, 1, 1, ["metrics.csv"], 1))}
    lines = kills.report({"cases": cases, "seed": 3, "machine": common.machine()}).splitlines()
    assert lines[1] == "seed 3"
    assert lines[-2].split() == "resnet 7 3 times, 5 to 20 2 yes 0 0 none".split()
    assert lines[-1].split() == "ranks 3 never 2 1 of 2 1 1 metrics.csv".split()


def test_a_process_is_ended_with_all_it_has_started():
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    process = subprocess.Popen([sys.executable, "-c", program])
    while not (found := [pid for pid, _ in kills.descendants(process.pid)]):
        time.sleep(0.01)
    kills.end(process)
    assert process.returncode == -9 and len(found) == 1
    until = time.monotonic() + 10
    while os.path.exists(f"/proc/{found[0]}/task/{found[0]}/children") and time.monotonic() < until:
        time.sleep(0.01)
    assert not os.path.exists(f"/proc/{found[0]}/task/{found[0]}/children")


@pytest.mark.slow
def test_a_run_that_is_killed_once_goes_on_to_the_same_end(tmp_path, monkeypatch):
    smaller = ["--imports", "[tests.helpers.plain_network]", "--model.name", "plain", "--data.image_size", "8"]
    monkeypatch.setitem(kills.CASES, "dynamic", kills.Case([*kills.CASES["dynamic"].words, *smaller]))
    monkeypatch.setattr(kills, "EARLY", 0.0)
    tally = kills.measure(1, 1, ["dynamic"], tmp_path / "faults")["cases"]["dynamic"]
    assert tally["kills"] == tally["chains"] == tally["identical"] == 1
    assert tally["resumed"][0] % 14 == 0 or tally["resumed"][0] % 15 == 0  # ends of epochs, and every five updates
    assert (tally["tracebacks"], tally["lost"], tally["hangs"]) == (0, [], 0)
