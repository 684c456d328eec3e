"""Peers: what is compared with what, and the process of another interpreter."""
from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import peers

OPTIONS = SimpleNamespace(frequency=10, image_size=64, batch_size=32)
SECONDS = {"momentum": 2.0, "stale": 2.2, "refresh": 3.2, "SGD": 1.0, "kfac_stale": 3.0, "kfac_refresh": 33.0}


@pytest.fixture
def no_machine(monkeypatch):
    monkeypatch.setattr(peers.common, "machine", dict)
    monkeypatch.setattr(peers.common, "describe", lambda machine: "a machine")


def test_each_step_is_compared_with_its_frameworks_first_order_one(no_machine):
    numbers = peers.summary({name: np.full(3, value) for name, value in SECONDS.items()}, OPTIONS)
    ratios = {name: result["ratio"] for name, result in numbers["to_first_order"].items()}
    assert ratios == pytest.approx({"momentum": 1, "stale": 1.1, "refresh": 1.6, "SGD": 1, "kfac_stale": 3,
                                    "kfac_refresh": 33})
    assert numbers["ratio"]["ratio"] == 2.0
    assert numbers["amortised_ratio"]["ratio"] == pytest.approx((3.2 + 9 * 2.2) / (33 + 9 * 3))
    lines = peers.report(numbers).splitlines()
    assert any(line.split() == ["THOR,", "stale", "2.200", "1.100", "(1.100", "to", "1.100)"] for line in lines)
    assert lines[-1] == "amortised over 10 steps, THOR / kfac-pytorch: 0.383 (0.383 to 0.383)"


def test_the_other_process_does_a_step_for_each_line(tmp_path, monkeypatch):
    program = tmp_path / "program.py"
    program.write_text("import sys\nfor line in sys.stdin: print(len(line), flush=True)\n")
    monkeypatch.setattr(peers, "PROGRAM", program)
    options = SimpleNamespace(**vars(OPTIONS), pytorch=peers.sys.executable, seed=1)
    with peers.pytorch_sides(options) as sides:
        assert [sides[name]() for name in ("kfac_stale", "SGD", "kfac_refresh")] == [11, 4, 13]


def test_an_interpreter_without_torch_is_told_in_one_line(tmp_path, monkeypatch, capsys):
    program = tmp_path / "program.py"
    program.write_text("import no_such_torch\n")
    monkeypatch.setattr(peers, "PROGRAM", program)
    assert peers.main([]) == 1
    assert capsys.readouterr().err == (f"error: --pytorch={peers.sys.executable}; must have torch and kfac-pytorch: "
                                       "ModuleNotFoundError: No module named 'no_such_torch'\n")
