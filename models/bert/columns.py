"""What a record of sentence pairs is made of, and which values can be in it."""
from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from models.config import BertConfig

# In the order of the inputs of models.bert.loss.BertPretrainingLoss.
COLUMNS = {"input_ids": np.int32, "segment_ids": np.int32, "input_mask": np.int32, "masked_lm_positions": np.int32,
           "masked_lm_ids": np.int32, "masked_lm_weights": np.float32, "next_sentence_labels": np.int32}
LENGTHS = ("input_ids", "segment_ids", "input_mask"), ("masked_lm_positions", "masked_lm_ids", "masked_lm_weights")


def length_fault(lengths: dict[str, int]) -> str:
    """What is wrong with the numbers of values of a record's columns; "" if nothing."""
    for first, *others in LENGTHS:
        for name in others:
            if lengths[name] != lengths[first]:
                return f"has {lengths[first]} {first} and {lengths[name]} {name}; must have as many"
    labels = lengths["next_sentence_labels"]
    return "" if labels == 1 else f"has {labels} next_sentence_labels; must have one"


class Checked:
    """A step of a data pipeline: columns ``(N, n)`` in the types of ``COLUMNS``, or ValueError if they do not fit.

    Args:
        bert_config: what the values must fit: vocab_size, token_types.
        where: names the record of a row, given the values of a further column, or None where there is none.
    """

    def __init__(self, bert_config: BertConfig, where: Callable[[int | None], str]) -> None:
        self.limits = {"input_ids": bert_config.vocab_size, "masked_lm_ids": bert_config.vocab_size,
                       "segment_ids": bert_config.token_types, "input_mask": 2, "masked_lm_weights": math.inf,
                       "next_sentence_labels": 2}
        self.where = where

    def __call__(self, *columns: np.ndarray) -> tuple[np.ndarray, ...]:
        rows = columns[len(COLUMNS)] if len(columns) > len(COLUMNS) else None
        for name, values in zip(COLUMNS, columns):
            limit = self.limits.get(name, columns[0].shape[1])
            if values.size and not 0 <= values.min() <= values.max() < limit:
                row = int(np.argmin(((values >= 0) & (values < limit)).all(1)))
                raise ValueError(f"{self.where(None if rows is None else int(rows[row]))}: "
                                 f"{_fault(name, limit)}")
        return tuple(values.astype(kind, copy=False) for values, kind in zip(columns, COLUMNS.values()))


def _fault(name: str, limit: float) -> str:
    if name == "masked_lm_weights":
        return "masked_lm_weights are not all finite numbers >= 0; the data are damaged"
    fault = f"{name} are not all in 0 to {limit - 1}"
    if name in ("input_mask", "masked_lm_positions", "next_sentence_labels"):
        return f"{fault}; the data are damaged"
    return f"{fault}; the records were made with another vocabulary or model; give their own data.path or model.bert"
