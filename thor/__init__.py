"""THOR for MindSpore: second-order training at first-order price.

Names are looked up when they are used: what reads a configuration needs the options of THOR, but not MindSpore.
"""
from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thor.convert import ConvertModelUtils, ConvertNetUtils
    from thor.layers import NotTapped, register_layer
    from thor.optimizer import THOR, thor
    from thor.options import CurvatureOptions

__version__ = "0.1.0"
__all__ = ["THOR", "ConvertModelUtils", "ConvertNetUtils", "CurvatureOptions", "NotTapped", "register_layer", "thor"]

_MODULES = {"THOR": "optimizer", "thor": "optimizer", "ConvertModelUtils": "convert", "ConvertNetUtils": "convert",
            "CurvatureOptions": "options", "NotTapped": "layers", "register_layer": "layers"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"thor.{_MODULES[name]}"), name)
    try:
        return importlib.import_module(f"thor.{name}")  # thor.train and its like
    except ModuleNotFoundError as error:
        if error.name != f"thor.{name}":
            raise
        raise AttributeError(f"module 'thor' has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted(__all__)
