"""BERT pretraining as a benchmark's work: the network, a batch of random tokens, the loss."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from benchmarks.common import BenchmarkError

HEAD_SIZE = 64
MASKED_SHARE = 0.15
MAX_POSITIONS = 512


def masked_words(sequence_length: int) -> int:
    """Masked positions of a sequence: 15 %, rounded up; 20 of 128."""
    return max(1, math.ceil(MASKED_SHARE * sequence_length))


def create_network(work: Any) -> Any:
    """BERT with both pretraining heads, heads of 64, no dropout."""
    from models.bert import BertConfig
    from models.bert.network import BertForPretraining

    if work.hidden % HEAD_SIZE:
        raise BenchmarkError(f"--hidden={work.hidden}; must be a multiple of {HEAD_SIZE}, the width of a head")
    return BertForPretraining(BertConfig(
        vocab_size=work.vocab_size, hidden_size=work.hidden, layers=work.layers, heads=work.hidden // HEAD_SIZE,
        intermediate_size=4 * work.hidden, max_positions=max(MAX_POSITIONS, work.sequence_length), dropout=0.0,
        attention_dropout=0.0))


def create_batch(work: Any) -> tuple:
    """The inputs of :class:`models.bert.loss.BertPretrainingLoss`; two segments, no padding."""
    import mindspore as ms

    random = np.random.default_rng(work.seed)
    batch, sequence, masked = work.batch_size, work.sequence_length, masked_words(work.sequence_length)
    ids = random.integers(0, work.vocab_size, (batch, sequence))
    types = np.broadcast_to(np.arange(sequence) >= sequence // 2, ids.shape)
    positions = np.sort(random.permuted(np.tile(np.arange(sequence), (batch, 1)), axis=1)[:, :masked])
    arrays = (ids, types, np.ones_like(ids), positions, np.take_along_axis(ids, positions, axis=1))
    return (*(ms.Tensor(array.astype(np.int32)) for array in arrays), ms.Tensor(np.ones((batch, masked), np.float32)),
            ms.Tensor(random.integers(0, 2, batch).astype(np.int32)))


def create_loss(network: Any) -> Any:
    """Network with masked-LM and next-sentence cross entropy."""
    from models.bert.loss import BertPretrainingLoss

    return BertPretrainingLoss(network)
