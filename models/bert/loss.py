"""The pretraining loss."""
from __future__ import annotations

import mindspore as ms
from mindspore import nn

from models.losses import cross_entropy


class BertPretrainingLoss(nn.Cell):
    """A network with its loss: masked-LM cross entropy plus next-sentence cross entropy, in float32.

    The first is the mean over masked positions weighted by ``masked_weights`` (0 for unused slots), the second
    the mean over the batch (Devlin et al. 2019, appendix A.2).

    Args:
        network: a :class:`models.bert.network.BertForPretraining`.

    Inputs: those of the network; masked_labels ``(batch, masked)``, int32; masked_weights ``(batch, masked)``,
        float; next_sentence_labels ``(batch,)``, int32. Outputs: the loss, ``()``.
    """

    def __init__(self, network: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, input_ids, token_type_ids, input_mask, masked_positions, masked_labels, masked_weights,
                  next_sentence_labels):
        words, sentences = self.network(input_ids, token_type_ids, input_mask, masked_positions)
        weights = masked_weights.astype(ms.float32).reshape(-1)
        of_words = cross_entropy(words, masked_labels.reshape(-1))
        masked = (of_words * weights).sum() / weights.sum().clamp(min=1.0)
        return masked + cross_entropy(sentences, next_sentence_labels.reshape(-1)).mean()
