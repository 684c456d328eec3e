"""Reading records: MindRecord and TFRecord alike, in an order that resumes, refusing what does not fit."""
from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest

from models.bert.dataset import COLUMNS, pretraining_dataset
from models.config import BertConfig, DataConfig
from tests.helpers.bert_data import LENGTH, MASKED, VOCABULARY, as_tfrecords, make_data, read_records

BERT = BertConfig(vocab_size=VOCABULARY, max_positions=LENGTH)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """(MindRecord data, TFRecord data) of the same records."""
    data = make_data(tmp_path_factory.mktemp("bert"), part_mb=0.004)
    return data, as_tfrecords(data, data.parent / "tfrecord")


def settings(path, **changes):
    return DataConfig(**{"name": "text", "path": str(path), "batch_size": 8, **changes})


def batches(path, train, epochs=1, bert=BERT, **changes):
    dataset = pretraining_dataset(settings(path, **changes), bert, train, seed=3)
    iterator = dataset.create_tuple_iterator(num_epochs=epochs, output_numpy=True)
    return [batch for _ in range(epochs) for batch in iterator]


def assert_same(first, second):
    assert len(first) == len(second) > 0
    for one, two in zip(first, second):
        for left, right in zip(one, two):
            assert left.dtype == right.dtype
            np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("train", [True, False])
def test_mindrecord_and_tfrecord_give_the_same_batches(prepared, train):
    first, second = (batches(path, train, epochs=2) for path in prepared)
    assert_same(first, second)
    assert [column.shape for column in first[0]] == [(8, LENGTH)] * 3 + [(8, MASKED)] * 3 + [(8, 1)]
    assert [column.dtype for column in first[0]] == list(COLUMNS.values())


def test_columns_are_those_of_the_records(prepared):
    (batch,) = batches(prepared[0], False, eval_batch_size=10000)
    files = sorted((prepared[0] / "held_out").glob("*.mindrecord"))
    records = [record for file in files for record in read_records(file)]
    for name, column in zip(COLUMNS, batch):
        np.testing.assert_array_equal(column, np.stack([record[name] for record in records]))


def test_an_epoch_has_every_record_once_and_another_order_than_the_next(prepared):
    path = prepared[0]
    count = sum(len(read_records(file)) for file in path.glob("train/*.mindrecord"))
    found = batches(path, True, epochs=2, batch_size=1)
    first, second = found[:count], found[count:]

    def rows(epoch):
        return [batch[0].tobytes() + batch[3].tobytes() + batch[4].tobytes() for batch in epoch]
    assert len(first) == len(second) == count
    assert rows(first) != rows(second) and sorted(rows(first)) == sorted(rows(second))


@pytest.mark.parametrize("kind", [0, 1], ids=["mindrecord", "tfrecord"])
@pytest.mark.parametrize("step", [1, 7])
def test_training_starts_anywhere(prepared, kind, step):
    whole = batches(prepared[kind], True, epochs=2)
    per_epoch = len(whole) // 2
    dataset = pretraining_dataset(settings(prepared[kind]), BERT, True, seed=3)
    dataset.start_at(per_epoch + step)
    iterator = dataset.create_tuple_iterator(num_epochs=2, output_numpy=True)
    assert_same(whole[per_epoch + step:], list(iterator))


def test_a_flat_folder_is_for_training_and_held_out_records_can_be_anywhere(prepared):
    flat = prepared[1] / "train"
    assert_same(batches(flat, True), batches(prepared[1], True))
    held_out = prepared[1] / "held_out"
    assert_same(batches(flat, False, eval_path=str(held_out)), batches(prepared[1], False))
    (file,) = held_out.iterdir()
    assert_same(batches(flat, False, eval_path=str(file)), batches(prepared[1], False))
    with pytest.raises(FileNotFoundError, match="train: has no folder held_out; set data.eval_path to held-out"):
        batches(flat, False)
    with pytest.raises(FileNotFoundError, match="data.eval_path=/no; there is nothing at that path"):
        batches(flat, False, eval_path="/no")


@pytest.mark.parametrize("changes, message", [
    ({"vocab_size": 60}, "model.bert.vocab_size=60; must be at least [0-9]+, the words of .*vocab.txt; set it to that"),
    ({"max_positions": 15}, "has sequences of 16; must be at most model.bert.max_positions=15; raise it or prepare"),
])
def test_records_that_do_not_fit_the_network_are_refused(prepared, changes, message):
    with pytest.raises(ValueError, match=message):
        batches(prepared[0], True, bert=dataclasses.replace(BERT, **changes))


def test_half_made_data_are_refused(prepared, tmp_path):
    shutil.copytree(prepared[0], tmp_path / "data")
    (tmp_path / "data" / ".work").mkdir()
    with pytest.raises(ValueError, match="data: its preparation was interrupted; run the same python -m models.bert"):
        batches(tmp_path / "data", True)


def test_other_files_are_refused(prepared, tmp_path):
    with pytest.raises(FileNotFoundError, match="^data.path is empty; make the data with python -m models.bert"):
        batches("", True)
    with pytest.raises(FileNotFoundError, match="holds no MindRecord or TFRecord files"):
        batches(tmp_path, True)
    (tmp_path / "part").write_text("plain text" * 100)
    with pytest.raises(ValueError, match="part: is no TFRecord file, or damaged where it begins; copy it again"):
        batches(tmp_path, True)
    (tmp_path / "part.mindrecord").write_text("")
    with pytest.raises(ValueError, match="holds MindRecord and other files; keep one kind"):
        batches(tmp_path, True)


def test_a_batch_larger_than_the_data_is_refused(prepared):
    with pytest.raises(ValueError, match="data.batch_size=100000; must be at most [0-9]+, the training records"):
        batches(prepared[0], True, batch_size=100000)
