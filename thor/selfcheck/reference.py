"""A small network trained by THOR in float64 NumPy, written from the equations."""
from __future__ import annotations

import numpy as np

from thor.selfcheck.cases import dense, diagonal_blocks, reference_patches

BATCH, POSITIONS, SPLIT = 8, 36, 128
LEARNING_RATE, DAMPING, MOMENTUM, WEIGHT_DECAY = 0.02, 0.1, 0.9, 5e-4


def initial_weights() -> dict[str, np.ndarray]:
    """A 3x3 convolution of 8x8 images to 4 maps, then 144 features to 5 outputs."""
    rng = np.random.default_rng(1)
    shapes = {"conv.weight": (4, 1, 3, 3), "conv.bias": (4,), "last.weight": (5, 144), "last.bias": (5,)}
    return {name: (0.3 * rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}


def batches(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images ``(8, 1, 8, 8)`` and targets ``(8, 5)``, float32."""
    rng = np.random.default_rng(2)
    return [(rng.standard_normal((BATCH, 1, 8, 8)).astype(np.float32),
             rng.standard_normal((BATCH, 5)).astype(np.float32)) for _ in range(count)]


class ReferenceTraining:
    """Weights after steps on whole batches.

    ``u = (G + r I)^-1 g (A + r I)^-1 / HW + wd w`` with ``r = sqrt(damping / HW)``, ``v = mu v + u``, ``w -= lr v``;
    biases take their gradient for u before the decay.
    """

    def __init__(self):
        self.weights = {name: value.astype(np.float64) for name, value in initial_weights().items()}
        self.moments = {name: np.zeros_like(value) for name, value in self.weights.items()}
        self.inverses: dict[str, np.ndarray] = {}

    def step(self, images: np.ndarray, targets: np.ndarray, refresh: bool) -> None:
        """One step, with the curvature of this batch where ``refresh``."""
        patches = reference_patches(images, (3, 3), (1, 1), (0, 0, 0, 0), (1, 1))  # (n, 9, 36)
        kernel = self.weights["conv.weight"].reshape(4, 9)
        maps = np.tanh(kernel @ patches + self.weights["conv.bias"][:, None])  # (n, 4, 36)
        rows = maps.reshape(BATCH, -1)
        outputs = rows @ self.weights["last.weight"].T + self.weights["last.bias"]
        d_last = 2.0 * (outputs - targets) / outputs.size  # of the mean squared error
        d_conv = (d_last @ self.weights["last.weight"]).reshape(maps.shape) * (1.0 - maps * maps)
        gradients = {"conv.weight": np.einsum("ncp,nfp->cf", d_conv, patches), "conv.bias": d_conv.sum((0, 2)),
                     "last.weight": d_last.T @ rows, "last.bias": d_last.sum(0)}
        if refresh:
            columns = patches.transpose(0, 2, 1).reshape(-1, 9)
            self.refresh("conv", columns, d_conv.transpose(0, 2, 1).reshape(-1, 4), POSITIONS)
            self.refresh("last", rows, d_last, 1)
        for layer, positions in (("conv", POSITIONS), ("last", 1)):
            weight = f"{layer}.weight"
            a, g = (self.inverses[f"{layer}.{role}"] for role in ("a", "g"))
            gradients[weight] = g @ gradients[weight] @ a / positions
        self.move(gradients)

    def refresh(self, layer: str, inputs: np.ndarray, output_gradients: np.ndarray, positions: int) -> None:
        """Damped inverses from rows of inputs and of output gradients."""
        root = np.sqrt(DAMPING / positions)
        for role, rows, scale in (("a", inputs, 1.0), ("g", output_gradients, BATCH ** 2)):
            moment = scale * rows.T @ rows / len(rows)
            whole = dense(np.stack(diagonal_blocks(moment, SPLIT)), 1, len(moment))[0]
            self.inverses[f"{layer}.{role}"] = np.linalg.inv(whole + root * np.eye(len(moment)))

    def move(self, updates: dict[str, np.ndarray]) -> None:
        """Decay and momentum."""
        for name, weight in self.weights.items():
            update = updates[name].reshape(weight.shape) + WEIGHT_DECAY * weight
            self.moments[name] = MOMENTUM * self.moments[name] + update
            self.weights[name] = weight - LEARNING_RATE * self.moments[name]


def trained(steps: int, frequency: int) -> dict[str, np.ndarray]:
    """Weights after ``steps`` steps with a refresh every ``frequency``."""
    training = ReferenceTraining()
    for step, (images, targets) in enumerate(batches(steps)):
        training.step(images, targets, step % frequency == 0)
    return training.weights
