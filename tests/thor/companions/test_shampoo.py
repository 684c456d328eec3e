"""Shampoo against its equations in float64, with roots by eigenvalues."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest

from tests.helpers import companion_cases as cases
from tests.helpers.companion_cases import DECAY, RATES, arrays, combine, gradient, start, zeros
from tests.helpers.modes import BOTH_MODES
from thor.companions import Shampoo
from thor.companions.shampoo import InverseFourthRoot

BETA1, BETA2, EPSILON = 0.8, 0.9, 1e-4


def root(matrix, epsilon=EPSILON):
    """(M + epsilon b I)^(-1/4), b the largest row sum."""
    values, vectors = np.linalg.eigh(matrix + epsilon * np.abs(matrix).sum(1).max() * np.eye(len(matrix)))
    return vectors * values ** -0.25 @ vectors.T


def blocks(matrix, split):
    """Only the diagonal blocks of a matrix."""
    kept = np.zeros_like(matrix)
    for first in range(0, len(matrix), split):
        kept[first:first + split, first:first + split] = matrix[first:first + split, first:first + split]
    return kept


def roots(matrix, split):
    found = np.zeros_like(matrix)
    for first in range(0, len(matrix), split):
        part = slice(first, first + split)
        found[part, part] = root(matrix[part, part])
    return found


def steps(frequency, split):
    weights, means, squares = start(), zeros(start()), zeros(start())
    left, right = np.zeros((3, 3)), np.zeros((4, 4))
    for t, (rate, batch) in enumerate(zip(RATES, arrays()), 1):
        g = gradient(weights, batch)
        means = combine(lambda m, u: BETA1 * m + (1 - BETA1) * u, means, g)
        squares = combine(lambda v, u: BETA2 * v + (1 - BETA2) * u * u, squares, g)
        matrix = g["fc.weight"]
        left = BETA2 * left + (1 - BETA2) * blocks(matrix @ matrix.T, split)
        right = BETA2 * right + (1 - BETA2) * blocks(matrix.T @ matrix, split)
        if (t - 1) % frequency == 0:
            rows, columns = (roots(m / (1 - BETA2 ** t), split) for m in (left, right))
        adam = combine(lambda m, v: m / (1 - BETA1 ** t) / (np.sqrt(v / (1 - BETA2 ** t)) + 1e-8), means, squares)
        p = rows @ means["fc.weight"] @ columns
        update = {"fc.weight": p * np.linalg.norm(adam["fc.weight"]) / np.linalg.norm(p), "fc.bias": adam["fc.bias"]}
        weights = combine(lambda w, u: w - rate * (u + DECAY * w), weights, update)
        yield weights


@BOTH_MODES
@pytest.mark.parametrize("frequency, split", [(1, 8), (2, 2)])
def test_five_steps_follow_the_equations(mode, frequency, split):
    ms.set_context(mode=mode)
    cases.assert_follows(lambda parameters: Shampoo(parameters, RATES, BETA1, BETA2, frequency, DECAY, split, EPSILON),
                         steps(frequency, split))


@pytest.mark.usefixtures("pynative")
def test_the_loss_scale_changes_nothing():
    cases.assert_follows(lambda parameters: Shampoo(parameters, RATES, BETA1, BETA2, 2, DECAY, 2, EPSILON, 256.0),
                         steps(2, 2), 256.0)


@pytest.mark.usefixtures("pynative")
@pytest.mark.parametrize("epsilon", [1e-3, 1e-6])
def test_fourth_roots_of_blocks_whose_condition_is_that_of_the_ridge(epsilon):
    random = np.random.default_rng(0)
    thin = random.normal(size=(6, 2))
    small = 1e-8 * np.diag([1.0, 1e-2, 1e-3, 3.0, 2.0, 5.0])
    matrices = np.stack([thin @ thin.T, small, np.zeros((6, 6))]).astype(np.float32)
    found = InverseFourthRoot(epsilon)(ms.Tensor(matrices)).asnumpy()
    for matrix, got in zip(matrices[:2], found):
        expected = root(matrix.astype(np.float64), epsilon)
        # rounding M + epsilon I to float32 moves its smallest eigenvalue by 2^-24 of the largest
        assert np.linalg.norm(got - expected) < (2 ** -24 / epsilon / 4 + 2e-4) * np.linalg.norm(expected)
    np.testing.assert_allclose(found[2], np.eye(6), atol=1e-5)
