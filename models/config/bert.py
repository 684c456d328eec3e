"""What a BERT is made of."""
from __future__ import annotations

import dataclasses

from models.config.errors import invalid
from models.config.transformer import TransformerConfig
from thor.checks import choice, flag, integer, setting


@dataclasses.dataclass(frozen=True)
class BertConfig(TransformerConfig):
    """Sizes and options of a BERT; the defaults are BERT-base (Devlin et al. 2019). In MindSpore's BERT program tables
    of positions and token types start as normal of 0.01, and layer_norm_epsilon is 1e-7.

    Attributes:
        token_types: rows of the token-type embedding.
        relative_positions: NEZHA (Wei et al. 2019): a vector of the distance in every attention, and no position
            embedding.
        relative_table: with ``relative_positions``: these vectors are sinusoids, as in the article, or learned, a
            table for each attention, as in that program.
        max_distance: with ``relative_positions``: distance from which vectors are the same; 16 in that program.
    """

    token_types: int = setting(2, integer(1, limit=2 ** 16))
    relative_positions: bool = setting(False, flag())
    relative_table: str = setting("sinusoids", choice("sinusoids", "learned"))
    max_distance: int = setting(64, integer(1, limit=2 ** 16))

    def check_together(self) -> None:
        super().check_together()
        if self.relative_positions and self.relative_table == "sinusoids" and self.head_size % 2:
            raise invalid("hidden_size", self.hidden_size, "an even multiple of heads with sinusoids",
                          "heads of width 64 are usual")
