"""Text to tokens for GPT: ``python -m models.gpt.prepare --output DIR [--input PATH ...] [--option value]``.

The folder is that of models.bert.corpus.preparation; its records are sequences of byte pairs.
"""
from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from models.bert.corpus import preparation
from models.gpt.records import SequenceRecipe
from models.gpt.vocabulary import BYTES, BytePairs, read_byte_pairs, train_byte_pairs
from thor.checks import integer, setting

PROGRAM, VOCABULARY = "models.gpt.prepare", "tokenizer.json"


@dataclass(frozen=True)
class Preparation(preparation.Preparation):
    """Settings of the preparation; the defaults are those of GPT-2.

    Attributes:
        vocab_size: tokens of a trained vocabulary at most.
        sequence_length: tokens of a sequence; a record has the one after them, too.
    """

    program = PROGRAM
    vocabulary_file = VOCABULARY

    vocab_size: int = setting(50257, integer(BYTES + 1, limit=10 ** 6))
    sequence_length: int = setting(1024, integer(1, limit=2 ** 16))

    def read_vocabulary(self, path: str | Path) -> BytePairs:
        return read_byte_pairs(path)

    def train_vocabulary(self, parts: Sequence[Path]) -> BytePairs:
        return train_byte_pairs(parts, self.vocab_size)

    def recipe(self, vocabulary: BytePairs) -> SequenceRecipe:
        return SequenceRecipe(vocabulary, self.sequence_length, self.seed)


main = partial(preparation.main, Preparation, "Make sequences of tokens for GPT from plain text.")

if __name__ == "__main__":
    sys.exit(main())
