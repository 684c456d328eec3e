"""The layers and residual blocks a ResNet is made of."""
from __future__ import annotations

from mindspore import nn
from mindspore.common.initializer import HeNormal


def conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
    """A bias-free convolution padded so that stride 1 keeps height and width, He initialised (fan out)."""
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride, pad_mode="pad", padding=kernel_size // 2,
                     has_bias=False, weight_init=HeNormal(mode="fan_out", nonlinearity="relu"))


def norm(channels: int, gamma_init: str = "ones") -> nn.BatchNorm2d:
    """BatchNorm with the usual decay of 0.9 for the running statistics."""
    return nn.BatchNorm2d(channels, eps=1e-5, momentum=0.9, gamma_init=gamma_init)


def shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Cell:
    """Identity, or a projection where the shape changes."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.SequentialCell(conv(in_channels, out_channels, 1, stride), norm(out_channels))


class BasicBlock(nn.Cell):
    """Two 3x3 convolutions: (N, in, H, W) -> (N, width, H/stride, W/stride)."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, zero_gamma: bool) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, width, 3, stride)
        self.bn1 = norm(width)
        self.conv2 = conv(width, width, 3)
        self.bn2 = norm(width, "zeros" if zero_gamma else "ones")
        self.relu = nn.ReLU()
        self.shortcut = shortcut(in_channels, width, stride)

    def construct(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + self.shortcut(x))


class Bottleneck(nn.Cell):
    """1x1, 3x3 (strided), 1x1: (N, in, H, W) -> (N, 4 width, H/stride, W/stride)."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int, zero_gamma: bool) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = conv(in_channels, width, 1)
        self.bn1 = norm(width)
        self.conv2 = conv(width, width, 3, stride)
        self.bn2 = norm(width)
        self.conv3 = conv(width, out_channels, 1)
        self.bn3 = norm(out_channels, "zeros" if zero_gamma else "ones")
        self.relu = nn.ReLU()
        self.shortcut = shortcut(in_channels, out_channels, stride)

    def construct(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + self.shortcut(x))
