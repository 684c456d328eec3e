"""TFRecord files: read as MindSpore reads whole ones; what is damaged or does not fit is named by file and record."""
from __future__ import annotations

import mindspore.dataset as ds
import numpy as np
import pytest

from models.bert.columns import COLUMNS
from models.bert.crc32c import crc32c
from models.bert.dataset import pretraining_dataset
from models.bert.tfrecords import TFRecords
from models.config import BertConfig, DataConfig
from models.data import dataset_error_line
from models.train import main
from tests.helpers.bert_data import LENGTH, MASKED, VOCABULARY, example, framed, write_tfrecords

BERT = BertConfig(vocab_size=VOCABULARY, max_positions=LENGTH)
AGAIN = "make or copy the data again"


def record(seed: int, length: int = LENGTH, **changes) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    made = {"input_ids": random.integers(0, VOCABULARY, length), "input_mask": np.ones(length, int),
            "segment_ids": random.integers(0, 2, length), "masked_lm_positions": random.integers(0, length, MASKED),
            "masked_lm_ids": random.integers(0, VOCABULARY, MASKED),
            "masked_lm_weights": np.float32([1, 1, 0]), "next_sentence_labels": random.integers(0, 2, 1)}
    return {name: value for name, value in {**made, **changes}.items() if value is not None}


@pytest.fixture
def files(tmp_path):
    """Three files of 5, 3 and 6 records."""
    folder, first = tmp_path / "data" / "train", 0
    folder.mkdir(parents=True)
    for name, count in (("a", 5), ("b", 3), ("c", 6)):
        write_tfrecords(folder / name, [record(first + i) for i in range(count)])
        first += count
    return sorted(folder.iterdir())


def open_data(files):
    config = DataConfig(name="text", path=str(files[0].parent.parent), batch_size=2)
    return pretraining_dataset(config, BERT, True, seed=3)


def start_line(files):
    """What is said before the run."""
    with pytest.raises(ValueError) as raised:
        open_data(files)
    return str(raised.value)


def run_line(files):
    """What is said of a batch."""
    with pytest.raises(RuntimeError) as raised:
        list(open_data(files).create_tuple_iterator(num_epochs=1, output_numpy=True))
    return dataset_error_line(raised.value)


def test_checksums_are_castagnolis():
    def bit_by_bit(content):
        crc = 0xFFFFFFFF
        for byte in content:
            crc ^= byte
            for _ in range(8):
                crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        return crc ^ 0xFFFFFFFF
    assert crc32c(b"123456789") == 0xE3069283
    content = np.random.default_rng(0).integers(0, 256, 9000, np.uint8).tobytes()
    for length in (*range(10), *range(4094, 4102), 9000):
        assert crc32c(content[:length]) == bit_by_bit(content[:length])


@pytest.mark.parametrize("shards", [1, 2, 3, 4])
def test_records_come_as_mindspore_reads_them(files, shards):
    for shard in range(shards):
        theirs = ds.TFRecordDataset([str(file) for file in files], None, list(COLUMNS), num_parallel_workers=1,
                                    shuffle=False, num_shards=shards, shard_id=shard, shard_equal_rows=True)
        expected = list(theirs.create_tuple_iterator(num_epochs=1, output_numpy=True))
        ours = TFRecords(files, shards, shard)
        for _ in range(2):
            found = list(ours)
            assert len(found) == len(ours) == len(expected)
            for row, other in zip(found, expected):
                for left, right in zip(row, other):
                    assert left.dtype == right.dtype
                    np.testing.assert_array_equal(left, right)


def test_a_record_is_named_by_its_place(files):
    source = TFRecords(files)
    assert [source.where(place) for place in (0, 4, 5, 7, 8, 13)] == [
        f"{files[0]}: record 1", f"{files[0]}: record 5", f"{files[1]}: record 1", f"{files[1]}: record 3",
        f"{files[2]}: record 1", f"{files[2]}: record 6"]


@pytest.mark.parametrize("spoil, said", [
    (lambda content: content[:-100], "ends within a record; it is truncated; copy it again"),
    (lambda content: content[:-2], "ends within a record; it is truncated; copy it again"),
    (lambda content: content + content[:6], "ends within a record; it is truncated; copy it again"),
    (lambda content: content + content[:12], "ends within a record; it is truncated; copy it again"),
    (lambda content: content.replace(content[:8], bytes((255,)) * 8),
     "is no TFRecord file, or damaged where it begins; copy it again"),
    (lambda content: b"plain text" * 100, "is no TFRecord file, or damaged where it begins; copy it again"),
    (lambda content: framed(b"") + bytes((1,)) + framed(b"")[1:] * 2,
     "record 2 is damaged: the checksum of its length is wrong; copy it again"),
], ids=["in the record", "in its checksum", "in the header", "after the header", "first length", "text", "length"])
def test_truncated_files_are_named_before_the_run(files, spoil, said):
    files[1].write_bytes(spoil(files[1].read_bytes()))
    assert start_line(files) == f"{files[1]}: {said}"


