"""What a BERT is made of. Importing this module does not import MindSpore."""
from __future__ import annotations

from dataclasses import dataclass

ACTIVATIONS = ("gelu", "fast_gelu")


@dataclass(frozen=True)
class BertConfig:
    """Sizes and options of a BERT; the defaults are BERT-base (Devlin et al. 2019).

    Args:
        vocab_size: rows of the word embedding and width of the masked-LM logits.
        hidden_size: width of a token; a multiple of ``heads``.
        layers: encoder layers.
        heads: attention heads of a layer.
        intermediate_size: width inside the feed-forward part.
        max_positions: rows of the position embedding: the longest sequence.
        token_types: rows of the token-type embedding.
        activation: "gelu" (with the error function) or "fast_gelu" (its tanh approximation).
        dropout: probability after embeddings and sublayers, [0, 1).
        attention_dropout: probability on attention weights, [0, 1).
        dropout_seed: first of the seeds of the dropout cells.
        initializer_range: standard deviation of the truncated normal that weights start with.
        layer_norm_epsilon: added to the variance.
        relative_positions: NEZHA (Wei et al. 2019): sinusoids of the distance in every attention, and no position
            embedding.
        max_distance: distance from which relative positions are the same; read with ``relative_positions``.

    Raises:
        TypeError, ValueError: the message names the field, its value and the remedy.
    """

    vocab_size: int = 30522
    hidden_size: int = 768
    layers: int = 12
    heads: int = 12
    intermediate_size: int = 3072
    max_positions: int = 512
    token_types: int = 2
    activation: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    dropout_seed: int = 1
    initializer_range: float = 0.02
    layer_norm_epsilon: float = 1e-12
    relative_positions: bool = False
    max_distance: int = 64

    def __post_init__(self):
        for name in ("vocab_size", "hidden_size", "layers", "heads", "intermediate_size", "max_positions",
                     "token_types", "max_distance"):
            self._check_int(name, 1)
        self._check_int("dropout_seed", 0)
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size={self.hidden_size}; must be a multiple of heads={self.heads}; "
                             "heads of width 64 are usual")
        if self.relative_positions and self.head_size % 2:
            raise ValueError(f"hidden_size={self.hidden_size}; hidden_size / heads must be even with "
                             "relative_positions; heads of width 64 are usual")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation={self.activation!r}; must be one of {', '.join(ACTIVATIONS)}")
        for name in ("dropout", "attention_dropout"):
            if not 0 <= self._number(name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r}; must be >= 0 and < 1; use 0 for no dropout")
        for name in ("initializer_range", "layer_norm_epsilon"):
            if not 0 < self._number(name) < float("inf"):
                raise ValueError(f"{name}={getattr(self, name)!r}; must be > 0 and finite")
        if type(self.relative_positions) is not bool:
            raise TypeError(f"relative_positions={self.relative_positions!r}; must be a bool; use True or False")

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.heads

    def _check_int(self, name: str, low: int) -> None:
        value = getattr(self, name)
        if type(value) is not int or value < low:
            raise ValueError(f"{name}={value!r}; must be an int >= {low}")

    def _number(self, name: str) -> float:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{name}={value!r}; must be a number")
        return value
