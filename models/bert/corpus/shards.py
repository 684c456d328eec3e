"""One part of the corpus to one MindRecord file of masked sentence pairs."""
from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.bert.corpus import TRAIN
from models.bert.corpus.documents import sentences
from models.bert.corpus.masking import Masking
from models.bert.corpus.notes import read_json
from models.bert.corpus.pairs import Document, Pair, Pairing
from models.bert.corpus.partition import part_path, read_part
from models.bert.corpus.vocabulary import FIRST, PAD, SEPARATOR

# The names and order of BERT's published TFRecord files.
SCHEMA = {"input_ids": {"type": "int32", "shape": [-1]}, "input_mask": {"type": "int32", "shape": [-1]},
          "segment_ids": {"type": "int32", "shape": [-1]}, "masked_lm_positions": {"type": "int32", "shape": [-1]},
          "masked_lm_ids": {"type": "int32", "shape": [-1]}, "masked_lm_weights": {"type": "float32", "shape": [-1]},
          "next_sentence_labels": {"type": "int32", "shape": [-1]}}
RECORDS_A_WRITE = 1000
TOKENIZED_AT_ONCE, CHARACTERS_AT_ONCE = 256, 1 << 17
LONGEST = 1 << 14  # characters of a sentence


@dataclass(frozen=True)
class Recipe:
    """How parts become shards.

    Attributes:
        masking, pairing: see their classes.
        dup_factor: passes over the training text, each with other pairs and masks; held-out text gets one.
        seed: of everything left to chance.
    """

    masking: Masking
    pairing: Pairing
    dup_factor: int
    seed: int

    def records(self, documents: list[Document], split: str, index: int) -> Iterator[dict[str, np.ndarray]]:
        """The records of a part, those of each pass in random order; a function of seed, split and index."""
        for repeat in range(self.dup_factor if split == TRAIN else 1):
            random = np.random.default_rng([self.seed, split == TRAIN, index, repeat])
            pairs = [pair for i in range(len(documents)) for pair in self.pairing(documents, i, random)]
            for place in random.permutation(len(pairs)):
                yield self.record(pairs[place], random)

    def record(self, pair: Pair, random: np.random.Generator) -> dict[str, np.ndarray]:
        """A pair with [CLS] and [SEP], masked and padded; the fields of ``SCHEMA``."""
        ids = self.masking.vocabulary.ids
        first, separator = np.int32([ids[FIRST]]), np.int32([ids[SEPARATOR]])
        tokens = np.concatenate([first, pair.first, separator, pair.second, separator])
        border = len(pair.first) + 2
        special = np.zeros(len(tokens), bool)
        special[[0, border - 1, -1]] = True
        masked, positions, labels = self.masking(tokens, special, random)
        length, most = self.pairing.sequence_length, self.masking.most
        return {"input_ids": padded(masked, length, ids[PAD]),
                "input_mask": padded(np.ones_like(tokens), length),
                "segment_ids": padded(np.arange(len(tokens)) >= border, length),
                "masked_lm_positions": padded(positions, most), "masked_lm_ids": padded(labels, most),
                "masked_lm_weights": padded(np.ones(len(positions)), most).astype(np.float32),
                "next_sentence_labels": np.int32([pair.random_next])}


def padded(values: np.ndarray, length: int, filler: int = 0) -> np.ndarray:
    """``values`` as int32 with ``filler`` up to ``length``."""
    result = np.full(length, filler, np.int32)
    result[:len(values)] = values
    return result


def _tokenize(part: Path, recipe: Recipe) -> list[Document]:
    """The documents of a part as lists of sentences of token ids, empty ones left out.

    A sentence longer than half a sequence is cut, so that nothing of it is lost to truncation.
    """
    tokenizer, most = recipe.masking.vocabulary.tokenizer(), max(recipe.pairing.most // 2, 1)
    documents = []
    for lines in read_part(part):
        texts = (text for line in lines for sentence in sentences(line) for text in shorter(sentence))
        document: Document = []
        for batch in _batches(texts):
            for found in tokenizer.encode_batch(batch, add_special_tokens=False):
                ids = np.array(found.ids, np.int32)
                document += [ids[place:place + most] for place in range(0, len(ids), most)]
        if document:
            documents.append(document)
    return documents


def shorter(sentence: str, most: int = LONGEST) -> Iterator[str]:
    """A sentence in parts of at most ``most`` characters, cut at spaces where there are any; nothing else is lost."""
    start = 0
    while start < len(sentence):
        end = start + most
        if end < len(sentence):
            space = sentence.rfind(" ", start + 1, end)
            end = space if space > 0 else end
        yield sentence[start:end]
        start = end


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    """Texts to be tokenized at once; what the tokenizer holds of each is a hundred times as large."""
    batch, characters = [], 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if len(batch) == TOKENIZED_AT_ONCE or characters >= CHARACTERS_AT_ONCE:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _shard_name(split: str, index: int) -> str:
    """File of a shard, relative to the output folder."""
    return f"{split}/part-{index:05d}.mindrecord"


def write_shard(work: Path, output: Path, recipe: Recipe, split: str, index: int) -> int:
    """Make the shard of a part in ``output`` unless it is there; it appears only when it is whole.

    Args:
        work: folder of the parts.
        output: folder of the shards.

    Returns:
        Records of the shard.
    """
    done = work / f"{split}-{index:05d}.json"
    if done.exists():
        return read_json(done, {"records": int})["records"]
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the parts are what runs in parallel
    folder, target = work / f"{split}-{index:05d}.part", output / _shard_name(split, index)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    documents = _tokenize(part_path(work, split, index), recipe)
    count = _write(folder / target.name, recipe.records(documents, split, index))
    for file in sorted(folder.iterdir()):
        file.replace(target.parent / file.name)
    folder.rmdir()
    part = done.with_suffix(".tmp")
    part.write_text(json.dumps({"records": count}))
    part.replace(done)
    return count


def _write(path: Path, records: Iterator[dict[str, np.ndarray]]) -> int:
    os.environ.setdefault("GLOG_v", "4")
    from mindspore.mindrecord import FileWriter

    writer, waiting, count = None, [], 0
    for record in records:
        waiting.append(record)
        if len(waiting) == RECORDS_A_WRITE:
            writer = writer or _open(FileWriter, path)
            writer.write_raw_data(waiting)
            count, waiting = count + len(waiting), []
    if waiting:
        writer = writer or _open(FileWriter, path)
        writer.write_raw_data(waiting)
        count += len(waiting)
    if writer is not None:
        writer.commit()
    return count


def _open(writer_class, path: Path):
    writer = writer_class(str(path), shard_num=1, overwrite=True)
    writer.add_schema(SCHEMA, "BERT pretraining")
    return writer
