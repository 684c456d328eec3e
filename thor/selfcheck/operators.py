"""Every operator of a backend on small problems with float64 answers."""
from __future__ import annotations

from dataclasses import dataclass
from textwrap import shorten
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

from thor.backends import Backend
from thor.backends.preconditioning import Inverse, Product
from thor.selfcheck.cases import Case, make_cases


@dataclass(frozen=True)
class Result:
    """A case's measured error; ``note`` says what went wrong where there is no number."""

    case: Case
    error: float
    note: str = ""

    @property
    def ok(self) -> bool:
        return self.error <= self.case.bound


class OperatorCell(nn.Cell):
    """A backend operator inside a construct, as a training graph calls it."""

    def __init__(self, backend: Backend, case: Case):
        super().__init__(auto_prefix=False)
        self.backend = backend
        self.operator = case.operator
        self.options = case.options
        self.statistics = Tensor([1.0], ms.float32)
        self.joint = case.operator == "precondition" and backend.joins_products
        if case.operator.startswith(("covariance", "squares")):
            self.held = getattr(backend, case.operator + "_operator")(*case.options)
        elif self.joint:
            self.held = _joint_product(backend, *case.arrays)
        elif case.operator.startswith("precondition"):
            self.held = getattr(backend, case.operator + "_operator")(case.arrays[0].shape,
                                                                      *map(_all_blocks, case.arrays[1:]))

    def construct(self, *tensors):
        if self.operator.startswith("covariance"):
            return self.held(tensors[0], self.statistics)
        if self.joint:
            return self.held((tensors[0],))[0]
        if self.operator.startswith(("precondition", "squares")):
            return self.held(*tensors)
        if self.operator == "updated_inverse":
            return self.backend.updated_inverse(*tensors)
        if self.operator == "patches":
            kernel, stride, padding, dilation = self.options
            return self.backend.patches(tensors[0], kernel, stride, padding, dilation)
        return self.backend.damped_inverse(tensors[0], tensors[1])


def _joint_product(backend: Backend, gradient: np.ndarray, inverse_g: np.ndarray, inverse_a: np.ndarray) -> nn.Cell:
    """What multiplies the gradients of all layers, with one layer."""
    g, a = (Inverse(Parameter(Tensor(blocks), name=name, requires_grad=False), 0, len(blocks))
            for name, blocks in (("inverses_g", inverse_g), ("inverses_a", inverse_a)))
    groups, rows, columns = gradient.shape
    return backend.joint_product_operator([Product((groups, rows, columns), (gradient.shape,), a, g)])


def _all_blocks(inverses: np.ndarray) -> tuple[int, int, int]:
    """``(first, count, size)`` of a batch that is one layer's."""
    return 0, len(inverses), inverses.shape[-1]


def check(backend: Backend, case: Case) -> Result:
    """Run one case."""
    try:
        output = OperatorCell(backend, case)(*(Tensor(array) for array in case.arrays))
        return measure(case, output)
    except Exception as error:  # whatever a device's compiler or kernel raises is a finding, not a crash
        return Result(case, np.inf, shorten(f"{type(error).__name__}: {error}", 120))


def measure(case: Case, output: Any) -> Result:
    """The error of what an operator computed."""
    computed = (output if case.accepted is None else output[0]).asnumpy().astype(np.float64)
    if computed.shape != case.expected.shape:
        return Result(case, np.inf, f"shape {computed.shape}, expected {case.expected.shape}")
    if case.accepted is None:
        return Result(case, relative_error(computed, case.expected))
    accepted = output[1].asnumpy().reshape(-1)
    if not np.array_equal(accepted, case.accepted):
        return Result(case, np.inf, f"accepted {accepted}, expected {case.accepted}")
    return Result(case, max(map(relative_error, computed, case.expected)))


def relative_error(computed: np.ndarray, expected: np.ndarray) -> float:
    """Relative Frobenius norm of the difference; infinite where anything is not finite."""
    difference, scale = np.linalg.norm(computed - expected), np.linalg.norm(expected)
    if not np.isfinite(difference):
        return np.inf
    return float(difference / scale) if scale > 0 else float(difference)


def check_operators(backend: Backend, precision: str) -> list[Result]:
    """All cases of :mod:`thor.selfcheck.cases` at the precision of the backend's products."""
    return [check(backend, case) for case in make_cases(precision)]
