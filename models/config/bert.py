"""What a BERT is made of."""
from __future__ import annotations

import dataclasses

from models.config.errors import invalid
from models.config.section import Section
from thor.checks import choice, flag, integer, number, setting


@dataclasses.dataclass(frozen=True)
class BertConfig(Section):
    """Sizes and options of a BERT; the defaults are BERT-base (Devlin et al. 2019).

    Attributes:
        vocab_size: rows of the word embedding and width of the masked-LM logits.
        hidden_size: width of a token; a multiple of ``heads``.
        layers: encoder layers.
        heads: attention heads of a layer.
        intermediate_size: width inside the feed-forward part.
        max_positions: rows of the position embedding: the longest sequence.
        token_types: rows of the token-type embedding.
        activation: gelu (with the error function), gelu_tanh (its tanh approximation, within 5e-4 of it) or fast_gelu
            (x sigmoid(1.702 x) as MindSpore's FastGelu, within 0.021 of it).
        dropout: probability after embeddings and sublayers.
        attention_dropout: probability on attention weights.
        dropout_seed: first of the seeds of the dropout cells.
        initializer_range: standard deviation of the truncated normal that weights and tables start with (tables of
            positions and token types start as normal of 0.01 in MindSpore's BERT program).
        layer_norm_epsilon: added to the variance; 1e-7 in that program.
        relative_positions: NEZHA (Wei et al. 2019): a vector of the distance in every attention, and no position
            embedding.
        relative_table: with ``relative_positions``: these vectors are sinusoids, as in the article, or learned, a
            table for each attention, as in that program.
        max_distance: with ``relative_positions``: distance from which vectors are the same; 16 in that program.
    """

    vocab_size: int = setting(30522, integer(1, limit=10 ** 7))
    hidden_size: int = setting(768, integer(1, limit=2 ** 16))
    layers: int = setting(12, integer(1, limit=1000))
    heads: int = setting(12, integer(1, limit=2 ** 16))
    intermediate_size: int = setting(3072, integer(1, limit=2 ** 18))
    max_positions: int = setting(512, integer(1, limit=2 ** 16))
    token_types: int = setting(2, integer(1, limit=2 ** 16))
    activation: str = setting("gelu", choice("gelu", "gelu_tanh", "fast_gelu"))
    dropout: float = setting(0.1, number(minimum=0, below=1), "use 0 for no dropout")
    attention_dropout: float = setting(0.1, number(minimum=0, below=1), "use 0 for no dropout")
    dropout_seed: int = setting(1, integer(0, limit=10 ** 9))
    initializer_range: float = setting(0.02, number(above=0))
    layer_norm_epsilon: float = setting(1e-12, number(above=0))
    relative_positions: bool = setting(False, flag())
    relative_table: str = setting("sinusoids", choice("sinusoids", "learned"))
    max_distance: int = setting(64, integer(1, limit=2 ** 16))

    def check_together(self) -> None:
        if self.hidden_size % self.heads:
            raise invalid("hidden_size", self.hidden_size, f"a multiple of heads={self.heads}",
                          "heads of width 64 are usual")
        if self.relative_positions and self.relative_table == "sinusoids" and self.head_size % 2:
            raise invalid("hidden_size", self.hidden_size, "an even multiple of heads with sinusoids",
                          "heads of width 64 are usual")

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.heads
