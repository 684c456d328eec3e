"""BERT against a NumPy forward pass in float64 with the same weights; its losses, masks, ties and registration."""
from __future__ import annotations

import dataclasses
import math

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn
from scipy.special import erf

from models.bert import BertConfig
from models.bert.loss import BertPretrainingLoss
from models.bert.network import BertForPretraining
from thor import THOR

SMALL = BertConfig(vocab_size=50, hidden_size=16, layers=2, heads=4, intermediate_size=24, max_positions=12,
                   dropout=0.0, attention_dropout=0.0)
BATCH, SEQUENCE, MASKED = 3, 9, 4


def create(config: BertConfig = SMALL, spread: float = 0.2) -> BertForPretraining:
    """A network whose every parameter is random, also those that start as constants."""
    network, random = BertForPretraining(config), np.random.default_rng(3)
    for parameter in network.get_parameters():
        start = 1.0 if parameter.name.endswith("gamma") else 0.0
        parameter.set_data(Tensor(random.normal(start, spread, parameter.shape).astype(np.float32)))
    return network


def batch() -> dict[str, np.ndarray]:
    random = np.random.default_rng(5)
    lengths = np.array([[9], [6], [7]])
    return {"input_ids": random.integers(0, 50, (BATCH, SEQUENCE)).astype(np.int32),
            "token_type_ids": random.integers(0, 2, (BATCH, SEQUENCE)).astype(np.int32),
            "input_mask": (np.arange(SEQUENCE) < lengths).astype(np.int32),
            "masked_positions": random.integers(0, 6, (BATCH, MASKED)).astype(np.int32),
            "masked_labels": random.integers(0, 50, (BATCH, MASKED)).astype(np.int32),
            "masked_weights": np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]], np.float32),
            "next_sentence_labels": np.array([0, 1, 1], np.int32)}


class Reference:
    """The equations of the papers on float64 arrays; weights by parameter name."""

    def __init__(self, network: nn.Cell, config: BertConfig):
        self.weights = {p.name: p.asnumpy().astype(np.float64) for p in network.get_parameters()}
        self.config = config

    def dense(self, name, x):
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, name, x):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x ** 2).mean(-1, keepdims=True) + self.config.layer_norm_epsilon)
        return x * self.weights[f"{name}.gamma"] + self.weights[f"{name}.beta"]

    def activate(self, x):
        if self.config.activation == "gelu":
            return x * 0.5 * (1 + erf(x / math.sqrt(2)))
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))

    def relation(self, distance):
        size, limit = self.config.head_size, self.config.max_distance
        index = max(-limit, min(limit, distance)) + limit
        angles = [index / 10000 ** (2 * (i // 2) / size) for i in range(size)]
        return np.array([math.cos(a) if i % 2 else math.sin(a) for i, a in enumerate(angles)])

    def head(self, query, key, value, mask):
        """One head of one sample, ``(sequence, head_size)``; mask ``(sequence,)``."""
        size, n = self.config.head_size, len(query)
        relations = np.zeros((n, n, size))
        if self.config.relative_positions:
            relations = np.array([[self.relation(j - i) for j in range(n)] for i in range(n)])
        output = np.zeros((n, size))
        for i in range(n):
            scores = np.array([query[i] @ (key[j] + relations[i, j]) for j in range(n)]) / math.sqrt(size)
            scores = np.exp(scores - 10000.0 * (1 - mask) - scores.max())
            output[i] = sum(s * (value[j] + relations[i, j]) for j, s in enumerate(scores / scores.sum()))
        return output

    def layer(self, name, x, mask):
        query, key, value = (self.dense(f"{name}.attention.{part}", x) for part in ("query", "key", "value"))
        size, context = self.config.head_size, np.zeros_like(x)
        for sample in range(len(x)):
            for h in range(self.config.heads):
                at = (sample, slice(None), slice(h * size, (h + 1) * size))
                context[at] = self.head(query[at], key[at], value[at], mask[sample])
        x = self.norm(f"{name}.attention_norm", x + self.dense(f"{name}.attention.output", context))
        inner = self.activate(self.dense(f"{name}.intermediate", x))
        return self.norm(f"{name}.output_norm", x + self.dense(f"{name}.output", inner))

    def logits(self, b):
        table = self.weights["bert.embeddings.word.embedding_table"]
        x = table[b["input_ids"]]
        x = x + self.weights["bert.embeddings.token_type.embedding_table"][b["token_type_ids"]]
        if not self.config.relative_positions:
            x = x + self.weights["bert.embeddings.position.embedding_table"][:x.shape[1]]
        x = self.norm("bert.embeddings.norm", x)
        for i in range(self.config.layers):
            x = self.layer(f"bert.encoder.{i}", x, b["input_mask"])
        pooled = np.tanh(self.dense("bert.pooler", x[:, 0]))
        masked = np.concatenate([x[i][b["masked_positions"][i]] for i in range(len(x))])
        head = "masked_language_model"
        masked = self.norm(f"{head}.norm", self.activate(self.dense(f"{head}.transform", masked)))
        return masked @ table.T + self.weights[f"{head}.decoder.bias"], self.dense("next_sentence.classifier", pooled)

    def loss(self, b):
        words, sentences = self.logits(b)
        weights = b["masked_weights"].ravel().astype(np.float64)
        masked = (cross_entropy(words, b["masked_labels"].ravel()) * weights).sum() / max(weights.sum(), 1)
        return masked + cross_entropy(sentences, b["next_sentence_labels"]).mean()


def cross_entropy(logits, labels):
    return np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(labels)), labels]


def tensors(b) -> list[Tensor]:
    return [Tensor(array) for array in b.values()]


def test_logits_and_loss_against_float64_in_a_graph():
    check_against_float64(SMALL)


@pytest.mark.usefixtures("pynative")
@pytest.mark.parametrize("changes", [{}, {"activation": "fast_gelu"}, {"relative_positions": True, "max_distance": 3}],
                         ids=lambda changes: "-".join(map(str, changes)) or "base")
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
    ({"hidden_size": 12, "relative_positions": True}, "hidden_size=12; must be an even multiple"),
    ({"layers": 0}, "layers=0; must be an int >= 1"),
    ({"vocab_size": 50.0}, "vocab_size=50.0; must be an int >= 1"),
    ({"activation": "relu"}, "activation='relu'; must be one of gelu, fast_gelu"),
    ({"dropout": 1.0}, "dropout=1.0; must be a number >= 0 and < 1; use 0 for no dropout"),
    ({"attention_dropout": "none"}, "attention_dropout='none'; must be a number >= 0 and < 1"),
    ({"layer_norm_epsilon": 0}, "layer_norm_epsilon=0; must be a number > 0"),
    ({"relative_positions": 1}, "relative_positions=1; must be true or false"),
])
def test_wrong_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **changes)


@pytest.mark.usefixtures("pynative")
def test_too_long_a_sequence_is_one_clear_line():
    ids = Tensor(np.zeros((1, 13), np.int32))
    with pytest.raises(ValueError, match="input_ids has sequences of 13; must be at most max_positions=12"):
        create()(ids, ids, ids, ids[:, :1])
