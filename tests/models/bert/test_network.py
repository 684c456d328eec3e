"""BERT against a NumPy forward pass in float64 with the same weights; its losses, masks, ties and registration."""
from __future__ import annotations

import dataclasses
import math

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor
from scipy.special import erf

from models.bert import BertConfig
from models.bert.attention import RelativePositions
from models.bert.layers import activation
from models.bert.loss import BertPretrainingLoss
from models.bert.network import BertForPretraining
from tests.helpers.bert_reference import BATCH, SMALL, Reference, batch, create, cross_entropy, tensors
from thor import THOR


@pytest.mark.slow
def test_logits_and_loss_against_float64_in_a_graph():
    check_against_float64(dataclasses.replace(SMALL, layers=1))


@pytest.mark.usefixtures("pynative")
@pytest.mark.parametrize("changes", [
    {}, {"activation": "fast_gelu"}, {"activation": "gelu_tanh"}, {"relative_positions": True, "max_distance": 3},
    {"relative_positions": True, "max_distance": 3, "relative_table": "learned"}],
    ids=lambda changes: "-".join(map(str, changes.values())) or "base")
def test_logits_and_loss_against_float64(changes):
    check_against_float64(dataclasses.replace(SMALL, **changes))


def check_against_float64(config: BertConfig) -> None:
    network, b = create(config), batch()
    words, sentences = network(*tensors(b)[:4])
    expected = Reference(network, config)
    for actual, exact in zip((words, sentences), expected.logits(b)):
        np.testing.assert_allclose(actual.asnumpy(), exact, rtol=0, atol=2e-5)
    loss = BertPretrainingLoss(network)(*tensors(b))
    assert loss.shape == ()
    assert float(loss) == pytest.approx(expected.loss(b), rel=3e-6)


@pytest.mark.usefixtures("pynative")
def test_tied_table_gets_the_gradient_of_both_uses():
    network, b = create(), batch()
    loss, table = BertPretrainingLoss(network), network.bert.embeddings.word.embedding_table
    gradient = ms.grad(loss, grad_position=None, weights=ms.ParameterTuple([table]))(*tensors(b))[0].asnumpy()
    expected = Reference(network, SMALL)
    exact = expected.weights["bert.embeddings.word.embedding_table"]
    unseen = sorted(set(range(50)) - set(b["input_ids"].ravel()))[0]
    for entry in ((b["input_ids"][0, 0], 3), (unseen, 5), (b["masked_labels"][0, 0], 0)):
        start, step = exact[entry], 1e-5
        exact[entry] = start + step
        above = expected.loss(b)
        exact[entry] = start - step
        below = expected.loss(b)
        exact[entry] = start
        assert gradient[entry] == pytest.approx((above - below) / (2 * step), rel=1e-3, abs=2e-6)


def test_the_decoder_has_no_weight_of_its_own():
    names = [p.name for p in BertForPretraining(SMALL).trainable_params()]
    head = [name for name in names if name.startswith("masked_language_model")]
    assert head == [f"masked_language_model.{name}" for name in
                    ("transform.weight", "transform.bias", "norm.gamma", "norm.beta", "decoder.bias")]
    assert sum("embedding_table" in name for name in names) == 3
    assert len(names) == len(set(names)) == 5 + 16 * SMALL.layers + 2 + 5 + 2


@pytest.mark.usefixtures("pynative")
def test_loss_at_the_start_is_that_of_guessing():
    ms.set_seed(4)
    loss = BertPretrainingLoss(BertForPretraining(SMALL))(*tensors(batch()))
    assert float(loss) == pytest.approx(math.log(50) + math.log(2), abs=0.1)


@pytest.mark.usefixtures("pynative")
def test_padding_changes_nothing_before_it():
    network, b = create(), batch()
    changed = {**b, "input_ids": np.where(b["input_mask"] == 1, b["input_ids"], 49 - b["input_ids"])}
    before, after = (network(*tensors(x)[:4]) for x in (b, changed))
    for left, right in zip(before, after):
        np.testing.assert_array_equal(left.asnumpy(), right.asnumpy())


