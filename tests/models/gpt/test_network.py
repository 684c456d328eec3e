"""GPT against a NumPy forward pass in float64 with the same weights; causality, ties and registration."""
from __future__ import annotations

import dataclasses
import math

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from models.gpt import GptConfig
from models.gpt.loss import NextTokenLoss, NextTokenScores, next_token_metrics
from models.gpt.network import Gpt, causal_mask
from tests.helpers.gpt_reference import BATCH, SEQUENCE, SMALL, GptReference, create, tokens
from thor import THOR

TABLE = "word.embedding_table"


def check_against_float64(config) -> None:
    network, rows = create(config), tokens()
    expected = GptReference(network, config)
    found = network(Tensor(rows[:, :-1])).asnumpy()
    assert found.shape == (BATCH * SEQUENCE, config.vocab_size)
    np.testing.assert_allclose(found, expected.logits(rows[:, :-1]), rtol=0, atol=1e-5)
    loss = NextTokenLoss(network)(Tensor(rows))
    assert loss.shape == ()
    assert float(loss) == pytest.approx(expected.loss(rows), rel=3e-6)


@pytest.mark.slow
def test_logits_and_loss_against_float64_in_a_graph():
    check_against_float64(dataclasses.replace(SMALL, layers=1))


@pytest.mark.usefixtures("pynative")
@pytest.mark.parametrize("changes", [{}, {"fused_qkv": False}, {"activation": "gelu"}],
                         ids=lambda changes: "-".join(map(str, changes.values())) or "base")
def test_logits_and_loss_against_float64(changes):
    check_against_float64(dataclasses.replace(SMALL, **changes))


@pytest.mark.usefixtures("pynative")
def test_a_mask_that_is_not_tiled_is_the_same():
    """As on other devices, whose broadcasts are free."""
    network, rows = create(), Tensor(tokens(SEQUENCE))
    tiled = network(rows).asnumpy()
    network.tiles_mask = False
    np.testing.assert_array_equal(network(rows).asnumpy(), tiled)


@pytest.mark.usefixtures("pynative")
def test_no_logit_before_a_token_changes_with_it():
    network, rows = create(spread=0.5), tokens(SEQUENCE)
    before = network(Tensor(rows)).asnumpy().reshape(BATCH, SEQUENCE, -1)
    for place in range(SEQUENCE):
        changed = rows.copy()
        changed[:, place] = (changed[:, place] + 1) % SMALL.vocab_size
        after = network(Tensor(changed)).asnumpy().reshape(BATCH, SEQUENCE, -1)
        np.testing.assert_array_equal(after[:, :place], before[:, :place])
        assert (np.abs(after - before).max(2)[:, place:] > 0).all()


@pytest.mark.usefixtures("pynative")
def test_a_position_sees_itself_and_those_before_it():
    np.testing.assert_array_equal(causal_mask(3).asnumpy(), -1e4 * np.float32([[[[0, 1, 1], [0, 0, 1], [0, 0, 0]]]]))


@pytest.mark.usefixtures("pynative")
def test_tied_table_gets_the_gradient_of_both_uses():
    network, rows = create(), tokens()
    loss = NextTokenLoss(network)
    gradient = ms.grad(loss, None, ms.ParameterTuple([network.word.embedding_table]))(Tensor(rows))[0].asnumpy()
    expected = GptReference(network, SMALL)
    exact = expected.weights[TABLE]
    unseen = sorted(set(range(SMALL.vocab_size)) - set(rows.ravel()))[0]
    for entry in ((rows[0, 0], 3), (unseen, 5), (rows[0, -1], 0)):
        start, step = exact[entry], 1e-5
        exact[entry] = start + step
        above = expected.loss(rows)
        exact[entry] = start - step
        below = expected.loss(rows)
        exact[entry] = start
        assert gradient[entry] == pytest.approx((above - below) / (2 * step), rel=1e-3, abs=2e-6)


def size_of(config) -> int:
    """Numbers in the weights and biases of the article's layers; the table counts once."""
    hidden, inner = config.hidden_size, config.intermediate_size
    matrices = ((3 * hidden, hidden), (hidden, hidden), (inner, hidden), (hidden, inner))
    of_layer = sum(rows * columns + rows for rows, columns in matrices) + 4 * hidden
    return (config.vocab_size + config.max_positions + 2) * hidden + config.layers * of_layer


def test_parameters_are_those_of_gpt2():
    """The small one has 124439808, the medium one 354823168; the decoder has no weight of its own."""
    parameters = Gpt(SMALL).trainable_params()
    assert len({p.name for p in parameters}) == len(parameters) == 2 + 12 * SMALL.layers + 2
    assert sum(p.size for p in parameters) == size_of(SMALL)
    medium = GptConfig(hidden_size=1024, layers=24, heads=16, intermediate_size=4096)
    assert [size_of(GptConfig()), size_of(medium)] == [124439808, 354823168]


@pytest.mark.usefixtures("pynative")
def test_loss_at_the_start_is_that_of_guessing_and_residuals_start_smaller():
    ms.set_seed(4)
    network = Gpt(dataclasses.replace(SMALL, hidden_size=128, intermediate_size=256))
    assert float(NextTokenLoss(network)(Tensor(tokens()))) == pytest.approx(math.log(50), abs=0.1)
    layer = network.decoder_layers[1]
    for cell, expected in ((layer.attention.query_key_value, 0.02), (layer.intermediate, 0.02),
                           (layer.attention.output, 0.01), (layer.output, 0.01)):
        assert cell.weight.asnumpy().std() == pytest.approx(expected, rel=0.03)


@pytest.mark.usefixtures("pynative")
def test_metrics_weigh_every_token_alike():
    network, rows = create().set_train(False), tokens()
    metrics = next_token_metrics()
    for part in (rows[:2], rows[2:]):
        for metric in metrics.values():
            metric.update(NextTokenScores(network)(Tensor(part)))
    found = {name: metric.eval() for name, metric in metrics.items()}
    expected = GptReference(network, SMALL)
    assert found["loss"] == pytest.approx(expected.loss(rows), rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(expected.loss(rows)), rel=1e-4)
    right = expected.logits(rows[:, :-1]).argmax(1) == rows[:, 1:].ravel()
    assert found["next_token_accuracy"] == pytest.approx(right.mean(), rel=1e-6)


@pytest.mark.parametrize("fused", [True, False])
def test_every_layer_is_registered_with_thor(fused):
    network = Gpt(dataclasses.replace(SMALL, fused_qkv=fused))
    table = THOR(network, 0.01, 0.03, 0.9, batch_size=BATCH).registration_table().splitlines()
    assert all(line.split()[0].endswith("bias") for line in table if "first order" in line)
    assert not [line for line in table[1:] if "second order" not in line and "first order: bias" not in line]
    tied = [line for line in table if "embedding_table" in line]
    assert [(line.split()[0], line.endswith(", 2 uses")) for line in tied] == [
        (TABLE, True), ("position.embedding_table", False)]
    assert sum("second order: squared gradient" in line for line in table) == 2 * (1 + 2 * SMALL.layers)
    fused_lines = [line for line in table if "query_key_value.weight" in line]
    assert len(fused_lines) == (SMALL.layers if fused else 0) and all("second order" in x for x in fused_lines)


@pytest.mark.usefixtures("pynative")
def test_too_long_a_sequence_is_one_clear_line():
    with pytest.raises(ValueError, match="input_ids has sequences of 13; must be at most max_positions=12; cut them"):
        create()(Tensor(np.zeros((1, 13), np.int32)))
