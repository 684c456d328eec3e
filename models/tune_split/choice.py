"""The split dimension from data: what a block-diagonal factor loses against what its inverse costs.

Source: Chen et al., THOR, AAAI 2021, section 3.3. A factor X split into blocks of n rows, X^, loses
``1 - sqrt(lmax(X^ X^') / lmax(X X'))`` of its spectrum. The larger n, the more factors lose under 1 %; and the longer
one inverse takes, p_n seconds. Where the share of such factors crosses the normalised speed p_1 / p_n lies the choice.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

LOSS_LIMIT = 0.01
DENSE_LIMIT = 256  # rows up to which all eigenvalues are cheaper than a Lanczos iteration


@dataclass(frozen=True)
class SplitChoice:
    """The outcome.

    Attributes:
        candidates: block sizes n, ascending.
        share: of the factors, those that lose less than 1 % at each n.
        speed: p_1 / p_n.
        crossing: n where the curves cross, interpolated; None where they do not.
        split_dim: the candidate to use.
    """

    candidates: tuple[int, ...]
    share: tuple[float, ...]
    speed: tuple[float, ...]
    crossing: float | None
    split_dim: int


def candidate_sizes(largest: int) -> tuple[int, ...]:
    """1, 16, 32, 64, ... up to the first that holds a factor of ``largest`` rows whole."""
    sizes = [1, 16]
    while sizes[-1] < largest:
        sizes.append(2 * sizes[-1])
    return tuple(sizes)


def _largest_eigenvalue(matrix: np.ndarray) -> float:
    """Of a symmetric positive semi-definite matrix ``(rows, rows)``."""
    if matrix.shape[0] <= DENSE_LIMIT:
        return float(np.linalg.eigvalsh(matrix)[-1])
    from scipy.sparse.linalg import eigsh

    start = np.ones(matrix.shape[0])
    return float(eigsh(matrix, k=1, which="LA", return_eigenvectors=False, v0=start, tol=1e-6)[0])


def spectral_loss(factor: np.ndarray, split_dim: int) -> float:
    """``1 - sqrt(lmax(X^ X^') / lmax(X X'))`` of a factor ``(rows, rows)``; 0 for a factor that is zero.

    Both are symmetric and positive semi-definite: the root is the ratio of their largest eigenvalues.
    """
    factor = np.asarray(factor, np.float64)
    whole = _largest_eigenvalue(factor)
    if whole <= 0 or split_dim >= len(factor):
        return 0.0
    if split_dim == 1:
        return 1.0 - float(np.diagonal(factor).max()) / whole
    blocks = (factor[start:start + split_dim, start:start + split_dim] for start in range(0, len(factor), split_dim))
    return 1.0 - max(map(_largest_eigenvalue, blocks)) / whole


def share_within_limit(factors: Sequence[np.ndarray], split_dim: int) -> float:
    """Share of the factors whose spectral loss at ``split_dim`` is under 1 %."""
    return sum(spectral_loss(factor, split_dim) < LOSS_LIMIT for factor in factors) / len(factors)


def find_crossing(candidates: Sequence[int], share: Sequence[float], speed: Sequence[float]) -> float | None:
    """Where the share first rises to the speed, linear between candidates; None if it never does."""
    gaps = np.subtract(share, speed)
    for i, gap in enumerate(gaps):
        if gap >= 0:
            if i == 0 or gap == gaps[i - 1]:
                return float(candidates[i])
            weight = -gaps[i - 1] / (gap - gaps[i - 1])
            return float(candidates[i - 1] + weight * (candidates[i] - candidates[i - 1]))
    return None


def choose_split(factors: Sequence[np.ndarray], seconds_of_inverse: Callable[[int], float],
                 candidates: Sequence[int] | None = None) -> SplitChoice:
    """Run the procedure.

    Args:
        factors: whole factors ``(rows, rows)`` measured on real batches.
        seconds_of_inverse: p_n, seconds to invert one block of n rows on the device.
        candidates: block sizes to try; by default :func:`candidate_sizes` of the largest factor.

    Returns:
        The choice: the candidate nearest to the crossing; the largest one where the curves do not cross.

    Raises:
        ValueError: there are no factors.
    """
    if not factors:
        raise ValueError("factors=[]; must hold at least one factor; use a network with layers THOR preconditions")
    candidates = tuple(candidates or candidate_sizes(max(len(factor) for factor in factors)))
    share = tuple(share_within_limit(factors, n) for n in candidates)
    seconds = [seconds_of_inverse(n) for n in candidates]
    speed = tuple(seconds[0] / value for value in seconds)
    crossing = find_crossing(candidates, share, speed)
    nearest = candidates[-1] if crossing is None else min(candidates, key=lambda n: abs(n - crossing))
    return SplitChoice(candidates, share, speed, crossing, nearest)
