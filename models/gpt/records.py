"""From a part of the corpus to records of tokens."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.bert.corpus import TRAIN
from models.bert.corpus.partition import read_part
from models.bert.corpus.shards import tokenized
from models.gpt.vocabulary import BytePairs, texts_of

TOKENS = "tokens"  # the column


@dataclass(frozen=True)
class SequenceRecipe:
    """How parts become records: documents one after another, cut into sequences.

    Attributes:
        vocabulary: see its class.
        sequence_length: tokens of a sequence; a record has one more, which is the first of the next record.
        seed: of the order.
    """

    vocabulary: BytePairs
    sequence_length: int
    seed: int

    schema = {TOKENS: {"type": "int32", "shape": [-1]}}
    description = "sequences of tokens"

    def records_of(self, part: Path, split: str, index: int) -> Iterator[dict[str, np.ndarray]]:
        """The records of a part in random order; what is left at its end makes none. See models.bert.corpus.shards."""
        tokens, length = self.tokens_of(part), self.sequence_length
        for place in np.random.default_rng([self.seed, split == TRAIN, index]).permutation((len(tokens) - 1) // length):
            yield {TOKENS: tokens[place * length:(place + 1) * length + 1]}

    def tokens_of(self, part: Path) -> np.ndarray:
        """Every document of a part and the token that ends it, ``(n,)``, int32."""
        end = np.int32([self.vocabulary.end])
        found = [end[:0]]
        for document in read_part(part):
            found += [*tokenized(self.vocabulary.tokenizer, texts_of(document)), end]
        return np.concatenate(found)
