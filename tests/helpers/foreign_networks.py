"""ResNets and BERT as other programs name their weights: random weights, and the forward pass in float64 NumPy.

Written from the articles and the lists of names, without the tables of models.weights.
"""
from __future__ import annotations

import math

import numpy as np
from scipy.special import erf

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
# of torchvision and of MindSpore's ResNet program: what a name says of norms, shortcuts, logits and norms in blocks
TORCHVISION = {"norm": ("weight", "bias", "running_mean", "running_var"), "shortcut": "downsample", "head": "fc",
               "inner": "bn{}"}
MINDSPORE = {"norm": ("gamma", "beta", "moving_mean", "moving_variance"), "shortcut": "down_sample_layer",
             "head": "end_point", "inner": "bn{}"}
MINDSPORE_BASIC = {**MINDSPORE, "inner": "bn{}d"}


def resnet_weights(depth: int, width: int, classes: int, channels: int, style: dict) -> dict[str, np.ndarray]:
    """A state dictionary of float32 with a 7x7 stem, every array random."""
    random, state = np.random.default_rng(depth), {}

    def conv(name, out, inputs, size):
        deviation = math.sqrt(2 / (inputs * size * size))
        state[f"{name}.weight"] = random.normal(0, deviation, (out, inputs, size, size))

    def norm(name, out):
        for part, low, high in zip(style["norm"], (0.2, -0.5, -0.5, 0.1), (0.7, 0.5, 0.5, 1.0)):
            state[f"{name}.{part}"] = random.uniform(low, high, out)

    conv("conv1", width, channels, 7)
    norm("bn1", width)
    inputs = width
    for stage, count in enumerate(BLOCKS[depth], 1):
        for block in range(count):
            name, inner = f"layer{stage}.{block}", width * 2 ** (stage - 1)
            sizes = [(inner, inputs, 3), (inner, inner, 3)] if depth < 50 else \
                [(inner, inputs, 1), (inner, inner, 3), (4 * inner, inner, 1)]
            for i, size in enumerate(sizes, 1):
                conv(f"{name}.conv{i}", *size)
                norm(f"{name}.{style['inner'].format(i)}", size[0])
            out = sizes[-1][0]
            if block == 0 and (stage > 1 or out != inputs):
                conv(f"{name}.{style['shortcut']}.0", out, inputs, 1)
                norm(f"{name}.{style['shortcut']}.1", out)
            inputs = out
    state[f"{style['head']}.weight"] = random.normal(0, 1 / math.sqrt(inputs), (classes, inputs))
    state[f"{style['head']}.bias"] = random.normal(0, 1, classes)
    return {name: array.astype(np.float32) for name, array in state.items()}


