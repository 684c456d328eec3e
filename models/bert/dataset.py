"""Batches of masked sentence pairs from MindRecord files, or from BERT's TFRecord files as they are."""
from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import mindspore.dataset as ds
import numpy as np

from models.bert.corpus import CORPUS, HELD_OUT, TRAIN, VOCABULARY, WORK
from models.bert.framing import check_whole
from models.config import BertConfig
from models.data.epochs import TrainingDataset, held_out_part
from models.data.errors import require_folder

# In the order of the inputs of models.bert.loss.BertPretrainingLoss.
COLUMNS = {"input_ids": np.int32, "segment_ids": np.int32, "input_mask": np.int32, "masked_lm_positions": np.int32,
           "masked_lm_ids": np.int32, "masked_lm_weights": np.float32, "next_sentence_labels": np.int32}
MINDRECORD = ".mindrecord"
NO_RECORDS = (".db", ".txt", ".json", ".md")
SHUFFLED = 10000  # records of the shuffling window; files of models.bert.prepare are shuffled already
REMEDY = "make the data with python -m models.bert.prepare"


def pretraining_dataset(data_config: Any, bert_config: BertConfig, train: bool, seed: int,
                        num_shards: int | None = None, shard_id: int | None = None) -> ds.Dataset:
    """Batches of the columns of ``COLUMNS``: int32 and float32, ``(N, sequence)``, ``(N, masked)``, ``(N, 1)``.

    Training batches are shuffled anew each epoch and always full, and come as a TrainingDataset; evaluation gives
    every held-out record once, in the order of the files. MindRecord and TFRecord files of the same records give
    the same batches.

    Args:
        data_config: has path, eval_path, batch_size, eval_batch_size and workers.
        bert_config: what the records must fit: vocab_size, max_positions, token_types.
        train: training records, or the held-out ones.
        seed: of the order.
        num_shards: parts the records are cut into, one for each device; None for no cut.
        shard_id: which part.

    Raises:
        FileNotFoundError, NotADirectoryError, ValueError: one line about what is missing or does not fit.
    """
    files = _record_files(data_config, train)
    _check_vocabulary(files[0], bert_config)
    _check_record(files[0], bert_config)
    for file in files:
        if file.suffix != MINDRECORD:
            check_whole(file)
    shards = {"num_shards": num_shards, "shard_id": shard_id} if train else {}
    workers = min(data_config.workers, os.cpu_count() or 1)
    count = _source(files, workers, **shards).get_dataset_size()
    if train and data_config.batch_size > count:
        raise ValueError(f"data.batch_size={data_config.batch_size}; must be at most {count}, the training records on "
                         "one device; use a smaller batch")

    def pipeline() -> ds.Dataset:
        records = _source(files, workers, **shards)
        if train:
            records = records.shuffle(min(SHUFFLED, max(count, 2)))
        else:
            records = held_out_part(records, num_shards, shard_id)
        size = data_config.batch_size if train else data_config.eval_batch_size
        batches = records.batch(size, drop_remainder=train, num_parallel_workers=1)
        return batches.map(Checked(bert_config), list(COLUMNS), list(COLUMNS), num_parallel_workers=1)
    return TrainingDataset(pipeline, seed, list(COLUMNS)) if train else pipeline()


class Checked:
    """Columns in the types of ``COLUMNS``, refused if they do not fit the network."""

    def __init__(self, bert_config: BertConfig) -> None:
        self.limits = {"input_ids": bert_config.vocab_size, "masked_lm_ids": bert_config.vocab_size,
                       "segment_ids": bert_config.token_types, "next_sentence_labels": 2}

    def __call__(self, *columns: np.ndarray) -> tuple[np.ndarray, ...]:
        for name, values in zip(COLUMNS, columns):
            limit = self.limits.get(name, columns[0].shape[1] if name == "masked_lm_positions" else None)
            if limit is not None and values.size and not 0 <= values.min() <= values.max() < limit:
                raise ValueError(f"{name} of a record is not in 0 to {limit - 1}; the records were made with another "
                                 "vocabulary or model; give their own data.path or model.bert")
        return tuple(values.astype(kind, copy=False) for values, kind in zip(columns, COLUMNS.values()))


