"""Byte-pair vocabularies (Sennrich et al. 2016) over bytes, as of GPT-2: any text has tokens, and they give it back."""
from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from models.bert.corpus import CorpusError
from models.bert.corpus.partition import read_part
from models.bert.corpus.shards import shorter

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END = "<|endoftext|>"  # after every document
BYTES = 256


@dataclass
class BytePairs:
    """A vocabulary; ``tokenizer`` adds no special tokens by itself."""

    tokenizer: Tokenizer

    def __len__(self) -> int:
        return self.tokenizer.get_vocab_size()

    def content(self) -> str:
        """The text of a tokenizer.json."""
        return self.tokenizer.to_str() + "\n"

    @property
    def end(self) -> int:
        """The token that ends a document."""
        return self.tokenizer.token_to_id(END)


def read_byte_pairs(path: str | Path) -> BytePairs:
    """The vocabulary in a tokenizer.json.

    Raises:
        CorpusError: it is none, or has no token that ends a document.
    """
    from tokenizers import Tokenizer

    try:
        content = Path(path).read_text(encoding="utf-8")
        json.loads(content)
        found = BytePairs(Tokenizer.from_str(content))
    except Exception:  # the library raises Exception itself
        raise CorpusError(f"vocab={path}; must be a tokenizer.json; cannot be read as one") from None
    if found.end is None:
        raise CorpusError(f"vocab={path}; has no {END}; give a tokenizer.json of GPT's")
    return found


def train_byte_pairs(parts: Sequence[Path], size: int, most_bytes: int = 1 << 28) -> BytePairs:
    """Merge the most frequent pairs in the text of ``parts``; the same text gives the same vocabulary.

    Args:
        parts: see :func:`models.bert.corpus.partition.read_part`.
        size: tokens at most, the bytes and the one that ends a document included.
        most_bytes: text that is read at most; parts are random samples of the corpus.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=size, min_frequency=2, show_progress=False, special_tokens=[END],
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    made.train_from_iterator(_texts(parts, most_bytes), trainer)
    return BytePairs(made)


def texts_of(document: list[str]) -> Iterator[str]:
    """A document as the texts that are tokenized one by one; together they are its lines."""
    for line in document:
        yield from shorter(line + "\n")


def _texts(parts: Sequence[Path], most_bytes: int) -> Iterator[str]:
    left = most_bytes
    for path in parts:
        for document in read_part(path):
            yield from texts_of(document)
            left -= sum(map(len, document))
            if left <= 0:
                return
