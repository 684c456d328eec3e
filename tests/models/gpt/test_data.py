"""Byte pairs against merges made by hand, records against the text they hold, batches and what does not fit."""
from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from models.bert.corpus.partition import place, read_part
from models.bert.dataset import pretraining_dataset
from models.config import BertConfig, DataConfig
from models.data import dataset_error_line
from models.gpt import GptConfig
from models.gpt.dataset import token_dataset
from models.gpt.prepare import Preparation, main
from models.gpt.records import SequenceRecipe
from models.gpt.vocabulary import END, read_byte_pairs, train_byte_pairs
from tests.helpers import environment
from tests.helpers.bert_data import read_records
from tests.helpers.gpt_data import LENGTH, OPTIONS, VOCABULARY, make_data

GPT = GptConfig(vocab_size=VOCABULARY, max_positions=LENGTH)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("gpt"), part_mb=0.002)


def write_part(path, *documents):
    path.write_text("".join("\n" + "\n".join(lines) + "\n" for lines in documents), encoding="utf-8")
    return path


def merges_of(text, count):
    """The first merges of Sennrich et al. 2016 on words with their space, all pairs counted anew for each."""
    words = Counter(tuple(word) for word in re.findall(r" ?[a-z]+|\n", text))
    for _ in range(count):
        pairs = Counter()
        for word, times in words.items():
            for pair in pairwise(word):
                pairs[pair] += times
        best, times = pairs.most_common(1)[0]
        assert list(pairs.values()).count(times) == 1  # no tie
        yield best
        words = Counter({merged(word, best): times for word, times in words.items()})


def merged(word, pair):
    found = []
    for letter in word:
        if found and (found[-1], letter) == pair:
            found[-1] += letter
        else:
            found.append(letter)
    return tuple(found)


def test_merges_are_those_of_counting_by_hand(tmp_path):
    lines = ["hug " * 10 + "pug " * 5 + "pun " * 12 + "bun " * 4 + "hugs " * 5]
    vocabulary = train_byte_pairs([write_part(tmp_path / "part", lines)], 256 + 1 + 4)
    found = json.loads(vocabulary.content())["model"]["merges"]
    expected = list(merges_of(lines[0] + "\n", 4))
    assert [tuple(pair) for pair in found] == [tuple(x.replace(" ", "\u0120") for x in pair) for pair in expected]
    assert len(vocabulary) == 261 and vocabulary.end == 0


def test_any_text_comes_back_from_its_tokens(tmp_path):
    vocabulary = train_byte_pairs([write_part(tmp_path / "part", ["a b c"])], 300)
    for text in ("", " two  spaces\n", "Ünïcödé \u4e2d\u6587 \U0001f600\t\0", "x" * 300):
        assert vocabulary.tokenizer.decode(vocabulary.tokenizer.encode(text).ids) == text


def test_records_are_the_documents_one_after_another(tmp_path):
    """In tokens of one byte each, that the ids of a record can be read."""
    vocabulary = train_byte_pairs([write_part(tmp_path / "none")], 257)
    part = write_part(tmp_path / "part", ["ab c", "d"], ["\u00e9f"], ["ghijk"])
    ids = vocabulary.tokenizer.token_to_id
    letters = {"\n": "\u010a", " ": "\u0120", "\u00c3": "\u00c3", "\u00a9": "\u00a9"}
    stream = [END if letter == "|" else letters.get(letter, letter)
              for letter in "ab c\nd\n|\u00c3\u00a9f\n|ghijk\n|"]
    expected = [ids(letter) for letter in stream]
    assert None not in expected and len(expected) == 20
    recipe = SequenceRecipe(vocabulary, 4, 1)
    np.testing.assert_array_equal(recipe.tokens_of(part), expected)
    records = [record["tokens"] for record in recipe.records_of(part, "train", 0)]
    assert {record.dtype for record in records} == {np.dtype(np.int32)}
    in_order = sorted(map(tuple, records), key=[tuple(expected[i:i + 5]) for i in range(0, 16, 4)].index)
    assert in_order == [tuple(expected[i:i + 5]) for i in (0, 4, 8, 12)]  # each begins with the last of that before it
    again, other = ([tuple(r["tokens"]) for r in SequenceRecipe(vocabulary, 4, seed).records_of(part, "train", 0)]
                    for seed in (1, 3))
    assert again == list(map(tuple, records)) and sorted(other) == sorted(again)
    assert list(SequenceRecipe(vocabulary, 20, 1).records_of(part, "train", 0)) == []
    assert len(list(SequenceRecipe(vocabulary, 19, 1).records_of(part, "train", 0))) == 1