class ForeignResNet:
    """Logits of such a state dictionary, in evaluation.

    Args:
        state: arrays by name.
        style: whose names they are.
        same: padding as MindSpore's pad mode "same", not alike on both sides.
        epsilon, outer_epsilon: of BatchNorm in the blocks, and in stem and shortcuts.
    """

    def __init__(self, state, style, same=False, epsilon=1e-5, outer_epsilon=1e-5):
        self.state = {name: array.astype(np.float64) for name, array in state.items()}
        self.style, self.same, self.epsilon, self.outer_epsilon = style, same, epsilon, outer_epsilon

    def windows(self, x, size, stride, fill):
        """``(N, C, H', W', size, size)``."""
        pads = []
        for length in x.shape[2:]:
            total = max((math.ceil(length / stride) - 1) * stride + size - length, 0)
            pads.append((total // 2, total - total // 2) if self.same else (size // 2, size // 2))
        x = np.pad(x, [(0, 0), (0, 0), *pads], constant_values=fill)
        return np.lib.stride_tricks.sliding_window_view(x, (size, size), (2, 3))[:, :, ::stride, ::stride]

    def conv(self, name, x, stride=1):
        weight = self.state[f"{name}.weight"]
        return np.einsum("nchwij,ocij->nohw", self.windows(x, weight.shape[2], stride, 0.0), weight, optimize=True)

    def norm(self, name, x, epsilon):
        scale, shift, mean, variance = (self.state[f"{name}.{part}"][:, None, None] for part in self.style["norm"])
        return (x - mean) / np.sqrt(variance + epsilon) * scale + shift

    def block(self, name, x, stride):
        count = 3 if f"{name}.conv3.weight" in self.state else 2
        y = x
        for i in range(1, count + 1):
            strided = i == count - 1  # the 3x3 convolution: the first of two, the second of three
            y = self.conv(f"{name}.conv{i}", y, stride if strided else 1)
            y = self.norm(f"{name}.{self.style['inner'].format(i)}", y, self.epsilon)
            y = np.maximum(y, 0) if i < count else y
        shortcut = f"{name}.{self.style['shortcut']}"
        if f"{shortcut}.0.weight" in self.state:
            x = self.norm(f"{shortcut}.1", self.conv(f"{shortcut}.0", x, stride), self.outer_epsilon)
        return np.maximum(x + y, 0)

    def logits(self, x):
        x = np.maximum(self.norm("bn1", self.conv("conv1", x.astype(np.float64), 2), self.outer_epsilon), 0)
        x = self.windows(x, 3, 2, -np.inf).max((4, 5))
        for stage in range(1, 5):
            for block in range(sum(f"layer{stage}.{i}.conv1.weight" in self.state for i in range(9))):
                x = self.block(f"layer{stage}.{block}", x, 2 if stage > 1 and block == 0 else 1)
        head = self.style["head"]
        return x.mean((2, 3)) @ self.state[f"{head}.weight"].T + self.state[f"{head}.bias"]


HUGGING_FACE = {
    "word": "bert.embeddings.word_embeddings.weight", "position": "bert.embeddings.position_embeddings.weight",
    "type": "bert.embeddings.token_type_embeddings.weight", "norm": "bert.embeddings.LayerNorm",
    "query": "bert.encoder.layer.{}.attention.self.query", "key": "bert.encoder.layer.{}.attention.self.key",
    "value": "bert.encoder.layer.{}.attention.self.value", "output": "bert.encoder.layer.{}.attention.output.dense",
    "attention_norm": "bert.encoder.layer.{}.attention.output.LayerNorm",
    "inner": "bert.encoder.layer.{}.intermediate.dense", "outer": "bert.encoder.layer.{}.output.dense",
    "outer_norm": "bert.encoder.layer.{}.output.LayerNorm", "pooler": "bert.pooler.dense",
    "transform": "cls.predictions.transform.dense", "transform_norm": "cls.predictions.transform.LayerNorm",
    "word_bias": "cls.predictions.bias", "sentence": "cls.seq_relationship", "scale": "weight", "shift": "bias"}
_LAYER = "bert.bert.bert_encoder.layers.{}"
MINDSPORE_BERT = {
    "word": "bert.bert.bert_embedding_lookup.embedding_table",
    "position": "bert.bert.bert_embedding_postprocessor.full_position_embedding.embedding_table",
    "type": "bert.bert.bert_embedding_postprocessor.token_type_embedding.embedding_table",
    "norm": "bert.bert.bert_embedding_postprocessor.layernorm", "query": f"{_LAYER}.attention.attention.query_layer",
    "key": f"{_LAYER}.attention.attention.key_layer", "value": f"{_LAYER}.attention.attention.value_layer",
    "output": f"{_LAYER}.attention.output.dense", "attention_norm": f"{_LAYER}.attention.output.layernorm",
    "inner": f"{_LAYER}.intermediate", "outer": f"{_LAYER}.output.dense", "outer_norm": f"{_LAYER}.output.layernorm",
    "pooler": "bert.bert.dense", "transform": "bert.cls1.dense", "transform_norm": "bert.cls1.layernorm",
    "word_bias": "bert.cls1.output_bias", "sentence": "bert.cls2.dense", "scale": "gamma", "shift": "beta"}


def bert_weights(config, names: dict) -> dict[str, np.ndarray]:
    """A state dictionary of float32 of a BERT with these sizes, every array random."""
    random, state, hidden = np.random.default_rng(7), {}, config.hidden_size

    def dense(name, out, inputs):
        state[f"{name}.weight"] = random.normal(0, 0.3, (out, inputs))
        state[f"{name}.bias"] = random.normal(0, 0.3, out)

    def norm(name):
        state[f"{name}.{names['scale']}"] = random.uniform(0.5, 1.5, hidden)
        state[f"{name}.{names['shift']}"] = random.normal(0, 0.3, hidden)

    for table, rows in (("word", config.vocab_size), ("position", config.max_positions), ("type", config.token_types)):
        state[names[table]] = random.normal(0, 0.5, (rows, hidden))
    norm(names["norm"])
    for layer in range(config.layers):
        for part in ("query", "key", "value", "output"):
            dense(names[part].format(layer), hidden, hidden)
        dense(names["inner"].format(layer), config.intermediate_size, hidden)
        dense(names["outer"].format(layer), hidden, config.intermediate_size)
        norm(names["attention_norm"].format(layer))
        norm(names["outer_norm"].format(layer))
    dense(names["pooler"], hidden, hidden)
    dense(names["transform"], hidden, hidden)
    norm(names["transform_norm"])
    state[names["word_bias"]] = random.normal(0, 0.3, config.vocab_size)
    dense(names["sentence"], 2, hidden)
    return {name: array.astype(np.float32) for name, array in state.items()}


class ForeignBert:
    """Logits of such a state dictionary, without dropout, with the exact GELU."""

    def __init__(self, state, names, config):
        self.state = {name: array.astype(np.float64) for name, array in state.items()}
        self.names, self.config = names, config

    def dense(self, part, x, layer=None):
        name = self.names[part].format(layer)
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def norm(self, part, x, layer=None):
        name = self.names[part].format(layer)
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + self.config.layer_norm_epsilon)
        return x * self.state[f"{name}.{self.names['scale']}"] + self.state[f"{name}.{self.names['shift']}"]

    def attention(self, x, mask, layer):
        n, length, hidden = x.shape
        query, key, value = (self.dense(part, x, layer).reshape(n, length, self.config.heads, -1).transpose(0, 2, 1, 3)
                             for part in ("query", "key", "value"))
        scores = query @ key.transpose(0, 1, 3, 2) / math.sqrt(query.shape[-1])
        scores = np.exp(scores - scores.max(-1, keepdims=True)) * mask[:, None, None, :]
        weights = scores / scores.sum(-1, keepdims=True)
        return self.dense("output", (weights @ value).transpose(0, 2, 1, 3).reshape(n, length, hidden), layer)

    def logits(self, batch):
        """Of the words at the masked positions ``(N * masked, vocabulary)``, and of the sentences ``(N, 2)``."""
        table = self.state[self.names["word"]]
        length = batch["input_ids"].shape[1]
        x = table[batch["input_ids"]] + self.state[self.names["type"]][batch["token_type_ids"]]
        x = self.norm("norm", x + self.state[self.names["position"]][:length])
        for layer in range(self.config.layers):
            x = self.norm("attention_norm", x + self.attention(x, batch["input_mask"], layer), layer)
            inner = _gelu(self.dense("inner", x, layer))
            x = self.norm("outer_norm", x + self.dense("outer", inner, layer), layer)
        sentences = self.dense("sentence", np.tanh(self.dense("pooler", x[:, 0])))
        masked = np.take_along_axis(x, batch["masked_positions"][:, :, None], 1).reshape(-1, x.shape[-1])
        masked = self.norm("transform_norm", _gelu(self.dense("transform", masked)))
        return masked @ table.T + self.state[self.names["word_bias"]], sentences


def _gelu(x):
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))
