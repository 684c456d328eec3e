"""Runs side by side: numbers of their files, settings that differ, a picture; damaged and missing folders."""
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from models.config import dump_config, load_config
from models.summary.__main__ import main
from models.summary.reading import differing_settings, labels, read_runs
from tests.helpers import ROOT

HEAD = "epoch,step,loss,learning_rate,damping,refreshed_layers,skipped_updates,eval_loss,eval_accuracy,seconds"


def write_run(folder: Path, accuracies, *words, results=None, text="") -> Path:
    """A run of two batches an epoch, a second each, with an evaluation an epoch."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(dump_config(load_config(None, list(words))))
    rows = [HEAD]
    for epoch, accuracy in enumerate(accuracies, 1):
        rows += [f"{epoch - 0.5},{2 * epoch - 1},{1 / epoch},0.1,,,0,,,{2 * epoch - 1}",
                 f"{epoch},{2 * epoch},{1 / epoch},0.1,,,0,{1 - accuracy},{accuracy},{2 * epoch}"]
    (folder / "metrics.csv").write_text("\n".join(rows) + "\n" + text)
    if results is not None:
        (folder / "results.json").write_text(json.dumps(results))
    return folder


def test_what_runs_reached_and_took(tmp_path, capsys):
    one = write_run(tmp_path / "a" / "1", [0.5, 0.75, 0.75, 0.25], "--optimizer.frequency=7", results={"seconds": 9})
    two = write_run(tmp_path / "a" / "2", [0.5], "--seed=4", text="2,3,0.1")  # cut off by a kill
    three = write_run(tmp_path / "b" / "2", [0.5, 0.5], results={"stopped_early_at_step": 4})
    assert main([str(one), str(two), str(three), "--picture", "p.png"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[2:5] == [
        ["a/1", "finished", "0.2500", "0.7500", "4", "0.7500", "8", "8.0"],
        ["a/2", "not", "finished", "0.5000", "0.5000", "2", "0.5000", "2", "2.0"],
        ["b/2", "stopped", "early", "0.5000", "0.5000", "2", "0.5000", "4", "4.0"]]
    assert lines[6] == ["setting", "a/1", "a/2", "b/2"]
    assert lines[8:10] == [["seed", "1", "4", "1"], ["optimizer.frequency", "7", "100", "100"]]
    from PIL import Image

    with Image.open("p.png") as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20)}
    assert {(31, 119, 180), (255, 127, 14), (44, 160, 44)} <= colours
    assert not Path("p.png.part").exists()


def test_a_folder_of_runs_stands_for_all_of_them_once(tmp_path):
    for name in ("1", "2"):
        write_run(tmp_path / "runs" / name, [0.5])
    for path in (tmp_path / "runs", tmp_path):
        assert labels(read_runs([path, tmp_path / "runs" / "2"])) == ["1", "2"]
    found = read_runs([tmp_path])
    assert differing_settings(found) == {}


def test_where_the_folders_of_runs_lie_is_no_difference(tmp_path):
    paths = [write_run(tmp_path / name, [0.5], f"--train.run_dir={name}") for name in ("1", "2")]
    assert differing_settings(read_runs(paths)) == {}


def test_a_run_that_evaluated_at_its_end_and_one_that_wrote_nothing(tmp_path, capsys):
    one = write_run(tmp_path / "1", [], results={"loss": 0.3, "top_1_accuracy": 0.875})
    two = write_run(tmp_path / "2", [])
    (two / "metrics.csv").unlink()
    (two / "results.json").write_text("{cut off")
    assert main([str(one), str(two)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[2] == ["1", "finished", "0.8750", "0.8750", "0", "-", "0", "-"]
    assert lines[3] == ["2", "not", "finished", "-", "-", "-", "-", "0", "-"]
    assert lines[5] == "all settings are the same".split() and Path("summary.png").exists()


@pytest.mark.parametrize("make, expected", [
    (lambda path: None, "error: RUN='{}'; must be the folder of a run, or of runs; it has no config.yaml; give one"),
    (lambda path: write_run(path, [0.5]).joinpath("config.yaml").write_text("seed: [1"), "error: {}/config.yaml"),
    (lambda path: write_run(path, [0.5]).joinpath("config.yaml").write_text("sed: 1"), "error: {}/config.yaml:1: unkn"),
])
def test_what_is_no_run_is_refused_in_one_line(tmp_path, capsys, make, expected):
    make(tmp_path / "x")
    assert main([str(tmp_path / "x")]) == 1
    line = capsys.readouterr().err
    assert line.startswith(expected.format(tmp_path / "x")) and line.count("\n") == 1
    assert not Path("summary.png").exists()


def test_a_picture_in_no_folder_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main([str(write_run(tmp_path / "1", [0.5])), "--picture", "no/where.png"])
    assert ended.value.code == 2
    assert "--picture=no/where.png; must be a file in a folder that exists" in capsys.readouterr().err


def test_reading_runs_does_not_import_mindspore():
    program = "import sys, models.summary.__main__, models.summary.picture; assert 'mindspore' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0
