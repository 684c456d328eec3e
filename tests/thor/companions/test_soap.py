"""SOAP against its equations in float64; its bases against eigenvectors."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor

from tests.helpers import companion_cases as cases
from tests.helpers.companion_cases import DECAY, RATES, arrays, combine, gradient, start, zeros
from tests.helpers.modes import BOTH_MODES
from thor.companions import SOAP
from thor.companions.soap import PowerIteration

BETA1, BETA2, EPSILON = 0.8, 0.9, 1e-8


def parts(size, split):
    return [slice(first, first + split) for first in range(0, size, split)]


def iterated(moment, basis, split, iterations):
    """``QR(M Q)`` of each diagonal block alone."""
    found = np.zeros_like(basis)
    for part in parts(len(moment), split):
        q = basis[part, part]
        for _ in range(iterations):
            q = np.linalg.qr(moment[part, part] @ q)[0]
        found[part, part] = q
    return found


class Matrix:
    """The update of one matrix, step after step."""

    def __init__(self, shape, frequency, split):
        self.frequency, self.split, self.moves = frequency, split, -1
        self.m, self.v = np.zeros(shape), np.zeros(shape)
        self.moments, self.bases = [np.zeros((n, n)) for n in shape], [np.eye(n) for n in shape]

    def __call__(self, g):
        """What the weights move by, None at the first step."""
        self.moves += 1
        left, right = self.bases
        update = None
        if self.moves > 0:
            self.m = BETA1 * self.m + (1 - BETA1) * g
            self.v = BETA2 * self.v + (1 - BETA2) * (left.T @ g @ right) ** 2
            mean, square = self.m / (1 - BETA1 ** self.moves), self.v / (1 - BETA2 ** self.moves)
            update = left @ (left.T @ mean @ right / (np.sqrt(square) + EPSILON)) @ right.T
        self.moments = [BETA2 * old + (1 - BETA2) * new for old, new in zip(self.moments, (g @ g.T, g.T @ g))]
        if self.moves % self.frequency == 0:
            self.bases = [iterated(m, q, self.split, 30 if self.moves == 0 else 1)
                          for m, q in zip(self.moments, self.bases)]
        return update


def steps(frequency, split):
    weights, means, squares = start(), zeros(start()), zeros(start())
    matrix = Matrix((3, 4), frequency, split)
    for t, (rate, batch) in enumerate(zip(RATES, arrays()), 1):
        g = gradient(weights, batch)
        means = combine(lambda m, u: BETA1 * m + (1 - BETA1) * u, means, g)
        squares = combine(lambda v, u: BETA2 * v + (1 - BETA2) * u * u, squares, g)
        bias = means["fc.bias"] / (1 - BETA1 ** t) / (np.sqrt(squares["fc.bias"] / (1 - BETA2 ** t)) + EPSILON)
        moved = {"fc.weight": matrix(g["fc.weight"]), "fc.bias": bias}
        weights = {name: w if moved[name] is None else w - rate * (moved[name] + DECAY * w)
                   for name, w in weights.items()}
        yield weights


@BOTH_MODES
@pytest.mark.parametrize("frequency, split", [(1, 8), (2, 2), (3, None)])
def test_five_steps_follow_the_equations(mode, frequency, split):
    ms.set_context(mode=mode)
    cases.assert_follows(lambda parameters: SOAP(parameters, RATES, BETA1, BETA2, frequency, DECAY, split, EPSILON),
                         steps(frequency, split or 8))
