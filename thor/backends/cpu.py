"""CPU operators: inverses by the host's LAPACK, called from inside the compiled graph."""
from __future__ import annotations

import numpy as np
from mindspore import Tensor, ops

from thor.backends.base import Backend


class CpuBackend(Backend):
    """The reference operators, with LAPACK's ``potrf`` and ``potri`` for the inverses.

    MindSpore's own CPU inverse is 2 to 17 times slower at sizes 128 to 4608, and its Cholesky raises
    inside the graph on an indefinite block instead of reporting it.
    """

    name = "cpu"

    def __init__(self):
        super().__init__()
        self.host_inverse = ops.Custom(
            cholesky_inverse,
            out_shape=lambda blocks, damping: (blocks, damping),
            out_dtype=lambda blocks, damping: (blocks, damping),
            func_type="pyfunc")

    def damped_inverse(self, blocks: Tensor, damping: Tensor) -> tuple:
        result = self.host_inverse(blocks, damping)
        return result[0], result[1]


def cholesky_inverse(blocks: np.ndarray, damping: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Invert damped symmetric blocks one by one; see :meth:`Backend.damped_inverse` for the shapes."""
    from scipy.linalg.lapack import spotrf, spotri  # loaded at the first refresh: import thor stays light

    inverse = np.zeros_like(blocks)
    accepted = np.zeros_like(damping)
    size = blocks.shape[-1]
    diagonal = np.arange(size)
    upper = np.triu_indices(size, 1)
    for index in range(blocks.shape[0]):
        block = blocks[index].copy()
        block[diagonal, diagonal] += damping[index, 0, 0]
        if not np.isfinite(block).all():
            continue
        # The transposed view of a symmetric C-ordered block is Fortran-ordered: LAPACK works in place.
        factor, failed = spotrf(block.T, lower=1, overwrite_a=1)
        if failed:
            continue
        lower, failed = spotri(factor, lower=1, overwrite_c=1)
        if failed or not np.isfinite(lower[diagonal, diagonal]).all():
            continue
        lower[upper] = lower.T[upper]
        inverse[index] = lower
        accepted[index] = 1.0
    return inverse, accepted