def flipped(content: bytes) -> bytes:
    return content[:-5] + bytes((content[-5] ^ 1,)) + content[-4:]


OTHERS = "the records were made with another vocabulary or model; give their own data.path or model.bert"
WRONG = {
    "checksum": (flipped(framed(example(record(1)))), " is damaged: its checksum is wrong; copy it again"),
    "text": (framed(b"plain text"), f": is no tf.train.Example; {AGAIN}"),
    "empty": (framed(b""), f": has no input_ids; must have {', '.join(COLUMNS)}; {AGAIN}"),
    "column": (dict(masked_lm_weights=None), f": has no masked_lm_weights; must have {', '.join(COLUMNS)}; {AGAIN}"),
    "floats": (dict(segment_ids=np.zeros(LENGTH, np.float32)), f": segment_ids must be integers; {AGAIN}"),
    "integers": (dict(masked_lm_weights=np.ones(MASKED, int)), f": masked_lm_weights must be floats; {AGAIN}"),
    "mask length": (dict(input_mask=np.ones(9, int)),
                    f": has {LENGTH} input_ids and 9 input_mask; must have as many; {AGAIN}"),
    "predictions": (dict(masked_lm_ids=np.ones(2, int)),
                    f": has {MASKED} masked_lm_positions and 2 masked_lm_ids; must have as many; {AGAIN}"),
    "labels": (dict(next_sentence_labels=np.ones(2, int)), f": has 2 next_sentence_labels; must have one; {AGAIN}"),
    "shorter": (dict(length=8),
                f": has 8 input_ids, the records before have {LENGTH}; must be the same in all; {AGAIN}"),
    "nan": (dict(masked_lm_weights=np.float32([1, np.nan, 0])),
            ": masked_lm_weights are not all finite numbers >= 0; the data are damaged"),
    "infinite": (dict(masked_lm_weights=np.float32([1, 0, np.inf])),
                 ": masked_lm_weights are not all finite numbers >= 0; the data are damaged"),
    "negative": (dict(masked_lm_weights=np.float32([-1, 1, 0])),
                 ": masked_lm_weights are not all finite numbers >= 0; the data are damaged"),
    "mask": (dict(input_mask=np.arange(LENGTH)), ": input_mask are not all in 0 to 1; the data are damaged"),
    "position": (dict(masked_lm_positions=np.full(MASKED, LENGTH)),
                 f": masked_lm_positions are not all in 0 to {LENGTH - 1}; the data are damaged"),
    "label": (dict(next_sentence_labels=np.int64([2])), ": next_sentence_labels are not all in 0 to 1; "
              "the data are damaged"),
    "word": (dict(input_ids=np.full(LENGTH, VOCABULARY)),
             f": input_ids are not all in 0 to {VOCABULARY - 1}; {OTHERS}"),
    "large word": (dict(masked_lm_ids=np.full(MASKED, 2 ** 40)),
                   f": masked_lm_ids are not all in 0 to {VOCABULARY - 1}; {OTHERS}"),
    "segment": (dict(segment_ids=np.full(LENGTH, -1)), f": segment_ids are not all in 0 to 1; {OTHERS}"),
}


@pytest.mark.parametrize("content, said", WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_record_is_one_line_with_its_number(files, content, said):
    content = content if isinstance(content, bytes) else framed(example(record(1, **content)))
    files[1].write_bytes(framed(example(record(0))) + content + framed(example(record(2))))
    assert run_line(files) == f"{files[1]}: record 2{said}"


def test_a_damaged_first_record_ends_the_command_with_one_line(files, capsys, tmp_path):
    files[0].write_bytes(flipped(framed(example(record(0)))))
    (tmp_path / "run.yaml").write_text(
        f"model: {{name: bert, bert: {{vocab_size: {VOCABULARY}, hidden_size: 8, layers: 1, heads: 1}}}}\n"
        f"data: {{name: text, path: {tmp_path / 'data'}, eval_path: {files[1]}}}\ntrain: {{epochs: 1}}\n")
    assert main(["--config", str(tmp_path / "run.yaml")]) == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"error: {files[0]}: record 1 is damaged: its checksum is wrong; copy it again\n")


def test_files_without_records_are_refused(files):
    for file in files:
        file.write_bytes(b"")
    assert start_line(files) == f"{files[0]}: holds no records; make the data with python -m models.bert.prepare"


def test_a_file_that_is_cut_during_the_run_is_named(files):
    source = TFRecords(files)
    rows = iter(source)
    for _ in range(6):
        next(rows)
    files[2].write_bytes(b"")
    with pytest.raises(ValueError, match=f"^{files[2]}: record 1: is no longer there; the file was changed "):
        list(rows)
