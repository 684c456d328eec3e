"""Which positions of a sequence are to be predicted, and what stands there instead."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.bert.corpus.vocabulary import MASK, Vocabulary

TO_MASK, KEPT = 0.8, 0.1  # the rest becomes a random word piece


@dataclass(frozen=True)
class Masking:
    """The recipe of Devlin et al. (2019), section 3.1.

    Attributes:
        vocabulary: of the sequences.
        share: of a sequence's tokens, special ones included, that is predicted.
        most: positions predicted at most.
        whole_words: choose words, not word pieces.
    """

    vocabulary: Vocabulary
    share: float = 0.15
    most: int = 20
    whole_words: bool = False

    def __call__(self, tokens: np.ndarray, special: np.ndarray,
                 random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mask a sequence.

        Args:
            tokens: ids ``(length,)``, int32.
            special: ``(length,)``, True where nothing may be predicted.
            random: where chance comes from.

        Returns:
            The masked ids ``(length,)``, the predicted positions ``(n,)`` ascending, and the ids that stood there.
        """
        count = min(self.most, max(1, round(len(tokens) * self.share)))
        candidates = np.flatnonzero(~special)
        chosen = self._words(tokens, candidates, count, random) if self.whole_words else \
            random.permutation(candidates)[:count]
        positions = np.sort(chosen).astype(np.int32)
        masked, fate = tokens.copy(), random.random(len(positions))
        replaced = random.choice(self.vocabulary.ordinary, len(positions))
        masked[positions[fate < TO_MASK]] = self.vocabulary.ids[MASK]
        by_chance = fate >= TO_MASK + KEPT
        masked[positions[by_chance]] = replaced[by_chance]
        return masked, positions, tokens[positions]

    def _words(self, tokens: np.ndarray, candidates: np.ndarray, count: int,
               random: np.random.Generator) -> np.ndarray:
        """Positions of whole words, in random order, that fit into ``count``."""
        continues = self.vocabulary.continues[tokens[candidates]]
        continues &= np.diff(candidates, prepend=-2) == 1  # no word goes on behind a separator
        words = np.split(candidates, np.flatnonzero(~continues)[1:])
        chosen: list[int] = []
        for index in random.permutation(len(words)):
            if len(chosen) + len(words[index]) <= count:
                chosen.extend(words[index])
        return np.array(chosen, np.int64)
