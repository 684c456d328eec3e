"""Every operator of every backend against float64 NumPy: the self-check's cases, on emulated devices."""
from __future__ import annotations

import functools

import numpy as np
import pytest
from mindspore import Tensor, nn

from tests.helpers import emulated
from thor.backends.ascend import AscendBackend
from thor.backends.cpu import CpuBackend
from thor.backends.gpu import GpuBackend
from thor.backends.native_cpu import NativeCpuBackend
from thor.selfcheck import cases
from thor.selfcheck import operators as selfcheck

BACKENDS = {
    "cpu": NativeCpuBackend,
    "numpy": CpuBackend,
    "gpu": lambda: GpuBackend(emulated.gpu()),
    "ascend a2": lambda: AscendBackend(primitives=emulated.ascend_a2()),
    "ascend a2 half": lambda: AscendBackend(precision="float16", primitives=emulated.ascend_a2()),
    "ascend 910": lambda: AscendBackend(primitives=emulated.ascend_910()),
}
make_cases = functools.cache(cases.make_cases)  # tests read them only
N_CASES = len(make_cases("float32"))
FIRST_OF_OPERATOR = {case.operator: i for i, case in reversed(list(enumerate(make_cases("float32"))))}
HARD = [i for i, case in enumerate(make_cases("float32"))
        if "indefinite" in case.shape or (case.operator == "precondition" and "2x20x45" in case.shape)]


COMPILED = sorted({*FIRST_OF_OPERATOR.values(), *HARD})


def hold(result: selfcheck.Result) -> None:
    case = result.case
    assert result.ok, f"{case.operator} of {case.shape}: {result.error:.1e} > {case.bound:.1e} {result.note}"


@pytest.mark.parametrize("backend_name", BACKENDS)
@pytest.mark.parametrize("index", range(N_CASES))
def test_operator_in_pynative(backend_name, index, pynative):
    backend = BACKENDS[backend_name]()
    hold(selfcheck.check(backend, make_cases(getattr(backend, "precision", "float32"))[index]))


class Together(nn.Cell):
    """Operators side by side, so that one graph is compiled for all of them."""

    def __init__(self, cells):
        super().__init__(auto_prefix=False)
        self.cells_ = nn.CellList(cells)

    def construct(self, *arrays):
        outputs = ()
        for i, cell in enumerate(self.cells_):
            outputs = (*outputs, cell(*arrays[i]))
        return outputs


@functools.cache
def graph_results(backend_name: str) -> dict[int, selfcheck.Result]:
    """Results of the compiled cases by their index."""
    backend = BACKENDS[backend_name]()
    chosen = {i: make_cases(getattr(backend, "precision", "float32"))[i] for i in COMPILED}
    network = Together([selfcheck.OperatorCell(backend, case) for case in chosen.values()])
    outputs = network(*(tuple(map(Tensor, case.arrays)) for case in chosen.values()))
    return {i: selfcheck.measure(case, output) for (i, case), output in zip(chosen.items(), outputs)}


@pytest.mark.slow
@pytest.mark.parametrize("backend_name", ["cpu", "gpu", "ascend a2 half", "ascend 910"])
@pytest.mark.parametrize("index", COMPILED)
def test_operator_in_graph_mode(backend_name, index):
    hold(graph_results(backend_name)[index])


def test_the_cases_cover_every_operator():
    assert set(FIRST_OF_OPERATOR) == {"covariance", "covariance_of_maps", "patches", "covariance_of_patches",
                                      "damped_inverse", "updated_inverse", "precondition", "precondition_rows",
                                      "precondition_columns", "squares"}


@pytest.mark.parametrize("backend_name", BACKENDS)
def test_columns_become_blocks_and_blocks_columns(backend_name, pynative):
    backend = BACKENDS[backend_name]()
    matrices = np.arange(2 * 5 * 12, dtype=np.float32).reshape(2, 5, 12)  # (groups, rows, 3 blocks of 4)
    blocks = matrices.reshape(2, 5, 3, 4).transpose(0, 2, 1, 3).reshape(6, 5, 4)
    np.testing.assert_array_equal(backend.columns_to_blocks(Tensor(matrices), 3).asnumpy(), blocks)
    np.testing.assert_array_equal(backend.columns_to_blocks_operator(2, 5, 3, 4)(Tensor(matrices)).asnumpy(), blocks)
    np.testing.assert_array_equal(backend.blocks_to_columns_operator(2, 5, 3, 4)(Tensor(blocks)).asnumpy(), matrices)
