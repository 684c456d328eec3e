"""Masked sentence pairs: the recipe's shares, labels that align, pairs that are what their label says."""
from __future__ import annotations

import numpy as np
import pytest

from models.bert.corpus.masking import Masking
from models.bert.corpus.pairs import Pairing, truncate
from models.bert.corpus.records import PairRecipe, padded
from models.bert.corpus.vocabulary import SPECIAL, Vocabulary

WORDS = Vocabulary([*SPECIAL, *(f"w{i}" for i in range(500)), *(f"##c{i}" for i in range(495))], True)
MASK, CLS, SEP = WORDS.ids["[MASK]"], WORDS.ids["[CLS]"], WORDS.ids["[SEP]"]


def sequence(random, length=128):
    tokens = random.integers(5, len(WORDS.words), length).astype(np.int32)
    special = np.zeros(length, bool)
    special[[0, 60, length - 1]] = True
    tokens[0], tokens[60], tokens[-1] = CLS, SEP, SEP
    return tokens, special


def test_shares_of_masked_kept_and_random_words():
    random, masking = np.random.default_rng(0), Masking(WORDS, 0.15, 20)
    fates = np.zeros(3)
    for _ in range(1000):
        tokens, special = sequence(random)
        masked, positions, labels = masking(tokens, special, random)
        assert len(positions) == 19 and (np.diff(positions) > 0).all() and not special[positions].any()
        np.testing.assert_array_equal(labels, tokens[positions])
        np.testing.assert_array_equal(np.delete(masked, positions), np.delete(tokens, positions))
        new = masked[positions]
        fates += [(new == MASK).sum(), (new == labels).sum(), ((new != MASK) & (new != labels)).sum()]
        assert not np.isin(new[new != MASK], [0, 1, 2, 3, 4]).any()
    share = fates / fates.sum()
    np.testing.assert_allclose(share, [0.8, 0.1, 0.1], atol=0.0075)  # three standard deviations of 0.003 at 0.8


@pytest.mark.parametrize("length, most, expected", [(128, 20, 19), (128, 10, 10), (8, 20, 1), (20, 20, 3)])
def test_number_of_predictions(length, most, expected):
    tokens, special = np.arange(5, 5 + length, dtype=np.int32), np.zeros(length, bool)
    special[[0, -1]] = True
    assert len(Masking(WORDS, 0.15, most)(tokens, special, np.random.default_rng(1))[1]) == expected


def test_every_position_is_as_likely_as_any_other():
    random, masking = np.random.default_rng(3), Masking(WORDS)
    counts = np.zeros(128)
    for _ in range(4000):
        tokens, special = sequence(random)
        counts[masking(tokens, special, random)[1]] += 1
    expected = 4000 * 19 / 125
    assert counts[[0, 60, 127]].sum() == 0
    assert np.abs(np.delete(counts, [0, 60, 127]) - expected).max() < 4.5 * np.sqrt(expected)


def test_whole_words_are_predicted_together():
    random, masking = np.random.default_rng(2), Masking(WORDS, whole_words=True)
    total = 0
    for _ in range(200):
        tokens, special = sequence(random)
        positions = masking(tokens, special, random)[1]
        total += len(positions)
        chosen = np.zeros(len(tokens), bool)
        chosen[positions] = True
        for place in np.flatnonzero(WORDS.continues[tokens]):
            if not special[place - 1] and not special[place]:
                assert chosen[place] == chosen[place - 1]
        assert len(positions) <= 19
    assert total > 0.97 * 200 * 19


def documents(count=40, lines=30, seed=0):
    """Documents whose tokens tell them apart: document i uses ids 5 + 20 i to 24 + 20 i."""
    random = np.random.default_rng(seed)
    return [[(5 + 20 * i + random.integers(0, 20, random.integers(3, 15))).astype(np.int32) for _ in range(lines)]
            for i in range(count)]


