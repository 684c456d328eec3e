"""Prepared data that were changed since: sizes and checksums are compared before MindSpore opens a file."""
from __future__ import annotations

import json
import os
import shutil
import zlib

import pytest

from models.bert.corpus.preparation import prepare
from models.bert.dataset import pretraining_dataset
from models.bert.prepare import Preparation
from models.config import BertConfig, DataConfig
from tests.helpers.bert_data import LENGTH, OPTIONS, VOCABULARY, make_data

REMEDY = "make the data with python -m models.bert.prepare"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def data(prepared, tmp_path):
    return shutil.copytree(prepared, tmp_path / "data", copy_function=os.link)


def replace(file, content):
    """Give a file other contents, and leave those it shares alone."""
    file.unlink()
    file.write_bytes(content)


def open_data(path, train=True):
    config = DataConfig(name="text", path=str(path), batch_size=8)
    return pretraining_dataset(config, BertConfig(vocab_size=VOCABULARY, max_positions=LENGTH), train, seed=3)


def refusal(path, train=True):
    with pytest.raises(ValueError) as raised:
        open_data(path, train)
    return str(raised.value)


def test_the_note_has_size_and_checksum_of_every_file(prepared):
    note = json.loads((prepared / "corpus.json").read_text())
    files = {str(file.relative_to(prepared)): file.read_bytes() for file in prepared.glob("*/*")}
    assert note["crc32"] == {name: zlib.crc32(content) for name, content in files.items()}
    assert note["bytes"] == {name: len(content) for name, content in files.items()}


@pytest.mark.parametrize("ending", ["", ".db"])
@pytest.mark.parametrize("train, split", [(True, "train"), (False, "held_out")])
def test_a_flipped_bit_is_found_before_the_file_is_opened(data, capsys, ending, train, split):
    file = data / split / f"part-00000.mindrecord{ending}"
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 4
    replace(file, content)
    assert refusal(data, train) == (
        f"{file}: its contents are not those that were written; it is damaged; delete {data} and {REMEDY}")
    assert open_data(data, not train).get_dataset_size() > 0
    assert capsys.readouterr().err == ""


def test_a_truncated_file_is_named(data):
    file = data / "train" / "part-00000.mindrecord"
    size = file.stat().st_size
    replace(file, file.read_bytes()[:size // 2])
    assert refusal(data) == (f"{file}: has {size // 2} bytes, {size} were written; it is truncated or changed; "
                             f"delete {data} and {REMEDY}")


def test_data_without_checksums_are_read_and_said_to_be_unchecked(data, capsys):
    note = json.loads((data / "corpus.json").read_text())
    del note["crc32"]
    replace(data / "corpus.json", json.dumps(note).encode())
    for _ in range(2):
        assert open_data(data).get_dataset_size() > 0
    assert capsys.readouterr().err == (f"{data}/train: has no checksums, damaged MindRecord files are not noticed; "
                                       "data that models.bert.prepare makes anew have them\n")


@pytest.mark.parametrize("content", [
    "", "{", "[]", "\udc80", "[" * 100_000, '{"bytes": [1]}', '{"bytes": {"train/a": "1"}}', '{"bytes": {"a": 1}}',
    '{"bytes": {"train/\\u0000": 1}}', '{"crc32": {"train/' + "a" * 300 + '": 1}}',
    '{"bytes": {"train/a": ' + "9" * 9999])
def test_a_damaged_note_is_one_line(data, content):
    replace(data / "corpus.json", content.encode(errors="surrogateescape"))
    line = f"{data}/corpus.json: is damaged or of another program; delete {data} and prepare the data again"
    assert refusal(data) == line
    with pytest.raises(ValueError) as raised:
        prepare([str(data / "vocab.txt")], data, Preparation(**OPTIONS))
    assert str(raised.value) == line


@pytest.mark.parametrize("name", ["settings.json", "documents.json", "train-00000.json"])
def test_damaged_notes_of_an_interrupted_preparation_are_one_line(prepared, data, name):
    work = data / ".work"
    work.mkdir()
    note = json.loads((data / "corpus.json").read_text())
    (data / "corpus.json").unlink()
    (work / "settings.json").write_text(json.dumps(note))
    (work / "documents.json").write_text(json.dumps(note["documents"]))
    (work / name).write_text('{"settings"')
    with pytest.raises(ValueError) as raised:
        prepare([str(prepared.parent / "corpus.txt")], data, Preparation(**OPTIONS))
    assert str(raised.value) == (
        f"{work / name}: is damaged or of another program; delete {data} and prepare the data again")
