"""Small convolutional networks."""
from models.convnet.network import ConvNet

__all__ = ["ConvNet"]
