"""Preparation from text to shards: repeatable whoever works on it, resumable, refusing what it cannot use."""
from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks.fuzzing.datasets import InThisProcess
from models.bert.corpus import CorpusError, records, shards
from models.bert.corpus import preparation as preparing
from models.bert.corpus.preparation import prepare
from models.bert.corpus.vocabulary import read_vocabulary
from models.bert.prepare import Preparation, main
from tests.helpers import environment
from tests.helpers.bert_data import LENGTH, MASKED, OPTIONS, make_data, read_records, write_corpus

PARTS = dict(part_mb=0.002)  # several parts of a corpus of 9 kB


@pytest.fixture
def one_process(monkeypatch):
    monkeypatch.setattr(preparing, "process_pool", InThisProcess)


def contents(data):
    return {str(file.relative_to(data)): read_records(file) for file in sorted(data.glob("*/*.mindrecord"))}


def assert_same_data(first, second):
    assert (first / "vocab.txt").read_text() == (second / "vocab.txt").read_text()
    one, two = contents(first), contents(second)
    assert list(one) == list(two)
    for name in one:
        assert len(one[name]) == len(two[name])
        for left, right in zip(one[name], two[name]):
            assert all(np.array_equal(left[key], right[key]) for key in records.SCHEMA)


def test_shards_hold_the_text_and_the_split_does_not_leak(tmp_path):
    data = make_data(tmp_path, **PARTS)
    found, note = contents(data), json.loads((data / "corpus.json").read_text())
    words = read_vocabulary(data / "vocab.txt", True).words
    assert len(found) >= 4 and {name.split("/")[0] for name in found} == {"train", "held_out"}
    for split in ("train", "held_out"):
        records = [r for name in found if name.startswith(split) for r in found[name]]
        assert len(records) == note["records"][split] > 0
        assert {(r["input_ids"].shape, r["masked_lm_ids"].shape) for r in records} == {((LENGTH,), (MASKED,))}
    assert note["documents"]["train"] + note["documents"]["held_out"] == 60
    assert sum(note["bytes"].values()) == sum(f.stat().st_size for f in data.glob("*/*"))

    def spans(split):
        """Runs of six word pieces of sentences, masks undone."""
        runs = set()
        for record in (r for name in found if name.startswith(split) for r in found[name]):
            tokens, count = record["input_ids"].copy(), int(record["masked_lm_weights"].sum())
            tokens[record["masked_lm_positions"][:count]] = record["masked_lm_ids"][:count]
            text = [words[i] for i in tokens[:record["input_mask"].sum()]]
            runs |= {tuple(text[i:i + 6]) for i in range(len(text) - 5) if not set(text[i:i + 6]) & {"[SEP]", "[CLS]"}}
        return runs
    assert len(spans("train") & spans("held_out")) <= 0.02 * len(spans("held_out"))  # sentences are random words
    assert not (data / ".work").exists()


@pytest.mark.slow
def test_the_number_of_processes_changes_nothing(tmp_path, monkeypatch):
    write_corpus(tmp_path / "corpus.txt")
    arguments = [str(tmp_path / "corpus.txt")], Preparation(**OPTIONS, **PARTS)
    prepare(arguments[0], tmp_path / "two", arguments[1], 2)
    monkeypatch.setattr(preparing, "process_pool", InThisProcess)
    prepare(arguments[0], tmp_path / "one", arguments[1], 1)
    assert_same_data(tmp_path / "one", tmp_path / "two")


