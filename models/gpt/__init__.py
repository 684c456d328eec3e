"""GPT-2 (Radford et al. 2019), a decoder that tells the next token. Importing the package does not import MindSpore."""
from models.config import GptConfig

__all__ = ["GptConfig"]
