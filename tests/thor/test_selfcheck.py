"""The self-check: right on a right backend, exit status 1 on a wrong one, and its references themselves."""
from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from scipy.linalg import block_diag

from tests.helpers import ROOT
from thor import selfcheck
from thor.backends.cpu import CpuBackend
from thor.selfcheck import cases, training
from thor.selfcheck.report import processor


class Inexact(nn.Cell):
    def __init__(self, operator):
        super().__init__()
        self.operator = operator

    def construct(self, rows):
        return 1.0001 * self.operator(rows)


class WrongCovariance(CpuBackend):
    def covariance_operator(self, groups, split_dim):
        return Inexact(super().covariance_operator(groups, split_dim))


class Transposed(nn.Cell):
    def __init__(self, operator):
        super().__init__()
        self.operator = operator

    def construct(self, gradient, inverses_g, inverses_a):
        return self.operator(gradient, inverses_g, inverses_a.transpose(0, 2, 1))


class TransposedPrecondition(CpuBackend):
    def precondition_operator(self, matrix, blocks_g, blocks_a):
        return Transposed(super().precondition_operator(matrix, blocks_g, blocks_a))


class AcceptsEverything(CpuBackend):
    def damped_inverse(self, blocks, damping):
        inverse, accepted = super().damped_inverse(blocks, damping)
        return inverse, ops.ones_like(accepted)


class RaisingPatches(CpuBackend):
    def patches(self, images, kernel, stride, padding, dilation):
        raise RuntimeError("kernel not supported\non this device")


class ShortPatches(CpuBackend):
    def patches(self, images, kernel, stride, padding, dilation):
        return super().patches(images, kernel, stride, padding, dilation)[:, :-1]


def run(backend, capsys) -> tuple[int, list[str]]:
    status = selfcheck.main(["--mode", "pynative", "--device", "CPU"], backend=backend)
    return status, capsys.readouterr().out.splitlines()


def test_a_right_backend_passes(capsys):
    status, lines = run(CpuBackend(), capsys)
    n_cases = len(cases.make_cases())
    assert status == 0
    assert lines[0].startswith(
        f"MindSpore {ms.__version__}, device CPU, backend cpu, float32 products, pynative mode")
    assert len(lines) == n_cases + 3 and all(line.endswith("  yes") for line in lines[2:-1])
    assert lines[-1] == f"all {n_cases} checks passed"


@pytest.mark.parametrize("backend, operator, n_off, note", [
    (WrongCovariance, "covariance", 4, ""),
    (TransposedPrecondition, "precondition", 4, ""),
    (AcceptsEverything, "damped_inverse", 1, "accepted [1. 1. 1. 1. 1. 1. 1.]"),
    (RaisingPatches, "patches", 5, "RuntimeError: kernel not supported on this device"),
    (ShortPatches, "patches", 5, "shape (2, 26, 63), expected (2, 27, 63)"),
])
def test_a_wrong_operator_is_named(backend, operator, n_off, note, capsys):
    status, lines = run(backend(), capsys)
    off = [line for line in lines if "  NO" in line]
    assert status == 1
    assert len(off) == n_off and all(line.split()[0] == operator for line in off)
    assert note in off[0]
    assert f"{n_off} of {len(cases.make_cases())} checks are off" in lines