def test_prepared_shards_hold_the_text_of_their_split(prepared):
    vocabulary = read_byte_pairs(prepared / "tokenizer.json")
    note = json.loads((prepared / "corpus.json").read_text())
    assert note["vocab_size"] == len(vocabulary) == VOCABULARY
    documents = list(read_part(prepared.parent / "corpus.txt"))
    held_out_text = ["\n".join(lines) for lines in documents if _split_of(lines, note) == "held_out"]
    assert 0 < len(held_out_text) == note["documents"]["held_out"] < len(documents) == 60
    for split in ("train", "held_out"):
        files = sorted((prepared / split).glob("*.mindrecord"))
        records = [record["tokens"] for file in files for record in read_records(file)]
        assert len(records) == note["records"][split] > 0 and {record.shape for record in records} == {(LENGTH + 1,)}
        counted = sum(len(vocabulary.tokenizer.encode("\n".join(lines) + "\n").ids) + 1 for lines in documents
                      if _split_of(lines, note) == split)
        assert counted - (LENGTH + 1) * len(files) <= LENGTH * len(records) < counted
        inside = [vocabulary.tokenizer.decode(record.tolist()) for record in records if vocabulary.end not in record]
        assert len(inside) > 5
        assert all(any(text in whole + "\n" for whole in held_out_text) == (split == "held_out") for text in inside)


def _split_of(lines, note):
    from models.bert.corpus.partition import Parts

    return place("\n".join(lines), Parts(1, 1, note["settings"]["held_out"]), note["settings"]["seed"])[0]


@pytest.mark.slow
def test_the_same_text_gives_the_same_files_in_another_process(prepared, tmp_path):
    words = [word for name, value in {**OPTIONS, "part_mb": 0.002, "workers": 1}.items()
             for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "models.gpt.prepare", "--input", str(prepared.parent / "corpus.txt"), "--output",
               str(tmp_path / "data"), *words]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data" / "tokenizer.json").read_text() == (prepared / "tokenizer.json").read_text()
    for file in sorted(prepared.glob("*/*.mindrecord")):
        one, two = (read_records(path) for path in (file, tmp_path / "data" / file.relative_to(prepared)))
        assert [tuple(r["tokens"]) for r in one] == [tuple(r["tokens"]) for r in two]


def test_a_finished_preparation_is_left_as_it_is_and_another_refused(prepared, capsys):
    before = {file: file.stat().st_mtime_ns for file in prepared.rglob("*")}
    words = ["--input", str(prepared.parent / "corpus.txt"), "--output", str(prepared), "--vocab_size", "300",
             "--sequence_length", "16", "--held_out", "0.2", "--part_mb", "0.002"]
    assert main(words) == 0
    assert main([*words, "--seed", "2"]) == 1
    assert "holds data made with another seed; delete it" in capsys.readouterr().err
    assert {file: file.stat().st_mtime_ns for file in prepared.rglob("*")} == before


def data_config(path):
    return DataConfig(name="text", path=str(path), batch_size=4, eval_batch_size=5, workers=1)


def batches(dataset):
    return [batch[0] for batch in dataset.create_tuple_iterator(num_epochs=1, output_numpy=True)]


