"""What every transformer of the zoo is made of."""
from __future__ import annotations

import dataclasses

from models.config.errors import invalid
from models.config.section import Section
from thor.checks import choice, integer, number, setting


@dataclasses.dataclass(frozen=True)
class TransformerConfig(Section):
    """Sizes and options that the transformers share; a network's own class gives the defaults of its article.

    Attributes:
        vocab_size: rows of the word embedding and width of the logits of words.
        hidden_size: width of a token; a multiple of ``heads``.
        layers: layers of attention and feed-forward.
        heads: attention heads of a layer.
        intermediate_size: width inside the feed-forward part.
        max_positions: rows of the position embedding: the longest sequence.
        activation: gelu (with the error function), gelu_tanh (its tanh approximation, within 5e-4 of it) or fast_gelu
            (x sigmoid(1.702 x) as MindSpore's FastGelu, within 0.021 of it).
        dropout: probability after embeddings and sublayers.
        attention_dropout: probability on attention weights.
        dropout_seed: first of the seeds of the dropout cells.
        initializer_range: standard deviation of the truncated normal that weights and tables start with.
        layer_norm_epsilon: added to the variance.
    """

    vocab_size: int = setting(30522, integer(1, limit=10 ** 7))
    hidden_size: int = setting(768, integer(1, limit=2 ** 16))
    layers: int = setting(12, integer(1, limit=1000))
    heads: int = setting(12, integer(1, limit=2 ** 16))
    intermediate_size: int = setting(3072, integer(1, limit=2 ** 18))
    max_positions: int = setting(512, integer(1, limit=2 ** 16))
    activation: str = setting("gelu", choice("gelu", "gelu_tanh", "fast_gelu"))
    dropout: float = setting(0.1, number(minimum=0, below=1), "use 0 for no dropout")
    attention_dropout: float = setting(0.1, number(minimum=0, below=1), "use 0 for no dropout")
    dropout_seed: int = setting(1, integer(0, limit=10 ** 9))
    initializer_range: float = setting(0.02, number(above=0))
    layer_norm_epsilon: float = setting(1e-12, number(above=0))

    def check_together(self) -> None:
        if self.hidden_size % self.heads:
            raise invalid("hidden_size", self.hidden_size, f"a multiple of heads={self.heads}",
                          "heads of width 64 are usual")

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.heads
