"""THOR for MindSpore: second-order training at first-order price."""
from thor.convert import ConvertModelUtils, ConvertNetUtils
from thor.layers import NotTapped, TapOptions, register_layer
from thor.optimizer import THOR, thor

__version__ = "0.1.0"
__all__ = ["THOR", "ConvertModelUtils", "ConvertNetUtils", "NotTapped", "TapOptions", "register_layer", "thor"]
