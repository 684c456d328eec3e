"""BERT as a benchmark's work: its batch, the rows of data behind every factor, and its floor by hand."""
from __future__ import annotations

import numpy as np
import pytest

from benchmarks import common, memory, text, workload
from models.planner.work import Floor, LayerWork, layer_floor, network_floor

TINY = workload.Work(model="bert", layers=1, hidden=64, vocab_size=100, sequence_length=16, batch_size=3, split_dim=48)


@pytest.mark.parametrize("sequence, masked", [(2, 1), (128, 20), (512, 77)])
def test_15_percent_are_masked(sequence, masked):
    assert text.masked_words(sequence) == masked


def test_batch_labels_are_the_words_at_distinct_masked_positions():
    ids, types, mask, positions, labels, weights, order = (t.asnumpy() for t in text.create_batch(TINY))
    assert ids.shape == types.shape == mask.shape == (3, 16)
    assert positions.shape == labels.shape == weights.shape == (3, 3) and order.shape == (3,)
    assert (np.diff(positions, axis=1) > 0).all() and positions.min() >= 0 and positions.max() < 16
    np.testing.assert_array_equal(labels, ids[np.arange(3)[:, None], positions])
    assert types.sum() == 3 * 8 and mask.all() and weights.all()


def test_embedding_floor_has_no_blocks_over_the_vocabulary():
    floor = layer_floor(LayerWork(1, rows=100, columns=6, samples=32, diagonal_rows=True), split_dim=4)
    squares = 4 ** 2 + 2 ** 2
    assert floor == Floor(2 * 100 * squares, 32 * squares, 4 ** 3 + 2 ** 3, 0.0)


def test_rows_of_data_and_floor_of_bert_by_hand(pynative):
    network = workload.create_network(TINY)
    rows = workload.data_rows(network, TINY)
    layers = workload.layer_work(workload.create_thor_step(network, TINY).optimizer.registration, rows)
    tokens, masked = 3 * 16, 3 * 3
    expected = [LayerWork(1, 100, 64, tokens + masked, 1, True), LayerWork(1, 512, 64, 16, 1, True),
                LayerWork(1, 2, 64, tokens, 1, True), *[LayerWork(1, 64, 64, tokens)] * 4,
                LayerWork(1, 256, 64, tokens), LayerWork(1, 64, 256, tokens), LayerWork(1, 64, 64, 3),
                LayerWork(1, 64, 64, masked), LayerWork(1, 2, 64, 3)]
    assert sorted(map(repr, layers)) == sorted(map(repr, expected))
    of_64, of_256 = 48 ** 2 + 16 ** 2, 5 * 48 ** 2 + 16 ** 2
    by_hand = 2 * of_64 * ((100 + 512 + 2) + 6 * (64 + 64) + 2 * 256 + 2) + 2 * (2 * 64 * of_256 + 64 * 2 ** 2)
    assert network_floor(layers, 48).precondition_flop == by_hand


def test_a_width_that_heads_of_64_do_not_divide_is_refused():
    with pytest.raises(common.BenchmarkError, match="--hidden=96; must be a multiple of 64"):
        workload.create_network(workload.Work(model="bert", hidden=96))


def test_memory_counts_bert_by_hand():
    numbers = memory.measure(TINY)
    of_64, of_256 = 2 * 48 ** 2, 6 * 48 ** 2  # the last block of a factor is padded
    dense = 6 * 2 * of_64 + 2 * (of_64 + of_256) + (of_64 + 2 ** 2)
    tables = 100 + 512 + 2 + 3 * of_64
    assert numbers["factors_mib"] == pytest.approx((dense + tables + 12 * 7) * 4 / 2 ** 20)


def test_description_names_what_was_run():
    assert TINY.describe() == "bert, 1 x 64, 100 words, sequences of 16 (3 masked)"
    assert workload.Work().describe() == "resnet50 64x64"
