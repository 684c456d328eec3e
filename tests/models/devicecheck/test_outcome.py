"""What is told of a graph: the line of an error, the operator without a kernel, processes that end early."""
from __future__ import annotations

import os
import signal

import pytest

from models.devicecheck.outcome import Outcome, in_child, operators_without_kernel, table

TAIL = """
----------------------------------------------------
- C++ Call Stack: (For framework developers)
----------------------------------------------------
somewhere.cc:458 HandleKernelSelectFailure
"""
GPU_TYPE = """
----------------------------------------------------
- Kernel select failed:
----------------------------------------------------
Select GPU operator[BatchMatMul] fail! Unsupported data type!
""" + TAIL
GPU_OPERATOR = """----------------------------------------------------
- Kernel select failed:
----------------------------------------------------
Unsupported op [LARSUpdate] on GPU, Please confirm whether the device target setting is correct
""" + TAIL
ASCEND = "needs to be supplemented with an adapter. node is Default/network-Net/Cholesky-op0\n" + TAIL
OTHER = "Exceed function call depth limit 1000, node is Default/Add-op1"


@pytest.mark.parametrize("error, operator, line", [
    (GPU_TYPE, "BatchMatMul", "Select GPU operator[BatchMatMul] fail! Unsupported data type!"),
    (GPU_OPERATOR, "LARSUpdate", "Unsupported op [LARSUpdate] on GPU, Please confirm whether the device target setting "
     "is correct"),
    (ASCEND, "Cholesky", "needs to be supplemented with an adapter. node is Default/network-Net/Cholesky-op0"),
    (OTHER, "", OTHER),
    ("", "", ""),
], ids=["GPU type", "GPU operator", "Ascend", "no kernel's fault", "no error"])
def test_operator_and_line(error, operator, line):
    outcome = Outcome("stale", 1.0, 0, error)
    assert (outcome.operator, outcome.line, outcome.ok) == (operator, line, error == "")


def test_a_child_tells_its_device():
    outcome = in_child("stale", lambda: 3)
    assert (outcome.graph, outcome.error, outcome.device_id) == ("stale", "", 3)
    assert outcome.peak_bytes > 2 ** 20 and outcome.seconds > 0


def test_a_child_tells_its_error():
    def fail():
        raise RuntimeError("two\nlines")
    outcome = in_child("sink", fail)
    assert (outcome.error, outcome.line, outcome.device_id) == ("two\nlines", "two", -1)


def test_a_child_that_crashes_is_told():
    assert in_child("sink", lambda: os.kill(os.getpid(), signal.SIGKILL)).error == "the process ended with SIGKILL"
    assert in_child("sink", lambda: os._exit(7)).error == "the process ended with status 7"


def test_table_and_operators():
    outcomes = [Outcome("second_order", 1.25, 512 * 2 ** 20), Outcome("step", 20.0, 2 ** 30, GPU_TYPE),
                Outcome("sink", 3.0, 2 ** 30, GPU_TYPE)]
    assert table(outcomes).splitlines() == [
        "graph          seconds  peak MiB  result",
        "second_order       1.2       512  ok",
        "step              20.0      1024  Select GPU operator[BatchMatMul] fail! Unsupported data type!",
        "sink               3.0      1024  Select GPU operator[BatchMatMul] fail! Unsupported data type!"]
    assert operators_without_kernel(outcomes, "GPU") == "no kernel on GPU: BatchMatMul (step, sink)"
    assert operators_without_kernel(outcomes[:1], "GPU") == ""
