"""From a part of the corpus to records of masked sentence pairs."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.bert.corpus import TRAIN
from models.bert.corpus.documents import sentences
from models.bert.corpus.masking import Masking
from models.bert.corpus.pairs import Document, Pair, Pairing
from models.bert.corpus.partition import read_part
from models.bert.corpus.shards import shorter, tokenized
from models.bert.corpus.vocabulary import FIRST, PAD, SEPARATOR

# The names and order of BERT's published TFRecord files.
SCHEMA = {"input_ids": {"type": "int32", "shape": [-1]}, "input_mask": {"type": "int32", "shape": [-1]},
          "segment_ids": {"type": "int32", "shape": [-1]}, "masked_lm_positions": {"type": "int32", "shape": [-1]},
          "masked_lm_ids": {"type": "int32", "shape": [-1]}, "masked_lm_weights": {"type": "float32", "shape": [-1]},
          "next_sentence_labels": {"type": "int32", "shape": [-1]}}


@dataclass(frozen=True)
class PairRecipe:
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

    schema = SCHEMA
    description = "BERT pretraining"

    def records_of(self, part: Path, split: str, index: int) -> Iterator[dict[str, np.ndarray]]:
        """The records of a part; see models.bert.corpus.shards.Recipe."""
        return self.records(self.documents(part), split, index)

    def documents(self, part: Path) -> list[Document]:
        """The documents of a part as lists of sentences of token ids, empty ones left out.

        A sentence longer than half a sequence is cut, so that nothing of it is lost to truncation.
        """
        tokenizer, most = self.masking.vocabulary.tokenizer(), max(self.pairing.most // 2, 1)
        documents = []
        for lines in read_part(part):
            texts = (text for line in lines for sentence in sentences(line) for text in shorter(sentence))
            document: Document = [ids[place:place + most] for ids in tokenized(tokenizer, texts)
                                  for place in range(0, len(ids), most)]
            if document:
                documents.append(document)
        return documents

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
