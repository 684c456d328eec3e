"""One part of the corpus to one MindRecord file."""
from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from models.bert.corpus.notes import read_json
from models.bert.corpus.partition import part_path

if TYPE_CHECKING:
    from tokenizers import Tokenizer

RECORDS_A_WRITE = 1000
TOKENIZED_AT_ONCE, CHARACTERS_AT_ONCE = 256, 1 << 17
LONGEST = 1 << 14  # characters that are tokenized as one


class Recipe(Protocol):
    """How parts become records.

    Attributes:
        schema: of a record, as MindSpore's FileWriter takes it.
        description: of the records.
    """

    schema: dict[str, dict[str, Any]]
    description: str

    def records_of(self, part: Path, split: str, index: int) -> Iterator[dict[str, np.ndarray]]:
        """The records of a part, a function of its text, the split and the index."""


def tokenized(tokenizer: Tokenizer, texts: Iterable[str]) -> Iterator[np.ndarray]:
    """The token ids of each text, int32."""
    for batch in _batches(texts):
        for found in tokenizer.encode_batch(batch, add_special_tokens=False):
            yield np.array(found.ids, np.int32)


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


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
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
    count = _write(folder / target.name, recipe.records_of(part_path(work, split, index), split, index), recipe)
    for file in sorted(folder.iterdir()):
        file.replace(target.parent / file.name)
    folder.rmdir()
    part = done.with_suffix(".tmp")
    part.write_text(json.dumps({"records": count}))
    part.replace(done)
    return count


def _write(path: Path, records: Iterator[dict[str, np.ndarray]], recipe: Recipe) -> int:
    os.environ.setdefault("GLOG_v", "4")
    from mindspore.mindrecord import FileWriter

    writer, waiting, count = None, [], 0
    for record in records:
        waiting.append(record)
        if len(waiting) == RECORDS_A_WRITE:
            writer = writer or _open(FileWriter, path, recipe)
            writer.write_raw_data(waiting)
            count, waiting = count + len(waiting), []
    if waiting:
        writer = writer or _open(FileWriter, path, recipe)
        writer.write_raw_data(waiting)
        count += len(waiting)
    if writer is not None:
        writer.commit()
    return count


def _open(writer_class, path: Path, recipe: Recipe):
    writer = writer_class(str(path), shard_num=1, overwrite=True)
    writer.add_schema(recipe.schema, recipe.description)
    return writer
