"""Batches of token sequences from the MindRecord files of models.gpt.prepare."""
from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import mindspore.dataset as ds
import numpy as np

from models.bert.corpus import CORPUS
from models.bert.dataset import batched, record_files
from models.bert.prepared import read_note, remedy
from models.config import GptConfig
from models.gpt.prepare import PROGRAM
from models.gpt.records import TOKENS


def token_dataset(data_config: Any, gpt_config: GptConfig, train: bool, seed: int, num_shards: int | None = None,
                  shard_id: int | None = None) -> ds.Dataset:
    """Batches of the column tokens, int32 ``(N, sequence + 1)``; arguments and order as of
    models.bert.dataset.pretraining_dataset.

    Args:
        gpt_config: what the records must fit: vocab_size, max_positions.

    Raises:
        FileNotFoundError, NotADirectoryError, ValueError: one line about what is missing or does not fit.
    """
    files = record_files(data_config, train, PROGRAM)
    _check_vocabulary(files[0].parent.parent / CORPUS, gpt_config)
    shards = {"num_shards": num_shards, "shard_id": shard_id} if train else {}

    def source() -> ds.Dataset:
        return ds.MindDataset([str(file) for file in files], [TOKENS], min(data_config.workers, os.cpu_count() or 1),
                              shuffle=False, **shards)

    def check(tokens: np.ndarray) -> np.ndarray:
        if not 0 <= tokens.min() <= tokens.max() < gpt_config.vocab_size:
            raise ValueError(f"{files[0].parent}: a record: {TOKENS} are not all in 0 to {gpt_config.vocab_size - 1}; "
                             "the records were made with another vocabulary; give their own data.path or model.gpt")
        return tokens

    def checked(records: ds.Dataset) -> ds.Dataset:
        return records.map(check, [TOKENS], num_parallel_workers=1)
    _check_record(source(), files[0], gpt_config)
    return batched(source, checked, [TOKENS], data_config, train, seed, num_shards, shard_id)


def _check_vocabulary(note: Path, gpt_config: GptConfig) -> None:
    tokens = read_note(note).get("vocab_size") if note.is_file() else None
    if isinstance(tokens, int) and tokens > gpt_config.vocab_size:
        raise ValueError(f"model.gpt.vocab_size={gpt_config.vocab_size}; must be at least {tokens}, the tokens of "
                         f"{note.parent}; set it to that")


def _check_record(source: ds.Dataset, file: Path, gpt_config: GptConfig) -> None:
    """Read one record: whether it can be, and fits."""
    try:
        record = next(iter(source.create_tuple_iterator(num_epochs=1, output_numpy=True)), None)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{file}: cannot be read as records with {TOKENS}; it is truncated or of another kind; "
                         f"{remedy(PROGRAM)}") from error
    if record is None:
        raise ValueError(f"{file}: holds no records; {remedy(PROGRAM)}")
    length = record[0].size - 1
    if not 0 < length <= gpt_config.max_positions:
        raise ValueError(f"{file}: has sequences of {length}; must be at most model.gpt.max_positions="
                         f"{gpt_config.max_positions}; raise it or prepare shorter ones")
