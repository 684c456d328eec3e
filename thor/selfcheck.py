"""Check every operator of a device's backend against float64 NumPy.

``python -m thor.selfcheck [--device CPU|GPU|Ascend] [--mode graph|pynative]`` prints a table and exits with 0
if all operators are right, 1 if one is off, 2 if the device cannot be used. Run it once on a new device,
MindSpore version or driver; it takes a few seconds.
"""
from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from thor.backends import Backend, create_backend

FLOAT32_EPS = 2.0 ** -23
# Relative Frobenius error of one product: rounding grows with the root of the 1000 terms at most summed here;
# float16 rounds both operands and the result to 11 bits.
PRODUCT_BOUND = {"float32": 32 * FLOAT32_EPS, "float16": 2.0 ** -9}
HINT = ("Errors near 1e-3 mean products in reduced precision (TF32, HF32, float16); switch it off with\n"
        "mindspore.device_context.gpu.op_precision.matmul_allow_tf32(False) or\n"
        "mindspore.device_context.ascend.op_precision.precision_mode('must_keep_origin_dtype')")


@dataclass(frozen=True)
class Case:
    """One operator on one shape.

    Attributes:
        operator: method of :class:`thor.backends.Backend`.
        shape: what the table says of it.
        arrays: float32 tensor arguments.
        options: the remaining arguments, constants of the graph.
        expected: float64 result; for ``damped_inverse`` zero where the block must be rejected.
        bound: largest relative Frobenius error allowed, for inverses that of the worst block.
    """

    operator: str
    shape: str
    arrays: tuple
    options: tuple
    expected: np.ndarray
    bound: float


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

    def construct(self, *tensors):
        if self.operator == "covariance":
            return self.backend.covariance(tensors[0], self.options[0], self.options[1])
        if self.operator == "covariance_of_maps":
            return self.backend.covariance_of_maps(tensors[0], self.options[0], self.options[1])
        if self.operator == "patches":
            kernel, stride, padding, dilation = self.options
            return self.backend.patches(tensors[0], kernel, stride, padding, dilation)
        if self.operator == "damped_inverse":
            return self.backend.damped_inverse(tensors[0], tensors[1])
        if self.operator == "precondition":
            return self.backend.precondition(tensors[0], tensors[1], tensors[2])
        return self.backend.precondition_columns(tensors[0], tensors[1])


def diagonal_blocks(matrix: np.ndarray, split_dim: int) -> list[np.ndarray]:
    """The zero-padded diagonal blocks of one matrix ``(dim, dim)``."""
    dim = len(matrix)
    size = min(dim, split_dim)
    blocks = []
    for start in range(0, dim, size):
        block = np.zeros((size, size))
        part = matrix[start:start + size, start:start + size]
        block[:len(part), :len(part)] = part
        blocks.append(block)
    return blocks


def reference_covariance(rows: np.ndarray, groups: int, split_dim: int) -> np.ndarray:
    rows = rows.astype(np.float64)
    parts = np.split(rows, groups, axis=1)
    return np.stack([block for x in parts for block in diagonal_blocks(x.T @ x / len(x), split_dim)])


