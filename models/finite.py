"""Noticing that training has diverged."""
from __future__ import annotations

import numpy as np
from mindspore import nn

from models.command_line import LoadError


class DivergedError(LoadError):
    """Loss or parameters are no longer finite; told in one line, exit status 1."""


def check_finite(cell: nn.Cell, batches: int) -> None:
    """DivergedError if a float parameter of ``cell`` holds NaN or infinity after ``batches`` batches.

    The loss alone does not tell: MindSpore's ReLU on CPU turns NaN into 0.
    """
    for _, parameter in cell.parameters_and_names():
        values = parameter.asnumpy()
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise DivergedError(f"parameter {parameter.name} is not finite after batch {batches}; training "
                                f"has diverged; lower the learning rate or raise the damping")
