"""BERT (Devlin et al. 2019) with its two pretraining heads. Importing the package does not import MindSpore."""
from models.bert.config import BertConfig

__all__ = ["BertConfig"]
