"""What the planner counts is what the optimizer holds, sends and shares."""
from __future__ import annotations

import pytest
from mindspore import nn

from models.config import load_config
from models.planner.predict import HYBRID, gathered_bytes
from models.planner.zoo import job_of
from models.session import prepare_network
from thor import THOR
from thor.distribution import SharedUpdate, assign_owners, inverse_cost
from thor.reduction import FactorReducer

CONFIGS = {
    "images": ["--model.base_width", "16", "--optimizer.split_dim", "48", "--optimizer.split_indices", "[3, 9]"],
    "text": ["--model.name", "bert", "--data.name", "text", "--model.bert.vocab_size", "50", "--model.bert.layers", "1",
             "--model.bert.hidden_size", "32", "--model.bert.heads", "2", "--model.bert.intermediate_size", "80",
             "--model.bert.max_positions", "8", "--optimizer.split_dim", "24"],
    "units": ["--model.base_width", "4", "--optimizer.batchnorm_blocks", "true", "--optimizer.fold_bias", "true"],
}


@pytest.fixture(scope="module", params=CONFIGS)
def pair(request):
    """A job, and the optimizer of the same configuration."""
    config = load_config(None, CONFIGS[request.param])
    job = job_of(config)
    options = config.optimizer
    network = prepare_network(config)[0]
    optimizer = THOR(network, 0.1, 0.1, 0.9, split_dim=options.split_dim, split_indices=options.split_indices,
                     fold_bias=options.fold_bias, batchnorm_blocks=options.batchnorm_blocks)
    return job, optimizer


def test_factors_are_sent_as_counted(pair):
    job, optimizer = pair
    shapes = [[optimizer.parameters[i].shape for i in places] for places in optimizer.factor_places()]
    assert [list(layer.factor_shapes) for layer in job.layers] == shapes
    reducer = FactorReducer(shapes, optimizer.split_indices)
    assert job.packed_bytes == 4 * sum(reducer.counts)


def test_weights_gradients_and_inverses_are_held_as_counted(pair):
    job, optimizer = pair
    assert job.gradient_numbers == sum(weight.size for weight in optimizer.weights)
    held = [batch.inverses for batch in optimizer.curvature.batches]
    diagonals = [cell.inverse_a for _, cell in optimizer.cells_and_names() if hasattr(cell, "inverse_a")]
    assert sum(layer.inverse_bytes for layer in job.layers) == 4 * sum(p.size for p in [*held, *diagonals])
    sizes = [inverses.shape[-1] for inverses in held for _ in range(inverses.shape[0])]
    assert job.block_sizes == sizes


@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_inverses_are_gathered_as_counted(pair, ranks):
    job, optimizer = pair
    owners = assign_owners([inverse_cost(size) for size in job.block_sizes], ranks)
    expected = []
    for batch in optimizer.curvature.batches:
        count, size, _ = batch.inverses.shape
        shared = SharedUpdate(nn.Cell(), owners[:count], 0, ranks)
        owners = owners[count:]
        expected += [4 * ranks * shared.mine.size * size * size, 4 * ranks * shared.mine.size * 2]
    assert gathered_bytes(job, ranks, HYBRID) == expected
