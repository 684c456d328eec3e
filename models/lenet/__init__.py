"""LeNet-5 (LeCun et al. 1998)."""
from models.lenet.network import LeNet5

__all__ = ["LeNet5"]
