"""What ResNets of the same blocks differ in: padding, BatchNorm's constants, initial values."""
from __future__ import annotations

import dataclasses
import math

from mindspore.common.initializer import HeNormal, HeUniform, Initializer, Normal


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Constants of a ResNet's layers; the defaults are torchvision's, but for its initial values of ``fc``.

    Attributes:
        pad_mode: pad: kernel_size // 2 zeros on every side; same: as many as keep height and width at stride 1, of
            which at stride 2 an even size has one more at the bottom and on the right than at the top and on the left.
        epsilon, momentum: of BatchNorm in the residual branches; momentum is the share of the running statistics that
            a step keeps.
        outer_epsilon, outer_momentum: of BatchNorm in the stem and the shortcuts.
        conv_init, fc_init: initial values of convolutions and of the weight of the logits, whose bias begins at 0.
    """

    pad_mode: str = "pad"
    epsilon: float = 1e-5
    momentum: float = 0.9
    outer_epsilon: float = 1e-5
    outer_momentum: float = 0.9
    conv_init: Initializer = HeNormal(mode="fan_out", nonlinearity="relu")
    fc_init: Initializer = Normal(0.01)


STANDARD = Geometry()
# MindSpore's ResNet program (mindspore-ai/models, official/cv/ResNet/src/resnet.py): ResNet-50 and 101, 152, and 18 and
# 34. Their logits begin uniform within 1 / sqrt(inputs).
OFFICIAL = Geometry("same", epsilon=1e-4, outer_epsilon=1e-4, fc_init=HeUniform(math.sqrt(5)))
OFFICIAL_152 = dataclasses.replace(OFFICIAL, conv_init=Normal(0.01), fc_init=Normal(0.01))
OFFICIAL_BASIC = Geometry(epsilon=1e-4, outer_momentum=0.1, fc_init=HeUniform(math.sqrt(5)))
