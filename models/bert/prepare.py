"""Text to BERT pretraining data: ``python -m models.bert.prepare --output DIR [--input PATH ...] [--option value]``.

The folder is that of models.bert.corpus.preparation; its records are masked sentence pairs.
"""
from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from models.bert.corpus import VOCABULARY, preparation
from models.bert.corpus.masking import Masking
from models.bert.corpus.pairs import Pairing
from models.bert.corpus.records import PairRecipe
from models.bert.corpus.vocabulary import Vocabulary, read_vocabulary, train_vocabulary
from thor.checks import flag, integer, number, setting


@dataclass(frozen=True)
class Preparation(preparation.Preparation):
    """Settings of the preparation; the defaults are those of BERT's published data, but for 5 passes, not 10.

    Attributes:
        lowercase: lowercase text and strip its accents.
        sequence_length: tokens of a pair, the three special ones included.
        max_predictions: masked positions of a pair at most.
        masked_share: of a pair's tokens that is predicted.
        whole_words: mask words, not word pieces.
        dup_factor: passes over the training text, each with other pairs and masks.
        short_probability: share of the pairs made shorter than sequence_length.
    """

    program = "models.bert.prepare"
    vocabulary_file = VOCABULARY

    lowercase: bool = setting(True, flag())
    sequence_length: int = setting(128, integer(8, limit=2 ** 16))
    max_predictions: int = setting(20, integer(1, limit=2 ** 16))
    masked_share: float = setting(0.15, number(above=0, below=1))
    whole_words: bool = setting(False, flag())
    dup_factor: int = setting(5, integer(1, limit=10 ** 4))
    short_probability: float = setting(0.1, number(minimum=0, maximum=1))

    def read_vocabulary(self, path: str | Path) -> Vocabulary:
        return read_vocabulary(path, self.lowercase)

    def train_vocabulary(self, parts: Sequence[Path]) -> Vocabulary:
        return train_vocabulary(parts, self.vocab_size, self.lowercase)

    def recipe(self, vocabulary: Vocabulary) -> PairRecipe:
        return PairRecipe(Masking(vocabulary, self.masked_share, self.max_predictions, self.whole_words),
                          Pairing(self.sequence_length, self.short_probability), self.dup_factor, self.seed)


main = partial(preparation.main, Preparation, "Make BERT pretraining data from plain text.")

if __name__ == "__main__":
    sys.exit(main())
