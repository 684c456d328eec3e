"""Small pretraining data for tests: a corpus, its records, and TFRecord files as BERT publishes them."""
from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.fuzzing.datasets import InThisProcess
from models.bert.corpus import preparation as preparing
from models.bert.corpus.preparation import prepare
from models.bert.prepare import Preparation

VOCABULARY, LENGTH, MASKED = 300, 16, 3
OPTIONS = dict(vocab_size=VOCABULARY, sequence_length=LENGTH, max_predictions=MASKED, held_out=0.2, dup_factor=2)


def write_corpus(path: Path, documents: int = 60, seed: int = 0) -> None:
    """Documents of random sentences over 80 words."""
    random = np.random.default_rng(seed)
    words = ["".join(random.choice(list("abcdefgh"), 4)) for _ in range(80)]
    texts = ["\n".join(" ".join(random.choice(words, 6)) + "." for _ in range(random.integers(3, 9)))
             for _ in range(documents)]
    path.write_text("\n\n".join(texts) + "\n", encoding="utf-8")


def make_data(folder: Path, **options: Any) -> Path:
    """Prepared data in ``folder``/data, made in this process."""
    folder.mkdir(parents=True, exist_ok=True)
    write_corpus(folder / "corpus.txt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparing, "process_pool", InThisProcess)
        prepare([str(folder / "corpus.txt")], folder / "data", Preparation(**{**OPTIONS, **options}))
    return folder / "data"


def read_records(file: Path) -> list[dict[str, np.ndarray]]:
    """The records of a MindRecord file, in order."""
    import mindspore.dataset as ds

    return list(ds.MindDataset(str(file), shuffle=False).create_dict_iterator(num_epochs=1, output_numpy=True))


def write_tfrecords(path: Path, records: list[dict[str, np.ndarray]]) -> None:
    """tf.train.Example messages in TFRecord framing, written without TensorFlow."""
    path.write_bytes(b"".join(framed(example(record)) for record in records))


def framed(content: bytes) -> bytes:
    """``content`` as one record of a TFRecord file."""
    length = struct.pack("<Q", len(content))
    return length + _checksum(length) + content + _checksum(content)


def as_tfrecords(data: Path, target: Path) -> Path:
    """The prepared ``data`` with every MindRecord file as a TFRecord file of the same records."""
    for file in sorted(data.glob("*/*.mindrecord")):
        (target / file.parent.name).mkdir(parents=True, exist_ok=True)
        write_tfrecords(target / file.parent.name / f"{file.stem}.tfrecord", read_records(file))
    return target


def example(record: dict[str, np.ndarray]) -> bytes:
    """A tf.train.Example of the columns of ``record``."""
    features = b""
    for name, values in record.items():
        if values.dtype.kind == "f":
            kept = _field(2, _field(1, values.astype("<f4").tobytes()))
        else:
            kept = _field(3, _field(1, b"".join(_varint(int(value)) for value in values.reshape(-1))))
        features += _field(1, _field(1, name.encode()) + _field(2, kept))
    return _field(1, features)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    value &= 2 ** 64 - 1  # negative numbers are two's complements of 64 bits
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _checksum(content: bytes) -> bytes:
    """Masked CRC-32C."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
