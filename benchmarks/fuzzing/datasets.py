"""Damaged data files of every kind, read as a run reads them."""
from __future__ import annotations

import dataclasses
import gzip
import io
import os
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuzzing.damage import bytes_damaged
from models.command_line import LoadError, loading, run
from models.config import BertConfig, DataConfig

KINDS = ("JPEG", "progressive JPEG", "PNG", "idx", "packed idx", "CIFAR-10", "TFRecord", "TFRecord, framing whole",
         "MindRecord", "corpus.json", "text")
LENGTH, MASKED, WORDS = 16, 3, 100


@dataclasses.dataclass(frozen=True)
class Case:
    """What is read: a data section, or text that is prepared."""

    kind: str
    folder: Path
    config: DataConfig | None


def prepare(folder: Path) -> None:
    """Whole files of each kind."""
    from PIL import Image

    chance = np.random.default_rng(0)
    pixels = chance.integers(0, 256, (40, 50, 3), np.uint8)
    for name, options in (("JPEG", {}), ("progressive JPEG", {"progressive": True}), ("PNG", {})):
        for split, number in (("train", 4), ("val", 1)):
            (folder / name / split / "a").mkdir(parents=True)
            for index in range(number):
                stream = io.BytesIO()
                Image.fromarray(pixels).save(stream, name.split()[-1], **options)
                (folder / name / split / "a" / f"{index}.{'png' if name == 'PNG' else 'jpg'}").write_bytes(
                    stream.getvalue())
    _idx(folder / "idx", chance, lambda content: content, "")
    _idx(folder / "packed idx", chance, gzip.compress, ".gz")
    (folder / "CIFAR-10").mkdir()
    images = chance.integers(0, 10, (10_000, 3073), np.uint8)
    (folder / "CIFAR-10" / "test_batch.bin").write_bytes(images.tobytes())
    _records(folder / "TFRecord", chance)
    _text(folder / "text")
    _prepare_text(folder / "text" / "text.txt", folder / "MindRecord")


def make(kind: str, folder: Path, chance: random.Random) -> Case:
    """A copy of the whole files, one of them damaged."""
    target = folder / "damaged"
    shutil.rmtree(target, ignore_errors=True)
    source = {"TFRecord, framing whole": "TFRecord", "corpus.json": "MindRecord"}.get(kind, kind)
    shutil.copytree(folder / source, target, copy_function=os.link)
    pattern = {"corpus.json": "corpus.json", "MindRecord": "*/*"}.get(kind, "**/*")
    file = chance.choice(sorted(file for file in target.glob(pattern) if file.is_file()))
    content = file.read_bytes()
    file.unlink()
    if kind == "TFRecord, framing whole":
        content = _payload_damaged(content, chance)
    else:
        content = bytes_damaged(content, chance, chance.choice((None, None, 700)))
    file.write_bytes(content)
    return Case(kind, target, _config(kind, target))


def work(case: Case) -> int:
    """Read it to its end."""
    os.environ["XDG_CACHE_HOME"] = str(case.folder.parent / "cache")
    if case.config is None:
        return _prepare_text(case.folder / "text.txt", case.folder / "made")
    return run(lambda: _read(case))


def _config(kind: str, folder: Path) -> DataConfig | None:
    if kind == "text":
        return None
    if kind in ("TFRecord", "TFRecord, framing whole", "MindRecord", "corpus.json"):
        return DataConfig(name="text", path=str(folder), batch_size=2)
    if "idx" in kind:
        return DataConfig(name="mnist", path=str(folder), batch_size=4, eval_batch_size=10)
    if kind == "CIFAR-10":
        return DataConfig(name="cifar10", path=str(folder), eval_batch_size=500)
    return DataConfig(name="imagenet", path=str(folder), image_size=32, batch_size=2, workers=2)


def _read(case: Case) -> None:
    """Both splits, as models.train does; the errors it turns into one line become one here."""
    from models.bert.dataset import pretraining_dataset
    from models.data import create_dataset, dataset_error_line

    bert = BertConfig(vocab_size=WORDS, max_positions=LENGTH)
    for train in (True, False) if case.kind != "CIFAR-10" else (False,):
        with loading():
            dataset = pretraining_dataset(case.config, bert, train, 1) if case.config.name == "text" else \
                create_dataset(case.config, train, 1)
        try:
            for _ in dataset.create_tuple_iterator(num_epochs=1, output_numpy=True):
                pass
        except RuntimeError as error:
            line = dataset_error_line(error)
            if not line:
                raise
            raise LoadError(line) from error