def reference_patches(images: np.ndarray, kernel, stride, padding, dilation) -> np.ndarray:
    """One output position at a time."""
    top, bottom, left, right = padding
    padded = np.pad(images.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    reach_h, reach_w = dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1
    columns = [padded[:, :, i:i + reach_h:dilation[0], j:j + reach_w:dilation[1]].reshape(len(images), -1)
               for i in range(0, padded.shape[2] - reach_h + 1, stride[0])
               for j in range(0, padded.shape[3] - reach_w + 1, stride[1])]
    return np.stack(columns, axis=-1)


def dense(blocks: np.ndarray, groups: int, dim: int) -> np.ndarray:
    """``(groups, dim, dim)`` from the blocks of every group, cut to the true dimension."""
    per_group, size = len(blocks) // groups, blocks.shape[-1]
    matrices = np.zeros((groups, per_group * size, per_group * size))
    for i, block in enumerate(blocks):
        start = i % per_group * size
        matrices[i // per_group, start:start + size, start:start + size] = block
    return matrices[:, :dim, :dim]


def covariance_cases(rng: np.random.Generator, bound: float) -> list[Case]:
    cases = []
    for n_rows, dim, groups, split in ((37, 5, 1, 128), (64, 300, 1, 128), (50, 70, 3, 32),
                                       (1000, 128, 1, 128)):
        rows = rng.standard_normal((n_rows, groups * dim)).astype(np.float32)
        cases.append(Case("covariance", f"rows {n_rows}x{dim}, groups {groups}, split {split}", (rows,),
                          (groups, split), reference_covariance(rows, groups, split), bound))
    for n, dim, positions, groups, split in ((3, 7, 25, 1, 128), (2, 150, 9, 1, 128), (4, 9, 16, 8, 128)):
        maps = rng.standard_normal((n, groups * dim, positions)).astype(np.float32)
        rows = maps.transpose(0, 2, 1).reshape(n * positions, groups * dim)
        cases.append(Case("covariance_of_maps", f"maps {n}x{dim}x{positions}, groups {groups}, split {split}",
                          (maps,), (groups, split), reference_covariance(rows, groups, split), bound))
    return cases


def patches_cases(rng: np.random.Generator) -> list[Case]:
    cases = []
    for size, kernel, stride, padding, dilation in (
            ((2, 3, 9, 7), (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
            ((1, 2, 8, 8), (3, 3), (2, 2), (0, 1, 0, 1), (1, 1)),
            ((2, 1, 11, 10), (3, 2), (2, 1), (2, 2, 1, 1), (2, 3)),
            ((2, 4, 5, 6), (1, 1), (1, 1), (0, 0, 0, 0), (1, 1)),
            ((2, 4, 5, 6), (1, 1), (2, 2), (0, 0, 0, 0), (1, 1))):
        images = rng.standard_normal(size).astype(np.float32)
        options = (kernel, stride, padding, dilation)
        cases.append(Case("patches", f"{'x'.join(map(str, size))}, kernel {kernel[0]}x{kernel[1]}, stride "
                          f"{stride[0]}x{stride[1]}, pad {','.join(map(str, padding))}, dilation "
                          f"{dilation[0]}x{dilation[1]}", (images,), options,
                          reference_patches(images, *options), 0.0))
    return cases


def spectrum_block(rng: np.random.Generator, eigenvalues: np.ndarray) -> np.ndarray:
    """A random symmetric float32 matrix with (nearly) these eigenvalues."""
    q, _ = np.linalg.qr(rng.standard_normal((len(eigenvalues), len(eigenvalues))))
    matrix = ((q * eigenvalues) @ q.T).astype(np.float32)
    return (matrix + matrix.T) / 2


def inverse_case(shape: str, blocks: np.ndarray, damping: np.ndarray, rejected: tuple = ()) -> Case:
    """The bound is ``4 condition 2^-23`` for the worst condition number among the good blocks."""
    size = blocks.shape[-1]
    expected, condition = np.zeros(blocks.shape), 1.0
    for i in range(len(blocks)):
        if i not in rejected:
            matrix = blocks[i].astype(np.float64) + float(damping[i, 0, 0]) * np.eye(size)
            expected[i], condition = np.linalg.inv(matrix), max(condition, np.linalg.cond(matrix))
    return Case("damped_inverse", shape, (blocks, damping), (), expected, 4 * condition * FLOAT32_EPS)


def inverse_cases(rng: np.random.Generator) -> list[Case]:
    cases = []
    for n_blocks, size, condition in ((3, 1, 1e2), (5, 27, 1e2), (3, 64, 1e4), (6, 128, 1e2), (2, 128, 1e4),
                                      (1, 150, 1e3)):
        spectrum = np.geomspace(1.0 / condition, 1.0, size) - 1.0 / condition
        blocks = np.stack([spectrum_block(rng, spectrum) for _ in range(n_blocks)])
        damping = np.full((n_blocks, 1, 1), 1.0 / condition, np.float32)
        cases.append(inverse_case(f"{n_blocks}x{size}x{size}, condition {condition:.0e}", blocks, damping))
    blocks = np.stack([spectrum_block(rng, np.linspace(0.1, 1.0, 32)) for _ in range(7)])
    blocks[1] = spectrum_block(rng, np.linspace(-0.5, 1.0, 32))
    blocks[2, 5, 5] = np.nan
    blocks[3, 0, 31] = blocks[3, 31, 0] = np.inf
    blocks[4] = 0.0
    blocks[5] = -blocks[5]
    damping = np.full((7, 1, 1), 0.01, np.float32)
    damping[4] = 0.0
    cases.append(inverse_case("7x32x32, among them indefinite, NaN, inf, zero, negative", blocks, damping,
                              rejected=(1, 2, 3, 4, 5)))
    return cases


def precondition_cases(rng: np.random.Generator, bound: float) -> list[Case]:
    cases = []
    for groups, rows, columns, row_size, column_size in ((1, 10, 7, 10, 7), (1, 130, 300, 128, 128),
                                                         (4, 6, 9, 6, 9), (2, 20, 45, 16, 32)):
        gradient = rng.standard_normal((groups, rows, columns)).astype(np.float32)
        inverse_g, inverse_a = (
            rng.standard_normal((groups * -(-dim // size), size, size)).astype(np.float32)
            for dim, size in ((rows, row_size), (columns, column_size)))
        right = gradient.astype(np.float64) @ dense(inverse_a, groups, columns)
        shape = f"{groups}x{rows}x{columns}, blocks {row_size} and {column_size}"
        cases.append(Case("precondition", shape, (gradient, inverse_g, inverse_a), (),
                          dense(inverse_g, groups, rows) @ right, 2 * bound))
        cases.append(Case("precondition_columns", shape, (gradient, inverse_a), (), right, bound))
    return cases


def make_cases(precision: str = "float32") -> list[Case]:
    """All cases, with the bounds of a backend whose products have this precision."""
    rng = np.random.default_rng(0)
    bound = PRODUCT_BOUND[precision]
    return [*covariance_cases(rng, bound), *patches_cases(rng), *inverse_cases(rng),
            *precondition_cases(rng, bound)]


def check(backend: Backend, case: Case) -> Result:
    """Run one case."""
    try:
        output = OperatorCell(backend, case)(*(Tensor(array) for array in case.arrays))
        return measure(case, output)
    except Exception as error:  # whatever a device's compiler or kernel raises is a finding, not a crash
        return Result(case, np.inf, shorten(f"{type(error).__name__}: {error}", 120))


def measure(case: Case, output: Any) -> Result:
    inverse = case.operator == "damped_inverse"
    computed = (output[0] if inverse else output).asnumpy().astype(np.float64)
    if computed.shape != case.expected.shape:
        return Result(case, np.inf, f"shape {computed.shape}, expected {case.expected.shape}")
    if not inverse:
        return Result(case, relative_error(computed, case.expected))
    accepted, expected = output[1].asnumpy().reshape(-1), case.expected.any(axis=(1, 2)) * 1.0
    if not np.array_equal(accepted, expected):
        return Result(case, np.inf, f"accepted {accepted}, expected {expected}")
    return Result(case, max(map(relative_error, computed, case.expected)))


def relative_error(computed: np.ndarray, expected: np.ndarray) -> float:
    """Relative Frobenius norm of the difference; infinite where anything is not finite."""
    difference, scale = np.linalg.norm(computed - expected), np.linalg.norm(expected)
    if not np.isfinite(difference):
        return np.inf
    return float(difference / scale) if scale > 0 else float(difference)


def format_table(results: list[Result]) -> str:
    width = max(len(result.case.shape) for result in results)
    lines = [f"{'operator':20}  {'shape':{width}}  {'error':>8}  {'bound':>8}  ok"]
    for result in results:
        lines.append(f"{result.case.operator:20}  {result.case.shape:{width}}  {result.error:8.1e}  "
                     f"{result.case.bound:8.1e}  {'yes' if result.ok else 'NO'}  {result.note}".rstrip())
    return "\n".join(lines)


def main(arguments: list[str] | None = None, backend: Backend | None = None) -> int:
    """Command line; ``backend`` replaces the device's own. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m thor.selfcheck", description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("CPU", "GPU", "Ascend"),
                        help="default: MindSpore's present target")
    parser.add_argument("--mode", choices=("graph", "pynative"), default="graph", help="default: graph")
    options = parser.parse_args(arguments)
    if options.device and options.device != ms.get_context("device_target"):
        try:
            ms.set_device(options.device)
        except (RuntimeError, ValueError) as error:
            reason = shorten(str(error).split(". ")[0], 120)
            print(f"--device={options.device}; must be a device MindSpore {ms.__version__} can use here "
                  f"({reason}); use --device CPU or install its driver and MindSpore", file=sys.stderr)
            return 2
    ms.set_context(mode=ms.GRAPH_MODE if options.mode == "graph" else ms.PYNATIVE_MODE)
    backend = backend or create_backend()
    precision = getattr(backend, "precision", "float32")
    print(f"MindSpore {ms.__version__}, device {ms.get_context('device_target')}, backend {backend.name}, "
          f"{precision} products, {options.mode} mode; errors are relative to float64 NumPy")
    results = [check(backend, case) for case in make_cases(precision)]
    print(format_table(results))
    off = sum(not result.ok for result in results)
    print(f"{off} of {len(results)} checks are off\n{HINT}" if off else f"all {len(results)} checks passed")
    return 1 if off else 0


if __name__ == "__main__":
    sys.exit(main())