def _record_files(data_config: Any, train: bool) -> list[Path]:
    """The files of one split, in alphabetical order."""
    root = require_folder(data_config.path, REMEDY)
    if train:
        place = root / TRAIN if (root / TRAIN).is_dir() else root
    else:
        place = root / HELD_OUT if data_config.eval_path is None else Path(data_config.eval_path)
        if not place.exists():
            name = f"{root}: has no folder {HELD_OUT}" if data_config.eval_path is None else \
                f"data.eval_path={place}; there is nothing at that path"
            raise FileNotFoundError(f"{name}; set data.eval_path to held-out records")
    found = [place] if place.is_file() else sorted(
        file for file in place.iterdir()
        if file.is_file() and not file.name.startswith(".") and file.suffix not in NO_RECORDS)
    if not found:
        raise FileNotFoundError(f"{place}: holds no MindRecord or TFRecord files; {REMEDY}")
    _check_sizes(place.parent)
    if len({file.suffix == MINDRECORD for file in found}) > 1:
        raise ValueError(f"{place}: holds MindRecord and other files; keep one kind of records there")
    return found


def _source(files: list[Path], workers: int = 1, num_shards: int | None = None,
            shard_id: int | None = None) -> ds.Dataset:
    """The records one by one, file by file."""
    names, options = [str(file) for file in files], {"shuffle": False, "num_shards": num_shards, "shard_id": shard_id}
    if files[0].suffix == MINDRECORD:
        return ds.MindDataset(names, list(COLUMNS), workers, **options)
    # One worker: several interleave the files.
    return ds.TFRecordDataset(names, None, list(COLUMNS), num_parallel_workers=1,
                              shard_equal_rows=num_shards is not None, **options)


def _check_sizes(root: Path) -> None:
    """Compare the files with what models.bert.prepare wrote down of them, if it made them."""
    if (root / WORK).exists():
        raise ValueError(f"{root}: its preparation was interrupted; run the same python -m models.bert.prepare again")
    note = root / CORPUS
    sizes = json.loads(note.read_text(encoding="utf-8")).get("bytes", {}) if note.is_file() else {}
    for name, size in sizes.items():
        found = (root / name).stat().st_size if (root / name).exists() else 0
        if found != size:
            raise ValueError(f"{root / name}: has {found} bytes, {size} were written; it is truncated or changed; "
                             f"delete {root} and {REMEDY}")


def _check_vocabulary(file: Path, bert_config: BertConfig) -> None:
    path = file.parent.parent / VOCABULARY
    if path.is_file():
        with open(path, "rb") as stream:
            words = sum(1 for _ in stream)
        if words > bert_config.vocab_size:
            raise ValueError(f"model.bert.vocab_size={bert_config.vocab_size}; must be at least {words}, the words of "
                             f"{path}; set it to that")


def _check_record(file: Path, bert_config: BertConfig) -> None:
    """Read one record: whether it can be, has all columns, and fits."""
    try:
        record = next(_source([file]).create_dict_iterator(num_epochs=1, output_numpy=True), None)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ValueError(f"{file}: cannot be read as records with {', '.join(COLUMNS)}; it is truncated, of another "
                         f"kind or has other names; {REMEDY}") from error
    if record is None:
        raise ValueError(f"{file}: holds no records; {REMEDY}")
    length = record["input_ids"].size
    if length > bert_config.max_positions:
        raise ValueError(f"{file}: has sequences of {length}; must be at most model.bert.max_positions="
                         f"{bert_config.max_positions}; raise it or prepare shorter ones")
