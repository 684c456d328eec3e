"""Small networks with every kind of layer that is preconditioned, and batches for them."""
from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

BATCH, IMAGE, CLASSES, WORDS, LENGTH, WIDTH = 4, 8, 5, 12, 6, 8


class Images(nn.Cell):
    """Convolutions: strided with a bias, grouped and dilated, and 1x1, with BatchNorm between them."""

    def __init__(self):
        super().__init__()
        self.strided = nn.Conv2d(1, WIDTH, 3, stride=2, pad_mode="same", has_bias=True)
        self.norm = nn.BatchNorm2d(WIDTH)
        self.grouped = nn.Conv2d(WIDTH, WIDTH, 3, pad_mode="pad", padding=2, dilation=2, group=2)
        self.pointwise = nn.Conv2d(WIDTH, CLASSES, 1)

    def construct(self, images):
        return self.pointwise(self.grouped(self.norm(self.strided(images)))).mean(axis=(2, 3))


class Words(nn.Cell):
    """An embedding whose table also decodes, one that does not, LayerNorm and a Dense layer over sequences."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, WIDTH)
        self.place = nn.Embedding(LENGTH, WIDTH)
        self.places = Tensor(np.arange(LENGTH)[None], ms.int32)
        self.norm = nn.LayerNorm((WIDTH,))
        self.hidden = nn.Dense(WIDTH, WIDTH, activation="tanh")
        self.decoder = nn.Dense(WIDTH, WORDS)
        self.decoder.weight = self.embedding.embedding_table

    def construct(self, words):
        rows = self.hidden(self.norm(self.embedding(words) + self.place(self.places)))
        return self.decoder(rows).reshape(-1, WORDS)


class Rows(nn.Cell):
    """A Dense layer and BatchNorm over rows."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Dense(WIDTH, CLASSES)
        self.norm = nn.BatchNorm1d(CLASSES)

    def construct(self, rows):
        return self.norm(self.dense(rows))


def rows_batch():
    """Rows ``(N, 8)`` and labels ``(N,)``."""
    rng = np.random.default_rng(0)
    return Tensor(rng.standard_normal((BATCH, WIDTH)), ms.float32), Tensor(rng.integers(0, CLASSES, BATCH), ms.int32)


def images_batch():
    """Images ``(N, 1, 8, 8)`` and labels ``(N,)``."""
    rng = np.random.default_rng(0)
    return (Tensor(rng.standard_normal((BATCH, 1, IMAGE, IMAGE)), ms.float32),
            Tensor(rng.integers(0, CLASSES, BATCH), ms.int32))


def words_batch():
    """Words ``(N, 6)`` and the word each one is, ``(N 6,)``."""
    words = np.random.default_rng(0).integers(0, WORDS, (BATCH, LENGTH))
    return Tensor(words, ms.int32), Tensor(words.reshape(-1), ms.int32)


def loss_fn():
    return nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
