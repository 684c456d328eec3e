"""The network "plain": two Dense layers without BatchNorm, for images of 8 pixels."""
from __future__ import annotations

from mindspore import nn
from mindspore.common import set_seed

from models.registry import register_network


class PlainNet(nn.Cell):
    """Images (N, 1, 8, 8) to logits (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        set_seed(3)
        self.flatten = nn.Flatten()
        self.hidden = nn.Dense(64, 16, activation="relu")
        self.fc = nn.Dense(16, 10)

    def construct(self, x):
        return self.fc(self.hidden(self.flatten(x)))


@register_network("plain")
def build(model, data) -> PlainNet:
    return PlainNet()
