"""Two real processes: R ranks train as one rank with R times the batch, in both modes, and agree to the bit."""
from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

from tests.helpers import HELPERS, environment, rank_program

pytestmark = pytest.mark.slow

CASES = list(rank_program.CASES)
ALONE = [case for case in CASES if case != "hybrid"]  # which is "data" of two ranks, done in another way


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """What two ranks wrote, all cases in one start; and one rank, operator by operator in this process."""
    folder = tmp_path_factory.mktemp("ranks")
    binaries = Path(sys.executable).parent
    variables = environment(PATH=f"{binaries}:{os.environ['PATH']}")
    command = [str(binaries / "msrun"), "--worker_num=2", "--local_worker_num=2", f"--master_port={free_port()}",
               "--join=True", f"--log_dir={folder / 'logs'}", str(HELPERS / "rank_program.py"), str(folder), *CASES]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=600)
    logs = "".join(path.read_text()[-2000:] for path in (folder / "logs").glob("worker_*.log"))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:] + logs
    runs = {(case, 2, rank): dict(np.load(folder / f"{case}_{rank}.npz")) for case in CASES for rank in (0, 1)}
    found = ms.get_context("mode")
    ms.set_context(mode=ms.PYNATIVE_MODE)
    runs.update({(case, 1, 0): rank_program.train(case, 0, 1) for case in ALONE})
    ms.set_context(mode=found)
    return runs


@pytest.mark.parametrize("case", CASES)
def test_ranks_are_bit_identical(outputs, case):
    first, second = outputs[case, 2, 0], outputs[case, 2, 1]
    assert set(first) == set(second) and len(first) > (12 if case in ("data", "hybrid") else 5)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


@pytest.mark.parametrize("case", ALONE)
def test_two_ranks_train_as_one_with_twice_the_batch(outputs, case):
    """20 steps, five refreshes; to float32 rounding, which each refresh multiplies by the condition of a block."""
    one, two = outputs[case, 1, 0], outputs[case, 2, 0]
    for name in one:
        assert np.linalg.norm(two[name] - one[name]) <= 1e-4 * np.linalg.norm(one[name]), name


def test_how_the_work_is_shared_changes_nothing(outputs):
    """Owners invert what all would have inverted, groups only cut the same sums, also in a train cell of a user's."""
    for name, value in outputs["data", 2, 0].items():
        np.testing.assert_array_equal(outputs["hybrid", 2, 0][name], value, err_msg=name)


def test_all_ranks_skip_the_step_in_which_one_overflows(outputs):
    for ranks, rank in ((1, 0), (2, 0), (2, 1)):
        assert outputs["overflow", ranks, rank]["steps"] == rank_program.STEPS - 2
    assert all(np.isfinite(value).all() for value in outputs["overflow", 2, 1].values())


def test_the_trace_rule_chose_among_layers(outputs):
    refreshes = outputs["trace", 2, 0]["refreshes"]
    assert refreshes.max() == 5 and refreshes.min() < 5
