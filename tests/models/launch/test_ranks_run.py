"""A run of the zoo begun on one rank, gone on with on two, killed, and ended on one, is the run on one rank."""
from __future__ import annotations

import csv
import socket
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

from tests.helpers import environment

pytestmark = pytest.mark.slow

EPOCH = 22  # batches of 64 of the 1437 digits


def start(folder: Path, *words: str, ranks: int = 1, kill_at: int = 0) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "tests.helpers.ranks_run"]
    if ranks > 1:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            master = f"127.0.0.1:{listener.getsockname()[1]}"
        command = [sys.executable, "-m", "models.launch", "--workers", str(ranks), "--master", master, command[-1]]
    return subprocess.run([*command, "--train.run_dir", str(folder), *words], cwd=folder, timeout=240,
                          env=environment(KILL_AT=str(kill_at)), capture_output=True, text=True)


def run_folder(folder: Path) -> Path:
    return sorted(folder.glob("plain_digits_thor/*"))[-1]


def newest(folder: Path) -> str:
    return str(sorted(run_folder(folder).glob("checkpoints/step-*.ckpt"))[-1])


def evaluation(folder: Path, step: int) -> list[float]:
    with open(run_folder(folder) / "metrics.csv", newline="", encoding="utf-8") as stream:
        row = next(row for row in csv.DictReader(stream) if int(row["step"]) == step)
    return [float(row["eval_loss"]), float(row["eval_accuracy"])]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders and outputs: on one rank; on two from its batch 8 of the same images, killed; on one to the end."""
    made = {name: tmp_path_factory.mktemp(name) for name in ("whole", "two", "end")}
    batch = ("--data.batch_size", "64", "--train.checkpoint_keep", "99")
    done = {"whole": start(made["whole"], *batch)}
    early = str(run_folder(made["whole"]) / "checkpoints" / "step-000008.ckpt")
    done["two"] = start(made["two"], "--data.batch_size", "32", "--train.resume", early, ranks=2, kill_at=25)
    done["end"] = start(made["end"], *batch, "--train.resume", newest(made["two"]))
    return {name: (made[name], done[name]) for name in made}


def test_one_to_two_to_one_ranks_is_the_uninterrupted_run(runs):
    """To float32 rounding; weights and inverses after 44 steps, nine refreshes."""
    assert runs["whole"][1].returncode == runs["end"][1].returncode == 0, runs["end"][1].stderr
    assert Path(newest(runs["two"][0])).name == "step-000024.ckpt"
    expected, found = (ms.load_checkpoint(newest(runs[name][0])) for name in ("whole", "end"))
    compared = [name for name in expected if name.startswith(("hidden", "fc", "inverses")) and "factor" not in name]
    assert len(compared) >= 5
    for name in compared:
        one, two = expected[name].asnumpy(), found[name].asnumpy()
        assert np.linalg.norm(two - one) <= 1e-3 * np.linalg.norm(one), name


def test_two_ranks_evaluate_all_held_out_images_together(runs):
    one, two = evaluation(runs["whole"][0], EPOCH), evaluation(runs["two"][0], EPOCH)
    np.testing.assert_allclose(two, one, rtol=1e-4)
    assert one[1] * 360 == pytest.approx(round(one[1] * 360), abs=1e-4)


def test_the_killed_rank_is_named_and_the_first_ranks_output_shown(runs):
    _, done = runs["two"]
    assert done.returncode == 1 and "error: rank 0 was killed; the other ranks were stopped" in done.stderr
    assert "going on after batch 8 of this number of devices, from " in done.stdout
