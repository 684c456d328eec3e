"""WordPiece vocabularies: training, reading, tokenizing."""
from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.bert.corpus import CorpusError
from models.bert.corpus.partition import read_part

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, UNKNOWN, FIRST, SEPARATOR, MASK = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CONTINUES = "##"
ALPHABET = 1000
LONGEST_WORD = 100  # characters; WordPiece makes an unknown word of a longer one
LONG_RUN = re.compile(rf"\S{{{LONGEST_WORD + 1},}}")


@dataclass
class Vocabulary:
    """A WordPiece vocabulary.

    Attributes:
        words: word pieces; the place in the list is the id.
        lowercase: whether text is lowercased and stripped of accents before.
    """

    words: list[str]
    lowercase: bool

    def __post_init__(self) -> None:
        self.ids = {word: index for index, word in enumerate(self.words)}
        special = [self.ids[word] for word in SPECIAL]
        self.ordinary = np.setdiff1d(np.arange(len(self.words), dtype=np.int32), special)
        self.continues = np.array([word.startswith(CONTINUES) for word in self.words])  # (words,)

    def __len__(self) -> int:
        return len(self.words)

    def content(self) -> str:
        """The text of a vocab.txt."""
        return "\n".join(self.words) + "\n"

    def tokenizer(self) -> Tokenizer:
        """A tokenizer that adds no special tokens."""
        from tokenizers import Tokenizer, models

        made = Tokenizer(models.WordPiece(self.ids, unk_token=UNKNOWN))
        made.normalizer, made.pre_tokenizer = _text_rules(self.lowercase)
        return made


def read_vocabulary(path: str | Path, lowercase: bool) -> Vocabulary:
    """The vocabulary in a vocab.txt, a word piece a line.

    Raises:
        CorpusError: not readable, a word piece twice, or a special token missing.
    """
    try:
        words = Path(path).read_text(encoding="utf-8").rstrip("\n").split("\n")
    except (OSError, UnicodeDecodeError):
        raise CorpusError(f"vocab={path}; must be a vocab.txt, a word piece a line; cannot be read") from None
    words = [word.strip() for word in words]
    missing = [word for word in SPECIAL if word not in words]
    if missing:
        raise CorpusError(f"vocab={path}; has no {missing[0]}; give a vocab.txt of BERT's")
    if len(set(words)) < len(words):
        twice = next(word for place, word in enumerate(words) if word in words[:place])
        raise CorpusError(f"vocab={path}; has {twice!r} twice; give a vocab.txt of BERT's")
    return Vocabulary(words, lowercase)


def train_vocabulary(parts: Sequence[Path], size: int, lowercase: bool, most_bytes: int = 1 << 28) -> Vocabulary:
    """Train word pieces on the text of ``parts``; the same text gives the same vocabulary.

    Args:
        parts: see :func:`models.bert.corpus.partition.read_part`.
        size: word pieces at most, the five special tokens included.
        lowercase: see :class:`Vocabulary`.
        most_bytes: text that is read at most; parts are random samples of the corpus.
    """
    from tokenizers import Tokenizer, models, trainers

    made = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    made.normalizer, made.pre_tokenizer = _text_rules(lowercase)
    texts = partial(_texts, parts, most_bytes, made.normalizer, made.pre_tokenizer)
    letters = _alphabet(texts())
    # The trainer numbers letters inside words as its hash map happens to hold them, and breaks ties by number.
    # What it takes for special tokens it numbers in order.
    fixed = [*SPECIAL, *letters, *(CONTINUES + letter for letter in letters)]
    trainer = trainers.WordPieceTrainer(vocab_size=size, min_frequency=2, limit_alphabet=ALPHABET, show_progress=False,
                                        special_tokens=fixed, continuing_subword_prefix=CONTINUES)
    made.train_from_iterator(texts(), trainer)
    ids = made.get_vocab()
    return Vocabulary(sorted(ids, key=ids.__getitem__), lowercase)


def _alphabet(texts: Iterator[str]) -> list[str]:
    """The most frequent letters, in order of their code."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    frequent = sorted(counts, key=lambda letter: (-counts[letter], letter))[:ALPHABET]
    return sorted(letter for letter in frequent if not letter.isspace())


def _text_rules(lowercase: bool):
    from tokenizers import normalizers, pre_tokenizers

    return normalizers.BertNormalizer(lowercase=lowercase), pre_tokenizers.BertPreTokenizer()


def _texts(parts: Sequence[Path], most_bytes: int, normalizer, pre_tokenizer) -> Iterator[str]:
    """Normalized lines without words that are too long to be tokenized, on which the trainer takes quadratic time."""
    def short_words(match: re.Match[str]) -> str:
        return " ".join(word for word, _ in pre_tokenizer.pre_tokenize_str(match[0]) if len(word) <= LONGEST_WORD)
    for line in _lines(parts, most_bytes):
        yield LONG_RUN.sub(short_words, normalizer.normalize_str(line))


def _lines(parts: Sequence[Path], most_bytes: int) -> Iterator[str]:
    left = most_bytes
    for path in parts:
        for document in read_part(path):
            yield from document
            left -= sum(map(len, document))
            if left <= 0:
                return
