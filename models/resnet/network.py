"""ResNet-18/34/50/101/152 v1.5 for ImageNet and for small images."""
from __future__ import annotations

from mindspore import nn

from models.resnet.blocks import BasicBlock, Bottleneck, conv, outer_norm
from models.resnet.geometry import OFFICIAL, OFFICIAL_152, OFFICIAL_BASIC, STANDARD, Geometry
from models.resnet.names import MINDSPORE, MINDSPORE_BASIC

DEPTHS = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}
# of MindSpore's ResNet program
OFFICIAL_GEOMETRIES = {18: OFFICIAL_BASIC, 34: OFFICIAL_BASIC, 50: OFFICIAL, 101: OFFICIAL, 152: OFFICIAL_152}
STEMS = ("imagenet", "small")
GEOMETRIES = ("standard", "official")


class ResNet(nn.Cell):
    """ResNet v1.5 (He et al. 2016, https://arxiv.org/abs/1512.03385; 3x3-strided bottlenecks).

    Args:
        block: BasicBlock or Bottleneck.
        layers: number of blocks in each of the four stages.
        num_classes: width of the logits.
        in_channels: channels of the image.
        stem: "imagenet", a 7x7 stride-2 convolution and a stride-2 max pool (total stride 32), or "small",
            one 3x3 stride-1 convolution (total stride 8) for images of about 32 pixels or fewer.
        base_width: channels of the first stage, 64 as published; stages have 1, 2, 4, 8 times as many.
        zero_gamma: start each residual branch at zero (Goyal et al. 2017, section 5.1).
        geometry: padding, BatchNorm's constants and initial values.

    Inputs: images (N, in_channels, H, W), float. Outputs: logits (N, num_classes).
    """

    def __init__(self, block: type, layers: tuple[int, ...], num_classes: int = 1000, in_channels: int = 3,
                 stem: str = "imagenet", base_width: int = 64, zero_gamma: bool = True,
                 geometry: Geometry = STANDARD) -> None:
        super().__init__()
        if stem not in STEMS:
            raise ValueError(f"stem={stem!r}; must be one of {', '.join(STEMS)}")
        for name, value in (("num_classes", num_classes), ("in_channels", in_channels),
                            ("base_width", base_width)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}={value!r}; must be an int >= 1")
        imagenet = stem == "imagenet"
        self.conv1 = conv(in_channels, base_width, 7 if imagenet else 3, 2 if imagenet else 1, geometry)
        self.bn1 = outer_norm(base_width, geometry)
        self.relu = nn.ReLU()
        padding = 1 if geometry.pad_mode == "pad" else 0
        self.pool = nn.MaxPool2d(3, 2, geometry.pad_mode, padding) if imagenet else nn.Identity()
        stages, channels = [], base_width
        for index, count in enumerate(layers):
            width = base_width * 2 ** index
            blocks = []
            for position in range(count):
                stride = 2 if position == 0 and index > 0 else 1
                blocks.append(block(channels, width, stride, zero_gamma, geometry))
                channels = width * block.expansion
            stages.append(nn.SequentialCell(blocks))
        self.stages = nn.SequentialCell(stages)
        self.fc = nn.Dense(channels, num_classes, weight_init=geometry.fc_init, bias_init="zeros")

    def construct(self, x):
        x = self.pool(self.relu(self.bn1(self.conv1(x))))
        x = self.stages(x)
        return self.fc(x.mean((2, 3)))


def resnet(depth: int, geometry: str = "standard", **options) -> ResNet:
    """The ResNet of ``depth`` layers (18, 34, 50, 101 or 152).

    Args:
        depth: of the network.
        geometry: "standard" or, as in MindSpore's ResNet program, "official": its parameters have the names of that
            program, too, so that the checkpoints of one are those of the other.
        options: those of ResNet.
    """
    if depth not in DEPTHS:
        raise ValueError(f"depth={depth!r}; must be one of {', '.join(map(str, DEPTHS))}")
    if geometry not in GEOMETRIES:
        raise ValueError(f"geometry={geometry!r}; must be one of {', '.join(GEOMETRIES)}")
    block, layers = DEPTHS[depth]
    if geometry == "standard":
        return ResNet(block, layers, **options)
    network = ResNet(block, layers, geometry=OFFICIAL_GEOMETRIES[depth], **options)
    names = MINDSPORE_BASIC if block is BasicBlock else MINDSPORE
    for name, parameter in network.parameters_and_names():
        parameter.name = names.name(name)
    return network
