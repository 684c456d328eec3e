"""The layers and residual blocks a ResNet is made of."""
from __future__ import annotations

from mindspore import nn

from models.resnet.geometry import STANDARD, Geometry


def conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1,
         geometry: Geometry = STANDARD) -> nn.Conv2d:
    """A bias-free convolution padded so that stride 1 keeps height and width, He initialised (fan out) by default."""
    padding = kernel_size // 2 if geometry.pad_mode == "pad" else 0
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride, pad_mode=geometry.pad_mode, padding=padding,
                     has_bias=False, weight_init=geometry.conv_init)


def norm(channels: int, gamma_init: str = "ones", geometry: Geometry = STANDARD) -> nn.BatchNorm2d:
    """BatchNorm of a residual branch; by default with the usual decay of 0.9 for the running statistics."""
    return nn.BatchNorm2d(channels, eps=geometry.epsilon, momentum=geometry.momentum, gamma_init=gamma_init)


def outer_norm(channels: int, geometry: Geometry) -> nn.BatchNorm2d:
    """BatchNorm of the stem or a shortcut."""
    return nn.BatchNorm2d(channels, eps=geometry.outer_epsilon, momentum=geometry.outer_momentum)


def shortcut(in_channels: int, out_channels: int, stride: int, geometry: Geometry) -> nn.Cell:
    """Identity, or a projection where the shape changes."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.SequentialCell(conv(in_channels, out_channels, 1, stride, geometry), outer_norm(out_channels, geometry))


class BasicBlock(nn.Cell):
    """Two 3x3 convolutions: (N, in, H, W) -> (N, width, H/stride, W/stride)."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, zero_gamma: bool, geometry: Geometry) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, width, 3, stride, geometry)
        self.bn1 = norm(width, geometry=geometry)
        self.conv2 = conv(width, width, 3, geometry=geometry)
        self.bn2 = norm(width, "zeros" if zero_gamma else "ones", geometry)
        self.relu = nn.ReLU()
        self.shortcut = shortcut(in_channels, width, stride, geometry)

    def construct(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + self.shortcut(x))


class Bottleneck(nn.Cell):
    """1x1, 3x3 (strided), 1x1: (N, in, H, W) -> (N, 4 width, H/stride, W/stride)."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int, zero_gamma: bool, geometry: Geometry) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = conv(in_channels, width, 1, geometry=geometry)
        self.bn1 = norm(width, geometry=geometry)
        self.conv2 = conv(width, width, 3, stride, geometry)
        self.bn2 = norm(width, geometry=geometry)
        self.conv3 = conv(width, out_channels, 1, geometry=geometry)
        self.bn3 = norm(out_channels, "zeros" if zero_gamma else "ones", geometry)
        self.relu = nn.ReLU()
        self.shortcut = shortcut(in_channels, out_channels, stride, geometry)

    def construct(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + self.shortcut(x))
