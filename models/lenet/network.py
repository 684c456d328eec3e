"""LeNet-5 with ReLU and max pooling."""
from __future__ import annotations

from mindspore import nn


class LeNet5(nn.Cell):
    """LeNet-5 (LeCun et al. 1998), in its usual modern form with ReLU and max pooling.

    Args:
        num_classes: width of the logits, default 10.
        in_channels: channels of the image, default 1.
        image_size: height and width of the image. 32 is the original; smaller images (28) are padded by the
            first convolution so that it gives 28x28. Must be 28 or 32.

    Inputs: images (N, in_channels, image_size, image_size), float. Outputs: logits (N, num_classes).
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1, image_size: int = 32) -> None:
        super().__init__()
        if image_size not in (28, 32):
            raise ValueError(f"image_size={image_size!r}; must be 28 or 32 for LeNet-5; set data.image_size")
        padding = (32 - image_size) // 2
        self.conv1 = nn.Conv2d(in_channels, 6, 5, pad_mode="pad", padding=padding, has_bias=True,
                               weight_init="he_normal", bias_init="zeros")
        self.conv2 = nn.Conv2d(6, 16, 5, pad_mode="valid", has_bias=True,
                               weight_init="he_normal", bias_init="zeros")
        self.pool = nn.MaxPool2d(2, 2)
        self.relu = nn.ReLU()
        self.flatten = nn.Flatten()
        self.fc1 = nn.Dense(16 * 5 * 5, 120, weight_init="he_normal", bias_init="zeros")
        self.fc2 = nn.Dense(120, 84, weight_init="he_normal", bias_init="zeros")
        self.fc3 = nn.Dense(84, num_classes, weight_init="xavier_uniform", bias_init="zeros")

    def construct(self, x):
        x = self.pool(self.relu(self.conv1(x)))
        x = self.pool(self.relu(self.conv2(x)))
        x = self.flatten(x)
        x = self.relu(self.fc1(x))
        x = self.relu(self.fc2(x))
        return self.fc3(x)
