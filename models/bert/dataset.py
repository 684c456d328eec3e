"""Batches of masked sentence pairs from MindRecord files, or from BERT's TFRecord files as they are."""
from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mindspore.dataset as ds

from models.bert.columns import COLUMNS, Checked
from models.bert.corpus import HELD_OUT, TRAIN, VOCABULARY
from models.bert.prepared import MINDRECORD, PROGRAM, check_files, remedy
from models.bert.tfrecords import TFRecords
from models.config import BertConfig
from models.data.epochs import TrainingDataset, held_out_part
from models.data.errors import require_folder

PLACE = "place"  # of a record among all, so that a message can name it
NO_RECORDS = (".db", ".txt", ".json", ".md")
SHUFFLED = 10000  # records of the shuffling window; files of models.bert.prepare are shuffled already


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
    files = record_files(data_config, train)
    _check_vocabulary(files[0], bert_config)
    source = _Source(files, data_config.workers, **({"num_shards": num_shards, "shard_id": shard_id} if train else {}))
    _check_record(source, bert_config)
    check = Checked(bert_config, source.where)

    def checked(records: ds.Dataset) -> ds.Dataset:
        return records.map(check, source.columns, list(COLUMNS), num_parallel_workers=1)
    return batched(source, checked, list(COLUMNS), data_config, train, seed, num_shards, shard_id)


def batched(source: Callable[[], ds.Dataset], checked: Callable[[ds.Dataset], ds.Dataset], columns: list[str],
            data_config: Any, train: bool, seed: int, num_shards: int | None, shard_id: int | None) -> ds.Dataset:
    """Batches of records: those of training shuffled, full and a TrainingDataset, the held-out ones all, in order.

    Args:
        source: the records of the split, of training this device's, anew with each call.
        checked: adds the check of a batch.
        columns: of the batches.
        data_config: has batch_size and eval_batch_size.
        train, seed, num_shards, shard_id: as of :func:`pretraining_dataset`.

    Raises:
        ValueError: there are fewer training records than a batch has.
    """
    count = source().get_dataset_size()
    if train and data_config.batch_size > count:
        raise ValueError(f"data.batch_size={data_config.batch_size}; must be at most {count}, the training records on "
                         "one device; use a smaller batch")

    def pipeline() -> ds.Dataset:
        records = source()
        if train:
            records = records.shuffle(min(SHUFFLED, max(count, 2)))
        else:
            records = held_out_part(records, num_shards, shard_id)
        size = data_config.batch_size if train else data_config.eval_batch_size
        return checked(records.batch(size, drop_remainder=train, num_parallel_workers=1))
    return TrainingDataset(pipeline, seed, columns) if train else pipeline()


def record_files(data_config: Any, train: bool, program: str = PROGRAM) -> list[Path]:
    """The files of one split, in alphabetical order, compared with what was written down of them.

    Args:
        data_config: has path, eval_path and workers.
        program: that makes such data.

    Raises:
        FileNotFoundError, NotADirectoryError, ValueError: one line about what is missing or was changed.
    """
    files = _files_of(data_config, train, remedy(program))
    check_files(files[0].parent.parent, files, min(data_config.workers, os.cpu_count() or 1), program)
    return files


def _files_of(data_config: Any, train: bool, hint: str) -> list[Path]:
    root = require_folder(data_config.path, hint)
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
        raise FileNotFoundError(f"{place}: holds no MindRecord or TFRecord files; {hint}")
    if len({file.suffix == MINDRECORD for file in found}) > 1:
        raise ValueError(f"{place}: holds MindRecord and other files; keep one kind of records there")
    return found


class _Source:
    """The records of some files one by one, file by file, anew with each call.

    Attributes:
        columns: ``COLUMNS``, and of TFRecord files the place of a record.
    """

    def __init__(self, files: list[Path], workers: int, num_shards: int | None = None,
                 shard_id: int | None = None) -> None:
        self.files = files
        self.columns = list(COLUMNS)
        self.shards = {"num_shards": num_shards, "shard_id": shard_id}
        self.workers = min(workers, os.cpu_count() or 1)
        self.tfrecords = None if files[0].suffix == MINDRECORD else TFRecords(files, **self.shards)
        if self.tfrecords is not None:
            self.columns.append(PLACE)

    def __call__(self) -> ds.Dataset:
        if self.tfrecords is None:
            names = [str(file) for file in self.files]
            return ds.MindDataset(names, list(COLUMNS), self.workers, shuffle=False, **self.shards)
        return ds.GeneratorDataset(self.tfrecords, self.columns, num_parallel_workers=1, python_multiprocessing=False)

    def where(self, place: int | None) -> str:
        """The name of a record: its file and number where its place is known."""
        if place is None or self.tfrecords is None:
            return f"{self.files[0].parent}: a record"
        return self.tfrecords.where(place)


def _check_vocabulary(file: Path, bert_config: BertConfig) -> None:
    path = file.parent.parent / VOCABULARY
    if path.is_file():
        with open(path, "rb") as stream:
            words = sum(1 for _ in stream)
        if words > bert_config.vocab_size:
            raise ValueError(f"model.bert.vocab_size={bert_config.vocab_size}; must be at least {words}, the words of "
                             f"{path}; set it to that")


def _check_record(source: _Source, bert_config: BertConfig) -> None:
    """Read one record: whether it can be, has all columns, and fits."""
    file = source.files[0]
    try:
        rows = source.tfrecords if source.tfrecords is not None else source().create_tuple_iterator(
            num_epochs=1, output_numpy=True)
        record = next(iter(rows), None)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{file}: cannot be read as records with {', '.join(COLUMNS)}; it is truncated, of another "
                         f"kind or has other names; {remedy()}") from error
    if record is None:
        raise ValueError(f"{file}: holds no records; {remedy()}")
    length = record[0].size
    if length > bert_config.max_positions:
        raise ValueError(f"{file}: has sequences of {length}; must be at most model.bert.max_positions="
                         f"{bert_config.max_positions}; raise it or prepare shorter ones")
