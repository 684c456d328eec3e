"""A plain convolutional network of a few 3x3 convolutions."""
from __future__ import annotations

from collections.abc import Sequence

from mindspore import nn

from models.resnet.blocks import conv, norm


class ConvNet(nn.Cell):
    """3x3 convolutions of stride 2, each with BatchNorm and ReLU, then one fully connected layer.

    Striding instead of pooling keeps a step cheap: no activation has the size of the image.

    Args:
        num_classes: width of the logits, default 10.
        in_channels: channels of the image, default 1.
        image_size: height and width of the image, default 28; each convolution halves it, rounding up.
        widths: channels of the convolutions, default (32, 64, 128).

    Inputs: images (N, in_channels, image_size, image_size), float. Outputs: logits (N, num_classes).
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1, image_size: int = 28,
                 widths: Sequence[int] = (32, 64, 128)) -> None:
        super().__init__()
        blocks, channels, size = [], in_channels, image_size
        for width in widths:
            blocks.append(nn.SequentialCell(conv(channels, width, 3, 2), norm(width), nn.ReLU()))
            channels, size = width, (size + 1) // 2
        self.blocks = nn.SequentialCell(blocks)
        self.flatten = nn.Flatten()
        self.fc = nn.Dense(channels * size * size, num_classes, weight_init="xavier_uniform",
                           bias_init="zeros")

    def construct(self, x):
        return self.fc(self.flatten(self.blocks(x)))
