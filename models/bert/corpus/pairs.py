"""Sentence pairs for next-sentence prediction (Devlin et al. 2019, appendix A.2)."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

SPECIAL_TOKENS = 3  # [CLS] first [SEP] second [SEP]
Document = list  # of arrays of token ids, a sentence each


@dataclass(frozen=True)
class Pair:
    """Token ids of two spans, and whether the second is from another document."""

    first: np.ndarray
    second: np.ndarray
    random_next: bool


@dataclass(frozen=True)
class Pairing:
    """How pairs are made.

    Attributes:
        sequence_length: tokens of a pair with its three special ones, at most.
        short_probability: share of the pairs that are made for a random shorter length.
    """

    sequence_length: int
    short_probability: float = 0.1

    @property
    def most(self) -> int:
        """Tokens of both spans at most."""
        return self.sequence_length - SPECIAL_TOKENS

    def __call__(self, documents: list[Document], index: int, random: np.random.Generator) -> Iterator[Pair]:
        """The pairs of document ``index``; every sentence of it is a first span or its real next once at least.

        Half of the pairs get a random second span, from another of ``documents``; what they left unused comes again.
        """
        document, place = documents[index], 0
        while place < len(document):
            target = self._target(random)
            end = self._end(document, place, target)
            split = end if end - place == 1 else int(random.integers(place + 1, end))
            first = np.concatenate(document[place:split])
            others = len(documents) > 1
            if others and (split == end or random.random() < 0.5):
                second = self._random_span(documents, index, max(target - len(first), 1), random)
                place, random_next = split, True
            elif split < end:
                second, place, random_next = np.concatenate(document[split:end]), end, False
            else:
                return  # one sentence is left of the only document
            yield Pair(*truncate(first, second, self.most, random), random_next)

    def _target(self, random: np.random.Generator) -> int:
        if random.random() < self.short_probability:
            return int(random.integers(2, self.most + 1))
        return self.most

    @staticmethod
    def _end(document: Document, place: int, target: int) -> int:
        """Behind the sentences from ``place`` on that make ``target`` tokens."""
        length, end = 0, place
        while end < len(document) and length < target:
            length += len(document[end])
            end += 1
        return end

    def _random_span(self, documents: list[Document], index: int, target: int,
                     random: np.random.Generator) -> np.ndarray:
        other = int(random.integers(len(documents) - 1))
        document = documents[other + (other >= index)]
        start = int(random.integers(len(document)))
        return np.concatenate(document[start:self._end(document, start, target)])


def truncate(first: np.ndarray, second: np.ndarray, most: int,
             random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Cut the longer span, then both alike, at random ends, until they make ``most`` tokens together."""
    excess = max(len(first) + len(second) - most, 0)
    from_longer = min(excess, abs(len(first) - len(second)))
    rest = excess - from_longer
    cuts = [rest // 2, rest // 2]
    cuts[int(random.integers(2)) if len(first) == len(second) else int(len(second) > len(first))] += rest % 2
    cuts[int(len(second) > len(first))] += from_longer
    return _cut(first, cuts[0], random), _cut(second, cuts[1], random)


def _cut(span: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    front = int(random.binomial(count, 0.5)) if count else 0
    return span[front:len(span) - (count - front)]
