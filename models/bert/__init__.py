"""BERT (Devlin et al. 2019) with its two pretraining heads. Importing the package does not import MindSpore."""
from models.config import BertConfig

__all__ = ["BertConfig"]