@pytest.mark.usefixtures("pynative")
def test_no_masked_word_at_all_leaves_the_next_sentence_loss():
    network, b = create(), batch()
    b["masked_weights"] = np.zeros_like(b["masked_weights"])
    exact = cross_entropy(Reference(network, SMALL).logits(b)[1], b["next_sentence_labels"]).mean()
    assert float(BertPretrainingLoss(network)(*tensors(b))) == pytest.approx(exact, rel=1e-5)


@pytest.mark.usefixtures("pynative")
def test_dropout_acts_in_training_only_and_every_cell_has_its_seed():
    config = dataclasses.replace(SMALL, dropout=0.5, attention_dropout=0.5)
    network, b = create(config), batch()
    plain = create(SMALL)
    for source, target in zip([p for p in network.get_parameters() if p.requires_grad], plain.get_parameters()):
        target.set_data(source.value().copy())
    network.set_train(False)
    evaluated = network(*tensors(b)[:4])[0].asnumpy()
    np.testing.assert_array_equal(evaluated, plain(*tensors(b)[:4])[0].asnumpy())
    network.set_train(True)
    assert np.abs(network(*tensors(b)[:4])[0].asnumpy() - evaluated).max() > 0.05
    seeds = [int(cell.seed.asnumpy()) for _, cell in network.cells_and_names() if hasattr(cell, "seed")]
    assert sorted(seeds) == list(range(1, 1 + 1 + 3 * SMALL.layers))


def test_every_layer_is_registered_with_thor():
    network = BertForPretraining(SMALL)
    table = THOR(network, 0.01, 0.03, 0.9, batch_size=BATCH).registration_table().splitlines()
    first_order = [line.split()[0] for line in table if "first order" in line]
    assert all(name.endswith("bias") for name in first_order)
    assert not [line for line in table[1:] if "second order" not in line and "first order: bias" not in line]
    assert [line.endswith(", 2 uses") for line in table if "word.embedding_table" in line] == [True]
    assert sum("second order: squared gradient" in line for line in table) == 2 * (2 + 2 * SMALL.layers)


@pytest.mark.parametrize("changes, message", [
    ({"hidden_size": 15}, "hidden_size=15; must be a multiple of heads=4"),
    ({"hidden_size": 12, "relative_positions": True}, "hidden_size=12; must be an even multiple of heads with sin"),
    ({"relative_table": "fixed"}, "relative_table='fixed'; must be one of sinusoids, learned"),
    ({"layers": 0}, "layers=0; must be an int >= 1"),
    ({"vocab_size": 50.0}, "vocab_size=50.0; must be an int >= 1"),
    ({"activation": "relu"}, "activation='relu'; must be one of gelu, gelu_tanh, fast_gelu"),
    ({"dropout": 1.0}, "dropout=1.0; must be a number >= 0 and < 1; use 0 for no dropout"),
    ({"attention_dropout": "none"}, "attention_dropout='none'; must be a number >= 0 and < 1"),
    ({"layer_norm_epsilon": 0}, "layer_norm_epsilon=0; must be a number > 0"),
    ({"relative_positions": 1}, "relative_positions=1; must be true or false"),
])
def test_wrong_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **changes)


