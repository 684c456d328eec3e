"""``python -m models.planner``: what it prints, writes and refuses."""
from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from models.planner import __main__ as planner
from models.planner.profile import Published, dump_profile, load_profile
from models.planner.report import numbers, report, table
from models.planner.search import make_plans
from tests.helpers import DIGITS
from tests.helpers.planner_cases import PROFILE, job

ROOT = Path(__file__).parents[3]
CONFIG = str(ROOT / "configs" / "lenet" / "lenet5_fashion_mnist.yaml")
ASCEND = str(ROOT / "configs" / "profiles" / "ascend910.yaml")


def test_a_plan_is_printed_and_written(capsys, tmp_path):
    path = tmp_path / "plan.json"
    words = ["--config", CONFIG, "--devices", "2,8", "--profile", ASCEND, "--json", str(path)]
    words += ["--data.batch_size", "10"]
    assert planner.main(words) == 0
    out = capsys.readouterr().out
    assert "2 devices, global batch 20" in out and "8 devices, global batch 80" in out
    written = json.loads(path.read_text())
    assert [(plan["devices"], plan["mode"]) for plan in written["plans"]] == [
        (2, "data"), (2, "hybrid"), (8, "data"), (8, "hybrid")]
    assert written["job"]["name"] == "lenet5_fashion_mnist" and written["profile"]["name"] == "Ascend 910"
    assert written["plans"][0]["epoch_steps"] == 3000
    assert set(written["best"]) == {"2", "8"} and written["published"] == []


@pytest.mark.parametrize("words, message", [
    (["--devices", "8"], "--profile is missing; give one of configs/profiles/, or measure one with --measure"),
    (["--devices", "0", "--profile", ASCEND], "argument --devices: '0'; must be an int >= 1"),
    (["--devices", "8,x", "--profile", ASCEND], "argument --devices: 'x'; must be an int >= 1"),
    (["--profile", ASCEND], "give either --devices and --profile, or --measure"),
    (["--devices", "8", "--profile", ASCEND, "--measure", "x"], "give either --devices and --profile, or --measure"),
    (["--devices", "8", "--profile", ASCEND, "--json", "no/x"], "--json=no/x; its folder does not exist; create it or "
                                                                "choose another file"),
    (["--devices", "8", "--profile", ASCEND, "--sequence-length", "0"], "'0'; must be an int >= 1"),
])
def test_wrong_usage_is_status_2_and_one_line(words, message, capsys):
    with pytest.raises(SystemExit) as stop:
        planner.main(["--config", CONFIG, *words])
    assert stop.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(message)


@pytest.mark.parametrize("words, message", [
    (["--profile", "no.yaml"], "error: no.yaml: cannot read the profile: No such file or directory; give the path of a "
                               "YAML file"),
    (["--profile", ASCEND, "--optimizer.name", "adam"],
     "error: optimizer.name='adam'; must be thor, thor_robust, kfac or spngd; set --optimizer.name thor"),
    (["--profile", ASCEND, "--optimizer.frequency", "0"],
     "error: --optimizer.frequency: optimizer.frequency=0; must be an int >= 1; use 1 to refresh curvature every step"),
    (["--profile", ASCEND, "--sequence-length", "9"],
     "error: --sequence-length=9; must be left out for lenet5, which reads images; set --data.image_size"),
])
def test_what_cannot_be_planned_is_status_1_and_one_line(words, message, capsys):
    assert planner.main(["--config", CONFIG, "--devices", "8", *words]) == 1
    assert capsys.readouterr().err == message + "\n"


def test_a_wrong_profile_names_file_and_value(capsys, tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(dump_profile(PROFILE).replace("overlap: 0.0", "overlap: 3"))
    assert planner.main(["--config", CONFIG, "--devices", "8", "--profile", str(path)]) == 1
    assert capsys.readouterr().err.startswith(f"error: {path}: overlap=3; must be a number from 0 to 1; use 0 if")


def test_help(capsys):
    with pytest.raises(SystemExit) as stop:
        planner.main(["--help"])
    assert stop.value.code == 0 and "python -m models.planner --config FILE" in capsys.readouterr().out


def test_help_does_not_wait_for_mindspore():
    program = ("import contextlib, sys; from models.planner.__main__ import main\n"
               "with contextlib.suppress(SystemExit): main(['--help'])\n"
               "sys.exit('mindspore' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: python -m models.planner --config FILE")


def test_predictions_stand_beside_what_was_published():
    published = (Published("two", 2, "an article", minutes=100.0), Published("two", 2, "a log", stale_seconds=1000.0,
                                                                             calibrated=True),
                 Published("two", 4, "other devices", minutes=1.0), Published("three", 2, "other network", minutes=1.0))
    profile = dataclasses.replace(PROFILE, published=published)
    planned = job(samples=100, epochs=10)
    plans = [make_plans(planned, profile, 2)]
    step = plans[0]["data"].step
    minutes = 10 * 10 * step.amortised / 60
    lines = report(planned, profile, plans).splitlines()[-2:]
    assert lines[0].split()[:7] == ["minutes,", "10", "epochs", "2", f"{minutes:.3g}", "100", f"{minutes / 100:.3f}"]
    assert lines[0].endswith(f"at the predicted step 100 minutes are {1000 / minutes:.1f} epochs")
    assert lines[1].split()[:6] == ["stale", "step,", "ms", "2", f"{1e3 * step.stale:.1f}", "1000000.0"]
    assert lines[1].endswith("a log; the profile was fitted to it")
    written = numbers(planned, profile, plans)["published"]
    assert [entry["source"] for entry in written] == ["an article", "a log"]
    assert written[0]["predicted_minutes"] == pytest.approx(minutes)


def test_tables_hold_headings_of_one_cell():
    assert table([("a", "b"), ("head",), ("  x", "1.5")]) == "a     b\n----  ---\nhead\n  x   1.5"


@pytest.mark.slow
def test_a_measured_profile_can_be_read(tmp_path, capsys):
    path = tmp_path / "cpu.yaml"
    words = ["--config", str(DIGITS), "--imports", "[tests.helpers.plain_network]", "--model.name", "plain",
             "--measure", str(path), "--data.batch_size", "4", "--optimizer.frequency", "2"]
    assert planner.main(words) == 0
    profile = load_profile(path)
    assert capsys.readouterr().out == path.read_text()
    assert profile.name == "CPU process" and "batch 4 a device" in profile.description
    assert (profile.overlap, profile.fuses_gradients) == (0.0, False)
