"""BERT's forward pass and losses in float64 NumPy, and a small network and a batch to compare."""
from __future__ import annotations

import math

import numpy as np
from mindspore import Tensor, nn
from scipy.special import erf

from models.bert import BertConfig
from models.bert.network import BertForPretraining

SMALL = BertConfig(vocab_size=50, hidden_size=16, layers=2, heads=4, intermediate_size=24, max_positions=12,
                   dropout=0.0, attention_dropout=0.0)
BATCH, SEQUENCE, MASKED = 3, 9, 4


def create(config: BertConfig = SMALL, spread: float = 0.2) -> BertForPretraining:
    return randomised(BertForPretraining(config), spread)


def randomised(network: nn.Cell, spread: float) -> nn.Cell:
    """The network with every parameter random, also those that start as constants."""
    random = np.random.default_rng(3)
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
        if self.config.activation == "fast_gelu":
            return x / (1 + np.exp(-1.702 * np.abs(x))) * np.exp(0.851 * (x - np.abs(x)))
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))

    def relation(self, name, distance):
        size, limit = self.config.head_size, self.config.max_distance
        index = max(-limit, min(limit, distance)) + limit
        if self.config.relative_table == "learned":
            return self.weights[f"{name}.relative.table"][index]
        angles = [index / 10000 ** (2 * (i // 2) / size) for i in range(size)]
        return np.array([math.cos(a) if i % 2 else math.sin(a) for i, a in enumerate(angles)])

    def head(self, name, query, key, value, mask):
        """One head of one sample, ``(sequence, head_size)``; mask ``(sequence,)``; name of the attention."""
        size, n = self.config.head_size, len(query)
        relations = np.zeros((n, n, size))
        if self.config.relative_positions:
            relations = np.array([[self.relation(name, j - i) for j in range(n)] for i in range(n)])
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
                context[at] = self.head(f"{name}.attention", query[at], key[at], value[at], mask[sample])
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