def document_of(tokens):
    (found,) = set((np.asarray(tokens) - 5) // 20)
    return found


def test_pairs_are_what_their_label_says():
    texts, random, pairing = documents(), np.random.default_rng(1), Pairing(64)
    labels, lengths = [], []
    for i in range(len(texts)):
        whole = list(np.concatenate(texts[i]))
        for pair in pairing(texts, i, random):
            assert document_of(pair.first) == i
            assert (document_of(pair.second) != i) == pair.random_next
            labels.append(pair.random_next)
            lengths.append(len(pair.first) + len(pair.second))
            if not pair.random_next:
                assert found_in_order(whole, pair.first, pair.second)
    assert max(lengths) == 61 and min(lengths) >= 2
    assert abs(np.mean(labels) - 0.5) < 3 * 0.5 / np.sqrt(len(labels))
    assert np.mean(np.array(lengths) < 40) < 0.2


def found_in_order(whole, first, second):
    """Whether ``second`` stands behind ``first`` in ``whole``; truncation may have left a gap."""
    def places(span):
        return [p for p in range(len(whole) - len(span) + 1) if whole[p:p + len(span)] == list(span)]
    return any(a + len(first) <= b for a in places(first) for b in places(second))


def test_every_token_is_trained_on():
    texts, random = [[np.int32([5 + 20 * i + j]) for j in range(20)] for i in range(3)], np.random.default_rng(0)
    for i in range(3):
        seen = np.concatenate([span for pair in Pairing(16, 0.0)(texts, i, random)
                               for span in ((pair.first,) if pair.random_next else (pair.first, pair.second))])
        assert set(seen) >= set(range(5 + 20 * i, 25 + 20 * i))


def test_short_sequences_have_their_probability():
    texts, random = documents(200, 60, 3), np.random.default_rng(5)
    full = [len(p.first) + len(p.second) > 40
            for i in range(len(texts)) for p in Pairing(64, 1.0)(texts, i, random)]
    assert 0.2 < np.mean(full) < 0.6  # the target is uniform from 2 to 61


@pytest.mark.parametrize("first, second, expected", [(50, 30, (31, 30)), (61, 30, (31, 30)), (10, 90, (10, 51)),
                                                     (30, 31, (30, 31)), (1, 1, (1, 1))])
def test_truncation_shortens_the_longer(first, second, expected):
    a, b = truncate(np.arange(first), np.arange(second), 61, np.random.default_rng(0))
    assert sorted((len(a), len(b))) == sorted(expected)
    assert (np.diff(a) == 1).all() and (np.diff(b) == 1).all()


def test_a_single_document_gives_only_true_pairs():
    texts = documents(1)
    pairs = list(Pairing(64)(texts, 0, np.random.default_rng(0)))
    assert pairs and not any(pair.random_next for pair in pairs)


def test_records_undo_to_their_pairs():
    texts, recipe = documents(), PairRecipe(Masking(WORDS, 0.15, 10), Pairing(64), 2, 7)
    records = list(recipe.records(texts, "train", 0))
    assert len(records) > len(list(recipe.records(texts, "held_out", 0))) * 1.8
    for record in records:
        length, count = int(record["input_mask"].sum()), int(record["masked_lm_weights"].sum())
        tokens = record["input_ids"].copy()
        tokens[record["masked_lm_positions"][:count]] = record["masked_lm_ids"][:count]
        assert (tokens[length:] == 0).all() and (record["input_mask"][:length] == 1).all()
        separators = np.flatnonzero(tokens == SEP)
        assert tokens[0] == CLS and len(separators) == 2 and separators[1] == length - 1
        segments = np.zeros(64, np.int32)
        segments[separators[0] + 1:length] = 1
        np.testing.assert_array_equal(record["segment_ids"], segments)
        spans = tokens[1:separators[0]], tokens[separators[0] + 1:length - 1]
        assert (document_of(spans[0]) != document_of(spans[1])) == bool(record["next_sentence_labels"][0])
        assert (record["masked_lm_positions"][count:] == 0).all() and (record["masked_lm_ids"][count:] == 0).all()


def test_records_are_a_function_of_seed_part_and_pass():
    texts = documents(4)

    def ids(seed, split, index):
        recipe = PairRecipe(Masking(WORDS, 0.15, 10), Pairing(64), 1, seed)
        return np.stack([record["input_ids"] for record in recipe.records(texts, split, index)])
    np.testing.assert_array_equal(ids(1, "train", 0), ids(1, "train", 0))
    for other in ((2, "train", 0), (1, "held_out", 0), (1, "train", 1)):
        assert ids(*other).shape != ids(1, "train", 0).shape or (ids(*other) != ids(1, "train", 0)).any()


def test_padding():
    np.testing.assert_array_equal(padded(np.array([True, True]), 4, 9), [1, 1, 9, 9])
