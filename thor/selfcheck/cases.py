"""Small problems with float64 answers for each operator of a backend; the self-check runs them."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thor.backends.geometry import ConvGeometry

FLOAT32_EPS = 2.0 ** -23
# Relative Frobenius error of one product: rounding grows with the root of the 1000 terms at most summed here;
# float16 rounds both operands and the result to 11 bits.
PRODUCT_BOUND = {"float32": 32 * FLOAT32_EPS, "float16": 2.0 ** -9}


@dataclass(frozen=True)
class Case:
    """One operator on one shape.

    Attributes:
        operator: method of :class:`thor.backends.Backend`; for a covariance, without ``_operator``.
        shape: what the table says of it.
        arrays: float32 tensor arguments.
        options: the remaining arguments, constants of the graph.
        expected: float64 result; for inverses the first of the results.
        bound: largest relative Frobenius error allowed, for inverses that of the worst block.
        accepted: for inverses, 1.0 for each block that must be accepted.
    """

    operator: str
    shape: str
    arrays: tuple
    options: tuple
    expected: np.ndarray
    bound: float
    accepted: np.ndarray | None = None


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


def _covariance_cases(rng: np.random.Generator, bound: float) -> list[Case]:
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


def _patches_cases(rng: np.random.Generator) -> list[Case]:
    cases = []
    for size, kernel, stride, padding, dilation in (
            ((2, 3, 9, 7), (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
            ((1, 2, 8, 8), (3, 3), (2, 2), (0, 1, 0, 1), (1, 1)),
            ((2, 1, 11, 10), (3, 2), (2, 1), (2, 2, 1, 1), (2, 3)),
            ((2, 4, 5, 6), (1, 1), (1, 1), (0, 0, 0, 0), (1, 1)),
            ((2, 4, 5, 6), (1, 1), (2, 2), (0, 0, 0, 0), (1, 1))):
        images = rng.standard_normal(size).astype(np.float32)
        options = (kernel, stride, padding, dilation)
        cases.append(Case("patches", _patches_shape(size, ConvGeometry(kernel, stride, dilation), padding),
                          (images,), options, reference_patches(images, *options), 0.0))
    return cases


def _patches_shape(size: tuple, geometry: ConvGeometry, padding: tuple) -> str:
    text = f"{'x'.join(map(str, size))}, kernel {geometry.kernel[0]}x{geometry.kernel[1]}"
    for name, value, plain in (("stride", geometry.stride, (1, 1)), ("dilation", geometry.dilation, (1, 1)),
                               ("pad", padding, (0, 0, 0, 0))):
        if value != plain:
            text += f", {name} {','.join(map(str, value))}"
    return text


def _covariance_of_patches_cases(rng: np.random.Generator, bound: float) -> list[Case]:
    cases = []
    for size, geometry, groups, split, append_one in (
            ((2, 3, 8, 7), ConvGeometry((3, 3), (2, 2), pad_mode="same"), 1, 128, False),
            ((3, 6, 8, 9), ConvGeometry((3, 2), (1, 2), (2, 1), "pad", (1, 2, 0, 1)), 3, 5, True)):
        images = rng.standard_normal(size).astype(np.float32)
        padding = geometry.padding(size[2:])
        rows = reference_patches(images, geometry.kernel, geometry.stride, padding, geometry.dilation)
        rows = rows.transpose(0, 2, 1).reshape(-1, groups, rows.shape[1] // groups)
        if append_one:
            rows = np.concatenate((rows, np.ones((len(rows), groups, 1))), axis=2)
        expected = reference_covariance(rows.reshape(len(rows), -1), groups, split)
        shape = f"{_patches_shape(size, geometry, padding)}, groups {groups}, split {split}"
        shape += ", bias" * append_one
        cases.append(Case("covariance_of_patches", shape, (images,), (geometry, groups, split, append_one),
                          expected, bound))
    return cases


def spectrum_block(rng: np.random.Generator, eigenvalues: np.ndarray) -> np.ndarray:
    """A random symmetric float32 matrix with (nearly) these eigenvalues."""
    q, _ = np.linalg.qr(rng.standard_normal((len(eigenvalues), len(eigenvalues))))
    matrix = ((q * eigenvalues) @ q.T).astype(np.float32)
    return (matrix + matrix.T) / 2


def _inverse_case(shape: str, blocks: np.ndarray, damping: np.ndarray, rejected: tuple = ()) -> Case:
    """The bound is ``4 condition 2^-23`` for the worst condition number among the good blocks."""
    size = blocks.shape[-1]
    expected, condition = np.zeros(blocks.shape), 1.0
    for i in range(len(blocks)):
        if i not in rejected:
            matrix = blocks[i].astype(np.float64) + float(damping[i, 0, 0]) * np.eye(size)
            expected[i], condition = np.linalg.inv(matrix), max(condition, np.linalg.cond(matrix))
    accepted = np.array([i not in rejected for i in range(len(blocks))], np.float64)
    return Case("damped_inverse", shape, (blocks, damping), (), expected, 4 * condition * FLOAT32_EPS, accepted)


def _inverse_cases(rng: np.random.Generator) -> list[Case]:
    cases = []
    for n_blocks, size, condition in ((3, 1, 1e2), (5, 27, 1e2), (3, 64, 1e4), (6, 128, 1e2), (2, 128, 1e4),
                                      (1, 150, 1e3)):
        spectrum = np.geomspace(1.0 / condition, 1.0, size) - 1.0 / condition
        blocks = np.stack([spectrum_block(rng, spectrum) for _ in range(n_blocks)])
        damping = np.full((n_blocks, 1, 1), 1.0 / condition, np.float32)
        cases.append(_inverse_case(f"{n_blocks}x{size}x{size}, condition {condition:.0e}", blocks, damping))
    blocks = np.stack([spectrum_block(rng, np.linspace(0.1, 1.0, 32)) for _ in range(7)])
    blocks[1] = spectrum_block(rng, np.linspace(-0.5, 1.0, 32))
    blocks[2, 5, 5] = np.nan
    blocks[3, 0, 31] = blocks[3, 31, 0] = np.inf
    blocks[4] = 0.0
    blocks[5] = -blocks[5]
    damping = np.full((7, 1, 1), 0.01, np.float32)
    damping[4] = 0.0
    cases.append(_inverse_case("7x32x32, among them indefinite, NaN, inf, zero, negative", blocks, damping,
                               rejected=(1, 2, 3, 4, 5)))
    return cases


def _updated_inverse_case(rng: np.random.Generator) -> Case:
    """Four blocks: a good one, one not wanted, one to be rejected, one with another scale and divisor."""
    blocks = np.stack([spectrum_block(rng, np.linspace(0.1, 1.0, 48)) for _ in range(4)])
    blocks[2] = -blocks[2]
    old = rng.standard_normal(blocks.shape).astype(np.float32)
    scale, damping, divisor, selected = (np.array(column, np.float32).reshape(4, 1, 1) for column in (
        (1.0, 1.0, 1.0, 0.25), (0.1, 0.1, 0.1, 0.3), (1.0, 2.0, 1.0, 49.0), (1.0, 0.0, 1.0, 1.0)))
    expected, accepted = old.astype(np.float64), np.array([1.0, 0.0, 0.0, 1.0])
    for i in np.flatnonzero(accepted):
        matrix = float(scale[i, 0, 0]) * blocks[i].astype(np.float64) + float(damping[i, 0, 0]) * np.eye(48)
        expected[i] = np.linalg.inv(matrix) / divisor[i, 0, 0]
    return Case("updated_inverse", "4x48x48, one not wanted, one negative", (blocks, scale, damping, divisor, selected,
                                                                             old), (), expected, 1e-5, accepted)


def _squares_cases(rng: np.random.Generator) -> list[Case]:
    rows = rng.standard_normal((40, 30)).astype(np.float32)
    images = rng.standard_normal((2, 3, 9, 8)).astype(np.float32)
    geometry = ConvGeometry((3, 3), (2, 2), pad_mode="same")
    padding = geometry.padding((9, 8))
    patches = reference_patches(images, geometry.kernel, geometry.stride, padding, geometry.dilation)
    return [Case("squares", "rows 40x30", (rows,), (), np.array([(rows.astype(np.float64) ** 2).sum()]), 1e-5),
            Case("squares", _patches_shape(images.shape, geometry, padding), (images,), (geometry,),
                 np.array([(patches ** 2).sum()]), 1e-5)]


def _precondition_cases(rng: np.random.Generator, bound: float) -> list[Case]:
    cases = []
    for groups, rows, columns, row_size, column_size in ((1, 10, 7, 10, 7), (1, 130, 300, 128, 128),
                                                         (4, 6, 9, 6, 9), (2, 20, 45, 16, 32)):
        gradient = rng.standard_normal((groups, rows, columns)).astype(np.float32)
        inverse_g, inverse_a = (
            rng.standard_normal((groups * -(-dim // size), size, size)).astype(np.float32)
            for dim, size in ((rows, row_size), (columns, column_size)))
        left = dense(inverse_g, groups, rows) @ gradient
        right = gradient.astype(np.float64) @ dense(inverse_a, groups, columns)
        shape = f"{groups}x{rows}x{columns}, blocks {row_size} and {column_size}"
        cases.append(Case("precondition", shape, (gradient, inverse_g, inverse_a), (),
                          dense(inverse_g, groups, rows) @ right, 2 * bound))
        cases.append(Case("precondition_rows", shape, (gradient, inverse_g), (), left, bound))
        cases.append(Case("precondition_columns", shape, (gradient, inverse_a), (), right, bound))
    return cases


def make_cases(precision: str = "float32") -> list[Case]:
    """All cases, with the bounds of a backend whose products have this precision."""
    rng = np.random.default_rng(0)
    bound = PRODUCT_BOUND[precision]
    return [*_covariance_cases(rng, bound), *_patches_cases(rng), *_covariance_of_patches_cases(rng, bound),
            *_inverse_cases(rng), _updated_inverse_case(rng), *_precondition_cases(rng, bound), *_squares_cases(rng)]
