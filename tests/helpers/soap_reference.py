"""SOAP's update of one matrix in float64, from its equations."""
from __future__ import annotations

import numpy as np

FIRST_ITERATIONS = 30


def iterated(moment, basis, split, iterations):
    """``QR(M Q)`` of each diagonal block, which ends with the matrix."""
    found = np.zeros_like(basis)
    for first in range(0, len(moment), split):
        part = slice(first, first + split)
        q = basis[part, part]
        for _ in range(iterations):
            q = np.linalg.qr(moment[part, part] @ q)[0]
        found[part, part] = q
    return found


class SoapMatrix:
    """Step after step of a matrix of ``shape``."""

    def __init__(self, shape, frequency, split, beta1, beta2, epsilon=1e-8):
        self.frequency, self.split, self.beta1, self.beta2, self.epsilon = frequency, split, beta1, beta2, epsilon
        self.moves, self.m, self.v = -1, np.zeros(shape), np.zeros(shape)
        self.moments, self.bases = [np.zeros((n, n)) for n in shape], [np.eye(n) for n in shape]

    def moved(self, weight, g, rate, decay):
        """The weight after a step with the gradient ``g``."""
        self.moves += 1
        left, right = self.bases
        if self.moves > 0:
            self.m = self.beta1 * self.m + (1 - self.beta1) * g
            self.v = self.beta2 * self.v + (1 - self.beta2) * (left.T @ g @ right) ** 2
            mean, square = self.m / (1 - self.beta1 ** self.moves), self.v / (1 - self.beta2 ** self.moves)
            update = left @ (left.T @ mean @ right / (np.sqrt(square) + self.epsilon)) @ right.T
            weight = weight - rate * (update + decay * weight)
        self.moments = [self.beta2 * old + (1 - self.beta2) * new
                        for old, new in zip(self.moments, (g @ g.T, g.T @ g))]
        if self.moves % self.frequency == 0:
            count = FIRST_ITERATIONS if self.moves == 0 else 1
            self.bases = [iterated(m, q, self.split, count) for m, q in zip(self.moments, self.bases)]
        return weight