def _idx(folder: Path, chance: np.random.Generator, pack: Callable[[bytes], bytes], ending: str) -> None:
    folder.mkdir()
    for prefix in ("train", "t10k"):
        images, labels = chance.integers(0, 256, (10, 28, 28), np.uint8), chance.integers(0, 10, 10, np.uint8)
        for name, content in (("images-idx3", struct.pack(">4i", 2051, 10, 28, 28) + images.tobytes()),
                              ("labels-idx1", struct.pack(">2i", 2049, 10) + labels.tobytes())):
            (folder / f"{prefix}-{name}-ubyte{ending}").write_bytes(pack(content))


def _records(folder: Path, chance: np.random.Generator) -> None:
    """TFRecord files of four records."""
    columns = (("input_ids", LENGTH, WORDS), ("input_mask", LENGTH, 2), ("segment_ids", LENGTH, 2),
               ("masked_lm_positions", MASKED, LENGTH), ("masked_lm_ids", MASKED, WORDS),
               ("next_sentence_labels", 1, 2))
    for split in ("train", "held_out"):
        (folder / split).mkdir(parents=True)
        content = b""
        for _ in range(4):
            lists = {name: field(3, field(1, bytes(chance.integers(0, most, length).tolist())))
                     for name, length, most in columns}
            lists["masked_lm_weights"] = field(2, field(1, np.ones(MASKED, "<f4").tobytes()))
            content += framed(field(1, b"".join(field(1, field(1, name.encode()) + field(2, values))
                                                for name, values in lists.items())))
        (folder / split / "records").write_bytes(content)


def field(number: int, content: bytes) -> bytes:
    """A field of a protobuf message; its length as one or two bytes."""
    size = len(content)
    return bytes([number << 3 | 2, *([size] if size < 128 else [size & 127 | 128, size >> 7])]) + content


def framed(content: bytes) -> bytes:
    """``content`` as a record of a TFRecord file."""
    from models.bert.crc32c import masked_crc32c

    length = struct.pack("<Q", len(content))
    return b"".join(part + struct.pack("<I", masked_crc32c(part)) for part in (length, content))


def _payload_damaged(content: bytes, chance: random.Random) -> bytes:
    """One record changed, with the checksums of what it became."""
    records, place = [], 0
    while place < len(content):
        length = struct.unpack("<Q", content[place:place + 8])[0]
        records.append(content[place + 12:place + 12 + length])
        place += 16 + length
    index = chance.randrange(len(records))
    records[index] = bytes_damaged(records[index], chance)
    return b"".join(map(framed, records))


def _text(folder: Path) -> None:
    chance = random.Random(0)
    words = ["".join(chance.choice("abcdefgh") for _ in range(4)) for _ in range(60)]
    folder.mkdir()
    (folder / "text.txt").write_text("\n\n".join("\n".join(" ".join(chance.choices(words, k=6)) + "." for _ in range(5))
                                                 for _ in range(60)))


def _prepare_text(file: Path, output: Path) -> int:
    """``models.bert.prepare`` without worker processes."""
    from models.bert import prepare as preparing
    from models.bert.corpus import preparation

    preparation.process_pool = InThisProcess
    options = {"input": file, "output": output, "vocab_size": WORDS, "sequence_length": LENGTH,
               "max_predictions": MASKED, "held_out": 0.2, "workers": 1, "dup_factor": 1}
    return preparing.main([word for name, value in options.items() for word in (f"--{name}", str(value))])


class InThisProcess:
    """Stands in for the process pool where worker processes do not matter: work is done where it is given."""

    def __init__(self, *_: Any) -> None:
        pass

    def __enter__(self) -> InThisProcess:
        return self

    def __exit__(self, *_: Any) -> bool:
        return False

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Any:
        from concurrent.futures import Future

        future: Future = Future()
        future.set_result(work(*arguments))
        return future
