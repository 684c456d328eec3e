"""Operation counts of the floor against counts by hand."""
from __future__ import annotations

import pytest

from models.planner.work import Floor, LayerWork, block_sizes, floor_seconds, layer_floor, network_floor


@pytest.mark.parametrize("dim, split_dim, sizes", [
    (256, 128, [128, 128]), (300, 128, [128, 128, 44]), (64, 128, [64]), (300, None, [300])])
def test_block_sizes(dim, split_dim, sizes):
    assert block_sizes(dim, split_dim) == sizes


def test_dense_layer_by_hand():
    floor = layer_floor(LayerWork(1, rows=10, columns=6, samples=32), split_dim=4)
    squares_a, squares_g = 4 ** 2 + 2 ** 2, 4 ** 2 + 4 ** 2 + 2 ** 2
    assert floor == Floor(precondition_flop=2 * (6 * squares_g + 10 * squares_a),
                          covariance_flop=32 * (squares_a + squares_g),
                          inverse_flop=64 + 8 + 64 + 64 + 8, im2col_bytes=0.0)


def test_unsplit_preconditioning_is_two_whole_products():
    floor = layer_floor(LayerWork(1, rows=10, columns=6, samples=1), None)
    assert floor.precondition_flop == 2 * (10 * 10 * 6 + 10 * 6 * 6)


def test_groups_multiply_everything_and_only_wide_kernels_unfold():
    one = layer_floor(LayerWork(1, 4, 9, 100, kernel_size=9), 128)
    three = layer_floor(LayerWork(3, 4, 9, 100, kernel_size=9), 128)
    assert three == one + one + one
    assert one.im2col_bytes == 4 * 100 * 9
    assert layer_floor(LayerWork(1, 4, 9, 100), 128).im2col_bytes == 0


def test_network_sums_layers_and_seconds_divide_by_rates():
    layers = [LayerWork(1, 10, 6, 32), LayerWork(1, 4, 9, 100, 9)]
    floor = network_floor(layers, 128)
    assert floor == layer_floor(layers[0], 128) + layer_floor(layers[1], 128)
    seconds = floor_seconds(floor, flop_rate=1e3, byte_rate=1e2)
    assert seconds["stale"] == seconds["precondition"] == pytest.approx(floor.precondition_flop / 1e3)
    assert seconds["im2col"] == pytest.approx(36.0)
    assert seconds["refresh"] == pytest.approx(sum(seconds[part] for part in
                                                   ("precondition", "covariance", "inverse", "im2col")))