@pytest.mark.usefixtures("pynative")
@pytest.mark.parametrize("kind", [ms.float32, ms.float16])
def test_fast_gelu_is_that_of_mindspore(kind):
    """In value and gradient against float64, and within rounding of ``ops.FastGeLU``."""
    x = np.concatenate([np.linspace(-12, 12, 4801), [-60, 0, 60]]).astype(ms.dtype_to_nptype(kind))
    cell, operator = activation(dataclasses.replace(SMALL, activation="fast_gelu")), ms.ops.FastGeLU()
    exact, precise = x.astype(np.float64), kind == ms.float32
    sigmoid = 1 / (1 + np.exp(-1.702 * exact))
    value, slope = cell(Tensor(x)), ms.grad(cell)(Tensor(x))
    assert value.dtype == slope.dtype == kind
    np.testing.assert_allclose(value.asnumpy(), exact * sigmoid, rtol=0, atol=1e-6 if precise else 2e-2)
    np.testing.assert_allclose(slope.asnumpy(), sigmoid * (1 + 1.702 * exact * (1 - sigmoid)), rtol=0,
                               atol=2e-6 if precise else 4e-3)
    if precise:
        np.testing.assert_allclose(value.asnumpy(), operator(Tensor(x)).asnumpy(), rtol=0, atol=2e-6)


def test_the_activations_differ_by_what_is_said_of_them():
    x = np.linspace(-8, 8, 160001)
    exact = x * 0.5 * (1 + erf(x / math.sqrt(2)))
    far = {}
    for name in ("gelu_tanh", "fast_gelu"):
        network = Reference(BertForPretraining(SMALL), dataclasses.replace(SMALL, activation=name))
        far[name] = np.abs(network.activate(x) - exact).max()
    assert 4e-4 < far["gelu_tanh"] < 5e-4 and 0.02 < far["fast_gelu"] < 0.021


@pytest.mark.usefixtures("pynative")
def test_learned_relative_positions_learn_and_are_first_order():
    config = dataclasses.replace(SMALL, relative_positions=True, relative_table="learned", max_distance=2)
    network, b = create(config), batch()
    tables = [p for p in network.trainable_params() if p.name.endswith("attention.relative.table")]
    assert [p.shape for p in tables] == [(5, 4)] * SMALL.layers
    loss, expected = BertPretrainingLoss(network), Reference(network, config)
    gradients = ms.grad(loss, grad_position=None, weights=ms.ParameterTuple(tables))(*tensors(b))
    for table, gradient in zip(tables, gradients):
        exact = expected.weights[table.name]
        for entry in ((0, 1), (2, 0), (4, 3)):
            start, step = exact[entry], 1e-5
            exact[entry] = start + step
            above = expected.loss(b)
            exact[entry] = start - step
            below = expected.loss(b)
            exact[entry] = start
            assert gradient.asnumpy()[entry] == pytest.approx((above - below) / (2 * step), rel=1e-3, abs=3e-6)
    rows = THOR(network, 0.01, 0.03, 0.9, batch_size=BATCH).registration_table().splitlines()
    assert sum("relative.table" in row and "first order" in row for row in rows) == SMALL.layers


@pytest.mark.slow
@pytest.mark.parametrize("table", ["sinusoids", "learned"])
def test_relative_positions_take_float16(table):
    """As O2 gives them: rows in float16 beside a table in float32, in a graph."""
    config = dataclasses.replace(SMALL, relative_positions=True, relative_table=table, max_distance=3)
    cell, random = RelativePositions(config), np.random.default_rng(2)
    reference = Reference(create(config), config)
    if table == "learned":
        rows = reference.weights["bert.encoder.0.attention.relative.table"]
        cell.table.set_data(Tensor(rows, ms.float32))
    query = random.standard_normal((2, 3, 5, config.head_size)).astype(np.float16)
    vectors = np.array([[reference.relation("bert.encoder.0.attention", j - i) for j in range(5)] for i in range(5)])
    actual = ms.jit(cell.scores)(Tensor(query))
    assert actual.dtype == ms.float16
    np.testing.assert_allclose(actual.asnumpy(), np.einsum("hbid,ijd->hbij", query.astype(np.float64), vectors), rtol=0,
                               atol=2e-2)


@pytest.mark.usefixtures("pynative")
def test_too_long_a_sequence_is_one_clear_line():
    ids = Tensor(np.zeros((1, 13), np.int32))
    with pytest.raises(ValueError, match="input_ids has sequences of 13; must be at most max_positions=12"):
        create()(ids, ids, ids, ids[:, :1])
