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

from models import callbacks, train
from tests.helpers import DIGITS, environment, ranks_run
from tests.helpers.interrupted import after_batch

pytestmark = pytest.mark.slow

EPOCH = 22  # batches of 64 of the 1437 digits
EARLY, KILL = 8, 25
ALONE = ("--data.batch_size", "64", "--train.checkpoint_keep", "99", "--device.mode", "pynative")


def alone(folder: Path, *words: str) -> None:
    """A run on one rank, in this process, operator by operator; the two ranks compile."""
    settings = [*ranks_run.SETTINGS, *ALONE, "--train.run_dir", str(folder), *words]
    assert train.main(["--config", str(DIGITS), *settings]) == 0


def start_two(folder: Path, checkpoint: Path) -> subprocess.Popen:
    """A run on two ranks that goes on from ``checkpoint``, until its first rank is killed after batch ``KILL``."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        master = f"127.0.0.1:{listener.getsockname()[1]}"
    command = [sys.executable, "-m", "models.launch", "--workers", "2", "--master", master, "tests.helpers.ranks_run",
               "--train.run_dir", str(folder), "--data.batch_size", "32", "--train.resume", str(checkpoint)]
    return subprocess.Popen(command, cwd=folder, env=environment(KILL_AT=str(KILL)), stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def run_folder(folder: Path) -> Path:
    return sorted(folder.glob("plain_digits_thor/*"))[-1]


def newest(folder: Path) -> str:
    return str(sorted(run_folder(folder).glob("checkpoints/step-*.ckpt"))[-1])


def evaluation(folder: Path, step: int) -> list[float]:
    with open(run_folder(folder) / "metrics.csv", newline="", encoding="utf-8") as stream:
        row = next(row for row in csv.DictReader(stream) if int(row["step"]) == step)
    return [float(row["eval_loss"]), float(row["eval_accuracy"])]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: tmp_path_factory.mktemp(name) for name in ("whole", "two", "end")}


@pytest.fixture(scope="module")
def two(folders):
    """Status and outputs of the run on two ranks; it starts beside the one on one rank, all of which is done here.

    In ``folders``: on one rank; on two from its batch ``EARLY`` of the same images, killed; on one to the end.
    """
    started = []

    def begin(folder: Path) -> None:
        started.append(start_two(folders["two"], folder / "checkpoints" / f"step-{EARLY:06d}.ckpt"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folders["whole"])
        patch.setattr(callbacks, "build_callbacks", after_batch(EARLY, begin))
        alone(folders["whole"])
    out, err = started[0].communicate(timeout=240)
    alone(folders["end"], "--train.resume", newest(folders["two"]))
    return started[0].returncode, out, err


def test_one_to_two_to_one_ranks_is_the_uninterrupted_run(folders, two):
    """To float32 rounding; weights and inverses after 44 steps, nine refreshes."""
    assert Path(newest(folders["two"])).name == "step-000024.ckpt"
    expected, found = (ms.load_checkpoint(newest(folders[name])) for name in ("whole", "end"))
    assert all(Path(newest(folders[name])).name == "step-000044.ckpt" for name in ("whole", "end"))
    compared = [name for name in expected if name.startswith(("hidden", "fc", "inverses")) and "factor" not in name]
    assert len(compared) >= 5
    for name in compared:
        one, two = expected[name].asnumpy(), found[name].asnumpy()
        assert np.linalg.norm(two - one) <= 1e-3 * np.linalg.norm(one), name


def test_two_ranks_evaluate_all_held_out_images_together(folders, two):
    one, both = evaluation(folders["whole"], EPOCH), evaluation(folders["two"], EPOCH)
    np.testing.assert_allclose(both, one, rtol=1e-4)
    assert one[1] * 360 == pytest.approx(round(one[1] * 360), abs=1e-4)


def test_the_killed_rank_is_named_and_the_first_ranks_output_shown(folders, two):
    status, out, err = two
    log = next(folders["two"].glob("runs/logs/*/worker_0.log"))
    assert (status, err) == (1, (
        "error: rank 0 was killed by SIGKILL, as when memory runs out; the other ranks were stopped; its log is "
        f"{log}; the same command goes on with the newest checkpoint\n"))
    assert f"going on after batch {EARLY} of this number of devices, from " in out
