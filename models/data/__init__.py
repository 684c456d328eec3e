"""Image datasets: digits, MNIST, Fashion-MNIST, CIFAR-10 and ImageNet folders."""
from models.data.dataset import create_dataset
from models.data.epochs import TrainingDataset
from models.data.errors import dataset_error_line

__all__ = ["TrainingDataset", "create_dataset", "dataset_error_line"]
