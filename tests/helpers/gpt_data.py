"""Small token data for tests, made in this process."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.fuzzing.datasets import InThisProcess
from models.bert.corpus import preparation
from models.gpt.prepare import Preparation
from tests.helpers.bert_data import write_corpus

VOCABULARY, LENGTH = 300, 16
OPTIONS = dict(vocab_size=VOCABULARY, sequence_length=LENGTH, held_out=0.2)


def make_data(folder: Path, **options: Any) -> Path:
    """Prepared data in ``folder``/data, of ``folder``/corpus.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    write_corpus(folder / "corpus.txt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparation, "process_pool", InThisProcess)
        preparation.prepare([str(folder / "corpus.txt")], folder / "data", Preparation(**{**OPTIONS, **options}))
    return folder / "data"
