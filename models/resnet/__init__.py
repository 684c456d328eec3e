"""ResNet v1.5 (He et al. 2016; the stride of a bottleneck sits in its 3x3 convolution)."""
from models.resnet.blocks import BasicBlock
from models.resnet.network import DEPTHS, ResNet, resnet

__all__ = ["DEPTHS", "BasicBlock", "ResNet", "resnet"]