@pytest.mark.slow
def test_command_line_passes_in_graph_mode(monkeypatch, capsys):
    """As ``python -m thor.selfcheck`` in this process."""
    monkeypatch.setattr(sys, "argv", ["selfcheck", "--train"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("thor.selfcheck", run_name="__main__")
    output = capsys.readouterr().out
    assert ended.value.code == 0, output
    assert "graph mode" in output and "NO" not in output
    lines = output.splitlines()
    assert lines[-1] == f"all {len(cases.make_cases()) + 4} checks passed"
    runs = [line for line in lines if "1.0e-04  yes" in line]
    assert [line[:48].strip() for line in runs] == [
        "3 second-order steps", "1 second-order and 3 stale steps", "7 steps chosen inside the graph, refresh every 3",
        "2 sinks of 7 steps, refresh every 3"]
    report = dict(line.split(maxsplit=1) for line in lines[lines.index(runs[-1]) + 1:-1])
    assert report["MindSpore"] == ms.__version__ and report["device"].startswith("CPU, ")


def test_ranks_are_started_by_msrun_and_the_first_is_shown(monkeypatch, capsys):
    """What they train is that of test_distribution_ranks; here, how they are started."""
    started = []

    def run(command, env, **_):
        started.append((command, env["PYTHONPATH"].split(":")[0]))
        folder = next(word for word in command if word.startswith("--log_dir=")).partition("=")[2]
        (Path(folder) / "worker_0.log").write_text("all 2 checks passed\n", encoding="utf-8")
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    assert selfcheck.main(["--device", "CPU", "--ranks", "2"]) == 0
    (command, path), = started
    assert command[1:3] == ["--worker_num=2", "--local_worker_num=2"] and path == str(ROOT)
    assert command[-7:] == ["--train", "--mode", "graph", "--ranks", "2", "--device", "CPU"]
    assert "all 2 checks passed" in capsys.readouterr().out


def test_weights_that_did_not_move_are_off_by_all_of_the_way():
    run = training.compare("none", lambda: (training.Network(), 3, 1), 1e-4)
    assert not run.ok and run.error == pytest.approx(1.0, rel=1e-6)


def test_a_run_that_raises_is_a_finding():
    def fail():
        raise RuntimeError("no kernel")

    run = training.compare("none", fail, 1e-4)
    assert not run.ok and run.note == "RuntimeError: no kernel"


def test_processor_is_named_where_the_system_tells(tmp_path):
    told = tmp_path / "cpuinfo"
    told.write_text("processor : 0\nmodel name : Some Processor\n", encoding="utf-8")
    assert processor(str(told)) == "Some Processor"
    told.write_text("processor : 0\nCPU implementer : 0x48\n", encoding="utf-8")  # aarch64 has no model name
    assert processor(str(told))


def test_ranks_must_divide_the_batch(capsys):
    with pytest.raises(SystemExit):
        selfcheck.main(["--ranks", "3"])
    assert "--ranks=3; must be 1, 2, 4 or 8" in capsys.readouterr().err


def test_a_device_that_is_not_there_is_one_clear_line(monkeypatch, capsys):
    def refuse(device):
        raise RuntimeError(f"Unsupported device target {device}. This process only supports ['CPU'].\nMore.")

    monkeypatch.setattr(ms, "set_device", refuse)
    assert selfcheck.main(["--device", "Ascend"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        f"--device=Ascend; must be a device MindSpore {ms.__version__} can use here (Unsupported "
        "device target Ascend); use --device CPU or install its driver and MindSpore\n")


def test_an_unknown_device_is_refused(capsys):
    with pytest.raises(SystemExit) as exit_info:
        selfcheck.main(["--device", "TPU"])
    assert exit_info.value.code == 2
    assert "'TPU'" in capsys.readouterr().err


def test_reference_covariance():
    rows = np.random.default_rng(0).standard_normal((11, 10))
    left, right = (sum(np.outer(x, x) for x in half) / 11 for half in (rows[:, :5], rows[:, 5:]))
    padded = np.zeros((2, 3, 3))
    padded[:, :2, :2] = left[3:, 3:], right[3:, 3:]
    expected = np.stack([left[:3, :3], padded[0], right[:3, :3], padded[1]])
    np.testing.assert_allclose(cases.reference_covariance(rows, 2, 3), expected, atol=1e-14)


def test_reference_patches_agree_with_unfold():
    images = np.random.default_rng(0).standard_normal((2, 3, 9, 8)).astype(np.float32)
    expected = ops.unfold(Tensor(images), (3, 2), (2, 1), (1, 2), (2, 3)).asnumpy()
    computed = cases.reference_patches(images, (3, 2), (2, 3), (1, 1, 2, 2), (2, 1))
    np.testing.assert_array_equal(computed, expected)


def test_reference_block_matrices():
    blocks = np.random.default_rng(0).standard_normal((4, 3, 3))
    expected = np.stack([block_diag(*blocks[:2])[:5, :5], block_diag(*blocks[2:])[:5, :5]])
    np.testing.assert_array_equal(cases.dense(blocks, 2, 5), expected)
