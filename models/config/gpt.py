"""What a GPT is made of."""
from __future__ import annotations

import dataclasses

from models.config.transformer import TransformerConfig
from thor.checks import choice, flag, integer, number, setting


@dataclasses.dataclass(frozen=True)
class GptConfig(TransformerConfig):
    """Sizes and options of a GPT; the defaults are the small one of GPT-2 (Radford et al. 2019).

    Attributes:
        fused_qkv: one Dense layer makes queries, keys and values, as published; false for one of each.
    """

    vocab_size: int = setting(50257, integer(1, limit=10 ** 7))
    max_positions: int = setting(1024, integer(1, limit=2 ** 16))
    activation: str = setting("gelu_tanh", choice("gelu", "gelu_tanh", "fast_gelu"))
    layer_norm_epsilon: float = setting(1e-5, number(above=0))
    fused_qkv: bool = setting(True, flag())
