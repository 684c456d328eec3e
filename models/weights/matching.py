"""What a file holds of a network's weights."""
from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import mindspore as ms
import numpy as np
from mindspore import Parameter

from models.weights.scheme import Scheme

NAMED = 3  # names that a line tells


@dataclasses.dataclass(frozen=True)
class Found:
    """The parameters of a network in a file.

    Attributes:
        values: by name here, of the parameters' shapes and types.
        missing: names there that the file lacks, by name here.
        misshapen: ``NAME is SHAPE there, SHAPE here``, by name here.
        left: names there of weights that this network does not have.
    """

    values: dict[str, np.ndarray]
    missing: dict[str, str]
    misshapen: dict[str, str]
    left: list[str]


def find(weights: Mapping[str, Parameter], scheme: Scheme, contents: Mapping[str, np.ndarray], file: str) -> Found:
    """Look for ``weights`` among ``contents``, whose names are those of ``scheme``.

    Args:
        weights: the parameters of a network by name here.
        scheme: names of the file.
        contents: arrays of the file by name.
        file: how errors call it.

    Raises:
        ValueError: a value is not finite, or two of what is one parameter here differ.
    """
    current = scheme.current(contents)
    for copy, name in scheme.tied.items():
        if copy in contents and not np.array_equal(contents[copy], contents[current[name]]):
            raise ValueError(f"{file}; {copy} and {current[name]} differ, which are one parameter here; use a network "
                             "with tied weights")
    found = Found({}, {}, {}, [])
    names = {ours: theirs for ours in weights if (theirs := scheme.name(ours)) is not None}
    for ours, theirs in names.items():
        shape = tuple(weights[ours].shape)
        if theirs not in current:
            found.missing[ours] = theirs
            continue
        value = contents[current[theirs]]
        if tuple(value.shape) != shape:
            found.misshapen[ours] = f"{theirs} is {_shape(value.shape)} there, {_shape(shape)} here"
            continue
        if value.dtype.kind != "f" and value.dtype.name != "bfloat16":
            raise ValueError(f"{file}; {theirs} is {value.dtype}; must be of floats; save it so")
        values = np.ascontiguousarray(value, ms.dtype_to_nptype(weights[ours].dtype))
        if not np.isfinite(values).all():
            raise ValueError(f"{file}; {theirs} is not finite; it is of a run that diverged, or damaged")
        found.values[ours] = values
    here = {*names.values(), *scheme.tied}
    here |= {name for name, beside in scheme.unused.items() if beside in here}
    found.left.extend(name for name in current if name not in here and scheme.is_weight(name))
    return found


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "()"


def listed(names: Sequence[str]) -> str:
    """The first of ``names``, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"