def test_an_interrupted_preparation_goes_on_where_it_was(tmp_path, one_process, monkeypatch):
    whole = make_data(tmp_path / "whole", **PARTS)
    (tmp_path / "cut").mkdir()
    write_corpus(tmp_path / "cut" / "corpus.txt")
    arguments = [str(tmp_path / "cut" / "corpus.txt")], tmp_path / "cut" / "data", Preparation(**OPTIONS, **PARTS)
    done, write = [], shards._write

    def fail_at_third(path, *more):
        if len(done) == 2:
            path.write_text("half a shard")
            raise KeyboardInterrupt
        done.append(path.name)
        return write(path, *more)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shards, "_write", fail_at_third)
        prepare(*arguments)
    data = arguments[1]
    kept = {file: file.stat().st_mtime_ns for file in data.glob("*/*.mindrecord")}
    assert len(kept) == 2 and not (data / "corpus.json").exists()
    with pytest.raises(CorpusError, match="holds data made with another seed, input; delete it or give another"):
        prepare([str(tmp_path / "whole" / "corpus.txt")], data, Preparation(**OPTIONS, **PARTS, seed=5))
    prepare(*arguments)
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    assert_same_data(whole, data)
    before = {file: file.stat().st_mtime_ns for file in data.rglob("*")}
    assert prepare(*arguments)["train"] > 0 and {file: file.stat().st_mtime_ns for file in data.rglob("*")} == before


def test_a_given_vocabulary_is_used(tmp_path):
    first = make_data(tmp_path / "a")
    vocabulary = tmp_path / "given.txt"
    vocabulary.write_text((first / "vocab.txt").read_text() + "unheardof\n")
    second = make_data(tmp_path / "b", vocab=str(vocabulary), whole_words=True)
    assert (second / "vocab.txt").read_text() == vocabulary.read_text()
    assert json.loads((second / "corpus.json").read_text())["settings"]["whole_words"] is True


@pytest.mark.parametrize("text, words, expected", [
    ("", (), "error: the input has 0 training and 0 held-out documents; must have 2 and 1 at least; "),
    ("one document\nof two lines\n", (), "error: the input has "),
    ("a\n\nb\n", ("--vocab", "no.txt"), "error: vocab=no.txt; must be a vocab.txt, a word piece a line; "),
    ("a\n\nb\n", ("--sequence_length", "4"), "error: sequence_length=4; must be an int >= 8"),
    ("a\n\nb\n", ("--held_out", "1.5"), "error: held_out=1.5; must be a number > 0 and < 1"),
    ("a\n\nb\n", ("--workers", "0"), "error: workers=0; must be an int >= 1"),
    *(("a\n\nb\n", (f"--{name}", "1000000000"), f"error: {name}=1000000000; must be an int >= {least}; use at most "
       f"{most}\n") for name, least, most in (("vocab_size", 30, 1000000), ("sequence_length", 8, 65536),
                                              ("max_predictions", 1, 65536), ("dup_factor", 1, 10000))),
])
def test_what_cannot_be_prepared_is_one_line(tmp_path, capsys, text, words, expected):
    (tmp_path / "text").write_text(text)
    assert main(["--input", str(tmp_path / "text"), "--output", str(tmp_path / "data"), *words]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.splitlines(keepends=True)[-1].startswith(expected)
    assert not list(tmp_path.glob("data/*"))


def test_a_folder_with_other_files_is_left_alone(tmp_path, capsys):
    write_corpus(tmp_path / "corpus.txt")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine").write_text("mine")
    assert main(["--input", str(tmp_path / "corpus.txt"), "--output", str(tmp_path / "data")]) == 1
    assert "must be a new or empty folder; it holds other files" in capsys.readouterr().err
    assert [file.name for file in (tmp_path / "data").iterdir()] == ["mine"]


@pytest.mark.slow
@pytest.mark.parametrize("kind, status", [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_workers_end_with_the_preparation(tmp_path, kind, status):
    write_corpus(tmp_path / "corpus.txt", 4000)
    command = [sys.executable, "-m", "models.bert.prepare", "--input", "corpus.txt", "--output", "data",
               "--workers", "2", "--dup_factor", "500"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True)
    deadline = time.time() + 120
    while not list(tmp_path.glob("data/.work/*.part/*.mindrecord")) and time.time() < deadline:
        time.sleep(0.1)
    process.send_signal(kind)
    assert process.wait(30) == status
    said = process.stderr.read()  # ends when the workers, who share it, have ended
    assert status != 130 or said == "interrupted; the same command goes on where it was\n"
    assert not (tmp_path / "data" / "corpus.json").exists()