def test_batches_are_all_records_once(prepared):
    records = {split: [tuple(r["tokens"]) for file in sorted((prepared / split).glob("*.mindrecord"))
                       for r in read_records(file)] for split in ("train", "held_out")}
    held_out = batches(token_dataset(data_config(prepared), GPT, False, 1))
    assert [tuple(row) for batch in held_out for row in batch] == records["held_out"]
    train = batches(token_dataset(data_config(prepared), GPT, True, 1))
    assert {(batch.shape, batch.dtype) for batch in train} == {((4, LENGTH + 1), np.dtype("i4"))}
    seen = [tuple(row) for batch in train for row in batch]
    assert seen != records["train"][:len(seen)] and not Counter(seen) - Counter(records["train"])
    assert len(seen) == len(records["train"]) // 4 * 4


@pytest.mark.parametrize("changes, expected", [
    ({"vocab_size": 299}, "model.gpt.vocab_size=299; must be at least 300, the tokens of "),
    ({"max_positions": 15}, "has sequences of 16; must be at most model.gpt.max_positions=15; raise it or prepare "),
])
def test_records_that_do_not_fit_are_one_line(prepared, changes, expected):
    config = GptConfig(**{"vocab_size": VOCABULARY, "max_positions": LENGTH, **changes})
    with pytest.raises(ValueError, match=re.escape(expected)) as raised:
        token_dataset(data_config(prepared), config, True, 1)
    assert "\n" not in str(raised.value)


def test_records_of_the_other_kind_and_damaged_ones_are_one_line(prepared, tmp_path):
    with pytest.raises(ValueError, match="cannot be read as records with input_ids"):
        pretraining_dataset(data_config(prepared), BertConfig(), True, 1)
    with pytest.raises(FileNotFoundError, match="make the data with python -m models.gpt.prepare"):
        token_dataset(data_config(tmp_path / "no"), GPT, True, 1)
    data = shutil.copytree(prepared, tmp_path / "data")
    file = sorted((data / "train").glob("*.mindrecord"))[0]
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"its contents are not those that were written; it is damaged; delete .* and "
                                         r"make the data with python -m models.gpt.prepare"):
        token_dataset(data_config(data), GPT, True, 1)


@pytest.mark.parametrize("content, expected", [
    (None, "error: vocab=VOCAB; must be a tokenizer.json; cannot be read as one"),
    ("{}", "error: vocab=VOCAB; must be a tokenizer.json; cannot be read as one"),
    ("other", f"error: vocab=VOCAB; has no {END}; give a tokenizer.json of GPT's"),
])
def test_a_vocabulary_that_cannot_be_used_is_one_line(prepared, tmp_path, capsys, content, expected):
    path = tmp_path / "tokenizer.json"
    if content:
        others = (prepared / "tokenizer.json").read_text().replace(END, "<end>")
        path.write_text(others if content == "other" else content)
    words = ["--input", str(prepared.parent / "corpus.txt"), "--output", str(tmp_path / "data"), "--vocab", str(path)]
    assert main(words) == 1
    assert capsys.readouterr().err == expected.replace("VOCAB", str(path)) + "\n"


def test_a_vocabulary_holds_all_bytes():
    with pytest.raises(ValueError, match="vocab_size=256; must be an int >= 257"):
        Preparation(vocab_size=256)


def test_tokens_of_another_vocabulary_are_one_line(prepared, tmp_path):
    """Also where no note says how many there are."""
    data = shutil.copytree(prepared, tmp_path / "data", ignore=shutil.ignore_patterns("corpus.json"))
    dataset = token_dataset(data_config(data), GptConfig(vocab_size=99, max_positions=LENGTH), False, 1)
    with pytest.raises(RuntimeError) as raised:
        batches(dataset)
    assert dataset_error_line(raised.value) == (
        f"{data}/held_out: a record: tokens are not all in 0 to 98; the records were made with another vocabulary; "
        "give their own data.path or model.gpt")
