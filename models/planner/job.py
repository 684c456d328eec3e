"""What is to be planned: a network, its batch and its settings, as counts. Nothing of devices."""
from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from models.planner.work import LayerWork
from thor.reduction import packed_count

BYTES = 4  # weights, gradients, factors and inverses are float32


@dataclass(frozen=True)
class JobLayer:
    """A layer with factors.

    Args:
        work: its operations; None for layers whose operations are not worth counting (BatchNorm's 2x2 blocks).
        forward_flop: of its products in the forward pass of a device's batch.
        factor_shapes: of what it measures, three axes for symmetric blocks.
    """

    work: LayerWork | None
    forward_flop: float
    factor_shapes: tuple[tuple[int, ...], ...]

    @property
    def packed_bytes(self) -> int:
        """Bytes that are sent for its measurements: triangles of blocks."""
        return BYTES * sum(packed_count(shape) for shape in self.factor_shapes)

    @property
    def factor_bytes(self) -> int:
        """Bytes of its measurements as they are."""
        return BYTES * sum(math.prod(shape) for shape in self.factor_shapes)

    @property
    def inverse_bytes(self) -> int:
        """Bytes of its inverses: blocks, and the diagonal of an embedding."""
        inverted = [shape for shape in self.factor_shapes if len(shape) == 3 or self.is_diagonal(shape)]
        return BYTES * sum(map(math.prod, inverted))

    def is_diagonal(self, shape: tuple[int, ...]) -> bool:
        """Whether ``shape`` is an embedding's factor over its rows."""
        return self.work is not None and self.work.diagonal_rows and shape == (self.work.rows,)

    @property
    def dense_bytes(self) -> int:
        """Bytes of its inverses as whole matrices: what is exchanged where inverses are averaged undivided."""
        if self.work is None:
            return self.inverse_bytes
        a = self.work.groups * self.work.columns ** 2
        return BYTES * (a + (self.work.rows if self.work.diagonal_rows else self.work.groups * self.work.rows ** 2))


@dataclass(frozen=True)
class Job:
    """A training run on one device.

    Args:
        name: of the configuration.
        layers: with factors, in the order of their reductions.
        parameters: ``(numbers, layer)`` of every trainable parameter in order; ``layer`` is the index of the layer
            whose backward pass gives its gradient.
        weights: numbers of all parameters, trained or not.
        activations: numbers kept by the forward pass of a micro-batch.
        batch_size: samples of a micro-batch.
        micro_batches: averaged into a step.
        split_dim: rows of a block, None for whole matrices.
        frequency: steps from refresh to refresh.
        split_indices: cuts of the reductions of factors as configured, None for none.
        gradient_cuts: indices of the parameters that end a group of gradients, None for none.
        epochs: of the run.
        samples: of the training data, None where not known.
        epoch_steps: steps that count as an epoch whatever the data, None for a pass over them.
        other_flop: operations of the forward pass of a micro-batch outside ``layers``.
        description: the network and its settings in words.
    """

    name: str
    layers: tuple[JobLayer, ...]
    parameters: tuple[tuple[int, int], ...]
    weights: int
    activations: int
    batch_size: int
    micro_batches: int = 1
    split_dim: int | None = 128
    frequency: int = 100
    split_indices: tuple[int, ...] | None = None
    gradient_cuts: tuple[int, ...] | None = None
    epochs: int = 1
    samples: int | None = None
    epoch_steps: int | None = None
    other_flop: float = 0.0
    description: str = ""

    @property
    def forward_flop(self) -> float:
        """Operations of the forward pass of a micro-batch."""
        return self.other_flop + sum(layer.forward_flop for layer in self.layers)

    @property
    def gradient_numbers(self) -> int:
        """Numbers in the gradient."""
        return sum(numbers for numbers, _ in self.parameters)

    @property
    def packed_bytes(self) -> int:
        """Bytes of all measurements as they are sent."""
        return sum(layer.packed_bytes for layer in self.layers)

    @property
    def dense_bytes(self) -> int:
        """Bytes of all inverses as whole matrices."""
        return sum(layer.dense_bytes for layer in self.layers)

    @property
    def block_sizes(self) -> list[int]:
        """Rows of every block that is inverted, in the order in which :mod:`thor.curvature.refresh` keeps them."""
        shapes = [shape for layer in self.layers for shape in layer.factor_shapes if len(shape) == 3]
        return sorted(shape[-1] for shape in shapes for _ in range(shape[0]))

    def steps_per_epoch(self, devices: int) -> int | None:
        """Steps of an epoch, None where not known; what does not fill a batch is left out."""
        if self.epoch_steps is not None:
            return self.epoch_steps
        if self.samples is None:
            return None
        return self.samples // devices // self.batch_size // self.micro_batches

    def with_split(self, split_indices: tuple[int, ...]) -> Job:
        """The same with other cuts."""
        return dataclasses.replace(self, split_indices=split_indices)
