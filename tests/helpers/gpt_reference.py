"""GPT's forward pass and loss in float64 NumPy, and a small network and tokens to compare."""
from __future__ import annotations

import numpy as np

from models.gpt import GptConfig
from models.gpt.network import Gpt
from tests.helpers.bert_reference import Reference, cross_entropy, randomised

SMALL = GptConfig(vocab_size=50, hidden_size=16, layers=2, heads=4, intermediate_size=24, max_positions=12,
                  dropout=0.0, attention_dropout=0.0)
BATCH, SEQUENCE = 3, 9


def create(config: GptConfig = SMALL, spread: float = 0.2) -> Gpt:
    return randomised(Gpt(config), spread)


def tokens(length: int = SEQUENCE + 1) -> np.ndarray:
    """Random tokens ``(BATCH, length)``."""
    return np.random.default_rng(5).integers(0, SMALL.vocab_size, (BATCH, length)).astype(np.int32)


class GptReference(Reference):
    """The equations on float64 arrays; weights by parameter name."""

    def projections(self, name, x):
        """Queries, keys and values of all heads, each ``(sequence, hidden)``."""
        if not self.config.fused_qkv:
            return [self.dense(f"{name}.{part}", x) for part in ("query", "key", "value")]
        return np.split(self.dense(f"{name}.query_key_value", x), 3, axis=-1)

    def attention(self, name, x):
        """Of one sample ``(sequence, hidden)``: position i sees positions up to i."""
        query, key, value = self.projections(name, x)
        size, context = self.config.head_size, np.zeros_like(x)
        for h in range(self.config.heads):
            part = slice(h * size, (h + 1) * size)
            for i in range(len(x)):
                scores = key[:i + 1, part] @ query[i, part] / np.sqrt(size)
                shares = np.exp(scores - scores.max())
                context[i, part] = shares / shares.sum() @ value[:i + 1, part]
        return self.dense(f"{name}.output", context)

    def layer(self, name, x):
        normed = self.norm(f"{name}.attention_norm", x)
        x = x + np.stack([self.attention(f"{name}.attention", sample) for sample in normed])
        inner = self.activate(self.dense(f"{name}.intermediate", self.norm(f"{name}.feed_forward_norm", x)))
        return x + self.dense(f"{name}.output", inner)

    def logits(self, ids):
        """``(batch, sequence)`` to ``(batch * sequence, vocab_size)``."""
        table = self.weights["word.embedding_table"]
        x = table[ids] + self.weights["position.embedding_table"][:ids.shape[1]]
        for i in range(self.config.layers):
            x = self.layer(f"decoder_layers.{i}", x)
        return self.norm("norm", x).reshape(-1, self.config.hidden_size) @ table.T

    def loss(self, rows):
        return cross_entropy(self.logits(rows[:, :-1]), rows[:, 1:].ravel()).mean()
